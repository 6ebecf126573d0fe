//! Rules that see readings: where each of their conditions stands with each device.
//!
//! Everything is in the device's time, so that a history that comes late is judged as it was; a reading that is late says nothing of the
//! present, and changes nothing.

use std::cell::RefCell;
use std::collections::HashMap;

use super::Rulebook;
use super::acting::{Acting, is_metric};
use super::definition::Keep;
use super::device::{Device, Span, State, Step};
use super::effects::{AlertVerdict, Effects};
use super::rule::{Action, Condition, Rule};
use super::tally::laps;
use super::view::{Crossings, View};
use crate::detection::alert::{Moment, RULE_METRIC};
use crate::detection::detectors::Verdict;
use crate::json::write_text;
use crate::reading::Reading;
use crate::rules::{Allowance, Context, EvaluationError, Names, RESULT_BYTES_MAX, Value};

/// Most that is kept of devices: latest readings and conditions, each of which counts as one.
const CELLS_MAX: usize = 500_000;
/// A window takes as much as so many of them.
const WINDOW_CELLS: usize = 64;
/// A device that was silent for so long gives way to another one.
const SILENT_MS_MAX: i64 = 24 * 3_600_000;
/// A span of a series that has fallen silent is closed so long after its last reading, and after its own length.
const SPAN_GRACE_MS: i64 = 5_000;

/// A reading, and what the detectors said of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// With its times as they were judged.
    pub reading: &'a Reading<'a>,
    /// What the detectors said.
    pub verdict: Verdict,
    /// Of the gravest finding; 0 if there is none.
    pub score: f64,
    /// It was measured long before it came.
    pub is_late: bool,
    /// When it came.
    pub now: Moment,
    /// Rules that made it, each of a reading that the one before it had made.
    pub made_by: &'a [u16],
}

/// One reading for a span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The device of the series.
    pub device: Box<str>,
    /// The metric, with what was kept of it.
    pub metric: String,
    /// The value that was kept.
    pub value: f64,
    /// When the last reading of the span was measured.
    pub at_ms: i64,
    /// The length of the span.
    pub every_ms: i64,
}

/// Where all conditions stand.
#[derive(Debug, Default)]
pub struct Conditions {
    pub(super) devices: HashMap<Box<str>, Device>,
    cells: usize,
    left_out: u64,
    /// Since when we listen, by the steady clock.
    listening_ms: i64,
}

impl Conditions {
    /// Silence counts from now on.
    pub fn listen_from(&mut self, now: Moment) {
        self.listening_ms = now.signed_steady_ms();
    }

    /// Readings that no condition saw, because there are too many devices.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Lets the rules look at a reading.
    pub fn see(&mut self, book: &Rulebook, seen: &Seen<'_>, stopwatch: &dyn Fn() -> u64, effects: &mut Effects) {
        let index = &book.readings;
        let slot = index.slot(seen.reading.metric);
        let concerned = index.concerned(slot);
        if slot.is_none() && concerned.is_empty() || seen.is_late || !seen.reading.value.is_finite() {
            return;
        }
        let now_ms = seen.now.signed_steady_ms();
        let name = seen.reading.device;
        if !self.admit(book, name, now_ms) {
            self.left_out += 1;
            return;
        }
        let listening_ms = self.listening_ms;
        let Some(device) = self.devices.get_mut(name) else { return };
        device.heard_ms = now_ms;
        if let Some(slot) = slot {
            let span_ms = index.metrics.get(usize::from(slot)).map_or(0, |metric| metric.span_ms);
            device.note(slot, span_ms, seen.reading, (seen.verdict, seen.score), now_ms);
        }
        let at_ms = seen.reading.measured_at_ms;
        let allowance = Allowance::default();
        let at = At { reading: Some(seen.reading), at_ms, now: seen.now, listening_ms, allowance: &allowance };
        let mut lap = laps(stopwatch);
        for number in concerned {
            if index.place(*number).is_some_and(|place| book.cuts_loop(place, seen.made_by)) {
                continue;
            }
            if let Some(rule) = evaluate(book, *number, name, device, &at, effects) {
                rule.tally.evaluated(lap());
            }
        }
    }

    /// Lets the rules look at what time alone brings.
    pub fn tick(&mut self, book: &Rulebook, now: Moment, stopwatch: &dyn Fn() -> u64, effects: &mut Effects) {
        if book.readings.ticking.is_empty() {
            return;
        }
        let mut names: Vec<Box<str>> = self.devices.keys().cloned().collect();
        names.sort_unstable();
        let mut lap = laps(stopwatch);
        for name in names {
            let Some(device) = self.devices.get_mut(&name) else { continue };
            let (at_ms, listening_ms) = (device.time_ms(now.signed_steady_ms()), self.listening_ms);
            let allowance = Allowance::default();
            let at = At { reading: None, at_ms, now, listening_ms, allowance: &allowance };
            for number in &book.readings.ticking {
                if let Some(rule) = evaluate(book, *number, &name, device, &at, effects) {
                    rule.tally.evaluated(lap());
                }
            }
        }
    }

