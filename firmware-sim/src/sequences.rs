//! Sets of sequence numbers as sorted, disjoint ranges: acknowledgements arrive nearly in order, so a million of them are usually one
//! range.

use std::ops::RangeInclusive;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceSet {
    ranges: Vec<(u64, u64)>,
    count: u64,
}

impl SequenceSet {
    /// Adds one number; false if it was there already.
    pub fn insert(&mut self, sequence: u64) -> bool {
        // Looking at the end first makes the usual case, the next number, constant time.
        if let Some(last) = self.ranges.last_mut()
            && sequence == last.1.saturating_add(1)
            && sequence > last.1
        {
            last.1 = sequence;
            self.count += 1;
            return true;
        }
        let after = self.ranges.partition_point(|range| range.0 <= sequence);
        if after > 0 && self.ranges[after - 1].1 >= sequence {
            return false;
        }
        let joins_before = after > 0 && self.ranges[after - 1].1 + 1 == sequence;
        let joins_after = self.ranges.get(after).is_some_and(|range| sequence + 1 == range.0);
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = sequence,
            (false, true) => self.ranges[after].0 = sequence,
            (false, false) => self.ranges.insert(after, (sequence, sequence)),
        }
        self.count += 1;
        true
    }

    pub fn contains(&self, sequence: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= sequence);
        after > 0 && self.ranges[after - 1].1 >= sequence
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().map(|&(first, last)| first..=last)
    }

    /// Every number, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_grow_and_join() {
        let mut set = SequenceSet::default();
        for sequence in [5, 6, 1, 3, 2, 9] {
            assert!(set.insert(sequence));
        }
        assert_eq!(set.ranges().collect::<Vec<_>>(), [1..=3, 5..=6, 9..=9]);
        assert!(set.insert(4));
        assert!(!set.insert(4));
        assert!(!set.insert(9));
        assert_eq!(set.ranges().collect::<Vec<_>>(), [1..=6, 9..=9]);
        assert_eq!(set.count(), 7);
    }

    #[test]
    fn it_agrees_with_an_ordinary_set() {
        let (mut set, mut oracle) = (SequenceSet::default(), BTreeSet::new());
        let random = Random::new(11);
        for index in 0..2_000 {
            let sequence = random.between(index, 0.0, 700.0) as u64;
            assert_eq!(set.insert(sequence), oracle.insert(sequence));
        }
        assert!(set.insert(u64::MAX) && set.insert(u64::MAX - 1) && !set.insert(u64::MAX));
        oracle.extend([u64::MAX, u64::MAX - 1]);
        assert_eq!(set.count(), oracle.len() as u64);
        assert!((0..700).all(|sequence| set.contains(sequence) == oracle.contains(&sequence)));
        assert!(set.iter().eq(oracle));
    }
}
