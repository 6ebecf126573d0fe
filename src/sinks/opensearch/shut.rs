//! Indices that take nothing, for a reason of their own: closed, made read-only, or gone and not to be made.
//!
//! Where records still come for such an index, somebody has made a mistake, and they wait until it is mended. An index of a time that is over is shut on
//! purpose, by a policy for what is old, and would stay so: what comes late for it must not hold up what is new for ever. So it is waited for as long as somebody
//! may need who did it by mistake, or for a moment; then its records are dead letters, which can be sent again when the index is open.

use std::time::{Duration, Instant};

use super::outcome::{Shut, Verdict};
use crate::core::delivery::RetryReason;

/// So long it is waited for indices of a time that is over, for all of them together: there may be one for each day of an outage.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How long has been waited for indices of a time that is over.
#[derive(Debug, Default)]
pub struct ShutIndices {
    /// When it was first heard of one, and when last.
    heard: Option<(Instant, Instant)>,
}

impl ShutIndices {
    /// What becomes of a document for an index that is shut; `is_over`: no new record is for it any more.
    pub fn judge(&mut self, Shut { said, is_gone }: Shut, is_over: bool, now: Instant) -> Verdict {
        if !is_over {
            return match is_gone {
                true => Verdict::Halted(format!("{said}; make the index, or allow it to be made")),
                false => {
                    Verdict::Waits(RetryReason::Throttled, format!("{said} (to be opened, or these records wait)"))
                }
            };
        }
        let is_recent = |(_, last): &(Instant, Instant)| now.saturating_duration_since(*last) <= PATIENCE;
        let (first, _) = self.heard.filter(is_recent).unwrap_or((now, now));
        self.heard = Some((first, now));
        match now.saturating_duration_since(first) >= PATIENCE {
            true => Verdict::GivenUp(format!("{said} (of a time that is over; open it and send this again)")),
            false => Verdict::Waits(
                RetryReason::Internal,
                format!("{said} (of a time that is over: to be opened soon, or its records become dead letters)"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> Shut {
        Shut { said: "index_closed_exception: closed".to_owned(), is_gone: false }
    }

    #[test]
    fn an_index_of_the_present_is_waited_for_without_end() {
        let (mut indices, start) = (ShutIndices::default(), Instant::now());
        for minutes in 0..10_000 {
            let now = start + Duration::from_secs(60 * minutes);
            assert!(matches!(indices.judge(closed(), false, now), Verdict::Waits(RetryReason::Throttled, _)));
            let gone = Shut { is_gone: true, ..closed() };
            assert!(matches!(indices.judge(gone, false, now), Verdict::Halted(_)), "nobody may make it");
        }
        let now = start + Duration::from_secs(700_000);
        assert!(matches!(indices.judge(closed(), true, now), Verdict::Waits(..)), "that was no waiting for an old one");
    }

    #[test]
    fn indices_of_a_time_that_is_over_are_waited_for_together_and_not_for_ever() {
        let (mut indices, start) = (ShutIndices::default(), Instant::now());
        let mut judge = |seconds| {
            let gone = Shut { is_gone: seconds % 2 == 1, ..closed() };
            indices.judge(gone, true, start + Duration::from_secs(seconds))
        };
        for seconds in 0..15 * 60 {
            assert!(matches!(judge(seconds), Verdict::Waits(RetryReason::Internal, _)), "{seconds}");
        }
        for seconds in 15 * 60..20 * 60 {
            assert!(matches!(judge(seconds), Verdict::GivenUp(_)), "{seconds}");
        }
        // What comes much later has nothing to do with it.
        assert!(matches!(judge(20 * 60 + 15 * 60), Verdict::Waits(..)));
    }
}
