//! Files that others append lines to: which file is which after it was rotated, how far each has been read, and what is to be read next.
//!
//! A [`Follower`] looks after the files of one glob. It decides by what a [`FileSystem`] answers, and by the time that it is told. Each file
//! that it knows is a *generation*: what was written under one inode until the file was cut or deleted. Its place is the end of the last
//! whole line whose readings are committed, so it is stored in their transaction, and a file is read again from there whatever happens.
//!
//! A generation is recognised by its inode and by what stands before its place, which is read and compared in the same call that reads what
//! follows. Where nothing tells what was there (a file cut or deleted between two looks), that is counted.

mod closing;
mod copies;
mod follower;
mod framing;
mod generation;
mod identity;
mod meeting;
mod overview;
mod place;
mod reading;
mod ready;
mod trail;

pub use follower::Follower;
pub use framing::Framing;
pub use identity::{FileId, Print};
pub use overview::{FileLine, Overview};
pub use place::{GenerationNumber, Mark, Packed, Place, PlaceChange, place_glob, place_key, place_number};
pub use reading::Portion;

/// What a file is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which one it is.
    pub file: FileId,
    /// Bytes that it has.
    pub size: u64,
    /// When it was written to.
    pub modified_ns: i64,
    /// It has a name still.
    pub is_linked: bool,
    /// If it is finished and compressed: what tells its content from any other. Size and bytes are those of what is in it.
    pub packed: Option<u64>,
    /// It is compressed, and not all of it can be unpacked.
    pub is_damaged: bool,
}

impl Stat {
    /// A file without anything in it.
    fn empty(file: FileId) -> Stat {
        Stat { file, size: 0, modified_ns: 0, is_linked: true, packed: None, is_damaged: false }
    }
}

/// A file of the glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// With its folder.
    pub path: String,
    /// What it is.
    pub stat: Stat,
}

/// What could not be done with a file, in a few words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// The files of one glob, as the system shows them.
pub trait FileSystem {
    /// An open file.
    type Handle;

    /// All files whose paths match.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    fn list(&mut self) -> Result<Vec<Seen>, Fault>;

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// If it is not there or may not be read.
    fn open(&mut self, path: &str) -> Result<Self::Handle, Fault>;

    /// What an open file is now.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    fn stat(&mut self, handle: &Self::Handle) -> Result<Stat, Fault>;

    /// Fills the buffer from this place on, as far as the file goes, and returns how far.
    ///
    /// # Errors
    ///
    /// If the disk cannot read it.
    fn read_at(&mut self, handle: &Self::Handle, offset: u64, buffer: &mut [u8]) -> Result<usize, Fault>;
}

/// Where to begin with files that are there when they are looked at for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With their first line.
    Beginning,
    /// With what is written from now on.
    End,
}

/// How files are followed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where lines end.
    pub framing: Framing,
    /// The first line of a file names its columns, and is none itself.
    pub has_header: bool,
    /// Where to begin at the very first look.
    pub start: Start,
    /// A last line without a newline is taken when nothing was written for so long.
    pub idle_ms: i64,
    /// A file that was rotated or deleted is read on for so long after the last write.
    pub grace_ms: i64,
    /// A file that is idle for so long is closed.
    pub close_after_ms: i64,
    /// What may be the beginning of a copy is taken for a file of its own when it has not grown for so long.
    pub copy_wait_ms: i64,
    /// What is known of a file that is gone is kept for so long, in case that it comes back.
    pub forget_after_ms: i64,
    /// Longer lines are left out.
    pub line_bytes_max: usize,
    /// Bytes of one turn of a file.
    pub turn_bytes: usize,
    /// Files that are open at the same time.
    pub open_max: usize,
    /// What is known of a deleted file is kept for so long, because a compressed copy of it may come.
    pub remember_deleted_ms: i64,
    /// Files that are gone and are known all the same.
    pub gone_max: usize,
    /// Bytes of deleted files that are kept on the disk by being open.
    pub held_bytes_max: u64,
    /// How many files without a name in the glob stay open.
    pub held_files_max: usize,
    /// And for how long each.
    pub held_ms_max: i64,
    /// For controls of tests only: what stands before a place is not compared, as if an inode told which file it is.
    pub trusts_inodes: bool,
    /// The same: a copy is recognised by the last place of its original only.
    pub keeps_no_trails: bool,
}

impl Settings {
    /// As it is done unless somebody says otherwise.
    pub fn new(framing: Framing) -> Settings {
        Settings {
            framing,
            has_header: false,
            start: Start::Beginning,
            idle_ms: 30_000,
            grace_ms: 10_000,
            close_after_ms: 300_000,
            copy_wait_ms: 10_000,
            forget_after_ms: 6 * 3_600_000,
            remember_deleted_ms: 0,
            line_bytes_max: 64 * 1024,
            turn_bytes: 64 * 1024,
            open_max: 128,
            gone_max: 4_096,
            held_bytes_max: 1 << 30,
            held_files_max: 256,
            held_ms_max: 3_600_000,
            trusts_inodes: false,
            keeps_no_trails: false,
        }
    }
}

/// What has happened, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that were too long and are left out.
    pub too_long: u64,
    /// Files that were cut while they were followed, with whatever was written between the last look and the cut.
    pub cuts: u64,
    /// Files that went away while they were not open: what was written after the last look is not known.
    pub vanished: u64,
    /// Bytes that were known to be there, and were cut or deleted before they were read.
    pub lost_bytes: u64,
    /// Copies that were recognised and are not read again.
    pub copies: u64,
    /// Bytes of zero that were passed over.
    pub hole_bytes: u64,
    /// Deleted files that were let go because they were held too long or took too much room.
    pub let_go: u64,
    /// Files that could not be opened or read, once each look.
    pub faults: u64,
}

/// What somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A file was cut: this many bytes that were seen are lost, and perhaps others that were not.
    Cut {
        /// The file.
        path: String,
        /// Bytes that were seen and not read.
        unread_bytes: u64,
    },
    /// A file went away while it was not open.
    Vanished {
        /// The file.
        path: String,
        /// Bytes that were seen and not read.
        unread_bytes: u64,
    },
    /// A deleted file was let go although it was not read to its end.
    LetGo {
        /// The file.
        path: String,
        /// Bytes that were not read.
        unread_bytes: u64,
    },
    /// A file is a copy of another one: what was read of that one is not read again.
    Known {
        /// The copy.
        path: String,
        /// What it is a copy of.
        original: String,
    },
    /// A copy of another file goes on where that one was cut.
    Copy {
        /// The copy.
        path: String,
        /// What it is a copy of.
        original: String,
    },
    /// A line was too long.
    TooLong {
        /// The file.
        path: String,
        /// Where the line begins.
        offset: u64,
    },
    /// A file could not be opened or read.
    Fault {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}

#[cfg(test)]
mod compressed;
#[cfg(test)]
mod copied;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod twenty;
