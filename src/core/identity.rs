//! What identifies a record: `(gateway, run, position)`.

use std::fmt;
use std::sync::Arc;

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

impl Stream {
    /// Readings, as they came.
    pub const RAW: Stream = Stream(1);
    /// Anomalies, changes of alerts, and the gateway's own records.
    pub const ANOMALIES: Stream = Stream(2);

    /// The streams that every store has, with their names. Others are named by the configuration.
    pub const BUILT_IN: [(Stream, &'static str); 2] = [(Stream::RAW, "raw"), (Stream::ANOMALIES, "anomalies")];

    /// The highest number: the ids of the store's batches have 15 bits for it.
    pub const ID_MAX: u16 = i16::MAX.cast_unsigned();

    /// Reverses [`Self::id`]; `None` if no stream can have this number.
    pub fn from_id(id: i64) -> Option<Stream> {
        u16::try_from(id).ok().filter(|id| (1..=Stream::ID_MAX).contains(id)).map(Stream)
    }

    /// Its number in the store; 0 is none.
    pub const fn id(self) -> u16 {
        self.0
    }

    /// Whether the configuration has to name it for it to be there.
    pub fn is_built_in(self) -> bool {
        self <= Stream::ANOMALIES
    }

    fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    fn at(index: usize) -> Stream {
        Stream(u16::try_from(index + 1).expect("there are no more streams than numbers"))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Stream::BUILT_IN.iter().find(|(stream, _)| stream == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "stream {}", self.0),
        }
    }
}

/// Which streams lose records when the store has no more room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The oldest records are dropped first.
    #[default]
    Bulk,
    /// Kept as long as there is anything in bulk, in a reserved part of the store.
    Reserve,
}

impl Keep {
    /// As it stands in the store and in the configuration.
    pub const NAMES: [(&'static str, Keep); 2] = [("bulk", Keep::Bulk), ("reserve", Keep::Reserve)];

    /// As it stands in the store.
    pub fn name(self) -> &'static str {
        match self {
            Keep::Bulk => "bulk",
            Keep::Reserve => "reserve",
        }
    }

    /// Reverses [`Self::name`]; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Keep> {
        Keep::NAMES.iter().find(|(known, _)| *known == name).map(|(_, keep)| *keep)
    }
}

/// A stream as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedStream {
    /// Neither that of a built-in stream nor that of another one.
    pub name: String,
    /// Which part of the store it lies in.
    pub keep: Keep,
}

/// What the store and its users have to know of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Its number, which never changes.
    pub stream: Stream,
    /// As in the store and in the status.
    pub name: Arc<str>,
    /// Which part of the store it lies in.
    pub keep: Keep,
    /// Whether the detectors see it: such a batch is held until a snapshot of them covers it.
    pub is_watched: bool,
}

/// All streams of a store, with the numbers 1, 2, ... and names of which no two are the same. The first two are the built-in ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams(Arc<[StreamRow]>);

impl Default for Streams {
    /// The built-in ones.
    fn default() -> Streams {
        let row = |(stream, name): (Stream, &str)| StreamRow {
            stream,
            name: name.into(),
            keep: if stream == Stream::RAW { Keep::Bulk } else { Keep::Reserve },
            is_watched: stream == Stream::RAW,
        };
        Streams(Stream::BUILT_IN.into_iter().map(row).collect())
    }
}

impl Streams {
    /// `None` if the rows are not those of all streams in the order of their numbers, beginning with the built-in ones.
    pub fn from_rows(rows: Vec<StreamRow>) -> Option<Streams> {
        let built_in = Streams::default();
        let is_in_order = rows.iter().enumerate().all(|(index, row)| row.stream.index() == index);
        let is_twice = |(index, row): (usize, &StreamRow)| rows[..index].iter().any(|other| other.name == row.name);
        let is_right = is_in_order && rows.starts_with(&built_in.0) && !rows.iter().enumerate().any(is_twice);
        is_right.then(|| Streams(rows.into()))
    }

    /// These streams and those of the configuration: a name that is new gets the next number, a known one keeps its own. Those that are no
    /// longer configured stay. `None` if there are more than there are numbers.
    pub fn with(&self, configured: &[NamedStream]) -> Option<Streams> {
        let mut rows = self.0.to_vec();
        for NamedStream { name, keep } in configured {
            match rows.iter_mut().find(|row| *row.name == **name) {
                Some(row) if row.stream.is_built_in() => {}
                Some(row) => row.keep = *keep,
                None => {
                    let stream = Stream::from_id(rows.len() as i64 + 1)?;
                    rows.push(StreamRow { stream, name: name.as_str().into(), keep: *keep, is_watched: false });
                }
            }
        }
        Some(Streams(rows.into()))
    }

    /// In the order of their numbers.
    pub fn rows(&self) -> &[StreamRow] {
        &self.0
    }

    /// Every stream, in the order of their numbers.
    pub fn all(&self) -> impl ExactSizeIterator<Item = Stream> {
        (0..self.0.len()).map(Stream::at)
    }

    /// Whether a stream of this number is among them.
    pub fn has(&self, stream: Stream) -> bool {
        stream.index() < self.0.len()
    }

    /// The stream of this name; `None` if there is none.
    pub fn find(&self, name: &str) -> Option<Stream> {
        self.0.iter().find(|row| *row.name == *name).map(|row| row.stream)
    }

    /// What is known of one of them.
    pub fn row(&self, stream: Stream) -> &StreamRow {
        &self.0[stream.index()]
    }

