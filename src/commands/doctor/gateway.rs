//! Whether a gateway runs with this state folder, and what it says of itself.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Case;
use crate::commands::operate::{self, Method};
use crate::finding::Finding;
use crate::keys::units::approximate_duration;
use crate::store::lock;
use crate::store::schema::store_path;

/// A gateway that is well answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const STATUS_BYTES_MAX: u64 = 16 << 20;
const WORD_BYTES_MAX: u64 = 4 << 10;
/// Alerts of the gateway itself that are told one by one.
const ALERTS_MAX: usize = 10;

/// What the gateway that has a state folder answers.
pub enum Running {
    /// There is none.
    No {
        reason: String,
    },
    /// There is one, and it says nothing of use.
    Silent {
        reason: String,
    },
    Yes(Box<Answers>),
}

pub struct Answers {
    pub pid: Option<u32>,
    /// The word of `/readyz`; `None` if it is ready.
    pub unready: Option<String>,
    /// As `/api/status` gives it.
    pub status: Value,
}

impl Running {
    pub fn answers(&self) -> Option<&Answers> {
        match self {
            Running::Yes(answers) => Some(answers),
            Running::No { .. } | Running::Silent { .. } => None,
        }
    }
}

/// Asks it.
pub fn ask(folder: &Path) -> Running {
    let get = |path: &str, bytes_max| operate::exchange(folder, &Method::Get { bytes_max }, path, ANSWER_WITHIN);
    let (code, word) = match get("/readyz", WORD_BYTES_MAX) {
        Ok(answer) => answer,
        Err(error) => {
            let reason = operate::explained(&error, folder);
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                    Running::No { reason }
                }
                _ => Running::Silent { reason },
            };
        }
    };
    let status = match get("/api/status", STATUS_BYTES_MAX) {
        Ok((200, text)) => serde_json::from_str(&text).unwrap_or_default(),
        // It says of the store that it cannot be read; the word of its health is there.
        Ok(_) => Value::Null,
        Err(error) => return Running::Silent { reason: operate::explained(&error, folder) },
    };
    let pid = std::fs::read_to_string(folder.join(lock::FILE_NAME)).ok().and_then(|text| text.trim().parse().ok());
    Running::Yes(Box::new(Answers { pid, unready: (code != 200).then_some(word), status }))
}

pub fn look(case: &Case) -> Vec<Finding> {
    let folder = &case.configuration.store.folder;
    match &case.running {
        Running::No { reason } if store_path(folder).exists() => {
            vec![Finding::bad(
                reason.clone(),
                "start it: systemctl start outrider, or outrider run; its log says why it ended",
            )]
        }
        Running::No { .. } => {
            let found = format!("no gateway has run yet with its state in {}", folder.display());
            vec![Finding::warning(found, "start one: systemctl start outrider, or outrider run")]
        }
        Running::Silent { reason } => {
            vec![Finding::bad(
                reason.clone(),
                "run this as the gateway's user or as root; if it is that already, look at the log and restart the gateway",
            )]
        }
        Running::Yes(answers) => of_answers(answers),
    }
}

fn of_answers(Answers { pid, unready, status }: &Answers) -> Vec<Finding> {
    let process = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
    if let Some(word) = unready {
        let found = format!("it runs{process} and is not ready: {word}");
        return vec![Finding::bad(found, advice(word))];
    }
    let uptime = Duration::from_secs(status["uptime_s"].as_u64().unwrap_or(0));
    let version = status["version"].as_str().unwrap_or("?");
    let found = format!("version {version} is ready{process}, up {}", approximate_duration(uptime));
    let mut findings = vec![match version == env!("CARGO_PKG_VERSION") {
        true => Finding::well(found),
        false => Finding::warning(
            format!("{found}; this program is version {}", env!("CARGO_PKG_VERSION")),
            "restart the gateway, so that it runs what is installed",
        ),
    }];
    if status["ledger_adds_up"] == false {
        findings.push(Finding::bad(
            "its ledger does not add up: not every record is accounted for",
            "keep `outrider status --json` and the state folder, and report it",
        ));
    }
    findings
}

/// What to do about a word of `/readyz`.
fn advice(word: &str) -> &'static str {
    match word {
        "disk_failing" => "the disk answers with errors: look at dmesg; replace the medium",
        "disk_hung" => "the disk does not answer: look at dmesg; replace the medium",
        "store_full" => {
            "the store is full and refuses: let its sinks deliver, raise store.size_max, or set store.when_full to drop_oldest"
        }
        "stopping" => "it is ending: wait, and look again",
        word if word.starts_with("stalled:") => "a thread of it is stuck: restart it, and report it with its log",
        _ => "look at its log",
    }
}

/// The gateway's own alerts, which say what it cannot mend itself.
pub fn alerts(case: &Case) -> Vec<Finding> {
    let Some(Answers { status, .. }) = case.running.answers() else {
        return vec![Finding::skipped("the gateway does not answer")];
    };
    let Some(alerts) = status["alerts"].as_array() else {
        return vec![Finding::skipped("the gateway cannot read its store")];
    };
    let is_raised = |alert: &&Value| alert["state"] == "raised";
    let own = alerts.iter().filter(is_raised).filter(|alert| alert["device"] == "_gateway");
    let findings: Vec<Finding> = own
        .take(ALERTS_MAX)
        .map(|alert| {
            let message = alert["message"].as_str().unwrap_or_default();
            let metric = alert["metric"].as_str().unwrap_or_default();
            let remedy = format!("it clears when this is over; alerts/_gateway/{metric}/gateway has it");
            Finding::warning(message, remedy)
        })
        .collect();
    match findings.is_empty() {
        true => vec![Finding::well("the gateway has none about itself")],
        false => findings,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::finding::Verdict;

    fn answers(unready: Option<&str>, status: Value) -> Answers {
        Answers { pid: Some(7), unready: unready.map(str::to_owned), status }
    }

    #[test]
    fn what_is_not_ready_is_bad_and_what_runs_another_version_is_named() {
        let well = json!({ "version": env!("CARGO_PKG_VERSION"), "uptime_s": 3600, "ledger_adds_up": true });
        let found = of_answers(&answers(None, well));
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Well));
        assert!(found[0].found.contains("ready (process 7), up 1 h"), "{found:?}");
        for word in ["disk_failing", "disk_hung", "store_full", "stalled:committer"] {
            let found = of_answers(&answers(Some(word), Value::Null));
            assert!(found[0].verdict == Verdict::Bad && found[0].found.ends_with(word), "{found:?}");
        }
        let found = of_answers(&answers(None, json!({ "version": "0.0.9", "ledger_adds_up": false })));
        assert_eq!(found.iter().map(|finding| finding.verdict).collect::<Vec<_>>(), [Verdict::Warning, Verdict::Bad]);
    }
}
