//! Delivery to Firehose, against a cloud that misbehaves on purpose, and through somebody else's Firehose into objects: everything arrives,
//! repeated only where that is unavoidable, and the ledger is exact.

use fake_cloud::{FakeCloud, Faults, Settings, ShardLimits, SkewCode};
use serde_json::json;

use crate::client::Client;
use crate::gateway::{ledger_line, wait_until};
use crate::kinesis::api;
use crate::kinesis::cloud::{self, ACCESS_KEY, ANOMALIES, Cloud, RAW};
use crate::kinesis::fleet::{DEVICES, Fleet, device};
use crate::kinesis::found::{self, Found};
use crate::s3::servers::{BUCKET, Kind, Server};

/// One reading per record, of all devices at a time: as many records as readings, so that faults of records occur often.
const SINGLE: &str = "record = \"single\"\npartition = \"device\"\nbatch_delay = \"2ms\"";
const LINES: &str = "batch_delay = \"50ms\"";

fn unlimited() -> Settings {
    Settings { shard_limits: ShardLimits::UNLIMITED, ..Settings::default() }.stream(RAW, 1).stream(ANOMALIES, 1)
}

fn start(keys: &str) -> Cloud {
    Cloud::start_of("firehose", unlimited(), keys)
}

#[test]
fn of_records_that_fail_only_those_are_sent_again() {
    let mut cloud = start(SINGLE);
    cloud.fake.set_faults(Faults {
        record_throttled: 0.05,
        record_internal_failure: 0.05,
        shuffle_records: true,
        ..Faults::default()
    });
    cloud.publish(100);
    cloud.expect_all();
    let there = cloud.stats(RAW);
    assert!(there.records_throttled > 30 && there.records_failed > 30 && there.duplicates == 0, "{there:?}");
    cloud.expect_no_alarm();
}

/// Each record is billed as a multiple of 5 KB, so lines of all devices share it.
#[test]
fn readings_share_records_in_one_order_and_survive_a_kill_and_lost_replies() {
    let mut cloud = start("");
    cloud.publish(100);
    cloud.expect_all();
    let there = cloud.stats(RAW);
    assert!(there.bytes / there.records > 20 * 1024, "{there:?}");
    cloud.fake.set_faults(Faults { reply_lost: 0.3, record_internal_failure: 0.2, ..Faults::default() });
    cloud.kill_and_restart(LINES);
    for _ in 0..10 {
        cloud.publish(20);
    }
    cloud.kill_and_restart(LINES);
    for _ in 0..10 {
        cloud.publish(20);
    }
    cloud.expect_all();
    assert!(cloud.stats(RAW).duplicates > 0 && cloud.fake.stats().faults["reply_lost"] > 0);
    let records = cloud.fake.records(RAW);
    // What is sent again after a kill may be cut into other records, but never in another order.
    assert!(records.iter().all(|record| record.data.ends_with(b"\n")));
    assert_eq!(found::fault_of_order(records.iter().map(|record| &record.data[..])), None);
}

#[test]
fn throttling_and_failures_of_whole_requests_delay_and_lose_nothing() {
    let mut cloud = start(SINGLE);
    cloud.fake.set_faults(Faults {
        request_throttled: 0.1,
        service_unavailable: 0.1,
        server_error: 0.1,
        ..Faults::default()
    });
    cloud.publish(20);
    cloud.expect_all();
    assert_eq!((cloud.stats(RAW).duplicates, cloud.stats(ANOMALIES).duplicates), (0, 0));
    let faults = cloud.fake.stats().faults;
    assert!(
        faults["request_throttled"] + faults["service_unavailable"] > 0 && faults["server_error"] > 0,
        "{faults:?}"
    );
    cloud.expect_no_alarm();
}

#[test]
fn requests_that_hang_are_given_up_and_sent_again() {
    let mut cloud = start(SINGLE);
    cloud.fake.set_faults(Faults { hang: 0.05, hang_ms: 600_000, ..Faults::default() });
    while !cloud.fake.stats().faults.contains_key("hang") {
        cloud.publish(5);
    }
    cloud.expect_all();
    assert_eq!(cloud.stats(RAW).duplicates, 0, "who breaks off has sent nothing");
}

#[test]
fn what_somebody_has_to_mend_is_named_and_nothing_is_given_up() {
    let off = Faults::default;
    // Each waits for the pauses of a halted sink.
    std::thread::scope(|scope| {
        for (faults, said) in [
            (Faults { invalid_source: 1.0, ..off() }, "made with DirectPut as its source"),
            (Faults { invalid_kms_resource: 1.0, ..off() }, "enable the key"),
            (Faults { access_denied: 1.0, ..off() }, "allow firehose:PutRecordBatch"),
        ] {
            scope.spawn(move || {
                let mut cloud = start(LINES);
                cloud.fake.set_faults(faults);
                cloud.publish(10);
                cloud.expect_error(RAW, said);
                cloud.fake.set_faults(Faults::default());
                cloud.expect_all();
                assert_eq!(cloud.sink(RAW)["records_rejected"], 0, "{said}");
            });
        }
        scope.spawn(a_stream_that_is_not_there_is_waited_for);
    });
}

