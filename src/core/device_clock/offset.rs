//! The offset of a clock: when it is steady.

/// An offset is steady when it changed by less than this ...
pub(super) const STEADY_WITHIN_MS: i64 = 2_000;
/// ... over so much device time.
const STEADY_AFTER_MS: i64 = 10_000;

/// Readings whose offset was the same.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    from_device_ms: i64,
    fastest_ms: i64,
    slowest_ms: i64,
}

impl Run {
    fn new(device_ms: i64, offset_ms: i64) -> Run {
        Run { from_device_ms: device_ms, fastest_ms: offset_ms, slowest_ms: offset_ms }
    }

    /// Takes another reading, if its offset is that of the others. Returns whether it did.
    fn takes(&mut self, offset_ms: i64) -> bool {
        let (fastest_ms, slowest_ms) = (self.fastest_ms.min(offset_ms), self.slowest_ms.max(offset_ms));
        let fits = slowest_ms.saturating_sub(fastest_ms) < STEADY_WITHIN_MS;
        if fits {
            (self.fastest_ms, self.slowest_ms) = (fastest_ms, slowest_ms);
        }
        fits
    }

    fn is_steady(&self, device_ms: i64) -> bool {
        device_ms.saturating_sub(self.from_device_ms).saturating_abs() >= STEADY_AFTER_MS
    }
}

/// How well a delay fits, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    Lately,
    Steady,
}

/// What readings say of the offset of one clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Offset {
    /// The last one that was steady.
    pub steady_ms: Option<i64>,
    /// The fastest readings; and, of slower ones, those since which none was as fast: perhaps the clock was set back.
    fastest: Option<Run>,
    slower: Option<Run>,
}

impl Offset {
    pub fn known(steady_ms: Option<i64>) -> Offset {
        Offset { steady_ms, ..Offset::default() }
    }

    /// Takes note of a reading's delay, which may make an offset steady.
    pub fn learn(&mut self, device_ms: i64, delay_ms: i64) {
        let fastest = self.fastest.get_or_insert(Run::new(device_ms, delay_ms));
        if fastest.takes(delay_ms) {
            self.slower = None;
        } else if delay_ms < fastest.fastest_ms {
            (*fastest, self.slower) = (Run::new(device_ms, delay_ms), None);
        } else {
            let slower = self.slower.get_or_insert(Run::new(device_ms, delay_ms));
            if !slower.takes(delay_ms) {
                *slower = Run::new(device_ms, delay_ms);
            } else if slower.is_steady(device_ms) {
                *fastest = *slower;
                self.slower = None;
            }
        }
        let fastest_ms = fastest.fastest_ms;
        // Small changes are ignored, so that a history stays in order.
        let has_moved = |known_ms: i64| known_ms.abs_diff(fastest_ms) >= STEADY_WITHIN_MS.unsigned_abs();
        if self.slower.is_none() && fastest.is_steady(device_ms) && self.steady_ms.is_none_or(has_moved) {
            self.steady_ms = Some(fastest_ms);
        }
    }

    /// How well a delay fits this clock: its steady offset, or else that of some recent readings. `None` if it does not.
    pub fn fit(&self, delay_ms: i64) -> Option<Fit> {
        if self.steady_ms.is_some_and(|ms| ms.abs_diff(delay_ms) < STEADY_WITHIN_MS.unsigned_abs()) {
            return Some(Fit::Steady);
        }
        let mut runs = [self.fastest, self.slower].into_iter().flatten();
        runs.any(|mut run| run.takes(delay_ms)).then_some(Fit::Lately)
    }

    /// The steady offset, or the best guess.
    pub fn likely_ms(&self) -> Option<i64> {
        self.steady_ms.or(self.fastest.map(|run| run.fastest_ms))
    }

    /// Since when the offset has been what it is, by the clock that delays are measured by.
    pub fn since_ms(&self) -> Option<i64> {
        self.fastest.map(|run| run.from_device_ms.saturating_add(run.fastest_ms))
    }
}
