//! Faults at random times: of sensors, which change what is reported, and troubles, which change the machine.
//!
//! How many there are is a Poisson process over the time in which the machine reports. A series has one fault at a time, and rests
//! afterwards; a machine has one trouble at a time. Sizes are multiples of how far the signal usually strays within minutes.

use super::machine::{Machine, TroubleType};
use super::moment::{HOUR_SECONDS, Moment};
use super::sensor::{Channel, Sensor};
use crate::fault::FaultKind;
use crate::random::Random;

/// From the end of a fault to the next one of the same series, in seconds.
const REST_SECONDS: u64 = 1_200;
/// A machine recovers within this time, or the fault is over anyway.
const RECOVERY_SECONDS_MAX: u64 = 6 * HOUR_SECONDS as u64;
/// A vehicle must drive on for at least this long, or the fault would not be seen.
const SECONDS_LEFT_MIN: u32 = 240;
/// A repeated reading proves nothing until the healthy one departs: a stuck sensor stays stuck for so many times as long as planned.
const STUCK_LONGER_MAX: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Sensor(FaultKind),
    Machine(TroubleType),
}

/// A fault as it happened: readings of the series in `[start_ms, end_ms)` are affected.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub channel: usize,
    pub fault: &'static str,
    pub start_ms: i64,
    pub end_ms: i64,
    /// Largest departure in the metric's unit, with its sign; of noise its standard deviation, of a dropout 0.
    pub size: f64,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    channel: usize,
    what: What,
    start: u64,
    end: u64,
    size: f64,
    /// The reading that a stuck sensor repeats.
    held: Option<f64>,
    first_ms: Option<i64>,
    last_ms: i64,
    worst: f64,
}

#[derive(Debug)]
pub struct Faults {
    random: Random,
    noise: Random,
    /// Probability that a fault begins in a second in which the machine reports.
    per_second: f64,
    /// No fault begins before this second.
    quiet_until: u64,
    active: Vec<Active>,
    /// By channel: until when it rests.
    rests: Vec<u64>,
    /// By channel: the last reading.
    last: Vec<f64>,
    drawn: u64,
}

impl Faults {
    pub fn new(per_day: f64, quiet_until: u64, channels: usize, machine: &dyn Machine, random: Random) -> Self {
        Faults {
            random: random.stream(1),
            noise: random.stream(2),
            per_second: per_day / (machine.hours_a_day() * f64::from(HOUR_SECONDS)),
            quiet_until,
            active: Vec::new(),
            rests: vec![0; channels],
            last: vec![f64::NAN; channels],
            drawn: 0,
        }
    }

    fn can_happen(&self) -> bool {
        self.per_second > 0.0
    }

    /// Begins and ends faults, before the machine's step.
    pub fn step(&mut self, at: Moment, machine: &mut dyn Machine, channels: &[Channel], happened: &mut Vec<Happened>) {
        if !self.can_happen() {
            return;
        }
        self.end(at, machine, channels, happened);
        let left = machine.seconds_left();
        if at.0 >= self.quiet_until && left >= SECONDS_LEFT_MIN && self.random.unit(at.0) < self.per_second {
            self.begin(at, left, machine, channels);
        }
    }

    fn end(&mut self, at: Moment, machine: &mut dyn Machine, channels: &[Channel], happened: &mut Vec<Happened>) {
        for active in &mut self.active {
            let What::Machine(kind) = active.what else { continue };
            let excess = machine.excess(kind.trouble);
            if excess.abs() > active.worst.abs() {
                active.worst = excess;
            }
            if at.0 == active.end {
                machine.set_trouble(kind.trouble, None);
            }
        }
        let is_over = |active: &Active| match active.what {
            What::Machine(kind) => {
                let has_recovered = machine.excess(kind.trouble).abs() <= kind.tolerance;
                at.0 >= active.end && (has_recovered || at.0 >= active.end + RECOVERY_SECONDS_MAX)
            }
            What::Sensor(FaultKind::Stuck) => {
                let longest = active.start + STUCK_LONGER_MAX * (active.end - active.start);
                at.0 >= active.end && (active.worst.abs() > channels[active.channel].sensor.usual || at.0 >= longest)
            }
            What::Sensor(_) => at.0 >= active.end,
        };
        let over: Vec<Active> = self.active.iter().copied().filter(is_over).collect();
        self.active.retain(|active| !is_over(active));
        for active in over {
            self.rests[active.channel] = at.0 + REST_SECONDS;
            happened.extend(active.happened());
        }
    }

