//! History: what every sink has and the store still holds, and how one series is read out of all that is held.
//!
//! Batches hold readings of all series and have no index, so that storing a reading costs nothing for this. Whoever asks for a series has
//! the batches read from the newest on, and gets what was found when the time for one answer is up, with the place to go on from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use rusqlite::Connection;
use serde::Deserialize;

use super::log::{Block, Entry};
use super::reader::Reader;
use super::{cursors, held};
use crate::core::batch::{Stored, Tag};
use crate::core::identity::Stream;

/// How much of a stream is history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Every sink has everything up to this sequence.
    pub through: u64,
    /// Counted by sequences: of what is missing among them, nobody is told here.
    pub records: u64,
    /// Receipt of the oldest.
    pub from_ms: Option<i64>,
}

impl History {
    /// Does not read more the more history there is.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn of(db: &Connection, stream: Stream) -> rusqlite::Result<History> {
        let through = cursors::delivered_through(db, stream)?.unwrap_or(0);
        let first = held::first_behind(db, stream, 0)?.filter(|first| first.last_sequence <= through);
        Ok(match first {
            Some(first) => History { through, records: through - first.before_first(), from_ms: Some(first.first_ms) },
            None => History { through, ..History::default() },
        })
    }
}

/// What is asked of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub device: String,
    pub metric: String,
    /// Times of measurement.
    pub times_ms: Range<i64>,
    /// Width of a point.
    pub point_ms: u64,
    /// Where an earlier answer stopped.
    pub place: Place,
}

/// How far the two streams have been read, from the newest batch backwards: everything from these sequences on is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub raw: u64,
    pub anomalies: u64,
}

impl Place {
    pub const NEWEST: Place = Place { raw: u64::MAX, anomalies: u64::MAX };
}

/// The readings of one span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub min: f64,
    pub max: f64,
    pub sum: f64,
    pub count: u64,
}

impl Point {
    fn of(value: f64) -> Point {
        Point { min: value, max: value, sum: value, count: 1 }
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    fn add(&mut self, value: f64) {
        *self =
            Point { min: self.min.min(value), max: self.max.max(value), sum: self.sum + value, count: self.count + 1 };
    }
}

#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// By the beginning of their spans, which are multiples of the width since 1970. Where an answer stops in the middle of a span, the next
    /// one has the rest of it.
    pub points: BTreeMap<i64, Point>,
    /// Records of anomalies, the newest first.
    pub anomalies: Vec<Vec<u8>>,
    /// Records of alerts, the newest first; several of one alert.
    pub alerts: Vec<Vec<u8>>,
    /// Where to go on; `None` if nothing is left.
    pub next: Option<Place>,
}

/// A reading that came later than this after it was measured is found only if the range reaches to its receipt.
const LATE_MS: i64 = 3_600_000;
/// How far the time of a reading may be ahead of its receipt.
const AHEAD_MS: i64 = 5_000;
/// Longer than readings of one batch are received.
const BATCH_MS: i64 = 60_000;
/// Most records of anomalies and of alerts in one answer.
const RECORDS_MAX: usize = 500;

impl Question {
    /// Reads until everything is found, or `is_late`, which is asked after each batch.
    ///
    /// # Errors
    ///
    /// If SQLite cannot read the store. Damaged batches are passed over.
    pub fn answer(&self, reader: &mut Reader, mut is_late: impl FnMut() -> bool) -> rusqlite::Result<Answer> {
        let mut answer = Answer::default();
        let mut place = self.place;
        // Anomalies are few, and what people look for first.
        let mut is_stopped = false;
        for stream in [Stream::ANOMALIES, Stream::RAW] {
            let before = if stream == Stream::RAW { &mut place.raw } else { &mut place.anomalies };
            while !is_stopped && *before > 0 {
                *before = match self.read_one(reader, (stream, *before), &mut answer)? {
                    ControlFlow::Continue(before) => before,
                    ControlFlow::Break(()) => 0,
                };
                let is_full = stream != Stream::RAW && answer.anomalies.len().max(answer.alerts.len()) >= RECORDS_MAX;
                is_stopped = is_late() || is_full;
            }
        }
        answer.next = (place != Place { raw: 0, anomalies: 0 }).then_some(place);
        Ok(answer)
    }

    /// Reads the newest batch that ends before a sequence, if there is one that may hold anything of the range.
    fn read_one(
        &self,
        reader: &mut Reader,
        (stream, before): (Stream, u64),
        answer: &mut Answer,
    ) -> rusqlite::Result<ControlFlow<(), u64>> {
        let Range { start, end } = self.times_ms;
        let received_ms = start.saturating_sub(AHEAD_MS + BATCH_MS)..=end.saturating_add(LATE_MS);
        let Some(newest) = held::newest_before(reader.connection(), stream, before, &received_ms)? else {
            return Ok(ControlFlow::Break(()));
        };
        let mut block = Block::default();
        // It may have been deleted meanwhile.
        if reader.read(stream, newest.last_sequence - 1, &mut block)? && block.last_sequence() == newest.last_sequence {
            self.take(&block, answer);
        }
        Ok(ControlFlow::Continue(newest.last_sequence))
    }

    fn take(&self, block: &Block, answer: &mut Answer) {
        let Some(batch) = block.batch() else { return };
        let (mut anomalies, mut alerts) = (Vec::new(), Vec::new());
        for entry in block.entries(batch.first_sequence() - 1) {
            let Entry::Record(record) = entry else { continue };
            match record.stored {
                Stored::Reading(reading) if reading.metric == self.metric && reading.device == self.device => {
                    self.add(reading.measured_at_ms, reading.value, &mut answer.points);
                }
                Stored::Line { tag, device, line } if device == self.device && self.is_asked_for(line) => match tag {
                    tag if tag == Tag::Anomaly as u8 => anomalies.push(line.to_vec()),
                    tag if tag == Tag::Alert as u8 => alerts.push(line.to_vec()),
                    _ => {}
                },
                _ => {}
            }
        }
        answer.anomalies.extend(anomalies.into_iter().rev());
        answer.alerts.extend(alerts.into_iter().rev());
    }

    fn add(&self, at_ms: i64, value: f64, points: &mut BTreeMap<i64, Point>) {
        if self.times_ms.contains(&at_ms) && value.is_finite() {
            let width = i64::try_from(self.point_ms.max(1)).unwrap_or(i64::MAX);
            let begin = at_ms - at_ms.rem_euclid(width);
            points.entry(begin).and_modify(|point| point.add(value)).or_insert(Point::of(value));
        }
    }

    /// Whether a record of an anomaly or an alert is of this series and time.
    fn is_asked_for(&self, line: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Brief<'a> {
            #[serde(borrow)]
            metric: Cow<'a, str>,
            measured_at_ms: Option<i64>,
            /// Of an alert.
            updated_at_ms: Option<i64>,
        }
        serde_json::from_slice::<Brief<'_>>(line).is_ok_and(|record| {
            let at_ms = record.measured_at_ms.or(record.updated_at_ms);
            record.metric == self.metric && at_ms.is_some_and(|at_ms| self.times_ms.contains(&at_ms))
        })
    }
}

#[cfg(test)]
mod tests;
