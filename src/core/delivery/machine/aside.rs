//! Keys that are set aside: their records fail while others are accepted, so they must not hold up the others.
//!
//! The cursor passes over the lines of such a key, and none of them is kept in memory. The key has a position of its own in the log, from
//! which its lines are offered again: one of them every few seconds, until the sink takes it; then all, in their order. When they have been
//! read as far as the cursor's own reading, the key takes part in that again: what comes next is queued behind what is left of them.
//!
//! All this happens in the one machine, so a key that is set aside shares the pace of its shard, the requests and the bound of memory.

use std::collections::BTreeMap;

use super::super::queue::{KeyState, Record};
use super::super::{KeyChange, RetryReason};
use super::{Delivery, Partition, SINK_FAILS_US};
use crate::cursor::CursorState;

/// Of the memory for lines, keys that are set aside have one part in so many: the others are not to wait for them.
const MEMORY_PARTS: usize = 4;
/// A key that fails again while it catches up is left alone after so long.
const FAILS_AGAIN_US: u64 = 2_000_000;
/// So often a record is throttled in a row before that is more than chance.
const THROTTLED_IN_A_ROW: u32 = 20;
/// So many keys are named in the status.
const NAMED_MAX: usize = 5;

/// All keys that are set aside, by their index.
#[derive(Debug, Default)]
pub(super) struct SetAside {
    keys: BTreeMap<usize, AsideKey>,
    /// Keys that have rejoined since the last save.
    ended: Vec<KeyChange>,
    /// Of the lines held in memory, what was read for these keys.
    pub(super) held_bytes: usize,
    /// There was no place for a key that fails.
    is_crowded: bool,
}

#[derive(Debug)]
struct AsideKey {
    /// Every line of the key up to here is done with.
    taken_through: u64,
    /// Up to here the log was searched for lines of the key.
    read_through: u64,
    /// Up to here the cursor may have passed over lines of the key in an earlier life.
    passed_through: u64,
    phase: Phase,
    /// How often it failed in a row, since it was set aside.
    failures: u32,
    passed: Vec<(u64, u64)>,
    taken: Vec<(u64, u64)>,
    expired: Vec<(u64, u64)>,
    is_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is read for it until then.
    Asleep { until_us: u64 },
    /// One of its lines is read and sent.
    Probing,
    /// All of its lines are.
    CatchingUp,
    /// It takes part in the cursor's reading again; what was read before is not done with yet.
    Rejoined,
}

impl AsideKey {
    fn at(state: &CursorState, until_us: u64) -> AsideKey {
        AsideKey {
            taken_through: state.cursor,
            read_through: state.cursor,
            passed_through: 0,
            phase: Phase::Asleep { until_us },
            failures: 0,
            passed: Vec::new(),
            taken: Vec::new(),
            expired: Vec::new(),
            is_changed: false,
        }
    }

    fn change(&mut self, key: &str, state: Option<CursorState>) -> KeyChange {
        self.is_changed = false;
        let (passed, taken) = (std::mem::take(&mut self.passed), std::mem::take(&mut self.taken));
        KeyChange { key: key.to_owned(), state, passed, taken, expired: std::mem::take(&mut self.expired) }
    }
}

/// Adds `first..=last`, which comes after all that is there.
fn extend(runs: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    match runs.last_mut() {
        Some((_, end)) if *end + 1 == first => *end = last,
        _ => runs.push((first, last)),
    }
}

impl SetAside {
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    pub(super) fn next_wake_us(&self) -> Option<u64> {
        let asleep = |key: &AsideKey| match key.phase {
            Phase::Asleep { until_us } => Some(until_us),
            _ => None,
        };
        self.keys.values().filter_map(asleep).min()
    }
}

impl Delivery {
    /// Takes over the keys that were set aside in an earlier life, and where each of them was.
    pub fn restore_aside(&mut self, keys: &[(String, CursorState)]) {
        for (device, state) in keys {
            let index = self.keys.index(device);
            let key = self.keys.get(index);
            key.is_aside = true;
            key.refused_ahead = state.acknowledged.iter().flat_map(|(first, last)| *first..=*last).collect();
            let passed_through = self.progress.last_done();
            self.aside.keys.insert(index, AsideKey { passed_through, ..AsideKey::at(state, 0) });
        }
    }

    /// How many keys are set aside, and some of them by name.
    pub(super) fn aside_named(&self) -> (usize, Vec<String>) {
        let names = self.aside.keys.keys().take(NAMED_MAX).map(|index| self.keys.device(*index).to_owned());
        (self.aside.keys.len(), names.collect())
    }

