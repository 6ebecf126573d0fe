//! Which file is which: by device, inode and time of birth, by what it begins with, and by what stands before the place that is reached.

use serde::{Deserialize, Serialize};

use crate::fnv;

/// At most this much of the beginning tells a file from others.
pub const HEAD_BYTES_MAX: usize = 1024;
/// At most this much before a place tells whether it is still the same file there.
pub const TAIL_BYTES_MAX: usize = 256;

/// What the system calls a file. An inode is used again as soon as nothing refers to it, so this alone says little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// When the file was created, where the file system knows that.
    pub born_ns: Option<i64>,
}

impl FileId {
    /// Whether both may be the same file.
    pub fn may_be(&self, other: &FileId) -> bool {
        let is_born_alike = self.born_ns.is_none() || other.born_ns.is_none() || self.born_ns == other.born_ns;
        (self.device, self.inode) == (other.device, other.inode) && is_born_alike
    }
}

/// The hash of some bytes, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// How many bytes.
    pub length: u32,
    /// Their hash.
    pub hash: u64,
}

impl Print {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Print {
        Print { length: u32::try_from(bytes.len()).expect("a few hundred bytes"), hash: fnv::fold(fnv::BASIS, bytes) }
    }

    /// Of the first 0, 1, 2 and so on of these bytes.
    pub fn of_beginnings(bytes: &[u8]) -> Vec<Print> {
        let next = |print: &Print, byte: &u8| Print { length: print.length + 1, hash: fnv::fold(print.hash, &[*byte]) };
        let mut prints = vec![Print::of(b"")];
        for byte in bytes {
            let last = prints.last().expect("there is one");
            prints.push(next(last, byte));
        }
        prints
    }

    /// Of the last bytes of these.
    pub fn of_end(bytes: &[u8]) -> Print {
        Print::of(&bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..])
    }

    /// Whether bytes that have this length are the same.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.bytes() == bytes.len() && (bytes.is_empty() || *self == Print::of(bytes))
    }

    /// How many bytes, for indices.
    pub fn bytes(&self) -> usize {
        self.length as usize
    }
}

/// What is common to the names of a file and its rotations: `x.log`, `x.log.1`, `x-20261130.log` and `x.log.2.gz` are of one family.
pub fn family(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut name = name;
    loop {
        let shorter = name.trim_end_matches(|c: char| c.is_ascii_digit() || "._-~".contains(c));
        let shorter =
            [".gz", ".old", ".bak", ".orig"].iter().fold(shorter, |name, end| name.strip_suffix(end).unwrap_or(name));
        if shorter == name {
            break;
        }
        name = shorter;
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) => {
            let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit() || "._-".contains(c));
            format!("{folder}/{stem}.{extension}")
        }
        None => format!("{folder}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_of_a_file_are_of_its_family_and_other_files_are_not() {
        for name in
            ["x.log", "x.log.1", "x.log.12", "x-20261130.log", "x.log-2026-11-30", "x.log.2.gz", "x.log.old", "x.log~"]
        {
            assert_eq!(family(&format!("/d/{name}")), "/d/x.log", "{name}");
        }
        for name in ["/d/y.log", "/e/x.log", "/d/x.csv", "/d/x"] {
            assert_ne!(family(name), "/d/x.log", "{name}");
        }
    }

    #[test]
    fn a_print_is_of_its_bytes_and_no_others() {
        let print = Print::of(b"abc");
        assert!(print.is_of(b"abc") && !print.is_of(b"abd") && !print.is_of(b"ab"));
        assert_eq!(Print::of_beginnings(b"abc")[3], print);
        assert!(Print::default().is_of(b"") && Print::of(b"").is_of(b""));
    }

    #[test]
    fn a_birth_that_is_not_known_is_no_difference() {
        let file = |inode, born_ns| FileId { device: 1, inode, born_ns };
        assert!(file(1, None).may_be(&file(1, Some(5))) && file(1, Some(5)).may_be(&file(1, Some(5))));
        assert!(!file(1, Some(4)).may_be(&file(1, Some(5))) && !file(1, None).may_be(&file(2, None)));
    }
}
