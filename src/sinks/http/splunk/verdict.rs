//! What the collector's answers mean: decided by their code, never by their text.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::outcome::{self, Answer};
use crate::core::delivery::Outcome;

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// Taken into memory.
    Received {
        acknowledgement: Option<u64>,
    },
    /// One of its events is refused, perhaps this one, counted from 0.
    Refused {
        event: Option<usize>,
        said: String,
    },
    Failed(Outcome),
}

/// What an indexer says of an acknowledgement.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    Stored,
    NotYet,
    /// What no indexer says. It may be another one's turn to answer next.
    Other(Outcome),
    /// No answer came.
    Lost(Outcome),
    Failed(Outcome),
}

#[derive(Deserialize)]
struct Said {
    code: u16,
    #[serde(rename = "ackId")]
    acknowledgement: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    event: Option<usize>,
}

#[derive(Deserialize)]
struct Acknowledgements {
    acks: BTreeMap<String, bool>,
}

const SUCCESS: u16 = 0;

pub const NO_ACKNOWLEDGEMENTS: &str = "the token has no indexer acknowledgement, so nothing would say that events are stored: turn it on in Splunk, or set acknowledge = false";

/// `shown` is the answer for people, `text` as it came.
pub fn of_post(shown: &Answer, text: &[u8]) -> Posted {
    let Ok(Said { code, acknowledgement, event }) = serde_json::from_slice::<Said>(text) else {
        return Posted::Failed(match shown.status {
            // Of something else that answers in its place, such as the page of a hotel.
            200..=299 => later(outcome::said(shown) + ", which is no answer of a collector"),
            // A proxy knows nothing of events.
            _ => not_refused(shown),
        });
    };
    match (code, shown.status) {
        (SUCCESS, 200) => Posted::Received { acknowledgement },
        (5 | 6 | 12 | 13 | 15, _) => Posted::Refused { event, said: outcome::said(shown) },
        _ => Posted::Failed(of_code(code, shown)),
    }
}

pub fn of_poll(shown: &Answer, text: &[u8], id: u64) -> Polled {
    if shown.status == 200
        && let Ok(Acknowledgements { acks }) = serde_json::from_slice(text)
    {
        let is_stored = acks.get(&id.to_string()).copied().unwrap_or(false);
        return if is_stored { Polled::Stored } else { Polled::NotYet };
    }
    match serde_json::from_slice(text).map(|Said { code, .. }| code) {
        Ok(code @ (1..=4 | 14 | 16 | 21 | 22)) => Polled::Failed(of_code(code, shown)),
        // Another indexer may not know the channel; one that is busy or restarts may know later.
        Ok(_) if !matches!(outcome::of(shown), Outcome::Halt(_)) => Polled::NotYet,
        _ => Polled::Other(not_refused(shown)),
    }
}

fn of_code(code: u16, shown: &Answer) -> Outcome {
    let said = outcome::said(shown);
    match code {
        1..=4 | 16 | 21 | 22 => Outcome::Halt(format!("the collector does not accept the token: {said}")),
        7 => Outcome::Halt(format!(
            "events may not go to this index; look at index, and at the indexes of the token: {said}"
        )),
        10 | 11 => Outcome::Halt(format!("the token wants indexer acknowledgement; set acknowledge = true: {said}")),
        14 => Outcome::Halt(NO_ACKNOWLEDGEMENTS.to_owned()),
        // Busy, starting, ending, full.
        8 | 9 | 18..=20 | 23..=27 => match outcome::of(shown) {
            Outcome::Later { reason, after_us } => Outcome::Later { reason, after_us },
            _ => later(said),
        },
        _ => not_refused(shown),
    }
}

/// By the status alone; what is not said to be the fault of an event is no event's fault.
fn not_refused(shown: &Answer) -> Outcome {
    match outcome::of(shown) {
        Outcome::Reject(said) => Outcome::Halt(said),
        Outcome::Accepted { .. } => later(outcome::said(shown)),
        other => other,
    }
}

