//! What people say of a trouble that was told: it is normal and to be usual at once, or it was a fault and teaches nothing.
//!
//! A trouble is what one alert is about: excursions that follow each other within minutes. Those that have ended are marked among the peaks,
//! so that they can be taken out again.

use super::*;

/// Excursions with no more minutes between them are of one trouble, as an alert that is back so soon is a return of the former.
const RETURN_MINUTES: u8 = 10;
/// An excursion that has ended was told no longer ago than this, if it was.
const ENDED_MINUTES: u8 = 1;

impl Excursions {
    /// An excursion is told; `goes_on` if it was told before.
    pub(super) fn note_told(&mut self, score: Score, side: usize, goes_on: bool) {
        // What goes beyond the normal that a person has seen is another trouble, unless it follows at once.
        let minutes_max = if self.said == Said::Normal { ENDED_MINUTES } else { RETURN_MINUTES };
        if !goes_on && self.since_told > minutes_max {
            self.begin_trouble();
        }
        self.since_told = 0;
        self.told[side] = self.told[side].max(score).max(self.now[side]);
    }

    /// What was told and said before is of another trouble.
    fn begin_trouble(&mut self) {
        (self.told, self.said) = ([Score::ZERO; 2], Said::Nothing);
        self.fresh = self.fresh.map(|fresh| fresh & CAME_AGAIN);
    }

    /// Whether what ends now is part of what a person calls a fault.
    pub(super) fn is_of_fault(&self) -> bool {
        self.said == Said::Fault && self.since_told <= RETURN_MINUTES
    }

    /// Remembers an excursion that has ended.
    pub(super) fn remember(&mut self, side: usize, peak: Score) {
        let was_told = self.told[side] >= peak && self.since_told <= ENDED_MINUTES;
        self.insert(side, peak, was_told);
    }

    /// Takes the trouble that was told last out of the peaks. Returns what is not to count among the minutes any more, if it was no fault
    /// that `stays`.
    fn take_out(&mut self, side: usize, stays: bool) -> Vec<Score> {
        let known = self.peaks[side];
        let (mut kept, mut out) = (0, Vec::new());
        self.peaks[side] = [Score::ZERO; PEAKS];
        for (at, peak) in known.into_iter().enumerate() {
            if self.fresh[side] & (1 << at) == 0 {
                self.peaks[side][kept] = peak;
                kept += 1;
            } else if !stays && self.said != Said::Normal {
                out.push(peak);
            }
        }
        if !stays && self.said == Said::Normal {
            out = vec![self.told[side]];
        }
        self.fresh[side] &= CAME_AGAIN;
        out
    }

    fn insert(&mut self, side: usize, peak: Score, is_fresh: bool) {
        let peaks = &mut self.peaks[side];
        let at = peaks.partition_point(|known| *known >= peak);
        if at < PEAKS {
            peaks[at..].rotate_right(1);
            peaks[at] = peak;
            let fresh = &mut self.fresh[side];
            let before = *fresh & ((1 << at) - 1);
            let behind = ((*fresh & !before) << 1) & FRESH_MASK;
            *fresh = before | (u8::from(is_fresh) << at) | behind | (*fresh & CAME_AGAIN);
        }
    }
}

impl Habit {
    /// The highest score of the last trouble that was told, by side.
    pub fn told(&self) -> [Score; 2] {
        self.excursions.as_ref().map_or([Score::ZERO; 2], |excursions| excursions.told)
    }

    /// Whether something about so high, or higher, was told on this side within the last minute.
    pub fn has_just_told(&self, score: f64, side: Side) -> bool {
        let is_recent = self.minutes_since_told() <= ENDED_MINUTES;
        is_recent && f64::from(self.told()[side as usize].get() * MARGIN) >= score
    }

    /// A person says what a trouble is that another detector told, of which these are the scores here.
    pub fn teach_as_told(&mut self, told: [Score; 2], is_normal: bool, manner: Manner) {
        let excursions = self.excursions.get_or_insert_with(|| Box::new(Excursions::NONE));
        if excursions.since_told > RETURN_MINUTES {
            excursions.begin_trouble();
        }
        for (known, told) in excursions.told.iter_mut().zip(told) {
            *known = (*known).max(told);
        }
        excursions.since_told = 0;
        self.teach(is_normal, manner);
    }

    /// A person says what the trouble is that was told last. Returns whether one is known.
    pub fn teach(&mut self, is_normal: bool, manner: Manner) -> bool {
        let Some(excursions) = self.excursions.as_deref_mut().filter(|it| it.told != [Score::ZERO; 2]) else {
            return false;
        };
        for (side, told) in excursions.told.into_iter().enumerate().filter(|(_, told)| *told > Score::ZERO) {
            let out = excursions.take_out(side, is_normal);
            out.into_iter().for_each(|score| uncount(&mut self.bins, score.get()));
            // Of a young series, for which no line is drawn yet.
            self.line[side] = Score::ONE;
            if is_normal {
                (excursions.now[side], excursions.ended[side]) = (Score::ZERO, Score::ZERO);
                // As often as there is room, because one less is known each time that what does not come again is forgotten.
                (0..PEAKS).for_each(|_| excursions.insert(side, told, true));
                self.line[side] = Score::of((MARGIN * told.get()).max(1.0));
            }
        }
        self.is_told &= !is_normal;
        excursions.said = Said::of(is_normal);
        self.draw(manner);
        true
    }
}

