//! What types of sinks have of their own.

use super::{right, wrong};
use crate::core::aggregate;
use crate::core::delivery::{Grouping, Partition};
use crate::sinks::firehose::sink::FirehoseStreams;
use crate::sinks::kinesis::sink::KinesisStreams;

#[test]
fn a_body_has_its_own_keys_and_what_makes_no_sense_is_named() {
    let sink = |keys: &str| format!("[[sink]]\nname = \"a\"\ntype = \"http\"\nurl = \"https://a.b:8088\"\n{keys}\n");
    let splunk = right(&sink("body = \"splunk\"\ntoken = \"t\""));
    let described = splunk.sinks[0].sink.describe();
    assert!(
        described.ends_with("posted to https://a.b:8088 for Splunk, until its indexers acknowledge"),
        "{described}"
    );
    assert!(splunk.sinks[0].sink.notes()[0].starts_with("until Splunk's indexers acknowledge"));
    let unacknowledged = right(&sink("body = \"splunk\"\ntoken = \"t\"\nacknowledge = false"));
    assert!(unacknowledged.sinks[0].sink.notes()[0].starts_with("acknowledge = false"));
    let firehose = right(&sink("body = \"firehose\"\ncompression = \"gzip\"\ncommon_attributes = { site = \"y\" }"));
    assert!(firehose.sinks[0].sink.describe().ends_with("as Amazon Data Firehose does"));
    right(&sink("body = \"splunk\"\ntoken = \"t\"\ntake = \"alerts\""));
    let longest = format!("arn:aws-us-gov:firehose:us-gov-west-1:123456789012:deliverystream/{}", "a".repeat(64));
    right(&sink(&format!("body = \"firehose\"\nsource_arn = \"{longest}\"")));
    right(&sink("body = \"splunk\"\ntoken = \"t\"\nacknowledge = false\nheaders = { Cookie = \"waf=1\" }"));
    let attributes: Vec<String> = (0..5).map(|at| format!("a{at} = \"{}\"", "v".repeat(1_000))).collect();
    let attributes = attributes.join(", ");
    let long = "k".repeat(4097);
    for (keys, expected) in [
        ("body = \"splunk\"", "Splunk needs token"),
        ("token = \"t\"", "only body = \"splunk\" has this"),
        ("body = \"firehose\"\nacknowledge = true", "only body = \"splunk\" has this"),
        ("body = \"splunk\"\ntoken = \"t\"\naccess_key = \"k\"", "only body = \"firehose\" has this"),
        ("body = \"firehose\"\ncompression = \"zstd\"", "compressed by gzip or not at all"),
        ("body = \"firehose\"\nsource_arn = \"fleet\"", "not of the form arn:aws:firehose:"),
        ("headers = { Content-Length = \"5\" }", "Content-Length says how long the request is"),
        ("headers = { transfer-encoding = \"chunked\" }", "transfer-encoding says"),
        ("headers = { Authorization = \"Bearer env:T\" }", "only a value that begins with env:"),
        ("body = \"splunk\"\ntoken = \"Splunk t\"", "a token has no spaces"),
        ("body = \"firehose\"\nheaders = { X-Amz-Firehose-Access-Key = \"k\" }", "headers of its protocol"),
        ("body = \"splunk\"\ntoken = \"t\"\nheaders = { authorization = \"Splunk t\" }", "headers of its protocol"),
        (
            "body = \"splunk\"\ntoken = \"t\"\nacknowledge = false\nacknowledge_timeout = \"1m\"",
            "nothing is waited for",
        ),
        ("body = \"firehose\"\ntake = \"alerts\"\nalert_format = \"alertmanager\"", "know no such body"),
        (&format!("body = \"firehose\"\naccess_key = \"{long}\""), "1 to 4096 bytes"),
        (&format!("body = \"firehose\"\ncommon_attributes = {{ {attributes} }}"), "4096 bytes together"),
        ("body = \"splunk\"\ntoken = \"t\"\nheaders = { Cookie = \"waf=1\" }", "leave Cookie away"),
        ("body = \"firehose\"\naccess_key = \"env:NOT_SET_ANYWHERE\"", "NOT_SET_ANYWHERE is not set"),
    ] {
        let problems = wrong(&sink(keys));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{keys}: {problems:?}");
    }
    assert!(wrong(&sink("").replace("a.b", "me:secret@a.b"))[0].contains("holds a login, which is not sent"));
    let cloud = sink("body = \"splunk\"\ntoken = \"t\"").replace("a.b", "http-inputs-a.splunkcloud.com");
    assert!(right(&cloud).sinks[0].sink.notes()[0].contains("set acknowledge = false"));
    let whole = sink("body = \"splunk\"\ntoken = \"t\"").replace("8088", "8088/services/collector/event");
    assert!(wrong(&whole)[0].contains("the address of the collector alone"));
}

