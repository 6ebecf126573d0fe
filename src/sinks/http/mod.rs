//! Records by HTTP POST, to a service that answers for each request as a whole, or in the protocols of Amazon Data Firehose and Splunk.
//!
//! With `take = "alerts"` a request holds alerts only, in a format of on-call tools; every other record is counted as delivered and as
//! passed over, without being sent. Redirects are not followed: they would send headers with secrets elsewhere.

pub mod alerts;
pub mod body;
pub mod client;
mod firehose;
pub mod forms;
pub mod outcome;
pub mod sink;
mod splunk;
pub mod target;

use alerts::AlertFormat;
use body::Framing;
use client::Client;
use firehose::Firehose;
use forms::Form;
use splunk::Collector;
use target::{HttpTarget, Take};

use crate::core::delivery::{Outcome, OutgoingRecord, Reply};
use crate::sinks::Sink;
use crate::sinks::compression::Compression;

/// Posts one stream of the store.
pub struct HttpSink {
    client: Client,
    poster: Poster,
    compression: Compression,
    take: Take,
}

enum Poster {
    Plain(Framing),
    Firehose(Firehose),
    Splunk(Collector),
}

impl HttpSink {
    pub fn new(client: Client, target: &HttpTarget) -> HttpSink {
        let HttpTarget { form, compression, take, .. } = target;
        let poster = match form.clone() {
            Form::Plain(framing) => Poster::Plain(framing),
            Form::Firehose(form) => Poster::Firehose(Firehose::new(form, *compression)),
            Form::Splunk(form) => Poster::Splunk(Collector::new(form, *compression)),
        };
        HttpSink { client, poster, compression: *compression, take: take.clone() }
    }

    /// Whether a line is posted.
    fn takes(&self, line: &[u8]) -> bool {
        matches!(self.take, Take::All { .. }) || alerts::is_alert(line)
    }

    async fn post(&self, framing: Framing, lines: &[&[u8]]) -> Outcome {
        let (body, content_type) = match &self.take {
            Take::Alerts(format) => format.body(lines, framing),
            Take::All { .. } => AlertFormat::Outrider.body(lines, framing),
        };
        match self.compression.compress(body) {
            Ok(body) => self.client.post(body, content_type, self.compression.encoding()).await,
            Err(error) => Outcome::Later { reason: format!("cannot compress: {error}"), after_us: None },
        }
    }
}

impl Sink for HttpSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        let count = records.len();
        let lines_of = |record: &'_ OutgoingRecord| record.data.split_inclusive(|byte| *byte == b'\n').count();
        let taken: Vec<Vec<&[u8]>> = records
            .iter()
            .map(|record| record.data.split_inclusive(|byte| *byte == b'\n').filter(|line| self.takes(line)).collect())
            .collect();
        let lines: Vec<&[u8]> = taken.iter().flatten().copied().collect();
        let reply = match &self.poster {
            _ if lines.is_empty() => Reply::whole(Outcome::Accepted { shard: None }, count),
            Poster::Plain(framing) => Reply::whole(self.post(*framing, &lines).await, count),
            Poster::Firehose(firehose) => Reply::whole(firehose.send(&self.client, &lines).await, count),
            Poster::Splunk(collector) => collector.send(&self.client, &taken).await,
        };
        // Of records that are accepted, the lines that were not sent.
        let passed_over = (records.iter().zip(&taken).zip(&reply.outcomes))
            .filter(|(_, outcome)| matches!(outcome, Outcome::Accepted { .. }))
            .map(|((record, taken), _)| (lines_of(record) - taken.len()) as u64)
            .sum();
        Reply { passed_over, ..reply }
    }
}
