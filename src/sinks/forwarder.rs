//! Drives the delivery of one stream to one sink: reads the store, sends what the delivery machine asks for, saves the cursor.
//!
//! A `Forwarder` works in turns and waits for nothing by itself; [`run`] sends its requests, and waits until the next turn. The simulation
//! does the same in virtual time.

mod letters;
mod reading;
mod running;
mod saving;
mod showing;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Sink;
use super::links::LinkGate;
use super::resend::{Owner, Resending};
use super::source::{Read, Source};
use super::status::{ForwardStatus, Link};
use super::stream::StreamParts;
use crate::clock;
use crate::core::delivery::{
    Actions, DeliverySettings, DeliveryStatus, Event, Gate as _, Outcome, Parts, Plan, Reply, Request, RequestId,
    RetryReason,
};
use crate::core::identity::Stream;
use crate::core::link::{Class, Permit};
use crate::heartbeat::Beat;
use crate::pipeline::Message;
use crate::store::cursors::Saves;
use crate::store::unreadable::Unreadable;

pub use running::run;

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
    delivery: Parts,
    /// How it is to be divided once no key is set aside any more.
    planned: Option<Planned>,
    /// Lets requests go over the sink's link.
    gate: LinkGate,
    /// What was passed over before this delivery was created.
    passed_over_before: u64,
    source: Source,
    linger_us: u64,
    committed: watch::Receiver<u64>,
    /// Up to which sequence the store has given up what this sink had not got.
    given_up: Arc<AtomicU64>,
    link: watch::Receiver<Link>,
    pipeline: Sender<Message>,
    saves: Arc<Saves>,
    status: Arc<ForwardStatus>,
    beat: Beat,
    started: Instant,
    /// For each part of the delivery, whether everything committed has been read: what comes next is new and may wait for more.
    caught_up: Vec<bool>,
    /// When to look at the head again, for the ages of lines.
    head_due: Option<Instant>,
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
    /// It was said that records become too old.
    has_expired: bool,
    letters: Owner,
    /// Dead letters that are being sent again.
    resending: Option<Resending>,
}

/// Keys that an earlier process has set aside are known to one delivery of everything only: until they are delivered, there are no parts.
struct Planned {
    plan: Plan,
    delivery: DeliverySettings,
    seed: u64,
}

const NOT_DIVIDED: &str =
    "keys that were set aside are delivered first: until then nothing goes before what came before it";

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

impl Forwarder {
    pub fn new(parts: ForwarderParts) -> Forwarder {
        let ForwarderParts { stream: parts, delivery, seed, flush_within } = parts;
        let linger_us = delivery.linger_us;
        let head = *parts.committed.borrow();
        let plan = match parts.plan {
            plan if parts.held_keys.is_empty() => plan,
            Plan::ByClass => Plan::Whole { class: Class::Anomalies },
            _ => Plan::Whole { class: Class::Live },
        };
        let planned = (plan.parts() != parts.plan.parts()).then(|| Planned {
            plan: parts.plan,
            delivery: delivery.clone(),
            seed,
        });
        if planned.is_some() {
            let (sink, stream, keys) = (&parts.sink, &*parts.stream_name, parts.held_keys.len());
            tracing::warn!(sink, stream, keys, "{}", NOT_DIVIDED);
        }
        let letters = Owner::new(&parts.sink, parts.stream, &delivery, &parts.pipeline);
        parts.status.wishes.serve();
        let mut forwarder = Forwarder {
            name: parts.sink,
            stream: parts.stream,
            stream_name: parts.stream_name,
            source: Source::new(parts.reader, parts.stream, plan.parts(), delivery.age_us_max.is_some(), head),
            delivery: Parts::new(plan, delivery, &parts.cursor, head, seed),
            planned,
            gate: LinkGate::new(parts.counted_link, parts.socket),
            passed_over_before: parts.passed_over,
            linger_us,
            committed: parts.committed,
            given_up: parts.given_up,
            link: parts.link,
            pipeline: parts.pipeline,
            saves: parts.saves,
            status: parts.status,
            beat: parts.beat,
            started: clock::instant(),
            caught_up: Vec::new(),
            head_due: None,
            noticed_us: None,
            shown: DeliveryStatus::default(),
            is_salvaging: false,
            store_error: None,
            unreadable_since: Unreadable::default(),
            store_pause_until: None,
            aside_pause_until: None,
            flush_within,
            flush_until: None,
            has_expired: false,
            letters,
            resending: None,
        };
        if let Some(whole) = forwarder.delivery.whole() {
            whole.restore_aside(&parts.held_keys);
        }
        // If nothing is waiting at the start, the first records are as new as all later ones.
        forwarder.caught_up = vec![!forwarder.is_behind(); forwarder.delivery.count()];
        forwarder
    }

