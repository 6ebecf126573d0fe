//! The newest value of each series, and how long ago it came, for people who look at the fleet.
//!
//! Nothing is kept for that: a watched series has its newest readings anyway, and of the few hundred others that are known by name the newest
//! value is kept beside the name.

use std::collections::BTreeMap;
use std::ops::Range;

use super::unwatched::UnwatchedSeries;
use super::{ListedSeries, Monitor, Rhythm, UnwatchedReason};
use crate::detection::window::Sample;

/// What has been silent for less is not stale, whatever its rhythm; the same as of alerts.
const STALE_MIN_MS: f32 = 30_000.0;
/// Silent for so many of its intervals a series is stale.
const STALE_INTERVALS: f32 = 5.0;

/// A series with its newest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastValue<'a> {
    /// Name of its device.
    pub device: &'a str,
    /// Name of its metric.
    pub metric: &'a str,
    /// `None` while it has had none, or its newest is not known any more.
    pub newest: Option<Sample>,
    /// When a reading last came, by the listener's steady clock; it may lie before the start of the process.
    pub heard_ms: i64,
    /// Silent for longer than this it is stale.
    pub stale_after_ms: i64,
    /// Why it is not watched; `None` if it is.
    pub unwatched: Option<UnwatchedReason>,
}

/// A device and what is known of its series together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSummary {
    /// Series that are known, watched or not.
    pub series: usize,
    /// When a reading of any of them last came.
    pub heard_ms: i64,
    /// The shortest of its series': after that something of it is missing.
    pub stale_after_ms: i64,
}

fn stale_after_ms(interval_ms: f32) -> i64 {
    (STALE_INTERVALS * interval_ms).max(STALE_MIN_MS) as i64
}

impl Monitor {
    /// The series in these places of the table, and with the first place those that are not watched, that were heard at `since_ms` or later and
    /// are wanted, until `each` has enough and says so.
    ///
    /// Returns the place to go on from; `None` at the end of the table.
    pub fn heard_since<'a>(
        &'a self,
        since_ms: i64,
        places: Range<usize>,
        is_wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(LastValue<'a>) -> bool,
    ) -> Option<usize> {
        if places.start == 0 {
            let heard = self.unwatched.iter().filter(|known| known.heard_ms >= since_ms && is_wanted(&known.device));
            // They are few, so they count, but do not end it.
            heard.for_each(|known| _ = each(of_unwatched(known)));
        }
        let end = places.end.min(self.rhythms.len());
        for index in places.start..end {
            // Apart from the series, so that those that were not heard cost next to nothing.
            if self.rhythms[index].heard_ms < since_ms || !self.table.is_used(index) {
                continue;
            }
            if is_wanted(self.table.name_of(index).0) && !each(self.value_at(index)) {
                return Some(index + 1).filter(|next| *next < self.rhythms.len());
            }
        }
        (end < self.rhythms.len()).then_some(end)
    }

    /// The first series after this device and metric, of one device or of all, in the order of their names.
    pub fn values_after(&self, after: (&str, &str), device: Option<&str>, count_max: usize) -> Vec<LastValue<'_>> {
        let is_wanted = |it: &ListedSeries<'_>| device.is_none_or(|device| it.device == device);
        let series = self.series_after(after, count_max, is_wanted);
        series.into_iter().filter_map(|it| self.value_of(&it)).collect()
    }

    /// The first devices after this one whose names contain a text, in the order of their names.
    pub fn devices_after<'a>(&'a self, after: &str, part: &str, count_max: usize) -> Vec<(&'a str, DeviceSummary)> {
        let part = part.to_lowercase();
        let mut found: BTreeMap<&'a str, DeviceSummary> = BTreeMap::new();
        let mut add = |device: &'a str, value: LastValue<'_>| {
            if device <= after || !(part.is_empty() || device.to_lowercase().contains(&part)) {
                return;
            }
            let LastValue { heard_ms, stale_after_ms, .. } = value;
            let summary = found.entry(device).or_insert(DeviceSummary { series: 0, heard_ms, stale_after_ms });
            summary.series += 1;
            summary.heard_ms = summary.heard_ms.max(heard_ms);
            summary.stale_after_ms = summary.stale_after_ms.min(stale_after_ms);
            if found.len() > count_max {
                found.pop_last();
            }
        };
        for known in self.unwatched.iter() {
            add(&known.device, of_unwatched(known));
        }
        for (index, _) in self.table.range(0..self.table.places()) {
            let Rhythm { heard_ms, interval_ms, .. } = self.rhythms[index];
            let (device, metric) = self.table.name_of(index);
            let stale_after_ms = stale_after_ms(interval_ms);
            add(device, LastValue { device, metric, newest: None, heard_ms, stale_after_ms, unwatched: None });
        }
        found.into_iter().collect()
    }

    fn value_of<'a>(&'a self, series: &ListedSeries<'_>) -> Option<LastValue<'a>> {
        match series.unwatched {
            None => Some(self.value_at(self.table.find(series.device, series.metric)?)),
            Some(_) => self.unwatched.find(series.device, series.metric).map(of_unwatched),
        }
    }

    fn value_at(&self, index: usize) -> LastValue<'_> {
        let Rhythm { heard_ms, interval_ms, .. } = self.rhythms[index];
        let (device, metric) = self.table.name_of(index);
        let newest = self.table.get(index).series.newest();
        LastValue { device, metric, newest, heard_ms, stale_after_ms: stale_after_ms(interval_ms), unwatched: None }
    }
}

