//! The one writer: a plain struct around the only writing connection. Its thread is a loop around it.
//!
//! A sealed batch is judged already, so it is retried until it commits; it is never judged twice. Everything that a commit
//! carries (batches, totals, cursors, alerts, snapshot, deletions) is one transaction: the totals cannot disagree with their cause.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, params};

use super::ballast::Ballast;
use super::cursors::{CursorChange, Cursors};
use super::quarantine::{self, Head};
use super::reader::FileId;
use super::retention::{self, Capacity, Deleted, Needed, Room};
use super::salvage::{Salvaged, Unfinished};
use super::schema::{self, OpenError, Synchronous};
use crate::core::identity::{RunId, Stream};
use crate::core::pipeline::{Sealed, SealedBatch};
use crate::disk;
use crate::handoff::Undecodable;

/// How a payload is stored.
pub const CODEC_LZ4: i64 = 1;
/// Samples of what could not be decoded; the oldest goes first.
const QUARANTINE_ROWS_MAX: i64 = 100;

#[derive(Clone, Debug)]
pub struct WriterSettings {
    pub path: PathBuf,
    pub synchronous: Synchronous,
    pub vfs: Option<String>,
    pub capacity: Capacity,
}

/// What one transaction is to carry.
#[derive(Debug, Default)]
pub struct CommitInput {
    pub sealed: Sealed,
    pub undecodable: Vec<Undecodable>,
    pub cursors: Vec<CursorChange>,
    /// Taken over from a damaged store, with places given by the pipeline.
    pub salvaged: Vec<Salvaged>,
}

impl CommitInput {
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.undecodable.is_empty() && self.cursors.is_empty() && self.salvaged.is_empty()
    }

    pub fn batches(&self) -> impl Iterator<Item = &SealedBatch> {
        let salvaged = self.salvaged.iter().filter_map(|salvaged| salvaged.batch.as_ref());
        self.sealed.batches().chain(salvaged.map(|(_, batch)| batch))
    }

    fn needed(&self) -> Needed {
        let of = |stream| {
            self.batches().filter(move |batch| batch.stream == stream).map(|batch| batch.payload.len() as u64).sum()
        };
        let Sealed { alerts, snapshot, .. } = &self.sealed;
        let alerts: usize = alerts.iter().filter_map(|alert| alert.body.as_ref()).map(Vec::len).sum();
        let snapshot: usize = snapshot.iter().map(|chunk| chunk.state.len()).sum();
        let undecodable: usize = self.undecodable.iter().map(|one| one.sample.len() + one.topic.len()).sum();
        let letters = self.cursors.iter().flat_map(|change| &change.dead_letters);
        let letters: usize = letters.map(|letter| letter.line.len()).sum();
        let other = (alerts + snapshot + undecodable + letters) as u64;
        Needed { raw: of(Stream::Raw), other: of(Stream::Anomalies) + other }
    }
}

/// What a commit brought about, for counters and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    pub expired: Vec<(Stream, u64)>,
    pub deleted: Deleted,
    pub used_bytes: u64,
    pub room: Room,
    /// Records of a damaged store that could not be salvaged, once that is known.
    pub lost: u64,
}

#[derive(Debug)]
pub struct Writer {
    settings: WriterSettings,
    db: Connection,
    run: RunId,
    cursors: Cursors,
    /// Batches up to here are in the snapshot of the detectors and need no replay.
    snapshot_covers: u64,
    ballast: Ballast,
    /// Since when the disk has had no more room.
    squeezed: Option<Instant>,
    /// The damaged store was set aside, and there is no new one yet.
    aside: Option<String>,
    last_sequences: [u64; 2],
}

/// How long the disk is given to other things before the ballast is filled again.
const BALLAST_PAUSE: Duration = Duration::from_secs(60);

