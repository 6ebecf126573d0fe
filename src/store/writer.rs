//! The only writer: a plain struct around the only writing connection. Its thread calls it in a loop.
//!
//! A sealed batch is judged already, so it is retried until it commits; it is never judged twice. Everything in a commit (batches, totals,
//! cursors, alerts, snapshot, deletions) is one transaction: the totals always agree with what they count.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rusqlite::Connection;

use super::ballast::Ballast;
use super::commit::CommitInput;
use super::cursors::{Cursors, Save};
use super::entries;
use super::kept::HistoryEnd;
use super::reader::FileId;
use super::rejected;
use super::retention::{self, Room};
use super::rows::{self, BatchRow};
use super::runs::{self, Run};
use super::schema::{self, OpenError};
use super::set_aside;
use super::space::Space;
use super::witness::Witness;
use super::{held, links, migration, streams, totals};
use crate::clock;
use crate::core::identity::{PerStream, RunId, Stream, StreamRow, Streams};
use crate::handoff::Entry;

mod renewal;
mod settings;
mod standing;
mod stream_state;
mod witness;

pub use settings::{CommitReport, WriterSettings};
use stream_state::StreamState;
use witness::{Moment, RECORDS_UNTIL_NEXT_MIN, WITNESS_EVERY, WITNESS_PAUSE, WitnessState};

#[derive(Debug)]
pub struct Writer {
    settings: WriterSettings,
    db: Connection,
    run: Run,
    cursors: Cursors,
    /// Batches up to here are in the snapshot of the detectors and need no replay.
    snapshot_covers: u64,
    /// The last raw record when a part of a snapshot was left out: a snapshot that began before that covers nothing.
    snapshot_broken: u64,
    space: Space,
    history_end: HistoryEnd,
    /// Name of a damaged store that was set aside, while there is no new one yet.
    aside: Option<String>,
    /// The disk has answered with an error since the log last began.
    has_failed: bool,
    /// All streams of the store.
    streams: Streams,
    states: PerStream<StreamState>,
    given_up: PerStream<Arc<AtomicU64>>,
    witness: WitnessState,
}

impl Writer {
    /// Opens the store, or creates it; migrates it, and fills the ballast.
    ///
    /// # Errors
    ///
    /// If the store cannot be opened or created, or is not one that this program can read.
    pub fn open(settings: &WriterSettings, run: RunId) -> Result<Writer, OpenError> {
        let mut db = open_limited(settings)?;
        let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
        let streams = add_streams(&mut db, settings)?;
        let mut cursors = Cursors::load(&db).map_err(failed)?;
        if !cursors.are_of(&streams) {
            return Err(failed(schema::corrupt("a cursor is of no stream".to_owned())));
        }
        let states = StreamState::load_all(&db, &streams).map_err(failed)?;
        let examined = states.map(|_, state| state.progress.examined_through);
        cursors.find_missing(&db, &examined).map_err(failed)?;
        runs::prune(&db, &streams).map_err(failed)?;
        // A process that ended after a failed sync leaves frames in the log that the disk does not have and that are never written again.
        // They would be missing under all that is added: so what the log has goes into the file first.
        match schema::restart_log(&db) {
            // Neither a full disk nor a program that reads the store may keep the gateway from starting.
            Err(error) if !schema::is_full(&error) && !schema::is_busy(&error) => return Err(failed(error)),
            _ => {}
        }
        // Writes what is written already, to see whether the disk accepts a write: the steps that follow at a start rely on that. It also
        // gives the index of the log its blocks, before the rest of a full disk is claimed.
        schema::write_version(&db).map_err(failed)?;
        let space = Space::new(&settings.path, settings.capacity, &db);
        let witness = Witness::of(&settings.path);
        let testimony = witness.read();
        let mut writer = Writer {
            settings: settings.clone(),
            db,
            run: Run { run, gateway: settings.gateway.clone(), started_ms: clock::now_ms() },
            cursors,
            snapshot_covers: 0,
            snapshot_broken: 0,
            space,
            history_end: HistoryEnd::new(settings.capacity.history_ms, clock::instant()),
            aside: None,
            has_failed: false,
            given_up: PerStream::new(&streams, |_| Arc::default()),
            streams,
            states,
            witness: WitnessState {
                number: testimony.as_ref().map_or(0, |testimony| testimony.number),
                file: witness,
                written: clock::instant(),
                records: 0,
                records_until_next: RECORDS_UNTIL_NEXT_MIN,
                has_failed: false,
            },
        };
        writer.note_unknown_damaged_stores().map_err(failed)?;
        Ok(writer)
    }

    pub fn connection(&self) -> &Connection {
        &self.db
    }

