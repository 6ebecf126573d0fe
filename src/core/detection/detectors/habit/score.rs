//! Scores as they are remembered: with eight binary digits, because there are many.

use std::fmt;

/// A score, at least 0: the upper half of an `f32`, rounded. What is larger stays larger, or becomes equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Score(u16);

impl Score {
    pub const ZERO: Score = Score(0);
    pub const ONE: Score = Score(0x3F80);

    /// The nearest one that is finite; 0 of what is no score.
    pub fn of(score: f32) -> Score {
        const HIGHEST: u32 = 0x7F7F_0000;
        let bits = score.max(0.0).to_bits().min(HIGHEST);
        Score(((bits + 0x8000) >> 16).min(HIGHEST >> 16) as u16)
    }

    pub fn get(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl fmt::Debug for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_rounded_in_order() {
        let cases = [(0.0, 0.0), (1.0, 1.0), (1.25, 1.25), (3.01, 3.015_625), (3.0, 3.0), (1e9, 998_244_352.0)];
        for (score, remembered) in cases {
            assert_eq!(Score::of(score).get(), remembered);
        }
        assert_eq!((Score::ZERO, Score::ONE), (Score::of(0.0), Score::of(1.0)));
        assert_eq!([f32::NAN, -1.0].map(Score::of), [Score::ZERO; 2]);
        assert!(Score::of(f32::INFINITY).get().is_finite() && Score::of(f32::MAX).get().is_finite());
        let scores: Vec<Score> = (0..3_000).map(|at| Score::of(0.003 * at as f32)).collect();
        assert!(scores.is_sorted());
    }
}
