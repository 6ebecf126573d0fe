//! Cases from the reference of the language, and what follows from it. The cases are data: `cases/*.toml`.

use super::{Context, GivenProperties, Match, Payload, Statement, Value};

const FILES: [&str; 5] = [
    include_str!("cases/reference.toml"),
    include_str!("cases/operators.toml"),
    include_str!("cases/functions.toml"),
    include_str!("cases/statements.toml"),
    include_str!("cases/decisions.toml"),
];

/// What cases are evaluated on unless they say otherwise; `q` is missing.
const PAYLOAD: &str = r#"{"t":21.5,"n":7,"s":"50","b":true,"y":"TRUE","z":null,"w":10.0,"o":{"k":"v","x-y":3},"a":[4,5,"six",null],"e":[{"m":"rpm","v":900},{"m":"oil","v":3.5}]}"#;
const TOPIC: &str = "site/7/truck";
/// Stands for that payload as it is printed.
const THE_PAYLOAD: &str = "P";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    group: Vec<Group>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// Of the reference.
    section: String,
    form: Form,
    payload: Option<String>,
    topic: Option<String>,
    /// What the message has besides; nothing if it did not come in MQTT 5.
    #[serde(default)]
    properties: GivenProperties,
    /// Stated or inferred, what is evaluated, and what comes of it.
    cases: Vec<(Basis, String, String)>,
}

/// Whether the reference says so, or it follows from what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Basis {
    Stated,
    Inferred,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// A value: JSON, or U for Undefined.
    Expression,
    /// Whether the condition lets the message pass: yes or no.
    Where,
    /// What stands behind SELECT: the payload that comes of it.
    Select,
    /// A whole statement: the payload that comes of it, or - if there is none.
    Statement,
    /// A statement that is refused: `line:column message`, with its hint behind it if it has one.
    Refused,
}

fn is_matched(result: Option<Match<'_>>) -> String {
    if result.is_some() { "yes" } else { "no" }.to_owned()
}

fn written(result: Option<Match<'_>>) -> String {
    let Some(found) = result else { return "-".to_owned() };
    let mut out = Vec::new();
    found.write(&mut out).expect("not too large");
    String::from_utf8(out).expect("text")
}

fn value(result: Option<Match<'_>>) -> String {
    match result {
        Some(Match { value: Value::Undefined, .. }) => "U".to_owned(),
        result => written(result),
    }
}

fn refusal(statement: &str) -> String {
    match Statement::parse(statement) {
        Ok(_) => "it is accepted".to_owned(),
        Err(error) => {
            let hint = error.hint().map_or(String::new(), |hint| format!(" ({hint})"));
            format!("{}:{} {}{hint}", error.line, error.column, error.fault)
        }
    }
}

impl Group {
    fn found(&self, text: &str) -> String {
        let statement = match self.form {
            Form::Expression => format!("SELECT VALUE {text} FROM '+/+/truck'"),
            Form::Where => format!("SELECT * FROM '+/+/truck' WHERE {text}"),
            Form::Select => format!("SELECT {text} FROM '+/+/truck'"),
            Form::Statement => text.to_owned(),
            Form::Refused => return refusal(text),
        };
        let parsed = match Statement::parse(&statement) {
            Ok(parsed) => parsed,
            Err(error) => return error.to_string(),
        };
        let payload = Payload::new(self.payload.as_deref().unwrap_or(PAYLOAD).as_bytes());
        let context = Context {
            topic: Some(self.topic.as_deref().unwrap_or(TOPIC)),
            client_id: Some("truck-7"),
            principal: Some("ba67293af50b"),
            trace_id: Some("12345678-1234-1234-1234-123456789012"),
            source_ip: Some("192.0.2.1"),
            account_id: Some("123456789012"),
            properties: self.properties.passed_on(),
            now_ms: 1_481_825_251_155,
            seed: 1,
            allowance: None,
        };
        let result = parsed.evaluate(&payload, &context);
        match (self.form, result) {
            (_, Err(error)) => error.to_string(),
            (Form::Expression, Ok(result)) => value(result),
            (Form::Where, Ok(result)) => is_matched(result),
            (_, Ok(result)) => written(result),
        }
    }
}

#[test]
fn each_case_gives_its_result() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in FILES {
        let file: File = toml::from_str(file).unwrap_or_else(|error| panic!("{error}"));
        for group in file.group {
            for (basis, text, expected) in &group.cases {
                count += 1;
                let found = group.found(text);
                let expected = if expected == THE_PAYLOAD { &PAYLOAD.replace("10.0", "10") } else { expected };
                if found != *expected {
                    wrong.push(format!(
                        "{} ({basis:?}): {text}\n  gives    {found}\n  expected {expected}",
                        group.section
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 281, "{count} cases");
}