impl Writer {
    pub fn open(settings: &WriterSettings, run: RunId) -> Result<Writer, OpenError> {
        let db = open_limited(settings)?;
        let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
        let cursors = Cursors::load(&db).map_err(failed)?;
        let mut last_sequences = [0; 2];
        for stream in Stream::ALL {
            last_sequences[stream as usize] = last_sequence(&db, stream).map_err(failed)?;
        }
        let folder = settings.path.parent().unwrap_or(Path::new("."));
        let ballast = Ballast::new(folder, settings.capacity.ballast_bytes());
        ballast.fill(settings.capacity.free_bytes_min);
        let writer = Writer {
            settings: settings.clone(),
            db,
            run,
            cursors,
            snapshot_covers: 0,
            ballast,
            squeezed: None,
            aside: None,
            last_sequences,
        };
        writer.note_unknown_damaged_stores().map_err(failed)?;
        Ok(writer)
    }

    /// Sets the damaged store aside and begins a new one.
    pub fn open_anew(settings: &WriterSettings, run: RunId) -> Result<Writer, OpenError> {
        let failed = |source| OpenError::Folder { path: settings.path.clone(), source };
        let aside = quarantine::set_aside(&settings.path).map_err(failed)?;
        let head = Head::read(&quarantine::folder_of(&settings.path).join(&aside));
        let cursors = head.cursors.clone().unwrap_or_default();
        begin_anew(settings, &aside, &head, cursors, head.last_sequences)?;
        Writer::open(settings, run)
    }

    /// The same while running: the cursors and the sequences are known here. Returns what is to be salvaged; on an error the caller
    /// calls again.
    pub fn renew(&mut self) -> Result<Vec<Unfinished>, OpenError> {
        let path = self.settings.path.clone();
        let failed = |source| OpenError::Sqlite { path: path.clone(), source };
        if self.aside.is_none() {
            // Lets go of the file: what is open is not moved.
            self.db = Connection::open_in_memory().map_err(failed)?;
            let aside = quarantine::set_aside(&path);
            self.aside = Some(aside.map_err(|source| OpenError::Folder { path: path.clone(), source })?);
        }
        let aside = self.aside.clone().expect("just set");
        let head = Head::read(&quarantine::folder_of(&path).join(&aside));
        (self.db, self.cursors) = begin_anew(&self.settings, &aside, &head, self.cursors.clone(), self.last_sequences)?;
        self.aside = None;
        let unfinished = self.unfinished_salvages().map_err(failed)?;
        Ok(unfinished.into_iter().filter(|unfinished| unfinished.folder == aside).collect())
    }

    /// A crash may come between setting a damaged store aside and beginning a new one: what is set aside is salvaged all the same.
    fn note_unknown_damaged_stores(&self) -> rusqlite::Result<()> {
        for folder in quarantine::kept(&self.settings.path) {
            note_salvage(&self.db, &folder, [0; 2])?;
        }
        Ok(())
    }

    pub fn unfinished_salvages(&self) -> rusqlite::Result<Vec<Unfinished>> {
        let kept = quarantine::kept(&self.settings.path);
        let mut select =
            self.db.prepare("SELECT folder, stream, seq FROM salvage WHERE NOT done ORDER BY folder, stream DESC")?;
        let mut rows = select.query([])?;
        let mut unfinished = Vec::new();
        while let Some(row) = rows.next()? {
            let (folder, stream): (String, String) = (row.get(0)?, row.get(1)?);
            let stream = Stream::ALL.into_iter().find(|known| known.name() == stream);
            if let Some(stream) = stream.filter(|_| kept.contains(&folder)) {
                unfinished.push(Unfinished { folder, stream, through: row.get::<_, i64>(2)? as u64 });
            }
        }
        Ok(unfinished)
    }

    pub fn settings(&self) -> &WriterSettings {
        &self.settings
    }

    pub fn file(&self) -> Option<FileId> {
        FileId::of(&self.settings.path)
    }

    /// Local sequence of the last record of a stream, also when the table is empty by now.
    pub fn last_sequence(&self, stream: Stream) -> rusqlite::Result<u64> {
        last_sequence(&self.db, stream)
    }

