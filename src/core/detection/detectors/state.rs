//! The state of a series as bytes, so that a restart needs no new warm-up.
//!
//! Exact to the bit: a restored series gives the verdicts that it would have given. There is no checksum here, because the store has one.
//! Even so, no bytes make it panic or allocate more than their own size, and a state that breaks an invariant is refused.

mod learned;

use super::frozen::Frozen;
use super::maturity::HeardTime;
use super::pace::{EXPONENT_MAX, Pace};
use super::profile::{Baseline, Profile};
use super::series::{Habits, Series};
use super::shift::Shift;
use super::spread::Spread;
use super::stay::{Mark, Stay};
use super::stuck::Run;
use crate::batch::varint::{self, Cursor};
use crate::detection::rewind_guard::RewindGuard;
use crate::detection::silence::Rhythm;
use crate::detection::window::{HELD_MS, Sample, Window};
use crate::device_clock::DeviceClock;

#[cfg(test)]
pub use learned::new_habits;

/// Appends the state. The profile is not in it: it follows from the metric's name.
pub fn encode(series: &Series, out: &mut Vec<u8>) {
    put_float(out, f64::from(series.pace.interval_ms));
    out.push(series.pace.exponent);
    let window = &series.window;
    let Window { newest_ms, suspect, thinning, skipped, .. } = window;
    varint::put_signed(out, *newest_ms);
    out.push(*thinning);
    varint::put(out, u64::from(*skipped));
    out.push(u8::from(suspect.is_some()));
    if let Some(suspect) = suspect {
        varint::put_signed(out, suspect.at_ms);
        put_float(out, suspect.value);
    }
    varint::put(out, window.held().len() as u64);
    for sample in window.held() {
        varint::put(out, newest_ms.abs_diff(sample.at_ms));
        put_float(out, sample.value);
    }
    varint::put_signed(out, series.epoch_start_ms);
    put_float(out, series.resolution);
    for spread in [series.residual, series.difference, series.roughness] {
        put_float(out, spread.square);
    }
    varint::put(out, u64::from(series.readings));
    out.push(series.burst_streak);
    encode_run(&series.run, out);
    encode_shift(&series.shift, out);
    out.push(u8::from(series.frozen.is_some()));
    if let Some(frozen) = &series.frozen {
        encode_frozen(frozen, out);
    }
    learned::encode(series, out);
}

fn encode_run(run: &Run, out: &mut Vec<u8>) {
    let &Run { value, since_ms, len, longest_ms, repeats, readings, is_stuck, .. } = run;
    put_float(out, value);
    varint::put_signed(out, since_ms);
    varint::put(out, u64::from(len));
    put_float(out, f64::from(longest_ms));
    put_float(out, f64::from(repeats));
    varint::put(out, u64::from(readings));
    out.push(u8::from(is_stuck));
}

fn encode_shift(shift: &Shift, out: &mut Vec<u8>) {
    for level in [shift.base, shift.quick, shift.home, shift.departure.square, shift.quick_departure.square] {
        put_float(out, level);
    }
    for count in [shift.base_readings, shift.departures] {
        varint::put(out, u64::from(count));
    }
    for time in [shift.fed_at_ms, shift.home_at_ms, shift.since_ms, shift.accepted_at_ms] {
        varint::put_signed(out, time);
    }
    out.push(shift.streak);
}

fn encode_frozen(frozen: &Frozen, out: &mut Vec<u8>) {
    varint::put(out, u64::from(frozen.readings));
    varint::put(out, u64::from(frozen.means));
    varint::put_signed(out, frozen.origin_ms);
    let Frozen { origin, time, time_square, level, level_square, product, .. } = *frozen;
    for number in [origin, time, time_square, level, level_square, product] {
        put_float(out, number);
    }
    out.push(frozen.streak);
}

/// What a state has of habits, stays, how long it was heard and what people said; it depends on the version that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing: all of that begins anew.
    Nothing,
    /// As version 5 of snapshots has it.
    Version5,
    /// As it is written now.
    All,
}

