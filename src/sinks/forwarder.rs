//! Drives the delivery of one stream to one sink: reads the store, sends what the delivery machine asks for, saves the cursor.
//!
//! A `Forwarder` works in turns and waits for nothing by itself; [`run`] sends its requests, and waits until the next turn. The simulation
//! does the same in virtual time.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Sink;
use super::resend::{Owner, Resending};
use super::source::{Read, Source};
use super::status::{ForwardStatus, KeysSetAside, Link};
use super::stream::StreamParts;
use crate::clock;
use crate::core::delivery::{
    Actions, Delivery, DeliverySettings, DeliveryStatus, Event, KeyChange, Outcome, Persist, Reply, Request, RequestId,
    RetryReason,
};
use crate::core::identity::Stream;
use crate::heartbeat::Beat;
use crate::pipeline::Message;
use crate::store::cursors::{CursorChange, DeadLetter, Saves};
use crate::store::held_keys::HeldKeyChange;
use crate::store::unreadable::Unreadable;

pub struct ForwarderParts {
    pub stream: StreamParts,
    pub delivery: DeliverySettings,
    /// Seeds the jitter of retries.
    pub seed: u64,
    /// How long to keep delivering what is left when the process ends.
    pub flush_within: Duration,
}

/// With this many records waiting, no more are waited for: they fill records and requests already.
const WAITING_MAX: u64 = 4_096;
const LONG_WAIT_US: u64 = 100_000;

/// How long to wait before reading a store again that could not be read.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait before looking again whether more of a damaged store has been taken over.
const SALVAGE_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Forwarder {
    name: String,
    stream: Stream,
    stream_name: Arc<str>,
    delivery: Delivery,
    /// What was passed over before this delivery was created.
    passed_over_before: u64,
    source: Source,
    linger_us: u64,
    committed: watch::Receiver<u64>,
    link: watch::Receiver<Link>,
    pipeline: Sender<Message>,
    saves: Arc<Saves>,
    status: Arc<ForwardStatus>,
    beat: Beat,
    started: Instant,
    /// Everything committed has been read: what comes next is new and may wait for more.
    caught_up: bool,
    /// When something new was first noticed that is not read yet.
    noticed_us: Option<u64>,
    shown: DeliveryStatus,
    /// What comes next may still be taken over from a damaged store.
    is_salvaging: bool,
    store_error: Option<String>,
    unreadable_since: Unreadable,
    store_pause_until: Option<Instant>,
    /// The same for keys that are set aside: they may be where the store is being salvaged while the cursor is far beyond.
    aside_pause_until: Option<Instant>,
    flush_within: Duration,
    flush_until: Option<Instant>,
    letters: Owner,
    /// Dead letters that are being sent again.
    resending: Option<Resending>,
}

const LINK_IS_DOWN: &str = "nothing is sent at present";

/// What a turn leaves to do.
pub(crate) struct Turn {
    pub send: Vec<Request>,
    pub next: Next,
}

/// When the next turn is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// There is more to read: once replies were looked at.
    Soon { is_behind: bool },
    /// See [`Forwarder::wait`].
    Waits { until_us: Option<u64> },
    /// Everything is saved, and the process may end.
    Ended,
}

/// How long nothing has to be done.
#[derive(Debug)]
pub(crate) enum Wait {
    /// Not at all: this is the next event.
    Not(Event),
    Until {
        deadline: Option<Instant>,
        /// A commit may bring the deadline forward.
        notices_commits: bool,
    },
}

