//! One stream for one sink, in parts: each of them a delivery of its own, with an order, a place in the log and requests of its own.
//!
//! - [`Plan::Whole`] is one part, and costs nothing.
//! - [`Plan::ByClass`] is for a stream that is kept in reserve: alerts do not wait for anomalies, for which a link may have no budget.
//! - [`Plan::LiveFirst`] sends what comes now, and behind it what has waited. The two are disjoint: up to the *split* everything that is not
//!   done with belongs to the backlog. What is live and has waited for too long is left to the backlog as well, and the split moves on.
//!
//! The parts share one progress: what any of them is done with is done with. It is a cursor with ranges beyond it, as always, so the store
//! needs no more than one row, and a process that ends at any moment leaves behind what it would have left without parts. The next one takes
//! all that was left for its backlog.
//!
//! A [`Gate`] is asked before each request. Where it says that there is no budget, everything waits where it is.
//!
//! Deliberately absent: keys that are set aside, except in a whole. In parts a key that fails keeps its lines in memory; of the live part, they
//! are left to the backlog like all others.

use std::collections::VecDeque;

use super::machine::Delivery;
use super::progress::Progress;
use super::{Actions, DeliverySettings, DeliveryStatus, Event, Patience, Persist, RequestId};
use crate::cursor::CursorState;
use crate::link::{Class, Permit, Waiting};

mod gate;
mod plan;
#[cfg(test)]
mod tests;

pub use gate::{Gate, Open};
use plan::CLASSES;
pub use plan::Plan;

/// What is live was committed for less than this, beside the time that it waits for company.
const LIVE_US: u64 = 10_000_000;
/// How often it is looked whether something live has waited for longer.
const LOOK_US: u64 = 1_000_000;

/// A line that is offered.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// Its local sequence.
    pub sequence: u64,
    /// The device that it is of.
    pub device: &'a str,
    /// Where parts go by classes.
    pub class: Class,
    /// How long ago it was received.
    pub age_us: u64,
}

/// Delivers one stream to one sink, in parts.
#[derive(Debug)]
pub struct Parts {
    plan: Plan,
    /// The most urgent first.
    parts: Vec<Delivery>,
    /// What any of them is done with, if there are several.
    done: Progress,
    /// Everything up to here that is not done with is the backlog's.
    split: u64,
    /// What is live is left to the backlog as soon as nothing of it is in flight.
    is_releasing: bool,
    looked_us: u64,
    /// When so much was committed, at the looks of the last seconds: what is live ages before it is read, too.
    heads: VecDeque<(u64, u64)>,
    /// The last sequence that is committed.
    head: u64,
    behind: bool,
    linger_us: u64,
    ranges_max: usize,
    waiting: Option<Waiting>,
    /// Nothing is in flight, and all that is left waits for a budget.
    is_stuck: bool,
}

impl Parts {
    /// Begins with what `cursor` does not say is done with; `head` is the last sequence that is committed.
    pub fn new(plan: Plan, settings: DeliverySettings, cursor: &CursorState, head: u64, seed: u64) -> Parts {
        let done = Progress::new(cursor);
        let (linger_us, ranges_max) = (settings.linger_us, settings.patience.ranges_max);
        let has_waited = cursor.cursor < head || !cursor.acknowledged.is_empty();
        let split = if has_waited { head.max(done.last_done()) } else { cursor.cursor };
        let count = plan.parts();
        let part = |index: usize| {
            if count == 1 {
                return Delivery::new(settings.clone(), cursor, seed);
            }
            let settings = DeliverySettings {
                held_bytes_max: settings.held_bytes_max / count,
                patience: Patience { keys_aside_max: 0, ..settings.patience },
                ..settings.clone()
            };
            let is_live = plan == Plan::LiveFirst && index == 0;
            let begins = if is_live { CursorState::at(split) } else { cursor.clone() };
            let mut part = Delivery::new(settings, &begins, seed.wrapping_add(index as u64));
            part.be_part();
            part
        };
        let parts = (0..count).map(part).collect();
        Parts {
            plan,
            parts,
            done,
            split,
            is_releasing: false,
            looked_us: 0,
            heads: VecDeque::new(),
            head,
            behind: false,
            linger_us,
            ranges_max,
            waiting: None,
            is_stuck: false,
        }
    }

    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    fn class(&self, part: usize) -> Class {
        match self.plan {
            Plan::Whole { class: Class::Live } if self.behind => Class::Backlog,
            Plan::Whole { class } => class,
            Plan::ByClass => CLASSES[part],
            Plan::LiveFirst => [Class::Live, Class::Backlog][part],
        }
    }

