//! Two threads: the pipeline judges and fills the open batch, the committer makes the sealed one durable.
//!
//! They are two so that a disk that hangs stops neither detection nor alerts, and so that judging and fsync overlap. One sealed
//! batch is under way at a time: while the disk is busy the open batch grows, and the next commit carries more.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::cursors::CursorChange;
use super::schema;
use super::writer::{CommitInput, CommitReport, Writer};
use crate::core::identity::Stream;
use crate::core::pipeline::Pipeline;
use crate::handoff::{Input, SessionProgress, Submission, Undecodable};

/// When a batch is sealed, once the commit before it has returned.
#[derive(Clone, Copy, Debug)]
pub struct CommitPacing {
    /// The longest that a reading waits for others.
    pub linger: Duration,
    /// So many readings are enough not to wait at all.
    pub readings: u32,
    /// Acknowledges before the commit: what must never be, and what the tests of durability must notice.
    pub acknowledge_early: bool,
}

impl Default for CommitPacing {
    fn default() -> Self {
        CommitPacing { linger: Duration::from_millis(10), readings: 500, acknowledge_early: false }
    }
}

/// All that the pipeline thread listens to.
#[derive(Debug)]
pub enum Message {
    Input(Input),
    Committed,
    Cursor(CursorChange),
    Shutdown,
}

impl From<Input> for Message {
    fn from(input: Input) -> Self {
        Message::Input(input)
    }
}

/// What is durable, for the forwarders; updated after each commit.
#[derive(Debug)]
pub struct CommittedSequences {
    pub raw: watch::Sender<u64>,
    pub anomalies: watch::Sender<u64>,
}

/// Sessions to be told and budget to be given back once a batch is durable.
#[derive(Debug, Default)]
struct Waiting {
    sessions: Vec<(Arc<SessionProgress>, u64)>,
    permits: Vec<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Job {
    input: CommitInput,
    waiting: Waiting,
}

/// How often the committer tries again when the store cannot be written.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long cursors may lag when nothing else is committed.
const CURSOR_LINGER: Duration = Duration::from_secs(1);

pub struct StoreThreads {
    pub pipeline: JoinHandle<()>,
    pub committer: JoinHandle<()>,
}

/// Starts both; they end after [`Message::Shutdown`], when everything submitted before it is durable.
pub fn spawn(
    writer: Writer,
    pipeline: Pipeline,
    pacing: CommitPacing,
    (sender, receiver): (Sender<Message>, Receiver<Message>),
    committed: CommittedSequences,
    on_commit: impl Fn(&CommitReport, Duration) + Send + 'static,
) -> std::io::Result<StoreThreads> {
    // One job: the pipeline seals only when the committer is idle.
    let (jobs, next_job) = sync_channel::<Job>(1);
    let committer = std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
        commit_jobs(writer, &next_job, &sender, &committed, &on_commit);
    })?;
    let pipeline = std::thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
        PipelineLoop {
            pipeline,
            pacing,
            jobs,
            open: Job { input: CommitInput::default(), waiting: Waiting::default() },
            oldest: None,
            busy: false,
        }
        .run(&receiver);
    })?;
    Ok(StoreThreads { pipeline, committer })
}

struct PipelineLoop {
    pipeline: Pipeline,
    pacing: CommitPacing,
    jobs: SyncSender<Job>,
    open: Job,
    /// When the first thing in the open batch came, and how long it may wait.
    oldest: Option<Instant>,
    busy: bool,
}

impl PipelineLoop {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut stopping = false;
        loop {
            let message = match self.deadline() {
                Some(deadline) => match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                None => match receiver.recv() {
                    Ok(message) => Some(message),
                    Err(_) => return,
                },
            };
            stopping |= message.is_some_and(|message| self.take(message));
            if !self.busy && (stopping || self.is_due()) {
                if self.has_work() {
                    self.seal();
                } else if stopping {
                    return;
                }
            }
        }
    }

    /// Returns whether it was the call to stop.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Input(Input::Submission(submission)) => self.submission(submission),
            Message::Input(Input::Acknowledge(_)) => {}
            Message::Committed => self.busy = false,
            Message::Cursor(change) => {
                self.open.input.cursors.retain(|known| {
                    known.sink != change.sink || known.stream != change.stream || !known.dead_letters.is_empty()
                });
                self.open.input.cursors.push(change);
                self.oldest.get_or_insert_with(|| Instant::now() + CURSOR_LINGER - self.pacing.linger);
            }
            Message::Shutdown => return true,
        }
        false
    }

    fn submission(&mut self, submission: Submission) {
        let Submission { session, through, readings, undecodable, permit } = submission;
        let stores_something = !readings.is_empty() || !undecodable.is_empty();
        if !stores_something && !self.busy && !self.has_work() {
            // Nothing of this session can be waiting for the disk: it is answered at once.
            session.commit_through(through);
            return;
        }
        if self.pacing.acknowledge_early {
            session.commit_through(through);
        }
        let now = Instant::now();
        // A cursor update may have set a later date: a reading never waits for it.
        self.oldest = Some(self.oldest.map_or(now, |oldest| oldest.min(now)));
        self.pipeline.take(&readings);
        self.open.input.undecodable.extend::<Vec<Undecodable>>(undecodable);
        self.open.waiting.sessions.push((session, through));
        self.open.waiting.permits.extend(permit);
    }

    fn has_work(&self) -> bool {
        self.pipeline.open_count() > 0 || !self.open.input.is_empty() || !self.open.waiting.sessions.is_empty()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.busy { None } else { self.oldest.map(|oldest| oldest + self.pacing.linger) }
    }

    fn is_due(&self) -> bool {
        self.pipeline.open_count() >= self.pacing.readings
            || self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    fn seal(&mut self) {
        let mut job =
            std::mem::replace(&mut self.open, Job { input: CommitInput::default(), waiting: Waiting::default() });
        job.input.sealed = self.pipeline.seal();
        self.oldest = None;
        self.busy = true;
        self.jobs.send(job).expect("the committer outlives the pipeline thread");
    }
}

fn commit_jobs(
    mut writer: Writer,
    jobs: &Receiver<Job>,
    pipeline: &Sender<Message>,
    committed: &CommittedSequences,
    on_commit: &impl Fn(&CommitReport, Duration),
) {
    while let Ok(job) = jobs.recv() {
        let started = Instant::now();
        let report = commit_until_done(&mut writer, &job.input);
        for (session, through) in &job.waiting.sessions {
            session.commit_through(*through);
        }
        drop(job.waiting);
        for batch in job.input.sealed.batches() {
            let last = match batch.stream {
                Stream::Raw => &committed.raw,
                Stream::Anomalies => &committed.anomalies,
            };
            last.send_replace(batch.last_sequence);
        }
        on_commit(&report, started.elapsed());
        // The pipeline is gone only when the process is ending.
        let _ = pipeline.send(Message::Committed);
    }
    if let Err(error) = writer.checkpoint() {
        tracing::warn!(%error, "the store could not be checkpointed; the next start does it");
    }
}

/// Judged is judged: the same batch is tried until it commits, however long the disk takes to come back.
fn commit_until_done(writer: &mut Writer, input: &CommitInput) -> CommitReport {
    let mut failing = false;
    loop {
        match writer.commit(input) {
            Ok(report) => {
                if failing {
                    tracing::info!("the store can be written again");
                }
                return report;
            }
            Err(error) => {
                if !failing {
                    let full = schema::is_full(&error);
                    tracing::error!(%error, full, "the store cannot be written; readings wait unacknowledged until it can");
                }
                failing = true;
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }
}
