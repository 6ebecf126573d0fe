//! Compression of what is sent. It is deterministic, so data that is sent again is an exact repeat.

use std::io::{self, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A compromise: a gateway has little processor time to spare, but pays for its link.
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// The values of the key `compression`.
    pub const NAMES: &[&str] = &["none", "gzip", "zstd"];
    pub const CHOICES: [(&str, Compression); 3] =
        [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];

    /// The most it can add to data that cannot be compressed.
    pub fn frame_bytes_max(self, data_bytes: usize) -> usize {
        match self {
            Compression::None => 0,
            Compression::Gzip | Compression::Zstd => data_bytes / 256 + 64,
        }
    }

    /// The value of Content-Encoding.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }

    /// # Errors
    ///
    /// The compressor fails only for lack of memory.
    pub fn compress(self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(body),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&body)?;
                encoder.finish()
            }
            Compression::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_is_read_by_others() {
        let body = b"reading ".repeat(1_000);
        let gzip = Compression::Gzip.compress(body.clone()).expect("memory");
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut read).expect("gzip");
        assert_eq!(read, body);
        let packed = Compression::Zstd.compress(body.clone()).expect("memory");
        assert_eq!(zstd::bulk::decompress(&packed, body.len()).expect("zstd"), body);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let noise: Vec<u8> =
                (0..100_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
            let packed = compression.compress(noise.clone()).expect("memory");
            assert!(packed.len() <= noise.len() + compression.frame_bytes_max(noise.len()), "{}", packed.len());
            assert_eq!(packed, compression.compress(noise).expect("memory"), "a repeat is the same");
        }
        assert!(gzip.len() < 200 && packed.len() < 200);
    }
}