/// Runs until the process ends, and then until everything committed is delivered or the time for it is over. Must run in a `LocalSet`.
pub async fn run<S: Sink + 'static>(parts: ForwarderParts, sink: Rc<S>) {
    let mut forwarder = Forwarder::new(parts);
    let mut flights = JoinSet::new();
    let mut event = Event::Tick { behind: false };
    let mut waiting: Vec<Request> = Vec::new();
    loop {
        let turn = forwarder.turn(event);
        waiting.extend(turn.send);
        if forwarder.has_letters() && flights.is_empty() {
            forwarder.send_letter(&*sink).await;
        } else if forwarder.has_letters() && !matches!(turn.next, Next::Ended) {
            // What is under way comes first; nothing is added to it.
            event = tokio::select! {
                event = landed_next(&mut flights) => event,
                Ok(()) = forwarder.link.changed() => forwarder.link_event(),
            };
            continue;
        }
        for request in waiting.drain(..) {
            let refusal = forwarder.refusal(&request);
            let (sink, Request { id, records }) = (Rc::clone(&sink), request);
            flights.spawn_local(async move {
                match refusal {
                    Some(reply) => (id, reply),
                    None => (id, sink.send(records).await),
                }
            });
        }
        event = match turn.next {
            Next::Ended => return,
            Next::Waits { .. } if forwarder.has_letters() && flights.is_empty() => {
                tokio::task::yield_now().await;
                forwarder.tick()
            }
            Next::Soon { is_behind } => {
                // Lets replies and requests be handled in between.
                tokio::task::yield_now().await;
                landed(&mut flights).unwrap_or_else(|| Event::Tick { behind: is_behind || forwarder.has_backlog() })
            }
            Next::Waits { until_us } => wait(&mut forwarder, &mut flights, until_us).await,
        };
    }
}

/// The event of a reply that has already arrived.
fn landed(flights: &mut JoinSet<(RequestId, Reply)>) -> Option<Event> {
    let (id, reply) = flights.try_join_next()?.expect("a sink does not panic");
    Some(Event::Replied { id, reply })
}

/// The event of the next reply; there are requests under way.
async fn landed_next(flights: &mut JoinSet<(RequestId, Reply)>) -> Event {
    let (id, reply) = flights.join_next().await.expect("there is one").expect("a sink does not panic");
    Event::Replied { id, reply }
}

async fn wait(forwarder: &mut Forwarder, flights: &mut JoinSet<(RequestId, Reply)>, until_us: Option<u64>) -> Event {
    loop {
        let (deadline, notices_commits) = match forwarder.wait(until_us) {
            Wait::Not(event) => return event,
            Wait::Until { deadline, notices_commits } => (deadline, notices_commits),
        };
        let has_flights = !flights.is_empty();
        let status = Arc::clone(&forwarder.status);
        return tokio::select! {
            () = status.wishes.asked() => forwarder.tick(),
            Some(landed) = flights.join_next(), if has_flights => {
                let (id, reply) = landed.expect("a sink does not panic");
                Event::Replied { id, reply }
            }
            // The gateway keeps both senders until this task has ended, so neither channel closes here.
            Ok(()) = forwarder.committed.changed(), if notices_commits => continue,
            Ok(()) = forwarder.link.changed() => forwarder.link_event(),
            () = sleep_until(deadline) => forwarder.tick(),
        };
    }
}

impl Forwarder {
    pub fn new(parts: ForwarderParts) -> Forwarder {
        let ForwarderParts { stream: parts, delivery, seed, flush_within } = parts;
        let linger_us = delivery.linger_us;
        let letters = Owner::new(&parts.sink, parts.stream, &delivery, &parts.pipeline);
        parts.status.wishes.serve();
        let mut forwarder = Forwarder {
            name: parts.sink,
            stream: parts.stream,
            stream_name: parts.stream_name,
            delivery: Delivery::new(delivery, &parts.cursor, seed),
            passed_over_before: parts.passed_over,
            source: Source::new(parts.reader, parts.stream),
            linger_us,
            committed: parts.committed,
            link: parts.link,
            pipeline: parts.pipeline,
            saves: parts.saves,
            status: parts.status,
            beat: parts.beat,
            started: clock::instant(),
            caught_up: false,
            noticed_us: None,
            shown: DeliveryStatus::default(),
            is_salvaging: false,
            store_error: None,
            unreadable_since: Unreadable::default(),
            store_pause_until: None,
            aside_pause_until: None,
            flush_within,
            flush_until: None,
            letters,
            resending: None,
        };
        forwarder.delivery.restore_aside(&parts.held_keys);
        // If nothing is waiting at the start, the first records are as new as all later ones.
        forwarder.caught_up = !forwarder.is_behind();
        forwarder
    }

    pub fn turn(&mut self, event: Event) -> Turn {
        let read = self.read();
        self.read_aside();
        let Actions { send, persist, wait_until_us } = self.delivery.step(event, self.now_us());
        if let Some(persist) = persist {
            self.persist(persist);
        }
        self.show();
        let next = if self.is_finished() {
            self.save();
            Next::Ended
        } else if read == Read::Enough && self.delivery.wants_more() {
            Next::Soon { is_behind: true }
        } else if self.wants_aside() {
            Next::Soon { is_behind: false }
        } else {
            Next::Waits { until_us: wait_until_us }
        };
        Turn { send, next }
    }