#[test]
fn what_is_wrong_with_a_table_is_said() {
    let sink = |keys: &str| {
        format!(
            "[[stream]]\nname = \"trips\"\n[[sink]]\nname = \"a\"\n{keys}\n[[sink]]\nname = \"b\"\ntype = \"archive\"\n"
        )
    };
    let http = |keys: &str| sink(&format!("type = \"http\"\nurl = \"https://a.b\"\n{keys}"));
    let kinesis = |keys: &str| sink(&format!("type = \"kinesis\"\nregion = \"eu-central-1\"\nraw = \"r\"\n{keys}"));
    let long = "v".repeat(4097);
    for (text, expected) in [
        (http("headers = \"X-Site: yard\""), "not a table of names, each with a text in quotes; at most 32"),
        (http("headers = { X-Site = 7 }"), "not a table of names"),
        (http("headers = { \"X Site\" = \"yard\" }"), "\"X Site\" is no name of a header"),
        (http("headers = { X-Site = \"Hof 7 \u{fc}\" }"), "the value of X-Site has other characters"),
        (http(&format!("headers = {{ X-Site = \"{long}\" }}")), "the value of X-Site is longer than 4096 bytes"),
        (http("streams = [\"raw\", \"Doors 1\"]"), "\"Doors 1\" is not allowed here; a list of at most"),
        (kinesis("streams = { trips = \"a b\" }"), "trips = \"a b\" is not allowed here; names of streams"),
    ] {
        let problems = wrong(&text);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{text}: {problems:?}");
        assert!(!problems[0].contains("Hof"), "a value may be secret: {problems:?}");
    }
}

/// Names that other programs have for the same thing.
#[test]
fn what_people_look_for_is_found() {
    let sink = |keys: &str| format!("[[sink]]\nname = \"a\"\n{keys}\n");
    let search = sink("type = \"opensearch\"\nurl = \"https://search\"\nuser = \"u\"");
    assert!(wrong(&search)[0].contains("did you mean `username`?"));
    let bulk = sink("type = \"opensearch\"\nurl = \"https://search/_bulk\"");
    assert!(wrong(&bulk)[0].contains("ends with /_bulk"));
    if cfg!(feature = "postgres") {
        let database = sink("type = \"postgres\"\nurl = \"postgres://u@db/fleet\"\nraw = \"r\"\ndatabase = \"fleet\"");
        let problems = wrong(&database);
        assert!(problems.len() == 1 && problems[0].contains("a part of url: postgres://USER@HOST"), "{problems:?}");
    }
}

#[test]
fn firehose_has_limits_of_its_own() {
    let sink = |keys: &str| format!("[[sink]]\nname = \"a\"\ntype = \"firehose\"\n{keys}\n");
    let configuration = right(&sink("raw = \"fleet-raw\""));
    let read: &dyn std::any::Any = &*configuration.sinks[0].sink;
    let delivery = &read.downcast_ref::<FirehoseStreams>().expect("a sink to Firehose").delivery;
    assert_eq!((delivery.request_records_max, delivery.record_bytes_max), (500, 1_000 << 10));
    assert_eq!((delivery.grouping, delivery.partition), (Grouping::Lines, Partition::Gateway));
    assert_eq!((delivery.record_bytes_soft, delivery.request_bytes_max), (256 << 10, 1 << 20));
    // Data that cannot be compressed becomes longer; a small request bounds its records.
    let packed = right(&sink("raw = \"r\"\ncompression = \"zstd\"\nrequest_size_max = \"512KiB\""));
    let read: &dyn std::any::Any = &*packed.sinks[0].sink;
    let most = read.downcast_ref::<FirehoseStreams>().expect("a sink to Firehose").delivery.record_bytes_max;
    assert!(most < 512 << 10 && most > 500 << 10, "{most}");
    for (keys, expected) in [
        ("record_size = \"1KiB\"", "names no stream"),
        ("raw = \"r\"\nrecord_size = \"1001KiB\"", "record_size"),
        ("raw = \"r\"\nrequest_size_max = \"5MiB\"", "request_size_max"),
        ("raw = \"r\"\nrequest_size_max = \"128KiB\"", "record_size is 256KiB, more than request_size_max"),
        (&format!("raw = \"{}\"", "x".repeat(65)), "at most 64 characters"),
    ] {
        let problems = wrong(&sink(keys));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{keys}: {problems:?}");
    }
}

#[test]
fn aggregated_records_leave_room_for_their_frames_and_are_not_compressed() {
    let sink = |keys: &str| {
        format!("[[sink]]\nname = \"a\"\ntype = \"kinesis\"\nraw = \"fleet-raw\"\nrecord = \"kpl\"\n{keys}\n")
    };
    let configuration = right(&sink("record_size = \"1MiB\""));
    let read: &dyn std::any::Any = &*configuration.sinks[0].sink;
    let streams = read.downcast_ref::<KinesisStreams>().expect("a sink to Kinesis");
    let delivery = &streams.delivery;
    assert_eq!((delivery.grouping, streams.is_aggregated), (Grouping::Lines, true));
    assert_eq!(delivery.record_bytes_max, aggregate::lines_bytes_max(1 << 20));
    assert_eq!(
        (delivery.record_bytes_soft, delivery.request_bytes_max),
        (delivery.record_bytes_max, delivery.record_bytes_max)
    );
    let notes = configuration.sinks[0].sink.notes();
    assert!(notes.iter().any(|note| note.contains("AWS Lambda without a library")), "{notes:?}");
    let problems = wrong(&sink("compression = \"gzip\""));
    assert!(
        problems.len() == 1 && problems[0].contains("nobody would know that a compressed record has others in it"),
        "{problems:?}"
    );
}
