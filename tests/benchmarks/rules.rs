//! The cost of a rule: time of an evaluation, beside that of parsing the payload with serde_json in the same run.
//!
//! Run it with `cargo bench --bench rules`. Measured times belong in a report, not in an assertion.

use std::hint::black_box;
use std::time::Instant;

use outrider::core::mqtt::packet::PassedOn;
use outrider::core::rulebook::{ActionDefinition, Definition, Effects, Message, Rule, Rulebook, Surroundings};
use outrider::core::rules::{Context, Payload, Statement};

const PAYLOAD: &str = r#"{"id":"truck-0042","ts":1795465865131,"t":21.5,"rpm":1780,"oil":3.25,"o":{"k":"v","lat":47.606,"lon":-122.332},"gear":4,"door":false,"s":"moving"}"#;
const TOPIC: &str = "site/7/truck";
const ROUNDS: u32 = 200_000;
/// Each is measured so often, and the fastest counts: what others do on the machine only adds.
const REPEATS: usize = 7;

const STATEMENTS: [(&str, &str); 7] = [
    ("the whole, a product, two conditions", "SELECT *, t * 2 AS u FROM 'site/+/truck' WHERE t > 20 AND o.k = 'v'"),
    ("two fields, one condition", "SELECT t, rpm FROM 'site/+/truck' WHERE rpm > 1000"),
    ("a condition that does not hold", "SELECT * FROM 'site/+/truck' WHERE t > 90"),
    ("the whole, unchanged", "SELECT * FROM 'site/+/truck'"),
    ("a quotient and a text", "SELECT (t - 32) * 5 / '9' AS c, concat(id, '/', topic(2)) AS id FROM 'site/+/truck'"),
    ("a regular expression", "SELECT id FROM 'site/+/truck' WHERE regexp_matches(id, '^truck-[0-9]+$')"),
    ("nothing but a constant", "SELECT 1 AS one FROM 'site/+/truck'"),
];

/// Nanoseconds of a round.
fn measured(mut round: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        best = best.min(started.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}

fn main() {
    println!("payload of {} bytes", PAYLOAD.len());
    let reference = measured(|| {
        black_box(serde_json::from_str::<serde_json::Value>(black_box(PAYLOAD)).expect("JSON"));
    });
    println!("{reference:8.0} ns  reference: the payload parsed by serde_json");
    let context = Context { topic: Some(TOPIC), now_ms: 1_795_465_865_131, seed: 1, ..Context::default() };
    for (about, text) in STATEMENTS {
        let statement = Statement::parse(text).expect("a statement");
        let mut out = Vec::new();
        let mut evaluate = |payload: &Payload<'_>| {
            out.clear();
            if let Some(found) = statement.evaluate(payload, &context).expect("within bounds") {
                found.write(&mut out).expect("within bounds");
            }
            black_box(&out);
        };
        let alone = measured(|| evaluate(&Payload::new(black_box(PAYLOAD.as_bytes()))));
        let shared = Payload::new(PAYLOAD.as_bytes());
        let further = measured(|| evaluate(black_box(&shared)));
        println!("{alone:8.0} ns with parsing, {further:6.0} ns on a payload that is parsed  {about}");
    }
    for (count, matching) in [(0, 0), (100, 0), (100, 20)] {
        whole_book(count, matching);
    }
}

/// A message that passes all rules of a gateway, of which so many match it, and only count.
fn whole_book(count: usize, matching: usize) {
    let rule = |n: usize| {
        let topic = if n < matching { "site/+/truck".to_owned() } else { format!("site/{n}/ship") };
        let definition = Definition {
            name: format!("rule-{n}"),
            sql: Some(format!("SELECT *, t * 2 AS u FROM '{topic}' WHERE t > 20 AND o.k = 'v'")),
            actions: vec![ActionDefinition::Count],
            ..Definition::default()
        };
        Rule::compile(&definition, &Surroundings::default()).expect("a rule")
    };
    let book = Rulebook::new((0..count).map(rule).collect(), Surroundings::default());
    let started = Instant::now();
    let message = Message {
        topic: TOPIC,
        payload: PAYLOAD.as_bytes(),
        client_id: Some("c"),
        properties: PassedOn::default(),
        received_at_ms: 1_795_465_865_131,
        device: Some("truck"),
        seed: 1,
        made_by: &[],
    };
    let stopwatch = || started.elapsed().as_nanos() as u64;
    let each = measured(|| {
        let mut effects = Effects::default();
        if book.sees(message.topic) {
            book.apply(black_box(&message), &stopwatch, &mut effects);
        }
        black_box(&effects);
    });
    let a_match = if matching > 0 { each / matching as f64 } else { 0.0 };
    let core = each * 2_000.0 / 1e9 * 100.0;
    println!(
        "{each:8.0} ns a message, {a_match:6.0} ns a match, {core:4.1} % of a core at 2,000 a second  {count} rules, {matching} match"
    );
}
