//! Keeps what a next start needs of sessions and retained messages in the store: collects changes, hands them to the pipeline, and says when
//! they are stored.
//!
//! What belongs to a publish is stored with it, in the same commit; all else goes through here. Memory is the truth: a change replaces one
//! of the same key that waits, so what waits is bounded by what exists. While nothing can be stored nobody waits for it, and what has changed
//! is stored when that is possible again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::core::mqtt::keeping::{Key, MessageNumber, SessionNumber};
use crate::core::mqtt::outbound::Shelf;
use crate::core::mqtt::pace::Urgency;
use crate::core::reading::Readings;
use crate::handoff::{EntryChange, Input, PipelineGone, PipelineHandle, SessionProgress, Submission};

/// Most times that changes are handed over before the first of them is stored: what is urgent does not wait behind what is not.
const UNDER_WAY_MAX: usize = 8;
/// Most ids of QoS 2 in the store, of all sessions together.
const IDS_MAX: usize = 65_536;
/// Pause before what was refused is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Keeper(Rc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: RefCell<HashMap<Vec<u8>, Change>>,
    under_way: RefCell<VecDeque<UnderWay>>,
    shelf: Rc<Shelf>,
    /// Sessions that have ended since changes were last handed over.
    ended: RefCell<Vec<SessionNumber>>,
    /// How often changes were handed over, and up to which of these times nobody waits any more.
    handed_over: Cell<u64>,
    settled: Cell<u64>,
    /// Those of these times that were refused, as far as they are under way.
    refused: RefCell<Vec<RangeInclusive<u64>>>,
    /// The last attempt was refused.
    is_refused: Cell<bool>,
    /// Somebody waits for what is collected.
    is_urgent: Cell<bool>,
    changed: Notify,
    settling: Notify,
    /// Connections that look again when something is settled.
    told: RefCell<Vec<Rc<Bell>>>,
    last_message: Cell<u64>,
    last_session: Cell<u64>,
    /// Ids of QoS 2 in the store, as counted last, and those that came since.
    ids: Cell<usize>,
    will_bytes: Rc<Cell<usize>>,
}

/// The room of a will in the store.
#[derive(Debug)]
pub struct WillRoom {
    bytes: usize,
    used: Rc<Cell<usize>>,
}

impl Drop for WillRoom {
    fn drop(&mut self) {
        self.used.set(self.used.get() - self.bytes);
    }
}

/// Changes that were handed over.
struct UnderWay {
    ordinal: u64,
    /// A later time at which nothing was left to be handed over: it is over with this one.
    settles: u64,
    changes: HashMap<Vec<u8>, Change>,
}

struct Change {
    value: Option<Vec<u8>>,
    /// The store has no such entry, and no attempt was made to change that: to delete it means to forget this.
    is_new: bool,
}

/// Wakes a connection, so that it looks what has changed.
#[derive(Default)]
pub struct Bell {
    changed: Notify,
    /// The keeper is going to ring it.
    is_told: Cell<bool>,
}

impl Bell {
    pub fn ring(&self) {
        self.changed.notify_one();
    }

    /// Returns when it has rung since the last call. Only one task may wait.
    pub async fn rung(&self) {
        self.changed.notified().await;
    }
}

/// A time at which changes are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Whether the store has an entry of this key already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    No,
    Maybe,
}

impl Keeper {
    /// The numbers that sessions and messages had before.
    pub fn count_from(&self, session: SessionNumber, message: MessageNumber) {
        self.0.last_session.set(session.0);
        self.0.last_message.set(message.0);
    }

    /// So many ids of QoS 2 are stored.
    pub fn count_ids(&self, count: usize) {
        self.0.ids.set(count);
    }

    /// Whether another id may be stored.
    pub fn take_id(&self) -> bool {
        let has_room = self.0.ids.get() < IDS_MAX;
        self.0.ids.set(self.0.ids.get() + usize::from(has_room));
        has_room
    }

    /// The room of a will; `None` if all of them together would take more than `bytes_max`.
    pub fn will_room(&self, bytes: usize, bytes_max: usize) -> Option<WillRoom> {
        let (used, after) = (&self.0.will_bytes, self.0.will_bytes.get() + bytes);
        (after <= bytes_max).then(|| {
            used.set(after);
            WillRoom { bytes, used: Rc::clone(used) }
        })
    }

    pub fn new_session(&self) -> SessionNumber {
        self.0.last_session.set(self.0.last_session.get() + 1);
        SessionNumber(self.0.last_session.get())
    }

    pub fn new_message(&self) -> MessageNumber {
        let number = self.next_message();
        self.0.last_message.set(number.0);
        number
    }

