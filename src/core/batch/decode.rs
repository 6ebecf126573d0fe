use super::varint::Cursor;
use super::{FLAG_DEVICE_TIME, FLAG_ROUNDING, FLAG_SEQUENCE, FLAG_SYNCED, Tag, VERSION};
use crate::reading::{Attributes, ClockFault, DeviceTime, Reading, Rounding, TimeQuality};

/// A record as it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored<'a> {
    /// A reading of the raw stream.
    Reading(Reading<'a>),
    /// A record that is stored as it is sent, such as an anomaly.
    Line {
        /// See [`Tag`]; a later version may have written one that is unknown here.
        tag: u8,
        /// The device that it is about.
        device: &'a str,
        /// JSON with its line feed.
        line: &'a [u8],
    },
}

impl<'a> Stored<'a> {
    /// The device whose order it is sent in.
    pub fn device(&self) -> &'a str {
        match self {
            Stored::Reading(reading) => reading.device,
            Stored::Line { device, .. } => device,
        }
    }
}

/// The payload is not what an encoder wrote; the checksum of the row should have said so before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged batch: {what}")]
pub struct Damaged {
    /// Which part of it; for people.
    pub what: &'static str,
}

/// Iterates over the records of a payload, borrowing from it. After an error it ends.
#[derive(Debug)]
pub struct Decoder<'a> {
    series: Vec<(&'a str, &'a str)>,
    attributes: Vec<Attributes<'a>>,
    rest: &'a [u8],
    measured_at_ms: i64,
    received_at_ms: i64,
}

impl<'a> Decoder<'a> {
    /// Reads the dictionaries of a payload; the records follow one by one.
    ///
    /// # Errors
    ///
    /// If the payload is of another version, or its dictionaries are damaged.
    pub fn new(payload: &'a [u8]) -> Result<Self, Damaged> {
        let mut cursor = Cursor { rest: payload };
        match cursor.byte() {
            Some(VERSION) => {}
            Some(_) => {
                return Err(Damaged { what: "unknown version" });
            }
            None => return Err(Damaged { what: "empty" }),
        }
        let series = read_series(&mut cursor).ok_or(Damaged { what: "names" })?;
        let attributes = read_attributes(&mut cursor).ok_or(Damaged { what: "attributes" })?;
        Ok(Decoder { series, attributes, rest: cursor.rest, measured_at_ms: 0, received_at_ms: 0 })
    }

    fn record(&mut self) -> Option<Stored<'a>> {
        let mut cursor = Cursor { rest: self.rest };
        let tag = cursor.byte()?;
        let mut body = Cursor { rest: cursor.bytes()? };
        self.rest = cursor.rest;
        if Tag::from_byte(tag) != Some(Tag::Reading) {
            let device = body.text()?;
            return Some(Stored::Line { tag, device, line: body.rest });
        }
        let flags = body.byte()?;
        let (device, metric) = *self.series.get(usize::try_from(body.number()?).ok()?)?;
        let attributes = match body.number()? {
            0 => Attributes::NONE,
            set => *self.attributes.get(usize::try_from(set - 1).ok()?)?,
        };
        let value = f64::from_le_bytes(body.take(8)?.try_into().ok()?);
        self.measured_at_ms = self.measured_at_ms.wrapping_add(body.signed()?);
        self.received_at_ms = self.received_at_ms.wrapping_add(body.signed()?);
        let sequence = if flags & FLAG_SEQUENCE != 0 { Some(body.number()?) } else { None };
        let device_time = match flags & FLAG_DEVICE_TIME {
            0 => None,
            // A fault that a later version knows is none here.
            _ => {
                let fault = ClockFault::from_byte(body.byte()?);
                let device_ms = self.measured_at_ms.wrapping_add(body.signed()?);
                fault.map(|fault| DeviceTime { fault, device_ms })
            }
        };
        let rounding = match flags & FLAG_ROUNDING {
            0 => None,
            _ => Rounding::from_lacks(body.signed()?),
        };
        let time_quality = if flags & FLAG_SYNCED != 0 { TimeQuality::Synced } else { TimeQuality::Unsynced };
        Some(Stored::Reading(Reading {
            device,
            metric,
            value,
            rounding,
            measured_at_ms: self.measured_at_ms,
            received_at_ms: self.received_at_ms,
            time_quality,
            device_time,
            sequence,
            attributes,
        }))
    }
}

impl<'a> Iterator for Decoder<'a> {
    type Item = Result<Stored<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_none() {
            self.rest = &[];
        }
        Some(record.ok_or(Damaged { what: "record" }))
    }
}

fn read_series<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let count = cursor.number()?;
    let mut series = Vec::with_capacity(bounded(count, cursor)?);
    for _ in 0..count {
        series.push((cursor.text()?, cursor.text()?));
    }
    Some(series)
}

fn read_attributes<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<Attributes<'a>>> {
    let count = cursor.number()?;
    let mut attributes = Vec::with_capacity(bounded(count, cursor)?);
    for _ in 0..count {
        attributes.push(Attributes::from_packed(cursor.bytes()?)?);
    }
    Some(attributes)
}

/// An entry takes at least a byte: a count beyond that is damage, and must not become an allocation.
fn bounded(count: u64, cursor: &Cursor<'_>) -> Option<usize> {
    usize::try_from(count).ok().filter(|count| *count <= cursor.rest.len())
}
