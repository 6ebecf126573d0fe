//! Readings as they travel from the decoder to the writer: a flat arena, so that a socket read full of publishes
//! costs a handful of allocations, not a dozen for each reading.

use super::{Attributes, Reading, Rounding, TimeQuality};

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    device: Span,
    metric: Span,
    attributes: Span,
    value: f64,
    measured_at_ms: i64,
    received_at_ms: i64,
    sequence: Option<u64>,
    rounding: Option<Rounding>,
    time_quality: TimeQuality,
}

/// An arena of readings in the order in which they were published, with the times that the devices gave.
#[derive(Debug, Default)]
pub struct Readings {
    bytes: Vec<u8>,
    items: Vec<Item>,
    last_device: Option<Span>,
    last_metric: Option<Span>,
    last_attributes: Option<Span>,
    /// What the last attributes take in a record.
    last_attributes_bytes: usize,
    repeated_bytes: usize,
    /// Readings that are certain to be anomalies.
    anomalies: usize,
}

/// How far an arena was filled, see [`Readings::mark`].
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    items: usize,
    repeated_bytes: usize,
    anomalies: usize,
}

/// Bytes that an anomaly record takes beside its texts, about.
const ANOMALY_BYTES: usize = 512;

impl Readings {
    /// Has room for the readings that a socket read of so many bytes is likely to hold.
    pub fn for_read_of(bytes: usize) -> Readings {
        const READING_BYTES: usize = 128;
        Readings {
            bytes: Vec::with_capacity(bytes),
            items: Vec::with_capacity(bytes / READING_BYTES + 1),
            ..Readings::default()
        }
    }

    /// Appends a copy. A device, a metric or an attribute set equal to the one before it is stored once.
    ///
    /// # Panics
    ///
    /// If the texts of the arena exceed 4 GiB.
    pub fn push(&mut self, reading: &Reading<'_>) {
        let device = self.intern(self.last_device, reading.device.as_bytes());
        let attributes = self.intern(self.last_attributes, reading.attributes.packed());
        if self.last_attributes.is_none_or(|last| last.start != attributes.start || last.len != attributes.len) {
            self.last_attributes_bytes = reading.attributes.json_bytes();
        }
        self.repeated_bytes += self.last_attributes_bytes;
        if !reading.value.is_finite() {
            // It is certain to be an anomaly, and so to have a second record.
            self.repeated_bytes += self.last_attributes_bytes;
            self.anomalies += 1;
        }
        let metric = self.intern(self.last_metric, reading.metric.as_bytes());
        (self.last_device, self.last_metric, self.last_attributes) = (Some(device), Some(metric), Some(attributes));
        self.items.push(Item {
            device,
            metric,
            attributes,
            value: reading.value,
            rounding: reading.rounding,
            measured_at_ms: reading.measured_at_ms,
            received_at_ms: reading.received_at_ms,
            sequence: reading.sequence,
            time_quality: reading.time_quality,
        });
    }

