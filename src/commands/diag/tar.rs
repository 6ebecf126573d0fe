//! An archive of a few small files, as POSIX ustar: a header of 512 bytes before each file, whose end is filled up, and two empty blocks at the end.

use std::io::{self, Write};

const BLOCK: usize = 512;

pub struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Archive<W> {
        Archive { out }
    }

    /// Adds a file that its owner may read and write.
    ///
    /// # Panics
    ///
    /// If the name is longer than ustar's field for it: names are the program's own.
    pub fn add(&mut self, name: &str, content: &[u8], modified_s: u64) -> io::Result<()> {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(name.len() < 100, "{name}");
        put(0, name.as_bytes());
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{modified_s:011o}\0").as_bytes());
        // The sum is taken with spaces in its own place.
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(content)?;
        let rest = content.len().next_multiple_of(BLOCK) - content.len();
        self.out.write_all(&[0; BLOCK][..rest])
    }

    /// Ends the archive.
    pub fn end(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_fill_whole_blocks_and_a_sum_holds() {
        let mut archive = Archive::new(Vec::new());
        archive.add("a/b.txt", b"hello\n", 1_700_000_000).expect("memory");
        archive.add("empty", b"", 0).expect("memory");
        let bytes = archive.end().expect("memory");
        assert_eq!(bytes.len(), BLOCK * 5, "two headers, one content, the end");
        assert!(bytes.starts_with(b"a/b.txt\0") && &bytes[257..262] == b"ustar");
        assert_eq!(&bytes[124..136], b"00000000006\0");
        let sum: u32 = bytes[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
        let said: u32 = u32::from_str_radix(std::str::from_utf8(&bytes[148..154]).expect("text"), 8).expect("octal");
        let own: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(said, sum - own + 8 * 32);
    }
}
