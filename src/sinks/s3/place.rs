//! The names of objects, and their addresses.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::clock;
use crate::core::identity::RunId;
use crate::sinks::aws::service::domain;
use crate::store::log::Record;

/// What a name of a gateway may have besides letters and digits: anything else would begin a folder, or be taken for a wildcard somewhere.
const IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What is left as it is in the path of a URL, as SigV4 defines it.
const IN_PATHS: &AsciiSet = &IN_NAMES.remove(b'/');

/// The first record of an object, which gives it its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// As the inside of a JSON string.
    pub gateway: String,
    pub run: RunId,
    pub position: u64,
    pub received_ms: i64,
}

impl First {
    pub fn of(record: &Record<'_>) -> First {
        First {
            gateway: record.gateway.to_owned(),
            run: record.run,
            position: record.position,
            received_ms: record.received_ms,
        }
    }

    /// `dt=YYYY-MM-DD/hour=HH`, by receive time in UTC.
    pub fn hour(&self) -> String {
        hour(self.received_ms)
    }

    /// `{prefix}{folder}/dt=YYYY-MM-DD/hour=HH/{gateway}-{run}-{position}{suffix}`.
    pub fn key(&self, prefix: &str, folder: &str, suffix: &str) -> String {
        let gateway = serde_json::from_str::<String>(&format!("\"{}\"", self.gateway)).unwrap_or_default();
        let gateway = utf8_percent_encode(&gateway, IN_NAMES);
        format!("{prefix}{folder}/{}/{gateway}-{}-{}{suffix}", self.hour(), self.run, self.position)
    }
}

pub fn hour(received_ms: i64) -> String {
    let at = clock::utc(received_ms);
    format!("dt={}/hour={:02}", at.date(), at.hour())
}

/// Where a bucket is.
#[derive(Clone, Debug)]
pub struct Address<'a> {
    pub bucket: &'a str,
    pub region: &'a str,
    /// A server that is not AWS, or a private link.
    pub endpoint: Option<&'a str>,
}

impl Address<'_> {
    /// The URL of an object. AWS has a host for each bucket; elsewhere, and where the bucket's name would not fit a certificate, the bucket
    /// is the beginning of the path.
    pub fn url(&self, key: &str) -> String {
        let mut url = match self.endpoint {
            Some(endpoint) => format!("{}/{}", endpoint.trim_end_matches('/'), self.bucket),
            None => {
                let domain = domain(self.region);
                match self.bucket.contains('.') {
                    true => format!("https://s3.{}.{domain}/{}", self.region, self.bucket),
                    false => format!("https://{}.s3.{}.{domain}", self.bucket, self.region),
                }
            }
        };
        let _ = write!(url, "/{}", utf8_percent_encode(key, IN_PATHS));
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_first_record() {
        let first = First {
            gateway: "truck-0042".to_owned(),
            run: RunId([0x7f; 8]),
            position: 4711,
            received_ms: 1_795_517_165_120,
        };
        assert_eq!(
            first.key("fleet/", "raw", ".parquet"),
            "fleet/raw/dt=2026-11-24/hour=10/truck-0042-7f7f7f7f7f7f7f7f-4711.parquet"
        );
        let other = First { gateway: "a/b \\\"c".to_owned(), ..first };
        let key = other.key("", "raw", "");
        assert!(key.ends_with("/a%2Fb%20%22c-7f7f7f7f7f7f7f7f-4711"), "{key}");
    }

    #[test]
    fn a_bucket_has_a_host_or_a_path() {
        let at = |bucket, region, endpoint| Address { bucket, region, endpoint }.url("a=b/c%20d");
        assert_eq!(at("bkt", "eu-central-1", None), "https://bkt.s3.eu-central-1.amazonaws.com/a%3Db/c%2520d");
        assert_eq!(at("a.b", "cn-north-1", None), "https://s3.cn-north-1.amazonaws.com.cn/a.b/a%3Db/c%2520d");
        assert_eq!(at("bkt", "x", Some("http://127.0.0.1:9/")), "http://127.0.0.1:9/bkt/a%3Db/c%2520d");
    }
}
