//! What a reply does: records are done with, pause, or are suspected; the sink goes on, pauses, or is halted.

use std::cmp::Reverse;

use super::super::pacing::{self, UNKNOWN_SHARD};
use super::super::queue::{KeyState, RECORD_OVERHEAD_BYTES, RUN_BYTES, Record};
use super::super::{Outcome, Refused, Reply, RequestId, RetryReason, Scope};
use super::{Delivery, InFlight, PARTITION_KEY_BYTES_MAX, REQUEST_BYTES_MIN, SINK_FAILS_US};

/// Pauses of keys end together within so many microseconds, so that they share a request.
const PAUSE_GRAIN_US: u64 = 2_000;
/// Upper limit of the pauses after throttling: of a key whose shard is not held back yet, and of the sink.
const THROTTLED_PAUSE_US_MAX: u64 = 1_500_000;

impl Delivery {
    pub(super) fn replied(&mut self, id: RequestId, reply: Reply, now_us: u64) {
        let flight = self.in_flight.remove(&id).expect("a reply answers a request that is in flight");
        assert_eq!(reply.outcomes.len(), flight.keys.len(), "a sink answers for each record");
        self.saving.passed_over += reply.passed_over;
        if reply.scope == Scope::Request {
            match reply.outcomes.into_iter().next() {
                Some(Outcome::Accepted { shard }) => {
                    let outcomes = vec![Outcome::Accepted { shard }; flight.keys.len()];
                    self.records_replied(flight, outcomes, now_us);
                }
                Some(Outcome::Retry(reason)) => {
                    self.status.records_retried += flight.keys.len() as u64;
                    self.pause_sink(flight.epoch, reason, now_us);
                    self.take_back(flight);
                }
                Some(Outcome::Unreachable(reason)) => {
                    self.status.records_retried += flight.keys.len() as u64;
                    self.pause_sink(flight.epoch, RetryReason::Connection, now_us);
                    self.status.failing = Some(format!("{}: {reason}", RetryReason::Connection));
                    self.take_back(flight);
                }
                Some(Outcome::Later { reason, after_us }) => {
                    self.status.records_retried += flight.keys.len() as u64;
                    self.pause_sink(flight.epoch, RetryReason::Internal, now_us);
                    self.sink.is_asked_for(after_us, now_us);
                    self.status.failing = Some(reason);
                    self.take_back(flight);
                }
                Some(Outcome::Halt(reason)) => {
                    self.halt(flight.epoch, reason, now_us);
                    self.take_back(flight);
                }
                Some(Outcome::Reject(reason) | Outcome::RejectLines(reason)) => {
                    self.suspect(flight, reason, now_us);
                }
                Some(Outcome::TooLarge(reason)) => {
                    self.shrink_requests(&flight);
                    self.suspect(flight, reason, now_us);
                }
                None => {}
            }
        } else {
            self.records_replied(flight, reply.outcomes, now_us);
        }
    }

    fn records_replied(&mut self, flight: InFlight, outcomes: Vec<Outcome>, now_us: u64) {
        let mut halt = None;
        let mut has_come_through = false;
        for (index, outcome) in flight.keys.into_iter().zip(outcomes) {
            has_come_through |= !matches!(outcome, Outcome::Halt(_));
            match outcome {
                Outcome::Accepted { shard } => self.accepted(index, shard.as_deref(), now_us),
                Outcome::Retry(reason) => self.pause_key(index, reason, now_us),
                Outcome::Unreachable(_) => self.pause_key(index, RetryReason::Connection, now_us),
                Outcome::Later { .. } => self.pause_key(index, RetryReason::Throttled, now_us),
                Outcome::Reject(reason) | Outcome::TooLarge(reason) => match self.split(index) {
                    true => self.make_ready(index),
                    false => self.refuse(index, &reason, now_us),
                },
                Outcome::RejectLines(reason) => self.refuse(index, &reason, now_us),
                Outcome::Halt(reason) => {
                    self.make_ready(index);
                    halt = Some(reason);
                }
            }
        }
        match halt {
            Some(reason) => self.halt(flight.epoch, reason, now_us),
            None if has_come_through => self.sink_works(),
            None => {}
        }
    }

