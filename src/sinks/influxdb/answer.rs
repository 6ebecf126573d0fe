//! What an answer to a write means, and for which points.
//!
//! Servers that refuse some of the points store the others. Only InfluxDB 3 says which it refused. The others say so in words and nowhere else, so
//! words are looked for where it matters: whether points are older than is kept. Of a backlog many are, and no better configuration would make the server
//! take them; whatever else is refused goes through the halving of `core::delivery`, which halts where it is nobody's fault.

use serde::Deserialize;

use crate::core::delivery::Outcome;
use crate::sinks::http::outcome::{self, Answer};

/// What became of the points of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same of all.
    Whole(Outcome),
    /// These are refused, by number, each with the reason; the others are stored.
    These(Vec<(usize, String)>),
    /// Some are older than is kept, or all; the others are stored.
    TooOld {
        /// How many, if it can be told.
        dropped: Option<usize>,
        said: String,
    },
}

#[derive(Deserialize)]
struct Said {
    /// Of InfluxDB 1 and 3.
    #[serde(default)]
    error: Option<String>,
    /// Of InfluxDB 2.
    #[serde(default)]
    message: Option<String>,
    /// Of InfluxDB 3: one line, or all that it refused.
    #[serde(default)]
    data: Option<Lines>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lines {
    Many(Vec<LineError>),
    One(LineError),
}

#[derive(Deserialize)]
struct LineError {
    /// The first is 1.
    line_number: usize,
    error_message: String,
}

/// The answer to a write of so many points.
pub fn of(mut answer: Answer, points: usize) -> Verdict {
    // What is in between, such as the page where a network asks for a login, answers 200, and so does InfluxDB 1 if it could not do what it was asked.
    if matches!(answer.status, 200..=299) && answer.status != STORED {
        return Verdict::Whole(halt(&answer, "a server of points answers 204 when it has stored them"));
    }
    let Ok(Said { error, message, data }) = serde_json::from_slice(&answer.text) else {
        return Verdict::Whole(of_others(&answer));
    };
    let Some(message) = error.or(message) else {
        return Verdict::Whole(of_others(&Answer { text: Vec::new(), ..answer }));
    };
    // The words alone are for people.
    answer.text = message.clone().into_bytes();
    if matches!(answer.status, 400 | 403 | 422 | 500) && is_about_age(&message) {
        return Verdict::TooOld { dropped: dropped(&message), said: outcome::said(&answer) };
    }
    if !matches!(answer.status, 400 | 422 | 500) {
        return Verdict::Whole(outcome::of(&answer));
    }
    let of_line =
        |line: &LineError| outcome::said(&Answer { text: line.error_message.clone().into_bytes(), ..answer.clone() });
    match (answer.status, data) {
        // InfluxDB 2 has called partial writes an error of its own.
        (500, _) if message.contains("partial write") => Verdict::Whole(Outcome::Reject(outcome::said(&answer))),
        (500, _) | (_, None) => Verdict::Whole(outcome::of(&answer)),
        (_, Some(Lines::Many(lines))) => of_lines(&lines, points, of_line),
        (_, Some(Lines::One(line))) => Verdict::Whole(Outcome::Reject(of_line(&line))),
    }
}

/// The answer to a write of no points, which some call a fault.
pub fn of_nothing(answer: Answer) -> Outcome {
    if answer.status == 200 && answer.text.is_empty() {
        return Outcome::Accepted { shard: None };
    }
    match of(answer, 0) {
        Verdict::Whole(outcome) => outcome,
        Verdict::These(_) | Verdict::TooOld { .. } => Outcome::Accepted { shard: None },
    }
}

/// What is not in the form in which InfluxDB refuses points is of somebody who has not looked at them: a port for TLS that was asked without, a proxy that has no
/// way for them, VictoriaMetrics at a path that it does not know. The points are not to blame.
fn of_others(answer: &Answer) -> Outcome {
    match answer.status {
        // It may have been cut off.
        400 | 422 if !answer.text.trim_ascii_start().starts_with(b"{") => {
            halt(answer, "that is not how points are refused")
        }
        _ => outcome::of(answer),
    }
}

fn halt(answer: &Answer, why: &str) -> Outcome {
    Outcome::Halt(format!("{} ({why}; look at url)", outcome::said(answer)))
}

fn of_lines(lines: &[LineError], points: usize, said: impl Fn(&LineError) -> String) -> Verdict {
    let mut refused: Vec<(usize, String)> = Vec::with_capacity(lines.len());
    for line in lines {
        match line.line_number.checked_sub(1) {
            Some(number) if number < points => refused.push((number, said(line))),
            // Of another request: nothing is known of any line of this one.
            _ => return Verdict::Whole(Outcome::Reject(said(line))),
        }
    }
    refused.sort_unstable();
    refused.dedup_by_key(|(number, _)| *number);
    let first = refused.first().map_or(String::new(), |(_, said)| said.clone());
    // A list may be cut: then it says nothing of the lines that it does not name.
    match refused.len() {
        0 | LISTED_MAX.. => Verdict::Whole(Outcome::Reject(first)),
        count if count == points => Verdict::Whole(Outcome::Reject(first)),
        _ => Verdict::These(refused),
    }
}

/// The status that says that points are stored.
const STORED: u16 = 204;

/// Some versions name no more lines than this.
const LISTED_MAX: usize = 100;

fn is_about_age(message: &str) -> bool {
    // The last one is of the engine of InfluxDB 3, in InfluxDB Cloud as well.
    ["beyond retention policy", "outside retention policy", "outside of the retention period"]
        .iter()
        .any(|words| message.contains(words))
}

/// The number behind the last `dropped=`. Other faults of the same request are not counted in it, or it is 0.
fn dropped(message: &str) -> Option<usize> {
    let (_, behind) = message.rsplit_once("dropped=")?;
    let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    behind[..digits].parse().ok().filter(|dropped| *dropped > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, text: &str, points: usize) -> Verdict {
        of(Answer { status, retry_after: None, date: None, text: text.as_bytes().to_vec() }, points)
    }

    fn reject(said: &str) -> Verdict {
        Verdict::Whole(Outcome::Reject(said.to_owned()))
    }

    #[test]
    fn each_status_has_its_meaning() {
        assert_eq!(verdict(204, "", 1), Verdict::Whole(Outcome::Accepted { shard: None }));
        for (status, text, said) in [
            (401, r#"{"error":"authorization failed"}"#, "HTTP status 401"),
            (403, "", "HTTP status 403"),
            (404, r#"{"error":"database not found: \"fleet\""}"#, "database not found"),
            (301, "", "HTTP status 301"),
        ] {
            let Verdict::Whole(Outcome::Halt(told)) = verdict(status, text, 1) else { panic!("{status}") };
            assert!(told.contains(said), "{told}");
        }
        assert!(matches!(verdict(413, "", 1), Verdict::Whole(Outcome::TooLarge(_))));
        for status in [429, 500, 502, 503] {
            assert!(matches!(verdict(status, "busy", 1), Verdict::Whole(Outcome::Later { .. })), "{status}");
        }
        let timeout = verdict(500, r#"{"error":"timeout"}"#, 1);
        let said = "HTTP status 500: timeout".to_owned();
        assert_eq!(timeout, Verdict::Whole(Outcome::Later { reason: said, after_us: None }));
    }

    /// Nothing counts as delivered, and nothing is given up, on the word of what is in between.
    #[test]
    fn what_is_no_answer_of_a_server_of_points_halts() {
        for (status, text) in [
            (200, "<html>Welcome to our network</html>"),
            (200, r#"{"results":[]}"#),
            (202, ""),
            (400, "Client sent an HTTP request to an HTTPS server."),
            (400, "<html><center>The plain HTTP request was sent to HTTPS port</center></html>"),
            (400, r#"remoteAddr: "127.0.0.1:1"; requestURI: /write; unsupported path requested: "/write""#),
            (400, r#"{"detail":"no route"}"#),
            (422, ""),
        ] {
            let told = verdict(status, text, 3);
            assert!(matches!(told, Verdict::Whole(Outcome::Halt(_))), "{status} {text}: {told:?}");
        }
    }

    #[test]
    fn to_write_nothing_is_a_question_whether_it_would_be_let_in() {
        let of = |status, text: &str| {
            of_nothing(Answer { status, retry_after: None, date: None, text: text.as_bytes().to_vec() })
        };
        let accepted = Outcome::Accepted { shard: None };
        assert_eq!((of(204, ""), of(200, "")), (accepted.clone(), accepted));
        assert!(matches!(of(400, r#"{"code":"invalid","message":"writing requires points"}"#), Outcome::Reject(_)));
        for (status, text) in [(200, "<html>"), (400, "unsupported path requested"), (401, ""), (404, "")] {
            assert!(matches!(of(status, text), Outcome::Halt(_)), "{status} {text}");
        }
    }

    /// As the servers themselves say it.
    #[test]
    fn points_that_are_too_old_are_told_from_others() {
        for (status, text, dropped) in [
            (400, r#"{"error":"partial write: points beyond retention policy dropped=24"}"#, Some(24)),
            (
                500,
                r#"{"code":"internal error","message":"unexpected error writing points to database: partial write: points beyond retention policy dropped=1"}"#,
                Some(1),
            ),
            (
                422,
                r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: dropped 4 points outside retention policy of duration 24h0m0s - oldest point home,room=Living at 1970-01-01T00:00:01.541Z dropped because it violates a Retention Policy Lower Bound at 2025-05-20T19:06:17.612973Z, newest point ... dropped=4 for database: 9f282d63c7d3a5c0 for retention policy: autogen"}"#,
                Some(4),
            ),
            (400, r#"{"error":"partial write: points beyond retention policy dropped=0"}"#, None),
            (400, r#"{"error":"points beyond retention policy"}"#, None),
            (
                400,
                r#"{"code":"invalid","message":"data in table t is outside of the retention period: minimum acceptable timestamp is 2, but observed timestamp 1 is older"}"#,
                None,
            ),
            (403, r#"{"code":"forbidden","message":"data in table t is outside of the retention period"}"#, None),
        ] {
            let Verdict::TooOld { dropped: told, said } = verdict(status, text, 9) else { panic!("{text}") };
            assert_eq!(told, dropped, "{said}");
            assert!(said.contains("retention p") && !said.contains("{\""), "{said}");
        }
    }

    #[test]
    fn what_else_is_refused_is_left_to_the_halving() {
        for (status, text, said) in [
            (
                400,
                r#"{"error":"partial write: field type conflict: input field \"value\" on measurement \"t\" is type float, already exists as type integer dropped=2"}"#,
                "HTTP status 400: partial write: field type conflict",
            ),
            (
                400,
                r#"{"code":"invalid","message":"unable to parse 't': missing fields"}"#,
                "HTTP status 400: unable to parse",
            ),
            (
                500,
                r#"{"code":"internal error","message":"partial write: max-values-per-tag limit exceeded dropped=2"}"#,
                "HTTP status 500: partial write: max",
            ),
            (
                400,
                r#"{"error":"parsing failed for write_lp endpoint","data":{"original_line":"a","line_number":1,"error_message":"No fields were provided"}}"#,
                "HTTP status 400: No fields",
            ),
        ] {
            let Verdict::Whole(Outcome::Reject(told)) = verdict(status, text, 9) else { panic!("{text}") };
            assert!(told.starts_with(said), "{told}");
        }
    }

    #[test]
    fn lines_that_are_named_are_refused_alone() {
        let text = r#"{"error":"partial write of line protocol occurred","data":[
            {"original_line":"b v=x","line_number":3,"error_message":"no"},{"original_line":"a v=","line_number":1,"error_message":"No fields"}]}"#;
        let named = vec![(0, "HTTP status 400: No fields".to_owned()), (2, "HTTP status 400: no".to_owned())];
        assert_eq!(verdict(400, text, 3), Verdict::These(named));
        // All of them, a line that was not sent, a list that may be cut: nothing is known of the others.
        assert_eq!(verdict(400, text, 2), reject("HTTP status 400: no"));
        let all = text.replace(":3,", ":2,");
        assert_eq!(verdict(400, &all, 2), reject("HTTP status 400: No fields"));
        assert_eq!(verdict(400, &text.replace(":1,", ":0,"), 3), reject("HTTP status 400: No fields"));
        let line = |number: usize| format!(r#"{{"line_number":{number},"error_message":"no"}}"#);
        let many: Vec<String> = (1..=100).map(line).collect();
        let cut = format!(r#"{{"error":"partial write of line protocol occurred","data":[{}]}}"#, many.join(","));
        assert_eq!(verdict(400, &cut, 500), reject("HTTP status 400: no"));
        // Cut off: no JSON.
        assert!(matches!(verdict(400, &text[..90], 3), Verdict::Whole(Outcome::Reject(_))));
    }
}
