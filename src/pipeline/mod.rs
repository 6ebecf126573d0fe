//! Two threads: the pipeline judges and fills the open batch, the committer makes the sealed one durable.
//!
//! They are two so that a disk that hangs stops neither detection nor alerts, and so that judging and fsync overlap. One sealed
//! batch is under way at a time: while the disk is busy the open batch grows, and the next commit carries more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod alert_log;
pub mod announce;
pub mod committer;
mod counters;
mod intake;
pub mod operation;
mod salvaging;
mod turns;
mod unanswered;
mod unstorable;

use self::alert_log::AlertLog;
use self::announce::Announcer;
pub use self::committer::CommittedSequences;
use self::committer::{Committer, Job, Pending, Waiting, damage};
pub use self::counters::{StoreCounters, Unstorable};
use self::intake::Intake;
use self::operation::{Answer, Operation, Outcome};
use self::unanswered::Unanswered;
use crate::core::batch::CLOSED_AT_BYTES;
use crate::core::detection::alert::{Moment, ReportPacer};
use crate::core::identity::Stream;
use crate::core::mqtt::pace::Urgency;
use crate::core::pipeline::commit_clock::{CommitClock, CommitDelays};
use crate::core::pipeline::{ClockNotice, Pipeline, Storing};
use crate::handoff::Input;
use crate::heartbeat::Beat;
use crate::mqtt::outbox::{Outbox, OwnMessage};
use crate::store::commit::CommitInput;
use crate::store::cursors::CursorChange;
use crate::store::reader::FileId;
use crate::store::retention;
use crate::store::salvage::Salvaged;
use crate::store::writer::Writer;

/// When a batch is sealed, once the commit before it has returned.
#[derive(Clone, Copy, Debug)]
pub struct CommitPacing {
    pub delays: CommitDelays,
    /// Acknowledges before the commit: what must never be, and what the tests of durability must notice.
    pub acknowledge_early: bool,
    /// An alert that waits longer than this for its commit is published all the same, and says so: a driver is told within seconds,
    /// whatever the disk does.
    pub unstored_after: Duration,
    /// A commit that is under way for longer has met a disk that hangs; for a quarter of it, where nobody can be heard any more.
    pub hung_after: Duration,
}

impl Default for CommitPacing {
    fn default() -> Self {
        CommitPacing {
            delays: CommitDelays { delay: Duration::from_millis(40), delay_max: Duration::from_secs(1), readings: 500 },
            acknowledge_early: false,
            unstored_after: Duration::from_secs(1),
            hung_after: Duration::from_secs(5),
        }
    }
}

/// All that the pipeline thread listens to.
#[derive(Debug)]
pub enum Message {
    Input(Input),
    Committed {
        /// There is more to be deleted, which rides on the next commit.
        has_more: bool,
    },
    /// The process is ending, and the disk does not take what was to be committed.
    Abandoned,
    Cursor(CursorChange),
    /// A reader has found this file damaged.
    Damaged(FileId),
    /// Out of a damaged store; the sender is dropped once it is durable.
    Salvaged {
        chunk: Vec<Salvaged>,
        committed: Sender<()>,
    },
    /// The gateway's own record, but for the fields that every record begins with.
    Gateway(Vec<u8>),
    Operate {
        operation: Operation,
        answer: Answer,
    },
    /// The process is to end by then: whoever could not be answered in time is let go.
    Draining {
        until: Instant,
    },
    /// The last message. After `until` a disk that hangs is not waited for.
    Shutdown {
        until: Instant,
    },
}

impl From<Input> for Message {
    fn from(input: Input) -> Self {
        Message::Input(input)
    }
}

/// How long the pipeline does not listen while readings gather; an alert is late by as much at the most.
const GATHER_PAUSE: Duration = Duration::from_millis(4);
/// How long cursors may lag when nothing else is committed.
const CURSOR_LINGER: Duration = Duration::from_secs(1);
/// Behind by so much, or with a commit under way for so long, we have not listened as devices expect.
const DEAF_AFTER: Duration = Duration::from_secs(3);
/// Messages that are taken before it is looked what has become due.
const MESSAGES_A_TURN: usize = 256;
/// How often time is noticed when nothing comes in: alerts clear, snapshots are due.
const TICK: Duration = Duration::from_millis(500);
/// The gateway's own retained message.
const STATUS_TOPIC: &str = "outrider/status";

