//! `outrider file`: the files that the running gateway reads.

use std::fmt::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde::Deserialize;

use super::operate::{Method, Place, STATUS_BYTES_MAX, ask, failed};
use super::text::{Plain, listed};
use crate::counter::many;
use crate::keys::units::{approximate_duration, approximate_size};

#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Show how far the files of each [[file]] are read, and what was lost or left out since the start
    Status {
        /// Print the part `files` of /api/status as it is
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

pub fn command(command: &FileCommand) -> ExitCode {
    let FileCommand::Status { json, place } = command;
    let text = match ask(place, &Method::Get { bytes_max: STATUS_BYTES_MAX }, "/api/status") {
        Ok(text) => text,
        Err(exit) => return exit,
    };
    let printed = match json {
        true => serde_json::from_str(&text).map(|status: Raw| format!("{}\n", status.files)),
        false => serde_json::from_str(&text).map(|status: Status| status.to_string()),
    };
    match printed {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("the gateway's answer is not understood: {error}")),
    }
}

#[derive(Deserialize)]
struct Raw {
    files: Box<serde_json::value::RawValue>,
}

#[derive(Debug, Deserialize)]
struct Status {
    now_ms: i64,
    files: Vec<Input>,
}

/// One `[[file]]`.
#[derive(Debug, Deserialize)]
pub struct Input {
    path: String,
    lag_bytes: u64,
    lines: u64,
    lines_refused: u64,
    lines_too_long: u64,
    newest_line_ms: Option<i64>,
    cuts: u64,
    vanished: u64,
    lost_bytes: u64,
    let_go: u64,
    copies: u64,
    damaged: u64,
    last_error: Option<String>,
    files: Vec<File>,
    files_total: usize,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    state: String,
    place: u64,
    size: u64,
    lag_bytes: u64,
    #[serde(default)]
    damaged: bool,
}

impl Input {
    /// In one line.
    pub fn text(&self, now_ms: i64) -> String {
        let Input { path, lag_bytes, lines, lines_refused, lines_too_long, cuts, vanished, .. } = self;
        let Input { lost_bytes, let_go, damaged, files_total, copies, .. } = self;
        let (stored, files) = (many(*lines, "line"), many(*files_total as u64, "file"));
        let mut text = format!("{}: {files}, {stored} stored since the start", Plain(path));
        if let Some(newest_ms) = self.newest_line_ms {
            let age = Duration::from_millis(u64::try_from(now_ms - newest_ms).unwrap_or(0));
            let _ = write!(text, ", the newest {} ago", approximate_duration(age));
        }
        if *lag_bytes > 0 {
            let _ = write!(text, ", {} behind", approximate_size(*lag_bytes));
        }
        let troubles = [
            (lines_refused, "line", "refused"),
            (lines_too_long, "line", "too long"),
            (copies, "file", "known as a copy"),
            (cuts, "file", "cut"),
            (vanished, "file", "gone unseen"),
            (let_go, "deleted file", "let go"),
            (damaged, "compressed file", "damaged"),
        ];
        for (count, what, how) in troubles.into_iter().filter(|(count, ..)| **count > 0) {
            let _ = write!(text, ", {} {how}", many(*count, what));
        }
        if *lost_bytes > 0 {
            let _ = write!(text, ", {} lost", approximate_size(*lost_bytes));
        }
        if let Some(error) = &self.last_error {
            let _ = write!(text, "; the folder cannot be listed: {}", Plain(error));
        }
        text
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.files.is_empty() {
            return writeln!(f, "no file is read: the configuration has no [[file]]");
        }
        for input in &self.files {
            let line = |File { path, state, place, size, lag_bytes, damaged }: &File| {
                let mut text = format!("{}: {state}, {place} of {size} bytes", Plain(path));
                if *lag_bytes > 0 {
                    let _ = write!(text, ", {} behind", approximate_size(*lag_bytes));
                }
                if *damaged {
                    text.push_str(", damaged: the rest is not read, and what was may be wrong");
                }
                text
            };
            writeln!(f, "\n{}", input.text(self.now_ms))?;
            listed(f, input.files.iter().map(line), input.files_total)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_files_are_read_is_shown_with_what_was_lost() {
        let input = |path: &str, files: serde_json::Value, more: u64| {
            serde_json::json!({
                "path": path, "size_bytes": 100, "lag_bytes": 40 << 10, "lines": 5, "lines_refused": 1, "lines_too_long": 0,
                "newest_line_ms": 1_000, "cuts": more, "vanished": 0, "lost_bytes": more * 2048, "let_go": 0, "copies": more,
                "hole_bytes": 0, "damaged": more, "faults": 0, "last_error": null, "files": files, "files_total": 2 * more,
            })
        };
        let file = serde_json::json!({
            "path": "/d/a\u{1b}.log", "state": "read", "place": 10, "size": 40_970, "lag_bytes": 40 << 10, "open": true, "damaged": true,
        });
        let files = [input("/d/*.log", serde_json::json!([file]), 1), input("/e/*", serde_json::json!([]), 0)];
        let status: Status = serde_json::from_value(serde_json::json!({ "now_ms": 91_000, "files": files, "new": 1 }))
            .expect("as it is sent");
        let expected = r"
/d/*.log: 2 files, 5 lines stored since the start, the newest 1.5 m ago, 40 KiB behind, 1 line refused, 1 file known as a copy, 1 file cut, 1 compressed file damaged, 2 KiB lost
  /d/a\u{1b}.log: read, 10 of 40970 bytes, 40 KiB behind, damaged: the rest is not read, and what was may be wrong
  and 1 more

/e/*: 0 files, 5 lines stored since the start, the newest 1.5 m ago, 40 KiB behind, 1 line refused
";
        assert_eq!(status.to_string(), expected);
    }
}
