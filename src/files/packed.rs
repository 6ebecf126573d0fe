//! Compressed files, as if they were what is in them.
//!
//! How much is in a file is known only once all of it has been unpacked, so that is done first, a part at a time and without keeping any of
//! it ([`counting`]). A file that does not end as it should is taken for one that is still being written until it has not changed for a
//! while. What is in a file is then read from its beginning to its end, through one decoder at a time ([`unpacking`]).

mod counting;
mod unpacking;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::counting::{Counted, Counting};
use self::unpacking::Unpacking;
use crate::core::files::{Packed, Place, Stat};

/// A file that does not end as it should is damaged when it has not changed for so long.
const GRACE: Duration = Duration::from_secs(10);

/// So much may be in any file, however small it is.
const UNPACKED_BYTES_ALWAYS: u64 = 64 << 20;
/// A decoder that was not used for so many looks is of no use any more.
const UNPACKING_LOOKS: u64 = 8;

/// What is in a compressed file.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    packed: Packed,
    is_damaged: bool,
    /// What it begins with, which is asked for often.
    head: Arc<[u8]>,
}

impl Contents {
    /// The file as if it were what is in it.
    pub fn stat(&self, plain: Stat) -> Stat {
        Stat { size: self.packed.size, packed: Some(self.packed.seal), is_damaged: self.is_damaged, ..plain }
    }
}

/// Device and inode.
type Key = (u64, u64);

fn key(plain: &Stat) -> Key {
    (plain.file.device, plain.file.inode)
}

/// A compressed file of the folder.
#[derive(Debug)]
struct Known {
    path: String,
    /// Of the compressed bytes.
    size: u64,
    modified_ns: i64,
    changed: Instant,
    /// The look that found it.
    look: u64,
    progress: Progress,
    /// What is in it, as far as that is known. It stays while the file grows.
    contents: Option<Contents>,
    /// It was said that it cannot be opened.
    is_told: bool,
}

#[derive(Debug)]
enum Progress {
    /// It may be being written.
    Changes,
    /// It is to be unpacked.
    Due,
    /// It does not end as it should. This much can be unpacked.
    Broken(Counted),
    Done,
}

/// The compressed files of one folder.
#[derive(Debug)]
pub(super) struct PackedFiles {
    files: HashMap<Key, Known>,
    /// From earlier starts, until they are seen.
    restored: HashMap<Key, (Packed, bool)>,
    skips_first: bool,
    look: u64,
    counting: Option<(Key, Counting)>,
    /// With the look at which it was used last.
    unpacking: Option<(u64, Unpacking)>,
    damaged: Vec<(String, String)>,
    pub grace: Duration,
    /// So much may be in any file.
    pub unpacked_bytes_always: u64,
}

