//! One process per state folder: two writers would assign the same positions twice.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Lies in the state folder and contains the holder's process id; only the lock on it counts.
pub const FILE_NAME: &str = "outrider.lock";

/// Held while the process runs; the kernel releases it however the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{} is locked by the process {pid}: another outrider uses this folder", path.display())]
    Taken { path: PathBuf, pid: String },
    #[error("cannot lock {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl FolderLock {
    /// Takes the lock and writes this process's id into the file.
    ///
    /// # Errors
    ///
    /// If another process holds the lock, or the file cannot be used.
    pub fn acquire(folder: &Path) -> Result<FolderLock, LockError> {
        let path = folder.join(FILE_NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The holder's id only informs: an unreadable file must not hide that the lock is held.
                let _ = file.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "(unknown)".to_owned() } else { pid.trim().to_owned() };
                return Err(LockError::Taken { path, pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // On a full disk nothing can be written, which must not keep the gateway from starting.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(FolderLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_the_pid_of_the_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = FolderLock::acquire(folder.path()).expect("nobody holds it");
        let refused = FolderLock::acquire(folder.path()).expect_err("held");
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        FolderLock::acquire(folder.path()).expect("let go");
    }
}
