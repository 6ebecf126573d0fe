//! What identifies a record: `(gateway, run, position)`.

use std::fmt;

/// Identifies one run of the process: drawn at random at its start. Positions count from 1 within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub [u8; 8]);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A stream of the log: a row of the store's table `stream`, and a destination of each sink. It stands for its number there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream(u16);

/// What the store and its users have to know of a stream.
struct Row {
    stream: Stream,
    name: &'static str,
    keep: Keep,
    is_watched: bool,
}

/// One row for each stream, with the numbers 1, 2, ...: the number of a stream in the field never changes.
const ROWS: [Row; 2] = [
    Row { stream: Stream::RAW, name: "raw", keep: Keep::Bulk, is_watched: true },
    Row { stream: Stream::ANOMALIES, name: "anomalies", keep: Keep::Reserve, is_watched: false },
];

/// Which streams lose records when the store has no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The oldest records are dropped first.
    Bulk,
    /// Kept as long as there is anything in bulk, in a reserved part of the store.
    Reserve,
}

impl Keep {
    /// As it stands in the store.
    pub fn name(self) -> &'static str {
        match self {
            Keep::Bulk => "bulk",
            Keep::Reserve => "reserve",
        }
    }
}

impl Stream {
    /// Readings, as they came.
    pub const RAW: Stream = Stream(1);
    /// Anomalies, changes of alerts, and the gateway's own records.
    pub const ANOMALIES: Stream = Stream(2);

    /// Every stream, in the order of their numbers.
    pub fn all() -> impl ExactSizeIterator<Item = Stream> {
        ROWS.iter().map(|row| row.stream)
    }

    fn row(self) -> &'static Row {
        &ROWS[self.index()]
    }

    fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    /// Its number in the store; 0 is none.
    pub const fn id(self) -> u16 {
        self.0
    }

    /// As in the store and in the status.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Reverses [`Self::name`]; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Stream> {
        Stream::all().find(|stream| stream.name() == name)
    }

    /// Which part of the store it lies in.
    pub fn keep(self) -> Keep {
        self.row().keep
    }

    /// Whether the detectors see it: such a batch is held until a snapshot of them covers it.
    pub fn is_watched(self) -> bool {
        self.row().is_watched
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value for each stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerStream<T>([T; ROWS.len()]);

impl<T> PerStream<T> {
    /// Each stream's value is what `value` makes of it.
    pub fn new(mut value: impl FnMut(Stream) -> T) -> PerStream<T> {
        PerStream(std::array::from_fn(|index| value(ROWS[index].stream)))
    }

    /// The value of one stream.
    pub fn of(&self, stream: Stream) -> &T {
        &self.0[stream.index()]
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, stream: Stream) -> &mut T {
        &mut self.0[stream.index()]
    }

    /// In the order of the streams' numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Stream, &T)> {
        Stream::all().zip(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_found_by_its_number_and_by_its_name() {
        let per_stream = PerStream::new(Stream::id);
        for (place, stream) in Stream::all().enumerate() {
            assert_eq!(usize::from(stream.id()), place + 1);
            assert_eq!(Stream::from_name(stream.name()), Some(stream));
            assert_eq!(*per_stream.of(stream), stream.id());
        }
        assert_eq!(Stream::from_name("other"), None);
        assert_eq!((Stream::RAW.name(), Stream::ANOMALIES.name()), ("raw", "anomalies"));
    }
}
