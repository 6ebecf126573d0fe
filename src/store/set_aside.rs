//! A damaged store is set aside unchanged, so that a new one can begin at once, and opened again to read what can be read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::{self, PAGE_BYTES, Synchronous, has_pages, log_of, store_path, with_suffix};
use super::version_1;
use crate::{clock, disk};

mod head;

pub use head::Head;

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
