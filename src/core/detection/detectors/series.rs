//! The state of one watched series, and how a reading is judged by it.
//!
//! The deviation of ten seconds alone has too few degrees of freedom to tell trouble from noise, so each statistic of the window is
//! compared with its own usual size, learned over half an hour. Values are clipped before anything is learned from them, so an outlier is
//! judged by the past and hardly changes it. Nothing is learned from what may be the beginning of a fault.
//!
//! All times here are the series' own, see `pace`. Most series keep common time.

mod burst;
mod spike;

use super::frozen::Frozen;
use super::habit::{Habit, Side, Youth};
use super::maturity::{HeardTime, Maturity};
use super::pace::Pace;
use super::profile::{Baseline, Profile};
use super::shift::Shift;
use super::spread::{Spread, weight};
use super::stay::{Mark, Stay};
use super::stuck::{Run, RunState};
use super::usual::{Before, usual};
use super::{Finding, Verdict};
use crate::detection::window::{Admission, Sample, Summary, Window};

pub(super) use burst::BURST_YOUTH;
pub(super) use spike::SPIKE_YOUTH;

/// How long a series is learned from before it is judged, in milliseconds of its own time.
pub const WARM_UP_MS: i64 = 60_000;
pub(super) const READINGS_MIN: usize = 3;
/// Time constant of the usual sizes.
const SPREAD_TAU_MS: f64 = 1_800_000.0;
const CLIP: f64 = 4.0;
/// A slow series seems to move faster: its threshold is so many times as high.
const SLOW_SHIFT_TIMES: f64 = 1.5;
/// A smaller part of the value is no step of a sensor but a rounding error.
const ROUNDING: f64 = 64.0 * f64::EPSILON;
/// The base of a level is short at first.
pub(super) const SHIFT_YOUTH: Youth = Youth { calm: 3.0, restless: 10.0 };
/// After a silence of so long the level before it says nothing any more.
const RELEARN_MS: i64 = 300_000;

/// One series: its last readings, and what has been learned of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub(super) pace: Pace,
    pub(super) window: Window,
    pub(super) epoch_start_ms: i64,
    /// Smallest step between two readings, as a rule the sensor's resolution; 0 until there was one.
    pub(super) resolution: f64,
    /// Mean square distance from the window's median.
    pub(super) residual: Spread,
    /// Mean square difference of successive readings.
    pub(super) difference: Spread,
    /// Mean square of the windows' roughness.
    pub(super) roughness: Spread,
    /// Readings that the three were learned from.
    pub(super) readings: u32,
    pub(super) burst_streak: u8,
    pub(super) run: Run,
    pub(super) shift: Shift,
    /// For the frozen baseline, used instead of `shift`.
    pub(super) frozen: Option<Box<Frozen>>,
    pub(super) habits: Habits,
    pub(super) stay: Stay,
    /// How long the windows are rough.
    pub(super) rough: Mark,
    pub(super) heard: HeardTime,
}

/// What each detector of a series finds usual.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Habits {
    pub spike: Habit,
    pub shift: Habit,
    pub burst: Habit,
    /// Of a single reading that stands out; `None` as long as none has.
    pub single: Option<Box<Habit>>,
}

impl Habits {
    pub const NEW: Habits = Habits { spike: Habit::NEW, shift: Habit::NEW, burst: Habit::NEW, single: None };

    pub fn each(&self) -> [&Habit; 3] {
        [&self.spike, &self.shift, &self.burst]
    }

    fn change_clock(&mut self) {
        let Habits { spike, shift, burst, single } = self;
        [spike, shift, burst].into_iter().chain(single.as_deref_mut()).for_each(Habit::change_clock);
    }

    fn heap_bytes(&self) -> usize {
        let single = self.single.as_ref().map_or(0, |habit| size_of::<Habit>() + habit.heap_bytes());
        self.each().into_iter().map(Habit::heap_bytes).sum::<usize>() + single
    }
}

