//! The committer thread: one sealed batch after the other, each tried until it commits.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Message;
use super::operation::{Answer, Outcome};
use crate::core::detection::alert::{Report, Trouble};
use crate::core::identity::Stream;
use crate::counter::{Counter, Gauge};
use crate::handoff::{Input, SessionProgress, Share};
use crate::heartbeat::Beat;
use crate::store::reader::FileId;
use crate::store::salvage::SalvageParts;
use crate::store::schema;
use crate::store::writer::{CommitInput, CommitReport, Writer};

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

/// Why nothing can be stored at present: what comes is judged, and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstorable {
    /// The disk answers with errors.
    DiskFailing,
    /// A commit has been under way for seconds.
    DiskHung,
    /// There is no room, and readings are to be refused rather than older ones removed.
    StoreFull,
}

impl Unstorable {
    pub fn name(self) -> &'static str {
        match self {
            Unstorable::DiskFailing => "disk_failing",
            Unstorable::DiskHung => "disk_hung",
            Unstorable::StoreFull => "store_full",
        }
    }
}

/// What the two threads show of themselves.
#[derive(Debug, Default)]
pub struct StoreCounters {
    pub commits: Counter,
    pub commit_us_last: Gauge,
    pub commit_us_max: Gauge,
    /// Payloads since the start, as they are stored: what the store fills with.
    pub payload_bytes: Counter,
    pub series: Gauge,
    pub readings_unwatched: Gauge,
    pub anomalies: Gauge,
    pub alerts_unraised: Gauge,
    /// Acknowledgements of alerts that are not there.
    pub acknowledgements_unknown: Counter,
    /// Readings turned away because they could not be stored.
    pub readings_refused: Counter,
    /// Alerts that were raised while nothing could be stored.
    pub raised_unstored: Gauge,
    /// Alerts that are raised, stored or not.
    pub alerts_raised: Gauge,
    /// Damaged stores that are, or were, salvaged since the start; and those of them that are done.
    pub salvaging: Counter,
    pub salvaged_stores: Counter,
    /// What further raw readings may take of the store.
    pub(crate) room_bytes: Gauge,
    failing: AtomicBool,
    pub(crate) hung: AtomicBool,
    pub(crate) expiring: AtomicBool,
    pub(crate) refusing: AtomicBool,
    pub(crate) ending: AtomicBool,
    abandoned: AtomicBool,
    readings_abandoned: Gauge,
}

impl StoreCounters {
    pub fn unstorable(&self) -> Option<Unstorable> {
        if self.is_failing() {
            Some(Unstorable::DiskFailing)
        } else if self.hung.load(Ordering::Relaxed) {
            Some(Unstorable::DiskHung)
        } else if self.is_refusing() {
            Some(Unstorable::StoreFull)
        } else {
            None
        }
    }

    /// The disk answers with errors.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// The store is full, and the oldest readings go.
    pub fn is_expiring(&self) -> bool {
        self.expiring.load(Ordering::Relaxed)
    }

    /// The store is full, and readings are turned away.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// A damaged store is being read.
    pub fn is_salvaging(&self) -> bool {
        self.salvaging.get() > self.salvaged_stores.get()
    }

    /// The process ends, and so many readings that nobody was told of as taken could not be stored.
    pub(crate) fn abandon(&self, readings: u64) {
        self.readings_abandoned.set(readings);
        self.abandoned.store(true, Ordering::Release);
    }

