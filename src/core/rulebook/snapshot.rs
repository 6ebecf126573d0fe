//! Where conditions stand, for the next start: without it, windows would begin anew, and a condition that has held for an hour would have
//! to hold for another one. It goes by the names of metrics and by the names and fingerprints of rules, so that an edit costs only what it
//! changes.

use super::Rulebook;
use super::conditions::Conditions;
use super::device::{Device, Latest, Span, State};
use crate::batch::varint::{self, Cursor};
use crate::detection::alert::Moment;
use crate::detection::detectors::Verdict;
use crate::reading::Rounding;
use crate::rules::{SampleWindow, Side};

/// What is beyond is not kept: the devices that were heard last come first.
const BYTES_MAX: usize = 4 << 20;
/// Known numbers of verdicts; their order is on disk.
const VERDICTS: [Verdict; 5] =
    [Verdict::Unwatched, Verdict::Unjudged, Verdict::WarmingUp, Verdict::Normal, Verdict::Anomalous];

impl Conditions {
    /// Whether there is nothing to be kept.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Appends where all conditions stand.
    pub fn encode(&self, book: &Rulebook, now: Moment, out: &mut Vec<u8>) {
        let index = &book.readings;
        varint::put(out, index.metrics.len() as u64);
        index.metrics.iter().for_each(|metric| varint::put_bytes(out, metric.name.as_bytes()));
        varint::put(out, book.rules().len() as u64);
        for rule in book.rules() {
            varint::put_bytes(out, rule.name.as_bytes());
            varint::put(out, rule.fingerprint);
        }
        varint::put(out, index.conditions.len() as u64);
        index.conditions.iter().for_each(|place| varint::put(out, u64::from(*place)));
        let mut devices: Vec<_> = self.devices.iter().collect();
        devices.sort_unstable_by(|a, b| (b.1.heard_ms, a.0).cmp(&(a.1.heard_ms, b.0)));
        let end = out.len() + BYTES_MAX;
        for (name, device) in devices {
            let before = out.len();
            out.push(1);
            varint::put_bytes(out, name.as_bytes());
            encode_device(device, now.signed_steady_ms(), out);
            if out.len() > end {
                out.truncate(before);
                break;
            }
        }
        out.push(0);
    }

    /// Restores what [`Conditions::encode`] wrote, as far as this book has the same metrics and rules. `None` if nothing can have written
    /// it; then nothing is restored.
    pub fn decode(&mut self, cursor: &mut Cursor<'_>, book: &Rulebook, now: Moment) -> Option<()> {
        let then = Then::decode(cursor)?;
        let mut restored = Vec::new();
        while cursor.byte()? == 1 {
            let name = cursor.text()?;
            restored.push((name, decode_device(cursor, &then, now.signed_steady_ms())?));
        }
        for (name, device) in restored {
            self.restore(book, name, |known| then.give(device, book, known), now);
        }
        Some(())
    }
}

/// The book under which it was written.
struct Then<'a> {
    metrics: Vec<&'a str>,
    rules: Vec<(&'a str, u64)>,
    /// Places of their rules.
    conditions: Vec<usize>,
}

impl<'a> Then<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Option<Then<'a>> {
        let metrics = (0..count(cursor)?).map(|_| cursor.text()).collect::<Option<_>>()?;
        let rules = (0..count(cursor)?).map(|_| Some((cursor.text()?, cursor.number()?))).collect::<Option<_>>()?;
        let place = |cursor: &mut Cursor<'a>| usize::try_from(cursor.number()?).ok();
        let conditions = (0..count(cursor)?).map(|_| place(cursor)).collect::<Option<_>>()?;
        Some(Then { metrics, rules, conditions })
    }

    /// The place of a rule now, if it says the same.
    fn place(&self, then: usize, book: &Rulebook) -> Option<u16> {
        let (name, fingerprint) = self.rules.get(then)?;
        let is_same = |rule: &super::Rule| *rule.name == **name && rule.fingerprint == *fingerprint;
        u16::try_from(book.rules().iter().position(is_same)?).ok()
    }

    /// Gives a device of now what was known of it.
    fn give(&self, then: Device, book: &Rulebook, now: &mut Device) {
        now.heard_ms = then.heard_ms;
        for ((name, latest), window) in self.metrics.iter().zip(then.latest).zip(then.windows) {
            let Some(slot) = book.readings.slot(name).map(usize::from) else { continue };
            if let Some(place) = now.latest.get_mut(slot) {
                *place = latest;
            }
            if let (Some(Some(place)), Some(window)) = (now.windows.get_mut(slot), window) {
                *place = window;
            }
        }
        for (place, state) in self.conditions.iter().zip(then.states) {
            let place = self.place(*place, book);
            let number = place.and_then(|place| book.readings.conditions.iter().position(|known| *known == place));
            if let (Some(Some(kept)), Some(state)) = (number.and_then(|number| now.states.get_mut(number)), state) {
                *kept = state;
            }
        }
        for ((place, metric), span) in then.spans {
            if let Some(place) = self.place(usize::from(place), book) {
                now.spans.insert((place, metric), span);
            }
        }
    }
}

