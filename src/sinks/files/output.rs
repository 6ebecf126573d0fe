//! Where the bytes of a file go.

use std::fs::File;
use std::io::{self, Write};

use md5::Md5;
use md5::digest::Digest;
use ring::digest::{Context, SHA256};

/// Counts what is written, and takes digests of it if they are wanted.
pub struct Output {
    pub target: Target,
    pub bytes: u64,
    digests: Option<Digests>,
}

pub enum Target {
    File(File),
    Memory(Vec<u8>),
}

struct Digests {
    sha256: Context,
    md5: Md5,
}

/// Of everything that was written.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    pub sha256: [u8; 32],
    pub md5: [u8; 16],
}

impl Output {
    pub fn plain(target: Target) -> Output {
        Output { target, bytes: 0, digests: None }
    }

    pub fn with_sums(target: Target) -> Output {
        Output { digests: Some(Digests { sha256: Context::new(&SHA256), md5: Md5::new() }), ..Output::plain(target) }
    }

    /// The target with the digests of what it holds, if they were wanted.
    pub fn into_parts(self) -> (Target, Option<Sums>) {
        let sums = self.digests.map(|Digests { sha256, md5 }| {
            let mut sums = Sums { sha256: [0; 32], md5: md5.finalize().into() };
            sums.sha256.copy_from_slice(sha256.finish().as_ref());
            sums
        });
        (self.target, sums)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.target {
            Target::File(file) => file.write(bytes)?,
            Target::Memory(memory) => memory.write(bytes)?,
        };
        self.bytes += count as u64;
        if let Some(digests) = &mut self.digests {
            digests.sha256.update(&bytes[..count]);
            digests.md5.update(&bytes[..count]);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::File(file) => file.flush(),
            Target::Memory(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_all_that_was_written() {
        let mut output = Output::with_sums(Target::Memory(Vec::new()));
        output.write_all(b"ab").and_then(|()| output.write_all(b"c")).expect("memory");
        assert_eq!(output.bytes, 3);
        let (Target::Memory(written), Some(sums)) = output.into_parts() else { panic!("as it was made") };
        assert_eq!(written, b"abc");
        assert_eq!((sums.sha256[..2].to_vec(), sums.md5[..2].to_vec()), (vec![0xba, 0x78], vec![0x90, 0x01]));
        assert!(Output::plain(Target::Memory(Vec::new())).into_parts().1.is_none());
    }
}
