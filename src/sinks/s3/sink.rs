//! S3 as a kind of sink: its keys, how its section is read, and how it is started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;

use super::UploaderParts;
use super::building::BuildingSettings;
use super::client::Client;
use crate::core::identity::Stream;
use crate::finding::Finding;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB, format_duration, format_size};
use crate::sinks::address;
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::probe::of_role_alias;
use crate::sinks::cloud_streams as streams;
use crate::sinks::files::format::{FileFormat, compression_key, format_key};
use crate::sinks::kind::{ConfiguredSink, Conflict, Neighbour, SinkKind, Surroundings};
use crate::sinks::network::Counted;
use crate::sinks::probe::{Probe, Probing};
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "s3";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "lake", sends_records: false, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "bucket", Kind::Text(Shape::StreamName), Required { example: "\"fleet-telemetry\"" },
        "The bucket. Its policy and that of the credentials have to allow s3:PutObject and s3:GetObject."),
    key_of(GROUP, "region", Kind::Text(Shape::Region),
        Otherwise { meaning: "AWS_REGION, else the AWS profile's", example: "\"eu-central-1\"" },
        "The region of the bucket."),
    key_of(GROUP, "endpoint", Kind::Text(Shape::Endpoint),
        Otherwise { meaning: "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else the region's own", example: "\"http://127.0.0.1:9000\"" },
        "The address of another server that speaks the protocol of S3; it has to know conditional writes (If-None-Match)."),
    key_of(GROUP, "prefix", Kind::Text(Shape::Name),
        Otherwise { meaning: "none", example: "\"fleet/\"" },
        "What the names of all objects begin with. They go on with the stream, dt=YYYY-MM-DD/hour=HH (of receipt, in UTC), and {gateway}-{run}-{position} of the first record."),
    key_of(GROUP, "raw", Kind::Text(Shape::StreamName),
        Otherwise { meaning: "not sent, if another stream is named; else as raw", example: "\"raw\"" },
        "The name in the names of objects of the stream with every reading."),
    key_of(GROUP, "anomalies", Kind::Text(Shape::StreamName),
        Otherwise { meaning: "not sent, if another stream is named; else as anomalies", example: "\"anomalies\"" },
        "The same of the stream with anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "streams", Kind::StreamTargets,
        Otherwise { meaning: "every stream under its own name, if neither raw nor anomalies is given", example: "{ trips = \"trips\" }" },
        "Names of streams, each with its name in the names of objects: those of [[stream]], and raw and anomalies, if these have no key of their own."),
    format_key(GROUP),
    compression_key(GROUP),
    key_of(GROUP, "rotate_after", seconds(1, 86_400), Literal("\"15m\""),
        "An object is sent so long after its first record was received. Each costs a request, whatever its size."),
    key_of(GROUP, "rotate_size", size(64 * KIB, GIB), Literal("\"64MiB\""),
        "Or when it is this large. It is built on the disk of the state folder; where that has no room, objects of at most 1MiB are built in memory."),
    key_of(GROUP, "connect_timeout", seconds(1, 60), Literal("\"5s\""),
        "Time limit for connecting."),
    key_of(GROUP, "timeout", seconds(1, 600), Literal("\"60s\""),
        "How long an upload may stand still; after it the object is sent again."),
];

/// Sends files to a bucket.
#[derive(Clone, Debug)]
pub struct S3Bucket {
    pub bucket: String,
    pub connection: AwsConnection,
    pub prefix: String,
    /// Names of streams, each with its name in the bucket; `None` is every stream under its own name.
    pub targets: Option<BTreeMap<String, String>>,
    pub format: FileFormat,
    pub rotate_after: Duration,
    pub rotate_bytes: u64,
    /// Where files are built.
    pub folder: PathBuf,
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let prefix = section.text("prefix").unwrap_or_default();
    if prefix.starts_with('/') {
        section.blame("prefix", "names of objects begin without a slash");
    }
    Arc::new(S3Bucket {
        bucket: section.text("bucket").unwrap_or_default(),
        connection: streams::connection(section, surroundings),
        prefix,
        targets: targets(section, surroundings),
        format: FileFormat::read(section),
        rotate_after: section.duration("rotate_after"),
        rotate_bytes: section.size("rotate_size"),
        folder: surroundings.state_folder.join("uploads"),
    })
}

