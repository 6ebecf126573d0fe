//! What a first configuration depends on.

use std::str::FromStr;

use clap::ValueEnum;

/// All answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// `None`: as the machine is called.
    pub id: Option<String>,
    pub who: Who,
    pub listen: String,
    pub sinks: Vec<Sink>,
    pub region: Option<String>,
    /// `None`: by the free disk.
    pub store_size: Option<String>,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers {
            id: None,
            who: Who::Local,
            listen: Who::Local.listen().to_owned(),
            sinks: vec![Sink::Archive],
            region: None,
            store_size: None,
        }
    }
}

/// Who may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Who {
    /// Programs on this machine
    #[default]
    Local,
    /// Devices with certificates, by TLS
    Certificates,
    /// Devices and people with passwords, by TLS
    Passwords,
    /// Whoever reaches the port, unencrypted
    Anybody,
}

impl Who {
    pub fn listen(self) -> &'static str {
        match self {
            Who::Local => "127.0.0.1:1883",
            Who::Certificates | Who::Passwords => "0.0.0.0:8883",
            Who::Anybody => "0.0.0.0:1883",
        }
    }
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    Archive,
    /// What the names of its streams begin with.
    Kinesis(String),
    Firehose(String),
    Kafka {
        broker: String,
        name: String,
    },
    S3(String),
    Http(String),
    OpenSearch(String),
    /// An InfluxDB 2.
    InfluxDb {
        url: String,
        org: String,
        bucket: String,
    },
    VictoriaMetrics(String),
    /// The URL of a broker.
    Mqtt(String),
}

impl Sink {
    pub fn is_of_aws(&self) -> bool {
        matches!(self, Sink::Kinesis(_) | Sink::Firehose(_) | Sink::S3(_))
    }
}

impl FromStr for Sink {
    type Err = String;

    fn from_str(text: &str) -> Result<Sink, String> {
        let (kind, target) =
            text.split_once('=').map_or((text, None), |(kind, target)| (kind, Some(target.to_owned())));
        let target = target.filter(|target| !target.is_empty());
        match (kind, target) {
            ("archive", None) => Ok(Sink::Archive),
            ("kinesis", Some(name)) => Ok(Sink::Kinesis(name)),
            ("firehose", Some(name)) => Ok(Sink::Firehose(name)),
            ("kafka", Some(target)) => match target.split_once('/') {
                Some((broker, name)) if !broker.is_empty() && !name.is_empty() => {
                    Ok(Sink::Kafka { broker: broker.to_owned(), name: name.to_owned() })
                }
                _ => Err("write kafka=HOST:PORT/NAME, for the topics NAME-raw and NAME-anomalies".to_owned()),
            },
            ("s3", Some(bucket)) => Ok(Sink::S3(bucket)),
            ("http", Some(url)) => Ok(Sink::Http(url)),
            ("mqtt", Some(url)) => Ok(Sink::Mqtt(url)),
            ("opensearch", Some(url)) => Ok(Sink::OpenSearch(url)),
            ("victoriametrics", Some(url)) => Ok(Sink::VictoriaMetrics(url)),
            ("influxdb", Some(target)) => {
                let mut parts = target.rsplitn(3, '/');
                match [parts.next(), parts.next(), parts.next()] {
                    [Some(bucket), Some(org), Some(url)]
                        if !bucket.is_empty() && !org.is_empty() && !url.ends_with('/') =>
                    {
                        Ok(Sink::InfluxDb { url: url.to_owned(), org: org.to_owned(), bucket: bucket.to_owned() })
                    }
                    _ => Err("write influxdb=URL/ORG/BUCKET, for an InfluxDB 2".to_owned()),
                }
            }
            ("archive", Some(_)) => Err("the archive is in the state folder; its path can be set later".to_owned()),
            (
                "kinesis" | "firehose" | "kafka" | "s3" | "http" | "influxdb" | "victoriametrics" | "opensearch"
                | "mqtt",
                None,
            ) => Err(format!("write {kind}=TARGET")),
            _ => Err("there are archive, kinesis=NAME, firehose=NAME, kafka=HOST:PORT/NAME, s3=BUCKET, http=URL, \
                      influxdb=URL/ORG/BUCKET, victoriametrics=URL, opensearch=URL and mqtt=URL"
                .to_owned()),
        }
    }
}
