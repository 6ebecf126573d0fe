use super::parse::LINE_BYTES_MAX;
use super::*;

fn detect(input: &str, stats: bool) -> (String, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let format = if stats { Format::Statistics } else { Format::Rows };
    let options = Options { format, severity_min: None, unit: None };
    run(input.as_bytes(), (&mut output, &mut errors), Watching::default(), options, None)
        .expect("memory takes everything");
    (String::from_utf8(output).expect("text"), String::from_utf8(errors).expect("text"))
}

#[test]
fn flagged_readings_are_printed_in_order() {
    let mut input: String = (0..400).map(|i| format!("t/engine_temp,{},{}\n", i * 1_000, 90 + i % 2)).collect();
    input += "t/engine_temp,400000,nan\nt/engine_temp,401000,120\nt/lat,0,nan";
    let (output, errors) = detect(&input, false);
    let rows: Vec<Vec<&str>> = output.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!(rows[0], ["t/engine_temp", "400000", "NaN", "limit", "1.0000", ""]);
    assert_eq!(rows[1][..4], ["t/engine_temp", "401000", "120", "spike"]);
    assert_eq!((rows[1][5], rows.len(), errors.as_str()), ("90.5", 2, ""));
}

#[test]
fn a_lone_slow_recording_has_its_gaps() {
    for period_s in [1, 100, 1_000] {
        let at = |i: i64| (if i < 30 { i } else { i + 12 }) * period_s * 1_000;
        let input: String = (0..40).map(|i| format!("a/temp,{},{}\n", at(i), 20 + i % 2)).collect();
        let (output, _) = detect(&input, false);
        let gaps: Vec<&str> = output.lines().filter(|row| row.contains(",gap,")).collect();
        assert_eq!(gaps.len(), 1, "every {period_s} s: {gaps:?}");
        let at_ms: i64 = gaps[0].split(',').nth(1).expect("a time").parse().expect("a number");
        assert!(at_ms > at(29) && at_ms <= at(30), "{gaps:?}");
    }
}

#[test]
fn times_from_one_end_to_the_other_are_no_harm() {
    let times = [i64::MIN, i64::MAX, i64::MAX - 1, 0, i64::MIN + 1, i64::MAX];
    let input: String = times.map(|at_ms| format!("a/temp,{at_ms},1\n")).concat();
    assert_eq!(detect(&input, false).1, "");
    assert_eq!(detect(&input, true).0.lines().count(), times.len());
}

#[test]
fn malformed_lines_are_skipped_and_counted() {
    let long = "x".repeat(3 * LINE_BYTES_MAX);
    let input = format!("garbage line\nx,notatime,5\n,,\n\n{long}\na b/é,7,1.5\r\na,b,1,2\n");
    let (output, errors) = detect(&input, true);
    assert_eq!(output, "a b/é,7,0,nan,nan\n");
    assert_eq!(errors, "5 malformed lines skipped\n");
}

#[test]
fn times_that_look_like_seconds_are_told_and_units_can_be_said() {
    let rows = |input: &str, unit| {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let outputs = (&mut output, &mut errors);
        let options = Options { format: Format::Statistics, severity_min: None, unit };
        run(input.as_bytes(), outputs, Watching::default(), options, None).expect("memory");
        (String::from_utf8(output).expect("text"), String::from_utf8(errors).expect("text"))
    };
    let (output, errors) = rows("s,1795465865,1\ns,1795465866,1\n", None);
    assert!(output.starts_with("s,1795465865,0"), "taken as it stands");
    assert_eq!((errors.matches("looks like seconds").count(), errors.contains("--unit s")), (1, true), "{errors}");
    assert_eq!(rows("s,1795465865.5,1", Some(Unit::S)), ("s,1795465865500,0,nan,nan\n".to_owned(), String::new()));
    assert!(rows("s,1795465865120000,1", Some(Unit::Us)).0.starts_with("s,1795465865120,"));
    assert_eq!((rows("s,0,1", None).1, rows("s,1795465865120,1", None).1), Default::default());
}

#[test]
fn records_of_the_gateway_are_readings_as_well() {
    let record = |kind: &str, value: &str| {
        format!(
            "{{\"v\":1,\"type\":\"{kind}\",\"gateway\":\"g\",\"device\":\"a/\\\"b\",\"metric\":\"m/x\",\"value\":{value},\
             \"measured_at_ms\":1795465865120,\"attributes\":{{\"road\":\"dry\"}}}}\n"
        )
    };
    let input = record("reading", "null") + &record("anomaly", "7") + &record("alert", "1") + &record("other", "1");
    let (output, errors) = detect(&input, false);
    assert_eq!(output, "a/\"b/m/x,1795465865120,NaN,limit,1.0000,\n");
    assert_eq!(errors, "1 malformed line skipped\n");
}

#[test]
fn statistics_leave_the_reading_itself_out() {
    let (output, _) = detect("s,0,1\ns,1000,3\ns,2000,nan\ns,3000,100\ns,10999,0\n", true);
    let expected = "s,0,0,nan,nan\ns,1000,1,1e0,nan\ns,2000,2,2e0,1.4142135623730951e0\n\
                    s,3000,2,2e0,1.4142135623730951e0\ns,10999,2,5.15e1,6.858935777509511e1\n";
    assert_eq!(output, expected);
}

#[test]
fn rows_are_told_by_severity() {
    let noise = |i: i64| (i * 7919 % 5) as f64 / 10.0;
    // Heard for less than a day: a spike of ten times its line is exceptional, and another is minor at most.
    let value = |i: i64| match i {
        900 => 93.0,
        1_100 => 400.0,
        _ => 90.0 + noise(i),
    };
    let mut input: String = (0..1_200).map(|i| format!("t/engine_temp,{},{}\n", i * 1_000, value(i))).collect();
    input += "t/engine_temp,1200000,nan\n";
    let of = |min: Option<&str>, format| {
        let min = min.map(|name| Severity::ALL.into_iter().find(|known| known.name() == name).expect("one of them"));
        let options = Options { format, severity_min: min, unit: None };
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        run(input.as_bytes(), (&mut output, &mut errors), Watching::default(), options, None).expect("memory");
        String::from_utf8(output).expect("text")
    };
    let times = |min: Option<&str>| -> Vec<String> {
        of(min, Format::Rows).lines().map(|row| row.split(',').nth(1).expect("a time").to_owned()).collect()
    };
    let all = times(None);
    assert_eq!(
        (times(Some("warning")), all.as_slice()),
        (all.clone(), ["900000", "1100000", "1200000"].map(str::to_owned).as_slice())
    );
    for (min, expected) in
        [("minor", &["900000", "1100000", "1200000"][..]), ("major", &["1100000"]), ("critical", &["1100000"])]
    {
        assert_eq!(times(Some(min)), expected, "{min}");
    }
    let rows: Vec<serde_json::Value> =
        of(Some("minor"), Format::Json).lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    let told: Vec<_> = rows.iter().map(|row| (&row["detector"], &row["severity"], &row["maturity"])).collect();
    let name = serde_json::Value::from;
    assert_eq!(told[1], (&name("spike"), &name("critical"), &name("learning")));
    assert_eq!(told[2], (&name("limit"), &name("minor"), &name("learning")));
}
