//! A level that stays beyond its usual range for longer than it ever did.
//!
//! What fails slowly departs from no level of the last minutes: a fridge whose compressor has stopped, a battery that is not charged, a tank
//! that empties. But in days of regular life each height beyond the usual range has been reached for a while only: by defrosts, doors, loads.
//! So marks on each side of the range know how long the level has stayed beyond them, and a stay that is longer than those that came
//! more than once is told. A mark that was never reached is told after a few minutes. A mark in the middle of the range knows machines that
//! cycle day and night, such as compressors: one that stays off, or on, for longer than ever is told, too.
//!
//! Time is common time here, and only time in which the series is heard counts: a vehicle parks for days.

use serde::Serialize;

use super::usual::span;
use super::{Detector, Finding, rounded, short};

/// Marks on each side, and how far they are beyond the usual range, in its widths: the first is in its middle.
pub(super) const MARKS: usize = 4;
const MIDDLE: usize = 0;
const BEYOND: [f32; MARKS] = [-0.5, 0.1, 0.4, 0.8];
/// A stay is told only if the level has gone so much farther, or a range that moves a little would put the usual beyond a new mark.
const CLEARLY: f32 = 0.25;
/// A stay ends when the level is so far back behind its mark, in widths of the range.
const HYSTERESIS: f32 = 0.1;
/// How often is looked, unless readings come less often.
const LOOK_EVERY_MS: i64 = 10_000;
/// A series must be known for so long, two days because a day has a night, and have been heard for so long of that; for the farthest mark
/// less is enough.
const KNOWN_MS: i64 = 172_800_000;
const HEARD_MIN_S: u32 = 129_600;
const FAR_HEARD_MIN_S: u32 = 57_600;
/// What was beyond the range before it was known for half of that says nothing.
const RANGE_KNOWN_MS: i64 = KNOWN_MS / 2;
const RANGE_HEARD_MIN_S: u32 = 28_800;
/// And the level must have been beyond marks so often.
const STAYS_MIN: u32 = 4;
/// Or beyond the middle so often, and never for so long, in units, two hours: a machine that pauses for hours is switched off by people.
const CYCLES_MIN: u8 = 20;
const PAUSE_MAX: u16 = 720;
/// No shorter stay is told, and none of fewer intervals between readings: at least two readings are beyond the mark.
const STAY_MIN_S: f32 = 300.0;
const INTERVALS_MIN: f32 = 0.9;
/// A stay is told if it is so many times the second longest: at least, more the more the two longest differ, more if there were few; and at
/// most.
const TIMES: f32 = 1.5;
const TIMES_UNLIKE: f32 = 2.0;
const TIMES_FEW: f32 = 2.0;
const TIMES_MAX: f32 = 3.0;
/// Nor is a stay told before this share of the longest.
const OF_LONGEST: f32 = 0.5;
/// Time constant in which long stays are forgotten, by the time spent beyond the mark.
const FORGET_S: f32 = 14.0 * 86_400.0;
/// After so long a silence, or so many intervals, it is unknown whether the level stayed.
const SILENCE_MS: i64 = 300_000;
const SILENCE_INTERVALS: f32 = 5.0;
/// The range is between what the level is below for this share of the time, and above.
const SHARE: f32 = 0.1;
/// How fast its bounds move: widths a minute; for a short history more, the quotient of this and its minutes.
const RATE: f32 = 0.003;
const RATE_YOUNG: f32 = 2.0;
const RATE_MAX: f32 = 0.5;
/// A reading stands for so many minutes at the most.
const MINUTES_MAX: f32 = 2.0;
/// A distant level moves a bound by this share of the distance; by more in the first days, the quotient of this and the minutes.
const DISTANT: f32 = 0.05;
const DISTANT_YOUNG: f32 = 720.0;
const DISTANT_MAX: f32 = 0.5;
/// In the first minutes the range is at least as wide as the level moves.
const YOUNG_MINUTES: f32 = 60.0;
/// While a stay is told, the range learns so many times as slowly: what stays becomes usual in the end.
const TOLD_RATE: f32 = 0.1;
/// So far the range can be computed with.
const LEVEL_MAX: f32 = 1e30;
/// The ends of the range: a share of its width, known after so many seconds.
const END: f32 = 0.05;
const ENDS_KNOWN_S: u32 = 14_400;
/// Unit of stays, in seconds; and how many of them one lasts at most, a week.
pub(super) const UNIT_S: u32 = 10;
const LASTED_MAX: u16 = 60_480;

/// How long something has lasted that usually ends by itself, such as a level beyond a mark. Times are units in which the series was heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mark {
    /// When it began this time, the low half; 0 if it is not going on.
    pub since: u16,
    /// The two longest times that have ended.
    pub longest: [u16; 2],
    pub stays: u8,
}

