//! On which side of a zone a device is, once it has stayed there.

use crate::batch::varint::{self, Cursor};

/// What a fix says of a device and a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// Nothing new.
    None,
    /// The device is inside, and was outside before.
    Entered,
    /// The device is outside, and was inside before.
    Left,
}

/// A device's side of one zone. A change counts when all fixes of the minimum stay were on the new side, so that a position that wavers at
/// the boundary causes no events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    is_inside: bool,
    newest_ms: i64,
    /// Since when all fixes are on the other side.
    other_since_ms: Option<i64>,
}

impl Side {
    /// The side of a device without any fix.
    pub fn new() -> Side {
        Side::default()
    }

    /// Takes a fix, whose time in milliseconds since 1970 is that of the device. The first one sets the side and is no crossing. A change
    /// counts with the first fix that is `stay_ms` or more later than the first one on the new side; with a stay of 0 or less, at once. A
    /// fix that is older than the newest says nothing.
    pub fn step(&mut self, is_inside: bool, at_ms: i64, stay_ms: i64) -> Crossing {
        let Some(known) = &mut self.known else {
            self.known = Some(Known { is_inside, newest_ms: at_ms, other_since_ms: None });
            return Crossing::None;
        };
        if at_ms < known.newest_ms {
            return Crossing::None;
        }
        known.newest_ms = at_ms;
        if is_inside == known.is_inside {
            known.other_since_ms = None;
            return Crossing::None;
        }
        let since_ms = *known.other_since_ms.get_or_insert(at_ms);
        if at_ms.saturating_sub(since_ms) < stay_ms {
            return Crossing::None;
        }
        (known.is_inside, known.other_since_ms) = (is_inside, None);
        if is_inside { Crossing::Entered } else { Crossing::Left }
    }

    /// The side that counts; `None` before the first fix.
    pub fn is_inside(&self) -> Option<bool> {
        self.known.map(|known| known.is_inside)
    }

    /// Appends it, for the snapshot.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Some(known) = self.known else {
            out.push(0);
            return;
        };
        out.push(1 | u8::from(known.is_inside) << 1 | u8::from(known.other_since_ms.is_some()) << 2);
        varint::put_signed(out, known.newest_ms);
        if let Some(since_ms) = known.other_since_ms {
            varint::put_signed(out, since_ms);
        }
    }

    /// Reads what [`Side::encode`] has written; `None` if it is anything else.
    pub fn decode(cursor: &mut Cursor<'_>) -> Option<Side> {
        let flags = cursor.byte()?;
        match flags {
            0 => return Some(Side::new()),
            1 | 3 | 5 | 7 => {}
            _ => return None,
        }
        let newest_ms = cursor.signed()?;
        let other_since_ms = if flags & 4 > 0 { Some(cursor.signed()?) } else { None };
        if other_since_ms.is_some_and(|since_ms| since_ms > newest_ms) {
            return None;
        }
        Some(Side { known: Some(Known { is_inside: flags & 2 > 0, newest_ms, other_since_ms }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(side: &mut Side, stay_ms: i64, fixes: &[(bool, i64)]) -> Vec<Crossing> {
        fixes.iter().map(|(is_inside, at_ms)| side.step(*is_inside, *at_ms, stay_ms)).collect()
    }

    #[test]
    fn the_first_fix_is_no_crossing() {
        for is_inside in [false, true] {
            let mut side = Side::new();
            assert_eq!(side.is_inside(), None);
            assert_eq!(side.step(is_inside, 1, 0), Crossing::None);
            assert_eq!(side.is_inside(), Some(is_inside));
        }
    }

    #[test]
    fn without_a_stay_each_change_counts_at_once() {
        let crossings = steps(&mut Side::new(), 0, &[(false, 1), (true, 2), (true, 3), (false, 3), (false, 4)]);
        assert_eq!(crossings, [Crossing::None, Crossing::Entered, Crossing::None, Crossing::Left, Crossing::None]);
    }

    #[test]
    fn a_change_counts_after_the_stay_and_a_return_begins_anew() {
        let mut side = Side::new();
        let fixes = [(false, 0), (true, 1_000), (true, 5_999), (false, 6_000), (true, 7_000), (true, 11_999)];
        assert_eq!(steps(&mut side, 5_000, &fixes), [Crossing::None; 6]);
        assert_eq!(side.is_inside(), Some(false));
        assert_eq!(side.step(true, 12_000, 5_000), Crossing::Entered);
        assert_eq!(side.is_inside(), Some(true));
        assert_eq!(steps(&mut side, 5_000, &[(false, 13_000), (false, 60_000)]), [Crossing::None, Crossing::Left]);
    }

    #[test]
    fn a_fix_that_comes_late_says_nothing() {
        let mut side = Side::new();
        let fixes = [(false, 10), (true, 9), (true, 20), (false, 15), (true, 30)];
        let crossings = steps(&mut side, 10, &fixes);
        assert_eq!(crossings.last(), Some(&Crossing::Entered), "the late one did not interrupt the stay");
        assert_eq!(crossings.iter().filter(|crossing| **crossing != Crossing::None).count(), 1);
        assert_eq!(steps(&mut side, i64::MAX, &[(false, i64::MAX), (true, i64::MIN)]), [Crossing::None; 2]);
    }

    #[test]
    fn it_survives_a_restart_in_the_middle_of_a_stay() {
        let mut side = Side::new();
        let mut bytes = Vec::new();
        for (is_inside, at_ms) in [(true, -5), (false, 100), (false, 200), (true, 250), (false, 300)] {
            bytes.clear();
            side.encode(&mut bytes);
            assert_eq!(Side::decode(&mut Cursor { rest: &bytes }), Some(side));
            side.step(is_inside, at_ms, 50_000);
        }
        side.encode(&mut bytes);
        let mut restored = Side::decode(&mut Cursor { rest: &bytes[bytes.len() - 5..] }).expect("the last one");
        assert_eq!(restored, side);
        assert_eq!(restored.step(false, 50_300, 50_000), Crossing::Left);
        for broken in [&[][..], &[1], &[2, 0], &[9, 0], &[5, 0, 2], &[5, 0]] {
            assert_eq!(Side::decode(&mut Cursor { rest: broken }), None, "{broken:?}");
        }
    }
}
