//! From the other broker to ours: a message is decoded, shown to rules and stored like a client's publish, and answered when it is committed.
//!
//! A command is published once by its id, which is stored in its own commit. One that expires at a time waits in the store, acknowledged,
//! while nobody knows what time it is; so it holds up nothing else. When there is no more room for such ones, nothing more is taken until
//! the clock is set: the rest stays with the other broker.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::{Arriving, LOOK_EVERY, Local};
use crate::core::bridge::command::{self, Command, Situation, Verdict};
use crate::core::bridge::ids::Ids;
use crate::core::bridge::kept::{BridgeKey, KeptCommand, KeptId};
use crate::core::bridge::{CommandSettings, Refusal};
use crate::core::mqtt::keeping::Blob;
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::packet::PassedOn;
use crate::core::mqtt::topic;
use crate::core::reading::TimeQuality;
use crate::handoff::{Entry, EntryChange, Input, PipelineGone, SessionProgress};
use crate::ingest::ClockState;
use crate::mqtt::Phase;
use crate::mqtt::fanout::Prepared;
use crate::mqtt::publish::{Batch, Published, Republished};
use crate::mqtt::router::{Draft, RouterDead};

/// What is stored in one commit: messages, and their bytes unless one alone has more.
const MESSAGES_A_COMMIT: usize = 64;
const BYTES_A_COMMIT: usize = 256 * 1024;
/// Commands that may wait until the clock is set, and their bytes.
const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Ids that are forgotten in one commit.
const LET_GO_AT_ONCE: usize = 64;
/// How often it is looked what became of a commit, although nothing was said.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The process is ending.
#[derive(Debug)]
pub(super) struct Ending;

impl From<PipelineGone> for Ending {
    fn from(_: PipelineGone) -> Ending {
        Ending
    }
}

impl From<RouterDead> for Ending {
    fn from(_: RouterDead) -> Ending {
        Ending
    }
}

/// The publishing half of a bridge. It outlives links.
pub(super) struct Incoming<T: From<Input>> {
    local: Rc<Local<T>>,
    clock: ClockState,
    ids: Ids,
    /// Commands that wait until the clock is set, in the order in which they came.
    waiting: BTreeMap<u64, WaitingCommand>,
    waiting_bytes: usize,
    last_waiting: u64,
    progress: Arc<SessionProgress>,
    ordinal: u64,
}

struct WaitingCommand {
    kept: KeptCommand,
    command: Command,
    /// See [`Message`]. After a restart the time in which the gateway was off is not known, and not counted.
    deadline_ms: Option<u64>,
}

/// A message that is to be published: one that came just now, or a command that has waited.
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    /// When it is of no use any more, by the clock of the fan-out.
    deadline_ms: Option<u64>,
    passed_on: Vec<u8>,
    source: Source,
}

enum Source {
    Arrived(oneshot::Sender<()>),
    /// The command of this number.
    Waiting(u64),
}

/// What becomes of the messages of one commit when it is done.
#[derive(Default)]
struct UnderWay {
    batch: Batch,
    prepared: Vec<Prepared>,
    /// Ids of commands that are published by it.
    ids: Vec<String>,
    /// Commands that wait from here on.
    begin_to_wait: Vec<(u64, WaitingCommand)>,
    sources: Vec<Source>,
    received: u64,
}

/// A command has to wait, and there is no room for it.
struct NoRoom(Message);

