//! Comma-separated values (RFC 4180): a reading for each line, its columns named by the route or by the first line.

use super::plain_number;
use crate::ingest::document::{Content, Document};
use crate::ingest::mend;
use crate::ingest::places::Places;
use crate::ingest::value::Value;

pub fn read(text: &str, places: &Places, document: &mut Document) -> Result<(), &'static str> {
    let separator = places.separator.unwrap_or(',');
    let mut lines = Lines { rest: text, separator };
    let columns = match &places.columns {
        Some(columns) => columns.clone(),
        None => header(lines.next().ok_or("empty")??)?,
    };
    let list = document.open("", Content::List)?;
    for (index, cells) in lines.enumerate() {
        let cells = cells?;
        if cells.len() != columns.len() {
            return Err("not_csv");
        }
        let line = document.open(&index.to_string(), Content::Object)?;
        for (name, cell) in columns.iter().zip(&cells) {
            add(name, cell.trim(), document)?;
        }
        document.close(line);
    }
    document.close(list);
    Ok(())
}

/// The names of the columns. Numbers are no names: what they are is not known then.
fn header(cells: Vec<String>) -> Result<Vec<String>, &'static str> {
    let names: Vec<String> = cells.iter().map(|cell| cell.trim().to_owned()).collect();
    let is_name = |name: &String| !name.is_empty() && plain_number(name).is_none();
    let is_repeated = names.iter().enumerate().any(|(at, name)| names[..at].contains(name));
    if names.iter().all(is_name) && !is_repeated { Ok(names) } else { Err("no_header") }
}

fn add(name: &str, cell: &str, document: &mut Document) -> Result<(), &'static str> {
    if cell.is_empty() {
        return Ok(());
    }
    match plain_number(cell).or_else(|| mend::non_finite(cell).map(Value::Number)) {
        Some(value) => document.add(name, value),
        None => document.add_text(name, cell),
    }
}

/// The cells of each line that is not empty.
struct Lines<'a> {
    rest: &'a str,
    separator: char,
}

impl Iterator for Lines<'_> {
    type Item = Result<Vec<String>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start_matches(['\r', '\n']);
        if self.rest.is_empty() {
            return None;
        }
        let mut cells = Vec::new();
        loop {
            let cell = match self.rest.strip_prefix('"') {
                Some(quoted) => {
                    let Some((cell, rest)) = unquote(quoted) else {
                        self.rest = "";
                        return Some(Err("not_csv"));
                    };
                    self.rest = rest;
                    cell
                }
                None => {
                    let len = self.rest.find([self.separator, '\r', '\n']).unwrap_or(self.rest.len());
                    let (cell, rest) = self.rest.split_at(len);
                    self.rest = rest;
                    cell.to_owned()
                }
            };
            cells.push(cell);
            match self.rest.strip_prefix(self.separator) {
                Some(rest) => self.rest = rest,
                None if self.rest.is_empty() || self.rest.starts_with(['\r', '\n']) => return Some(Ok(cells)),
                None => {
                    self.rest = "";
                    return Some(Err("not_csv"));
                }
            }
        }
    }
}

/// The cell up to the closing quote, and what follows that. Two quotes stand for one.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        cell.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None => return Some((cell, after)),
        }
    }
}
