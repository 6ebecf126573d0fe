//! What SQLite calls. Everything is forwarded to its usual VFS, after the disk was asked.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::PathBuf;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use super::{Call, Change, State, path_of};
use crate::disk;

/// What SQLite keeps for an open file; the file of the wrapped VFS follows it in the same memory.
#[repr(C)]
struct SimulatedFile {
    base: sqlite3_file,
    state: *const RefCell<State>,
    /// Owned; freed when the file is closed.
    path: *mut PathBuf,
}

pub(super) fn wrap(vfs: &mut sqlite3_vfs, below: *mut sqlite3_vfs, name: &CString, state: *const RefCell<State>) {
    vfs.pNext = std::ptr::null_mut();
    vfs.zName = name.as_ptr();
    // SAFETY: `below` is SQLite's default VFS.
    vfs.szOsFile = size_of::<SimulatedFile>() as c_int + unsafe { (*below).szOsFile };
    vfs.pAppData = state.cast_mut().cast();
    vfs.xOpen = Some(open);
    vfs.xDelete = Some(delete);
}

unsafe fn below(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` made room for both, one after the other.
    unsafe { file.cast::<SimulatedFile>().add(1).cast() }
}

/// The disk of an open file.
unsafe fn disk_of<'a>(file: *mut sqlite3_file) -> (&'a RefCell<State>, &'a PathBuf) {
    // SAFETY: SQLite calls only for files that `open` has opened, on the thread of their disk, which outlives them.
    unsafe {
        let file = &*file.cast::<SimulatedFile>();
        (&*file.state, &*file.path)
    }
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
        (*file).pMethods = std::ptr::null();
        let state = (*vfs).pAppData as *const RefCell<State>;
        let below_vfs = (*state).borrow().below;
        let open_below = (*below_vfs).xOpen.expect("every VFS has it");
        if flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) == 0 {
            return open_below(below_vfs, path, file, flags, out_flags);
        }
        if (*state).borrow_mut().refuses(Call::Open) {
            return ffi::SQLITE_CANTOPEN;
        }
        let result = open_below(below_vfs, path, below(file), flags, out_flags);
        if result == ffi::SQLITE_OK {
            let path = Box::new(path_of(path));
            (*state).borrow_mut().opened(&path);
            let base = sqlite3_file { pMethods: &raw const METHODS };
            std::ptr::write(file.cast(), SimulatedFile { base, state, path: Box::into_raw(path) });
        }
        result
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, path: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let state = (*vfs).pAppData as *const RefCell<State>;
        let mut state = (*state).borrow_mut();
        if state.is_off {
            return ffi::SQLITE_IOERR_DELETE;
        }
        state.images.remove(&path_of(path));
        let below_vfs = state.below;
        drop(state);
        (*below_vfs).xDelete.expect("every VFS has it")(below_vfs, path, sync_folder)
    }
}

/// Calls the same method of the wrapped file.
macro_rules! forward {
    ($name:ident, $method:ident, ($($argument:ident: $kind:ty),*)) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $kind),*) -> c_int {
            // SAFETY: SQLite calls this only for files that `open` has opened, so the wrapped one is open too.
            unsafe { (*(*below(file)).pMethods).$method.expect("the usual VFS has it")(below(file), $($argument),*) }
        }
    };
}

forward!(close_below, xClose, ());
forward!(read_below, xRead, (into: *mut c_void, bytes: c_int, offset: i64));
forward!(file_size, xFileSize, (size: *mut i64));
forward!(lock, xLock, (level: c_int));
forward!(unlock, xUnlock, (level: c_int));
forward!(check_reserved_lock, xCheckReservedLock, (result: *mut c_int));
forward!(file_control_below, xFileControl, (operation: c_int, argument: *mut c_void));
forward!(sector_size, xSectorSize, ());
forward!(device_characteristics, xDeviceCharacteristics, ());
forward!(shm_map, xShmMap, (region: c_int, bytes: c_int, extend: c_int, into: *mut *mut c_void));
forward!(shm_lock, xShmLock, (offset: c_int, count: c_int, flags: c_int));
forward!(shm_unmap, xShmUnmap, (delete: c_int));
forward!(write_below, xWrite, (data: *const c_void, bytes: c_int, offset: i64));
forward!(truncate_below, xTruncate, (size: i64));

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: as in `forward`.
    unsafe { (*(*below(file)).pMethods).xShmBarrier.expect("the usual VFS has it")(below(file)) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as in `forward`; the path was made by `open`, and nothing is called for a closed file.
    unsafe {
        drop(Box::from_raw((*file.cast::<SimulatedFile>()).path));
        close_below(file)
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: as in `forward`.
    unsafe {
        let (state, _) = disk_of(file);
        // What reads after the power is gone is only put away; SQLite may not take that for a lost sector.
        let is_refused = !state.borrow().is_off && state.borrow_mut().refuses(Call::Read);
        if is_refused { ffi::SQLITE_IOERR_READ } else { read_below(file, into, bytes, offset) }
    }
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: as in `forward`; a size hint comes with a number.
    unsafe {
        if operation == ffi::SQLITE_FCNTL_SIZE_HINT {
            let (state, _) = disk_of(file);
            let mut state = state.borrow_mut();
            if state.is_off {
                return ffi::SQLITE_IOERR_WRITE;
            }
            let mut size = 0;
            file_size(file, &raw mut size);
            let grows = (*argument.cast::<i64>() - size).max(0) as u64;
            if grows > 0 && is_full(grows) {
                state.counts.refused_ever += 1;
                return ffi::SQLITE_FULL;
            }
        }
        file_control_below(file, operation, argument)
    }
}

fn is_full(grows: u64) -> bool {
    disk::simulated::space().is_some_and(|space| grows > space.free_bytes)
}

unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: as in `forward`; `data` has this many bytes.
    unsafe {
        let (state, path) = disk_of(file);
        let mut state = state.borrow_mut();
        if state.refuses(Call::Write) {
            return ffi::SQLITE_IOERR_WRITE;
        }
        let mut size = 0;
        file_size(file, &raw mut size);
        let grows = (offset + i64::from(bytes) - size).max(0) as u64;
        if grows > 0 && is_full(grows) {
            state.counts.refused_ever += 1;
            return ffi::SQLITE_FULL;
        }
        let data_seen = std::slice::from_raw_parts(data.cast::<u8>(), bytes as usize).to_vec();
        state.note(path, Change::Write { offset: offset as usize, data: data_seen });
        state.wears();
        if state.is_off {
            return ffi::SQLITE_IOERR_WRITE;
        }
        write_below(file, data, bytes, offset)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    // SAFETY: as in `forward`.
    unsafe {
        let (state, path) = disk_of(file);
        let mut state = state.borrow_mut();
        if state.refuses(Call::Truncate) {
            return ffi::SQLITE_IOERR_TRUNCATE;
        }
        state.note(path, Change::Truncate(size as usize));
        truncate_below(file, size)
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: as in `forward`.
    unsafe {
        let (state, path) = disk_of(file);
        let mut state = state.borrow_mut();
        if state.refuses(Call::Sync) {
            state.sync_failed(path);
            return ffi::SQLITE_IOERR_FSYNC;
        }
        state.wears();
        if state.is_off {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        if !state.drops_syncs {
            state.synced(path);
        }
        ffi::SQLITE_OK
    }
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
