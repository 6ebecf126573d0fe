//! From the other broker to ours: a message is decoded, shown to rules and stored like a client's publish, and answered when it is committed.
//!
//! A command is published once by its id, which is stored in its own commit. One that expires at a time waits in the store, acknowledged,
//! while nobody knows what time it is; so it holds up nothing else. When there is no more room for such ones, those that come then are not
//! acknowledged, and stay with the other broker, too; what comes behind them goes on, as far as the other broker sends it: acknowledgements
//! leave in order, so theirs wait. When there are too many even of these, nothing more is taken until the clock is set.
//!
//! ```text
//! waiting <- commands <- this
//! ```

mod commands;
mod waiting;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::{Arriving, LOOK_EVERY, Local};
use crate::core::bridge::command::Verdict;
use crate::core::bridge::ids::Ids;
use crate::core::bridge::kept::{BridgeKey, KeptCommand, KeptId};
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::packet::PassedOn;
use crate::core::mqtt::topic;
use crate::handoff::{Entry, EntryChange, Input, PipelineGone, SessionProgress};
use crate::ingest::ClockState;
use crate::mqtt::Phase;
use crate::mqtt::fanout::Prepared;
use crate::mqtt::publish::{Batch, Published, Republished};
use crate::mqtt::router::{Draft, RouterDead};
use commands::NoRoom;
use waiting::{WaitingCommand, WaitingCommands, WithoutRoom};

/// What is stored in one commit: messages, and their bytes unless one alone has more.
const MESSAGES_A_COMMIT: usize = 64;
const BYTES_A_COMMIT: usize = 256 * 1024;
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
    waiting: WaitingCommands,
    without_room: WithoutRoom,
    progress: Arc<SessionProgress>,
    ordinal: u64,
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

impl<T: From<Input> + 'static> Incoming<T> {
    /// With what was stored before the start.
    pub fn new(local: &Rc<Local<T>>, entries: &[Entry], clock: ClockState) -> Incoming<T> {
        let mut incoming = Incoming {
            local: Rc::clone(local),
            clock,
            ids: Ids::default(),
            waiting: WaitingCommands::default(),
            without_room: WithoutRoom::default(),
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
                        let deadline_ms = local.edge.deadline_ms(kept.expiry_s);
                        let waiting = incoming.waiting_command(kept, deadline_ms);
                        incoming.wait(number, waiting);
                    }
                }
                _ => {}
            }
        }
        incoming
    }

    /// Takes what comes, as long as the link lasts. Whatever this returns for, the link is over then: the other end sees that nothing is taken
    /// any more.
    pub async fn take_all(&mut self, arriving: mpsc::Receiver<Arriving>) -> Result<(), Ending> {
        let taken = self.take_until_over(arriving).await;
        // They come again over the next link.
        self.without_room.take();
        taken
    }

    async fn take_until_over(&mut self, mut arriving: mpsc::Receiver<Arriving>) -> Result<(), Ending> {
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
                    self.without_room.take().into_iter().rev().for_each(|message| backlog.push_front(message));
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
            self.note_room();
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
            let message_bytes = message.payload.len();
            match self.take(message, &mut under_way) {
                Ok(()) => (bytes, count) = (bytes + message_bytes, count + 1),
                Err(NoRoom(message)) => {
                    if let Err(message) = self.without_room.push(message) {
                        backlog.push_front(message);
                        is_stuck = true;
                        break;
                    }
                }
            }
        }
        if count == 0 {
            return Ok(if is_stuck { Stored::Stuck } else { Stored::Yes });
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
}

enum Stored {
    Yes,
    /// Up to a command for which there is no room, like for many before it; it is the first of the rest.
    Stuck,
    No,
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
