use std::path::Path;

use super::points::Point;
use super::*;
use crate::config::host::Host;
use crate::config::{Configuration, Sources};

fn read(keys: &str) -> Result<Configuration, String> {
    let text = format!("store.path = '/s'\n[[sink]]\nname = 'x'\ntype = 'influxdb'\n{keys}\n");
    Configuration::parse(Path::new("f"), &text, &Sources::default(), &Host::read()).map_err(|error| error.to_string())
}

fn described(keys: &str) -> (String, Vec<String>) {
    let sink = read(keys).expect("right").sinks.remove(0).sink;
    (sink.describe(), sink.notes())
}

const VICTORIA: &str = "server = 'victoriametrics'\nurl = 'http://vm:8428'";

#[test]
fn what_is_configured_is_described() {
    let two = "server = 'influxdb2'\nurl = 'https://influx:8086'\norg = 'ours'\nbucket = 'fleet'\ntoken = 't0k3n'";
    let (description, notes) = described(two);
    let expected = "every stream written to InfluxDB 2 at https://influx:8086, organisation ours, bucket fleet";
    assert_eq!((description.as_str(), notes.len()), (expected, 0));
    let (description, notes) = described(&format!("{VICTORIA}\nstreams = ['raw']"));
    assert_eq!(description, "raw written to VictoriaMetrics at http://vm:8428");
    assert!(notes[0].contains("204") && notes[1].contains("dedup"), "{notes:?}");
    let (_, notes) = described(&two.replace("https", "http"));
    assert_eq!(notes, ["http://influx:8086 is not encrypted: whoever listens learns the login"]);
    assert!(described(&two.replace("https://influx", "http://127.0.0.1")).1.is_empty());
    let (_, notes) = described(&two.replace("\ntoken = 't0k3n'", ""));
    assert_eq!(notes, ["there is no token: InfluxDB 2 takes nothing, unless it asks for none"]);
    for (wrong, right, words) in [
        ("8086/api/v2/write'", "8086'", "ends with /api/v2/write"),
        // The rest of the path belongs to url.
        ("8086/insert/0/influx/write'", "8086'", "ends with /write,"),
        ("token = 'Token t0k3n'", "token = 't0k3n'", "write the token alone"),
    ] {
        let problems = read(&two.replace(right, wrong)).err().unwrap_or_default();
        assert!(problems.contains(words) && problems.contains("1 problem in"), "{problems}");
    }
    // What belongs to it is not known then, so nothing else is wrong.
    for server in ["", "server = 'influxdb'\n"] {
        let problems = read(&two.replace("server = 'influxdb2'\n", server)).err().unwrap_or_default();
        assert!(problems.contains("server") && problems.contains("1 problem in"), "{problems}");
    }
    let (_, notes) = described(&two.replace("https://influx:8086", "https://eu-1.aws.cloud2.influxdata.com"));
    assert!(notes.len() == 1 && notes[0].contains("queued"), "{notes:?}");
}

