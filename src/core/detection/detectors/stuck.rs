//! A sensor that repeats one value for longer than it ever does.
//!
//! Quantised sensors repeat their value all the time, so a run is compared with the longest of the last half hour *and* with how often this
//! series repeats its value. The history before a run must be longer than the run: a parked engine keeps one temperature for ever.

use super::lesson::Said;
use super::pace::Pace;
use super::{Detector, Finding, short};
use crate::detection::window::Sample;

/// A shorter run is never found stuck.
const RUN_MIN_MS: f32 = 30_000.0;
/// A run is too long if it is so many times the longest; and the history before it must be so many times as long as the run.
const TIMES: f32 = 3.0;
/// Time constant in which a long run is forgotten.
const TAU_MS: f32 = 1_800_000.0;
/// How improbable a run must be, given the share of repeats, in nats. Runs of slow signals are longer than independent chance would make
/// them, hence the size: one in e^40 stands for about one a month with real quantised engine temperatures.
const SURPRISE: f32 = 40.0;
/// A series starts as if it had always repeated itself, for so many readings.
const PRIOR_READINGS: u32 = 30;
/// The share of repeats is never believed to be smaller.
const REPEATS_MIN: f32 = 0.01;
/// From this share of the way on, a run teaches nothing: it may be the fault that it later turns out to be.
const DOUBT: f32 = 0.4;
/// Of a run that was found stuck, so many readings count as repeats.
const STUCK_READINGS: u32 = 10;

/// A run that a person called normal may be so many times as long the next time.
const MARGIN: f32 = 1.25;

/// The run of equal values that is going on, and what runs there were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub value: f64,
    pub since_ms: i64,
    pub len: u32,
    pub longest_ms: f32,
    /// Share of readings that repeat the one before, and of how many it is known.
    pub repeats: f32,
    pub readings: u32,
    pub is_stuck: bool,
    /// How long the last run was that was found stuck, in common time; and the longest before it was learned from, 0 if it was not.
    pub told_ms: f32,
    pub before_ms: f32,
    /// How long runs are by a person's word, in common time; and what was said of the last that was found.
    pub taught_ms: f32,
    pub said: Said,
}

/// What a reading says of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunState {
    Usual,
    Doubtful,
    /// A stuck sensor has moved again: the learned level is out of date.
    Released,
}

impl Run {
    pub const NEW: Run = Run {
        value: 0.0,
        since_ms: 0,
        len: 0,
        longest_ms: 0.0,
        repeats: 1.0,
        readings: PRIOR_READINGS,
        is_stuck: false,
        told_ms: 0.0,
        before_ms: 0.0,
        taught_ms: 0.0,
        said: Said::Nothing,
    };

    /// What outlives a change of pace.
    pub fn taught(&self) -> Run {
        Run { told_ms: self.told_ms, taught_ms: self.taught_ms, said: self.said, ..Run::NEW }
    }

    /// A person says whether the run is normal that was found last. Returns whether one is known. One that goes on is normal for as long as
    /// it does.
    pub fn teach(&mut self, is_normal: bool) -> bool {
        if self.told_ms == 0.0 {
            return false;
        }
        if is_normal {
            self.taught_ms = self.taught_ms.max(self.told_ms);
        } else {
            if self.said == Said::Normal {
                self.taught_ms = 0.0;
            }
            if self.before_ms > 0.0 {
                self.longest_ms = self.longest_ms.min(self.before_ms);
            }
        }
        self.before_ms = 0.0;
        self.said = Said::of(is_normal);
        true
    }

    /// Ends the run: after a silence it is unknown whether the value stayed the same.
    pub fn interrupt(&mut self) {
        self.note_normal();
        self.len = 0;
        self.is_stuck = false;
    }

    /// A run that a person called normal has ended: so long may others be.
    fn note_normal(&mut self) {
        if self.is_stuck && self.said == Said::Normal {
            self.taught_ms = self.taught_ms.max(self.told_ms);
        }
    }

