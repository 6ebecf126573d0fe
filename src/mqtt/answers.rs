//! Measures how long publishes waited for their PUBACK.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use tokio::time::Instant;

use crate::counter::Histogram;

/// Publishes from one read.
#[derive(Debug)]
struct Read {
    through: u64,
    at: Instant,
    /// How many of them need a PUBACK.
    answers: u64,
}

/// Publishes that one connection has read and not answered yet.
#[derive(Debug, Default)]
pub struct AnswerTimes {
    reads: VecDeque<Read>,
}

impl AnswerTimes {
    pub fn read(&mut self, through: u64, at: Instant, answers: u64) {
        if answers > 0 {
            self.reads.push_back(Read { through, at, answers });
        }
    }

    /// These publishes will not be answered.
    pub fn refused(&mut self, publishes: &RangeInclusive<u64>) {
        self.reads.retain(|read| !publishes.contains(&read.through));
    }

    pub fn answered(&mut self, through: u64, now: Instant, histogram: &Histogram) {
        while let Some(read) = self.reads.pop_front_if(|read| read.through <= through) {
            histogram.record(now.saturating_duration_since(read.at), read.answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_answer_is_counted_once_and_a_refusal_is_none() {
        let (mut times, histogram, start) = (AnswerTimes::default(), Histogram::default(), Instant::now());
        times.read(3, start, 2);
        times.read(5, start, 0);
        times.read(9, start, 4);
        times.read(12, start, 1);
        times.answered(5, start + Duration::from_millis(30), &histogram);
        assert_eq!((histogram.view().count, histogram.view().sum_us), (2, 60_000));
        times.refused(&(6..=9));
        times.answered(20, start + Duration::from_millis(50), &histogram);
        assert_eq!((histogram.view().count, histogram.view().sum_us), (3, 110_000));
    }
}
