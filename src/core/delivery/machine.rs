//! The machine itself: it takes lines and makes requests of them. `replies` holds what happens once they are answered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::backoff::Jitter;
use super::pacing::{self, Pacer, Shards, UNKNOWN_SHARD};
use super::progress::Progress;
use super::queue::{Content, KeyState, Keys, RECORD_OVERHEAD_BYTES, RUN_BYTES, Record};
use super::{
    Actions, DeliverySettings, DeliveryStatus, Event, Grouping, OutgoingRecord, Partition, Persist, Refused, Request,
    RequestId,
};
use crate::core::cursor::CursorState;

mod replies;

/// Most bytes that a record takes in a request beside its data: the partition key, which is the gateway, a slash and the device.
pub const PARTITION_KEY_BYTES_MAX: usize = 256;
/// The cursor is saved at most so often, however fast it moves.
const PERSIST_PAUSE_US_MIN: u64 = 100_000;

/// Delivers one stream to one sink.
#[derive(Debug)]
pub struct Delivery {
    settings: DeliverySettings,
    jitter: Jitter,
    progress: Progress,
    offered_through: u64,
    keys: Keys,
    shards: Shards,
    /// Keys that may be sent, by shard.
    lanes: Vec<Lane>,
    next_lane: usize,
    /// Until when keys pause.
    pauses: BinaryHeap<Reverse<(u64, usize)>>,
    in_flight: BTreeMap<RequestId, InFlight>,
    /// Groups of keys whose first records were refused together, though only one of them may be to blame.
    suspects: VecDeque<Vec<usize>>,
    next_request: u64,
    records: usize,
    held_bytes: usize,
    outstanding_runs: usize,
    /// When the oldest record that may be sent was opened; `None` if there is none.
    waiting_since_us: Option<u64>,
    behind: bool,
    flushing: bool,
    sink: SinkState,
    saving: Saving,
    status: DeliveryStatus,
}

#[derive(Debug)]
struct Lane {
    ready: VecDeque<usize>,
    pacer: Pacer,
}

#[derive(Debug)]
struct InFlight {
    keys: Vec<usize>,
    /// The sink's epoch when it was sent.
    epoch: u64,
    is_suspect: bool,
}

/// What is known of the sink from requests that failed as a whole.
#[derive(Debug, Default)]
struct SinkState {
    failures: u32,
    /// Counts the pauses: several requests that fail together are one failure.
    epoch: u64,
    paused_until_us: u64,
    /// Until when the sink asked to be left alone.
    asked_until_us: u64,
    /// Lines given up since something was accepted.
    refused_in_a_row: u32,
    /// Most bytes of a request at present; lowered after one that was too large.
    request_bytes_max: usize,
}

/// So many lines may be given up without one that is accepted. Beyond that the lines are not to blame.
const REFUSED_IN_A_ROW_MAX: u32 = 100;
/// A request is never made smaller than this for having been too large.
const REQUEST_BYTES_MIN: usize = 4 << 10;

impl SinkState {
    /// A pause that the sink asked for holds, whatever other requests say meanwhile.
    fn pause_until(&mut self, until_us: u64) {
        self.paused_until_us = until_us.max(self.asked_until_us);
    }

    /// Whether a line that is refused by itself is to blame.
    fn may_give_up(&self) -> bool {
        self.refused_in_a_row < REFUSED_IN_A_ROW_MAX
    }
}

#[derive(Debug, Default)]
struct Saving {
    saved_us: u64,
    unsaved_since_us: Option<u64>,
    unsaved_sequences: u64,
    refused: Vec<Refused>,
    refused_bytes: usize,
    passed_over: u64,
}

impl Saving {
    fn refuse(&mut self, refused: Refused) {
        self.refused_bytes += refused.line.len() + refused.reason.len() + size_of::<Refused>();
        self.refused.push(refused);
    }
}

impl Delivery {
    /// Begins with the first line that `cursor` does not say is done with; `seed` makes the jitter of the pauses repeatable.
    pub fn new(settings: DeliverySettings, cursor: &CursorState, seed: u64) -> Self {
        let sink = SinkState { request_bytes_max: settings.request_bytes_max, ..SinkState::default() };
        Delivery {
            settings,
            jitter: Jitter::new(seed),
            progress: Progress::new(cursor),
            offered_through: cursor.cursor,
            keys: Keys::default(),
            shards: Shards::default(),
            lanes: vec![Lane { ready: VecDeque::new(), pacer: Pacer::new(0) }],
            next_lane: 0,
            pauses: BinaryHeap::new(),
            in_flight: BTreeMap::new(),
            suspects: VecDeque::new(),
            next_request: 0,
            records: 0,
            held_bytes: 0,
            outstanding_runs: 0,
            waiting_since_us: None,
            behind: false,
            flushing: false,
            sink,
            saving: Saving::default(),
            status: DeliveryStatus::default(),
        }
    }

