//! Delivery to Kinesis, against a cloud that misbehaves on purpose: everything arrives, in order for each device, repeated only where that
//! is unavoidable, and the ledger is exact.

pub mod api;
pub mod cloud;
mod emulator;
pub mod fleet;
pub mod found;
mod killed;
mod proxies;

use std::collections::{HashMap, HashSet};

use fake_cloud::{Faults, Record, Settings, ShardLimits, SkewCode};

use crate::client::Client;
use crate::gateway::wait_until;
use cloud::{ANOMALIES, Cloud, RAW, SINGLE};
use fleet::DEVICES;
use found::Found;

fn unlimited() -> Settings {
    Settings { shard_limits: ShardLimits::UNLIMITED, ..Settings::default() }.stream(RAW, 4).stream(ANOMALIES, 1)
}

fn start(settings: Settings) -> Cloud {
    Cloud::start(settings, SINGLE)
}

#[test]
fn of_records_that_fail_only_those_are_sent_again() {
    let mut cloud = start(unlimited());
    let faults = Faults { record_throttled: 0.05, record_internal_failure: 0.05, ..Faults::default() };
    cloud.fake.set_faults(Faults { shuffle_records: true, ..faults });
    cloud.publish(300);
    cloud.expect_all();
    for stream in [RAW, ANOMALIES] {
        let there = cloud.stats(stream);
        assert_eq!(there.duplicates, 0, "{stream}");
        let sink = cloud.sink(stream);
        let tried = sink["records_sent"].as_u64().unwrap() + sink["records_retried"].as_u64().unwrap();
        assert_eq!(there.records + there.records_throttled + there.records_failed, tried, "{stream}");
    }
    let there = cloud.stats(RAW);
    assert!(there.records_throttled > 100 && there.records_failed > 100, "{there:?}");
}

/// Several lines of one device in one record, as by default.
#[test]
fn whole_records_of_lines_fail_and_are_sent_again() {
    let mut cloud = Cloud::start(unlimited(), "record = \"lines\"\nrecord_size = \"1KiB\"");
    cloud.fake.set_faults(Faults { record_internal_failure: 0.1, shuffle_records: true, ..Faults::default() });
    cloud.publish(300);
    cloud.expect_all();
    let there = cloud.stats(RAW);
    assert!(there.lines > there.records, "several lines share a record");
    assert!(there.duplicates == 0 && there.records_failed > 10, "{there:?}");
}

/// The numbers of the requests that delivered each identity, in order, over all streams.
fn bringers(records: &[Record]) -> HashMap<String, Vec<u64>> {
    let mut bringers: HashMap<String, Vec<u64>> = HashMap::new();
    for record in records {
        for identity in found::identities(&record.data) {
            bringers.entry(identity).or_default().push(record.request_number);
        }
    }
    bringers
}

#[test]
fn of_replies_that_are_lost_only_those_requests_come_again() {
    let mut cloud = start(unlimited());
    cloud.fake.set_faults(Faults { reply_lost: 0.2, ..Faults::default() });
    cloud.publish(150);
    cloud.expect_all();
    let lost = cloud.fake.stats().faults["reply_lost"];
    let mut unanswered = HashSet::new();
    for stream in [RAW, ANOMALIES] {
        let records = cloud.fake.records(stream);
        let bringers = bringers(&records);
        let again: HashSet<u64> =
            bringers.values().flat_map(|requests| &requests[..requests.len() - 1]).copied().collect();
        // A repeated request repeats all of its records.
        for record in records.iter().filter(|record| again.contains(&record.request_number)) {
            for identity in found::identities(&record.data) {
                assert_ne!(bringers[&identity].last(), Some(&record.request_number), "{identity}");
            }
        }
        unanswered.extend(again);
    }
    assert_eq!(unanswered.len() as u64, lost, "requests that came again, and requests without a reply");
    assert!(lost > 10 && cloud.stats(RAW).duplicates > 100);
    cloud.expect_no_alarm();
}

