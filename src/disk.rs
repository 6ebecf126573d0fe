//! What the file system says of its room.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    pub total_bytes: u64,
    /// What a process without privileges may still use.
    pub free_bytes: u64,
}

pub fn space(folder: &Path) -> io::Result<DiskSpace> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` ends in a NUL and `found` has room for what is written.
    let result = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call above, which succeeded; all zeroes would be valid too.
    let found = unsafe { found.assume_init() };
    // The widths of these fields differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    let (block, total, free) = (found.f_frsize as u64, found.f_blocks as u64, found.f_bavail as u64);
    Ok(DiskSpace { total_bytes: block * total, free_bytes: block * free })
}

/// Makes a rename or a new name in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_some_space() {
        let space = super::space(&std::env::temp_dir()).expect("a file system");
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
        assert!(super::space(std::path::Path::new("/nowhere/at/all")).is_err());
    }
}
