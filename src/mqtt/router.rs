//! The only file that uses rumqttd's router, as a log in order between a publish and its receivers. There are two logs, so that an alert
//! does not wait behind what clients publish.
//!
//! The router's own matching is not used: it never forgets a topic, a filter or a client's name, and most ways to crash it begin with a
//! link that disconnects. So each log has one topic, one filter and two links, which exist from the start, and the real topic travels in
//! the payload. [`super::fanout`] decides who gets what; its tables shrink again.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::{Notification, Router, RouterConfig};
use tokio::sync::{Semaphore, TryAcquireError};

use crate::core::mqtt::keeping::MessageNumber;
use crate::core::mqtt::packet::PassedOn;
use crate::core::mqtt::topic;

/// The log holds at least one segment less than this: more than is ever in transit, so that nothing is overwritten unread.
const SEGMENTS: usize = 3;
const SEGMENT_BYTES: usize = 1024 * 1024;
/// Most bytes in transit between publish and receivers; a publish waits for its share.
const UNDER_WAY_BYTES_MAX: usize = 1024 * 1024;
/// Even a small message takes this share, which bounds the number in transit too: each may have thousands of receivers.
const MESSAGE_BYTES_MIN: usize = 4 * 1024;

/// The router has ended, and local subscriptions with it; the process has to end too.
#[derive(Debug, PartialEq, Eq)]
pub struct RouterDead;

/// A message in one allocation: quality of service and RETAIN, publisher, deadline, its number in the store, length of the topic and of the
/// properties, topic, properties, payload. It is stored like that, so changes must leave what is there readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope(Bytes);

const PUBLISHER: usize = 1;
const DEADLINE: usize = 9;
const NUMBER: usize = 17;
const TOPIC_LEN: usize = 25;
const PASSED_ON_LEN: usize = 27;
const TOPIC_START: usize = 31;
const RETAIN: u8 = 4;

/// What goes into an envelope.
#[derive(Clone, Copy, Default)]
pub struct Draft<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    /// A number for the publisher's client id; 0 if it is no client.
    pub publisher: u64,
    /// By the steady clock of the edge.
    pub deadline_ms: Option<u64>,
    /// If it is stored for sessions.
    pub number: Option<MessageNumber>,
    /// The most messages of its publisher that are retained.
    pub retained_max: Option<usize>,
    pub passed_on: PassedOn<'a>,
}

impl Draft<'_> {
    /// Bytes of the envelope.
    pub fn len(&self) -> usize {
        TOPIC_START + self.topic.len() + self.passed_on.len() + self.payload.len()
    }
}

impl Envelope {
    /// A message without properties that no client has published.
    pub fn new(topic: &str, payload: &[u8], qos: u8) -> Envelope {
        Envelope::of(&Draft { topic, payload, qos, ..Draft::default() })
    }

    /// Copies the data: a slice of the read buffer would keep more than the message in memory. The topic is valid, so its length fits.
    pub fn of(draft: &Draft<'_>) -> Envelope {
        let passed_on_len = draft.passed_on.len();
        let mut bytes = BytesMut::with_capacity(draft.len());
        bytes.put_u8(draft.qos | if draft.retain { RETAIN } else { 0 });
        bytes.put_u64(draft.publisher);
        bytes.put_u64(draft.deadline_ms.unwrap_or(0));
        bytes.put_u64(draft.number.map_or(0, |number| number.0));
        bytes.put_u16(draft.topic.len() as u16);
        bytes.put_u32(passed_on_len as u32);
        bytes.put_slice(draft.topic.as_bytes());
        if passed_on_len > 0 {
            draft.passed_on.each().for_each(|property| bytes.put_slice(property));
        }
        bytes.put_slice(draft.payload);
        Envelope(bytes.freeze())
    }

    /// As it was stored; `None` if that cannot be read.
    pub fn stored(bytes: Vec<u8>) -> Option<Envelope> {
        if bytes.len() < TOPIC_START {
            return None;
        }
        let envelope = Envelope(Bytes::from(bytes));
        let is_whole = envelope.passed_on_end() <= envelope.len() && envelope.qos() <= 2;
        let topic = is_whole.then(|| std::str::from_utf8(&envelope.0[TOPIC_START..envelope.topic_end()]))?;
        topic.is_ok_and(|topic| topic::check_topic(topic).is_ok()).then_some(envelope)
    }

    /// The same with another deadline.
    pub fn until(&self, deadline_ms: u64) -> Envelope {
        let mut bytes = BytesMut::from(&self.0[..]);
        bytes[DEADLINE..NUMBER].copy_from_slice(&deadline_ms.to_be_bytes());
        Envelope(bytes.freeze())
    }