impl Mark {
    pub const NEW: Mark = Mark { since: 0, longest: [0; 2], stays: 0 };

    /// Takes note of whether it is going on; the end of a fault teaches nothing. Returns for how many seconds.
    pub fn follow(&mut self, is_going_on: bool, heard_s: u32, is_fault: bool) -> u32 {
        match (is_going_on, self.is_going_on()) {
            (true, false) => self.begin(heard_s),
            (false, true) if is_fault => self.since = 0,
            (false, true) => self.end(heard_s),
            _ => {}
        }
        if self.lasted(heard_s) > LASTED_MAX {
            self.since = unit(heard_s).wrapping_sub(LASTED_MAX).max(1);
        }
        self.lasted_s(heard_s)
    }

    pub fn is_going_on(&self) -> bool {
        self.since > 0
    }

    pub fn begin(&mut self, heard_s: u32) {
        self.since = unit(heard_s);
    }

    /// For how many seconds it goes on; 0 if it does not.
    pub fn lasted_s(&self, heard_s: u32) -> u32 {
        u32::from(self.lasted(heard_s)) * UNIT_S
    }

    fn lasted(&self, heard_s: u32) -> u16 {
        if self.is_going_on() { unit(heard_s).wrapping_sub(self.since) } else { 0 }
    }

    /// Seconds after which it is told. What lasted so long only once is no habit.
    pub fn limit_s(&self, at_least_s: f32) -> f32 {
        let [longest, second] = self.longest.map(|units| f32::from(units) * UNIT_S as f32);
        let unlike = (longest - second) / longest.max(1.0);
        let times = TIMES + TIMES_UNLIKE * unlike + TIMES_FEW / f32::from(self.stays.max(1));
        (second * times.min(TIMES_MAX)).max(OF_LONGEST * longest).max(at_least_s)
    }

    fn end(&mut self, heard_s: u32) {
        let lasted = self.lasted(heard_s);
        let keep = (1.0 - self.lasted_s(heard_s) as f32 / FORGET_S).max(0.0);
        self.longest = self.longest.map(|units| (f32::from(units) * keep).round() as u16);
        if lasted > self.longest[0] {
            self.longest = [lasted, self.longest[0]];
        } else {
            self.longest[1] = self.longest[1].max(lasted);
        }
        self.stays = self.stays.saturating_add(1);
        self.since = 0;
    }
}

/// The low half of a time in which the series was heard; never 0.
fn unit(heard_s: u32) -> u16 {
    ((heard_s / UNIT_S) as u16).max(1)
}

/// What was learned of a series' range, and of how long its level stays beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stay {
    /// The usual range.
    pub low: f32,
    pub high: f32,
    pub looked_at_ms: i64,
    /// Seconds in which the series was heard; 0 before the first look.
    pub heard_s: u32,
    /// Below and above the range, from the nearest to the farthest.
    pub marks: [[Mark; MARKS]; 2],
    /// Number of the mark whose stay is told, counted from 1: those above after those below. 0 if none is.
    pub told: u8,
    /// The side on which a person calls what goes on a fault, counted from 1: it teaches nothing. 0 if none is.
    pub fault: u8,
}

impl Stay {
    pub const NEW: Stay = Stay {
        low: 0.0,
        high: 0.0,
        looked_at_ms: i64::MIN,
        heard_s: 0,
        marks: [[Mark::NEW; MARKS]; 2],
        told: 0,
        fault: 0,
    };

    /// Takes note of the newest level, and tells of a stay that is too long. Readings usually come `interval_ms` apart, the first came at
    /// `first_ms`.
    pub fn judge(&mut self, at_ms: i64, first_ms: i64, level: f64, interval_ms: f32, found: &mut Vec<Finding>) {
        let elapsed_ms = at_ms.saturating_sub(self.looked_at_ms);
        if !(0..LOOK_EVERY_MS).contains(&elapsed_ms) {
            self.look(at_ms, first_ms, (level as f32).clamp(-LEVEL_MAX, LEVEL_MAX), interval_ms);
        }
        if self.told > 0 {
            found.push(self.finding(interval_ms));
        }
    }

    /// What the level is between for most of the time; `None` before the first.
    pub fn usual(&self) -> Option<(f64, f64)> {
        (self.heard_s > 0).then(|| (self.low.into(), self.high.into()))
    }

    /// Whether a level is between the ends of the usual range, which must be known.
    pub fn is_inside(&self, level: f64) -> bool {
        let (level, end) = (level as f32, END * (self.high - self.low));
        self.heard_s >= ENDS_KNOWN_S && level > self.low + end
    }

