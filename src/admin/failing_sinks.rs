//! Which sinks have not delivered for so long that a person should know.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::core::detection::alert::{Report, Trouble};

/// A vehicle loses its link all the time: a sink that does not deliver is reported after this.
const FAILS_AFTER: Duration = Duration::from_secs(60);

/// One stream of a sink that reports an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    pub sink: String,
    pub error: String,
    /// Partition keys are set aside. That happens only to keys that have failed for a while already.
    pub has_keys_aside: bool,
}

/// Sinks that do not deliver everything, and since when.
#[derive(Debug, Default)]
pub struct FailingSinks(HashMap<String, Instant>);

impl FailingSinks {
    /// What is to be reported now, given all errors that sinks have at this moment.
    pub fn lasting(&mut self, errors: &[SinkError], now: Instant) -> Vec<Report> {
        self.0.retain(|sink, _| errors.iter().any(|failing| failing.sink == *sink));
        let mut reports: Vec<Report> = Vec::new();
        for SinkError { sink, error, has_keys_aside } in errors {
            let since = *self.0.entry(sink.clone()).or_insert(now);
            let trouble = Trouble::Sink(sink.clone());
            let is_lasting = *has_keys_aside || now.saturating_duration_since(since) >= FAILS_AFTER;
            if is_lasting && !reports.iter().any(|report| report.trouble == trouble) {
                let text =
                    format!("the sink {sink} does not deliver everything: {error}; what is not delivered yet is kept");
                reports.push(Report::new(trouble, text));
            }
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sink: &str, has_keys_aside: bool) -> SinkError {
        SinkError { sink: sink.to_owned(), error: "no route to host".to_owned(), has_keys_aside }
    }

    #[test]
    fn a_sink_that_fails_for_a_minute_is_reported_and_one_with_keys_aside_at_once() {
        let (mut failing, began) = (FailingSinks::default(), Instant::now());
        let cloud = [error("cloud", false), error("cloud", false)];
        assert_eq!(failing.lasting(&cloud, began), []);
        assert_eq!(failing.lasting(&cloud, began + FAILS_AFTER - Duration::from_millis(1)), []);
        let reports = failing.lasting(&cloud, began + FAILS_AFTER);
        assert_eq!(reports.len(), 1, "one for both streams");
        assert_eq!(reports[0].trouble, Trouble::Sink("cloud".to_owned()));
        assert!(reports[0].text.contains("no route to host"), "{}", reports[0].text);

        assert_eq!(failing.lasting(&[], began + 2 * FAILS_AFTER), []);
        assert_eq!(failing.lasting(&cloud, began + 2 * FAILS_AFTER), [], "it has worked in between");
        assert_eq!(failing.lasting(&[error("cloud", true)], began + 2 * FAILS_AFTER).len(), 1);
    }
}
