//! Against somebody else's emulator: what the gateway sends is valid Kinesis for others too.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::api;
use super::cloud::{ANOMALIES, RAW, config, start_gateway};
use super::fleet::{DEVICES, Fleet, device};
use super::found::{self, Found};
use crate::gateway::wait_until;
use crate::ports::free_port;

const SHARDS: u64 = 2;

struct Emulator {
    child: Child,
    address: SocketAddr,
}

impl Emulator {
    fn start(log: &Path) -> Emulator {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/emulator/node_modules/kinesis-local");
        let program = folder.join("main.js");
        assert!(
            program.exists(),
            "the Kinesis emulator is not installed in tests/.cache: tests/run installs it, or tests/setup.d/kinesis-emulator alone, which needs Node and npm"
        );
        let (plain, tls) = (free_port(), free_port());
        let output = std::fs::File::create(log).unwrap();
        let child = Command::new("node")
            .arg(program)
            .env("KINESIS_MOCK_CERT_PATH", folder.join("server.json"))
            .env("KINESIS_MOCK_PLAIN_PORT", plain.to_string())
            .env("KINESIS_MOCK_TLS_PORT", tls.to_string())
            .env("SHARD_LIMIT", "100")
            .env("LOG_LEVEL", "ERROR")
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .stdin(Stdio::null())
            .spawn()
            .expect("node is needed to run the emulator");
        let mut emulator = Emulator { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, plain)) };
        wait_until("the emulator's first answer", || {
            let ended = emulator.child.try_wait().unwrap();
            assert_eq!(ended, None, "the emulator has ended: {}", std::fs::read_to_string(log).unwrap());
            matches!(api::call(emulator.address, "ListStreams", &json!({})), Ok((200, _)))
        });
        emulator
    }

    fn call(&self, operation: &str, input: &Value) -> Value {
        let (code, body) = api::call(self.address, operation, input).unwrap();
        assert_eq!(code, 200, "{operation}: {body}");
        body
    }

    fn create_stream(&self, name: &str) {
        self.call("CreateStream", &json!({"StreamName": name, "ShardCount": SHARDS}));
        wait_until("an active stream", || {
            let body = self.call("DescribeStreamSummary", &json!({"StreamName": name}));
            body["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"
        });
    }

    /// Everything in a stream, by shard and in its order.
    fn records(&self, stream: &str) -> Vec<(String, Vec<u8>)> {
        let shards = self.call("ListShards", &json!({"StreamName": stream}));
        let mut records = Vec::new();
        for shard in shards["Shards"].as_array().unwrap() {
            let input = json!({"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"});
            let mut iterator = self.call("GetShardIterator", &input)["ShardIterator"].clone();
            loop {
                let body = self.call("GetRecords", &json!({"ShardIterator": iterator}));
                let found = body["Records"].as_array().unwrap();
                if found.is_empty() {
                    break;
                }
                let key = |record: &Value| record["PartitionKey"].as_str().unwrap().to_owned();
                let data = |record: &Value| api::decode_base64(record["Data"].as_str().unwrap());
                records.extend(found.iter().map(|record| (key(record), data(record))));
                iterator = body["NextShardIterator"].clone();
            }
        }
        records
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_emulator_of_others_gets_everything_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(&folder.path().join("emulator-log"));
    [RAW, ANOMALIES].iter().for_each(|stream| emulator.create_stream(stream));
    // The emulator takes some seconds for a request of hundreds of records.
    let config = config(&format!("http://{}", emulator.address), "").replace("timeout = \"1s\"", "timeout = \"60s\"");
    let gateway = start_gateway(&folder, &config);
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 25);
    let ledger = |stream: &str| {
        let status = gateway.status();
        status["ledger"].as_array().unwrap().iter().find(|line| line["stream"] == stream).unwrap().clone()
    };
    wait_until("every reading delivered", || ledger("raw")["delivered"] == fleet.published());

    let records = emulator.records(RAW);
    let found = Found::read(records.iter().map(|(_, data)| &data[..]));
    assert_eq!((found.out_of_order, found.repeats), (0, 0));
    for number in 0..DEVICES {
        assert_eq!(found.missing(&device(number), fleet.published_by_each()), 0, "{}", device(number));
    }
    for (key, data) in &records {
        let text = std::str::from_utf8(data).unwrap();
        assert!(text.ends_with('\n') && text.lines().all(|line| line.starts_with("{\"v\":1,\"type\":\"reading\"")));
        let is_of_key = |line: &str| *key == format!("truck-0042/{}", crate::archive::field(line, "device"));
        assert!(text.lines().all(is_of_key), "{key}: {text}");
    }
    wait_until("the second stream to be equal too", || {
        let there: usize = emulator.records(ANOMALIES).iter().map(|(_, data)| found::identities(data).len()).sum();
        let line = ledger("anomalies");
        there > 0 && line["buffered"] == 0 && line["delivered"] == there
    });
}
