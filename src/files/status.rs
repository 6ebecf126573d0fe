//! What is known of a `[[file]]`, for the administration interface.

use std::sync::{Arc, Mutex};

use crate::core::files::{Counts, Overview};

/// At most this many files of each are shown: those that are farthest behind.
pub const FILES_SHOWN: usize = 100;

/// One `[[file]]`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct FilesSource {
    /// As configured.
    pub path: String,
    view: Arc<Mutex<FilesView>>,
}

/// How far its files are read, and what has happened since the start.
#[derive(Clone, Debug, Default)]
pub struct FilesView {
    pub overview: Overview,
    pub counts: Counts,
    /// Lines that are stored, and those that could not be decoded or that no route takes.
    pub lines: u64,
    pub lines_refused: u64,
    /// When the newest line was read.
    pub newest_line_ms: Option<i64>,
    /// Compressed files that cannot be unpacked as a whole.
    pub damaged: u64,
    /// Why the folder cannot be listed.
    pub last_error: Option<String>,
}

impl FilesSource {
    pub fn new(path: String) -> FilesSource {
        FilesSource { path, view: Arc::default() }
    }

    /// How it is now.
    pub fn view(&self) -> FilesView {
        self.view.lock().expect("nothing panics while it is held").clone()
    }

    pub(super) fn set(&self, view: &FilesView) {
        self.view.lock().expect("nothing panics while it is held").clone_from(view);
    }
}