/// A count that the rest of the bytes can hold.
fn count(cursor: &mut Cursor<'_>) -> Option<usize> {
    let count = usize::try_from(cursor.number()?).ok()?;
    (count <= cursor.rest.len()).then_some(count)
}

fn encode_device(device: &Device, now_ms: i64, out: &mut Vec<u8>) {
    let Device { latest, windows, states, spans, heard_ms } = device;
    varint::put_signed(out, now_ms.saturating_sub(*heard_ms));
    for (latest, window) in latest.iter().zip(windows) {
        optional(latest.as_ref(), out, |latest, out| encode_latest(latest, now_ms, out));
        optional(window.as_ref(), out, |window, out| window.encode(out));
    }
    for state in states {
        optional(state.as_ref(), out, |state, out| {
            varint::put_signed(out, state.since_ms.unwrap_or(i64::MIN));
            varint::put_signed(out, state.seen_ms);
            varint::put_signed(out, state.interval_ms);
            out.push(u8::from(state.has_begun));
            varint::put(out, state.sides.len() as u64);
            for (zone, side) in &state.sides {
                varint::put_bytes(out, zone.as_bytes());
                side.encode(out);
            }
        });
    }
    varint::put(out, spans.len() as u64);
    for ((place, metric), span) in spans {
        varint::put(out, u64::from(*place));
        varint::put_bytes(out, metric.as_bytes());
        varint::put_signed(out, span.number);
        varint::put(out, span.count);
        for value in [span.sum, span.min, span.max, span.last] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        varint::put_signed(out, span.last_ms);
    }
}

fn decode_device(cursor: &mut Cursor<'_>, then: &Then<'_>, now_ms: i64) -> Option<Device> {
    let mut device = Device { heard_ms: now_ms.saturating_sub(cursor.signed()?), ..Device::default() };
    for _ in 0..then.metrics.len() {
        device.latest.push(read_optional(cursor, |cursor| decode_latest(cursor, now_ms))?);
        device.windows.push(read_optional(cursor, SampleWindow::decode)?);
    }
    for _ in 0..then.conditions.len() {
        device.states.push(read_optional(cursor, decode_state)?);
    }
    for _ in 0..count(cursor)? {
        let place = u16::try_from(cursor.number()?).ok()?;
        let metric = cursor.text()?.into();
        let (number, readings) = (cursor.signed()?, cursor.number()?);
        let (sum, min, max, last) = (double(cursor)?, double(cursor)?, double(cursor)?, double(cursor)?);
        let last_ms = cursor.signed()?;
        let span = Span { number, count: readings, sum, min, max, last, last_ms, heard_ms: now_ms };
        device.spans.insert((place, metric), span);
    }
    Some(device)
}

fn encode_latest(latest: &Latest, now_ms: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&latest.value.to_le_bytes());
    varint::put_signed(out, latest.rounding.map_or(0, Rounding::lacks));
    out.push(u8::from(latest.rounding.is_some()));
    varint::put_signed(out, latest.at_ms);
    varint::put_signed(out, now_ms.saturating_sub(latest.heard_ms));
    varint::put_signed(out, latest.interval_ms);
    out.push(VERDICTS.iter().position(|known| *known == latest.verdict).unwrap_or(0) as u8);
    out.extend_from_slice(&latest.score.to_le_bytes());
}

fn decode_latest(cursor: &mut Cursor<'_>, now_ms: i64) -> Option<Latest> {
    let value = double(cursor)?;
    let lacks = cursor.signed()?;
    let rounding = if cursor.byte()? == 1 { Some(Rounding::from_lacks(lacks)?) } else { None };
    Some(Latest {
        value,
        rounding,
        at_ms: cursor.signed()?,
        heard_ms: now_ms.saturating_sub(cursor.signed()?),
        interval_ms: cursor.signed()?,
        verdict: *VERDICTS.get(usize::from(cursor.byte()?))?,
        score: double(cursor)?,
    })
}

fn decode_state(cursor: &mut Cursor<'_>) -> Option<State> {
    let since_ms = Some(cursor.signed()?).filter(|since_ms| *since_ms != i64::MIN);
    let (seen_ms, interval_ms, has_begun) = (cursor.signed()?, cursor.signed()?, cursor.byte()? == 1);
    let mut sides = Vec::new();
    for _ in 0..count(cursor)? {
        sides.push((cursor.text()?.into(), Side::decode(cursor)?));
    }
    Some(State { since_ms, seen_ms, interval_ms, has_begun, sides })
}

fn optional<T>(value: Option<&T>, out: &mut Vec<u8>, encode: impl FnOnce(&T, &mut Vec<u8>)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        encode(value, out);
    }
}

fn read_optional<'a, T>(
    cursor: &mut Cursor<'a>,
    decode: impl FnOnce(&mut Cursor<'a>) -> Option<T>,
) -> Option<Option<T>> {
    if cursor.byte()? == 1 { decode(cursor).map(Some) } else { Some(None) }
}

fn double(cursor: &mut Cursor<'_>) -> Option<f64> {
    Some(f64::from_le_bytes(cursor.take(8)?.try_into().ok()?))
}