    /// How long nothing has to be done, unless a reply comes or the link changes.
    pub fn wait(&mut self, until_us: Option<u64>) -> Wait {
        let machine_due = until_us.map(|until_us| self.started + Duration::from_micros(until_us));
        let wants_more = self.delivery.wants_more() && self.store_pause_until.is_none();
        if wants_more && self.has_backlog() {
            return Wait::Not(Event::Tick { behind: true });
        }
        let read_due_us = if wants_more { self.read_due_us() } else { None };
        let read_due = read_due_us.map(|due_us| self.started + Duration::from_micros(due_us));
        let pauses = [self.store_pause_until, self.aside_pause_until];
        let deadline = [machine_due, read_due, self.flush_until].into_iter().chain(pauses).flatten().min();
        let notices_commits = wants_more && (read_due.is_none() || self.is_wait_long());
        Wait::Until { deadline, notices_commits }
    }

    /// Whether an operator wants dead letters to be sent again.
    fn has_letters(&mut self) -> bool {
        if self.resending.is_none() {
            let wish = self.status.wishes.take();
            self.resending = wish.map(|wish| Resending::new(wish, &self.name, &self.stream_name));
        }
        if *self.link.borrow() != Link::Up
            && let Some(mut resending) = self.resending.take()
        {
            resending.stop(LINK_IS_DOWN);
            resending.end();
        }
        self.resending.is_some()
    }

    /// Sends one of them.
    async fn send_letter<S: Sink>(&mut self, sink: &S) {
        let Some(mut resending) = self.resending.take() else { return };
        let call = self.beat.at_disk();
        let letter = self.source.next_letter(resending.selection(), resending.after);
        drop(call);
        match letter {
            Ok(Some(letter)) if resending.is_meant(&letter) => {
                let mut link = self.link.clone();
                let goes_on = tokio::select! {
                    goes_on = resending.send(&self.letters, sink, &letter) => Some(goes_on),
                    // Neither the end of the process nor a link that is cut on purpose waits for a letter.
                    _ = link.wait_for(|link| *link != Link::Up) => None,
                };
                match goes_on {
                    Some(true) => {
                        self.resending = Some(resending);
                        return;
                    }
                    Some(false) => {}
                    None => resending.stop(LINK_IS_DOWN),
                }
            }
            Ok(_) => {}
            Err(error) => resending.stop(&format!("cannot read the store: {error}")),
        }
        resending.end();
    }

    /// The event of a deadline.
    pub fn tick(&self) -> Event {
        Event::Tick { behind: self.has_backlog() }
    }

    /// The event of a link that has changed.
    pub fn link_event(&self) -> Event {
        match *self.link.borrow() {
            Link::Up => Event::LinkUp,
            Link::Down => Event::Tick { behind: false },
            Link::Ending => Event::Flush,
        }
    }

    /// Something was committed since the store was last read.
    #[cfg(test)]
    pub fn has_news(&self) -> bool {
        self.committed.has_changed().unwrap_or(false)
    }

    /// Whether the link has changed since this was last asked.
    #[cfg(test)]
    pub fn link_changes(&mut self) -> bool {
        let has_changed = self.link.has_changed().unwrap_or(false);
        self.link.mark_unchanged();
        has_changed
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.shown.held_bytes
    }

    /// While the link is cut on purpose, nothing is sent.
    pub fn refusal(&self, request: &Request) -> Option<Reply> {
        let is_down = self.link.borrow().is_down();
        is_down.then(|| Reply::whole(Outcome::Retry(RetryReason::Connection), request.records.len()))
    }

