//! Which request is sent next, and when.

use std::cmp::Reverse;

use super::super::pacing;
use super::super::queue::KeyState;
use super::super::{OutgoingRecord, Request, RequestId};
use super::{Delivery, InFlight, Lane, PARTITION_KEY_BYTES_MAX};

impl Delivery {
    pub(super) fn has_room_in_flight(&self) -> bool {
        // After a failure one request finds out whether the sink works again; others would only fail as well.
        let is_probing = self.sink.failures > 0;
        self.in_flight.len() < if is_probing { 1 } else { self.settings.requests_in_flight_max }
    }

    pub(super) fn may_send(&self, now_us: u64) -> bool {
        now_us >= self.sink.paused_until_us && self.has_room_in_flight()
    }

    /// When what may be sent has waited long enough for more.
    pub(super) fn due_us(&self) -> Option<u64> {
        let since_us = self.waiting_since_us?;
        // Where no more may be held, nothing can come that would be worth waiting for.
        let is_full = self.held_bytes() >= self.settings.held_bytes_max;
        let waits = !self.behind && !self.flushing && !is_full;
        Some(if waits { since_us + self.settings.linger_us } else { since_us })
    }

    pub(super) fn next_request(&mut self, now_us: u64, bytes_max: usize) -> Option<Request> {
        let suspects = if self.may_suspects_go() { self.next_suspects(now_us) } else { None };
        let is_due = self.due_us().is_some_and(|due_us| due_us <= now_us);
        let (keys, is_suspect) = match suspects {
            Some(keys) => (keys, true),
            None if is_due => (self.collect(now_us, bytes_max), false),
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
        Some(Request { id, records, is_late: false })
    }

    /// Whether a suspected group may be sent, which it is alone. After many refusals in a row all other records go first and are waited
    /// for: if one of them is accepted, the fault is in the suspected ones.
    pub(super) fn may_suspects_go(&self) -> bool {
        self.may_give_up() || !self.has_others()
    }

    /// Something that is not suspected may be sent, or is on its way.
    pub(super) fn has_others(&self) -> bool {
        !self.in_flight.is_empty() || self.lanes.iter().any(|lane| !lane.ready.is_empty())
    }

    /// Takes keys from the lanes in turn, within the bounds of a request.
    pub(super) fn collect(&mut self, now_us: u64, bytes_max: usize) -> Vec<usize> {
        let request_bytes_max = self.sink.request_bytes_max.min(bytes_max);
        let mut keys = Vec::new();
        let mut bytes = 0;
        let lanes = self.lanes.len();
        'lanes: for at in 0..lanes {
            let lane = (self.next_lane + at) % lanes;
            while let Some(index) = self.lanes[lane].ready.front().copied() {
                if !self.expire_front(index, now_us) {
                    self.lanes[lane].ready.pop_front();
                    continue;
                }
                let lane = &mut self.lanes[lane];
                let record = self.keys.get(index).records.front().expect("a key that is ready has a record");
                let record_bytes = record.len() + PARTITION_KEY_BYTES_MAX;
                let is_full = keys.len() == self.settings.request_records_max
                    || (bytes + record_bytes > request_bytes_max && !keys.is_empty());
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

    /// The length of the record that a request would begin with now.
    pub(in super::super) fn first_bytes(&mut self, now_us: u64) -> usize {
        let may_suspects_go = !self.suspects.is_empty() && self.may_suspects_go();
        let lanes = (0..self.lanes.len()).map(|at| &self.lanes[(self.next_lane + at) % self.lanes.len()]);
        let index = match may_suspects_go {
            true => self.suspects.front().and_then(|group| group.first()),
            false => lanes.filter(|lane| lane.pacer.ready_at_us() <= now_us).find_map(|lane| lane.ready.front()),
        };
        let record = index.copied().and_then(|index| self.keys.get(index).records.front());
        record.map_or(0, |record| record.len() + PARTITION_KEY_BYTES_MAX)
    }

    /// When the next request can be made of what is there now.
    pub(super) fn next_send_us(&self, now_us: u64) -> Option<u64> {
        let paced = self.lanes.iter().filter(|lane| !lane.ready.is_empty()).map(|lane| lane.pacer.ready_at_us()).min();
        let ordinary = paced.and_then(|paced_us| Some(self.due_us()?.max(paced_us)));
        let suspect = (!self.suspects.is_empty() && self.may_suspects_go()).then_some(now_us);
        let next = [ordinary, suspect].into_iter().flatten().min()?;
        Some(next.max(self.sink.paused_until_us))
    }

    /// The next request, if one is to be sent now, with so many bytes at most; a single record may be longer.
    pub(in super::super) fn request(&mut self, now_us: u64, bytes_max: usize) -> Option<Request> {
        if self.may_send(now_us) { self.next_request(now_us, bytes_max) } else { None }
    }

    /// Whether there is something to be sent now.
    pub(in super::super) fn is_due(&self, now_us: u64) -> bool {
        self.may_send(now_us) && self.next_send_us(now_us).is_some_and(|due_us| due_us <= now_us)
    }

    /// Whether something has waited long enough for more, and its shard would take it now.
    pub(in super::super) fn has_overdue(&self, now_us: u64) -> bool {
        let would_go = |lane: &Lane| !lane.ready.is_empty() && lane.pacer.ready_at_us() <= now_us;
        self.due_us().is_some_and(|due_us| due_us <= now_us) && self.lanes.iter().any(would_go)
    }

    /// When to come back. If it may not send, that is when something else is due.
    pub(in super::super) fn wait_until_us(&self, now_us: u64, may_send: bool) -> Option<u64> {
        let sending = if may_send && self.has_room_in_flight() { self.next_send_us(now_us) } else { None };
        let paused = self.pauses.peek().map(|Reverse((until_us, _))| *until_us);
        [sending, paused, self.save_due_us(), self.aside.next_wake_us()].into_iter().flatten().min()
    }
}
