//! A server of objects, a gateway that sends to it through a proxy, and a fleet that publishes to the gateway.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::faulty::Faulty;
use super::servers::{BUCKET, Kind, Object, Server};
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::kinesis::fleet::{DEVICES, Fleet, device};

/// Files are sent as soon as they may be.
pub const SOON: &str = "rotate_after = \"1s\"";
pub const ACCESS_KEY: &str = "AKIATEST";
pub const SECRET_KEY: &str = "se/cret";
pub const TOKEN: &str = "to/ken==";

pub struct Lake {
    pub server: Server,
    pub proxy: Faulty,
    gateway: Option<Gateway>,
    fleet: Fleet,
    config: String,
    bucket: String,
    /// Variables of the gateway's environment.
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
}

/// What the objects of one stream hold.
#[derive(Default)]
pub struct Found {
    /// For each identity, the device and its own number.
    readings: HashMap<String, (String, u64)>,
    pub repeats: u64,
    pub objects: u64,
}

impl Found {
    pub fn distinct(&self) -> u64 {
        self.readings.len() as u64
    }
}

fn credentials() -> Vec<(&'static str, String)> {
    let names =
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_SESSION_TOKEN", TOKEN)];
    names.map(|(name, value)| (name, value.to_owned())).to_vec()
}

impl Lake {
    /// `keys` holds further keys of the sink.
    pub fn start(kind: Kind, keys: &str) -> Lake {
        Lake::start_with("truck-0042", BUCKET, kind, keys)
    }

    /// Trusts the CAs of this file alone, and has no credentials of its own.
    pub fn start_trusting(authorities: &Path, keys: &str) -> Lake {
        let environment = vec![("SSL_CERT_FILE", authorities.to_str().unwrap().to_owned())];
        Lake::start_within(environment, "truck-0042", BUCKET, Kind::Gofakes3, keys)
    }

    pub fn start_without_credentials(keys: &str) -> Lake {
        Lake::start_within(Vec::new(), "truck-0042", BUCKET, Kind::Gofakes3, keys)
    }

    pub fn start_in(bucket: &str, kind: Kind, keys: &str) -> Lake {
        Lake::start_with("truck-0042", bucket, kind, keys)
    }

    pub fn start_as(gateway: &str, kind: Kind, keys: &str) -> Lake {
        Lake::start_with(gateway, BUCKET, kind, keys)
    }

    pub fn start_with_grace(grace: &str, keys: &str) -> Lake {
        let mut environment = credentials();
        environment.push(("OUTRIDER__GATEWAY__SHUTDOWN_GRACE", grace.to_owned()));
        Lake::start_within(environment, "truck-0042", BUCKET, Kind::Gofakes3, keys)
    }

    fn start_with(gateway: &str, bucket: &str, kind: Kind, keys: &str) -> Lake {
        Lake::start_within(credentials(), gateway, bucket, kind, keys)
    }

