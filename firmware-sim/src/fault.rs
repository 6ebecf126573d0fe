//! Scheduled faults: which reading of which vehicle is changed, how, and when.
//!
//! Times count from the start of the live phase, never from the start of the buffered history. A fault covers whole samples: those measured
//! in `[start, end)`, and always at least one. It may repeat at a fixed interval.

use crate::duration::parse_duration;
use crate::timeline::Timeline;
use crate::vehicle::{Metric, Vehicle};
use serde::Serialize;
use std::ops::Range;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// One reading is off by the magnitude.
    Spike,
    /// Every reading is off by the magnitude.
    Step,
    /// The reading departs in a straight line and is off by the magnitude at the end.
    Drift,
    /// The sensor repeats its last good reading.
    Stuck,
    /// Readings are missing.
    Dropout,
    /// Noise is added whose standard deviation is the magnitude.
    Noise,
}

impl FaultKind {
    pub const ALL: [FaultKind; 6] =
        [FaultKind::Spike, FaultKind::Step, FaultKind::Drift, FaultKind::Stuck, FaultKind::Dropout, FaultKind::Noise];

    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Spike => "spike",
            FaultKind::Step => "step",
            FaultKind::Drift => "drift",
            FaultKind::Stuck => "stuck",
            FaultKind::Dropout => "dropout",
            FaultKind::Noise => "noise",
        }
    }

    fn has_magnitude(self) -> bool {
        !matches!(self, FaultKind::Stuck | FaultKind::Dropout)
    }
}

/// A scheduled fault. Its text form is `kind:device:metric:magnitude@start..end`, for example
/// `step:truck-07:container_temperature:+6@8s..20s`; a spike has no end, `stuck` and `dropout` have no magnitude, and the metric of a
/// dropout may be `*` for the whole vehicle. `@8s..20s/1m` repeats every minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    pub device: String,
    /// `None` means every metric.
    pub metric: Option<Metric>,
    pub magnitude: f64,
    pub start_ms: i64,
    /// For a spike: its start.
    pub end_ms: i64,
    /// From one start to the next; longer than the fault. `None` means once.
    pub every_ms: Option<i64>,
}

impl Fault {
    pub fn metric_name(&self) -> &'static str {
        self.metric.map_or("*", Metric::name)
    }
}

/// Why a text is not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a fault: {reason}; write for example step:truck-07:container_temperature:+6@8s..20s")]
pub struct FaultSyntaxError {
    pub text: String,
    pub reason: String,
}

impl FromStr for Fault {
    type Err = FaultSyntaxError;

    fn from_str(text: &str) -> Result<Self, FaultSyntaxError> {
        parse_fault(text).map_err(|reason| FaultSyntaxError { text: text.to_owned(), reason })
    }
}

fn parse_fault(text: &str) -> Result<Fault, String> {
    let (what, when) = text.trim().split_once('@').ok_or("it has no `@` and time")?;
    let mut parts = what.split(':');
    let kind = parts.next().unwrap_or_default();
    let kind = FaultKind::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(|| {
        let names = FaultKind::ALL.map(FaultKind::name).join(", ");
        format!("unknown kind `{kind}`, use one of {names}")
    })?;
    let device = parts.next().filter(|device| !device.is_empty()).ok_or("it names no device")?.to_owned();
    let metric = match parts.next().ok_or("it names no metric")? {
        "*" if kind == FaultKind::Dropout => None,
        name => Some(name.parse()?),
    };
    let magnitude = match (kind.has_magnitude(), parts.next()) {
        (true, Some(number)) => number.parse::<f64>().map_err(|_| format!("magnitude `{number}` is not a number"))?,
        (true, None) => return Err(format!("a {} needs a magnitude", kind.name())),
        (false, None) => 0.0,
        (false, Some(_)) => return Err(format!("a {} has no magnitude", kind.name())),
    };
    if !magnitude.is_finite() {
        return Err("the magnitude is not finite".to_owned());
    }
    if parts.next().is_some() {
        return Err("it has too many parts".to_owned());
    }
    let (when, every_ms) = match when.split_once('/') {
        Some((when, every)) => (when, Some(milliseconds(every)?)),
        None => (when, None),
    };
    let (start_ms, end_ms) = match (kind, when.split_once("..")) {
        (FaultKind::Spike, None) => (milliseconds(when)?, milliseconds(when)?),
        (FaultKind::Spike, Some(_)) => return Err("a spike is one reading and has no end, write @8s".to_owned()),
        (_, Some((start, end))) => (milliseconds(start)?, milliseconds(end)?),
        (_, None) => return Err("it has no end, write @8s..20s".to_owned()),
    };
    if kind != FaultKind::Spike && end_ms <= start_ms {
        return Err("it ends before it starts".to_owned());
    }
    if every_ms.is_some_and(|every_ms| every_ms <= end_ms - start_ms) {
        return Err("it repeats before it is over".to_owned());
    }
    Ok(Fault { kind, device, metric, magnitude, start_ms, end_ms, every_ms })
}