    /// Stores the input in one transaction, which is fsynced when this returns `Ok`.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; then nothing of the input is stored, and the caller calls again with the same input.
    pub fn commit(&mut self, input: &CommitInput) -> rusqlite::Result<CommitReport> {
        // Once, before the transaction: room is made for the compressed size, and the write lock is held briefly.
        let run = self.run.clone();
        let rows = rows::compress(&run, input);
        self.begin_log_anew_after_failure()?;
        let result = self.commit_squeezing(input, &rows);
        let report = self.noting_failure(result)?;
        input.cursors.iter().filter_map(|change| change.save.as_ref()).for_each(Save::is_durable);
        input.cursors.iter().filter_map(|change| change.link.as_ref()).for_each(|link| link.is_durable());
        Ok(report)
    }

    fn noting_failure<T>(&mut self, result: rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.has_failed |= result.as_ref().is_err_and(|error| schema::is_of_the_disk(error) && !schema::is_full(error));
        result
    }

    fn commit_squeezing(&mut self, input: &CommitInput, rows: &[BatchRow<'_>]) -> rusqlite::Result<CommitReport> {
        match self.try_commit(input, rows, true) {
            Err(error) if schema::is_full(&error) => {}
            result => return result,
        }
        self.space.squeeze(&self.db);
        match self.try_commit(input, rows, true) {
            // A snapshot can wait; readings that are judged cannot.
            Err(error) if schema::is_full(&error) && !input.sealed.snapshot.is_empty() => {
                self.try_commit(input, rows, false)
            }
            result => result,
        }
    }

    /// A sync that fails may lose bytes that were written before: Linux then takes them for stored, and SQLite does not write again what it
    /// has committed. So the whole log goes into the file before more is added, and the next commit begins a new round.
    fn begin_log_anew_after_failure(&mut self) -> rusqlite::Result<()> {
        if self.has_failed {
            match schema::restart_log(&self.db) {
                // Room comes first: the commit itself sees to it.
                Err(error) if schema::is_full(&error) => return Ok(()),
                result => result?,
            }
            self.has_failed = false;
        }
        Ok(())
    }

    fn try_commit(
        &mut self,
        input: &CommitInput,
        batches: &[BatchRow<'_>],
        with_snapshot: bool,
    ) -> rusqlite::Result<CommitReport> {
        let mut report = CommitReport { room: self.room()?, ..CommitReport::default() };
        let [covered, covered_without] = [with_snapshot, false].map(|with_snapshot| self.covered(input, with_snapshot));
        let history = self.history_end.look(&self.db, &self.streams, clock::instant())?;
        let transaction = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut cursors = self.cursors.clone();
        for change in &input.cursors {
            cursors.apply(&transaction, change)?;
        }
        for letter in &input.letters {
            cursors.deliver_letter(&transaction, letter)?;
        }
        for sink in &input.dropped_sinks {
            report.dropped_sinks.push((sink.clone(), cursors.drop_sink(&transaction, sink)?));
        }
        let of_all = (&self.streams, &cursors);
        let kept = (&report.room, history.as_ref());
        report.deleted = retention::delete_delivered(&transaction, of_all, kept, covered.0)?;
        let when_full = self.settings.capacity.when_full;
        let mut needed = rows::needed(input, batches, &self.streams);
        if !retention::has_room(&transaction, &report.room, needed)? {
            // Alerts, snapshots and entries mostly replace earlier ones: nothing has to be removed for that.
            let replaced = rows::replaced_bytes(&transaction, &input.sealed)?;
            needed.replaces(replaced + entries::replaced(&transaction, &input.entries)?);
        }
        let of_all = (&self.streams, &mut cursors);
        let made = retention::make_room(&transaction, of_all, &report.room, when_full, needed)?;
        (report.expired, report.given_up) = (made.expired, made.given_up);
        report.deleted.has_more |= made.has_more;
        // A snapshot can wait; what sinks are still to get does not give way to it.
        let with_snapshot = with_snapshot && made.fits_snapshot;
        let mut states = self.states.clone();
        if report.deleted.batches > 0 || !report.expired.is_empty() {
            states.iter_mut().try_for_each(|(stream, state)| state.removed(&transaction, &cursors, stream))?;
        }
        for row in batches {
            if row.is_salvaged && !rows::is_wanted(&transaction, &cursors, row.batch)? {
                continue;
            }
            if row.is_salvaged {
                // Behind what is listed no batch counts that is not.
                held::list(&transaction, row.batch.stream)?;
                states.of_mut(row.batch.stream).unlisted = 0;
            }
            row.insert(&transaction)?;
            report.payload_bytes += row.payload.len() as u64;
            let batch = row.batch;
            if row.is_salvaged {
                held::list_one(&transaction, held::id(batch.stream, batch.last_sequence))?;
                cursors.recover(batch.stream, batch.first_sequence(), batch.last_sequence);
            } else {
                cursors.accept(batch.stream, batch.count.into());
                states.of_mut(batch.stream).append(&transaction, batch.stream, batch.last_sequence)?;
            }
        }
        for salvaged in &input.salvaged {
            rows::write_salvage(&transaction, salvaged)?;
            report.lost += if salvaged.is_end { cursors.missing(salvaged.stream) } else { 0 };
        }
        totals::add_all(&transaction, &input.sealed.received)?;
        rejected::write(&transaction, &input.undecodable)?;
        entries::write(&transaction, &input.entries)?;
        if with_snapshot {
            rows::write_snapshot(&transaction, &input.sealed)?;
        }
        rows::write_alerts(&transaction, &input.sealed)?;
        cursors.save(&transaction)?;
        for (stream, state) in states.iter() {
            if state.progress != self.states.of(stream).progress {
                state.progress.write(&transaction, stream)?;
            }
        }
        report.used_bytes = retention::used_bytes(&transaction)?;
        report.left_for_raw = self.space.left_for_raw(&report.room, report.used_bytes);
        transaction.commit()?;
        self.cursors = cursors;
        for (stream, _) in &report.expired {
            self.given_up.of(*stream).fetch_max(self.cursors.expired_through(*stream), Ordering::Release);
        }
        (self.snapshot_covers, self.snapshot_broken) = if with_snapshot { covered } else { covered_without };
        self.states = states;
        Ok(report)
    }

    /// Up to which raw record a snapshot covers once this is committed; and the last raw record when a part of one was left out.
    fn covered(&self, input: &CommitInput, with_snapshot: bool) -> (u64, u64) {
        let mut broken = self.snapshot_broken;
        if !with_snapshot && !input.sealed.snapshot.is_empty() {
            let last_stored = self.states.of(Stream::RAW).progress.last_sequence;
            broken = input.sealed.of(Stream::RAW).last().map_or(last_stored, |raw| raw.last_sequence);
        }
        match input.sealed.snapshot_covers {
            covers if covers > broken => (covers.max(self.snapshot_covers), broken),
            _ => (self.snapshot_covers, broken),
        }
    }

    /// How far the store may fill now.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn room(&self) -> rusqlite::Result<Room> {
        self.space.room(&self.db)
    }

    /// What raw readings may take at present.
    pub fn left_for_raw(&self) -> rusqlite::Result<u64> {
        Ok(self.space.left_for_raw(&self.room()?, retention::used_bytes(&self.db)?))
    }

    /// What need not be done before a commit is acknowledged: checkpoints the WAL when it is long, and claims room on the disk.
    ///
    /// # Errors
    ///
    /// If the WAL cannot be checkpointed.
    pub fn maintain(&mut self, now: Instant) -> rusqlite::Result<()> {
        let mut look = self.db.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|pages| pages.max(0) as u64);
        let (in_log, in_file) = look.query_row([], |row| Ok((number(row, 1)?, number(row, 2)?)))?;
        drop(look);
        let is_long = in_log - in_file.min(in_log) >= self.space.log_pages();
        let records = self.accepted() - self.witness.records;
        let since = now.saturating_duration_since(self.witness.written);
        let is_due = records > 0 && (since >= WITNESS_EVERY || records >= self.witness.records_until_next);
        if is_long || is_due {
            match self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                Err(error) if schema::is_full(&error) => self.space.squeeze(&self.db),
                result => self.noting_failure(result)?,
            }
            if is_due || since >= WITNESS_PAUSE {
                self.testify(Moment::Running);
            }
        }
        self.space.maintain(&self.db, now);
        Ok(())
    }

    /// At shutdown: checkpoints the whole WAL, so that a copy of the one file is the whole store.
    ///
    /// # Errors
    ///
    /// If the WAL cannot be checkpointed.
    pub fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let (busy, log): (i64, i64) =
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if busy == 0 && log <= 0 {
            self.testify(Moment::End);
        }
        Ok(())
    }
}

