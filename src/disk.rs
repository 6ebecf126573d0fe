//! The free space of file systems, and durable names in them.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
pub mod simulated;
pub mod slots;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    pub total_bytes: u64,
    /// What a process without privileges may still use.
    pub free_bytes: u64,
}

pub fn space(folder: &Path) -> io::Result<DiskSpace> {
    #[cfg(test)]
    if let Some(space) = simulated::space() {
        return Ok(space);
    }
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

/// Makes a file at least so long, with blocks.
pub fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(test)]
    simulated::check_room(file, bytes)?;
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: takes numbers only, and the descriptor is open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Whether so much can be written. Some file systems keep blocks to themselves or for root, so that only a trial tells what this process
/// gets; `trial` is the path of a file for it.
pub fn takes(trial: &Path, bytes: u64) -> bool {
    let result = File::create(trial).and_then(|file| allocate(&file, bytes));
    let _ = std::fs::remove_file(trial);
    result.is_ok()
}

/// Whether a file can be written and synced; `trial` is the path of a file for it.
pub fn stores(trial: &Path) -> bool {
    let result = File::create(trial).and_then(|mut file| file.write_all(&[1; 4096]).and_then(|()| file.sync_all()));
    let _ = std::fs::remove_file(trial);
    result.is_ok()
}

/// The existing folder whose file system a new folder will be on.
pub fn existing_part(folder: &Path) -> &Path {
    let named = folder.ancestors().filter(|part| !part.as_os_str().is_empty());
    named.into_iter().find(|part| part.exists()).unwrap_or(Path::new("."))
}

/// Whether this process may make files in a folder, as far as that can be told without making one.
pub fn may_write(folder: &Path) -> io::Result<()> {
    if !std::fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: `path` ends in a NUL.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a rename or a new name in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Makes a folder's own name durable, and those of the folders above it.
pub fn sync_folders(folder: &Path) -> io::Result<()> {
    for folder in std::fs::canonicalize(folder)?.ancestors() {
        match sync_folder(folder) {
            // We did not create a folder that we may pass through but not read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            result => result?,
        }
    }
    Ok(())
}

/// The mounted file system that a folder is on; `None` if the system does not say.
pub fn mount(folder: &Path) -> io::Result<Option<Mount>> {
    let folder = std::fs::canonicalize(folder)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mount_of(&mounts, &folder))
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Such as `ext4`.
    pub kind: String,
    /// What is mounted, such as `/dev/mmcblk0p2`.
    pub source: String,
    /// Those of the mount, and those of the file system itself.
    pub options: Vec<String>,
    /// The numbers of its device, such as `179:2`.
    pub device: String,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }

    /// Whether it may write a file's metadata before its content.
    pub fn is_writeback(&self) -> bool {
        matches!(self.kind.as_str(), "ext4" | "ext3") && self.has("data=writeback")
    }
}

/// The mount that contains a path: the longest matching one, and of several at one place the last.
fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let point = PathBuf::from(unescape(before.get(4)?));
        let mut after = after.split(' ');
        let (kind, source, options) = (after.next()?, after.next()?, after.next()?);
        let options = before.get(5)?.split(',').chain(options.split(',')).map(str::to_owned).collect();
        path.starts_with(&point).then(|| Mount {
            path: point,
            kind: kind.to_owned(),
            source: unescape(source),
            options,
            device: before[2].to_owned(),
        })
    });
    mounts.max_by_key(|mount| mount.path.components().count())
}

/// Spaces and similar characters are written as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// Bytes that this process has caused to be written to disks since it began, in whole pages; `None` if the system does not say.
pub fn written_bytes() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/self/io").ok()?;
    let written = counts.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    written.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writeback_mount_is_told_from_others() {
        let mountinfo = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,data=ordered\n\
            30 22 8:2 / /var/lib/my\\040data rw shared:2 - ext4 /dev/sda2 rw,data=writeback\n\
            31 22 0:5 / /tmp rw - tmpfs tmpfs rw\n";
        let mount = |path: &str| mount_of(mountinfo, Path::new(path)).expect("/ is mounted");
        let data = mount("/var/lib/my data/outrider");
        assert_eq!((data.path.as_path(), data.is_writeback()), (Path::new("/var/lib/my data"), true));
        assert_eq!((data.source.as_str(), data.device.as_str()), ("/dev/sda2", "8:2"));
        let root = mount("/var/lib/my");
        assert_eq!((root.path.as_path(), root.is_writeback()), (Path::new("/"), false));
        assert!(root.has("relatime") && root.has("data=ordered") && !root.has("ro"));
        assert_eq!((mount("/tmp/x").path.as_path(), mount("/tmp/x").kind.as_str()), (Path::new("/tmp"), "tmpfs"));
        super::mount(&std::env::temp_dir()).expect("readable");
    }

    #[test]
    fn a_folder_that_is_not_there_is_on_the_disk_of_the_one_above() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(existing_part(&folder.path().join("a/b")), folder.path());
        assert_eq!(existing_part(Path::new("not/there")), Path::new("."));
        assert!(may_write(folder.path()).is_ok() && may_write(&folder.path().join("a")).is_err());
        std::fs::write(folder.path().join("file"), "").expect("written");
        assert_eq!(
            may_write(&folder.path().join("file")).map_err(|error| error.kind()),
            Err(io::ErrorKind::NotADirectory)
        );
    }

    #[test]
    fn there_is_some_space() {
        let space = super::space(&std::env::temp_dir()).expect("a file system");
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
        assert!(super::space(std::path::Path::new("/nowhere/at/all")).is_err());
    }
}