fn milliseconds(text: &str) -> Result<i64, String> {
    let duration = parse_duration(text)?;
    Ok(i64::try_from(duration.as_millis()).expect("a duration is at most a year"))
}

/// A fault bound to the samples of its vehicle.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundFault {
    kind: FaultKind,
    metric: Option<Metric>,
    magnitude: f64,
    /// Epoch time of the first start.
    start_ms: i64,
    length_ms: i64,
    every_ms: Option<i64>,
    timeline: Timeline,
}

impl BoundFault {
    /// A repeating fault must not repeat before the vehicle's next sample.
    pub fn new(fault: &Fault, live_start_ms: i64, timeline: Timeline) -> Self {
        BoundFault {
            kind: fault.kind,
            metric: fault.metric,
            magnitude: fault.magnitude,
            start_ms: live_start_ms + fault.start_ms,
            length_ms: fault.end_ms - fault.start_ms,
            every_ms: fault.every_ms,
            timeline,
        }
    }

    /// The samples that its first (0), second (1), ... occurrence covers.
    pub fn samples(&self, time: u64) -> Range<u64> {
        let start_ms = self.start_ms + self.every_ms.unwrap_or(0) * time as i64;
        let first = self.timeline.first_at_or_after(start_ms);
        first..self.timeline.first_at_or_after(start_ms + self.length_ms).max(first + 1)
    }

    /// The samples of the occurrence that covers this one, if any.
    fn covering(&self, metric: Metric, index: u64) -> Option<Range<u64>> {
        if self.metric.is_some_and(|only| only != metric) {
            return None;
        }
        let since_ms = self.timeline.measured_at_ms(index) - self.start_ms;
        let time = self.every_ms.map_or(0, |every_ms| since_ms.div_euclid(every_ms));
        let samples = self.samples(u64::try_from(time).ok()?);
        samples.contains(&index).then_some(samples)
    }
}

