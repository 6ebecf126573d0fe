//! Records by HTTP POST, to a service that answers for each request as a whole.
//!
//! With `take = "alerts"` a request holds alerts only, in a format of on-call tools; every other record is counted as delivered and as
//! passed over, without being sent. Redirects are not followed: they would send headers with secrets elsewhere.

pub mod alerts;
pub mod body;
pub mod client;
pub mod outcome;
pub mod sink;
pub mod target;

use body::Framing;
use client::Client;
use target::{HttpTarget, Take};

use crate::core::delivery::{Outcome, OutgoingRecord, Reply};
use crate::sinks::Sink;
use crate::sinks::compression::Compression;

/// Posts one stream of the store.
pub struct HttpSink {
    client: Client,
    framing: Framing,
    compression: Compression,
    take: Take,
}

impl HttpSink {
    pub fn new(client: Client, target: &HttpTarget) -> HttpSink {
        let HttpTarget { framing, compression, take, .. } = target;
        HttpSink { client, framing: *framing, compression: *compression, take: take.clone() }
    }

    /// The body with its content type, and how many lines are not in it. No body if there is nothing to send.
    fn body(&self, records: &[OutgoingRecord]) -> (Option<(Vec<u8>, &'static str)>, u64) {
        let lines = || records.iter().flat_map(|record| record.data.split_inclusive(|byte| *byte == b'\n'));
        match &self.take {
            Take::All { .. } => (Some((self.framing.body(lines()), self.framing.content_type())), 0),
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
        let passed_over = if matches!(outcome, Outcome::Accepted { .. }) { passed_over } else { 0 };
        Reply { passed_over, ..Reply::whole(outcome, count) }
    }
}