    /// Whether the next line should be offered now; to be asked before each.
    pub fn wants_more(&self) -> bool {
        let ranges = self.progress.ranges() + self.outstanding_runs;
        // Otherwise a cursor that was saved under a larger bound would block for ever: only the lines between its ranges reduce their
        // number.
        let has_ranges = ranges < self.settings.patience.ranges_max || self.outstanding_runs == 0;
        has_ranges && self.held_bytes() < self.settings.held_bytes_max
    }

    /// What waits to be sent, and what was refused and is not saved yet.
    fn held_bytes(&self) -> usize {
        self.held_bytes + self.saving.refused_bytes
    }

    /// The last sequence that was offered or skipped: reading goes on behind it.
    pub fn offered_through(&self) -> u64 {
        self.offered_through
    }

    /// Whether everything that was offered is done with.
    pub fn is_drained(&self) -> bool {
        self.records == 0
    }

    /// Counts are since this delivery was created.
    pub fn status(&self) -> DeliveryStatus {
        DeliveryStatus {
            requests_in_flight: self.in_flight.len(),
            held_bytes: self.held_bytes(),
            ..self.status.clone()
        }
    }

    /// Counts the sequences up to `last` as done with, because they are no longer in the store or cannot be read.
    pub fn skip_through(&mut self, last: u64, now_us: u64) {
        if last > self.offered_through {
            self.finish(self.offered_through + 1, last, now_us);
            self.offered_through = last;
        }
    }

    /// Takes the next line, which `write` appends; nothing is written for one that is done with already.
    ///
    /// Sequences ascend. Those left out between this and the one before are skipped.
    ///
    /// # Panics
    ///
    /// If `sequence` is not above [`Self::offered_through`].
    pub fn offer(&mut self, sequence: u64, device: &str, now_us: u64, write: impl FnOnce(&mut Vec<u8>)) {
        assert!(sequence > self.offered_through, "sequence {sequence} was offered before");
        self.skip_through(sequence - 1, now_us);
        self.offered_through = sequence;
        if self.progress.is_done(sequence) {
            return;
        }
        let index = self.keys.index(match self.settings.partition {
            Partition::Device => device,
            Partition::Gateway => "",
        });
        self.make_room(index, now_us);
        let line_max = self.settings.record_bytes_max.saturating_sub(PARTITION_KEY_BYTES_MAX);
        let record = self.keys.get(index).records.back_mut().expect("room was made");
        let Content::Open(bytes) = &mut record.content else { unreachable!("room was made") };
        let before = bytes.len();
        write(bytes);
        let line_bytes = bytes.len() - before;
        if line_bytes > line_max {
            let line = bytes.split_off(before);
            self.refuse_line(index, sequence, line, now_us);
            return;
        }
        if bytes.len() > line_max {
            // The record was below its soft bound, but this line is long: it gets a record of its own.
            let line = bytes.split_off(before);
            self.push_record(index, line, now_us);
        }
        self.held_bytes += line_bytes;
        let record = self.keys.get(index).records.back_mut().expect("just written");
        match record.runs.last_mut() {
            Some((_, last)) if *last + 1 == sequence => *last = sequence,
            _ => {
                record.runs.push((sequence, sequence));
                self.outstanding_runs += 1;
                self.held_bytes += RUN_BYTES;
            }
        }
        if self.keys.get(index).state == KeyState::Idle {
            self.make_ready(index);
        }
    }

    /// The last record of the key is open and has room.
    fn make_room(&mut self, index: usize, now_us: u64) {
        let record_bytes_soft = self.settings.record_bytes_soft.min(self.sink.request_bytes_max / 2);
        let has_room = self.settings.grouping == Grouping::Lines
            && self.keys.get(index).records.back().is_some_and(
                |record| matches!(&record.content, Content::Open(bytes) if bytes.len() < record_bytes_soft),
            );
        if !has_room {
            self.push_record(index, Vec::new(), now_us);
        }
    }

    fn push_record(&mut self, index: usize, bytes: Vec<u8>, now_us: u64) {
        let records = &mut self.keys.get(index).records;
        if let Some(full) = records.back_mut() {
            full.seal();
        }
        records.push_back(Record {
            content: Content::Open(bytes),
            runs: Vec::new(),
            opened_us: now_us,
            failures: 0,
            is_suspect: false,
        });
        self.records += 1;
        self.held_bytes += RECORD_OVERHEAD_BYTES;
    }

