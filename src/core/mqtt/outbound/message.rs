//! A message on its way to a client.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::mqtt::keeping::MessageNumber;

/// A message for one client. `P` holds bytes, owned or shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<P> {
    /// UTF-8, at most 65,535 bytes.
    pub topic: P,
    /// What was published.
    pub payload: P,
    /// Properties of version 5 that are passed on, encoded.
    pub passed_on: P,
    /// By the steady clock, in milliseconds: from then on it is of no use.
    pub deadline_ms: Option<u64>,
    /// Of the client's subscriptions that it matches.
    pub identifiers: Box<[u32]>,
    /// The lower of what was published and what was granted: 0 to 2.
    pub qos: u8,
    /// The RETAIN flag that the client is sent.
    pub retain: bool,
    /// One of the gateway's own: sent before those of clients, and counted separately.
    pub is_own: bool,
    /// Its hold on the message in the store, if it is kept there.
    pub stored: Option<Rc<Stored>>,
}

impl<P: AsRef<[u8]>> Message<P> {
    /// Bytes that it is counted as while it is kept: its own, and 64 for the bookkeeping.
    pub fn cost(&self) -> usize {
        let [topic, payload, passed_on] = [&self.topic, &self.payload, &self.passed_on].map(|part| part.as_ref().len());
        topic + payload + passed_on + 64
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms)
    }

    pub(super) fn number(&self) -> Option<MessageNumber> {
        self.stored.as_ref().map(|stored| stored.number)
    }
}

/// A message in the store. When the last session that has it lets it go, it is to be deleted there.
#[derive(Debug)]
pub struct Stored {
    number: MessageNumber,
    byte_size: usize,
    is_stored: Cell<bool>,
    shelf: Rc<Shelf>,
}

/// All messages in the store.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Those that nobody has any more.
    let_go: RefCell<Vec<MessageNumber>>,
    byte_size: Cell<usize>,
}

impl Shelf {
    /// A message that is about to be stored, and takes so many bytes there.
    pub fn hold(self: &Rc<Shelf>, number: MessageNumber, byte_size: usize) -> Rc<Stored> {
        self.byte_size.set(self.byte_size.get() + byte_size);
        Rc::new(Stored { number, byte_size, is_stored: Cell::new(false), shelf: Rc::clone(self) })
    }

    /// Bytes of all messages that somebody has.
    pub fn byte_size(&self) -> usize {
        self.byte_size.get()
    }

    /// Whether messages are to be deleted.
    pub fn has_let_go(&self) -> bool {
        !self.let_go.borrow().is_empty()
    }

    /// Messages that are to be deleted.
    pub fn take_let_go(&self) -> Vec<MessageNumber> {
        self.let_go.take()
    }
}

impl Stored {
    /// Under which it is stored.
    pub fn number(&self) -> MessageNumber {
        self.number
    }

    /// It is in the store by now, or on its way there whatever happens.
    pub fn mark_stored(&self) {
        self.is_stored.set(true);
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Stored) -> bool {
        self.number == other.number
    }
}

impl Eq for Stored {}

impl Drop for Stored {
    fn drop(&mut self) {
        self.shelf.byte_size.set(self.shelf.byte_size.get() - self.byte_size);
        if self.is_stored.get() {
            self.shelf.let_go.borrow_mut().push(self.number);
        }
    }
}
