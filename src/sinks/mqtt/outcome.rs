//! What a broker's answers, and the ends of connections, mean for the delivery.

use crate::core::delivery::{Outcome, RetryReason};
use crate::core::mqtt::client::blame::CLOSINGS_MAX;
use crate::core::mqtt::client::{End, Reason, Refusal, Remedy, Unfit};
use crate::uplink::ConnectError;

/// What a broker with too much to do is left alone for.
const BUSY_US: u64 = 1_000_000;
/// What is left to another client with the same id, after it has come several times.
const TAKEN_OVER_US: u64 = 30_000_000;
/// Once may be the connection of a process that was killed.
const TAKEOVERS_MAX: u32 = 2;

/// What is known of the connections before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    pub takeovers: u32,
    pub closings: u32,
}

/// Of a message that the broker does not take.
pub fn of_refusal(refusal: &Refusal, topic: &str) -> Outcome {
    let said = format!("the broker does not take a message to {topic}: {refusal}");
    match refusal.reason {
        Reason::NotAuthorised | Reason::Banned => {
            Outcome::Halt(format!("{said}; allow the client to publish there, or correct topic in the [[sink]]"))
        }
        Reason::Topic | Reason::PayloadFormat | Reason::PacketTooLarge => Outcome::Reject(said),
        reason if reason.remedy() == Remedy::Mend => Outcome::Halt(said),
        _ => later(said, None),
    }
}

/// Of a message that the broker can never take.
pub fn of_unfit(unfit: &Unfit, topic: &str) -> Outcome {
    match unfit {
        // It would be the same for each message.
        Unfit::Qos { .. } | Unfit::Retain => Outcome::Halt(unfit.to_string()),
        unfit => Outcome::Reject(format!("{unfit} (topic {topic})")),
    }
}

/// Of what was not acknowledged when the connection ended.
pub fn of_end(end: &End, client_id: &str, past: Past) -> Outcome {
    let said = end.to_string();
    match (end, end.reason()) {
        (_, Some(Reason::TakenOver)) if past.takeovers > TAKEOVERS_MAX => later(
            format!(
                "another client connects again and again with the client id {client_id}; give each its own client_id in the [[sink]]"
            ),
            Some(TAKEN_OVER_US),
        ),
        (_, Some(Reason::NotAuthorised)) => {
            Outcome::Halt(format!("{said}; look at what the client {client_id} may do there, and at topic"))
        }
        _ if end.remedy() == Remedy::Mend => Outcome::Halt(said),
        (_, Some(Reason::Busy | Reason::Quota | Reason::Rate | Reason::ReceiveMaximum)) => later(said, Some(BUSY_US)),
        (_, Some(_)) => later(said, None),
        (End::Silent | End::NotAcknowledged | End::NoWelcome, None) => Outcome::Retry(RetryReason::TimedOut),
        (End::Closed, None) if past.closings >= CLOSINGS_MAX => Outcome::Unreachable(format!(
            "{said}, again and again; may the client publish there, and is {client_id} the id of no other one?"
        )),
        _ => Outcome::Unreachable(said),
    }
}

/// Of a connection that was not made.
pub fn of_connect(error: &ConnectError, client_id: &str, past: Past) -> Outcome {
    match error {
        ConnectError::Ended(end) => match of_end(end, client_id, past) {
            Outcome::Retry(RetryReason::TimedOut) => Outcome::Unreachable(end.to_string()),
            outcome => outcome,
        },
        ConnectError::Unreachable(text) => Outcome::Unreachable(text.clone()),
        error if error.remedy() == Remedy::Mend => Outcome::Halt(error.to_string()),
        error => Outcome::Unreachable(error.to_string()),
    }
}

fn later(reason: String, after_us: Option<u64>) -> Outcome {
    Outcome::Later { reason, after_us }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mqtt::client::Farewell;

    #[test]
    fn each_refusal_of_a_message_has_its_meaning() {
        let of = |code| of_refusal(&Refusal::of(code, Some("no\u{7}")), "a/b");
        for code in [0x90, 0x95, 0x99] {
            assert!(matches!(of(code), Outcome::Reject(_)), "{code:x}");
        }
        for code in [0x87, 0x9a, 0x9b] {
            assert!(matches!(of(code), Outcome::Halt(_)), "{code:x}");
        }
        for code in [0x80, 0x83, 0x91, 0x93, 0x97, 0xee] {
            assert!(matches!(of(code), Outcome::Later { .. }), "{code:x}");
        }
        let Outcome::Reject(text) = of(0x90) else { panic!("for good") };
        assert_eq!(text, "the broker does not take a message to a/b: the topic is not taken (reason code 0x90): no");
    }

    #[test]
    fn each_end_has_its_meaning() {
        let told = |code| End::Told(Farewell { why: Refusal::of(code, None), server: Some("b:1".to_owned()) });
        let refused = |code| End::Refused(Refusal::of(code, None));
        let of = |end: &End, past| of_end(end, "gw-mqtt", past);
        let first = Past::default();
        for end in [told(0x87), told(0x9d), refused(0x86), refused(0x85), refused(0x84), refused(0x8a)] {
            assert!(matches!(of(&end, first), Outcome::Halt(_)), "{end}");
        }
        for end in [told(0x97), told(0x93), told(0x96), told(0x8b), refused(0x88), refused(0x89)] {
            assert!(matches!(of(&end, first), Outcome::Later { after_us: Some(BUSY_US), .. }), "{end}");
        }
        for end in [told(0x95), told(0x00), told(0x80), told(0x8e), told(0x98)] {
            assert!(matches!(of(&end, first), Outcome::Later { after_us: None, .. }), "{end}");
        }
        for end in [End::Silent, End::NotAcknowledged] {
            assert_eq!(of(&end, first), Outcome::Retry(RetryReason::TimedOut));
        }
        for end in [End::Closed, End::Broken("x".to_owned()), End::Protocol("x".to_owned()), End::Left] {
            assert!(matches!(of(&end, first), Outcome::Unreachable(_)), "{end}");
        }
        let often = Past { takeovers: 3, closings: 3 };
        for end in [told(0x8e), End::Closed] {
            let (Outcome::Later { reason, .. } | Outcome::Unreachable(reason)) = of(&end, often) else {
                panic!("{end}")
            };
            assert!(reason.contains("gw-mqtt"), "{reason}");
        }
    }
}