impl PackedFiles {
    pub fn new<'a>(places: impl Iterator<Item = &'a Place>, skips_first: bool) -> PackedFiles {
        let restored =
            places.filter_map(|place| Some(((place.file.device, place.file.inode), (place.packed?, place.is_damaged))));
        PackedFiles {
            files: HashMap::new(),
            restored: restored.collect(),
            skips_first,
            look: 0,
            counting: None,
            unpacking: None,
            damaged: Vec::new(),
            grace: GRACE,
            unpacked_bytes_always: UNPACKED_BYTES_ALWAYS,
        }
    }

    pub fn begin_look(&mut self) {
        self.look += 1;
    }

    /// What is in a file that was seen, if that is known by now.
    pub fn contents(&mut self, path: &str, plain: &Stat) -> Option<Contents> {
        let (look, key) = (self.look, key(plain));
        if !self.files.contains_key(&key) {
            let contents = self.recognised(path, plain);
            let progress = match contents {
                Some(_) => Progress::Done,
                None if look == 1 => Progress::Due,
                None => Progress::Changes,
            };
            let (size, modified_ns, path) = (plain.size, plain.modified_ns, path.to_owned());
            let known =
                Known { path, size, modified_ns, changed: Instant::now(), look, progress, contents, is_told: false };
            self.files.insert(key, known);
        }
        let known = self.files.get_mut(&key)?;
        if (known.size, known.modified_ns) != (plain.size, plain.modified_ns) {
            (known.size, known.modified_ns, known.changed) = (plain.size, plain.modified_ns, Instant::now());
            known.progress = Progress::Changes;
            self.counting.take_if(|(counted, _)| *counted == key);
        } else if matches!(known.progress, Progress::Changes) && known.look != look {
            known.progress = Progress::Due;
        }
        known.look = look;
        path.clone_into(&mut known.path);
        known.contents.clone()
    }

    /// What is known of a file without unpacking it, because an earlier start has, or nobody wants it.
    fn recognised(&mut self, path: &str, plain: &Stat) -> Option<Contents> {
        let restored = self.restored.remove(&key(plain));
        let is_skipped = self.skips_first && self.look == 1;
        if restored.is_none() && !is_skipped {
            return None;
        }
        let seal = counting::seal(&File::open(path).ok()?, plain.size).ok()?;
        let same = restored.filter(|(packed, _)| packed.seal == seal);
        let (packed, is_damaged) = same.or_else(|| is_skipped.then_some((Packed { seal, size: 0 }, false)))?;
        if is_damaged {
            self.damaged.push((path.to_owned(), "it is damaged, as an earlier start has found".to_owned()));
        }
        Some(Contents { packed, is_damaged, head: Arc::default() })
    }

    /// What was not seen is gone.
    pub fn end_look(&mut self) {
        let look = self.look;
        self.files.retain(|_, known| known.look == look);
        self.counting.take_if(|(key, _)| !self.files.contains_key(key));
        // It would keep a deleted file on the disk.
        self.unpacking.take_if(|(used, _)| *used + UNPACKING_LOOKS < look);
    }

    /// What is in a file that is being opened.
    pub fn known(&self, plain: &Stat) -> Option<Contents> {
        self.files.get(&key(plain))?.contents.clone()
    }

    /// Goes on to unpack what is new, one file after the other. Returns whether there is more to do at once.
    pub fn look_into(&mut self, bytes_max: u64) -> bool {
        self.conclude();
        let mut left = bytes_max;
        while let Some((key, mut counting)) = self.counting.take().or_else(|| self.next()) {
            let Some(counted) = counting.go_on(&mut left) else {
                self.counting = Some((key, counting));
                return true;
            };
            self.counted(key, counted);
        }
        false
    }

    /// The file that was written to first: in this order they are read.
    fn next(&mut self) -> Option<(Key, Counting)> {
        let always = self.unpacked_bytes_always;
        loop {
            let due = self.files.iter_mut().filter(|(_, known)| matches!(known.progress, Progress::Due));
            let (key, known) = due.min_by(|(_, a), (_, b)| (a.modified_ns, &a.path).cmp(&(b.modified_ns, &b.path)))?;
            match File::open(&known.path).and_then(|file| Counting::begin(file, known.size, always)) {
                Ok(counting) => return Some((*key, counting)),
                Err(error) => {
                    // Tried again at the next look.
                    known.progress = Progress::Changes;
                    if !std::mem::replace(&mut known.is_told, true) {
                        self.damaged.push((known.path.clone(), error.to_string()));
                    }
                }
            }
        }
    }

    fn counted(&mut self, key: Key, mut counted: Counted) {
        let Some(known) = self.files.get_mut(&key) else { return };
        if counted.fault.is_some() {
            known.progress = Progress::Broken(counted);
        } else {
            (known.progress, known.contents) = (Progress::Done, Some(counted.contents()));
        }
    }

    /// Files that do not end as they should, and that nobody writes to: their whole lines are read.
    fn conclude(&mut self) {
        for known in self.files.values_mut() {
            if let Progress::Broken(counted) = &mut known.progress
                && known.changed.elapsed() >= self.grace
            {
                known.contents = Some(counted.contents());
                self.damaged.push((known.path.clone(), counted.fault.take().unwrap_or_default()));
                known.progress = Progress::Done;
            }
        }
    }

    /// Compressed files of which not all can be unpacked, with the reason, since the last call.
    pub fn take_damaged(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.damaged)
    }

    pub fn read_at(&mut self, file: &File, contents: &Contents, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(contents.packed.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(known) = contents.head.get(begin..begin.saturating_add(length)) {
            buffer.copy_from_slice(known);
            return Ok(length);
        }
        let seal = contents.packed.seal;
        let mut unpacking = match self.unpacking.take() {
            Some((_, unpacking)) if unpacking.reaches(seal, offset) => unpacking,
            _ => Unpacking::begin(file.try_clone()?, seal)?,
        };
        let read = unpacking.read_at(offset, buffer)?;
        self.unpacking = Some((self.look, unpacking));
        Ok(read)
    }
}