    /// The delivery, if it is one: keys may be set aside in it.
    pub fn whole(&mut self) -> Option<&mut Delivery> {
        match self.plan {
            Plan::Whole { .. } => self.parts.first_mut(),
            _ => None,
        }
    }

    /// Where a whole stands that holds nothing, and has set no key aside: another plan may go on from there.
    pub fn whole_without_rest(&self) -> Option<CursorState> {
        let is_whole = matches!(self.plan, Plan::Whole { .. });
        (is_whole && self.parts[0].has_nothing()).then(|| self.parts[0].state())
    }

    /// Of the sequences done with since it was created, so many the sink did not take.
    pub fn passed_over(&self) -> u64 {
        self.parts.iter().map(Delivery::passed_over).sum()
    }

    /// Whether the log is to be read for keys that are set aside.
    pub fn aside_wants(&self) -> bool {
        matches!(self.plan, Plan::Whole { .. }) && self.parts[0].aside_wants().is_some()
    }

    /// The store has given up everything up to a sequence, and has counted it: what waits of it is not sent any more.
    pub fn give_up_through(&mut self, through: u64) {
        self.parts.iter_mut().for_each(|part| part.give_up_through(through));
    }

    /// The last sequence that is committed.
    pub fn set_head(&mut self, head: u64) {
        self.head = head;
    }

    /// How many committed sequences a part has not been offered.
    pub fn unread(&self, part: usize) -> u64 {
        self.unread_of(part, self.head)
    }

    /// The same, if everything up to `head` is committed by now.
    pub fn unread_of(&self, part: usize, head: u64) -> u64 {
        let through = if self.is_backlog(part) { self.split } else { head };
        through.saturating_sub(self.parts[part].offered_through())
    }

    /// Whether a part is about what has waited, so that nothing newer is to be waited for.
    pub fn is_backlog(&self, part: usize) -> bool {
        self.plan == Plan::LiveFirst && part == 1
    }

    /// Whether any part has not been offered all that is committed, which is everything up to `head`.
    pub fn is_behind(&self, head: u64) -> bool {
        (0..self.parts.len()).any(|part| self.unread_of(part, head) > 0)
    }

    /// Whether the next line should be offered to a part now; to be asked before each.
    pub fn wants_more(&self, part: usize) -> bool {
        self.has_ranges(part) && !(part == 0 && self.is_releasing) && self.parts[part].wants_more()
    }

    /// Whether a part may make more ranges. The one that is furthest behind fills what is open between them, so nothing may keep it from
    /// that.
    fn has_ranges(&self, part: usize) -> bool {
        let through = self.offered_through(part);
        let is_behind_all = self.parts.iter().all(|other| other.offered_through() >= through);
        is_behind_all || self.done.ranges() + self.parts[part].outstanding_runs() < self.ranges_max
    }

    /// Whether something of a class waits until there are fewer ranges. What is live is left to the backlog instead.
    fn waits_for_ranges(&self) -> bool {
        let is_waiting = |part: usize| self.unread(part) > 0 && !self.has_ranges(part);
        self.plan == Plan::ByClass && (0..self.parts.len()).any(is_waiting)
    }

    /// The last sequence that a part was offered or has skipped.
    pub fn offered_through(&self, part: usize) -> u64 {
        self.parts[part].offered_through()
    }

    /// Counts the sequences up to `last` as done with, because they are no longer in the store or cannot be read.
    pub fn skip_through(&mut self, part: usize, last: u64, now_us: u64) {
        self.parts[part].skip_through(last, now_us);
        self.settle();
    }

