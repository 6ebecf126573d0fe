//! When a broker that could not be reached, or that has ended the connection, is tried again.

/// The first pause.
const FIRST_MS: u64 = 1_000;
/// The longest pause, without what is left to chance.
const LONGEST_MS: u64 = 60_000;
/// A connection that lasted so long has worked: what comes after it is another trouble.
const WORKED_MS: u64 = 30_000;

/// Pauses between attempts: each twice as long as the one before, and none the same for a fleet that has lost its broker at one moment.
#[derive(Debug, Default)]
pub struct Retry {
    attempts: u32,
}

impl Retry {
    /// An attempt has failed, or a connection has ended after so long. Returns how long to wait, between half of the pause and all of it;
    /// `random` is any number.
    pub fn pause_ms(&mut self, lasted_ms: Option<u64>, random: u64) -> u64 {
        if lasted_ms.is_some_and(|lasted_ms| lasted_ms >= WORKED_MS) {
            self.attempts = 0;
        }
        let pause_ms = FIRST_MS.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_MS);
        self.attempts = self.attempts.saturating_add(1);
        pause_ms / 2 + random % (pause_ms / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_what_worked() {
        let mut retry = Retry::default();
        let longest: Vec<u64> = (0..9).map(|_| retry.pause_ms(None, u64::MAX / 2 * 2 + 1)).collect();
        assert!(longest.windows(2).all(|pair| pair[0] / 2 <= pair[1]), "{longest:?}");
        for random in 0..10_000 {
            let pause_ms = Retry { attempts: 40 }.pause_ms(Some(WORKED_MS - 1), random * 7);
            assert!((30_000..=60_000).contains(&pause_ms), "{pause_ms}");
        }
        assert!((500..=1_000).contains(&retry.pause_ms(Some(WORKED_MS), 123)));
    }
}
