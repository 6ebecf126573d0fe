//! The newest values of series, for people who ask the administration interface. Only the pipeline thread knows them, so each answer is short:
//! it looks at a part of the table and says where to go on.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::PipelineLoop;
use crate::core::detection::alert::Moment;
use crate::core::detection::monitor::{LastValue, Monitor};

/// Most series, or devices, of a page.
pub const PAGE_VALUES: usize = 500;
pub const PAGE_DEVICES: usize = 200;
/// Most places of the table that one answer looks at, and most series that it names: that takes less than half a millisecond.
const PLACES_A_LOOK: usize = 4_096;
const VALUES_A_LOOK: usize = 500;

/// A series with its newest value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueLine {
    pub device: String,
    pub metric: String,
    /// `None` while it has had none, or its newest is not known any more.
    pub value: Option<f64>,
    pub measured_at_ms: Option<i64>,
    /// When a reading last came.
    pub heard_at_ms: i64,
    /// Silent for longer than this it is stale.
    pub stale_after_ms: i64,
    pub watched: bool,
}

/// A device and what is known of its series together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceLine {
    pub device: String,
    pub series: usize,
    pub heard_at_ms: i64,
    pub stale_after_ms: i64,
}

/// What is asked for about once a second while somebody looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardQuestion {
    /// By the pipeline's steady clock, as the answers have it.
    pub since_ms: i64,
    /// The place of the table to go on from.
    pub from: usize,
    /// `None` if all are wanted.
    pub devices: Option<Arc<BTreeSet<String>>>,
}

/// Series that were heard.
#[derive(Clone, Debug, PartialEq)]
pub struct HeardValues {
    pub values: Vec<ValueLine>,
    /// Where to go on; `None` at the end of the table.
    pub next: Option<usize>,
    /// When this was answered, by the pipeline's steady clock.
    pub at_ms: i64,
}

impl PipelineLoop {
    pub(super) fn devices_after(&self, after: &str, part: &str) -> Vec<DeviceLine> {
        let now = self.moment();
        let devices = self.pipeline.monitor().devices_after(after, part, PAGE_DEVICES);
        let line = |(device, it): (&str, crate::core::detection::monitor::DeviceSummary)| DeviceLine {
            device: device.to_owned(),
            series: it.series,
            heard_at_ms: wall_ms(now, it.heard_ms),
            stale_after_ms: it.stale_after_ms,
        };
        devices.into_iter().map(line).collect()
    }

    pub(super) fn values_after(&self, device: &str, metric: &str, only: Option<&str>) -> Vec<ValueLine> {
        let values = self.pipeline.monitor().values_after((device, metric), only, PAGE_VALUES);
        values.into_iter().map(|value| line(value, self.moment())).collect()
    }

    pub(super) fn heard(&self, question: &HeardQuestion) -> HeardValues {
        heard(self.pipeline.monitor(), question, self.moment(), (PLACES_A_LOOK, VALUES_A_LOOK))
    }
}

fn heard(
    monitor: &Monitor,
    question: &HeardQuestion,
    now: Moment,
    (places_max, values_max): (usize, usize),
) -> HeardValues {
    let HeardQuestion { since_ms, from, devices } = question;
    let mut values = Vec::new();
    let is_wanted = |device: &str| devices.as_ref().is_none_or(|devices| devices.contains(device));
    let places = *from..from.saturating_add(places_max);
    let next = monitor.heard_since(*since_ms, places, is_wanted, |value| {
        values.push(line(value, now));
        values.len() < values_max
    });
    HeardValues { values, next, at_ms: now.signed_steady_ms() }
}

fn line(value: LastValue<'_>, now: Moment) -> ValueLine {
    let LastValue { device, metric, newest, heard_ms, stale_after_ms, unwatched } = value;
    ValueLine {
        device: device.to_owned(),
        metric: metric.to_owned(),
        value: newest.map(|newest| newest.value),
        measured_at_ms: newest.map(|newest| newest.at_ms),
        heard_at_ms: wall_ms(now, heard_ms),
        stale_after_ms,
        watched: unwatched.is_none(),
    }
}

/// A time of the steady clock as wall-clock time.
fn wall_ms(now: Moment, steady_ms: i64) -> i64 {
    now.wall_ms.saturating_sub(now.signed_steady_ms().saturating_sub(steady_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::detection::detectors::Findings;
    use crate::core::detection::monitor::{Arrival, MonitorSettings};
    use crate::core::reading::Reading;

    #[test]
    fn a_large_fleet_is_looked_at_in_parts_and_each_series_is_named_once() {
        const NOW_MS: i64 = 2_000_000_000_000;
        let mut monitor = Monitor::new(MonitorSettings::default());
        for number in 0..1_000 {
            let device = format!("d{number:04}");
            let reading = Reading::at(NOW_MS, &device, "temp", f64::from(number));
            monitor.judge(&reading, Arrival { now_ms: 5_000, publisher: 1 }, &mut Findings::default());
        }
        let now = Moment { wall_ms: NOW_MS + 1_000, steady_ms: 6_000 };
        let (mut named, mut looks, mut from) = (Vec::new(), 0, Some(0));
        while let Some(place) = from {
            let question = HeardQuestion { since_ms: 5_000, from: place, devices: None };
            let HeardValues { values, next, at_ms } = heard(&monitor, &question, now, (300, 100));
            assert!(values.len() <= 100 && at_ms == 6_000);
            named.extend(values);
            (looks, from) = (looks + 1, next);
        }
        assert_eq!((named.len(), looks), (1_000, 10));
        assert!(named.is_sorted_by_key(|value| value.device.clone()));
        assert_eq!((named[7].value, named[7].heard_at_ms), (Some(7.0), NOW_MS));
        let devices = Some(Arc::new(BTreeSet::from(["d0002".to_owned()])));
        let one = heard(&monitor, &HeardQuestion { since_ms: 0, from: 0, devices }, now, (9_999, 100));
        assert_eq!((one.values.len(), one.next), (1, None));
        let none = heard(&monitor, &HeardQuestion { since_ms: 5_001, from: 0, devices: None }, now, (9_999, 100));
        assert_eq!((none.values.len(), none.next), (0, None));
    }
}
