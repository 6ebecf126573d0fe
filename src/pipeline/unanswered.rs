//! Clients that wait for an answer while nothing can be stored. They get none; when they have waited long enough their connection ends,
//! so that they come back and send again.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::handoff::SessionProgress;

/// So long after the last successful commit, or after it was first refused, a client is turned away.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Those that were refused, in the order in which they first were.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    sessions: VecDeque<(Instant, Weak<SessionProgress>)>,
}

impl Unanswered {
    /// A publish of this session that waits for an answer was refused.
    pub fn note(&mut self, session: &Arc<SessionProgress>, now: Instant) {
        if session.leave_unanswered() {
            self.sessions.push_back((now, Arc::downgrade(session)));
        }
    }

    /// Turns away those that have waited since `until` or longer.
    pub fn turn_away(&mut self, until: Instant) {
        while let Some((_, session)) = self.sessions.pop_front_if(|(since, _)| *since <= until) {
            if let Some(session) = session.upgrade() {
                session.fail();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_is_turned_away_once_it_has_waited() {
        let (mut unanswered, session) = (Unanswered::default(), Arc::<SessionProgress>::default());
        let now = Instant::now();
        unanswered.note(&session, now);
        unanswered.note(&session, now + Duration::from_secs(1));
        assert_eq!(unanswered.sessions.len(), 1, "it is known");
        unanswered.turn_away(now - Duration::from_millis(1));
        assert!(!session.is_failed() && session.is_unanswered());
        unanswered.turn_away(now);
        assert!(session.is_failed() && unanswered.sessions.is_empty());
    }
}
