//! Readings as they travel from the decoder to the writer: a flat arena, so that a socket read full of publishes
//! costs a handful of allocations, not a dozen for each reading.

/// How far the time of a reading can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeQuality {
    Synced,
    Unsynced,
}

/// One reading, borrowed from a [`Readings`] arena or from a stored batch.
///
/// `value` may be non-finite here: the limit detector reports it, and nothing else ever sees it as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<'a> {
    pub device: &'a str,
    pub metric: &'a str,
    pub value: f64,
    pub measured_at_ms: i64,
    pub received_at_ms: i64,
    pub time_quality: TimeQuality,
    pub sequence: Option<u64>,
    pub attributes: Attributes<'a>,
}

impl<'a> Reading<'a> {
    /// Received as it was measured, and nothing else is known of it.
    pub fn at(at_ms: i64, device: &'a str, metric: &'a str, value: f64) -> Reading<'a> {
        Reading {
            device,
            metric,
            value,
            measured_at_ms: at_ms,
            received_at_ms: at_ms,
            time_quality: TimeQuality::Synced,
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
    pub const NONE: Attributes<'static> = Attributes(&[]);

    /// Takes packed bytes; `None` if they are not well formed.
    pub fn from_packed(packed: &'a [u8]) -> Option<Self> {
        let mut rest = packed;
        while !rest.is_empty() {
            (_, rest) = split_attribute(rest)?;
        }
        Some(Attributes(packed))
    }

    pub fn packed(self) -> &'a [u8] {
        self.0
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (attribute, tail) = split_attribute(rest)?;
            rest = tail;
            Some(attribute)
        })
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
    time_quality: TimeQuality,
}

/// An arena of readings in the order in which they were published.
#[derive(Debug, Default)]
pub struct Readings {
    bytes: Vec<u8>,
    items: Vec<Item>,
    last_device: Option<Span>,
    last_metric: Option<Span>,
    last_attributes: Option<Span>,
}

impl Readings {
    /// With room for what a read of so many bytes is likely to give.
    pub fn for_read_of(bytes: usize) -> Readings {
        const READING_BYTES: usize = 128;
        Readings {
            bytes: Vec::with_capacity(bytes),
            items: Vec::with_capacity(bytes / READING_BYTES + 1),
            ..Readings::default()
        }
    }

    /// Appends a copy. A device, a metric or an attribute set equal to the one before it is stored once.
    pub fn push(&mut self, reading: &Reading<'_>) {
        let device = self.intern(self.last_device, reading.device.as_bytes());
        let attributes = self.intern(self.last_attributes, reading.attributes.packed());
        let metric = self.intern(self.last_metric, reading.metric.as_bytes());
        (self.last_device, self.last_metric, self.last_attributes) = (Some(device), Some(metric), Some(attributes));
        self.items.push(Item {
            device,
            metric,
            attributes,
            value: reading.value,
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

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Drops every reading from index `len` on: a publish that fails half-way leaves nothing behind.
    pub fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// Drops all of them and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        (self.last_device, self.last_metric, self.last_attributes) = (None, None, None);
    }

    /// Memory taken, for the budget of what waits for a commit.
    pub fn byte_size(&self) -> usize {
        self.bytes.capacity() + self.items.capacity() * size_of::<Item>()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Reading<'_>> {
        self.items.iter().map(|item| Reading {
            device: self.text(item.device),
            metric: self.text(item.metric),
            value: item.value,
            measured_at_ms: item.measured_at_ms,
            received_at_ms: item.received_at_ms,
            time_quality: item.time_quality,
            sequence: item.sequence,
            attributes: Attributes(self.slice(item.attributes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_come_back_as_pushed() {
        let mut packed = Vec::new();
        pack_attribute(&mut packed, "road", "dry");
        pack_attribute(&mut packed, "fw", "1.2");
        let reading = Reading {
            device: "tank-1",
            metric: "container_temperature",
            value: 22.4,
            measured_at_ms: 1,
            received_at_ms: 2,
            time_quality: TimeQuality::Synced,
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
        readings.truncate(1);
        assert_eq!(readings.len(), 1);
        readings.clear();
        assert!(readings.is_empty());
        readings.push(&reading);
        assert_eq!(readings.iter().next(), Some(reading), "nothing is left of what was before");
    }

    #[test]
    fn damaged_attributes_are_refused() {
        assert!(Attributes::from_packed(&[5, 0, 0, 0, b'a']).is_none());
    }
}
