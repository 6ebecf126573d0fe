//! Devices with wrong clocks, and others who publish as them: what is broken or rises raises its alert all the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::batch::{Decoder, Stored};
use crate::detection::detectors::limit::{Bounds, Limits};
use crate::detection::monitor::MonitorSettings;

const WALL_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const YEAR_2100_MS: i64 = 4_102_444_800_000;

struct Gateway {
    pipeline: Pipeline,
    steady_ms: u64,
    is_synced: bool,
    /// What the wall clock was at the start.
    wall_ms: i64,
    alerts: BTreeMap<String, serde_json::Value>,
    anomalies: Vec<serde_json::Value>,
    readings: Vec<(i64, i64, Option<DeviceTime>)>,
}

fn monitor_settings() -> MonitorSettings {
    let limits = vec![
        ("temperature".to_owned(), Bounds { high: Some(90.0), ..Bounds::NONE }),
        // Not watched otherwise.
        ("altitude".to_owned(), Bounds { high: Some(90.0), ..Bounds::NONE }),
    ];
    MonitorSettings { limits: Limits::new(limits), ..MonitorSettings::default() }
}

impl Gateway {
    fn start() -> Gateway {
        let mut pipeline = Pipeline::new(
            PipelineSettings { monitor: monitor_settings(), ..PipelineSettings::new("g", RunId([1; 8])) },
            &PerStream::default(),
        );
        pipeline.listen_from(Moment { wall_ms: WALL_MS, steady_ms: 0 });
        Gateway {
            pipeline,
            steady_ms: 0,
            is_synced: true,
            wall_ms: WALL_MS,
            alerts: BTreeMap::new(),
            anomalies: Vec::new(),
            readings: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment { wall_ms: self.wall_ms + self.steady_ms as i64, steady_ms: self.steady_ms }
    }

    fn now_ms(&self) -> i64 {
        self.now().wall_ms
    }

    fn advance(&mut self, ms: u64) {
        for _ in 0..ms / 500 {
            self.steady_ms += 500;
            self.pipeline.watch_own_clock(self.now());
            self.pipeline.tick(self.now());
        }
        self.steady_ms += ms % 500;
        self.collect();
    }

    fn publish(&mut self, publisher: Publisher, metric: &str, value: f64, device_ms: i64) {
        let now = self.now();
        let time_quality = if self.is_synced { TimeQuality::Synced } else { TimeQuality::Unsynced };
        let reading = Reading::at(now.wall_ms, "tank", metric, value);
        let mut readings = Readings::default();
        readings.push(&Reading { measured_at_ms: device_ms, time_quality, ..reading });
        self.pipeline.take_from(&readings, publisher, now);
        self.collect();
    }

    fn collect(&mut self) {
        let sealed = self.pipeline.seal();
        for row in sealed.alerts {
            let name = format!("{}/{}/{}", row.device, row.metric, row.kind);
            let body = row.body.map(|body| serde_json::from_slice(&body).expect("JSON"));
            self.alerts.insert(name, body.unwrap_or_default());
        }
        for batch in sealed.batches {
            for record in Decoder::new(&batch.payload).expect("just encoded") {
                match record.expect("just encoded") {
                    Stored::Reading(reading) => {
                        self.readings.push((reading.measured_at_ms, reading.received_at_ms, reading.device_time));
                    }
                    Stored::Line { line, .. } => {
                        let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
                        if line["type"] == "anomaly" {
                            self.anomalies.push(line);
                        }
                    }
                }
            }
        }
    }

    fn is_raised(&self, alert: &str) -> bool {
        self.alerts.get(alert).is_some_and(|alert| alert["state"] == "raised")
    }
}

const LIMIT: &str = "tank/temperature/limit";
const ANOMALY: &str = "tank/temperature/anomaly";
const SILENCE: &str = "tank/_device/gap";
const CLOCK: &str = "_gateway/clock/gateway";

fn noise(second: i64) -> f64 {
    ((second * 7919) % 5) as f64 / 10.0
}

/// A device by this clock, and an attack: a rise, a broken limit and a silence must raise, whether our own clock is synchronised or not.
fn must_raise(clock: &dyn Fn(i64) -> i64, attack: &dyn Fn(&mut Gateway, i64)) -> Gateway {
    let unsynced = raises(false, clock, attack);
    assert!(!unsynced.alerts.contains_key(CLOCK));
    raises(true, clock, attack)
}

fn raises(is_synced: bool, clock: &dyn Fn(i64) -> i64, attack: &dyn Fn(&mut Gateway, i64)) -> Gateway {
    let mut gateway = Gateway { is_synced, ..Gateway::start() };
    for second in 0..200 {
        let rise = if second < 170 { 0.0 } else { 30.0 };
        gateway.publish(1, "temperature", 20.0 + noise(second) + rise, clock(gateway.now_ms()));
        attack(&mut gateway, second);
        gateway.advance(1_000);
        if second == 169 {
            let early = [LIMIT, ANOMALY].map(|name| gateway.alerts.remove(name));
            assert_eq!(early, [None, None]);
        }
    }
    assert!(gateway.alerts.contains_key(ANOMALY), "{:?}", gateway.alerts);
    gateway.publish(1, "temperature", 95.0, clock(gateway.now_ms()));
    assert!(gateway.is_raised(LIMIT), "{:?}", gateway.alerts);
    gateway.advance(15_000);
    assert!(gateway.is_raised(SILENCE), "{:?}", gateway.alerts);
    gateway
}

fn nobody(_: &mut Gateway, _: i64) {}

#[test]
fn a_device_with_any_clock_raises_what_it_should() {
    let gateway = must_raise(&|now_ms| now_ms, &nobody);
    assert!(!gateway.alerts.contains_key(CLOCK));
    let clocks: [(&str, &dyn Fn(i64) -> i64); 7] = [
        ("tank is not set", &|now_ms| now_ms - WALL_MS),
        ("tank is not set", &|now_ms| now_ms - WALL_MS + 946_684_800_000),
        ("tank is 90 s behind", &|now_ms| now_ms - 90_000),
        ("tank is 5 min behind", &|now_ms| now_ms - 300_000),
        ("tank is 5 h behind", &|now_ms| now_ms - 5 * HOUR_MS),
        ("tank is 58 s ahead", &|now_ms| now_ms + 58_000),
        ("tank is 76 years ahead", &|now_ms| now_ms - WALL_MS + YEAR_2100_MS),
    ];
    for (text, clock) in clocks {
        let gateway = must_raise(clock, &nobody);
        let told = gateway.alerts[CLOCK]["message"].as_str().expect("a text");
        assert!(told.contains(text), "{told}");
    }
}

#[test]
fn a_limit_that_is_broken_from_the_first_reading_on_raises_within_seconds() {
    let seconds_since_boot = |now_ms: i64| now_ms - WALL_MS + 188_000;
    let clocks: [&dyn Fn(i64) -> i64; 5] = [
        &seconds_since_boot,
        &|now_ms| seconds_since_boot(now_ms) + 946_684_800_000,
        &|now_ms| now_ms - 90_000,
        &|now_ms| now_ms - 48 * HOUR_MS,
        &|now_ms| now_ms + HOUR_MS,
    ];
    for (at, clock) in clocks.iter().enumerate() {
        let mut gateway = Gateway::start();
        for _ in 0..12 {
            gateway.publish(1, "temperature", 95.0, clock(gateway.now_ms()));
            gateway.advance(1_000);
        }
        assert!(gateway.is_raised(LIMIT), "clock {at}: {:?}", gateway.alerts);
        assert_eq!(gateway.pipeline.monitor().wrong_clocks().count(), 1, "clock {at}");
    }
}

#[test]
fn nobody_mutes_a_device_by_what_he_says_of_the_time() {
    for clock_ms in [0, -HOUR_MS] {
        let clock = |now_ms: i64| now_ms + clock_ms;
        must_raise(&clock, &|gateway, second| {
            if second % 20 == 0 {
                gateway.publish(2, "temperature", 20.1, gateway.now_ms() + 58_000);
            }
        });
        must_raise(&clock, &|gateway, second| {
            if second == 160 {
                gateway.publish(2, "temperature", 20.1, YEAR_2100_MS);
                gateway.publish(2, "temperature", 20.1, YEAR_2100_MS + 1_000);
            }
        });
        must_raise(&clock, &|gateway, second| {
            if second < 190 {
                gateway.publish(2, "temperature", 20.1, gateway.now_ms() + 4_900);
            }
        });
        must_raise(&clock, &|gateway, second| {
            gateway.publish(2, "temperature", 20.1, gateway.now_ms() - 1_000 * (90 + 100 * (second % 3)));
        });
    }
}

/// After a minute of silence a series wants two readings that agree.
#[test]
fn what_comes_late_keeps_nobody_from_being_heard_again() {
    let mut gateway = Gateway::start();
    for second in 0..120 {
        gateway.publish(1, "temperature", 20.0 + noise(second), gateway.now_ms());
        gateway.advance(1_000);
    }
    gateway.advance(600_000);
    for second in 0..20 {
        gateway.publish(1, "temperature", 50.0 + noise(second), gateway.now_ms());
        gateway.publish(2, "temperature", 20.0, gateway.now_ms() - 300_000);
        gateway.advance(1_000);
    }
    assert!(gateway.is_raised(ANOMALY), "{:?}", gateway.alerts);
}

#[test]
fn a_limit_of_what_is_not_watched_is_not_muted_either() {
    let mut gateway = Gateway::start();
    for _ in 0..12 {
        gateway.publish(1, "altitude", 20.0, gateway.now_ms() - HOUR_MS);
        gateway.advance(1_000);
    }
    assert_eq!(gateway.pipeline.monitor().series_count(), 0);
    gateway.publish(1, "altitude", 95.0, gateway.now_ms() - HOUR_MS);
    assert!(gateway.is_raised("tank/altitude/limit"));
}

#[test]
fn a_reading_without_a_time_says_nothing_of_the_clock() {
    let mut gateway = Gateway::start();
    for second in 0..30 {
        gateway.publish(1, "temperature", 20.0 + noise(second), gateway.now_ms() - HOUR_MS);
        gateway.publish(1, "door", 1.0, gateway.now_ms());
        gateway.advance(1_000);
    }
    gateway.publish(1, "temperature", 95.0, gateway.now_ms() - HOUR_MS);
    assert!(gateway.is_raised(LIMIT));
}

#[test]
fn history_raises_nothing_and_its_records_say_that_it_is_late() {
    let mut gateway = Gateway::start();
    for n in 0..600 {
        let device_ms = WALL_MS - 700_000 + n * 1_000;
        gateway.publish(1, "temperature", if n == 500 { 95.0 } else { 20.0 + noise(n) }, device_ms);
        gateway.steady_ms += 2;
    }
    assert!(gateway.alerts.is_empty() && gateway.anomalies.iter().all(|record| record["late"] == true));
    assert!(!gateway.anomalies.is_empty() && gateway.readings.is_sorted_by_key(|reading| reading.0));
    gateway.publish(1, "temperature", 95.0, gateway.now_ms());
    assert!(gateway.is_raised(LIMIT));
}

#[test]
fn records_say_what_the_device_said() {
    let mut gateway = Gateway::start();
    for second in 0..12 {
        gateway.publish(1, "temperature", if second == 11 { 95.0 } else { 20.0 }, gateway.now_ms() - HOUR_MS);
        gateway.advance(1_000);
    }
    let said_ms = WALL_MS + 11_000 - HOUR_MS;
    let behind = DeviceTime { fault: ClockFault::Behind, device_ms: said_ms };
    assert_eq!(gateway.readings.last(), Some(&(WALL_MS + 11_000, WALL_MS + 11_000, Some(behind))));
    let record = gateway.anomalies.last().expect("an anomaly");
    assert_eq!((&record["device_clock"], &record["device_time_ms"]), (&"behind".into(), &said_ms.into()));
    assert_eq!((&record["measured_at_ms"], &record["late"]), (&(WALL_MS + 11_000).into(), &false.into()));
}

/// Stopped with a snapshot and started again, or replayed from what is stored: whether a limit that is broken at once raises.
fn raises_after_a_start(with_snapshot: bool, with_replay: bool) -> bool {
    let mut gateway = Gateway::start();
    for second in 0..60 {
        gateway.publish(1, "temperature", 20.0 + noise(second), gateway.now_ms() - HOUR_MS);
        gateway.advance(1_000);
    }
    gateway.pipeline.request_final_snapshot();
    let chunks = gateway.pipeline.seal().snapshot;
    let mut next = Gateway::start();
    next.steady_ms = 100_000;
    if with_snapshot {
        chunks.iter().for_each(|chunk| _ = next.pipeline.restore(&chunk.state, next.now()).expect("ours"));
    }
    for &(measured_at_ms, received_at_ms, device_time) in gateway.readings.iter().filter(|_| with_replay) {
        let reading = Reading::at(received_at_ms, "tank", "temperature", 20.0);
        next.pipeline.replay(&Reading { measured_at_ms, device_time, ..reading }, true, false, next.now());
    }
    next.publish(5, "temperature", 95.0, next.now_ms() - HOUR_MS);
    next.is_raised(LIMIT)
}

#[test]
fn a_clock_is_known_over_a_restart() {
    assert!(raises_after_a_start(true, false));
    assert!(raises_after_a_start(false, true));
    assert!(!raises_after_a_start(false, false), "it takes ten seconds to be known");
}

#[test]
fn a_wrong_clock_is_told_once_and_when_it_is_right_again() {
    let mut gateway = Gateway::start();
    for _ in 0..300 {
        gateway.publish(1, "temperature", 20.0, gateway.now_ms() + 58_000);
        gateway.advance(1_000);
    }
    assert!(gateway.is_raised(CLOCK));
    let wrong = ClockNotice { device: "tank".into(), fault: Some(ClockFault::Ahead), offset_ms: Some(-58_000) };
    assert_eq!(gateway.pipeline.take_clock_notices(), [wrong]);
    for _ in 0..70 {
        gateway.publish(1, "temperature", 20.0, gateway.now_ms() - 10);
        gateway.advance(1_000);
    }
    assert!(!gateway.is_raised(CLOCK), "{:?}", gateway.alerts[CLOCK]);
    let right = ClockNotice { device: "tank".into(), fault: None, offset_ms: None };
    assert_eq!(gateway.pipeline.take_clock_notices(), [right]);
}

#[test]
fn our_own_clock_that_is_set_is_told() {
    let mut gateway = Gateway::start();
    gateway.advance(60_000);
    assert!(!gateway.alerts.contains_key(CLOCK));
    gateway.wall_ms += HOUR_MS;
    gateway.advance(1_000);
    let told = gateway.alerts[CLOCK]["message"].as_str().expect("a text");
    assert!(told.contains("set forward by 60 min"), "{told}");
    gateway.advance(60_000);
    assert!(!gateway.is_raised(CLOCK));
}

#[test]
fn an_unsynchronised_gateway_receives_nothing_before_what_it_has() {
    let mut gateway = Gateway::start();
    gateway.pipeline.received_until(WALL_MS);
    (gateway.is_synced, gateway.wall_ms) = (false, 1_000_000);
    for second in 0..60 {
        // One with a clock that it has from elsewhere, one with none.
        gateway.publish(1, "temperature", 20.0, YEAR_2100_MS + second * 1_000);
        gateway.publish(1, "humidity", 20.0, gateway.now_ms());
        gateway.advance(1_000);
    }
    for (second, pair) in (0..).zip(gateway.readings.chunks(2)) {
        let received_ms = WALL_MS + second * 1_000;
        let expected = [(YEAR_2100_MS + second * 1_000, received_ms, None), (received_ms, received_ms, None)];
        assert_eq!(pair, expected);
    }
    gateway.publish(1, "temperature", 95.0, YEAR_2100_MS + 60_000);
    assert!(gateway.is_raised(LIMIT) && !gateway.alerts.contains_key(CLOCK));
}

#[test]
fn sessions_that_hand_over_side_by_side_do_not_hasten_an_unsynchronised_clock() {
    let mut receipts = Receipts { newest_ms: WALL_MS, ..Receipts::default() };
    for n in 0..100_000 {
        let mut reading = Reading::at(n - n % 3 * 7, "a", "b", 1.0);
        reading.time_quality = TimeQuality::Unsynced;
        receipts.correct(&mut reading);
        assert!((-20..=30).contains(&(reading.received_at_ms - WALL_MS - n)), "{n}: {reading:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever others say as this device, and whatever it said itself by a clock that was wrong.
    #[test]
    fn a_limit_that_a_live_reading_breaks_always_raises(
        before in prop::collection::vec((1u64..4, 0u64..5_000, prop_oneof![
            3 => Just(0i64), 2 => -70_000i64..70_000, 1 => Just(HOUR_MS), 1 => Just(-HOUR_MS), 1 => Just(YEAR_2100_MS - WALL_MS),
            1 => Just(-WALL_MS),
        ]), 0..100),
        delay_ms in -5_000i64..=60_000,
        publisher in 3u64..6,
    ) {
        let mut gateway = Gateway::start();
        for (publisher, step_ms, offset_ms) in before {
            gateway.publish(publisher.min(2), "temperature", 20.0, gateway.now_ms() + offset_ms);
            gateway.advance(step_ms);
        }
        gateway.publish(publisher, "temperature", 95.0, gateway.now_ms() - delay_ms);
        prop_assert!(gateway.is_raised(LIMIT));
    }
}
