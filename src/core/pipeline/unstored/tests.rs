use super::*;
use crate::batch::{Decoder, Stored};
use crate::detection::detectors::limit::{Bounds, Limits};
use crate::detection::monitor::MonitorSettings;
use crate::reading::Reading;

const METRIC: &str = "level";

fn pipeline() -> Pipeline {
    let limits = Limits::new(vec![(METRIC.to_owned(), Bounds { high: Some(10.0), ..Bounds::NONE })]);
    Pipeline::new(
        PipelineSettings {
            monitor: MonitorSettings { limits, ..MonitorSettings::default() },
            ..PipelineSettings::new("g", RunId([1; 8]))
        },
        &PerStream::default(),
    )
}

const START_MS: i64 = 1_700_000_000_000;

fn moment(seconds: u64) -> Moment {
    Moment { wall_ms: START_MS + 1000 * seconds as i64, steady_ms: 1000 * seconds }
}

/// Measured a second before it comes for the first time, unless its device has no clock.
#[derive(Clone, Copy)]
struct Sent {
    device: &'static str,
    value: f64,
    second: u64,
    sequence: Option<u64>,
    has_time: bool,
}

impl Sent {
    fn readings(self, now: Moment) -> Readings {
        let measured_at_ms = if self.has_time { moment(self.second).wall_ms - 1000 } else { now.wall_ms };
        let mut readings = Readings::default();
        readings.push(&Reading {
            measured_at_ms,
            sequence: self.sequence,
            ..Reading::at(now.wall_ms, self.device, METRIC, self.value)
        });
        readings
    }
}

const HIGH: Sent = Sent { device: "tank", value: 11.0, second: 1, sequence: None, has_time: true };

fn bodies(rows: &[AlertRow]) -> Vec<serde_json::Value> {
    rows.iter().filter_map(|row| row.body.as_deref()).map(|body| serde_json::from_slice(body).expect("JSON")).collect()
}

#[test]
fn what_cannot_be_stored_is_judged_and_gets_no_position() {
    let mut pipeline = pipeline();
    pipeline.set_storing(Storing::AllButReadings, moment(1));
    pipeline.judge_unstored(&HIGH.readings(moment(1)), 1, true, moment(1));
    let unstored = bodies(&pipeline.take_unstored_alerts());
    assert_eq!(unstored.len(), 1);
    assert_eq!((&unstored[0]["state"], &unstored[0]["position"]), (&"raised".into(), &serde_json::Value::Null));
    assert_eq!((pipeline.open_count(), pipeline.raised_unstored()), (0, 1));
    assert!(pipeline.open_alerts().is_empty());

    // It is stored, as it stands, when there is room again; and so is the reading, which is judged no second time.
    pipeline.set_storing(Storing::Everything, moment(3));
    pipeline.take_from(&HIGH.readings(moment(4)), 2, moment(4));
    assert!(pipeline.take_unstored_alerts().is_empty());
    let sealed = pipeline.seal();
    let stored = bodies(&sealed.alerts);
    assert_eq!(stored.len(), 1);
    for field in ["id", "revision", "count"] {
        assert_eq!(stored[0][field], unstored[0][field], "{field}");
    }
    assert_eq!((&stored[0]["position"], &stored[0]["count"]), (&1.into(), &1.into()));
    let raw = sealed.of(Stream::RAW).next().expect("the reading");
    assert_eq!((raw.first_position, raw.count), (1, 1));
    let of_the_second: Vec<Stored<'_>> = Decoder::new(&sealed.of(Stream::ANOMALIES).next().expect("the alert").payload)
        .expect("whole")
        .map(Result::unwrap)
        .collect();
    assert_eq!(of_the_second.len(), 1, "the alert's record and no anomaly");
    assert_eq!(sealed.received, [("accepted", 1), ("refused", 1), ("raised_unstored", 1)]);
}

/// The count of the alert after a reading has come three times while it could not be stored, and once when it could.
fn count_after_repeats(sent: Sent) -> serde_json::Value {
    let mut pipeline = pipeline();
    pipeline.set_storing(Storing::Nothing, moment(1));
    // The repeats are far enough apart for the window to have forgotten.
    for second in [1, 20, 40] {
        pipeline.judge_unstored(&sent.readings(moment(second)), 1, true, moment(second));
    }
    pipeline.set_storing(Storing::Everything, moment(50));
    pipeline.take_from(&sent.readings(moment(50)), 1, moment(50));
    pipeline.judge_unstored(&Sent { value: 1e6, second: 60, ..HIGH }.readings(moment(60)), 1, false, moment(60));
    let last = bodies(&pipeline.take_unstored_alerts()).pop().expect("it went on");
    last["count"].clone()
}