fn of_unwatched(known: &UnwatchedSeries) -> LastValue<'_> {
    LastValue {
        device: &known.device,
        metric: &known.metric,
        newest: Some(known.newest).filter(|sample| sample.value.is_finite()),
        heard_ms: known.heard_ms,
        stale_after_ms: stale_after_ms(known.interval_ms),
        unwatched: Some(known.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::detectors::Findings;
    use crate::detection::monitor::{Arrival, MonitorSettings};
    use crate::reading::Reading;

    fn hear(monitor: &mut Monitor, device: &str, metric: &str, value: f64, second: i64) {
        let reading = Reading::at(second * 1_000, device, metric, value);
        let arrival = Arrival { now_ms: second * 1_000, publisher: 1 };
        monitor.judge(&reading, arrival, &mut Findings::default());
    }

    fn text(value: &LastValue<'_>) -> String {
        let LastValue { device, metric, newest, heard_ms, stale_after_ms, .. } = value;
        let newest = newest.map_or("-".to_owned(), |newest| format!("{} at {}", newest.value, newest.at_ms));
        format!("{device}/{metric} {newest}, heard {heard_ms}, stale after {stale_after_ms}")
    }

    fn all(monitor: &Monitor, device: Option<&str>) -> Vec<String> {
        monitor.values_after(("", ""), device, 99).iter().map(text).collect()
    }

    #[test]
    fn the_newest_value_is_that_of_the_newest_reading_watched_or_not() {
        let mut monitor = Monitor::new(MonitorSettings::default());
        for second in 0..30 {
            hear(&mut monitor, "a", "temp", 20.0 + second as f64, second);
            hear(&mut monitor, "b", "lat", 50.0 + second as f64, 20 * second);
        }
        // A gap in the middle of the backlog comes late: the newest stays the newest.
        hear(&mut monitor, "a", "temp", 7.0, 28);
        assert_eq!(
            all(&monitor, None),
            [
                "a/temp 49 at 29000, heard 29000, stale after 30000",
                "b/lat 79 at 580000, heard 580000, stale after 100000"
            ]
        );
        assert_eq!(all(&monitor, Some("b")).len(), 1);
        assert_eq!(monitor.values_after(("a", "temp"), None, 9).len(), 1);
        hear(&mut monitor, "b", "lat", f64::NAN, 600);
        assert_eq!(all(&monitor, Some("b")), ["b/lat -, heard 600000, stale after 100000"]);
    }

    #[test]
    fn what_was_heard_is_found_in_steps_and_what_was_not_is_left_out() {
        let mut monitor = Monitor::new(MonitorSettings::default());
        for number in 0..10 {
            hear(&mut monitor, &format!("d{number}"), "temp", 1.0, 1);
        }
        hear(&mut monitor, "d0", "lat", 1.0, 1);
        for number in [2, 3, 7] {
            hear(&mut monitor, &format!("d{number}"), "temp", 2.0, 5);
        }
        let look = |since_ms, places: Range<usize>, count_max: usize, wanted: &[&str]| {
            let mut found = Vec::new();
            let is_wanted = |device: &str| wanted.is_empty() || wanted.contains(&device);
            let next = monitor.heard_since(since_ms, places, is_wanted, |value| {
                found.push(format!("{}/{}", value.device, value.metric));
                found.len() < count_max
            });
            (found, next)
        };
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(look(5_000, 0..100, 9, &[]), (of(&["d2/temp", "d3/temp", "d7/temp"]), None));
        assert_eq!(look(5_000, 0..5, 9, &[]), (of(&["d2/temp", "d3/temp"]), Some(5)));
        assert_eq!(look(5_000, 0..100, 1, &[]), (of(&["d2/temp"]), Some(3)));
        assert_eq!(look(5_000, 3..100, 9, &["d7"]), (of(&["d7/temp"]), None));
        assert_eq!(look(0, 0..1, 9, &["d0"]), (of(&["d0/lat", "d0/temp"]), Some(1)));
        assert_eq!(look(6_000, 0..100, 9, &[]), (of(&[]), None));
    }

    #[test]
    fn devices_are_listed_with_what_their_series_have_together() {
        let mut monitor = Monitor::new(MonitorSettings::default());
        for second in 0..30 {
            hear(&mut monitor, "truck-1", "temp", 1.0, second);
            hear(&mut monitor, "truck-1", "lat", 1.0, second);
            hear(&mut monitor, "Tank/ä", "level", 1.0, 20 * second);
        }
        hear(&mut monitor, "only", "odometer", 1.0, 3);
        let list = |after: &str, part: &str, count_max: usize| -> Vec<String> {
            let devices = monitor.devices_after(after, part, count_max);
            devices
                .iter()
                .map(|(device, it)| format!("{device} {} {} {}", it.series, it.heard_ms, it.stale_after_ms))
                .collect()
        };
        let [tank, only, truck] = ["Tank/ä 1 580000 100000", "only 1 3000 30000", "truck-1 2 29000 30000"];
        assert_eq!(list("", "", 9), [tank, only, truck]);
        assert_eq!(list("", "", 2), [tank, only]);
        assert_eq!(list("only", "", 2), [truck]);
        assert_eq!(list("", "T", 9), [tank, truck]);
        assert!(list("", "x", 9).is_empty());
    }
}
