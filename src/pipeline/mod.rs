//! Two threads: the pipeline judges and fills the open batch, the committer makes the sealed one durable.
//!
//! They are two so that a disk that hangs stops neither detection nor alerts, and so that judging and fsync overlap. One sealed
//! batch is under way at a time: while the disk is busy the open batch grows, and the next commit carries more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod alert_log;
pub mod announce;
pub mod committer;
mod counters;
mod intake;
mod messages;
pub mod operation;
pub mod overview;
mod pacing;
mod reactions;
mod salvaging;
mod spell;
mod ticks;
mod turns;
mod unanswered;
mod unstorable;
pub mod values;

use self::alert_log::AlertLog;
use self::announce::Announcer;
pub use self::committer::CommittedSequences;
use self::committer::{Committer, Job, Pending, Waiting};
pub use self::counters::{StoreCounters, Unstorable};
use self::intake::Intake;
pub use self::messages::Message;
use self::operation::Answer;
pub use self::pacing::CommitPacing;
use self::ticks::Deafness;
use self::unanswered::Unanswered;
use crate::clock;
use crate::core::batch::CLOSED_AT_BYTES;
use crate::core::detection::alert::{Moment, ReportPacer};
use crate::core::identity::Stream;
use crate::core::mqtt::pace::Urgency;
use crate::core::pipeline::commit_clock::CommitClock;
use crate::core::pipeline::{Pipeline, Storing};
use crate::core::rulebook::RuleMessage;
use crate::handoff::Input;
use crate::heartbeat::Beat;
use crate::mqtt::outbox::Outbox;
use crate::store::commit::CommitInput;
use crate::store::reader::FileId;
use crate::store::retention::WhenFull;
use crate::store::salvage::Salvage;
use crate::store::writer::Writer;

/// How long the pipeline sleeps while readings gather; it delays an alert by no more than this.
const GATHER_PAUSE: Duration = Duration::from_millis(4);
/// Most messages that are handled before it is checked what is due.
const MESSAGES_A_TURN: usize = 256;
/// How often time is checked even if nothing comes in: alerts clear, snapshots become due.
const TICK: Duration = Duration::from_millis(500);
pub struct StoreThreads {
    pub pipeline: JoinHandle<()>,
    pub committer: JoinHandle<()>,
}

/// What the threads need.
pub struct StoreParts {
    /// `None` as long as the store cannot be opened: everything is watched, and nothing stored.
    pub writer: Option<Writer>,
    pub pipeline: Pipeline,
    pub pacing: CommitPacing,
    pub messages: (Sender<Message>, Receiver<Message>),
    pub committed: CommittedSequences,
    pub counters: Arc<StoreCounters>,
    pub outbox: Outbox,
    pub beats: StoreBeats,
    /// Bytes that all sessions together may have waiting for their commit.
    pub budget_bytes: u64,
    pub now_ms: fn() -> i64,
}

/// Heartbeats of both threads.
#[derive(Clone, Debug, Default)]
pub struct StoreBeats {
    pub pipeline: Beat,
    /// No progress is expected between two commits.
    pub committer: Beat,
}

/// Starts both threads; they end after [`Message::Shutdown`], when everything submitted before it is durable.
///
/// # Errors
///
/// If a thread cannot be started.
pub fn spawn(parts: StoreParts) -> std::io::Result<StoreThreads> {
    let StoreParts { writer, pipeline, pacing, messages, committed, counters, outbox, beats, budget_bytes, now_ms } =
        parts;
    let (sender, receiver) = messages;
    // One job: the pipeline seals only when the committer is idle.
    let (jobs, next_job) = sync_channel::<Job>(1);
    counters.room_bytes.set(u64::MAX);
    let when_full = writer.as_ref().map_or(WhenFull::Refuse, |writer| writer.settings().capacity.when_full);
    counters.set_failing(writer.is_none());
    let (for_committer, committer_counters) = (beats.committer.clone(), Arc::clone(&counters));
    let committer = std::thread::Builder::new().name("committer".to_owned()).spawn(move || match writer {
        Some(writer) => {
            Committer::start(writer, sender, committed, committer_counters, for_committer, Salvage::spawn)
                .run(&next_job);
        }
        None => Committer::run_without_a_store(&next_job, &committer_counters, &sender, &for_committer),
    })?;
    let parts = LoopParts { pipeline, pacing, jobs, when_full, counters, outbox, beats, budget_bytes, now_ms };
    let pipeline = std::thread::Builder::new()
        .name("pipeline".to_owned())
        .spawn(move || PipelineLoop::new(parts).run(&receiver))?;
    Ok(StoreThreads { pipeline, committer })
}

/// What the pipeline's thread works with.
pub(crate) struct LoopParts {
    pub pipeline: Pipeline,
    pub pacing: CommitPacing,
    pub jobs: SyncSender<Job>,
    pub when_full: WhenFull,
    pub counters: Arc<StoreCounters>,
    pub outbox: Outbox,
    pub beats: StoreBeats,
    pub budget_bytes: u64,
    pub now_ms: fn() -> i64,
}

