//! A set of sequences, as the ranges that it consists of.

/// Inclusive ranges: ascending, disjoint, not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `first..=last`, none of which may be below what is in the set; an empty range adds nothing.
    ///
    /// # Panics
    ///
    /// If the range begins within or before what is in the set.
    pub fn push(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        match self.0.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            end => {
                assert!(end.is_none_or(|(_, end)| *end < first), "ranges ascend");
                self.0.push((first, last));
            }
        }
    }

    /// Adds `first..=last`, wherever that is, and whatever of it is in the set; an empty range adds nothing.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        let touched = self.0.get(from..to).unwrap_or_default();
        let (mut begin, mut end) = (first, last);
        if let (Some((low, _)), Some((_, high))) = (touched.first(), touched.last()) {
            (begin, end) = (begin.min(*low), end.max(*high));
        }
        self.0.splice(from..to, [(begin, end)]);
    }

    /// Removes `first..=last`. Returns how many of these were in the set.
    pub fn remove(&mut self, first: u64, last: u64) -> u64 {
        let before = self.count_within(first, last);
        if before == 0 {
            return 0;
        }
        let from = self.0.partition_point(|(_, end)| *end < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last);
        let left = [(self.0[from].0, first.saturating_sub(1)), (last.saturating_add(1), self.0[to - 1].1)];
        self.0.splice(from..to, left.into_iter().filter(|(begin, end)| begin <= end));
        before
    }

    /// Those of one set that are not in another, whose ranges come in order and do not overlap: in one go, whatever they are.
    pub fn difference(&self, others: impl IntoIterator<Item = (u64, u64)>) -> Ranges {
        let (mut left, mut others) = (Ranges::default(), others.into_iter().peekable());
        for (first, last) in self.iter() {
            let mut from = first;
            while let Some((begin, end)) = others.peek().copied()
                && begin <= last
            {
                if end >= first {
                    left.push(from, begin.saturating_sub(1).min(last));
                    from = from.max(end.saturating_add(1));
                }
                // One that goes on behind this range is looked at again.
                if end > last {
                    break;
                }
                others.next();
            }
            left.push(from, last);
        }
        left
    }

    /// How many sequences of `first..=last` are in the set.
    pub fn count_within(&self, first: u64, last: u64) -> u64 {
        self.within(first, last).map(|(begin, end)| end - begin + 1).sum()
    }

    /// Those of `first..=last` that are in the set, as ranges.
    pub fn within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let from = self.0.partition_point(|(_, end)| *end < first);
        let within = self.0[from..].iter().take_while(move |(begin, _)| *begin <= last);
        within.map(move |(begin, end)| (*begin.max(&first), *end.min(&last)))
    }

    /// How many sequences are in the set.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The ranges, from the lowest on.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_hold_what_a_set_of_numbers_would(
            added in prop::collection::vec((1_u64..5, 1_u64..6), 0..8),
            removed in prop::collection::vec((0_u64..60, 0_u64..20), 0..8),
        ) {
            let (mut ranges, mut set, mut at) = (Ranges::default(), BTreeSet::new(), 0);
            for (gap, len) in added {
                let first = at + gap;
                at = first + len - 1;
                ranges.push(first, at);
                set.extend(first..=at);
            }
            for (first, len) in removed {
                let last = first + len;
                prop_assert_eq!(ranges.count_within(first, last), set.range(first..=last).count() as u64);
                let before = set.len();
                set.retain(|number| !(first..=last).contains(number));
                prop_assert_eq!(ranges.remove(first, last), (before - set.len()) as u64);
                let left: Vec<u64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(left, set.iter().copied().collect::<Vec<_>>());
            }
            prop_assert_eq!(ranges.count(), set.len() as u64);
        }

        #[test]
        fn a_difference_is_what_is_left_when_each_is_removed(
            one in prop::collection::vec((1_u64..60, 0_u64..9), 0..20),
            other in prop::collection::vec((1_u64..60, 0_u64..9), 0..20),
        ) {
            let of = |added: Vec<(u64, u64)>| {
                let mut ranges = Ranges::default();
                added.into_iter().for_each(|(first, len)| ranges.insert(first, first + len));
                ranges
            };
            let (mut one, other) = (of(one), of(other));
            let difference = one.difference(other.iter());
            for (first, last) in other.iter() {
                one.remove(first, last);
            }
            prop_assert_eq!(difference, one);
        }

        #[test]
        fn they_grow_in_any_order(added in prop::collection::vec((1_u64..60, 0_u64..9), 0..20)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (first, len) in added {
                ranges.insert(first, first + len);
                set.extend(first..=first + len);
                let apart = ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
                prop_assert!(apart, "{:?}", ranges);
            }
            let all: Vec<u64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(all, set.into_iter().collect::<Vec<_>>());
        }
    }
}