    /// Closes the spans of series that have fallen silent.
    pub fn close_silent(&mut self, book: &Rulebook, now: Moment) -> Vec<Summary> {
        let now_ms = now.signed_steady_ms();
        self.close(book, |span, every_ms| now_ms.saturating_sub(span.heard_ms) >= every_ms + SPAN_GRACE_MS)
    }

    /// Takes a reading into its span, and closes the span before it.
    pub fn sample_down(&mut self, book: &Rulebook, place: u16, seen: &Seen<'_>) -> Vec<Summary> {
        let &Reading { device: name, metric, value, measured_at_ms, .. } = seen.reading;
        let (Some((every_ms, keep)), Some(device)) = (downsampling(book, place), self.devices.get_mut(name)) else {
            return Vec::new();
        };
        let now_ms = seen.now.signed_steady_ms();
        let span = Span::new(measured_at_ms.div_euclid(every_ms), value, measured_at_ms, now_ms);
        match device.spans.get_mut(&(place, metric.into())) {
            Some(open) if open.number >= span.number => {
                open.add(value, measured_at_ms, now_ms);
                Vec::new()
            }
            Some(open) => summaries(name, metric, &std::mem::replace(open, span), every_ms, keep),
            None => {
                device.spans.insert((place, metric.into()), span);
                Vec::new()
            }
        }
    }

    /// Closes all spans: the process ends, or their rules are gone.
    pub fn close_all(&mut self, book: &Rulebook) -> Vec<Summary> {
        self.close(book, |_, _| true)
    }

    fn close(&mut self, book: &Rulebook, is_due: impl Fn(&Span, i64) -> bool) -> Vec<Summary> {
        let mut closed = Vec::new();
        for (name, device) in self.devices.iter_mut().filter(|(_, device)| !device.spans.is_empty()) {
            device.spans.retain(|(place, metric), span| {
                let Some((every_ms, keep)) = downsampling(book, *place) else { return false };
                let is_due = is_due(span, every_ms);
                if is_due {
                    closed.extend(summaries(name, metric, span, every_ms, keep));
                }
                !is_due
            });
        }
        closed.sort_unstable_by(|a, b| (&a.device, &a.metric).cmp(&(&b.device, &b.metric)));
        closed
    }

    /// Makes room for a device that is not known yet. Returns whether it is known now.
    fn admit(&mut self, book: &Rulebook, name: &str, now_ms: i64) -> bool {
        if self.devices.contains_key(name) {
            return true;
        }
        let cells = cells_of(book);
        if self.cells + cells > CELLS_MAX {
            let before = self.devices.len();
            self.devices.retain(|_, device| now_ms.saturating_sub(device.heard_ms) < SILENT_MS_MAX);
            self.cells = self.cells.saturating_sub((before - self.devices.len()) * cells);
        }
        if self.cells + cells > CELLS_MAX {
            return false;
        }
        self.cells += cells;
        self.devices.insert(name.into(), Device::new(&book.readings, |number| book.is_condition_for(number, name)));
        true
    }

    /// Restores a device from a snapshot: `give` fills in what was known of it.
    pub(super) fn restore(&mut self, book: &Rulebook, name: &str, give: impl FnOnce(&mut Device), now: Moment) {
        if self.admit(book, name, now.signed_steady_ms())
            && let Some(device) = self.devices.get_mut(name)
        {
            give(device);
        }
    }

    /// Another book takes the place of the one before. What was known of a device stays known as far as the new rules name it; where a
    /// condition stood stays, if its rule is as it was.
    pub fn adopt(&mut self, before: &Rulebook, book: &Rulebook) {
        self.cells = 0;
        for (name, device) in std::mem::take(&mut self.devices) {
            if self.admit(book, &name, device.heard_ms)
                && let Some(renewed) = self.devices.get_mut(&name)
            {
                renewed.adopt(device, before, book);
            }
        }
    }
}

/// Looks at one condition. Returns its rule if the condition is for this device.
fn evaluate<'b>(
    book: &'b Rulebook,
    number: u16,
    name: &str,
    device: &mut Device,
    at: &At<'_>,
    effects: &mut Effects,
) -> Option<&'b Rule> {
    let place = book.readings.place(number)?;
    let rule = book.rules.get(usize::from(place))?;
    let condition = rule.condition()?;
    let mut state = device.states.get_mut(usize::from(number))?.take()?;
    let crossings = RefCell::new(Crossings::new(std::mem::take(&mut state.sides)));
    let view = View {
        index: &book.readings,
        surroundings: &book.surroundings,
        name,
        device,
        reading: at.reading,
        at_ms: at.at_ms,
        now_ms: at.now.signed_steady_ms(),
        listening_ms: at.listening_ms,
        crossings,
    };
    Looked { place, rule, condition, view: &view, at }.look(&mut state, effects);
    state.sides = view.crossings.into_inner().sides;
    if let Some(kept) = device.states.get_mut(usize::from(number)) {
        *kept = Some(state);
    }
    Some(rule)
}

/// When a condition is looked at, and because of what.
struct At<'a> {
    reading: Option<&'a Reading<'a>>,
    /// The device's time.
    at_ms: i64,
    now: Moment,
    /// Since when we listen, by the steady clock.
    listening_ms: i64,
    allowance: &'a Allowance,
}

