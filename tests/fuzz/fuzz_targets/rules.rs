//! Any text as a statement, and any bytes as its payload: it is refused with a place in the text, or evaluated within its bounds. What comes of
//! a payload that is an object is JSON. The same text as the condition of a rule is looked at with readings made of the payload's bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::detection::alert::Moment;
use outrider::core::detection::detectors::Verdict;
use outrider::core::reading::Reading;
use outrider::core::rulebook::{ActionDefinition, Conditions, Definition, Effects, Rule, Rulebook, Seen, Surroundings};
use outrider::core::rules::{Context, Expression, Payload, Statement, Template, Vocabulary};

/// Names that a condition can use without a long search for them.
const METRICS: [&str; 4] = ["t", "u", "lat", "lon"];

fn condition(text: &str, bytes: &[u8]) {
    let definition = Definition {
        name: "r".to_owned(),
        when: Some(text.to_owned()),
        repeats: true,
        actions: vec![ActionDefinition::Count],
        ..Definition::default()
    };
    let Ok(rule) = Rule::compile(&definition, &Surroundings::default()) else { return };
    let book = Rulebook::new(vec![rule], Surroundings::default());
    let (mut conditions, mut effects, mut at_ms) = (Conditions::default(), Effects::default(), 1_000);
    for (byte, metric) in bytes.iter().take(32).zip(METRICS.iter().cycle()) {
        at_ms += i64::from(*byte) * 100;
        let reading = Reading::at(at_ms, "d", metric, f64::from(*byte) - 100.0);
        let now = Moment { steady_ms: at_ms as u64, wall_ms: at_ms };
        let verdict = if *byte > 200 { Verdict::Anomalous } else { Verdict::Normal };
        let seen = Seen { reading: &reading, verdict, score: 0.5, is_late: *byte == 7, now, made_by: &[] };
        conditions.see(&book, &seen, &|| 0, &mut effects);
        conditions.tick(&book, now, &|| 0, &mut effects);
    }
    let mut kept = Vec::new();
    conditions.encode(&book, Moment { steady_ms: at_ms as u64, wall_ms: at_ms }, &mut kept);
}

fuzz_target!(|input: (&str, &[u8])| {
    let (text, payload_bytes) = input;
    let context = Context { topic: Some("site/7/truck"), client_id: Some("c"), now_ms: 1, seed: 1, ..Context::default() };
    let payload = Payload::new(payload_bytes);
    match Statement::parse(text) {
        Ok(statement) => {
            if let Ok(Some(found)) = statement.evaluate(&payload, &context) {
                let mut out = Vec::new();
                let is_whole = matches!(found.value, outrider::core::rules::Value::Bytes(_));
                if found.write(&mut out).is_ok() && !is_whole && !out.is_empty() {
                    serde_json::from_slice::<serde::de::IgnoredAny>(&out).expect("JSON");
                }
            }
        }
        Err(error) => assert!(error.line >= 1 && error.column >= 1 && error.column <= text.chars().count() + 1),
    }
    if let Ok(expression) = Expression::parse(text, Vocabulary::default()) {
        let _ = expression.evaluate(&payload, &context);
    }
    if let Ok(template) = Template::parse(text, &[], Vocabulary::default()) {
        let _ = template.render(&payload, &context, &[]);
    }
    condition(text, payload_bytes);
});
