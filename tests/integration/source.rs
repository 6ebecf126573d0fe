//! Rules that the compiler does not hold: what the source may not say.

use std::path::{Path, PathBuf};

/// What decides, and nothing else: no runtime, no database, no router, no SDK, no clock, no randomness.
const NOT_IN_CORE: [&str; 16] = [
    "tokio",
    "rusqlite",
    "rumqttd",
    "rumqttc",
    "aws_",
    "hyper",
    "tracing",
    "getrandom",
    "rand",
    "libc",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The line without its comment; a `//` in a text would only hide more.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Forbidden names that a line uses, as whole words.
fn uses(line: &str) -> Vec<&'static str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let stands_alone = |name: &str, at: usize| {
        let before = code(line)[..at].chars().next_back();
        let after = code(line)[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && (name.ends_with('_') || !after.is_some_and(is_word))
    };
    let is_used = |name: &&&str| code(line).match_indices(**name).any(|(at, _)| stands_alone(name, at));
    NOT_IN_CORE.iter().filter(is_used).copied().collect()
}

#[test]
fn the_core_is_pure() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core"), &mut files);
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let used = uses(line);
            assert!(used.is_empty(), "{}:{number} uses {used:?}", file.display());
            let outside =
                ["crate::mqtt", "crate::ingest", "crate::store", "crate::sinks", "crate::admin", "crate::gateway"];
            let reached = outside.iter().find(|module| code(line).contains(**module));
            assert_eq!(reached, None, "{}:{number} reaches out of the core", file.display());
        }
    }
}

#[test]
fn impure_lines_are_found_out() {
    assert_eq!(uses("use std::time::{Duration, Instant};"), ["Instant"]);
    assert_eq!(uses("let now = std::time::SystemTime::now();"), ["SystemTime"]);
    assert_eq!(uses("use tokio::sync::watch;"), ["tokio"]);
    assert_eq!(uses("rand::random()"), ["rand"]);
    assert_eq!(uses("use aws_sdk_kinesis::Client;"), ["aws_"]);
    assert_eq!(uses("// not an Instant, whatever tokio says"), Vec::<&str>::new());
    assert_eq!(uses("let operand = strand(brand);"), Vec::<&str>::new());
}
