//! Messages on command topics: each once by its id, none after its time, and those that wait until the clock is set.

use std::collections::VecDeque;

use super::super::Arriving;
use super::waiting::WaitingCommand;
use super::{Ending, Incoming, MESSAGES_A_COMMIT, Message, Source, Stored, UnderWay};
use crate::core::bridge::command::{self, Command, Situation, Verdict};
use crate::core::bridge::kept::{BridgeKey, KeptCommand};
use crate::core::bridge::{CommandSettings, Refusal};
use crate::core::mqtt::keeping::Blob;
use crate::core::reading::TimeQuality;
use crate::handoff::{EntryChange, Input};
use crate::mqtt::publish::Batch;

/// Ids that are forgotten in one commit.
const LET_GO_AT_ONCE: usize = 64;

/// A command has to wait, and there is no room for it.
pub(super) struct NoRoom(pub Message);

impl<T: From<Input> + 'static> Incoming<T> {
    pub(super) fn settings(&self) -> Option<&CommandSettings> {
        self.local.bridge.commands.as_ref()
    }

    /// What a command says that is to wait; if it is none any more by the configuration, it is a message as any other.
    pub(super) fn waiting_command(&self, kept: KeptCommand, deadline_ms: Option<u64>) -> WaitingCommand {
        let settings = self.settings().filter(|settings| settings.concerns(&kept.topic));
        let command = settings.and_then(|settings| settings.read(&kept.payload.0).ok()).unwrap_or_default();
        WaitingCommand { kept, command, deadline_ms }
    }

    pub(super) fn wait(&mut self, number: u64, waiting: WaitingCommand) {
        self.waiting.insert(number, waiting);
        self.local.counters.commands_waiting.set(self.waiting.len() as u64);
    }

    pub(super) fn wait_no_more(&mut self, number: u64) {
        self.waiting.remove(number);
        self.local.counters.commands_waiting.set(self.waiting.len() as u64);
    }

    /// For whoever looks at the bridge. While there is no link, those without room are not here, and yet there is none.
    pub(super) fn note_room(&self) {
        if !self.without_room.is_empty() || self.waiting.has_room(&[], 0) {
            self.local.counters.commands_without_room.set(self.without_room.len() as u64);
        }
    }

    /// The time by which commands are judged; `None` while it is not known.
    fn now_ms(&self) -> Option<i64> {
        let is_known = self.local.bridge.trusts_clock || self.clock.time_quality() == TimeQuality::Synced;
        is_known.then(|| (self.local.edge.now_ms)())
    }

    pub(super) fn message(&self, arrived: Arriving) -> Message {
        let Arriving { topic, payload, qos, retain, expiry_s, passed_on, stored } = arrived;
        let deadline_ms = self.local.edge.deadline_ms(expiry_s);
        Message { topic, payload, qos, retain, deadline_ms, passed_on, source: Source::Arrived(stored) }
    }

    /// Publishes commands that have waited, if the time is known now. Those whose time is over by the other broker's word wait no longer.
    pub async fn release(&mut self) -> Result<(), Ending> {
        loop {
            let (is_known, now_ms) = (self.now_ms().is_some(), self.local.edge.fanout.now_ms());
            let due = self.waiting.due(is_known, now_ms).take(MESSAGES_A_COMMIT);
            let mut due: VecDeque<Message> = due.map(|(number, waiting)| Message::of(number, waiting)).collect();
            if due.is_empty() {
                self.note_room();
                return Ok(());
            }
            if is_known {
                tracing::info!(
                    commands = due.len(),
                    "bridge {}: commands that waited for the clock are judged now",
                    self.local.bridge.name
                );
            }
            if !matches!(self.store(&mut due).await?, Stored::Yes) {
                return Ok(());
            }
        }
    }

    /// What a message on a command topic is. The id of one that is to be published is remembered.
    pub(super) fn judge(&mut self, message: &Message, under_way: &mut UnderWay) -> Verdict {
        let read = self.settings().map(|settings| settings.read(&message.payload));
        if message.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.local.edge.fanout.now_ms()) {
            return Verdict::Refuse(Refusal::Expired);
        }
        let command = match read.unwrap_or_else(|| Ok(Command::default())) {
            Ok(command) => command,
            Err(refusal) => return Verdict::Refuse(refusal),
        };
        let is_known = command.id.as_ref().is_some_and(|id| {
            let waits = |waiting: &WaitingCommand| waiting.command.id.as_ref() == Some(id);
            let is_new = matches!(message.source, Source::Arrived(_));
            self.ids.contains(id)
                || is_new && self.waiting.has_id(id)
                || under_way.begin_to_wait.iter().any(|(_, waiting)| waits(waiting))
        });
        let situation = Situation { now_ms: self.now_ms(), is_known, is_retained: message.retain };
        let verdict = command::judge(&command, situation);
        match (verdict, &command.id) {
            (Verdict::Publish { .. }, Some(id)) => {
                let kept = self.ids.remember(id, self.now_ms(), command.expires_at_ms);
                let key = BridgeKey::Id(id.clone()).to_bytes(&self.local.bridge.name);
                under_way.batch.entries.push(EntryChange { key, value: Some(kept.to_bytes()) });
                under_way.ids.push(id.clone());
            }
            (Verdict::Publish { .. }, None) => self.local.counters.commands_without_id.add(1),
            _ => {}
        }
        verdict
    }

    pub(super) fn note_refused(&self, message: &Message, refusal: Refusal) {
        let at = Refusal::ALL.iter().position(|known| *known == refusal).expect("all of them are there");
        self.local.counters.commands_refused[at].add(1);
        let (bridge, topic) = (&self.local.bridge.name, message.topic.as_str());
        if let Some(more) = self.local.edge.refusals.borrow_mut().permit((self.local.edge.now_ms)()) {
            tracing::warn!(topic, more, "bridge {bridge}: a command is not published: {}", refusal.name());
        }
    }

    pub(super) fn begin_to_wait(&mut self, message: Message, under_way: &mut UnderWay) -> Result<(), NoRoom> {
        // One that came before it and has no room either goes first.
        let has_room = self.waiting.has_room(&under_way.begin_to_wait, message.payload.len() + message.topic.len());
        if !self.without_room.is_empty() || !has_room {
            return self.without_room(message, under_way);
        }
        let Message { topic, payload, qos, passed_on, source, deadline_ms, .. } = message;
        let now_ms = self.local.edge.fanout.now_ms();
        let left_s = |deadline_ms: u64| u32::try_from(deadline_ms.saturating_sub(now_ms) / 1_000).unwrap_or(u32::MAX);
        let expiry_s = deadline_ms.map(left_s);
        let kept = KeptCommand { topic, payload: Blob(payload), qos, passed_on: Blob(passed_on), expiry_s };
        let number = self.waiting.new_number();
        let key = BridgeKey::Command(number).to_bytes(&self.local.bridge.name);
        under_way.batch.entries.push(EntryChange { key, value: Some(kept.to_bytes()) });
        under_way.begin_to_wait.push((number, self.waiting_command(kept, deadline_ms)));
        under_way.sources.push(source);
        Ok(())
    }

    /// The other broker keeps one that it wants an answer for. One of QoS 0 is lost, as such messages may be.
    fn without_room(&self, message: Message, under_way: &mut UnderWay) -> Result<(), NoRoom> {
        if message.qos > 0 {
            return Err(NoRoom(message));
        }
        self.local.counters.received_refused.add(1);
        let (bridge, topic) = (&self.local.bridge.name, message.topic.as_str());
        if let Some(more) = self.local.edge.refusals.borrow_mut().permit((self.local.edge.now_ms)()) {
            tracing::warn!(topic, more, "bridge {bridge}: a command of QoS 0 is lost: too many wait for the clock");
        }
        under_way.sources.push(message.source);
        Ok(())
    }

    /// Ids of no use are deleted with what is stored anyway.
    pub(super) fn let_go_of_ids(&mut self, batch: &mut Batch) {
        let gone = self.ids.let_go(self.now_ms(), LET_GO_AT_ONCE);
        let key = |id: String| BridgeKey::Id(id).to_bytes(&self.local.bridge.name);
        batch.entries.extend(gone.into_iter().map(|id| EntryChange { key: key(id), value: None }));
    }
}

impl Message {
    /// A command that has waited.
    pub(super) fn of(number: u64, waiting: &WaitingCommand) -> Message {
        let KeptCommand { topic, payload, qos, passed_on, .. } = &waiting.kept;
        Message {
            topic: topic.clone(),
            payload: payload.0.clone(),
            qos: *qos,
            retain: false,
            deadline_ms: waiting.deadline_ms,
            passed_on: passed_on.0.clone(),
            source: Source::Waiting(number),
        }
    }
}