    /// The topic of what was stored, as far as there is one.
    pub fn topic_of(stored: &[u8]) -> Option<Vec<u8>> {
        let len = stored.get(TOPIC_LEN..TOPIC_LEN + 2)?;
        let end = TOPIC_START + usize::from(u16::from_be_bytes([len[0], len[1]]));
        stored.get(TOPIC_START..end).map(<[u8]>::to_vec)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("so many bytes")
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Has no receivers; it only shows that the log moves.
    pub fn ping() -> Envelope {
        Envelope::new("", b"", 0)
    }

    /// A publish always has a topic.
    pub fn is_ping(&self) -> bool {
        self.topic_end() == TOPIC_START
    }

    pub fn qos(&self) -> u8 {
        self.0[0] & 3
    }

    pub fn retain(&self) -> bool {
        self.0[0] & RETAIN != 0
    }

    pub fn publisher(&self) -> u64 {
        u64::from_be_bytes(self.bytes_at(PUBLISHER))
    }

    pub fn deadline_ms(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes_at(DEADLINE))).filter(|deadline_ms| *deadline_ms > 0)
    }

    /// Its number, if it is stored for sessions.
    pub fn number(&self) -> Option<MessageNumber> {
        Some(MessageNumber(u64::from_be_bytes(self.bytes_at(NUMBER)))).filter(|number| number.0 > 0)
    }

    fn topic_end(&self) -> usize {
        TOPIC_START + usize::from(u16::from_be_bytes(self.bytes_at(TOPIC_LEN)))
    }

    fn passed_on_end(&self) -> usize {
        self.topic_end() + u32::from_be_bytes(self.bytes_at(PASSED_ON_LEN)) as usize
    }

    pub fn topic(&self) -> &str {
        std::str::from_utf8(&self.0[TOPIC_START..self.topic_end()]).expect("made from a str")
    }

    pub fn topic_bytes(&self) -> Bytes {
        self.0.slice(TOPIC_START..self.topic_end())
    }

    /// Properties for the receivers, encoded.
    pub fn passed_on(&self) -> Bytes {
        self.0.slice(self.topic_end()..self.passed_on_end())
    }

    pub fn payload(&self) -> Bytes {
        self.0.slice(self.passed_on_end()..)
    }

    fn share(&self) -> u32 {
        self.0.len().clamp(MESSAGE_BYTES_MIN, UNDER_WAY_BYTES_MAX) as u32
    }
}

/// The sending side of a log. Cheap to clone.
#[derive(Clone)]
pub struct RouterFeed {
    topic: &'static str,
    link: Rc<RefCell<LinkTx>>,
    share: Rc<Semaphore>,
}

/// The receiving side of a log: every message, in order.
pub struct RouterLog {
    link: LinkRx,
    share: Rc<Semaphore>,
    last_offset: Option<u64>,
    // Kept although nothing arrives there: the router ends a link whose receiving half is dropped.
    _publisher: LinkRx,
    _subscriber: LinkTx,
}

type Lane = (RouterFeed, RouterLog);

/// Starts the router's thread, with one log for clients' messages and one for the gateway's own. Waits for its first answers, which takes
/// microseconds.
pub fn start() -> Result<[Lane; 2], Box<LinkError>> {
    let config = RouterConfig {
        max_connections: 4,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    };
    let router = Router::new(0, config).spawn();
    let lane = |topic: &'static str| -> Result<Lane, Box<LinkError>> {
        let (mut subscriber, mut link, _) = LinkBuilder::new(&format!("{topic}-out"), router.clone()).build()?;
        subscriber.subscribe(topic)?;
        // The subscription is acknowledged: from here on nothing is missed.
        while !matches!(link.recv()?, Some(Notification::DeviceAck(_))) {}
        let (publisher, idle, _) = LinkBuilder::new(&format!("{topic}-in"), router.clone()).build()?;
        let share = Rc::new(Semaphore::new(UNDER_WAY_BYTES_MAX));
        let log =
            RouterLog { link, share: Rc::clone(&share), last_offset: None, _publisher: idle, _subscriber: subscriber };
        Ok((RouterFeed { topic, link: Rc::new(RefCell::new(publisher)), share }, log))
    };
    Ok([lane("clients")?, lane("own")?])
}

impl RouterFeed {
    pub fn is_dead(&self) -> bool {
        self.share.is_closed()
    }