    pub fn turn(&mut self, event: Event) -> Turn {
        let read = self.read();
        self.read_aside();
        let now_us = self.now_us();
        self.delivery.give_up_through(self.given_up.load(Ordering::Acquire));
        // What is not read ages as well.
        let head = *self.committed.borrow();
        self.delivery.set_head(head);
        self.head_due = self.source.note_head(head).map(|within| clock::instant() + within);
        let Actions { send, persist, wait_until_us } = self.delivery.step(event, &mut self.gate, now_us);
        if let Some(persist) = persist {
            self.persist(persist);
        }
        self.save_spending();
        self.show();
        let next = if send.is_empty() && self.divide() {
            Next::Soon { is_behind: false }
        } else if self.is_finished() {
            self.save_all();
            Next::Ended
        } else if read == Read::Enough && (0..self.delivery.count()).any(|part| self.can_read(part)) {
            Next::Soon { is_behind: self.has_backlog() }
        } else if self.wants_aside() {
            Next::Soon { is_behind: false }
        } else {
            Next::Waits { until_us: wait_until_us }
        };
        Turn { send, next }
    }

    /// Divides the delivery as it is meant to be, as soon as nothing of the undivided one is left.
    fn divide(&mut self) -> bool {
        if self.planned.is_none() || *self.link.borrow() == Link::Ending {
            return false;
        }
        let Some(state) = self.delivery.whole_without_rest() else { return false };
        self.save();
        let Some(Planned { plan, delivery, seed }) = self.planned.take() else { return false };
        self.passed_over_before += self.delivery.passed_over();
        self.delivery = Parts::new(plan, delivery, &state, *self.committed.borrow(), seed);
        self.source.set_parts(plan.parts());
        self.caught_up = vec![!self.is_behind(); self.delivery.count()];
        // Its counts begin anew.
        (self.shown.records_sent, self.shown.records_retried, self.shown.records_rejected) = (0, 0, 0);
        tracing::info!(
            sink = self.name,
            stream = &*self.stream_name,
            "no key is set aside: what is urgent goes first now"
        );
        true
    }

    /// How long nothing has to be done, unless a reply comes or the link changes.
    pub fn wait(&mut self, until_us: Option<u64>) -> Wait {
        let machine_due = until_us.map(|until_us| self.started + Duration::from_micros(until_us));
        let may_read = self.store_pause_until.is_none();
        let wants_more = self.wants_more() && may_read;
        let can_read = may_read && self.following().any(|part| self.can_read(part));
        if can_read && self.has_backlog() {
            return Wait::Not(Event::Tick { behind: true });
        }
        if may_read && self.can_read_backlog() {
            return Wait::Not(self.tick());
        }
        let read_due_us = if wants_more { self.read_due_us() } else { None };
        let read_due = read_due_us.map(|due_us| self.started + Duration::from_micros(due_us));
        let pauses = [self.store_pause_until, self.aside_pause_until, self.head_due];
        let deadline = [machine_due, read_due, self.flush_until].into_iter().chain(pauses).flatten().min();
        let notices_commits = wants_more && (read_due.is_none() || self.is_wait_long());
        Wait::Until { deadline, notices_commits }
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

    /// The parts of the delivery that get what comes, and not what has waited.
    fn following(&self) -> impl Iterator<Item = usize> {
        (0..self.delivery.count()).filter(|part| !self.delivery.is_backlog(*part))
    }

    /// Whether more of what comes is wanted.
    fn wants_more(&self) -> bool {
        self.following().any(|part| self.delivery.wants_more(part))
    }

    /// Whether a part wants more, and there is more.
    fn can_read(&self, part: usize) -> bool {
        self.delivery.unread_of(part, *self.committed.borrow()) > 0 && self.delivery.wants_more(part)
    }

    /// Whether there is more of what has waited, and it is wanted.
    fn can_read_backlog(&self) -> bool {
        (0..self.delivery.count()).any(|part| self.delivery.is_backlog(part) && self.can_read(part))
    }

    fn is_behind(&self) -> bool {
        self.delivery.is_behind(*self.committed.borrow())
    }

    /// There is more to read, and it does not have to wait for more.
    fn has_backlog(&self) -> bool {
        self.following().any(|part| !self.caught_up[part] && self.can_read(part))
    }

    /// The linger time is so long that much may arrive meanwhile, so every commit is looked at.
    fn is_wait_long(&self) -> bool {
        self.linger_us > LONG_WAIT_US
    }

    fn is_finished(&mut self) -> bool {
        if *self.link.borrow() != Link::Ending {
            return false;
        }
        let until = *self.flush_until.get_or_insert_with(|| clock::instant() + self.flush_within);
        let is_flushed = self.delivery.is_drained() && (self.is_salvaging || !self.is_behind());
        // A cloud that is unreachable now will not be back within the grace period, nor will a budget: what is stored is sent after the next
        // start.
        is_flushed || self.delivery.is_stuck() || self.shown.failing.is_some() || clock::instant() >= until
    }
}

#[cfg(test)]
mod tests;
