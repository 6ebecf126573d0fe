//! How long limits have been exceeded that raise an alert only after a while. Counted by the devices' own times, so that readings from a
//! device's buffer count as they were measured.

use hashbrown::{Equivalent, HashMap};

use super::limit::{Bounds, Judged};
use crate::batch::varint::{self, Cursor};
use crate::detection::window::JUMP_MS;

/// Most series that are kept. For any further one such a limit raises at once: too early rather than never.
const SERIES_MAX: usize = 10_000;

/// A limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    limit: u8,
    since_ms: i64,
    last_ms: i64,
    /// It has been exceeded for long enough, and stays so until the value clears it.
    is_due: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    device: Box<str>,
    metric: Box<str>,
}

#[derive(Hash)]
struct KeyRef<'a> {
    device: &'a str,
    metric: &'a str,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        (self.device, self.metric) == (&*key.device, &*key.metric)
    }
}

#[derive(Debug)]
struct Series {
    heard_ms: i64,
    runs: Vec<Run>,
}

/// The limits that are exceeded and must be so for some time, by series.
#[derive(Debug, Default)]
pub struct Holds(HashMap<Key, Series>);

impl Holds {
    /// Which of the limits that a usable value exceeds raise an alert now, a bit each. `at_ms` is the time of the reading, `now_ms` the
    /// listener's; `all` are the limits of the metric.
    pub fn due(
        &mut self,
        (device, metric): (&str, &str),
        at_ms: i64,
        now_ms: i64,
        judged: &Judged,
        all: &[Bounds],
    ) -> u64 {
        let waits = |at: usize| all[at].hold_ms > 0;
        let at_once = (0..all.len()).filter(|&at| !waits(at)).fold(0, |bits, at| bits | 1 << at);
        let wanted = KeyRef { device, metric };
        if judged.exceeded & !at_once == 0 && !self.0.contains_key(&wanted) {
            return judged.exceeded;
        }
        if !self.0.contains_key(&wanted) {
            if self.0.len() >= SERIES_MAX {
                return judged.exceeded;
            }
            let key = Key { device: device.into(), metric: metric.into() };
            self.0.insert(key, Series { heard_ms: now_ms, runs: Vec::new() });
        }
        let series = self.0.get_mut(&wanted).expect("just inserted");
        series.heard_ms = now_ms;
        let mut due = judged.exceeded & at_once;
        for at in (0..all.len()).filter(|&at| waits(at)) {
            let bit = 1 << at;
            series.go_on(at as u8, at_ms, judged.exceeded & bit != 0, judged.uncleared & bit == 0);
            let run = series.runs.iter_mut().find(|run| usize::from(run.limit) == at);
            if let Some(run) = run.filter(|_| judged.exceeded & bit != 0) {
                let held_ms = u64::try_from(run.last_ms.saturating_sub(run.since_ms)).unwrap_or(0);
                run.is_due |= held_ms >= all[at].hold_ms;
                due |= if run.is_due { bit } else { 0 };
            }
        }
        if series.runs.is_empty() {
            self.0.remove(&wanted);
        }
        due
    }

    /// Forgets series that have not been heard for `silent_ms_max` milliseconds.
    pub fn sweep(&mut self, now_ms: i64, silent_ms_max: i64) {
        self.0.retain(|_, series| now_ms.saturating_sub(series.heard_ms) < silent_ms_max);
    }

    /// Whether no series has such a limit exceeded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the state, for [`Holds::decode`] after a restart.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.0.len() as u64);
        for (Key { device, metric }, series) in &self.0 {
            varint::put_bytes(out, device.as_bytes());
            varint::put_bytes(out, metric.as_bytes());
            varint::put(out, series.runs.len() as u64);
            for run in &series.runs {
                out.extend_from_slice(&[run.limit, u8::from(run.is_due)]);
                varint::put_signed(out, run.since_ms);
                varint::put_signed(out, run.last_ms);
            }
        }
    }

    /// Reads the state back; `None` if it cannot have been written by [`Holds::encode`]. All series count as heard at `now_ms`.
    pub fn decode(cursor: &mut Cursor<'_>, now_ms: i64) -> Option<Holds> {
        let count = cursor.number().filter(|&count| count <= SERIES_MAX as u64)?;
        let mut holds = Holds::default();
        for _ in 0..count {
            let mut text = || std::str::from_utf8(cursor.bytes()?).ok();
            let key = Key { device: text()?.into(), metric: text()?.into() };
            let count = cursor.number().filter(|&count| count <= 64)?;
            let run = |_| {
                let (limit, is_due) = (cursor.byte().filter(|&limit| limit < 64)?, cursor.byte()? != 0);
                Some(Run { limit, is_due, since_ms: cursor.signed()?, last_ms: cursor.signed()? })
            };
            let runs = (0..count).map(run).collect::<Option<Vec<_>>>()?;
            holds.0.insert(key, Series { heard_ms: now_ms, runs });
        }
        Some(holds)
    }
}

