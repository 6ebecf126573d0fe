//! Publishes that cannot be decoded: one example of each kind (a reason and a topic), with the line of configuration that would take it.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Most kinds that are kept; a new one takes the place of the oldest.
const KINDS_MAX: usize = 32;
/// To find what would take a publish, it is decoded several times: not more often than this, whatever clients send.
const EXAMINED_EVERY: Duration = Duration::from_millis(200);
/// This much of an example is kept.
pub const SAMPLE_CHARS: usize = 256;
/// Most advice that the log gives: each piece once, because a thousand devices of one make need the same.
const ADVISED_MAX: usize = 32;

/// A kind of publishes that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndecodableKind {
    pub reason: Cow<'static, str>,
    pub topic: String,
    /// How many there were in this run, since it is listed.
    pub count: u64,
    /// The beginning of the first of them; bytes that are not text are replaced.
    pub sample: String,
    /// Why it is refused, and what would take it.
    pub hint: String,
}

#[derive(Debug, Default)]
pub struct UndecodableKinds {
    kinds: VecDeque<UndecodableKind>,
    advised: HashSet<String>,
    examined: Option<Instant>,
}

impl UndecodableKinds {
    /// Takes note of a publish. If it is the first of its kind, `hint` is asked what would take it. Returns that if it is advice which was
    /// not given before.
    pub fn note(
        &mut self,
        (reason, topic, payload): (&'static str, &str, &[u8]),
        now: Instant,
        hint: impl FnOnce() -> String,
    ) -> Option<&str> {
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
        let hint = hint();
        let is_advice = hint.contains('\n') && self.advised.len() < ADVISED_MAX && self.advised.insert(hint.clone());
        let reason = Cow::Borrowed(reason);
        self.kinds.push_back(UndecodableKind { reason, topic: topic.to_owned(), count: 1, sample, hint });
        self.kinds.back().filter(|_| is_advice).map(|kind| kind.hint.as_str())
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
        let mut examined = 0;
        let mut note = |topic: &str, at_ms: u64| {
            let now = start + Duration::from_millis(at_ms);
            let hint = || {
                examined += 1;
                "why".to_owned()
            };
            assert_eq!(kinds.note(("not_json", topic, "ä".repeat(2000).as_bytes()), now, hint), None, "no advice");
            examined
        };
        assert_eq!([note("a", 0), note("a", 1_000)], [1, 1]);
        assert_eq!([note("b", 1_000), note("c", 1_100)], [2, 2], "not more often, whatever comes");
        for n in 0..KINDS_MAX as u64 {
            note(&format!("t{n}"), 2_000 + n * 1_000);
        }
        let list = kinds.list();
        assert_eq!((list.len(), list[0].topic.as_str()), (KINDS_MAX, "t0"));
        assert_eq!(list[0].sample.chars().count(), SAMPLE_CHARS);
        assert_eq!((list[0].count, list[0].hint.as_str()), (1, "why"));
    }

    #[test]
    fn advice_is_given_once_however_many_devices_need_it() {
        let start = Instant::now();
        let mut kinds = UndecodableKinds::default();
        let mut advised = 0;
        for n in 0..100u64 {
            let (topic, now) = (format!("devices/{n}/t"), start + Duration::from_secs(n));
            let hint = format!("add:\nline {}", n / 50);
            advised += usize::from(kinds.note(("not_json", &topic, b"x"), now, || hint.clone()) == Some(&hint));
        }
        assert_eq!(advised, 2);
        for n in 100..200u64 {
            let topic = format!("devices/{n}/t");
            advised += usize::from(
                kinds
                    .note(("no_number", &topic, b"x"), start + Duration::from_secs(n), || format!("add:\n{n}"))
                    .is_some(),
            );
        }
        assert_eq!(advised, ADVISED_MAX);
    }
}
