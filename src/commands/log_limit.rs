//! Repeated log lines are limited: of each place in the program (and sink that it is about) a number of lines at once, then a few in a minute. What is left out is counted
//! in the next line from there. A client or a disk that repeats itself must neither hide other lines nor wear out the flash that the journal
//! is on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Lines of one place that are written at once.
const BURST: u32 = 50;
/// After that, one more for each time of this length.
const REFILL: Duration = Duration::from_secs(5);

/// Who did what is never left out: others must not be able to hide it behind what is harmless.
const AUDIT: &str = "outrider::audit";

/// Where a line comes from: a place in the program, and the sink that it is about, if it is about one.
type Origin = (Identifier, Option<String>);

/// Finds the name of the sink among the fields of a line.
#[derive(Default)]
struct SinkName(Option<String>);

impl Visit for SinkName {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "sink" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// What one place in the program may still write.
#[derive(Clone, Copy, Debug)]
struct Budget {
    lines: u32,
    refilled_at: Instant,
    left_out: u64,
}

impl Budget {
    fn new(now: Instant) -> Budget {
        Budget { lines: BURST, refilled_at: now, left_out: 0 }
    }

    /// Whether the next line is written, and if so how many before it were not.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.refilled_at).as_secs() / REFILL.as_secs();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        self.lines = self.lines.saturating_add(more).min(BURST);
        self.refilled_at = if self.lines == BURST { now } else { self.refilled_at + REFILL * more };
        match self.lines.checked_sub(1) {
            Some(lines) => {
                self.lines = lines;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

/// How a line says that others were left out before it.
pub type Note = fn(&mut Writer<'_>, Level, u64) -> fmt::Result;

/// A format for events that leaves some of them out.
#[derive(Debug)]
pub struct Limited<F> {
    format: F,
    note: Note,
    origins: Mutex<HashMap<Origin, Budget>>,
}

impl<F> Limited<F> {
    pub fn new(format: F, note: Note) -> Limited<F> {
        Limited { format, note, origins: Mutex::default() }
    }

    fn admit(&self, event: &Event<'_>, now: Instant) -> Option<u64> {
        if event.metadata().target() == AUDIT {
            return Some(0);
        }
        let mut sink = SinkName::default();
        event.record(&mut sink);
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins.entry((event.metadata().callsite(), sink.0)).or_insert_with(|| Budget::new(now)).admit(now)
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        // Whoever asks for details wants all of them.
        if level <= Level::INFO {
            let Some(left_out) = self.admit(event, Instant::now()) else { return Ok(()) };
            if left_out > 0 {
                (self.note)(&mut writer, level, left_out)?;
            }
        }
        self.format.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_that_count_it() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let written = (0..1_000).filter_map(|_| budget.admit(start)).collect::<Vec<_>>();
        assert_eq!(written, vec![0; BURST as usize]);
        assert_eq!(budget.admit(start + REFILL - Duration::from_millis(1)), None);
        assert_eq!(budget.admit(start + REFILL), Some(951));
        assert_eq!(budget.admit(start + REFILL), None);
        // Ten times a second for an hour.
        let flood = |tenth: u32| start + REFILL + Duration::from_millis(100) * tenth;
        let lines: Vec<u64> = (1..36_000).filter_map(|tenth| budget.admit(flood(tenth))).collect();
        assert!((715..=721).contains(&lines.len()), "{}", lines.len());
        // Whoever is quiet for a while may speak freely again.
        let later = flood(36_000) + REFILL * (BURST + 1);
        assert_eq!((0..100).filter(|_| budget.admit(later).is_some()).count(), BURST as usize);
    }
}
