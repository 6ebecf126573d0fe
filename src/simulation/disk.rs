//! A disk that may fail in any way: an SQLite VFS over real files, which knows of each write whether it would survive a power cut.
//!
//! Each file has two images. What was written is in the real file, where the store's own file operations find it too. What is durable is
//! kept here: a sync adds to it what was written since the last one. A power cut puts the durable image in the file's place, with some of
//! the writes that were not synced, whole or in torn blocks. The real files are never synced, so a run does not depend on the machine.
//!
//! Deliberately absent: the names of files are durable at once, and so is what does not go through SQLite, which the store syncs by itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi::{self, sqlite3_vfs};

use super::random::Random;

mod shim;

/// The system writes whole pages of its cache.
const PAGE_BYTES: usize = 4096;
/// How much a torn write may tear.
const SECTOR_BYTES: usize = 512;

/// A call of SQLite's that may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Open,
    Read,
    Write,
    Sync,
    Truncate,
}

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Each survives or not.
    Whole,
    /// Each of their blocks survives or not, or holds neither.
    Torn,
}

/// Calls that will be refused.
#[derive(Clone, Copy, Debug)]
struct Failure {
    call: Call,
    /// So many of these calls succeed before.
    after: u64,
    /// So many are refused.
    count: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default)]
struct Image {
    inode: u64,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// How often the disk did its worst.
#[derive(Clone, Debug, Default)]
struct Counts {
    pub refused: BTreeMap<Call, u64>,
    pub refused_ever: u64,
    /// Writes that a power cut took, and blocks that it tore.
    pub lost: u64,
    pub torn: u64,
}

struct State {
    below: *mut sqlite3_vfs,
    images: BTreeMap<PathBuf, Image>,
    random: Random,
    /// The process that uses it is gone, or is going.
    is_off: bool,
    /// The power goes with this write or sync.
    off_after: Option<u64>,
    failure: Option<Failure>,
    /// The simulation itself looks: it meets no faults.
    is_observed: bool,
    /// For the control: syncs return without being done.
    drops_syncs: bool,
    counts: Counts,
}

/// One disk. Its files are in one folder.
pub(crate) struct Disk {
    state: Rc<RefCell<State>>,
    /// What SQLite was given; both live as long as it knows them.
    vfs: Box<sqlite3_vfs>,
    name: CString,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: it was registered, and every connection that used it is closed.
        unsafe { ffi::sqlite3_vfs_unregister(&raw mut *self.vfs) };
    }
}