fn targets(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Option<BTreeMap<String, String>> {
    let targets = streams::targets(section, surroundings)?;
    if targets.is_empty() {
        section.blame("streams", "names no stream; without this key, every stream is sent");
    }
    let mut folders: Vec<&String> = targets.values().collect();
    folders.sort();
    if folders.windows(2).any(|pair| pair[0] == pair[1]) {
        section.blame_section("two streams have one name in the bucket: their objects could not be told apart");
    }
    Some(targets)
}

impl S3Bucket {
    /// As far as the names say so. Without an endpoint it is that of the environment, for both.
    fn is_same_bucket(&self, other: &S3Bucket) -> bool {
        let is_same_place = match (&self.connection.endpoint, &other.connection.endpoint) {
            (Some(ours), Some(theirs)) => address::is_same_url(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        is_same_place && self.bucket == other.bucket
    }

    fn target(&self, stream: &str) -> Option<String> {
        match &self.targets {
            Some(targets) => targets.get(stream).cloned(),
            None => Some(stream.to_owned()),
        }
    }
}

impl ConfiguredSink for S3Bucket {
    fn takes(&self, stream: &str) -> bool {
        self.targets.as_ref().is_none_or(|targets| targets.contains_key(stream))
    }

    fn describe(&self) -> String {
        let streams = match &self.targets {
            None => "every stream".to_owned(),
            Some(targets) => {
                targets.iter().map(|(name, target)| format!("{name} as {target}")).collect::<Vec<_>>().join(", ")
            }
        };
        format!(
            "objects in the bucket {} in {}, {}, {streams}, a new one every {} or {}{}",
            self.bucket,
            self.connection.describe_place(),
            self.format.describe(),
            format_duration(self.rotate_after),
            format_size(self.rotate_bytes),
            self.connection.describe_credentials()
        )
    }

    fn notes(&self) -> Vec<String> {
        self.connection.notes()
    }

    /// An object is named by gateway, run and position of its first record, and positions are counted in each stream: one stream would take an object of the other
    /// for its own, and go on behind it. Of one stream that is right.
    fn conflict(&self, other: &Neighbour<'_>, surroundings: &Surroundings<'_>) -> Option<Conflict> {
        let theirs = other.of::<S3Bucket>()?;
        if !self.is_same_bucket(theirs) {
            return None;
        }
        let built_in = Stream::BUILT_IN.map(|(_, name)| name);
        let known = || built_in.into_iter().chain(surroundings.streams.iter().map(|stream| &*stream.name));
        let folder = |bucket: &S3Bucket, stream: &str| Some(format!("{}{}", bucket.prefix, bucket.target(stream)?));
        let pairs = known().flat_map(|ours| known().map(move |theirs| (ours, theirs)));
        let mut shared = pairs.filter(|(ours, their_stream)| {
            ours != their_stream && folder(self, ours).is_some_and(|ours| folder(theirs, their_stream) == Some(ours))
        });
        let (stream, their_stream) = shared.next()?;
        let folder = folder(self, stream).unwrap_or_default();
        let text = format!(
            "stores objects of {stream} as {folder} in the bucket {}, and the sink {} stores those of {their_stream} there: objects of two streams may have one name, \
             and then records of one would be lost; give each stream a name of its own in the bucket, or the sinks different prefixes",
            self.bucket, other.name
        );
        Some(Conflict { keys: &["prefix", "streams", "raw", "anomalies"], text })
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let mut parts = Vec::new();
        for row in starting.streams() {
            let Some(folder) = self.target(&row.name) else { continue };
            let building = BuildingSettings {
                format: self.format,
                rotate_after: self.rotate_after,
                rotate_bytes: self.rotate_bytes,
                folder: self.folder.clone(),
                free_bytes_min: starting.free_bytes_min(),
                held_bytes_max: starting.store_bytes_max() / 4,
            };
            parts.push((starting.stream(row)?, building, folder, starting.random_seed()?));
        }
        let (settings, flush_within) = (self.clone(), starting.grace());
        starting.spawn(move || async move {
            // All streams share the connections.
            let network = settings.connection.connector();
            let tasks = LocalSet::new();
            for (source, building, folder, seed) in parts {
                let http = Counted::connector(network.clone(), &source.status);
                let client = Client::new(&settings.bucket, settings.connection.clone(), http);
                let prefix = settings.prefix.clone();
                tasks.spawn_local(super::run(UploaderParts {
                    source,
                    building,
                    client,
                    prefix,
                    folder,
                    flush_within,
                    seed,
                }));
            }
            tasks.await;
        })
    }

    fn probe<'a>(&'a self, _: &'a Probing) -> Probe<'a> {
        Box::pin(async {
            let client = Client::new(&self.bucket, self.connection.clone(), self.connection.connector());
            let mut findings = of_role_alias(&self.connection);
            match client.credentials().await {
                Ok(text) => findings.push(Finding::well(text)),
                Err(finding) => {
                    findings.push(finding);
                    return findings;
                }
            }
            // No object has this name: those of records are in folders of their streams.
            findings.push(client.try_to_read(&format!("{}outrider-doctor", self.prefix)).await);
            findings
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    fn read(keys: &str) -> Result<Configuration, String> {
        let text = format!("store.path = '/s'\n[[sink]]\nname = 'lake'\ntype = 's3'\n{keys}");
        Configuration::parse(Path::new("f"), &text, &Sources::default(), &Host::read())
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_bucket_is_enough_and_streams_can_be_chosen() {
        let all = read("bucket = 'b'\nregion = 'eu-central-1'\n").expect("right");
        let sink = &all.sinks[0];
        assert!(sink.takes("raw") && sink.takes("anomalies") && sink.takes("trips"));
        assert_eq!(
            sink.sink.describe(),
            "objects in the bucket b in eu-central-1, NDJSON with zstd, every stream, a new one every 15m or 64MiB"
        );
        let some = read("bucket = 'b'\nraw = 'readings'\nformat = 'parquet'\nendpoint = 'http://x'\n").expect("right");
        let sink = &some.sinks[0];
        assert!(sink.takes("raw") && !sink.takes("anomalies"));
        let described = sink.sink.describe();
        assert!(described.contains(" at http://x, Parquet, raw as readings, "), "{described}");
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (keys, problem) in [
            ("", "`bucket` is missing"),
            ("bucket = 'b'\nprefix = '/x'\n", "names of objects begin without a slash"),
            ("bucket = 'b'\nstreams = {}\n", "names no stream"),
            ("bucket = 'b'\nraw = 'x'\nanomalies = 'x'\n", "two streams have one name in the bucket"),
            ("bucket = 'b'\nraw = 'x'\nstreams = { raw = 'y' }\n", "raw is a key of its own"),
            ("bucket = 'b'\nstreams = { trips = 'y' }\n", "there is no stream trips"),
            ("bucket = 'b'\nformat = 'parquet'\ncompression = 'gzip'\n", "Parquet files are compressed with zstd"),
            (
                "bucket = 'b'\n[aws]\nrole_alias = 'x'\n",
                "`credentials_endpoint` is missing; credentials by a certificate need",
            ),
            ("bucket = 'b'\n[aws]\ncredentials_endpoint = 'https://x'\n", "the name of a host without https://"),
            (
                "bucket = 'b'\n[aws]\ncredentials_endpoint = 'x'\nrole_alias = 'x'\ncertificate = '/none/c'\nkey = '/none/k'\n",
                "aws.certificate = '/none/c': /none/c: cannot be read",
            ),
        ] {
            let said = read(keys).expect_err(keys);
            assert!(said.contains(problem), "{keys}: {said}");
        }
    }
}
