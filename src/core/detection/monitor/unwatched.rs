//! Series that are not watched, and why: so that nobody takes the silence of a detector for good news.
//!
//! They have no place in the table of series. A few hundred are known by name, which is what people can read; that more come costs nothing.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::detection::window::Sample;
use crate::reading::Reading;

/// Most series that are known by name.
const LISTED_MAX: usize = 512;
/// A full list makes room for others by leaving out those that were silent for so long ...
const LEFT_OUT_AFTER_MS: i64 = 3_600_000;
/// ... which is looked at no more often than this, because each time looks at all of them.
const MAKE_ROOM_EVERY_MS: i64 = 60_000;

/// Why a series is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnwatchedReason {
    /// Its profile is off, as the name of its metric or the configuration says; configured limits hold all the same.
    Profile,
    /// As many series as allowed are watched already.
    Crowded,
    /// None of its readings had a value yet.
    Valueless,
}

/// A series that is not watched.
#[derive(Debug)]
pub(super) struct UnwatchedSeries {
    /// Name of its device.
    pub device: Box<str>,
    /// Name of its metric.
    pub metric: Box<str>,
    /// Why its newest reading was not watched.
    pub reason: UnwatchedReason,
    /// Its newest reading; the value may be none.
    pub newest: Sample,
    /// When that came, by the listener's steady clock.
    pub heard_ms: i64,
    /// Usual time between two arrivals; 0 before there were two.
    pub interval_ms: f32,
}

/// How many arrivals the usual interval remembers.
const INTERVAL_MEMORY: f32 = 8.0;

#[derive(Debug, Default)]
pub(super) struct Unwatched {
    series: HashTable<UnwatchedSeries>,
    hasher: DefaultHashBuilder,
    made_room_ms: Option<i64>,
}

impl Unwatched {
    /// Takes note of a reading that is not watched.
    pub fn note(&mut self, reading: &Reading<'_>, reason: UnwatchedReason, now_ms: i64) {
        let &Reading { device, metric, value, measured_at_ms: at_ms, .. } = reading;
        let hash = self.hasher.hash_one((device, metric));
        let newest = Sample { at_ms, value };
        if let Some(known) = self.series.find_mut(hash, |known| known.is(device, metric)) {
            known.reason = reason;
            known.hear(newest, now_ms);
            return;
        }
        if self.series.len() >= LISTED_MAX && !self.makes_room(now_ms) {
            return;
        }
        let (device, metric) = (device.into(), metric.into());
        let new = UnwatchedSeries { device, metric, reason, newest, heard_ms: now_ms, interval_ms: 0.0 };
        let hasher = &self.hasher;
        self.series.insert_unique(hash, new, |known| hasher.hash_one((&*known.device, &*known.metric)));
    }

    /// The series is watched now.
    pub fn remove(&mut self, device: &str, metric: &str) {
        let hash = self.hasher.hash_one((device, metric));
        if let Ok(found) = self.series.find_entry(hash, |known| known.is(device, metric)) {
            found.remove();
        }
    }

    /// Forgets a series of a device, or all of them.
    pub fn forget(&mut self, device: &str, metric: Option<&str>) {
        self.series.retain(|known| *known.device != *device || metric.is_some_and(|metric| *known.metric != *metric));
    }

    /// Forgets those that were silent for this long.
    pub fn sweep(&mut self, now_ms: i64, silent_ms: i64) {
        self.series.retain(|known| now_ms.saturating_sub(known.heard_ms) < silent_ms);
    }

    /// A series by its name.
    pub fn find(&self, device: &str, metric: &str) -> Option<&UnwatchedSeries> {
        let hash = self.hasher.hash_one((device, metric));
        self.series.find(hash, |known| known.is(device, metric))
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = &UnwatchedSeries> {
        self.series.iter()
    }

    fn makes_room(&mut self, now_ms: i64) -> bool {
        if self.made_room_ms.is_some_and(|made_room_ms| now_ms.saturating_sub(made_room_ms) < MAKE_ROOM_EVERY_MS) {
            return false;
        }
        self.made_room_ms = Some(now_ms);
        self.sweep(now_ms, LEFT_OUT_AFTER_MS);
        self.series.len() < LISTED_MAX
    }
}

impl UnwatchedSeries {
    fn is(&self, device: &str, metric: &str) -> bool {
        *self.device == *device && *self.metric == *metric
    }

    fn hear(&mut self, reading: Sample, now_ms: i64) {
        let elapsed_ms = now_ms.saturating_sub(self.heard_ms) as f32;
        let memory = if self.interval_ms == 0.0 { 1.0 } else { INTERVAL_MEMORY };
        self.interval_ms += (elapsed_ms - self.interval_ms) / memory;
        self.heard_ms = now_ms;
        if reading.at_ms >= self.newest.at_ms {
            self.newest = reading;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_listed_once_with_its_newest_reason() {
        let mut unwatched = Unwatched::default();
        let at = |device, metric| Reading::at(0, device, metric, 1.0);
        unwatched.note(&at("a", "lat"), UnwatchedReason::Profile, 0);
        unwatched.note(&at("a", "temp"), UnwatchedReason::Valueless, 1);
        unwatched.note(&at("a", "temp"), UnwatchedReason::Crowded, 2);
        unwatched.note(&at("b", "temp"), UnwatchedReason::Crowded, 2);
        let reason = |unwatched: &Unwatched, device: &str, metric: &str| {
            unwatched.iter().find(|known| known.is(device, metric)).map(|known| known.reason)
        };
        assert_eq!(unwatched.iter().count(), 3);
        assert_eq!(reason(&unwatched, "a", "temp"), Some(UnwatchedReason::Crowded));
        unwatched.remove("a", "temp");
        unwatched.remove("a", "nothing");
        assert_eq!((unwatched.iter().count(), reason(&unwatched, "a", "temp")), (2, None));
        unwatched.forget("a", Some("other"));
        unwatched.forget("b", None);
        assert_eq!(unwatched.iter().count(), 1);
        unwatched.forget("a", Some("lat"));
        assert_eq!(unwatched.iter().count(), 0);
    }

    #[test]
    fn a_full_list_makes_room_for_those_that_still_report() {
        let mut unwatched = Unwatched::default();
        let note = |unwatched: &mut Unwatched, number: usize, now_ms: i64| {
            unwatched.note(&Reading::at(0, "d", &format!("id{number}"), 1.0), UnwatchedReason::Profile, now_ms);
        };
        (0..LISTED_MAX + 100).for_each(|number| note(&mut unwatched, number, 0));
        assert_eq!(unwatched.iter().count(), LISTED_MAX, "what else comes is not kept");
        note(&mut unwatched, 7, LEFT_OUT_AFTER_MS);
        note(&mut unwatched, 1_000, LEFT_OUT_AFTER_MS);
        assert_eq!(unwatched.iter().count(), 2, "the others are silent");
        unwatched.sweep(LEFT_OUT_AFTER_MS + 10, 10);
        assert_eq!(unwatched.iter().count(), 0);
    }
}
