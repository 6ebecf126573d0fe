//! Files that may hold secrets, which commands change, and randomness for new ones.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A gateway that reads it meanwhile sees the old or the new file. Others than its owner see none of both, unless they could before.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    write_with(file, text, 0o600)
}

/// The same, with the rights that the file gets if it is new.
pub(super) fn write_with(file: &Path, text: &str, mode_if_new: u32) -> io::Result<()> {
    let mode = fs::metadata(file).map_or(mode_if_new, |before| before.permissions().mode() & 0o777);
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    open.set_permissions(fs::Permissions::from_mode(mode))?;
    open.write_all(text.as_bytes())?;
    open.sync_all()?;
    fs::rename(&new, file)
}

/// The text of a file; an empty one if there is none.
pub(super) fn read_if_there(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(bytes)
}