impl Series {
    /// A series of which nothing has been heard.
    pub fn new(profile: &Profile) -> Series {
        Series {
            pace: Pace::NEW,
            window: Window::default(),
            epoch_start_ms: 0,
            resolution: 0.0,
            residual: Spread::default(),
            difference: Spread::default(),
            roughness: Spread::default(),
            readings: 0,
            burst_streak: 0,
            run: Run::NEW,
            shift: Shift::NEW,
            frozen: (profile.baseline == Baseline::Frozen).then(Box::default),
            habits: Habits::NEW,
            stay: Stay::NEW,
            rough: Mark::NEW,
            heard: HeardTime::NONE,
        }
    }

    /// Bytes held beyond the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.window.heap_bytes() + self.habits.heap_bytes() + self.frozen.as_ref().map_or(0, |_| size_of::<Frozen>())
    }

    /// Whether a reading of this time could only be judged if the clock had been set back.
    pub fn is_long_past(&self, at_ms: i64) -> bool {
        self.window.is_long_past(self.pace.own_ms(at_ms))
    }

    /// Newest time of the readings that are believed; `None` before the first.
    pub fn newest_ms(&self) -> Option<i64> {
        self.window.newest_ms().map(|own_ms| self.pace.common_ms(own_ms))
    }

    /// How well it is known.
    pub fn maturity(&self) -> Maturity {
        self.heard.maturity()
    }

    /// As if it had been heard for a day.
    #[cfg(test)]
    pub fn make_known(&mut self) {
        self.heard.minutes = 1_440;
    }

    /// Whether the window holds exactly this reading.
    pub fn holds(&self, reading: Sample) -> bool {
        self.window.holds(Sample { at_ms: self.pace.own_ms(reading.at_ms), ..reading })
    }

    /// The newest reading of the window.
    pub fn newest(&self) -> Option<Sample> {
        let newest = self.window.newest()?;
        Some(Sample { at_ms: self.pace.common_ms(newest.at_ms), ..newest })
    }

    /// Whether the newest reading of the window has this value.
    pub fn is_last(&self, value: f64) -> bool {
        self.window.held().last().is_some_and(|sample| sample.value == value)
    }

    /// Whether a reading newer than this waits to be confirmed.
    pub fn has_newer_suspect(&self, at_ms: i64) -> bool {
        self.window.has_newer_suspect(self.pace.own_ms(at_ms))
    }

    /// Whether there is a level to compare a reading of this time with. After a long silence there is none until one is learned anew; a
    /// series that rests needs none.
    pub fn has_level(&self, at_ms: i64, profile: &Profile) -> bool {
        let is_resting = || self.window.summary(self.pace.own_ms(at_ms)).is_some_and(|summary| summary.is_still);
        match &self.frozen {
            Some(frozen) => frozen.is_trained(),
            None => self.shift.has_base() || profile.rests && is_resting(),
        }
    }

    /// Judges a usable value, then learns from it. Findings are appended to `found`; a window of more than `samples_max` readings is
    /// thinned.
    pub fn judge(
        &mut self,
        reading: Sample,
        profile: &Profile,
        samples_max: usize,
        found: &mut Vec<Finding>,
    ) -> Verdict {
        self.keep_pace(reading.at_ms, profile);
        let reading = Sample { at_ms: self.pace.own_ms(reading.at_ms), ..reading };
        match self.window.admit(reading) {
            Admission::Suspect => return Verdict::Unjudged,
            Admission::NewEpoch => {
                self.epoch_start_ms = reading.at_ms;
                self.shift = Shift { departure: self.shift.departure, ..Shift::NEW };
                self.run.interrupt();
                self.stay.interrupt();
            }
            Admission::Continues if self.window.has_seen(reading) => return Verdict::Unjudged,
            Admission::Resumes { silent_ms } => {
                self.run.interrupt();
                self.shift.pass_over(silent_ms);
                if silent_ms > RELEARN_MS {
                    self.shift.forget(reading.at_ms);
                }
            }
            Admission::Continues => {}
        }
        self.heard.hear(reading.at_ms, self.pace);
        let warm = self.judged_age_ms(reading.at_ms, profile) >= WARM_UP_MS;
        let found_before = found.len();
        let is_newest = self.window.is_newest(reading.at_ms);
        let mut doubtful = false;
        match self.window.summary(reading.at_ms) {
            Some(summary) => {
                doubtful = self.judge_window(reading, &summary, profile, (warm, is_newest), found);
            }
            None if is_newest => self.run.interrupt(),
            None => {}
        }
        self.learn(reading, samples_max, doubtful);
        let is_trained = self.frozen.as_ref().is_none_or(|frozen| frozen.is_trained());
        match found.len() > found_before {
            true => Verdict::Anomalous,
            false if warm && is_trained => Verdict::Normal,
            false => Verdict::WarmingUp,
        }
    }

    /// A person says whether what this detector told last is normal. Returns whether anything is known of that.
    pub fn teach(&mut self, detector: &str, is_normal: bool, profile: &Profile) -> bool {
        match detector {
            "spike" => self.teach_spike(is_normal, profile),
            "shift" => self.habits.shift.teach(is_normal, profile.manner(SHIFT_YOUTH)),
            "burst" => self.habits.burst.teach(is_normal, profile.manner(BURST_YOUTH)),
            "stuck" => self.run.teach(is_normal),
            "stay" => self.stay.teach(is_normal),
            _ => false,
        }
    }

    /// When the pace changes, everything is learned anew except habits, stays, how well it is known, what a person has said, and the frozen baseline, which goes by the number of readings.
    fn keep_pace(&mut self, at_ms: i64, profile: &Profile) {
        let Some(newest_ms) = self.window.newest_ms() else { return };
        if self.pace.observe(at_ms.saturating_sub(self.pace.common_ms(newest_ms))) {
            let frozen = self.frozen.take();
            // Scores are the same at any pace, only the minutes are others.
            let mut habits = std::mem::replace(&mut self.habits, Habits::NEW);
            habits.change_clock();
            let mut heard = self.heard;
            heard.change_clock();
            let Series { pace, stay, rough, .. } = *self;
            let run = self.run.taught();
            *self = Series { pace, frozen, habits, stay, rough, heard, run, ..Series::new(profile) };
        }
    }

    /// What is usual, behind what a detector has found; a score beyond its threshold, of that side.
    pub(super) fn usual(&self, habit: &Habit, verb: &'static str, (score, side): (f64, Side)) -> String {
        usual(&self.heard, self.stay.usual(), Some(Before { verb, times: habit.times_so_far(score, side) }))
    }

    fn age_ms(&self, at_ms: i64) -> i64 {
        at_ms.saturating_sub(self.epoch_start_ms)
    }

    /// How long it has been learned from. Of a series that rests, only the time in which it moved counts.
    pub(super) fn judged_age_ms(&self, at_ms: i64, profile: &Profile) -> i64 {
        let age_ms = self.age_ms(at_ms);
        if profile.rests { age_ms.min(i64::from(self.readings) * 1000) } else { age_ms }
    }

    /// Runs all detectors of the profile. A late reading has a window of the past, in which only spikes are looked for. Returns whether the
    /// reading may be part of a run of equal values that is a fault.
    fn judge_window(
        &mut self,
        reading: Sample,
        summary: &Summary,
        profile: &Profile,
        (warm, is_newest): (bool, bool),
        found: &mut Vec<Finding>,
    ) -> bool {
        let found_before = found.len();
        if is_newest {
            // The mean of a slow series' window says what was an hour ago.
            let level = if self.pace.seconds() == 1 { summary.mean } else { reading.value };
            let at_ms = self.pace.common_ms(reading.at_ms);
            self.stay.judge(at_ms, self.heard.since_ms, level, self.pace.interval_ms, found);
        }
        let floor_square = self.floor_square(reading.value, summary);
        let run = match is_newest && profile.stuck {
            true => self.judge_run(reading, profile, warm, found),
            false => RunState::Usual,
        };
        if profile.rests && is_newest && summary.is_still {
            // At rest: compared with how the series moves, and nothing is learned.
            if summary.count >= READINGS_MIN {
                self.judge_spike(reading, summary, floor_square, profile, (warm, is_newest, 0.0), found);
            }
            found[found_before..].sort_by_key(|finding| finding.detector);
            return true;
        }
        if run == RunState::Released {
            self.shift.forget(reading.at_ms);
        }
        let doubtful = run == RunState::Doubtful;
        let elapsed_ms = reading.at_ms.saturating_sub(summary.last.at_ms);
        let weight = weight(elapsed_ms, SPREAD_TAU_MS, self.readings);
        self.readings = self.readings.saturating_add(1);
        if summary.count >= READINGS_MIN {
            self.judge_spike(reading, summary, floor_square, profile, (warm, is_newest, weight), found);
            if is_newest && !doubtful {
                self.judge_level(reading, summary, floor_square, profile, found);
                self.judge_burst(reading, summary, floor_square, profile, (warm, weight), found);
            }
        }
        let step = reading.value - summary.last.value;
        if !doubtful {
            self.difference.update(step, 2.0 * floor_square, CLIP, weight);
        }
        let is_a_step = step.abs() > reading.value.abs() * ROUNDING;
        if is_a_step && (self.resolution == 0.0 || step.abs() < self.resolution) {
            self.resolution = step.abs();
        }
        found[found_before..].sort_by_key(|finding| finding.detector);
        doubtful
    }

    pub(super) fn shift_caution(&self) -> f64 {
        self.pace.caution(SLOW_SHIFT_TIMES)
    }

    /// Square of the smallest size: the noise of rounding, or, until the resolution is known, 1 % of the value taken as six sizes.
    pub(super) fn floor_square(&self, value: f64, summary: &Summary) -> f64 {
        if self.resolution > 0.0 {
            return self.resolution_square();
        }
        (value.abs().max(summary.median.abs()) * 0.01 / 6.0).powi(2)
    }

    fn resolution_square(&self) -> f64 {
        self.resolution * self.resolution / 12.0
    }

    /// Looks for a value that is repeated for too long.
    fn judge_run(&mut self, reading: Sample, profile: &Profile, warm: bool, found: &mut Vec<Finding>) -> RunState {
        if profile.rests_at_ends && !self.stay.is_inside(reading.value) {
            self.run.interrupt();
            return RunState::Usual;
        }
        self.run.judge(reading, self.epoch_start_ms, warm, self.pace, found)
    }

    fn judge_level(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        profile: &Profile,
        found: &mut Vec<Finding>,
    ) {
        let found_before = found.len();
        match &mut self.frozen {
            Some(frozen) => {
                let at_ms = self.pace.common_ms(reading.at_ms);
                frozen.judge(Sample { at_ms, ..reading }, summary, floor_square, profile.shift, found);
                for finding in &mut found[found_before..] {
                    finding.reason.push_str(&usual(&self.heard, self.stay.usual(), None));
                }
            }
            None => {
                let age_ms = self.judged_age_ms(reading.at_ms, profile);
                let judged = self.shift.judge(
                    reading,
                    summary,
                    floor_square,
                    (age_ms, profile.shift * self.pace.caution(SLOW_SHIFT_TIMES)),
                    self.pace.span_s(),
                    found,
                );
                let Some((score, distance)) = judged else { return };
                let is_found = found.len() > found_before;
                let (side_of, manner) = (Side::of(distance), profile.manner(SHIFT_YOUTH));
                match self.habits.shift.hear(reading.at_ms, score, side_of, is_found, manner) {
                    Some(told) => {
                        let usual = self.usual(&self.habits.shift, "went so far", (score, side_of));
                        let finding = &mut found[found_before];
                        finding.score = told;
                        finding.reason.push_str(&usual);
                    }
                    None => found.truncate(found_before),
                }
            }
        }
    }

    /// Inserts the reading; what leaves the window feeds the bases, unless it belongs to an alarm.
    fn learn(&mut self, reading: Sample, samples_max: usize, doubtful: bool) {
        let is_learning = !self.shift.is_departing() && !doubtful;
        let floor_square = self.resolution_square();
        let residual_size = self.residual.size(floor_square);
        let (shift, seconds) = (&mut self.shift, self.pace.seconds());
        self.window.insert(reading, samples_max, |evicted| {
            if is_learning {
                shift.feed(evicted, floor_square, residual_size, seconds);
            }
        });
        let age_ms = self.age_ms(reading.at_ms);
        self.shift.watch_home(reading.at_ms, age_ms, floor_square);
    }
}

#[cfg(test)]
mod tests;