/// A condition, and the device that it is looked at for.
struct Looked<'a> {
    place: u16,
    rule: &'a Rule,
    condition: &'a Condition,
    view: &'a View<'a>,
    at: &'a At<'a>,
}

impl Looked<'_> {
    fn look(&self, state: &mut State, effects: &mut Effects) {
        let Looked { place, rule, condition, view, at } = self;
        let received_at_ms = at.reading.map_or(at.now.wall_ms, |reading| reading.received_at_ms);
        let seed = (at.at_ms as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(*place);
        let context = Context { now_ms: received_at_ms, seed, allowance: Some(at.allowance), ..Context::default() };
        let about = condition.metric.as_deref().filter(|metric| is_metric(metric));
        let value = match about {
            Some(metric) => view.latest(metric).map_or(f64::NAN, |latest| latest.value),
            None => at.reading.map_or(f64::NAN, |reading| reading.value),
        };
        let result = || self.result();
        let acting = Acting {
            place: *place,
            rule,
            names: *view,
            context: &context,
            variables: &[],
            device: Some(view.name),
            subject: (about.unwrap_or(RULE_METRIC), value),
            original: &[],
            received_at_ms,
            result: &result,
        };
        let truth = |worth: Result<Value<'_>, EvaluationError>| worth.map(|value| value.to_boolean());
        let holds = match truth(condition.when.evaluate(*view, &context)) {
            Ok(holds) => holds,
            Err(error) => return acting.fail(&error, effects),
        };
        let step = state.step(holds, at.at_ms, condition.hold_ms);
        if matches!(step, Step::Begins | Step::GoesOn) {
            if step == Step::Begins {
                rule.tally.begun();
            }
            if step == Step::Begins || condition.repeats {
                rule.tally.matched();
            }
            let is_due = |action: &Action| match action {
                Action::Republish { .. } | Action::Record { .. } | Action::Payload { .. } => {
                    step == Step::Begins || condition.repeats
                }
                Action::Value { .. } | Action::Drop | Action::Downsample { .. } => at.reading.is_some(),
                Action::Alert { .. } | Action::Count => true,
            };
            return acting.act(is_due, effects);
        }
        if !rule.has_alert() || !rule.tally.has_alert() {
            return;
        }
        let verdict = match (&condition.until, step) {
            (None, Step::DoesNotHold) => AlertVerdict::Good,
            (None, Step::Unknown) => return,
            (None, _) => AlertVerdict::Bad,
            (Some(until), _) => match truth(until.evaluate(*view, &context)) {
                Ok(Some(true)) => AlertVerdict::Good,
                Ok(Some(false)) => AlertVerdict::Bad,
                Ok(None) => return,
                Err(error) => return acting.fail(&error, effects),
            },
        };
        acting.say(view.name.into(), verdict, effects);
    }

    /// What is published and recorded of a condition that holds.
    fn result(&self) -> Result<(Vec<u8>, bool), EvaluationError> {
        let mut out = b"{\"rule\":".to_vec();
        write_text(&mut out, &self.rule.name);
        out.extend_from_slice(b",\"device\":");
        write_text(&mut out, self.view.name);
        if let Some(reading) = self.at.reading {
            out.extend_from_slice(b",\"metric\":");
            write_text(&mut out, reading.metric);
        }
        out.extend_from_slice(b",\"measured_at_ms\":");
        out.extend_from_slice(self.at.at_ms.to_string().as_bytes());
        out.extend_from_slice(b",\"values\":{");
        let mut is_first = true;
        for name in self.condition.when.names() {
            let value = self.view.name(name);
            if !value.is_undefined() {
                out.extend_from_slice(if is_first { b"" } else { b"," });
                is_first = false;
                write_text(&mut out, name);
                out.push(b':');
                value.write_json(&mut out, RESULT_BYTES_MAX)?;
            }
        }
        out.extend_from_slice(b"}}");
        Ok((out, true))
    }
}

/// What is kept of one device.
fn cells_of(book: &Rulebook) -> usize {
    let windows = book.readings.metrics.iter().filter(|metric| metric.span_ms > 0).count();
    1 + book.readings.metrics.len() + book.readings.conditions.len() + windows * WINDOW_CELLS
}

fn downsampling(book: &Rulebook, place: u16) -> Option<(i64, &[Keep])> {
    book.rules.get(usize::from(place))?.actions.iter().find_map(|action| match action {
        Action::Downsample { every_ms, keep } => Some((*every_ms, keep.as_slice())),
        _ => None,
    })
}

fn summaries(device: &str, metric: &str, span: &Span, every_ms: i64, keep: &[Keep]) -> Vec<Summary> {
    let summary = |keep: &Keep| Summary {
        device: device.into(),
        metric: format!("{metric}{}", keep.suffix()),
        value: match keep {
            Keep::Last => span.last,
            Keep::Mean => span.sum / span.count as f64,
            Keep::Min => span.min,
            Keep::Max => span.max,
        },
        at_ms: span.last_ms,
        every_ms,
    };
    keep.iter().map(summary).collect()
}
