//! What the status says of each `[[file]]`.

use serde::Serialize;

use crate::core::files::{Counts, FileLine};
use crate::files::status::{FilesSource, FilesView};

/// One `[[file]]`; counts are since the start.
#[derive(Debug, Serialize)]
pub struct InputStatus {
    /// As configured.
    pub path: String,
    /// Bytes of the files that are read, and how many of them are not stored yet.
    pub size_bytes: u64,
    pub lag_bytes: u64,
    /// Lines that are stored.
    pub lines: u64,
    /// Lines that no route takes, or that could not be decoded.
    pub lines_refused: u64,
    pub lines_too_long: u64,
    /// When the newest line was read.
    pub newest_line_ms: Option<i64>,
    /// Files that were cut, or went away, with what was written after the last look: nobody can know what that was.
    pub cuts: u64,
    pub vanished: u64,
    /// Bytes that were seen, and were cut or deleted before they were read.
    pub lost_bytes: u64,
    /// Deleted files that were let go before they were read, because they were held too long or took too much room.
    pub let_go: u64,
    /// Copies that were recognised and are not read again.
    pub copies: u64,
    pub hole_bytes: u64,
    /// Compressed files that cannot be unpacked as a whole.
    pub damaged: u64,
    /// Files that could not be opened or read, once each look.
    pub faults: u64,
    /// Why the folder cannot be listed.
    pub last_error: Option<String>,
    /// The first hundred: those that are farthest behind, then those that were written to last.
    pub files: Vec<FileStatus>,
    pub files_total: usize,
}

/// One file.
#[derive(Debug, Serialize)]
pub struct FileStatus {
    pub path: String,
    /// `read`, `copy` of another one that is read, `cut` or `gone`.
    pub state: &'static str,
    /// Up to here its readings are stored. Of a compressed file, place and size are of what is in it.
    pub place: u64,
    pub size: u64,
    pub lag_bytes: u64,
    pub open: bool,
    /// It is compressed, and not all of it can be unpacked.
    pub damaged: bool,
}

impl InputStatus {
    pub fn of(source: &FilesSource) -> InputStatus {
        let FilesView { overview, counts, lines, lines_refused, newest_line_ms, damaged, last_error } = source.view();
        let Counts { too_long, cuts, vanished, lost_bytes, copies, hole_bytes, let_go, faults } = counts;
        let file = |line: FileLine| FileStatus {
            path: line.path,
            state: line.state,
            place: line.place,
            size: line.size,
            lag_bytes: line.lag_bytes,
            open: line.is_open,
            damaged: line.is_damaged,
        };
        InputStatus {
            path: source.path.clone(),
            size_bytes: overview.size,
            lag_bytes: overview.lag_bytes,
            lines,
            lines_refused,
            lines_too_long: too_long,
            newest_line_ms,
            cuts,
            vanished,
            lost_bytes,
            let_go,
            copies,
            hole_bytes,
            damaged,
            faults,
            last_error,
            files: overview.files.into_iter().map(file).collect(),
            files_total: overview.files_total,
        }
    }
}