    /// Offers a line to a part, which takes it if it is its own.
    pub fn offer(&mut self, part: usize, line: Offered<'_>, now_us: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let Offered { sequence, device, class, age_us } = line;
        let is_anothers = self.plan == Plan::ByClass && class != CLASSES[part];
        let is_done = self.parts.len() > 1 && self.done.is_done(sequence);
        if is_anothers || is_done {
            self.parts[part].skip_through(sequence - 1, now_us);
            self.parts[part].pass(sequence);
        } else {
            self.parts[part].offer_aged(sequence, device, age_us, now_us, write);
        }
    }

    /// What the parts are newly done with becomes part of the common progress.
    fn settle(&mut self) {
        for part in &mut self.parts {
            for (first, last) in part.take_finished() {
                self.done.finish(first, last);
            }
        }
    }

    /// Takes note of an event, and says what is to be done now.
    ///
    /// # Panics
    ///
    /// If a reply answers no request that is in flight, or has not one outcome for each of its records.
    pub fn step(&mut self, event: Event, gate: &mut dyn Gate, now_us: u64) -> Actions {
        self.take(event, gate, now_us);
        self.settle();
        self.split_if_due(now_us);
        let (mut send, mut waits, mut waiting) = (Vec::new(), Vec::new(), None);
        let mut may_send = Vec::with_capacity(self.parts.len());
        let mut is_stuck = true;
        for part in 0..self.parts.len() {
            let class = self.class(part);
            let is_held = if part == 0 { self.is_releasing } else { self.is_backlog_held(now_us) };
            let mut asks_again_us = None;
            let mut has_no_budget = false;
            while !is_held && self.parts[part].is_due(now_us) {
                match gate.ask(class, self.parts[part].first_bytes(now_us), now_us) {
                    Permit::Go { bytes_max } => {
                        let Some(mut request) = self.parts[part].request(now_us, bytes_max) else {
                            gate.unused(class);
                            break;
                        };
                        request.id = RequestId(request.id.0 * self.parts.len() as u64 + part as u64);
                        request.is_late = self.parts.len() > 1;
                        gate.sent(class, &request, now_us);
                        send.push(request);
                    }
                    Permit::Later { at_us } => {
                        asks_again_us = Some(at_us);
                        break;
                    }
                    Permit::Wait { waiting: what, at_us } => {
                        (asks_again_us, waiting) = (Some(at_us), waiting.or(Some(what)));
                        has_no_budget = true;
                        break;
                    }
                }
            }
            if asks_again_us.is_none() {
                gate.wants_nothing(class);
            }
            waits.extend(asks_again_us);
            may_send.push(!is_held && asks_again_us.is_none());
            let is_empty = self.parts[part].is_drained() && self.unread(part) == 0;
            is_stuck &= self.parts[part].is_grounded() && (has_no_budget || is_empty);
        }
        self.is_stuck = is_stuck && waiting.is_some();
        self.waiting = if self.waits_for_ranges() { Some(Waiting::Between) } else { waiting };
        // What was given up or has expired on the way.
        self.settle();
        let is_save_due = self.parts.iter().any(|part| part.is_save_due(now_us));
        let persist = if is_save_due { self.save(now_us) } else { None };
        let parts = self.parts.iter().zip(may_send);
        waits.extend(parts.filter_map(|(part, may_send)| part.wait_until_us(now_us, may_send)));
        // While it is being left to the backlog, the next reply decides.
        let has_live = !self.parts[0].is_drained() || self.unread(0) > 0;
        if self.plan == Plan::LiveFirst && !self.is_releasing && has_live {
            waits.push(self.looked_us + LOOK_US);
        }
        Actions { send, persist, wait_until_us: waits.into_iter().min() }
    }

