//! `outrider rules eval`: a statement and a message a line, an answer a line.

use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::with_hint;
use crate::clock;
use crate::commands::Exit;
use crate::core::rules::{Context, GivenProperties, ParseError, Payload, Statement, trace_id};

/// Longest line that is read, in bytes: a message of a MiB, with its escapes.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    sql: String,
    topic: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    properties: GivenProperties,
    timestamp_ms: Option<i64>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the line is not understood: {0}")]
    Line(#[from] serde_json::Error),
    #[error("the line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("payload_base64 is not understood: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("exactly one of payload and payload_base64 is expected")]
    NoPayload,
    #[error("{}", with_hint(.0))]
    Statement(#[from] ParseError),
    #[error(transparent)]
    Evaluation(#[from] crate::core::rules::EvaluationError),
}

/// Answers standard input on standard output.
pub fn command() -> ExitCode {
    match eval(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the answers has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            Exit::RunTime.into()
        }
    }
}

/// Answers each line that is not empty.
fn eval(input: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let is_too_long = line.len() as u64 > LINE_BYTES_MAX;
        while line.len() as u64 > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            line.clear();
            line.push(b' ');
            if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                break;
            }
        }
        if line.trim_ascii().is_empty() && !is_too_long {
            continue;
        }
        let result = if is_too_long { Err(Refusal::TooLong) } else { answer(&line) };
        let answer = result.unwrap_or_else(|refusal| {
            let mut answer = json!({ "error": refusal.to_string() });
            if let Refusal::Statement(ParseError { line, column, .. }) = refusal {
                answer["line"] = line.into();
                answer["column"] = column.into();
            }
            answer
        });
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
}

fn answer(line: &[u8]) -> Result<Value, Refusal> {
    let request: Request = serde_json::from_slice(line)?;
    let payload = match (request.payload, request.payload_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(base64)) => STANDARD.decode(base64)?,
        _ => return Err(Refusal::NoPayload),
    };
    let statement = Statement::parse(&request.sql)?;
    if !statement.is_for(&request.topic) {
        return Ok(json!({ "matched": false }));
    }
    let payload = Payload::new(&payload);
    let seed = getrandom::u64().unwrap_or_default();
    let trace_id = trace_id(seed);
    let context = Context {
        topic: Some(&request.topic),
        client_id: request.client_id.as_deref(),
        properties: request.properties.passed_on(),
        trace_id: Some(&trace_id),
        now_ms: request.timestamp_ms.unwrap_or_else(clock::now_ms),
        seed,
        ..Context::default()
    };
    let Some(found) = statement.evaluate(&payload, &context)? else { return Ok(json!({ "matched": false })) };
    let mut result = Vec::new();
    found.write(&mut result)?;
    Ok(match String::from_utf8(result) {
        Ok(text) => json!({ "matched": true, "payload": text }),
        Err(error) => json!({ "matched": true, "payload_base64": STANDARD.encode(error.as_bytes()) }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(lines: &str) -> Vec<Value> {
        let mut out = Vec::new();
        eval(&mut lines.as_bytes(), &mut out).expect("a buffer");
        String::from_utf8(out).expect("text").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn answer_to(request: &Value) -> Value {
        answers(&format!("\n{request}\n")).remove(0)
    }

    #[test]
    fn each_line_has_an_answer() {
        let ask = |sql: &str| answer_to(&json!({ "sql": sql, "topic": "a/b", "payload": r#"{"n":7}"# }));
        assert_eq!(ask("SELECT n FROM 'a/+' WHERE n > 6"), json!({ "matched": true, "payload": r#"{"n":7}"# }));
        assert_eq!(ask("SELECT n FROM 'a/+' WHERE n > 7"), json!({ "matched": false }));
        assert_eq!(ask("SELECT n FROM 'b/+'"), json!({ "matched": false }));
        assert_eq!(
            ask("SELECT n FROM 'a/+'\nWHERE n LIKE 'x'"),
            json!({
                "error": "LIKE is not part of AWS IoT SQL: use startswith(), endswith(), indexof() or regexp_matches()",
                "line": 2,
                "column": 9,
            })
        );
        assert_eq!(answers("{}\n\n[1]\n").len(), 2);
    }

    #[test]
    fn what_came_with_the_message_is_seen() {
        let sql = "SELECT VALUE [clientid(), timestamp(), topic(1)] FROM 'a/#'";
        let request = json!({ "sql": sql, "topic": "a/b", "payload": "", "client_id": "c", "timestamp_ms": 5 });
        assert_eq!(answer_to(&request), json!({ "matched": true, "payload": r#"["c",5,"a"]"# }));
        let request = json!({ "sql": sql, "topic": "a/b", "payload": "" });
        assert!(answer_to(&request)["payload"].as_str().is_some_and(|text| text.starts_with(r#"["n/a",1"#)));
        let request = json!({ "sql": "SELECT topic() AS t", "topic": "$aws/rules/r/x", "payload": "{}" });
        assert_eq!(answer_to(&request), json!({ "matched": true, "payload": r#"{"t":"x"}"# }));
    }

    #[test]
    fn properties_of_the_message_are_seen() {
        let sql = "SELECT VALUE [get_mqtt_property('content_type'), get_user_properties('k')] FROM 'a'";
        let ask = |properties: &Value| {
            answer_to(&json!({ "sql": sql, "topic": "a", "payload": "", "properties": properties }))
        };
        let properties = json!({ "content_type": "c", "user_properties": [["k", "v"], ["l", "x"], ["k", "w"]] });
        assert_eq!(ask(&properties), json!({ "matched": true, "payload": r#"["c",["v","w"]]"# }));
        assert_eq!(ask(&json!({})), json!({ "matched": true, "payload": "[]" }));
        let refusal = "the line is not understood: a response topic that is empty or has a wildcard";
        let error = ask(&json!({ "response_topic": "+" }))["error"].as_str().map(str::to_owned);
        assert!(error.as_deref().is_some_and(|error| error.starts_with(refusal)), "{error:?}");
    }

    #[test]
    fn payloads_may_be_bytes() {
        let request = json!({ "sql": "SELECT * FROM 'a'", "topic": "a", "payload_base64": "/wA=" });
        assert_eq!(answer_to(&request), json!({ "matched": true, "payload_base64": "/wA=" }));
        for request in [
            json!({ "sql": "SELECT * FROM 'a'", "topic": "a" }),
            json!({ "sql": "SELECT * FROM 'a'", "topic": "a", "payload": "", "payload_base64": "" }),
            json!({ "sql": "SELECT * FROM 'a'", "topic": "a", "payload_base64": "!" }),
            json!({ "sql": "SELECT * FROM 'a'", "topic": "a", "payload": "", "time": 1 }),
        ] {
            assert!(answer_to(&request)["error"].is_string(), "{request}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_costs_only_itself() {
        let long = "x".repeat(LINE_BYTES_MAX as usize * 2 + 5);
        let good = json!({ "sql": "SELECT VALUE 1 FROM 'a'", "topic": "a", "payload": "" });
        let answers = answers(&format!("{long}\n{good}\n"));
        assert_eq!(answers.len(), 2);
        assert!(answers[0]["error"].is_string() && answers[1]["payload"] == "1");
    }
}
