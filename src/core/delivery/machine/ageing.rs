//! Lines that have become too old to be sent.
//!
//! Each line is looked at when it is offered, and each record once more before it is sent: what waited for the sink in between may have become
//! too old meanwhile. A record holds lines of about the same age, and the oldest of them counts.

use super::super::queue::KeyState;
use super::Delivery;

/// Lines of one record were received within so long, where they may become too old.
const TOGETHER_US: i64 = 1_000_000;

/// When a line of that age was received, by the delivery's clock.
pub(super) fn received_us(age_us: u64, now_us: u64) -> i64 {
    i64::try_from(now_us).unwrap_or(i64::MAX).saturating_sub(i64::try_from(age_us).unwrap_or(i64::MAX))
}

/// Whether lines that were received then may share a record.
pub(super) fn are_together(first_us: i64, received_us: i64) -> bool {
    received_us.saturating_sub(first_us) <= TOGETHER_US
}

impl Delivery {
    pub(super) fn is_too_old(&self, age_us: u64) -> bool {
        self.settings.age_us_max.is_some_and(|age_us_max| age_us > age_us_max)
    }

    /// A line that is offered, and is not of a key that is set aside, is too old.
    pub(super) fn expire_line(&mut self, sequence: u64, device: &str, now_us: u64) {
        // With others of its key in front: should those be set aside and read again, it is not to be read with them.
        self.note_refused_before(sequence, device);
        self.saving.expired.push((sequence, sequence));
        self.finish(sequence, sequence, now_us);
    }

    /// A line that was read for a key that is set aside is too old.
    pub(super) fn expire_line_aside(&mut self, index: usize, sequence: u64, now_us: u64) {
        self.note_refused_ahead(index, sequence);
        self.expired_aside(index, &[(sequence, sequence)]);
        self.refused_aside(index, sequence, now_us);
    }

    /// Takes from a key, of which nothing is in flight, the records in front that have become too old. Whether something is left; otherwise
    /// the key is idle.
    pub(super) fn expire_front(&mut self, index: usize, now_us: u64) -> bool {
        let Some(age_us_max) = self.settings.age_us_max else { return true };
        let oldest_us = received_us(age_us_max, now_us);
        while let Some(record) = self.keys.get(index).records.pop_front_if(|record| record.received_us < oldest_us) {
            self.forget_record(&record);
            if record.is_aside {
                self.expired_aside(index, &record.runs);
                self.taken_aside(index, &record.runs, now_us);
            } else {
                self.saving.expired.extend_from_slice(&record.runs);
                record.runs.iter().for_each(|(first, last)| self.finish(*first, *last, now_us));
            }
            self.end_aside_if_done(index, now_us);
        }
        let is_left = !self.keys.get(index).records.is_empty();
        if !is_left {
            self.keys.get(index).failing_since_us = None;
            self.keys.set_state(index, KeyState::Idle);
        }
        is_left
    }

    /// The next group of suspects, without what has become too old.
    pub(super) fn next_suspects(&mut self, now_us: u64) -> Option<Vec<usize>> {
        while let Some(keys) = self.suspects.pop_front() {
            let mut left = Vec::with_capacity(keys.len());
            for index in keys {
                let before = self.keys.device_records(index);
                if !self.expire_front(index, now_us) {
                    continue;
                }
                // What came behind a suspect may be above suspicion.
                match self.keys.device_records(index) == before {
                    true => left.push(index),
                    false => self.make_ready(index),
                }
            }
            if !left.is_empty() {
                return Some(left);
            }
        }
        None
    }
}