pub struct StoreThreads {
    pub pipeline: JoinHandle<()>,
    pub committer: JoinHandle<()>,
}

/// What the threads are given.
pub struct StoreParts {
    pub writer: Writer,
    pub pipeline: Pipeline,
    pub pacing: CommitPacing,
    pub messages: (Sender<Message>, Receiver<Message>),
    pub committed: CommittedSequences,
    pub counters: Arc<StoreCounters>,
    pub outbox: Outbox,
    pub beats: StoreBeats,
    /// Of what all sessions may have waiting for their commit.
    pub budget_bytes: u64,
    pub now_ms: fn() -> i64,
}

/// That both threads move.
#[derive(Clone, Debug, Default)]
pub struct StoreBeats {
    pub pipeline: Beat,
    /// Nothing is expected of it between two commits.
    pub committer: Beat,
}

/// Starts both; they end after [`Message::Shutdown`], when everything submitted before it is durable.
pub fn spawn(parts: StoreParts) -> std::io::Result<StoreThreads> {
    let StoreParts {
        writer,
        pipeline,
        pacing,
        messages: (sender, receiver),
        committed,
        counters,
        outbox,
        beats,
        budget_bytes,
        now_ms,
    } = parts;
    // One job: the pipeline seals only when the committer is idle.
    let (jobs, next_job) = sync_channel::<Job>(1);
    counters.room_bytes.set(u64::MAX);
    if let (Ok(room), Ok(used)) = (writer.room(), retention::used_bytes(writer.connection())) {
        counters.room_bytes.set(room.left_for_raw(used));
    }
    let unfinished = writer.unfinished_salvages().unwrap_or_default();
    salvaging::start(&writer, &counters, &sender, unfinished);
    let when_full = writer.settings().capacity.when_full;
    let committer = Committer {
        writer,
        pipeline: sender,
        committed,
        counters: Arc::clone(&counters),
        beat: beats.committer.clone(),
    };
    let committer = std::thread::Builder::new().name("committer".to_owned()).spawn(move || committer.run(&next_job))?;
    let pipeline = std::thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
        let now = Instant::now();
        PipelineLoop {
            pipeline,
            pacing,
            jobs,
            open: Open::default(),
            committing: Committing::default(),
            backlog: VecDeque::new(),
            begun: None,
            clock: CommitClock::new(pacing.delays),
            busy: false,
            sealed: now,
            commits_at_seal: 0,
            slowest_commit: Duration::ZERO,
            storing: Storing::Everything,
            unanswered: Unanswered::default(),
            draining: None,
            stopping: None,
            is_refused_at_the_end: false,
            is_last: false,
            has_more_to_delete: false,
            intake: Intake {
                when_full,
                counters: Arc::clone(&counters),
                open_bytes: 0,
                committing_bytes: 0,
                begun_bytes: 0,
            },
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
        .run(&receiver);
    })?;
    Ok(StoreThreads { pipeline, committer })
}

/// What the next commit is to carry, beside what the pipeline has open.
#[derive(Default)]
struct Open {
    input: CommitInput,
    waiting: Waiting,
    answers: Vec<(Answer, Pending)>,
    damaged: Option<FileId>,
    /// Of the budget that all sessions share.
    bytes: u64,
}

/// What is under way to the disk.
#[derive(Default)]
struct Committing {
    waiting: Arc<Waiting>,
    bytes: u64,
    readings: u64,
    /// It takes too long: whoever waits for it is turned away.
    is_given_up: bool,
}

/// Whether a commit that takes long keeps us from listening.
#[derive(Debug, Default)]
struct Deafness(bool);