    /// Waits, first come, first served, until there is room.
    pub async fn publish(&self, envelope: Envelope) -> Result<(), RouterDead> {
        self.share.acquire_many(envelope.share()).await.map_err(|_| RouterDead)?.forget();
        self.send(envelope)
    }

    /// Returns the envelope if there is no room at once, for [`Self::publish`].
    pub fn try_publish(&self, envelope: Envelope) -> Result<Option<Envelope>, RouterDead> {
        match self.share.try_acquire_many(envelope.share()) {
            Ok(share) => {
                share.forget();
                self.send(envelope).map(|()| None)
            }
            Err(TryAcquireError::NoPermits) => Ok(Some(envelope)),
            Err(TryAcquireError::Closed) => Err(RouterDead),
        }
    }

    fn send(&self, envelope: Envelope) -> Result<(), RouterDead> {
        self.link.borrow_mut().publish(self.topic, envelope.0).map(drop).map_err(|_| RouterDead)
    }
}

impl RouterLog {
    pub async fn next(&mut self) -> Result<Envelope, RouterDead> {
        loop {
            match self.link.next().await.map_err(|_| RouterDead)? {
                Some(Notification::Forward(forward)) => {
                    let offset = forward.cursor.map(|(_, offset)| offset);
                    if let (Some(last), Some(offset)) = (self.last_offset, offset) {
                        assert_eq!(offset, last + 1, "less is under way than the log holds");
                    }
                    self.last_offset = offset;
                    let envelope = Envelope(forward.publish.payload);
                    self.share.add_permits(envelope.share() as usize);
                    return Ok(envelope);
                }
                // The router has stopped scheduling this link until it is woken.
                Some(Notification::Unschedule) => self.link.wake().await.map_err(|_| RouterDead)?,
                // `None` is a spurious wake-up, not an end.
                Some(_) | None => {}
            }
        }
    }
}

impl Drop for RouterLog {
    /// Wakes whoever waits for a share, with an error.
    fn drop(&mut self) {
        self.share.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_restored_as_it_was_and_a_broken_one_is_none() {
        let draft =
            Draft { topic: "a/b", payload: b"payload", qos: 2, retain: true, deadline_ms: Some(5), ..Draft::default() };
        let envelope = Envelope::of(&Draft { publisher: 9, number: Some(MessageNumber(7)), ..draft });
        let restored = Envelope::stored(envelope.as_bytes().to_vec()).expect("whole").until(8);
        assert_eq!((restored.topic(), restored.payload(), restored.qos()), ("a/b", Bytes::from_static(b"payload"), 2));
        assert_eq!(
            (restored.publisher(), restored.number(), restored.deadline_ms()),
            (9, Some(MessageNumber(7)), Some(8))
        );
        for (at, byte) in [(0, 3), (TOPIC_LEN, 200), (PASSED_ON_LEN, 200), (TOPIC_START, 0xff), (TOPIC_START, b'#')] {
            let mut broken = envelope.as_bytes().to_vec();
            broken[at] = byte;
            assert_eq!(Envelope::stored(broken), None, "{at}");
        }
        assert_eq!(Envelope::stored(vec![0; TOPIC_START - 1]), None);
    }

    async fn deal_out(sizes: &[usize]) {
        let [(feed, mut log), _own] = start().expect("a router");
        let publish = async {
            for (n, size) in sizes.iter().enumerate() {
                let mut payload = vec![0; *size];
                payload[..8].copy_from_slice(&(n as u64).to_be_bytes());
                feed.publish(Envelope::new(&format!("a/{n}"), &payload, (n % 2) as u8)).await.expect("a router");
            }
        };
        let read = async {
            for (n, size) in sizes.iter().enumerate() {
                let message = log.next().await.expect("a router");
                assert_eq!((message.topic(), message.qos()), (format!("a/{n}").as_str(), (n % 2) as u8));
                let payload = message.payload();
                assert_eq!((payload.len(), &payload[..8]), (*size, &(n as u64).to_be_bytes()[..]));
            }
        };
        tokio::join!(publish, read);
        assert!(!feed.is_dead());
        drop(log);
        assert_eq!(feed.publish(Envelope::new("a", b"", 0)).await, Err(RouterDead));
    }

    #[tokio::test]
    async fn many_small_messages_arrive_in_order() {
        deal_out(&[8; 20_000]).await;
    }

    #[tokio::test]
    async fn large_messages_arrive_whole_and_none_is_overrun() {
        deal_out(
            &[700_000, 8, 3_000_000, 1_048_577, 8, 8, 2_000_000, 5]
                .repeat(20)
                .into_iter()
                .map(|size| size.max(8))
                .collect::<Vec<_>>(),
        )
        .await;
    }
}
