//! From our broker to the other one, over one connection.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::BridgeSettings;
use super::on_its_way::{Alone, Asked, LeftOut, OnItsWay, Sent};
use super::over::Over;
use super::status::BridgeSource;
use crate::clock;
use crate::core::bridge::refused::{Fate, RefusedMessages};
use crate::core::mqtt::client::blame::{Blame, Sentence};
use crate::core::mqtt::client::{End, Message, Reason, Refusal, Takes};
use crate::core::mqtt::packet::{self, Packet, Publish, Version};
use crate::mqtt::Throttle;
use crate::uplink::{Handle, Published};

/// Messages whose answers are waited for; the window is smaller.
const UNANSWERED_MAX: usize = 128;
/// A missing right is for a person to give. Until then what waits goes on waiting, and is tried again after this.
const HOLD: Duration = Duration::from_secs(60);
/// Suspects that are tried behind what follows them, and how long it is waited for that.
const ASIDE_MAX: usize = 16;
const ASIDE_FOR: Duration = Duration::from_secs(30);

/// What the sending half remembers from one connection to the next.
#[derive(Debug)]
pub(super) struct Judgement {
    /// At which message the other broker takes offence; while it is careful, one goes at a time.
    pub blame: RefCell<Blame>,
    /// Those that it has refused, and may take later.
    refused: RefCell<RefusedMessages>,
    /// The zero of its times.
    began: Instant,
    /// Of what is left out, and of what is refused.
    told: RefCell<[Throttle; 2]>,
}

impl Default for Judgement {
    fn default() -> Judgement {
        Judgement {
            blame: RefCell::default(),
            refused: RefCell::default(),
            began: Instant::now(),
            told: RefCell::default(),
        }
    }
}

/// The sending half of a link.
pub(super) struct Sending<'a> {
    pub settings: &'a BridgeSettings,
    pub source: &'a BridgeSource,
    pub handle: Handle,
    pub takes: Takes,
    pub judgement: &'a Judgement,
    /// Where our broker is told what is done with.
    pub acknowledged: mpsc::Sender<u16>,
    pub on_its_way: OnItsWay,
}

