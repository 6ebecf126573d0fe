//! Whether a device's clock was set back, or the device sends again what it has sent.
//!
//! Both look alike at first: readings are older than those before them. After a lost connection a device sends again what was not
//! acknowledged, which may be many minutes of a buffer. But a buffer is sent faster than it was measured, and a clock does not run fast.

use super::window::JUMP_MS;

/// A clock that was set back is believed when it has run on for so long.
const BELIEVED_AFTER_MS: i64 = 5_000;
/// How fast the clock may seem to run, because messages are held up at times.
const RATE_MAX: i64 = 2;

/// What a device has said of a time long before its newest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewindGuard {
    /// Device time of the first such reading, and when it was received.
    pub(super) from_ms: i64,
    pub(super) since_ms: i64,
}

impl RewindGuard {
    /// Nothing was said of such a time.
    pub const NONE: RewindGuard = RewindGuard { from_ms: i64::MIN, since_ms: i64::MIN };

    /// Takes note of a reading from long before the newest. Returns whether the device's clock is believed to have been set back.
    pub fn hear(&mut self, at_ms: i64, received_ms: i64) -> bool {
        let ran_ms = at_ms.saturating_sub(self.from_ms);
        let elapsed_ms = received_ms.saturating_sub(self.since_ms);
        let is_early = ran_ms < BELIEVED_AFTER_MS;
        let is_plausible = is_early || ran_ms <= elapsed_ms.saturating_mul(RATE_MAX);
        // Much more time has passed than the device's clock has run on: this is the beginning of another repeat.
        let is_another = elapsed_ms.saturating_sub(ran_ms) > JUMP_MS;
        if self.is_none() || !is_plausible || is_another || ran_ms < -JUMP_MS {
            *self = RewindGuard { from_ms: at_ms, since_ms: received_ms };
            return false;
        }
        !is_early
    }

    /// Takes note of a reading of the present. If it is far ahead of where a clock that was set back would stand now, none was set back.
    pub fn hear_present(&mut self, at_ms: i64, received_ms: i64) {
        let there_ms = self.from_ms.saturating_add(received_ms.saturating_sub(self.since_ms));
        if !self.is_none() && at_ms.saturating_sub(there_ms) > JUMP_MS {
            *self = RewindGuard::NONE;
        }
    }

    fn is_none(&self) -> bool {
        *self == RewindGuard::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether any of a minute's readings is believed, received at so much of their own pace.
    fn is_believed(milliseconds_a_second: i64, rewind_guard: &mut RewindGuard) -> bool {
        (0..60).any(|second| rewind_guard.hear(second * 1_000, 1_000_000 + second * milliseconds_a_second))
    }

    #[test]
    fn a_clock_is_believed_and_a_repeat_is_not() {
        assert!(is_believed(1_000, &mut RewindGuard::NONE.clone()));
        assert!(is_believed(700, &mut RewindGuard::NONE.clone()), "held up on its way");
        assert!(!is_believed(0, &mut RewindGuard::NONE.clone()));
        assert!(!is_believed(400, &mut RewindGuard::NONE.clone()));
        let mut rewind_guard = RewindGuard::NONE;
        assert!(!rewind_guard.hear(0, 0) && rewind_guard.hear(900_000, 890_000), "slow, but steady");
    }

    #[test]
    fn a_repeat_at_each_reconnect_is_none_the_slower() {
        let mut rewind_guard = RewindGuard::NONE;
        assert!(
            !rewind_guard.hear(0, 0) && !rewind_guard.hear(100_000, 170_000),
            "what ran on by less than the time that went by"
        );
        let mut rewind_guard = RewindGuard::NONE;
        assert!(!rewind_guard.hear(0, 500_000));
        rewind_guard.hear_present(520_000, 520_000);
        assert!(!rewind_guard.hear(90_000, 590_000), "in between it was seen not to stand there");
        rewind_guard.hear_present(95_000, 595_000);
        assert!(
            rewind_guard.hear(100_000, 600_000),
            "a new series of a device whose clock was set back is of the same time"
        );
    }

    #[test]
    fn a_repeat_that_was_held_up_once_and_what_comes_after_it() {
        let mut rewind_guard = RewindGuard::NONE;
        let held_up_ms = |second: i64| second + if second < 30 { 0 } else { 2_000 };
        assert!(!(0..60).any(|second| rewind_guard.hear(second * 1_000, held_up_ms(second))));
        // Its clock has stood there all the time: what was measured now comes at its own pace.
        assert!((60..70).fold(false, |_, second| rewind_guard.hear(second * 1_000, second * 1_000)));
    }
}
