//! The time that requests are signed with.
//!
//! The service refuses a signature whose time is off by more than five minutes. A machine without a clock battery, or one that has not
//! reached a time server yet, could deliver nothing. But each refusal carries the service's time, which is then used, for signatures only:
//! no reading gets its time from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;

/// The local clock, corrected by how far the service's clock was ahead when it refused a signature.
#[derive(Clone, Debug, Default)]
pub struct ServiceClock {
    ahead_seconds: Arc<AtomicI64>,
}

impl ServiceClock {
    /// Adopts the service's time, `seconds` since the epoch.
    pub fn adopt(&self, seconds: i64) {
        self.ahead_seconds.store(seconds.saturating_sub(epoch_seconds(SystemTime::now())), Ordering::Relaxed);
    }
}

impl TimeSource for ServiceClock {
    fn now(&self) -> SystemTime {
        let ahead = self.ahead_seconds.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let here = SystemTime::now();
        let moved = if ahead < 0 { here.checked_sub(by) } else { here.checked_add(by) };
        moved.unwrap_or(here)
    }
}

pub fn epoch_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_service_in_both_directions_and_stands_nonsense() {
        let clock = ServiceClock::default();
        let here = epoch_seconds(SystemTime::now());
        for there in [here + 86_400, here - 86_400, here] {
            clock.adopt(there);
            assert!(epoch_seconds(clock.now()).abs_diff(there) < 60);
        }
        clock.adopt(i64::MIN);
        clock.now();
    }
}
