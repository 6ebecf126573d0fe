//! Links that cost money: what `core::link` decides for each, shared by the sinks that use it.
//!
//! Sinks run on threads of their own, so a budget is behind a lock, which is held for a decision only. What went over sockets is counted by
//! the connections of a sink ([`SocketBytes`]), and charged when a request was answered, and before each decision. It is stored with the
//! sink's cursor, and stored before it is spent: what a process that is killed may have spent is stored with it.

mod gate;
pub mod metering;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use gate::LinkGate;
use metering::MeteredBy;

use crate::clock;
use crate::core::link::{Budget, Class, Kept, LinkSettings, LinkStatus, Metered, Now};
use crate::store::links::{CountedLink, LinkState, StoredLink};
pub use crate::uplink::counted::CountedStream;
use crate::uplink::counted::Counts;

/// A clock that shows an earlier time is not set: 2020-01-01.
const CLOCK_IS_SET_FROM_MS: i64 = 1_577_836_800_000;

/// One `[[link]]`.
#[derive(Clone, Debug)]
pub struct LinkConfiguration {
    pub name: String,
    pub settings: LinkSettings,
    pub metered: MeteredBy,
}

/// In which order a sink gets what waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    #[default]
    Oldest,
    /// What comes now, and behind it what has waited.
    LiveFirst,
}

