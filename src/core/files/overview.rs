//! What is known of the files, for people.

use std::cmp::Reverse;

use super::follower::Follower;
use super::generation::{Generation, State};

/// The files of one glob at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Those that are farthest behind, then those that were written to last.
    pub files: Vec<FileLine>,
    /// How many are known.
    pub files_total: usize,
    /// Bytes of all that are read.
    pub size: u64,
    /// Bytes that were seen and are not stored yet.
    pub lag_bytes: u64,
}

/// A file that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// Where it was seen last.
    pub path: String,
    /// Up to here its readings are stored.
    pub place: u64,
    /// Its size at the last look. Of a compressed file, both are of what is in it.
    pub size: u64,
    /// Bytes that were seen and are not stored yet.
    pub lag_bytes: u64,
    /// In one word: `read`, `copy`, `cut` or `gone`.
    pub state: &'static str,
    /// Whether it is open.
    pub is_open: bool,
    /// It is compressed, and not all of it can be unpacked.
    pub is_damaged: bool,
}

impl<H> Follower<H> {
    /// What is known of the files, and this many of them.
    pub fn overview(&self, files_max: usize) -> Overview {
        let mut all: Vec<&Generation<H>> = self.generations.values().collect();
        let is_read = |one: &&&Generation<H>| one.state == State::Reading;
        let size = all.iter().filter(is_read).map(|one| one.size).sum();
        let lag_bytes_all = all.iter().map(|one| lag_bytes(one)).sum();
        let files_total = all.len();
        let order = |one: &&Generation<H>| Reverse((lag_bytes(one), one.modified_ns, one.number));
        if files_max < all.len() {
            all.select_nth_unstable_by_key(files_max, order);
            all.truncate(files_max);
        }
        all.sort_unstable_by_key(order);
        Overview { files: all.into_iter().map(line).collect(), files_total, size, lag_bytes: lag_bytes_all }
    }
}

fn line<H>(one: &Generation<H>) -> FileLine {
    FileLine {
        path: one.path.clone(),
        place: one.committed.offset,
        size: one.size,
        lag_bytes: lag_bytes(one),
        state: match one.state {
            // Another one may have its name by now.
            State::Reading if !one.is_listed() && lag_bytes(one) == 0 => "gone",
            State::Reading => "read",
            State::Copy { .. } => "copy",
            State::Cut { .. } => "cut",
            State::Gone { .. } => "gone",
        },
        is_open: one.handle.is_some(),
        is_damaged: one.is_damaged,
    }
}

fn lag_bytes<H>(one: &Generation<H>) -> u64 {
    if one.state == State::Reading { one.size.saturating_sub(one.committed.offset) } else { 0 }
}