    /// Whether the first record of a key is now two.
    fn split(&mut self, index: usize) -> bool {
        let records = &mut self.keys.get(index).records;
        let record = records.front_mut().expect("it was in flight");
        let (before, is_aside) = (record.runs.len(), record.is_aside);
        let Some(second) = record.split() else { return false };
        let runs = record.runs.len() + second.runs.len() - before;
        records.insert(1, second);
        self.records += 1;
        self.outstanding_runs += runs;
        self.hold(RECORD_OVERHEAD_BYTES + runs * RUN_BYTES, is_aside);
        true
    }

    /// A request was too large: the next ones hold half as much, and then slowly more again, because the cause may go away.
    fn shrink_requests(&mut self, flight: &InFlight) {
        let of = |index: &usize| self.keys.get(*index).records.front().map_or(0, Record::len) + PARTITION_KEY_BYTES_MAX;
        let bytes: usize = flight.keys.iter().map(of).sum();
        let smaller = (bytes / 2).max(REQUEST_BYTES_MIN);
        self.sink.request_bytes_max = self.sink.request_bytes_max.min(smaller);
    }

    fn sink_works(&mut self) {
        let bytes_max = self.sink.request_bytes_max;
        self.sink.request_bytes_max = (bytes_max + bytes_max / 256).min(self.settings.request_bytes_max);
        self.sink.failures = 0;
        self.sink.pause_until(0);
        self.status.halted = None;
        self.status.failing = None;
    }

    fn accepted(&mut self, index: usize, shard: Option<&str>, now_us: u64) {
        self.sink.refused_in_a_row = 0;
        self.status.records_sent += 1;
        (self.accepted_us, self.every_record_fails) = (Some(now_us), None);
        if self.records_failing_since_us.take().is_some_and(|since_us| now_us - since_us >= SINK_FAILS_US) {
            self.steady_since_us = now_us;
        }
        let lane = self.lane_of(shard, now_us);
        let key = self.keys.get(index);
        let lane_before = key.shard;
        if lane != UNKNOWN_SHARD {
            key.shard = lane;
        }
        let cost = pacing::cost(key.records.front().expect("it was in flight").len());
        self.lanes[lane].pacer.accepted(cost, now_us);
        if lane_before != lane {
            self.lanes[lane_before].pacer.accepted(cost, now_us);
        }
        self.take_record(index, now_us);
    }

    fn pause_key(&mut self, index: usize, reason: RetryReason, now_us: u64) {
        self.status.records_retried += 1;
        self.note_failing(reason, now_us);
        let key = self.keys.get(index);
        key.failing_since_us.get_or_insert(now_us);
        let shard = key.shard;
        let record = key.records.front_mut().expect("it was in flight");
        record.failures = record.failures.saturating_add(1);
        let (failures, cost, is_suspect) = (record.failures, pacing::cost(record.len()), record.is_suspect);
        let mut pause_us_max = self.settings.patience.backoff_max_us;
        if reason == RetryReason::Throttled {
            let ask_pause_us = self.jitter.half_pause_us(self.settings.patience.throttled_pause_us);
            let pacer = &mut self.lanes[shard].pacer;
            pacer.throttled(cost, now_us, ask_pause_us);
            if self.set_aside_if_due(index, reason, now_us) {
                return;
            }
            // The shard's pace is pause enough: its other keys go first. Suspects are not paced.
            if self.lanes[shard].pacer.holds_back() && !is_suspect {
                self.make_ready(index);
                return;
            }
            pause_us_max = THROTTLED_PAUSE_US_MAX;
        }
        let pause_us = self.jitter.pause_us(self.settings.patience.key_backoff_base_us, failures, pause_us_max);
        if self.set_aside_if_due(index, reason, now_us) {
            return;
        }
        let mut until_us = now_us + pause_us;
        // A key is judged when it has failed for long enough, however long its pauses have become.
        let judged_anew_us = self.judged_anew_us(index, now_us);
        if judged_anew_us > now_us {
            until_us = until_us.min(judged_anew_us);
        }
        let until_us = until_us.next_multiple_of(PAUSE_GRAIN_US);
        self.keys.set_state(index, KeyState::Paused);
        self.pauses.push(Reverse((until_us, index)));
    }

