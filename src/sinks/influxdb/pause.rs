//! A pause that the server has asked for when some points of a request were decided already: what is known of each record is said of it, and no record can say that all have
//! to wait.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::delivery::Outcome;

/// Of one stream.
#[derive(Debug, Default)]
pub struct Pause(Option<(Instant, String)>);

impl Pause {
    /// Notes why no more points of a request were written.
    pub fn note(&mut self, stopped: Option<&Outcome>, now: Instant) {
        if let Some(Outcome::Later { reason, after_us: Some(after_us) }) = stopped {
            self.0 = Some((now + Duration::from_micros(*after_us), reason.clone()));
        }
    }

    /// What is said of the next request in place of asking, as long as the pause lasts.
    pub fn left(&mut self, now: Instant) -> Option<Outcome> {
        self.0.take_if(|(until, _)| *until <= now);
        let (until, reason) = self.0.as_ref()?;
        let after_us = u64::try_from((*until - now).as_micros()).unwrap_or(u64::MAX);
        Some(Outcome::Later { reason: reason.clone(), after_us: Some(after_us) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_a_pause_waits_for_its_end() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        let later = |after_us| Outcome::Later { reason: "busy".to_owned(), after_us };
        pause.note(None, now);
        pause.note(Some(&later(None)), now);
        assert_eq!(pause.left(now), None);
        pause.note(Some(&later(Some(2_000_000))), now);
        assert_eq!(pause.left(now + Duration::from_millis(500)), Some(later(Some(1_500_000))));
        assert_eq!(pause.left(now + Duration::from_secs(2)), None);
        assert_eq!(pause.left(now), None, "it is over");
    }
}
