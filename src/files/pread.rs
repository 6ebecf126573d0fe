//! Reads at a place of a file.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Fills the buffer as far as the file goes.
pub(super) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
