//! From our broker to the other one, over one connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::BridgeSettings;
use super::over::Over;
use super::status::BridgeSource;
use crate::core::mqtt::client::{End, Message, Reason, Refusal, Takes};
use crate::core::mqtt::packet::{self, Packet, Publish, Version};
use crate::sinks::mqtt::blame::{Blame, Sentence};
use crate::uplink::{Handle, Published, Publishing};

/// Messages whose answers are waited for; the window is smaller.
const UNANSWERED_MAX: usize = 128;
/// A missing right is for a person to give. Until then what waits goes on waiting, and is tried again after this.
const HOLD: Duration = Duration::from_secs(60);
/// Suspects that are tried behind what follows them, and how long it is waited for that.
const ASIDE_MAX: usize = 16;
const ASIDE_FOR: Duration = Duration::from_secs(30);

/// One message that was sent, and under which id our broker knows it.
struct Sent {
    packet_id: u16,
    topic: String,
    /// `None` at QoS 0, where nothing says that it has arrived.
    digest: Option<u64>,
    publishing: Publishing,
}

/// A message that no other one is beside.
struct Alone {
    packet_id: u16,
    topic: String,
    digest: u64,
}

/// The sending half of a link.
pub(super) struct Sending<'a> {
    pub settings: &'a BridgeSettings,
    pub source: &'a BridgeSource,
    pub handle: Handle,
    pub takes: Takes,
    /// At which message the other broker takes offence; while it is careful, one goes at a time.
    pub blame: &'a RefCell<Blame>,
    /// Where our broker is told what is done with.
    pub acknowledged: mpsc::Sender<u16>,
    pub on_its_way: OnItsWay,
}

/// What may be to blame when the connection ends.
#[derive(Default)]
pub(super) struct OnItsWay {
    alone: RefCell<Option<Alone>>,
    /// Something of QoS 0 was sent, and nothing acknowledged since.
    is_unheard: Cell<bool>,
    /// It was said that messages are left out.
    is_told: Cell<bool>,
    /// Suspects, each with its packet id, that wait for others to pass.
    aside: RefCell<VecDeque<(u16, Message)>>,
}

