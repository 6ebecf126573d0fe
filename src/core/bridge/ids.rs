//! The ids of commands that were published, bounded in number and in age.

use std::collections::{BTreeMap, HashMap};

use super::kept::KeptId;

/// Most ids that are remembered of one bridge.
pub const IDS_MAX: usize = 8_192;
/// For how long one is remembered whose command does not expire.
pub const AGE_MS_MAX: i64 = 30 * 86_400_000;

/// The ids of one bridge.
#[derive(Debug, Default)]
pub struct Ids {
    numbers: HashMap<String, u64>,
    /// In the order in which they came.
    all: BTreeMap<u64, (String, KeptId)>,
    last: u64,
}

impl Ids {
    /// An id that was stored.
    pub fn restore(&mut self, id: String, kept: KeptId) {
        self.last = self.last.max(kept.number);
        if let Some(before) = self.numbers.insert(id.clone(), kept.number) {
            self.all.remove(&before);
        }
        self.all.insert(kept.number, (id, kept));
    }

    /// Whether there was a command of this id.
    pub fn contains(&self, id: &str) -> bool {
        self.numbers.contains_key(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Remembers a new one, without its age while the clock is not set (`None`). Returns what is to be stored of it.
    pub fn remember(&mut self, id: &str, now_ms: Option<i64>, expires_at_ms: Option<i64>) -> KeptId {
        self.last += 1;
        let kept = KeptId { number: self.last, received_at_ms: now_ms, expires_at_ms };
        self.restore(id.to_owned(), kept);
        kept
    }

    /// It was not stored after all.
    pub fn forget(&mut self, id: &str) {
        if let Some(number) = self.numbers.remove(id) {
            self.all.remove(&number);
        }
    }

    /// Forgets those that are of no use any more, at most so many at once: first what there is no room for, then what is old. A command that
    /// has expired would be refused for that if it came again; while the clock is not set (`None`), nothing counts as old, and of what came while
    /// it was not, nobody knows how old it is: only what expires and the number of all bound that. Returns them.
    pub fn let_go(&mut self, now_ms: Option<i64>, at_once: usize) -> Vec<String> {
        let surplus = self.all.len().saturating_sub(IDS_MAX);
        let is_old = |kept: &KeptId| {
            now_ms.is_some_and(|now_ms| {
                kept.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms)
                    || kept
                        .received_at_ms
                        .is_some_and(|received_at_ms| now_ms.saturating_sub(received_at_ms) >= AGE_MS_MAX)
            })
        };
        let gone = self.all.iter().enumerate().filter(|(at, (_, (_, kept)))| *at < surplus || is_old(kept));
        let gone: Vec<String> = gone.take(at_once).map(|(_, (_, (id, _)))| id.clone()).collect();
        gone.iter().for_each(|id| self.forget(id));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_until_they_are_of_no_use() {
        let mut ids = Ids::default();
        ids.remember("expires", Some(1_000), Some(5_000));
        ids.remember("stays", Some(1_000), None);
        assert!(ids.let_go(Some(4_999), 10).is_empty() && ids.contains("expires"));
        assert!(ids.let_go(None, 10).is_empty(), "the clock is not set");
        assert_eq!(ids.let_go(Some(5_000), 10), ["expires"]);
        assert!(ids.let_go(Some(AGE_MS_MAX + 999), 10).is_empty());
        assert_eq!(ids.let_go(Some(AGE_MS_MAX + 1_000), 10), ["stays"]);
        assert!(ids.is_empty());
    }

    #[test]
    fn what_came_before_the_clock_was_set_is_not_old_because_it_is_set() {
        let mut ids = Ids::default();
        let stored = ids.remember("door", None, None);
        let mut later = Ids::default();
        later.restore("door".to_owned(), KeptId::from_bytes(&stored.to_bytes()).expect("written as it is read"));
        for ids in [&mut ids, &mut later] {
            assert!(ids.let_go(Some(1_780_000_000_000), 10).is_empty() && ids.contains("door"));
        }
        ids.remember("expires", None, Some(5_000));
        assert_eq!(ids.let_go(Some(5_000), 10), ["expires"]);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut ids = Ids::default();
        (0..IDS_MAX + 3).for_each(|number| _ = ids.remember(&number.to_string(), Some(0), None));
        assert_eq!(ids.let_go(None, 2), ["0", "1"]);
        assert_eq!(ids.let_go(None, 100), ["2"]);
        assert_eq!(ids.len(), IDS_MAX);
    }

    #[test]
    fn what_was_stored_comes_back_in_order_and_what_was_not_is_forgotten() {
        let mut ids = Ids::default();
        let first = ids.remember("a", Some(1), None);
        let second = ids.remember("b", Some(1), None);
        let mut later = Ids::default();
        later.restore("b".to_owned(), second);
        later.restore("a".to_owned(), first);
        assert!(later.remember("c", Some(1), None).number > second.number);
        later.forget("b");
        assert!(later.contains("a") && !later.contains("b") && later.contains("c"));
    }
}
