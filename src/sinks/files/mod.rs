//! What sinks that write files share: the formats, and how they read the log. The archive keeps its files here, `s3` sends them away.

pub mod format;
pub mod output;
pub mod tail;

use std::io::{self, Write};

use flate2::write::GzEncoder;

use crate::store::log::Record;
use format::{FileFormat, Packing};
use output::Output;

/// Level 1 and a window of 512 KiB: a gateway has neither processor time nor memory to spare, and the lines repeat within less.
const ZSTD_LEVEL: i32 = 1;
const ZSTD_WINDOW_LOG: u32 = 19;

/// A file that is being written.
pub struct RecordFile {
    encoder: Encoder,
    line: Vec<u8>,
}

enum Encoder {
    Gzip(GzEncoder<Output>),
    Zstd(zstd::Encoder<'static, Output>),
}

impl RecordFile {
    /// # Errors
    ///
    /// If memory for a compressor cannot be had, or the output fails.
    pub fn begin(format: FileFormat, output: Output) -> io::Result<RecordFile> {
        let encoder = match format {
            FileFormat::Ndjson(Packing::Gzip) => Encoder::Gzip(GzEncoder::new(output, flate2::Compression::default())),
            FileFormat::Ndjson(Packing::Zstd) => {
                let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Encoder::Zstd(encoder)
            }
        };
        Ok(RecordFile { encoder, line: Vec::new() })
    }

    /// # Errors
    ///
    /// If the output fails. What the file holds is unknown then.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.line.clear();
        record.write(&mut self.line);
        match &mut self.encoder {
            Encoder::Gzip(encoder) => encoder.write_all(&self.line),
            Encoder::Zstd(encoder) => encoder.write_all(&self.line),
        }
    }

    /// How large it is, as far as that is known before its end.
    pub fn bytes(&self) -> u64 {
        match &self.encoder {
            Encoder::Gzip(encoder) => encoder.get_ref().bytes,
            Encoder::Zstd(encoder) => encoder.get_ref().bytes,
        }
    }

    /// # Errors
    ///
    /// If the output fails.
    pub fn finish(self) -> io::Result<Output> {
        match self.encoder {
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}