#[test]
fn throttling_and_failures_of_whole_requests_delay_and_lose_nothing() {
    let mut cloud = start(unlimited());
    cloud.fake.set_faults(Faults {
        request_throttled: 0.1,
        limit_exceeded: 0.1,
        kms_throttled: 0.1,
        server_error: 0.1,
        service_unavailable: 0.1,
        ..Faults::default()
    });
    cloud.publish(50);
    cloud.expect_all();
    assert_eq!((cloud.stats(RAW).duplicates, cloud.stats(ANOMALIES).duplicates), (0, 0));
    let faults = cloud.fake.stats().faults;
    let struck = |name: &str| faults.get(name).is_some_and(|count| *count > 0);
    cloud.expect_no_alarm();
    assert!(["request_throttled", "limit_exceeded", "kms_throttled", "server_error"].iter().all(|name| struck(name)));
}

#[test]
fn requests_that_hang_are_given_up_and_sent_again() {
    let mut cloud = start(unlimited());
    cloud.fake.set_faults(Faults { hang: 0.05, hang_ms: 600_000, ..Faults::default() });
    cloud.publish(100);
    cloud.expect_all();
    // A client that disconnects has sent nothing, so there are no duplicates.
    assert_eq!(cloud.stats(RAW).duplicates, 0);
    assert!(cloud.fake.stats().faults["hang"] > 0);
}

#[test]
fn fresh_credentials_get_through_when_the_old_ones_have_expired() {
    let mut cloud = start(unlimited());
    cloud.publish(20);
    cloud.expect_all();
    cloud.fake.set_faults(Faults { expired_access_keys: vec![cloud::ACCESS_KEY.to_owned()], ..Faults::default() });
    cloud.publish(20);
    cloud.expect_error(RAW, "the credentials have expired");
    let before = cloud.stats(RAW).distinct;
    cloud.write_credentials("AKIAFRESH");
    cloud.expect_all();
    assert_eq!(before, cloud.stats(RAW).distinct / 2, "nothing came through in between");
    assert_eq!((cloud.sink(RAW)["last_error"].clone(), cloud.stats(RAW).duplicates), (serde_json::Value::Null, 0));
}

#[test]
fn credentials_that_are_not_there_yet_are_waited_for() {
    let mut cloud = start(unlimited());
    cloud.remove_credentials();
    cloud.publish(20);
    cloud.expect_error(RAW, "no AWS credentials found");
    cloud.write_credentials("AKIAFRESH");
    cloud.expect_all();
}

#[test]
fn a_wrong_clock_of_ours_is_no_obstacle() {
    for (skew_code, offset_ms) in
        [(SkewCode::InvalidSignatureException, 2 * 3_600_000), (SkewCode::RequestExpired, -30 * 86_400_000)]
    {
        let mut cloud = start(unlimited());
        cloud.fake.set_faults(Faults { clock_offset_ms: offset_ms, skew_code, ..Faults::default() });
        cloud.publish(20);
        cloud.expect_all();
        let refused = cloud.fake.stats().faults["clock_skew"];
        assert!((1..=8).contains(&refused), "{refused} requests until the time was known");
        // The clock is corrected while the gateway runs.
        cloud.fake.set_faults(Faults::default());
        cloud.publish(20);
        cloud.expect_all();
        assert_eq!(cloud.stats(RAW).duplicates, 0);
    }
}

#[test]
fn a_stream_that_is_not_there_yet_is_waited_for() {
    let settings = Settings { shard_limits: ShardLimits::UNLIMITED, ..Settings::default() }.stream(ANOMALIES, 1);
    let mut cloud = start(settings);
    cloud.publish(50);
    cloud.expect_error(RAW, "there is no stream \"fleet-raw\"");
    assert_eq!(cloud.gateway.status()["state"], "sink_failing");
    let ledger = cloud.ledger(RAW);
    assert_eq!((&ledger["buffered"], &ledger["delivered"]), (&cloud.accepted().into(), &0.into()));
    assert!(cloud.fake.create_stream(RAW, 2));
    cloud.expect_all();
    assert_eq!(cloud.sink(RAW)["records_rejected"], 0);
}

#[test]
fn what_comes_in_while_the_link_is_down_goes_out_when_it_is_back() {
    let mut cloud = start(unlimited());
    cloud.publish(50);
    cloud.fake.go_offline().unwrap();
    cloud.publish(200);
    cloud.expect_error(RAW, "no connection");
    cloud.fake.come_back().unwrap();
    cloud.publish(50);
    cloud.expect_all();
    assert_eq!(cloud.sink(RAW)["last_error"], serde_json::Value::Null);
    cloud.expect_no_alarm();
}