    /// Judges the newest reading, then counts it.
    pub fn judge(
        &mut self,
        reading: Sample,
        epoch_start_ms: i64,
        warm: bool,
        pace: Pace,
        found: &mut Vec<Finding>,
    ) -> RunState {
        if self.len == 0 || self.value != reading.value {
            return self.begin(reading, pace);
        }
        self.len = self.len.saturating_add(1);
        let lasted_ms = reading.at_ms.saturating_sub(self.since_ms) as f32;
        let history_ms = self.since_ms.saturating_sub(epoch_start_ms) as f32;
        let surprise = self.len as f32 * -self.repeats.max(REPEATS_MIN).ln();
        let score = (lasted_ms / self.limit_ms(pace)).min(surprise / SURPRISE);
        if warm && score > 1.0 && history_ms > TIMES * lasted_ms && !self.is_stuck {
            self.is_stuck = true;
            (self.told_ms, self.before_ms, self.said) = (0.0, 0.0, Said::Nothing);
        }
        if self.is_stuck {
            self.told_ms = lasted_ms * pace.seconds() as f32;
        }
        if self.is_stuck && self.said != Said::Normal {
            let seconds = |own_ms: f32| (f64::from(own_ms) / 1000.0 * f64::from(pace.seconds())).round();
            let reason = format!(
                "the same value for {} s; {} s was the longest of late",
                short(seconds(lasted_ms)),
                short(seconds(self.longest_ms))
            );
            let score = f64::from(score.max(1.0));
            found.push(Finding { detector: Detector::Stuck, score, expected: None, spread: None, reason });
        }
        if score > DOUBT { RunState::Doubtful } else { RunState::Usual }
    }

    /// After how many common seconds a run of equal values would be found; infinite if it always repeats its value.
    pub fn told_after_s(&self, pace: Pace) -> f64 {
        let surprising_readings = SURPRISE / -self.repeats.max(REPEATS_MIN).ln();
        let limit_ms = f64::from(self.limit_ms(pace)) * f64::from(pace.seconds());
        limit_ms.max(f64::from(surprising_readings * pace.interval_ms)) / 1000.0
    }

    fn limit_ms(&self, pace: Pace) -> f32 {
        RUN_MIN_MS.max(TIMES * self.longest_ms).max(MARGIN * self.taught_ms / pace.seconds() as f32)
    }

