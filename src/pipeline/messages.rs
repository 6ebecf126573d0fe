//! Messages to the pipeline thread.

use std::sync::mpsc::Sender;
use std::time::Instant;

use tokio::sync::oneshot;

use super::operation::{Answer, Operation};
use super::overview::{Overview, SeriesLine};
use super::values::{DeviceLine, HeardQuestion, HeardValues, ValueLine};
use crate::core::detection::detectors::explanation::Explanation;
use crate::handoff::Input;
use crate::store::cursors::CursorChange;
use crate::store::reader::FileId;
use crate::store::salvage::Salvaged;

/// A message to the pipeline thread.
#[derive(Debug)]
pub enum Message {
    Input(Input),
    Committed {
        /// There is more to be deleted, with the next commit.
        has_more: bool,
    },
    /// The process is ending, and the disk does not accept the last commit.
    Abandoned,
    Cursor(CursorChange),
    /// A reader has found this file damaged.
    Damaged(FileId),
    /// Batches of a damaged store; `committed` is dropped once they are durable.
    Salvaged {
        chunk: Vec<Salvaged>,
        committed: Sender<()>,
    },
    /// The gateway's own record, without the fields that every record begins with.
    Gateway(Vec<u8>),
    Operate {
        operation: Operation,
        answer: Answer,
    },
    /// What is watched, and why.
    Overview {
        answer: oneshot::Sender<Overview>,
    },
    /// The series after this device and metric, in the order of their names.
    ListSeries {
        device: String,
        metric: String,
        answer: oneshot::Sender<Vec<SeriesLine>>,
    },
    /// What has been learned of a series; `None` if it is not watched.
    Explain {
        device: String,
        metric: String,
        answer: oneshot::Sender<Option<Explanation>>,
    },
    /// The devices after this one whose names contain a text.
    ListDevices {
        after: String,
        part: String,
        answer: oneshot::Sender<Vec<DeviceLine>>,
    },
    /// The newest values of the series after this device and metric, of one device or of all.
    ListValues {
        after: (String, String),
        device: Option<String>,
        answer: oneshot::Sender<Vec<ValueLine>>,
    },
    /// What has come since the last look.
    Heard {
        question: HeardQuestion,
        answer: oneshot::Sender<HeardValues>,
    },
    /// The process is to end by then: clients that cannot be answered in time are turned away.
    Draining {
        until: Instant,
    },
    /// The last message. After `until`, a disk that hangs is no longer waited for.
    Shutdown {
        until: Instant,
    },
}

impl From<Input> for Message {
    fn from(input: Input) -> Self {
        Message::Input(input)
    }
}
