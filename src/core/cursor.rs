//! How far a sink has come in a stream: everything up to the cursor, and ranges beyond it.

use super::batch::varint::{self, Cursor as Bytes};

/// Local sequences that a sink is done with (delivered, or dead-lettered).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorState {
    /// Everything up to and including this is done with; 0 if nothing is.
    pub cursor: u64,
    /// Ranges beyond the cursor that are done with: inclusive, ascending, disjoint, not adjacent.
    pub acknowledged: Vec<(u64, u64)>,
}

impl CursorState {
    /// Everything up to `cursor` is done with, and nothing beyond it.
    pub fn at(cursor: u64) -> Self {
        CursorState { cursor, acknowledged: Vec::new() }
    }

    /// How many sequences in `first..=last` it is done with.
    pub fn done_within(&self, first: u64, last: u64) -> u64 {
        let below = overlap((1, self.cursor), (first, last));
        below + self.acknowledged.iter().map(|range| overlap(*range, (first, last))).sum::<u64>()
    }

    /// How many sequences in `first..=last` it is done with and `earlier` was not.
    pub fn newly_done(&self, earlier: &CursorState, first: u64, last: u64) -> u64 {
        self.done_within(first, last).saturating_sub(earlier.done_within(first, last))
    }

    /// Moves the cursor to at least `cursor`, and on over the ranges that it reaches.
    pub fn advance_to(&mut self, cursor: u64) {
        self.cursor = self.cursor.max(cursor);
        let mut swallowed = 0;
        for (first, last) in &self.acknowledged {
            if *first > self.cursor.saturating_add(1) {
                break;
            }
            self.cursor = self.cursor.max(*last);
            swallowed += 1;
        }
        self.acknowledged.drain(..swallowed);
    }

    /// The ranges beyond the cursor as bytes, for [`Self::decode`].
    pub fn encode_ranges(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = self.cursor;
        for (first, last) in &self.acknowledged {
            varint::put(&mut out, first - at);
            varint::put(&mut out, last - first);
            at = *last;
        }
        out
    }

    /// Reads a cursor and its ranges; `None` if the bytes are not what [`Self::encode_ranges`] wrote.
    pub fn decode(cursor: u64, ranges: &[u8]) -> Option<CursorState> {
        let mut state = CursorState::at(cursor);
        let mut bytes = Bytes { rest: ranges };
        let mut at = cursor;
        while !bytes.rest.is_empty() {
            let first = at.checked_add(bytes.number()?.max(1))?;
            let last = first.checked_add(bytes.number()?)?;
            state.acknowledged.push((first, last));
            at = last;
        }
        Some(state)
    }
}

fn overlap(a: (u64, u64), b: (u64, u64)) -> u64 {
    let first = a.0.max(b.0);
    let last = a.1.min(b.1);
    if last < first { 0 } else { last - first + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_counted_swallowed_and_kept() {
        let mut state = CursorState { cursor: 10, acknowledged: vec![(12, 14), (20, 20)] };
        assert_eq!(state.done_within(9, 13), 4);
        assert_eq!(CursorState::decode(10, &state.encode_ranges()), Some(state.clone()));
        let earlier = state.clone();
        state.advance_to(11);
        assert_eq!(state, CursorState { cursor: 14, acknowledged: vec![(20, 20)] });
        assert_eq!(state.newly_done(&earlier, 1, 100), 1);
        state.advance_to(30);
        assert_eq!(state, CursorState::at(30));
        assert_eq!(state.newly_done(&earlier, 25, 100), 6);
    }
}
