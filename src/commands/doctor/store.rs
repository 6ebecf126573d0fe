//! The store: whether it is one of this program, and whether the newest of what it holds can be read. All of it is read by
//! `outrider buffer verify`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Case, Task};
use crate::counter::many;
use crate::errors::with_causes;
use crate::finding::Finding;
use crate::keys::units::approximate_size;
use crate::store::log::Block;
use crate::store::reader::Reader;
use crate::store::schema::{self, FileState, OpenError, store_path};
use crate::store::{retention, set_aside, streams};

/// So many records of each stream are read, the newest.
const RECORDS_READ: u64 = 10_000;
/// Reading stops after this: a slow disk is not what is looked for.
const READ_WITHIN: Duration = Duration::from_secs(5);

pub fn tasks(case: &Arc<Case>) -> Vec<Task> {
    let (shared, path) = (Arc::clone(case), store_path(&case.configuration.store.folder));
    let aside = path.clone();
    vec![Task::new("store", move || vec![look(&shared, &path)]), Task::new("store", move || of_set_aside(&aside))]
}

fn look(case: &Case, path: &Path) -> Finding {
    match path.metadata() {
        Ok(file) if file.len() == 0 => return Finding::well("it is empty; the tables are made at the first start"),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Finding::skipped("there is none yet; it is made at the first start");
        }
        Err(error) => return Finding::bad(format!("{}: {error}", path.display()), "look at the folder's rights"),
    }
    match read(case, path) {
        Ok(finding) => finding,
        Err(error) => Finding::bad(with_causes(&error), advice(&error)),
    }
}

fn advice(error: &OpenError) -> &'static str {
    match error {
        OpenError::NotAStore { .. } => "set store.path to another folder, or take that file away",
        OpenError::Newer { .. } => "install the newer version again: this one leaves the store alone",
        error if error.is_corrupt() => {
            "the gateway sets a damaged store aside at its next start, and takes over what can be read of it"
        }
        error if error.is_of_the_disk() => "the disk answers with errors, or is full: look at dmesg and df",
        _ => "run this as the gateway's user or as root",
    }
}

fn read(case: &Case, path: &Path) -> Result<Finding, OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let mut reader = Reader::open(path, None)?;
    match schema::examine(reader.connection(), path)? {
        FileState::New => return Ok(Finding::well("it is empty; the tables are made at the first start")),
        FileState::Earlier => {
            return Ok(Finding::well("an earlier version has made it; it is migrated at the next start"));
        }
        FileState::Present => {}
    }
    let used_bytes = retention::used_bytes(reader.connection()).map_err(failed)?;
    let (records, damaged) = newest(&mut reader).map_err(failed)?;
    let used = approximate_size(used_bytes);
    let cap = case.configuration.capacity().map(|capacity| capacity.bytes_max).unwrap_or(u64::MAX);
    if damaged > 0 {
        let found = format!("{} of the newest {} cannot be read", many(damaged, "piece"), many(records, "record"));
        return Ok(Finding::bad(
            found,
            "outrider buffer verify says where; the gateway counts what is lost. If it comes again, replace the medium",
        ));
    }
    let read = match records {
        0 => "nothing is held back in it".to_owned(),
        _ => format!("all of the newest {} can be read", many(records, "record")),
    };
    let found = format!("{used} used; {read} (SQLite {})", rusqlite::version());
    Ok(match used_bytes > cap {
        true => Finding::warning(
            format!("{found}; store.size_max allows {} only", approximate_size(cap)),
            "raise store.size_max, or the oldest readings are dropped at the next start",
        ),
        false => Finding::well(found),
    })
}

/// The newest records of each stream: how many were read, and how many batches of them are damaged. Each batch is read by itself, so that
/// nothing holds up the gateway.
fn newest(reader: &mut Reader) -> rusqlite::Result<(u64, u64)> {
    let until = Instant::now() + READ_WITHIN;
    let known = streams::load(reader.connection())?;
    let (mut records, mut damaged, mut block) = (0, 0, Block::default());
    for row in known.rows() {
        let (before, last) = reader.extent(row.stream)?;
        let mut after = before.max(last.saturating_sub(RECORDS_READ));
        while after < last && Instant::now() < until && reader.read(row.stream, after, &mut block)? {
            match block.batch() {
                Some(batch) => records += u64::from(batch.count),
                None => damaged += 1,
            }
            after = block.last_sequence();
        }
    }
    Ok((records, damaged))
}

fn of_set_aside(store: &Path) -> Vec<Finding> {
    let kept = set_aside::kept(store);
    if kept.is_empty() {
        return Vec::new();
    }
    let found = format!(
        "{} set aside in {}: the disk or a power cut has damaged it",
        match kept.len() {
            1 => "a damaged store is".to_owned(),
            count => format!("{count} damaged stores are"),
        },
        set_aside::folder_of(store).display()
    );
    vec![Finding::warning(found, "what could be read is taken over; look at dmesg and at the medium, then delete it")]
}
