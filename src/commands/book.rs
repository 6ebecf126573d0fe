//! Generates pages of the book's reference: commands with exit codes, records, and why payloads are refused.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use serde_json::{Map, Value};

use super::{Arguments, Exit};
use crate::ingest::REASONS;

/// If this variable is set, the pages are written anew.
const WRITE_VARIABLE: &str = "OUTRIDER_WRITE_BOOK";
const SCHEMAS: [&str; 6] = ["reading", "anomaly", "alert", "record", "gateway", "ready"];

#[test]
fn the_book_says_which_commands_there_are() {
    compare("commands", &commands());
}

#[test]
fn the_book_says_what_records_hold() {
    compare("records", &records());
}

#[test]
fn the_book_says_why_payloads_are_refused() {
    compare("refusals", &refusals());
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn compare(page: &str, rendered: &str) {
    let file = root().join(format!("docs/reference/{page}.md"));
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(&file, rendered).expect("a file that can be written");
    }
    let page = std::fs::read_to_string(&file).expect("the page");
    assert_eq!(page, rendered, "with {WRITE_VARIABLE}=1 this test writes the page anew");
}

fn commands() -> String {
    let mut page = "\
# Commands and exit codes

What `--help` says of each command. This page is written by a test from the program's own help.

## Exit codes

| code | when |
|---|---|
| 0 | all is well |
"
    .to_owned();
    for exit in [Exit::RunTime, Exit::Temporary, Exit::Configuration] {
        let when = match exit {
            Exit::RunTime => {
                "it failed while it ran: a port is taken, no gateway is running, the answer is no (`acl test`, `rules test`), the figures of `demo` disagree"
            }
            Exit::Temporary => {
                "another process uses the state folder, and is named; it may be gone the next time, so a supervisor may try again"
            }
            Exit::Configuration => {
                "the configuration is wrong: every problem is named with its line; or the store is of a later version, which is named. Trying again does not help"
            }
        };
        writeln!(page, "| {} | {when} |", exit as u8).expect("a text");
        if exit == Exit::RunTime {
            page.push_str("| 2 | the arguments are wrong; what is wrong with them goes to standard error |\n");
        }
    }
    // As wide on every machine, whatever terminal the test has.
    let mut program = Arguments::command().term_width(120).disable_help_subcommand(true);
    program.build();
    describe(&mut page, &program, "outrider", 2);
    page
}

fn describe(page: &mut String, command: &Command, name: &str, level: usize) {
    let help = command.clone().term_width(120).render_long_help().to_string();
    let marks = "#".repeat(level);
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    write!(page, "\n{marks} `{name}`\n\n```text\n{}\n```\n", lines.join("\n")).expect("a text");
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        describe(page, sub, &format!("{name} {}", sub.get_name()), (level + 1).min(3));
    }
}

fn refusals() -> String {
    let mut page = "\
# Payloads that are refused

A publish that a route takes and whose payload cannot be read is acknowledged, because sending it again would not help, and counted by its reason: in
`outrider status`, on the page, in `/api/status` (`undecodable`) and as `outrider_publishes_undecodable_total{reason}`. A sample of each kind is kept. What a route may
do about it is in [Topics, payloads and routes](routes.md); `outrider check --topic T --payload FILE` says it of a payload of yours. This page is written by a
test from the program's own list.

| reason | what it means |
|---|---|
"
    .to_owned();
    for (reason, meaning) in REASONS {
        writeln!(page, "| `{reason}` | {} |", meaning.replace('|', "\\|")).expect("a text");
    }
    page
}

fn records() -> String {
    let mut page = "\
# Records

What the streams carry: a line of JSON each, which ends in a line feed, the last too. All times are milliseconds since 1970, UTC. Within `v`, fields are only added:
consumers ignore those that they do not know. `(gateway, run, position)` is the identity of a record, within its stream; a record that comes twice is told by it.
Which topics readings come from is in [Topics, payloads and routes](routes.md); those of the gateway are in [MQTT](mqtt.md#topics-of-the-gateway). This page is
written by a test from the JSON Schemas in `config/schema`, which another test compares with what is sent.
"
    .to_owned();
    for name in SCHEMAS {
        let text = std::fs::read_to_string(root().join(format!("config/schema/{name}.json"))).expect("the schema");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        let said = |key: &str| schema[key].as_str().expect("a text").to_owned();
        write!(page, "\n## {}\n\n{}\n\n", said("title"), cell(&said("description"))).expect("a text");
        page.push_str("| field | type | unit | what it is |\n|---|---|---|---|\n");
        fields(&mut page, &schema, "");
    }
    page
}

/// The fields of an object, those of objects within it by their whole path. What is always there comes first, in the order of the schema.
fn fields(page: &mut String, schema: &Value, above: &str) {
    let none = Map::new();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut named: Vec<_> = schema["properties"].as_object().unwrap_or(&none).iter().collect();
    named.sort_by_key(|(name, _)| required.iter().position(|it| it == name).unwrap_or(usize::MAX));
    for (name, field) in named {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let optional = if required.contains(&name.as_str()) { "" } else { ", may be absent" };
        let about = field["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{path}` | {}{optional} | {} | {} |", kind(field), unit(name), cell(about)).expect("a text");
        fields(page, field, &path);
        if field["items"]["properties"].is_object() {
            fields(page, &field["items"], &format!("{path}[]"));
        }
    }
}

fn kind(field: &Value) -> String {
    if !field["const"].is_null() {
        return format!("`{}`", field["const"]);
    }
    if let Some(words) = field["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    }
    let words = match &field["type"] {
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        word => word.as_str().unwrap_or("anything").to_owned(),
    };
    match &field["items"]["type"] {
        Value::String(items) => format!("{words} of {items}s"),
        _ => words,
    }
}

/// Names carry their units last.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("ms")
            if name.ends_with("at_ms")
                || name.ends_with("time_ms")
                || name.ends_with("from_ms")
                || name == "oldest_ms" =>
        {
            "ms since 1970"
        }
        Some("ms") => "ms",
        Some("s" | "seconds") => "s",
        Some("bytes") => "bytes",
        Some("percent") => "%",
        _ => "",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<").replace('[', "\\[").replace('*', "\\*")
}