impl Sending<'_> {
    /// Sends what leaves our broker, until the link is over.
    pub async fn run(&self, leaving: &mut mpsc::Receiver<Vec<u8>>) -> Over {
        let (sent, mut unanswered) = mpsc::channel(UNANSWERED_MAX);
        tokio::select! {
            over = self.send_all(leaving, sent) => over.err().unwrap_or(Over::Local),
            over = self.await_answers(&mut unanswered) => over,
        }
    }

    async fn send_all(&self, leaving: &mut mpsc::Receiver<Vec<u8>>, sent: mpsc::Sender<Sent>) -> Result<(), Over> {
        loop {
            let nothing_aside = self.on_its_way.aside.borrow().is_empty();
            let packets = match nothing_aside {
                true => leaving.recv().await,
                false => match timeout(ASIDE_FOR, leaving.recv()).await {
                    Ok(packets) => packets,
                    Err(_) => {
                        self.try_suspect(&sent).await?;
                        continue;
                    }
                },
            };
            let Some(packets) = packets else { return Ok(()) };
            let mut rest = packets.as_slice();
            while let Ok(Some(len)) = packet::frame_len(rest, usize::MAX)
                && let Some((frame, after)) = rest.split_at_checked(len)
            {
                rest = after;
                let Ok(Packet::Publish(publish)) = packet::decode(Version::V5, frame) else { continue };
                self.send(&publish, &sent).await?;
            }
        }
    }

    async fn send(&self, publish: &Publish<'_>, sent: &mpsc::Sender<Sent>) -> Result<(), Over> {
        let packet_id = publish.packet_id;
        let Some(message) = self.message(publish) else {
            if packet_id != 0 {
                self.source.counters.sent_refused.add(1);
                if !self.on_its_way.is_told.replace(true) {
                    tracing::warn!(
                        topic = publish.topic,
                        "bridge {}: messages that waited are left out: they have expired, or no line of `topics` is for them any more",
                        self.settings.name()
                    );
                }
            }
            return self.done(packet_id).await;
        };
        let digest = (message.qos > 0).then(|| digest(&message));
        let (is_careful, is_suspect) = {
            let blame = self.blame.borrow();
            (blame.is_careful(), digest.is_some_and(|digest| blame.suspects(digest)))
        };
        if is_careful && is_suspect && self.on_its_way.aside.borrow().len() < ASIDE_MAX {
            self.on_its_way.aside.borrow_mut().push_back((packet_id, message));
            return Ok(());
        }
        if is_careful && let Some(digest) = digest {
            self.send_alone(packet_id, &message, digest).await?;
            return self.try_suspect(sent).await;
        }
        while !is_careful && !self.on_its_way.aside.borrow().is_empty() {
            self.try_suspect(sent).await?;
        }
        self.send_together(packet_id, message, digest, sent).await
    }

    async fn send_together(
        &self,
        packet_id: u16,
        message: Message,
        digest: Option<u64>,
        sent: &mpsc::Sender<Sent>,
    ) -> Result<(), Over> {
        match self.handle.send(&message).await {
            Ok(publishing) if packet_id == 0 => {
                self.source.counters.sent.add(1);
                self.on_its_way.is_unheard.set(true);
                drop(publishing);
                Ok(())
            }
            Ok(publishing) => {
                let topic = message.topic;
                if digest.is_none() {
                    self.on_its_way.is_unheard.set(true);
                }
                // Closed only when this is over.
                sent.send(Sent { packet_id, topic, digest, publishing }).await.map_err(|_| Over::Local)
            }
            Err(published) => self.answer(packet_id, &message.topic, digest, published).await,
        }
    }

    async fn send_alone(&self, packet_id: u16, message: &Message, digest: u64) -> Result<(), Over> {
        let alone = Alone { packet_id, topic: message.topic.clone(), digest };
        self.on_its_way.alone.replace(Some(alone));
        let published = self.handle.publish(message).await;
        if !matches!(published, Published::Unanswered(_)) {
            self.on_its_way.alone.replace(None);
        }
        self.answer(packet_id, &message.topic, Some(digest), published).await
    }

    /// One of those that were put aside.
    async fn try_suspect(&self, sent: &mpsc::Sender<Sent>) -> Result<(), Over> {
        let suspect = self.on_its_way.aside.borrow_mut().pop_front();
        let Some((packet_id, message)) = suspect else { return Ok(()) };
        let digest = digest(&message);
        let is_careful = self.blame.borrow().is_careful();
        match is_careful {
            true => self.send_alone(packet_id, &message, digest).await,
            false => self.send_together(packet_id, message, Some(digest), sent).await,
        }
    }

    /// The connection has ended. If a message was alone on its way, it is judged.
    pub async fn judge(&self, end: &End) {
        let alone = self.on_its_way.alone.take().filter(|_| !self.on_its_way.is_unheard.get());
        let Some(Alone { packet_id, topic, digest }) = alone else { return };
        let sentence = self.blame.borrow_mut().ended_at(end, digest);
        if sentence == Sentence::GiveUp {
            // If our broker has ended the link by now, it comes again, and is found again.
            let _ = self.leave_out(packet_id, &topic, &end.to_string()).await;
        }
    }

    /// As it is called on the other side; `None` if it is not to go there (any more).
    fn message(&self, publish: &Publish<'_>) -> Option<Message> {
        let (topic, qos) = self.settings.plan.to_remote(publish.topic)?;
        if publish.expiry_s == Some(0) {
            return None;
        }
        Some(Message {
            topic,
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos.min(qos).min(self.takes.qos_max),
            retain: publish.retain && self.takes.retain,
            expiry_s: publish.expiry_s,
            properties: publish.passed_on.each().flatten().copied().collect(),
        })
    }

    async fn await_answers(&self, unanswered: &mut mpsc::Receiver<Sent>) -> Over {
        while let Some(Sent { packet_id, topic, digest, publishing }) = unanswered.recv().await {
            if let Err(over) = self.answer(packet_id, &topic, digest, publishing.await).await {
                return over;
            }
        }
        Over::Local
    }

    async fn answer(&self, packet_id: u16, topic: &str, digest: Option<u64>, published: Published) -> Result<(), Over> {
        match published {
            Published::Accepted | Published::NobodySubscribed => {
                if let Some(digest) = digest {
                    self.blame.borrow_mut().accepted(digest);
                    self.on_its_way.is_unheard.set(false);
                }
                self.source.counters.sent.add(1);
                self.done(packet_id).await
            }
            Published::Unfit(unfit) => self.leave_out(packet_id, topic, &unfit.to_string()).await,
            Published::Refused(refusal) if is_for_good(&refusal) => {
                self.leave_out(packet_id, topic, &refusal.to_string()).await
            }
            Published::Refused(refusal) => {
                let text = format!("a message to {topic}: {refusal}");
                if refusal.reason == Reason::NotAuthorised {
                    self.hold(&text).await;
                }
                Err(Over::Refused(text))
            }
            Published::Unanswered(end) => Err(Over::Remote(end)),
        }
    }

    /// Sends nothing for a while. What comes in is not held up by it.
    async fn hold(&self, why: &str) {
        tracing::error!("bridge {}: nothing more goes out until it is allowed: {why}", self.settings.name());
        self.source.change(|state| {
            state.is_held = true;
            state.last_error = Some(format!("nothing goes out: {why}"));
        });
        sleep(HOLD).await;
    }

    /// The other broker never takes it. It must not come again, or nothing behind it would ever pass.
    async fn leave_out(&self, packet_id: u16, topic: &str, why: &str) -> Result<(), Over> {
        self.source.counters.sent_refused.add(1);
        tracing::error!(
            topic,
            "bridge {}: a message is left out, because the other broker does not take it: {why}",
            self.settings.name()
        );
        self.source.change(|state| state.last_error = Some(format!("a message to {topic} was left out: {why}")));
        self.done(packet_id).await
    }

    async fn done(&self, packet_id: u16) -> Result<(), Over> {
        match packet_id {
            0 => Ok(()),
            packet_id => self.acknowledged.send(packet_id).await.map_err(|_| Over::Local),
        }
    }
}

/// Whether the other broker would refuse the same message again, whenever it comes.
fn is_for_good(refusal: &Refusal) -> bool {
    matches!(refusal.reason, Reason::Topic | Reason::PacketTooLarge | Reason::PayloadFormat)
}

/// Tells messages apart.
fn digest(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&message.topic, &message.payload).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_mend_is_not_left_out() {
        for (code, expected) in [(0x90, true), (0x95, true), (0x99, true), (0x87, false), (0x80, false), (0x97, false)]
        {
            assert_eq!(is_for_good(&Refusal::of(code, None)), expected, "{code:x}");
        }
    }
}
