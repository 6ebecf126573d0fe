//! The hand-over between edge sessions and the pipeline thread.
//!
//! A session submits what it decoded from one socket read and learns, by ordinal, up to which of its publishes
//! everything is committed. The queue is bounded in bytes by one budget that all sessions share: a submission
//! holds its permits until its commit, and the semaphore is first come, first served, so no session starves another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::core::alert::{AlertKey, Report};
use crate::core::reading::Readings;

/// How far the commits of one session have come; shared by the session and the pipeline thread.
#[derive(Debug)]
pub struct SessionProgress {
    /// Of all that publish, which it is; from 1.
    number: u64,
    committed: AtomicU64,
    failed: AtomicBool,
    changed: Notify,
}

impl Default for SessionProgress {
    fn default() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        SessionProgress {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            committed: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }
}

impl SessionProgress {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Ordinal (1, 2, ...) of the last publish that is durable, with all before it.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// The pipeline refused a submission (store full under `refuse`, or shutting down): the session must close, unacknowledged.
    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub fn commit_through(&self, ordinal: u64) {
        self.committed.fetch_max(ordinal, Ordering::Release);
        self.changed.notify_one();
    }

    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Returns after a change since the last call; one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A publish that is acknowledged without being stored, because redelivery would not mend it.
#[derive(Debug)]
pub struct Undecodable {
    pub reason: &'static str,
    pub topic: String,
    /// At most the first 1 KiB of the payload.
    pub sample: Vec<u8>,
    pub received_at_ms: i64,
}

/// All that one socket read of one session gave.
#[derive(Debug)]
pub struct Submission {
    pub session: Arc<SessionProgress>,
    /// Ordinal of the last publish in it; publishes that need no storing count too, so that acknowledgements keep their order.
    pub through: u64,
    pub readings: Readings,
    pub undecodable: Vec<Undecodable>,
    /// What the session keeps until the commit, to fan it out then.
    pub held_bytes: usize,
    /// Share of the byte budget, given back when this is dropped after the commit.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// An acknowledgement of an alert by a person, `alerts/{device}/{metric}/{kind}/ack`.
#[derive(Debug)]
pub struct AlertAcknowledgement {
    pub key: AlertKey,
    pub by: String,
    /// Share of the byte budget, given back when this is dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// What the edge sends to the pipeline thread.
#[derive(Debug)]
pub enum Input {
    Submission(Submission),
    Acknowledge(AlertAcknowledgement),
    /// The client of the session with this number has said goodbye: nobody is to miss what it published for.
    Farewell(u64),
    /// Something is wrong with the gateway itself, or still is.
    Report(Report),
}

/// The sending half, cheap to clone.
///
/// The channel itself has no bound in items: its bound is the byte budget, without whose permits nothing is sent.
#[derive(Debug)]
pub struct PipelineHandle<T: From<Input>> {
    sender: mpsc::Sender<T>,
    budget: Arc<Semaphore>,
    budget_bytes: u32,
}

/// The pipeline thread is gone: the process is ending.
#[derive(Debug, PartialEq, Eq)]
pub struct PipelineGone;

/// What even an empty submission costs, so that floods of tiny ones are bounded as well.
const SUBMISSION_OVERHEAD_BYTES: usize = 512;
/// While less than this part of the budget is free, nobody reads on: what one read decodes to has to find room without waiting, or
/// every connection would keep its decoded read in memory beside the budget.
const ROOM_PART: u32 = 8;

impl<T: From<Input>> Clone for PipelineHandle<T> {
    fn clone(&self) -> Self {
        PipelineHandle {
            sender: self.sender.clone(),
            budget: Arc::clone(&self.budget),
            budget_bytes: self.budget_bytes,
        }
    }
}

impl<T: From<Input>> PipelineHandle<T> {
    pub fn new(sender: mpsc::Sender<T>, budget_bytes: u32) -> Self {
        PipelineHandle { sender, budget: Arc::new(Semaphore::new(budget_bytes as usize)), budget_bytes }
    }

    /// Queues if there is a share of the byte budget at once; else gives the submission back, for [`Self::submit`].
    pub fn try_submit(&self, mut submission: Submission) -> Result<Option<Submission>, PipelineGone> {
        match Arc::clone(&self.budget).try_acquire_many_owned(self.permits(&submission)) {
            Ok(permit) => {
                submission.permit = Some(permit);
                self.send(submission).map(|()| None)
            }
            Err(TryAcquireError::NoPermits) => Ok(Some(submission)),
            Err(TryAcquireError::Closed) => Err(PipelineGone),
        }
    }

    /// Waits for a share of the byte budget, then queues. The session reads nothing meanwhile: TCP is the back-pressure.
    pub async fn submit(&self, mut submission: Submission) -> Result<(), PipelineGone> {
        let budget = Arc::clone(&self.budget);
        let permit = budget.acquire_many_owned(self.permits(&submission)).await;
        submission.permit = Some(permit.map_err(|_| PipelineGone)?);
        self.send(submission)
    }

    /// Whether a session may read on.
    pub fn has_room(&self) -> bool {
        self.budget.available_permits() >= (self.budget_bytes / ROOM_PART) as usize
    }

    /// Waits in the line of those that wait for the budget.
    pub async fn wait_for_room(&self) -> Result<(), PipelineGone> {
        self.budget.acquire_many(self.budget_bytes / ROOM_PART).await.map(drop).map_err(|_| PipelineGone)
    }

    fn permits(&self, submission: &Submission) -> u32 {
        let samples: usize = submission.undecodable.iter().map(|u| u.topic.len() + u.sample.len()).sum();
        self.permits_for(submission.readings.grown_bytes() + samples + submission.held_bytes)
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        u32::try_from(SUBMISSION_OVERHEAD_BYTES + bytes).unwrap_or(u32::MAX).min(self.budget_bytes)
    }

    fn send(&self, submission: Submission) -> Result<(), PipelineGone> {
        self.sender.send(Input::Submission(submission).into()).map_err(|_| PipelineGone)
    }

    /// The client of this session has said goodbye. Without a permit: one for each connection that published, and of a few bytes.
    pub fn farewell(&self, session: &SessionProgress) -> Result<(), PipelineGone> {
        self.sender.send(Input::Farewell(session.number()).into()).map_err(|_| PipelineGone)
    }

    /// Something is wrong with the gateway itself. Without a permit: whoever reports paces it, with [`crate::core::alert::ReportPacer`].
    pub fn report(&self, report: Report) -> Result<(), PipelineGone> {
        self.sender.send(Input::Report(report).into()).map_err(|_| PipelineGone)
    }

    /// Whether there was room for it.
    pub fn acknowledge(&self, mut acknowledgement: AlertAcknowledgement) -> Result<bool, PipelineGone> {
        let AlertAcknowledgement { key: AlertKey { device, metric, kind }, by, .. } = &acknowledgement;
        let bytes = device.len() + metric.len() + kind.len() + by.len();
        let Ok(permit) = Arc::clone(&self.budget).try_acquire_many_owned(self.permits_for(bytes)) else {
            return Ok(false);
        };
        acknowledgement.permit = Some(permit);
        self.sender.send(Input::Acknowledge(acknowledgement).into()).map(|()| true).map_err(|_| PipelineGone)
    }
}
