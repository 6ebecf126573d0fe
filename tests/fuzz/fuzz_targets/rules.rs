//! Any text as a statement, and any bytes as its payload: it is refused with a place in the text, or evaluated within its bounds. What comes of
//! a payload that is an object is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::rules::{Context, Expression, Payload, Statement, Template, Vocabulary};

fuzz_target!(|input: (&str, &[u8])| {
    let (text, payload) = input;
    let context = Context { topic: Some("site/7/truck"), client_id: Some("c"), now_ms: 1, seed: 1, ..Context::default() };
    let payload = Payload::new(payload);
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
});
