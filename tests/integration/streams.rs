//! Streams that the configuration names, from the store to the sinks of the real binary.

use std::path::Path;

use fake_cloud::{FakeCloud, Settings, ShardLimits};
use outrider::core::identity::{Keep, NamedStream, RunId};
use outrider::core::pipeline::{Pipeline, PipelineSettings};
use outrider::core::record::{RulePayload, RuleRecord};
use outrider::store::commit::CommitInput;
use outrider::store::writer::{Writer, WriterSettings};
use serde_json::Value;

use crate::archive;
use crate::gateway::{Gateway, wait_until};
use crate::kinesis::cloud::{config, start_gateway};

const NAMES: [&str; 2] = ["trips", "doors"];
const DEVICES: [&str; 3] = ["a", "b", "c"];
const COMMITS: u64 = 20;

/// As rules do: in each commit a record of each device in each stream, and a second one in `doors`.
fn write(state: &Path, run: u8) {
    let streams = NAMES.map(|name| NamedStream { name: name.to_owned(), keep: Keep::Bulk }).to_vec();
    let settings = WriterSettings { streams, ..WriterSettings::for_tests(state) };
    let mut writer = Writer::open(&settings, RunId([run; 8])).unwrap();
    let settings = PipelineSettings::new("truck-0042", RunId([run; 8]));
    let mut pipeline = Pipeline::new(settings, &writer.last_sequences().unwrap());
    for number in 0..COMMITS {
        for stream in ["doors", "trips", "doors"] {
            for device in DEVICES {
                let payload = number.to_string();
                let record = RuleRecord {
                    stream,
                    rule: "all",
                    device: Some(device),
                    topic: Some("devices/x"),
                    received_at_ms: 1_700_000_000_000,
                    payload: RulePayload::Json(payload.as_bytes()),
                };
                pipeline.push_record(writer.streams().find(stream).unwrap(), &record).unwrap();
            }
        }
        writer.commit(&CommitInput { sealed: pipeline.seal(), ..CommitInput::default() }).unwrap();
    }
}

fn count(name: &str) -> u64 {
    let a_commit = if name == "doors" { 2 } else { 1 };
    COMMITS * a_commit * DEVICES.len() as u64
}

/// Whether these are all records of a stream, those of each device in their order.
fn expect_all(records: &[Value], name: &str, runs: u64) {
    assert_eq!(records.len() as u64, runs * count(name), "{name}");
    assert!(records.iter().all(|record| record["stream"] == *name), "{name}");
    for device in DEVICES {
        let of_device = records.iter().filter(|record| record["device"] == device);
        let identities: Vec<_> = of_device
            .map(|record| (record["run"].as_str().unwrap().to_owned(), record["position"].as_u64().unwrap()))
            .collect();
        assert!(identities.is_sorted(), "{name} of {device}: {identities:?}");
    }
}

fn line(gateway: &Gateway, sink: &str, stream: &str) -> Value {
    let status = gateway.status();
    let lines = status["ledger"].as_array().unwrap();
    lines.iter().find(|line| line["sink"] == sink && line["stream"] == stream).cloned().unwrap_or(Value::Null)
}

#[test]
fn each_stream_reaches_its_own_target_in_order_whatever_the_order_of_the_sections() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    write(&state, 1);
    let settings = Settings { shard_limits: ShardLimits::UNLIMITED, ..Settings::default() };
    let settings = settings.stream("fleet-raw", 1).stream("fleet-anomalies", 1);
    let fake = FakeCloud::start_blocking(settings.stream("fleet-trips", 2).stream("fleet-doors", 2)).unwrap();
    let sink = "streams = { doors = \"fleet-doors\", trips = \"fleet-trips\" }\n\n[[sink]]\nname = \"files\"\ntype = \"archive\"\n";
    let sections = |names: [&str; 2]| names.map(|name| format!("\n[[stream]]\nname = \"{name}\"\n")).concat();
    for (runs, names) in [(1, ["doors", "trips"]), (2, ["trips", "doors"])] {
        let gateway = start_gateway(&folder, &format!("{}{}", config(&fake.endpoint(), sink), sections(names)));
        for name in NAMES {
            let all = runs * count(name);
            wait_until("everything is delivered", || line(&gateway, "cloud", name)["delivered"] == all);
            let line = line(&gateway, "cloud", name);
            assert_eq!((&line["accepted"], &line["buffered"]), (&all.into(), &0.into()), "{line}");
        }
        assert!(gateway.stop().success());
        if runs == 1 {
            write(&state, 2);
        }
    }
    for name in NAMES {
        let records = fake.records(&format!("fleet-{name}"));
        let lines = records.iter().flat_map(|record| record.data.split(|byte| *byte == b'\n'));
        let lines: Vec<Value> =
            lines.filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
        expect_all(&lines, name, 2);
        expect_all(&archive::records(&state.join("archive"), name), name, 2);
    }
}

/// Taken out of the configuration, a stream is still archived; the sink that no longer takes it keeps what waits until its room is needed.
#[test]
fn what_is_left_of_a_stream_that_left_the_configuration_is_archived() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    write(&state, 1);
    let gateway = Gateway::start_configured(folder.path(), "", &[], &[]);
    let delivered = || line(&gateway, "archive", "trips");
    assert_eq!((&delivered()["accepted"], &delivered()["expired"]), (&count("trips").into(), &0.into()));
    assert!(gateway.stop().success());
    for name in NAMES {
        expect_all(&archive::records(&state.join("archive"), name), name, 1);
    }
    // Everything is delivered, so nothing is left to be read.
    let gateway = Gateway::start_configured(folder.path(), "", &[], &[]);
    wait_until("it is deleted", || {
        let status = gateway.status();
        let streams = status["store"]["streams"].as_array().unwrap().clone();
        streams.iter().filter(|stream| stream["stream"] == "trips").all(|stream| stream["records"] == 0)
    });
    assert!(gateway.stop().success());
}
