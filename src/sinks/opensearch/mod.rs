//! OpenSearch and Elasticsearch, by `_bulk`: each record is a document that is created and never replaced.
//!
//! A document's id is the identity of its record, so what is sent again, after an answer that was lost or a kill, is known by its id (409) and
//! counts as stored. The answer says of each document what became of it; it is believed only if it is about exactly those that were sent.
//!
//! Deliberately absent: several addresses of one cluster (a name or a load balancer stands before it), and `index`, which would store a repeat
//! as a new version.

mod batch;
mod client;
mod document;
mod index;
mod items;
mod outcome;
mod probe;
mod refusals;
mod shut;
pub mod sink;
mod target;

use std::cell::RefCell;
use std::time::Instant;

use batch::{Batch, Known};
use client::{Client, Question};
use index::IndexNames;
use outcome::Verdict;
use target::OpenSearchCluster;

use crate::clock;
use crate::core::delivery::{Outcome, OutgoingRecord, Reply};
use crate::sinks::Sink;
use crate::sinks::compression::Compression;
use crate::sinks::response::End;

/// Only what is read of the answer, which would name index, shards and numbers of each document besides.
const PATH: &str = "/_bulk?filter_path=errors%2Citems.%2A._id%2Citems.%2A.status%2Citems.%2A.error.type%2Citems.%2A.error.reason%2C\
                    items.%2A.error.caused_by.reason%2Citems.%2A.failure_store%2Cerror%2Cstatus";
const CONTENT_TYPE: &str = "application/x-ndjson";

/// One stream of the store.
pub struct OpenSearchSink {
    client: Client,
    path: String,
    index: IndexNames,
    stream: String,
    compression: Compression,
    known: RefCell<Known>,
}

impl OpenSearchSink {
    fn new(cluster: &OpenSearchCluster, client: Client, stream: &str) -> OpenSearchSink {
        OpenSearchSink {
            client,
            path: cluster.bulk_path(),
            index: cluster.index.names(stream),
            stream: stream.to_owned(),
            compression: cluster.compression,
            known: RefCell::default(),
        }
    }

    /// What became of each document in the body.
    async fn post(&self, body: Vec<u8>, ids: &[String]) -> Result<Vec<Verdict>, Outcome> {
        let body = self
            .compression
            .compress(body)
            .map_err(|error| Outcome::Later { reason: format!("cannot compress: {error}"), after_us: None })?;
        let answer_bytes_max = outcome::answer_bytes_max(ids.len());
        let question = Question {
            method: "POST",
            path: &self.path,
            content_type: CONTENT_TYPE,
            encoding: self.compression.encoding(),
            body,
            answer_bytes_max,
        };
        let answer = self.client.ask(question).await?;
        if !(200..300).contains(&answer.http.status) {
            return Err(self.client.of_refusal(answer, outcome::of_request));
        }
        match answer.end {
            End::Whole => {
                let verdicts = outcome::of_items(&answer.http.text, ids, &|text| self.client.without_secrets(text));
                verdicts.ok_or_else(outcome::not_of_bulk)
            }
            End::CutOff => Err(outcome::not_of_bulk()),
            End::TooLong => Err(outcome::too_long(ids.len(), answer_bytes_max)),
        }
    }
}

impl Sink for OpenSearchSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        let count = records.len();
        let mut batch = Batch::of(&records, &self.stream, &self.index, &self.known.borrow(), clock::now_ms());
        // The body owns the bytes now; the delivery keeps its own copy for a repeat.
        drop(records);
        let verdicts = match batch.ids.is_empty() {
            true => Vec::new(),
            false => match self.post(std::mem::take(&mut batch.body), &batch.ids).await {
                Ok(verdicts) => verdicts,
                Err(outcome) => return Reply::whole(outcome, count),
            },
        };
        batch.reply(verdicts, &mut self.known.borrow_mut(), Instant::now())
    }
}
