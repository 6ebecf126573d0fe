//! Readings as they travel from the decoder to the writer: a flat arena, so that a socket read full of publishes
//! costs a handful of allocations, not a dozen for each reading.

use super::json::text_bytes;

/// Longest name of a device or a metric, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// How far the time of a reading can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeQuality {
    /// The gateway's clock was synchronised when the reading was received.
    Synced,
    /// It was not, so the times may be wrong.
    Unsynced,
}

/// What is wrong with a device's clock. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClockFault {
    /// Before 2015: it was never set.
    Unset = 1,
    /// Its time lies in the future.
    Ahead = 2,
    /// Its time lies further in the past than transmission explains.
    Behind = 3,
}

impl ClockFault {
    /// As it is written in records.
    pub fn name(self) -> &'static str {
        match self {
            ClockFault::Unset => "unset",
            ClockFault::Ahead => "ahead",
            ClockFault::Behind => "behind",
        }
    }

    /// `None` for a number that this version does not know.
    pub fn from_byte(byte: u8) -> Option<ClockFault> {
        [ClockFault::Unset, ClockFault::Ahead, ClockFault::Behind].into_iter().find(|fault| *fault as u8 == byte)
    }
}

/// What a device with a wrong clock said of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTime {
    /// In which way the clock is wrong.
    pub fault: ClockFault,
    /// Milliseconds since 1970 (UTC), as the device gave them.
    pub device_ms: i64,
}

/// What rounding an integer to a double took away: the integer less the double. No integer of 64 bits is further than 1,024 from the nearest
/// double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding(i16);

impl Rounding {
    /// Beyond it a double does not hold every integer.
    const EXACT_MAX: i128 = 1 << f64::MANTISSA_DIGITS;

    /// The nearest double of an integer of 64 bits and a sign, and what it lacks. `None` where a double holds every integer.
    pub fn of(integer: i128) -> (f64, Option<Rounding>) {
        let value = integer as f64;
        let is_exact = (-Rounding::EXACT_MAX..=Rounding::EXACT_MAX).contains(&integer);
        let lacks = || i16::try_from(integer - value as i128).ok().map(Rounding);
        (value, if is_exact { None } else { lacks() })
    }

    /// As it is stored.
    pub fn lacks(self) -> i64 {
        i64::from(self.0)
    }

    /// `None` if nothing of 64 bits could lack so much.
    pub fn from_lacks(lacks: i64) -> Option<Rounding> {
        i16::try_from(lacks).ok().map(Rounding)
    }

    /// The integer that was rounded to this double.
    pub fn exact(self, value: f64) -> i128 {
        (value as i128).saturating_add(i128::from(self.0))
    }
}

/// One reading, borrowed from a [`Readings`] arena or from a stored batch.
///
/// `value` may be non-finite here: the limit detector reports it, and nothing else ever sees it as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<'a> {
    /// Name of the device, not percent-encoded.
    pub device: &'a str,
    /// Name of the quantity that was measured.
    pub metric: &'a str,
    /// In whatever unit the device uses; it may be infinite or `NaN`.
    pub value: f64,
    /// Set for an integer beyond 2^53, which a double may not hold.
    pub rounding: Option<Rounding>,
    /// Milliseconds since 1970 (UTC): by the device's clock until [`super::device_clock`] has judged it, then the time by which it is
    /// judged.
    pub measured_at_ms: i64,
    /// By the gateway's clock, in milliseconds since 1970 (UTC).
    pub received_at_ms: i64,
    /// Whether the gateway's clock was synchronised at that time.
    pub time_quality: TimeQuality,
    /// What the device said of the time, if its clock is wrong.
    pub device_time: Option<DeviceTime>,
    /// The device's own counter of its readings, if it has one.
    pub sequence: Option<u64>,
    /// Key-value pairs that the device sent along.
    pub attributes: Attributes<'a>,
}

impl<'a> Reading<'a> {
    /// A reading without anything optional, whose times of measurement and receipt are the same.
    pub fn at(at_ms: i64, device: &'a str, metric: &'a str, value: f64) -> Reading<'a> {
        Reading {
            device,
            metric,
            value,
            rounding: None,
            measured_at_ms: at_ms,
            received_at_ms: at_ms,
            time_quality: TimeQuality::Synced,
            device_time: None,
            sequence: None,
            attributes: Attributes::NONE,
        }
    }
}

/// Attributes in their packed form: for each, the key's length and the value's length (u16, little endian), then both texts.
///
/// The packed bytes are a dictionary key in a stored batch as they are: most readings of a device share one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The empty set.
    pub const NONE: Attributes<'static> = Attributes(&[]);

    /// Takes packed bytes; `None` if they are not well formed.
    pub fn from_packed(packed: &'a [u8]) -> Option<Self> {
        let mut rest = packed;
        while !rest.is_empty() {
            (_, rest) = split_attribute(rest)?;
        }
        Some(Attributes(packed))
    }

    /// Takes bytes that only [`pack_attribute`] has written. Of any others, what is not well formed is left out.
    pub fn from_own(packed: &'a [u8]) -> Self {
        debug_assert!(Attributes::from_packed(packed).is_some());
        Attributes(packed)
    }

    /// The bytes that [`Self::from_packed`] takes.
    pub fn packed(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no attribute.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in the order in which they were packed.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (attribute, tail) = split_attribute(rest)?;
            rest = tail;
            Some(attribute)
        })
    }

    /// Bytes that they take in each JSON record that carries them; 0 if there are none.
    pub fn json_bytes(self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let texts: usize = self.iter().map(|(key, value)| text_bytes(key) + text_bytes(value) + ":,".len()).sum();
        ",\"attributes\":{}".len() - 1 + texts
    }
}

fn split_attribute(bytes: &[u8]) -> Option<((&str, &str), &[u8])> {
    let (lengths, rest) = bytes.split_first_chunk::<4>()?;
    let key_len = usize::from(u16::from_le_bytes([lengths[0], lengths[1]]));
    let value_len = usize::from(u16::from_le_bytes([lengths[2], lengths[3]]));
    let (key, rest) = rest.split_at_checked(key_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    Some(((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?), rest))
}

/// Appends one attribute in packed form. Texts longer than a u16 counts are cut at a character boundary.
pub fn pack_attribute(packed: &mut Vec<u8>, key: &str, value: &str) {
    let (key, value) = (cut(key), cut(value));
    packed.extend_from_slice(&(key.len() as u16).to_le_bytes());
    packed.extend_from_slice(&(value.len() as u16).to_le_bytes());
    packed.extend_from_slice(key.as_bytes());
    packed.extend_from_slice(value.as_bytes());
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(usize::from(u16::MAX))]
}

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

    #[test]
    fn integers_of_64_bits_lose_nothing() {
        let edges = [1_i128 << 53, (1 << 53) + 1, 8_121_069_193_333_309_404, i64::MAX.into(), u64::MAX.into()];
        for integer in edges.into_iter().flat_map(|edge| [edge, edge - 1, 1 - edge, -edge, -edge - 1]) {
            let (value, rounding) = Rounding::of(integer);
            assert_eq!(rounding.map_or(value as i128, |rounding| rounding.exact(value)), integer);
            assert_eq!(rounding.is_some(), integer.abs() > 1 << 53, "{integer}");
        }
    }

    #[test]
    fn damaged_attributes_are_refused() {
        assert!(Attributes::from_packed(&[5, 0, 0, 0, b'a']).is_none());
    }
}