    /// The number that the next message gets.
    pub fn next_message(&self) -> MessageNumber {
        MessageNumber(self.0.last_message.get() + 1)
    }

    pub fn shelf(&self) -> &Rc<Shelf> {
        &self.0.shelf
    }

    pub fn put(&self, key: &Key, value: Vec<u8>, known: Known) {
        let key = key.to_bytes();
        let mut waiting = self.0.waiting.borrow_mut();
        let is_new = match waiting.get(&key) {
            Some(waiting) => waiting.is_new,
            None => {
                let is_under_way = |under_way: &UnderWay| under_way.changes.contains_key(&key);
                known == Known::No && !self.0.under_way.borrow().iter().any(is_under_way)
            }
        };
        waiting.insert(key, Change { value: Some(value), is_new });
    }

    /// A publish stores another value of this: what waits here must not come after it.
    pub fn supersede(&self, key: &Key) {
        let key = key.to_bytes();
        self.0.waiting.borrow_mut().remove(&key);
        for under_way in self.0.under_way.borrow_mut().iter_mut() {
            under_way.changes.remove(&key);
        }
    }

    pub fn delete(&self, key: &Key) {
        let key = key.to_bytes();
        let mut waiting = self.0.waiting.borrow_mut();
        if waiting.get(&key).is_some_and(|change| change.is_new) {
            waiting.remove(&key);
        } else {
            waiting.insert(key, Change { value: None, is_new: false });
        }
    }

    /// A session has ended: other messages are no longer stored for it. That has to be known when the next of them is acknowledged, or after
    /// a restart the session would be there without them.
    pub fn end_session(&self, session: SessionNumber) {
        self.delete(&Key::Session(session));
        self.0.ended.borrow_mut().push(session);
        self.flush();
    }

    /// What is stored with the next publishes, whoever they are from: commits are in order, so once is enough. All else that belongs to a
    /// session without this is deleted at a start.
    pub fn take_ended_sessions(&self) -> Vec<EntryChange> {
        let ended = self.0.ended.take();
        ended.iter().map(|session| EntryChange { key: Key::Session(*session).to_bytes(), value: None }).collect()
    }

    /// Changes of what is new, or replaces something.
    pub fn take(&self, changes: Vec<EntryChange>) {
        let change = |EntryChange { key, value }| (key, Change { value, is_new: false });
        self.0.waiting.borrow_mut().extend(changes.into_iter().map(change));
        if !self.0.waiting.borrow().is_empty() {
            self.flush();
        }
    }

    /// What has changed so far is stored soon. Returns when, to be asked about with [`Self::is_settled`].
    pub fn ticket(&self) -> Ticket {
        self.0.changed.notify_one();
        if self.0.waiting.borrow().is_empty() {
            return Ticket(self.0.handed_over.get());
        }
        self.0.is_urgent.set(true);
        Ticket(self.0.handed_over.get() + 1)
    }

    /// What has changed so far is stored some time.
    pub fn flush(&self) {
        self.0.changed.notify_one();
    }

    /// Whether it is stored; or nothing can be stored at present, so that it is not waited for.
    pub fn is_settled(&self, ticket: Ticket) -> bool {
        ticket.0 <= self.0.settled.get() || self.0.is_refused.get()
    }

    /// Rings when more is settled, once.
    pub fn tell(&self, bell: &Rc<Bell>) {
        if !bell.is_told.replace(true) {
            self.0.told.borrow_mut().push(Rc::clone(bell));
        }
    }

    pub async fn settled(&self, ticket: Ticket) {
        loop {
            let settling = self.0.settling.notified();
            if self.is_settled(ticket) {
                return;
            }
            settling.await;
        }
    }

    /// Hands over what is collected, as long as there is a pipeline.
    pub async fn run<T: From<Input>>(self, pipeline: PipelineHandle<T>) {
        self.hand_over_all(pipeline).await;
        // The process is ending: nobody waits for what is not stored any more.
        self.0.is_refused.set(true);
        self.settle(self.0.settled.get());
    }

