//! The clocks, the state of the system's, and the calendar. What runs in the simulation asks here for the time, and nowhere else.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

#[cfg(test)]
pub mod simulated;

/// First second of the year 0 and last second of the year 9999, relative to 1970.
const CALENDAR_S: (i64, i64) = (-62_167_219_200, 253_402_300_799);

/// UTC date and time of epoch milliseconds, to the second; outside the years 0 to 9999 the nearest second within.
pub fn utc(ms: i64) -> OffsetDateTime {
    let second = ms.div_euclid(1000).clamp(CALENDAR_S.0, CALENDAR_S.1);
    OffsetDateTime::from_unix_timestamp(second).expect("a year of four digits")
}

/// The same as text, such as `2026-11-28T09:55:53Z`.
pub fn rfc3339(ms: i64) -> String {
    let at = utc(ms);
    format!("{}T{:02}:{:02}:{:02}Z", at.date(), at.hour(), at.minute(), at.second())
}

/// The steady clock.
pub fn instant() -> Instant {
    #[cfg(test)]
    if let Some(now) = simulated::instant() {
        return now;
    }
    Instant::now()
}

/// Microseconds since the machine was started, those included in which it slept: the steady clock stands still meanwhile.
pub fn since_boot_us() -> u64 {
    #[cfg(test)]
    if let Some(now) = simulated::instant() {
        // In virtual time nothing sleeps.
        static START: OnceLock<Instant> = OnceLock::new();
        let passed = now.saturating_duration_since(*START.get_or_init(Instant::now));
        return u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
    }
    system_us(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds of the steady clock, to be compared with each other.
pub fn nanoseconds() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds of the system's monotonic clock, which all processes share.
pub fn monotonic_us() -> u64 {
    system_us(libc::CLOCK_MONOTONIC)
}

fn system_us(clock: libc::clockid_t) -> u64 {
    // SAFETY: all zeroes is a valid `timespec`.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is a valid `timespec`, and every system has both clocks.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // Never negative.
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// Milliseconds since 1970 (UTC), by the system clock.
pub fn now_ms() -> i64 {
    #[cfg(test)]
    if let Some(now_ms) = simulated::now_ms() {
        return now_ms;
    }
    ms(SystemTime::now())
}

/// Milliseconds since 1970 of any time; 0 for one before.
pub fn ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the kernel considers the system clock synchronised. If it cannot be asked, the clock is assumed to be.
pub fn is_synchronised() -> bool {
    // SAFETY: all zeroes is a valid `timex`, which only reads the state.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a valid `timex`.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    result < 0 || (result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_milliseconds_have_a_date_of_four_digits() {
        let date = |ms| utc(ms).date().to_string();
        assert_eq!((date(-1), date(0)), ("1969-12-31".to_owned(), "1970-01-01".to_owned()));
        assert_eq!(rfc3339(1_795_465_865_120), "2026-11-23T20:31:05Z");
        assert_eq!((date(i64::MIN), date(i64::MAX)), ("0000-01-01".to_owned(), "9999-12-31".to_owned()));
    }
}
