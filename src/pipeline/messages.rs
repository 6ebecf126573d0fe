//! What the pipeline thread is told.

use std::sync::mpsc::Sender;
use std::time::Instant;

use super::operation::{Answer, Operation};
use crate::handoff::Input;
use crate::store::cursors::CursorChange;
use crate::store::reader::FileId;
use crate::store::salvage::Salvaged;

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
