//! Devices with wrong clocks, and other clients that publish in their name: an exceeded limit and a rise raise their alerts all the same,
//! whether the system's clock is synchronised or not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::archive;
use crate::client::Client;
use crate::gateway::{configured_settings, wait_until};
use crate::in_process::InProcess;

const HOUR_MS: i64 = 3_600_000;
const YEAR_2000_MS: i64 = 946_684_800_000;
const YEAR_2100_MS: i64 = 4_102_444_800_000;

fn now_ms() -> i64 {
    outrider::gateway::now_ms()
}

struct Site {
    folder: tempfile::TempDir,
    gateway: InProcess,
    driver: Client,
    tank: Client,
    other: Client,
}

impl Site {
    /// A tank with four minutes of history by a clock that is right, or off by this much.
    fn start(is_synchronised: fn() -> bool, off_ms: i64) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[limit]]\nmetric = 'temperature'\nmax = 90\n";
        let limits = configured_settings(&folder.path().join("state"), text).monitor.limits;
        let gateway = InProcess::start(folder.path(), |settings| {
            settings.is_synchronised = is_synchronised;
            settings.monitor.limits = limits;
        });
        let mut driver = Client::connect(gateway.mqtt, "driver");
        driver.subscribe(&[("alerts/tank/#", 1)]);
        let mut tank = Client::connect(gateway.mqtt, "tank");
        let other = Client::connect(gateway.mqtt, "other");
        let start_ms = now_ms() + off_ms - 240_000;
        let item = |n: i64| json!({"value": usual(n), "ts_ms": start_ms + n * 1_000});
        tank.publish("devices/tank/temperature", json!((0..240).map(item).collect::<Vec<_>>()).to_string());
        Site { folder, gateway, driver, tank, other }
    }

    /// Publishes a reading with this time.
    fn measure(&mut self, value: f64, ts_ms: i64) {
        self.tank.publish("devices/tank/temperature", json!({"value": value, "ts_ms": ts_ms}).to_string());
    }

    /// Another client publishes a reading of the tank with this time.
    fn claim(&mut self, ts_ms: i64) {
        self.other.publish("devices/tank/temperature", json!({"value": 20.1, "ts_ms": ts_ms}).to_string());
    }

    /// Publishes as a device does: a reading every half second, for this long by its clock.
    fn live(&mut self, off_ms: i64, seconds: i64) {
        let end_ms = now_ms() + seconds * 1_000;
        self.live_until(off_ms, |next_ms, _| next_ms > end_ms);
    }

    /// The same until its clock is known: for long enough without a delay that could be a change of its offset.
    fn live_until_known(&mut self, off_ms: i64) {
        let mut steady_since_ms = now_ms();
        let deadline_ms = steady_since_ms + 120_000;
        self.live_until(off_ms, |next_ms, took_ms| {
            assert!(next_ms < deadline_ms, "this machine is too slow: a reading takes {took_ms} ms");
            if took_ms > 1_500 {
                steady_since_ms = next_ms;
            }
            // Ten seconds until it is known, and some readings after that: the first by another time compare with nothing.
            next_ms - steady_since_ms > 17_000
        });
    }

    /// The same until `ends` says so, which is given the time of the next reading and how long the last one took to be acknowledged.
    fn live_until(&mut self, off_ms: i64, mut ends: impl FnMut(i64, i64) -> bool) {
        for n in 0.. {
            let begun_ms = now_ms();
            self.measure(usual(n), begun_ms + off_ms);
            let next_ms = now_ms() + 500;
            if ends(next_ms, next_ms - 500 - begun_ms) {
                return;
            }
            wait_until("the next reading", || now_ms() >= next_ms);
        }
    }

    fn expect(&mut self, kind: &str) -> Value {
        loop {
            assert!(self.driver.wait_readable(Duration::from_secs(10)), "no alert of {kind}");
            let message = self.driver.receive();
            if message.topic == format!("alerts/tank/temperature/{kind}") && !message.payload.is_empty() {
                return serde_json::from_slice(&message.payload).unwrap();
            }
        }
    }

    /// Raises the temperature, then exceeds the limit; both alerts must arrive.
    fn must_raise(&mut self, off_ms: i64) {
        assert!(!self.driver.wait_readable(Duration::from_millis(1)), "{:?}", self.driver.receive());
        self.measure(50.0, now_ms() + off_ms);
        self.expect("anomaly");
        self.measure(95.0, now_ms() + off_ms);
        self.expect("limit");
    }

    /// Stops the gateway. Returns the lines of a stream.
    fn end(self, stream: &str) -> Vec<Value> {
        self.gateway.stop();
        archive::records(&self.folder.path().join("state/archive"), stream)
    }
}

fn usual(n: i64) -> f64 {
    20.0 + 0.1 * ((n * 7919) % 5) as f64
}

