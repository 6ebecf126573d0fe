//! What has been heard of a series since its alert was raised.
//!
//! Only readings clear an alert: at least two good ones, over some time, with no bad one between them. Time in which we did not listen does
//! not count, nor does silence.

use super::Moment;
use crate::batch::varint::{self, Cursor};
use crate::detection::detectors::state::{decode_rhythm, encode_rhythm};
use crate::detection::silence::Rhythm;

/// After a silence of so many of its usual intervals, what is known of a series says nothing of the present.
const STALE_INTERVALS: f32 = 5.0;
/// Good readings that it takes at least.
const GOOD_MIN: u32 = 2;

/// What a reading says of an alert of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is about the past, or a flag has said it already.
    Nothing,
    /// The series is heard, but the reading could not be judged.
    Present,
    Bad,
    Good,
}

/// Whoever hears readings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    /// Since when it listens, by the steady clock: before that, hearing nothing does not count as silence.
    pub since_ms: i64,
    /// No shorter silence makes an alert stale.
    pub stale_after_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hearing {
    /// When it was heard last by the listener's clock, and how often it usually is.
    pub rhythm: Rhythm,
    /// When it was heard last, for people.
    pub heard_at_ms: i64,
    /// Good readings in a row, and the time from the first to the last of them in which we listened.
    pub(super) good: u32,
    pub(super) good_ms: u64,
    /// Limits that were exceeded since it was raised, a bit each: what is to be back within their clearing bounds.
    pub limits: u64,
}

impl Hearing {
    /// Begins with the reading or the silence that raises the alert. `rhythm` is that of the series, if it is known.
    pub fn new(now: Moment, heard_at_ms: i64, rhythm: Option<Rhythm>, limits: u64) -> Hearing {
        let rhythm = rhythm.unwrap_or_else(|| heard_once(now.signed_steady_ms()));
        Hearing { rhythm, heard_at_ms, good: 0, good_ms: 0, limits }
    }

    /// For an alert from the store whose series, as far as is known, was last heard at `heard_at_ms` of the wall clock. Which limits were
    /// exceeded is not known, so all count.
    pub fn restored(now: Moment, heard_at_ms: i64, rhythm: Option<Rhythm>, silent_ms_max: u64) -> Hearing {
        // Bounded, because the wall clock may have been wrong: it must not make the alert older than it takes to be forgotten.
        let silent_ms = now.wall_ms.saturating_sub(heard_at_ms).clamp(0, as_i64(silent_ms_max));
        let rhythm = rhythm.unwrap_or_else(|| heard_once(now.signed_steady_ms().saturating_sub(silent_ms)));
        Hearing { rhythm, heard_at_ms, good: 0, good_ms: 0, limits: u64::MAX }
    }

    /// A reading has come.
    pub fn hear(&mut self, now: Moment, listener: Listener, rhythm: Option<Rhythm>, word: Word) {
        let now_ms = now.signed_steady_ms();
        let silent_from_ms = self.rhythm.silent_from_ms(listener.since_ms);
        let elapsed_ms = u64::try_from(now_ms.saturating_sub(silent_from_ms)).unwrap_or(0);
        match word {
            Word::Nothing => return,
            Word::Present => {}
            Word::Bad => (self.good, self.good_ms) = (0, 0),
            Word::Good if self.good > 0 && elapsed_ms < self.stale_after_ms(listener) => {
                self.good = self.good.saturating_add(1);
                self.good_ms = self.good_ms.saturating_add(elapsed_ms);
            }
            Word::Good => (self.good, self.good_ms) = (1, 0),
        }
        match rhythm {
            Some(rhythm) => self.rhythm = rhythm,
            None => _ = self.rhythm.hear(now_ms, listener.since_ms, false),
        }
        self.heard_at_ms = now.wall_ms;
    }

    /// Whether good readings have come for so long.
    pub fn is_good_for(&self, clear_after_ms: u64) -> bool {
        self.good >= GOOD_MIN && self.good_ms >= clear_after_ms
    }

    fn stale_after_ms(&self, listener: Listener) -> u64 {
        listener.stale_after_ms.max((STALE_INTERVALS * self.rhythm.interval_ms) as u64)
    }

    /// When the series has been silent for so long that nothing is known of the present.
    pub fn stale_at_ms(&self, listener: Listener) -> i64 {
        self.rhythm.silent_from_ms(listener.since_ms).saturating_add(as_i64(self.stale_after_ms(listener)))
    }

    /// When nobody waits for the series any more. Time in which the gateway was off counts too.
    pub fn forgotten_at_ms(&self, forget_after_ms: u64) -> i64 {
        self.rhythm.heard_ms.saturating_add(as_i64(forget_after_ms))
    }

    pub fn encode(&self, now_ms: i64, out: &mut Vec<u8>) {
        encode_rhythm(&self.rhythm, now_ms, out);
        varint::put_signed(out, self.heard_at_ms);
        varint::put(out, u64::from(self.good));
        varint::put(out, self.good_ms);
        varint::put(out, self.limits);
    }

    /// `now_ms` is when it was encoded, by the clock of this start.
    pub fn decode(cursor: &mut Cursor<'_>, now_ms: i64) -> Option<Hearing> {
        Some(Hearing {
            rhythm: decode_rhythm(cursor, now_ms)?,
            heard_at_ms: cursor.signed()?,
            good: u32::try_from(cursor.number()?).ok()?,
            good_ms: cursor.number()?,
            limits: cursor.number()?,
        })
    }
}

fn heard_once(now_ms: i64) -> Rhythm {
    let mut rhythm = Rhythm::NEW;
    rhythm.hear(now_ms, i64::MIN, false);
    rhythm
}

pub(super) fn as_i64(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
