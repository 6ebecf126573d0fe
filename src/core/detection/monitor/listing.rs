//! What is watched, as people ask for it: each series with what decided how, those that are not watched, and clocks that are wrong.

use std::collections::BinaryHeap;

use super::{Monitor, UnwatchedReason};
use crate::detection::detectors::explanation::Explanation;
use crate::detection::detectors::maturity::Maturity;
use crate::detection::detectors::profile::ProfileChoice;
use crate::device_clock::{DeviceClock, WrongTime};

/// A series, watched or not. Their order is that of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedSeries<'a> {
    /// Name of its device.
    pub device: &'a str,
    /// Name of its metric.
    pub metric: &'a str,
    /// Why it is not watched; `None` if it is.
    pub unwatched: Option<UnwatchedReason>,
}

/// A device whose newest reading showed that its clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongDeviceClock<'a> {
    /// Name of the device.
    pub device: &'a str,
    /// How wrong.
    pub wrong: WrongTime,
    /// When that reading came, by the listener's steady clock, in milliseconds.
    pub heard_ms: i64,
}

impl Monitor {
    /// The first series that are wanted after this device and metric, in the order of their names: so many at the most, however many there
    /// are.
    pub fn series_after(
        &self,
        (device, metric): (&str, &str),
        count_max: usize,
        is_wanted: impl Fn(&ListedSeries<'_>) -> bool,
    ) -> Vec<ListedSeries<'_>> {
        let mut first = BinaryHeap::with_capacity(count_max.saturating_add(1).min(self.series_count() + 1));
        for series in self.series().filter(|it| (it.device, it.metric) > (device, metric) && is_wanted(it)) {
            if first.len() < count_max {
                first.push(series);
            } else if let Some(mut last) = first.peek_mut().filter(|last| series < **last) {
                *last = series;
            }
        }
        first.into_sorted_vec()
    }

    /// Series that are known not to be watched: a few hundred at the most.
    pub fn unwatched_count(&self) -> usize {
        self.unwatched.iter().count()
    }

