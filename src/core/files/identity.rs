//! Which file is which: by device, inode and time of birth, by what it begins with, and by what stands before the place that is reached.

use std::sync::Arc;

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

/// What the name of a file says of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// What is common to the names of a file and its rotations: `x.log`, `x.log.1`, `x-20261130.log` and `x.log.2.gz` are of one family. So is
    /// `x-7.log`, which may as well be another file.
    pub family: Arc<str>,
    /// What the family lacks: digits before the extension, and behind it.
    stem: String,
    tail: String,
    /// There is a point before the digits of the stem, which is said of rotations only.
    is_counted: bool,
}

/// So many digits are a date, or seconds since 1970.
const DATE_DIGITS: usize = 8;

impl Name {
    pub fn of(path: &str) -> Name {
        let family = family(path);
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let base = family.rsplit_once('/').map_or(&*family, |(_, name)| name);
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let (bare, extension) = base.rsplit_once('.').unwrap_or((base, ""));
        let behind = name.strip_prefix(bare).unwrap_or_default();
        // What stands before the extension, and behind it.
        let (between, after) = match extension {
            // `messages.1` and `messages-20261130` are rotations, and `pump-7` is another file than `pump-8`.
            "" if behind.starts_with('.') || is_date(&digits(behind)) => ("", behind),
            "" => (behind, ""),
            _ => behind.split_once(&format!(".{extension}")).unwrap_or((behind, "")),
        };
        let (is_counted, stem, tail) = (between.starts_with('.'), digits(between), digits(after));
        Name { family: family.into(), stem, tail, is_counted }
    }

    /// Whether a file of this name may be a copy of one of that name. Two files that differ in a number are two files: `pump-7.log` and
    /// `pump-8.log`, or those of two days.
    pub fn may_be_copy_of(&self, original: &Name, is_compressed: bool) -> bool {
        let is_rotation = is_compressed || self.is_counted || is_date(&self.stem);
        let fits_stem = self.stem == original.stem || original.stem.is_empty() && is_rotation;
        // Between two looks `x.log.1` may become `x.log.2`, and a day stays what it is.
        let may_have_moved = !is_date(&original.tail);
        self.family == original.family && fits_stem && (self.tail == original.tail || may_have_moved)
    }
}

fn is_date(digits: &str) -> bool {
    digits.len() >= DATE_DIGITS
}

fn family(path: &str) -> String {
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
    fn what_differs_in_a_number_is_no_copy_unless_rotations_do() {
        let may_be = |copy: &str, original: &str| {
            let name = |name: &str| Name::of(&format!("/d/{name}"));
            name(copy).may_be_copy_of(&name(original), copy.ends_with(".gz"))
        };
        for (copy, original) in [
            ("x.log.1", "x.log"),
            ("x.log.2.gz", "x.log.1"),
            ("x.log.1.gz", "x.log.1"),
            ("x-20261130.log", "x.log"),
            ("x.log-20261130", "x.log"),
            ("x.log-20261130.gz", "x.log-20261130"),
            ("x.1.log", "x.log"),
            ("x-1.log.gz", "x.log"),
            ("x-2026-11-30-1.log.gz", "x.log"),
            ("pump-7.log.1", "pump-7.log"),
            ("pump-7.log.2.gz", "pump-7.log.1"),
            ("messages.1", "messages"),
            ("messages-20261130", "messages"),
            ("x.log.2", "x.log.1"),
            ("x.log.1.bak", "x.log.1"),
        ] {
            assert!(may_be(copy, original), "{copy} {original}");
        }
        for (copy, original) in [
            ("pump-8.log", "pump-7.log"),
            ("pump-8.log.1.gz", "pump-7.log.1"),
            ("pump-8.log.1", "pump-7.log"),
            ("pump-7.log", "pump.log"),
            ("pump7.log", "pump8.log"),
            ("pump-8", "pump-7"),
            ("x-20261201.log", "x-20261130.log"),
            ("x.log.2026-12-01", "x.log.2026-11-30"),
            ("x.log.2026-12-01.gz", "x.log.2026-11-30"),
            ("y.log.1", "x.log"),
        ] {
            assert!(!may_be(copy, original), "{copy} {original}");
        }
    }

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
