//! The formats of files, and the keys that choose one.

use crate::keys::key::Fallback::Literal;
use crate::keys::key::{Group, Key, key_of};
use crate::keys::kind::Kind;
use crate::keys::section::Section;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// A record a line.
    Ndjson(Packing),
    /// Columns, compressed with zstd.
    Parquet,
}

/// How a file of lines is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Zstd,
}

impl FileFormat {
    pub const ALL: [FileFormat; 3] =
        [FileFormat::Ndjson(Packing::Zstd), FileFormat::Ndjson(Packing::Gzip), FileFormat::Parquet];

    /// With which file names end, so that others know the format.
    pub const fn suffix(self) -> &'static str {
        match self {
            FileFormat::Ndjson(Packing::Gzip) => ".ndjson.gz",
            FileFormat::Ndjson(Packing::Zstd) => ".ndjson.zst",
            FileFormat::Parquet => ".parquet",
        }
    }

    /// The format of files that end so.
    pub fn of_suffix(suffix: &str) -> Option<FileFormat> {
        FileFormat::ALL.into_iter().find(|format| format.suffix() == suffix)
    }

    /// The name without the suffix of a format; `None` if it has none of them.
    pub fn without_suffix(name: &str) -> Option<&str> {
        FileFormat::ALL.iter().find_map(|format| name.strip_suffix(format.suffix()))
    }

    /// Of the file as it is: no Content-Encoding, so that nothing on the way decompresses it.
    pub fn content_type(self) -> &'static str {
        match self {
            FileFormat::Ndjson(Packing::Gzip) => "application/gzip",
            FileFormat::Ndjson(Packing::Zstd) => "application/zstd",
            FileFormat::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            FileFormat::Ndjson(Packing::Gzip) => "NDJSON with gzip",
            FileFormat::Ndjson(Packing::Zstd) => "NDJSON with zstd",
            FileFormat::Parquet => "Parquet",
        }
    }

    /// Reads the two keys.
    pub fn read(section: &mut Section<'_>) -> FileFormat {
        let packings = [("zstd", Packing::Zstd), ("gzip", Packing::Gzip)];
        let packing = section.choice("compression", &packings).unwrap_or(Packing::Zstd);
        let formats = [("ndjson", FileFormat::Ndjson(packing)), ("parquet", FileFormat::Parquet)];
        let format = section.choice("format", &formats).unwrap_or(FileFormat::Ndjson(packing));
        if format == FileFormat::Parquet && packing == Packing::Gzip {
            section.blame("compression", "Parquet files are compressed with zstd; leave this away");
        }
        format
    }
}

pub const fn format_key(group: Group) -> Key {
    key_of(
        group,
        "format",
        Kind::Choice(&["ndjson", "parquet"]),
        Literal("\"ndjson\""),
        "A record a line, as other sinks send them, or Parquet with a typed column for each field, which takes a third of the room and is what query engines read best.",
    )
}

pub const fn compression_key(group: Group) -> Key {
    key_of(
        group,
        "compression",
        Kind::Choice(&["zstd", "gzip"]),
        Literal("\"zstd\""),
        "How files are compressed. zstd is faster and smaller; gzip is what older tools read.",
    )
}
