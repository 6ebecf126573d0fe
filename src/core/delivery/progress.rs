//! Which sequences are done with.

use std::collections::BTreeMap;

use crate::cursor::CursorState;

#[derive(Clone, Debug)]
pub struct Progress {
    cursor: u64,
    /// First to last, inclusive; disjoint, not adjacent, all beyond the cursor.
    ranges: BTreeMap<u64, u64>,
}

impl Progress {
    pub fn new(state: &CursorState) -> Self {
        let mut progress = Progress { cursor: state.cursor, ranges: BTreeMap::new() };
        for (first, last) in &state.acknowledged {
            progress.finish(*first, *last);
        }
        progress
    }

    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Nothing beyond this is done with.
    pub fn last_done(&self) -> u64 {
        self.ranges.last_key_value().map_or(self.cursor, |(_, last)| *last)
    }

    pub fn is_done(&self, sequence: u64) -> bool {
        sequence <= self.cursor || self.ranges.range(..=sequence).next_back().is_some_and(|(_, last)| *last >= sequence)
    }

    /// Marks `first..=last`; what was done already stays so.
    pub fn finish(&mut self, first: u64, last: u64) {
        if last <= self.cursor || last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        if let Some((before, until)) = self.ranges.range(..=first).next_back()
            && until.saturating_add(1) >= first
        {
            first = *before;
            last = last.max(*until);
        }
        while let Some((after, until)) = self.ranges.range(first..=last.saturating_add(1)).next_back() {
            last = last.max(*until);
            let after = *after;
            self.ranges.remove(&after);
        }
        if first <= self.cursor.saturating_add(1) {
            self.cursor = last;
        } else {
            self.ranges.insert(first, last);
        }
    }

    pub fn state(&self) -> CursorState {
        CursorState {
            cursor: self.cursor,
            acknowledged: self.ranges.iter().map(|(first, last)| (*first, *last)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_plain_set(start in 0u64..10, marks in prop::collection::vec((1u64..80, 0u64..6), 0..60)) {
            let mut progress = Progress::new(&CursorState::at(start));
            let mut done: Vec<bool> = (0..100).map(|sequence| sequence <= start).collect();
            for (first, more) in marks {
                progress.finish(first, first + more);
                done[first as usize..=(first + more) as usize].fill(true);
                for (sequence, expected) in (0..).zip(&done) {
                    prop_assert_eq!(progress.is_done(sequence), *expected);
                }
                let state = progress.state();
                let first_open = done.iter().position(|done| !done).expect("the end stays open");
                prop_assert_eq!(state.cursor as usize, first_open - 1);
                let apart = state.acknowledged.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
                prop_assert!(apart && state.acknowledged.first().is_none_or(|range| range.0 > state.cursor + 1));
                prop_assert_eq!(Progress::new(&state).state(), state);
            }
        }
    }
}
