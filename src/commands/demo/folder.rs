//! `./outrider-demo/`: kept after a demonstration and replaced by the next one. A folder that no demo made is never touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::lock::{self, FolderLock, LockError};

/// A folder that holds this file was made by a demo.
const MARKER: &str = "made-by-outrider-demo.txt";
const MARKER_TEXT: &str =
    "This folder was made by `outrider demo`. The next demo in the same place deletes all that is in it.\n";

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error(
        "{} is there and was not made by a demo, so it is left alone; move it away, or start the demo in another folder",
        path.display()
    )]
    NotOurs { path: PathBuf },
    #[error(transparent)]
    InUse(LockError),
    #[error("cannot prepare {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Prepares a folder that is empty but for the marker. Refuses one that no demo made or that another process uses.
pub fn prepare(path: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(path).map_err(failed)?,
        Err(error) => return Err(failed(error)),
        // Refuses a symbolic link too: it may lead to somebody's data.
        Ok(found) if !found.is_dir() => return Err(FolderError::NotOurs { path: path.to_owned() }),
        Ok(_) => empty(path)?,
    }
    fs::write(path.join(MARKER), MARKER_TEXT).map_err(failed)
}

fn empty(path: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    let names: Vec<_> = fs::read_dir(path)
        .map_err(failed)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if names.is_empty() {
        return Ok(());
    }
    if !names.iter().any(|name| name == MARKER) {
        return Err(FolderError::NotOurs { path: path.to_owned() });
    }
    let _held = FolderLock::acquire(path).map_err(FolderError::InUse)?;
    // The marker stays, so that the folder is still recognised if this is interrupted; the lock file stays because it is held.
    for name in names.iter().filter(|name| *name != MARKER && *name != lock::FILE_NAME) {
        let entry = path.join(name);
        let is_folder = fs::symlink_metadata(&entry).map_err(failed)?.is_dir();
        if is_folder { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) }.map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("outrider-demo");
        (parent, path)
    }

    #[test]
    fn our_own_folder_is_replaced() {
        let (_parent, path) = place();
        prepare(&path).expect("made");
        fs::create_dir_all(path.join("archive/raw")).expect("a folder");
        fs::write(path.join("archive/raw/old"), b"x").expect("a file");
        fs::write(path.join("outrider.db"), b"x").expect("a file");
        prepare(&path).expect("made again");
        let left: Vec<_> =
            fs::read_dir(&path).expect("there").map(|entry| entry.expect("an entry").file_name()).collect();
        assert!(left.iter().all(|name| name == MARKER || name == lock::FILE_NAME), "{left:?}");
        assert!(left.iter().any(|name| name == MARKER));
    }

    #[test]
    fn a_folder_that_is_not_ours_is_left_alone() {
        let (_parent, path) = place();
        fs::create_dir(&path).expect("a folder");
        prepare(&path).expect("an empty one is nobody's");
        fs::remove_file(path.join(MARKER)).expect("the marker");
        fs::write(path.join("thesis.tex"), b"x").expect("a file");
        let refused = prepare(&path).expect_err("not ours");
        assert!(matches!(refused, FolderError::NotOurs { .. }), "{refused}");
        assert!(path.join("thesis.tex").exists());
    }

    #[test]
    fn neither_a_link_nor_a_file_is_followed_or_replaced() {
        let (parent, path) = place();
        let elsewhere = parent.path().join("elsewhere");
        prepare(&elsewhere).expect("made");
        fs::write(elsewhere.join("kept"), b"x").expect("a file");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
        assert!(matches!(prepare(&path), Err(FolderError::NotOurs { .. })));
        assert!(elsewhere.join("kept").exists());
        fs::remove_file(&path).expect("the link");
        fs::write(&path, b"x").expect("a file");
        assert!(matches!(prepare(&path), Err(FolderError::NotOurs { .. })));
    }

    #[test]
    fn a_demo_that_runs_keeps_its_files() {
        let (_parent, path) = place();
        prepare(&path).expect("made");
        fs::write(path.join("outrider.db"), b"x").expect("a file");
        let held = FolderLock::acquire(&path).expect("free");
        assert!(matches!(prepare(&path), Err(FolderError::InUse(LockError::Taken { .. }))));
        assert!(path.join("outrider.db").exists());
        drop(held);
        prepare(&path).expect("free again");
        assert!(!path.join("outrider.db").exists());
    }
}