/// Reads one state; `None` if it cannot have been written by [`encode`]. A frozen baseline that the profile no longer uses is dropped; one
/// that the profile needs and the state lacks begins anew.
pub fn decode(cursor: &mut Cursor<'_>, profile: &Profile, learned: Learned) -> Option<Series> {
    let mut series = Series {
        pace: decode_pace(cursor)?,
        window: decode_window(cursor)?,
        epoch_start_ms: cursor.signed()?,
        resolution: take_size(cursor)?,
        residual: decode_spread(cursor)?,
        difference: decode_spread(cursor)?,
        roughness: decode_spread(cursor)?,
        readings: take_u32(cursor)?,
        burst_streak: cursor.byte()?,
        run: decode_run(cursor)?,
        shift: decode_shift(cursor)?,
        frozen: match cursor.byte()? {
            0 => None,
            1 => Some(Box::new(decode_frozen(cursor)?)),
            _ => return None,
        },
        habits: Habits::NEW,
        stay: Stay::NEW,
        rough: Mark::NEW,
        heard: HeardTime::NONE,
    };
    match learned {
        Learned::Nothing => {}
        Learned::Version5 => learned::decode_version_5(cursor, &mut series)?,
        Learned::All => learned::decode(cursor, &mut series)?,
    }
    match profile.baseline {
        Baseline::Rolling => series.frozen = None,
        Baseline::Frozen => _ = series.frozen.get_or_insert_default(),
    }
    Some(series)
}

fn decode_pace(cursor: &mut Cursor<'_>) -> Option<Pace> {
    let interval_ms = take_size(cursor)? as f32;
    let exponent = cursor.byte().filter(|&exponent| exponent <= EXPONENT_MAX)?;
    Some(Pace { interval_ms, exponent })
}

fn decode_run(cursor: &mut Cursor<'_>) -> Option<Run> {
    Some(Run {
        value: take_float(cursor)?,
        since_ms: cursor.signed()?,
        len: take_u32(cursor)?,
        longest_ms: take_size(cursor)? as f32,
        repeats: take_size(cursor).filter(|share| *share <= 1.0)? as f32,
        readings: take_u32(cursor)?,
        is_stuck: cursor.byte()? != 0,
        ..Run::NEW
    })
}

fn decode_shift(cursor: &mut Cursor<'_>) -> Option<Shift> {
    Some(Shift {
        base: take_float(cursor)?,
        quick: take_float(cursor)?,
        home: take_float(cursor)?,
        departure: decode_spread(cursor)?,
        quick_departure: decode_spread(cursor)?,
        base_readings: take_u32(cursor)?,
        departures: take_u32(cursor)?,
        fed_at_ms: cursor.signed()?,
        home_at_ms: cursor.signed()?,
        since_ms: cursor.signed()?,
        accepted_at_ms: cursor.signed()?,
        streak: cursor.byte()?,
    })
}

fn decode_frozen(cursor: &mut Cursor<'_>) -> Option<Frozen> {
    let frozen = Frozen {
        readings: take_u32(cursor)?,
        means: take_u32(cursor)?,
        origin_ms: cursor.signed()?,
        origin: take_float(cursor)?,
        time: take_float(cursor)?,
        time_square: take_float(cursor)?,
        level: take_float(cursor)?,
        level_square: take_float(cursor)?,
        product: take_float(cursor)?,
        streak: cursor.byte()?,
    };
    // Every reading that was learned from has given a mean.
    (frozen.readings == frozen.means).then_some(frozen)
}

/// Appends a rhythm. Clocks start anew with the process, so it says how long the silence has lasted at `now_ms`.
pub fn encode_rhythm(rhythm: &Rhythm, now_ms: i64, out: &mut Vec<u8>) {
    varint::put(out, now_ms.abs_diff(rhythm.heard_ms));
    put_float(out, f64::from(rhythm.interval_ms));
    varint::put(out, u64::from(rhythm.arrivals));
    out.push(u8::from(rhythm.is_silent));
}

/// Reads what [`encode_rhythm`] wrote; `now_ms` is when it was written, by the clock of this start. `None` for damage.
pub fn decode_rhythm(cursor: &mut Cursor<'_>, now_ms: i64) -> Option<Rhythm> {
    Some(Rhythm {
        heard_ms: now_ms.saturating_sub_unsigned(cursor.number()?),
        interval_ms: take_size(cursor)? as f32,
        arrivals: u16::try_from(cursor.number()?).ok()?,
        is_silent: cursor.byte()? != 0,
        may_have_alert: true,
    })
}