    fn begin(&mut self, reading: Sample, pace: Pace) -> RunState {
        let was_stuck = self.is_stuck;
        self.note_normal();
        if self.len > 0 && !(was_stuck && self.said == Said::Fault) {
            if was_stuck {
                self.before_ms = self.longest_ms;
            }
            let lasted_ms = reading.at_ms.saturating_sub(self.since_ms).max(0) as f32;
            let share = 1.0 - (-lasted_ms / TAU_MS).exp();
            let (len, counted_ms) = match was_stuck && self.said != Said::Normal {
                true => (self.len.min(STUCK_READINGS), lasted_ms.min(self.limit_ms(pace))),
                false => (self.len, lasted_ms),
            };
            self.longest_ms = (self.longest_ms * (1.0 - share)).max(counted_ms);
            self.readings = self.readings.saturating_add(len);
            let weight = share.max(len as f32 / self.readings as f32);
            self.repeats += weight * ((len - 1) as f32 / len as f32 - self.repeats);
        }
        (self.value, self.since_ms, self.len, self.is_stuck) = (reading.value, reading.at_ms, 1, false);
        if was_stuck { RunState::Released } else { RunState::Usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of the run after which it is found, when every reading before it repeats its value with `every`.
    fn found_after(every: impl Fn(i64) -> f64, seconds: i64) -> Option<i64> {
        let (mut run, mut found) = (Run::NEW, Vec::new());
        for at in 0..seconds {
            run.judge(Sample { at_ms: at * 1000, value: every(at) }, 0, at >= 60, Pace::NEW, &mut found);
            assert_eq!(found, [], "at {at}");
        }
        (0..1_200).find(|after| {
            let at_ms = (seconds + after) * 1000;
            run.judge(Sample { at_ms, value: -1.0 }, 0, true, Pace::NEW, &mut found);
            !found.is_empty()
        })
    }

    #[test]
    fn a_fine_sensor_is_stuck_after_half_a_minute_and_a_coarse_one_later() {
        assert_eq!(found_after(|at| at as f64, 900), Some(31));
        let coarse = found_after(|at| (at / 20) as f64, 7_200).expect("at last");
        assert!((61..1_200).contains(&coarse), "{coarse}");
    }

    #[test]
    fn what_never_moves_is_not_stuck() {
        let (mut run, mut found) = (Run::NEW, Vec::new());
        for at in 0..10_000 {
            run.judge(Sample { at_ms: at * 1000, value: 5.0 }, 0, at >= 60, Pace::NEW, &mut found);
        }
        assert_eq!(found, []);
    }

    #[test]
    fn a_run_that_was_found_teaches_little_and_its_end_is_told() {
        let (mut run, mut found) = (Run::NEW, Vec::new());
        let mut judge =
            |at: i64, value: f64| run.judge(Sample { at_ms: at * 1000, value }, 0, at >= 60, Pace::NEW, &mut found);
        (0..900).for_each(|at| _ = judge(at, at as f64));
        (900..1500).for_each(|at| _ = judge(at, 0.5));
        assert_eq!(judge(1500, 7.0), RunState::Released);
        assert_eq!(judge(1501, 8.0), RunState::Usual);
        assert!(run.longest_ms <= RUN_MIN_MS, "{}", run.longest_ms);
        assert!(found[0].reason.starts_with("the same value for 31 s"), "{}", found[0].reason);
    }

    /// A sensor that moves all the time but for runs of these lengths in seconds, a quarter of an hour apart. A mark behind a length says
    /// after how many seconds of the run its find is told (`-`: not at all); `y` and `n` are words that it was normal, or a fault: behind
    /// the mark, once it has ended, or before it, at that second while it goes on.
    fn live(timeline: &str) -> Run {
        let (mut run, mut at) = (Run::NEW, 0);
        let mut judge = |run: &mut Run, value: f64| {
            let mut found = Vec::new();
            at += 1;
            run.judge(Sample { at_ms: at * 1000, value }, 0, true, Pace::NEW, &mut found);
            !found.is_empty()
        };
        for event in timeline.split(' ') {
            if let "y" | "n" = event {
                assert!(run.teach(event == "y"), "{timeline}");
                continue;
            }
            (0..900).for_each(|second| assert!(!judge(&mut run, f64::from(second)), "{timeline}"));
            let mut parts = event.split(',');
            let length: u32 = parts.next().and_then(|length| length.parse().ok()).expect("a length");
            let told = parts.next().expect("when it is told").parse::<u32>().ok();
            let word = parts.next().map(|word| {
                let (word, second) = word.split_at(1);
                (word == "y", second.parse::<u32>().expect("a second"))
            });
            for second in 0..length {
                let is_after_word = word.is_some_and(|(is_normal, said)| is_normal && second > said);
                let is_told = told.is_some_and(|told| second >= told) && !is_after_word;
                assert_eq!(judge(&mut run, -1.0), is_told, "{event} at {second} in {timeline}");
                if let Some((is_normal, _)) = word.filter(|(_, said)| *said == second) {
                    assert!(run.teach(is_normal), "{timeline}");
                }
            }
        }
        run
    }

    #[test]
    fn runs_are_taught() {
        for timeline in [
            // Without a word a run is found again a while later.
            "200,31 200,55",
            "200,31 y 200,- 230,- 240,- 40,- 40,- 40,- 40,- 200,-",
            "200,31,y100 200,- 40,- 40,- 40,- 40,- 40,- 40,- 200,-",
            "200,31 n 200,31",
            "200,31,n100 200,31",
            "200,31 n n 200,31 y y 200,-",
            "200,31 y n 200,31",
            "200,31 n y 200,-",
        ] {
            live(timeline);
        }
        assert!(!Run { ..Run::NEW }.teach(true), "nothing is known");
    }
}
