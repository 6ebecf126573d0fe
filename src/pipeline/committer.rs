//! The committer thread: takes one sealed batch after the other, and retries each until it commits.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Message;
use super::counters::StoreCounters;
use super::operation::{self, Answer, Outcome};
use super::salvaging::{self, SpawnSalvage};
use super::spell::Spell;
use crate::clock;
use crate::core::detection::alert::{Report, Trouble};
use crate::core::identity::PerStream;
use crate::errors::with_causes;
use crate::handoff::{Input, SessionProgress, Share};
use crate::heartbeat::{Beat, DiskCall};
use crate::store::commit::CommitInput;
use crate::store::cursors::CursorChange;
use crate::store::reader::FileId;
use crate::store::schema::{self, OpenError};
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

/// A batch that the disk has not accepted yet.
pub(crate) struct UnderWay {
    job: Job,
    started: Instant,
    call: DiskCall,
    /// Attempts to commit it, and to begin a new store for it.
    commits: u64,
    renewals: u64,
    /// Attempts in vain, of the kind that was made last.
    failed: u64,
    /// The store has to be set aside first.
    is_damaged: bool,
}

/// How an attempt to commit a batch ended.
pub(crate) enum Attempt {
    Committed,
    /// The disk refused it: it is tried again after [`RETRY_PAUSE`].
    Again(Box<UnderWay>),
    /// The process is ending, and this was not the first attempt.
    GivenUp,
}

/// Reports that records could not be read.
pub(crate) fn damage() -> Report {
    Report::new(
        Trouble::Damage,
        "records were lost because the store's file is damaged; `quarantined` in the ledger says how many",
    )
}

