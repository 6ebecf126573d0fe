//! Streams, and who takes them.

use super::{right, wrong};
use crate::core::identity::{Keep, NamedStream};

#[test]
fn streams_are_named_and_taken_by_sinks() {
    let configuration = right(
        r#"
        [[stream]]
        name = "trips"
        [[stream]]
        name = "door_events-2"
        keep = "reserve"
        [[sink]]
        name = "cloud"
        type = "kinesis"
        raw = "fleet-raw"
        streams = { trips = "fleet-trips", anomalies = "fleet-anomalies" }
        [[sink]]
        name = "web"
        type = "http"
        url = "https://example.com/"
        streams = ["door_events-2", "raw"]
        "#,
    );
    let named = |name: &str, keep| NamedStream { name: name.to_owned(), keep };
    assert_eq!(configuration.streams, [named("trips", Keep::Bulk), named("door_events-2", Keep::Reserve)]);
    let taken = |sink: usize| {
        let names = ["raw", "anomalies", "trips", "door_events-2"];
        names.into_iter().filter(|name| configuration.sinks[sink].takes(name)).collect::<Vec<_>>()
    };
    assert_eq!((taken(0), taken(1)), (vec!["raw", "anomalies", "trips"], vec!["raw", "door_events-2"]));
    let described = configuration.sinks[0].sink.describe();
    assert!(
        described
            .ends_with("raw to stream fleet-raw, anomalies to stream fleet-anomalies, trips to stream fleet-trips")
    );
    let all = right("[[stream]]\nname = \"trips\"\n[[sink]]\nname = \"web\"\ntype = \"http\"\nurl = \"https://a.b/\"");
    assert!(all.sinks[0].takes("trips"), "every stream, if none is named");
    assert!(right("[[stream]]\nname = \"trips\"").sinks[0].takes("trips"), "the built-in archive takes every stream");
}

#[test]
fn a_stream_that_nobody_takes_or_has_is_a_problem() {
    let problems = wrong(
        r#"
        [[stream]]
        name = "trips"
        [[stream]]
        name = "raw"
        [[stream]]
        name = "trips"
        watched = true
        [[stream]]
        name = "Doors"
        [[stream]]
        name = "doors"
        keep = "all"
        [[sink]]
        name = "cloud"
        type = "kinesis"
        streams = { trip = "x", raw = "y", other = "z" }
        raw = "r"
        [[sink]]
        name = "web"
        type = "http"
        url = "https://example.com/"
        take = "alerts"
        streams = ["doors"]
        "#,
    );
    let expected = [
        "file:2: stream[0]: no sink takes the stream trips, so its records would be kept nowhere for ever",
        "file:5: stream[1].name = \"raw\": every gateway has this stream",
        "file:7: stream[2].name = \"trips\": another [[stream]] has the same name",
        "file:8: stream[2].watched = true: unknown key; there are name, keep",
        "file:10: stream[3].name = \"Doors\": not allowed here; 1 to 64 characters of a-z, 0-9, _ and -",
        "file:11: stream[4]: no sink takes the stream doors",
        "file:13: stream[4].keep = \"all\": not a choice",
        "file:17: sink[0].streams = { trip = \"x\", raw = \"y\", other = \"z\" }: there is no stream other; add a [[stream]]",
        "file:17: sink[0].streams = { trip = \"x\", raw = \"y\", other = \"z\" }: raw is a key of its own",
        "file:17: sink[0].streams = { trip = \"x\", raw = \"y\", other = \"z\" }: there is no stream trip; did you mean `trips`?",
        "file:24: sink[1].streams = [\"doors\"]: alerts are in one stream",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
    let many: String = (0..17).map(|number| format!("[[stream]]\nname = \"s{number}\"\n")).collect();
    assert_eq!(wrong(&many), ["file:33: stream[16]: more than 16 streams"]);
    let targets = "[[sink]]\nname = \"a\"\ntype = \"kinesis\"\nstreams = { raw = \"not allowed\" }";
    assert!(wrong(targets)[0].starts_with("file:4: sink[0].streams = "));
    let none = "[[sink]]\nname = \"a\"\ntype = \"http\"\nurl = \"https://a.b\"\nstreams = []";
    assert!(wrong(none)[0].contains("names no stream"));
}

#[test]
fn what_a_rule_posts_is_in_a_stream_that_is_posted() {
    let with = |kind: &str| {
        format!(
            "[[stream]]\nname = \"calls\"\n[[sink]]\nname = \"a\"\n{kind}\n[[rule]]\nname = \"r\"\nwhen = \"t > 1\"\nwebhook = \"calls\""
        )
    };
    let posted = right(&with("type = \"http\"\nurl = \"https://a.b/\"\nstreams = [\"calls\"]"));
    assert_eq!(posted.rules.book.rules()[0].streams().collect::<Vec<_>>(), ["calls"]);
    let filed = wrong(&with("type = \"archive\"\npath = \"x\""));
    let expected = "rule[0].webhook = \"calls\": no [[sink]] of type \"http\" takes the stream calls; add streams = [\"calls\"] to one";
    assert!(filed.len() == 1 && filed[0].ends_with(expected), "{filed:?}");
}
