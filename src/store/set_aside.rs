//! A damaged store is set aside unchanged, so that a new one can begin at once, and opened again to read what can be read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};

use super::cursors::Cursors;
use super::held::StreamProgress;
use super::runs::{self, Run};
use super::scan::Scan;
use super::schema::{self, PAGE_BYTES, Synchronous, has_pages, log_of, store_path, with_suffix};
use super::streams::{self, KnownStreams};
use super::witness::Testimony;
use super::{totals, version_1};
use crate::core::identity::{PerStream, Stream, StreamRow, Streams};
use crate::{clock, disk};

/// Most damaged stores that are kept; the oldest is deleted when another one comes.
const KEPT_MAX: usize = 3;

const FOLDER: &str = "set-aside";
/// Its name in version 0.1.
const FOLDER_BEFORE: &str = "quarantine";

/// Renames the folder of version 0.1 to its present name.
///
/// # Errors
///
/// If there is such a folder and it cannot be renamed.
pub fn rename_former_folder(store: &Path) -> io::Result<()> {
    let folder = folder_of(store);
    match fs::rename(folder.with_file_name(FOLDER_BEFORE), &folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The folder of damaged stores, within the state folder.
pub fn folder_of(store: &Path) -> PathBuf {
    store.parent().unwrap_or(Path::new(".")).join(FOLDER)
}

/// Names of the damaged stores that are kept, oldest first.
pub fn kept(store: &Path) -> Vec<String> {
    kept_in(&folder_of(store))
}

fn kept_in(all: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(all) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect();
    names.sort();
    names
}

/// Moves the store with its WAL into a folder of its own, and returns the folder's name, which is the time. Nobody may have the store open
/// for writing.
///
/// # Errors
///
/// If the store cannot be moved, or an older one cannot be deleted.
pub fn move_store(store: &Path) -> io::Result<String> {
    let name = make_folder(store)?;
    let all = folder_of(store);
    let folder = all.join(&name);
    // SQLite rebuilds the index of the WAL.
    let _ = fs::remove_file(with_suffix(store, "-shm"));
    // The WAL first: alone it means nothing, while a file without its WAL would pass for the whole store.
    for (from, to) in [
        (with_suffix(store, "-wal"), with_suffix(&store_path(&folder), "-wal")),
        (store.to_owned(), store_path(&folder)),
        (first_page_of(store), first_page_of(&store_path(&folder))),
    ] {
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    disk::sync_folder(&folder)?;
    disk::sync_folder(&all)?;
    disk::sync_folder(store.parent().unwrap_or(Path::new(".")))?;
    Ok(name)
}

/// Name of the damaged store that was set aside last, if that was at this time or later and no new one has begun since.
pub(super) fn begun_since(store: &Path, since_ms: i64) -> Option<String> {
    if has_pages(store) || log_of(store).exists() {
        return None;
    }
    kept(store).pop().filter(|newest| newest.parse::<i64>().is_ok_and(|at_ms| at_ms >= since_ms))
}

/// Removes a new store that could not be filled with what was known of the one before: it would pass for a damaged one.
pub(super) fn remove_unfinished(store: &Path) {
    for path in [log_of(store), with_suffix(store, "-shm"), store.to_owned()] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "a file of an unfinished store could not be removed");
        }
    }
}

/// Copies a damaged log into a folder of its own, because SQLite ignores what is behind the damage, and writes over it.
pub(super) fn copy_log(store: &Path) -> io::Result<String> {
    let name = make_folder(store)?;
    let folder = folder_of(store).join(&name);
    fs::copy(log_of(store), log_of(&store_path(&folder)))?;
    disk::sync_folder(&folder)?;
    disk::sync_folder(&folder_of(store))?;
    Ok(name)
}

/// Moves a log away that belongs to another store: SQLite would write its pages into this one.
pub(super) fn move_foreign_log(store: &Path) -> io::Result<()> {
    let _ = fs::remove_file(with_suffix(store, "-shm"));
    fs::rename(log_of(store), with_suffix(store, "-foreign-wal"))
}

/// A new folder, named by the time.
fn make_folder(store: &Path) -> io::Result<String> {
    let all = folder_of(store);
    let mut kept = kept(store);
    while kept.len() >= KEPT_MAX {
        fs::remove_dir_all(all.join(kept.remove(0)))?;
    }
    let mut at_ms = u128::try_from(clock::now_ms()).unwrap_or_default();
    if let Some(newest) = kept.last().and_then(|newest| newest.parse::<u128>().ok()) {
        at_ms = at_ms.max(newest + 1);
    }
    // A fixed number of digits, so that names sort.
    let name = format!("{at_ms:014}");
    fs::create_dir_all(all.join(&name))?;
    Ok(name)
}

/// Path of the copy of the store's first page: without that page nothing in the store can be read.
fn first_page_of(store: &Path) -> PathBuf {
    with_suffix(store, "-first-page")
}