fn ballast(settings: &WriterSettings) -> Ballast {
    let folder = settings.path.parent().unwrap_or(Path::new("."));
    Ballast::new(folder, settings.capacity.ballast_bytes())
}

/// Adds the streams that are configured for the first time.
fn add_streams(db: &mut Connection, settings: &WriterSettings) -> Result<Streams, OpenError> {
    let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
    let known = streams::load(db).map_err(failed)?;
    let all = known.with(&settings.streams).ok_or(OpenError::TooManyStreams { path: settings.path.clone() })?;
    if all != known {
        migration::with_room(db, &ballast(settings), |db, _| streams::write(db, &all)).map_err(failed)?;
    }
    Ok(all)
}

fn open_limited(settings: &WriterSettings) -> Result<Connection, OpenError> {
    let mut db = schema::open_writer(&settings.path, settings.synchronous, settings.vfs.as_deref())?;
    let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
    // Before the limit is set: a step of the migration may need some more pages for a moment.
    migration::migrate(&mut db, &settings.gateway, &ballast(settings)).map_err(failed)?;
    retention::limit_file(&db, settings.capacity.file_bytes_max()).map_err(failed)?;
    retention::limit_log(&db, &settings.capacity).map_err(failed)?;
    set_aside::keep_first_page(&db, &settings.path);
    Ok(db)
}

#[cfg(test)]
mod prepared;
#[cfg(test)]
mod tests;
