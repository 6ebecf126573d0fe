//! What a forwarder shows of itself, and what it is told.

use std::sync::{Arc, Mutex};

use crate::core::identity::Stream;
use crate::counter::Counter;

/// A (sink, stream) and what its forwarder shows.
#[derive(Clone, Debug)]
pub struct SinkSource {
    pub sink: String,
    pub stream: Stream,
    pub kind: &'static str,
    pub status: Arc<ForwardStatus>,
}

/// Whether a forwarder may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Up,
    /// Cut on purpose: nothing is sent, the store buffers.
    Down,
    /// The process ends: send what is committed, then return.
    Ending,
}

impl Link {
    pub fn is_down(self) -> bool {
        self == Link::Down
    }
}

/// One (sink, stream), for the status and the metrics. What the ledger counts is not here: that is in the store.
#[derive(Debug, Default)]
pub struct ForwardStatus {
    pub records_sent: Counter,
    pub records_retried: Counter,
    pub records_rejected: Counter,
    /// Bodies of requests, repeats included; of an archive, what was written to its files.
    pub sent_bytes: Counter,
    /// Of a sink that takes a part: what it did not send, and counts as delivered.
    pub passed_over: Counter,
    /// Of an archive: the oldest ones, for its cap or for the disk, while this stream's were written.
    pub files_removed: Counter,
    last_error: Mutex<Option<String>>,
}

impl ForwardStatus {
    pub fn set_error(&self, error: Option<String>) {
        *self.last_error.lock().expect("nothing panics while it is held") = error;
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().expect("nothing panics while it is held").clone()
    }
}
