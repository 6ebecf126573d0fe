//! Handles a client's packets, and its publishes once they are committed.

use tokio::time::Instant;

use super::{Connection, UncommittedPublish};
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::publishing::PublishVerdict;
use crate::core::mqtt::session::Close;
use crate::core::mqtt::topic;
use crate::handoff;
use crate::mqtt::codec::{self, Packet};
use crate::mqtt::end::End;
use crate::mqtt::fanout::TooManyFilters;
use crate::mqtt::input::{Arrived, Input, Taken};
use crate::mqtt::lane::{Allowance, Turn};
use crate::mqtt::moderation;
use crate::mqtt::publish::{Batch, Published, Republished};
use crate::mqtt::router::{Envelope, RouterDead};

/// Most filters of one packet that are looked at, unless a client may have more: a packet is handled without interruption.
const FILTERS_A_PACKET: usize = 256;

impl<T: From<handoff::Input> + 'static> Connection<T> {
    /// Handles as many complete packets of the input as time allows, and submits their publishes together. Must not await anything: the
    /// input is in a shared buffer.
    pub(super) fn take(&mut self, input: &mut Input, arrived: Arrived) -> Result<(), End> {
        self.edge.counters.bytes_received.add(arrived.bytes as u64);
        self.last_heard = Instant::now();
        let (kept, result) = input.handle(arrived, |bytes, allowance| self.packets(bytes, allowance));
        result?;
        Ok(kept?)
    }

    pub(super) fn packets(&mut self, bytes: &[u8], allowance: &mut Allowance) -> Taken<Result<(), End>> {
        if let Err(gone) = self.edge.renew_rules() {
            return Taken { used: 0, has_rest: false, result: Err(gone.into()) };
        }
        let now_ms = (self.edge.now_ms)();
        let mut batch = Batch::for_read_of(if allowance.is_nothing() { 0 } else { bytes.len() });
        let mut rest = bytes;
        let mut result = Ok(());
        let mut has_rest = false;
        while result.is_ok() && !rest.is_empty() {
            result = match codec::frame_len(rest, self.edge.settings.packet_bytes_max) {
                Ok(Some(len)) if rest.len() >= len => {
                    if !allowance.permits(len) {
                        has_rest = true;
                        break;
                    }
                    let (frame, after) = rest.split_at(len);
                    rest = after;
                    match codec::decode(frame) {
                        Ok(packet) => self.packet(packet, now_ms, &mut batch),
                        Err(error) => Err(End::Undecodable(error)),
                    }
                }
                Ok(_) => break,
                Err(error) => Err(End::Undecodable(error)),
            };
        }
        let submitted = self.submit(batch);
        Taken { used: bytes.len() - rest.len(), has_rest, result: submitted.and(result) }
    }

    pub(super) fn packet(&mut self, packet: Packet<'_>, now_ms: i64, batch: &mut Batch) -> Result<(), End> {
        match packet {
            Packet::Publish { topic, qos, retain, packet_id, payload } => {
                let verdict = self.inbound.publish(topic, qos, packet_id).map_err(End::Broken)?;
                batch.publishes += 1;
                batch.answers += u64::from(qos > 0);
                self.publish(verdict, (topic, payload), (qos, retain), now_ms, batch)
            }
            Packet::PubAck { packet_id } => self.attached.subscriber.acknowledge(packet_id).map_err(End::Broken),
            Packet::Subscribe { packet_id, filters } => {
                self.subscribe(packet_id, &filters);
                Ok(())
            }
            Packet::Unsubscribe { packet_id, filters } => {
                for filter in &filters {
                    self.edge.fanout.unsubscribe(&self.attached.subscriber, filter);
                }
                codec::encode_unsuback(packet_id, &mut self.output);
                Ok(())
            }
            Packet::PingReq => {
                self.output.extend_from_slice(&codec::PINGRESP);
                Ok(())
            }
            Packet::Disconnect => Err(End::Disconnected),
            Packet::Connect(_) => Err(End::Broken(Close::SecondConnect)),
        }
    }

    pub(super) fn publish(
        &mut self,
        verdict: PublishVerdict,
        (topic, payload): (&str, &[u8]),
        (qos, retain): (u8, bool),
        now_ms: i64,
        batch: &mut Batch,
    ) -> Result<(), End> {
        let counters = &self.edge.counters;
        (if qos == 0 { &counters.publishes_qos_0 } else { &counters.publishes_qos_1 }).add(1);
        let is_taken = match verdict {
            PublishVerdict::Take => {
                let client_id = Some(self.client_id.as_str());
                self.edge.decode(&Published { topic, payload, qos, client_id, received_at_ms: now_ms }, batch)
            }
            PublishVerdict::AcknowledgeAlert => self.edge.acknowledge_alert(topic, payload, &self.client_id)?,
            PublishVerdict::Refuse => {
                self.edge.warn_of_topic(&self.client_id, topic);
                false
            }
        };
        if verdict != PublishVerdict::Take {
            // The pipeline informs subscribers of an acknowledgement if it knows the alert.
            counters.publishes_refused.add(u64::from(!is_taken));
            return Ok(());
        }
        let has_receivers = is_taken && self.edge.fanout.may_reach(topic);
        if has_receivers {
            batch.urgency = Urgency::Urgent;
        }
        // Publishes without receivers need not be kept until the commit.
        if has_receivers || is_taken && retain {
            let envelope = Envelope::new(topic, payload, qos);
            batch.held_bytes += topic.len() + payload.len();
            self.held.push_back(UncommittedPublish { ordinal: self.inbound.last_ordinal(), envelope, retain });
        }
        self.hold_republished(batch);
        Ok(())
    }

    /// What rules have made of a publish is passed on right behind it.
    fn hold_republished(&mut self, batch: &mut Batch) {
        for Republished { envelope, retain, may_have_receivers } in batch.republished.drain(..) {
            if may_have_receivers || retain {
                batch.urgency = Urgency::Urgent;
                batch.held_bytes += envelope.len();
                self.held.push_back(UncommittedPublish { ordinal: self.inbound.last_ordinal(), envelope, retain });
            }
        }
    }

    pub(super) fn subscribe(&mut self, packet_id: u16, filters: &[(String, u8)]) {
        let mut granted = Vec::with_capacity(filters.len());
        let filters_max = FILTERS_A_PACKET.max(self.edge.settings.filters_a_client_max);
        for (at, (filter, qos)) in filters.iter().enumerate() {
            // QoS 2 is not supported: the SUBACK tells the client which QoS it gets.
            let qos = (*qos).min(1);
            let refusal = match topic::check_filter(filter) {
                Err(error) => Some(error.reason()),
                Ok(()) if at >= filters_max => Some("is one too many"),
                Ok(()) => match self.edge.fanout.subscribe(&self.attached.subscriber, filter, qos) {
                    Ok(()) => None,
                    Err(TooManyFilters) => {
                        self.edge.fanout.note_short();
                        Some("is one too many")
                    }
                },
            };
            if let Some(reason) = refusal {
                self.edge.counters.filters_refused.add(1);
                tracing::debug!(client_id = self.client_id, filter, "filter refused: it {reason}");
            }
            granted.push(if refusal.is_some() { 0x80 } else { qos });
        }
        codec::encode_suback(packet_id, &granted, &mut self.output);
    }

    pub(super) fn submit(&mut self, mut batch: Batch) -> Result<(), End> {
        if batch.publishes == 0 {
            return Ok(());
        }
        let now = self.last_heard.saturating_duration_since(self.connected);
        batch.urgency = batch.urgency.max(self.pace.published(now, batch.answers > 0));
        self.answers.read(self.inbound.last_ordinal(), self.last_heard, batch.answers);
        moderation::note(batch.publishes);
        Ok(self.edge.pipeline.submit(batch.submission(&self.progress, self.inbound.last_ordinal()))?)
    }

    /// After commits, passes on as many publishes as time allows to their receivers, and acknowledges the committed ones in order. An
    /// acknowledgement means that a publish is stored; it does not wait for subscribers.
    pub(super) fn settle(&mut self, turn: &mut Turn) -> Result<(), End> {
        while let Some(refused) = self.progress.take_refused() {
            self.held.retain(|held| !refused.contains(&held.ordinal));
            self.answers.refused(&refused);
            self.inbound.refused(refused);
        }
        self.inbound.excuse(self.progress.excused());
        let was_full = !self.may_read();
        let committed = self.progress.committed();
        self.pass_on(committed, turn)?;
        if self.inbound.is_waiting() {
            let unwritten = self.output.len();
            self.inbound.committed(committed, &mut self.output);
            if self.output.len() > unwritten {
                let now = Instant::now();
                self.pace.answered(now.saturating_duration_since(self.connected), self.inbound.is_waiting());
                self.answers.answered(committed, now, &self.edge.counters.puback);
            }
            if was_full {
                // The socket was not being read, so silence proves nothing about the client.
                self.last_heard = Instant::now();
            }
        }
        if self.progress.is_failed() { Err(End::Refused) } else { Ok(()) }
    }

    pub(super) fn pass_on(&mut self, committed: u64, turn: &mut Turn) -> Result<(), RouterDead> {
        if self.passing_on.is_some() || self.held.front().is_none_or(|held| held.ordinal > committed) {
            return Ok(());
        }
        let mut allowance = turn.allowance();
        while self.passing_on.is_none()
            && let Some(held) =
                self.held.pop_front_if(|held| held.ordinal <= committed && allowance.permits(held.envelope.len()))
        {
            self.passing_on = self.edge.fanout.pass_on(held.envelope, held.retain)?;
        }
        turn.note(&allowance, self.passing_on.is_some() || !self.has_to_pass_on());
        Ok(())
    }
}
