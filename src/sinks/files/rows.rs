//! The rows of one row group, column by column, until they are written. Texts are kept once each, and nulls not at all.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use parquet::data_type::ByteArray;

use super::columns::{self, Column, Kind, at};
use super::fields;
use crate::core::batch::Stored;
use crate::core::reading::{Reading, TimeQuality};
use crate::core::record;
use crate::store::log::Record;

/// With more of different texts than this, the rows are written even if they are few.
const TEXT_BYTES_MAX: usize = 4 << 20;

pub struct Rows {
    pub columns: Vec<Column>,
    pub values: Vec<Values>,
    pub texts: Texts,
    pub count: u32,
    by_name: HashMap<&'static str, usize>,
    has_readings: bool,
    scratch: Vec<u8>,
}

/// The values of a column that are not null.
#[derive(Default)]
pub struct Values {
    /// The row of each; unused where there is one in every row.
    pub rows: Vec<u32>,
    /// Bits of a number, or the number of a text.
    pub bits: Vec<u64>,
}

/// All different texts of the rows.
#[derive(Default)]
pub struct Texts {
    numbers: HashMap<Bytes, u32>,
    pub known: Vec<ByteArray>,
    bytes: usize,
}

impl Texts {
    fn number(&mut self, text: &[u8]) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return (*number).into();
        }
        let number = u32::try_from(self.known.len()).expect("a row has few texts, and there are few rows");
        let text = Bytes::copy_from_slice(text);
        self.bytes += text.len();
        self.known.push(ByteArray::from(text.clone()));
        self.numbers.insert(text, number);
        number.into()
    }

    fn clear(&mut self) {
        self.numbers.clear();
        self.known.clear();
        self.bytes = 0;
    }
}

impl Rows {
    pub fn of_stream(stream: &str) -> Rows {
        let columns = columns::of_stream(stream);
        let by_name = columns.iter().enumerate().map(|(number, column)| (column.name, number)).collect();
        let values = columns.iter().map(|_| Values::default()).collect();
        let has_readings = columns::has_readings(stream);
        Rows { columns, values, texts: Texts::default(), count: 0, by_name, has_readings, scratch: Vec::new() }
    }

    /// Whether they are enough for a row group of so many rows.
    pub fn are_enough(&self, rows: u32) -> bool {
        self.count >= rows || self.texts.bytes >= TEXT_BYTES_MAX
    }

    /// Texts may be of any size, so that they count as they are.
    pub fn text_bytes(&self) -> u64 {
        self.texts.bytes as u64
    }

    pub fn clear(&mut self) {
        for values in &mut self.values {
            values.rows.clear();
            values.bits.clear();
        }
        self.texts.clear();
        self.count = 0;
    }

    pub fn push(&mut self, record: &Record<'_>) {
        match &record.stored {
            Stored::Reading(reading) if self.has_readings => self.push_reading(record, reading),
            Stored::Line { line, .. } => self.push_line(line),
            Stored::Reading(_) => {
                let mut line = Vec::new();
                record.write(&mut line);
                self.push_line(&line);
            }
        }
        self.fill();
        self.count += 1;
    }

    fn push_reading(&mut self, record: &Record<'_>, reading: &Reading<'_>) {
        self.text(at::TYPE, "reading");
        self.bits(at::V, 1);
        self.text(at::GATEWAY, &unescaped(record.gateway));
        self.text(at::RUN, &record.run.to_string());
        self.bits(at::POSITION, record.position);
        self.text(at::DEVICE, reading.device);
        self.text(at::METRIC, reading.metric);
        if reading.value.is_finite() {
            self.bits(at::VALUE, reading.value.to_bits());
        }
        if let Some(rounding) = reading.rounding {
            self.text(at::VALUE_EXACT, &rounding.exact(reading.value).to_string());
        }
        self.bits(at::MEASURED_AT_MS, reading.measured_at_ms.cast_unsigned());
        self.bits(at::RECEIVED_AT_MS, reading.received_at_ms.cast_unsigned());
        self.text(
            at::TIME_QUALITY,
            match reading.time_quality {
                TimeQuality::Synced => "synced",
                TimeQuality::Unsynced => "unsynced",
            },
        );
        if let Some(time) = reading.device_time {
            self.text(at::DEVICE_CLOCK, time.fault.name());
            self.bits(at::DEVICE_TIME_MS, time.device_ms.cast_unsigned());
        }
        if let Some(sequence) = reading.sequence.filter(|sequence| i64::try_from(*sequence).is_ok()) {
            self.bits(at::SEQ, sequence);
        }
        if !reading.attributes.is_empty() {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            record::write_attributes(&mut scratch, reading.attributes);
            let object = scratch.strip_prefix(b",\"attributes\":".as_slice()).unwrap_or(&scratch);
            let number = self.texts.number(object);
            self.bits(at::ATTRIBUTES, number);
            self.scratch = scratch;
        }
    }

    fn push_line(&mut self, line: &[u8]) {
        for (name, value) in fields::of(line) {
            let Some(column) = self.by_name.get(name).copied() else { continue };
            match self.columns[column].kind {
                _ if value == "null" => {}
                Kind::Json => self.text(column, value),
                Kind::Text => {
                    if let Some(inside) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                        self.text(column, &unescaped(inside));
                    }
                }
                Kind::Integer => {
                    if let Ok(number) = value.parse::<i64>() {
                        self.bits(column, number.cast_unsigned());
                    }
                }
                Kind::Double => {
                    if let Ok(number) = value.parse::<f64>() {
                        self.bits(column, number.to_bits());
                    }
                }
                Kind::Boolean => self.bits(column, u64::from(value == "true")),
            }
        }
    }

    fn text(&mut self, column: usize, text: &str) {
        let number = self.texts.number(text.as_bytes());
        self.bits(column, number);
    }

    fn bits(&mut self, column: usize, bits: u64) {
        let values = &mut self.values[column];
        // A field that comes twice would not be ours; the first one counts.
        if self.columns[column].is_required {
            if values.bits.len() == self.count as usize {
                values.bits.push(bits);
            }
        } else if values.rows.last() != Some(&self.count) {
            values.rows.push(self.count);
            values.bits.push(bits);
        }
    }

    /// A line that lacks what every record has is not one of ours; nothing is missing in its row.
    fn fill(&mut self) {
        for number in 0..self.columns.len() {
            let Column { kind, is_required, .. } = self.columns[number];
            if is_required && self.values[number].bits.len() == self.count as usize {
                match kind {
                    Kind::Text | Kind::Json => self.text(number, ""),
                    _ => self.bits(number, 0),
                }
            }
        }
    }
}

/// The text that the inside of a JSON string stands for.
fn unescaped(inside: &str) -> Cow<'_, str> {
    match inside.contains('\\') {
        true => serde_json::from_str(&format!("\"{inside}\"")).map_or(Cow::Borrowed(inside), Cow::Owned),
        false => Cow::Borrowed(inside),
    }
}
