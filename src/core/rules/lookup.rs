//! Tables that messages are enriched from: a row by its key, from a file of CSV or JSON.
//!
//! A table keeps the text of its file and where each row is. A row is read when a rule asks for it, so a table takes little more memory than
//! its file, and a rule pays for the rows that it uses. All rows are read once when the table is loaded: what `get` gives was valid then.
//!
//! Keys are texts, compared byte by byte: `007` and `7` are two keys.

mod csv;
mod json;

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::value::Value;

/// Longest file, in bytes.
pub const TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Rows of a table at most.
pub const ROWS_MAX: usize = 200_000;
/// Longest row, in bytes of the file.
pub const ROW_BYTES_MAX: usize = 64 * 1024;

/// Why a table is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The file is too long.
    #[error("longer than {TABLE_BYTES_MAX} bytes")]
    TooLong,
    /// There are too many rows.
    #[error("more than {ROWS_MAX} rows")]
    TooManyRows,
    /// A row is too long.
    #[error("line {line}: the row has more than {ROW_BYTES_MAX} bytes")]
    LongRow {
        /// Counted from 1.
        line: usize,
    },
    /// A file of CSV without a line that names its columns.
    #[error("the first line, which names the columns, is missing")]
    NoHeader,
    /// A column without a name.
    #[error("column {number} has no name")]
    UnnamedColumn {
        /// Counted from 1.
        number: usize,
    },
    /// Two columns of one name.
    #[error("two columns are called {name}")]
    SameColumn {
        /// Their name.
        name: String,
    },
    /// The column of the keys is not there.
    #[error("there is no column {name}; the columns are {columns}{}", separator_hint(*.has_semicolons))]
    NoKeyColumn {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        columns: String,
        /// Whether the columns are probably separated by semicolons.
        has_semicolons: bool,
    },
    /// A quote is where RFC 4180 has none, or is not closed.
    #[error("line {line}: {what}")]
    Quote {
        /// Where the row begins, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A row has more or fewer cells than there are columns.
    #[error("line {line}: {found} cells where the first line names {expected} columns")]
    Cells {
        /// Counted from 1.
        line: usize,
        /// Of this row.
        found: usize,
        /// Of the first line.
        expected: usize,
    },
    /// A row without a key.
    #[error("line {line}: the row has no {column}, which is its key")]
    NoKey {
        /// Counted from 1.
        line: usize,
        /// The column of the keys.
        column: String,
    },
    /// Two rows of one key.
    #[error("line {line}: the key {key} is that of line {first}, too")]
    SameKey {
        /// Their key.
        key: String,
        /// The first of them, counted from 1.
        first: usize,
        /// The second one.
        line: usize,
    },
    /// It is no JSON, or more deeply nested or of more values than a payload may be.
    #[error("line {line}: {reason}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// JSON that is no table.
    #[error("an object of rows is expected, or a list of them")]
    NotATable,
    /// A list whose key column is not said.
    #[error("a list of rows needs the name of the column that is the key")]
    KeyColumnMissing,
    /// An object of rows whose key column is said, too.
    #[error("the rows of an object are found by the names of its members: it has no column that is the key")]
    KeyColumnOfObject,
    /// An element of a list that is no row.
    #[error("line {line}: an element of the list is no object")]
    NoRow {
        /// Counted from 1.
        line: usize,
    },
}

fn separator_hint(has_semicolons: bool) -> &'static str {
    if has_semicolons { " (the separator is the comma)" } else { "" }
}

/// A row of the file.
#[derive(Clone, Debug)]
struct Row {
    key: Box<str>,
    /// Where it is in the text. Both fit: a file is shorter than 4 GiB.
    from: u32,
    to: u32,
}

/// What the text of a row is.
#[derive(Clone, Debug)]
enum Format {
    /// With these columns.
    Csv(Box<[Box<str>]>),
    Json,
}

/// Rows by their keys.
#[derive(Clone, Debug)]
pub struct Table {
    text: Box<str>,
    format: Format,
    /// In the order of their keys.
    rows: Box<[Row]>,
}

impl Table {
    /// Reads comma-separated values (RFC 4180) whose first line names the columns. Lines end as they like, and empty ones count for nothing.
    /// Blanks around a cell that is not in quotes are not part of it.
    ///
    /// A cell that is a number as JSON writes them is a number, `true` and `false` are Booleans, an empty cell is null, and everything else
    /// is a text, whether it is in quotes or not. So `007`, `+49 30 1` and `1.` are texts. So are numbers of more than 34 digits, which would
    /// be rounded, and whole numbers with an exponent but no sign in it, such as `12E4`, which are rather names of parts.
    ///
    /// # Errors
    ///
    /// If the file is too large or broken, has no such column, or a key is missing or not unique. The first problem is reported.
    pub fn from_csv(text: &str, key_column: &str) -> Result<Table, TableError> {
        csv::read(text, key_column)
    }

    /// Reads an object whose members are the rows, or plain values, by their keys; or, with `key_column`, a list of objects that have their
    /// key in this member: a text, a number or a Boolean.
    ///
    /// # Errors
    ///
    /// If the file is too large or broken, or a key is missing or not unique. The first problem is reported.
    pub fn from_json(text: &str, key_column: Option<&str>) -> Result<Table, TableError> {
        json::read(text, key_column)
    }

    /// The row, an object with all of its columns, or the plain value of this key; Undefined if there is none. It takes as long as the row is.
    pub fn get(&self, key: &str) -> Value<'_> {
        let found = self.rows.binary_search_by(|row| (*row.key).cmp(key)).ok().and_then(|at| self.rows.get(at));
        let text = found.and_then(|row| self.text.get(row.from as usize..row.to as usize));
        match (text, &self.format) {
            (None, _) => Value::Undefined,
            (Some(text), Format::Csv(columns)) => csv::row(text, columns),
            (Some(text), Format::Json) => Value::from_json(text.as_bytes()).unwrap_or_default(),
        }
    }

    /// How many rows there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Rows as they come, with their lines.
struct Rows<'t> {
    text: &'t str,
    rows: Vec<(Row, u32)>,
}

impl<'t> Rows<'t> {
    fn new(text: &'t str) -> Result<Rows<'t>, TableError> {
        if text.len() > TABLE_BYTES_MAX {
            return Err(TableError::TooLong);
        }
        Ok(Rows { text, rows: Vec::new() })
    }

    fn push(&mut self, key: String, at: Range<usize>, line: usize) -> Result<(), TableError> {
        if self.rows.len() >= ROWS_MAX {
            return Err(TableError::TooManyRows);
        }
        if at.len() > ROW_BYTES_MAX {
            return Err(TableError::LongRow { line });
        }
        self.rows.push((Row { key: key.into(), from: at.start as u32, to: at.end as u32 }, line as u32));
        Ok(())
    }

    /// The table, if no two rows have the same key.
    fn into_table(mut self, format: Format) -> Result<Table, TableError> {
        self.rows.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        let pairs = self.rows.windows(2).filter_map(|pair| match pair {
            [(first, first_line), (second, line)] if first.key == second.key => Some((first, *first_line, *line)),
            _ => None,
        });
        if let Some((row, first, line)) = pairs.min_by_key(|(_, _, line)| *line) {
            let key = row.key.chars().take(64).collect();
            return Err(TableError::SameKey { key, first: first as usize, line: line as usize });
        }
        let rows = self.rows.into_iter().map(|(row, _)| row).collect();
        Ok(Table { text: self.text.into(), format, rows })
    }
}
