//! The connection that all streams of a sink share, made anew when something is to be sent and the last one has ended.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::blame::{Blame, Sentence};
use super::outcome::{self, Past};
use crate::core::delivery::Outcome;
use crate::core::mqtt::client::{End, Message, Settings};
use crate::sinks::links::SocketBytes;
use crate::uplink::counted::Counts;
use crate::uplink::{self, Broker, Handle, Opened};

/// Of one sink.
pub struct Uplink {
    broker: Broker,
    settings: Settings,
    open: Mutex<Option<Handle>>,
    /// Held by a message that is to be alone on its way.
    pub alone: Mutex<()>,
    blame: RefCell<Blame>,
}

impl Uplink {
    /// Connects when something is sent.
    pub fn new(broker: Broker, settings: Settings, counts: Option<Arc<SocketBytes>>) -> Uplink {
        let broker = Broker { counts: counts.map(|counts| counts as Arc<dyn Counts>), ..broker };
        Uplink { broker, settings, open: Mutex::default(), alone: Mutex::default(), blame: RefCell::default() }
    }

    /// A connection that is open, or what comes of the attempt to make one.
    pub async fn connect(&self) -> Result<Handle, Outcome> {
        let mut open = self.open.lock().await;
        if let Some(handle) = &*open {
            let Some(end) = handle.ended() else { return Ok(handle.clone()) };
            self.blame.borrow_mut().ended(&end);
            *open = None;
        }
        match uplink::open(&self.broker, self.settings.clone()).await {
            Ok(Opened { handle, .. }) => Ok(open.insert(handle).clone()),
            Err(error) => Err(outcome::of_connect(&error, &self.settings.client_id, self.past())),
        }
    }

    /// Whether messages are to be sent one at a time.
    pub fn is_careful(&self) -> bool {
        self.blame.borrow().is_careful()
    }

    pub fn accepted(&self, message: &Message) {
        self.blame.borrow_mut().accepted(digest(message));
    }

    /// What becomes of a message that was not acknowledged.
    pub fn unanswered(&self, end: &End) -> Outcome {
        outcome::of_end(end, &self.settings.client_id, self.past())
    }

    /// The same of one that was alone on its way.
    pub fn unanswered_alone(&self, end: &End, message: &Message) -> Outcome {
        let sentence = self.blame.borrow_mut().ended_at(end, digest(message));
        let said =
            format!("at a message to {} of {} bytes, alone on its way: {end}", message.topic, message.payload.len());
        match sentence {
            Sentence::Again => self.unanswered(end),
            Sentence::GiveUp => Outcome::Reject(said),
            Sentence::NotItsFault => Outcome::Halt(format!(
                "{said}; so it was with others, and none was taken in between: look at what the client {} may do there",
                self.settings.client_id
            )),
        }
    }

    fn past(&self) -> Past {
        let blame = self.blame.borrow();
        Past { takeovers: blame.takeovers(), closings: blame.closings() }
    }
}

fn digest(message: &Message) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (&message.topic, &message.payload[..]).hash(&mut hasher);
    hasher.finish()
}
