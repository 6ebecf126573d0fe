//! What has been learned of a series and what would be told of it, for people who ask why.
//!
//! Numbers have as many digits as people read, also in JSON.

use serde::Serialize;

use super::habit::{Habit, Side, Youth};
use super::maturity::Maturity;
use super::profile::Profile;
use super::series::{BURST_YOUTH, READINGS_MIN, SHIFT_YOUTH, SPIKE_YOUTH, Series, WARM_UP_MS};
use super::usual::{between, span};
use super::{Detector, rounded, short};

pub use super::stay::{StayLearned, StayLimit};

/// What has been learned of a series that is watched, and what would be told of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Name of its device; empty of a recording of its own.
    pub device: String,
    /// Name of its metric.
    pub metric: String,
    /// How it is watched.
    pub profile: &'static str,
    /// Why it is watched so.
    pub because: String,
    /// Usual time between readings; `None` before there were two.
    pub interval_ms: Option<f64>,
    /// Its silence is told after so long; `None` if it never is.
    pub gap_after_s: Option<f64>,
    /// What was learned of its values.
    #[serde(flatten)]
    pub learned: Learned,
    /// All of it in a few lines.
    pub text: String,
}

/// What was learned of the values of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// How well it is known.
    pub maturity: Maturity,
    /// The time of its first reading; `None` if that came before anybody took note of it.
    pub since_ms: Option<i64>,
    /// In how many minutes it was heard.
    pub heard_minutes: u32,
    /// Readings since then.
    pub readings: u32,
    /// Too little is known to tell anything.
    pub warms_up: bool,
    /// How many seconds the window holds.
    pub window_s: u32,
    /// Smallest step between two readings; `None` until there was one.
    pub resolution: Option<f64>,
    /// Mean of the newest window; `None` if it is empty.
    pub level: Option<f64>,
    /// The level is below this for a tenth of the time.
    pub level_low: Option<f64>,
    /// And above this for a tenth.
    pub level_high: Option<f64>,
    /// Usual distance of a reading from the median of the window before it.
    pub noise: Option<f64>,
    /// Of each detector that watches it.
    pub detectors: Vec<DetectorLearned>,
    /// How long its level may stay away; `None` while that is not told, in the first two days.
    pub stay: Option<StayLearned>,
}

/// What one detector has learned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DetectorLearned {
    /// As in records.
    pub detector: &'static str,
    /// What would be told above; of bursts, that it is rougher. `None` of a value that stands still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<Reach>,
    /// What would be told below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<Reach>,
    /// A value that stands still is told after so many seconds; `None` also while it has never moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_s: Option<f64>,
}

/// How far a detector lets a statistic go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reach {
    /// In thresholds of the detector: 1 if nothing was learned.
    pub thresholds: f64,
    /// In the unit of the value; `None` where that cannot be said.
    pub distance: Option<f64>,
    /// How far it went before, in thresholds, the farthest first.
    pub excursions: Vec<f64>,
}

impl Series {
    /// What has been learned, with the profile that it is watched with.
    pub fn explain(&self, profile: &Profile) -> Learned {
        let newest_ms = self.window.newest_ms().unwrap_or_default();
        let summary = self.window.summary(newest_ms.saturating_add(1));
        let floor_square = summary.as_ref().map_or(0.0, |summary| self.floor_square(summary.last.value, summary));
        let is_warm = self.judged_age_ms(newest_ms, profile) >= WARM_UP_MS;
        let [spike, shift] = [profile.spike * self.spike_caution(), profile.shift * self.shift_caution()];
        let is_frozen = self.frozen.is_some();
        let age_ms = self.judged_age_ms(newest_ms, profile);
        let sizes = [
            Some(spike * self.residual.size(floor_square).max(self.difference.size(2.0 * floor_square))),
            summary.as_ref().filter(|_| !is_frozen).map(|it| self.shift.reach(it, floor_square, (age_ms, shift))),
            profile.burst.map(|threshold| threshold * self.roughness.size(2.0 * floor_square)),
        ];
        // A habit of the shift is not asked where the first readings are the baseline.
        let shift_habit = if is_frozen { &Habit::NEW } else { &self.habits.shift };
        let mut detectors = vec![
            two_sided(Detector::Spike, &self.habits.spike, SPIKE_YOUTH, sizes[0]),
            two_sided(Detector::Shift, shift_habit, if is_frozen { Youth::NONE } else { SHIFT_YOUTH }, sizes[1]),
        ];
        if profile.burst.is_some() {
            let burst = two_sided(Detector::Burst, &self.habits.burst, BURST_YOUTH, sizes[2]);
            detectors.push(DetectorLearned { below: None, ..burst });
        }
        if profile.stuck {
            let after_s = Some(self.run.told_after_s(self.pace)).filter(|after_s| after_s.is_finite()).map(f64::round);
            detectors.push(DetectorLearned { detector: Detector::Stuck.name(), above: None, below: None, after_s });
        }
        let bounds = self.stay.usual();
        Learned {
            maturity: self.maturity(),
            since_ms: self.heard.since_ms(),
            heard_minutes: self.heard.minutes,
            readings: self.heard.readings,
            warms_up: !is_warm,
            window_s: self.pace.span_s(),
            resolution: Some(self.resolution).filter(|step| *step > 0.0).map(rounded),
            level: summary.as_ref().map(|summary| rounded(summary.mean)),
            level_low: bounds.map(|(low, _)| rounded(low)),
            level_high: bounds.map(|(_, high)| rounded(high)),
            noise: summary.filter(|it| it.count >= READINGS_MIN).map(|_| rounded(self.residual.size(floor_square))),
            detectors,
            stay: self.stay.explain(self.heard.since_ms, self.pace.interval_ms),
        }
    }
}