    /// Makes sure that a sink has a cursor; a new one starts at the oldest held batch. Returns where it stands.
    pub fn register_sink(&mut self, sink: &str, stream: Stream) -> rusqlite::Result<crate::core::cursor::CursorState> {
        self.cursors.register(&self.db, sink, stream)
    }

    pub fn connection(&self) -> &Connection {
        &self.db
    }

    /// One transaction; when this returns `Ok` everything in it is fsynced. On an error nothing of it happened, and the
    /// caller calls again with the same input.
    pub fn commit(&mut self, input: &CommitInput) -> rusqlite::Result<CommitReport> {
        match self.try_commit(input, true) {
            Err(error) if schema::is_full(&error) => {}
            result => return result,
        }
        self.squeeze();
        match self.try_commit(input, true) {
            // A snapshot can wait; readings that are judged cannot.
            Err(error) if schema::is_full(&error) && !input.sealed.snapshot.is_empty() => self.try_commit(input, false),
            result => result,
        }
    }

    /// The disk has less room than the capacity: from now on the file only uses what it has, and the log what the ballast gives.
    fn squeeze(&mut self) {
        self.squeezed = Some(Instant::now());
        if self.ballast.free() {
            tracing::warn!("the disk is full: the ballast is given back to it, and the store does not grow any more");
        }
        // Pages that are only in the log still need their place in the file; after that both are as large as they need to be.
        if let Err(error) = self.db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())) {
            tracing::debug!(%error, "the store's log could not be moved into its file on a full disk");
        }
    }

    fn try_commit(&mut self, input: &CommitInput, with_snapshot: bool) -> rusqlite::Result<CommitReport> {
        let mut report = CommitReport { room: self.room()?, ..CommitReport::default() };
        let transaction = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut cursors = self.cursors.clone();
        for change in &input.cursors {
            cursors.apply(&transaction, change)?;
        }
        let covers = input.sealed.snapshot_covers.max(self.snapshot_covers);
        report.deleted = retention::delete_delivered(&transaction, &cursors, &report.room, covers)?;
        let when_full = self.settings.capacity.when_full;
        report.expired = retention::make_room(&transaction, &mut cursors, &report.room, when_full, input.needed())?;
        let mut last_sequences = self.last_sequences;
        for batch in input.sealed.batches() {
            insert_batch(&transaction, self.run, batch)?;
            cursors.accept(batch.stream, u64::from(batch.count));
            last_sequences[batch.stream as usize] = batch.last_sequence;
        }
        for salvaged in &input.salvaged {
            if let Some((run, batch)) = &salvaged.batch {
                insert_batch(&transaction, *run, batch)?;
                cursors.recover(batch.stream, u64::from(batch.count));
                last_sequences[batch.stream as usize] = batch.last_sequence;
            }
            report.lost += write_salvage(&transaction, &mut cursors, salvaged)?;
        }
        write_totals(&transaction, &input.sealed.received)?;
        write_undecodable(&transaction, &input.undecodable)?;
        if with_snapshot {
            write_snapshot(&transaction, &input.sealed)?;
        }
        write_alerts(&transaction, &input.sealed)?;
        cursors.save(&transaction)?;
        report.used_bytes = retention::used_bytes(&transaction)?;
        transaction.commit()?;
        self.cursors = cursors;
        self.snapshot_covers = covers;
        self.last_sequences = last_sequences;
        Ok(report)
    }

    /// How far the store may fill at present.
    pub fn room(&self) -> rusqlite::Result<Room> {
        let capacity = &self.settings.capacity;
        let growth = match (self.squeezed, disk::space(self.folder())) {
            (Some(_), _) => None,
            (None, Ok(space)) => Some(space.free_bytes.saturating_sub(capacity.free_bytes_min)),
            // Whatever it is that cannot be asked: the disk will say so itself.
            (None, Err(_)) => Some(u64::MAX),
        };
        Ok(capacity.room(retention::file_bytes(&self.db)?, growth))
    }

    fn folder(&self) -> &Path {
        self.settings.path.parent().unwrap_or(Path::new("."))
    }

    /// What need not be done before a commit is acknowledged: writes the log into the file when it is long, fills the ballast.
    pub fn maintain(&mut self, now: Instant) -> rusqlite::Result<()> {
        let mut look = self.db.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|pages| pages.max(0) as u64);
        let (in_log, in_file) = look.query_row([], |row| Ok((number(row, 1)?, number(row, 2)?)))?;
        drop(look);
        if in_log - in_file.min(in_log) >= self.settings.capacity.log_pages() {
            match self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                Err(error) if schema::is_full(&error) => self.squeeze(),
                result => result?,
            }
        }
        let is_due = self.squeezed.is_some_and(|since| now.saturating_duration_since(since) >= BALLAST_PAUSE);
        if is_due && self.ballast.fill(self.settings.capacity.free_bytes_min) {
            tracing::info!("the disk has room again: the ballast is filled");
            self.squeezed = None;
        }
        Ok(())
    }

    /// At shutdown: the log goes into the file, so that a copy of the one file is the whole store.
    pub fn checkpoint(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

fn open_limited(settings: &WriterSettings) -> Result<Connection, OpenError> {
    let db = schema::open_writer(&settings.path, settings.synchronous, settings.vfs.as_deref())?;
    let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
    retention::limit_file(&db, &settings.capacity).map_err(failed)?;
    Ok(db)
}

/// A new store that goes on where the damaged one ended: with its sequences, so that no cursor is ahead of them, and with all that
/// could be read besides the batches.
fn begin_anew(
    settings: &WriterSettings,
    aside: &str,
    head: &Head,
    mut cursors: Cursors,
    last_sequences: [u64; 2],
) -> Result<(Connection, Cursors), OpenError> {
    let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
    let mut db = open_limited(settings)?;
    let fill = |db: &mut Connection, cursors: &mut Cursors| -> rusqlite::Result<()> {
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        head.write(&transaction)?;
        let delivered = Stream::ALL.map(|stream| cursors.delivered_through(stream).unwrap_or(0));
        note_salvage(&transaction, aside, delivered)?;
        for (stream, last) in Stream::ALL.into_iter().zip(last_sequences) {
            transaction.execute(
                "INSERT INTO sqlite_sequence(name, seq) VALUES (?1, ?2)",
                params![stream.name(), last as i64],
            )?;
            cursors.begin_anew(&transaction, stream, last)?;
        }
        write_totals(&transaction, &[("damaged_stores", 1)])?;
        transaction.commit()
    };
    fill(&mut db, &mut cursors).map_err(failed)?;
    Ok((db, cursors))
}

fn note_salvage(db: &Connection, folder: &str, delivered: [u64; 2]) -> rusqlite::Result<()> {
    for (stream, through) in Stream::ALL.into_iter().zip(delivered) {
        db.prepare_cached("INSERT OR IGNORE INTO salvage(folder, stream, seq) VALUES (?1, ?2, ?3)")?
            .execute(params![folder, stream.name(), through as i64])?;
    }
    Ok(())
}

/// How far the damaged store has been read. At its end what is still missing is lost.
fn write_salvage(db: &Connection, cursors: &mut Cursors, salvaged: &Salvaged) -> rusqlite::Result<u64> {
    db.prepare_cached("UPDATE salvage SET seq = ?3, done = ?4 WHERE folder = ?1 AND stream = ?2")?.execute(params![
        salvaged.folder,
        salvaged.stream.name(),
        salvaged.through as i64,
        salvaged.is_end
    ])?;
    Ok(if salvaged.is_end { cursors.give_up_missing(salvaged.stream) } else { 0 })
}

pub fn last_sequence(db: &Connection, stream: Stream) -> rusqlite::Result<u64> {
    let sql = format!("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = '{}'", stream.name());
    db.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(|seq| seq as u64)
}

fn insert_batch(transaction: &Transaction<'_>, run: RunId, batch: &SealedBatch) -> rusqlite::Result<()> {
    let compressed = lz4_flex::block::compress(&batch.payload);
    let sql = match batch.stream {
        Stream::Raw => INSERT_RAW,
        Stream::Anomalies => INSERT_ANOMALIES,
    };
    transaction.prepare_cached(sql)?.execute(params![
        batch.last_sequence as i64,
        run.0,
        batch.first_position as i64,
        batch.count,
        batch.first_ms,
        batch.last_ms,
        batch.payload.len() as i64,
        CODEC_LZ4,
        crc32fast::hash(&compressed),
        compressed,
    ])?;
    Ok(())
}

const INSERT_RAW: &str =
    "INSERT INTO raw(seq, run, first_position, count, first_ms, last_ms, raw_len, codec, crc, payload)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const INSERT_ANOMALIES: &str =
    "INSERT INTO anomalies(seq, run, first_position, count, first_ms, last_ms, raw_len, codec, crc, payload)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

fn write_totals(transaction: &Transaction<'_>, totals: &[(&'static str, u64)]) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO total(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
    )?;
    for (name, more) in totals.iter().filter(|(_, more)| *more > 0) {
        add.execute(params![name, *more as i64])?;
    }
    Ok(())
}

