//! The state folder: one process has it, and what is made in it stays.

use std::path::Path;

use super::GatewayError;
use crate::disk;
use crate::store::lock::FolderLock;
use crate::store::schema::OpenError;

/// Makes the folder if it is not there. It is locked for as long as the result lives.
pub fn lock(folder: &Path) -> Result<FolderLock, GatewayError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| GatewayError::Store(OpenError::Folder { path: folder.to_owned(), source }))?;
    let tried = || format!("make the state folder {} durable", folder.display());
    disk::sync_folders(folder).map_err(|source| GatewayError::system(tried())(source))?;
    FolderLock::acquire(folder).map_err(GatewayError::Locked)
}

/// A file system that may write a file's metadata before its content is known to damage databases at a power cut.
pub fn warn_of_writeback(folder: &Path) {
    if let Ok(Some(mount)) = disk::mount(folder)
        && mount.is_writeback()
    {
        tracing::warn!(
            "{} is mounted with data=writeback: a power cut may damage the store; mount it with data=ordered",
            mount.path.display()
        );
    }
}
