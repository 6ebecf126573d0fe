//! The committer thread: takes one sealed batch after the other, and retries each until it commits.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::counters::StoreCounters;
use super::operation::{self, Answer, Outcome};
use super::spell::Spell;
use super::{Message, salvaging};
use crate::core::detection::alert::{Report, Trouble};
use crate::core::identity::PerStream;
use crate::errors::with_causes;
use crate::handoff::{Input, SessionProgress, Share};
use crate::heartbeat::Beat;
use crate::store::commit::CommitInput;
use crate::store::cursors::CursorChange;
use crate::store::reader::FileId;
use crate::store::schema;
use crate::store::unreadable::{Unreadable, disk_works};
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
    /// Where sinks are by now, while the commit is tried in vain: it may be their progress that makes room for it.
    pub cursors: Mutex<Vec<CursorChange>>,
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

    pub fn lock_cursors(&self) -> MutexGuard<'_, Vec<CursorChange>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
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
/// How often it looks what others have left of the disk when nothing is to be committed; and where room is short.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
const LOOK_PAUSE_SHORT: Duration = Duration::from_millis(250);
/// How often it is looked whether the process ends, without a store.
const ENDING_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Committer {
    pub writer: Writer,
    pub pipeline: Sender<Message>,
    pub committed: CommittedSequences,
    pub counters: Arc<StoreCounters>,
    pub beat: Beat,
    /// Undelivered readings are removed to make room; and what only sinks want that are not configured.
    pub(super) expiring: Spell,
    pub(super) giving_up: Spell,
    pub(super) unreadable_since: Unreadable,
}

impl Committer {
    /// With what is left to be salvaged.
    pub fn start(
        writer: Writer,
        pipeline: Sender<Message>,
        committed: CommittedSequences,
        counters: Arc<StoreCounters>,
        beat: Beat,
    ) -> Committer {
        if let Ok(left) = writer.left_for_raw() {
            counters.room_bytes.set(left);
        }
        let unfinished = writer.unfinished_salvages().unwrap_or_default();
        salvaging::start(&writer, &counters, &pipeline, unfinished);
        let (expiring, giving_up) = (Spell::default(), Spell::default());
        let unreadable_since = Unreadable::default();
        Committer { writer, pipeline, committed, counters, beat, expiring, giving_up, unreadable_since }
    }

    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(self.look_pause()) {
                Ok(job) => {
                    if self.serve(job).is_none() {
                        // The pipeline thread may have given up before.
                        let _ = self.pipeline.send(Message::Abandoned);
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.maintain();
        }
        if let Err(error) = self.writer.checkpoint() {
            tracing::warn!(%error, "the store could not be checkpointed; the next start does it");
        }
    }

    /// Without a store nothing is ever committed: what comes waits until the process ends.
    pub fn run_without_a_store(
        jobs: &Receiver<Job>,
        counters: &StoreCounters,
        pipeline: &Sender<Message>,
        beat: &Beat,
    ) {
        while jobs.recv().is_ok() {
            let _call = beat.at_disk();
            while !counters.is_ending() {
                std::thread::sleep(ENDING_PAUSE);
            }
            // The pipeline thread may have given up before.
            let _ = pipeline.send(Message::Abandoned);
        }
    }

    /// When to check again how much room there is, although nothing is to be committed.
    fn look_pause(&self) -> Duration {
        let is_short = self.counters.is_refusing() || self.counters.is_expiring();
        if is_short { LOOK_PAUSE_SHORT } else { LOOK_PAUSE }
    }

    fn maintain(&mut self) {
        let call = self.beat.at_disk();
        if let Err(error) = self.writer.maintain(Instant::now()) {
            tracing::debug!(%error, "the WAL could not be checkpointed; the next attempt is after the next commit");
        }
        if let Ok(left) = self.writer.left_for_raw() {
            self.counters.room_bytes.set(left);
        }
        drop(call);
        self.beat.rest();
    }

    /// `None` if the process is ending and the disk does not accept the batch.
    fn serve(&mut self, job: Job) -> Option<()> {
        let started = Instant::now();
        let call = self.beat.at_disk();
        // Two readers may report the same damage: by the second report the file has been replaced.
        if job.damaged.is_some() && job.damaged == self.writer.file() && disk_works(&self.writer.settings().path) {
            self.renew(&"found by a reader")?;
        }
        let report = self.commit_until_done(&job.input, &job.waiting)?;
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

    fn count(&mut self, input: &CommitInput, report: &CommitReport, took: Duration) {
        let counters = &self.counters;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counters.commits.add(1);
        counters.commit.record(took, 1);
        counters.payload_bytes.add(report.payload_bytes);
        let accepted = input.sealed.received.iter().find(|(name, _)| *name == "accepted");
        counters.readings.add(accepted.map_or(0, |(_, count)| *count));
        counters.commit_us_last.set(took_us);
        counters.commit_us_max.raise_to(took_us);
        counters.room_bytes.set(report.left_for_raw);
        counters.room_again_bytes.set(report.room.free_again());
        let expired = report.expired.iter().map(|(_, count)| count).sum::<u64>();
        let now = Instant::now();
        if expired > 0 {
            counters.expiring.store(true, Ordering::Relaxed);
            if self.expiring.comes(now) {
                tracing::error!(
                    "the store is full: the oldest undelivered readings are removed to make room, counted as expired"
                );
            }
        }
        // Batches differ in size: that one fits without a removal does not mean that there is room.
        if expired == 0 && report.used_bytes < report.room.raw / 20 * 19 {
            counters.expiring.store(false, Ordering::Relaxed);
            if self.expiring.stays_away(now) {
                tracing::info!("the store has room again");
            }
        }
        if report.given_up > 0 && self.giving_up.comes(now) {
            tracing::warn!(
                "room is needed: what waits for sinks that are not configured is removed first, counted as expired for them"
            );
        }
        self.giving_up.stays_away(now);
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
    fn commit_until_done(&mut self, input: &CommitInput, waiting: &Waiting) -> Option<CommitReport> {
        for attempt in 1_u64.. {
            match self.writer.commit(input) {
                Ok(report) => {
                    self.unreadable_since.is_over();
                    if self.counters.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("the store can be written again");
                    }
                    return Some(report);
                }
                Err(error) if self.is_damage(&error) => self.renew(&error)?,
                Err(error) => {
                    self.wait_failing(schema::is_full(&error), &error, attempt)?;
                    self.commit_cursors(waiting);
                }
            }
        }
        None
    }

    fn is_damage(&mut self, error: &rusqlite::Error) -> bool {
        let is_damage = self.unreadable_since.is_damage(error, Instant::now());
        is_damage && (schema::is_corrupt(error) || disk_works(&self.writer.settings().path))
    }

    /// What is delivered meanwhile makes room on a full disk.
    fn commit_cursors(&mut self, waiting: &Waiting) {
        let cursors = std::mem::take(&mut *waiting.lock_cursors());
        if cursors.is_empty() {
            return;
        }
        let input = CommitInput { cursors, ..CommitInput::default() };
        if self.writer.commit(&input).is_err() {
            waiting.lock_cursors().splice(..0, input.cursors);
        }
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