fn write_undecodable(transaction: &Transaction<'_>, undecodable: &[Undecodable]) -> rusqlite::Result<()> {
    if undecodable.is_empty() {
        return Ok(());
    }
    let mut count = transaction.prepare_cached(
        "INSERT INTO total(name, value) VALUES ('undecodable:' || ?1, 1) ON CONFLICT(name) DO UPDATE SET value = value + 1",
    )?;
    for one in undecodable {
        count.execute([one.reason])?;
    }
    let mut keep = transaction
        .prepare_cached("INSERT INTO quarantine(received_ms, reason, topic, sample) VALUES (?1, ?2, ?3, ?4)")?;
    let newest = undecodable.len().saturating_sub(QUARANTINE_ROWS_MAX as usize);
    for one in &undecodable[newest..] {
        keep.execute(params![one.received_at_ms, one.reason, one.topic, one.sample])?;
    }
    transaction
        .prepare_cached("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?1")?
        .execute([QUARANTINE_ROWS_MAX])?;
    Ok(())
}

fn write_snapshot(transaction: &Transaction<'_>, sealed: &Sealed) -> rusqlite::Result<()> {
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO snapshot(chunk, seq, state) VALUES (?1, ?2, ?3)")?;
    for chunk in &sealed.snapshot {
        put.execute(params![chunk.index, chunk.sequence as i64, chunk.state])?;
    }
    Ok(())
}

