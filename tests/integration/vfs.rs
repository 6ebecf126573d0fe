//! A disk for SQLite that logs everything that reaches it, and can hang, be slow, be full, fail, ignore syncs, or end the process after
//! one.
//!
//! It wraps the usual VFS and really writes everything, so a gateway that uses it behaves normally.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

/// Gives the events of disks and clients one order.
static TICKS: AtomicU64 = AtomicU64::new(0);

pub fn tick() -> u64 {
    TICKS.fetch_add(1, Ordering::SeqCst)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Main,
    Wal,
}

#[derive(Clone, Debug)]
pub enum What {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    Truncate(usize),
    /// The sync has returned.
    Sync,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub tick: u64,
    pub part: Part,
    pub what: What,
}

pub struct Disk {
    pub name: String,
    below: *mut sqlite3_vfs,
    log: Mutex<Vec<Event>>,
    /// Syncs return without being done.
    pub drops_syncs: AtomicBool,
    /// Claims that a write never damages the bytes beside it.
    pub claims_powersafe: AtomicBool,
    /// Every write or sync returns an error.
    pub fails: AtomicBool,
    /// A page of the file with this inode number, from 0 on, that cannot be read.
    unreadable: Mutex<Option<(u64, u64)>>,
    /// Every sync takes this much longer.
    pub sync_delay_ms: AtomicU64,
    /// Nothing is logged, for tests that only need the faults and not gigabytes of events.
    pub forgets: AtomicBool,
    /// With more than this many bytes in its folder, nothing can be written.
    pub bytes_max: AtomicU64,
    folder: Mutex<PathBuf>,
    hangs: Mutex<bool>,
    released: Condvar,
    /// Once this is in the WAL and synced, the process dies.
    deadly: Mutex<Option<Vec<u8>>>,
    is_dying: AtomicBool,
}

// SAFETY: `below` is SQLite's own VFS, which lives as long as the process and is used by all threads.
unsafe impl Sync for Disk {}

impl Disk {
    /// A disk for the store in `folder`, under a unique name. It lives as long as the process.
    pub fn register(folder: &Path) -> &'static Disk {
        let name = format!("disk-{}", tick());
        // SAFETY: without a name SQLite gives its default VFS, which is never removed.
        let below = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
        assert!(!below.is_null());
        let disk: &'static Disk = Box::leak(Box::new(Disk {
            name: name.clone(),
            below,
            log: Mutex::default(),
            drops_syncs: AtomicBool::new(false),
            claims_powersafe: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            unreadable: Mutex::new(None),
            sync_delay_ms: AtomicU64::new(0),
            forgets: AtomicBool::new(false),
            bytes_max: AtomicU64::new(u64::MAX),
            folder: Mutex::new(folder.to_owned()),
            hangs: Mutex::new(false),
            released: Condvar::new(),
            deadly: Mutex::new(None),
            is_dying: AtomicBool::new(false),
        }));
        let name: &'static CString = Box::leak(Box::new(CString::new(name).unwrap()));
        // SAFETY: `below` is valid (see above). The copy forwards all but the opening of files; it is leaked, as SQLite asks.
        unsafe {
            let vfs: &'static mut sqlite3_vfs = Box::leak(Box::new(*below));
            vfs.pNext = std::ptr::null_mut();
            vfs.zName = name.as_ptr();
            vfs.szOsFile = size_of::<WatchedFile>() as c_int + (*below).szOsFile;
            vfs.pAppData = std::ptr::from_ref(disk).cast_mut().cast();
            vfs.xOpen = Some(open);
            assert_eq!(ffi::sqlite3_vfs_register(vfs, 0), ffi::SQLITE_OK);
        }
        disk
    }

    /// The disk loses a sector of this page, counted from 0, of the file that is there now.
    pub fn lose(&self, file: &Path, page: usize) {
        *self.unreadable.lock().unwrap() = Some((std::fs::metadata(file).unwrap().ino(), page as u64));
    }

    pub fn log(&self) -> Vec<Event> {
        self.log.lock().unwrap().clone()
    }

    pub fn log_len(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub fn hang(&self) {
        *self.hangs.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.hangs.lock().unwrap() = false;
        self.released.notify_all();
    }

    pub fn die_after_sync_of(&self, bytes: &[u8]) {
        *self.deadly.lock().unwrap() = Some(bytes.to_vec());
    }

    fn note(&self, part: Part, what: impl FnOnce() -> What) {
        if self.forgets.load(Ordering::SeqCst) {
            return;
        }
        let mut log = self.log.lock().unwrap();
        log.push(Event { tick: tick(), part, what: what() });
    }

    fn is_full(&self, more: u64) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::SeqCst);
        bytes_max != u64::MAX && used_bytes(&self.folder.lock().unwrap()) + more > bytes_max
    }
}

