//! Generates `docs/reference/configuration.md`, the configuration as a page of the book, from the table of keys.

use std::fmt::Write;

use super::file::{TEST_SINK, keys, parts};
use crate::keys::key::{Fallback, Form, Group, Key, section};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/configuration.md");
/// If this variable is set, the page is written anew.
const WRITE_VARIABLE: &str = "OUTRIDER_WRITE_BOOK";

const HEAD: &str = "\
# Configuration

Every key, with the values that are allowed, its default and its purpose. [config/outrider.toml](../../config/outrider.toml) is the same as a file to edit, in which
every key is commented out. This page is written by a test from the table that the parser uses.

The file is looked for in `/etc/outrider/outrider.toml`; `--config` names another. Without any file everything has its default. Sizes are written `\"512MiB\"` (B,
KiB, MiB, GiB, TiB, KB, MB, GB, TB), durations `\"10s\"` (ms, s, m, h, d). A variable wins over the file: `OUTRIDER__STORE__SIZE_MAX=1GiB`, and for the first of
several sections `OUTRIDER__SINK__0__NAME=cloud`.

`outrider check --config FILE` names every mistake with its line, or says what would run; `outrider config show --effective` prints what holds in the end.
";

/// Before the keys of sinks that send records.
const TRAVEL: &str = "\nThose of every type but `archive` and `s3` have these as well:\n";

#[test]
fn the_book_says_what_the_table_of_keys_says() {
    let rendered = rendered();
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(FILE, &rendered).expect("a file that can be written");
    }
    let page = std::fs::read_to_string(FILE).expect("the page");
    assert_eq!(page, rendered, "with {WRITE_VARIABLE}=1 this test writes the page anew");
}

fn rendered() -> String {
    let mut page = HEAD.to_owned();
    for (group, about) in parts() {
        let name = group.section();
        let heading = match (group, section(name)) {
            (Group::SinkOf(kind), _) => format!("`[[sink]]` of type `\"{kind}\"`"),
            (_, Some((_, Form::Single))) => format!("`[{name}]`"),
            _ => format!("`[[{name}]]`"),
        };
        // All sinks have some keys in common: they stand before those of the first kind.
        if matches!(group, Group::SinkOf(_)) && !about.is_empty() {
            write!(page, "\n## `[[sink]]`\n\n{}\n", cell(about)).expect("a text");
            table(&mut page, keys(Group::Sink));
            page.push_str(TRAVEL);
            table(&mut page, keys(Group::Travel));
            write!(page, "\n## {heading}\n").expect("a text");
        } else {
            write!(page, "\n## {heading}\n").expect("a text");
            if !about.is_empty() {
                write!(page, "\n{}\n", cell(about)).expect("a text");
            }
        }
        table(&mut page, keys(group));
    }
    page
}

fn table(page: &mut String, keys: impl Iterator<Item = &'static Key>) {
    page.push_str("\n| key | value | default | purpose |\n|---|---|---|---|\n");
    for key in keys {
        let kind = key.kind.to_string().replace(&format!(", \"{TEST_SINK}\""), "");
        let fallback = match key.fallback {
            Fallback::Literal(literal) => format!("`{literal}`"),
            Fallback::Required { .. } => "required".to_owned(),
            Fallback::Otherwise { meaning, .. } => cell(meaning),
        };
        writeln!(page, "| `{}` | {} | {fallback} | {} |", key.name, cell(&kind), cell(key.about)).expect("a text");
    }
}

/// Text as Markdown has it in a cell: nothing that begins another one, a link or a tag.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    let mut is_code = false;
    for character in text.chars() {
        match character {
            '`' => is_code = !is_code,
            '[' | ']' | '<' | '>' | '*' | '_' | '|' if !is_code || character == '|' => cell.push('\\'),
            _ => {}
        }
        cell.push(character);
    }
    cell
}
