//! Sends dead letters again, at an operator's wish.
//!
//! A letter stays what it is, counted as dead, until the commit that counts it as delivered and deletes it, in one transaction. That commit is
//! waited for before the next letter is sent. So a kill in between leaves at most one letter that its sink has and the store still keeps: if it
//! is sent again, the ledger counts it once, and its identity tells consumers. Letters are sent one at a time, while no other request of the stream
//! is under way; between two of them the others get a turn. They come late, so a letter is not in the order of its device.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};

use super::Sink;
use crate::core::delivery::{DeliverySettings, Outcome, OutgoingRecord, Partition};
use crate::core::identity::Stream;
use crate::pipeline::Message;
use crate::pipeline::operation::{self, Operation};
use crate::store::letters::{DeliveredLetter, Letter, Selection};

/// A commit that takes longer is a disk that hangs.
const STORED_WITHIN: Duration = Duration::from_secs(30);

/// Where an operator leaves a wish, and a forwarder finds it.
#[derive(Debug, Default)]
pub struct Wishes {
    wish: Mutex<Option<Wish>>,
    asked: Notify,
    /// There is a forwarder that looks for wishes: sinks that write files have none.
    is_served: AtomicBool,
}

/// Why a wish cannot be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWish {
    /// Another one waits.
    Busy,
    Unserved,
}

/// What is to be sent again.
#[derive(Debug)]
pub struct Wish {
    /// One letter; `None` is all.
    pub id: Option<i64>,
    /// The last letter that there is when it is asked for.
    pub through: i64,
    pub answer: oneshot::Sender<Resent>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resent {
    pub delivered: u64,
    /// Refused again: they stay where they are.
    pub refused: u64,
    /// Why the rest was not tried.
    pub stopped: Option<String>,
}

impl Wishes {
    /// Leaves a wish.
    ///
    /// # Errors
    ///
    /// If nobody would grant it now.
    pub fn ask(&self, wish: Wish) -> Result<(), NoWish> {
        if !self.is_served.load(Ordering::Relaxed) {
            return Err(NoWish::Unserved);
        }
        let mut place = self.wish.lock().expect("nothing panics while it is held");
        if place.is_some() {
            return Err(NoWish::Busy);
        }
        *place = Some(wish);
        self.asked.notify_one();
        Ok(())
    }

    pub(super) fn serve(&self) {
        self.is_served.store(true, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> Option<Wish> {
        self.wish.lock().expect("nothing panics while it is held").take()
    }

    /// Returns when there is a wish.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// A wish that is being granted.
#[derive(Debug)]
pub(super) struct Resending {
    wish: Wish,
    selection: Selection,
    /// Letters up to here were tried.
    pub after: i64,
    resent: Resent,
}

/// Whose letters they are.
#[derive(Debug)]
pub(super) struct Owner {
    pub sink: String,
    pub stream: Stream,
    pub partition: Partition,
    pub record_bytes_max: usize,
    pub pipeline: Sender<Message>,
}

impl Owner {
    pub fn new(sink: &str, stream: Stream, delivery: &DeliverySettings, pipeline: &Sender<Message>) -> Owner {
        Owner {
            sink: sink.to_owned(),
            stream,
            partition: delivery.partition,
            record_bytes_max: delivery.record_bytes_max,
            pipeline: pipeline.clone(),
        }
    }

    fn record(&self, letter: &Letter) -> OutgoingRecord {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            device: String,
        }
        let device = match self.partition {
            Partition::Device => serde_json::from_slice::<Line>(&letter.line).map_or(String::new(), |line| line.device),
            Partition::Gateway => String::new(),
        };
        OutgoingRecord { device: device.into(), data: Bytes::from(letter.line.clone()) }
    }

    /// The commit that counts it has come when this returns; `false` if it did not come in time, or the process is ending.
    async fn is_delivered(&self, letter: &Letter) -> bool {
        let Letter { id, sequence, .. } = *letter;
        let letter = DeliveredLetter { sink: self.sink.clone(), stream: self.stream, id, sequence };
        let (answer, answered) = oneshot::channel();
        let operation = Operation::LetterDelivered(letter);
        if self.pipeline.send(Message::Operate { operation, answer }).is_err() {
            return false;
        }
        let answered = tokio::time::timeout(STORED_WITHIN, answered).await;
        matches!(answered, Ok(Ok(operation::Outcome::Done(_))))
    }
}

impl Resending {
    pub fn new(wish: Wish, sink: &str, stream: &str) -> Resending {
        let selection = Selection { sink: Some(sink.to_owned()), stream: Some(stream.to_owned()), id: wish.id };
        Resending { wish, selection, after: 0, resent: Resent::default() }
    }

    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Whether a letter was there when the wish was.
    pub fn is_meant(&self, letter: &Letter) -> bool {
        letter.id <= self.wish.through
    }

    /// Tries one letter. Returns whether others are worth a try.
    pub async fn send<S: Sink>(&mut self, owner: &Owner, sink: &S, letter: &Letter) -> bool {
        self.after = letter.id;
        if letter.line.len() > owner.record_bytes_max {
            self.resent.refused += 1;
            return true;
        }
        let reply = sink.send_late(vec![owner.record(letter)]).await;
        let outcome = reply.outcomes.into_iter().next().expect("an outcome for each record");
        match outcome {
            Outcome::Accepted { .. } => {
                if !owner.is_delivered(letter).await {
                    self.stop("the store does not answer");
                    return false;
                }
                self.resent.delivered += 1;
                return true;
            }
            Outcome::Reject(_) | Outcome::RejectLines(_) | Outcome::TooLarge(_) => {
                self.resent.refused += 1;
                return true;
            }
            Outcome::Halt(text) | Outcome::Unreachable(text) | Outcome::Later { reason: text, .. } => self.stop(&text),
            Outcome::Retry(reason) => self.stop(&reason.to_string()),
        }
        false
    }

    pub fn stop(&mut self, why: &str) {
        self.resent.stopped = Some(why.to_owned());
    }

    /// Whoever asked may have gone.
    pub fn end(self) {
        let _ = self.wish.answer.send(self.resent);
    }
}
