//! The demonstration, as a newcomer starts it, with its summary compared to our own reading of the files.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::archive;
use crate::gateway::wait_until;

const FOLDER: &str = "outrider-demo";

fn demo(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.args(["demo", "--port", "0"]).args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The number after these words.
fn number(text: &str, words: &str) -> u64 {
    let after = &text[text.find(words).unwrap_or_else(|| panic!("no `{words}` in {text}")) + words.len()..];
    let digits: String =
        after.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind `{words}` in {text}"))
}

fn count(text: &str, label: &str) -> usize {
    text.lines().filter(|line| line.get(7..).is_some_and(|line| line.starts_with(label))).count()
}

#[test]
fn half_a_minute_shows_everything_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--for", "30s"]).wait_with_output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");

    let readings = number(&text, "acknowledged to vehicles");
    assert!(readings >= 60_000, "{text}");
    assert_eq!(number(&text, "found in the archive files"), readings);
    assert_eq!((number(&text, "missing"), number(&text, "duplicates")), (0, 0));
    assert_eq!((number(&text, "faults made"), number(&text, ", found"), number(&text, "false alarms")), (3, 3, 0));
    for (label, times) in
        [("history", 1), ("FAULT", 3), ("ALERT", 3), ("LINK CUT", 1), ("LINK BACK", 1), ("summary", 1)]
    {
        assert_eq!(count(&text, label), times, "{label} in {text}");
    }
    assert!(text.lines().any(|line| line.contains("ALERT") && line.contains("link still down")), "{text}");

    let mut found = HashSet::new();
    archive::read(&folder.path().join(FOLDER).join("archive"), "raw", |line| {
        let part = |name| archive::field(line, name).to_owned();
        assert!(found.insert((part("device"), part("metric"), part("seq"))), "twice: {line}");
    });
    assert_eq!(found.len() as u64, readings);
    let faults = std::fs::read_to_string(folder.path().join(FOLDER).join("faults.ndjson")).unwrap();
    assert_eq!(faults.lines().count(), 3);
}

/// Waits for a finished file of the raw stream.
fn finished_file(folder: &Path) -> PathBuf {
    fn look(folder: &Path) -> Option<PathBuf> {
        std::fs::read_dir(folder).ok()?.find_map(|entry| {
            let path = entry.ok()?.path();
            let is_finished = path.to_string_lossy().ends_with(".ndjson.zst");
            if path.is_dir() { look(&path) } else { is_finished.then_some(path) }
        })
    }
    let raw = folder.join(FOLDER).join("archive/raw");
    wait_until("a finished file", || look(&raw).is_some());
    look(&raw).unwrap()
}

/// The control: the summary really depends on the files. One reading is removed from a file without the gateway's knowledge.
#[test]
fn a_reading_that_is_lost_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let running = demo(folder.path(), &["--for", "3s", "--vehicles", "3"]);
    let file = finished_file(folder.path());
    let lines = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
    let second = lines.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut shorter = std::fs::File::create(&file).unwrap();
    shorter.write_all(&zstd::encode_all(&lines[second..], 1).unwrap()).unwrap();
    drop(shorter);

    let output = running.wait_with_output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(number(&text, "missing"), 1, "{text}");
    assert_eq!(number(&text, "found in the archive files") + 1, number(&text, "acknowledged to vehicles"), "{text}");
    assert_eq!(number(&text, "FAILED  acknowledged readings that are not in the archive files:"), 1);
}

#[test]
fn without_an_end_it_ends_at_a_signal_and_the_next_one_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut running = demo(folder.path(), &["--vehicles", "4"]);
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("history")));
        let pid = running.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let summary: Vec<String> = lines.collect();
        let text = summary.join("\n");
        assert!(running.wait().unwrap().success(), "{text}");
        let readings = number(&text, "acknowledged to vehicles");
        assert!(readings >= 4 * 600 * 5, "{text}");
        assert_eq!(number(&text, "found in the archive files"), readings, "what the last demo left is gone");
    }
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
    std::fs::write(folder.path().join(FOLDER).join("mine"), "x").unwrap();
    let output = demo(folder.path(), &["--for", "3s"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output), "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("not made by a demo"), "{error}");
    assert!(folder.path().join(FOLDER).join("mine").exists());
}
