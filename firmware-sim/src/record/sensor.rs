//! What a sensor makes of the true value: noise, resolution, range; and the line that is written of it.

use crate::random::Random;

/// A metric and how it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Sensor {
    pub metric: &'static str,
    pub interval_s: u32,
    /// Values are multiples of it.
    pub resolution: f64,
    /// Standard deviation.
    pub noise: f64,
    /// What the sensor can report.
    pub low: f64,
    pub high: f64,
    /// How far the signal usually strays within some minutes; sizes of faults are multiples of it. 0 if it is a state: it has no faults.
    pub usual: f64,
    /// Whether a driver or a load moves it at will within seconds: then it has no level of its own that could be off.
    pub is_driven: bool,
    /// Whether a standstill is read as 0 without noise, as counters, current transformers and cut-offs of flow meters do.
    pub is_zero_exact: bool,
}

impl Sensor {
    /// A sensor that reads every second.
    pub const fn new(metric: &'static str, resolution: f64, noise: f64, range: (f64, f64), usual: f64) -> Self {
        Sensor {
            metric,
            interval_s: 1,
            resolution,
            noise,
            low: range.0,
            high: range.1,
            usual,
            is_driven: false,
            is_zero_exact: false,
        }
    }

    pub const fn with_exact_zero(mut self) -> Self {
        self.is_zero_exact = true;
        self
    }

    pub const fn driven(mut self) -> Self {
        self.is_driven = true;
        self
    }

    pub const fn every(mut self, interval_s: u32) -> Self {
        self.interval_s = interval_s;
        self
    }

    /// A value without noise or faults, such as a door.
    pub const fn state(metric: &'static str, resolution: f64, low: f64, high: f64) -> Self {
        Sensor::new(metric, resolution, 0.0, (low, high), 0.0)
    }

    pub fn is_state(&self) -> bool {
        self.usual == 0.0
    }

    /// What the sensor reports.
    pub fn rounded(&self, value: f64) -> f64 {
        (value.clamp(self.low, self.high) / self.resolution).round() * self.resolution
    }

    /// Decimals that show the resolution exactly.
    fn decimals(&self) -> u32 {
        (0..4).find(|&digits| (self.resolution * 10f64.powi(digits as i32)).fract().abs() < 1e-9).unwrap_or(4)
    }
}

/// Loss of single readings.
const LOSS: f64 = 0.0004;
const JITTER_MS: f64 = 14.0;

/// A sensor of one device.
#[derive(Clone, Debug)]
pub struct Channel {
    pub sensor: Sensor,
    random: Random,
    timing: Random,
    /// When within its second it is read; a device asks its sensors one after the other.
    phase_ms: i64,
    /// The part of a line before the time.
    prefix: Vec<u8>,
    decimals: u32,
    scale: f64,
}

/// When a reading was made, and whether it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub time_ms: i64,
    pub is_lost: bool,
}

impl Channel {
    pub fn new(device: &str, sensor: Sensor, place: usize, places: usize, random: Random) -> Self {
        let decimals = sensor.decimals();
        Channel {
            sensor,
            random: random.stream(0),
            timing: random.stream(1),
            phase_ms: 25 + (940 * place / places.max(1)) as i64,
            prefix: format!("{device}/{},", sensor.metric).into_bytes(),
            decimals,
            scale: 10f64.powi(decimals as i32),
        }
    }

    /// The series' name.
    pub fn series(&self) -> String {
        String::from_utf8_lossy(&self.prefix).trim_end_matches(',').to_owned()
    }

    pub fn is_due(&self, second: u64) -> bool {
        self.sensor.interval_s == 1 || second.is_multiple_of(u64::from(self.sensor.interval_s))
    }

    pub fn timing(&self, second: u64, second_ms: i64) -> Timing {
        let unit = self.timing.unit(second);
        let jitter_ms = JITTER_MS * ((unit * 4_096.0).fract() * 2.0 - 1.0);
        Timing { time_ms: second_ms + self.phase_ms + jitter_ms as i64, is_lost: unit < LOSS }
    }

    pub fn measured(&self, second: u64, truth: f64) -> f64 {
        let is_exact = self.sensor.noise == 0.0 || (self.sensor.is_zero_exact && truth == 0.0);
        let noise = if !is_exact { self.sensor.noise * self.random.bell(second) } else { 0.0 };
        self.sensor.rounded(truth + noise)
    }

    pub fn write(&self, time_ms: i64, value: f64, line: &mut Vec<u8>) {
        line.extend_from_slice(&self.prefix);
        write_integer(time_ms.unsigned_abs(), 1, line);
        line.push(b',');
        let scaled = (value * self.scale).round() as i64;
        if scaled < 0 {
            line.push(b'-');
        }
        let digits = self.decimals as usize;
        write_integer(scaled.unsigned_abs(), digits + 1, line);
        if digits > 0 {
            line.insert(line.len() - digits, b'.');
        }
        line.push(b'\n');
    }
}

/// Decimal digits, with zeros in front if there are fewer than `digits_min`. The formatting of the standard library costs several times as
/// much, and a week of a vehicle is millions of lines.
fn write_integer(mut number: u64, digits_min: usize, line: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    line.extend_from_slice(&digits[at.min(digits.len() - digits_min)..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(resolution: f64, value: f64) -> String {
        let sensor = Sensor::new("speed", resolution, 0.0, (-1e6, 1e6), 1.0);
        let mut line = Vec::new();
        let channel = Channel::new("van-01", sensor, 0, 1, Random::new(1));
        channel.write(1_767_571_200_007, channel.measured(0, value), &mut line);
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn values_are_written_with_the_decimals_of_their_resolution() {
        for (resolution, value, expected) in [
            (1.0, 42.4, "42"),
            (1.0, 0.2, "0"),
            (0.25, 812.3, "812.25"),
            (0.1, -0.04, "0.0"),
            (0.1, -0.06, "-0.1"),
            (0.02, 12.6123, "12.62"),
            (0.001, 0.0012, "0.001"),
            (4.0, 301.0, "300"),
            (0.4, 99.7, "99.6"),
        ] {
            assert_eq!(line(resolution, value), format!("van-01/speed,1767571200007,{expected}\n"));
        }
    }

    #[test]
    fn a_reading_stays_within_its_second_and_few_are_lost() {
        let sensor = Sensor::state("door", 1.0, 0.0, 1.0);
        let channel = Channel::new("a", sensor, 9, 10, Random::new(3));
        let timings: Vec<_> = (0..100_000).map(|second| channel.timing(second, 0)).collect();
        assert!(timings.iter().all(|timing| (0..1_000).contains(&timing.time_ms)));
        let lost = timings.iter().filter(|timing| timing.is_lost).count();
        assert!((10..100).contains(&lost), "{lost}");
    }
}
