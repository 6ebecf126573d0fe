//! What a detector's statistic does when nothing is wrong.
//!
//! A threshold that is drawn on the noise of minutes is crossed by everything that a signal does by the hour: starts, cranks, defrosts, doors.
//! So each detector of each series learns how high its own statistic goes, and its line is the highest of three:
//!
//! - a multiple of what most minutes stay below, for signals that move all the time. It is drawn further out the more the minutes differ;
//! - a little more than excursions that came again: several of about the same size, or many whatever their size. A fault comes seldom, and
//!   each time with another size. Only an excursion that has ended by itself teaches anything;
//! - a line for the young, because a statistic of a few minutes says little of the next.
//!
//! Scores are in thresholds of the detector: 1 is where it would raise an alarm if nothing were learned. Time is the series' own, and only
//! minutes in which it is heard count: a vehicle that stood still for a week has forgotten nothing.

mod score;
mod teaching;

use super::lesson::Said;
pub(super) use score::Score;

/// The bins that minutes are counted in, by the highest score in them: half octaves from the lowest bound on, and octaves above the sixth.
pub(super) const BINS: usize = 12;
const LOWEST: f32 = 0.5;
pub(super) const HALF_OCTAVES: usize = 6;
/// Half a bin below the lowest bound stands for all that is lower.
const QUIET: f32 = 0.35;
/// Excursions that are remembered on each side.
pub(super) const PEAKS: usize = 6;
/// As many bits as there are peaks.
const FRESH_MASK: u8 = (1 << PEAKS) - 1;
/// Beside them: the highest has come again since something was forgotten last.
const CAME_AGAIN: u8 = 1 << PEAKS;
pub(super) const FRESH_MAX: u8 = FRESH_MASK | CAME_AGAIN;
/// So many minutes are remembered, a week; then all count half.
const MINUTES_MAX: u32 = 10_080;
/// Fewer minutes say nothing of what is usual.
const MINUTES_MIN: u32 = 10;
/// What most minutes stay below, and how far beyond the line is at least and at most.
const MOST: f32 = 0.95;
const FEW: f32 = 4.0;
const BEYOND: f32 = 1.5;
const WIDENING_MAX: f32 = 4.0;
/// Excursions within such a ratio are alike.
const ALIKE_RATIO: f32 = 1.75;
/// A series counts as at least so old, in minutes: it was watched while it warmed up.
const YOUNGEST: f32 = 2.0;
/// How much higher than a habit the line is.
const MARGIN: f32 = 1.25;
const MINUTE_MS: i64 = 60_000;
/// So long below the line, and an excursion has ended.
const ENDED_MS: u32 = 15_000;
/// A reading is late by so much at the most.
const LATE_MS: u32 = 300_000;
/// A reading that is so much older is of a clock that was set back, not a late one.
const SET_BACK_MINUTES: i32 = 5;

/// Excursions of a statistic that has a sign; others go up only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Above,
    Below,
}

impl Side {
    pub fn of(distance: f64) -> Side {
        if distance < 0.0 { Side::Below } else { Side::Above }
    }
}

/// For so many minutes, divided by its age in minutes, the line of a series is higher: in most minutes of which the statistic stays low, and
/// of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Youth {
    pub calm: f32,
    pub restless: f32,
}

impl Youth {
    /// Nothing is asked of the young.
    pub const NONE: Youth = Youth { calm: 0.0, restless: 0.0 };
}

/// How a detector learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Manner {
    pub youth: Youth,
    /// Excursions that end by themselves are told so often in a week, before they are a habit.
    pub false_alarms_per_week: u8,
}

impl Manner {
    /// So many excursions that are alike are a habit.
    fn alike(self) -> usize {
        usize::from(self.false_alarms_per_week) + 1
    }

    /// And so many of whatever size.
    fn many(self) -> usize {
        (2 * usize::from(self.false_alarms_per_week)).clamp(1, PEAKS)
    }
}

