//! What is watched, how and why, in words: for people who ask the administration interface. Only the pipeline thread knows.

use serde::Serialize;

use super::PipelineLoop;
use crate::clock;
use crate::core::detection::detectors::explanation::Explanation;
use crate::core::detection::detectors::maturity::Maturity;
use crate::core::detection::monitor::{ListedSeries, Monitor, UnwatchedReason};

/// Most entries of each list.
pub const LISTED_MAX: usize = 100;
/// Most series of a page.
pub const PAGE_SERIES: usize = 500;

/// The beginning of each list, in the order of names, and how long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overview {
    pub watched: Vec<SeriesLine>,
    pub watched_total: usize,
    pub unwatched: Vec<SeriesLine>,
    /// Of those that are known by name: 512 at the most.
    pub unwatched_total: usize,
    /// Devices whose newest reading showed that their clock is wrong.
    pub device_clocks: Vec<DeviceClockLine>,
    pub device_clocks_total: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeriesLine {
    pub device: String,
    pub metric: String,
    pub watched: bool,
    pub profile: &'static str,
    /// The word in the metric's name that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_word: Option<String>,
    /// How well it is known, if it is watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maturity: Option<Maturity>,
    /// Whether a `[[limit]]` holds for it, which it does whatever the profile.
    pub limit: bool,
    /// Why it is watched like this, or is not.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceClockLine {
    pub device: String,
    /// `unset`, `ahead` or `behind`, as in its records.
    pub device_clock: &'static str,
    /// Receipt less the device's time: negative if it is ahead.
    pub offset_ms: i64,
    /// How long ago its newest reading came.
    pub heard_s_ago: u64,
}

impl PipelineLoop {
    pub(super) fn overview(&self) -> Overview {
        overview(self.pipeline.monitor(), self.moment().signed_steady_ms())
    }

    /// What has been learned of a series; `None` if it is not watched.
    pub(super) fn explain(&self, device: &str, metric: &str) -> Option<Explanation> {
        self.pipeline.monitor().explain(device, metric, clock::rfc3339)
    }

    /// The series after this device and metric, watched or not.
    pub(super) fn series_after(&self, device: &str, metric: &str) -> Vec<SeriesLine> {
        let monitor = self.pipeline.monitor();
        let series = monitor.series_after((device, metric), PAGE_SERIES, |_| true);
        series.into_iter().map(|series| line(monitor, series)).collect()
    }
}

fn overview(monitor: &Monitor, now_ms: i64) -> Overview {
    let first = |is_watched: bool| -> Vec<SeriesLine> {
        let series = monitor.series_after(("", ""), LISTED_MAX, |it| it.unwatched.is_none() == is_watched);
        series.into_iter().map(|series| line(monitor, series)).collect()
    };
    let mut clocks: Vec<_> = monitor.wrong_clocks().collect();
    clocks.sort_unstable_by_key(|clock| clock.device);
    let clock_lines = clocks.iter().take(LISTED_MAX).map(|clock| DeviceClockLine {
        device: clock.device.to_owned(),
        device_clock: clock.wrong.fault.name(),
        offset_ms: clock.wrong.offset_ms,
        heard_s_ago: u64::try_from(now_ms.saturating_sub(clock.heard_ms) / 1_000).unwrap_or(0),
    });
    Overview {
        watched: first(true),
        watched_total: monitor.series_count(),
        unwatched: first(false),
        unwatched_total: monitor.unwatched_count(),
        device_clocks: clock_lines.collect(),
        device_clocks_total: clocks.len(),
    }
}

fn line(monitor: &Monitor, series: ListedSeries<'_>) -> SeriesLine {
    let ListedSeries { device, metric, unwatched } = series;
    let choice = monitor.profile_choice(metric);
    SeriesLine {
        device: device.to_owned(),
        metric: metric.to_owned(),
        watched: unwatched.is_none(),
        profile: choice.profile,
        profile_word: choice.word.map(str::to_owned),
        maturity: monitor.maturity(device, metric).filter(|_| unwatched.is_none()),
        limit: monitor.has_limit(device, metric),
        reason: match unwatched {
            Some(UnwatchedReason::Crowded) => crowded(monitor.series_max()),
            Some(UnwatchedReason::Valueless) => "none of its readings had a value yet".to_owned(),
            None | Some(UnwatchedReason::Profile) => choice.reason(),
        },
    }
}

