//! What a body is made of, where it is more than lines or an array: the settings of the protocols of Amazon Data Firehose and of Splunk.

use std::time::Duration;

use super::body::Framing;
use crate::keys::section::Section;
use crate::sinks::compression::Compression;
use crate::sinks::secret::{Secret, from_environment};

#[derive(Clone, Debug)]
pub enum Form {
    Plain(Framing),
    Firehose(FirehoseForm),
    Splunk(SplunkForm),
}

/// The protocol in which Amazon Data Firehose delivers to HTTP endpoints, version 1.0.
#[derive(Clone, Debug)]
pub struct FirehoseForm {
    pub access_key: Option<Secret>,
    pub source_arn: String,
    pub common_attributes: Vec<(String, Secret)>,
}

/// Splunk's HTTP Event Collector.
#[derive(Clone, Debug)]
pub struct SplunkForm {
    pub token: Secret,
    pub index: Option<String>,
    pub source: String,
    pub sourcetype: String,
    /// Within this time the indexers have to acknowledge events. `None`: what the collector has received counts as delivered.
    pub acknowledged_within: Option<Duration>,
}

/// The keys that one body has and others do not.
const OF_FIREHOSE: [&str; 3] = ["access_key", "source_arn", "common_attributes"];
const OF_SPLUNK: [&str; 6] = ["token", "index", "source", "sourcetype", "acknowledge", "acknowledge_timeout"];

/// Most bytes of an access key, and of the name and the value of a common attribute.
pub const ACCESS_KEY_BYTES_MAX: usize = 4096;
const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
/// And of the header with all of them: servers take headers of about twice this.
const ATTRIBUTES_BYTES_MAX: usize = 4 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Lines,
    Array,
    Firehose,
    Splunk,
}

/// Reads the key `body` and what belongs to it.
pub fn read(section: &mut Section<'_>, url: &str, headers: &[(String, Secret)], compression: Compression) -> Form {
    let words =
        [("lines", Word::Lines), ("array", Word::Array), ("firehose", Word::Firehose), ("splunk", Word::Splunk)];
    let word = section.choice("body", &words).unwrap_or(Word::Lines);
    for (owner, name, keys) in
        [(Word::Firehose, "firehose", &OF_FIREHOSE[..]), (Word::Splunk, "splunk", &OF_SPLUNK[..])]
    {
        for key in keys.iter().filter(|key| word != owner && section.has(key)).collect::<Vec<_>>() {
            section.blame(key, format!("only body = \"{name}\" has this"));
        }
    }
    let (firehose, splunk) = (firehose(section), splunk(section, word == Word::Splunk));
    let is_protocol = matches!(word, Word::Firehose | Word::Splunk);
    if is_protocol && compression == Compression::Zstd {
        section.blame("compression", "this body is compressed by gzip or not at all");
    }
    let reserved = match word {
        Word::Firehose => "x-amz-firehose-",
        Word::Splunk => "authorization",
        Word::Lines | Word::Array => {
            return Form::Plain(if word == Word::Array { Framing::Array } else { Framing::Lines });
        }
    };
    let is_reserved = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with(reserved) || name == "content-type" || name == "x-splunk-request-channel"
    };
    if headers.iter().any(|(name, _)| is_reserved(name)) {
        section.blame("headers", "this body brings Content-Type and the headers of its protocol by itself");
    }
    // It would be replaced by the load balancer's, in some requests of a channel and not in others.
    let has_cookie = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    if word == Word::Splunk && splunk.acknowledged_within.is_some() && has_cookie {
        section.blame("headers", "with acknowledgements, cookies are those that responses set; leave Cookie away");
    }
    if word == Word::Firehose {
        return Form::Firehose(firehose);
    }
    if url.contains("/services/collector") || url.contains(['?', '#']) {
        section.blame("url", "write the address of the collector alone, such as \"https://splunk.example.com:8088\"");
    }
    Form::Splunk(splunk)
}