    fn start_within(
        environment: Vec<(&'static str, String)>,
        gateway: &str,
        bucket: &str,
        kind: Kind,
        keys: &str,
    ) -> Lake {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(kind);
        let proxy = Faulty::start(server.address);
        let config = format!(
            "gateway.id = \"{gateway}\"\n\n[[sink]]\nname = \"lake\"\ntype = \"s3\"\nendpoint = \"{}\"\nbucket = \"{bucket}\"\nprefix = \"fleet/\"\n{}{}{keys}\n",
            proxy.url(),
            if keys.contains("timeout") { "" } else { "timeout = \"2s\"\n" },
            if keys.contains("region") { "" } else { "region = \"us-east-1\"\n" }
        );
        let mut lake = Lake {
            server,
            proxy,
            gateway: None,
            fleet: Fleet::default(),
            config,
            bucket: bucket.to_owned(),
            environment,
            folder,
        };
        lake.run();
        lake
    }

    fn run(&mut self) {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        // Nothing of this machine's own.
        let none = ["credentials", "config"].map(path);
        let mut environment = vec![
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SHARED_CREDENTIALS_FILE", &*none[0]),
            ("AWS_CONFIG_FILE", &*none[1]),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        environment.extend(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        self.gateway = Some(Gateway::start_configured(self.folder.path(), &self.config, &[], &environment));
    }

    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// `keys` holds further keys of the sink.
    pub fn kill_and_restart_with(&mut self, keys: &str) {
        self.gateway.take().unwrap().kill();
        self.config.push_str(keys);
        self.run();
    }

    pub fn restart(&mut self) {
        self.run();
    }

    pub fn stop(&mut self) {
        assert!(self.gateway.take().unwrap().stop().success());
    }

    /// Every device publishes this many further readings; they are acknowledged when this returns.
    pub fn publish(&mut self, count: u64) {
        self.fleet.publish(self.gateway().mqtt, count);
    }

    pub fn published(&self) -> u64 {
        self.fleet.published()
    }

    pub fn sink(&self, stream: &str) -> Value {
        let status = self.gateway().status();
        status["sinks"].as_array().unwrap().iter().find(|line| line["stream"] == stream).unwrap().clone()
    }

    pub fn expect_error(&self, text: &str) {
        wait_until(text, || self.sink("raw")["last_error"].as_str().is_some_and(|error| error.contains(text)));
    }

    pub fn is_delivered(&self) -> bool {
        let status = self.gateway().status();
        let line = ledger_line(&status, "lake", "raw");
        line["buffered"] == 0 && line["delivered"] == self.published()
    }

    /// Waits until every reading has arrived; compares them with what was published and with the ledger. Returns the number of objects.
    pub fn expect_all_of_raw(&self) -> u64 {
        wait_until("every reading is delivered", || self.is_delivered());
        let status = self.gateway().status();
        assert_eq!(status["ledger_adds_up"], true, "{}", status["ledger"]);
        let found = self.found("raw");
        assert_eq!((found.distinct(), found.repeats), (self.published(), 0));
        let there: HashSet<&(String, u64)> = found.readings.values().collect();
        for number in 0..DEVICES {
            for sequence in 1..=self.fleet.published_by_each() {
                assert!(there.contains(&(device(number), sequence)), "{} {sequence}", device(number));
            }
        }
        found.objects
    }

    /// The same, and the second stream as well.
    pub fn expect_all(&self) -> u64 {
        let objects = self.expect_all_of_raw();
        // The gateway keeps sending records of its own, so the counts of the second stream are compared until they agree.
        wait_until("a ledger of the second stream that equals the objects", || {
            let status = self.gateway().status();
            let found = self.found("anomalies");
            found.repeats == 0 && ledger_line(&status, "lake", "anomalies")["delivered"] == found.distinct()
        });
        objects
    }

    pub fn found(&self, stream: &str) -> Found {
        let mut found = Found::default();
        for object in self.server.objects_in(&self.bucket, &format!("fleet/{stream}/")) {
            found.add(stream, &object);
        }
        found
    }
}

impl Found {
    /// An object is named by its first record, holds one run in order, and says where it ends.
    fn add(&mut self, stream: &str, object: &Object) {
        let records: Vec<Value> = lines(object).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (first, last) = (&records[0], &records[records.len() - 1]);
        let name = object.key.rsplit('/').next().unwrap();
        let end = format!("-{}-{}.ndjson.", first["run"].as_str().unwrap(), first["position"]);
        assert!(name.contains(&end), "{name} has {end}");
        assert_eq!(last["position"], object.last, "{name}");
        let received_ms = ["received_at_ms", "updated_at_ms", "at_ms"].iter().find_map(|time| first[time].as_i64());
        let at = time::OffsetDateTime::from_unix_timestamp(received_ms.unwrap() / 1000).unwrap();
        let hour = format!("fleet/{stream}/dt={}/hour={:02}/", at.date(), at.hour());
        // Lines of one batch have the time of its last one.
        assert!(object.key.starts_with(&hour) || stream != "raw", "{} is not in {hour}", object.key);
        for record in &records {
            assert_eq!(record["run"], first["run"], "{name}");
            let identity = format!("{}/{}/{}", record["gateway"], record["run"], record["position"]);
            let reading =
                (record["device"].as_str().unwrap_or_default().to_owned(), record["seq"].as_u64().unwrap_or_default());
            self.repeats += u64::from(self.readings.insert(identity, reading).is_some());
        }
        self.objects += 1;
    }
}

fn lines(object: &Object) -> String {
    let mut text = String::new();
    match object.key.ends_with(".gz") {
        true => flate2::read::GzDecoder::new(&object.content[..]).read_to_string(&mut text).unwrap(),
        false => zstd::Decoder::new(&object.content[..]).unwrap().read_to_string(&mut text).unwrap(),
    };
    text
}
