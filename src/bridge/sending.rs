//! From our broker to the other one, over one connection.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::BridgeSettings;
use super::over::Over;
use super::status::BridgeSource;
use crate::core::mqtt::client::{End, Message, Reason, Refusal, Takes};
use crate::core::mqtt::packet::{self, Packet, Publish, Version};
use crate::uplink::{Handle, Published, Publishing};

/// Messages whose answers are waited for; the window is smaller.
const UNANSWERED_MAX: usize = 128;

/// One message that was sent, and under which id our broker knows it.
struct Sent {
    packet_id: u16,
    topic: String,
    publishing: Publishing,
}

/// The sending half of a link.
pub(super) struct Sending<'a> {
    pub settings: &'a BridgeSettings,
    pub source: &'a BridgeSource,
    pub handle: Handle,
    pub takes: Takes,
    /// The other broker has ended the last connection because of a message: one at a time, to know which.
    pub is_careful: bool,
    /// Where our broker is told what is done with.
    pub acknowledged: mpsc::Sender<u16>,
}

impl Sending<'_> {
    /// Sends what leaves our broker, until the link is over.
    pub async fn run(&self, leaving: &mut mpsc::Receiver<Vec<u8>>) -> Over {
        let (sent, mut unanswered) = mpsc::channel(UNANSWERED_MAX);
        tokio::select! {
            over = self.send_all(leaving, sent) => over,
            over = self.await_answers(&mut unanswered) => over,
        }
    }

    async fn send_all(&self, leaving: &mut mpsc::Receiver<Vec<u8>>, sent: mpsc::Sender<Sent>) -> Over {
        while let Some(packets) = leaving.recv().await {
            let mut rest = packets.as_slice();
            while let Ok(Some(len)) = packet::frame_len(rest, usize::MAX)
                && let Some((frame, after)) = rest.split_at_checked(len)
            {
                rest = after;
                let Ok(Packet::Publish(publish)) = packet::decode(Version::V5, frame) else { continue };
                if let Err(over) = self.send(&publish, &sent).await {
                    return over;
                }
            }
        }
        Over::Local
    }

    async fn send(&self, publish: &Publish<'_>, sent: &mpsc::Sender<Sent>) -> Result<(), Over> {
        let packet_id = publish.packet_id;
        let Some(message) = self.message(publish) else { return self.done(packet_id).await };
        match self.handle.send(&message).await {
            Ok(publishing) if packet_id == 0 => {
                self.source.counters.sent.add(1);
                drop(publishing);
                Ok(())
            }
            Ok(publishing) if self.is_careful => self.answer(packet_id, &message.topic, publishing.await).await,
            Ok(publishing) => {
                let topic = message.topic;
                // Closed only when this is over.
                sent.send(Sent { packet_id, topic, publishing }).await.map_err(|_| Over::Local)
            }
            Err(published) => self.answer(packet_id, &message.topic, published).await,
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
        while let Some(Sent { packet_id, topic, publishing }) = unanswered.recv().await {
            if let Err(over) = self.answer(packet_id, &topic, publishing.await).await {
                return over;
            }
        }
        Over::Local
    }

    async fn answer(&self, packet_id: u16, topic: &str, published: Published) -> Result<(), Over> {
        match published {
            Published::Accepted | Published::NobodySubscribed => {
                self.source.counters.sent.add(1);
                self.done(packet_id).await
            }
            Published::Unfit(unfit) => self.leave_out(packet_id, topic, &unfit.to_string()).await,
            Published::Refused(refusal) if is_for_good(&refusal) => {
                self.leave_out(packet_id, topic, &refusal.to_string()).await
            }
            Published::Refused(refusal) => Err(Over::Refused(format!("a message to {topic}: {refusal}"))),
            // One at a time, so it was this one.
            Published::Unanswered(end) if self.is_careful && is_about_a_message(&end) => {
                self.leave_out(packet_id, topic, &end.to_string()).await?;
                Err(Over::Remote(end))
            }
            Published::Unanswered(end) => Err(Over::Remote(end)),
        }
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
    let is_right_missing = refusal.reason == Reason::NotAuthorised;
    is_right_missing || matches!(refusal.reason, Reason::Topic | Reason::PacketTooLarge | Reason::PayloadFormat)
}

/// Whether the connection has ended because of what was sent.
pub(super) fn is_about_a_message(end: &End) -> bool {
    end.reason().is_some_and(Reason::is_of_a_message)
}