    fn refuse_line(&mut self, index: usize, sequence: u64, line: Vec<u8>, now_us: u64) {
        let records = &mut self.keys.get(index).records;
        if records.back().is_some_and(|record| record.runs.is_empty()) {
            records.pop_back();
            self.records -= 1;
            self.held_bytes -= RECORD_OVERHEAD_BYTES;
        }
        let reason = format!("{} bytes are more than a record may hold", line.len());
        self.saving.refuse(Refused { sequence, reason, line });
        self.status.records_rejected += 1;
        self.finish(sequence, sequence, now_us);
    }

    fn finish(&mut self, first: u64, last: u64, now_us: u64) {
        self.progress.finish(first, last);
        self.saving.unsaved_since_us.get_or_insert(now_us);
        self.saving.unsaved_sequences += last - first + 1;
    }

    /// Takes note of an event, and says what is to be done now.
    ///
    /// # Panics
    ///
    /// If a reply answers no request that is in flight, or has not one outcome for each of its records.
    pub fn step(&mut self, event: Event, now_us: u64) -> Actions {
        match event {
            Event::Tick { behind } => self.behind = behind,
            Event::Replied { id, reply } => self.replied(id, reply, now_us),
            Event::LinkUp => self.sink.pause_until(now_us),
            Event::Flush => self.flushing = true,
        }
        while let Some(Reverse((until_us, index))) = self.pauses.peek().copied()
            && until_us <= now_us
        {
            self.pauses.pop();
            self.make_ready(index);
        }
        let mut send = Vec::new();
        while self.may_send(now_us)
            && let Some(request) = self.next_request(now_us)
        {
            send.push(request);
        }
        let persist = if self.is_save_due(now_us) { self.save(now_us) } else { None };
        Actions { send, persist, wait_until_us: self.wait_until_us(now_us) }
    }

    /// What has changed since the last save, whether or not a save is due. `None` if nothing has.
    pub fn save(&mut self, now_us: u64) -> Option<Persist> {
        self.saving.unsaved_since_us.take()?;
        self.saving.saved_us = now_us;
        self.saving.unsaved_sequences = 0;
        self.saving.refused_bytes = 0;
        Some(Persist {
            state: self.progress.state(),
            refused: std::mem::take(&mut self.saving.refused),
            passed_over: self.saving.passed_over,
        })
    }

    fn save_due_us(&self) -> Option<u64> {
        let since_us = self.saving.unsaved_since_us?;
        let soonest_us = self.saving.saved_us + PERSIST_PAUSE_US_MIN;
        if !self.saving.refused.is_empty() || (self.flushing && self.is_drained()) {
            Some(since_us)
        } else if self.saving.unsaved_sequences >= self.settings.patience.persist_sequences {
            Some(soonest_us)
        } else {
            Some((since_us + self.settings.patience.persist_interval_us).max(soonest_us))
        }
    }

    fn is_save_due(&self, now_us: u64) -> bool {
        self.save_due_us().is_some_and(|due_us| due_us <= now_us)
    }

    fn make_ready(&mut self, index: usize) {
        if self.keys.get(index).records.front().is_some_and(|record| record.is_suspect) {
            self.keys.set_state(index, KeyState::Suspect);
            self.suspects.push_back(vec![index]);
            return;
        }
        self.keys.set_state(index, KeyState::Ready);
        let key = self.keys.get(index);
        let opened_us = key.records.front().expect("a key that is ready has a record").opened_us;
        let shard = key.shard;
        self.lanes[shard].ready.push_back(index);
        let since_us = self.waiting_since_us.map_or(opened_us, |since_us| since_us.min(opened_us));
        self.waiting_since_us = Some(since_us);
    }

    fn has_room_in_flight(&self) -> bool {
        // After a failure one request finds out whether the sink works again; others would only fail as well.
        let is_probing = self.sink.failures > 0;
        self.in_flight.len() < if is_probing { 1 } else { self.settings.requests_in_flight_max }
    }

    fn may_send(&self, now_us: u64) -> bool {
        now_us >= self.sink.paused_until_us && self.has_room_in_flight()
    }

    /// When what may be sent has waited long enough for more.
    fn due_us(&self) -> Option<u64> {
        let since_us = self.waiting_since_us?;
        // Where no more may be held, nothing can come that would be worth waiting for.
        let is_full = self.held_bytes() >= self.settings.held_bytes_max;
        let waits = !self.behind && !self.flushing && !is_full;
        Some(if waits { since_us + self.settings.linger_us } else { since_us })
    }