fn firehose(section: &mut Section<'_>) -> FirehoseForm {
    let access_key = section.text("access_key");
    let access_key = access_key.and_then(|text| from_environment(section, "access_key", text));
    if access_key.as_ref().is_some_and(|key| key.0.len() > ACCESS_KEY_BYTES_MAX || !is_visible(&key.0)) {
        section.blame("access_key", "an access key has at most 4096 visible characters of ASCII");
    }
    let source_arn = section.text("source_arn").unwrap_or_default();
    if !is_arn(&source_arn) {
        section.blame("source_arn", "not of the form arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME");
    }
    let mut common_attributes = Vec::new();
    for (name, value) in section.headers("common_attributes") {
        if let Some(value) = from_environment(section, "common_attributes", value) {
            if value.0.len() > ATTRIBUTE_VALUE_BYTES_MAX || !is_visible(&value.0) {
                section.blame("common_attributes", "a value has at most 1024 visible characters of ASCII");
            }
            common_attributes.push((name, value));
        }
    }
    let bytes: usize = common_attributes.iter().map(|(name, value)| name.len() + value.0.len()).sum();
    if bytes > ATTRIBUTES_BYTES_MAX {
        section.blame("common_attributes", "names and values have at most 4096 bytes together: they are one header");
    }
    FirehoseForm { access_key, source_arn, common_attributes }
}

fn splunk(section: &mut Section<'_>, is_asked_for: bool) -> SplunkForm {
    let token = section.text("token");
    if is_asked_for && !section.has("token") {
        section.blame("token", "Splunk needs token, that of an HTTP Event Collector");
    }
    let token = token.and_then(|text| from_environment(section, "token", text)).unwrap_or(Secret(String::new()));
    if !is_visible(&token.0) {
        section.blame("token", "a token has visible characters of ASCII only");
    } else if token.0.contains(' ') {
        section.blame("token", "a token has no spaces; the word Splunk comes before it by itself");
    }
    let acknowledge = section.boolean("acknowledge");
    let within = section.duration("acknowledge_timeout");
    if !acknowledge && section.has("acknowledge_timeout") {
        section.blame("acknowledge_timeout", "without acknowledge = true nothing is waited for");
    }
    SplunkForm {
        token,
        index: section.text("index"),
        source: section.text("source").unwrap_or_default(),
        sourcetype: section.text("sourcetype").unwrap_or_default(),
        acknowledged_within: acknowledge.then_some(within),
    }
}

/// Whether a text can be the value of a header.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Receivers take the account, the region and the stream out of it.
fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let &["arn", partition, "firehose", region, account, resource] = &parts[..] else { return false };
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let stream = resource.strip_prefix("deliverystream/").unwrap_or_default();
    is_name(partition)
        && is_name(region)
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && is_name(stream)
        && stream.len() <= 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_region_account_and_stream() {
        for right in [
            "arn:aws:firehose:us-east-1:000000000000:deliverystream/outrider",
            concat!(
                "arn:aws-us-gov:firehose:us-gov-west-1:123456789012:deliverystream/",
                "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
            ),
            "arn:aws-cn:firehose:cn-north-1:123456789012:deliverystream/a.b_c-1",
        ] {
            assert!(is_arn(right), "{right}");
        }
        for wrong in [
            "",
            "outrider",
            "arn:aws:kinesis:us-east-1:000000000000:stream/outrider",
            "arn:aws:firehose:us-east-1:0:deliverystream/outrider",
            "arn:aws:firehose::000000000000:deliverystream/outrider",
            "arn:aws:firehose:us-east-1:000000000000:deliverystream/",
            "arn:aws:firehose:us-east-1:000000000000:deliverystream/a b",
        ] {
            assert!(!is_arn(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let form = Form::Splunk(SplunkForm {
            token: Secret("hush".to_owned()),
            index: None,
            source: "outrider".to_owned(),
            sourcetype: "_json".to_owned(),
            acknowledged_within: None,
        });
        let firehose = Form::Firehose(FirehoseForm {
            access_key: Some(Secret("hush".to_owned())),
            source_arn: String::new(),
            common_attributes: vec![("site".to_owned(), Secret("hush".to_owned()))],
        });
        assert!(!format!("{form:?}{firehose:?}").contains("hush"));
    }
}
