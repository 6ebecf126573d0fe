//! What is in a compressed file, read from its beginning to its end.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek};

use flate2::bufread::MultiGzDecoder;

/// What is unpacked at a time on the way to a place.
const STEP_BYTES: usize = 32 * 1024;

/// A decoder, with what was asked for last: the next bytes that are asked for begin within it.
#[derive(Debug)]
pub struct Unpacking {
    seal: u64,
    decoder: MultiGzDecoder<BufReader<File>>,
    /// Where the window begins.
    from: u64,
    window: Vec<u8>,
}

impl Unpacking {
    pub fn begin(mut file: File, seal: u64) -> io::Result<Unpacking> {
        file.rewind()?;
        let decoder = MultiGzDecoder::new(BufReader::new(file));
        Ok(Unpacking { seal, decoder, from: 0, window: Vec::new() })
    }

    /// Whether it can go on to this place of this file.
    pub fn reaches(&self, seal: u64, offset: u64) -> bool {
        self.seal == seal && self.from <= offset
    }

    /// Fills the buffer from a place on that it reaches, as far as the file goes.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let known = usize::try_from(offset - self.from).unwrap_or(usize::MAX).min(self.window.len());
        self.window.drain(..known);
        self.from += known as u64;
        while self.from < offset {
            let step = usize::try_from(offset - self.from).unwrap_or(usize::MAX).min(STEP_BYTES);
            let passed = self.fill(step)?;
            self.window.clear();
            self.from += passed as u64;
            if passed < step {
                return Ok(0);
            }
        }
        if self.window.len() < buffer.len() {
            self.fill(buffer.len() - self.window.len())?;
        }
        let length = self.window.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.window[..length]);
        Ok(length)
    }

    /// Unpacks so many bytes more, or all that there are.
    fn fill(&mut self, bytes: usize) -> io::Result<usize> {
        let before = self.window.len();
        self.window.resize(before + bytes, 0);
        let mut end = before;
        while end < self.window.len() {
            match self.decoder.read(&mut self.window[end..]) {
                Ok(0) => break,
                Ok(read) => end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.window.truncate(end);
                    return Err(error);
                }
            }
        }
        self.window.truncate(end);
        Ok(end - before)
    }
}