impl Deafness {
    /// Returns whether that begins or ends now: from there on silence is counted anew.
    fn changes(&mut self, is_deaf: bool) -> bool {
        std::mem::replace(&mut self.0, is_deaf) != is_deaf
    }
}

struct PipelineLoop {
    pipeline: Pipeline,
    pacing: CommitPacing,
    jobs: SyncSender<Job>,
    open: Open,
    committing: Committing,
    /// What sessions sent, in order, as long as the one before is not taken whole.
    backlog: VecDeque<Input>,
    /// How many readings of its first are taken, once some are.
    begun: Option<usize>,
    clock: CommitClock,
    busy: bool,
    /// When the batch that is under way was sealed.
    sealed: Instant,
    /// Commits that had returned by then.
    commits_at_seal: u64,
    /// Of the last few; it fades.
    slowest_commit: Duration,
    storing: Storing,
    unanswered: Unanswered,
    /// The process is ending, and has so long for it.
    draining: Option<Duration>,
    stopping: Option<Instant>,
    is_refused_at_the_end: bool,
    /// Everything that was sent is taken: the next commit carries the state of the detectors.
    is_last: bool,
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

impl PipelineLoop {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            self.beats.pipeline.moved();
            if self.is_gathering(Instant::now()) {
                std::thread::sleep(GATHER_PAUSE);
            }
            let wait = match self.may_work() {
                true => Duration::ZERO,
                false => self.deadline().saturating_duration_since(Instant::now()),
            };
            match receiver.recv_timeout(wait) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Everything that came meanwhile, before it is looked whether the batch is due.
            for _ in 0..MESSAGES_A_TURN {
                if self.is_enough() || !self.backlog.is_empty() {
                    break;
                }
                match receiver.try_recv() {
                    Ok(message) => self.take(message),
                    Err(_) => break,
                }
            }
            self.work();
            let now = Instant::now();
            self.look_at_disk(now);
            if now >= self.ticked + TICK {
                self.tick(now);
            }
            self.announce(now);
            self.tell_log();
            if self.stopping.is_some() && !self.is_last && self.backlog.is_empty() {
                self.is_last = true;
                self.pipeline.request_final_snapshot();
            }
            if !self.busy && (self.stopping.is_some() || self.is_due(now)) {
                if self.has_work() {
                    self.seal();
                } else if self.stopping.is_some() && self.backlog.is_empty() {
                    self.log.end();
                    return;
                }
            }
            if self.is_abandoned(now) {
                self.counters.abandon(self.committing.readings + u64::from(self.pipeline.open_readings()));
                return;
            }
        }
    }

    /// Readings come one by one and may wait for each other. A wake-up for each would cost more than all else that is done with it, so
    /// the thread does not listen for a moment: a sleeping thread need not be woken.
    fn is_gathering(&self, now: Instant) -> bool {
        self.clock.is_gathering(now.saturating_duration_since(self.started), self.pipeline.open_count())
            && self.backlog.is_empty()
            && !self.is_enough()
            && self.stopping.is_none()
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

    fn take(&mut self, message: Message) {
        self.look_at_store();
        match message {
            Message::Input(input @ (Input::Submission(_) | Input::Farewell(_))) => {
                self.backlog.push_back(input);
                self.work();
            }
            Message::Input(Input::Acknowledge(seen)) => {
                if self.pipeline.acknowledge(&seen.key, &seen.by, self.moment()) {
                    self.outbox.put(announce::acknowledgement(&seen.key, &seen.by));
                    self.hurry();
                } else {
                    self.counters.acknowledgements_unknown.add(1);
                }
            }
            Message::Input(Input::Report(report)) => self.pipeline.report(&report, self.moment()),
            Message::Input(Input::Ping(ping)) => ping.answer(),
            Message::Committed { has_more } => {
                self.busy = false;
                self.committing = Committing::default();
                self.slowest_commit = (self.slowest_commit / 8 * 7).max(self.sealed.elapsed());
                if self.counters.hung.swap(false, Ordering::Relaxed) {
                    tracing::info!("the disk answers again");
                }
                self.announcer.committed(|key| self.pipeline.differs_from_store(key));
                self.intake.committed();
                self.look_at_store();
                if has_more {
                    self.has_more_to_delete = true;
                    self.hurry();
                }
            }
            Message::Abandoned => self.is_refused_at_the_end = true,
            Message::Cursor(change) => {
                if change.quarantined > 0 {
                    self.pipeline.report(&damage(), self.moment());
                }
                self.open.input.cursors.retain(|known| {
                    known.sink != change.sink || known.stream != change.stream || !known.is_replaceable()
                });
                self.open.input.cursors.push(change);
                self.clock.waits(self.started.elapsed() + CURSOR_LINGER, Urgency::Relaxed);
            }
            Message::Gateway(tail) => {
                let now = self.moment();
                let payload = self.pipeline.gateway_record(&tail, now).trim_ascii_end().to_vec();
                self.outbox.put(OwnMessage::state(STATUS_TOPIC.to_owned(), payload));
                self.clock.waits(self.started.elapsed() + CURSOR_LINGER, Urgency::Relaxed);
            }
            Message::Damaged(file) => {
                self.open.damaged = Some(file);
                self.hurry();
            }
            Message::Salvaged { chunk, committed } => {
                self.open.input.salvaged.extend(chunk);
                self.open.waiting.salvage.push(committed);
                self.hurry();
            }
            Message::Operate { operation, answer } => self.operate(operation, answer),
            Message::Draining { until } => {
                let now = Instant::now();
                self.draining = Some(until.saturating_duration_since(now));
                self.turn_away(now);
            }
            Message::Shutdown { until } => {
                self.stopping = Some(until);
                if self.storing != Storing::Nothing {
                    let now = self.moment();
                    self.pipeline.store_alerts(now);
                }
                self.counters.ending.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Answered with the commit that makes it durable.
    fn operate(&mut self, operation: Operation, answer: Answer) {
        tracing::info!("the operator asks: {operation}");
        let now = self.moment();
        let pending = match &operation {
            Operation::ForgetSeries { device, metric } => {
                match self.pipeline.forget_series(device, metric.as_deref(), now) {
                    0 => Pending::Outcome(Outcome::Unknown(
                        "no such series is watched, and no alert is about it".to_owned(),
                    )),
                    count => Pending::Outcome(Outcome::Done(format!("forgot {count} series"))),
                }
            }
            Operation::ClearAlert(key) => Pending::Outcome(match self.pipeline.clear_alert(key, now) {
                true => Outcome::Done("cleared".to_owned()),
                false => Outcome::Unknown("no such alert is raised".to_owned()),
            }),
            Operation::DropSink(name) => {
                self.open.input.dropped_sinks.push(name.clone());
                Pending::DroppedSink(name.clone())
            }
        };
        self.open.answers.push((answer, pending));
        self.hurry();
    }

    fn tell_log(&mut self) {
        let (news, more) = self.pipeline.take_news();
        if more > 0 || !news.is_empty() {
            self.log.alerts(&news, more, self.moment().steady_ms);
        }
    }

    /// Something waits for the next commit that is to come soon.
    fn hurry(&mut self) {
        self.clock.waits(self.started.elapsed(), Urgency::Urgent);
    }

    fn tick(&mut self, now: Instant) {
        let is_behind = now > self.ticked + DEAF_AFTER;
        self.ticked = now;
        // Who waits for an answer sends nothing more. Once they are turned away everybody is heard, however long the disk hangs.
        let is_deaf = self.busy && now > self.sealed + DEAF_AFTER && !self.committing.is_given_up;
        if is_behind | self.deafness.changes(is_deaf) {
            // Nor is who could not be listened to, because the disk or all of us stood still.
            self.pipeline.listen_from(self.moment());
        }
        self.watch_clocks();
        self.pipeline.tick(self.moment());
        self.log.tick(self.moment().steady_ms);
        if self.has_work() || self.pipeline.is_snapshot_open() {
            self.clock.waits(self.started.elapsed(), Urgency::Relaxed);
        }
        self.intake.look_again();
        self.counters.series.set(self.pipeline.monitor().series_count() as u64);
        self.counters.readings_unwatched.set(self.pipeline.monitor().over_cap_readings());
        self.counters.anomalies.set(self.pipeline.flagged());
        self.counters.alerts_unraised.set(self.pipeline.alerts_unraised());
        self.counters.raised_unstored.set(self.pipeline.raised_unstored());
        self.counters.alerts_raised.set(self.pipeline.alerts_raised() as u64);
    }

    /// A line for each clock that is wrong, and one when it is right again.
    fn watch_clocks(&mut self) {
        if let Some(jump_ms) = self.pipeline.watch_own_clock(self.moment()) {
            tracing::warn!(jump_ms, "the gateway's own clock was set");
        }
        for ClockNotice { device, fault, offset_ms } in self.pipeline.take_clock_notices() {
            match fault {
                Some(fault) => tracing::warn!(
                    device,
                    fault = fault.name(),
                    offset_ms,
                    "the clock of a device is wrong: its readings are judged by the gateway's clock"
                ),
                None => tracing::info!(device, "the clock of a device is right again, or not heard any more"),
            }
        }
    }

    fn moment(&self) -> Moment {
        let steady_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { wall_ms: (self.now_ms)(), steady_ms }
    }

    fn has_work(&self) -> bool {
        self.pipeline.open_count() > 0
            || self.pipeline.is_snapshot_open()
            || !self.pipeline.open_alerts().is_empty()
            || !self.open.input.is_empty()
            || self.open.damaged.is_some()
            || self.has_more_to_delete
            || !self.open.waiting.sessions.is_empty()
            || !self.open.answers.is_empty()
    }

    /// When the loop has to look again although nothing has come.
    fn deadline(&self) -> Instant {
        let mut deadline = self.ticked + TICK;
        if let Some(until) = self.stopping {
            deadline = deadline.min(until.max(Instant::now() + GATHER_PAUSE));
        }
        if let Some(overdue) = self.announcer.deadline() {
            deadline = deadline.min(overdue);
        }
        if let Some(due) = self.due_at().filter(|_| !self.busy) {
            deadline = deadline.min(due);
        }
        deadline
    }

    fn due_at(&self) -> Option<Instant> {
        self.clock.due_at(self.pipeline.open_count()).map(|due| self.started + due)
    }

    /// An alert waits for nobody.
    fn is_due(&self, now: Instant) -> bool {
        self.is_enough() || !self.pipeline.open_alerts().is_empty() || self.due_at().is_some_and(|due| due <= now)
    }

    fn seal(&mut self) {
        let Open { mut input, waiting, answers, damaged, bytes } = std::mem::take(&mut self.open);
        input.sealed = self.pipeline.seal();
        for (_, batch) in input.salvaged.iter_mut().filter_map(|salvaged| salvaged.batch.as_mut()) {
            batch.last_sequence = self.pipeline.give_sequences(batch.stream, batch.count);
        }
        let waiting = Arc::new(waiting);
        let readings = input.sealed.of(Stream::Raw).map(|batch| u64::from(batch.count)).sum();
        self.committing = Committing { waiting: Arc::clone(&waiting), bytes, readings, is_given_up: false };
        self.has_more_to_delete = false;
        self.intake.sealed();
        self.announcer.sealed();
        self.clock.sealed();
        self.busy = true;
        self.sealed = Instant::now();
        self.commits_at_seal = self.counters.commits.get();
        self.beats.committer.moved();
        self.jobs.send(Job { input, waiting, answers, damaged }).expect("the committer outlives the pipeline thread");
    }
}

#[cfg(test)]
mod tests {
    use super::Deafness;

    #[test]
    fn silence_is_counted_anew_where_deafness_begins_and_ends_and_not_all_the_while() {
        let mut deafness = Deafness::default();
        let anew = [false, true, true, true, false, false].map(|is_deaf| deafness.changes(is_deaf));
        assert_eq!(anew, [false, true, false, false, true, false]);
    }
}
