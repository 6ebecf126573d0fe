//! What cannot be decoded, publishes and lines of files: one example of each kind (a reason and a topic), with the line of configuration that
//! would take it.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::hints::why;

/// Most kinds that are kept; a new one takes the place of the oldest.
const KINDS_MAX: usize = 32;
/// To find what would take a publish, it is decoded several times: not more often than this, whatever clients send.
const EXAMINED_EVERY: Duration = Duration::from_millis(200);
/// This much of an example is kept.
pub const SAMPLE_CHARS: usize = 256;
/// Most advice that the log gives: each piece once, because a thousand devices of one make need the same.
const ADVISED_MAX: usize = 32;

/// A kind of publishes or lines that cannot be decoded.
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

/// One that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'r> {
    pub reason: &'static str,
    pub topic: &'r str,
    /// The publish, or the line.
    pub sample: &'r [u8],
    /// How many of its kind there were with it.
    pub count: u64,
}

/// Those of this run. Whoever decodes notes them.
#[derive(Debug, Default)]
pub struct UndecodableKinds(Mutex<Kinds>);

#[derive(Debug)]
struct Known {
    kind: UndecodableKind,
    /// It was found out what would take it.
    is_examined: bool,
}

#[derive(Debug, Default)]
struct Kinds {
    kinds: VecDeque<Known>,
    advised: HashSet<String>,
    examined: Option<Instant>,
}

impl UndecodableKinds {
    /// Takes note of a publish or a line. If it is the first of its kind, `hint` is asked what would take it, or later, if others have just
    /// been examined. Returns that if it is advice which was not given before.
    pub fn note(&self, refused: Refused<'_>, now: Instant, hint: impl FnOnce() -> String) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(refused, now, hint)
    }

    /// The oldest first.
    pub fn list(&self) -> Vec<UndecodableKind> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.kinds.iter().map(|known| known.kind.clone()).collect()
    }
}

impl Kinds {
    fn note(&mut self, refused: Refused<'_>, now: Instant, hint: impl FnOnce() -> String) -> Option<String> {
        let Refused { reason, topic, sample, count } = refused;
        let is_it = |known: &Known| known.kind.reason == reason && known.kind.topic == topic;
        let place = self.kinds.iter().position(is_it).unwrap_or_else(|| {
            if self.kinds.len() == KINDS_MAX {
                self.kinds.pop_front();
            }
            let shown = &sample[..sample.len().min(4 * SAMPLE_CHARS)];
            let sample = String::from_utf8_lossy(shown).chars().take(SAMPLE_CHARS).collect();
            let (reason, topic, hint) = (Cow::Borrowed(reason), topic.to_owned(), why(reason).to_owned());
            let kind = UndecodableKind { reason, topic, count: 0, sample, hint };
            self.kinds.push_back(Known { kind, is_examined: false });
            self.kinds.len() - 1
        });
        let Known { kind, is_examined } = &mut self.kinds[place];
        kind.count += count;
        if *is_examined || self.examined.is_some_and(|examined| now.duration_since(examined) < EXAMINED_EVERY) {
            return None;
        }
        (self.examined, *is_examined) = (Some(now), true);
        kind.hint = hint();
        let hint = &kind.hint;
        let is_advice = hint.contains('\n') && self.advised.len() < ADVISED_MAX && self.advised.insert(hint.clone());
        is_advice.then(|| hint.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_kind_is_kept_and_examined() {
        let start = Instant::now();
        let kinds = UndecodableKinds::default();
        let mut examined = 0;
        let mut note = |topic: &str, at_ms: u64| {
            let now = start + Duration::from_millis(at_ms);
            let hint = || {
                examined += 1;
                "found out".to_owned()
            };
            let sample = "ä".repeat(2000);
            let refused = Refused { reason: "not_json", topic, sample: sample.as_bytes(), count: 2 };
            assert_eq!(kinds.note(refused, now, hint), None, "no advice");
            examined
        };
        assert_eq!([note("a", 0), note("a", 1_000)], [1, 1]);
        assert_eq!([note("b", 1_000), note("c", 1_100)], [2, 2], "not more often, whatever comes");
        let of_c = |count| ("c", count, "it is neither a number nor JSON");
        let shown = |kind: &UndecodableKind| (kind.topic.clone(), kind.count, kind.hint.clone());
        let (topic, count, hint) = shown(&kinds.list()[2]);
        assert_eq!((topic.as_str(), count, hint.as_str()), of_c(2), "but it is listed");
        assert_eq!(note("c", 1_300), 3, "and examined when there is time");
        for n in 0..KINDS_MAX as u64 {
            note(&format!("t{n}"), 2_000 + n * 1_000);
        }
        let list = kinds.list();
        assert_eq!((list.len(), list[0].topic.as_str()), (KINDS_MAX, "t0"));
        assert_eq!(list[0].sample.chars().count(), SAMPLE_CHARS);
        assert_eq!((list[0].count, list[0].hint.as_str()), (2, "found out"));
    }

    #[test]
    fn advice_is_given_once_however_many_devices_need_it() {
        let start = Instant::now();
        let kinds = UndecodableKinds::default();
        let note = |topic: &str, now, hint: &str| {
            let refused = Refused { reason: "not_json", topic, sample: b"x", count: 1 };
            kinds.note(refused, now, || hint.to_owned())
        };
        let mut advised = 0;
        for n in 0..100u64 {
            let (topic, now) = (format!("devices/{n}/t"), start + Duration::from_secs(n));
            let hint = format!("add:\nline {}", n / 50);
            advised += usize::from(note(&topic, now, &hint).as_ref() == Some(&hint));
        }
        assert_eq!(advised, 2);
        for n in 100..200u64 {
            let topic = format!("devices/{n}/t");
            advised += usize::from(note(&topic, start + Duration::from_secs(n), &format!("add:\n{n}")).is_some());
        }
        assert_eq!(advised, ADVISED_MAX);
    }
}