    async fn hand_over_all<T: From<Input>>(&self, pipeline: PipelineHandle<T>) {
        let progress = Arc::<SessionProgress>::default();
        loop {
            let may_hand_over = self.0.under_way.borrow().len() < UNDER_WAY_MAX;
            tokio::select! {
                () = self.0.changed.notified(), if may_hand_over => {
                    if self.hand_over(&progress, &pipeline).await.is_err() {
                        return;
                    }
                }
                () = progress.changed() => {}
            }
            if self.look_at(&progress) {
                if progress.is_failed() {
                    return;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
                self.0.changed.notify_one();
            }
        }
    }

    async fn hand_over<T: From<Input>>(
        &self,
        progress: &Arc<SessionProgress>,
        pipeline: &PipelineHandle<T>,
    ) -> Result<(), PipelineGone> {
        let mut place = pipeline.place();
        place.turn().await;
        if self.0.waiting.borrow().is_empty() && !self.0.shelf.has_let_go() {
            self.hand_over_nothing();
            return Ok(());
        }
        pipeline.submit(self.submission(progress))
    }

    /// What was to be stored has been taken back: who waits for it waits for what is under way.
    fn hand_over_nothing(&self) {
        let ordinal = self.0.handed_over.get() + 1;
        self.0.handed_over.set(ordinal);
        self.0.is_refused.set(false);
        let mut under_way = self.0.under_way.borrow_mut();
        match under_way.back_mut() {
            Some(last) => last.settles = ordinal,
            None => {
                drop(under_way);
                self.settle(ordinal);
            }
        }
    }

    /// Looks what has become of what was handed over. Returns whether it was refused.
    fn look_at(&self, progress: &SessionProgress) -> bool {
        let mut is_refused = false;
        loop {
            let Some(ordinal) = self.0.under_way.borrow().front().map(|first| first.ordinal) else { break };
            let in_vain = if progress.excused() >= ordinal { Outcome::Unknown } else { Outcome::Refused };
            let mut refused = self.0.refused.borrow_mut();
            refused.extend(std::iter::from_fn(|| progress.take_refused()));
            refused.retain(|range| *range.end() >= ordinal);
            let is_in_vain = refused.iter().any(|range| range.contains(&ordinal)) || progress.is_failed();
            drop(refused);
            // What was refused may be followed by what is stored.
            let outcome = match is_in_vain {
                true => in_vain,
                false if progress.committed() >= ordinal => Outcome::Stored,
                false => break,
            };
            is_refused = outcome != Outcome::Stored;
            self.end(outcome);
        }
        is_refused
    }

    fn submission(&self, progress: &Arc<SessionProgress>) -> Submission {
        let inner = &self.0;
        let ordinal = inner.handed_over.get() + 1;
        inner.handed_over.set(ordinal);
        for number in inner.shelf.take_let_go() {
            self.delete(&Key::Message(number));
        }
        inner.is_refused.set(false);
        inner.ended.borrow_mut().clear();
        let changes = inner.waiting.take();
        let change = |(key, change): (&Vec<u8>, &Change)| EntryChange { key: key.clone(), value: change.value.clone() };
        let entries = changes.iter().map(change).collect();
        inner.under_way.borrow_mut().push_back(UnderWay { ordinal, settles: ordinal, changes });
        let urgency = if inner.is_urgent.take() { Urgency::Urgent } else { Urgency::Relaxed };
        Submission {
            session: Arc::clone(progress),
            through: ordinal,
            publishes: 1,
            wants_answer: false,
            urgency,
            readings: Readings::default(),
            undecodable: Vec::new(),
            ruled: None,
            entries,
            held_bytes: 0,
            share: None,
        }
    }

    /// The first of what is under way is stored, or not.
    fn end(&self, outcome: Outcome) {
        let inner = &self.0;
        let Some(UnderWay { settles, changes, .. }) = inner.under_way.borrow_mut().pop_front() else { return };
        inner.is_refused.set(outcome != Outcome::Stored);
        if outcome != Outcome::Stored {
            self.take_back(changes, outcome);
        }
        self.settle(settles);
    }

    fn take_back(&self, changes: HashMap<Vec<u8>, Change>, outcome: Outcome) {
        let (mut waiting, mut under_way) = (self.0.waiting.borrow_mut(), self.0.under_way.borrow_mut());
        for (key, before) in changes {
            if let (None, Some(Key::Session(session))) = (&before.value, Key::from_bytes(&key)) {
                self.0.ended.borrow_mut().push(session);
            }
            let is_new = before.is_new && outcome == Outcome::Refused;
            let later = under_way.iter_mut().find_map(|under_way| under_way.changes.get_mut(&key));
            match later.or(waiting.get_mut(&key)) {
                Some(newer) if newer.value.is_some() => newer.is_new |= is_new,
                Some(_) if is_new => _ = waiting.remove(&key),
                Some(_) => {}
                None => _ = waiting.insert(key, Change { is_new, ..before }),
            }
        }
    }

    /// Nobody waits any more for what was handed over up to here.
    fn settle(&self, ordinal: u64) {
        let inner = &self.0;
        inner.settled.set(ordinal);
        inner.settling.notify_waiters();
        for bell in inner.told.take() {
            bell.is_told.set(false);
            bell.ring();
        }
    }
}

/// What became of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored,
    /// They were not taken.
    Refused,
    /// The disk has them, and does not answer: they may be stored some time.
    Unknown,
}

#[cfg(test)]
mod tests;
