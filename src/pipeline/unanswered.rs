//! Clients that wait for an answer while nothing can be stored. They get none; when they have waited long enough they are disconnected, so
//! that they reconnect and send again.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::handoff::SessionProgress;

/// A client is turned away so long after the last successful commit, or after it was first refused.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Sessions that were refused, in the order of their first refusal.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    sessions: VecDeque<(Instant, Weak<SessionProgress>)>,
}

impl Unanswered {
    /// Notes that a publish of this session was refused although the client waits for an answer.
    pub fn note(&mut self, session: &Arc<SessionProgress>, now: Instant) {
        if session.leave_unanswered() {
            self.sessions.push_back((now, Arc::downgrade(session)));
        }
    }

    /// Turns away those that have waited since `until` or before.
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
