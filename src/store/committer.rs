//! The committer thread: one sealed batch after the other, each tried until it commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::schema;
use super::threads::Message;
use super::writer::{CommitInput, CommitReport, Writer};
use crate::core::identity::Stream;
use crate::counter::{Counter, Gauge};
use crate::handoff::SessionProgress;

/// What is durable, for the forwarders; updated after each commit.
#[derive(Debug)]
pub struct CommittedSequences {
    pub raw: watch::Sender<u64>,
    pub anomalies: watch::Sender<u64>,
}

impl CommittedSequences {
    pub fn of(&self, stream: Stream) -> &watch::Sender<u64> {
        match stream {
            Stream::Raw => &self.raw,
            Stream::Anomalies => &self.anomalies,
        }
    }
}

/// What the two threads show of themselves.
#[derive(Debug, Default)]
pub struct StoreCounters {
    pub commits: Counter,
    pub commit_us_last: Gauge,
    pub commit_us_max: Gauge,
    pub bytes_written: Counter,
    pub expired: Counter,
    pub series: Gauge,
    pub readings_unwatched: Gauge,
    pub anomalies: Gauge,
    failing: AtomicBool,
}

impl StoreCounters {
    /// The store cannot be written at present.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

/// Sessions to be told and budget to be given back once a batch is durable.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub sessions: Vec<(Arc<SessionProgress>, u64)>,
    pub permits: Vec<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
pub(super) struct Job {
    pub input: CommitInput,
    pub waiting: Waiting,
}

/// How often the committer tries again when the store cannot be written.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(
    mut writer: Writer,
    jobs: &Receiver<Job>,
    pipeline: &Sender<Message>,
    committed: &CommittedSequences,
    counters: &StoreCounters,
) {
    while let Ok(job) = jobs.recv() {
        let started = Instant::now();
        let report = commit_until_done(&mut writer, &job.input, counters);
        for (session, through) in &job.waiting.sessions {
            session.commit_through(*through);
        }
        drop(job.waiting);
        for batch in job.input.sealed.batches() {
            committed.of(batch.stream).send_replace(batch.last_sequence);
            counters.bytes_written.add(batch.payload.len() as u64);
        }
        count(&report, started.elapsed(), counters);
        // The pipeline is gone only when the process is ending.
        let _ = pipeline.send(Message::Committed);
    }
    if let Err(error) = writer.checkpoint() {
        tracing::warn!(%error, "the store could not be checkpointed; the next start does it");
    }
}

fn count(report: &CommitReport, took: Duration, counters: &StoreCounters) {
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    counters.commits.add(1);
    counters.commit_us_last.set(took_us);
    counters.commit_us_max.raise_to(took_us);
    let expired = report.expired.iter().map(|(_, count)| count).sum::<u64>();
    if expired > 0 {
        if counters.expired.get() == 0 {
            tracing::error!(expired, "the store is full: the oldest undelivered readings are removed to make room");
        }
        counters.expired.add(expired);
    }
}

/// Judged is judged: the same batch is tried until it commits, however long the disk takes to come back.
fn commit_until_done(writer: &mut Writer, input: &CommitInput, counters: &StoreCounters) -> CommitReport {
    loop {
        match writer.commit(input) {
            Ok(report) => {
                if counters.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the store can be written again");
                }
                return report;
            }
            Err(error) => {
                if !counters.failing.swap(true, Ordering::Relaxed) {
                    let full = schema::is_full(&error);
                    tracing::error!(%error, full, "the store cannot be written; readings wait unacknowledged until it can");
                }
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }
}