/// Bytes of all files in a folder except SQLite's index of the WAL, which need not be on a disk.
pub fn used_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
    let counted = entries.filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"));
    counted.filter_map(|entry| entry.metadata().ok()).filter(|found| found.is_file()).map(|found| found.len()).sum()
}

/// What SQLite keeps for an open file; the file of the wrapped VFS follows it in the same memory.
#[repr(C)]
struct WatchedFile {
    base: sqlite3_file,
    disk: *const Disk,
    part: Part,
    inode: u64,
}

unsafe fn below(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` made room for both, one after the other.
    unsafe { file.cast::<WatchedFile>().add(1).cast() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this with the registered VFS and with memory of the requested size.
    unsafe {
        let disk = (*vfs).pAppData as *const Disk;
        let open_below = (*(*disk).below).xOpen.unwrap();
        let part = match flags {
            flags if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 => Part::Main,
            flags if flags & ffi::SQLITE_OPEN_WAL != 0 => Part::Wal,
            _ => return open_below((*disk).below, path, file, flags, out_flags),
        };
        (*file).pMethods = std::ptr::null();
        let result = open_below((*disk).below, path, below(file), flags, out_flags);
        if result == ffi::SQLITE_OK {
            let path = std::ffi::CStr::from_ptr(path).to_str().unwrap();
            let inode = std::fs::metadata(path).unwrap().ino();
            std::ptr::write(
                file.cast(),
                WatchedFile { base: sqlite3_file { pMethods: &raw const METHODS }, disk, part, inode },
            );
        }
        result
    }
}

/// Calls the same method of the wrapped file.
macro_rules! forward {
    ($name:ident, $method:ident, ($($argument:ident: $kind:ty),*)) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $kind),*) -> c_int {
            // SAFETY: SQLite calls this only for files that `open` has opened, so the wrapped one is open too.
            unsafe { (*(*below(file)).pMethods).$method.unwrap()(below(file), $($argument),*) }
        }
    };
}

forward!(close, xClose, ());
forward!(read_below, xRead, (into: *mut c_void, bytes: c_int, offset: i64));
forward!(file_size, xFileSize, (size: *mut i64));
forward!(lock, xLock, (level: c_int));
forward!(unlock, xUnlock, (level: c_int));
forward!(check_reserved_lock, xCheckReservedLock, (result: *mut c_int));
forward!(file_control_below, xFileControl, (operation: c_int, argument: *mut c_void));
forward!(sector_size, xSectorSize, ());
forward!(characteristics_below, xDeviceCharacteristics, ());
forward!(shm_map, xShmMap, (region: c_int, bytes: c_int, extend: c_int, into: *mut *mut c_void));
forward!(shm_lock, xShmLock, (offset: c_int, count: c_int, flags: c_int));
forward!(shm_unmap, xShmUnmap, (delete: c_int));
forward!(write_below, xWrite, (data: *const c_void, bytes: c_int, offset: i64));
forward!(truncate_below, xTruncate, (size: i64));
forward!(sync_below, xSync, (flags: c_int));

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: as in `forward`.
    unsafe { (*(*below(file)).pMethods).xShmBarrier.unwrap()(below(file)) }
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as in `forward`.
    unsafe {
        let WatchedFile { disk, .. } = &*file.cast::<WatchedFile>();
        let claims = (**disk).claims_powersafe.load(Ordering::SeqCst);
        characteristics_below(file) | if claims { ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE } else { 0 }
    }
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: as in `forward`; a size hint comes with a number.
    unsafe {
        let WatchedFile { disk, .. } = &*file.cast::<WatchedFile>();
        if operation == ffi::SQLITE_FCNTL_SIZE_HINT {
            let mut size = 0;
            file_size(file, &raw mut size);
            let grows = (*argument.cast::<i64>() - size).max(0) as u64;
            if (**disk).fails.load(Ordering::SeqCst) {
                return ffi::SQLITE_IOERR_WRITE;
            }
            // It is rounded up to a chunk.
            if grows > 0 && (**disk).is_full(grows.next_multiple_of(1 << 20)) {
                return ffi::SQLITE_FULL;
            }
        }
        file_control_below(file, operation, argument)
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: as in `forward`.
    unsafe {
        let WatchedFile { disk, inode, .. } = &*file.cast::<WatchedFile>();
        let unreadable = *(**disk).unreadable.lock().unwrap();
        let touches = |page: u64| offset < (page as i64 + 1) * 4096 && offset + i64::from(bytes) > page as i64 * 4096;
        if unreadable.is_some_and(|(lost, page)| lost == *inode && touches(page)) {
            // As SQLite takes an EIO.
            return ffi::SQLITE_IOERR_CORRUPTFS;
        }
        read_below(file, into, bytes, offset)
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: as in `forward`; `data` has this many bytes.
    unsafe {
        let WatchedFile { disk, part, .. } = &*file.cast::<WatchedFile>();
        let disk = &**disk;
        if disk.fails.load(Ordering::SeqCst) {
            return ffi::SQLITE_IOERR_WRITE;
        }
        let mut size = 0;
        file_size(file, &raw mut size);
        let grows = (offset + i64::from(bytes) - size).max(0) as u64;
        if grows > 0 && disk.is_full(grows) {
            return ffi::SQLITE_FULL;
        }
        let data_seen = std::slice::from_raw_parts(data.cast::<u8>(), bytes as usize);
        let deadly = disk.deadly.lock().unwrap();
        if *part == Part::Wal && deadly.as_ref().is_some_and(|deadly| contains(data_seen, deadly)) {
            disk.is_dying.store(true, Ordering::SeqCst);
        }
        drop(deadly);
        disk.note(*part, || What::Write { offset: offset as usize, data: data_seen.to_vec() });
        write_below(file, data, bytes, offset)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    // SAFETY: as in `forward`.
    unsafe {
        let WatchedFile { disk, part, .. } = &*file.cast::<WatchedFile>();
        (**disk).note(*part, || What::Truncate(size as usize));
        truncate_below(file, size)
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as in `forward`.
    unsafe {
        let WatchedFile { disk, part, .. } = &*file.cast::<WatchedFile>();
        let disk = &**disk;
        if disk.drops_syncs.load(Ordering::SeqCst) {
            return ffi::SQLITE_OK;
        }
        if disk.fails.load(Ordering::SeqCst) {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        std::thread::sleep(Duration::from_millis(disk.sync_delay_ms.load(Ordering::SeqCst)));
        let hangs = disk.hangs.lock().unwrap();
        drop(disk.released.wait_while(hangs, |hangs| *hangs).unwrap());
        let result = sync_below(file, flags);
        if result == ffi::SQLITE_OK {
            disk.note(*part, || What::Sync);
            if *part == Part::Wal && disk.is_dying.load(Ordering::SeqCst) {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
        }
        result
    }
}

pub fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
