//! Lines that are not sent any more: they have become too old, or the store has given them up to make room.
//!
//! Each line is looked at when it is offered, and each record once more before it is sent: what waited for the sink in between may have become
//! too old meanwhile. A record holds lines of about the same age, and the oldest of them counts. What the store has given up it has counted
//! as expired itself, so it is done with and not counted here.

use super::super::queue::{KeyState, Record};
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

    /// The store has given up everything up to a sequence, and has counted it: what waits of it is not sent any more. A request that is under
    /// way cannot be called back.
    pub fn give_up_through(&mut self, through: u64) {
        self.given_up_through = self.given_up_through.max(through);
    }

    /// Takes from a key, of which nothing is in flight, what is not to be sent any more of the records in front. Whether something is left;
    /// otherwise the key is idle.
    pub(super) fn expire_front(&mut self, index: usize, now_us: u64) -> bool {
        self.drop_given_up(index, now_us);
        let oldest_us = self.settings.age_us_max.map_or(i64::MIN, |age_us_max| received_us(age_us_max, now_us));
        while let Some(record) = self.keys.get(index).records.pop_front_if(|record| record.received_us < oldest_us) {
            self.forget_record(&record);
            match record.is_aside {
                true => self.expired_aside(index, &record.runs),
                false => self.saving.expired.extend_from_slice(&record.runs),
            }
            self.is_done_with(index, &record, now_us);
        }
        let is_left = !self.keys.get(index).records.is_empty();
        if !is_left {
            self.keys.get(index).failing_since_us = None;
            self.keys.set_state(index, KeyState::Idle);
        }
        is_left
    }

    fn drop_given_up(&mut self, index: usize, now_us: u64) {
        let through = self.given_up_through;
        while let Some(mut record) = self.keys.get(index).records.pop_front_if(|record| record.first() <= through) {
            self.forget_record(&record);
            if let Some(rest) = record.cut_behind(through) {
                self.remember_record(&rest);
                self.keys.get(index).records.push_front(rest);
            }
            self.is_done_with(index, &record, now_us);
        }
    }

    /// A record that was taken from the front of its key will not be sent.
    fn is_done_with(&mut self, index: usize, record: &Record, now_us: u64) {
        match record.is_aside {
            true => self.taken_aside(index, &record.runs, now_us),
            false => record.runs.iter().for_each(|(first, last)| self.finish(*first, *last, now_us)),
        }
        self.end_aside_if_done(index, now_us);
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