/// What was learned of one detector of one series. Most series stay below their lines, so what is known of excursions has a place only if
/// there was one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Habit {
    /// Minutes by their highest score.
    pub bins: [u16; BINS],
    /// The minute that is going on, and the highest scores in it by side.
    pub minute: i32,
    pub highest: [Score; 2],
    /// Minutes that were ever learned from.
    pub age: u16,
    /// The line, by side; without that for the young.
    pub line: [Score; 2],
    /// An excursion beyond the line is going on.
    pub is_told: bool,
    pub excursions: Option<Box<Excursions>>,
}

/// What is known of the excursions of a statistic beyond its line, by side.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Excursions {
    /// The highest score of one that is going on; 0 if none is. And of those that have ended in this minute.
    pub now: [Score; 2],
    pub ended: [Score; 2],
    /// When the line was crossed last: the low half of the time, which is enough for seconds.
    pub crossed_ms: u32,
    /// The highest, in descending order.
    pub peaks: [[Score; PEAKS]; 2],
    /// The highest score of the last trouble that was told, by side, and how many minutes ago that was.
    pub told: [Score; 2],
    pub since_told: u8,
    /// Which of the peaks are of that trouble, a bit each; and [`CAME_AGAIN`].
    pub fresh: [u8; 2],
    /// What a person says of it.
    pub said: Said,
}

impl Excursions {
    pub const NONE: Excursions = Excursions {
        now: [Score::ZERO; 2],
        ended: [Score::ZERO; 2],
        crossed_ms: 0,
        peaks: [[Score::ZERO; PEAKS]; 2],
        told: [Score::ZERO; 2],
        since_told: u8::MAX,
        fresh: [0; 2],
        said: Said::Nothing,
    };

    fn follow(&mut self, at_ms: i64, score: f32, side: usize, line: f32) {
        let since_ms = (at_ms as u32).wrapping_sub(self.crossed_ms);
        if score > line {
            self.now[side] = self.now[side].max(Score::of(score));
            self.crossed_ms = at_ms as u32;
        } else if (ENDED_MS..u32::MAX - LATE_MS).contains(&since_ms) {
            for (now, ended) in self.now.iter_mut().zip(&mut self.ended) {
                *ended = (*ended).max(std::mem::replace(now, Score::ZERO));
            }
        }
    }

    /// Remembers what has ended in a minute in which scores were so high at most.
    fn end_minute(&mut self, highest: [Score; 2]) -> Option<Ended> {
        for ((highest, peaks), fresh) in highest.iter().zip(&self.peaks).zip(&mut self.fresh) {
            // What is usual is below the line, and so it is no excursion any more.
            let comes_again = *highest > Score::ONE && highest.get() >= peaks[0].get() / ALIKE_RATIO;
            *fresh |= if comes_again { CAME_AGAIN } else { 0 };
        }
        let ended = std::mem::replace(&mut self.ended, [Score::ZERO; 2]);
        let is_of_fault = self.is_of_fault();
        if !is_of_fault {
            (0..2).filter(|&side| ended[side] > Score::ZERO).for_each(|side| self.remember(side, ended[side]));
        }
        self.since_told = self.since_told.saturating_add(1);
        let highest = ended[0].max(ended[1]);
        (highest > Score::ZERO).then_some(Ended { highest, is_of_fault })
    }

    /// What does not come again is forgotten in the end.
    fn forget(&mut self) {
        for (peaks, fresh) in self.peaks.iter_mut().zip(&mut self.fresh) {
            if *fresh & CAME_AGAIN == 0 {
                peaks.rotate_left(1);
                peaks[PEAKS - 1] = Score::ZERO;
                *fresh >>= 1;
            }
            *fresh &= FRESH_MASK;
        }
    }