impl Series {
    /// Another reading: whether it exceeds the limit, and whether it clears it.
    fn go_on(&mut self, limit: u8, at_ms: i64, is_exceeded: bool, is_clear: bool) {
        let Some(place) = self.runs.iter().position(|run| run.limit == limit) else {
            if is_exceeded {
                self.runs.push(Run { limit, since_ms: at_ms, last_ms: at_ms, is_due: false });
            }
            return;
        };
        let run = &mut self.runs[place];
        if is_exceeded {
            // The device's clock was set back: begin anew, or the run would stand still until the clock has caught up.
            let is_set_back = at_ms < run.since_ms.saturating_sub(JUMP_MS);
            run.since_ms = if is_set_back { at_ms } else { run.since_ms };
            run.last_ms = if is_set_back { at_ms } else { run.last_ms.max(at_ms) };
        } else if run.is_due && !is_clear || at_ms < run.since_ms {
            // Within the bound but not within the clearing bound; or measured before the run began.
        } else if run.is_due || at_ms >= run.last_ms {
            self.runs.swap_remove(place);
        } else {
            run.since_ms = run.last_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::detectors::limit;
    use crate::detection::detectors::profile::Profile;

    fn bounds() -> [Bounds; 2] {
        let wait = Bounds { high: Some(8.0), hold_ms: 60_000, clear_high: Some(6.0), ..Bounds::NONE };
        [wait, Bounds { high: Some(20.0), ..Bounds::NONE }]
    }

    fn due(holds: &mut Holds, second: i64, value: f64) -> u64 {
        let judged = limit::judge(value, "d", &Profile::SLOW, &bounds());
        holds.due(("d", "m"), second * 1_000, second * 1_000, &judged, &bounds())
    }

    /// The seconds in which the limit that waits is due.
    fn due_seconds(readings: &[(i64, f64)]) -> Vec<i64> {
        let mut holds = Holds::default();
        let due = readings.iter().filter(|(second, value)| due(&mut holds, *second, *value) & 1 != 0);
        due.map(|(second, _)| *second).collect()
    }

    #[test]
    fn a_limit_that_waits_raises_when_it_has_been_exceeded_for_so_long() {
        assert_eq!(due_seconds(&[(0, 9.0), (30, 9.0), (59, 9.0), (60, 9.0), (61, 9.0)]), [60, 61]);
        assert_eq!(due_seconds(&[(0, 9.0), (70, 9.0)]), [70], "by the device's own times");
        assert_eq!(due_seconds(&[(0, 9.0), (30, 7.0), (60, 9.0), (119, 9.0), (120, 9.0)]), [120], "in one go");
        let once_due = [(0, 9.0), (60, 9.0), (61, 7.0), (62, 9.0), (63, 6.0), (64, 9.0)];
        assert_eq!(due_seconds(&once_due), [60, 62], "until it is cleared");
        assert_eq!(due_seconds(&[(100, 9.0), (99, 7.0), (160, 9.0)]), [160], "what was before says nothing");
        assert_eq!(due_seconds(&[(100, 9.0), (150, 9.0), (120, 7.0), (160, 9.0), (210, 9.0)]), [210]);
        assert_eq!(due_seconds(&[(1_000, 9.0), (10, 9.0), (70, 9.0)]), [70], "the clock was set back");
        let mut holds = Holds::default();
        assert_eq!(due(&mut holds, 0, 25.0), 0b10, "the other does not wait");
        assert_eq!(due(&mut holds, 1, 5.0), 0);
        assert!(holds.is_empty(), "nothing is kept of who is well");
    }

    #[test]
    fn a_wait_goes_on_after_a_restart() {
        let mut holds = Holds::default();
        assert_eq!(due(&mut holds, 0, 9.0), 0);
        let mut out = Vec::new();
        holds.encode(&mut out);
        let mut cursor = Cursor { rest: &out };
        let mut holds = Holds::decode(&mut cursor, 0).expect("ours");
        assert!(cursor.rest.is_empty());
        assert_eq!(due(&mut holds, 60, 9.0), 1);
        assert!(Holds::decode(&mut Cursor { rest: &out[..out.len() - 1] }, 0).is_none());
    }

    #[test]
    fn too_many_series_that_wait_raise_early_rather_than_never() {
        let mut holds = Holds::default();
        let judged = limit::judge(9.0, "d", &Profile::SLOW, &bounds());
        for number in 0..=SERIES_MAX {
            let device = number.to_string();
            let due = holds.due((&device, "m"), 0, 0, &judged, &bounds());
            assert_eq!(due != 0, number == SERIES_MAX);
        }
        holds.sweep(100, 100);
        assert!(holds.is_empty());
    }
}