    /// Readings that the end of the process left unstored and unacknowledged; `None` if the store was written to the last.
    pub fn readings_abandoned(&self) -> Option<u64> {
        self.abandoned.load(Ordering::Acquire).then(|| self.readings_abandoned.get())
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

/// Publishes of a session that are durable with a batch.
#[derive(Debug)]
pub(crate) struct WaitingSession {
    pub session: Arc<SessionProgress>,
    pub publishes: RangeInclusive<u64>,
    pub wants_answer: bool,
}

/// Sessions to be told and budget to be given back once a batch is durable.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub sessions: Vec<WaitingSession>,
    pub shares: Mutex<Vec<Share>>,
    /// Dropped, which tells that what was salvaged is durable.
    pub salvage: Vec<Sender<()>>,
}

/// What an operator is answered once the commit is done.
#[derive(Debug)]
pub(crate) enum Pending {
    Outcome(Outcome),
    /// The commit itself tells.
    DroppedSink(String),
}

impl Pending {
    fn outcome(self, report: &CommitReport) -> Outcome {
        match self {
            Pending::Outcome(outcome) => outcome,
            Pending::DroppedSink(name) => {
                let dropped = report.dropped_sinks.iter().find(|(known, _)| *known == name);
                dropped.map_or(Outcome::Unknown(format!("there is no sink {name}")), |(_, what)| what.outcome(&name))
            }
        }
    }
}

impl Waiting {
    pub fn hold(&mut self, share: Share) {
        self.shares.get_mut().unwrap_or_else(PoisonError::into_inner).push(share);
    }

    /// Gives the budget back.
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

/// What is told of records that could not be read.
pub(crate) fn damage() -> Report {
    Report::new(
        Trouble::Damage,
        "records were lost because the store's file is damaged; `quarantined` in the ledger says how many",
    )
}

/// How often the committer tries again when the store cannot be written.
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
                tracing::debug!(%error, "the store's log could not be moved into its file; it is tried after the next commit");
            }
        }
        if let Err(error) = self.writer.checkpoint() {
            tracing::warn!(%error, "the store could not be checkpointed; the next start does it");
        }
    }

    /// `None`: the process is ending, and the disk does not take it.
    fn serve(&mut self, job: Job) -> Option<()> {
        let started = Instant::now();
        let call = self.beat.at_disk();
        // Two readers may have found the same damage: the second time it is no longer this file.
        if job.damaged.is_some() && job.damaged == self.writer.file() {
            self.renew(&"found by a reader")?;
        }
        let report = self.commit_until_done(&job.input)?;
        drop(call);
        // The sinks first: whoever has an acknowledgement and ends the process must find them knowing of it.
        for batch in job.input.batches() {
            self.committed.of(batch.stream).send_replace(batch.last_sequence);
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
        self.count(&report, started.elapsed());
        self.beat.rest();
        // The pipeline is gone only when the process is ending.
        let _ = self.pipeline.send(Message::Committed { has_more: report.deleted.has_more });
        Some(())
    }

    fn count(&self, report: &CommitReport, took: Duration) {
        let counters = &self.counters;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counters.commits.add(1);
        counters.payload_bytes.add(report.payload_bytes);
        counters.commit_us_last.set(took_us);
        counters.commit_us_max.raise_to(took_us);
        counters.room_bytes.set(report.room.left_for_raw(report.used_bytes));
        let expired = report.expired.iter().map(|(_, count)| count).sum::<u64>();
        if expired > 0 && !counters.expiring.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the store is full: the oldest undelivered readings are removed to make room, counted as expired"
            );
        }
        // Batches differ in size: that one fits without another's going does not mean that there is room.
        let has_room = expired == 0 && report.used_bytes < report.room.raw / 20 * 19;
        if has_room && counters.expiring.swap(false, Ordering::Relaxed) {
            tracing::info!("the store has room again");
        }
        if report.lost > 0 {
            tracing::error!(
                records = report.lost,
                "could not be read in the damaged store: lost, and counted as quarantined"
            );
            // Without a pipeline the process is ending.
            let _ = self.pipeline.send(Message::Input(Input::Report(damage())));
        }
    }

    /// What has positions keeps them: the same batch is tried until it commits, however long the disk takes to come back, or until the
    /// process ends.
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

    /// The store is damaged: it is set aside, a new one takes its place, and what can be read of it is taken over in the background.
    fn renew(&mut self, found_by: &dyn Display) -> Option<()> {
        tracing::error!(
            "the store is damaged ({found_by}): it is set aside, a new one is begun, and what can be read of it is taken over in the background"
        );
        for attempt in 1_u64.. {
            match self.writer.renew() {
                Ok(unfinished) => {
                    SalvageParts::new(self.writer.settings(), &self.counters, &self.pipeline).spawn(unfinished);
                    break;
                }
                Err(error) => self.wait_failing(false, &error, attempt)?,
            }
        }
        Some(())
    }
}
