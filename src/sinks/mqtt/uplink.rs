//! The connection that all streams of a sink share, made anew when something is to be sent and the last one has ended.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::outcome::{self, Past};
use crate::core::delivery::Outcome;
use crate::core::mqtt::client::blame::{Blame, Sentence};
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
    blamed: RefCell<Option<Blamed>>,
}

/// A message that was given up: its lines may come again, in halves.
#[derive(Clone, Copy)]
struct Blamed {
    /// Digest of its topic and its first line.
    start: u64,
    bytes: usize,
}

impl Uplink {
    /// Connects when something is sent.
    pub fn new(broker: Broker, settings: Settings, counts: Option<Arc<SocketBytes>>) -> Uplink {
        let broker = Broker { counts: counts.map(|counts| counts as Arc<dyn Counts>), ..broker };
        Uplink {
            broker,
            settings,
            open: Mutex::default(),
            alone: Mutex::default(),
            blame: RefCell::default(),
            blamed: RefCell::default(),
        }
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

    /// Whether a connection has ended at one of these messages, and nobody has said why.
    pub fn suspects(&self, messages: &[Message]) -> bool {
        let blame = self.blame.borrow();
        messages.iter().any(|message| blame.suspects(digest(message)))
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
        let now = Blamed::of(message);
        let mut blame = self.blame.borrow_mut();
        if self.blamed.borrow().is_some_and(|before| now.is_part_of(before)) {
            blame.of_the_same();
        }
        let sentence = blame.ended_at(end, digest(message));
        drop(blame);
        let said =
            format!("at a message to {} of {} bytes, alone on its way: {end}", message.topic, message.payload.len());
        match sentence {
            Sentence::Again => self.unanswered(end),
            Sentence::GiveUp => {
                *self.blamed.borrow_mut() = Some(now);
                Outcome::Reject(said)
            }
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

impl Blamed {
    fn of(message: &Message) -> Blamed {
        let first = message.payload.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        Blamed { start: digest_of(&message.topic, first), bytes: message.payload.len() }
    }

    fn is_part_of(self, whole: Blamed) -> bool {
        self.start == whole.start && self.bytes < whole.bytes
    }
}

fn digest(message: &Message) -> u64 {
    digest_of(&message.topic, &message.payload)
}

fn digest_of(topic: &str, payload: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (topic, payload).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mqtt::client::{Farewell, Refusal};
    use crate::tls::ClientFiles;
    use crate::uplink::Endpoint;

    /// The line at fault may be the first one of a record of many, so each of its halves is blamed, too.
    #[test]
    fn a_record_that_is_halved_counts_once_as_blamed() {
        let endpoint = Endpoint { host: "localhost".to_owned(), port: 1883, is_tls: false };
        let connect_timeout = std::time::Duration::from_secs(1);
        let broker =
            Broker { endpoint, files: ClientFiles::default(), alpn: Vec::new(), connect_timeout, counts: None };
        let uplink = Uplink::new(broker, Settings::default(), None);
        let end = End::Told(Farewell { why: Refusal::of(0x95, None), server: None });
        let lines = |from: usize, count: usize| {
            let payload: String = (from..from + count).map(|number| format!("{number}\n")).collect();
            Message { topic: "a".to_owned(), payload: payload.into(), qos: 1, ..Message::default() }
        };
        for halvings in (0..14).rev() {
            let outcome = uplink.unanswered_alone(&end, &lines(0, 1 << halvings));
            assert!(matches!(outcome, Outcome::Reject(_)), "{halvings}: {outcome:?}");
        }
        // The control: of others so many in a row are not given up.
        let outcomes: Vec<Outcome> = (1..14).map(|from| uplink.unanswered_alone(&end, &lines(from, 1))).collect();
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Halt(_))), "{outcomes:?}");
    }
}