/// What the vehicle reports at a sample: the healthy value with every fault applied in order, `None` where it is missing.
pub fn reported_value(vehicle: &Vehicle, faults: &[BoundFault], metric: Metric, index: u64) -> Option<f64> {
    let mut value = vehicle.value(metric, index);
    for fault in faults {
        let Some(Range { start, end }) = fault.covering(metric, index) else { continue };
        value += match fault.kind {
            FaultKind::Spike | FaultKind::Step => fault.magnitude,
            FaultKind::Drift => fault.magnitude * (index - start + 1) as f64 / (end - start) as f64,
            FaultKind::Stuck => vehicle.value(metric, start.saturating_sub(1)) - value,
            FaultKind::Noise => fault.magnitude * vehicle.burst_noise(metric, index),
            FaultKind::Dropout => return None,
        };
    }
    Some(metric.rounded(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().expect("a good schedule")
    }

    /// Samples at second 0, 1, 2, ...; the live phase starts at second 100.
    fn bound(text: &str) -> BoundFault {
        BoundFault::new(&fault(text), 100_000, Timeline { origin_ms: 0, interval_ms: 1_000 })
    }

    #[test]
    fn schedules_are_read() {
        let step = fault("step:truck-07:container_temperature:+6@8s..20s");
        assert_eq!(step.kind, FaultKind::Step);
        assert_eq!(
            (step.device.as_str(), step.metric_name(), step.magnitude),
            ("truck-07", "container_temperature", 6.0)
        );
        assert_eq!((step.start_ms, step.end_ms), (8_000, 20_000));
        assert_eq!(fault("spike:truck-03:speed:-40.5@500ms").magnitude, -40.5);
        assert_eq!(fault("dropout:truck-03:*@1s..2s").metric, None);
        assert_eq!(fault("dropout:truck-03:*@1s..2s/1m").every_ms, Some(60_000));
        for bad in [
            "",
            "step",
            "step:truck-07:speed:6",
            "leap:truck-07:speed:6@1s..2s",
            "step:truck-07:colour:6@1s..2s",
            "step::speed:6@1s..2s",
            "step:truck-07:*:6@1s..2s",
            "step:truck-07:speed@1s..2s",
            "step:truck-07:speed:nan@1s..2s",
            "step:truck-07:speed:6@2s..1s",
            "step:truck-07:speed:6@2s",
            "step:truck-07:speed:6:7@1s..2s",
            "spike:truck-07:speed:6@1s..2s",
            "stuck:truck-07:speed:6@1s..2s",
            "step:truck-07:speed:6@1s..2s/1s",
            "spike:truck-07:speed:6@1s/0s",
            "spike:truck-07:speed:6@1s/",
        ] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn faults_apply_exactly_inside_their_interval_and_to_their_metric_only() {
        let vehicle = Vehicle::new(9, 7, 1.0);
        for text in [
            "spike:truck-07:speed:+40@8s",
            "step:truck-07:speed:+6@8s..20s",
            "drift:truck-07:speed:+6@8s..20s",
            "stuck:truck-07:speed@8s..20s",
            "dropout:truck-07:speed@8s..20s",
            "noise:truck-07:speed:50@8s..20s",
        ] {
            let faults = [bound(text)];
            let end = if text.starts_with("spike") { 109 } else { 120 };
            assert_eq!(faults[0].samples(0), 108..end);
            for index in 90..140 {
                let healthy = vehicle.value(Metric::Speed, index);
                let reported = reported_value(&vehicle, &faults, Metric::Speed, index);
                assert_eq!(reported != Some(healthy), (108..end).contains(&index), "{text} at {index}");
                let other = reported_value(&vehicle, &faults, Metric::Latitude, index);
                assert_eq!(other, Some(vehicle.value(Metric::Latitude, index)));
            }
        }
    }

    #[test]
    fn each_fault_does_what_its_name_says() {
        let vehicle = Vehicle::new(9, 7, 1.0);
        let metric = Metric::ContainerTemperature;
        let healthy = |index| vehicle.value(metric, index);
        let reported = |text: &str, index| reported_value(&vehicle, &[bound(text)], metric, index);
        let step = "step:truck-07:container_temperature:+6@8s..20s";
        assert_eq!(reported(step, 110), Some(metric.rounded(healthy(110) + 6.0)));
        let drift = "drift:truck-07:container_temperature:+6@8s..20s";
        assert_eq!(reported(drift, 113), Some(metric.rounded(healthy(113) + 3.0)));
        assert_eq!(reported(drift, 119), Some(metric.rounded(healthy(119) + 6.0)));
        let stuck = "stuck:truck-07:container_temperature@8s..20s";
        assert!((108..120).all(|index| reported(stuck, index) == Some(healthy(107))));
        assert_eq!(reported("dropout:truck-07:*@8s..20s", 110), None);
    }

    #[test]
    fn a_fault_between_two_samples_still_covers_one() {
        assert_eq!(bound("step:t:speed:6@8100ms..8200ms").samples(0), 109..110);
    }

    #[test]
    fn a_fault_that_comes_again_is_the_same_each_time() {
        let vehicle = Vehicle::new(9, 7, 1.0);
        let once = |text: &str| bound(text.split('/').next().expect("there is a first part"));
        for text in [
            "spike:truck-07:speed:+40@8s/10s",
            "step:truck-07:speed:+6@8s..11s/10s",
            "drift:truck-07:speed:+6@8s..11s/10s",
            "step:truck-07:speed:+6@8s..11500ms/10500ms",
            "spike:truck-07:speed:+40@8s/1s",
        ] {
            let (again, every) = (bound(text), fault(text).every_ms.expect("it comes again"));
            for index in 90..160 {
                let time = (index * 1_000 - 108_000_i64).div_euclid(every);
                let shifted = BoundFault { start_ms: 108_000 + time.max(0) * every, ..once(text) };
                let report = |fault: BoundFault| reported_value(&vehicle, &[fault], Metric::Speed, index as u64);
                assert_eq!(report(again.clone()), report(shifted), "{text} at {index}");
            }
        }
        assert_eq!(bound("step:t:speed:6@8s..11s/10s").samples(2), 128..131);
    }
}