fn uncount(bins: &mut [u16; BINS], score: f32) {
    let count = &mut bins[Habit::bin_of(score)];
    *count = count.saturating_sub(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::detectors::habit::{Side, Youth};

    const MANNER: Manner = Manner { youth: Youth { calm: 10.0, restless: 10.0 }, false_alarms_per_week: 3 };

    struct Life {
        habit: Habit,
        second: i64,
    }

    impl Life {
        fn calm(&mut self, minutes: i64) {
            for _ in 0..3 * minutes {
                self.second += 20;
                assert!(!self.hear(0.3), "calm is told");
            }
        }

        fn hear(&mut self, score: f64) -> bool {
            self.habit.hear(self.second * 1_000, score, Side::Above, score > 1.0, MANNER).is_some()
        }

        /// `y` is the word that it was normal, `n` that it was a fault, `w9` are nine calm days. A number is an excursion of that height, four
        /// hours after what was before, or two minutes with an apostrophe. Each mark behind it is five seconds of it, told (`!`) or not
        /// (`:`); words may come in between.
        fn live(&mut self, event: &str, timeline: &str) {
            if event == "y" || event == "n" {
                self.calm(2);
                assert!(self.habit.teach(event == "y", MANNER), "nothing is known in {timeline}");
                return;
            }
            if let Some(days) = event.strip_prefix('w') {
                return self.calm(1_440 * days.parse::<i64>().expect("days"));
            }
            let (event, pause) = event.strip_prefix('\'').map_or((event, 240), |event| (event, 2));
            self.calm(pause);
            let marks = event.find(|c| "!:yn".contains(c)).expect("marks");
            let height: f64 = event[..marks].parse().expect("a height");
            for mark in event[marks..].chars() {
                if let 'y' | 'n' = mark {
                    assert!(self.habit.teach(mark == 'y', MANNER), "nothing is known in {timeline}");
                    continue;
                }
                for _ in 0..5 {
                    self.second += 1;
                    assert_eq!(self.hear(height), mark == '!', "{event} in {timeline}");
                }
            }
        }
    }

    /// A day of calm, then these events.
    fn live(timeline: &str) -> Habit {
        let mut life = Life { habit: Habit::NEW, second: 0 };
        life.calm(1_440);
        timeline.split(' ').for_each(|event| life.live(event, timeline));
        life.habit
    }

    #[test]
    fn timelines() {
        for timeline in [
            // Without a word: what comes again is learned, and what does not is forgotten.
            "3! 3! 3! 3! 3: 3: 5!",
            "3! 3! 3! 3! w3 3: w3 3: w3 3: w3 3: w3 3:",
            "3! 3! 3! 3! w9 3!",
            // Normal: after it ended, while it goes on, and what is larger.
            "3! y 3: 3: 5!",
            "3!y: 3: 5!",
            "3!y: '3: '3.5: '5!",
            "3! y w3 3: w3 3: w3 3: w3 3: w3 3: w3 3: w3 3:",
            "3! y w5 3: w6 3: w16 3!",
            // A fault: one less is remembered, and nothing of one that goes on.
            "3! 3! 3! n 3! 3! 3:",
            "3! 3! 3!n! 3! 3! 3:",
            "3! 3! 3! 3!n! 3! 3:",
            "3!n! 3!n! 3!n! 3!n! 3!n! 3!n!",
            "3! 3! 3! 3! 3: 8! n 3: 8!",
            // One that comes and goes is one.
            "3! '3! '3! '3! '3: n 3! 3! 3! 3! 3:",
            "3! n '3! '3! '3! '3! '3! '3! 3!",
            // The same word twice.
            "3! y y 3: 5!",
            "3!yy: 3: 5!",
            "3! 3! 3! n n 3! 3! 3:",
            // The other word.
            "3! y n 3! 3! 3! 3! 3:",
            "3!y:n! 3! 3! 3! 3! 3:",
            "3! n y 3: 5!",
            "3!n!y: 3: 5!",
            "3! n y n 3! 3! 3! 3! 3:",
            // What is larger is another trouble, and has a word of its own.
            "3! y 8! n 3: 8!",
            "3! n 8! y 3: 8: 11!",
            "3! y 8! y 8: 9: 11!",
        ] {
            live(timeline);
        }
    }

    #[test]
    fn both_sides_are_taught_and_only_those_that_were_told() {
        let mut habit = live("3!");
        let hear = |habit: &mut Habit, after_s: i64, score: f64, side: Side| {
            habit
                .hear(i64::from(habit.minute) * MINUTE_MS + 1_000 * after_s, score, side, score > 1.0, MANNER)
                .is_some()
        };
        assert!(hear(&mut habit, 120, 4.0, Side::Below));
        assert!(habit.teach(true, MANNER));
        assert_eq!([hear(&mut habit, 200, 3.5, Side::Above), hear(&mut habit, 300, 4.5, Side::Below)], [false; 2]);
        let mut habit = live("3! y");
        assert!(hear(&mut habit, 120, 3.0, Side::Below));
    }

    #[test]
    fn what_was_not_told_cannot_be_taught() {
        let mut habit = Habit::NEW;
        assert!(!habit.teach(true, MANNER) && !habit.teach(false, MANNER));
        assert_eq!(habit, Habit::NEW);
    }

    #[test]
    fn the_young_are_taught_too() {
        let mut life = Life { habit: Habit::NEW, second: 0 };
        life.calm(5);
        for (word, is_told) in [(None, true), (Some(true), false), (Some(false), true)] {
            _ = word.map(|is_normal| life.habit.teach(is_normal, MANNER));
            assert_eq!(life.hear(6.0), is_told, "{word:?}");
            life.calm(1);
        }
    }

    #[test]
    fn minutes_of_a_fault_do_not_count() {
        let loud = |timeline: &str| live(timeline).bins[1..].iter().map(|count| u32::from(*count)).sum::<u32>();
        assert_eq!(["3! w1", "3!n! w1", "3! n w1", "3! y n w1"].map(loud), [1, 0, 0, 0]);
    }
}