    /// How far they go again and again.
    fn usual(&self, side: usize, manner: Manner) -> f32 {
        let peaks = self.peaks[side].map(Score::get);
        let mut alike = peaks.windows(manner.alike());
        let alike = alike.find(|peaks| peaks[0] <= ALIKE_RATIO * peaks[peaks.len() - 1]);
        alike.map_or(0.0, |peaks| peaks[0]).max(peaks[manner.many() - 1])
    }
}

/// Excursions that have ended in a minute.
struct Ended {
    highest: Score,
    is_of_fault: bool,
}

impl Habit {
    pub const NEW: Habit = Habit {
        bins: [0; BINS],
        minute: i32::MIN,
        highest: [Score::ZERO; 2],
        age: 0,
        line: [Score::ONE; 2],
        is_told: false,
        excursions: None,
    };

    /// Of a statistic that stayed low for so many minutes up to now.
    pub fn quiet_for(at_ms: i64, minutes: u32) -> Habit {
        let mut habit =
            Habit { minute: minute_of(at_ms), age: u16::try_from(minutes).unwrap_or(u16::MAX), ..Habit::NEW };
        habit.bins[0] = minutes.min(MINUTES_MAX) as u16;
        habit
    }

    /// How many minutes ago a trouble was told last; at most 255, also if none ever was.
    pub fn minutes_since_told(&self) -> u8 {
        self.excursions.as_ref().map_or(u8::MAX, |excursions| excursions.since_told)
    }

    /// Takes note of a score, and whether the detector found something. Returns how far beyond the line it is, as a ratio, if that is to be
    /// told.
    pub fn hear(&mut self, at_ms: i64, score: f64, side: Side, is_found: bool, manner: Manner) -> Option<f64> {
        let minute = minute_of(at_ms);
        let is_set_back = minute < self.minute.saturating_sub(SET_BACK_MINUTES);
        if minute > self.minute || is_set_back {
            self.end_minute(manner);
            self.minute = minute;
        }
        let score = score as f32;
        self.follow(at_ms, score, side as usize);
        let line = self.told_from(side, manner.youth);
        // Once told, an excursion is told until the detector itself finds nothing.
        let goes_on = self.is_told;
        self.is_told = is_found && (f64::from(score) > line || self.is_told);
        if let Some(excursions) = self.excursions.as_deref_mut().filter(|_| self.is_told) {
            excursions.note_told(Score::of(score), side as usize, goes_on);
        }
        self.is_told.then(|| (f64::from(score) / line).max(1.0))
    }

    /// How much higher the line of a young series is.
    fn caution(&self, youth: Youth) -> f32 {
        let is_calm = 2 * u32::from(self.bins[0]) > self.minutes();
        1.0 + if is_calm { youth.calm } else { youth.restless } / (f32::from(self.age) + YOUNGEST)
    }

    /// From which score on something is told.
    pub fn told_from(&self, side: Side, youth: Youth) -> f64 {
        f64::from(self.line[side as usize].get() * self.caution(youth))
    }

