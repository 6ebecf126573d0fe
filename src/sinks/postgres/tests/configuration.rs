use std::path::Path;

use crate::config::host::Host;
use crate::config::{Configuration, Sources};

const URL: &str = "url = 'postgres://outrider@db.example.com/fleet'\n";

fn read(keys: &str) -> Result<Configuration, String> {
    // A stream that no sink takes is a problem of its own.
    let stream = if keys.contains("trips") { "[[stream]]\nname = 'trips'\n" } else { "\n\n" };
    let text = format!("store.path = '/s'\n{stream}[[sink]]\nname = 'x'\ntype = 'postgres'\n{keys}");
    let read = Configuration::parse(Path::new("f"), &text, &Sources::default(), &Host::read());
    read.map_err(|problems| problems.to_string())
}

fn described(keys: &str) -> (String, Vec<String>) {
    let configuration = read(keys).unwrap();
    let sink = &configuration.sinks[0].sink;
    assert!(!format!("{sink:?}").contains("pencil"), "secrets are not shown");
    (sink.describe(), sink.notes())
}

#[test]
fn a_section_says_where_rows_go_and_how() {
    let (text, notes) =
        described(&format!("{URL}password = 'pencil'\nraw = 'readings'\nstreams = {{ trips = 'a.trips' }}\n"));
    assert_eq!(
        text,
        "PostgreSQL at db.example.com:5432, database fleet, as outrider, raw to table readings, trips to table a.trips, by TLS"
    );
    assert_eq!(notes, Vec::<String>::new());
    let local = described("url = 'postgres://outrider@localhost/fleet'\nraw = 'readings'\n");
    assert!(!local.0.contains("TLS") && local.1.is_empty(), "{local:?}");
    for (mode, words) in [("disable", "is readable"), ("require", "somebody between may be the server")] {
        let (_, notes) = described(&format!("{URL}raw = 'readings'\nsslmode = '{mode}'\n"));
        assert!(notes[0].contains(words), "{notes:?}");
    }
    let (_, notes) = described("url = 'postgres://outrider@localhost'\nraw = 'readings'\n");
    assert_eq!(notes, ["the database is called like the user, outrider: url names no other one"]);
    let sinks = read(&format!("{URL}raw = 'readings'\n")).unwrap().sinks;
    assert!(sinks[0].takes("raw") && !sinks[0].takes("anomalies"));
}

#[test]
fn what_cannot_be_is_said_with_its_line_and_without_secrets() {
    for (keys, words) in [
        (
            "url = 'postgres://outrider:pencil@db/fleet'\nraw = 'r'\n",
            "f:7: sink[0].url = (not shown): has a password in it",
        ),
        ("url = 'mysql://db/fleet'\nraw = 'r'\n", "not allowed here; a URL such as postgres://"),
        ("raw = 'r'\n", "`url` is missing"),
        (URL, "names no stream"),
        (&format!("{URL}raw = 'a.b.c'\n"), "SCHEMA.NAME"),
        (&format!("{URL}raw = 'r'\nanomalies = 'public.r'\n"), "raw has the same table as anomalies"),
        (&format!("{URL}raw = 'r'\nstreams = {{ trips = 'r' }}\n"), "trips has the same table as raw"),
        (&format!("{URL}raw = 'r'\nsslmode = 'verify-full'\ncertificate = 'c.pem'\n"), "needs key, too"),
        (&format!("{URL}raw = 'r'\nsslmode = 'prefer'\n"), "one of \"disable\", \"require\", \"verify-full\""),
        (&format!("{URL}raw = 'r'\nsslmode = 'disable'\nca = 'missing.pem'\n"), "need TLS"),
        (&format!("{URL}raw = 'r'\nsslmode = 'require'\nca = 'missing.pem'\n"), "ca is not used"),
        (&format!("{URL}raw = 'r'\npassword = 'env:OUTRIDER_TEST_IS_NOT_SET'\n"), "is not set"),
    ] {
        let text = read(keys).expect_err(keys);
        assert!(text.contains(words) && !text.contains("pencil"), "{text}");
    }
}
