//! When to try again, and what is said meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::core::delivery::{Jitter, Outcome, Patience, RetryReason};
use crate::sinks::status::ForwardStatus;

/// A halted sink waits for so much longer for each 256 KiB of its file: a refusal may come after all of it was sent, over a link that is paid
/// for.
const HALT_PAUSE_A_CHUNK: Duration = Duration::from_secs(1);
const CHUNK_BYTES: u64 = 256 << 10;

pub struct Pace {
    sink: String,
    stream: String,
    status: Arc<ForwardStatus>,
    patience: Patience,
    jitter: Jitter,
    failures: u32,
    /// What has been logged and is not over.
    said: Option<Said>,
}

#[derive(Clone, PartialEq, Eq)]
enum Said {
    CannotBuild,
    Failing,
    Halted(String),
}

impl Pace {
    pub fn new(sink: &str, stream: &str, status: Arc<ForwardStatus>, seed: u64) -> Pace {
        let (sink, stream) = (sink.to_owned(), stream.to_owned());
        Pace { sink, stream, status, patience: Patience::default(), jitter: Jitter::new(seed), failures: 0, said: None }
    }

    /// Pauses are as short as they can be.
    #[cfg(test)]
    pub fn hurry(&mut self) {
        let Patience { sink_backoff_base_us, throttled_pause_us, .. } = &mut self.patience;
        (*sink_backoff_base_us, *throttled_pause_us) = (1, 1);
    }

    /// Something was stored.
    pub fn works(&mut self) {
        self.failures = 0;
        self.status.set_error(None);
        if self.said.take().is_some() {
            tracing::info!(sink = self.sink, stream = self.stream, "delivering again");
        }
    }

    /// The store cannot be read, or the file not written.
    pub fn cannot_build(&mut self, text: &str) {
        self.status.set_error(Some(text.to_owned()));
        if self.said.replace(Said::CannotBuild).is_none() {
            tracing::error!(sink = self.sink, stream = self.stream, "{text}; retrying until it works");
        }
    }

    /// It can again.
    pub fn can_build(&mut self) {
        if self.said == Some(Said::CannotBuild) {
            self.works();
        }
    }

    /// Reports a failure of a file of this size; the pause before the next attempt.
    pub fn after(&mut self, outcome: &Outcome, file_bytes: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let Pace { patience, failures, .. } = *self;
        let (text, pause_us) = match outcome {
            Outcome::Halt(text) => {
                let chunks = u32::try_from(file_bytes / CHUNK_BYTES).unwrap_or(u32::MAX);
                let more_us = u64::try_from(HALT_PAUSE_A_CHUNK.saturating_mul(chunks).as_micros()).unwrap_or(u64::MAX);
                let max_us = patience.halt_backoff_max_us.saturating_add(more_us);
                let base_us = patience.halt_backoff_base_us.saturating_add(more_us / 8);
                (text.clone(), self.jitter.pause_us(base_us, failures, max_us))
            }
            Outcome::Unreachable(text) => (text.clone(), self.usual_us(patience.connection_backoff_max_us)),
            Outcome::Later { reason, after_us: Some(after_us) } => (reason.clone(), *after_us),
            Outcome::Later { reason: text, after_us: None }
            | Outcome::Reject(text)
            | Outcome::RejectLines(text)
            | Outcome::TooLarge(text) => (text.clone(), self.usual_us(patience.backoff_max_us)),
            Outcome::Retry(reason) => (
                reason.to_string(),
                match reason {
                    RetryReason::Throttled => self.jitter.half_pause_us(
                        patience.throttled_pause_us.saturating_mul(failures.into()).min(patience.backoff_max_us),
                    ),
                    RetryReason::Connection => self.usual_us(patience.connection_backoff_max_us),
                    _ => self.usual_us(patience.backoff_max_us),
                },
            ),
            Outcome::Accepted { .. } => (String::new(), 0),
        };
        self.say(outcome, &text);
        self.status.set_error(Some(text));
        Duration::from_micros(pause_us)
    }

    fn usual_us(&mut self, max_us: u64) -> u64 {
        self.jitter.pause_us(self.patience.sink_backoff_base_us, self.failures, max_us)
    }

    /// A log line for each change of state, not for each attempt.
    fn say(&mut self, outcome: &Outcome, text: &str) {
        let now = match outcome {
            Outcome::Halt(_) => Said::Halted(text.to_owned()),
            _ => Said::Failing,
        };
        if self.said.as_ref() == Some(&now) {
            return;
        }
        let (sink, stream) = (&self.sink, &self.stream);
        match &now {
            Said::Halted(text) => {
                tracing::error!(sink, stream, "halted: {text}; readings are buffered, and sending is retried");
            }
            Said::Failing | Said::CannotBuild => {
                tracing::warn!(sink, stream, "not delivering: {text}; readings are buffered, and sending is retried");
            }
        }
        self.said = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_end_with_success_and_are_longer_where_a_refusal_costs_more() {
        let status = Arc::<ForwardStatus>::default();
        let mut pace = Pace::new("s", "raw", Arc::clone(&status), 7);
        let lost = Outcome::Unreachable("no route".to_owned());
        for _ in 0..40 {
            assert!(pace.after(&lost, 1) <= Duration::from_secs(2));
        }
        assert_eq!(status.last_error().as_deref(), Some("no route"));
        pace.works();
        assert_eq!(status.last_error(), None);
        let halted = Outcome::Halt("denied".to_owned());
        let longest = |pace: &mut Pace, bytes| (0..200).map(|_| pace.after(&halted, bytes)).max().expect("some");
        let (small, large) = (longest(&mut pace, 1), longest(&mut pace, 64 << 20));
        assert!(small <= Duration::from_secs(30) && large > Duration::from_secs(200), "{small:?} {large:?}");
        let asked = Outcome::Later { reason: "later".to_owned(), after_us: Some(9) };
        assert_eq!(pace.after(&asked, 1), Duration::from_micros(9));
        pace.can_build();
        assert!(status.last_error().is_some(), "what failed is the service");
        pace.cannot_build("no disk");
        pace.can_build();
        assert_eq!(status.last_error(), None);
    }
}
