use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{FLAG_DEVICE_TIME, FLAG_ROUNDING, FLAG_SEQUENCE, FLAG_SYNCED, Tag, VERSION, varint};
use crate::reading::{DeviceTime, Reading, TimeQuality};

/// Builds one payload after another; its buffers are kept, so a busy writer allocates once.
#[derive(Debug, Default)]
pub struct BatchEncoder {
    series: Dictionary,
    attributes: Dictionary,
    records: Vec<u8>,
    key: Vec<u8>,
    count: u32,
    last_measured_at_ms: i64,
    last_received_at_ms: i64,
}

impl BatchEncoder {
    /// Records pushed since the last [`Self::finish`].
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the payload so far, before compression.
    pub fn byte_size(&self) -> usize {
        self.records.len() + self.series.bytes.len() + self.attributes.bytes.len()
    }

    /// Appends a reading. Names and attribute sets that repeat are stored once in the payload.
    pub fn push_reading(&mut self, reading: &Reading<'_>) {
        self.key.clear();
        varint::put_bytes(&mut self.key, reading.device.as_bytes());
        varint::put_bytes(&mut self.key, reading.metric.as_bytes());
        let series = self.series.intern(&self.key);
        // 0 stands for "none", so that the commonest case costs no dictionary entry.
        let attributes = if reading.attributes.is_empty() {
            0
        } else {
            self.key.clear();
            varint::put_bytes(&mut self.key, reading.attributes.packed());
            self.attributes.intern(&self.key) + 1
        };
        let start = self.begin(Tag::Reading);
        let out = &mut self.records;
        let synced = if reading.time_quality == TimeQuality::Synced { FLAG_SYNCED } else { 0 };
        let numbered = if reading.sequence.is_some() { FLAG_SEQUENCE } else { 0 };
        let told = if reading.device_time.is_some() { FLAG_DEVICE_TIME } else { 0 };
        let rounded = if reading.rounding.is_some() { FLAG_ROUNDING } else { 0 };
        out.push(synced | numbered | told | rounded);
        varint::put(out, u64::from(series));
        varint::put(out, u64::from(attributes));
        out.extend_from_slice(&reading.value.to_le_bytes());
        varint::put_signed(out, reading.measured_at_ms.wrapping_sub(self.last_measured_at_ms));
        varint::put_signed(out, reading.received_at_ms.wrapping_sub(self.last_received_at_ms));
        if let Some(sequence) = reading.sequence {
            varint::put(out, sequence);
        }
        if let Some(DeviceTime { fault, device_ms }) = reading.device_time {
            out.push(fault as u8);
            varint::put_signed(out, device_ms.wrapping_sub(reading.measured_at_ms));
        }
        if let Some(rounding) = reading.rounding {
            varint::put_signed(out, rounding.lacks());
        }
        let body_len = out.len() - start;
        debug_assert!(body_len < 0x80, "a reading's body fits the one length byte that was kept for it");
        out[start - 1] = body_len as u8;
        self.last_measured_at_ms = reading.measured_at_ms;
        self.last_received_at_ms = reading.received_at_ms;
        self.count += 1;
    }

    /// Appends a record that is stored as the line that is sent, and in order with others of `device`. `tag` is not [`Tag::Reading`].
    pub fn push_line(&mut self, tag: Tag, device: &str, line: &[u8]) {
        debug_assert_ne!(tag, Tag::Reading, "readings have a form of their own");
        self.key.clear();
        varint::put_bytes(&mut self.key, device.as_bytes());
        self.records.push(tag as u8);
        varint::put(&mut self.records, (self.key.len() + line.len()) as u64);
        self.records.extend_from_slice(&self.key);
        self.records.extend_from_slice(line);
        self.count += 1;
    }

    fn begin(&mut self, tag: Tag) -> usize {
        self.records.extend_from_slice(&[tag as u8, 0]);
        self.records.len()
    }

    /// Takes the payload; the encoder is empty afterwards.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.byte_size() + 16);
        payload.push(VERSION);
        self.series.write(&mut payload);
        self.attributes.write(&mut payload);
        payload.extend_from_slice(&self.records);
        self.records.clear();
        self.count = 0;
        (self.last_measured_at_ms, self.last_received_at_ms) = (0, 0);
        payload
    }
}

/// Distinct byte strings in order of first use.
#[derive(Debug, Default)]
struct Dictionary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Dictionary {
    fn intern(&mut self, key: &[u8]) -> u32 {
        let Dictionary { bytes, ends, index, hasher } = self;
        let hash = hasher.hash_one(key);
        if let Some(found) = index.find(hash, |at| entry(bytes, ends, *at) == key) {
            return *found;
        }
        let at = ends.len() as u32;
        bytes.extend_from_slice(key);
        ends.push(bytes.len() as u32);
        index.insert_unique(hash, at, |at| hasher.hash_one(entry(bytes, ends, *at)));
        at
    }

    /// Entries carry their own lengths, so they are written as they stand.
    fn write(&mut self, out: &mut Vec<u8>) {
        varint::put(out, self.ends.len() as u64);
        out.extend_from_slice(&self.bytes);
        self.bytes.clear();
        self.ends.clear();
        self.index.clear();
    }
}

fn entry<'a>(bytes: &'a [u8], ends: &[u32], at: u32) -> &'a [u8] {
    let at = at as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    &bytes[start..ends[at] as usize]
}