#[test]
fn a_poison_record_is_a_dead_letter_alone() {
    let mut cloud = start(unlimited());
    cloud.fake.set_faults(Faults { poison_marker: Some("POISON".to_owned()), ..Faults::default() });
    cloud.publish(50);
    let mut device = Client::connect(cloud.gateway.mqtt, "poisoned");
    device.publish("devices/d00/temperature", "{\"value\":20.5,\"note\":\"POISON\"}");
    cloud.dead += 1;
    cloud.publish(50);
    cloud.expect_all();
    assert_eq!((cloud.ledger(RAW)["dead_lettered"].clone(), cloud.stats(RAW).duplicates), (1.into(), 0));
    assert_eq!(cloud.gateway.status()["store"]["dead_letters_held"], 1);
    let (reason, line) = cloud.dead_letter();
    assert!(reason.starts_with("ValidationException") && line.contains("POISON"), "{reason}: {line}");
}

/// The very first record is refused, together with the ones after it in its request: it does not block anything.
#[test]
fn a_poison_record_at_the_head_of_a_stream_is_a_dead_letter_at_once() {
    let mut cloud = Cloud::start(unlimited(), "");
    cloud.fake.go_offline().unwrap();
    let faults = Faults { poison_marker: Some("POISON".to_owned()), ..Faults::default() };
    let mut device = Client::connect(cloud.gateway.mqtt, "poisoned");
    device.publish("devices/d00/temperature", "{\"value\":20.5,\"note\":\"POISON\"}");
    cloud.dead += 1;
    for number in 1..100 {
        device.publish("devices/d00/temperature", format!("{{\"value\":20.5,\"note\":\"{number}\"}}"));
        cloud.others += 1;
    }
    cloud.fake.set_faults(faults);
    cloud.fake.come_back().unwrap();
    cloud.expect_all();
    let (reason, line) = cloud.dead_letter();
    assert!(reason.starts_with("ValidationException") && line.contains("POISON"), "{reason}: {line}");
    let log = std::fs::read_to_string(&cloud.gateway.log).unwrap();
    assert!(!log.contains("halted"), "{log}");
}

/// One device whose records all fail stops nobody else, also across a kill, and catches up once they are accepted.
#[test]
fn a_device_whose_records_fail_is_set_aside_and_catches_up() {
    let mut cloud = Cloud::start(unlimited(), "");
    cloud.publish(50);
    cloud.expect_all();
    cloud.fake.set_faults(Faults { sick_key: Some("truck-0042/d07".to_owned()), ..Faults::default() });
    cloud.publish(100);
    let set_aside = |cloud: &Cloud| cloud.sink(RAW)["keys_set_aside"].clone();
    // It takes ten seconds in which others are accepted.
    wait_until("it is set aside", || {
        cloud.publish(5);
        set_aside(&cloud) == serde_json::json!({"count": 1, "first": ["d07"]})
    });
    cloud.publish(200);
    let others = |cloud: &Cloud| (DEVICES - 1) * cloud.fleet.published_by_each() + 50;
    wait_until("the others arrive", || cloud.stats(RAW).distinct == others(&cloud));
    wait_until("the ledger knows", || cloud.ledger(RAW)["buffered"] == cloud.fleet.published_by_each() - 50);
    let status = cloud.gateway.status();
    assert_eq!((&status["ledger_adds_up"], &status["state"]), (&true.into(), &"sink_failing".into()));
    cloud.expect_error(RAW, "1 partition key is set aside because its records fail: d07");
    wait_until("the alert", || {
        cloud.gateway.alerts().iter().any(|alert| alert["metric"] == "sink-cloud" && alert["state"] == "raised")
    });

    cloud.kill_and_restart("");
    cloud.publish(100);
    wait_until("the others arrive", || cloud.stats(RAW).distinct == others(&cloud));
    assert_eq!(set_aside(&cloud)["count"], 1);
    let status = cloud.gateway.status();
    assert_eq!(status["ledger_adds_up"], true, "{}", status["ledger"]);
    cloud.fake.set_faults(Faults::default());
    cloud.publish(50);
    cloud.expect_all();
    assert_eq!(
        (set_aside(&cloud)["count"].clone(), cloud.sink(RAW)["last_error"].clone()),
        (0.into(), serde_json::Value::Null)
    );
}