impl Disk {
    pub fn new(random: Random) -> Disk {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("simulated-{number}")).expect("a name without a NUL");
        // SAFETY: without a name SQLite gives its default VFS, which is never removed.
        let below = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
        let state = State {
            below,
            images: BTreeMap::new(),
            random,
            is_off: false,
            off_after: None,
            failure: None,
            is_observed: false,
            drops_syncs: false,
            counts: Counts::default(),
        };
        let state = Rc::new(RefCell::new(state));
        // SAFETY: `below` is valid, as above.
        let mut vfs = Box::new(unsafe { *below });
        shim::wrap(&mut vfs, below, &name, Rc::as_ptr(&state));
        // SAFETY: the VFS and its name stay where they are until they are unregistered.
        assert_eq!(unsafe { ffi::sqlite3_vfs_register(&raw mut *vfs, 0) }, ffi::SQLITE_OK);
        Disk { state, vfs, name }
    }

    pub fn vfs(&self) -> String {
        self.name.to_str().expect("ASCII").to_owned()
    }

    pub fn drop_syncs(&self) {
        self.state.borrow_mut().drops_syncs = true;
    }

    /// Calls that were refused since this was last asked.
    pub fn take_refused(&self) -> BTreeMap<Call, u64> {
        std::mem::take(&mut self.state.borrow_mut().counts.refused)
    }

    /// Calls that were ever refused, and writes for which there was no room.
    pub fn refused(&self) -> u64 {
        self.state.borrow().counts.refused_ever
    }

    /// Looks into the store without meeting the disk's faults, and without leaving them to others.
    pub fn observe<R>(&self, look: impl FnOnce() -> R) -> R {
        self.state.borrow_mut().is_observed = true;
        let seen = look();
        self.state.borrow_mut().is_observed = false;
        seen
    }

    /// So many calls of a kind succeed, and the following `count` are refused.
    pub fn refuse(&self, call: Call, after: u64, count: u64) {
        self.state.borrow_mut().failure = Some(Failure { call, after, count });
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut state = self.state.borrow_mut();
        (state.failure, state.off_after) = (None, None);
    }

    /// The power goes with the write or sync after so many others.
    pub fn switch_off_after(&self, calls: u64) {
        self.state.borrow_mut().off_after = Some(calls);
    }

    /// Nothing reaches the disk any more: what still runs is only to be put away.
    pub fn switch_off(&self) {
        self.state.borrow_mut().is_off = true;
    }

    pub fn is_off(&self) -> bool {
        self.state.borrow().is_off
    }

    /// The process is gone, and the system still runs: what was written stays, and is as durable as it was.
    pub fn switch_on(&self) {
        let mut state = self.state.borrow_mut();
        (state.is_off, state.off_after, state.failure) = (false, None, None);
    }

    /// The system is gone too.
    pub fn lose_power(&self, cut: Cut) {
        let mut state = self.state.borrow_mut();
        let State { images, random, counts, .. } = &mut *state;
        // Now and then everything is lost, or nothing.
        let survives_percent = random.pick(&[0, 30, 70, 100]);
        for (path, image) in images {
            if image.inode != inode_of(path) {
                continue;
            }
            let written_bytes = std::fs::metadata(path).map_or(0, |found| found.len() as usize);
            for change in std::mem::take(&mut image.pending) {
                match cut {
                    Cut::Whole if random.percent(survives_percent) => change.apply(&mut image.durable),
                    Cut::Whole => counts.lost += 1,
                    Cut::Torn => counts.torn += change.apply_torn(&mut image.durable, random, survives_percent),
                }
            }
            // A file's new length may be known before what is in it.
            if written_bytes > image.durable.len() && random.percent(50) {
                image.durable.resize(written_bytes, 0);
            }
            std::fs::write(path, &image.durable).expect("the real disk works");
            image.inode = inode_of(path);
        }
    }

    /// Copies what is durable into another folder, as a power cut at this moment would leave it.
    pub fn copy_durable(&self, folder: &Path) {
        for (path, image) in &self.state.borrow().images {
            if let Some(name) = path.file_name().filter(|_| image.inode == inode_of(path)) {
                std::fs::write(folder.join(name), &image.durable).expect("the real disk works");
            }
        }
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Truncate(bytes) => image.truncate(*bytes),
            Change::Write { offset, data } => {
                if image.len() < offset + data.len() {
                    image.resize(offset + data.len(), 0);
                }
                image[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
    }

    /// Applies some of its blocks. Returns how many it did not.
    fn apply_torn(&self, image: &mut Vec<u8>, random: &mut Random, survives_percent: u64) -> u64 {
        let Change::Write { offset, data } = self else {
            self.apply(image);
            return 0;
        };
        let mut torn = 0;
        let mut at = 0;
        while at < data.len() {
            let bytes = (SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(data.len() - at);
            let mut part = data[at..at + bytes].to_vec();
            let survives = random.percent(survives_percent);
            let is_garbled = !survives && random.one_in(8);
            if is_garbled {
                part.iter_mut().for_each(|byte| *byte = random.next() as u8);
            }
            if survives || is_garbled {
                Change::Write { offset: offset + at, data: part }.apply(image);
            }
            torn += u64::from(!survives);
            at += bytes;
        }
        torn
    }
}

impl State {
    /// Whether this call is to be refused; a power cut refuses everything.
    fn refuses(&mut self, call: Call) -> bool {
        if self.is_off {
            return true;
        }
        if self.is_observed {
            return false;
        }
        let Some(failure) = self.failure.as_mut().filter(|failure| failure.call == call) else { return false };
        if failure.after > 0 {
            failure.after -= 1;
            return false;
        }
        failure.count -= 1;
        if failure.count == 0 {
            self.failure = None;
        }
        *self.counts.refused.entry(call).or_default() += 1;
        self.counts.refused_ever += 1;
        true
    }

    /// A write or a sync was reached: the power may go with it.
    fn wears(&mut self) {
        if let Some(left) = self.off_after.as_mut().filter(|_| !self.is_observed) {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.is_off = true,
            }
        }
    }

    fn opened(&mut self, path: &Path) {
        let inode = inode_of(path);
        let image = self.images.entry(path.to_owned()).or_default();
        if image.inode != inode {
            *image = Image { inode, durable: std::fs::read(path).unwrap_or_default(), pending: Vec::new() };
        }
    }

    fn note(&mut self, path: &Path, change: Change) {
        if let Some(image) = self.images.get_mut(path) {
            image.pending.push(change);
        }
    }

    fn synced(&mut self, path: &Path) {
        let Some(image) = self.images.get_mut(path) else { return };
        let file = std::fs::File::open(path).expect("the real disk works");
        let bytes = file.metadata().expect("an open file").len() as usize;
        for change in std::mem::take(&mut image.pending) {
            match change {
                Change::Truncate(bytes) => image.durable.truncate(bytes),
                Change::Write { offset, data } => {
                    let start = offset - offset % PAGE_BYTES;
                    let end = (offset + data.len()).next_multiple_of(PAGE_BYTES).min(bytes).max(start);
                    if image.durable.len() < end {
                        image.durable.resize(end, 0);
                    }
                    file.read_exact_at(&mut image.durable[start..end], start as u64).expect("the real disk works");
                }
            }
        }
        // With what was claimed of the disk without a write.
        image.durable.resize(bytes, 0);
    }

    /// A sync that fails may lose what it was to write: the system takes these pages for written until they change again.
    fn sync_failed(&mut self, path: &Path) {
        if let Some(image) = self.images.get_mut(path)
            && !self.is_off
            && self.random.percent(50)
        {
            self.counts.lost += image.pending.len() as u64;
            image.pending.clear();
        }
    }
}

fn inode_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.ino())
}

/// # Safety
///
/// `path` must be a text that ends in a NUL.
unsafe fn path_of(path: *const c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}
