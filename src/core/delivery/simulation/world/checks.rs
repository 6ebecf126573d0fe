//! What is checked: each request, each cursor, after each step, and at the end.

use super::super::cloud::{is_poison, sequences};
use super::*;

impl World {
    pub(super) fn begin_save(&mut self, mut persist: Persist) -> Result<(), String> {
        for refused in &persist.refused {
            let line = &self.lines[refused.sequence as usize - 1];
            self.memory.unfinished.remove(&line.device);
            let is_to_blame = is_poison(&line.text) || line.text.len() > LINE_BYTES_MAX;
            if refused.line != line.text || !is_to_blame {
                return Err(format!("{refused:?} is given up without a reason"));
            }
            self.summary.refused += 1;
        }
        if self.scenario.sabotage == Some(Sabotage::CursorBeyondWhatIsDone) {
            persist.state = CursorState::at(self.delivery.offered_through());
        }
        if self.scenario.sabotage == Some(Sabotage::PassedOverIsCountedApart) {
            persist.passed_over = self.memory.passed_over;
        }
        // Saving takes a while, and happens in order.
        self.saving_until_us = self.saving_until_us.max(self.now_us + self.random.below(SECOND));
        self.schedule(self.saving_until_us, Happening::Saved { life: self.life, persist });
        Ok(())
    }

    pub(super) fn save(&mut self, persist: Persist) -> Result<(), String> {
        for refused in persist.refused {
            if !self.dead.insert(refused.sequence) {
                return Err(format!("line {} is a dead letter twice", refused.sequence));
            }
        }
        persist.keys.into_iter().try_for_each(|change| self.save_key(change))?;
        let state = persist.state;
        if state.cursor < self.saved.cursor || state.acknowledged.len() > self.settings.patience.ranges_max {
            return Err(format!("the cursor went from {:?} to {state:?}", self.saved));
        }
        let beyond = (self.saved.cursor + 1, state.cursor);
        let pending: HashSet<u64> = self.saved_keys.values().flat_map(|row| &row.pending).copied().collect();
        for (first, last) in state.acknowledged.iter().copied().chain([beyond]) {
            for sequence in first..=last {
                if !self.is_settled(sequence) && !pending.contains(&sequence) {
                    return Err(format!("line {sequence} is done with, and is nowhere"));
                }
            }
        }
        let ranges = state.acknowledged.iter().copied().chain([(1, state.cursor)]);
        let done = ranges.flat_map(|(first, last)| first..=last);
        let done = done.filter(|sequence| !self.dead.contains(sequence) && !pending.contains(sequence));
        let expected = done.filter(|sequence| is_passed_over(*sequence)).count() as u64;
        self.saved_passed_over = self.passed_over_before + persist.passed_over;
        if self.saved_passed_over != expected {
            return Err(format!("{} lines are said to be passed over, of {expected}", self.saved_passed_over));
        }
        self.saved = state;
        Ok(())
    }

    fn is_settled(&self, sequence: u64) -> bool {
        self.cloud.arrived.contains_key(&sequence) || self.dead.contains(&sequence)
    }

    /// Each line of a key that is set aside is passed over once, and done with once.
    fn save_key(&mut self, change: KeyChange) -> Result<(), String> {
        let mut row = self.saved_keys.remove(&change.key).unwrap_or_default();
        let sequences = |runs: Vec<(u64, u64)>| runs.into_iter().flat_map(|(first, last)| first..=last);
        for sequence in sequences(change.passed) {
            if self.lines[sequence as usize - 1].device != change.key || !row.pending.insert(sequence) {
                return Err(format!("line {sequence} is passed over without a reason"));
            }
        }
        for sequence in sequences(change.taken) {
            if !row.pending.remove(&sequence) || !self.is_settled(sequence) {
                return Err(format!("line {sequence} is taken, and is nowhere"));
            }
        }
        let Some(state) = change.state else {
            let left = row.pending.len();
            return if left == 0 { Ok(()) } else { Err(format!("{} rejoins and leaves {left} lines", change.key)) };
        };
        row.state = state;
        self.saved_keys.insert(change.key, row);
        Ok(())
    }

    pub(super) fn check_request(&mut self, request: &Request) -> Result<(), String> {
        let bytes: usize = request.records.iter().map(|record| record.data.len() + 256).sum();
        let count = request.records.len();
        let is_within = count <= self.settings.request_records_max
            && (bytes <= self.settings.request_bytes_max || count == 1)
            && self.memory.on_the_way.len() < self.settings.requests_in_flight_max;
        if !is_within || count == 0 {
            return Err(format!("a request beyond the bounds: {request:?}"));
        }
        if self.now_us < self.memory.asked_until_us {
            return Err(format!("a request before the time that was asked for: {request:?}"));
        }
        for record in &request.records {
            let device = record.device.to_string();
            let mut others = self.memory.on_the_way.values().flat_map(|request| &request.records);
            let twice = request.records.iter().filter(|other| other.device == record.device).count() > 1;
            if twice || others.any(|other| other.device == record.device) {
                return Err(format!("two records of {device} are on their way"));
            }
            if let Some(again) = sequences(&record.data).find(|sequence| self.memory.accepted.contains(sequence)) {
                return Err(format!("line {again} of {device} was accepted and is sent again"));
            }
            if *self.memory.unfinished.entry(device).or_insert_with(|| record.data.clone()) != record.data {
                return Err(format!("{record:?} is not what was sent before"));
            }
        }
        Ok(())
    }

    /// What must hold after every step.
    pub(super) fn check(&self) -> Result<(), String> {
        self.delivery.check();
        let held_bytes = self.delivery.status().held_bytes;
        // One line more than the bound, with a record of its own, or as a dead letter; where a record was refused, each of its lines may
        // have become a record.
        if held_bytes > 3 * self.settings.held_bytes_max + LINE_BYTES_MAX + 1_000 {
            return Err(format!("{held_bytes} bytes are held"));
        }
        let now_us = self.now_us - self.life_began_us;
        match self.memory.wait_until_us {
            Some(until_us) if until_us <= now_us => Err("the machine asks to be called again at once".to_owned()),
            _ => Ok(()),
        }
    }

    pub(super) fn check_end(&self) -> Result<(), String> {
        let last = self.lines.len() as u64;
        if !self.saved_keys.is_empty() {
            return Err(format!("{:?} are set aside at the end", self.saved_keys));
        }
        if self.saved != CursorState::at(last) {
            return Err(format!("{:?} is saved at the end, of {last} lines", self.saved));
        }
        let is_bad = |line: &Line| is_poison(&line.text) || line.text.len() > LINE_BYTES_MAX;
        for (sequence, line) in (1..).zip(&self.lines) {
            let (has_arrived, is_dead) = (self.cloud.arrived.contains_key(&sequence), self.dead.contains(&sequence));
            if has_arrived && is_bad(line) || !has_arrived && !is_dead {
                return Err(format!("line {sequence} of {}: arrived {has_arrived}, dead {is_dead}", line.device));
            }
        }
        Ok(())
    }
}