/// With one key for the gateway nothing is set aside: it is the sink that fails.
#[test]
fn one_key_for_all_is_not_set_aside() {
    let mut cloud = Cloud::start(unlimited(), "partition = \"gateway\"");
    cloud.fake.set_faults(Faults { sick_key: Some("truck-0042".to_owned()), ..Faults::default() });
    cloud.publish(20);
    cloud.expect_error(RAW, "every record fails: an internal failure of the service");
    assert_eq!(cloud.sink(RAW)["keys_set_aside"]["count"], 0);
    cloud.fake.set_faults(Faults::default());
    cloud.expect_all();
}

/// An error that concerns everything is not blamed on a record.
#[test]
fn access_that_is_denied_halts_and_gives_nothing_up() {
    let mut cloud = start(unlimited());
    cloud.fake.set_faults(Faults { access_denied: 1.0, ..Faults::default() });
    cloud.publish(50);
    cloud.expect_error(RAW, "AccessDeniedException");
    cloud.publish(50);
    cloud.fake.set_faults(Faults::default());
    cloud.expect_all();
    assert_eq!(cloud.sink(RAW)["records_rejected"], 0);
}

#[test]
fn four_shards_are_filled_and_not_overrun() {
    let limits = ShardLimits { records_per_second: Some(100), bytes_per_second: None };
    let settings = Settings { shard_limits: limits, ..Settings::default() }.stream(RAW, 4).stream(ANOMALIES, 1);
    let mut cloud = start(settings);
    cloud.publish(100);
    cloud.expect_all();
    let there = cloud.stats(RAW);
    assert_eq!((there.duplicates, there.shards.len()), (0, 4));
    assert!(there.shards.iter().all(|shard| shard.records > 0), "{there:?}");
    assert!(there.records_throttled > 0, "the limits were met: {there:?}");
}

#[test]
fn anomalies_and_alerts_go_to_the_second_stream() {
    let mut cloud = start(unlimited());
    cloud.fake.set_faults(Faults { record_internal_failure: 0.3, ..Faults::default() });
    let mut device = Client::connect(cloud.gateway.mqtt, "tank");
    let now = outrider::gateway::now_ms();
    let item =
        |n: i64| format!("{{\"value\":{:.1},\"ts_ms\":{}}}", 20.0 + 0.1 * ((n * 7919) % 5) as f64, now - n * 1000);
    let history: Vec<String> = (1..240).rev().map(item).collect();
    device.publish("devices/tank/temperature", format!("[{}]", history.join(",")));
    device.publish("devices/tank/temperature", "45.0");
    cloud.others += 240;
    wait_until("the anomaly and its alert", || {
        cloud.stats(ANOMALIES).anomalies == 1 && cloud.stats(ANOMALIES).alerts > 0
    });
    cloud.expect_all();
    assert_eq!((cloud.stats(ANOMALIES).duplicates, cloud.stats(ANOMALIES).position_regressions), (0, 0));
}

/// The control: naive clients, whose faults the checks above detect.
#[test]
fn a_client_that_sends_whole_requests_again_or_goes_on_is_found_out() {
    let lines = |numbers: std::ops::Range<u64>| -> Vec<String> { numbers.map(|n| found::line("d00", n)).collect() };
    let faults = Faults { record_internal_failure: 0.2, ..Faults::default() };
    for sends_all_again in [true, false] {
        let fake = fake_cloud::FakeCloud::start_blocking(Settings { faults: faults.clone(), ..unlimited() }).unwrap();
        let mut left_over = Vec::new();
        for first in (1..200).step_by(10) {
            let mut request = lines(first..first + 10);
            loop {
                let failed = api::put(fake.address(), RAW, &request);
                if sends_all_again && !failed.is_empty() {
                    continue;
                }
                left_over.extend(failed.into_iter().map(|at| request[at].clone()));
                break;
            }
            request.clear();
        }
        while !left_over.is_empty() {
            let failed = api::put(fake.address(), RAW, &left_over);
            left_over = failed.into_iter().map(|at| left_over[at].clone()).collect();
        }
        let found = Found::read(fake.records(RAW).iter().map(|record| &record.data[..]));
        assert_eq!(found.missing("d00", 200), 0);
        assert_eq!((found.repeats > 0, found.out_of_order > 0), (sends_all_again, true));
        assert_eq!(found.repeats, fake.stats().streams[RAW].duplicates);
    }
}

