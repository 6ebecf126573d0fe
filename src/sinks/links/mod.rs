//! Links that cost money: what `core::link` decides for each, shared by the sinks that use it.
//!
//! Sinks run on threads of their own, so a budget is behind a lock, which is held for a decision only. What went over sockets is counted by
//! the connections of a sink ([`SocketBytes`]), and charged when a request was answered, and before each decision. It is stored with the
//! sink's cursor; a process that is killed forgets what was sent since, which is a second's at most, or [`UNSAVED_BYTES_MAX`].

mod gate;
pub mod metering;
mod socket;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use gate::LinkGate;
use metering::MeteredBy;
pub use socket::CountedStream;

use crate::clock;
use crate::core::link::{Budget, Class, Kept, LinkSettings, LinkStatus, Metered, Now};
use crate::store::links::LinkState;

/// A clock that shows an earlier time is not set: 2020-01-01.
const CLOCK_IS_SET_FROM_MS: i64 = 1_577_836_800_000;
/// What was counted is saved at the latest when it is so much, even if nothing was delivered for it.
pub const UNSAVED_BYTES_MAX: u64 = 64 << 10;

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
}

impl SocketBytes {
    pub fn add(&self, bytes: u64) {
        self.counted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Of all time.
    pub fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
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
    /// What was counted when it was last handed over to be stored.
    saved: AtomicU64,
}

impl SharedLink {
    /// Goes on from what is stored of it.
    pub fn new(configuration: &LinkConfiguration, stored: Option<&str>) -> SharedLink {
        let LinkConfiguration { name, settings, metered } = configuration;
        let kept = stored.and_then(|text| match serde_json::from_str::<Kept>(text) {
            Ok(kept) => Some(kept),
            Err(error) => {
                tracing::error!(link = name, "what was spent on the link cannot be read, and is counted anew: {error}");
                None
            }
        });
        let saved = kept.as_ref().map_or(0, Kept::counted);
        let mut budget = Budget::new(settings.clone(), kept);
        budget.set_metered(metered.at_start());
        SharedLink {
            name: name.as_str().into(),
            metered: metered.clone(),
            settings: settings.clone(),
            began: clock::instant(),
            budget: Mutex::new(budget),
            saved: AtomicU64::new(saved),
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

    /// Whether so much was counted since it was last stored that it should be now.
    pub fn is_save_due(&self) -> bool {
        let counted = self.lock().kept().counted();
        counted.saturating_sub(self.saved.load(Ordering::Relaxed)) >= UNSAVED_BYTES_MAX
    }

    /// What is to be stored with a cursor.
    pub fn state(&self) -> LinkState {
        let budget = self.lock();
        let counted = budget.kept().counted();
        self.saved.store(counted, Ordering::Relaxed);
        let state = serde_json::to_string(budget.kept()).expect("plain data");
        LinkState { name: Arc::clone(&self.name), counted, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(stored: Option<&str>) -> SharedLink {
        let settings = LinkSettings { bytes_per_day: Some(1_000), ..LinkSettings::default() };
        SharedLink::new(&LinkConfiguration { name: "lte".to_owned(), settings, metered: MeteredBy::Yes }, stored)
    }

    #[test]
    fn what_was_spent_is_known_after_a_restart() {
        let first = link(None);
        first.spend(Class::Live, 950);
        let LinkState { counted, state, .. } = first.state();
        assert_eq!(counted, 950);
        let second = link(Some(&state));
        assert_eq!(second.status().bytes_today, 950);
        assert!(second.status().waiting.is_some());
        assert!(!second.is_save_due());
        second.spend(Class::Live, UNSAVED_BYTES_MAX);
        assert!(second.is_save_due());
        assert_eq!(link(Some("no JSON")).status().bytes_today, 0);
    }

    #[test]
    fn bytes_of_sockets_are_charged_once() {
        let bytes = SocketBytes::default();
        bytes.add(70);
        bytes.add(30);
        assert_eq!((bytes.take(), bytes.take(), bytes.counted()), (100, 0, 100));
    }
}
