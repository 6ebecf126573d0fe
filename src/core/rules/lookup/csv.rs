//! Comma-separated values: where the rows are, and what is in one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Format, ROW_BYTES_MAX, Rows, Table, TableError};
use crate::rules::number::{DIGITS_MAX, Number};
use crate::rules::value::Value;

pub(super) fn read(text: &str, key_column: &str) -> Result<Table, TableError> {
    let mut rows = Rows::new(text)?;
    let mut records = Records::new(text);
    let header = records.next_record()?.ok_or(TableError::NoHeader)?;
    let columns = columns(&header.cells)?;
    let key_at =
        columns.iter().position(|column| **column == *key_column).ok_or_else(|| no_key(key_column, &columns))?;
    while let Some(Record { line, from, to, cells }) = records.next_record()? {
        if cells.len() != columns.len() {
            return Err(TableError::Cells { line, found: cells.len(), expected: columns.len() });
        }
        let key = cells.into_iter().nth(key_at).filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| TableError::NoKey { line, column: key_column.to_owned() })?;
        rows.push(key.into_owned(), from..to, line)?;
    }
    rows.into_table(Format::Csv(columns))
}

fn columns(cells: &[Cow<'_, str>]) -> Result<Box<[Box<str>]>, TableError> {
    let mut seen = BTreeSet::new();
    for (number, name) in (1..).zip(cells) {
        if name.is_empty() {
            return Err(TableError::UnnamedColumn { number });
        }
        if !seen.insert(&**name) {
            return Err(TableError::SameColumn { name: name.to_string() });
        }
    }
    Ok(cells.iter().map(|name| Box::from(&**name)).collect())
}

fn no_key(name: &str, columns: &[Box<str>]) -> TableError {
    let has_semicolons = columns.iter().any(|column| column.contains(';'));
    let columns = columns.iter().take(20).map(|column| &**column).collect::<Vec<_>>().join(", ");
    TableError::NoKeyColumn { name: name.to_owned(), columns, has_semicolons }
}

/// The row as an object.
pub(super) fn row<'t>(text: &'t str, columns: &'t [Box<str>]) -> Value<'t> {
    let Ok(Some(record)) = Records::new(text).next_record() else { return Value::Undefined };
    let cells = record.cells.into_iter().map(value);
    Value::Object(Arc::new(columns.iter().map(|column| Cow::Borrowed(&**column)).zip(cells).collect()))
}

/// What a cell stands for; see [`Table::from_csv`].
fn value(cell: Cow<'_, str>) -> Value<'_> {
    match &*cell {
        "" => Value::Null,
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        text if is_number(text) => match Number::from_json(text) {
            Some(number) => Value::Number(number),
            None => Value::Text(cell),
        },
        _ => Value::Text(cell),
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_exponent = |exponent: &str| {
        let digits = exponent.trim_start_matches(['+', '-']);
        let is_signed = exponent.len() - digits.len() == 1;
        are_digits(digits) && (is_signed || exponent.len() == digits.len() && fraction.is_some())
    };
    are_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(are_digits)
        && exponent.is_none_or(is_exponent)
        && whole.len() + fraction.map_or(0, str::len) <= DIGITS_MAX as usize
}

/// A row of the file.
struct Record<'t> {
    /// Where it begins, counted from 1.
    line: usize,
    from: usize,
    /// Where its line end is.
    to: usize,
    cells: Vec<Cow<'t, str>>,
}

/// Reads row by row.
struct Records<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl<'t> Records<'t> {
    fn new(text: &'t str) -> Records<'t> {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Records { text, at, line: 1 }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Goes past the end of a line, if there is one here.
    fn skip_line_end(&mut self) -> bool {
        let rest = self.rest();
        let len = match rest.as_bytes() {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => return false,
        };
        self.at += len;
        self.line += 1;
        true
    }

    /// The next row that is not empty.
    fn next_record(&mut self) -> Result<Option<Record<'t>>, TableError> {
        while self.skip_line_end() {}
        if self.rest().is_empty() {
            return Ok(None);
        }
        let (line, from) = (self.line, self.at);
        let mut cells = Vec::new();
        loop {
            cells.push(self.cell(line)?);
            if self.at - from > ROW_BYTES_MAX {
                return Err(TableError::LongRow { line });
            }
            match self.rest().as_bytes().first() {
                Some(b',') => self.at += 1,
                None | Some(b'\r' | b'\n') => break,
                Some(_) => return Err(TableError::Quote { line, what: "something follows a closing quote" }),
            }
        }
        let to = self.at;
        self.skip_line_end();
        Ok(Some(Record { line, from, to, cells }))
    }

    /// A cell, up to the comma or the end of the line.
    fn cell(&mut self, line: usize) -> Result<Cow<'t, str>, TableError> {
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix('"') {
            let (cell, len) = unquoted(quoted).ok_or(TableError::Quote { line, what: "a quote is not closed" })?;
            self.line += line_ends(quoted.get(..len).unwrap_or_default());
            self.at += 1 + len;
            return Ok(cell);
        }
        let len = rest.find([',', '\r', '\n']).unwrap_or(rest.len());
        let cell = rest.get(..len).unwrap_or_default().trim_matches([' ', '\t']);
        if cell.contains('"') {
            return Err(TableError::Quote { line, what: "a quote is inside of a cell that does not begin with one" });
        }
        self.at += len;
        Ok(Cow::Borrowed(cell))
    }
}

/// The cell behind an opening quote, in which two quotes stand for one, and how long it is with its closing quote.
fn unquoted(quoted: &str) -> Option<(Cow<'_, str>, usize)> {
    let mut unescaped = String::new();
    let mut from = 0;
    loop {
        let rest = quoted.get(from..)?;
        let (part, behind) = rest.split_once('"')?;
        let len = from + part.len() + 1;
        if !behind.starts_with('"') {
            let cell = if from == 0 { Cow::Borrowed(part) } else { Cow::Owned(unescaped + part) };
            return Some((cell, len));
        }
        unescaped.push_str(part);
        unescaped.push('"');
        from = len + 1;
    }
}

fn line_ends(text: &str) -> usize {
    let bytes = text.as_bytes();
    let lone = bytes.windows(2).filter(|pair| matches!(pair, [b'\r', next] if *next != b'\n')).count();
    bytes.iter().filter(|byte| **byte == b'\n').count() + lone
}