#[test]
fn what_does_not_fit_together_is_named() {
    let one = "server = 'influxdb1'\nurl = 'http://h:8086'\n";
    for (keys, said) in [
        (one.to_owned(), "InfluxDB 1 needs database"),
        (format!("{one}database = 'd'\nbucket = 'b'"), "bucket"),
        (format!("{one}database = 'd'\nusername = 'u'"), "username and password go together"),
        (format!("{one}database = 'd'\nusername = 'u'\npassword = 'p'\ntoken = 't'"), "one of them has to go"),
        (format!("{one}database = 'd'\nmeasurement = '{{device}}'"), "only {metric} can be filled in"),
        (format!("{one}database = 'd'\ntags = ['road', 'time']"), "time is the name of something else"),
        (format!("{one}database = 'd'\ntags = ['road', 'trip', 'road']"), "road is there twice"),
        (format!("{one}database = 'd'\nstreams = ['none']"), "there is no stream none"),
        (format!("{one}database = 'd'\ntoken = 'env:NOT_SET_ANYWHERE'"), "NOT_SET_ANYWHERE is not set"),
        ("server = 'influxdb2'\nurl = 'http://h'\nbucket = 'b'".to_owned(), "InfluxDB 2 needs org"),
        (
            "server = 'influxdb3'\nurl = 'http://h'\ndatabase = 'd'\nusername = 'u'\npassword = 'p'".to_owned(),
            "tokens only",
        ),
        (VICTORIA.replace("http://vm", "http://u:p@vm"), "names the server alone"),
        ("url = 'http://h'".to_owned(), "server"),
    ] {
        let problems = read(&keys).err().unwrap_or_else(|| panic!("{keys} is taken"));
        assert!(problems.contains(said) && !problems.contains("u:p@"), "{keys}: {problems}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let keys = "server = 'influxdb3'\nurl = 'http://h'\ndatabase = 'd'\ntoken = 't0k3n-of-ours'";
    let sink = read(keys).expect("right").sinks.remove(0).sink;
    assert!(!format!("{sink:?}").contains("t0k3n-of-ours"));
}

const ACCEPTED: Outcome = Outcome::Accepted { shard: None };

/// Points of the records 0, 0, 1 and 2; record 3 has none.
fn four() -> Points {
    let point = |record| Point { range: 0..0, record, time: 0 };
    Points { points: vec![point(0), point(0), point(1), point(2)], passed_over: vec![1, 2, 4, 8], body: Vec::new() }
}

#[test]
fn a_record_is_done_with_when_all_of_its_points_are() {
    let refused = || Fate::TooOld("old".to_owned());
    let all = reply(&four(), &[Fate::Stored, Fate::Stored, Fate::Stored, Fate::Stored], None);
    assert_eq!((all.outcomes, all.passed_over), (vec![ACCEPTED; 4], 15));
    let later = Outcome::Later { reason: "busy".to_owned(), after_us: None };
    let some = reply(&four(), &[Fate::Stored, Fate::Unknown, refused(), Fate::Stored], Some(later.clone()));
    assert_eq!(some.outcomes, [later.clone(), Outcome::Reject("old".to_owned()), ACCEPTED, ACCEPTED]);
    assert_eq!((some.scope, some.passed_over), (Scope::Records, 12));
    // Of which every line is refused, and none has no form, is given up as it is.
    let whole = Points { passed_over: vec![0; 4], ..four() };
    let given_up = reply(&whole, &[refused(), refused(), Fate::Stored, Fate::Stored], None);
    assert_eq!(given_up.outcomes[0], Outcome::RejectLines("old".to_owned()));
    // Of what is refused for something else it is counted how many lines there are.
    let bad = reply(&whole, &[refused(), Fate::Refused("no".to_owned()), Fate::Stored, Fate::Stored], None);
    assert_eq!(bad.outcomes[0], Outcome::Reject("no".to_owned()));
    // What is refused is found by halving its record.
    let halved = reply(&four(), &[refused(), Fate::Unknown, Fate::Stored, Fate::Stored], Some(later.clone()));
    assert_eq!(halved.outcomes[0], Outcome::Reject("old".to_owned()));
    let too_large = Some(Outcome::TooLarge("413".to_owned()));
    let smaller = reply(&four(), &[Fate::Stored, Fate::Unknown, Fate::Stored, Fate::Stored], too_large);
    assert_eq!(smaller.outcomes[0], Outcome::Retry(RetryReason::Internal));
}

#[test]
fn what_was_said_of_the_whole_request_is_said_of_the_whole_request() {
    for outcome in [Outcome::Halt("401".to_owned()), Outcome::TooLarge("413".to_owned())] {
        let whole = reply(&four(), &vec![Fate::Unknown; 4], Some(outcome.clone()));
        assert_eq!(whole, Reply::whole(outcome, 4));
    }
    let nothing = Points { passed_over: vec![3], ..Points::default() };
    assert_eq!(reply(&nothing, &[], None), Reply { scope: Scope::Records, outcomes: vec![ACCEPTED], passed_over: 3 });
}
