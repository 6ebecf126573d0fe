//! A state that may come and go many times a second, such as a store at its limit: people are told once.

use std::time::{Duration, Instant};

/// It is over when it has not come for so long.
const OVER_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Spell {
    last: Option<Instant>,
}

impl Spell {
    /// It is there. Returns whether that is news.
    pub fn comes(&mut self, now: Instant) -> bool {
        self.last.replace(now).is_none()
    }

    /// It is not there. Returns whether that is news.
    pub fn stays_away(&mut self, now: Instant) -> bool {
        self.last.take_if(|last| now.saturating_duration_since(*last) >= OVER_AFTER).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_is_told_once() {
        let (mut spell, start) = (Spell::default(), Instant::now());
        assert!(!spell.stays_away(start));
        let told = (0..400).filter(|n| {
            let now = start + Duration::from_millis(100 * n);
            spell.comes(now) | spell.stays_away(now + Duration::from_millis(50))
        });
        assert_eq!(told.count(), 1);
        let later = start + Duration::from_secs(60);
        assert!(spell.stays_away(later) && !spell.stays_away(later) && spell.comes(later));
    }
}