/// Appends what a device has said of a time long before its newest.
pub fn encode_rewind_guard(rewind_guard: &RewindGuard, out: &mut Vec<u8>) {
    out.push(u8::from(*rewind_guard != RewindGuard::NONE));
    if *rewind_guard != RewindGuard::NONE {
        for time in [rewind_guard.from_ms, rewind_guard.since_ms] {
            varint::put_signed(out, time);
        }
    }
}

/// Reads what [`encode_rewind_guard`] wrote; `None` for damage.
pub fn decode_rewind_guard(cursor: &mut Cursor<'_>) -> Option<RewindGuard> {
    match cursor.byte()? {
        0 => Some(RewindGuard::NONE),
        1 => Some(RewindGuard { from_ms: cursor.signed()?, since_ms: cursor.signed()? }),
        _ => None,
    }
}

/// Appends what is known of a device's clock: its steady offset.
pub fn encode_clock(clock: Option<&DeviceClock>, out: &mut Vec<u8>) {
    let offset_ms = clock.and_then(DeviceClock::offset_ms);
    out.push(u8::from(offset_ms.is_some()));
    if let Some(offset_ms) = offset_ms {
        varint::put_signed(out, offset_ms);
    }
}

/// Reads what [`encode_clock`] wrote. `None` for damage, `Some(None)` if nothing is known of the clock.
pub fn decode_clock(cursor: &mut Cursor<'_>) -> Option<Option<DeviceClock>> {
    match cursor.byte()? {
        0 => Some(None),
        1 => Some(Some(DeviceClock::restored(cursor.signed()?))),
        _ => None,
    }
}

fn decode_window(cursor: &mut Cursor<'_>) -> Option<Window> {
    let newest_ms = cursor.signed()?;
    let thinning = cursor.byte().filter(|&thinning| thinning < 32)?;
    let skipped = take_u32(cursor)?;
    let suspect = match cursor.byte()? {
        0 => None,
        1 => Some(Box::new(Sample { at_ms: cursor.signed()?, value: take_float(cursor)? })),
        _ => return None,
    };
    let count = usize::try_from(cursor.number()?).ok().filter(|&count| count <= cursor.rest.len())?;
    let mut samples = Vec::with_capacity(count);
    let mut age_max_ms = HELD_MS as u64 - 1;
    for _ in 0..count {
        age_max_ms = cursor.number().filter(|&age_ms| age_ms <= age_max_ms)?;
        let at_ms = newest_ms.checked_sub_unsigned(age_max_ms)?;
        samples.push(Sample { at_ms, value: take_float(cursor)? });
    }
    // No step of the thinning counter passes its end.
    if skipped >= 1 << thinning {
        return None;
    }
    let mut window = Window::default();
    (window.newest_ms, window.suspect, window.thinning, window.skipped) = (newest_ms, suspect, thinning, skipped);
    window.restore_held(samples.into_iter());
    Some(window)
}

fn decode_spread(cursor: &mut Cursor<'_>) -> Option<Spread> {
    Some(Spread { square: take_size(cursor)? })
}

fn put_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn take_float(cursor: &mut Cursor<'_>) -> Option<f64> {
    let bytes = cursor.take(8)?.try_into().ok()?;
    Some(f64::from_bits(u64::from_le_bytes(bytes))).filter(|value| value.is_finite())
}

fn take_size(cursor: &mut Cursor<'_>) -> Option<f64> {
    take_float(cursor).filter(|&value| value >= 0.0)
}

fn put_score(out: &mut Vec<u8>, score: f32) {
    out.extend_from_slice(&score.to_bits().to_le_bytes());
}

fn take_score(cursor: &mut Cursor<'_>) -> Option<f32> {
    take_level(cursor).filter(|score| *score >= 0.0)
}

fn take_level(cursor: &mut Cursor<'_>) -> Option<f32> {
    let bytes = cursor.take(4)?.try_into().ok()?;
    Some(f32::from_bits(u32::from_le_bytes(bytes))).filter(|level| level.is_finite())
}

fn take_u32(cursor: &mut Cursor<'_>) -> Option<u32> {
    u32::try_from(cursor.number()?).ok()
}