    /// Behind which sequence the log is to be read for keys that are set aside; `None` if none of them needs that now.
    pub fn aside_wants(&self) -> Option<u64> {
        if self.aside.keys.is_empty() || !self.has_room_aside() {
            return None;
        }
        let wanting = self.aside.keys.iter().filter(|(index, aside)| self.is_reading(**index, aside));
        wanting.map(|(_, aside)| aside.read_through).min()
    }

    /// Whether another line may be offered for them; to be asked before each.
    pub fn has_room_aside(&self) -> bool {
        self.aside.held_bytes < self.settings.held_bytes_max / MEMORY_PARTS
    }

    fn is_reading(&self, index: usize, aside: &AsideKey) -> bool {
        let is_awake = match aside.phase {
            Phase::Probing => self.keys.device_records(index) == 0,
            Phase::CatchingUp => true,
            Phase::Asleep { .. } | Phase::Rejoined => false,
        };
        is_awake && aside.read_through < self.offered_through
    }

    /// Takes a line if it is of a key that is set aside and wants it. Only lines up to [`Self::offered_through`] are offered.
    pub fn offer_aside(&mut self, sequence: u64, device: &str, now_us: u64, write: impl FnOnce(&mut Vec<u8>)) {
        self.offer_aside_aged(sequence, device, 0, now_us, write);
    }

    /// The same for a line that was received so long ago.
    pub fn offer_aside_aged(
        &mut self,
        sequence: u64,
        device: &str,
        age_us: u64,
        now_us: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(index) = self.keys.find_aside(device) else { return };
        let Some(aside) = self.aside.keys.get(&index) else { return };
        if aside.read_through >= sequence || sequence > self.offered_through || !self.is_reading(index, aside) {
            return;
        }
        self.aside.keys.get_mut(&index).expect("just seen").read_through = sequence;
        if self.keys.get(index).refused_ahead.contains(&sequence) {
            return;
        }
        match self.is_too_old(age_us) {
            true => self.expire_line_aside(index, sequence, now_us),
            false => self.take_line(index, sequence, true, (age_us, now_us), write),
        }
    }

    /// The log was read from `after`, which [`Self::aside_wants`] gave, up to `through`, and its lines were offered.
    pub fn aside_was_read(&mut self, after: u64, through: u64, now_us: u64) {
        let through = through.min(self.offered_through);
        let reached = |(index, aside): (&usize, &AsideKey)| {
            let is_of_this_reading = (after..through).contains(&aside.read_through);
            (is_of_this_reading && self.is_reading(*index, aside)).then_some(*index)
        };
        let reached: Vec<usize> = self.aside.keys.iter().filter_map(reached).collect();
        for index in reached {
            self.aside.keys.get_mut(&index).expect("just seen").read_through = through;
        }
        let offered_through = self.offered_through;
        let level = |(index, aside): (&usize, &AsideKey)| {
            let is_idle_probe = aside.phase == Phase::Probing && self.keys.device_records(*index) == 0;
            let is_awake = aside.phase == Phase::CatchingUp || is_idle_probe;
            // With one key for all devices, what comes next would not be queued behind these lines.
            let may_join = self.settings.partition == Partition::Device || self.keys.device_records(*index) == 0;
            // After a restart the cursor reads again from where it was saved, which may be far before the positions of the keys.
            let is_level = aside.read_through >= offered_through && offered_through >= aside.passed_through;
            (is_awake && may_join && is_level).then_some(*index)
        };
        let level: Vec<usize> = self.aside.keys.iter().filter_map(level).collect();
        for index in level {
            self.keys.get(index).is_aside = false;
            self.aside.keys.get_mut(&index).expect("just seen").phase = Phase::Rejoined;
            self.end_aside_if_done(index, now_us);
        }
    }

    /// A line is given up that others of its key are in front of: should those be set aside and read again, it is not to be read with them.
    pub(super) fn note_refused_ahead(&mut self, index: usize, sequence: u64) {
        let key = self.keys.get(index);
        if key.records.is_empty() {
            return;
        }
        key.refused_ahead.push(sequence);
        if let Some(aside) = self.aside.keys.get_mut(&index) {
            aside.is_changed = true;
        }
    }

    /// A line that was done with in an earlier life: with others of its key in front of it, it was given up.
    pub(super) fn note_refused_before(&mut self, sequence: u64, device: &str) {
        if self.settings.partition == Partition::Device
            && let Some(index) = self.keys.find(device)
            && !self.keys.is_aside(index)
        {
            self.note_refused_ahead(index, sequence);
        }
    }

