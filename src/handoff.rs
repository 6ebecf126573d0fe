//! The hand-over from MQTT sessions to the pipeline thread.
//!
//! A session submits what it decoded from one socket read, and learns by ordinal up to which of its publishes everything is committed. The
//! queue is bounded in bytes by one budget that all sessions share: a submission holds its share until its commit.

mod budget;
pub mod rules;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

pub use budget::{Budget, Place, Share};

use crate::core::detection::alert::{Acknowledgement, AlertKey, Report};
use crate::core::detection::detectors::Lesson;
use crate::core::mqtt::pace::Urgency;
use crate::core::reading::Readings;
use crate::core::rulebook::{Effects, Rulebook};

/// How far the commits of one session have come; shared by the session and the pipeline thread.
#[derive(Debug)]
pub struct SessionProgress {
    /// Number of this session among all that have published, from 1.
    number: u64,
    committed: AtomicU64,
    excused: AtomicU64,
    refused: Mutex<VecDeque<RangeInclusive<u64>>>,
    has_refused: AtomicBool,
    unanswered: AtomicBool,
    failed: AtomicBool,
    changed: Notify,
}

impl Default for SessionProgress {
    fn default() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        SessionProgress::numbered(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl SessionProgress {
    /// Of the session with this number.
    pub fn numbered(number: u64) -> SessionProgress {
        SessionProgress {
            number,
            committed: AtomicU64::new(0),
            excused: AtomicU64::new(0),
            refused: Mutex::default(),
            has_refused: AtomicBool::new(false),
            unanswered: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Ordinal (1, 2, ...) of the last publish that is durable together with all before it.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Publishes that wait for an answer will get none: the session must close without acknowledging them.
    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub fn commit_through(&self, ordinal: u64) {
        self.committed.fetch_max(ordinal, Ordering::Release);
        self.changed.notify_one();
    }

    /// Up to this ordinal the session does not wait for commits, although some may still come: it goes on reading.
    pub fn excused(&self) -> u64 {
        self.excused.load(Ordering::Acquire)
    }

    /// The disk is in trouble: publishes up to this ordinal are on their way to it, and hold up nobody.
    pub fn excuse_through(&self, ordinal: u64) {
        self.excused.fetch_max(ordinal, Ordering::Release);
        self.changed.notify_one();
    }

    /// These publishes are not stored: they are neither passed on nor acknowledged, and nothing of them needs to be kept.
    pub fn refuse(&self, publishes: RangeInclusive<u64>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.back_mut() {
            Some(last) if last.end() + 1 == *publishes.start() => *last = *last.start()..=*publishes.end(),
            _ => refused.push_back(publishes),
        }
        self.has_refused.store(true, Ordering::Release);
        drop(refused);
        self.changed.notify_one();
    }

    /// The next range of refused publishes, in order.
    pub fn take_refused(&self) -> Option<RangeInclusive<u64>> {
        if !self.has_refused.load(Ordering::Acquire) {
            return None;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let next = refused.pop_front();
        self.has_refused.store(!refused.is_empty(), Ordering::Release);
        next
    }

    /// A publish that waits for an answer is refused. No later one may be acknowledged, because that would acknowledge this one too.
    /// Returns whether this is the first such publish.
    pub fn leave_unanswered(&self) -> bool {
        !self.unanswered.swap(true, Ordering::AcqRel)
    }

    pub fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Acquire)
    }

    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Returns when something has changed since the last call. Only one task may wait.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A publish that is acknowledged without being stored, because sending it again would not help, or a line that is passed over.
#[derive(Debug)]
pub struct Undecodable {
    pub reason: &'static str,
    pub topic: String,
    /// That the line is from.
    pub file: Option<Arc<str>>,
    /// At most the first 4 KiB of it.
    pub sample: Vec<u8>,
    pub received_at_ms: i64,
}

/// A value that the MQTT side keeps in the store, for its next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// What is to become of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryChange {
    pub key: Vec<u8>,
    /// `None` deletes it.
    pub value: Option<Vec<u8>>,
}

impl EntryChange {
    pub fn byte_size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// What rules made of the publishes of one socket read.
#[derive(Debug, Default)]
pub struct Ruled {
    pub effects: Effects,
    /// Readings that were kept out of the raw stream, and are not among those of the submission.
    pub dropped: u64,
    /// How many of the submission's readings rules have made.
    pub derived: u64,
}

/// Everything from one socket read of one session.
#[derive(Debug)]
pub struct Submission {
    pub session: Arc<SessionProgress>,
    /// Ordinal of the last publish in it. Publishes that need no storing count too, so that acknowledgements keep their order.
    pub through: u64,
    /// How many publishes it holds, and whether one of them waits for an answer.
    pub publishes: u64,
    pub wants_answer: bool,
    pub urgency: Urgency,
    pub readings: Readings,
    pub undecodable: Vec<Undecodable>,
    /// What rules made of its publishes; `None` if nothing.
    pub ruled: Option<Box<Ruled>>,
    /// Changed in the same commit.
    pub entries: Vec<EntryChange>,
    /// Bytes that the session keeps until the commit, to fan them out then.
    pub held_bytes: usize,
    /// Share of the byte budget, given back when this is dropped after the commit.
    pub share: Option<Share>,
}

/// An acknowledgement of an alert by a person, `alerts/{device}/{metric}/{kind}/ack`.
#[derive(Debug)]
pub struct AlertAcknowledgement {
    pub key: AlertKey,
    pub seen: Acknowledgement,
    /// Gets to know what comes of it, or that there is no such alert.
    pub answer: Option<oneshot::Sender<Option<Lesson>>>,
    /// Share of the byte budget, given back when this is dropped.
    pub share: Option<Share>,
}

/// Asks whether the pipeline thread still handles its input.
#[derive(Debug)]
pub struct Ping {
    answer: oneshot::Sender<()>,
    _share: Share,
}

impl Ping {
    pub fn answer(self) {
        // If nobody waits for the answer, the process is ending.
        let _ = self.answer.send(());
    }
}

/// What the MQTT side sends to the pipeline thread.
#[derive(Debug)]
pub enum Input {
    Submission(Submission),
    Acknowledge(AlertAcknowledgement),
    /// The client of the session with this number disconnected cleanly: its devices are not to be reported as silent.
    Farewell(u64),
    /// These rules hold for all that comes after.
    Rules(Arc<Rulebook>),
    /// Something is wrong with the gateway itself, or still is.
    Report(Report),
    Ping(Ping),
}

/// The sending half, cheap to clone.
///
/// The channel itself is not bounded in items. It is bounded by the byte budget: everybody waits in line for it before reading what is sent
/// here.
#[derive(Debug)]
pub struct PipelineHandle<T: From<Input>> {
    sender: mpsc::Sender<T>,
    budget: Budget,
}

/// The pipeline thread has ended: the process is ending.
#[derive(Debug, PartialEq, Eq)]
pub struct PipelineGone;

/// Charged even for an empty submission, so that floods of tiny ones are bounded as well.
const SUBMISSION_OVERHEAD_BYTES: usize = 512;

impl<T: From<Input>> Clone for PipelineHandle<T> {
    fn clone(&self) -> Self {
        PipelineHandle { sender: self.sender.clone(), budget: self.budget.clone() }
    }
}

impl<T: From<Input>> PipelineHandle<T> {
    pub fn new(sender: mpsc::Sender<T>, budget_bytes: u32) -> Self {
        PipelineHandle::with_budget(sender, Budget::new(budget_bytes))
    }

    pub fn with_budget(sender: mpsc::Sender<T>, budget: Budget) -> Self {
        PipelineHandle { sender, budget }
    }

    /// A place in the line of those that want to submit something. Keep it until the submission is made.
    pub fn place(&self) -> Place {
        self.budget.place()
    }

    /// How many turns have been used: if this grows, the line moves.
    pub fn turns_used(&self) -> u64 {
        self.budget.charges()
    }

    /// How many wait for their turn.
    pub fn in_line(&self) -> usize {
        self.budget.in_line()
    }

    /// Queues what was decoded during a turn of [`Self::place`], and charges it to the budget.
    pub fn submit(&self, mut submission: Submission) -> Result<(), PipelineGone> {
        let samples: usize = submission.undecodable.iter().map(|u| u.topic.len() + u.sample.len()).sum();
        let ruled = submission.ruled.as_ref().map_or(0, |ruled| ruled.effects.byte_size());
        let entries: usize = submission.entries.iter().map(EntryChange::byte_size).sum();
        let bytes = submission.readings.grown_bytes() + samples + ruled + entries + submission.held_bytes;
        submission.share = Some(self.charge(bytes));
        self.send(Input::Submission(submission))
    }

    /// The same for an acknowledgement of an alert.
    pub fn acknowledge(&self, mut acknowledgement: AlertAcknowledgement) -> Result<(), PipelineGone> {
        let AlertAcknowledgement { key: AlertKey { device, metric, kind }, seen, .. } = &acknowledgement;
        acknowledgement.share = Some(self.charge(device.len() + metric.len() + kind.len() + seen.by.len()));
        self.send(Input::Acknowledge(acknowledgement))
    }

    /// The client of this session disconnected cleanly. Not charged: there is one for each connection that published, of a few bytes.
    pub fn farewell(&self, session: &SessionProgress) -> Result<(), PipelineGone> {
        self.send(Input::Farewell(session.number()))
    }

    /// Other rules hold from here on. Not charged: they are shared.
    pub fn adopt_rules(&self, book: Arc<Rulebook>) -> Result<(), PipelineGone> {
        self.send(Input::Rules(book))
    }

    /// Something is wrong with the gateway itself. Not charged: the reporter limits its rate, with
    /// [`crate::core::detection::alert::ReportPacer`].
    pub fn report(&self, report: Report) -> Result<(), PipelineGone> {
        self.send(Input::Report(report))
    }

    /// Asks, during a turn of [`Self::place`], whether the pipeline still handles its input.
    pub fn ping(&self) -> Result<oneshot::Receiver<()>, PipelineGone> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Ping(Ping { answer, _share: self.charge(0) }))?;
        Ok(answered)
    }

    fn charge(&self, bytes: usize) -> Share {
        self.budget.charge(SUBMISSION_OVERHEAD_BYTES + bytes)
    }

    fn send(&self, input: Input) -> Result<(), PipelineGone> {
        self.sender.send(input.into()).map_err(|_| PipelineGone)
    }
}