#[test]
fn a_repeat_is_known_by_its_time_or_its_sequence() {
    assert_eq!(count_after_repeats(HIGH), 2);
    assert_eq!(count_after_repeats(Sent { sequence: Some(7), has_time: false, ..HIGH }), 2);
    // The control: without either there is no telling.
    assert_eq!(count_after_repeats(Sent { has_time: false, ..HIGH }), 5);
}

#[test]
fn a_repeat_of_what_was_stored_breaks_no_limit_again() {
    let mut pipeline = pipeline();
    pipeline.take_from(&HIGH.readings(moment(1)), 1, moment(1));
    pipeline.take_from(&HIGH.readings(moment(3)), 2, moment(3));
    assert_eq!(pipeline.flagged(), 1);
    // The control: another value of that time is another reading.
    pipeline.take_from(&Sent { value: 12.0, ..HIGH }.readings(moment(4)), 2, moment(4));
    assert_eq!(pipeline.flagged(), 2);
}

#[test]
fn nothing_grows_while_nothing_can_be_stored() {
    let mut pipeline = pipeline();
    pipeline.set_storing(Storing::Nothing, moment(0));
    let mut second = 0;
    for n in 0..12_000_u64 {
        second = n / 100;
        let now = moment(second);
        let mut readings = Readings::default();
        let device = format!("d{n}");
        readings.push(&Reading { sequence: Some(n), ..Reading::at(now.wall_ms, &device, METRIC, 11.0) });
        pipeline.judge_unstored(&readings, 1, true, now);
        if n % 1000 == 0 {
            pipeline.tick(now);
            pipeline.gateway_record(b"}\n", now);
            pipeline.report(&Report::new(alert::Trouble::Disk, "hangs"), now);
        }
        pipeline.take_unstored_alerts();
    }
    assert_eq!(pipeline.open_count(), 0);
    assert!(pipeline.open_alerts().is_empty());
    for identity in 0..70_000 {
        pipeline.unstored.judged.note(identity);
    }
    let Judged { known, order } = &pipeline.unstored.judged;
    assert!(known.len() <= JUDGED_MAX && order.len() <= JUDGED_MAX);
    assert!(pipeline.raised_unstored() > 1_000, "{}", pipeline.raised_unstored());

    // Alerts that come and go, for as long as it takes.
    for n in 0..25_000 {
        let key = AlertKey { device: format!("gone{n}"), metric: METRIC.to_owned(), kind: "limit".to_owned() };
        pipeline.publish_unstored(key, None);
        pipeline.take_unstored_alerts();
        assert!(pipeline.unstored.alerts.len() <= ALERTS_DIFFERING_MAX);
    }
    pipeline.set_storing(Storing::Everything, moment(second));
    let there = pipeline.seal().alerts.iter().filter(|row| row.body.is_some()).count();
    // Those of the gateway itself have no bound but their number.
    assert!((1_000..ALERTS_MAX + 10).contains(&there), "{there}");

    pipeline.tick(moment(second + COME_AGAIN_MS / 1000 + 1));
    assert!(pipeline.unstored.judged.known.is_empty(), "nobody sends them any more");
}

#[test]
fn the_gateways_own_record_is_shown_and_not_kept() {
    let mut pipeline = pipeline();
    let position = |pipeline: &mut Pipeline| {
        let record = pipeline.gateway_record(b",\"state\":\"x\"}\n", moment(1));
        serde_json::from_slice::<serde_json::Value>(&record).expect("JSON")["position"].clone()
    };
    assert_eq!(position(&mut pipeline), 1);
    pipeline.set_storing(Storing::Nothing, moment(1));
    assert_eq!((position(&mut pipeline), pipeline.open_count()), (serde_json::Value::Null, 1));
    pipeline.set_storing(Storing::AllButReadings, moment(1));
    assert_eq!(position(&mut pipeline), 2);
}

#[test]
fn an_alert_that_the_store_has_is_cleared_in_it_later() {
    let mut pipeline = pipeline();
    pipeline.take_from(&HIGH.readings(moment(1)), 1, moment(1));
    assert_eq!(bodies(&pipeline.seal().alerts).len(), 1);
    pipeline.set_storing(Storing::Nothing, moment(2));
    for second in 2..40 {
        let good = Sent { value: 5.0, second, ..HIGH };
        pipeline.judge_unstored(&good.readings(moment(second)), 1, true, moment(second));
    }
    let unstored = bodies(&pipeline.take_unstored_alerts());
    assert!(unstored.iter().any(|alert| alert["state"] == "cleared"), "{unstored:?}");
    pipeline.set_storing(Storing::Everything, moment(40));
    assert!(bodies(&pipeline.seal().alerts).iter().any(|alert| alert["state"] == "cleared"));
}
