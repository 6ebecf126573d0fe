//! How much is in a compressed file.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read};

use flate2::bufread::GzDecoder;

use super::Contents;
use crate::core::files::{Packed, Print};
use crate::files::pread::read_at;

/// So much of the compressed bytes tells a file from others, together with how many they are; and so much of what is in it is kept.
const HEAD_BYTES: usize = 1024;
/// So many times its size may be in a file: logs take a tenth, and what takes far less is there to do harm.
const RATIO_MAX: u64 = 250;
/// What is unpacked at a time.
const STEP_BYTES: usize = 32 * 1024;

/// What tells a compressed file from any other.
pub fn seal(file: &File, size: u64) -> std::io::Result<u64> {
    let mut head = [0; HEAD_BYTES];
    let read = read_at(file, 0, &mut head)?;
    Ok(Print::of(&[&size.to_be_bytes(), &head[..read]].concat()).hash)
}

/// A file that is being unpacked.
#[derive(Debug)]
pub struct Counting {
    /// Of the present member; a file may have several.
    decoder: Option<GzDecoder<BufReader<File>>>,
    size_max: u64,
    size: u64,
    /// The end of the last whole line.
    lines_size: u64,
    /// The same, of the members whose checksums are right.
    checked_size: u64,
    head: Vec<u8>,
    seal: u64,
}

/// What was found in a file.
#[derive(Debug)]
pub struct Counted {
    seal: u64,
    size: u64,
    head: Vec<u8>,
    /// Why that is not all.
    pub fault: Option<String>,
}

impl Counted {
    pub fn contents(&mut self) -> Contents {
        let packed = Packed { seal: self.seal, size: self.size };
        Contents { packed, is_damaged: self.fault.is_some(), head: std::mem::take(&mut self.head).into() }
    }
}

impl Counting {
    /// `always` is how much may be in it however small it is.
    pub fn begin(file: File, compressed_size: u64, always: u64) -> std::io::Result<Counting> {
        let seal = seal(&file, compressed_size)?;
        let decoder = Some(GzDecoder::new(BufReader::new(file)));
        let size_max = always.max(compressed_size.saturating_mul(RATIO_MAX));
        Ok(Counting { decoder, size_max, size: 0, lines_size: 0, checked_size: 0, head: Vec::new(), seal })
    }

    /// Unpacks as much as is left to be unpacked now. Returns what it has found once it is at the end.
    pub fn go_on(&mut self, left: &mut u64) -> Option<Counted> {
        let mut buffer = [0; STEP_BYTES];
        while *left > 0 {
            let read = match self.read(&mut buffer) {
                Ok(0) => return Some(self.end(self.size, None)),
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Half a line could be taken for a whole one.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Some(self.end(self.lines_size, Some(error.to_string())));
                }
                // Nothing tells which bytes of a member are wrong: what was made of them may be anything.
                Err(error) => return Some(self.end(self.checked_size, Some(error.to_string()))),
            };
            *left = left.saturating_sub(read.len() as u64);
            if let Some(newline) = read.iter().rposition(|byte| *byte == b'\n') {
                self.lines_size = self.size + newline as u64 + 1;
            }
            let room = HEAD_BYTES.saturating_sub(self.head.len()).min(read.len());
            self.head.extend_from_slice(&read[..room]);
            self.size += read.len() as u64;
            if self.size > self.size_max {
                self.head.clear();
                return Some(self.end(0, Some(format!("more than {RATIO_MAX} times its size is in it"))));
            }
        }
        None
    }

    /// Unpacks the next bytes, of one member after the other.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.decoder else { return Ok(0) };
            let read = decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.checked_size = self.lines_size;
            let mut rest = self.decoder.take().map(GzDecoder::into_inner).expect("it was just there");
            if !rest.fill_buf()?.is_empty() {
                self.decoder = Some(GzDecoder::new(rest));
            }
        }
    }

    fn end(&mut self, size: u64, fault: Option<String>) -> Counted {
        let mut head = std::mem::take(&mut self.head);
        head.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Counted { seal: self.seal, size, head, fault }
    }
}