/// The alerts in `/api/status`.
fn alerts(gateway: &InProcess) -> Vec<Value> {
    gateway.status()["alerts"].as_array().unwrap().clone()
}

/// The status names the tank and by how much its clock is behind, unless the gateway's own clock proves nothing.
fn check_told(gateway: &InProcess, is_synchronised: bool, behind_ms: i64) {
    let series = &gateway.status()["series"];
    let clocks = series["device_clocks"].as_array().unwrap();
    assert_eq!((clocks.len(), &series["device_clocks_total"]), (usize::from(is_synchronised), &clocks.len().into()));
    if let [clock] = clocks.as_slice() {
        assert_eq!((&clock["device"], &clock["device_clock"]), (&"tank".into(), &"behind".into()));
        let offset_ms = clock["offset_ms"].as_i64().unwrap();
        assert!((behind_ms - 1_000..behind_ms + 2_000).contains(&offset_ms), "{offset_ms}");
    }
}

const EITHER_CLOCK: [fn() -> bool; 2] = [|| true, || false];

#[test]
fn readings_of_a_minute_ahead_mute_nothing() {
    for is_synchronised in EITHER_CLOCK {
        let mut site = Site::start(is_synchronised, 0);
        for _ in 0..3 {
            site.live(-5, 2);
            site.claim(now_ms() + 58_000);
        }
        site.live(-5, 1);
        site.must_raise(-5);
        for reading in site.end("raw") {
            let [measured_ms, received_ms] =
                ["measured_at_ms", "received_at_ms"].map(|key| reading[key].as_i64().unwrap());
            let is_wrong = reading["device_clock"] == "ahead";
            assert_eq!(is_wrong, reading["device_time_ms"].as_i64().is_some_and(|ms| ms > received_ms + 5_000));
            assert!(!is_synchronised() || measured_ms <= received_ms + 5_000, "{reading}");
        }
    }
}

#[test]
fn two_readings_of_the_year_2100_mute_nothing_and_are_told() {
    for is_synchronised in EITHER_CLOCK {
        let mut site = Site::start(is_synchronised, 0);
        site.live(-5, 1);
        site.claim(YEAR_2100_MS);
        site.claim(YEAR_2100_MS + 1_000);
        site.live(-5, 1);
        site.must_raise(-5);
        let alerts = alerts(&site.gateway);
        let told = alerts.iter().find(|alert| alert["device"] == "_gateway" && alert["metric"] == "clock");
        assert_eq!(told.is_some(), is_synchronised(), "{alerts:?}");
        assert!(told.is_none_or(|told| told["message"].as_str().unwrap().contains("tank")), "{told:?}");
    }
}

#[test]
fn a_clock_that_was_never_set_mutes_nothing() {
    for is_synchronised in EITHER_CLOCK {
        for booted_ms in [1_000, YEAR_2000_MS] {
            let mut site = Site::start(is_synchronised, 0);
            let off_ms = booted_ms - now_ms();
            site.live(off_ms, 2);
            site.must_raise(off_ms);
            let records = site.end("anomalies");
            let limit = records.iter().find(|record| record["detector"] == "limit").unwrap();
            assert_eq!(limit["device_clock"] == "unset", is_synchronised(), "{limit}");
            assert_eq!((&limit["late"], &limit["measured_at_ms"]), (&false.into(), &limit["received_at_ms"]));
        }
    }
}

#[test]
fn a_clock_that_is_behind_mutes_nothing_also_after_a_restart() {
    for is_synchronised in EITHER_CLOCK {
        for off_ms in [-5 * 60_000, -HOUR_MS] {
            let mut site = Site::start(is_synchronised, off_ms);
            site.live_until_known(off_ms);
            site.must_raise(off_ms);
            check_told(&site.gateway, is_synchronised(), -off_ms);
            let folder = site.folder;
            site.gateway.stop();

            let gateway = InProcess::start(folder.path(), |settings| settings.is_synchronised = is_synchronised);
            let mut tank = Client::connect(gateway.mqtt, "tank");
            // -127 is not a temperature: a broken sensor sends it.
            tank.publish(
                "devices/tank/inlet_temp",
                json!({"value": 20.0, "ts_ms": now_ms() + off_ms - 500}).to_string(),
            );
            tank.publish("devices/tank/inlet_temp", json!({"value": -127.0, "ts_ms": now_ms() + off_ms}).to_string());
            let is_raised = || alerts(&gateway).iter().any(|alert| alert["metric"] == "inlet_temp");
            wait_until("the alert", is_raised);
            gateway.stop();
            let records = archive::records(&folder.path().join("state/archive"), "anomalies");
            let last =
                records.iter().rfind(|record| record["metric"] == "inlet_temp" && record["type"] == "anomaly").unwrap();
            assert_eq!((last["device_clock"] == "behind", &last["late"]), (is_synchronised(), &false.into()), "{last}");
        }
    }
}
