//! HTTP as a kind of sink: its keys, how its section is read, and how it is started.

use std::rc::Rc;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;

use super::alerts::AlertFormat;
use super::client::Client;
use super::forms::{self, Form};
use super::target::{HttpTarget, Take};
use super::{HttpSink, firehose, splunk};
use crate::core::delivery::{DeliverySettings, Grouping};
use crate::finding::Finding;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{KIB, MIB, format_size};
use crate::sinks::address;
use crate::sinks::compression::Compression;
use crate::sinks::kind::{ConfiguredSink, SinkKind, Surroundings};
use crate::sinks::network::{self, Counted};
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing, of_outcome};
use crate::sinks::secret::{Secret, from_environment};
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "http";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "web", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// Most records in one request.
const REQUEST_RECORDS_MAX: usize = 500;
/// Most bytes of a record, unless one of its lines is longer.
const RECORD_BYTES: usize = 64 << 10;

/// With another one of these, a service reads something else than what was posted, and may well say that it has it.
const OF_THE_REQUEST: [&str; 9] = [
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "url", Kind::Text(Shape::SecretUrl), Required { example: "\"https://ingest.example.com/readings\"" },
        "Where records are posted. A proxy is taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY."),
    key_of(GROUP, "headers", Kind::Headers { count_max: 32 },
        Otherwise { meaning: "no further headers", example: "{ Authorization = \"Bearer x\" }" },
        "Headers of each request; \"env:NAME\" takes the value from an environment variable. Those of HTTP itself that say how long the request is or how it is sent, such as Content-Length, are the sink's."),
    key_of(GROUP, "body", Kind::Choice(&["lines", "array", "firehose", "splunk"]), Literal("\"lines\""),
        "One record per line; one JSON array of records; a request in the protocol in which Amazon Data Firehose delivers to HTTP endpoints, a record each; or events for Splunk's HTTP Event Collector at url."),
    key_of(GROUP, "access_key", Kind::Text(Shape::AccessKey),
        Otherwise { meaning: "none", example: "\"env:FIREHOSE_KEY\"" },
        "With body = \"firehose\": the key that the endpoint lets in; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "source_arn", Kind::Text(Shape::StreamArn), Literal("\"arn:aws:firehose:us-east-1:000000000000:deliverystream/outrider\""),
        "With body = \"firehose\": the Firehose stream that requests say they come from; endpoints take the region, the account and the name out of it."),
    key_of(GROUP, "common_attributes", Kind::Headers { count_max: 50 },
        Otherwise { meaning: "none", example: "{ site = \"yard-7\" }" },
        "With body = \"firehose\": attributes that are the same for all records, in a header of each request."),
    key_of(GROUP, "token", Kind::Text(Shape::Secret),
        Otherwise { meaning: "none; body = \"splunk\" needs one", example: "\"env:SPLUNK_TOKEN\"" },
        "With body = \"splunk\": the token of the HTTP Event Collector; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "index", Kind::Text(Shape::Name),
        Otherwise { meaning: "the token's own", example: "\"fleet\"" },
        "With body = \"splunk\": the index that events go to."),
    key_of(GROUP, "source", Kind::Text(Shape::Name), Literal("\"outrider\""),
        "With body = \"splunk\": the source of events. Their host is the gateway."),
    key_of(GROUP, "sourcetype", Kind::Text(Shape::Name), Literal("\"_json\""),
        "With body = \"splunk\": the source type of events."),
    key_of(GROUP, "acknowledge", Kind::Boolean, Literal("true"),
        "With body = \"splunk\": events count as delivered once an indexer says that it has stored them, which the token has to allow; false, for Splunk Cloud: once the collector has received them."),
    key_of(GROUP, "acknowledge_timeout", seconds(1, 3600), Literal("\"5m\""),
        "With body = \"splunk\": events that are not acknowledged within this time are posted again."),
    key_of(GROUP, "compression", Kind::Choice(Compression::NAMES), Literal("\"none\""),
        "How bodies are compressed."),
    key_of(GROUP, "take", Kind::Choice(&["all", "alerts"]), Literal("\"all\""),
        "Post every record of its streams, or alerts alone."),
    key_of(GROUP, "streams", Kind::Texts { shape: Shape::LogStream, count_max: 32 },
        Otherwise { meaning: "every stream", example: "[\"trips\"]" },
        "With take = \"all\": the streams that are posted, those of [[stream]] among them; raw has the readings, anomalies the anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "alert_format", Kind::Choice(&["outrider", "alertmanager", "pagerduty"]), Literal("\"outrider\""),
        "With take = \"alerts\": as Outrider's records, for Alertmanager's /api/v2/alerts, or for PagerDuty's Events API v2."),
    key_of(GROUP, "routing_key", Kind::Text(Shape::Secret),
        Otherwise { meaning: "none; alert_format = \"pagerduty\" needs one", example: "\"0123456789abcdef0123456789abcdef\"" },
        "The integration key of a PagerDuty service; \"env:NAME\" takes it from an environment variable."),
    posting::batch_delay(GROUP, "\"100ms\""),
    key_of(GROUP, "request_size_max", size(4 * KIB, 16 * MIB), Literal("\"1MiB\""),
        "The largest body, before it is encoded or compressed; a record that does not fit is kept as a dead letter."),
    posting::requests_in_flight(GROUP),
    posting::held_size_max(GROUP, "\"2MiB\""),
    posting::connect_timeout(GROUP),
    posting::timeout(GROUP, "\"10s\""),
];

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let url = section.text("url").unwrap_or_default();
    if address::holds_login(&url) {
        section.blame("url", "holds a login, which is not sent; give it as headers = { Authorization = \"env:NAME\" }");
    }
    let mut headers = Vec::new();
    for (name, value) in section.headers("headers") {
        if value.contains(" env:") {
            section.blame(
                "headers",
                format!("{name}: only a value that begins with env: is taken from the environment, as a whole"),
            );
            continue;
        }
        if OF_THE_REQUEST.contains(&name.to_ascii_lowercase().as_str()) {
            section.blame("headers", format!("{name} says how long the request is, or how it is sent, which the sink does by itself; leave it away"));
            continue;
        }
        if let Some(value) = from_environment(section, "headers", value) {
            headers.push((name, value));
        }
    }
    let routing_key = section.text("routing_key");
    let routing_key = routing_key.and_then(|text| from_environment(section, "routing_key", text));
    let formats = [("outrider", 0_u8), ("alertmanager", 1), ("pagerduty", 2)];
    let format = match (section.choice("alert_format", &formats), routing_key) {
        (Some(2), Some(routing_key)) => AlertFormat::PagerDuty { routing_key },
        (Some(2), None) => {
            if !section.has("routing_key") {
                section.blame("alert_format", "PagerDuty needs routing_key, the integration key of the service");
            }
            AlertFormat::Outrider
        }
        (Some(1), _) => AlertFormat::Alertmanager,
        _ => AlertFormat::Outrider,
    };
    let is_all = section.choice("take", &[("all", true), ("alerts", false)]).unwrap_or(true);
    if is_all && !matches!(format, AlertFormat::Outrider) {
        section.blame("alert_format", "only alerts have another format; set take = \"alerts\"");
    }
    let streams = posting::streams(section, surroundings, "posted");
    if streams.is_some() && !is_all {
        section.blame("streams", "alerts are in one stream; leave this away, or set take = \"all\"");
    }
    let compression = section.choice("compression", &Compression::CHOICES).unwrap_or(Compression::None);
    let form = forms::read(section, &url, &headers, compression);
    if !matches!(form, Form::Plain(_)) && !matches!(format, AlertFormat::Outrider) {
        section.blame("alert_format", "on-call tools know no such body; leave body away");
    }
    let take = if is_all { Take::All { streams } } else { Take::Alerts(format) };
    let delivery = posting::delivery(section, REQUEST_RECORDS_MAX, RECORD_BYTES);
    Arc::new(HttpTarget {
        url: Secret(url),
        headers,
        delivery: delivery_of(&form, &take, delivery),
        form,
        compression,
        take,
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
    })
}

