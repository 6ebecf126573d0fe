//! One reading of a device: what it says, and what is known of its time.

mod arena;
mod attributes;

pub use arena::{Mark, Readings};
pub use attributes::{Attributes, pack_attribute};

/// Longest name of a device or a metric, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// How far the time of a reading can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeQuality {
    /// The gateway's clock was synchronised when the reading was received.
    Synced,
    /// It was not, so the times may be wrong.
    Unsynced,
}

/// What is wrong with a device's clock. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClockFault {
    /// Before 2015: it was never set.
    Unset = 1,
    /// Its time lies in the future.
    Ahead = 2,
    /// Its time lies further in the past than transmission explains.
    Behind = 3,
}

impl ClockFault {
    /// As it is written in records.
    pub fn name(self) -> &'static str {
        match self {
            ClockFault::Unset => "unset",
            ClockFault::Ahead => "ahead",
            ClockFault::Behind => "behind",
        }
    }

    /// `None` for a number that this version does not know.
    pub fn from_byte(byte: u8) -> Option<ClockFault> {
        [ClockFault::Unset, ClockFault::Ahead, ClockFault::Behind].into_iter().find(|fault| *fault as u8 == byte)
    }
}

/// What a device with a wrong clock said of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTime {
    /// In which way the clock is wrong.
    pub fault: ClockFault,
    /// Milliseconds since 1970 (UTC), as the device gave them.
    pub device_ms: i64,
}

/// What rounding an integer to a double took away: the integer less the double. No integer of 64 bits is further than 1,024 from the nearest
/// double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding(i16);

impl Rounding {
    /// Beyond it a double does not hold every integer.
    const EXACT_MAX: i128 = 1 << f64::MANTISSA_DIGITS;

    /// The nearest double of an integer of 64 bits and a sign, and what it lacks. `None` where a double holds every integer.
    pub fn of(integer: i128) -> (f64, Option<Rounding>) {
        let value = integer as f64;
        let is_exact = (-Rounding::EXACT_MAX..=Rounding::EXACT_MAX).contains(&integer);
        let lacks = || i16::try_from(integer - value as i128).ok().map(Rounding);
        (value, if is_exact { None } else { lacks() })
    }

    /// As it is stored.
    pub fn lacks(self) -> i64 {
        i64::from(self.0)
    }

    /// `None` if nothing of 64 bits could lack so much.
    pub fn from_lacks(lacks: i64) -> Option<Rounding> {
        i16::try_from(lacks).ok().map(Rounding)
    }

    /// The integer that was rounded to this double.
    pub fn exact(self, value: f64) -> i128 {
        (value as i128).saturating_add(i128::from(self.0))
    }
}

/// One reading, borrowed from a [`Readings`] arena or from a stored batch.
///
/// `value` may be non-finite here: the limit detector reports it, and nothing else ever sees it as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<'a> {
    /// Name of the device, not percent-encoded.
    pub device: &'a str,
    /// Name of the quantity that was measured.
    pub metric: &'a str,
    /// In whatever unit the device uses; it may be infinite or `NaN`.
    pub value: f64,
    /// Set for an integer beyond 2^53, which a double may not hold.
    pub rounding: Option<Rounding>,
    /// Milliseconds since 1970 (UTC): by the device's clock until [`super::device_clock`] has judged it, then the time by which it is
    /// judged.
    pub measured_at_ms: i64,
    /// By the gateway's clock, in milliseconds since 1970 (UTC).
    pub received_at_ms: i64,
    /// Whether the gateway's clock was synchronised at that time.
    pub time_quality: TimeQuality,
    /// What the device said of the time, if its clock is wrong.
    pub device_time: Option<DeviceTime>,
    /// The device's own counter of its readings, if it has one.
    pub sequence: Option<u64>,
    /// Key-value pairs that the device sent along.
    pub attributes: Attributes<'a>,
}

impl<'a> Reading<'a> {
    /// A reading without anything optional, whose times of measurement and receipt are the same.
    pub fn at(at_ms: i64, device: &'a str, metric: &'a str, value: f64) -> Reading<'a> {
        Reading {
            device,
            metric,
            value,
            rounding: None,
            measured_at_ms: at_ms,
            received_at_ms: at_ms,
            time_quality: TimeQuality::Synced,
            device_time: None,
            sequence: None,
            attributes: Attributes::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_64_bits_lose_nothing() {
        let edges = [1_i128 << 53, (1 << 53) + 1, 8_121_069_193_333_309_404, i64::MAX.into(), u64::MAX.into()];
        for integer in edges.into_iter().flat_map(|edge| [edge, edge - 1, 1 - edge, -edge, -edge - 1]) {
            let (value, rounding) = Rounding::of(integer);
            assert_eq!(rounding.map_or(value as i128, |rounding| rounding.exact(value)), integer);
            assert_eq!(rounding.is_some(), integer.abs() > 1 << 53, "{integer}");
        }
    }
}
