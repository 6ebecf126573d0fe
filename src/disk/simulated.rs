//! The room of the simulation's disk, for everything on the simulation's thread.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::DiskSpace;

struct Room {
    folder: PathBuf,
    bytes_max: u64,
}

thread_local! {
    static ROOM: RefCell<Option<Room>> = const { RefCell::new(None) };
}

/// From now on the files of this folder share so many bytes.
pub fn set(folder: &Path, bytes_max: u64) {
    ROOM.set(Some(Room { folder: folder.to_owned(), bytes_max }));
}

/// From now on the disk is the real one.
pub fn clear() {
    ROOM.set(None);
}

/// What is left; `None` outside the simulation.
pub fn space() -> Option<DiskSpace> {
    ROOM.with_borrow(|room| {
        let Room { folder, bytes_max } = room.as_ref()?;
        Some(DiskSpace { total_bytes: *bytes_max, free_bytes: bytes_max.saturating_sub(used_bytes(folder)) })
    })
}

pub(super) fn check_room(file: &File, bytes: u64) -> io::Result<()> {
    let grows = bytes.saturating_sub(file.metadata()?.len());
    match space() {
        Some(space) if grows > space.free_bytes => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        _ => Ok(()),
    }
}

/// SQLite's index of the log is memory of a file, and no more.
fn used_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => used_bytes(&entry.path()),
        Ok(found) if !entry.file_name().to_string_lossy().ends_with("-shm") => found.len(),
        _ => 0,
    });
    sizes.sum()
}