/// As the form of the body wants it.
fn delivery_of(form: &Form, take: &Take, delivery: DeliverySettings) -> DeliverySettings {
    let request_bytes_max = delivery.request_bytes_max;
    // PagerDuty takes one event per request.
    let is_single = matches!(take, Take::Alerts(AlertFormat::PagerDuty { .. }));
    DeliverySettings {
        grouping: if is_single { Grouping::Single } else { Grouping::Lines },
        record_bytes_soft: record_bytes_soft(form, request_bytes_max),
        record_bytes_max: match form {
            Form::Firehose(_) => request_bytes_max.min(firehose::RECORD_BYTES_MAX),
            Form::Plain(_) | Form::Splunk(_) => request_bytes_max,
        },
        request_records_max: if is_single { 1 } else { delivery.request_records_max },
        ..delivery
    }
}

/// One record of a device is under way at a time. With acknowledgements it is for as long as one takes, so records are large there: what a device
/// can have stored is a record for each time that an acknowledgement takes.
fn record_bytes_soft(form: &Form, request_bytes_max: usize) -> usize {
    match form {
        Form::Splunk(form) if form.acknowledged_within.is_some() => request_bytes_max / 2,
        Form::Plain(_) | Form::Firehose(_) | Form::Splunk(_) => RECORD_BYTES.min(request_bytes_max),
    }
}

