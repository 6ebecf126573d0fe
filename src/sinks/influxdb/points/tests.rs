use bytes::Bytes;

use super::super::line::tests::{Parsed, READERS, Value as Field};
use super::*;

const READING: &str = r#"{"v":1,"type":"reading","gateway":"g","run":"00000000000f4241","position":7,"device":"tank 1","metric":"temp","value":22.4,"measured_at_ms":1795465865120,"received_at_ms":1795465865131,"time_quality":"synced","attributes":{"road":"dry","trip":"4"}}"#;
const ANOMALY: &str = r#"{"v":1,"type":"anomaly","gateway":"g","run":"0000000000000000","position":2,"device":"d","metric":"temp","value":25.0,"measured_at_ms":5,"received_at_ms":6,"time_quality":"synced","raw_run":null,"raw_position":null,"detector":"shift","also":[],"score":1.5,"expected":22.0,"spread":null,"reason":"far, \"far\" off","late":false}"#;
const ALERT: &str = r#"{"v":1,"type":"alert","gateway":"g","run":"0000000000000000","position":3,"id":"a","revision":2,"device":"d","metric":"temp","kind":"limit","state":"raised","severity":"major","detectors":["limit"],"value":9.0,"expected":null,"score":2.0,"raised_at_ms":1,"updated_at_ms":9,"cleared_at_ms":null,"count":4,"message":"too hot","stored":true}"#;
const STATE: &str = r#"{"v":1,"type":"gateway","gateway":"g","run":"0000000000000000","position":4,"version":"0.1","at_ms":8,"state":"running","clock":"synced","uptime_s":60,"received":{"accepted":5,"undecodable_by_reason":{"nan":1}},"ledger":[{"stream":"raw","sink":"a","accepted":5,"delivered":4},{"stream":"raw","sink":"b","accepted":5,"delivered":5}],"streams":[{"stream":"raw","records":1}],"store_bytes":77,"store_oldest_age_s":null,"disk":{"free_bytes":10}}"#;
const RULE: &str = r#"{"v":1,"type":"record","gateway":"g","run":"0000000000000000","position":5,"stream":"trips","rule":"doors","device":null,"topic":"a/b","received_at_ms":5,"payload":{"a":{"b":1,"c":true},"time":4,"door":"open","value":2}}"#;

fn form() -> Form {
    Form {
        measurement: Measurement::parse("{metric}").expect("right"),
        tags: Vec::new(),
        precision: Precision::Nanoseconds,
        has_texts: true,
    }
}

fn records(lines: &[&str]) -> Vec<OutgoingRecord> {
    let record =
        |line: &&str| OutgoingRecord { device: "d".into(), data: Bytes::from(format!("{line}\n").into_bytes()) };
    lines.iter().map(record).collect()
}

fn lines(form: &Form, line: &str) -> Vec<String> {
    let points = form.points(&records(&[line]));
    let text = String::from_utf8(points.body).expect("text");
    for line in text.lines() {
        READERS.iter().for_each(|reader| assert!(reader.parse(line).is_some(), "{line}"));
    }
    text.lines().map(str::to_owned).collect()
}

fn parsed(form: &Form, line: &str) -> Parsed {
    let lines = lines(form, line);
    READERS[0].parse(&lines[0]).expect("a line")
}

#[test]
fn each_type_has_the_form_that_is_documented() {
    let form = form();
    for (record, expected) in [
        (READING, &["temp,device=tank\\ 1,gateway=g value=22.4 1795465865120000008"][..]),
        (
            ANOMALY,
            &[
                r#"outrider_anomalies,detector=shift,device=d,gateway=g,metric=temp score=1.5,value=25.0,expected=22.0,late=0.0,reason="far, \"far\" off" 5000002"#,
            ],
        ),
        (
            ALERT,
            &[
                r#"outrider_alerts,device=d,gateway=g,kind=limit,metric=temp raised=1.0,severity=3.0,count=4.0,value=9.0,score=2.0,message="too hot" 9000003"#,
            ],
        ),
        (
            STATE,
            &[
                "outrider_gateway,gateway=g clock_synced=1.0,disk_free_bytes=10.0,received_accepted=5.0,received_undecodable_by_reason_nan=1.0,store_bytes=77.0,uptime_s=60.0 8000004",
                "outrider_ledger,gateway=g,sink=a,stream=raw accepted=5.0,delivered=4.0 8000004",
                "outrider_ledger,gateway=g,sink=b,stream=raw accepted=5.0,delivered=5.0 8000004",
            ],
        ),
        (RULE, &["trips,gateway=g,rule=doors a.b=1.0,a.c=1.0,time_=4.0,value=2.0 5000005"]),
    ] {
        assert_eq!(lines(&form, record), expected);
    }
}