fn crowded(series_max: usize) -> String {
    match series_max {
        0 => "detection.series_max is 0".to_owned(),
        _ => format!("{series_max} series are watched already, and detection.series_max allows no more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::detection::detectors::Findings;
    use crate::core::detection::detectors::limit::{Bounds, Limits};
    use crate::core::detection::detectors::profile::{Profile, Profiles, Rule};
    use crate::core::detection::monitor::{Arrival, MonitorSettings};
    use crate::core::reading::Reading;

    const NOW_MS: i64 = 2_000_000_000_000;

    fn monitor(settings: MonitorSettings, metrics: &[&str]) -> Monitor {
        let mut monitor = Monitor::new(settings);
        for metric in metrics {
            let arrival = Arrival { now_ms: 0, publisher: 1 };
            monitor.judge(&Reading::at(NOW_MS, "d", metric, 1.0), arrival, &mut Findings::default());
        }
        monitor
    }

    fn reasons(monitor: &Monitor) -> Vec<String> {
        let Overview { watched, unwatched, .. } = overview(monitor, 0);
        watched.iter().chain(&unwatched).map(|line| format!("{}: {}", line.metric, line.reason)).collect()
    }

    #[test]
    fn what_decided_is_said_in_words() {
        let own = |word: &str, profile| Rule { words: vec![word.to_owned()], profile };
        let profiles = Profiles::new(vec![own("door", Profile::OFF), own("pump", Profile::PLANT)]);
        let limits = Limits::new(vec![("gps.lat".to_owned(), Bounds { high: Some(60.0), ..Bounds::NONE })]);
        let settings = MonitorSettings { series_max: 3, profiles, limits, ..MonitorSettings::default() };
        let monitor = monitor(settings, &["a.oilTemp", "foo", "pump", "door", "gps.lat", "late"]);
        let expected = [
            "a.oilTemp: the word \"temp\" is in its name",
            "foo: no word in its name is known, so it raises warnings at most; a [[profile]] can say more",
            "pump: the word \"pump\" of a [[profile]] is in its name",
            "door: a [[profile]] with the word \"door\" of its name turns it off",
            "gps.lat: the word \"lat\" in its name says that it is a position, a counter or a state; a [[profile]] can watch it",
            "late: 3 series are watched already, and detection.series_max allows no more",
        ];
        assert_eq!(reasons(&monitor), expected);
        let limited: Vec<bool> = overview(&monitor, 0).unwatched.iter().map(|line| line.limit).collect();
        assert_eq!(limited, [false, true, false]);
    }

    #[test]
    fn lists_are_short_however_much_there_is() {
        let metrics: Vec<String> = (0..300).map(|number| format!("m{number:03}")).collect();
        let counters: Vec<String> = (0..300).map(|number| format!("count_{number:03}")).collect();
        let names: Vec<&str> = metrics.iter().chain(&counters).map(String::as_str).collect();
        let found = overview(&monitor(MonitorSettings::default(), &names), 0);
        assert_eq!((found.watched.len(), found.watched_total), (LISTED_MAX, 300));
        assert_eq!((found.unwatched.len(), found.unwatched_total), (LISTED_MAX, 300));
        assert_eq!((found.watched[99].metric.as_str(), found.unwatched[99].metric.as_str()), ("m099", "count_099"));
    }

    #[test]
    fn wrong_clocks_are_listed_with_their_offsets() {
        let mut monitor = Monitor::new(MonitorSettings::default());
        for (device, device_ms) in [("unset", 188), ("fast", NOW_MS + 60_000), ("right", NOW_MS - 1_000)] {
            let mut reading = Reading { received_at_ms: NOW_MS, ..Reading::at(device_ms, device, "temp", 20.0) };
            let mut place = monitor.locate(device, "temp");
            monitor.judge_time(&mut place, &mut reading, Arrival { now_ms: 5_000, publisher: 1 });
        }
        let found = overview(&monitor, 12_000);
        let lines: Vec<_> = found
            .device_clocks
            .iter()
            .map(|it| (it.device.as_str(), it.device_clock, it.offset_ms, it.heard_s_ago))
            .collect();
        assert_eq!(lines, [("fast", "ahead", -60_000, 7), ("unset", "unset", NOW_MS - 188, 7)]);
        assert_eq!(found.device_clocks_total, 2);
    }
}
