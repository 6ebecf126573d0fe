//! Records by HTTP POST, to a service that answers for each request as a whole.
//!
//! With `take = "alerts"` a request holds alerts only, in a form that on-call tools know; every other record counts as delivered without
//! being sent, and as passed over. Redirections are not followed: they would carry headers with secrets elsewhere.

pub mod alerts;
pub mod body;
mod client;
mod outcome;
mod secret;
pub mod sink;
pub mod target;

use std::sync::Arc;

use body::Framing;
use client::Client;
use target::{HttpTarget, Take};

use crate::core::delivery::{Outcome, OutgoingRecord, Reply};
use crate::sinks::Sink;
use crate::sinks::compression::Compression;
use crate::sinks::status::ForwardStatus;

/// One stream of the store, posted.
pub struct HttpSink {
    client: Client,
    framing: Framing,
    compression: Compression,
    take: Take,
    status: Arc<ForwardStatus>,
}

impl HttpSink {
    pub fn new(client: Client, target: &HttpTarget, status: Arc<ForwardStatus>) -> HttpSink {
        let HttpTarget { framing, compression, take, .. } = target;
        HttpSink { client, framing: *framing, compression: *compression, take: take.clone(), status }
    }

    /// The body and its type, and how many lines are not in it; no body where nothing is to be sent.
    fn body(&self, records: &[OutgoingRecord]) -> (Option<(Vec<u8>, &'static str)>, u64) {
        let lines = || records.iter().flat_map(|record| record.data.split_inclusive(|byte| *byte == b'\n'));
        match &self.take {
            Take::All => (Some((self.framing.body(lines()), self.framing.content_type())), 0),
            Take::Alerts(format) => {
                let alerts: Vec<&[u8]> = lines().filter(|line| alerts::is_alert(line)).collect();
                let passed_over = lines().count() - alerts.len();
                let body = if alerts.is_empty() { None } else { Some(format.body(&alerts, self.framing)) };
                (body, passed_over as u64)
            }
        }
    }
}

impl Sink for HttpSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        let count = records.len();
        let (body, passed_over) = self.body(&records);
        let outcome = match body {
            None => Outcome::Accepted { shard: None },
            Some((body, content_type)) => match self.compression.compress(body) {
                Ok(body) => self.client.post(body, content_type, self.compression.encoding()).await,
                Err(error) => Outcome::Later { reason: format!("cannot compress: {error}"), after_us: None },
            },
        };
        if matches!(outcome, Outcome::Accepted { .. }) {
            self.status.passed_over.add(passed_over);
        }
        Reply::whole(outcome, count)
    }
}
