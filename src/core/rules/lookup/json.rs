//! Tables of JSON: where the rows are.
//!
//! The outer object or list is gone through here, because only the rows are to be values. serde_json finds the end of each.

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Format, Rows, Table, TableError};
use crate::rules::document::{Content, Document, NodeRef};
use crate::rules::value::Value;

pub(super) fn read(text: &str, key_column: Option<&str>) -> Result<Table, TableError> {
    let mut rows = Rows::new(text)?;
    let mut scanner = Scanner { text, at: 0, line: 1 };
    scanner.skip("\u{feff}");
    scanner.skip_blanks();
    let close = match (scanner.rest().as_bytes().first(), key_column) {
        (Some(b'{'), None) => "}",
        (Some(b'['), Some(_)) => "]",
        (Some(b'{'), Some(_)) => return Err(TableError::KeyColumnOfObject),
        (Some(b'['), None) => return Err(TableError::KeyColumnMissing),
        _ => return Err(TableError::NotATable),
    };
    scanner.at += 1;
    scanner.skip_blanks();
    let mut is_closed = scanner.skip(close);
    while !is_closed {
        let line = scanner.line;
        let member = match key_column {
            Some(_) => None,
            None => Some(scanner.name()?),
        };
        let from = scanner.at;
        scanner.value::<IgnoredAny>()?;
        let row = text.get(from..scanner.at).unwrap_or_default();
        let key = match (member, key_column) {
            (Some(name), _) => read_row(row, line).map(|_| name)?,
            (None, column) => key_of(read_row(row, line)?.root(), column.unwrap_or_default(), line)?,
        };
        rows.push(key, from..scanner.at, line)?;
        scanner.skip_blanks();
        is_closed = scanner.skip(close);
        if !is_closed {
            scanner.expect(",")?;
        }
    }
    scanner.skip_blanks();
    if !scanner.rest().is_empty() {
        return Err(scanner.fault("something follows the table"));
    }
    rows.into_table(Format::Json)
}

/// The row as it is read again when a rule asks for it.
fn read_row(row: &str, line: usize) -> Result<Document<'_>, TableError> {
    let too_large =
        || TableError::NotJson { line, reason: "nested too deeply, or too many values in a row".to_owned() };
    Document::read_json(row.as_bytes()).ok_or_else(too_large)
}

fn key_of(row: NodeRef<'_>, column: &str, line: usize) -> Result<String, TableError> {
    if row.content() != Content::Object {
        return Err(TableError::NoRow { line });
    }
    let key = match row.member(column).map(NodeRef::content) {
        Some(Content::Text(text)) => Some(text.to_owned()),
        Some(Content::Number(_) | Content::Boolean(_)) => {
            let text = row.member(column).map(Value::from).and_then(|value| value.to_text().ok().flatten());
            text.map(|text| text.into_owned())
        }
        _ => None,
    };
    key.filter(|key| !key.is_empty()).ok_or_else(|| TableError::NoKey { line, column: column.to_owned() })
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// Of `at`, counted from 1.
    line: usize,
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn go_on(&mut self, len: usize) {
        let passed = self.rest().get(..len).unwrap_or_default();
        self.line += passed.bytes().filter(|byte| *byte == b'\n').count();
        self.at += len;
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.go_on(rest.len() - rest.trim_start_matches([' ', '\n', '\r', '\t']).len());
    }

    fn skip(&mut self, wanted: &str) -> bool {
        let is_here = self.rest().starts_with(wanted);
        if is_here {
            self.at += wanted.len();
        }
        is_here
    }

    fn fault(&self, reason: &str) -> TableError {
        TableError::NotJson { line: self.line, reason: reason.to_owned() }
    }

    /// Goes past a mark and the blanks behind it.
    fn expect(&mut self, wanted: &'static str) -> Result<(), TableError> {
        if !self.skip(wanted) {
            return Err(self.fault(&format!("{wanted} is expected")));
        }
        self.skip_blanks();
        Ok(())
    }

    fn value<T: DeserializeOwned>(&mut self) -> Result<T, TableError> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<T>();
        let value = values.next();
        let len = values.byte_offset();
        match value {
            Some(Ok(value)) => {
                self.go_on(len);
                Ok(value)
            }
            Some(Err(error)) => {
                let line = (self.line + error.line()).saturating_sub(1);
                Err(TableError::NotJson { line, reason: error.to_string() })
            }
            None => Err(self.fault("a value is expected")),
        }
    }

    /// The name of a member, with the colon behind it.
    fn name(&mut self) -> Result<String, TableError> {
        if !self.rest().starts_with('"') {
            return Err(self.fault("the name of a row is expected, in quotes"));
        }
        let name = self.value()?;
        self.skip_blanks();
        self.expect(":")?;
        Ok(name)
    }
}
