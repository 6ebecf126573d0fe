//! Lines of one submission that cannot be decoded, by kind. They are counted and shown once it is stored: what is refused is read again.

use std::sync::Arc;
use std::time::Instant;

use crate::ingest::undecodable::{Refused, UndecodableKinds};
use crate::ingest::{Ingest, SAMPLE_BYTES_MAX};

/// Most kinds that are told apart in one submission.
const KINDS_MAX: usize = 32;

/// The first line of a kind, and how many there were.
#[derive(Debug)]
struct Kind {
    reason: &'static str,
    topic: String,
    file: Arc<str>,
    line: Vec<u8>,
    /// What was made of it for the routes.
    payload: Vec<u8>,
    count: u64,
}

#[derive(Debug, Default)]
pub struct RefusedLines(Vec<Kind>);

impl RefusedLines {
    pub fn note(&mut self, (reason, topic): (&'static str, &str), file: &Arc<str>, line: &[u8], payload: &[u8]) {
        if let Some(kind) = self.0.iter_mut().find(|kind| kind.reason == reason && kind.topic == topic) {
            kind.count += 1;
        } else if self.0.len() < KINDS_MAX {
            self.0.push(Kind {
                reason,
                topic: topic.to_owned(),
                file: Arc::clone(file),
                line: line[..line.len().min(SAMPLE_BYTES_MAX)].to_vec(),
                payload: payload.to_vec(),
                count: 1,
            });
        }
    }

    /// Shows them in the status, and logs what would take them.
    pub fn show(self, ingest: &Ingest, shown: &UndecodableKinds) {
        for Kind { reason, topic, file, line, payload, count } in self.0 {
            let refused = Refused { reason, topic: &topic, sample: &line, count };
            if let Some(advice) = shown.note(refused, Instant::now(), || ingest.hint(&topic, &payload, reason)) {
                tracing::warn!("a line of {file} is not stored: {advice}");
            }
        }
    }
}
