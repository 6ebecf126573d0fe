//! What a broker's error codes mean: see Kafka's table of error codes for their names.

use std::fmt;

use crate::core::delivery::{Outcome, RetryReason};

/// What became of one batch. Brokers look at a batch before they look whether it is a repeat, so only of a first attempt a refusal says that it is
/// not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stored,
    /// Perhaps stored, perhaps not: the same batch has to be sent again before anything else of its partition.
    Doubt(Outcome),
    /// Refused for what is around it: the same batch may be taken later.
    Forbidden(Outcome),
    /// Refused for the way it is made: the same records may be taken in another one.
    Unfit(Outcome),
    /// Refused for what is in it.
    Refused(Outcome),
    /// The broker does not know what this producer sent before: nothing may be sent under its sequence numbers any more.
    OutOfStep(Outcome),
}

/// A topic, for texts.
#[derive(Clone, Debug)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of the topic {}", self.partition, self.topic)
    }
}

pub const UNKNOWN_TOPIC: i16 = 3;
pub const LEADER_NOT_AVAILABLE: i16 = 5;

/// The leader of the partition may be another one by now.
pub fn asks_for_metadata(code: i16) -> bool {
    matches!(code, 3 | 5 | 6 | 9 | 56 | 72 | 74 | 75)
}

/// Of one partition of a Produce request.
pub fn of_produce(code: i16, message: Option<&str>, place: &Place) -> Verdict {
    let words = words(code, message);
    match code {
        // A duplicate is of the same producer and sequence: an earlier attempt has come through.
        0 | 46 => Verdict::Stored,
        10 | 18 => Verdict::Refused(Outcome::TooLarge(format!(
            "the broker takes no batch of this size for {place} ({words}); see max.message.bytes of the topic"
        ))),
        87 => Verdict::Refused(Outcome::Reject(format!("the broker refuses a record for {place} ({words})"))),
        32 => Verdict::Unfit(Outcome::Halt(format!(
            "the broker refuses the time of records for {place} ({words}): look at the clock here and at the topic's message.timestamp limits"
        ))),
        45 | 47 | 49 | 59 | 90 => {
            Verdict::OutOfStep(later(format!("the broker has lost track of what was sent to {place} ({words})")))
        }
        89 => Verdict::Doubt(Outcome::Retry(RetryReason::Throttled)),
        7 | 13 => Verdict::Doubt(Outcome::Retry(RetryReason::TimedOut)),
        3 | 5 | 6 | 9 | 19 | 20 | 56 | 72 | 74 | 75 => {
            Verdict::Doubt(later(format!("{place} takes nothing at present ({words})")))
        }
        _ => match of_any(code, message, &place.topic) {
            Some(outcome) if matches!(code, 35 | 43 | 76) => Verdict::Unfit(outcome),
            Some(outcome) => Verdict::Forbidden(outcome),
            None => Verdict::Doubt(later(format!("{place} takes nothing at present ({words})"))),
        },
    }
}

pub fn later(reason: String) -> Outcome {
    Outcome::Later { reason, after_us: None }
}

/// Errors that every request may meet, and that somebody has to mend. `None` for others.
pub fn of_any(code: i16, message: Option<&str>, topic: &str) -> Option<Outcome> {
    let words = words(code, message);
    let text = match code {
        17 => format!("{topic} is no name of a topic ({words})"),
        29 => format!(
            "no permission to write to the topic {topic} ({words}); allow Write and Describe on it, at MSK kafka-cluster:WriteData and DescribeTopic"
        ),
        31 => format!(
            "no permission to write with idempotence ({words}); allow IdempotentWrite on the cluster, at MSK kafka-cluster:WriteDataIdempotently"
        ),
        33 | 34 | 58 => format!("the login fails ({words})"),
        35 | 43 => {
            format!("the broker is too old: it does not take idempotent writes ({words}); Kafka 1.0 and later do")
        }
        44 => format!("a policy of the cluster refuses the records ({words})"),
        53 => format!("no permission for the producer ({words})"),
        76 => format!("the topic {topic} does not take this compression ({words}); set compression in the [[sink]]"),
        _ => return None,
    };
    Some(Outcome::Halt(text))
}

/// At most this much of a broker's message is shown.
const SHOWN_CHARS_MAX: usize = 200;

pub fn words(code: i16, message: Option<&str>) -> String {
    let shown: String = message.unwrap_or_default().chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
    let name = kafka_protocol::ResponseError::try_from_code(code).map(|error| error.to_string()).unwrap_or_default();
    match (shown.is_empty(), name.is_empty()) {
        (false, _) => format!("error {code}: {shown}"),
        (true, false) => format!("error {code}: {name}"),
        (true, true) => format!("error {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_verdict_that_its_cause_asks_for() {
        let place = Place { topic: "readings".to_owned(), partition: 3 };
        let of = |code| of_produce(code, None, &place);
        for code in [0, 46] {
            assert_eq!(of(code), Verdict::Stored, "{code}");
        }
        for code in [10, 18] {
            assert!(matches!(of(code), Verdict::Refused(Outcome::TooLarge(_))), "{code}");
        }
        assert!(matches!(of(87), Verdict::Refused(Outcome::Reject(_))));
        for code in [32, 35, 76] {
            assert!(matches!(of(code), Verdict::Unfit(Outcome::Halt(_))), "{code}");
        }
        for code in [45, 47, 59] {
            assert!(matches!(of(code), Verdict::OutOfStep(_)), "{code}");
        }
        for code in [3, 5, 6, 19, 20, 56, -1, 12_345] {
            assert!(matches!(of(code), Verdict::Doubt(Outcome::Later { .. })), "{code}");
        }
        for code in [29, 31, 33, 44, 58] {
            assert!(matches!(of(code), Verdict::Forbidden(Outcome::Halt(_))), "{code}");
        }
        assert_eq!(of(89), Verdict::Doubt(Outcome::Retry(RetryReason::Throttled)));
    }

    #[test]
    fn a_broker_is_quoted_within_limits() {
        let place = Place { topic: "readings".to_owned(), partition: 3 };
        let Verdict::Forbidden(Outcome::Halt(text)) = of_produce(29, Some(&"no\u{7}".repeat(1_000)), &place) else {
            panic!("a permission is missing")
        };
        assert!(text.contains("the topic readings") && text.contains("nono") && text.len() < 400, "{text}");
        assert!(words(29, None).starts_with("error 29: "), "{}", words(29, None));
    }
}