/// A vehicle that pays for its link: one key, compressed, sent at intervals; records about trouble do not wait.
const LEAN: &str = "compression = \"zstd\"\npartition = \"gateway\"\nbatch_delay = \"2s\"";

fn data(records: &[Record]) -> impl Iterator<Item = &[u8]> {
    records.iter().map(|record| &record.data[..])
}

#[test]
fn a_lean_link_sends_less_and_loses_nothing() {
    let mut cloud = Cloud::start(unlimited(), LEAN);
    cloud.fake.set_faults(Faults { record_internal_failure: 0.2, ..Faults::default() });
    cloud.publish(150);
    cloud.publish(150);
    cloud.expect_all();
    let there = cloud.stats(RAW);
    assert!(there.records_failed > 0 && there.records < 40, "{there:?}");
    let lines: u64 = there.lines;
    assert!(there.body_bytes / lines < 60, "{} bytes for {lines} lines", there.body_bytes);
    let records = cloud.fake.records(RAW);
    assert!(
        records.iter().all(|record| &*record.partition_key == "truck-0042" && record.data.starts_with(&[0x28, 0xb5]))
    );
    assert_eq!(found::fault_of_order(data(&records)), None);
    let status = cloud.gateway.status();
    let sink = cloud.sink(RAW);
    assert!(sink["sent_bytes"].as_u64().unwrap() >= there.body_bytes, "{sink}");
    assert!(status["cost"]["sent"]["a_reading"].as_f64().unwrap() > 0.0, "{}", status["cost"]);
    assert!(status["cost"]["written"]["a_day"].as_f64().unwrap() > 0.0, "{}", status["cost"]);
}

/// The control: what the gateway sent for one key, with two records swapped, one left out, one stored late, or one changed.
#[test]
fn what_breaks_the_order_of_one_key_is_noticed() {
    let keys = "compression = \"zstd\"\npartition = \"gateway\"\nrecord_size = \"1KiB\"\nbatch_delay = \"50ms\"";
    let mut cloud = Cloud::start(unlimited(), keys);
    cloud.publish(10);
    cloud.expect_all();
    let records = cloud.fake.records(RAW);
    assert!(records.len() > 10, "{} records", records.len());
    let fault = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records = records.clone();
        change(&mut records);
        found::fault_of_order(data(&records))
    };
    assert_eq!(fault(&|_| {}), None);
    assert_eq!(fault(&|records| records.push(records[2].clone())), None, "a repeat");
    for at in 0..records.len() - 1 {
        assert!(fault(&|records| records.swap(at, at + 1)).is_some(), "{at} and the next one");
        assert!(fault(&|records| drop(records.remove(at))).is_some(), "without {at}");
    }
    let last = records.len() - 1;
    assert!(fault(&|records| records.swap(0, last)).is_some(), "the first and the last");
    let changed = |records: &mut Vec<Record>| {
        let text = String::from_utf8(fake_cloud::plain(&records[2].data).into_owned()).unwrap();
        let other = Record { data: text.replace("20.5", "20.6").into(), ..records[2].clone() };
        records.push(other);
    };
    assert!(fault(&changed).is_some(), "a repeat that is another reading");
}

#[test]
fn while_readings_wait_for_company_an_alert_is_sent_at_once() {
    let cloud = Cloud::start(unlimited(), "compression = \"gzip\"\npartition = \"gateway\"\nbatch_delay = \"10m\"");
    Client::connect(cloud.gateway.mqtt, "device").publish("devices/d/temperature", "-127");
    wait_until("the alert", || cloud.stats(ANOMALIES).alerts == 1);
    assert_eq!(cloud.stats(RAW).lines, 0);
    // What still waits is sent when the process ends.
    let Cloud { fake, gateway, .. } = cloud;
    assert!(gateway.stop().success());
    assert_eq!(fake.stats().streams[RAW].readings, 1);
}