/// The table is the outbox: at a start everything in it is published, so nothing has to be remembered as published.
fn write_alerts(transaction: &Transaction<'_>, sealed: &Sealed) -> rusqlite::Result<()> {
    for alert in &sealed.alerts {
        match &alert.body {
            Some(body) => transaction
                .prepare_cached("INSERT OR REPLACE INTO alert(device, metric, kind, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![alert.device, alert.metric, alert.kind, body])?,
            None => transaction
                .prepare_cached("DELETE FROM alert WHERE device = ?1 AND metric = ?2 AND kind = ?3")?
                .execute(params![alert.device, alert.metric, alert.kind])?,
        };
    }
    Ok(())
}

/// The file's name within the state folder.
pub fn store_path(folder: &Path) -> PathBuf {
    folder.join("outrider.sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::{Decoder, Stored};
    use crate::core::cursor::CursorState;
    use crate::core::pipeline::{Pipeline, PipelineSettings};
    use crate::core::reading::{Attributes, Reading, Readings, TimeQuality};
    use crate::store::reader::{HeldBatch, Reader};

    const RUN: RunId = RunId([7; 8]);

    fn new_pipeline(run: RunId, last_raw_sequence: u64) -> Pipeline {
        Pipeline::new(PipelineSettings {
            gateway: "g".to_owned(),
            run,
            watch: Default::default(),
            alerts: Default::default(),
            last_raw_sequence,
            last_anomaly_sequence: 0,
        })
    }

    fn settings(folder: &Path, bytes_max: u64) -> WriterSettings {
        WriterSettings {
            path: store_path(folder),
            synchronous: Synchronous::Full,
            vfs: None,
            capacity: Capacity::new(bytes_max),
        }
    }

    fn readings(from: u64, count: u64, padding: &str) -> Readings {
        let mut packed = Vec::new();
        let mut readings = Readings::default();
        for number in from..from + count {
            packed.clear();
            crate::core::reading::pack_attribute(&mut packed, "fw", &format!("{padding}{number}"));
            readings.push(&Reading {
                device: "tank-1",
                metric: "temperature",
                value: number as f64,
                measured_at_ms: number as i64,
                received_at_ms: number as i64,
                time_quality: TimeQuality::Synced,
                sequence: Some(number),
                attributes: Attributes::from_packed(&packed).expect("just packed"),
            });
        }
        readings
    }

    fn commit(writer: &mut Writer, pipeline: &mut Pipeline, readings: &Readings) -> CommitReport {
        pipeline.take(readings, Default::default());
        let input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
        writer.commit(&input).expect("a working disk")
    }

    fn ledger(writer: &Writer) -> (i64, i64, i64, i64) {
        let row = |sql: &str| writer.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
        (
            row("SELECT accepted FROM cursor WHERE stream = 'raw'"),
            row("SELECT delivered FROM cursor WHERE stream = 'raw'"),
            row("SELECT expired FROM cursor WHERE stream = 'raw'"),
            row("SELECT coalesce(sum(count), 0) FROM raw WHERE seq > (SELECT seq FROM cursor WHERE stream = 'raw')"),
        )
    }

    #[test]
    fn what_is_committed_is_read_back_and_positions_go_on_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings(folder.path(), 64 << 20);
        let mut writer = Writer::open(&settings, RUN).expect("a new store");
        let mut pipeline = new_pipeline(RUN, writer.last_sequence(Stream::Raw).expect("a number"));
        commit(&mut writer, &mut pipeline, &readings(1, 3, ""));
        drop(writer);

        let second = RunId([8; 8]);
        let mut writer = Writer::open(&settings, second).expect("the same store");
        let mut pipeline = new_pipeline(second, writer.last_sequence(Stream::Raw).expect("a number"));
        commit(&mut writer, &mut pipeline, &readings(4, 2, ""));

        let mut reader = Reader::open(&settings.path, None).expect("a reader");
        let (mut batch, mut after, mut seen) = (HeldBatch::default(), 0, Vec::new());
        while reader.next(Stream::Raw, after, &mut batch).expect("intact") {
            after = batch.last_sequence;
            for record in Decoder::new(&batch.payload).expect("intact") {
                let Ok(Stored::Reading(reading)) = record else { panic!("a reading") };
                seen.push((batch.run, batch.first_sequence(), batch.first_position, reading.sequence));
            }
        }
        let expected: Vec<_> =
            (1..=3).map(|n| (Some(RUN), 1, 1, Some(n))).chain((4..=5).map(|n| (Some(second), 4, 1, Some(n)))).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_batch_goes_only_when_every_sink_has_it_and_a_snapshot_covers_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
        let mut pipeline = new_pipeline(RUN, 0);
        assert_eq!(writer.register_sink("one", Stream::Raw).expect("a cursor"), CursorState::at(0));
        writer.register_sink("two", Stream::Raw).expect("a cursor");
        commit(&mut writer, &mut pipeline, &readings(1, 10, ""));
        let change = |sink: &str| CursorChange {
            sink: sink.to_owned(),
            stream: Stream::Raw,
            state: CursorState::at(10),
            dead_letters: Vec::new(),
            quarantined: 0,
        };
        let mut input = CommitInput { cursors: vec![change("one")], ..CommitInput::default() };
        input.sealed.snapshot_covers = 10;
        assert_eq!(writer.commit(&input).expect("a working disk").deleted.batches, 0, "the other sink has nothing yet");
        input = CommitInput { cursors: vec![change("two")], ..CommitInput::default() };
        writer.snapshot_covers = 9;
        assert_eq!(
            writer.commit(&input).expect("a working disk").deleted.batches,
            0,
            "no snapshot covers its last record"
        );
        writer.snapshot_covers = 10;
        assert_eq!(writer.commit(&CommitInput::default()).expect("a working disk").deleted.batches, 1);
        assert_eq!(ledger(&writer), (10, 10, 0, 0));
        assert_eq!(writer.last_sequence(Stream::Raw).expect("a number"), 10, "numbers are not given again");
    }

    #[test]
    fn at_capacity_the_oldest_goes_and_the_ledger_adds_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&settings(folder.path(), 4 << 20), RUN).expect("a new store");
        let mut pipeline = new_pipeline(RUN, 0);
        writer.register_sink("one", Stream::Raw).expect("a cursor");
        let mut noise = 1u64;
        let mut expired = 0;
        for round in 0..200 {
            // Incompressible, so that the store fills.
            let padding: String = (0..60)
                .map(|_| {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    char::from(b'!' + (noise >> 58) as u8)
                })
                .collect();
            let report = commit(&mut writer, &mut pipeline, &readings(round * 1000 + 1, 1000, &padding));
            expired += report.expired.iter().map(|(_, count)| count).sum::<u64>();
        }
        assert!(expired > 0, "the store was meant to fill");
        let (accepted, delivered, counted_expired, buffered) = ledger(&writer);
        assert_eq!((accepted, delivered, counted_expired), (200_000, 0, expired as i64));
        assert_eq!(accepted, delivered + counted_expired + buffered);
        assert!(retention::used_bytes(writer.connection()).expect("a number") <= 4 << 20);
        let late = CursorChange {
            sink: "one".to_owned(),
            stream: Stream::Raw,
            state: CursorState::at(expired + 10),
            dead_letters: Vec::new(),
            quarantined: 0,
        };
        writer.commit(&CommitInput { cursors: vec![late], ..CommitInput::default() }).expect("a working disk");
        let (accepted, delivered, expired, _) = ledger(&writer);
        assert_eq!(
            (accepted, delivered, expired),
            (200_000, 10, counted_expired),
            "what expired is not delivered as well"
        );
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_checksum() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings(folder.path(), 64 << 20);
        let mut writer = Writer::open(&settings, RUN).expect("a new store");
        commit(&mut writer, &mut new_pipeline(RUN, 0), &readings(1, 5, ""));
        writer.connection().execute("UPDATE raw SET payload = zeroblob(length(payload))", []).expect("a row");
        let mut reader = Reader::open(&settings.path, None).expect("a reader");
        let error = reader.next(Stream::Raw, 0, &mut HeldBatch::default()).expect_err("damaged");
        assert_eq!(error.to_string(), "the stored batch that ends at 5 is damaged (5 records)");
    }

    #[test]
    fn undecodable_samples_are_bounded_and_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
        for round in 0..3 {
            let undecodable = (0..90)
                .map(|n| Undecodable {
                    reason: "not_json",
                    topic: format!("devices/{round}-{n}"),
                    sample: b"{".to_vec(),
                    received_at_ms: n,
                })
                .collect();
            writer.commit(&CommitInput { undecodable, ..CommitInput::default() }).expect("a working disk");
        }
        let one = |sql: &str| writer.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
        assert_eq!(one("SELECT value FROM total WHERE name = 'undecodable:not_json'"), 270);
        assert_eq!(one("SELECT count(*) FROM quarantine"), 100);
    }

    /// A line on the second stream that does not compress.
    fn anomaly_batch(last_sequence: u64, noise: &mut u64) -> SealedBatch {
        let mut encoder = crate::core::batch::BatchEncoder::default();
        let line: Vec<u8> = (0..20_000)
            .map(|_| {
                *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (*noise >> 56) as u8
            })
            .collect();
        encoder.push_line(crate::core::batch::Tag::Anomaly, "d", &line);
        SealedBatch {
            stream: Stream::Anomalies,
            last_sequence,
            first_position: last_sequence,
            count: 1,
            first_ms: 0,
            last_ms: 0,
            payload: encoder.finish(),
        }
    }

    fn commit_both(writer: &mut Writer, pipeline: &mut Pipeline, round: u64, noise: &mut u64) -> CommitReport {
        pipeline.take(&readings(round * 100 + 1, 100, &format!("{noise:x}")), Default::default());
        let mut input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
        input.sealed.anomalies = Some(anomaly_batch(round + 1, noise));
        writer.commit(&input).expect("a working disk")
    }

    #[test]
    fn anomalies_go_only_when_all_raw_has_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&settings(folder.path(), 8 << 20), RUN).expect("a new store");
        let mut pipeline = new_pipeline(RUN, 0);
        writer.register_sink("one", Stream::Raw).expect("a cursor");
        writer.register_sink("one", Stream::Anomalies).expect("a cursor");
        let mut noise = 1;
        let (mut raw_expired, mut first_anomaly_expired) = (0, None);
        for round in 0..500 {
            let report = commit_both(&mut writer, &mut pipeline, round, &mut noise);
            for (stream, count) in report.expired {
                if stream == Stream::Raw {
                    raw_expired += count;
                } else if first_anomaly_expired.is_none() {
                    first_anomaly_expired = Some((round, raw_expired));
                }
            }
        }
        let (round, raw_expired_then) = first_anomaly_expired.expect("anomalies of more than the capacity");
        assert_eq!(raw_expired_then, round * 100, "all raw readings before that commit");
        let view = crate::admin::ledger::look(writer.connection()).expect("readable");
        assert!(view.ledger.iter().all(|line| line.adds_up() && line.expired > 0), "{:?}", view.ledger);
        assert!(view.used_bytes <= writer.settings.capacity.file_bytes_max());
    }

    #[test]
    fn a_stream_without_a_sink_is_bounded_and_pushes_nothing_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&settings(folder.path(), 8 << 20), RUN).expect("a new store");
        let mut pipeline = new_pipeline(RUN, 0);
        writer.register_sink("one", Stream::Raw).expect("a cursor");
        let mut noise = 1;
        for round in 0..500 {
            let report = commit_both(&mut writer, &mut pipeline, round, &mut noise);
            assert!(report.expired.iter().all(|(_, count)| *count == 0), "{:?}", report.expired);
        }
        let held = |table: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            writer.connection().query_row(&sql, [], |row| row.get(0)).expect("a number")
        };
        assert_eq!(held("raw"), 500);
        assert!(held("anomalies") > 10 && held("anomalies") < 400, "{}", held("anomalies"));
    }

    #[test]
    fn what_only_a_sink_wants_that_has_left_goes_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings(folder.path(), 8 << 20);
        let mut writer = Writer::open(&settings, RUN).expect("a new store");
        writer.register_sink("left", Stream::Anomalies).expect("a cursor");
        drop(writer);
        let mut writer = Writer::open(&settings, RUN).expect("the store");
        writer.register_sink("stays", Stream::Raw).expect("a cursor");
        let mut pipeline = new_pipeline(RUN, 0);
        let mut noise = 1;
        let mut expired = [0, 0];
        for round in 0..500 {
            for (stream, count) in commit_both(&mut writer, &mut pipeline, round, &mut noise).expired {
                expired[stream as usize] += count;
            }
        }
        assert_eq!(expired[Stream::Raw as usize], 0);
        assert!(expired[Stream::Anomalies as usize] > 0);
        let view = crate::admin::ledger::look(writer.connection()).expect("readable");
        assert!(view.ledger.iter().all(|line| line.adds_up()), "{:?}", view.ledger);
    }
}