    /// The cursor goes on over a line of a key that is set aside.
    pub(super) fn pass_over(&mut self, index: usize, first: u64, last: u64, now_us: u64) {
        self.finish(first, last, now_us);
        let aside = self.aside.keys.get_mut(&index).expect("it is set aside");
        extend(&mut aside.passed, first, last);
        aside.is_changed = true;
    }

    /// A record that was read for a key that is set aside is done with.
    pub(super) fn taken_aside(&mut self, index: usize, runs: &[(u64, u64)], now_us: u64) {
        self.touch(now_us);
        let aside = self.aside.keys.get_mut(&index).expect("it is set aside");
        for (first, last) in runs {
            extend(&mut aside.taken, *first, *last);
            aside.taken_through = aside.taken_through.max(*last);
        }
        aside.is_changed = true;
    }

    /// What is taken, or about to be, is too old.
    pub(super) fn expired_aside(&mut self, index: usize, runs: &[(u64, u64)]) {
        let aside = self.aside.keys.get_mut(&index).expect("it is set aside");
        runs.iter().for_each(|(first, last)| extend(&mut aside.expired, *first, *last));
    }

    /// A line that was read for a key that is set aside is given up at once. Behind others of the key its place in the order is remembered
    /// by the caller, because those may be read again; where none is before it, everything up to it is done with.
    pub(super) fn refused_aside(&mut self, index: usize, sequence: u64, now_us: u64) {
        if self.keys.device_records(index) == 0 {
            self.taken_aside(index, &[(sequence, sequence)], now_us);
            return;
        }
        self.touch(now_us);
        let aside = self.aside.keys.get_mut(&index).expect("it is set aside");
        extend(&mut aside.taken, sequence, sequence);
        aside.is_changed = true;
    }

    /// The sink has taken the first record of a key.
    pub(super) fn aside_succeeded(&mut self, index: usize, now_us: u64) {
        let Some(aside) = self.aside.keys.get_mut(&index) else { return };
        if aside.phase == Phase::Probing {
            (aside.phase, aside.failures) = (Phase::CatchingUp, 0);
        }
        self.end_aside_if_done(index, now_us);
    }

    pub(super) fn end_aside_if_done(&mut self, index: usize, now_us: u64) {
        let has_rejoined = self.aside.keys.get(&index).is_some_and(|aside| aside.phase == Phase::Rejoined);
        if has_rejoined && self.keys.get(index).records.front().is_none_or(|record| !record.is_aside) {
            let mut aside = self.aside.keys.remove(&index).expect("just seen");
            let change = aside.change(self.keys.device(index), None);
            self.aside.ended.push(change);
            self.aside.is_crowded = false;
            self.touch(now_us);
        }
    }

    /// Since when the failures of a key count: what fails while the sink takes nothing from anybody says nothing about the key.
    fn blamed_since_us(&self, index: usize, now_us: u64) -> u64 {
        self.keys.failing_since_us(index).unwrap_or(now_us).max(self.steady_since_us)
    }

    /// When a key that fails is to be judged anew.
    pub(super) fn judged_anew_us(&self, index: usize, now_us: u64) -> u64 {
        let fails_us = match self.aside.keys.contains_key(&index) {
            true => FAILS_AGAIN_US,
            false => self.settings.patience.key_fails_us,
        };
        self.blamed_since_us(index, now_us) + fails_us
    }

    /// Whether throttling is more than a matter of taking turns: where a shard is used up, a record may be refused many times in a row, in
    /// particular a large one.
    fn is_throttled_alone(&mut self, index: usize) -> bool {
        let key = self.keys.get(index);
        let failures = key.records.front().map_or(0, |record| record.failures);
        let pacer = &self.lanes[key.shard].pacer;
        pacer.is_blocked() || (failures >= THROTTLED_IN_A_ROW && !pacer.holds_back())
    }

    /// The first record of a key has failed: whether the key, and not the sink, is to blame for long enough, and has been set aside.
    pub(super) fn set_aside_if_due(&mut self, index: usize, reason: RetryReason, now_us: u64) -> bool {
        let is_throttled = reason == RetryReason::Throttled;
        let is_long = now_us >= self.judged_anew_us(index, now_us) && (!is_throttled || self.is_throttled_alone(index));
        let is_due = match self.aside.keys.get(&index).map(|aside| aside.phase) {
            // What throttles is the shard, which has a pace.
            Some(Phase::Probing) if !is_throttled => true,
            Some(_) => is_long,
            None => {
                let since_us = self.blamed_since_us(index, now_us);
                let lately_us = since_us.max(now_us.saturating_sub(SINK_FAILS_US));
                let others_succeed = self.accepted_us.is_some_and(|at_us| at_us >= lately_us);
                // Others cannot show that the sink works where the lines of this key leave them no room.
                let others_have_no_room = !is_throttled && self.held_bytes() >= self.settings.held_bytes_max;
                let is_one_of_many = self.settings.partition == Partition::Device;
                is_one_of_many && is_long && (others_succeed || others_have_no_room)
            }
        };
        if !is_due || self.settings.patience.keys_aside_max == 0 {
            return false;
        }
        if !self.aside.keys.contains_key(&index) && self.aside.count() >= self.settings.patience.keys_aside_max {
            self.aside.is_crowded = true;
            return false;
        }
        self.set_aside(index, now_us);
        true
    }

