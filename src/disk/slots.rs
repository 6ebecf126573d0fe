//! A small file that is replaced as a whole: two slots that are written in turn, so that a power cut spoils one of them at most. What is
//! replaced keeps its place, so that it can be written on a full disk, too.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Length and checksum of what follows.
pub const HEADER_BYTES: usize = 8;

#[derive(Clone, Debug)]
pub struct Slots {
    path: PathBuf,
    slot_bytes: usize,
}

impl Slots {
    pub fn new(path: PathBuf, slot_bytes: usize) -> Slots {
        Slots { path, slot_bytes }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fits(&self, body: &[u8]) -> bool {
        HEADER_BYTES + body.len() <= self.slot_bytes
    }

    /// What the slots hold that are intact, in no order.
    pub fn read(&self) -> Vec<Vec<u8>> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        bytes.chunks(self.slot_bytes).filter_map(read).map(<[u8]>::to_vec).collect()
    }

    /// Gives both slots their place on the disk.
    pub fn claim(&self) -> io::Result<()> {
        super::allocate(&self.open()?, 2 * self.slot_bytes as u64)
    }

    /// Replaces what was numbered two less. It is durable when this returns.
    ///
    /// # Errors
    ///
    /// If it does not fit, or cannot be written. What was written before still holds then; the same number is to be used again.
    pub fn write(&self, number: u64, body: &[u8]) -> io::Result<()> {
        if !self.fits(body) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut slot = Vec::with_capacity(HEADER_BYTES + body.len());
        slot.extend_from_slice(&(body.len() as u32).to_le_bytes());
        slot.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        slot.extend_from_slice(body);
        let file = self.open()?;
        file.write_all_at(&slot, number % 2 * self.slot_bytes as u64)?;
        file.sync_data()
    }

    fn open(&self) -> io::Result<File> {
        let is_new = !self.path.exists();
        let file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
        if is_new {
            super::sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(file)
    }
}

fn read(slot: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(slot.get(at..at + 4)?.try_into().ok()?));
    let (length, check) = (number(0)? as usize, number(4)?);
    let body = slot.get(HEADER_BYTES..HEADER_BYTES.checked_add(length)?)?;
    // Where nothing was written yet, there are zeros.
    (length > 0 && crc32fast::hash(body) == check).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_spoilt_leaves_the_one_before() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let slots = Slots::new(folder.path().join("s"), 4096);
        assert!(slots.read().is_empty());
        slots.claim().expect("room");
        assert!(slots.read().is_empty(), "zeros are nothing");
        for number in 1..=3_u8 {
            slots.write(number.into(), &[number; 100]).expect("a working disk");
        }
        let mut bytes = fs::read(slots.path()).expect("a file");
        assert_eq!((bytes.len(), slots.read().len()), (8192, 2));
        bytes[4096 + 50] ^= 1;
        fs::write(slots.path(), &bytes).expect("a working disk");
        assert_eq!(slots.read(), [vec![2; 100]], "the third is spoilt");
        fs::write(slots.path(), &bytes[..5]).expect("a working disk");
        assert!(slots.read().is_empty());
        assert!(slots.write(4, &[0; 4089]).is_err());
    }
}