    /// A person says whether the stay that is told is normal. Returns whether one is.
    pub fn teach(&mut self, is_normal: bool) -> bool {
        let Some(side) = usize::from(self.told).checked_sub(1).map(|number| number / MARKS) else { return false };
        self.fault = if is_normal { 0 } else { side as u8 + 1 };
        if is_normal {
            for mark in self.marks[side].iter_mut().filter(|mark| mark.is_going_on()) {
                let lasted = mark.lasted(self.heard_s);
                mark.longest = mark.longest.map(|known| known.max(lasted));
            }
            self.told = 0;
        }
        true
    }

    /// The series' time begins anew: it is unknown how long the level has stayed.
    pub fn interrupt(&mut self) {
        self.end_all();
        self.looked_at_ms = i64::MIN;
    }

    fn end_all(&mut self) {
        let heard_s = self.heard_s;
        for (side, marks) in self.marks.iter_mut().enumerate() {
            let is_fault = usize::from(self.fault) == side + 1;
            marks.iter_mut().for_each(|mark| _ = mark.follow(false, heard_s, is_fault));
        }
        (self.told, self.fault) = (0, 0);
    }

    /// What goes on beyond the range begins now, and what was before is forgotten.
    fn begin_anew(&mut self) {
        for mark in self.marks.iter_mut().flat_map(|marks| &mut marks[MIDDLE + 1..]) {
            let goes_on = mark.is_going_on();
            *mark = Mark::NEW;
            if goes_on {
                mark.begin(self.heard_s);
            }
        }
    }

    fn look(&mut self, at_ms: i64, first_ms: i64, level: f32, interval_ms: f32) {
        if self.heard_s == 0 {
            (self.low, self.high, self.heard_s, self.looked_at_ms) = (level, level, 1, at_ms);
            return;
        }
        let elapsed_ms = at_ms.saturating_sub(self.looked_at_ms);
        let is_first = std::mem::replace(&mut self.looked_at_ms, at_ms) == i64::MIN;
        if is_first || elapsed_ms < 0 || elapsed_ms > SILENCE_MS.max((SILENCE_INTERVALS * interval_ms) as i64) {
            self.end_all();
            return;
        }
        let since_ms = at_ms.saturating_sub(first_ms);
        let is_range_known = |since_ms, heard_s| since_ms >= RANGE_KNOWN_MS && heard_s >= RANGE_HEARD_MIN_S;
        let was_known = is_range_known(since_ms.saturating_sub(elapsed_ms), self.heard_s);
        self.heard_s = self.heard_s.saturating_add((elapsed_ms / 1_000) as u32);
        if !was_known && is_range_known(since_ms, self.heard_s) {
            self.begin_anew();
        }
        self.learn_range(level, elapsed_ms);
        self.compare(level, since_ms, interval_ms);
    }

    fn learn_range(&mut self, level: f32, elapsed_ms: i64) {
        let (minutes, age) = (elapsed_ms as f32 / 60_000.0, (self.heard_s as f32 / 60.0).max(1.0));
        let slowly = if self.told > 0 { TOLD_RATE } else { 1.0 };
        let rate = (minutes.min(MINUTES_MAX) * RATE).max(minutes * RATE_YOUNG / age).min(RATE_MAX) * slowly;
        let moved = if age < YOUNG_MINUTES { (level - self.low).abs().max((level - self.high).abs()) } else { 0.0 };
        let width = (self.high - self.low).max(moved);
        let distant = (DISTANT_YOUNG / age).clamp(DISTANT, DISTANT_MAX);
        let step = |bound: f32, below: f32| {
            let size = rate * width.max(distant * (level - bound).abs());
            if level > bound { bound + size * (1.0 - below) } else { bound - size * below }
        };
        let (low, high) = (step(self.low, 1.0 - SHARE), step(self.high, SHARE));
        (self.low, self.high) = (low, high.max(low));
    }

    /// Whether a stay beyond this mark is told. A level that has never moved so far as the farthest one has no habits to hold it against.
    fn is_told_of(&self, place: usize, mark: &Mark, since_ms: i64) -> bool {
        let is_far = place + 1 == MARKS;
        if since_ms < KNOWN_MS || self.heard_s < if is_far { FAR_HEARD_MIN_S } else { HEARD_MIN_S } {
            return false;
        }
        match place {
            MIDDLE => mark.stays >= CYCLES_MIN && mark.longest[0] < PAUSE_MAX,
            _ => {
                let beyond = self.marks.iter().flat_map(|marks| &marks[MIDDLE + 1..]);
                is_far || beyond.map(|mark| u32::from(mark.stays)).sum::<u32>() >= STAYS_MIN
            }
        }
    }