    fn set_aside(&mut self, index: usize, now_us: u64) {
        let key = self.keys.get(index);
        let records = std::mem::take(&mut key.records);
        (key.is_aside, key.failing_since_us) = (true, None);
        let first = records.front().and_then(|record| record.runs.first()).expect("a record failed").0;
        self.keys.set_state(index, KeyState::Idle);
        let fresh = AsideKey::at(&CursorState::at(first - 1), 0);
        let aside = self.aside.keys.entry(index).or_insert(fresh);
        aside.failures = aside.failures.saturating_add(1);
        (aside.taken_through, aside.read_through, aside.is_changed) = (first - 1, first - 1, true);
        let patience = &self.settings.patience;
        let pause_us_max =
            (patience.probe_pause_us_min << aside.failures.min(16)).min(patience.probe_pause_us_max.max(2));
        aside.phase = Phase::Asleep { until_us: now_us + self.jitter.half_pause_us(pause_us_max) };
        self.touch(now_us);
        for record in records {
            self.forget_record(&record);
            if !record.is_aside {
                record.runs.iter().for_each(|(first, last)| self.pass_over(index, *first, *last, now_us));
            }
        }
    }

    /// It is counted among what is held.
    pub(super) fn remember_record(&mut self, record: &Record) {
        self.records += 1;
        self.outstanding_runs += record.runs.len();
        self.hold(record.held_bytes(), record.is_aside);
    }

    /// Its share of what is counted is taken back.
    pub(super) fn forget_record(&mut self, record: &Record) {
        self.records -= 1;
        self.held_bytes -= record.held_bytes();
        self.outstanding_runs -= record.runs.len();
        if record.is_aside {
            self.aside.held_bytes -= record.held_bytes();
        }
    }

    /// Keys whose pause is over are tried again.
    pub(super) fn wake(&mut self, now_us: u64) {
        for aside in self.aside.keys.values_mut() {
            if matches!(aside.phase, Phase::Asleep { until_us } if until_us <= now_us) {
                aside.phase = Phase::Probing;
            }
        }
    }

    /// What has changed of these keys since the last save.
    pub(super) fn aside_changes(&mut self) -> Vec<KeyChange> {
        let mut changes = std::mem::take(&mut self.aside.ended);
        for (index, aside) in self.aside.keys.iter_mut().filter(|(_, aside)| aside.is_changed) {
            let taken_through = aside.taken_through;
            let key = self.keys.get(*index);
            key.refused_ahead.retain(|sequence| *sequence > taken_through);
            let acknowledged = key.refused_ahead.iter().map(|sequence| (*sequence, *sequence)).collect();
            let state = CursorState { cursor: taken_through, acknowledged };
            let device = std::sync::Arc::clone(&key.device);
            changes.push(aside.change(&device, Some(state)));
        }
        changes
    }

    /// Whether the cursor passes over the lines of a device.
    #[cfg(test)]
    pub fn is_aside(&self, device: &str) -> bool {
        self.keys.find_aside(device).is_some()
    }

    /// Whether no line of a device that is set aside is in memory.
    #[cfg(test)]
    pub fn is_idle(&self, device: &str) -> bool {
        self.keys.find_aside(device).is_none_or(|index| self.keys.device_records(index) == 0)
    }

    #[cfg(test)]
    pub(super) fn check_aside(&self) {
        let held = self.keys.all().flat_map(|key| &key.records).filter(|record| record.is_aside);
        assert_eq!(self.aside.held_bytes, held.map(Record::held_bytes).sum::<usize>());
        for (index, aside) in &self.aside.keys {
            let is_asleep = matches!(aside.phase, Phase::Asleep { .. });
            assert!(!is_asleep || self.keys.device_records(*index) == 0, "it is asleep and holds records");
            assert!(
                aside.taken_through <= aside.read_through
                    && aside.read_through <= self.offered_through.max(aside.taken_through)
            );
        }
    }
}
