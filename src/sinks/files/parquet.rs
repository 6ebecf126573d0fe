//! Files of columns, as query engines read them.
//!
//! A row group has 20,000 rows: enough for its dictionaries and differences to pay, and few enough to be held in memory. Times, positions
//! and counters are differences, texts numbers of a dictionary, and all of it is compressed with zstd.

use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{BoolType, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use super::columns::{Column, Kind};
use super::output::Output;
use super::rows::{Rows, Values};
use crate::store::log::Record;

pub const ROW_GROUP_ROWS: u32 = 20_000;
/// A file has no more row groups: what is known of each column of each of them is in memory until the end of the file.
const ROW_GROUPS_MAX: usize = 256;
/// About what a row takes that is not written yet; measured are 4 to 13.
const ROW_BYTES: u64 = 6;
const LEVEL: i32 = 3;
/// So many values are handed over at one time.
const CHUNK_ROWS: u32 = 1024;

pub struct ParquetFile {
    writer: SerializedFileWriter<Output>,
    rows: Rows,
    group_rows: u32,
}

impl ParquetFile {
    pub fn begin(stream: &str, output: Output, group_rows: u32) -> io::Result<ParquetFile> {
        let rows = Rows::of_stream(stream);
        let writer = SerializedFileWriter::new(output, schema(&rows.columns)?, Arc::new(properties(&rows.columns)?))?;
        Ok(ParquetFile { writer, rows, group_rows })
    }

    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.rows.push(record);
        if self.rows.are_enough(self.group_rows) {
            self.end_group()?;
        }
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64 + u64::from(self.rows.count) * ROW_BYTES + self.rows.text_bytes()
    }

    pub fn is_full(&self) -> bool {
        self.writer.flushed_row_groups().len() >= ROW_GROUPS_MAX
    }

    pub fn finish(mut self) -> io::Result<Output> {
        self.end_group()?;
        Ok(self.writer.into_inner()?)
    }

    fn end_group(&mut self) -> Result<()> {
        let Rows { columns, values, texts, count, .. } = &self.rows;
        if *count == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for (column, values) in columns.iter().zip(values) {
            let mut writer = group.next_column()?.expect("the schema has the same columns");
            let writer_of = writer.untyped();
            match column.kind {
                Kind::Text | Kind::Json => {
                    let text = |bits: u64| texts.known[bits as usize].clone();
                    put::<ByteArrayType>(writer_of, column, values, *count, text)?;
                }
                Kind::Integer => put::<Int64Type>(writer_of, column, values, *count, u64::cast_signed)?,
                Kind::Double => put::<DoubleType>(writer_of, column, values, *count, f64::from_bits)?,
                Kind::Boolean => put::<BoolType>(writer_of, column, values, *count, |bits| bits != 0)?,
            }
            writer.close()?;
        }
        group.close()?;
        self.rows.clear();
        Ok(())
    }
}

/// Hands over a column in pieces, with a level for each row that says whether it is there.
fn put<T: DataType>(
    writer: &mut ColumnWriter<'_>,
    column: &Column,
    values: &Values,
    count: u32,
    value: impl Fn(u64) -> T::T,
) -> Result<()> {
    let writer = T::get_column_writer_mut(writer).expect("the schema has the same types");
    let (mut next, mut levels, mut there) = (0, Vec::new(), Vec::new());
    for first in (0..count).step_by(CHUNK_ROWS as usize) {
        let last = count.min(first + CHUNK_ROWS);
        there.clear();
        if column.is_required {
            there.extend(values.bits[first as usize..last as usize].iter().map(|bits| value(*bits)));
            writer.write_batch(&there, None, None)?;
            continue;
        }
        levels.clear();
        for row in first..last {
            let is_there = values.rows.get(next) == Some(&row);
            levels.push(i16::from(is_there));
            if is_there {
                there.push(value(values.bits[next]));
                next += 1;
            }
        }
        writer.write_batch(&there, Some(&levels), None)?;
    }
    Ok(())
}

fn schema(columns: &[Column]) -> Result<Arc<Type>> {
    let field = |column: &Column| {
        let (physical, logical) = match column.kind {
            Kind::Text | Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Integer => (Physical::INT64, None),
            Kind::Double => (Physical::DOUBLE, None),
            Kind::Boolean => (Physical::BOOLEAN, None),
        };
        let repetition = if column.is_required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let field = Type::primitive_type_builder(column.name, physical).with_repetition(repetition);
        field.with_logical_type(logical).build().map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<Result<Vec<_>>>()?;
    Type::group_type_builder("record").with_fields(fields).build().map(Arc::new)
}

fn properties(columns: &[Column]) -> Result<WriterProperties> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("outrider ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for column in columns.iter().filter(|column| column.kind == Kind::Integer) {
        let path = ColumnPath::from(column.name);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(properties.build())
}