/// Contents of the next commit, besides the open batches of the pipeline.
#[derive(Default)]
struct Open {
    input: CommitInput,
    waiting: Waiting,
    answers: Vec<(Answer, Pending)>,
    damaged: Option<FileId>,
    /// Bytes that it holds of the budget that all sessions share.
    bytes: u64,
}

/// The commit that is under way.
#[derive(Default)]
struct Committing {
    waiting: Arc<Waiting>,
    bytes: u64,
    readings: u64,
    /// What rules publish once it has returned.
    messages: Vec<RuleMessage>,
    /// It deletes what was left over from the commit before.
    is_deleting: bool,
    /// It takes too long: clients that wait for it have been turned away.
    is_given_up: bool,
}

/// Progress of the shutdown.
#[derive(Default)]
struct Ending {
    /// Time that was allowed for it, once it has begun.
    grace: Option<Duration>,
    /// Set once no more messages are sent. After this moment, a disk that hangs is no longer waited for.
    until: Option<Instant>,
    /// The disk did not accept the last commit.
    is_refused: bool,
    /// Everything that was sent is in the open batches: the next commit carries the final snapshot of the detectors.
    is_last: bool,
}

/// Works in turns: a thread calls it when messages have come or it wants to run, and so does the simulation.
pub(crate) struct PipelineLoop {
    pipeline: Pipeline,
    pacing: CommitPacing,
    jobs: SyncSender<Job>,
    open: Open,
    committing: Committing,
    /// What sessions sent, in order, waiting until the input before it has been taken completely.
    backlog: VecDeque<Input>,
    /// How many readings of the first submission in the backlog are taken, once some are.
    begun: Option<usize>,
    /// The first is to be taken when there is room, which is being made.
    waits_for_room: bool,
    clock: CommitClock,
    /// Commits that had returned when the batch that is under way was sealed.
    commits_at_seal: u64,
    storing: Storing,
    unanswered: Unanswered,
    ending: Ending,
    has_more_to_delete: bool,
    intake: Intake,
    log: AlertLog,
    announcer: Announcer,
    outbox: Outbox,
    budget_bytes: u64,
    counters: Arc<StoreCounters>,
    beats: StoreBeats,
    reports: ReportPacer,
    now_ms: fn() -> i64,
    started: Instant,
    ticked: Instant,
    deafness: Deafness,
}

/// Whether another turn follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    GoesOn,
    /// Everything is stored, or the disk does not take it: the process is ending.
    Ended,
}