    fn refuse(&mut self, index: usize, reason: &str, now_us: u64) {
        let record = self.keys.get(index).records.front_mut().expect("it was in flight");
        let data = record.seal();
        let sequences = record.runs.iter().flat_map(|(first, last)| *first..=*last);
        let mut lines = data.split_inclusive(|byte| *byte == b'\n');
        for sequence in sequences {
            self.status.records_rejected += 1;
            let line = lines.next().unwrap_or_default().to_vec();
            self.saving.refuse(Refused { sequence, reason: reason.to_owned(), line, is_aside: record.is_aside });
        }
        self.take_record(index, now_us);
    }

    /// The first record of a key is done with; the next one follows.
    fn take_record(&mut self, index: usize, now_us: u64) {
        let key = self.keys.get(index);
        let record = key.records.pop_front().expect("it was in flight");
        key.failing_since_us = None;
        let has_more = !key.records.is_empty();
        self.forget_record(&record);
        match record.is_aside {
            true => self.taken_aside(index, &record.runs, now_us),
            false => record.runs.iter().for_each(|(first, last)| self.finish(*first, *last, now_us)),
        }
        if has_more {
            self.make_ready(index);
        } else {
            self.keys.set_state(index, KeyState::Idle);
        }
        self.aside_succeeded(index, now_us);
    }

    /// If every record fails for a while, it is the sink that does.
    fn note_failing(&mut self, reason: RetryReason, now_us: u64) {
        let since_us = *self.records_failing_since_us.get_or_insert(now_us);
        if now_us - since_us >= self.settings.patience.key_fails_us {
            self.every_record_fails = Some(reason);
        }
    }

    /// A request that was sent before the present pause began says nothing new by failing: the pause stays as it is.
    fn pause_sink(&mut self, epoch: u64, reason: RetryReason, now_us: u64) {
        if self.begins_pause(epoch) {
            let base_us = self.settings.patience.sink_backoff_base_us;
            let max_us = match reason {
                RetryReason::Connection => self.settings.patience.connection_backoff_max_us,
                RetryReason::Throttled => THROTTLED_PAUSE_US_MAX,
                _ => self.settings.patience.backoff_max_us,
            };
            let pause_us = self.jitter.pause_us(base_us, self.sink.failures, max_us);
            self.sink.pause_until(now_us + pause_us);
        }
        self.status.failing = Some(reason.to_string());
    }

    fn halt(&mut self, epoch: u64, reason: String, now_us: u64) {
        if self.begins_pause(epoch) {
            let base_us = self.settings.patience.halt_backoff_base_us;
            let pause_us =
                self.jitter.pause_us(base_us, self.sink.failures, self.settings.patience.halt_backoff_max_us);
            self.sink.pause_until(now_us + pause_us);
        }
        self.status.failing = Some(reason.clone());
        self.status.halted = Some(reason);
    }

    fn begins_pause(&mut self, epoch: u64) -> bool {
        let begins = epoch == self.sink.epoch;
        if begins {
            self.sink.failures = self.sink.failures.saturating_add(1);
            self.sink.epoch += 1;
        }
        begins
    }

    /// The records of a request that failed as a whole go back to where they came from.
    fn take_back(&mut self, flight: InFlight) {
        if flight.is_suspect {
            flight.keys.iter().for_each(|index| self.keys.set_state(*index, KeyState::Suspect));
            self.suspects.push_front(flight.keys);
        } else {
            flight.keys.into_iter().for_each(|index| self.make_ready(index));
        }
    }

    /// The service refuses the whole request and does not say which line is to blame: halves are tried, down to one line. That one is given
    /// up.
    fn suspect(&mut self, flight: InFlight, reason: String, now_us: u64) {
        let mut keys = flight.keys;
        keys.iter().for_each(|index| self.keys.set_state(*index, KeyState::Suspect));
        if keys.len() > 1 {
            let second = keys.split_off(keys.len() / 2);
            self.suspects.push_front(second);
            self.suspects.push_front(keys);
        } else if keys.iter().any(|index| self.split(*index)) {
            self.suspects.push_front(keys);
        } else if self.may_give_up() {
            self.sink.refused_in_a_row += 1;
            keys.into_iter().for_each(|index| self.refuse(index, &reason, now_us));
            self.sink_works();
        } else {
            self.suspects.push_back(keys);
            let only_single = self.suspects.iter().all(|keys| keys.len() == 1);
            if only_single && !self.has_others() {
                let count = self.sink.refused_in_a_row;
                let text = format!("{reason} ({count} in a row, so it is not the fault of one)");
                self.halt(flight.epoch, text, now_us);
            }
        }
    }
}
