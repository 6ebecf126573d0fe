//! `outrider rules list`: the rules of the running gateway.

use std::process::ExitCode;

use serde_json::Value;

use crate::commands::operate::{Method, Place, ask, failed};

/// More than a list of all rules takes.
const LIST_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub fn command(place: &Place, json: bool) -> ExitCode {
    let text = match ask(place, &Method::Get { bytes_max: LIST_BYTES_MAX }, "/api/rules") {
        Ok(text) => text,
        Err(exit) => return exit,
    };
    let listed = if json { Ok(text) } else { serde_json::from_str(&text).map(|listed: Value| table(&listed)) };
    match listed {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("the answer of the gateway is not understood: {error}")),
    }
}

/// The list in columns, for people.
fn table(listed: &Value) -> String {
    let number = |rule: &Value, name: &str| rule[name].as_u64().map_or("-".to_owned(), |number| number.to_string());
    let columns = ["evaluations", "matches", "errors", "loops_cut", "nanoseconds_a_message"];
    let mut text = String::new();
    let rules = listed["running"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width = rules.iter().filter_map(|rule| rule["name"].as_str()).map(str::len).max().unwrap_or(0).max(4);
    if rules.is_empty() {
        text.push_str("no rules\n");
    } else {
        text.push_str(&format!(
            "{:width$}  {:>11}  {:>9}  {:>6}  {:>5}  {:>7}\n",
            "rule", "looked at", "matches", "errors", "loops", "ns each"
        ));
    }
    for rule in rules {
        let [evaluations, matches, errors, loops, nanoseconds] = columns.map(|name| number(rule, name));
        let name = rule["name"].as_str().unwrap_or_default();
        text.push_str(&format!(
            "{name:width$}  {evaluations:>11}  {matches:>9}  {errors:>6}  {loops:>5}  {nanoseconds:>7}\n"
        ));
    }
    if let Some(error) = listed["error"].as_str() {
        text.push_str(&format!("what was loaded last is wrong, and not in force: {error}\n"));
    }
    text
}