    /// The excursions that are remembered, the highest first.
    pub fn excursions(&self, side: Side) -> impl Iterator<Item = f32> + '_ {
        let peaks = self.excursions.as_deref().map(|excursions| excursions.peaks[side as usize]);
        peaks.into_iter().flatten().take_while(|peak| *peak > Score::ZERO).map(Score::get)
    }

    /// How many of the excursions that are remembered went about so far, or farther.
    pub fn times_so_far(&self, score: f64, side: Side) -> usize {
        self.excursions(side).take_while(|peak| *peak * MARGIN >= score as f32).count()
    }

    /// Times are of another clock from now on.
    pub fn change_clock(&mut self) {
        (self.minute, self.highest, self.is_told) = (i32::MIN, [Score::ZERO; 2], false);
        if let Some(excursions) = &mut self.excursions {
            (excursions.now, excursions.ended) = ([Score::ZERO; 2], [Score::ZERO; 2]);
        }
    }

    /// Bytes held beyond the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.excursions.as_ref().map_or(0, |_| size_of::<Excursions>())
    }

    fn follow(&mut self, at_ms: i64, score: f32, side: usize) {
        self.highest[side] = self.highest[side].max(Score::of(score));
        let line = self.line[side].get();
        if score > line {
            self.excursions.get_or_insert_with(|| Box::new(Excursions::NONE));
        }
        if let Some(excursions) = &mut self.excursions {
            excursions.follow(at_ms, score, side, line);
        }
    }

    fn end_minute(&mut self, manner: Manner) {
        let highest = std::mem::replace(&mut self.highest, [Score::ZERO; 2]);
        if self.minute == i32::MIN {
            return;
        }
        self.age = self.age.saturating_add(1);
        let highest_of_both = highest[0].max(highest[1]).get();
        let has_ended = match self.excursions.as_deref_mut() {
            None => {
                self.count(highest_of_both);
                false
            }
            Some(excursions) => {
                let ended = excursions.end_minute(highest);
                let goes_on = excursions.now != [Score::ZERO; 2];
                match &ended {
                    Some(ended) if !ended.is_of_fault => self.count(ended.highest.get()),
                    None if !goes_on => self.count(highest_of_both),
                    _ => {}
                }
                ended.is_some()
            }
        };
        if has_ended || self.age < 60 || self.minute % 10 == 0 {
            self.draw(manner);
        }
    }

    fn bin_of(score: f32) -> usize {
        let steps = 2.0 * (score / LOWEST).log2();
        if steps < 0.0 {
            return 0;
        }
        let steps = steps as usize;
        match steps.checked_sub(HALF_OCTAVES) {
            None => steps + 1,
            Some(beyond) => (HALF_OCTAVES + 1 + beyond / 2).min(BINS - 1),
        }
    }

    /// The scores of a bin are below this.
    fn bound_of(bin: usize) -> f32 {
        let half_octaves = bin + bin.saturating_sub(HALF_OCTAVES);
        LOWEST * (half_octaves as f32 / 2.0).exp2()
    }

    fn count(&mut self, score: f32) {
        let bin = Habit::bin_of(score);
        self.bins[bin] = self.bins[bin].saturating_add(1);
        if self.minutes() > MINUTES_MAX {
            self.bins.iter_mut().for_each(|count| *count /= 2);
            if let Some(excursions) = &mut self.excursions {
                excursions.forget();
            }
        }
    }

    fn minutes(&self) -> u32 {
        self.bins.iter().map(|count| u32::from(*count)).sum()
    }

    /// The score that this share of the minutes stays below.
    fn quantile(&self, share: f32) -> f32 {
        let wanted = share * self.minutes() as f32;
        let mut below = 0.0;
        for (bin, &count) in self.bins.iter().enumerate() {
            let count = f32::from(count);
            if below + count >= wanted && count > 0.0 {
                let low = if bin == 0 { QUIET } else { Habit::bound_of(bin - 1) };
                let high = Habit::bound_of(bin);
                return low * (high / low).powf((wanted - below) / count);
            }
            below += count;
        }
        QUIET
    }

    fn draw(&mut self, manner: Manner) {
        if self.minutes() < MINUTES_MIN {
            return;
        }
        // A single excursion in the first minutes is not what most of them do.
        let most = self.quantile(MOST.min(1.0 - FEW / self.minutes() as f32));
        let usual = BEYOND * most * (most / self.quantile(0.5)).min(WIDENING_MAX);
        for (side, line) in self.line.iter_mut().enumerate() {
            let habit = self.excursions.as_ref().map_or(0.0, |excursions| excursions.usual(side, manner));
            *line = Score::of(usual.max(MARGIN * habit).max(1.0));
        }
    }
}

fn minute_of(at_ms: i64) -> i32 {
    at_ms.div_euclid(MINUTE_MS).clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests;
