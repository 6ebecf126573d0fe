//! Rules as TOML.

use std::fmt::Write;

use super::Rule;
use super::action::Actions;

/// All rules, each with an empty line before it but the first.
pub fn toml(rules: &[Rule]) -> String {
    let mut out = String::new();
    for rule in rules {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str("[[rule]]\n");
        comments(&mut out, &rule.comments);
        line(&mut out, "name", &quoted(&rule.name));
        line(&mut out, "sql", &quoted(&rule.sql));
        if !rule.is_enabled {
            line(&mut out, "enabled", "false");
        }
        actions(&mut out, "rule", &rule.actions);
        if let Some(of_errors) = &rule.error_actions {
            out.push_str("\n[rule.error]\n");
            actions(&mut out, "rule.error", of_errors);
        }
    }
    out
}

fn actions(out: &mut String, table: &str, actions: &Actions) {
    for republish in &actions.republish {
        head(out, &format!("[[{table}.republish]]"), &republish.comments);
        line(out, "topic", &quoted(&republish.topic));
        line(out, "qos", &republish.qos.to_string());
    }
    for stream in &actions.streams {
        head(out, &format!("[[{table}.stream]]"), &stream.comments);
        line(out, "name", &quoted(&stream.name));
    }
    if let Some(alert) = &actions.alert {
        head(out, &format!("[{table}.alert]"), &alert.comments);
        line(out, "severity", &quoted("major"));
    }
}

fn head(out: &mut String, table: &str, of_table: &[String]) {
    out.push('\n');
    comments(out, of_table);
    out.push_str(table);
    out.push('\n');
}

fn line(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push_str(" = ");
    out.push_str(value);
    out.push('\n');
}

/// A comment may have any characters but those that control something.
fn comments(out: &mut String, comments: &[String]) {
    for line in comments.iter().flat_map(|comment| comment.lines()) {
        let shown = line.chars().map(|c| if c.is_control() { ' ' } else { c });
        out.push_str("# ");
        out.extend(shown);
        out.push('\n');
    }
}

/// A text so that it is read again byte by byte; as it is, where TOML lets it.
fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    let has_special = text.contains(['\n', '"', '\\']);
    if is_plain && has_special && !text.contains("'''") && !text.ends_with('\'') {
        // A line end behind the opening quotes is not part of the text.
        return if text.contains('\n') { format!("'''\n{text}'''") } else { format!("'''{text}'''") };
    }
    let (quotes, has_lines) = if text.contains('\n') { ("\"\"\"", true) } else { ("\"", false) };
    let mut out = String::with_capacity(text.len() + 8);
    out.push_str(quotes);
    if has_lines {
        out.push('\n');
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' if has_lines => out.push('\n'),
            '\t' => out.push('\t'),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push_str(quotes);
    out
}
