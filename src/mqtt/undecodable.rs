//! Publishes that cannot be decoded: one example of each kind (a reason and a topic), with the line of configuration that would take it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Most kinds that are kept; a new one takes the place of the oldest.
const KINDS_MAX: usize = 32;
/// To find what would take a publish, it is decoded several times: not more often than this, whatever clients send.
const EXAMINED_EVERY: Duration = Duration::from_millis(200);
/// This much of an example is kept.
const SAMPLE_CHARS: usize = 256;

/// A kind of publishes that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndecodableKind {
    pub reason: &'static str,
    pub topic: String,
    /// How many there were since it is listed.
    pub count: u64,
    /// The beginning of the first of them; bytes that are not text are replaced.
    pub sample: String,
    /// Why it is refused, and what would take it.
    pub hint: String,
}

#[derive(Debug, Default)]
pub struct UndecodableKinds {
    kinds: VecDeque<UndecodableKind>,
    examined: Option<Instant>,
}

impl UndecodableKinds {
    /// Takes note of a publish. If it is the first of its kind, `hint` is asked what would take it, and the kind is returned.
    pub fn note(
        &mut self,
        (reason, topic, payload): (&'static str, &str, &[u8]),
        now: Instant,
        hint: impl FnOnce() -> String,
    ) -> Option<&UndecodableKind> {
        if let Some(known) = self.kinds.iter_mut().find(|kind| kind.reason == reason && kind.topic == topic) {
            known.count += 1;
            return None;
        }
        if self.examined.is_some_and(|examined| now.duration_since(examined) < EXAMINED_EVERY) {
            return None;
        }
        self.examined = Some(now);
        if self.kinds.len() == KINDS_MAX {
            self.kinds.pop_front();
        }
        let shown = &payload[..payload.len().min(4 * SAMPLE_CHARS)];
        let sample = String::from_utf8_lossy(shown).chars().take(SAMPLE_CHARS).collect();
        self.kinds.push_back(UndecodableKind { reason, topic: topic.to_owned(), count: 1, sample, hint: hint() });
        self.kinds.back()
    }

    /// The oldest first.
    pub fn list(&self) -> Vec<UndecodableKind> {
        self.kinds.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_kind_is_kept_and_examined() {
        let start = Instant::now();
        let mut kinds = UndecodableKinds::default();
        let mut note = |topic: &str, at_ms: u64| {
            let now = start + Duration::from_millis(at_ms);
            kinds.note(("not_json", topic, "ä".repeat(2000).as_bytes()), now, || "why".to_owned()).is_some()
        };
        assert!(note("a", 0) && !note("a", 1_000));
        assert!(note("b", 1_000) && !note("c", 1_100), "not more often, whatever comes");
        for n in 0..KINDS_MAX as u64 {
            note(&format!("t{n}"), 2_000 + n * 1_000);
        }
        let list = kinds.list();
        assert_eq!((list.len(), list[0].topic.as_str()), (KINDS_MAX, "t0"));
        assert_eq!(list[0].sample.chars().count(), SAMPLE_CHARS);
        assert_eq!((list[0].count, list[0].hint.as_str()), (1, "why"));
    }
}
