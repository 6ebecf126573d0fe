//! What is left of a damaged store besides its batches, and what was known of it beside it.

use std::io;
use std::path::Path;

use rusqlite::{Connection, Row, params};

use super::super::cursors::Cursors;
use super::super::entries;
use super::super::held::StreamProgress;
use super::super::runs::{self, Run};
use super::super::scan::Scan;
use super::super::schema::{self, has_pages, store_path};
use super::super::streams::{self, KnownStreams};
use super::super::witness::Testimony;
use super::super::{totals, version_1};
use super::{kept_in, mend_first_page};
use crate::core::identity::{PerStream, Stream, StreamRow, Streams};
use crate::handoff::Entry;

/// Everything in a damaged store except its batches, as far as it can be read.
#[derive(Debug, Default)]
pub struct Head {
    pub cursors: Option<Cursors>,
    pub progress: PerStream<StreamProgress>,
    /// All streams of which something is known, if they were looked for.
    pub streams: Streams,
    /// As its table has them.
    table: Vec<StreamRow>,
    totals: Vec<(String, i64)>,
    runs: Vec<(i64, Run)>,
    alerts: Vec<(String, String, String, Vec<u8>)>,
    snapshot: Vec<(i64, i64, Vec<u8>)>,
    rejected_samples: Vec<(i64, String, String, Vec<u8>)>,
    dead_letters: Vec<(String, String, i64, String, Vec<u8>)>,
    salvage: Vec<(String, String, i64, bool)>,
    entries: Vec<Entry>,
}

