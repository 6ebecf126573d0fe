//! What a forwarder reports, and what it is told.

use std::sync::{Arc, Mutex};

use super::resend::Wishes;
use crate::core::identity::Stream;
use crate::counter::Counter;

/// A (sink, stream) and what its forwarder reports.
#[derive(Clone, Debug)]
pub struct SinkSource {
    pub sink: String,
    pub stream: Stream,
    pub stream_name: Arc<str>,
    pub kind: &'static str,
    pub status: Arc<ForwardStatus>,
}

/// Whether a forwarder may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Up,
    /// Cut on purpose: nothing is sent, and the store buffers.
    Down,
    /// The process is ending: send what is committed, then return.
    Ending,
}

impl Link {
    pub fn is_down(self) -> bool {
        self == Link::Down
    }
}

/// One (sink, stream), for the status and the metrics. What the ledger counts is in the store, not here.
#[derive(Debug, Default)]
pub struct ForwardStatus {
    pub records_sent: Counter,
    pub records_retried: Counter,
    pub records_rejected: Counter,
    /// Bytes of request bodies, repeats included; for an archive, bytes written to its files.
    pub sent_bytes: Counter,
    /// For an archive: the oldest files, removed for its size limit or for free disk space while this stream's files were written.
    pub files_removed: Counter,
    /// Records in them.
    pub records_removed: Counter,
    /// Dead letters that an operator wants to have sent again.
    pub wishes: Wishes,
    last_error: Mutex<Option<String>>,
    /// What is waited for, which is no fault.
    waiting: Mutex<Option<&'static str>>,
    keys_set_aside: Mutex<KeysSetAside>,
}

/// Partition keys whose records fail while others are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KeysSetAside {
    pub count: usize,
    /// The first few, by name.
    pub first: Vec<String>,
}

impl ForwardStatus {
    pub fn set_error(&self, error: Option<String>) {
        *self.last_error.lock().expect("nothing panics while it is held") = error;
    }

    pub fn set_waiting(&self, waiting: Option<&'static str>) {
        *self.waiting.lock().expect("nothing panics while it is held") = waiting;
    }

    /// What is waited for, such as a budget.
    pub fn waiting(&self) -> Option<&'static str> {
        *self.waiting.lock().expect("nothing panics while it is held")
    }

    pub fn set_keys_aside(&self, keys: KeysSetAside) {
        *self.keys_set_aside.lock().expect("nothing panics while it is held") = keys;
    }

    pub fn keys_set_aside(&self) -> KeysSetAside {
        self.keys_set_aside.lock().expect("nothing panics while it is held").clone()
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().expect("nothing panics while it is held").clone()
    }
}
