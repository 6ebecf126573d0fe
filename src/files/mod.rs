//! Files on this machine as input: each `[[file]]` is a thread that looks at the files of its glob once a second, reads whole lines, has the
//! routes make readings of them, and hands these to the pipeline like a client would.
//!
//! What is to be read, and which file is which, is decided by [`crate::core::files`]. The place of a file is stored in the commit of its
//! readings, so each line is stored once. A thread has one submission under way: the next one is made when the fate of the last is known.
//! So a pipeline that is full stops the reading, and a refusal is followed by nothing that was stored.

mod folder;
mod lines;
mod packed;
mod pread;
mod refused;
pub mod status;
mod telling;
mod thread;

use std::path::PathBuf;

pub use lines::{Content, Pattern, PatternError, TopicText, compile};
pub use thread::{FilesParts, FilesThread, start};

use crate::core::files::Settings;

/// One `[[file]]`.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// As configured: its places in the store are under this name.
    pub path: String,
    pub folder: PathBuf,
    /// In which `*` stands for any text.
    pub names: String,
    pub topic: TopicText,
    pub content: Content,
    pub follow: Settings,
}

impl FileSettings {
    /// How many file descriptors it may need.
    pub fn descriptors(&self) -> u64 {
        // One more for the folder, and two for what is being unpacked.
        (self.follow.open_max + self.follow.held_files_max + 3) as u64
    }
}
