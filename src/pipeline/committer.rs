//! The committer thread: takes one sealed batch after the other, and retries each until it commits.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::counters::StoreCounters;
use super::operation::{self, Answer, Outcome};
use super::{Message, salvaging};
use crate::core::detection::alert::{Report, Trouble};
use crate::core::identity::PerStream;
use crate::errors::with_causes;
use crate::handoff::{Input, SessionProgress, Share};
use crate::heartbeat::Beat;
use crate::store::commit::CommitInput;
use crate::store::reader::FileId;
use crate::store::schema;
use crate::store::writer::{CommitReport, Writer};

/// The last durable sequence of each stream, for the forwarders; updated after each commit.
pub type CommittedSequences = PerStream<watch::Sender<u64>>;

/// Publishes of a session that become durable with a batch.
#[derive(Debug)]
pub(crate) struct WaitingSession {
    pub session: Arc<SessionProgress>,
    pub publishes: RangeInclusive<u64>,
    pub wants_answer: bool,
}

/// Sessions to be notified and budget to be released once a batch is durable.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub sessions: Vec<WaitingSession>,
    pub shares: Mutex<Vec<Share>>,
    /// Dropping them signals that what was salvaged is durable.
    pub salvage: Vec<Sender<()>>,
}

/// The answer that an operator gets after the commit.
#[derive(Debug)]
pub(crate) enum Pending {
    Outcome(Outcome),
    /// It depends on the report of the commit.
    DroppedSink(String),
}

impl Pending {
    fn outcome(self, report: &CommitReport) -> Outcome {
        match self {
            Pending::Outcome(outcome) => outcome,
            Pending::DroppedSink(name) => {
                let dropped = report.dropped_sinks.iter().find(|(known, _)| *known == name);
                dropped.map_or(Outcome::Unknown(format!("there is no sink {name}")), |(_, what)| {
                    operation::dropped(what, &name)
                })
            }
        }
    }
}

impl Waiting {
    pub fn hold(&mut self, share: Share) {
        self.shares.get_mut().unwrap_or_else(PoisonError::into_inner).push(share);
    }

    /// Releases the budget.
    pub fn release(&self) {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Job {
    pub input: CommitInput,
    pub waiting: Arc<Waiting>,
    pub answers: Vec<(Answer, Pending)>,
    /// A reader has found this file damaged.
    pub damaged: Option<FileId>,
}

/// Reports that records could not be read.
pub(crate) fn damage() -> Report {
    Report::new(
        Trouble::Damage,
        "records were lost because the store's file is damaged; `quarantined` in the ledger says how many",
    )
}

/// Pause between two attempts while the store cannot be written.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Committer {
    pub writer: Writer,
    pub pipeline: Sender<Message>,
    pub committed: CommittedSequences,
    pub counters: Arc<StoreCounters>,
    pub beat: Beat,
}

impl Committer {
    pub fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if self.serve(job).is_none() {
                // The pipeline thread may have given up before.
                let _ = self.pipeline.send(Message::Abandoned);
                return;
            }
            let _call = self.beat.at_disk();
            if let Err(error) = self.writer.maintain(Instant::now()) {
                tracing::debug!(%error, "the WAL could not be checkpointed; the next attempt is after the next commit");
            }
        }
        if let Err(error) = self.writer.checkpoint() {
            tracing::warn!(%error, "the store could not be checkpointed; the next start does it");
        }
    }

    /// `None` if the process is ending and the disk does not accept the batch.
    fn serve(&mut self, job: Job) -> Option<()> {
        let started = Instant::now();
        let call = self.beat.at_disk();
        // Two readers may report the same damage: by the second report the file has been replaced.
        if job.damaged.is_some() && job.damaged == self.writer.file() {
            self.renew(&"found by a reader")?;
        }
        let report = self.commit_until_done(&job.input)?;
        drop(call);
        // Sinks before sessions: a client that is acknowledged and then stops the process must find the sinks informed.
        for batch in job.input.batches() {
            // A salvaged batch is older, and sinks wait for it all the same.
            self.committed.of(batch.stream).send_modify(|last| *last = batch.last_sequence.max(*last));
        }
        for WaitingSession { session, publishes, .. } in &job.waiting.sessions {
            session.commit_through(*publishes.end());
        }
        for (answer, pending) in job.answers {
            // Whoever asked may have gone away.
            let _ = answer.send(pending.outcome(&report));
        }
        job.waiting.release();
        drop(job.waiting);
        self.count(&job.input, &report, started.elapsed());
        self.beat.rest();
        // The pipeline is gone only when the process is ending.
        let _ = self.pipeline.send(Message::Committed { has_more: report.deleted.has_more });
        Some(())
    }

    fn count(&self, input: &CommitInput, report: &CommitReport, took: Duration) {
        let counters = &self.counters;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counters.commits.add(1);
        counters.commit.record(took, 1);
        counters.payload_bytes.add(report.payload_bytes);
        let accepted = input.sealed.received.iter().find(|(name, _)| *name == "accepted");
        counters.readings.add(accepted.map_or(0, |(_, count)| *count));
        counters.commit_us_last.set(took_us);
        counters.commit_us_max.raise_to(took_us);
        counters.room_bytes.set(report.room.left_for_raw(report.used_bytes));
        let expired = report.expired.iter().map(|(_, count)| count).sum::<u64>();
        if expired > 0 && !counters.expiring.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the store is full: the oldest undelivered readings are removed to make room, counted as expired"
            );
        }
        // Batches differ in size: that one fits without a removal does not mean that there is room.
        let has_room = expired == 0 && report.used_bytes < report.room.raw / 20 * 19;
        if has_room && counters.expiring.swap(false, Ordering::Relaxed) {
            tracing::info!("the store has room again");
        }
        if report.lost > 0 {
            tracing::error!(
                records = report.lost,
                "records of the damaged store could not be read: they are lost, and counted as quarantined"
            );
            // Without a pipeline the process is ending.
            let _ = self.pipeline.send(Message::Input(Input::Report(damage())));
        }
    }

    /// Records keep their positions: the same batch is retried until it commits, however long the disk takes, or until the process ends.
    fn commit_until_done(&mut self, input: &CommitInput) -> Option<CommitReport> {
        for attempt in 1_u64.. {
            match self.writer.commit(input) {
                Ok(report) => {
                    if self.counters.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("the store can be written again");
                    }
                    return Some(report);
                }
                Err(error) if schema::is_corrupt(&error) => self.renew(&error)?,
                Err(error) => self.wait_failing(schema::is_full(&error), &error, attempt)?,
            }
        }
        None
    }

    /// `None` when the process is ending and this was not the first attempt.
    fn wait_failing(&self, full: bool, error: &dyn Display, attempt: u64) -> Option<()> {
        if !self.counters.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, full, "the store cannot be written: nothing is acknowledged until it can");
        }
        std::thread::sleep(RETRY_PAUSE);
        (attempt == 1 || !self.counters.is_ending()).then_some(())
    }

    /// Sets the damaged store aside and replaces it with a new one; what can be read of it is salvaged in the background.
    fn renew(&mut self, found_by: &dyn Display) -> Option<()> {
        tracing::error!(
            "the store is damaged ({found_by}): it is set aside, a new one is created, and what can be read is salvaged in the background"
        );
        for attempt in 1_u64.. {
            match self.writer.renew() {
                Ok(unfinished) => {
                    salvaging::start(&self.writer, &self.counters, &self.pipeline, unfinished);
                    break;
                }
                Err(error) => self.wait_failing(false, &with_causes(&error), attempt)?,
            }
        }
        Some(())
    }
}