impl Head {
    pub fn read(folder: &Path) -> Head {
        if !has_pages(&store_path(folder)) {
            return Head::default();
        }
        if let Err(error) = mend_first_page(folder) {
            tracing::warn!(%error, "the first page of the damaged store cannot be repaired");
        }
        let Ok(db) = schema::open_reader(&store_path(folder), None) else { return Head::default() };
        let cursors = Cursors::load_damaged(&db).ok();
        let snapshot: Vec<(i64, i64, Vec<u8>)> =
            rows(&db, "SELECT chunk, seq, state FROM snapshot", |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        // New readings must get sequences after the snapshot's, or the detectors would take them for ones that they have seen.
        let seen = snapshot.iter().map(|(_, sequence, _)| *sequence).max().unwrap_or(0);
        let table = streams::load_damaged(&db);
        let mut known = KnownStreams::default();
        known.note_all(table.clone());
        let progress = PerStream::new(&known.through(Stream::ANOMALIES), |stream| {
            let known = StreamProgress::read(&db, stream).unwrap_or_default();
            let of_1 = version_1::table(stream).map_or(Ok(0), |table| version_1::last_sequence(&db, table));
            let passed = cursors.as_ref().map_or(0, |cursors| cursors.furthest(stream));
            let seen = if stream == Stream::RAW { seen.max(0) as u64 } else { 0 };
            let last_sequence = known.last_sequence.max(of_1.unwrap_or(0)).max(passed).max(seen);
            let delivered = cursors.as_ref().and_then(|cursors| cursors.delivered_through(stream)).unwrap_or(0);
            let removed_through = known.removed_through.min(delivered);
            StreamProgress { last_sequence, removed_through, ..known }
        });
        Head {
            progress,
            streams: Streams::default(),
            table,
            totals: rows(&db, "SELECT name, value FROM total", |row| Ok((row.get(0)?, row.get(1)?))),
            runs: runs::all(&db).unwrap_or_default(),
            alerts: rows(&db, "SELECT device, metric, kind, body FROM alert", |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            }),
            snapshot,
            rejected_samples: ["rejected_sample", version_1::REJECTED_SAMPLES]
                .map(|table| {
                    let sql = format!("SELECT received_ms, reason, topic, sample FROM {table} ORDER BY id");
                    rows(&db, &sql, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                })
                .concat(),
            dead_letters: rows(&db, "SELECT sink, stream, seq, reason, line FROM dead_letter ORDER BY id", |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            }),
            salvage: rows(&db, "SELECT folder, stream, seq, done FROM salvage", |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            }),
            entries: entries::load_damaged(&db),
            cursors,
        }
    }

    /// Reads what there is in a damaged store, with what was known beside it.
    pub(in crate::store) fn read_with(folder: &Path, testimony: Option<&Testimony>) -> Head {
        let mut head = Head::read(folder);
        head.name_streams(folder, testimony);
        if let Some(testimony) = testimony {
            head.add(testimony);
        }
        // Others may still be salvaged too, and new records must get sequences behind all of them.
        let all = folder.parent().unwrap_or(Path::new("."));
        for folder in kept_in(all) {
            if let Err(error) = head.look_further(&all.join(folder)) {
                tracing::warn!(%error, "the pages of a damaged store cannot be read");
            }
        }
        head
    }

    /// Finds out which streams there were. What was known beside the store has a checksum, and so have the records; the table has none.
    fn name_streams(&mut self, folder: &Path, testimony: Option<&Testimony>) {
        let mut known = KnownStreams::default();
        testimony.into_iter().flat_map(Testimony::named_streams).for_each(|row| known.note(row));
        let named = Scan::open(&store_path(folder), &self.runs).and_then(|scan| scan.name_streams(known.clone()));
        if let Ok((streams, _)) = &named {
            streams.rows().iter().for_each(|row| known.note(row.clone()));
        }
        known.note_all(std::mem::take(&mut self.table));
        let last =
            named.map_or(Stream::ANOMALIES, |(streams, _)| streams.all().last().expect("there are built-in ones"));
        self.streams = known.through(last);
        if let Some(cursors) = &mut self.cursors {
            cursors.keep_of(&self.streams);
        }
        let passed = |stream| self.cursors.as_ref().map_or(0, |cursors| cursors.furthest(stream));
        self.progress = PerStream::new(&self.streams, |stream| {
            let unknown = || StreamProgress { last_sequence: passed(stream), ..StreamProgress::default() };
            self.progress.get(stream).copied().unwrap_or_else(unknown)
        });
    }

    /// Looks for batches that were committed after all that is known: in the log, most likely.
    fn look_further(&mut self, folder: &Path) -> io::Result<()> {
        let mut scan = Scan::open(&store_path(folder), &self.runs)?.named(&self.streams);
        for (stream, progress) in self.progress.iter_mut() {
            progress.last_sequence = scan.last_sequence(stream, progress.last_sequence)?;
        }
        Ok(())
    }

    /// Takes over what was known beside the store, where that is more.
    fn add(&mut self, testimony: &Testimony) {
        self.cursors.get_or_insert_default().take_over(&testimony.cursors, &self.streams);
        for (stream, progress) in self.progress.iter_mut() {
            let known = testimony.last_sequence(self.streams.name(stream));
            progress.last_sequence = known.max(progress.last_sequence);
        }
        for (name, value) in &testimony.totals {
            match self.totals.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = (*value).max(*known),
                None => self.totals.push((name.clone(), *value)),
            }
        }
        for (number, run) in testimony.runs() {
            if !self.runs.iter().any(|(known, _)| *known == number) {
                self.runs.push((number, run));
            }
        }
    }

    /// Writes it into a new store.
    ///
    /// # Errors
    ///
    /// If the new store cannot be written.
    pub fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        // Under their numbers, by which batches that are salvaged refer to them.
        self.runs.iter().try_for_each(|(number, run)| runs::insert(db, *number, run))?;
        for (name, value) in &self.totals {
            totals::add(db, name, value.max(&0).cast_unsigned())?;
        }
        for (device, metric, kind, body) in &self.alerts {
            db.prepare_cached("INSERT OR IGNORE INTO alert(device, metric, kind, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![device, metric, kind, body])?;
        }
        for (chunk, seq, state) in &self.snapshot {
            db.prepare_cached("INSERT OR IGNORE INTO snapshot(chunk, seq, state) VALUES (?1, ?2, ?3)")?
                .execute(params![chunk, seq, state])?;
        }
        for (received_ms, reason, topic, sample) in &self.rejected_samples {
            db.prepare_cached(
                "INSERT INTO rejected_sample(received_ms, reason, topic, sample) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![received_ms, reason, topic, sample])?;
        }
        for (sink, stream, seq, reason, line) in &self.dead_letters {
            db.prepare_cached("INSERT INTO dead_letter(sink, stream, seq, reason, line) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![sink, stream, seq, reason, line])?;
        }
        for (folder, stream, seq, done) in &self.salvage {
            db.prepare_cached("INSERT OR IGNORE INTO salvage(folder, stream, seq, done) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![folder, stream, seq, done])?;
        }
        entries::take_over(db, &self.entries)
    }
}

/// All rows up to the first that cannot be read.
fn rows<T>(db: &Connection, sql: &str, read: impl Fn(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let Ok(mut select) = db.prepare(sql) else { return Vec::new() };
    let Ok(rows) = select.query_map([], read) else { return Vec::new() };
    rows.map_while(Result::ok).collect()
}
