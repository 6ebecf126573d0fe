//! The gateway's clock is simulated: half a second a tick, as the pipeline's thread does.

mod silence;

use std::collections::BTreeMap;

use firmware_sim::vehicle::{Metric, Vehicle};

use super::*;
use crate::batch::{Decoder, Stored};
use crate::detection::alert::ALERTS_VERSION;
use crate::detection::detectors::limit::{Bounds, Limits};
use crate::detection::detectors::profile::{Profile, Profiles, Rule};
use crate::detection::monitor::MonitorSettings;

struct Gateway {
    pipeline: Pipeline,
    /// Since its start, and what the wall says then.
    steady_ms: u64,
    start_wall_ms: i64,
    alerts: BTreeMap<String, String>,
    raised: Vec<String>,
    /// Lines of the anomalous stream that are about a reading or a gap.
    flagged: usize,
    chunks: Vec<SnapshotChunk>,
}

fn pipeline(run: u8, monitor: MonitorSettings) -> Pipeline {
    Pipeline::new(PipelineSettings { monitor, ..PipelineSettings::new("g", RunId([run; 8])) }, &PerStream::default())
}

impl Gateway {
    fn start(start_wall_ms: i64) -> Gateway {
        let mut pipeline = pipeline(1, MonitorSettings::default());
        pipeline.listen_from(Moment { wall_ms: start_wall_ms, steady_ms: 0 });
        Gateway {
            pipeline,
            steady_ms: 0,
            start_wall_ms,
            alerts: BTreeMap::new(),
            raised: Vec::new(),
            flagged: 0,
            chunks: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment { wall_ms: self.start_wall_ms + self.steady_ms as i64, steady_ms: self.steady_ms }
    }

    fn advance(&mut self, seconds: u64) {
        for _ in 0..2 * seconds {
            self.steady_ms += 500;
            self.pipeline.tick(self.now());
            self.collect();
        }
    }

    fn publish(&mut self, publisher: Publisher, device: &str, metric: &str, value: f64) {
        let now = self.now();
        let mut readings = Readings::default();
        readings.push(&Reading::at(now.wall_ms, device, metric, value));
        self.pipeline.take_from(&readings, publisher, now);
        self.collect();
    }

    /// Takes note of all that a commit would make durable.
    fn collect(&mut self) {
        let sealed = self.pipeline.seal();
        for row in sealed.alerts {
            let name = format!("{}/{}/{}", row.device, row.metric, row.kind);
            let Some(body) = row.body else {
                self.alerts.remove(&name);
                continue;
            };
            let body = String::from_utf8(body).expect("JSON");
            if body.contains("\"revision\":1,") {
                self.raised.push(name.clone());
            }
            self.alerts.insert(name, body);
        }
        for record in sealed
            .batches
            .iter()
            .filter(|batch| batch.stream == Stream::ANOMALIES)
            .flat_map(|batch| Decoder::new(&batch.payload).expect("a batch of ours"))
        {
            let Ok(Stored::Line { line, .. }) = record else { panic!("a line") };
            let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            if line["type"] == "anomaly" {
                assert_eq!(line["raw_position"].is_null(), line["detector"] == "gap");
                self.flagged += 1;
            }
        }
        self.chunks.extend(sealed.snapshot);
    }

    /// Stopped with a snapshot, off for a while, and started again.
    fn restart(&mut self, off_ms: i64) {
        self.chunks.clear();
        self.pipeline.request_final_snapshot();
        self.collect();
        self.start_wall_ms = self.now().wall_ms + off_ms;
        self.steady_ms = 0;
        self.pipeline = pipeline(2, MonitorSettings::default());
        let now = self.now();
        self.pipeline.listen_from(now);
        for chunk in &self.chunks {
            self.pipeline.restore(&chunk.state, now).expect("a snapshot of ours");
        }
        for body in self.alerts.values() {
            let (key, alert) = alert::read_alert(body.as_bytes()).expect("an alert of ours");
            self.pipeline.restore_alert(key, alert, now);
        }
        self.pipeline.end_recovery();
    }

    fn raised_of(&self, kind: &str) -> usize {
        self.raised.iter().filter(|name| name.ends_with(kind)).count()
    }
}

const METRICS: [&str; 5] = ["engine_temp", "oil_pressure", "speed", "lat", "vibration"];
const DEVICES: u64 = 200;
const WALL_MS: i64 = 1_700_000_000_000;

/// All devices publish all their metrics once a second.
fn drive(gateway: &mut Gateway, devices: std::ops::Range<u64>, seconds: u64) {
    for second in 0..seconds {
        for device in devices.clone() {
            for (at, metric) in METRICS.iter().enumerate() {
                let value = 20.0 + ((second * 7919 + device + at as u64) % 5) as f64 / 10.0;
                gateway.publish(device + 1, &format!("d{device}"), metric, value);
            }
        }
        gateway.advance(1);
    }
}

#[test]
fn healthy_vehicles_raise_nothing() {
    for number in 1..=6 {
        let vehicle = Vehicle::new(11, number, 1.0);
        let mut gateway = Gateway::start(WALL_MS);
        for second in 0..7_200 {
            for metric in [Metric::EngineTemperature, Metric::ContainerTemperature, Metric::Speed] {
                gateway.publish(1, "truck", metric.name(), vehicle.value(metric, second));
            }
            // Changes gear with the speed, as a truck's does.
            let speed = vehicle.value(Metric::Speed, second);
            let ratio = if speed < 58.0 {
                31.0
            } else if speed < 68.0 {
                26.0
            } else {
                22.0
            };
            gateway.publish(1, "truck", "rpm", (speed * ratio).round());
            gateway.advance(1);
        }
        assert_eq!(gateway.raised, Vec::<String>::new(), "vehicle {number}");
    }
}

#[test]
fn two_series_of_a_device_in_trouble_are_worse_than_one_once_they_are_known() {
    let raised = |both: bool, is_known: bool, value: f64| {
        let mut gateway = Gateway::start(WALL_MS);
        drive(&mut gateway, 0..1, 660);
        if is_known {
            gateway.pipeline.monitor.make_known();
        }
        if both {
            gateway.publish(1, "d0", "oil_pressure", 30.0);
        }
        gateway.publish(1, "d0", "engine_temp", value);
        let body = gateway.alerts.remove("d0/engine_temp/anomaly").expect("raised");
        let alert = alert::read_alert(body.as_bytes()).expect("an alert").1;
        assert!(both || gateway.raised.len() == 1);
        (alert.severity, alert.maturity)
    };
    let [known, learning] = [Maturity::Known, Maturity::Learning].map(Some);
    let (alone, in_company) = (raised(false, true, 22.5), raised(true, true, 22.5));
    assert_eq!((in_company.0, in_company.1, alone.1), (alone.0.worse(), known, known));
    assert_ne!(in_company, alone);
    for both in [false, true] {
        let (severity, maturity) = raised(both, false, 22.5);
        assert!(severity <= Severity::Minor && maturity == learning, "{both}: {severity:?}, {maturity:?}");
    }
    assert_eq!(raised(false, false, 400.0), (Severity::Critical, learning), "no learned signal would do that");
}

/// Of a metric that nothing is known of; a limit that was set is meant, unless it was also said how severe it may be.
#[test]
fn a_limit_that_was_set_is_as_severe_as_was_said() {
    let severity = |value: f64, has_limit: bool, own: Option<Severity>| {
        let bounds = Bounds { high: Some(10.0), severity: Severity::Critical, ..Bounds::NONE };
        let limits = Limits::new(has_limit.then(|| ("vibration".to_owned(), bounds)).into_iter().collect());
        let rule = |severity_max| Rule {
            words: vec!["vibration".to_owned()],
            profile: Profile { severity_max, set_limit_severity_max: severity_max, ..Profile::GENERIC },
        };
        let profiles = Profiles::new(own.map(rule).into_iter().collect());
        let mut gateway = Gateway::start(WALL_MS);
        gateway.pipeline = pipeline(1, MonitorSettings { limits, profiles, ..MonitorSettings::default() });
        gateway.publish(1, "d", "vibration", value);
        let body = gateway.alerts.remove("d/vibration/limit").expect("raised");
        alert::read_alert(body.as_bytes()).expect("an alert").1.severity
    };
    assert_eq!(severity(60.0, true, None), Severity::Critical);
    assert_eq!(severity(11.0, true, None), Severity::Critical);
    assert_eq!(severity(60.0, true, Some(Severity::Minor)), Severity::Minor);
    assert_eq!(severity(f64::INFINITY, false, None), Severity::Warning, "nobody set that");
}

#[test]
fn more_series_than_are_watched_are_one_alert_that_clears() {
    let mut gateway = Gateway::start(WALL_MS);
    gateway.pipeline = pipeline(1, MonitorSettings { series_max: 3, ..MonitorSettings::default() });
    for _ in 0..90 {
        (0..6).for_each(|device| gateway.publish(1, &format!("d{device}"), "temp", 20.0));
        gateway.advance(1);
    }
    assert_eq!(gateway.raised, ["_gateway/series/gateway"]);
    let alert = gateway.alerts["_gateway/series/gateway"].clone();
    assert!(alert.contains("there are more than 3 series"), "{alert}");
    assert_eq!(gateway.pipeline.monitor().over_cap_readings(), 270);
    for _ in 0..95 {
        (0..3).for_each(|device| gateway.publish(1, &format!("d{device}"), "temp", 20.0));
        gateway.advance(1);
    }
    let alert = &gateway.alerts["_gateway/series/gateway"];
    assert!(
        alert.contains("\"state\":\"cleared\"") && alert.contains("resolved: there are more than 3 series"),
        "{alert}"
    );
    assert_eq!(gateway.raised.len(), 1);
}

/// Something that moves a little, each second anew.
fn around(level: f64, second: u64) -> f64 {
    level + 0.1 * ((second * 7_919 % 13) as f64 - 6.0) / 6.0
}

#[test]
fn after_a_long_silence_the_same_trouble_is_not_called_normal() {
    let mut gateway = Gateway::start(WALL_MS);
    let run = |gateway: &mut Gateway, level: f64, seconds: u64| {
        for second in 0..seconds {
            gateway.publish(1, "truck", "engine_temp", around(level, second));
            gateway.advance(1);
        }
    };
    let told = |gateway: &Gateway| gateway.alerts["truck/engine_temp/anomaly"].clone();
    run(&mut gateway, 90.0, 900);
    assert_eq!(gateway.raised_of("anomaly"), 0);
    run(&mut gateway, 120.0, 20);
    gateway.advance(360);
    assert!(told(&gateway).contains("\"stale\":true"), "{}", told(&gateway));
    run(&mut gateway, 120.0, 45);
    assert!(told(&gateway).contains("\"state\":\"raised\""), "there is no level yet: {}", told(&gateway));
    run(&mut gateway, 120.0, 14);
    let alert = told(&gateway);
    assert!(alert.contains("\"state\":\"cleared\"") && alert.contains("engine_temp of truck stays at 1"), "{alert}");
    assert_eq!(gateway.raised_of("anomaly"), 1);
}

#[test]
fn the_alert_of_a_series_that_gives_way_is_cleared() {
    let mut gateway = Gateway::start(WALL_MS);
    gateway.pipeline = pipeline(1, MonitorSettings { series_max: 3, ..MonitorSettings::default() });
    let run = |gateway: &mut Gateway, level: f64, seconds: u64| {
        for second in 0..seconds {
            (0..3).for_each(|n| gateway.publish(1, &format!("d{n}"), "temp", around(level, second)));
            gateway.advance(1);
        }
    };
    run(&mut gateway, 20.0, 900);
    run(&mut gateway, 60.0, 20);
    assert_eq!(gateway.raised_of("anomaly"), 3);
    // Two clients share what one had.
    gateway.publish(2, "newcomer", "temp", 20.0);
    gateway.advance(1);
    assert_eq!(gateway.pipeline.monitor().displaced_series(), 1);
    let cleared: Vec<&String> =
        gateway.alerts.values().filter(|alert| alert.contains("\"cleared_reason\":\"displaced\"")).collect();
    assert_eq!(cleared.len(), 1, "{:?}", gateway.alerts);
    assert!(cleared[0].contains("too many alerts or series"), "{}", cleared[0]);
}

#[test]
fn series_that_come_during_a_snapshot_do_not_cost_it_the_alerts() {
    let mut gateway = Gateway::start(WALL_MS);
    gateway.publish(1, "truck", "temp", f64::NAN);
    gateway.publish(1, "truck", "oil_temp", 20.0);
    assert_eq!(gateway.pipeline.monitor().snapshot_chunks(), 1);
    // The round begins, and its first part is sealed.
    gateway.chunks.clear();
    gateway.pipeline.tick(gateway.now());
    gateway.pipeline.begin_snapshot();
    for n in 0..crate::detection::monitor::CHUNK_SERIES {
        let now = gateway.now();
        let mut readings = Readings::default();
        readings.push(&Reading::at(now.wall_ms, "truck", &format!("m{n}"), 1.0));
        gateway.pipeline.take_from(&readings, 1, now);
    }
    assert_eq!(gateway.pipeline.monitor().snapshot_chunks(), 2);
    gateway.collect();
    gateway.collect();
    assert!(!gateway.pipeline.is_snapshot_open());
    let parts: Vec<u8> = gateway.chunks.iter().map(|chunk| chunk.state[0]).collect();
    assert_eq!((parts.len(), parts.first()), (2, Some(&ALERTS_VERSION)));
}

#[test]
fn one_reading_of_a_sensor_that_has_just_powered_up_wakes_nobody() {
    for (value, other, is_page) in [(85.0, 25.0, false), (85.0, 85.0, true), (84.0, 25.0, true)] {
        let mut gateway = Gateway::start(WALL_MS);
        let noise = |second: u64| (second * 7919 % 5) as f64 / 10.0;
        for second in 0..600 {
            gateway.publish(1, "probe", "temperature", 25.0 + noise(second));
            gateway.advance(1);
        }
        gateway.publish(1, "probe", "temperature", value);
        let mut bodies: Vec<String> = gateway.alerts.values().cloned().collect();
        for second in 600..660 {
            gateway.advance(1);
            gateway.publish(1, "probe", "temperature", other + noise(second) * f64::from(u8::from(other < 85.0)));
            bodies.extend(gateway.alerts.values().cloned());
        }
        let is_grave = |body: &String| ["\"major\"", "\"critical\""].iter().any(|severity| body.contains(severity));
        assert_eq!(bodies.iter().any(is_grave), is_page, "{value} between {other}: {bodies:?}");
        assert!(gateway.flagged > 0, "recorded all the same");
    }
}