    fn intern(&mut self, last: Option<Span>, bytes: &[u8]) -> Span {
        if let Some(span) = last
            && self.slice(span) == bytes
        {
            return span;
        }
        let start = u32::try_from(self.bytes.len()).expect("an arena holds one socket read, far below 4 GiB");
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..][..span.len as usize]
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.slice(span)).expect("pushed from a str")
    }

    /// How many readings the arena holds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the arena holds no reading.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Where the arena ends now, for [`Self::drop_from`].
    pub fn mark(&self) -> Mark {
        Mark { items: self.items.len(), repeated_bytes: self.repeated_bytes, anomalies: self.anomalies }
    }

    /// Drops every reading that came after the mark: a publish that fails half-way leaves nothing behind.
    pub fn drop_from(&mut self, mark: Mark) {
        self.items.truncate(mark.items);
        (self.repeated_bytes, self.anomalies) = (mark.repeated_bytes, mark.anomalies);
    }

    /// Puts the readings after the mark in the order of their times; those of one time keep theirs.
    pub fn sort_since(&mut self, mark: Mark) {
        let items = &mut self.items[mark.items..];
        if !items.is_sorted_by_key(|item| item.measured_at_ms) {
            items.sort_by_key(|item| item.measured_at_ms);
        }
    }

    /// Bytes of JSON that the attributes take in all records of the readings after the mark.
    pub fn repeated_bytes_since(&self, mark: Mark) -> usize {
        self.repeated_bytes - mark.repeated_bytes
    }

    /// Drops all readings and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        (self.repeated_bytes, self.anomalies) = (0, 0);
        (self.last_device, self.last_metric, self.last_attributes) = (None, None, None);
    }

    /// Bytes that they take on their way to the disk, counted against the budget of what waits for a commit. The arena holds attributes
    /// once, but each record repeats them.
    pub fn grown_bytes(&self) -> usize {
        self.byte_size() + self.repeated_bytes + self.anomalies * ANOMALY_BYTES
    }

    /// Memory allocated, in bytes.
    pub fn byte_size(&self) -> usize {
        self.bytes.capacity() + self.items.capacity() * size_of::<Item>()
    }

    /// All readings, in the order in which they were pushed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Reading<'_>> {
        self.iter_from(0)
    }

    /// All but the first `first` readings.
    pub fn iter_from(&self, first: usize) -> impl ExactSizeIterator<Item = Reading<'_>> {
        self.items.get(first..).unwrap_or_default().iter().map(|item| Reading {
            device: self.text(item.device),
            metric: self.text(item.metric),
            value: item.value,
            rounding: item.rounding,
            measured_at_ms: item.measured_at_ms,
            received_at_ms: item.received_at_ms,
            time_quality: item.time_quality,
            device_time: None,
            sequence: item.sequence,
            attributes: Attributes(self.slice(item.attributes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack_attribute;
    use super::*;

    #[test]
    fn attributes_count_for_each_record_that_repeats_them() {
        let mut packed = Vec::new();
        pack_attribute(&mut packed, "a", &"\u{1}".repeat(1_000));
        let attributes = Attributes::from_packed(&packed).expect("packed");
        let mut readings = Readings::default();
        for _ in 0..10 {
            readings.push(&Reading { attributes, ..Reading::at(1, "d", "m", 1.0) });
        }
        assert!(readings.byte_size() < 20_000);
        assert!(readings.grown_bytes() > 10 * 6_000);
    }

    #[test]
    fn readings_come_back_as_pushed() {
        let mut packed = Vec::new();
        pack_attribute(&mut packed, "road", "dry");
        pack_attribute(&mut packed, "fw", "1.2");
        let reading = Reading {
            device: "tank-1",
            metric: "container_temperature",
            value: 22.4,
            rounding: None,
            measured_at_ms: 1,
            received_at_ms: 2,
            time_quality: TimeQuality::Synced,
            device_time: None,
            sequence: Some(7),
            attributes: Attributes::from_packed(&packed).expect("well formed"),
        };
        let mut readings = Readings::default();
        readings.push(&reading);
        readings.push(&Reading { device: "tank-2", attributes: Attributes::NONE, ..reading });
        let back: Vec<_> = readings.iter().collect();
        assert_eq!(back[0], reading);
        assert_eq!(back[1].device, "tank-2");
        assert_eq!(back[0].attributes.iter().collect::<Vec<_>>(), [("road", "dry"), ("fw", "1.2")]);
        let grown = readings.grown_bytes();
        let mark = readings.mark();
        readings.push(&Reading { value: f64::NAN, ..reading });
        let once = reading.attributes.json_bytes();
        assert_eq!(readings.repeated_bytes_since(mark), 2 * once, "it has an anomaly record too");
        readings.drop_from(mark);
        assert_eq!((readings.len(), readings.repeated_bytes_since(mark)), (2, 0));
        assert_eq!(grown, readings.byte_size() + once);
        readings.clear();
        assert!(readings.is_empty());
        readings.push(&reading);
        assert_eq!(readings.iter().next(), Some(reading), "nothing is left of what was before");
    }
}
