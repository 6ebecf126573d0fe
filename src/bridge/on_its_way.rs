//! What was sent over one connection and is not done with.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify};

use crate::core::mqtt::client::Message;
use crate::uplink::Publishing;

/// Bytes of messages that are kept until they are answered, so that one that is refused can be sent again over the same connection. One alone
/// may have more. Those that are not kept come again from our broker, over the next connection.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A message that was asked of the other broker.
pub(super) struct Asked {
    /// Under which our broker knows it.
    pub packet_id: u16,
    pub topic: String,
    /// `None` at QoS 0, where nothing says that it has arrived.
    pub digest: Option<u64>,
    /// `None` if there was no room.
    pub kept: Option<Kept>,
}

/// One of them whose answer is waited for.
pub(super) struct Sent {
    pub asked: Asked,
    pub publishing: Publishing,
}

/// A message that no other one is beside.
pub(super) struct Alone {
    pub packet_id: u16,
    pub topic: String,
    pub digest: u64,
}

/// A message that takes some of the room for kept ones.
pub(super) struct Kept {
    message: Message,
    since: Instant,
    bytes: usize,
    all_bytes: Rc<Cell<usize>>,
}

/// What may be to blame when the connection ends, and what is tried again.
#[derive(Default)]
pub(super) struct OnItsWay {
    pub alone: RefCell<Option<Alone>>,
    /// Something of QoS 0 was sent, and nothing acknowledged since.
    pub is_unheard: Cell<bool>,
    /// Suspects that wait for others to pass.
    pub aside: RefCell<VecDeque<(Asked, Message)>>,
    /// Those that were refused and wait until they are due, each kept. Our broker has no more under way than it may have unacknowledged.
    pub refused: RefCell<VecDeque<Asked>>,
    /// There is another one of them.
    pub refused_more: Notify,
    /// Held while one is sent, by whoever sends: one that is to be alone is.
    pub turn: Mutex<()>,
    kept_bytes: Rc<Cell<usize>>,
}

impl OnItsWay {
    /// A message that is about to be sent.
    pub fn ask(&self, packet_id: u16, message: &Message) -> Asked {
        let digest = (message.qos > 0).then(|| digest(message));
        // One without an answer is not refused.
        let kept = digest.and_then(|_| self.keep(message));
        Asked { packet_id, topic: message.topic.clone(), digest, kept }
    }

    fn keep(&self, message: &Message) -> Option<Kept> {
        let (bytes, kept) =
            (message.topic.len() + message.payload.len() + message.properties.len(), self.kept_bytes.get());
        if kept > 0 && kept + bytes > KEPT_BYTES_MAX {
            return None;
        }
        self.kept_bytes.set(kept + bytes);
        Some(Kept { message: message.clone(), since: Instant::now(), bytes, all_bytes: Rc::clone(&self.kept_bytes) })
    }

    /// It waits until it is due.
    pub fn put_back(&self, asked: Asked) {
        self.refused.borrow_mut().push_back(asked);
        self.refused_more.notify_one();
    }
}

impl Kept {
    /// As it is now.
    ///
    /// # Errors
    ///
    /// If it has expired.
    pub fn message(&self) -> Result<Message, LeftOut> {
        after(self.message.clone(), self.since.elapsed())
    }
}

/// A message that has waited: its expiry goes on counting.
fn after(message: Message, waited: Duration) -> Result<Message, LeftOut> {
    let Some(expiry_s) = message.expiry_s else { return Ok(message) };
    match u64::from(expiry_s).saturating_sub(waited.as_secs()) {
        0 => Err(LeftOut::Expired),
        left_s => Ok(Message { expiry_s: u32::try_from(left_s).ok(), ..message }),
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all_bytes.set(self.all_bytes.get() - self.bytes);
    }
}

/// Tells messages apart.
fn digest(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&message.topic, &message.payload).hash(&mut hasher);
    hasher.finish()
}

/// Why a message of ours is not sent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LeftOut {
    #[error("it has expired")]
    Expired,
    #[error(transparent)]
    NoWay(#[from] crate::core::bridge::NoWay),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_tried_again_expires() {
        let with = |expiry_s| Message { expiry_s, ..Message::default() };
        for (expiry_s, waited_s, expected) in [
            (None, 1_000_000, Ok(None)),
            (Some(60), 0, Ok(Some(60))),
            (Some(60), 59, Ok(Some(1))),
            (Some(60), 60, Err(LeftOut::Expired)),
            (Some(u32::MAX), u64::from(u32::MAX) + 1, Err(LeftOut::Expired)),
        ] {
            let left = after(with(expiry_s), Duration::from_secs(waited_s)).map(|message| message.expiry_s);
            assert_eq!(left, expected, "{expiry_s:?} {waited_s}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let on_its_way = OnItsWay::default();
        let message = |bytes: usize| Message { payload: vec![0; bytes].into(), ..Message::default() };
        let large = on_its_way.keep(&message(5 * KEPT_BYTES_MAX));
        assert!(large.is_some() && on_its_way.keep(&message(1)).is_none(), "it is alone");
        drop(large);
        let half = on_its_way.keep(&message(KEPT_BYTES_MAX / 2));
        let other_half = on_its_way.keep(&message(KEPT_BYTES_MAX / 2));
        assert!(other_half.is_some() && on_its_way.keep(&message(1)).is_none());
        drop(half);
        assert!(on_its_way.keep(&message(1)).is_some());
    }
}
