//! What sinks that write files share: the formats, and how they read the log. The archive keeps its files here, `s3` sends them away.

pub mod columns;
pub mod fields;
pub mod format;
pub mod output;
mod parquet;
mod rows;
pub mod tail;

use std::io::{self, Write};

use flate2::write::GzEncoder;

use self::parquet::{ParquetFile, ROW_GROUP_ROWS};
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
    Parquet(Box<ParquetFile>),
}

impl RecordFile {
    /// # Errors
    ///
    /// If memory for a compressor cannot be had, or the output fails.
    pub fn begin(format: FileFormat, stream: &str, output: Output) -> io::Result<RecordFile> {
        RecordFile::begin_with(format, stream, output, ROW_GROUP_ROWS)
    }

    /// The same with another size of Parquet's row groups.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn begin_with(format: FileFormat, stream: &str, output: Output, group_rows: u32) -> io::Result<RecordFile> {
        let encoder = match format {
            FileFormat::Ndjson(Packing::Gzip) => Encoder::Gzip(GzEncoder::new(output, flate2::Compression::default())),
            FileFormat::Ndjson(Packing::Zstd) => {
                let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Encoder::Zstd(encoder)
            }
            FileFormat::Parquet => Encoder::Parquet(Box::new(ParquetFile::begin(stream, output, group_rows)?)),
        };
        Ok(RecordFile { encoder, line: Vec::new() })
    }

    /// # Errors
    ///
    /// If the output fails. What the file holds is unknown then.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Gzip(encoder) => encoder.write_all(written(record, &mut self.line)),
            Encoder::Zstd(encoder) => encoder.write_all(written(record, &mut self.line)),
            Encoder::Parquet(file) => file.write(record),
        }
    }

    /// It takes no more, whatever its size is.
    pub fn is_full(&self) -> bool {
        matches!(&self.encoder, Encoder::Parquet(file) if file.is_full())
    }

    /// How large it is, as far as that is known before its end.
    pub fn bytes(&self) -> u64 {
        match &self.encoder {
            Encoder::Gzip(encoder) => encoder.get_ref().bytes,
            Encoder::Zstd(encoder) => encoder.get_ref().bytes,
            Encoder::Parquet(file) => file.bytes(),
        }
    }

    /// # Errors
    ///
    /// If the output fails.
    pub fn finish(self) -> io::Result<Output> {
        match self.encoder {
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Parquet(file) => file.finish(),
        }
    }
}

/// The record as a line.
fn written<'a>(record: &Record<'_>, line: &'a mut Vec<u8>) -> &'a [u8] {
    line.clear();
    record.write(line);
    line
}
