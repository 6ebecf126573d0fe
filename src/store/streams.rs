//! The streams of a store: the rows of its table `stream`, which is what counts. The configuration adds rows and says how a stream is kept;
//! a number is never given again, because batches, cursors and archived files have it.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::Deserialize;

use super::schema;
use crate::core::batch::{Decoder, Stored, Tag};
use crate::core::identity::{Keep, Stream, StreamRow, Streams};

/// Reads them. What no writer leaves is damage: a stream that took the name of another one would take its records, too.
///
/// # Errors
///
/// [`schema::is_corrupt`] if the rows are damaged; or if the store cannot be read.
pub fn load(db: &Connection) -> rusqlite::Result<Streams> {
    let mut select = db.prepare_cached("SELECT id, name, keep, watched FROM stream ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?.ok_or_else(|| schema::corrupt("a row of the table of streams is damaged".to_owned()))?);
    }
    Streams::from_rows(found).ok_or_else(|| schema::corrupt("the table of streams is damaged".to_owned()))
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<StreamRow>> {
    let (name, keep): (String, String) = (row.get(1)?, row.get(2)?);
    let (stream, keep) = (Stream::from_id(row.get(0)?), Keep::from_name(&keep));
    let is_watched = row.get::<_, i64>(3)? != 0;
    Ok(stream.zip(keep).map(|(stream, keep)| StreamRow { stream, name: name.into(), keep, is_watched }))
}

/// The rows that can be read in a damaged store; none in one of version 1.
pub(super) fn load_damaged(db: &Connection) -> Vec<StreamRow> {
    let Ok(mut select) = db.prepare("SELECT id, name, keep, watched FROM stream ORDER BY id") else {
        return Vec::new();
    };
    let Ok(rows) = select.query_map([], read) else { return Vec::new() };
    rows.map_while(Result::ok).flatten().collect()
}

/// Writes the rows that are new or have changed.
pub(super) fn write(db: &Connection, streams: &Streams) -> rusqlite::Result<()> {
    for StreamRow { stream, name, keep, is_watched } in streams.rows() {
        db.prepare_cached(
            "INSERT INTO stream(id, name, keep, watched) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(id) DO UPDATE SET keep = excluded.keep WHERE keep <> excluded.keep",
        )?
        .execute(params![stream.id(), name, keep.name(), is_watched])?;
    }
    Ok(())
}

/// Name of a stream, for messages and for tables that have names.
pub(super) fn name(db: &Connection, stream: Stream) -> rusqlite::Result<String> {
    db.prepare_cached("SELECT name FROM stream WHERE id = ?1")?.query_row([stream.id()], |row| row.get(0))
}

/// Name of the stream that the records of a batch say they are in; `None` if they do not.
pub(super) fn named_by_records(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        stream: String,
    }
    match Decoder::new(payload).ok()?.next()?.ok()? {
        Stored::Line { tag, line, .. } if tag == Tag::Record as u8 => {
            serde_json::from_slice::<Line>(line).ok().map(|line| line.stream)
        }
        _ => None,
    }
}

/// How the name begins of a stream whose name is lost. It is none that a configuration can give.
const LOST: &str = "lost.";

/// What is known of the streams of a damaged store, from wherever. What was noted first holds.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownStreams(BTreeMap<Stream, StreamRow>);

impl KnownStreams {
    /// By what has a checksum.
    pub fn note(&mut self, row: StreamRow) {
        let is_taken = Stream::BUILT_IN.iter().any(|(_, name)| *name == &*row.name)
            || row.name.starts_with(LOST)
            || self.0.values().any(|known| known.name == row.name);
        if !row.stream.is_built_in() && !is_taken {
            self.0.entry(row.stream).or_insert(row);
        }
    }

    /// By the table, whose rows may have any number if they are damaged.
    pub fn note_all(&mut self, rows: Vec<StreamRow>) {
        for row in rows {
            let last = self.0.last_key_value().map_or(Stream::ANOMALIES, |(last, _)| *last);
            if row.stream.id() <= last.id() + 1 {
                self.note(row);
            }
        }
    }

    pub fn has(&self, stream: Stream) -> bool {
        stream.is_built_in() || self.0.contains_key(&stream)
    }

    /// All of them, and all others up to `last`, so that no number is given again.
    pub fn through(mut self, last: Stream) -> Streams {
        let last = self.0.last_key_value().map_or(last, |(known, _)| last.max(*known));
        let mut rows = Streams::default().rows().to_vec();
        for id in rows.len() as i64 + 1..=i64::from(last.id()) {
            let stream = Stream::from_id(id).expect("up to a stream");
            rows.push(self.0.remove(&stream).unwrap_or_else(|| StreamRow {
                stream,
                name: format!("{LOST}{id}").into(),
                keep: Keep::Bulk,
                is_watched: false,
            }));
        }
        Streams::from_rows(rows).expect("in order, and no name twice")
    }
}

#[cfg(test)]
mod tests;