    fn next_request(&mut self, now_us: u64) -> Option<Request> {
        let suspects = if self.may_suspects_go() { self.suspects.pop_front() } else { None };
        let is_due = self.due_us().is_some_and(|due_us| due_us <= now_us);
        let (keys, is_suspect) = match suspects {
            Some(keys) => (keys, true),
            None if is_due => (self.collect(now_us), false),
            None => return None,
        };
        if keys.is_empty() {
            return None;
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let mut records = Vec::with_capacity(keys.len());
        for index in &keys {
            self.keys.set_state(*index, KeyState::InFlight);
            let key = self.keys.get(*index);
            let data = key.records.front_mut().expect("a key that is ready has a record").seal();
            records.push(OutgoingRecord { device: key.device.clone(), data });
        }
        self.in_flight.insert(id, InFlight { keys, epoch: self.sink.epoch, is_suspect });
        Some(Request { id, records })
    }

    /// Whether a suspected group may be sent, which it is alone. After many refusals in a row all other records go first and are waited
    /// for: if one of them is accepted, the fault is in the suspected ones.
    fn may_suspects_go(&self) -> bool {
        self.sink.may_give_up() || !self.has_others()
    }

    /// Something that is not suspected may be sent, or is on its way.
    fn has_others(&self) -> bool {
        !self.in_flight.is_empty() || self.lanes.iter().any(|lane| !lane.ready.is_empty())
    }

    /// Takes keys from the lanes in turn, within the bounds of a request.
    fn collect(&mut self, now_us: u64) -> Vec<usize> {
        let mut keys = Vec::new();
        let mut bytes = 0;
        let lanes = self.lanes.len();
        'lanes: for at in 0..lanes {
            let lane = &mut self.lanes[(self.next_lane + at) % lanes];
            while let Some(index) = lane.ready.front().copied() {
                let record = self.keys.get(index).records.front().expect("a key that is ready has a record");
                let record_bytes = record.len() + PARTITION_KEY_BYTES_MAX;
                let is_full = keys.len() == self.settings.request_records_max
                    || (bytes + record_bytes > self.sink.request_bytes_max && !keys.is_empty());
                if is_full {
                    break 'lanes;
                }
                if !lane.pacer.may_send(now_us) {
                    break;
                }
                let ask_pause_us = self.jitter.half_pause_us(self.settings.patience.throttled_pause_us);
                lane.pacer.sent(pacing::cost(record.len()), now_us, ask_pause_us);
                lane.ready.pop_front();
                bytes += record_bytes;
                keys.push(index);
            }
        }
        self.next_lane = (self.next_lane + 1) % lanes;
        if self.lanes.iter().all(|lane| lane.ready.is_empty()) {
            self.waiting_since_us = None;
        }
        keys
    }

    fn wait_until_us(&self, now_us: u64) -> Option<u64> {
        let sending = if self.has_room_in_flight() { self.next_send_us(now_us) } else { None };
        let paused = self.pauses.peek().map(|Reverse((until_us, _))| *until_us);
        [sending, paused, self.save_due_us()].into_iter().flatten().min()
    }

    /// When the next request can be made of what is there now.
    fn next_send_us(&self, now_us: u64) -> Option<u64> {
        let paced = self.lanes.iter().filter(|lane| !lane.ready.is_empty()).map(|lane| lane.pacer.ready_at_us()).min();
        let ordinary = paced.and_then(|paced_us| Some(self.due_us()?.max(paced_us)));
        let suspect = (!self.suspects.is_empty() && self.may_suspects_go()).then_some(now_us);
        let next = [ordinary, suspect].into_iter().flatten().min()?;
        Some(next.max(self.sink.paused_until_us))
    }

    fn lane_of(&mut self, shard: Option<&str>, now_us: u64) -> usize {
        let shard = shard.map_or(UNKNOWN_SHARD, |name| self.shards.index(name));
        while self.lanes.len() <= shard {
            self.lanes.push(Lane { ready: VecDeque::new(), pacer: Pacer::new(now_us) });
        }
        shard
    }

    /// For tests: what is counted along the way equals what is there, and every key is where its state says.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let records = || self.keys.all().flat_map(|key| &key.records);
        assert_eq!(self.records, records().count());
        assert_eq!(self.held_bytes, records().map(Record::held_bytes).sum::<usize>());
        assert_eq!(self.outstanding_runs, records().map(|record| record.runs.len()).sum::<usize>());
        assert!(self.keys.all().all(|key| (key.state == KeyState::Idle) == key.records.is_empty()));
        let count = |state| self.keys.all().filter(|key| key.state == state).count();
        assert_eq!(count(KeyState::Ready), self.lanes.iter().map(|lane| lane.ready.len()).sum::<usize>());
        assert_eq!(count(KeyState::Paused), self.pauses.len());
        assert_eq!(count(KeyState::InFlight), self.in_flight.values().map(|flight| flight.keys.len()).sum::<usize>());
        assert_eq!(count(KeyState::Suspect), self.suspects.iter().map(Vec::len).sum::<usize>());
    }
}
