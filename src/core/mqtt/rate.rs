//! How often something may happen, as a bucket of a second's worth of tokens.

use std::time::Duration;

/// As much may be saved up as for this time, and then be used at once.
const SAVED_MAX: Duration = Duration::from_secs(1);

/// Goes into debt rather than refuse: who takes more than there is has to wait before the next.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    per_second: u64,
    /// By the caller's clock: when it is full again.
    full_at: Duration,
}

impl TokenBucket {
    /// For so many a second, at least one.
    pub fn new(per_second: u64) -> TokenBucket {
        TokenBucket { per_second: per_second.max(1), full_at: Duration::ZERO }
    }

    /// Takes so many at `now`, which does not go back.
    pub fn take(&mut self, count: u64, now: Duration) {
        let seconds = count / self.per_second;
        let nanos = u128::from(count % self.per_second) * 1_000_000_000 / u128::from(self.per_second);
        let price = Duration::new(seconds, u32::try_from(nanos).expect("less than a second"));
        self.full_at = self.full_at.max(now).saturating_add(price);
    }

    /// When more may be taken.
    pub fn ready_at(&self) -> Duration {
        self.full_at.saturating_sub(SAVED_MAX)
    }

    /// Whether more may be taken at `now`.
    pub fn is_ready(&self, now: Duration) -> bool {
        self.ready_at() <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn taken_within(bucket: &mut TokenBucket, a_take: u64, time: Duration) -> u64 {
        let mut taken = 0;
        for millisecond in 0..time.as_millis() as u64 {
            let now = START + Duration::from_millis(millisecond);
            while bucket.is_ready(now) {
                bucket.take(a_take, now);
                taken += a_take;
            }
        }
        taken
    }

    #[test]
    fn in_the_long_run_no_more_than_the_rate_is_taken_whatever_is_taken_at_once() {
        for (per_second, a_take) in [(1, 1), (7, 1), (7, 3), (100, 1), (100, 1_000), (1_000_000, 999)] {
            let mut bucket = TokenBucket::new(per_second);
            let taken = taken_within(&mut bucket, a_take, Duration::from_secs(20));
            let (fair, saved) = (20 * per_second, per_second + 2 * a_take);
            assert!((fair - a_take.min(fair)..=fair + saved).contains(&taken), "{taken} at {per_second} a second");
        }
    }

    #[test]
    fn a_second_is_saved_up_and_a_debt_is_waited_for() {
        let mut bucket = TokenBucket::new(10);
        bucket.take(10, START);
        assert!(bucket.is_ready(START));
        bucket.take(5, START);
        assert_eq!((bucket.is_ready(START), bucket.ready_at()), (false, START + Duration::from_millis(500)));
        bucket.take(u64::MAX, START);
        assert!(!bucket.is_ready(START + Duration::from_secs(1_000_000)));
        assert!(TokenBucket::new(0).is_ready(Duration::ZERO));
    }
}
