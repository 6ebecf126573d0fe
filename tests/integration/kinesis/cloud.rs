//! A fake cloud, a gateway that sends to it, and a fleet that publishes to the gateway.

use std::path::PathBuf;

use fake_cloud::{FakeCloud, Settings, StreamStats};
use serde_json::Value;
use tempfile::TempDir;

use super::fleet::{DEVICES, Fleet, device};
use super::found::Found;
use crate::gateway::{Gateway, wait_until};

pub const RAW: &str = "fleet-raw";
pub const ANOMALIES: &str = "fleet-anomalies";
pub const ACCESS_KEY: &str = "AKIAOLD";

/// One reading per record: as many records as readings, so that faults of records occur often.
pub const SINGLE: &str = "record = \"single\"";

pub struct Cloud {
    pub fake: FakeCloud,
    pub gateway: Gateway,
    pub fleet: Fleet,
    /// Additional readings, not of the fleet, that must arrive, and those that must not.
    pub others: u64,
    pub dead: u64,
    /// The type of the sink.
    kind: &'static str,
    folder: TempDir,
}

/// Environment variables that make the SDK use `folder/credentials` only.
pub fn environment(folder: &TempDir) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    vec![
        ("AWS_SHARED_CREDENTIALS_FILE", path("credentials")),
        ("AWS_CONFIG_FILE", path("no-such-file")),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", String::new()),
    ]
}

pub fn config(endpoint: &str, sink: &str) -> String {
    config_of("kinesis", endpoint, sink)
}

pub fn config_of(kind: &str, endpoint: &str, sink: &str) -> String {
    format!(
        "[gateway]\nid = \"truck-0042\"\n\n[[sink]]\nname = \"cloud\"\ntype = \"{kind}\"\nregion = \"us-east-1\"\n\
         endpoint = \"{endpoint}\"\nraw = \"{RAW}\"\nanomalies = \"{ANOMALIES}\"\ntimeout = \"1s\"\n{sink}\n"
    )
}

pub fn start_gateway(folder: &TempDir, config: &str) -> Gateway {
    start_gateway_in(folder, config, &[])
}

/// The same with further variables.
pub fn start_gateway_in(folder: &TempDir, config: &str, more: &[(&str, &str)]) -> Gateway {
    write_credentials(folder, ACCESS_KEY);
    let environment = environment(folder);
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
    Gateway::start_configured(folder.path(), config, &[], &environment)
}

fn write_credentials(folder: &TempDir, access_key: &str) {
    let text = format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = secret\n");
    std::fs::write(folder.path().join("credentials"), text).unwrap();
}

impl Cloud {
    /// `sink` holds further keys of the sink.
    pub fn start(settings: Settings, sink: &str) -> Cloud {
        Cloud::start_of("kinesis", settings, sink)
    }

    /// With a sink of this type.
    pub fn start_of(kind: &'static str, settings: Settings, sink: &str) -> Cloud {
        let folder = tempfile::tempdir().unwrap();
        let fake = FakeCloud::start_blocking(settings).unwrap();
        let gateway = start_gateway(&folder, &config_of(kind, &fake.endpoint(), sink));
        Cloud { fake, gateway, fleet: Fleet::default(), others: 0, dead: 0, kind, folder }
    }

    /// Ends the gateway as suddenly as a power cut does, and starts it again.
    pub fn kill_and_restart(&mut self, sink: &str) {
        let pid = self.gateway.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        wait_until("it is dead", || !self.gateway.is_running());
        self.gateway = start_gateway(&self.folder, &config_of(self.kind, &self.fake.endpoint(), sink));
    }

    pub fn write_credentials(&self, access_key: &str) {
        write_credentials(&self.folder, access_key);
    }

    pub fn remove_credentials(&self) {
        std::fs::remove_file(self.folder.path().join("credentials")).unwrap();
    }

    /// Every device publishes this many further readings; they are acknowledged when this returns.
    pub fn publish(&mut self, count: u64) {
        self.fleet.publish(self.gateway.mqtt, count);
    }

    pub fn stats(&self, stream: &str) -> StreamStats {
        self.fake.stats().streams[stream].clone()
    }

    fn of_stream(&self, list: &str, stream: &str) -> Value {
        let ours = if stream == RAW { "raw" } else { "anomalies" };
        let status = self.gateway.status();
        status[list].as_array().unwrap().iter().find(|line| line["stream"] == ours).unwrap().clone()
    }

    pub fn ledger(&self, stream: &str) -> Value {
        self.of_stream("ledger", stream)
    }

    pub fn sink(&self, stream: &str) -> Value {
        self.of_stream("sinks", stream)
    }

    pub fn expect_error(&self, stream: &str, text: &str) {
        wait_until(text, || self.sink(stream)["last_error"].as_str().is_some_and(|error| error.contains(text)));
    }

    /// Checks that no error asked for a person's help.
    pub fn expect_no_alarm(&self) {
        let log = std::fs::read_to_string(&self.gateway.log).unwrap();
        assert!(!log.contains("halted") && !log.contains("ERROR"), "{log}");
    }

    /// Readings that the gateway has acknowledged.
    pub fn accepted(&self) -> u64 {
        self.fleet.published() + self.others + self.dead
    }

    /// Waits until everything has arrived, and checks order and ledger.
    pub fn expect_all(&self) {
        let arrived = self.fleet.published() + self.others;
        wait_until("every reading at the cloud", || {
            self.fake.stats().streams.get(RAW).is_some_and(|stream| stream.readings >= arrived)
        });
        // The gateway keeps sending records of its own, so the two counts are compared until they agree.
        for stream in [RAW, ANOMALIES] {
            wait_until("a ledger that equals the cloud's count", || {
                let (ledger, there) = (self.ledger(stream), self.stats(stream));
                ledger["buffered"] == 0 && ledger["delivered"] == there.distinct
            });
        }
        let status = self.gateway.status();
        assert_eq!(
            (&status["ledger_adds_up"], &status["received"]["accepted"]),
            (&true.into(), &self.accepted().into())
        );
        let ledger = self.ledger(RAW);
        assert_eq!((&ledger["accepted"], &ledger["dead_lettered"]), (&self.accepted().into(), &self.dead.into()));
        let there = self.stats(RAW);
        assert_eq!((there.distinct, there.lines - there.duplicates, there.uncounted), (arrived, arrived, 0));
        assert_eq!((there.position_regressions, there.sequence_regressions), (0, 0));
        // The same check again, independent of the cloud's own counts.
        let found = Found::read(self.fake.records(RAW).iter().map(|record| &record.data[..]));
        assert_eq!((found.out_of_order, found.repeats), (0, there.duplicates));
        for number in 0..DEVICES {
            assert_eq!(found.missing(&device(number), self.fleet.published_by_each()), 0, "{}", device(number));
        }
    }

    /// Reason and line of the stored dead letter.
    pub fn dead_letter(&self) -> (String, String) {
        let store: PathBuf = outrider::store::schema::store_path(&self.folder.path().join("state"));
        let db = outrider::store::schema::open_reader(&store, None).unwrap();
        db.query_row("SELECT reason, CAST(line AS TEXT) FROM dead_letter", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    }
}