/// Keeps a copy of the first page, which says where the tables are. That is fixed when they are created.
pub(super) fn keep_first_page(db: &Connection, store: &Path) {
    let keep = || -> io::Result<()> {
        let copy = first_page_of(store);
        let look = |path: &Path| {
            let mut page = vec![0; PAGE_BYTES as usize];
            fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut page)).map(|()| page)
        };
        let version = |page: &[u8]| page[SCHEMA_COOKIE].to_vec();
        let is_kept = |page: &io::Result<Vec<u8>>, kept: &io::Result<Vec<u8>>| match (page, kept) {
            (Ok(page), Ok(kept)) => version(page) == version(kept),
            _ => false,
        };
        if is_kept(&look(store), &look(&copy)) {
            return Ok(());
        }
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(io::Error::other)?;
        let unfinished = with_suffix(&copy, ".unfinished");
        let mut file = fs::File::create(&unfinished)?;
        io::Write::write_all(&mut file, &look(store)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &copy)
    };
    if let Err(error) = keep() {
        tracing::warn!(%error, "the store's first page cannot be copied; without that page a damaged store cannot be read");
    }
}

/// Bytes of the first page that change with each change of the tables.
const SCHEMA_COOKIE: std::ops::Range<usize> = 40..44;

/// Repairs a damaged first page: with its copy, else with the first page of a new store of the same version, which has its tables in the
/// same places. The damaged page is kept in a file beside the store.
///
/// # Errors
///
/// If the files cannot be read or written.
pub fn mend_first_page(folder: &Path) -> io::Result<()> {
    let store = store_path(folder);
    if has_tables(&store) {
        return Ok(());
    }
    let mut damaged = vec![0; PAGE_BYTES as usize];
    let read = io::Read::read(&mut fs::File::open(&store)?, &mut damaged)?;
    fs::write(folder.join("first-page"), &damaged[..read])?;
    let copies = [
        fs::read(first_page_of(&store)),
        first_page_of_new_store(folder, |path| schema::open_writer(path, Synchronous::Off, None).map(drop)),
        first_page_of_new_store(folder, version_1::create),
    ];
    for mut page in copies.into_iter().flatten().filter(|page| page.len() >= PAGE_BYTES as usize) {
        page.truncate(PAGE_BYTES as usize);
        // Without a number of pages SQLite takes it from the file's size; free pages do not matter to a reader.
        page[28..32].fill(0);
        page[32..40].fill(0);
        put_first_page(&store, &page)?;
        if has_tables(&store) {
            return Ok(());
        }
    }
    put_first_page(&store, &damaged[..read])
}

/// Whether the tables are where the first page says they are.
fn has_tables(store: &Path) -> bool {
    let Ok(db) = schema::open_reader(store, None) else { return false };
    let can_read = |sql: &str| db.prepare(sql).and_then(|mut select| select.exists([])).is_ok();
    can_read("SELECT 1 FROM cursor") && (can_read("SELECT 1 FROM batch") || can_read("SELECT 1 FROM raw"))
}

fn first_page_of_new_store(
    folder: &Path,
    create: impl FnOnce(&Path) -> Result<(), schema::OpenError>,
) -> io::Result<Vec<u8>> {
    let template = folder.join("template");
    fs::create_dir_all(&template)?;
    create(&store_path(&template)).map_err(io::Error::other)?;
    let page = fs::read(store_path(&template))?;
    fs::remove_dir_all(&template)?;
    Ok(page)
}

fn put_first_page(store: &Path, page: &[u8]) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(store)?;
    io::Write::write_all(&mut file, page)?;
    let _ = fs::remove_file(with_suffix(store, "-shm"));
    file.sync_all()
}

/// Everything in a damaged store except its batches, as far as it can be read.
#[derive(Debug, Default)]
pub struct Head {
    pub cursors: Option<Cursors>,
    pub progress: PerStream<StreamProgress>,
    /// All streams of which something is known, once [`Head::read_with`] has looked for them.
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
            cursors,
        }
    }

    /// Reads what there is in a damaged store, with what was known beside it.
    pub(super) fn read_with(folder: &Path, testimony: Option<&Testimony>) -> Head {
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
        Ok(())
    }
}

/// All rows up to the first that cannot be read.
fn rows<T>(db: &Connection, sql: &str, read: impl Fn(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let Ok(mut select) = db.prepare(sql) else { return Vec::new() };
    let Ok(rows) = select.query_map([], read) else { return Vec::new() };
    rows.map_while(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_version_set_aside_is_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = store_path(folder.path());
        rename_former_folder(&store).expect("nothing to do");
        fs::create_dir_all(folder.path().join("quarantine/00000000000007")).expect("a folder");
        assert_eq!(kept(&store), Vec::<String>::new());
        rename_former_folder(&store).expect("renamed");
        assert_eq!(kept(&store), ["00000000000007"]);
    }
}