impl Sending<'_> {
    /// Sends what leaves our broker, until the link is over.
    pub async fn run(&self, leaving: &mut mpsc::Receiver<Vec<u8>>) -> Over {
        let (sent, mut unanswered) = mpsc::channel(UNANSWERED_MAX);
        tokio::select! {
            over = self.send_all(leaving, sent.clone()) => over.err().unwrap_or(Over::Local),
            over = self.try_refused(&sent) => over,
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
                        let _turn = self.on_its_way.turn.lock().await;
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
        let message = match self.message(publish) {
            Ok(message) => message,
            Err(why) => return self.pass_over(packet_id, publish.topic, why).await,
        };
        let asked = self.on_its_way.ask(packet_id, &message);
        if asked.digest.is_some_and(|digest| self.is_early(digest)) && asked.kept.is_some() {
            self.on_its_way.put_back(asked);
            return Ok(());
        }
        let _turn = self.on_its_way.turn.lock().await;
        self.wait_for_pause().await;
        let (is_careful, is_suspect) = {
            let blame = self.judgement.blame.borrow();
            (blame.is_careful(), asked.digest.is_some_and(|digest| blame.suspects(digest)))
        };
        if is_careful && is_suspect && self.on_its_way.aside.borrow().len() < ASIDE_MAX {
            self.on_its_way.aside.borrow_mut().push_back((asked, message));
            return Ok(());
        }
        if is_careful && asked.digest.is_some() {
            self.send_in_its_way(asked, &message, sent).await?;
            return self.try_suspect(sent).await;
        }
        while !is_careful && !self.on_its_way.aside.borrow().is_empty() {
            self.try_suspect(sent).await?;
        }
        self.send_in_its_way(asked, &message, sent).await
    }

    /// Together with others, unless that may do harm.
    async fn send_in_its_way(&self, asked: Asked, message: &Message, sent: &mpsc::Sender<Sent>) -> Result<(), Over> {
        let is_answered = asked.digest.is_some();
        let is_careful = self.judgement.blame.borrow().is_careful();
        let is_of_all = self.judgement.refused.borrow().is_of_all();
        match is_answered {
            true if is_careful => self.send_alone(asked, message).await,
            // What was sent before may be on its way, too.
            true if is_of_all => {
                let published = self.handle.publish(message).await;
                self.answer(asked, published).await
            }
            _ => self.send_together(asked, message, sent).await,
        }
    }

    async fn send_together(&self, asked: Asked, message: &Message, sent: &mpsc::Sender<Sent>) -> Result<(), Over> {
        match self.handle.send(message).await {
            Ok(publishing) => {
                if asked.digest.is_none() {
                    self.on_its_way.is_unheard.set(true);
                }
                if asked.packet_id == 0 {
                    self.source.counters.sent.add(1);
                    return Ok(());
                }
                // Closed only when this is over.
                sent.send(Sent { asked, publishing }).await.map_err(|_| Over::Local)
            }
            Err(published) => self.answer(asked, published).await,
        }
    }

    async fn send_alone(&self, asked: Asked, message: &Message) -> Result<(), Over> {
        let Asked { packet_id, topic, digest, .. } = &asked;
        self.on_its_way.alone.replace(digest.map(|digest| Alone {
            packet_id: *packet_id,
            topic: topic.clone(),
            digest,
        }));
        let published = self.handle.publish(message).await;
        if !matches!(published, Published::Unanswered(_)) {
            self.on_its_way.alone.replace(None);
        }
        self.answer(asked, published).await
    }

    /// One of those that were put aside.
    async fn try_suspect(&self, sent: &mpsc::Sender<Sent>) -> Result<(), Over> {
        let suspect = self.on_its_way.aside.borrow_mut().pop_front();
        let Some((asked, message)) = suspect else { return Ok(()) };
        self.send_in_its_way(asked, &message, sent).await
    }

    /// Those that were refused, each again when it is due.
    async fn try_refused(&self, sent: &mpsc::Sender<Sent>) -> Over {
        loop {
            let more = self.on_its_way.refused_more.notified();
            let Some((at, due_ms)) = self.first_due() else {
                more.await;
                continue;
            };
            let early_ms = due_ms.saturating_sub(self.now_ms());
            if early_ms > 0 {
                // Another one may be due before it.
                let _ = timeout(Duration::from_millis(early_ms), more).await;
                continue;
            }
            let asked = self.on_its_way.refused.borrow_mut().remove(at);
            let Some(asked) = asked else { continue };
            let Some(kept) = &asked.kept else { continue };
            let _turn = self.on_its_way.turn.lock().await;
            self.wait_for_pause().await;
            let tried = match kept.message() {
                Ok(message) => self.send_in_its_way(asked, &message, sent).await,
                Err(why) => self.pass_over(asked.packet_id, &asked.topic, why).await,
            };
            if let Err(over) = tried {
                return over;
            }
        }
    }

    /// Which of the refused ones is due first, and when.
    fn first_due(&self) -> Option<(usize, u64)> {
        let (refused, known) = (self.on_its_way.refused.borrow(), self.judgement.refused.borrow());
        let due_ms = |asked: &Asked| asked.digest.and_then(|digest| known.due_ms(digest)).unwrap_or(0);
        let all = refused.iter().enumerate().map(|(at, asked)| (at, due_ms(asked).max(known.paused_until_ms())));
        all.min_by_key(|(_, due_ms)| *due_ms)
    }

    /// Whether a message was refused, and is not to be tried yet.
    fn is_early(&self, digest: u64) -> bool {
        self.judgement.refused.borrow().due_ms(digest).is_some_and(|due_ms| due_ms > self.now_ms())
    }

    /// Until the other broker may take something again.
    async fn wait_for_pause(&self) {
        loop {
            let left_ms = self.judgement.refused.borrow().paused_until_ms().saturating_sub(self.now_ms());
            if left_ms == 0 {
                return;
            }
            sleep(Duration::from_millis(left_ms)).await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.judgement.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The connection has ended. If a message was alone on its way, it is judged.
    pub async fn judge(&self, end: &End) {
        let alone = self.on_its_way.alone.take().filter(|_| !self.on_its_way.is_unheard.get());
        let Some(Alone { packet_id, topic, digest }) = alone else { return };
        let sentence = self.judgement.blame.borrow_mut().ended_at(end, digest);
        if sentence == Sentence::GiveUp {
            // If our broker has ended the link by now, it comes again, and is found again.
            let _ = self.leave_out(packet_id, &topic, &end.to_string()).await;
        }
    }

    /// As it is called on the other side.
    fn message(&self, publish: &Publish<'_>) -> Result<Message, LeftOut> {
        let (topic, qos) = self.settings.plan.to_remote(publish.topic)?;
        if publish.expiry_s == Some(0) {
            return Err(LeftOut::Expired);
        }
        Ok(Message {
            topic,
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos.min(qos).min(self.takes.qos_max),
            retain: publish.retain && self.takes.retain,
            expiry_s: publish.expiry_s,
            properties: publish.passed_on.each().flatten().copied().collect(),
        })
    }

    async fn await_answers(&self, unanswered: &mut mpsc::Receiver<Sent>) -> Over {
        while let Some(Sent { asked, publishing }) = unanswered.recv().await {
            if let Err(over) = self.answer(asked, publishing.await).await {
                return over;
            }
        }
        Over::Local
    }

    async fn answer(&self, asked: Asked, published: Published) -> Result<(), Over> {
        let Asked { packet_id, topic, digest, .. } = &asked;
        match published {
            Published::Accepted | Published::NobodySubscribed => {
                if let Some(digest) = *digest {
                    self.accepted(digest);
                }
                self.source.counters.sent.add(1);
                self.done(*packet_id).await
            }
            Published::Unfit(unfit) => self.leave_out(*packet_id, topic, &unfit.to_string()).await,
            Published::Refused(refusal) if is_for_good(&refusal) => {
                self.leave_out(*packet_id, topic, &refusal.to_string()).await
            }
            Published::Refused(refusal) if refusal.reason == Reason::NotAuthorised => {
                let text = format!("a message to {topic}: {refusal}");
                self.hold(&text).await;
                Err(Over::Refused(text))
            }
            Published::Refused(refusal) => self.refused(asked, &refusal).await,
            Published::Unanswered(end) => Err(Over::Remote(end)),
        }
    }

    fn accepted(&self, digest: u64) {
        self.judgement.blame.borrow_mut().accepted(digest);
        self.on_its_way.is_unheard.set(false);
        let mut refused = self.judgement.refused.borrow_mut();
        if refused.is_of_all() {
            self.source.change(|state| state.is_held = false);
        }
        refused.accepted(digest);
    }

    /// The other broker may take it later, or never: others go first meanwhile.
    async fn refused(&self, asked: Asked, refusal: &Refusal) -> Result<(), Over> {
        let text = format!("a message to {}: {refusal}", asked.topic);
        let Some(digest) = asked.digest else { return Err(Over::Refused(text)) };
        let fate = self.judgement.refused.borrow_mut().refused(digest, refusal.reason, self.now_ms());
        if fate == Fate::GiveUp {
            let why = format!("{refusal}; so it was again and again, and others were taken");
            return self.leave_out(asked.packet_id, &asked.topic, &why).await;
        }
        let is_of_all = self.judgement.refused.borrow().is_of_all();
        self.source.change(|state| {
            state.is_held |= is_of_all;
            state.last_error = Some(if is_of_all { format!("nothing is taken: {text}") } else { text.clone() });
        });
        if let Some(more) = self.judgement.told.borrow_mut()[1].permit(clock::now_ms()) {
            tracing::warn!(more, "bridge {}: refused, and tried again later: {text}", self.settings.name());
        }
        if asked.kept.is_none() {
            // It comes again from our broker.
            return Err(Over::Refused(text));
        }
        self.on_its_way.put_back(asked);
        Ok(())
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

    /// It is not for the other side, or of no use there any more.
    async fn pass_over(&self, packet_id: u16, topic: &str, why: LeftOut) -> Result<(), Over> {
        self.source.counters.sent_refused.add(1);
        if let Some(more) = self.judgement.told.borrow_mut()[0].permit(clock::now_ms()) {
            tracing::warn!(topic, more, "bridge {}: a message does not go out: {why}", self.settings.name());
        }
        self.done(packet_id).await
    }

    /// The other broker never takes it. It must not come again, or nothing behind it would ever pass.
    async fn leave_out(&self, packet_id: u16, topic: &str, why: &str) -> Result<(), Over> {
        self.source.counters.sent_refused.add(1);
        if let Some(more) = self.judgement.told.borrow_mut()[0].permit(clock::now_ms()) {
            tracing::error!(
                topic,
                more,
                "bridge {}: a message is left out, because the other broker does not take it: {why}",
                self.settings.name()
            );
        }
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