impl Order {
    /// As the configuration has it.
    pub const NAMES: [(&'static str, Order); 2] = [("oldest", Order::Oldest), ("live-first", Order::LiveFirst)];
}

/// What a `[[sink]]` says about how its records travel, whatever its type is.
#[derive(Clone, Debug, Default)]
pub struct Travel {
    /// The name of a `[[link]]`.
    pub link: Option<String>,
    pub order: Order,
    /// What is older is not sent any more.
    pub age_max: Option<Duration>,
}

/// Bytes on the sockets of one sink, both ways, which its connections count.
#[derive(Debug, Default)]
pub struct SocketBytes {
    counted: AtomicU64,
    charged: AtomicU64,
    /// Requests of all streams of the sink that await their answers.
    under_way: AtomicU64,
}

impl Counts for SocketBytes {
    fn add(&self, bytes: u64) {
        self.counted.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl SocketBytes {
    /// Of all time.
    pub fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    fn begins(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    fn ends(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request will answer for what is counted.
    fn is_in_use(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// What was counted since the last call.
    fn take(&self) -> u64 {
        let counted = self.counted();
        counted.saturating_sub(self.charged.swap(counted, Ordering::Relaxed))
    }
}

/// A link, as all sinks and the status share it.
#[derive(Debug)]
pub struct SharedLink {
    pub name: Arc<str>,
    pub metered: MeteredBy,
    pub settings: LinkSettings,
    began: Instant,
    budget: Mutex<Budget>,
    /// So many send over it, or will.
    users: AtomicUsize,
}

impl SharedLink {
    /// Goes on from what is stored of it.
    pub fn new(configuration: &LinkConfiguration, stored: Option<StoredLink>) -> SharedLink {
        let LinkConfiguration { name, settings, metered } = configuration;
        let kept = stored.map(|StoredLink { counted, state }| {
            // With less than was ever counted, nothing that is told later would be kept.
            state.and_then(|text| read_state(name, &text)).unwrap_or_else(|| Kept::of_total(counted))
        });
        let mut budget = Budget::stored_ahead(settings.clone(), kept);
        budget.set_metered(metered.at_start());
        SharedLink {
            name: name.as_str().into(),
            metered: metered.clone(),
            settings: settings.clone(),
            began: clock::instant(),
            budget: Mutex::new(budget),
            users: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().expect("nothing panics while it is held")
    }

    fn now(&self) -> Now {
        let passed = clock::instant().saturating_duration_since(self.began);
        Now {
            wall_ms: Some(clock::now_ms()).filter(|ms| *ms >= CLOCK_IS_SET_FROM_MS),
            steady_us: u64::try_from(passed.as_micros()).unwrap_or(u64::MAX),
            passed_us: clock::since_boot_us(),
        }
    }

    /// Somebody has found out whether it is metered.
    pub fn set_metered(&self, metered: Metered) {
        let mut budget = self.lock();
        let before = budget.is_metered();
        budget.set_metered(metered);
        let is_metered = budget.is_metered();
        drop(budget);
        if is_metered != before {
            tracing::info!(link = &*self.name, "the link is {}", if is_metered { "metered" } else { "not metered" });
        }
    }

    /// So many bytes went over a socket.
    pub fn spend(&self, class: Class, bytes: u64) {
        let now = self.now();
        self.lock().spend(class, bytes, now);
    }

    pub fn status(&self) -> LinkStatus {
        let now = self.now();
        self.lock().status(now)
    }

    fn begins_to_use(&self) {
        self.users.fetch_add(1, Ordering::AcqRel);
    }

    fn ends_to_use(&self) {
        self.users.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether what is spent is to be stored now, with any cursor. It is said to one of the sinks that ask.
    pub fn wants_saving(&self) -> bool {
        self.lock().wants_saving()
    }
}

impl CountedLink for SharedLink {
    fn state(&self) -> LinkState {
        let is_last = self.users.load(Ordering::Acquire) == 0;
        let kept = self.lock().to_be_stored(is_last);
        let state = serde_json::to_string(&kept).expect("plain data");
        LinkState { name: self.name.to_string(), counted: kept.counted(), state }
    }

    fn is_durable(&self) {
        self.lock().is_stored();
    }
}

fn read_state(link: &str, text: &str) -> Option<Kept> {
    let read = serde_json::from_str(text);
    let told = |error: &serde_json::Error| {
        tracing::error!(link, "what was spent on the link by now cannot be read, and the budgets begin anew: {error}");
    };
    read.inspect_err(told).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::link::Permit;

    fn stored(counted: u64, state: &str) -> StoredLink {
        StoredLink { counted, state: Some(state.to_owned()) }
    }

    fn shared(bytes_per_day: u64, stored: Option<StoredLink>) -> Arc<SharedLink> {
        let settings = LinkSettings { bytes_per_day: Some(bytes_per_day), ..LinkSettings::default() };
        let link = LinkConfiguration { name: "lte".to_owned(), settings, metered: MeteredBy::Yes };
        Arc::new(SharedLink::new(&link, stored))
    }

    fn link(stored: Option<StoredLink>) -> Arc<SharedLink> {
        shared(1_000, stored)
    }

    #[test]
    fn what_was_spent_is_known_after_a_restart() {
        let first = link(None);
        first.spend(Class::Live, 950);
        let LinkState { counted, state, .. } = first.state();
        assert_eq!(counted, 950);
        let second = link(Some(stored(counted, &state)));
        assert_eq!(second.status().bytes_today, 950);
        assert!(second.status().waiting.is_some());
    }

    #[test]
    fn nothing_goes_out_before_it_is_stored_and_a_kill_takes_that_for_spent() {
        let link = shared(1 << 20, None);
        let gate = LinkGate::new(Some(Arc::clone(&link)), Arc::default());
        let is_go = || matches!(link.lock().ask(Class::Live, 1, link.now()), Permit::Go { .. });
        assert!(!is_go() && link.wants_saving() && !link.wants_saving(), "it is said once");
        let killed = link.state();
        assert!(!is_go());
        link.is_durable();
        assert!(is_go() && !link.wants_saving());
        link.spend(Class::Live, 10 << 10);
        assert!(link.wants_saving());
        assert_eq!(shared(1 << 20, Some(stored(0, &killed.state))).status().bytes_today, 16 << 10);
        // Who ends in order says how much it was.
        drop(gate);
        assert_eq!(shared(1 << 20, Some(stored(10 << 10, &link.state().state))).status().bytes_today, 10 << 10);
    }

    #[test]
    fn what_cannot_be_read_begins_anew_and_is_kept_from_then_on() {
        for state in [Some("no JSON".to_owned()), None] {
            let link = link(Some(StoredLink { counted: 5_000, state }));
            assert_eq!((link.status().bytes_today, link.status().metered_bytes), (0, 5_000));
            link.spend(Class::Live, 10);
            assert_eq!(link.state().counted, 5_010, "more than is stored, or it would not be kept");
        }
    }

    #[test]
    fn bytes_of_sockets_are_charged_once() {
        let bytes = SocketBytes::default();
        bytes.add(70);
        bytes.add(30);
        assert_eq!((bytes.take(), bytes.take(), bytes.counted()), (100, 0, 100));
    }
}