impl PipelineLoop {
    pub fn new(parts: LoopParts) -> PipelineLoop {
        let LoopParts { pipeline, pacing, jobs, when_full, counters, outbox, beats, budget_bytes, now_ms } = parts;
        let now = clock::instant();
        PipelineLoop {
            pipeline,
            pacing,
            jobs,
            open: Open::default(),
            committing: Committing::default(),
            backlog: VecDeque::new(),
            begun: None,
            waits_for_room: false,
            clock: CommitClock::new(pacing.delays),
            commits_at_seal: 0,
            storing: Storing::Everything,
            unanswered: Unanswered::default(),
            ending: Ending::default(),
            has_more_to_delete: false,
            intake: Intake::new(when_full, Arc::clone(&counters)),
            log: AlertLog::new(),
            announcer: Announcer::new(outbox.clone(), pacing.unstored_after),
            outbox,
            budget_bytes,
            counters,
            beats,
            reports: ReportPacer::default(),
            now_ms,
            started: now,
            ticked: now,
            deafness: Deafness::default(),
        }
    }

    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            self.beats.pipeline.moved();
            if let Some(pause) = self.gathers_for(clock::instant()) {
                std::thread::sleep(pause);
            }
            let wait = self.next_turn().saturating_duration_since(clock::instant());
            let message = match receiver.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.turn(message, receiver) == Turn::Ended {
                return;
            }
        }
    }

    /// Handles a message and those that came with it, and does what is due.
    pub fn turn(&mut self, message: Option<Message>, receiver: &Receiver<Message>) -> Turn {
        self.listen(message, receiver);
        self.work();
        let now = clock::instant();
        self.look_at_disk(now);
        if now >= self.ticked + TICK {
            self.tick(now);
        }
        self.announce(now);
        self.tell_log();
        let is_stopping = self.ending.until.is_some();
        if is_stopping && !self.ending.is_last && self.backlog.is_empty() {
            self.ending.is_last = true;
            self.pipeline.request_final_snapshot();
        }
        if !self.clock.is_busy() && self.may_seal() && (is_stopping || self.is_due(now)) {
            if self.has_work() {
                self.seal();
            } else if is_stopping && self.backlog.is_empty() {
                self.log.end();
                return Turn::Ended;
            } else {
                // A cursor that was saved while a commit was tried in vain.
                self.clock.rests();
            }
        }
        if self.is_abandoned(now) {
            self.counters.abandon(self.committing.readings + u64::from(self.pipeline.open_readings()));
            return Turn::Ended;
        }
        Turn::GoesOn
    }

    #[cfg(test)]
    pub fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    #[cfg(test)]
    pub fn open_bytes(&self) -> usize {
        self.pipeline.open_bytes()
    }

    /// When the next turn is due even if no message comes.
    pub fn next_turn(&self) -> Instant {
        if self.may_work() { clock::instant() } else { self.deadline() }
    }

    /// How long to pause before the next turn.
    pub fn gathers_for(&self, now: Instant) -> Option<Duration> {
        self.is_gathering(now).then_some(GATHER_PAUSE)
    }

    fn listen(&mut self, message: Option<Message>, receiver: &Receiver<Message>) {
        if let Some(message) = message {
            self.take(message);
        }
        // Everything that came meanwhile, before it is checked whether the batch is due.
        for _ in 0..MESSAGES_A_TURN {
            if self.is_enough() || !self.backlog.is_empty() {
                break;
            }
            match receiver.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
    }

    /// Readings come one by one and may wait for each other. Waking the thread for each would cost more than handling it, so the thread
    /// sleeps for a moment, during which messages do not wake it.
    fn is_gathering(&self, now: Instant) -> bool {
        self.clock.is_gathering(self.since_start(now), self.pipeline.open_count())
            && self.backlog.is_empty()
            && !self.is_enough()
            && self.ending.until.is_none()
            && self.pipeline.open_alerts().is_empty()
    }

    fn is_enough(&self) -> bool {
        self.clock.is_enough(self.pipeline.open_count()) || self.pipeline.open_bytes() >= CLOSED_AT_BYTES
    }

    fn announce(&mut self, now: Instant) {
        self.announcer.publish_unstored(&self.pipeline.take_unstored_alerts());
        self.announcer.note(self.pipeline.open_alerts(), now);
        self.announcer.overdue(now, |key| self.pipeline.differs_from_store(key));
    }

    /// Makes the next commit come soon.
    fn hurry(&mut self) {
        self.clock.waits(self.elapsed(), Urgency::Urgent);
    }

    fn elapsed(&self) -> Duration {
        self.since_start(clock::instant())
    }

    /// Time as the commit clock counts it.
    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    fn moment(&self) -> Moment {
        let steady_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { wall_ms: (self.now_ms)(), steady_ms }
    }

    fn has_work(&self) -> bool {
        self.pipeline.open_count() > 0
            || self.pipeline.is_snapshot_open()
            || !self.pipeline.open_alerts().is_empty()
            || self.pipeline.has_rule_messages()
            || !self.open.input.is_empty()
            || self.open.damaged.is_some()
            || self.has_more_to_delete
            || !self.open.waiting.sessions.is_empty()
            || !self.open.answers.is_empty()
    }

    /// When the loop has to run again even if no message comes.
    fn deadline(&self) -> Instant {
        let mut deadline = self.ticked + TICK;
        if let Some(until) = self.ending.until {
            deadline = deadline.min(until.max(clock::instant() + GATHER_PAUSE));
        }
        if let Some(overdue) = self.announcer.deadline() {
            deadline = deadline.min(overdue);
        }
        if let Some(due) = self.due_at().filter(|_| !self.clock.is_busy()) {
            deadline = deadline.min(due);
        }
        deadline
    }

    fn due_at(&self) -> Option<Instant> {
        self.clock.due_at(self.pipeline.open_count()).map(|due| self.started + due)
    }

    /// Whether the open batch has to be sealed; with an alert in it, at once.
    fn is_due(&self, now: Instant) -> bool {
        self.is_enough() || !self.pipeline.open_alerts().is_empty() || self.due_at().is_some_and(|due| due <= now)
    }

    fn seal(&mut self) {
        let Open { mut input, waiting, answers, damaged, bytes } = std::mem::take(&mut self.open);
        input.sealed = self.pipeline.seal();
        let waiting = Arc::new(waiting);
        let readings = input.sealed.of(Stream::RAW).map(|batch| u64::from(batch.count)).sum();
        let is_deleting = std::mem::take(&mut self.has_more_to_delete);
        let messages = self.pipeline.take_rule_messages();
        self.committing =
            Committing { waiting: Arc::clone(&waiting), bytes, readings, messages, is_deleting, is_given_up: false };
        self.intake.sealed();
        self.announcer.sealed();
        self.clock.sealed(self.elapsed(), bytes);
        self.commits_at_seal = self.counters.commits.get();
        self.beats.committer.moved();
        self.jobs.send(Job { input, waiting, answers, damaged }).expect("the committer outlives the pipeline thread");
    }
}
