//! What the name of a field says of it.

use super::time::{self, Unit};

/// What a dotted name says of its field. It is asked for several times, so it is found out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Nothing,
    Sequence,
    Time { unit: Option<Unit>, is_nested: bool },
}

impl Meaning {
    pub fn of(name: &str) -> Meaning {
        if name == "seq" {
            return Meaning::Sequence;
        }
        if !time::may_be_time_field(name) {
            return Meaning::Nothing;
        }
        let dot = name.bytes().rposition(|byte| byte == b'.');
        let last = dot.map_or(name, |dot| &name[dot + 1..]);
        match time::time_field(last) {
            Some(unit) => Meaning::Time { unit, is_nested: dot.is_some() },
            None => Meaning::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_name_says_what_a_field_is() {
        let time = |unit, is_nested| Meaning::Time { unit, is_nested };
        for (name, meaning) in [
            ("seq", Meaning::Sequence),
            ("a.seq", Meaning::Nothing),
            ("ts", time(None, false)),
            ("a.b.ts_ms", time(Some(Unit::Milliseconds), true)),
            ("ts.value", Meaning::Nothing),
            ("", Meaning::Nothing),
        ] {
            assert_eq!(Meaning::of(name), meaning, "{name}");
        }
    }
}
