//! Handles a client's packets, and its publishes once they are committed.

use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, UncommittedPublish};
use crate::core::mqtt::inbound::Judged;
use crate::core::mqtt::keeping::Key;
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::packet::{self, Ack, Packet, Publish, RetainHandling, Subscribe, Subscription, Version, reason};
use crate::core::mqtt::publishing::PublishVerdict;
use crate::core::mqtt::session::Close;
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic;
use crate::handoff::{self, EntryChange};
use crate::mqtt::end::End;
use crate::mqtt::fanout::Prepared;
use crate::mqtt::fanout::TooManyFilters;
use crate::mqtt::input::{Arrived, Input, Taken};
use crate::mqtt::keeper::Known;
use crate::mqtt::lane::{Allowance, Turn};
use crate::mqtt::moderation;
use crate::mqtt::publish::{Batch, Published, Republished};
use crate::mqtt::router::{Draft, RouterDead};

/// Most filters of one packet that are looked at, unless a client may have more: a packet is handled without interruption.
const FILTERS_A_PACKET: usize = 256;

impl<T: From<handoff::Input> + 'static> Connection<T> {
    /// Handles as many complete packets of the input as time allows, and submits their publishes together. Must not await anything: the
    /// input is in a shared buffer.
    pub(super) fn take(&mut self, input: &mut Input, arrived: Arrived) -> Result<(), End> {
        self.edge.counters.bytes_received.add(arrived.bytes as u64);
        self.last_heard = Instant::now();
        let (bytes, before) = (arrived.bytes as u64, self.inbound.last_ordinal());
        let (kept, result) = input.handle(arrived, |bytes, allowance| self.packets(bytes, allowance));
        let messages = self.inbound.last_ordinal() - before;
        self.edge.counters.clients_slowed.add(u64::from(self.quota.charge(messages, bytes)));
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
            result = match packet::frame_len(rest, self.client_limits().packet_bytes_max) {
                Ok(Some(len)) if rest.len() >= len => {
                    if !allowance.permits(len) {
                        has_rest = true;
                        break;
                    }
                    let (frame, after) = rest.split_at(len);
                    rest = after;
                    match packet::decode(self.limits.version, frame) {
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

    fn packet(&mut self, packet: Packet<'_>, now_ms: i64, batch: &mut Batch) -> Result<(), End> {
        let subscriber = &self.attached.subscriber;
        match packet {
            Packet::Publish(publish) => return self.publish(&publish, now_ms, batch),
            Packet::PubAck(Ack { packet_id, .. }) => return Ok(subscriber.acknowledged(packet_id)?),
            Packet::PubRec(Ack { packet_id, reason }) => {
                return Ok(subscriber.received(packet_id, reason, &mut self.output.bytes)?);
            }
            Packet::PubComp(Ack { packet_id, .. }) => return Ok(subscriber.completed(packet_id)?),
            Packet::PubRel(Ack { packet_id, .. }) => self.release(packet_id),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe { packet_id, filters } => {
                let code = |filter: &&str| match self.edge.fanout.unsubscribe(subscriber, filter) {
                    true => {
                        let key = |session| Key::Filter(session, (*filter).to_owned());
                        subscriber.session().into_iter().for_each(|session| self.edge.keeper.delete(&key(session)));
                        reason::SUCCESS
                    }
                    false => reason::NO_SUBSCRIPTION,
                };
                let codes: Vec<u8> = filters.iter().map(code).collect();
                let mut answer = Vec::new();
                packet::unsuback(self.limits.version, packet_id, &codes, &mut answer);
                self.answer_once_stored(answer);
            }
            Packet::PingReq => self.output.bytes.extend_from_slice(&packet::PINGRESP),
            Packet::Disconnect { reason, session_expiry_s } => return Err(self.disconnect(reason, session_expiry_s)),
            Packet::Connect(_) => return Err(End::Broken(Close::SecondConnect)),
            Packet::Auth => return Err(End::Broken(Close::NoAuthentication)),
        }
        Ok(())
    }

    fn disconnect(&mut self, reason: u8, session_expiry_s: Option<u32>) -> End {
        if let Some(seconds) = session_expiry_s {
            if self.session_expiry.is_zero() && seconds > 0 {
                return End::Broken(Close::SessionExpiry);
            }
            self.session_expiry = self.client_limits().session_expiry_max.min(Duration::from_secs(seconds.into()));
        }
        if reason == reason::SUCCESS { End::Disconnected } else { End::LeftWithWill }
    }

    fn publish(&mut self, publish: &Publish<'_>, now_ms: i64, batch: &mut Batch) -> Result<(), End> {
        let subscriber = &self.attached.subscriber;
        let (permissions, mut unreleased) = (subscriber.permissions(), subscriber.unreleased.borrow_mut());
        let judged = self.inbound.publish(publish, &permissions, &mut unreleased, &mut self.output.bytes);
        let judged = judged.map_err(End::Broken)?;
        drop((permissions, unreleased));
        let counters = &self.edge.counters;
        let of_qos = [&counters.publishes_qos_0, &counters.publishes_qos_1, &counters.publishes_qos_2];
        of_qos.get(usize::from(publish.qos)).into_iter().for_each(|counter| counter.add(1));
        let Judged::New { verdict, topic } = judged else { return Ok(()) };
        let topic = topic.as_deref().unwrap_or(publish.topic);
        let &Publish { payload, qos, retain, .. } = publish;
        batch.publishes += 1;
        batch.answers += u64::from(qos > 0);
        self.store_unreleased(publish, &verdict, batch);
        let readings_before = batch.readings.len();
        let is_taken = match verdict {
            PublishVerdict::Take => {
                let (client_id, properties) = (Some(self.client_id.as_str()), publish.passed_on);
                let published = Published { topic, payload, qos, client_id, properties, received_at_ms: now_ms };
                self.edge.decode(&published, batch)
            }
            PublishVerdict::AcknowledgeAlert => self.edge.acknowledge_alert(topic, payload, &self.client_id)?,
            PublishVerdict::Refuse => {
                self.edge.warn_of_topic(&self.client_id, topic);
                false
            }
            PublishVerdict::Deny(_) => {
                self.edge.note_denied(&self.client, topic);
                return Ok(());
            }
        };
        if verdict != PublishVerdict::Take {
            // The pipeline informs subscribers of an acknowledgement if it knows the alert.
            counters.publishes_refused.add(u64::from(!is_taken));
            return Ok(());
        }
        let has_receivers = is_taken && self.edge.fanout.may_reach(topic);
        let is_state = is_taken && retain && batch.readings.len() == readings_before;
        if has_receivers || is_state && self.edge.is_state_urgent() {
            batch.urgency = Urgency::Urgent;
        }
        // Publishes without receivers need not be kept until the commit.
        if has_receivers || is_taken && retain {
            let draft = Draft {
                topic,
                payload,
                qos,
                retain,
                publisher: self.attached.subscriber.number,
                deadline_ms: self.edge.deadline_ms(publish.expiry_s),
                number: None,
                retained_max: self.client_limits().retained_max,
                passed_on: publish.passed_on,
            };
            let prepared = self.edge.fanout.prepare(draft, &mut batch.entries);
            self.hold(prepared, batch);
        }
        self.hold_republished(batch);
        Ok(())
    }

    /// What rules have made of a publish is passed on right behind it.
    fn hold_republished(&mut self, batch: &mut Batch) {
        for Republished { prepared, may_have_receivers } in std::mem::take(&mut batch.republished) {
            if may_have_receivers || prepared.envelope.retain() {
                batch.urgency = Urgency::Urgent;
                self.hold(prepared, batch);
            }
        }
    }

    fn hold(&mut self, prepared: Prepared, batch: &mut Batch) {
        batch.held_bytes += prepared.envelope.len();
        self.held.push_back(UncommittedPublish { ordinal: self.inbound.last_ordinal(), prepared });
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) {
        let filters_max = FILTERS_A_PACKET.max(self.client_limits().filters_max);
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for (at, subscription) in subscribe.filters.iter().enumerate() {
            let &Subscription { filter, qos, no_local, retain_as_published, retained } = subscription;
            let identifier = subscribe.identifier.unwrap_or(0);
            let wants = Wants {
                qos,
                no_local: no_local || self.is_bridge,
                retain_as_published: retain_as_published || self.is_bridge,
                identifier,
            };
            let refusal = match topic::check_filter(filter) {
                Err(error) => Some((reason::BAD_FILTER, error.reason())),
                Ok(()) if at >= filters_max => Some((reason::QUOTA, "is one too many")),
                Ok(()) => self.grant(filter, wants, retained).err(),
            };
            if let Some((_, why)) = refusal {
                self.edge.counters.filters_refused.add(1);
                tracing::debug!(client_id = self.client_id, filter, "filter refused: it {why}");
            }
            codes.push(refusal.map_or(qos, |(code, _)| code));
        }
        let mut answer = Vec::new();
        packet::suback(self.limits.version, subscribe.packet_id, &codes, &mut answer);
        self.answer_once_stored(answer);
    }

    /// A client with a session that is stored is answered once what it asked for is stored, too.
    fn answer_once_stored(&mut self, answer: Vec<u8>) {
        if self.attached.subscriber.session().is_none() {
            return self.output.bytes.extend_from_slice(&answer);
        }
        self.answered_later.push_back((self.edge.keeper.ticket(), answer));
    }

    /// The id of a message of QoS 2 is stored in its commit, unless a refusal frees it.
    fn store_unreleased(&self, publish: &Publish<'_>, verdict: &PublishVerdict, batch: &mut Batch) {
        let Some(session) = self.attached.subscriber.session().filter(|_| publish.qos == 2) else { return };
        let is_taken = matches!(verdict, PublishVerdict::Take | PublishVerdict::AcknowledgeAlert);
        if !is_taken && self.limits.version == Version::V5 {
            return;
        }
        if self.edge.keeper.take_id() {
            let key = Key::Unreleased(session, publish.packet_id);
            self.edge.keeper.supersede(&key);
            batch.entries.push(EntryChange { key: key.to_bytes(), value: Some(Vec::new()) });
        } else {
            self.edge.counters.messages_unstored.add(1);
        }
    }

    /// The client releases the id of a message of QoS 2. What is stored is deleted first: otherwise the next message with this id would be
    /// taken for this one after a restart.
    fn release(&mut self, packet_id: u16) {
        let subscriber = &self.attached.subscriber;
        let mut answer = Vec::new();
        let was_known = self.inbound.release(packet_id, &mut subscriber.unreleased.borrow_mut(), &mut answer);
        match subscriber.session().filter(|_| was_known) {
            Some(session) => {
                self.edge.keeper.delete(&Key::Unreleased(session, packet_id));
                self.answer_once_stored(answer);
            }
            None => self.output.bytes.extend_from_slice(&answer),
        }
    }

    /// The error is a reason code, and why.
    fn grant(&self, filter: &str, wants: Wants, retained: RetainHandling) -> Result<(), (u8, &'static str)> {
        let subscriber = &self.attached.subscriber;
        if let Err(code) = subscriber.permissions().subscribe(filter) {
            self.edge.note_denied_filter(&self.client, filter);
            return Err((code.reason(), "is for topics that the client has no right to"));
        }
        let granted = self.edge.fanout.subscribe(subscriber, filter, wants, retained);
        let is_new = granted.map_err(|TooManyFilters| {
            self.edge.fanout.note_short();
            (reason::QUOTA, "is one too many")
        })?;
        self.edge.fanout.store_filter(subscriber, filter, if is_new { Known::No } else { Known::Maybe });
        Ok(())
    }

    pub(super) fn submit(&mut self, mut batch: Batch) -> Result<(), End> {
        if batch.publishes == 0 {
            return Ok(());
        }
        let now = self.last_heard.saturating_duration_since(self.connected);
        batch.urgency = batch.urgency.max(self.pace.published(now, batch.answers > 0));
        self.answers.read(self.inbound.last_ordinal(), self.last_heard, batch.answers);
        moderation::note(batch.publishes);
        batch.entries.extend(self.edge.keeper.take_ended_sessions());
        Ok(self.edge.pipeline.submit(batch.submission(&self.progress, self.inbound.last_ordinal()))?)
    }

    /// After commits, passes on as many publishes as time allows to their receivers, and acknowledges the committed ones in order. An
    /// acknowledgement means that a publish is stored; it does not wait for subscribers.
    pub(super) fn settle(&mut self, turn: &mut Turn) -> Result<(), End> {
        while let Some(refused) = self.progress.take_refused() {
            let excused = self.progress.excused();
            self.held.retain(|held| {
                let is_refused = refused.contains(&held.ordinal);
                if is_refused && held.ordinal <= excused {
                    // The disk does not answer, and may still take it.
                    held.prepared.mark_perhaps_stored();
                }
                !is_refused
            });
            self.answers.refused(&refused);
            self.inbound.refused(refused, &mut self.attached.subscriber.unreleased.borrow_mut());
        }
        self.inbound.excuse(self.progress.excused());
        while let Some((_, answer)) =
            self.answered_later.pop_front_if(|(ticket, _)| self.edge.keeper.is_settled(*ticket))
        {
            self.output.bytes.extend_from_slice(&answer);
        }
        if !self.answered_later.is_empty() {
            self.edge.keeper.tell(&self.attached.subscriber.changed);
        }
        let was_full = !self.may_read();
        let committed = self.progress.committed();
        self.pass_on(committed, turn)?;
        if self.inbound.is_waiting() {
            let unwritten = self.output.bytes.len();
            let mut unreleased = self.attached.subscriber.unreleased.borrow_mut();
            self.inbound.committed(committed, &mut unreleased, &mut self.output.bytes);
            drop(unreleased);
            if self.output.bytes.len() > unwritten {
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
            && let Some(held) = self
                .held
                .pop_front_if(|held| held.ordinal <= committed && allowance.permits(held.prepared.envelope.len()))
        {
            self.passing_on = self.edge.fanout.pass_on(held.prepared)?;
        }
        turn.note(&allowance, self.passing_on.is_some() || !self.has_to_pass_on());
        Ok(())
    }
}