    /// What is not over at the end of the data.
    pub fn finish(&mut self) -> impl Iterator<Item = Happened> + '_ {
        self.active.drain(..).filter_map(|active| active.happened())
    }

    fn begin(&mut self, at: Moment, left: u32, machine: &mut dyn Machine, channels: &[Channel]) {
        self.drawn += 1;
        let random = self.random.stream(self.drawn);
        // A draw that does not fit is drawn again, or the counts would depend on the kind of machine.
        for attempt in 0..24 {
            let draw = random.stream(attempt);
            let is_begun = if draw.unit(0) < 0.2 {
                self.begin_trouble(at, left, machine, channels, draw)
            } else {
                self.begin_sensor(at, left, channels, draw)
            };
            if is_begun {
                return;
            }
        }
    }

    fn is_free(&self, channel: usize, at: Moment) -> bool {
        self.rests[channel] <= at.0 && self.active.iter().all(|active| active.channel != channel)
    }

    fn begin_trouble(
        &mut self,
        at: Moment,
        left: u32,
        machine: &mut dyn Machine,
        channels: &[Channel],
        draw: Random,
    ) -> bool {
        let kinds = machine.troubles();
        let Some(kind) = kinds.get((draw.unit(1) * kinds.len() as f64) as usize).copied() else { return false };
        let Some(channel) = channels.iter().position(|channel| channel.sensor.metric == kind.metric) else {
            return false;
        };
        let has_trouble = self.active.iter().any(|active| matches!(active.what, What::Machine(_)));
        let seconds = draw.between(2, kind.seconds.0, kind.seconds.1).min(f64::from(left));
        if has_trouble || !self.is_free(channel, at) || seconds < kind.seconds.0 || !machine.may_begin(kind.trouble) {
            return false;
        }
        machine.set_trouble(kind.trouble, Some(draw.unit(3)));
        self.active.push(Active::new(channel, What::Machine(kind), at.0, at.0 + seconds as u64, 0.0));
        true
    }

    fn begin_sensor(&mut self, at: Moment, left: u32, channels: &[Channel], draw: Random) -> bool {
        let channel = (draw.unit(1) * channels.len() as f64) as usize;
        let sensor = channels[channel].sensor;
        let kind = FaultKind::ALL[(draw.unit(2) * FaultKind::ALL.len() as f64) as usize];
        // Where one series of a device reports now and another does not, the last reading says so.
        let is_possible = match kind {
            // A sensor whose readings repeat anyway is not seen to be stuck.
            FaultKind::Stuck if sensor.is_zero_exact && self.last[channel] == 0.0 => false,
            FaultKind::Stuck => sensor.noise >= 0.6 * sensor.resolution,
            FaultKind::Step | FaultKind::Drift => !sensor.is_driven,
            _ => true,
        };
        if sensor.is_state() || !is_possible || self.last[channel].is_nan() || !self.is_free(channel, at) {
            return false;
        }
        let (minutes, times) = match kind {
            FaultKind::Spike => ((1.0, 1.0), (6.0, 10.0)),
            FaultKind::Step => ((3.0, 15.0), (4.0, 7.0)),
            FaultKind::Drift => ((10.0, 40.0), (5.0, 8.0)),
            FaultKind::Stuck => ((4.0, 15.0), (0.0, 0.0)),
            FaultKind::Dropout => ((3.0, 12.0), (0.0, 0.0)),
            FaultKind::Noise => ((2.0, 8.0), (2.0, 3.0)),
        };
        // A slow series needs longer for as many readings.
        let slow = (f64::from(sensor.interval_s) / 20.0).max(1.0);
        let seconds = (60.0 * slow * draw.between(3, minutes.0, minutes.1)).min(f64::from(left));
        let sign = if draw.unit(4) < 0.5 { -1.0 } else { 1.0 };
        let size = sign * sensor.usual * draw.between(5, times.0, times.1);
        let size = match kind {
            FaultKind::Noise => size.abs(),
            // It moves as far as that by itself, so a glitch shows only at the end of the range.
            FaultKind::Spike if sensor.is_driven => sensor.high - self.last[channel],
            _ => fitting(size, self.last[channel], &sensor),
        };
        self.active.push(Active::new(channel, What::Sensor(kind), at.0, at.0 + seconds as u64, size));
        true
    }

    /// What is reported instead of a healthy reading; `None` if nothing is.
    pub fn reported(
        &mut self,
        channel: usize,
        sensor: &Sensor,
        second: u64,
        time_ms: i64,
        healthy: f64,
    ) -> Option<f64> {
        if !self.can_happen() {
            return Some(healthy);
        }
        let noise = self.noise;
        let mut value = Some(healthy);
        for active in self.active.iter_mut().filter(|active| active.channel == channel) {
            let What::Sensor(kind) = active.what else {
                active.affects(time_ms);
                continue;
            };
            let size = match kind {
                FaultKind::Spike if active.first_ms.is_some() => continue,
                FaultKind::Spike | FaultKind::Step => active.size,
                FaultKind::Drift => {
                    active.size * (second + 1 - active.start) as f64 / (active.end - active.start) as f64
                }
                FaultKind::Noise => active.size * noise.bell(second),
                FaultKind::Stuck => *active.held.get_or_insert(self.last[channel]) - healthy,
                FaultKind::Dropout => {
                    active.affects(time_ms);
                    value = None;
                    continue;
                }
            };
            let reported = sensor.rounded(healthy + size);
            if reported != healthy {
                active.affects(time_ms);
                if (reported - healthy).abs() > active.worst.abs() {
                    active.worst = reported - healthy;
                }
            }
            value = Some(reported);
        }
        self.last[channel] = value.unwrap_or(healthy);
        value
    }

    /// The channel reports nothing now, because its device sleeps.
    pub fn sleeps(&mut self, channel: usize) {
        self.last[channel] = f64::NAN;
    }
}

/// Turned round if only that keeps it within what the sensor can report.
fn fitting(size: f64, value: f64, sensor: &Sensor) -> f64 {
    let fits = |size: f64| (sensor.low..=sensor.high).contains(&(value + size));
    if !fits(size) && fits(-size) { -size } else { size }
}

impl Active {
    fn new(channel: usize, what: What, start: u64, end: u64, size: f64) -> Self {
        Active { channel, what, start, end, size, held: None, first_ms: None, last_ms: 0, worst: 0.0 }
    }

    fn affects(&mut self, time_ms: i64) {
        self.first_ms.get_or_insert(time_ms);
        self.last_ms = time_ms;
    }

    /// `None` if no reading was affected.
    fn happened(&self) -> Option<Happened> {
        let (fault, size) = match self.what {
            What::Sensor(FaultKind::Noise) => (FaultKind::Noise.name(), self.size),
            What::Sensor(kind) => (kind.name(), self.worst),
            What::Machine(kind) => (kind.trouble.name(), self.worst),
        };
        let start_ms = self.first_ms?;
        Some(Happened { channel: self.channel, fault, start_ms, end_ms: self.last_ms + 1, size })
    }
}
