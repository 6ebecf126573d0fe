//! Days of normal life of a machine, as the readings of its sensors in order of time, with faults if they are wanted.
//!
//! Constraints:
//! - The same settings give the same bytes (on one platform: exponentials may differ in their last bit elsewhere).
//! - With faults, the healthy readings of a sensor are those of a record without, until a fault of the machine itself changes its course.
//! - Memory depends on the number of series only.
//!
//! Deliberately absent: the gateway's formats, and any dependency on what a detector looks for.

mod cold_room;
mod cold_store;
mod cooling;
mod driver;
mod electrics;
mod engine;
mod faults;
mod fuel;
mod machine;
mod moment;
mod plant;
mod reefer;
mod road;
mod sensor;
mod tanker;
#[cfg(test)]
mod tests;
mod trips;
mod van;

use crate::random::Random;
use clap::ValueEnum;
use faults::{Faults, Happened};
use machine::Machine;
use moment::{DAY_SECONDS, Moment};
use sensor::Channel;
use std::io::{self, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Vehicle,
    Tanker,
    Reefer,
    ColdStore,
    Plant,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Vehicle, Kind::Tanker, Kind::Reefer, Kind::ColdStore, Kind::Plant];

    fn device(self) -> &'static str {
        match self {
            Kind::Vehicle => "van",
            Kind::Tanker => "tanker",
            Kind::Reefer => "reefer",
            Kind::ColdStore => "store",
            Kind::Plant => "plant",
        }
    }

    fn machine(self, random: Random) -> Box<dyn Machine> {
        match self {
            Kind::Vehicle => Box::new(van::Van::new(random)),
            Kind::Tanker => Box::new(tanker::Tanker::new(random)),
            Kind::Reefer => Box::new(reefer::Reefer::new(random)),
            Kind::ColdStore => Box::new(cold_store::ColdStore::new(random)),
            Kind::Plant => Box::new(plant::Plant::new(random)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordSettings {
    pub kind: Kind,
    pub devices: u16,
    pub days: u32,
    pub seed: u64,
    /// Mean of each device; finite and not negative.
    pub faults_per_day: f64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordReport {
    pub readings: u64,
    pub faults: u64,
}

/// Which of the two outputs could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot write the readings")]
    Readings(#[source] io::Error),
    #[error("cannot write the ground truth")]
    GroundTruth(#[source] io::Error),
}

/// The first line of a ground truth.
pub const GROUND_TRUTH_HEADER: &str = "series,fault,start_ms,end_ms,size";

/// Lines are collected up to this size; large writes keep a pipe busy.
const BUFFER_BYTES: usize = 256 * 1024;

struct Device {
    machine: Box<dyn Machine>,
    channels: Vec<Channel>,
    truth: Vec<f64>,
    faults: Faults,
}

/// A reading of this second, to be put in order.
#[derive(Clone, Copy, Debug)]
struct Reading {
    time_ms: i64,
    device: usize,
    channel: usize,
    value: f64,
}

impl Device {
    fn new(settings: &RecordSettings, number: u16) -> Self {
        let random = Random::new(settings.seed).stream(settings.kind as u64).stream(u64::from(number));
        let machine = settings.kind.machine(random.stream(1));
        let name = format!("{}-{number:02}", settings.kind.device());
        let sensors = machine.sensors();
        let channel = |(place, sensor): (usize, &sensor::Sensor)| {
            Channel::new(&name, *sensor, place, sensors.len(), random.stream(2).stream(place as u64))
        };
        let channels: Vec<_> = sensors.iter().enumerate().map(channel).collect();
        let quiet_until = if settings.days > 1 { DAY_SECONDS } else { 0 };
        let faults =
            Faults::new(settings.faults_per_day, quiet_until, channels.len(), machine.as_ref(), random.stream(3));
        Device { truth: vec![f64::NAN; channels.len()], machine, channels, faults }
    }

    fn step(&mut self, at: Moment, number: usize, readings: &mut Vec<Reading>, happened: &mut Vec<Happened>) {
        self.faults.step(at, self.machine.as_mut(), &self.channels, happened);
        self.machine.step(at, &mut self.truth);
        for (index, channel) in self.channels.iter().enumerate() {
            if !channel.is_due(at.0) {
                continue;
            }
            let truth = self.truth[index];
            if truth.is_nan() {
                self.faults.sleeps(index);
                continue;
            }
            let timing = channel.timing(at.0, at.time_ms());
            if timing.is_lost {
                continue;
            }
            let measured = channel.measured(at.0, truth);
            let reported = self.faults.reported(index, &channel.sensor, at.0, timing.time_ms, measured);
            readings.extend(reported.map(|value| Reading {
                time_ms: timing.time_ms,
                device: number,
                channel: index,
                value,
            }));
        }
    }
}

/// Writes all readings, and the faults as each is over.
pub fn record(
    settings: &RecordSettings,
    readings_out: &mut dyn Write,
    ground_truth_out: &mut dyn Write,
) -> Result<RecordReport, RecordError> {
    let mut devices: Vec<Device> = (1..=settings.devices).map(|number| Device::new(settings, number)).collect();
    let mut report = RecordReport::default();
    let (mut readings, mut happened, mut lines) = (Vec::new(), Vec::new(), Vec::with_capacity(BUFFER_BYTES + 4_096));
    writeln!(ground_truth_out, "{GROUND_TRUTH_HEADER}").map_err(RecordError::GroundTruth)?;
    for second in 0..u64::from(settings.days) * DAY_SECONDS {
        for (number, device) in devices.iter_mut().enumerate() {
            device.step(Moment(second), number, &mut readings, &mut happened);
            report.faults += write_faults(&mut happened, device, ground_truth_out)?;
        }
        readings.sort_by_key(|reading| reading.time_ms);
        report.readings += readings.len() as u64;
        for reading in readings.drain(..) {
            devices[reading.device].channels[reading.channel].write(reading.time_ms, reading.value, &mut lines);
        }
        if lines.len() >= BUFFER_BYTES {
            readings_out.write_all(&lines).map_err(RecordError::Readings)?;
            lines.clear();
        }
    }
    for device in &mut devices {
        happened.extend(device.faults.finish());
        report.faults += write_faults(&mut happened, device, ground_truth_out)?;
    }
    readings_out.write_all(&lines).and_then(|()| readings_out.flush()).map_err(RecordError::Readings)?;
    ground_truth_out.flush().map_err(RecordError::GroundTruth)?;
    Ok(report)
}

fn write_faults(happened: &mut Vec<Happened>, device: &Device, out: &mut dyn Write) -> Result<u64, RecordError> {
    let count = happened.len() as u64;
    for Happened { channel, fault, start_ms, end_ms, size } in happened.drain(..) {
        let series = device.channels[channel].series();
        writeln!(out, "{series},{fault},{start_ms},{end_ms},{size:.3}").map_err(RecordError::GroundTruth)?;
    }
    Ok(count)
}