    /// What would be told; `None` while nothing is.
    pub fn explain(&self, first_ms: i64, interval_ms: f32) -> Option<StayLearned> {
        let (width, since_ms) = (self.high - self.low, self.looked_at_ms.saturating_sub(first_ms));
        let side = |marks: &[Mark], bound: f32, sign: f32| {
            let marks = marks.iter().enumerate().filter(|(place, mark)| self.is_told_of(*place, mark, since_ms));
            let limit = |(place, mark): (usize, &Mark)| StayLimit {
                level: rounded((bound + sign * (BEYOND[place] + CLEARLY) * width).into()),
                after_s: f64::from(mark.limit_s(stay_min_s(interval_ms))).round(),
            };
            marks.map(limit).collect()
        };
        (since_ms >= KNOWN_MS && self.heard_s >= FAR_HEARD_MIN_S).then(|| StayLearned {
            below: side(&self.marks[0], self.low, -1.0),
            above: side(&self.marks[1], self.high, 1.0),
        })
    }

    fn compare(&mut self, level: f32, since_ms: i64, interval_ms: f32) {
        let width = self.high - self.low;
        let outside = [self.low - level, level - self.high];
        let told_before = std::mem::take(&mut self.told);
        let mut told = 0;
        for (side, outside) in outside.into_iter().enumerate() {
            let is_fault = usize::from(self.fault) == side + 1;
            for (place, beyond) in BEYOND.into_iter().enumerate() {
                let mark = &mut self.marks[side][place];
                let back = if mark.is_going_on() { HYSTERESIS } else { 0.0 };
                let lasted_s = mark.follow(outside > (beyond - back) * width, self.heard_s, is_fault);
                let mark = *mark;
                let number = (side * MARKS + place + 1) as u8;
                let is_clear = outside > (beyond + CLEARLY) * width || number == told_before;
                let is_long = lasted_s as f32 > mark.limit_s(stay_min_s(interval_ms));
                if is_clear && is_long && self.is_told_of(place, &mark, since_ms) {
                    told = number;
                }
            }
            if is_fault && self.marks[side].iter().all(|mark| !mark.is_going_on()) {
                self.fault = 0;
            }
        }
        self.told = told;
    }

    fn finding(&self, interval_ms: f32) -> Finding {
        let number = usize::from(self.told) - 1;
        let (is_above, mark) = (number >= MARKS, &self.marks.as_flattened()[number]);
        let (bound, side) = if is_above { (self.high, "above") } else { (self.low, "below") };
        let beyond = BEYOND[number % MARKS] * (self.high - self.low);
        let lasted_s = mark.lasted_s(self.heard_s);
        let limit_s = mark.limit_s(stay_min_s(interval_ms));
        let height = if is_above { bound + beyond } else { bound - beyond };
        let longest = match mark.longest.map(|units| duration(u32::from(units) * UNIT_S)) {
            _ if mark.longest[0] == 0 => "it never was".to_owned(),
            [once, _] if mark.longest[1] == 0 => format!("once it was for {once}"),
            [once, usually] => format!("usually at most {usually}, once {once}"),
        };
        Finding {
            detector: Detector::Stay,
            score: f64::from(lasted_s as f32 / limit_s).max(1.0),
            expected: Some(f64::from(if number % MARKS == MIDDLE { height } else { bound })),
            spread: None,
            reason: format!(
                "{side} {} for {}; {longest} in {}",
                short(height.into()),
                duration(lasted_s),
                duration(self.heard_s)
            ),
        }
    }
}

/// How long the level may stay beyond its usual range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StayLearned {
    /// Below which levels it is told, from the nearest to the farthest.
    pub below: Vec<StayLimit>,
    /// Above which levels it is told, from the nearest to the farthest.
    pub above: Vec<StayLimit>,
}

/// When a level that stays away is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StayLimit {
    /// Beyond this level.
    pub level: f64,
    /// After so many seconds.
    pub after_s: f64,
}

impl StayLearned {
    /// In a line for people.
    pub(super) fn write(&self) -> String {
        let side = |name: &str, limits: &[StayLimit]| {
            let limits =
                limits.iter().map(|limit| format!("{} for {}", short(limit.level), duration(limit.after_s as u32)));
            format!("{name} {}", limits.collect::<Vec<_>>().join(", "))
        };
        let (below, above) = (side("below", &self.below), side("above", &self.above));
        format!("{}: told {below}; {above}", Detector::Stay.name())
    }
}

/// No shorter stay is told.
fn stay_min_s(interval_ms: f32) -> f32 {
    STAY_MIN_S.max(INTERVALS_MIN * interval_ms / 1_000.0)
}

/// In words.
fn duration(seconds: u32) -> String {
    if seconds < 120 { format!("{seconds} s") } else { span((seconds + 30) / 60) }
}

#[cfg(test)]
mod tests;