/// `size`: one threshold in the unit of the value.
fn two_sided(detector: Detector, habit: &Habit, youth: Youth, size: Option<f64>) -> DetectorLearned {
    let reach = |side: Side| {
        let thresholds = habit.told_from(side, youth);
        Some(Reach {
            thresholds: rounded(thresholds),
            distance: size.map(|size| rounded(thresholds * size)),
            excursions: habit.excursions(side).map(|score| rounded(f64::from(score))).collect(),
        })
    };
    DetectorLearned { detector: detector.name(), above: reach(Side::Above), below: reach(Side::Below), after_s: None }
}

impl Explanation {
    /// The lines for people; `date` writes a time.
    pub(in crate::detection) fn write(&self, date: fn(i64) -> String) -> String {
        let Learned { maturity, since_ms, heard_minutes, readings, window_s, .. } = self.learned;
        let name =
            if self.device.is_empty() { self.metric.clone() } else { format!("{}/{}", self.device, self.metric) };
        let since = since_ms.map_or(String::new(), |since_ms| format!(" since {}", date(since_ms)));
        let mut lines = vec![
            format!("{name} is {}: heard for {}{since}, {readings} readings", maturity.name(), span(heard_minutes)),
            self.how(),
            self.levels(),
        ];
        if self.learned.warms_up {
            lines.push("nothing is told yet: it is learned from for a minute first".to_owned());
        }
        lines.extend(self.learned.detectors.iter().map(|detector| detector.write(window_s)));
        lines.extend(self.learned.stay.as_ref().map(StayLearned::write));
        lines.extend(self.gap_after_s.map(|after_s| format!("gap: told after {} s of silence", short(after_s))));
        if maturity != Maturity::Known {
            lines.push(
                "until it has been heard for a day, only what goes very far beyond these is more than minor".to_owned(),
            );
        }
        lines.join("\n")
    }

    fn how(&self) -> String {
        let every = self.interval_ms.map_or(String::new(), |ms| format!("; a reading every {} s", short(ms / 1000.0)));
        let steps = self.learned.resolution.map_or(String::new(), |step| format!(", in steps of {}", short(step)));
        format!("watched as {}: {}{every}{steps}", self.profile, self.because)
    }

    fn levels(&self) -> String {
        let Learned { level, level_low, level_high, heard_minutes, noise, window_s, .. } = self.learned;
        let now = level.map_or("no level now".to_owned(), |level| format!("level {}", short(level)));
        let range = level_low.zip(level_high).map_or(String::new(), |(low, high)| {
            format!("; in {} it was usually {}", span(heard_minutes), between(low, high))
        });
        let noise = noise.map_or(String::new(), |noise| {
            format!("; a reading is usually {} from the {window_s} s median", short(noise))
        });
        format!("{now}{range}{noise}")
    }
}

impl DetectorLearned {
    fn write(&self, window_s: u32) -> String {
        let name = self.detector;
        let (above, below) = match (&self.above, &self.below) {
            (Some(above), Some(below)) => (above, below),
            (Some(rough), None) => {
                let from = rough.distance.map_or(String::new(), |distance| format!(" by {}", short(distance)));
                let beyond = short(rough.thresholds);
                let before = before(&[("", &rough.excursions)]);
                return format!("{name}: told when readings of {window_s} s differ{from}, {beyond} thresholds{before}");
            }
            _ => {
                return match self.after_s {
                    Some(after_s) => format!("{name}: told after {} s of the same value", short(after_s)),
                    None => format!("{name}: not told, because it has not moved yet"),
                };
            }
        };
        let of = if name == Detector::Spike.name() {
            format!("the {window_s} s median")
        } else {
            format!("what the {window_s} s mean was")
        };
        let thresholds = format!("{} and {} thresholds", short(above.thresholds), short(below.thresholds));
        let from = match (above.distance, below.distance) {
            (Some(above), Some(below)) => format!("from {} above or {} below {of}, ", short(above), short(below)),
            _ => format!("above or below {of}, from "),
        };
        let before = before(&[(" above", &above.excursions), (" below", &below.excursions)]);
        format!("{name}: told {from}{thresholds}{before}")
    }
}

fn before(sides: &[(&str, &Vec<f64>)]) -> String {
    let side = |(side, excursions): &(&str, &Vec<f64>)| {
        let all: Vec<String> = excursions.iter().map(|score| short(*score)).collect();
        (!all.is_empty()).then(|| format!("{}{side}", all.join(" ")))
    };
    let known: Vec<String> = sides.iter().filter_map(side).collect();
    match known.is_empty() {
        true => "; never went so far".to_owned(),
        false => format!("; went {} before", known.join(" and ")),
    }
}

#[cfg(test)]
mod tests;