    fn now_us(&self) -> u64 {
        u64::try_from(clock::instant().saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }

    fn is_behind(&self) -> bool {
        *self.committed.borrow() > self.delivery.offered_through()
    }

    /// There is more to read, and it does not have to wait for more.
    fn has_backlog(&self) -> bool {
        !self.caught_up && self.is_behind()
    }

    /// The linger time is so long that much may arrive meanwhile, so every commit is looked at.
    fn is_wait_long(&self) -> bool {
        self.linger_us > LONG_WAIT_US
    }

    /// When to read what has been committed since everything was read. Commits are far more frequent than requests need to be, so they are
    /// read together, once the first of them has waited as long as a line may.
    fn read_due_us(&mut self) -> Option<u64> {
        // After an error always read again: only that shows whether it is over.
        if !self.is_behind() && self.store_error.is_none() {
            return None;
        }
        let waiting = self.committed.borrow().saturating_sub(self.delivery.offered_through());
        let is_urgent = !self.caught_up || waiting >= WAITING_MAX || *self.link.borrow() == Link::Ending;
        let now_us = self.now_us();
        let noticed_us = *self.noticed_us.get_or_insert(now_us);
        Some(if is_urgent { now_us } else { noticed_us + self.linger_us })
    }

    fn is_pausing(&self) -> bool {
        self.store_pause_until.is_some_and(|until| until > clock::instant())
    }

    fn wants_aside(&self) -> bool {
        !self.is_pausing() && self.aside_pause_until.is_none() && self.delivery.aside_wants().is_some()
    }

    /// A block of the log for the keys that are set aside.
    fn read_aside(&mut self) {
        self.aside_pause_until = self.aside_pause_until.filter(|until| *until > clock::instant());
        if !self.wants_aside() {
            return;
        }
        let now_us = self.now_us();
        let call = self.beat.at_disk();
        let offered = self.source.offer_aside_to(&mut self.delivery, now_us);
        drop(call);
        match offered {
            Ok(read) => self.aside_pause_until = (read == Read::Salvaging).then(|| clock::instant() + SALVAGE_PAUSE),
            Err(error) => self.store_fails(&error),
        }
    }

    fn read(&mut self) -> Read {
        let is_pausing = self.is_pausing();
        let is_due = self.read_due_us().is_some_and(|due_us| due_us <= self.now_us());
        if is_pausing || !is_due {
            return Read::End;
        }
        let since_us = self.noticed_us.take().unwrap_or_else(|| self.now_us());
        self.committed.mark_unchanged();
        let call = self.beat.at_disk();
        let offered = self.source.offer_to(&mut self.delivery, since_us);
        drop(call);
        match offered {
            Ok(read) => {
                self.caught_up = read == Read::End;
                self.is_salvaging = read == Read::Salvaging;
                self.unreadable_since.is_over();
                self.store_pause_until = self.is_salvaging.then(|| clock::instant() + SALVAGE_PAUSE);
                if self.store_error.take().is_some() {
                    tracing::info!(sink = self.name, stream = &*self.stream_name, "the store is readable again");
                }
                read
            }
            Err(error) => {
                self.store_fails(&error);
                Read::End
            }
        }
    }

    fn store_fails(&mut self, error: &rusqlite::Error) {
        if self.store_error.is_none() {
            tracing::error!(sink = self.name, stream = &*self.stream_name, "cannot read the store: {error}");
        }
        if self.unreadable_since.is_damage(error, clock::instant()) {
            // Without a pipeline the process is ending; the next start detects the damage too.
            let _ = self.pipeline.send(Message::Damaged(self.source.file()));
        }
        self.store_error = Some(format!("cannot read the store: {error}"));
        self.store_pause_until = Some(clock::instant() + STORE_PAUSE);
        self.caught_up = false;
    }

    fn persist(&mut self, persist: Persist) {
        let held_keys = held_key_changes(&persist);
        let letter = |refused: crate::core::delivery::Refused| DeadLetter {
            sequence: refused.sequence,
            reason: refused.reason,
            line: refused.line,
        };
        let damage = self.source.take_damage();
        let change = CursorChange {
            sink: self.name.clone(),
            stream: self.stream,
            state: persist.state,
            dead_letters: persist.refused.into_iter().map(letter).collect(),
            unreadable: damage.unreadable,
            lost: damage.lost,
            passed_over: self.passed_over_before + persist.passed_over,
            held_keys,
            save: Some(self.saves.begin()),
        };
        // Without a pipeline the process is ending; what was not saved is sent again under the same identities.
        let _ = self.pipeline.send(Message::Cursor(change));
    }

    fn save(&mut self) {
        let now_us = self.now_us();
        if let Some(persist) = self.delivery.save(now_us) {
            self.persist(persist);
        }
    }

    /// Publishes the machine's state: numbers every time, a log line only when the state changes.
    fn show(&mut self) {
        let status = self.delivery.status();
        self.status.records_sent.add(status.records_sent - self.shown.records_sent);
        self.status.records_retried.add(status.records_retried - self.shown.records_retried);
        self.status.records_rejected.add(status.records_rejected - self.shown.records_rejected);
        let (sink, stream) = (&self.name, &*self.stream_name);
        match (&status.halted, &status.failing) {
            (Some(halted), _) if status.halted != self.shown.halted => {
                tracing::error!(sink, stream, "halted: {halted}; readings are buffered, and sending is retried");
            }
            (None, Some(failing)) if self.shown.failing.is_none() || self.shown.halted.is_some() => {
                tracing::warn!(
                    sink,
                    stream,
                    "not delivering: {failing}; readings are buffered, and sending is retried"
                );
            }
            (None, None) if self.shown.failing.is_some() => tracing::info!(sink, stream, "delivering again"),
            _ => {}
        }
        if status.records_rejected > self.shown.records_rejected && self.shown.records_rejected == 0 {
            tracing::error!(
                sink,
                stream,
                "a record was permanently refused and is kept as a dead letter; further ones are only counted"
            );
        }
        self.show_keys_aside(&status);
        let error = status.halted.clone().or_else(|| status.failing.clone()).or_else(|| self.store_error.clone());
        let error = error.or_else(|| keys_aside_text(&status));
        if self.status.last_error() != error {
            self.status.set_error(error);
        }
        self.shown = status;
    }

    fn show_keys_aside(&mut self, status: &DeliveryStatus) {
        let before = &self.shown;
        if status.keys_aside == before.keys_aside && status.is_crowded == before.is_crowded {
            return;
        }
        let (sink, stream, keys) = (&self.name, &*self.stream_name, status.keys_aside);
        let first = status.keys_aside_named.clone();
        if status.is_crowded && !before.is_crowded {
            tracing::error!(
                sink,
                stream,
                keys,
                "no more partition keys can be set aside: nothing more is read until one is accepted"
            );
        } else if keys > 0 && before.keys_aside == 0 {
            tracing::warn!(
                sink,
                stream,
                "records of {} fail while others are accepted: it is set aside and tried every few seconds; further ones are only counted",
                first.join(", ")
            );
        } else if keys == 0 {
            tracing::info!(sink, stream, "no partition key is set aside any more");
        }
        self.status.set_keys_aside(KeysSetAside { count: keys, first });
    }

    fn is_finished(&mut self) -> bool {
        if *self.link.borrow() != Link::Ending {
            return false;
        }
        let until = *self.flush_until.get_or_insert_with(|| clock::instant() + self.flush_within);
        let is_flushed = self.delivery.is_drained() && (self.is_salvaging || !self.is_behind());
        // A cloud that is unreachable now will not be back within the grace period: what is stored is sent after the next start.
        is_flushed || self.shown.failing.is_some() || clock::instant() >= until
    }
}

fn held_key_changes(persist: &Persist) -> Vec<HeldKeyChange> {
    let dead: Vec<u64> = persist.refused.iter().filter(|one| one.is_aside).map(|one| one.sequence).collect();
    let is_in =
        |runs: &[(u64, u64)], sequence: u64| runs.iter().any(|(first, last)| (*first..=*last).contains(&sequence));
    let change = |change: &KeyChange| HeldKeyChange {
        key: change.key.clone(),
        state: change.state.clone(),
        passed: change.passed.clone(),
        taken: change.taken.clone(),
        dead: dead.iter().copied().filter(|sequence| is_in(&change.taken, *sequence)).collect(),
    };
    persist.keys.iter().map(change).collect()
}

/// What to say about keys that are set aside, if there are any.
fn keys_aside_text(status: &DeliveryStatus) -> Option<String> {
    let named = status.keys_aside_named.join(", ");
    let dots = if status.keys_aside > status.keys_aside_named.len() { ", ..." } else { "" };
    match status.keys_aside {
        0 => None,
        count if status.is_crowded => {
            Some(format!("paused: {count} partition keys are set aside, and no more can be ({named}{dots})"))
        }
        1 => Some(format!("1 partition key is set aside because its records fail: {named}")),
        count => Some(format!("{count} partition keys are set aside because their records fail: {named}{dots}")),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
