//! A token bucket that holds one second's allowance, as a shard does; time is an argument.

const NANOS_PER_SECOND: f64 = 1e9;

#[derive(Debug)]
pub(crate) struct Bucket {
    /// `None` means unlimited.
    per_second: Option<f64>,
    tokens: f64,
    filled_at_ns: u64,
}

impl Bucket {
    pub(crate) fn new(per_second: Option<u64>, now_ns: u64) -> Self {
        let per_second = per_second.map(|rate| rate as f64);
        Bucket { per_second, tokens: per_second.unwrap_or(0.0), filled_at_ns: now_ns }
    }

    /// Whether `amount` could be taken now.
    pub(crate) fn holds(&mut self, amount: u64, now_ns: u64) -> bool {
        let Some(per_second) = self.per_second else { return true };
        let elapsed_ns = now_ns.saturating_sub(self.filled_at_ns);
        self.tokens = (self.tokens + elapsed_ns as f64 * per_second / NANOS_PER_SECOND).min(per_second);
        self.filled_at_ns = self.filled_at_ns.max(now_ns);
        self.tokens >= amount as f64
    }

    /// Call this only after [`Self::holds`] returned true.
    pub(crate) fn take(&mut self, amount: u64) {
        if self.per_second.is_some() {
            self.tokens -= amount as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;

    #[test]
    fn holds_one_second_and_refills_at_the_rate() {
        let mut bucket = Bucket::new(Some(1_000), 0);
        assert!(bucket.holds(1_000, 0) && !bucket.holds(1_001, 0));
        bucket.take(1_000);
        assert!(!bucket.holds(1, 0));
        assert!(bucket.holds(499, 500_000_000) && !bucket.holds(501, 500_000_000));
        assert!(!bucket.holds(1_001, 60_000_000_000));
        assert!(Bucket::new(None, 0).holds(u64::MAX, 0));
    }
}
