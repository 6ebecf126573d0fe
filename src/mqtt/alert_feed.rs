//! What becomes of alerts, for the administration interface: the same messages that subscribers get, in the same order for each alert.
//!
//! While nobody looks, nothing is kept but alerts that could not be stored, because those cannot be read from the store. A newer message of an
//! alert replaces an older one, and both lists have a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most alerts of which changes wait. Who looks takes them four times a second; beyond that it reads the store again.
const CHANGES_MAX: usize = 1_024;
/// Most alerts that are kept because they are not stored.
const UNSTORED_MAX: usize = 1_024;
const TOPIC: &str = "alerts/";
const UNSTORED: &[u8] = b"\"stored\":false}";

/// Changes since they were last taken, by topic. The payload is empty of an alert that was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertChanges {
    /// In the order of their first change.
    pub messages: Vec<(String, Vec<u8>)>,
    /// There were more than could be kept.
    pub is_incomplete: bool,
}

#[derive(Debug, Default)]
struct Feed {
    is_watched: bool,
    changes: AlertChanges,
    places: HashMap<String, usize>,
    unstored: HashMap<String, Vec<u8>>,
}

/// Cheap to clone. The outbox fills it, and the administration interface takes.
#[derive(Clone, Debug, Default)]
pub struct AlertFeed(Arc<Mutex<Feed>>);

impl AlertFeed {
    fn lock(&self) -> MutexGuard<'_, Feed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a retained message if it is an alert's state.
    pub(crate) fn note(&self, topic: &str, payload: &[u8]) {
        if !topic.starts_with(TOPIC) {
            return;
        }
        let mut feed = self.lock();
        if !payload.ends_with(UNSTORED) {
            feed.unstored.remove(topic);
        } else if feed.unstored.len() < UNSTORED_MAX || feed.unstored.contains_key(topic) {
            feed.unstored.insert(topic.to_owned(), payload.to_owned());
        }
        if !feed.is_watched {
            return;
        }
        match feed.places.get(topic) {
            Some(&place) => feed.changes.messages[place].1 = payload.to_owned(),
            None if feed.changes.messages.len() >= CHANGES_MAX => feed.changes.is_incomplete = true,
            None => {
                let place = feed.changes.messages.len();
                feed.places.insert(topic.to_owned(), place);
                feed.changes.messages.push((topic.to_owned(), payload.to_owned()));
            }
        }
    }

    /// Whether changes are to be kept from now on. Those that wait are dropped when nobody looks any more.
    pub fn watch(&self, is_watched: bool) {
        let mut feed = self.lock();
        feed.is_watched = is_watched;
        if !is_watched {
            feed.changes = AlertChanges::default();
            feed.places = HashMap::new();
        }
    }

    /// What has changed since the last call.
    pub fn take(&self) -> AlertChanges {
        let mut feed = self.lock();
        feed.places.clear();
        std::mem::take(&mut feed.changes)
    }

    /// Alerts of which the newest state is not stored.
    pub fn unstored(&self) -> Vec<Vec<u8>> {
        self.lock().unstored.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(feed: &AlertFeed, topic: &str, payload: &str) {
        feed.note(topic, payload.as_bytes());
    }

    fn taken(feed: &AlertFeed) -> Vec<(String, String)> {
        let text = |payload: Vec<u8>| String::from_utf8(payload).expect("a text");
        feed.take().messages.into_iter().map(|(topic, payload)| (topic, text(payload))).collect()
    }

    #[test]
    fn the_newest_state_of_each_alert_is_told_once_and_only_while_somebody_looks() {
        let feed = AlertFeed::default();
        put(&feed, "alerts/a/t/gap", "1");
        assert!(taken(&feed).is_empty());
        feed.watch(true);
        for (topic, payload) in [("alerts/a/t/gap", "2"), ("alerts/b/t/gap", "1"), ("alerts/a/t/gap", "")] {
            put(&feed, topic, payload);
        }
        put(&feed, "outrider/status", "x");
        let of = |topic: &str, payload: &str| (topic.to_owned(), payload.to_owned());
        assert_eq!(taken(&feed), [of("alerts/a/t/gap", ""), of("alerts/b/t/gap", "1")]);
        put(&feed, "alerts/b/t/gap", "2");
        assert_eq!(taken(&feed), [of("alerts/b/t/gap", "2")], "after a change was taken, the next one is new");
        put(&feed, "alerts/b/t/gap", "3");
        feed.watch(false);
        feed.watch(true);
        assert!(taken(&feed).is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_missing_is_said() {
        let feed = AlertFeed::default();
        feed.watch(true);
        (0..CHANGES_MAX).for_each(|number| put(&feed, &format!("alerts/{number}/t/gap"), "1"));
        put(&feed, "alerts/7/t/gap", "2");
        let changes = feed.take();
        assert_eq!((changes.messages.len(), changes.is_incomplete), (CHANGES_MAX, false));
        (0..=CHANGES_MAX).for_each(|number| put(&feed, &format!("alerts/{number}/t/gap"), "{\"stored\":false}"));
        let changes = feed.take();
        assert_eq!((changes.messages.len(), changes.is_incomplete), (CHANGES_MAX, true));
        assert_eq!(feed.unstored().len(), UNSTORED_MAX);
    }

    #[test]
    fn what_is_not_stored_is_kept_until_it_is() {
        let feed = AlertFeed::default();
        put(&feed, "alerts/a/t/gap", "{\"revision\":1,\"stored\":false}");
        put(&feed, "alerts/b/t/gap", "{\"stored\":false}");
        put(&feed, "alerts/a/t/gap", "{\"revision\":2,\"stored\":false}");
        put(&feed, "alerts/b/t/gap", "{\"stored\":true}");
        assert_eq!(feed.unstored(), [b"{\"revision\":2,\"stored\":false}".to_vec()]);
        put(&feed, "alerts/a/t/gap", "");
        assert!(feed.unstored().is_empty());
    }
}
