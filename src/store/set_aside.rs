//! A damaged store: set aside as it is, so that a new one can begin at once, and opened again to read what can be read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::cursors::Cursors;
use super::schema::{self, PAGE_BYTES, Synchronous, last_sequence, store_path};
use crate::core::identity::Stream;
use crate::disk;

/// Damaged stores kept; the oldest goes when another one comes.
const KEPT_MAX: usize = 3;

const FOLDER: &str = "set-aside";
/// As version 0.1 called it.
const FOLDER_BEFORE: &str = "quarantine";

/// What version 0.1 set aside is where it is looked for now.
pub fn rename_former_folder(store: &Path) -> io::Result<()> {
    let folder = folder_of(store);
    match fs::rename(folder.with_file_name(FOLDER_BEFORE), &folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Within the state folder.
pub fn folder_of(store: &Path) -> PathBuf {
    store.parent().unwrap_or(Path::new(".")).join(FOLDER)
}

/// Names of the damaged stores that are kept, oldest first.
pub fn kept(store: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder_of(store)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect();
    names.sort();
    names
}

/// Moves the store with its log into a folder of its own, named by the time. Nobody may have it open for writing.
pub fn move_store(store: &Path) -> io::Result<String> {
    let all = folder_of(store);
    let mut kept = kept(store);
    while kept.len() >= KEPT_MAX {
        fs::remove_dir_all(all.join(kept.remove(0)))?;
    }
    let mut at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    if let Some(newest) = kept.last().and_then(|newest| newest.parse::<u128>().ok()) {
        at_ms = at_ms.max(newest + 1);
    }
    // As many digits for any time to come, so that names sort.
    let name = format!("{at_ms:014}");
    let folder = all.join(&name);
    fs::create_dir_all(&folder)?;
    // The index of the log is made anew from the log.
    let _ = fs::remove_file(with_suffix(store, "-shm"));
    // The log first: without its file it says nothing, while a file without its log would pass for the whole store.
    for (from, to) in [
        (with_suffix(store, "-wal"), with_suffix(&store_path(&folder), "-wal")),
        (store.to_owned(), store_path(&folder)),
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

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a store readable whose first page is gone: every store of ours has its tables at the same places, so the first page of
/// another one will do. What was there is kept beside it.
pub fn mend_first_page(folder: &Path) -> io::Result<()> {
    let store = store_path(folder);
    let is_readable = schema::open_reader(&store, None)
        .and_then(|db| {
            let tables =
                db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'raw'", [], |row| row.get::<_, i64>(0));
            tables.map_err(|source| schema::OpenError::Sqlite { path: store.clone(), source })
        })
        .is_ok_and(|tables| tables == 1);
    if is_readable {
        return Ok(());
    }
    let template = folder.join("template");
    fs::create_dir_all(&template)?;
    let template_store = store_path(&template);
    schema::open_writer(&template_store, Synchronous::Off, None).map_err(io::Error::other)?;
    let mut page = fs::read(&template_store)?;
    page.truncate(PAGE_BYTES as usize);
    fs::remove_dir_all(&template)?;
    // Its number of pages is told by the file's size; its free pages are nobody's business while it is only read.
    page[28..32].fill(0);
    page[32..40].fill(0);
    let mut damaged = vec![0; PAGE_BYTES as usize];
    let mut file = fs::File::options().read(true).write(true).open(&store)?;
    let read = io::Read::read(&mut file, &mut damaged)?;
    fs::write(folder.join("first-page"), &damaged[..read])?;
    io::Seek::rewind(&mut file)?;
    io::Write::write_all(&mut file, &page)?;
    let _ = fs::remove_file(with_suffix(&store, "-shm"));
    file.sync_all()
}

/// Everything of a damaged store but its batches, as far as it can be read.
#[derive(Debug, Default)]
pub struct Head {
    pub cursors: Option<Cursors>,
    pub last_sequences: [u64; 2],
    totals: Vec<(String, i64)>,
    alerts: Vec<(String, String, String, Vec<u8>)>,
    snapshot: Vec<(i64, i64, Vec<u8>)>,
    rejected_samples: Vec<(i64, String, String, Vec<u8>)>,
    dead_letters: Vec<(String, String, i64, String, Vec<u8>)>,
    salvage: Vec<(String, String, i64, bool)>,
}

impl Head {
    pub fn read(folder: &Path) -> Head {
        if let Err(error) = mend_first_page(folder) {
            tracing::warn!(%error, "the first page of the damaged store cannot be mended");
        }
        let Ok(db) = schema::open_reader(&store_path(folder), None) else { return Head::default() };
        let cursors = Cursors::load(&db).ok();
        let last = |stream| {
            let given = last_sequence(&db, stream).unwrap_or(0);
            let passed = cursors.as_ref().map_or(0, |cursors| cursors.furthest(stream));
            let sql = format!("SELECT seq FROM {} ORDER BY seq DESC LIMIT 1", stream.name());
            let held = db.query_row(&sql, [], |row| row.get::<_, i64>(0)).optional().ok().flatten().unwrap_or(0);
            given.max(passed).max(held.max(0) as u64)
        };
        let snapshot: Vec<(i64, i64, Vec<u8>)> =
            rows(&db, "SELECT chunk, seq, state FROM snapshot", |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let mut last_sequences = Stream::ALL.map(last);
        // The detectors must not take new readings for what their snapshot has seen.
        let seen = snapshot.iter().map(|(_, sequence, _)| *sequence).max().unwrap_or(0);
        last_sequences[Stream::Raw as usize] = last_sequences[Stream::Raw as usize].max(seen.max(0) as u64);
        Head {
            last_sequences,
            totals: rows(&db, "SELECT name, value FROM total", |row| Ok((row.get(0)?, row.get(1)?))),
            alerts: rows(&db, "SELECT device, metric, kind, body FROM alert", |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            }),
            snapshot,
            rejected_samples: rows(
                &db,
                "SELECT received_ms, reason, topic, sample FROM quarantine ORDER BY id",
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            ),
            dead_letters: rows(&db, "SELECT sink, stream, seq, reason, line FROM dead_letter ORDER BY id", |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            }),
            salvage: rows(&db, "SELECT folder, stream, seq, done FROM salvage", |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            }),
            cursors,
        }
    }

    pub fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        for (name, value) in &self.totals {
            db.prepare_cached("INSERT INTO total(name, value) VALUES (?1, ?2)")?.execute(params![name, value])?;
        }
        for (device, metric, kind, body) in &self.alerts {
            db.prepare_cached("INSERT INTO alert(device, metric, kind, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![device, metric, kind, body])?;
        }
        for (chunk, seq, state) in &self.snapshot {
            db.prepare_cached("INSERT INTO snapshot(chunk, seq, state) VALUES (?1, ?2, ?3)")?
                .execute(params![chunk, seq, state])?;
        }
        for (received_ms, reason, topic, sample) in &self.rejected_samples {
            db.prepare_cached("INSERT INTO quarantine(received_ms, reason, topic, sample) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![received_ms, reason, topic, sample])?;
        }
        for (sink, stream, seq, reason, line) in &self.dead_letters {
            db.prepare_cached("INSERT INTO dead_letter(sink, stream, seq, reason, line) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![sink, stream, seq, reason, line])?;
        }
        for (folder, stream, seq, done) in &self.salvage {
            db.prepare_cached("INSERT INTO salvage(folder, stream, seq, done) VALUES (?1, ?2, ?3, ?4)")?
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