    fn take(&mut self, event: Event, gate: &mut dyn Gate, now_us: u64) {
        let count = self.parts.len() as u64;
        match event {
            Event::Replied { id, reply } => {
                gate.answered(id, now_us);
                let part = usize::try_from(id.0 % count).expect("there are few parts");
                for (index, other) in self.parts.iter_mut().enumerate().filter(|(index, _)| *index != part) {
                    let behind = self.plan == Plan::LiveFirst && index == 1 && self.split > other.offered_through();
                    other.take(Event::Tick { behind: behind || self.behind }, now_us);
                }
                self.parts[part].take(Event::Replied { id: RequestId(id.0 / count), reply }, now_us);
            }
            Event::Tick { behind } => {
                self.behind = behind;
                for part in 0..self.parts.len() {
                    let behind = if self.is_backlog(part) { self.unread(part) > 0 } else { behind };
                    self.parts[part].take(Event::Tick { behind }, now_us);
                }
            }
            Event::LinkUp => self.parts.iter_mut().for_each(|part| part.take(Event::LinkUp, now_us)),
            Event::Flush => self.parts.iter_mut().for_each(|part| part.take(Event::Flush, now_us)),
        }
    }

    /// What has waited goes after what comes now, unless that is to be left to it as soon as the last reply has come.
    fn is_backlog_held(&self, now_us: u64) -> bool {
        self.plan == Plan::LiveFirst && !self.is_releasing && self.parts[0].has_overdue(now_us)
    }

    /// Leaves to the backlog what is not live any more.
    fn split_if_due(&mut self, now_us: u64) {
        if self.plan != Plan::LiveFirst {
            return;
        }
        if !self.is_releasing && now_us >= self.looked_us + LOOK_US {
            self.looked_us = now_us;
            let since_us = self.parts[0].waiting_since_us();
            let old_us = LIVE_US + self.linger_us;
            self.is_releasing = since_us.is_some_and(|since_us| since_us + old_us <= now_us);
            self.is_releasing |= self.parts[0].offered_through() < self.head_before(old_us, now_us);
        }
        // There can be no more ranges, and the backlog makes them fewer.
        self.is_releasing |= self.unread(0) > 0 && self.done.ranges() >= self.ranges_max;
        if self.is_releasing && self.parts[0].is_grounded() {
            self.split = self.head.max(self.parts[0].offered_through());
            self.parts[0].release(self.split);
            self.is_releasing = false;
        }
    }

    /// What was committed so long ago at least. Looks that are no longer needed are forgotten.
    fn head_before(&mut self, old_us: u64, now_us: u64) -> u64 {
        self.heads.push_back((now_us, self.head));
        while self.heads.get(1).is_some_and(|(at_us, _)| at_us + old_us <= now_us) {
            self.heads.pop_front();
        }
        self.heads.front().filter(|(at_us, _)| at_us + old_us <= now_us).map_or(0, |(_, head)| *head)
    }

    /// Something beside the delivery is to be saved with it.
    pub fn touch(&mut self, now_us: u64) {
        self.parts[0].touch(now_us);
    }

    /// What has changed since the last save, whether or not a save is due. `None` if nothing has.
    pub fn save(&mut self, now_us: u64) -> Option<Persist> {
        if let Some(whole) = self.whole() {
            return whole.save(now_us);
        }
        self.settle();
        let saved: Vec<Persist> = self.parts.iter_mut().filter_map(|part| part.save(now_us)).collect();
        if saved.is_empty() {
            return None;
        }
        let mut all = Persist {
            state: self.done.state(),
            refused: Vec::new(),
            expired: Vec::new(),
            passed_over: self.passed_over(),
            keys: Vec::new(),
        };
        for Persist { refused, expired, .. } in saved {
            all.refused.extend(refused);
            all.expired.extend(expired);
        }
        Some(all)
    }

    /// Whether everything that was offered is done with.
    pub fn is_drained(&self) -> bool {
        self.parts.iter().all(Delivery::is_drained)
    }

    /// Whether nothing is in flight and all that is left waits for a budget: nothing is to be waited for at the end of a process.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// How all parts together stand.
    pub fn status(&self) -> DeliveryStatus {
        let mut statuses = self.parts.iter().map(Delivery::status);
        let mut all = statuses.next().unwrap_or_default();
        for status in statuses {
            all.records_sent += status.records_sent;
            all.records_retried += status.records_retried;
            all.records_rejected += status.records_rejected;
            all.requests_in_flight += status.requests_in_flight;
            all.held_bytes += status.held_bytes;
            all.halted = all.halted.or(status.halted);
            all.failing = all.failing.or(status.failing);
        }
        DeliveryStatus { waiting: self.waiting, ..all }
    }
}