    /// Which profile holds for a metric, and what decided so.
    pub fn profile_choice(&self, metric: &str) -> ProfileChoice<'_> {
        self.settings.profiles.choice(metric)
    }

    /// How well a series is known; `None` if it is not watched.
    pub fn maturity(&self, device: &str, metric: &str) -> Option<Maturity> {
        Some(self.table.get(self.table.find(device, metric)?).series.maturity())
    }

    /// What has been learned of a series and what would be told of it; `None` if it is not watched. `date` writes a time for people.
    pub fn explain(&self, device: &str, metric: &str, date: fn(i64) -> String) -> Option<Explanation> {
        let index = self.table.find(device, metric)?;
        let (profile, rhythm) = (self.profile_of(index), &self.rhythms[index]);
        let interval_ms = Some(rhythm.interval_ms).filter(|interval_ms| *interval_ms > 0.0).map(f64::from);
        let mut explanation = Explanation {
            device: device.to_owned(),
            metric: metric.to_owned(),
            profile: profile.name,
            because: self.profile_choice(metric).reason(),
            interval_ms: interval_ms.map(f64::round),
            gap_after_s: interval_ms.filter(|_| profile.gap).map(|_| f64::from(rhythm.limit_ms() / 1000.0).round()),
            learned: self.table.get(index).series.explain(profile),
            text: String::new(),
        };
        explanation.text = explanation.write(date);
        Some(explanation)
    }

    /// Whether a limit of the configuration holds for a series.
    pub fn has_limit(&self, device: &str, metric: &str) -> bool {
        self.settings.limits.of(metric).iter().any(|bounds| bounds.is_for(device))
    }

    /// Devices whose clocks are wrong, in no order.
    pub fn wrong_clocks(&self) -> impl Iterator<Item = WrongDeviceClock<'_>> {
        let devices = &self.table.devices;
        let watched =
            devices.places().filter_map(move |place| Some((devices.name(place), devices.get(place).clock.as_deref()?)));
        let unwatched = self.unwatched_clocks.clocks.iter().map(|(device, clock)| (device.as_str(), clock));
        let wrong = |(device, clock): (_, &DeviceClock)| {
            clock.wrong().map(|(wrong, heard_ms)| WrongDeviceClock { device, wrong, heard_ms })
        };
        watched.chain(unwatched).filter_map(wrong)
    }

    /// All series that are known, in no order.
    fn series(&self) -> impl Iterator<Item = ListedSeries<'_>> {
        let watched = self.table.range(0..self.table.places()).map(move |(place, _)| {
            let (device, metric) = self.table.name_of(place);
            ListedSeries { device, metric, unwatched: None }
        });
        let unwatched = self.unwatched.iter().map(|series| ListedSeries {
            device: &series.device,
            metric: &series.metric,
            unwatched: Some(series.reason),
        });
        watched.chain(unwatched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::detectors::Findings;
    use crate::detection::monitor::{Arrival, MonitorSettings};
    use crate::reading::{ClockFault, Reading};

    fn judge(monitor: &mut Monitor, metric: &str, value: f64, device_ms: i64, received_at_ms: i64) {
        let arrival = Arrival { now_ms: received_at_ms, publisher: 1 };
        let mut reading = Reading { received_at_ms, ..Reading::at(device_ms, "d", metric, value) };
        let mut place = monitor.locate("d", metric);
        monitor.judge_time(&mut place, &mut reading, arrival);
        monitor.judge_at(place, &reading, arrival, &mut Findings::default());
    }

    /// `metric`, and why it is not watched.
    fn listed(monitor: &Monitor, after: &str, count_max: usize) -> Vec<(String, Option<UnwatchedReason>)> {
        let series = monitor.series_after(("d", after), count_max, |_| true);
        series.iter().map(|it| (it.metric.to_owned(), it.unwatched)).collect()
    }

    #[test]
    fn each_series_is_listed_as_watched_or_with_the_reason_why_not() {
        const NOW_MS: i64 = 2_000_000_000_000;
        let mut monitor = Monitor::new(MonitorSettings { series_max: 2, ..MonitorSettings::default() });
        for (metric, value) in [("x", 1.0), ("gps.lat", 52.0), ("oil_temp", f64::NAN), ("speed", 3.0), ("y", 1.0)] {
            judge(&mut monitor, metric, value, NOW_MS, NOW_MS);
        }
        let of = |metric: &str, reason| (metric.to_owned(), reason);
        let [lat, oil, speed, x, y] = [
            of("gps.lat", Some(UnwatchedReason::Profile)),
            of("oil_temp", Some(UnwatchedReason::Valueless)),
            of("speed", None),
            of("x", None),
            of("y", Some(UnwatchedReason::Crowded)),
        ];
        assert_eq!(listed(&monitor, "", 9), [lat.clone(), oil.clone(), speed.clone(), x.clone(), y.clone()]);
        assert_eq!(listed(&monitor, "", 2), [lat.clone(), oil.clone()]);
        assert_eq!(listed(&monitor, "oil_temp", 2), [speed.clone(), x]);
        assert!(listed(&monitor, "y", 2).is_empty() && listed(&monitor, "", 0).is_empty());
        let unwatched = monitor.series_after(("", ""), 9, |it| it.unwatched.is_some());
        assert_eq!((unwatched.len(), monitor.unwatched_count()), (3, 3));

        monitor.forget_series("d", Some("x"), |_| ());
        judge(&mut monitor, "oil_temp", 80.0, NOW_MS + 1_000, NOW_MS + 1_000);
        assert_eq!(listed(&monitor, "", 9), [lat, of("oil_temp", None), speed, y], "it has a value and a place now");
    }

    #[test]
    fn a_wrong_clock_is_listed_until_it_is_right() {
        const NOW_MS: i64 = 2_000_000_000_000;
        let mut monitor = Monitor::new(MonitorSettings::default());
        let wrong = |monitor: &Monitor| -> Vec<WrongTime> { monitor.wrong_clocks().map(|clock| clock.wrong).collect() };
        // A metric that is not watched: nothing but its clock is known of the device.
        judge(&mut monitor, "lat", 1.0, 188, NOW_MS);
        assert_eq!(wrong(&monitor), [WrongTime { fault: ClockFault::Unset, offset_ms: NOW_MS - 188 }]);
        for second in 0..=11 {
            judge(&mut monitor, "temp", 20.0, NOW_MS + second * 1_000 - 90_000, NOW_MS + second * 1_000);
        }
        assert_eq!(wrong(&monitor), [WrongTime { fault: ClockFault::Behind, offset_ms: 90_000 }]);
        judge(&mut monitor, "temp", 20.0, NOW_MS + 19_990, NOW_MS + 20_000);
        assert!(wrong(&monitor).is_empty(), "it was set");
        judge(&mut monitor, "temp", 20.0, NOW_MS + 7_221_000, NOW_MS + 21_000);
        assert_eq!(wrong(&monitor), [WrongTime { fault: ClockFault::Ahead, offset_ms: -7_200_000 }]);
    }
}
