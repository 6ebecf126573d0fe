//! The state of a series as bytes, so that a restart needs no new warm-up.
//!
//! Exact to the bit: a restored series gives the verdicts that it would have given. There is no checksum, the store has one; still no
//! bytes make it panic or allocate beyond their own size, and what breaks an invariant is refused.

use std::collections::VecDeque;

use super::profile::Profile;
use super::series::{Base, Series, Spread};
use crate::core::batch::varint::{self, Cursor};
use crate::core::window::{HELD_MS, Sample, Window};

/// Appends the state. The profile is not in it: it follows from the metric's name.
pub fn encode(series: &Series, out: &mut Vec<u8>) {
    let Window { samples, newest_ms, suspect, thinning, skipped } = &series.window;
    varint::put_signed(out, *newest_ms);
    out.push(*thinning);
    varint::put(out, u64::from(*skipped));
    out.push(u8::from(suspect.is_some()));
    if let Some(suspect) = suspect {
        varint::put_signed(out, suspect.at_ms);
        put_float(out, suspect.value);
    }
    varint::put(out, samples.len() as u64);
    for sample in samples {
        varint::put(out, newest_ms.abs_diff(sample.at_ms));
        put_float(out, sample.value);
    }
    varint::put_signed(out, series.epoch_start_ms);
    put_float(out, series.resolution);
    for spread in [series.residual, series.difference, series.departure] {
        put_float(out, spread.square);
        varint::put(out, u64::from(spread.updates));
    }
    put_float(out, series.base.level);
    varint::put(out, u64::from(series.base.updates));
    varint::put_signed(out, series.base.fed_at_ms);
    out.push(series.shift_streak);
    varint::put_signed(out, series.shift_since_ms);
}

/// Reads one state; `None` if it cannot have been written by [`encode`].
pub fn decode(cursor: &mut Cursor<'_>, profile: Profile) -> Option<Series> {
    let series = Series {
        window: decode_window(cursor)?,
        profile,
        epoch_start_ms: cursor.signed()?,
        resolution: take_size(cursor)?,
        residual: decode_spread(cursor)?,
        difference: decode_spread(cursor)?,
        departure: decode_spread(cursor)?,
        base: Base { level: take_float(cursor)?, updates: take_u32(cursor)?, fed_at_ms: cursor.signed()? },
        shift_streak: cursor.byte()?,
        shift_since_ms: cursor.signed()?,
    };
    Some(series)
}

fn decode_window(cursor: &mut Cursor<'_>) -> Option<Window> {
    let newest_ms = cursor.signed()?;
    let thinning = cursor.byte().filter(|&thinning| thinning < 32)?;
    let skipped = take_u32(cursor)?;
    let suspect = match cursor.byte()? {
        0 => None,
        1 => Some(Sample { at_ms: cursor.signed()?, value: take_float(cursor)? }),
        _ => return None,
    };
    let count = usize::try_from(cursor.number()?).ok().filter(|&count| count <= cursor.rest.len())?;
    let mut samples = VecDeque::with_capacity(count);
    let mut age_max_ms = HELD_MS as u64 - 1;
    for _ in 0..count {
        age_max_ms = cursor.number().filter(|&age_ms| age_ms <= age_max_ms)?;
        let at_ms = newest_ms.checked_sub_unsigned(age_max_ms)?;
        samples.push_back(Sample { at_ms, value: take_float(cursor)? });
    }
    // No step of the thinning counter passes its end.
    (skipped < 1 << thinning).then_some(Window { samples, newest_ms, suspect, thinning, skipped })
}

fn decode_spread(cursor: &mut Cursor<'_>) -> Option<Spread> {
    Some(Spread { square: take_size(cursor)?, updates: take_u32(cursor)? })
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

fn take_u32(cursor: &mut Cursor<'_>) -> Option<u32> {
    u32::try_from(cursor.number()?).ok()
}
