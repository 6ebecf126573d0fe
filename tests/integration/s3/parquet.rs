//! Parquet files of both sinks that write files, read by DuckDB, next to the same records as lines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::lake::{Lake, SOON};
use super::servers::{self, Kind};
use crate::archive;
use crate::client::Client;
use crate::gateway::wait_until;

/// A record, by its identity.
type Records = BTreeMap<String, Value>;

fn identity(record: &Value) -> String {
    format!("{}/{}/{}", record["gateway"], record["run"], record["position"])
}

/// The rows of these files, and the types of their columns.
fn rows(files: &[PathBuf]) -> (Records, Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/objects/read_parquet.py");
    let output = Command::new(servers::cached("venv/bin/python")).arg(script).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let types = lines.next().unwrap();
    let mut records = Records::new();
    for row in lines {
        assert!(records.insert(identity(&row), row.clone()).is_none(), "twice: {row}");
    }
    (records, types)
}

/// A record as a row has it: without nulls, and objects and lists as the text of one. A payload is always a text.
fn as_row(record: &Value, row: &Value) -> Value {
    let mut fields = record.as_object().unwrap().clone();
    fields.retain(|_, value| !value.is_null());
    for (name, value) in &mut fields {
        if value.is_object() || value.is_array() || name == "payload" {
            // Only the order of fields and spaces may differ, so the text is compared by what it says.
            let said: Value = serde_json::from_str(row[name.as_str()].as_str().unwrap_or("0")).unwrap();
            assert_eq!(said, *value, "{name}");
            *value = row[name.as_str()].clone();
        }
    }
    Value::Object(fields)
}

fn files_in(folder: &std::path::Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_in(&path, found),
            false if path.extension().is_some_and(|extension| extension == "parquet") => found.push(path),
            false => {}
        }
    }
}

#[test]
fn rows_are_the_records_that_lines_are() {
    let more = "format = \"parquet\"\n\
        [[sink]]\nname = \"columns\"\ntype = \"archive\"\nformat = \"parquet\"\nrotate_after = \"1s\"\npath = \"FOLDER/columns\"\n\
        [[sink]]\nname = \"lines\"\ntype = \"archive\"\nrotate_after = \"1s\"\npath = \"FOLDER/lines\"\n\
        [[limit]]\nmetric = \"oil\"\nmax = 5.0\n\
        [[stream]]\nname = \"trips\"\n\
        [[rule]]\nname = \"door\"\nsql = \"SELECT * FROM 'doors/#'\"\nstream = \"trips\"\n";
    let folder = tempfile::tempdir().unwrap();
    let more = more.replace("FOLDER", folder.path().to_str().unwrap());
    let mut lake = Lake::start_as("tr\u{e4}ger \\\"7\\\"", Kind::Gofakes3, &format!("{SOON}\n{more}"));
    lake.publish(20);
    let mut client = Client::connect(lake.gateway().mqtt, "other");
    for value in
        ["{\"value\": 9.5, \"road\": \"dr\\\"y\"}", "{\"value\": 9007199254740993}", "{\"value\": -0.1, \"ts\": 1}"]
    {
        client.publish("devices/t\u{e9}/oil", value);
    }
    client.publish("doors/1", "{\"open\": [1, 2.50, 12345678901234567890], \"a\": \"b\"}");
    wait_until("everything in all three places", || {
        let status = lake.gateway().status();
        let ledger = status["ledger"].as_array().unwrap();
        let is_there = |line: &Value| line["buffered"] == 0 || line["stream"] == "anomalies";
        ledger.iter().all(is_there) && ledger.iter().any(|line| line["stream"] == "trips" && line["delivered"] == 1)
    });
    lake.stop();
    for stream in ["raw", "anomalies", "trips"] {
        let expected: Records = archive::records(&folder.path().join("lines"), stream)
            .into_iter()
            .map(|record| (identity(&record), record))
            .collect();
        let mut local = Vec::new();
        files_in(&folder.path().join("columns").join(stream), &mut local);
        let mut sent = Vec::new();
        for (number, object) in lake.server.objects_in(servers::BUCKET, &format!("fleet/{stream}/")).iter().enumerate()
        {
            let path = folder.path().join(format!("{stream}-{number}.parquet"));
            std::fs::write(&path, &object.content).unwrap();
            sent.push(path);
        }
        for files in [local, sent] {
            let (found, types) = rows(&files);
            assert_eq!(found.len(), expected.len(), "{stream}");
            for (identity, record) in &expected {
                assert_eq!(as_row(record, &found[identity]), found[identity], "{stream}");
            }
            let text_number = |name: &str| types[name].as_str().unwrap_or_default().to_owned();
            assert_eq!((text_number("type").as_str(), text_number("position").as_str()), ("VARCHAR", "BIGINT"));
            if stream == "raw" {
                assert_eq!((&types["value"], &types["measured_at_ms"]), (&json!("DOUBLE"), &json!("BIGINT")));
                assert!(found.values().any(|row| row["value_exact"] == "9007199254740993"));
                assert!(found.values().any(|row| row["attributes"] == r#"{"road":"dr\"y"}"#));
            }
        }
        let kinds: std::collections::BTreeSet<&str> =
            expected.values().map(|record| record["type"].as_str().unwrap()).collect();
        match stream {
            "anomalies" => {
                assert!(kinds.contains("alert") && kinds.contains("gateway") && kinds.contains("anomaly"), "{kinds:?}")
            }
            _ => assert_eq!(kinds.len(), 1),
        }
    }
}