impl<T: From<Input> + 'static> Incoming<T> {
    /// With what was stored before the start.
    pub fn new(local: &Rc<Local<T>>, entries: &[Entry], clock: ClockState) -> Incoming<T> {
        let mut incoming = Incoming {
            local: Rc::clone(local),
            clock,
            ids: Ids::default(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            last_waiting: 0,
            progress: Arc::default(),
            ordinal: 0,
        };
        for Entry { key, value } in entries {
            match BridgeKey::from_bytes(key) {
                Some((name, BridgeKey::Id(id))) if name == local.bridge.name => {
                    KeptId::from_bytes(value).into_iter().for_each(|kept| incoming.ids.restore(id.clone(), kept));
                }
                Some((name, BridgeKey::Command(number))) if name == local.bridge.name => {
                    if let Some(kept) = KeptCommand::from_bytes(value) {
                        let command = incoming.read_again(&kept);
                        let deadline_ms = local.edge.deadline_ms(kept.expiry_s);
                        incoming.wait(number, WaitingCommand { kept, command, deadline_ms });
                    }
                }
                _ => {}
            }
        }
        incoming
    }

    fn settings(&self) -> Option<&CommandSettings> {
        self.local.bridge.commands.as_ref()
    }

    /// What a command says that was stored; if it is none any more by the configuration, it is a message as any other.
    fn read_again(&self, kept: &KeptCommand) -> Command {
        let settings = self.settings().filter(|settings| settings.concerns(&kept.topic));
        settings.and_then(|settings| settings.read(&kept.payload.0).ok()).unwrap_or_default()
    }

    fn wait(&mut self, number: u64, waiting: WaitingCommand) {
        self.last_waiting = self.last_waiting.max(number);
        self.waiting_bytes += waiting.kept.payload.0.len() + waiting.kept.topic.len();
        self.waiting.insert(number, waiting);
        self.local.counters.commands_waiting.set(self.waiting.len() as u64);
    }

    fn wait_no_more(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.remove(&number) {
            self.waiting_bytes -= waiting.kept.payload.0.len() + waiting.kept.topic.len();
        }
        self.local.counters.commands_waiting.set(self.waiting.len() as u64);
    }

    /// The time by which commands are judged; `None` while it is not known.
    fn now_ms(&self) -> Option<i64> {
        let is_known = self.local.bridge.trusts_clock || self.clock.time_quality() == TimeQuality::Synced;
        is_known.then(|| (self.local.edge.now_ms)())
    }

    fn message(&self, arrived: Arriving) -> Message {
        let Arriving { topic, payload, qos, retain, expiry_s, passed_on, stored } = arrived;
        let deadline_ms = self.local.edge.deadline_ms(expiry_s);
        Message { topic, payload, qos, retain, deadline_ms, passed_on, source: Source::Arrived(stored) }
    }

    /// Takes what comes, as long as the link lasts. Whatever this returns for, the link is over then: the other end sees that nothing is taken
    /// any more.
    pub async fn take_all(&mut self, mut arriving: mpsc::Receiver<Arriving>) -> Result<(), Ending> {
        let mut phase = self.local.edge.phase.clone();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut backlog: VecDeque<Message> = VecDeque::new();
        let mut is_stuck = false;
        loop {
            tokio::select! {
                arrived = arriving.recv(), if !is_stuck => match arrived {
                    Some(arrived) => backlog.push_back(self.message(arrived)),
                    None => return Ok(()),
                },
                _ = look.tick() => {
                    if is_stuck && arriving.is_closed() {
                        return Ok(());
                    }
                    self.release().await?;
                    is_stuck = false;
                }
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => return Ok(()),
            }
            while backlog.len() < MESSAGES_A_COMMIT
                && let Ok(arrived) = arriving.try_recv()
            {
                backlog.push_back(self.message(arrived));
            }
            while !backlog.is_empty() && !is_stuck {
                match self.store(&mut backlog).await? {
                    Stored::Yes => {}
                    Stored::Stuck => is_stuck = true,
                    // Nothing of it is answered, and what waits behind it comes again over the next link.
                    Stored::No => return Ok(()),
                }
            }
        }
    }

    /// Publishes commands that have waited, if the time is known now. Those whose time is over by the other broker's word wait no longer.
    pub async fn release(&mut self) -> Result<(), Ending> {
        loop {
            let (is_known, now_ms) = (self.now_ms().is_some(), self.local.edge.fanout.now_ms());
            let is_over =
                |waiting: &WaitingCommand| waiting.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
            let due = self.waiting.iter().filter(|(_, waiting)| is_known || is_over(waiting)).take(MESSAGES_A_COMMIT);
            let mut due: VecDeque<Message> = due.map(|(number, waiting)| Message::of(*number, waiting)).collect();
            if due.is_empty() {
                return Ok(());
            }
            if is_known {
                tracing::info!(
                    commands = due.len(),
                    "bridge {}: the clock is set; commands that waited are judged now",
                    self.local.bridge.name
                );
            }
            if !matches!(self.store(&mut due).await?, Stored::Yes) {
                return Ok(());
            }
        }
    }

    /// Stores and publishes what comes first.
    async fn store(&mut self, backlog: &mut VecDeque<Message>) -> Result<Stored, Ending> {
        let (local, mut under_way) = (Rc::clone(&self.local), UnderWay::default());
        let mut place = local.edge.pipeline.place();
        place.turn().await;
        local.edge.renew_rules()?;
        let (mut bytes, mut count, mut is_stuck) = (0, 0, false);
        while count < MESSAGES_A_COMMIT
            && let Some(message) =
                backlog.pop_front_if(|next| count == 0 || bytes + next.payload.len() <= BYTES_A_COMMIT)
        {
            (bytes, count) = (bytes + message.payload.len(), count + 1);
            if let Err(NoRoom(message)) = self.take(message, &mut under_way) {
                backlog.push_front(message);
                (count, is_stuck) = (count - 1, true);
                break;
            }
        }
        if count == 0 {
            return Ok(Stored::Stuck);
        }
        self.let_go_of_ids(&mut under_way.batch);
        let UnderWay { mut batch, prepared, ids, begin_to_wait, sources, received } = under_way;
        (batch.publishes, batch.answers, batch.urgency) = (count, count as u64, Urgency::Urgent);
        batch.entries.extend(local.edge.keeper.take_ended_sessions());
        self.ordinal += 1;
        local.edge.pipeline.submit(batch.submission(&self.progress, self.ordinal))?;
        drop(place);
        let is_stored = is_stored(&self.progress, self.ordinal, &local.edge.phase).await;
        if is_stored.is_err() {
            // The disk does not answer, and may still take it.
            prepared.iter().for_each(Prepared::mark_perhaps_stored);
        }
        if !is_stored? {
            ids.iter().for_each(|id| self.ids.forget(id));
            // What was refused once is answered no more.
            (self.progress, self.ordinal) = (Arc::default(), 0);
            return Ok(Stored::No);
        }
        if self.progress.is_failed() {
            // It was given up before it was stored: what follows would be refused.
            (self.progress, self.ordinal) = (Arc::default(), 0);
        }
        for prepared in prepared {
            if let Some(passing_on) = local.edge.fanout.pass_on(prepared)? {
                passing_on.await?;
            }
        }
        begin_to_wait.into_iter().for_each(|(number, waiting)| self.wait(number, waiting));
        local.counters.received.add(received);
        local.counters.commands.add(ids.len() as u64);
        for source in sources {
            match source {
                // If nobody waits for it any more, the other broker sends it again.
                Source::Arrived(stored) => _ = stored.send(()),
                Source::Waiting(number) => self.wait_no_more(number),
            }
        }
        Ok(if is_stuck { Stored::Stuck } else { Stored::Yes })
    }

    /// Decides what becomes of a message, and adds that to what is stored next.
    fn take(&mut self, message: Message, under_way: &mut UnderWay) -> Result<(), NoRoom> {
        let local = Rc::clone(&self.local);
        let now_ms = local.edge.fanout.now_ms();
        if topic::check_topic(&message.topic).is_err() || topic::is_reserved(&message.topic) {
            local.counters.received_refused.add(1);
            local.edge.warn_of_topic(local.client.id(), &message.topic);
        } else if self.settings().is_some_and(|settings| settings.concerns(&message.topic)) {
            match self.judge(&message, under_way) {
                Verdict::Publish { for_ms } => {
                    let own = for_ms.map(|for_ms| now_ms + for_ms);
                    self.publish(&message, message.deadline_ms.into_iter().chain(own).min(), under_way);
                }
                Verdict::Repeat => local.counters.commands_repeated.add(1),
                Verdict::Refuse(refusal) => self.note_refused(&message, refusal),
                // The clock was set for a moment only: it goes on waiting where it is.
                Verdict::WaitForClock if matches!(message.source, Source::Waiting(_)) => return Ok(()),
                Verdict::WaitForClock => return self.begin_to_wait(message, under_way),
            }
        } else {
            self.publish(&message, message.deadline_ms, under_way);
        }
        if let Source::Waiting(number) = message.source {
            let key = BridgeKey::Command(number).to_bytes(&local.bridge.name);
            under_way.batch.entries.push(EntryChange { key, value: None });
        }
        under_way.sources.push(message.source);
        Ok(())
    }

    /// What a message on a command topic is. The id of one that is to be published is remembered.
    fn judge(&mut self, message: &Message, under_way: &mut UnderWay) -> Verdict {
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
                || is_new && self.waiting.values().any(waits)
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

    fn note_refused(&self, message: &Message, refusal: Refusal) {
        let at = Refusal::ALL.iter().position(|known| *known == refusal).expect("all of them are there");
        self.local.counters.commands_refused[at].add(1);
        let (bridge, topic) = (&self.local.bridge.name, message.topic.as_str());
        if let Some(more) = self.local.edge.refusals.borrow_mut().permit((self.local.edge.now_ms)()) {
            tracing::warn!(topic, more, "bridge {bridge}: a command is not published: {}", refusal.name());
        }
    }

    fn begin_to_wait(&mut self, message: Message, under_way: &mut UnderWay) -> Result<(), NoRoom> {
        let new: usize = under_way.begin_to_wait.iter().map(|(_, waiting)| waiting.kept.payload.0.len()).sum();
        let count = self.waiting.len() + under_way.begin_to_wait.len();
        if count >= WAITING_MAX || self.waiting_bytes + new + message.payload.len() > WAITING_BYTES_MAX {
            return Err(NoRoom(message));
        }
        let Message { topic, payload, qos, passed_on, source, deadline_ms, .. } = message;
        let now_ms = self.local.edge.fanout.now_ms();
        let left_s = |deadline_ms: u64| u32::try_from(deadline_ms.saturating_sub(now_ms) / 1_000).unwrap_or(u32::MAX);
        let expiry_s = deadline_ms.map(left_s);
        let kept = KeptCommand { topic, payload: Blob(payload), qos, passed_on: Blob(passed_on), expiry_s };
        let number = self.last_waiting + 1;
        self.last_waiting = number;
        let key = BridgeKey::Command(number).to_bytes(&self.local.bridge.name);
        under_way.batch.entries.push(EntryChange { key, value: Some(kept.to_bytes()) });
        let command = self.read_again(&kept);
        under_way.begin_to_wait.push((number, WaitingCommand { kept, command, deadline_ms }));
        under_way.sources.push(source);
        Ok(())
    }

    /// Prepares a message for its receivers, as any client's.
    fn publish(&self, message: &Message, deadline_ms: Option<u64>, under_way: &mut UnderWay) {
        let (edge, batch) = (&self.local.edge, &mut under_way.batch);
        let Message { topic, payload, qos, retain, passed_on, .. } = message;
        let (qos, retain, properties) = (*qos, *retain, PassedOn::from_own(passed_on));
        let published = Published {
            topic,
            payload,
            qos,
            client_id: Some(self.local.client.id()),
            properties,
            received_at_ms: (edge.now_ms)(),
        };
        let is_taken = edge.decode(&published, batch);
        if is_taken && (retain || edge.fanout.may_reach(topic)) {
            let publisher = self.local.subscriber.borrow().number;
            let draft = Draft {
                topic,
                payload,
                qos,
                retain,
                publisher,
                deadline_ms,
                passed_on: properties,
                ..Draft::default()
            };
            let prepared = edge.fanout.prepare(draft, &mut batch.entries);
            batch.held_bytes += prepared.envelope.len();
            under_way.prepared.push(prepared);
        }
        for Republished { prepared, may_have_receivers } in std::mem::take(&mut batch.republished) {
            if may_have_receivers || prepared.envelope.retain() {
                batch.held_bytes += prepared.envelope.len();
                under_way.prepared.push(prepared);
            }
        }
        under_way.received += 1;
    }

    /// Ids of no use are deleted with what is stored anyway.
    fn let_go_of_ids(&mut self, batch: &mut Batch) {
        let gone = self.ids.let_go(self.now_ms(), LET_GO_AT_ONCE);
        let key = |id: String| BridgeKey::Id(id).to_bytes(&self.local.bridge.name);
        batch.entries.extend(gone.into_iter().map(|id| EntryChange { key: key(id), value: None }));
    }
}

enum Stored {
    Yes,
    /// Up to a command for which there is no room; it is the first of the rest.
    Stuck,
    No,
}

impl Message {
    /// A command that has waited.
    fn of(number: u64, waiting: &WaitingCommand) -> Message {
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

/// Waits until it is known. That nobody waits for a slow disk any more does not say that it stores nothing: only a refusal does. If an id were
/// forgotten that the disk takes after all, its command would be published again when it comes again. So this waits as long as the disk does,
/// or until the process ends.
async fn is_stored(progress: &SessionProgress, ordinal: u64, phase: &watch::Receiver<Phase>) -> Result<bool, Ending> {
    loop {
        if progress.committed() >= ordinal {
            return Ok(true);
        }
        if progress.take_refused().is_some_and(|refused| refused.contains(&ordinal)) {
            return Ok(false);
        }
        if progress.is_failed() && *phase.borrow() == Phase::Draining {
            return Err(Ending);
        }
        // The bell may have rung before this began to wait.
        let _ = timeout(LOOK_AGAIN, progress.changed()).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_commit_that_was_given_up_and_lands_is_stored() {
        let (progress, (_sender, phase)) = (SessionProgress::default(), watch::channel(Phase::Running));
        run(async {
            progress.fail();
            let mut waiting = Box::pin(is_stored(&progress, 3, &phase));
            assert!(timeout(Duration::from_millis(1), &mut waiting).await.is_err(), "the disk may still take it");
            progress.commit_through(3);
            assert!(waiting.await.unwrap());
        });
    }

    #[test]
    fn a_refused_commit_is_not_stored_and_the_end_of_the_process_waits_for_none() {
        let (progress, (sender, phase)) = (SessionProgress::default(), watch::channel(Phase::Running));
        run(async {
            progress.refuse(1..=4);
            progress.fail();
            assert!(!is_stored(&progress, 4, &phase).await.unwrap());
            sender.send(Phase::Draining).unwrap();
            assert!(is_stored(&progress, 5, &phase).await.is_err());
        });
    }
}