fn later(reason: String) -> Outcome {
    Outcome::Later { reason, after_us: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, text: &str) -> Answer {
        Answer { status, retry_after: None, date: None, text: text.as_bytes().to_vec() }
    }

    fn post(status: u16, text: &str) -> Posted {
        of_post(&answer(status, text), text.as_bytes())
    }

    #[test]
    fn each_code_has_its_meaning() {
        let of = |status, code: u16| post(status, &format!("{{\"text\":\"m\",\"code\":{code}}}"));
        assert_eq!(of(200, 0), Posted::Received { acknowledgement: None });
        for (status, code) in
            [(500, 8), (503, 9), (503, 18), (503, 19), (503, 20), (503, 23), (429, 26), (429, 27), (503, 9999)]
        {
            assert!(matches!(of(status, code), Posted::Failed(Outcome::Later { .. })), "{code}");
        }
        for (status, code, words) in [
            (403, 1, "does not accept the token"),
            (401, 2, "does not accept the token"),
            (401, 3, "does not accept the token"),
            (403, 4, "does not accept the token"),
            (400, 16, "does not accept the token"),
            (400, 7, "look at index"),
            (400, 10, "acknowledge = true"),
            (400, 11, "acknowledge = true"),
            (400, 14, "acknowledge = false"),
            (404, 404, "HTTP status 404"),
            (400, 9999, "HTTP status 400"),
        ] {
            let Posted::Failed(Outcome::Halt(said)) = of(status, code) else { panic!("{code}") };
            assert!(said.contains(words), "{code}: {said}");
        }
        for code in [5, 6, 12, 13, 15] {
            assert!(matches!(of(400, code), Posted::Refused { event: None, .. }), "{code}");
        }
        assert!(matches!(post(413, "too large"), Posted::Failed(Outcome::TooLarge(_))));
    }

    #[test]
    fn what_is_no_answer_of_a_collector_is_no_success() {
        for (status, text) in
            [(200, "<html>"), (200, ""), (204, ""), (200, "{}"), (201, r#"{"text":"Success","code":0}"#)]
        {
            assert!(matches!(post(status, text), Posted::Failed(Outcome::Later { .. })), "{status} {text}");
        }
        // Nor does a proxy refuse an event.
        assert!(matches!(post(400, "bad request"), Posted::Failed(Outcome::Halt(_))));
        assert!(matches!(post(502, "bad gateway"), Posted::Failed(Outcome::Later { .. })));
        assert!(matches!(post(302, ""), Posted::Failed(Outcome::Halt(_))));
    }

    #[test]
    fn numbers_come_with_answers() {
        assert_eq!(
            post(200, r#"{"text":"Success","code":0,"ackId":7}"#),
            Posted::Received { acknowledgement: Some(7) }
        );
        let text = r#"{"text":"Invalid data format","code":6,"invalid-event-number":30}"#;
        let Posted::Refused { event: Some(30), said } = post(400, text) else { panic!() };
        assert!(said.contains("Invalid data format"));
    }

    #[test]
    fn only_the_word_true_for_this_id_is_an_acknowledgement() {
        let poll = |status, text: &str| of_poll(&answer(status, text), text.as_bytes(), 7);
        assert_eq!(poll(200, r#"{"acks":{"7":true,"8":false}}"#), Polled::Stored);
        for (status, text) in [
            (200, r#"{"acks":{"7":false,"8":true}}"#),
            (200, r#"{"acks":{"70":true}}"#),
            (200, r#"{"acks":{}}"#),
            (200, r#"{"text":"Success","code":0}"#),
            (503, r#"{"text":"Server is busy","code":9}"#),
            (400, r#"{"text":"Invalid data channel","code":11}"#),
        ] {
            assert_eq!(poll(status, text), Polled::NotYet, "{status} {text}");
        }
        for (status, text) in [(200, "true"), (503, r#"{"acks":{"7":true}}"#), (502, "bad gateway")] {
            assert!(matches!(poll(status, text), Polled::Other(Outcome::Later { .. })), "{status} {text}");
        }
        // Of a proxy that does not let such questions through, or of a collector that does not know them.
        let unknown = r#"{"text":"The requested URL was not found on this server.","code":404}"#;
        for (status, text) in [(404, "no such page"), (403, "blocked"), (405, ""), (400, "bad request"), (404, unknown)]
        {
            assert!(matches!(poll(status, text), Polled::Other(Outcome::Halt(_))), "{status} {text}");
        }
        for (status, code) in [(403, 1), (403, 4), (400, 14)] {
            let text = format!("{{\"text\":\"m\",\"code\":{code}}}");
            assert!(matches!(poll(status, &text), Polled::Failed(Outcome::Halt(_))), "{code}");
        }
    }
}