#[test]
fn what_has_no_numbers_is_passed_over_and_counted_at_its_record() {
    let nan = READING.replace("22.4", "null");
    let texts = RULE.replace(r#"{"a":{"b":1,"c":true},"time":4,"door":"open","value":2}"#, r#"{"door":"open"}"#);
    let binary = RULE
        .replace(r#""payload":{"a":{"b":1,"c":true},"time":4,"door":"open","value":2}"#, r#""payload_base64":"AA==""#);
    let other = READING.replace("reading", "something");
    let far = READING.replace("1795465865120", "9223372036854775807");
    let mut records = records(&[&nan, READING, &texts, &binary, &other, &far, "no JSON"]);
    // A record of several lines.
    records[1].data = Bytes::from(format!("{READING}\n{nan}\n{READING}\n").into_bytes());
    let points = form().points(&records);
    assert_eq!(points.passed_over, [1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(points.points.iter().map(|point| point.record).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(points.body_of(&[0, 1]), points.body);
    assert_eq!(points.body_of(&[1]).iter().filter(|byte| **byte == b'\n').count(), 1);
    let bare = RULE.replace(r#"{"a":{"b":1,"c":true},"time":4,"door":"open","value":2}"#, "4.5");
    assert_eq!(parsed(&form(), &bare).fields["value"], Field::Float(4.5));
    let no_metric = READING.replace("\"temp\"", "\"\"");
    assert_eq!(lines(&form(), &no_metric), Vec::<String>::new());
}

#[test]
fn readings_of_one_millisecond_stay_apart_and_one_that_is_written_again_is_the_same() {
    let form = form();
    let at = |position: u64, run: u64| {
        let record = READING.replace("\"position\":7", &format!("\"position\":{position}"));
        parsed(&form, &record.replace("00000000000f4241", &format!("{run:016x}"))).time
    };
    assert_eq!(at(7, 5), at(7, 5));
    let times: std::collections::BTreeSet<i64> =
        (0..1_000).flat_map(|position| [at(position, 0), at(position, 500_000)]).collect();
    assert_eq!(times.len(), 2_000);
    assert!(times.iter().all(|time| time / NANOSECONDS == 1_795_465_865_120));
    // The controls.
    for (precision, expected) in
        [(Precision::WholeMilliseconds, 1_795_465_865_120_000_000), (Precision::Milliseconds, 1_795_465_865_120)]
    {
        assert_eq!(parsed(&Form { precision, ..form.clone() }, READING).time, expected);
    }
}

#[test]
fn measurements_and_tags_are_as_configured() {
    let tagged = Form {
        measurement: Measurement::parse("readings").expect("right"),
        tags: vec!["trip".to_owned(), "driver".to_owned()],
        ..form()
    };
    let point = parsed(&tagged, READING);
    assert_eq!(point.measurement, "readings");
    let tags = [("device", "tank 1"), ("gateway", "g"), ("metric", "temp"), ("trip", "4")];
    assert_eq!(point.tags, tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let prefixed = Form { measurement: Measurement::parse("fleet.{metric}").expect("right"), ..form() };
    assert_eq!(parsed(&prefixed, READING).measurement, "fleet.temp");
    for wrong in ["{device}", "{metric}{metric}", "a}", "{metric"] {
        assert_eq!(Measurement::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn an_integer_beyond_a_double_is_a_text_as_well_where_there_are_texts() {
    let record = READING.replace("22.4", "9.007199254740992e15,\"value_exact\":\"9007199254740993\"");
    let point = parsed(&form(), &record);
    assert_eq!(point.fields["value"], Field::Float(9_007_199_254_740_992.0));
    assert_eq!(point.fields["value_exact"], Field::Text("9007199254740993".to_owned()));
    let without = parsed(&Form { has_texts: false, ..form() }, &record);
    assert_eq!(without.fields.len(), 1);
    for record in [ANOMALY, ALERT] {
        let point = parsed(&Form { has_texts: false, ..form() }, record);
        assert!(point.fields.values().all(|field| matches!(field, Field::Float(_))), "{point:?}");
    }
}

/// With the control: the same payload with a short name.
#[test]
fn a_payload_of_long_names_does_not_become_a_huge_line() {
    let fields: Vec<String> = (0..10_000).map(|number| format!("\"k{number}\":1")).collect();
    for (name_bytes, is_point) in [(100_000, false), (2_000, false), (1, true)] {
        let name = "a".repeat(name_bytes);
        let payload = format!("{{\"{name}\":{{{}}}}}", fields.join(","));
        let record = RULE.replace(r#"{"a":{"b":1,"c":true},"time":4,"door":"open","value":2}"#, &payload);
        let points = form().points(&records(&[&record]));
        assert_eq!((points.points.len(), points.passed_over[0]), (usize::from(is_point), u64::from(!is_point)));
        assert!(points.body.capacity() <= 4 * LINE_BYTES_MAX, "{}", points.body.capacity());
    }
}