/// Pause between two attempts while the store cannot be written.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(500);
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
    pub spawn_salvage: SpawnSalvage,
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
        spawn_salvage: SpawnSalvage,
    ) -> Committer {
        if let Ok(left) = writer.left_for_raw() {
            counters.room_bytes.set(left);
        }
        let unfinished = writer.unfinished_salvages().unwrap_or_default();
        salvaging::start(spawn_salvage, &writer, &counters, &pipeline, unfinished);
        let (expiring, giving_up) = (Spell::default(), Spell::default());
        let unreadable_since = Unreadable::default();
        Committer { writer, pipeline, committed, counters, beat, spawn_salvage, expiring, giving_up, unreadable_since }
    }

    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(self.look_pause()) {
                Ok(job) => {
                    if !self.commit_until_done(job) {
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

    /// Returns whether it is committed. If not, the process is ending and the disk does not accept it.
    fn commit_until_done(&mut self, job: Job) -> bool {
        let mut attempt = self.attempt(self.begin(job));
        while let Attempt::Again(under_way) = attempt {
            std::thread::sleep(RETRY_PAUSE);
            attempt = self.attempt(*under_way);
        }
        let is_committed = matches!(attempt, Attempt::Committed);
        if !is_committed {
            // The pipeline thread may have given up before.
            let _ = self.pipeline.send(Message::Abandoned);
        }
        is_committed
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
    pub fn look_pause(&self) -> Duration {
        let is_short = self.counters.is_refusing() || self.counters.is_expiring();
        if is_short { LOOK_PAUSE_SHORT } else { LOOK_PAUSE }
    }

    pub fn maintain(&mut self) {
        let call = self.beat.at_disk();
        if let Err(error) = self.writer.maintain(clock::instant()) {
            tracing::debug!(%error, "the WAL could not be checkpointed; the next attempt is after the next commit");
        }
        if let Ok(left) = self.writer.left_for_raw() {
            self.counters.room_bytes.set(left);
        }
        drop(call);
        self.beat.rest();
    }

    /// Begins with a batch.
    pub fn begin(&self, job: Job) -> UnderWay {
        // Two readers may report the same damage: by the second report the file has been replaced.
        let is_damaged =
            job.damaged.is_some() && job.damaged == self.writer.file() && disk_works(&self.writer.settings().path);
        if is_damaged {
            tell_of_damage(&"found by a reader");
        }
        let (started, call) = (clock::instant(), self.beat.at_disk());
        UnderWay { job, started, call, commits: 0, renewals: 0, failed: 0, is_damaged }
    }

    /// Tries once to make a batch durable. Records keep their positions: the same batch is tried until it is committed, however long the disk
    /// takes, or until the process ends.
    pub fn attempt(&mut self, mut under_way: UnderWay) -> Attempt {
        if under_way.failed > 1 && self.counters.is_ending() {
            return Attempt::GivenUp;
        }
        if under_way.failed > 0 && !under_way.is_damaged {
            self.commit_cursors(&mut under_way.job);
        }
        loop {
            if under_way.is_damaged {
                under_way.renewals += 1;
                if let Err(error) = self.renew() {
                    return self.fails(under_way.renewals, (false, &with_causes(&error)), under_way);
                }
                (under_way.is_damaged, under_way.renewals) = (false, 0);
            }
            under_way.commits += 1;
            match self.writer.commit(&under_way.job.input) {
                Ok(report) => {
                    self.finish(under_way, &report);
                    return Attempt::Committed;
                }
                Err(error) if self.is_damage(&error) => {
                    tell_of_damage(&error);
                    under_way.is_damaged = true;
                }
                Err(error) => {
                    return self.fails(under_way.commits, (schema::is_full(&error), &error), under_way);
                }
            }
        }
    }

    fn finish(&mut self, under_way: UnderWay, report: &CommitReport) {
        let UnderWay { job, started, call, .. } = under_way;
        self.unreadable_since.is_over();
        if self.counters.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the store can be written again");
        }
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
            let _ = answer.send(pending.outcome(report));
        }
        job.waiting.release();
        drop(job.waiting);
        self.count(&job.input, report, clock::instant().saturating_duration_since(started));
        self.beat.rest();
        // The pipeline is gone only when the process is ending.
        let _ = self.pipeline.send(Message::Committed { has_more: report.deleted.has_more });
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
        let now = clock::instant();
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

    fn is_damage(&mut self, error: &rusqlite::Error) -> bool {
        let is_damage = self.unreadable_since.is_damage(error, clock::instant());
        is_damage && (schema::is_corrupt(error) || disk_works(&self.writer.settings().path))
    }

    /// What is delivered meanwhile makes room on a full disk. It comes after what the batch itself says of the sinks: a record that is given
    /// up there would be counted twice if it were done with before.
    fn commit_cursors(&mut self, job: &mut Job) {
        let newer = std::mem::take(&mut *job.waiting.lock_cursors());
        if newer.is_empty() {
            return;
        }
        let mut cursors = std::mem::take(&mut job.input.cursors);
        let of_batch = cursors.len();
        cursors.extend(newer);
        let mut input = CommitInput { cursors, ..CommitInput::default() };
        if self.writer.commit(&input).is_err() {
            job.waiting.lock_cursors().splice(..0, input.cursors.split_off(of_batch));
            job.input.cursors = input.cursors;
        }
    }

    fn fails(&self, failed: u64, (full, error): (bool, &dyn Display), under_way: UnderWay) -> Attempt {
        if !self.counters.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, full, "the store cannot be written: nothing is acknowledged until it can");
        }
        Attempt::Again(Box::new(UnderWay { failed, ..under_way }))
    }

    /// Sets the damaged store aside and replaces it with a new one; what can be read of it is salvaged in the background.
    fn renew(&mut self) -> Result<(), OpenError> {
        let unfinished = self.writer.renew()?;
        salvaging::start(self.spawn_salvage, &self.writer, &self.counters, &self.pipeline, unfinished);
        Ok(())
    }
}

fn tell_of_damage(found_by: &dyn Display) {
    tracing::error!(
        "the store is damaged ({found_by}): it is set aside, a new one is created, and what can be read is salvaged in the background"
    );
}

#[cfg(test)]
mod tests;