    /// As in the store and in the status.
    pub fn name(&self, stream: Stream) -> &Arc<str> {
        &self.row(stream).name
    }

    /// Which part of the store it lies in.
    pub fn keep(&self, stream: Stream) -> Keep {
        self.row(stream).keep
    }

    /// Whether the detectors see it.
    pub fn is_watched(&self, stream: Stream) -> bool {
        self.row(stream).is_watched
    }
}

/// A value for each stream; at least for the built-in ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerStream<T>(Vec<T>);

impl<T: Default> Default for PerStream<T> {
    /// For the built-in streams only.
    fn default() -> PerStream<T> {
        PerStream(Stream::BUILT_IN.iter().map(|_| T::default()).collect())
    }
}

impl<T> PerStream<T> {
    /// Each stream's value is what `value` makes of it.
    pub fn new(streams: &Streams, value: impl FnMut(Stream) -> T) -> PerStream<T> {
        PerStream(streams.all().map(value).collect())
    }

    /// The value of one stream, which has to have one.
    pub fn of(&self, stream: Stream) -> &T {
        &self.0[stream.index()]
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, stream: Stream) -> &mut T {
        &mut self.0[stream.index()]
    }

    /// The value of one stream; `None` if it has none.
    pub fn get(&self, stream: Stream) -> Option<&T> {
        self.0.get(stream.index())
    }

    /// The value of one stream, to be changed. It and those before it get one if they have none.
    pub fn entry(&mut self, stream: Stream) -> &mut T
    where
        T: Default,
    {
        if stream.index() >= self.0.len() {
            self.0.resize_with(stream.index() + 1, T::default);
        }
        self.of_mut(stream)
    }

    /// For the same streams, what `value` makes of each value.
    pub fn map<U>(&self, mut value: impl FnMut(Stream, &T) -> U) -> PerStream<U> {
        PerStream(self.iter().map(|(stream, of)| value(stream, of)).collect())
    }

    /// In the order of the streams' numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Stream, &T)> {
        self.0.iter().enumerate().map(|(index, value)| (Stream::at(index), value))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (Stream, &mut T)> {
        self.0.iter_mut().enumerate().map(|(index, value)| (Stream::at(index), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, keep: Keep) -> NamedStream {
        NamedStream { name: name.to_owned(), keep }
    }

    #[test]
    fn a_stream_is_found_by_its_number_and_by_its_name() {
        let streams =
            Streams::default().with(&[named("trips", Keep::Bulk), named("doors", Keep::Reserve)]).expect("few");
        let per_stream = PerStream::new(&streams, Stream::id);
        for (place, row) in streams.rows().iter().enumerate() {
            assert_eq!(usize::from(row.stream.id()), place + 1);
            assert_eq!(Stream::from_id(row.stream.id().into()), Some(row.stream));
            assert_eq!(streams.find(&row.name), Some(row.stream));
            assert_eq!(*per_stream.of(row.stream), row.stream.id());
        }
        assert_eq!(streams.find("other"), None);
        assert_eq!(&**streams.name(Stream::RAW), "raw");
        assert_eq!(&**streams.name(Stream::ANOMALIES), "anomalies");
        assert_eq!([0, -1, 32_768, 70_000].map(Stream::from_id), [None; 4]);
    }

    #[test]
    fn a_name_keeps_its_number_whatever_is_configured_later() {
        let first = Streams::default().with(&[named("a", Keep::Bulk), named("b", Keep::Bulk)]).expect("few");
        let second = first.with(&[named("c", Keep::Bulk), named("b", Keep::Reserve)]).expect("few");
        for name in ["a", "b"] {
            assert_eq!(second.find(name), first.find(name));
        }
        assert_eq!(second.find("c").map(Stream::id), Some(5), "the next that is free");
        let b = second.find("b").expect("known");
        assert_eq!((second.keep(b), second.is_watched(b)), (Keep::Reserve, false), "as it is configured now");
        assert_eq!(second.with(&[]), Some(second.clone()), "what is no longer configured stays");
        assert_eq!(second.with(&[named("raw", Keep::Reserve)]), Some(second), "a built-in one is as it is");
    }

    #[test]
    fn rows_that_no_writer_leaves_are_refused() {
        let whole = Streams::default().with(&[named("a", Keep::Bulk), named("b", Keep::Bulk)]).expect("few");
        let rows = whole.rows().to_vec();
        assert_eq!(Streams::from_rows(rows.clone()), Some(whole));
        let without = |index: usize| [&rows[..index], &rows[index + 1..]].concat();
        assert_eq!(Streams::from_rows(without(0)), None);
        assert_eq!(Streams::from_rows(without(2)), None, "a number is missing");
        let mut twice = rows.clone();
        twice[3].name = "a".into();
        assert_eq!(Streams::from_rows(twice), None);
        let mut renamed = rows;
        renamed[1].name = "other".into();
        assert_eq!(Streams::from_rows(renamed), None);
    }

    #[test]
    fn values_are_there_for_the_built_in_streams_and_grow() {
        let mut counts = PerStream::<u64>::default();
        assert_eq!(counts.iter().len(), 2);
        let fourth = Stream::from_id(4).expect("a number");
        assert_eq!(counts.get(fourth), None);
        *counts.entry(fourth) += 7;
        assert_eq!(
            counts.iter().map(|(stream, count)| (stream.id(), *count)).collect::<Vec<_>>(),
            [(1, 0), (2, 0), (3, 0), (4, 7)]
        );
    }
}