const OF_CLOUD: &str = "Splunk Cloud acknowledges to Amazon Data Firehose only, so nothing would ever count as delivered; set acknowledge = false";
const UNACKNOWLEDGED: &str = "acknowledge = false: what Splunk's collector has received counts as delivered, although it is in memory only until an indexer has written it";

/// How much gets through where each record waits for its acknowledgement.
fn throughput(delivery: &DeliverySettings) -> String {
    let in_flight = delivery.requests_in_flight_max as u64 * delivery.request_bytes_max as u64;
    let of_stream = in_flight.min(delivery.held_bytes_max as u64);
    format!(
        "until Splunk's indexers acknowledge what was posted, which takes seconds to minutes, nothing more goes out than {} of a device and {} of a stream; where more comes than \
         that, raise request_size_max, requests_in_flight and held_size_max. Alerts wait like all else",
        format_size(delivery.record_bytes_soft as u64),
        format_size(of_stream)
    )
}

impl HttpTarget {
    /// What whoever is between can read.
    fn unencrypted(&self) -> Option<String> {
        if !self.url.0.starts_with("http://") || network::is_here(&self.url.0) {
            return None;
        }
        let secret = match (&self.form, &self.take) {
            (Form::Splunk(_), _) => "the token",
            (Form::Firehose(form), _) if form.access_key.is_some() => "the access key",
            (_, Take::Alerts(AlertFormat::PagerDuty { .. })) => "the routing key",
            _ if !self.headers.is_empty() => "what `headers` say",
            _ => return None,
        };
        Some(format!(
            "records and {secret} are sent unencrypted, and readable by whoever is between; let url begin with https://"
        ))
    }
}

/// With the headers of its protocol that are secret.
fn client(target: &HttpTarget, connector: SharedHttpConnector) -> Client {
    let mut target = target.clone();
    match &target.form {
        Form::Plain(_) => {}
        Form::Firehose(form) => target.headers.extend(firehose::secret_headers(form)),
        Form::Splunk(form) => target.headers.push(splunk::authorization(form)),
    }
    Client::new(&target, connector)
}

impl ConfiguredSink for HttpTarget {
    fn takes(&self, stream: &str) -> bool {
        match &self.take {
            Take::All { streams: None } => true,
            Take::All { streams: Some(streams) } => streams.iter().any(|name| name == stream),
            Take::Alerts(_) => stream == "anomalies",
        }
    }

    fn describe(&self) -> String {
        let what = match &self.take {
            Take::All { streams: None } => "every stream".to_owned(),
            Take::All { streams: Some(streams) } => streams.join(", "),
            Take::Alerts(_) => "alerts".to_owned(),
        };
        let how = match &self.form {
            Form::Plain(_) => "",
            Form::Firehose(_) => " as Amazon Data Firehose does",
            Form::Splunk(form) if form.acknowledged_within.is_some() => " for Splunk, until its indexers acknowledge",
            Form::Splunk(_) => " for Splunk",
        };
        format!("{what} posted to {}{how}", self.origin())
    }

