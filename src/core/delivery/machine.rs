//! The machine itself: it takes lines and makes requests of them. `replies` holds what happens once they are answered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::backoff::Jitter;
use super::pacing::{Pacer, Shards, UNKNOWN_SHARD};
use super::progress::Progress;
use super::queue::{Content, KeyState, Keys, RECORD_OVERHEAD_BYTES, RUN_BYTES, Record};
use super::{Actions, DeliverySettings, DeliveryStatus, Event, Grouping, Partition, Refused, RequestId, RetryReason};
use crate::cursor::CursorState;

mod ageing;
mod aside;
mod releasing;
mod replies;
mod requests;
mod saving;

/// Most bytes that a record takes in a request beside its data: the partition key, which is the gateway, a slash and the device.
pub const PARTITION_KEY_BYTES_MAX: usize = 256;

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
    saving: saving::Saving,
    aside: aside::SetAside,
    /// Its progress is a part's: who has made the parts counts the ranges.
    is_part: bool,
    /// What is newly done with, for whoever wants to know.
    finished: Option<Vec<(u64, u64)>>,
    /// The store has given up everything up to here.
    given_up_through: u64,
    /// When a record was accepted last.
    accepted_us: Option<u64>,
    /// Since when no record was accepted, although some were tried.
    records_failing_since_us: Option<u64>,
    /// Set when that has lasted for a while.
    every_record_fails: Option<RetryReason>,
    /// Since when records are accepted again, after a time in which none was.
    steady_since_us: u64,
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

/// If nothing was accepted for so long, it is the sink that failed, and not the keys.
const SINK_FAILS_US: u64 = 5_000_000;
/// A request is never made smaller than this for having been too large.
const REQUEST_BYTES_MIN: usize = 4 << 10;

impl SinkState {
    /// A pause that the sink asked for holds, whatever other requests say meanwhile.
    fn pause_until(&mut self, until_us: u64) {
        self.paused_until_us = until_us.max(self.asked_until_us);
    }

    /// The sink may ask for a pause of its own.
    fn is_asked_for(&mut self, after_us: Option<u64>, now_us: u64) {
        let asked_until_us = now_us.saturating_add(after_us.unwrap_or(0));
        self.asked_until_us = self.asked_until_us.max(asked_until_us);
        self.pause_until(self.paused_until_us);
    }
}

