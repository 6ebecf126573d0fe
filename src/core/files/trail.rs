//! What stood before places that were reached earlier. A copy may end before the place that its original has reached when that is cut: then
//! this is all that tells it from a new file.

use super::identity::{HEAD_BYTES_MAX, Print, TAIL_BYTES_MAX};
use super::place::Mark;

/// All ends of lines among so many last bytes are known.
const DENSE_BYTES: u64 = 2_048;
/// Before that, no gap is longer than the distance to the end, or to the beginning, divided by this. So there are few however long a file is.
const SPARSENESS: u64 = 4;

/// An end of a line, and what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    pub offset: u64,
    pub tail: Print,
}

/// Ends of lines of one file, up to the place that is reached.
#[derive(Debug, Default)]
pub(super) struct Trail {
    footprints: Vec<Footprint>,
}

impl Trail {
    /// Goes on from a place to the end of these bytes, of which the first is at the offset `from` and the place is after the first `start`.
    pub fn extend(&mut self, place: &Mark, bytes: &[u8], from: u64, start: usize) {
        if self.footprints.is_empty() && place.offset > 0 {
            self.footprints.push(Footprint { offset: place.offset, tail: place.tail });
        }
        let newlines = bytes.iter().enumerate().skip(start).filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<usize> = newlines.map(|(at, _)| at + 1).collect();
        let offsets = self.footprints.iter().map(|one| one.offset).chain(ends.iter().map(|end| from + *end as u64));
        let kept = thinned(&offsets.collect::<Vec<u64>>(), from + bytes.len() as u64);
        let (old, new) = kept.split_at(self.footprints.len());
        let mut old = old.iter();
        self.footprints.retain(|_| *old.next().expect("one for each"));
        let new = ends.iter().zip(new).filter(|(_, is_kept)| **is_kept);
        let footprint = |end: usize| Footprint { offset: from + end as u64, tail: Print::of_end(&bytes[..end]) };
        self.footprints.extend(new.map(|(end, _)| footprint(*end)));
    }

    /// The last end of a line that a file of this size has.
    pub fn last_within(&self, size: u64) -> Option<Footprint> {
        self.footprints.iter().rev().find(|one| one.offset <= size).copied()
    }

    /// What is known of the first bytes, up to this size, is so much that no two files have it in common.
    pub fn tells_much(&self, size: u64) -> bool {
        self.last_within(size).is_some_and(|one| one.offset >= (HEAD_BYTES_MAX + TAIL_BYTES_MAX) as u64)
    }

    /// Goes back to this offset.
    pub fn return_to(&mut self, offset: u64) {
        self.footprints.retain(|one| one.offset <= offset);
    }

    pub fn clear(&mut self) {
        self.footprints = Vec::new();
    }
}

/// Which of these offsets are kept.
fn thinned(offsets: &[u64], end: u64) -> Vec<bool> {
    let mut later = end;
    let mut kept = vec![false; offsets.len()];
    for (at, offset) in offsets.iter().enumerate().rev() {
        let distance = end - offset;
        let earlier = at.checked_sub(1).map_or(0, |at| offsets[at]);
        if distance <= DENSE_BYTES || later - earlier > distance.min(*offset) / SPARSENESS {
            kept[at] = true;
            later = *offset;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trail of so many lines of ten bytes that are read in portions of so many.
    fn trail(lines: u64, portion: u64) -> Trail {
        let mut trail = Trail::default();
        let text: String = (0..lines).map(|line| format!("{line:09}\n")).collect();
        let mut place = Mark::default();
        while place.offset < lines * 10 {
            let start = usize::try_from(place.offset).expect("small");
            let end = text.len().min(start + usize::try_from(portion * 10).expect("small"));
            let from = start.saturating_sub(256);
            trail.extend(&place, &text.as_bytes()[from..end], from as u64, start - from);
            let tail = Print::of_end(&text.as_bytes()[..end]);
            place = Mark { offset: end as u64, tail, ..Mark::default() };
        }
        for one in &trail.footprints {
            let end = usize::try_from(one.offset).expect("small");
            assert_eq!(one.tail, Print::of_end(&text.as_bytes()[..end]), "{end}");
        }
        trail
    }

    #[test]
    fn a_trail_is_short_and_has_a_footprint_near_any_size() {
        for portion in [1, 7, 3_000, 30_000] {
            let trail = trail(30_000, portion);
            assert!(trail.footprints.len() < 320, "{}", trail.footprints.len());
            for size in (2_000..=300_000_u64).step_by(7) {
                let distance = 300_000 - size;
                let gap = trail.last_within(size).map_or(size, |one| size - one.offset);
                let gap_max = if distance <= 2_000 { 9 } else { distance.min(size) / 3 + 20 };
                assert!(gap <= gap_max, "{size}: {gap}");
            }
        }
    }

    #[test]
    fn what_is_taken_back_is_forgotten() {
        let mut trail = trail(100, 10);
        assert_eq!(trail.last_within(999).map(|one| one.offset), Some(990));
        trail.return_to(505);
        assert_eq!(trail.last_within(u64::MAX).map(|one| one.offset), Some(500));
    }
}