fn a_stream_that_is_not_there_is_waited_for() {
    let settings = Settings { shard_limits: ShardLimits::UNLIMITED, ..Settings::default() }.stream(ANOMALIES, 1);
    let mut cloud = Cloud::start_of("firehose", settings, LINES);
    cloud.publish(10);
    cloud.expect_error(RAW, "there is no stream \"fleet-raw\"");
    assert!(cloud.fake.create_stream(RAW, 1));
    cloud.expect_all();
}

#[test]
fn fresh_credentials_and_another_clock_get_through() {
    let mut cloud = start(LINES);
    cloud.fake.set_faults(Faults { expired_access_keys: vec![ACCESS_KEY.to_owned()], ..Faults::default() });
    cloud.publish(10);
    cloud.expect_error(RAW, "the credentials have expired");
    cloud.write_credentials("AKIAFRESH");
    cloud.expect_all();
    for (skew_code, clock_offset_ms) in
        [(SkewCode::InvalidSignatureException, 7_200_000), (SkewCode::RequestExpired, -30 * 86_400_000)]
    {
        cloud.fake.set_faults(Faults { clock_offset_ms, skew_code, ..Faults::default() });
        cloud.publish(10);
        cloud.expect_all();
    }
    assert!(cloud.fake.stats().faults["clock_skew"] > 0);
    assert_eq!(cloud.stats(RAW).duplicates, 0);
}

#[test]
fn what_is_refused_for_good_is_a_dead_letter_alone() {
    let mut cloud = start(LINES);
    cloud.fake.set_faults(Faults { poison_marker: Some("POISON".to_owned()), ..Faults::default() });
    cloud.publish(20);
    let mut device = Client::connect(cloud.gateway.mqtt, "poisoned");
    device.publish("devices/d00/temperature", "{\"value\":20.5,\"note\":\"POISON\"}");
    cloud.dead += 1;
    cloud.publish(20);
    cloud.expect_all();
    assert_eq!(cloud.stats(RAW).duplicates, 0);
    let (reason, line) = cloud.dead_letter();
    assert!(reason.starts_with("InvalidArgumentException") && line.contains("POISON"), "{reason}: {line}");
}

/// The control: naive clients, whose faults the checks above detect.
#[test]
fn a_client_that_sends_whole_batches_again_or_goes_on_is_found_out() {
    for sends_all_again in [true, false] {
        let faults = Faults { record_internal_failure: 0.2, ..Faults::default() };
        let fake = FakeCloud::start_blocking(Settings { faults, ..unlimited() }).unwrap();
        for first in (1..200).step_by(10) {
            let lines: Vec<String> = (first..first + 10).map(|number| found::line("d00", number)).collect();
            while !api::put_batch(fake.address(), RAW, &lines).is_empty() && sends_all_again {}
        }
        let found = Found::read(fake.records(RAW).iter().map(|record| &record.data[..]));
        assert_eq!((found.repeats > 0, found.missing("d00", 200) > 0), (sends_all_again, !sends_all_again));
    }
}

#[test]
fn a_firehose_of_others_puts_everything_into_objects() {
    let server = Server::start(Kind::Ministack);
    for (stream, prefix) in [(RAW, "raw/"), (ANOMALIES, "anomalies/")] {
        let destination = json!({
            "RoleARN": "arn:aws:iam::000000000000:role/firehose",
            "BucketARN": format!("arn:aws:s3:::{BUCKET}"),
            "Prefix": prefix,
        });
        let input = json!({
            "DeliveryStreamName": stream,
            "DeliveryStreamType": "DirectPut",
            "ExtendedS3DestinationConfiguration": destination,
        });
        let (status, body) = api::call_firehose(server.address, "CreateDeliveryStream", &input).unwrap();
        assert_eq!(status, 200, "{body}");
    }
    let folder = tempfile::tempdir().unwrap();
    let config = cloud::config_of("firehose", &format!("http://{}", server.address), LINES);
    let gateway = cloud::start_gateway(&folder, &config.replace("timeout = \"1s\"", "timeout = \"30s\""));
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 50);
    let line = |stream: &str| ledger_line(&gateway.status(), "cloud", stream).clone();
    wait_until("every reading delivered", || line("raw")["delivered"] == fleet.published());
    let objects = |prefix: &str| -> Vec<Vec<u8>> {
        server.keys(prefix).iter().map(|key| server.content(BUCKET, key).1).collect()
    };
    let lines = |prefix: &str| objects(prefix).iter().map(|object| found::identities(object).len() as u64).sum::<u64>();
    // The objects are stored after the reply.
    wait_until("every reading in the objects", || lines("raw/") >= fleet.published());
    let found_there = objects("raw/");
    let found = Found::read(found_there.iter().map(|object| &object[..]));
    assert_eq!(found.repeats, 0);
    for number in 0..DEVICES {
        assert_eq!(found.missing(&device(number), fleet.published_by_each()), 0, "{}", device(number));
    }
    wait_until("the second stream to be equal too", || {
        let line = line("anomalies");
        let there = lines("anomalies/");
        there > 0 && line["buffered"] == 0 && line["delivered"] == there
    });
}