impl Delivery {
    /// Whether a line that is refused by itself is to blame.
    fn may_give_up(&self) -> bool {
        self.sink.refused_in_a_row < self.settings.patience.refused_in_a_row_max
    }

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
            saving: saving::Saving::default(),
            aside: aside::SetAside::default(),
            is_part: false,
            finished: None,
            given_up_through: 0,
            accepted_us: None,
            records_failing_since_us: None,
            every_record_fails: None,
            steady_since_us: 0,
            status: DeliveryStatus::default(),
        }
    }

    /// Whether the next line should be offered now; to be asked before each.
    pub fn wants_more(&self) -> bool {
        let ranges = if self.is_part { 0 } else { self.progress.ranges() } + self.outstanding_runs;
        // Otherwise a cursor that was saved under a larger bound would block for ever: only the lines between its ranges reduce their
        // number.
        let has_ranges = ranges < self.settings.patience.ranges_max || self.outstanding_runs == 0;
        has_ranges && self.held_bytes() < self.settings.held_bytes_max && !self.aside.is_crowded()
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
        let (keys_aside, keys_aside_named) = self.aside_named();
        let every_record_fails = self.every_record_fails.map(|reason| format!("every record fails: {reason}"));
        DeliveryStatus {
            failing: self.status.failing.clone().or(every_record_fails),
            requests_in_flight: self.in_flight.len(),
            held_bytes: self.held_bytes(),
            keys_aside,
            keys_aside_named,
            is_crowded: self.aside.is_crowded(),
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
        self.offer_aged(sequence, device, 0, now_us, write);
    }

    /// The same for a line that was received so long ago. One that is too old expires.
    ///
    /// # Panics
    ///
    /// As [`Self::offer`].
    pub fn offer_aged(
        &mut self,
        sequence: u64,
        device: &str,
        age_us: u64,
        now_us: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        assert!(sequence > self.offered_through, "sequence {sequence} was offered before");
        self.skip_through(sequence - 1, now_us);
        self.offered_through = sequence;
        if self.progress.is_done(sequence) {
            self.note_refused_before(sequence, device);
            return;
        }
        if self.is_too_old(age_us) {
            self.expire_line(sequence, device, now_us);
            return;
        }
        if self.aside.count() > 0
            && let Some(index) = self.keys.find_aside(device)
        {
            self.pass_over(index, sequence, sequence, now_us);
            return;
        }
        let index = self.keys.index(match self.settings.partition {
            Partition::Device => device,
            Partition::Gateway => "",
        });
        self.take_line(index, sequence, false, (age_us, now_us), write);
    }

    /// Appends a line to the last record of its key, or refuses it.
    fn take_line(
        &mut self,
        index: usize,
        sequence: u64,
        is_aside: bool,
        (age_us, now_us): (u64, u64),
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let received_us = ageing::received_us(age_us, now_us);
        self.make_room(index, is_aside, received_us, now_us);
        let line_max = self.settings.record_bytes_max.saturating_sub(PARTITION_KEY_BYTES_MAX);
        let record = self.keys.get(index).records.back_mut().expect("room was made");
        let Content::Open(bytes) = &mut record.content else { unreachable!("room was made") };
        let before = bytes.len();
        write(bytes);
        let line_bytes = bytes.len() - before;
        if line_bytes > line_max {
            let line = bytes.split_off(before);
            self.refuse_line(index, sequence, line, is_aside, now_us);
            return;
        }
        if bytes.len() > line_max {
            // The record was below its soft bound, but this line is long: it gets a record of its own.
            let line = bytes.split_off(before);
            self.push_record(index, line, is_aside, received_us, now_us);
        }
        let mut held_bytes = line_bytes;
        let record = self.keys.get(index).records.back_mut().expect("just written");
        match record.runs.last_mut() {
            Some((_, last)) if *last + 1 == sequence => *last = sequence,
            _ => {
                record.runs.push((sequence, sequence));
                self.outstanding_runs += 1;
                held_bytes += RUN_BYTES;
            }
        }
        self.hold(held_bytes, is_aside);
        if self.keys.get(index).state == KeyState::Idle {
            self.make_ready(index);
        }
    }

    /// The last record of the key is open and has room.
    fn make_room(&mut self, index: usize, is_aside: bool, received_us: i64, now_us: u64) {
        let record_bytes_soft = self.settings.record_bytes_soft.min(self.sink.request_bytes_max / 2);
        let ages_together = self.settings.age_us_max.is_none();
        let has_room = self.settings.grouping == Grouping::Lines
            && self.keys.get(index).records.back().is_some_and(|record| {
                matches!(&record.content, Content::Open(bytes) if bytes.len() < record_bytes_soft)
                    && record.is_aside == is_aside
                    && (ages_together || ageing::are_together(record.received_us, received_us))
            });
        if !has_room {
            self.push_record(index, Vec::new(), is_aside, received_us, now_us);
        }
    }

    fn push_record(&mut self, index: usize, bytes: Vec<u8>, is_aside: bool, received_us: i64, now_us: u64) {
        let records = &mut self.keys.get(index).records;
        if let Some(full) = records.back_mut() {
            full.seal();
        }
        records.push_back(Record {
            content: Content::Open(bytes),
            runs: Vec::new(),
            opened_us: now_us,
            received_us,
            failures: 0,
            is_suspect: false,
            is_aside,
        });
        self.records += 1;
        self.hold(RECORD_OVERHEAD_BYTES, is_aside);
    }

    fn hold(&mut self, bytes: usize, is_aside: bool) {
        self.held_bytes += bytes;
        self.aside.held_bytes += if is_aside { bytes } else { 0 };
    }

    fn refuse_line(&mut self, index: usize, sequence: u64, line: Vec<u8>, is_aside: bool, now_us: u64) {
        let key = self.keys.get(index);
        if let Some(empty) = key.records.pop_back_if(|record| record.runs.is_empty()) {
            self.forget_record(&empty);
        }
        self.note_refused_ahead(index, sequence);
        let reason = format!("{} bytes are more than a record may hold", line.len());
        self.saving.refuse(Refused { sequence, reason, line, is_aside });
        self.status.records_rejected += 1;
        match is_aside {
            true => self.refused_aside(index, sequence, now_us),
            false => self.finish(sequence, sequence, now_us),
        }
    }

    fn finish(&mut self, first: u64, last: u64, now_us: u64) {
        self.progress.finish(first, last);
        if let Some(finished) = &mut self.finished {
            finished.push((first, last));
        }
        self.saving.unsaved_sequences += last - first + 1;
        self.touch(now_us);
    }

    /// There is something to be saved.
    pub(super) fn touch(&mut self, now_us: u64) {
        self.saving.unsaved_since_us.get_or_insert(now_us);
    }

    /// Takes note of an event, and says what is to be done now.
    ///
    /// # Panics
    ///
    /// If a reply answers no request that is in flight, or has not one outcome for each of its records.
    pub fn step(&mut self, event: Event, now_us: u64) -> Actions {
        self.take(event, now_us);
        let mut send = Vec::new();
        while let Some(request) = self.request(now_us, usize::MAX) {
            send.push(request);
        }
        let persist = if self.is_save_due(now_us) { self.save(now_us) } else { None };
        Actions { send, persist, wait_until_us: self.wait_until_us(now_us, true) }
    }

    /// Takes note of an event.
    pub(super) fn take(&mut self, event: Event, now_us: u64) {
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
        self.wake(now_us);
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
        self.check_aside();
        assert_eq!(self.outstanding_runs, records().map(|record| record.runs.len()).sum::<usize>());
        assert!(self.keys.all().all(|key| (key.state == KeyState::Idle) == key.records.is_empty()));
        let count = |state| self.keys.all().filter(|key| key.state == state).count();
        assert_eq!(count(KeyState::Ready), self.lanes.iter().map(|lane| lane.ready.len()).sum::<usize>());
        assert_eq!(count(KeyState::Paused), self.pauses.len());
        assert_eq!(count(KeyState::InFlight), self.in_flight.values().map(|flight| flight.keys.len()).sum::<usize>());
        assert_eq!(count(KeyState::Suspect), self.suspects.iter().map(Vec::len).sum::<usize>());
    }
}