    fn notes(&self) -> Vec<String> {
        let of_form = match &self.form {
            Form::Splunk(form) if form.acknowledged_within.is_some() && self.origin().contains(".splunkcloud.com") => {
                Some(OF_CLOUD.to_owned())
            }
            Form::Splunk(form) if form.acknowledged_within.is_none() => Some(UNACKNOWLEDGED.to_owned()),
            Form::Splunk(_) => Some(throughput(&self.delivery)),
            Form::Plain(_) | Form::Firehose(_) => None,
        };
        self.unencrypted().into_iter().chain(of_form).collect()
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let target = self.clone();
        // All streams share the connections.
        let mut network = None;
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let network = network.get_or_insert_with(|| network::connector(target.connect_timeout, parts.counts()));
                let client = client(&target, Counted::connector(network.clone(), &parts.status));
                Rc::new(HttpSink::new(client, &target))
            },
        )
    }

    fn probe<'a>(&'a self, _: &'a Probing) -> Probe<'a> {
        Box::pin(async {
            let network = network::connector(self.connect_timeout, None);
            let client = client(self, network);
            if matches!(self.form, Form::Splunk(_)) {
                return vec![splunk::health(&client, self.origin()).await];
            }
            let asked = format!("HEAD at {}", self.origin());
            vec![match client.head().await {
                Ok(status @ (401 | 403 | 407)) => Finding::warning(
                    format!("{asked}: it answers with HTTP status {status}, and may refuse what is posted, too"),
                    "look at url and headers of the [[sink]]",
                ),
                // Those that take what is posted need not know HEAD.
                Ok(status @ 500..) if status != 501 => Finding::warning(
                    format!("{asked}: it answers with HTTP status {status}"),
                    "look at the service; what it does not take waits in the store meanwhile",
                ),
                // What it says to a request that it does not know tells nothing of one that it knows.
                Ok(status) => Finding::well(format!("{asked}: it answers, with HTTP status {status}")),
                Err(outcome) => of_outcome(&asked, &outcome),
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::body::Framing;
    use super::super::forms::SplunkForm;
    use super::*;
    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    #[test]
    fn records_that_wait_for_acknowledgements_are_large() {
        let splunk = |acknowledged_within| {
            let (source, sourcetype) = ("outrider".to_owned(), "_json".to_owned());
            Form::Splunk(SplunkForm {
                token: Secret("t".to_owned()),
                index: None,
                source,
                sourcetype,
                acknowledged_within,
            })
        };
        let acknowledged = splunk(Some(Duration::from_secs(300)));
        for (form, request, expected) in [
            (&acknowledged, 4 << 20, 2 << 20),
            (&acknowledged, 64 << 10, 32 << 10),
            (&splunk(None), 4 << 20, 64 << 10),
            (&Form::Plain(Framing::Lines), 4 << 20, 64 << 10),
            (&Form::Plain(Framing::Lines), 4 << 10, 4 << 10),
        ] {
            assert_eq!(record_bytes_soft(form, request), expected, "{form:?} {request}");
        }
    }

    fn notes_of(url: &str, keys: &str) -> Vec<String> {
        let text = format!("store.path = '/s'\n[[sink]]\nname = 'x'\ntype = 'http'\nurl = '{url}'\n{keys}\n");
        let read = Configuration::parse(Path::new("f"), &text, &Sources::default(), &Host::read());
        read.expect("right").sinks.remove(0).sink.notes()
    }

    #[test]
    fn what_is_secret_and_sent_in_the_clear_is_noted() {
        for (keys, expected) in [
            ("headers = { Authorization = 'Bearer t' }", "what `headers` say"),
            ("body = 'splunk'\ntoken = 't'", "the token"),
            ("body = 'firehose'\naccess_key = 'k'", "the access key"),
            ("take = 'alerts'\nalert_format = 'pagerduty'\nrouting_key = 'k'", "the routing key"),
        ] {
            let notes = notes_of("http://hub.example.com:8088", keys);
            assert!(notes[0].starts_with(&format!("records and {expected} are sent unencrypted")), "{notes:?}");
            for url in ["https://hub.example.com:8088", "http://127.0.0.1:8088"] {
                assert!(!notes_of(url, keys).iter().any(|note| note.contains("unencrypted")), "{url} {keys}");
            }
        }
        assert_eq!(notes_of("http://hub.example.com", ""), Vec::<String>::new());
    }

    #[test]
    fn what_may_surprise_about_splunk_is_noted() {
        let notes = |keys: &str| notes_of("https://splunk:8088", keys);
        const SPLUNK: &str = "body = 'splunk'\ntoken = 't'\n";
        for (keys, device, stream) in [
            ("", "512KiB of a device", "2MiB of a stream"),
            ("requests_in_flight = 8\nheld_size_max = '16MiB'\n", "512KiB of a device", "8MiB of a stream"),
            ("requests_in_flight = 8\nheld_size_max = '4MiB'\n", "512KiB of a device", "4MiB of a stream"),
        ] {
            let said = notes(&format!("{SPLUNK}{keys}"));
            assert!(said.len() == 1 && said[0].contains(device) && said[0].contains(stream), "{said:?}");
        }
        assert_eq!(notes(&format!("{SPLUNK}acknowledge = false\n")), [UNACKNOWLEDGED]);
        assert_eq!(notes(""), Vec::<String>::new());
    }
}
