//! What the task of a connection and its owners have in common. All of it is on one thread, and nothing of it is borrowed across an await.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, oneshot};
use tokio::time::Instant;

use crate::core::mqtt::client::{
    Answer, Arrived, Client, End, Event, Filter, Message, NotNow, Settings, Token, Unfit, Welcome, Wish,
};

/// With so many messages that nobody has taken, or so many bytes of them, nothing more is read.
const ARRIVED_MAX: usize = 1_024;
const ARRIVED_BYTES_MAX: usize = 1 << 20;
/// What a message takes besides its payload.
const ARRIVED_OVERHEAD_BYTES: usize = 256;

/// An answer that will come.
pub(super) type Awaited = oneshot::Receiver<Answer>;

/// What has to happen before a message can be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    ForRoom,
    Until(Instant),
}

#[derive(Debug)]
pub(super) struct Shared {
    client: RefCell<Client>,
    began: Instant,
    filters_max: usize,
    answers: RefCell<HashMap<Wish, oneshot::Sender<Answer>>>,
    arrived: RefCell<VecDeque<Arrived>>,
    arrived_bytes: Cell<usize>,
    is_wanted: Cell<bool>,
    end: RefCell<Option<End>>,
    /// Publishes take turns, so that they keep their order while they wait.
    pub(super) turn: Mutex<()>,
    /// The task has something to do.
    pub(super) work: Notify,
    /// Perhaps there is room for another message, or the connection has ended.
    pub(super) room: Notify,
    /// A message has arrived, or the connection has ended.
    pub(super) came: Notify,
    over: Notify,
}

/// Held by every handle: with the last one the client leaves.
#[derive(Debug)]
pub(super) struct Owner {
    shared: Rc<Shared>,
}

impl Owner {
    pub(super) fn of(shared: &Rc<Shared>) -> Owner {
        Owner { shared: Rc::clone(shared) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Shared {
        Shared {
            client: RefCell::new(Client::new(settings, 0)),
            began: Instant::now(),
            filters_max: settings.limits.filters_max,
            answers: RefCell::default(),
            arrived: RefCell::default(),
            arrived_bytes: Cell::new(0),
            is_wanted: Cell::new(true),
            end: RefCell::default(),
            turn: Mutex::new(()),
            work: Notify::new(),
            room: Notify::new(),
            came: Notify::new(),
            over: Notify::new(),
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn instant(&self, at_ms: u64) -> Instant {
        // Farther away than this nobody looks.
        self.began + Duration::from_millis(at_ms.min(1 << 40))
    }

    pub(super) fn filters_max(&self) -> usize {
        self.filters_max.max(1)
    }

    /// Sends a message, or says what it has to wait for.
    pub(super) fn publish(&self, message: &Message) -> Result<Result<Awaited, Unfit>, Wait> {
        let now_ms = self.now_ms();
        let wished = {
            let mut client = self.client.borrow_mut();
            match client.may_publish(message.qos, now_ms) {
                Ok(()) => client.publish(message, now_ms),
                Err(NotNow::Until(at_ms)) => return Err(Wait::Until(self.instant(at_ms))),
                Err(NotNow::WindowIsFull | NotNow::NotWritten | NotNow::NotOpen) => return Err(Wait::ForRoom),
            }
        };
        Ok(self.await_answer(wished))
    }

    pub(super) fn subscribe(&self, filters: &[Filter]) -> Result<Awaited, Unfit> {
        let wished = self.client.borrow_mut().subscribe(filters, self.now_ms());
        self.await_answer(wished)
    }

    pub(super) fn unsubscribe(&self, filters: &[&str]) -> Result<Awaited, Unfit> {
        let wished = self.client.borrow_mut().unsubscribe(filters, self.now_ms());
        self.await_answer(wished)
    }

    fn await_answer(&self, wished: Result<Wish, Unfit>) -> Result<Awaited, Unfit> {
        let (sender, receiver) = oneshot::channel();
        let wish = wished?;
        match self.ended() {
            Some(end) => drop(sender.send(Answer::Unanswered(end))),
            None => drop(self.answers.borrow_mut().insert(wish, sender)),
        }
        self.work.notify_one();
        Ok(receiver)
    }

    pub(super) fn acknowledge(&self, token: Token) {
        self.client.borrow_mut().acknowledge(token);
        self.work.notify_one();
    }

    pub(super) fn check(&self, message: &Message) -> Result<(), Unfit> {
        self.client.borrow().check(message)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.client.borrow().in_flight()
    }

    pub(super) fn unreleased(&self) -> Vec<u16> {
        self.client.borrow().unreleased()
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    pub(super) async fn closed(&self) -> End {
        loop {
            let over = self.over.notified();
            if let Some(end) = self.ended() {
                return end;
            }
            over.await;
        }
    }

    pub(super) fn leave(&self) {
        self.client.borrow_mut().leave(0);
        self.look();
        self.work.notify_one();
    }

    pub(super) fn take_arrived(&self) -> Option<Arrived> {
        let was_full = self.is_full();
        let arrived = self.arrived.borrow_mut().pop_front()?;
        self.arrived_bytes.set(self.arrived_bytes.get() - bytes_of(&arrived));
        if was_full {
            self.work.notify_one();
        }
        Some(arrived)
    }

    pub(super) fn waiting(&self) -> usize {
        self.arrived.borrow().len()
    }

    pub(super) fn want_nothing(&self) {
        self.is_wanted.set(false);
        while let Some(arrived) = self.take_arrived() {
            arrived.token.into_iter().for_each(|token| self.acknowledge(token));
        }
        self.work.notify_one();
    }

    /// Whether nothing more is to be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.arrived.borrow().len() >= ARRIVED_MAX || self.arrived_bytes.get() >= ARRIVED_BYTES_MAX
    }

    /// Does something with the machine, and passes on what comes of it. The answer to CONNECT is returned.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Client, u64) -> T) -> (T, Option<Welcome>) {
        let now_ms = self.now_ms();
        let done = act(&mut self.client.borrow_mut(), now_ms);
        (done, self.look())
    }

    pub(super) fn due_at(&self) -> Option<Instant> {
        self.client.borrow().due_at_ms().map(|at_ms| self.instant(at_ms))
    }

    /// Passes events on.
    fn look(&self) -> Option<Welcome> {
        let mut welcome = None;
        loop {
            let event = self.client.borrow_mut().next_event();
            match event {
                None => break,
                Some(Event::Welcomed(said)) => welcome = Some(*said),
                Some(Event::Answered(wish, answer)) => {
                    if let Some(sender) = self.answers.borrow_mut().remove(&wish) {
                        // Whoever has dropped the receiver does not want to know.
                        drop(sender.send(answer));
                    }
                }
                Some(Event::Arrived(arrived)) => self.arrive(arrived),
                Some(Event::Ended(end)) => {
                    *self.end.borrow_mut() = Some(end);
                    self.over.notify_waiters();
                    self.came.notify_waiters();
                }
            }
        }
        // Whoever waits looks again; those are few.
        self.room.notify_waiters();
        welcome
    }

    fn arrive(&self, arrived: Arrived) {
        if !self.is_wanted.get() {
            if let Some(token) = arrived.token {
                self.client.borrow_mut().acknowledge(token);
            }
            return;
        }
        self.arrived_bytes.set(self.arrived_bytes.get() + bytes_of(&arrived));
        self.arrived.borrow_mut().push_back(arrived);
        self.came.notify_waiters();
    }
}

fn bytes_of(arrived: &Arrived) -> usize {
    arrived.payload.len() + arrived.topic.len() + arrived.properties.len() + ARRIVED_OVERHEAD_BYTES
}
