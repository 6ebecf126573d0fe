//! Opens the store and restores the pipeline to where it was. What of it is damaged is set aside, and salvaged in the background.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::ballast::Ballast;
use super::held;
use super::pages::LogState;
use super::reader::Reader;
use super::recovery::{self, Recovered};
use super::scan::Scan;
use super::schema::{self, OpenError, SCHEMA_VERSION};
use super::set_aside;
use super::streams::KnownStreams;
use super::unreadable::{TRIAL, disk_works};
use super::witness::{Testimony, Witness};
use super::writer::{Writer, WriterSettings};
use crate::clock;
use crate::core::detection::alert::{Moment, Report, Trouble};
use crate::core::identity::{PerStream, StreamRow};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::disk;
use crate::errors::with_causes;

#[derive(Debug)]
pub struct Opened {
    pub writer: Writer,
    pub pipeline: Pipeline,
    pub recovered: Recovered,
    /// What may be lost without being counted.
    pub doubt: Option<Report>,
}

/// A file up to this size is checked whole before anything is done with it; for a larger one that would take too long.
const CHECKED_BYTES_MAX: u64 = 32 << 20;
/// A salt that is further ahead than this is that of another store's log.
const LOG_ROUNDS_MAX: u32 = 64;
/// The index of the WAL is mapped memory: on a disk that has no block for it the process would be killed, rather than get an error.
const FREE_BYTES_MIN: u64 = 256 * 1024;
/// How often, and after which pause, it is tried again to read what the disk answers with an error, before it is taken as lost.
const READS_AGAIN: u32 = 3;
const READ_PAUSE: Duration = Duration::from_secs(1);

/// Opens the store, or a new one in place of a damaged one.
///
/// # Errors
///
/// As [`Writer::open`], unless the store is damaged; or if the damaged one cannot be set aside. After one that
/// [`OpenError::is_of_the_disk`], the store may be opened later.
pub fn open(settings: &WriterSettings, pipeline: &PipelineSettings, now: Moment) -> Result<Opened, OpenError> {
    make_way(settings)?;
    let path = &settings.path;
    if let Err(error) = set_aside::rename_former_folder(path) {
        tracing::warn!(%error, "a damaged store that version 0.1 set aside cannot be salvaged");
    }
    let testimony = Witness::of(path).read();
    let log = match &testimony {
        Some(testimony) => LogFinding::of(settings, testimony),
        None => LogFinding::default(),
    };
    let try_once = || open_if_whole(settings, pipeline, testimony.as_ref(), &log, now);
    let mut opened = try_once();
    for _ in 0..READS_AGAIN {
        if !opened.as_ref().is_err_and(OpenError::is_unreadable) {
            break;
        }
        std::thread::sleep(READ_PAUSE);
        opened = try_once();
    }
    let mut opened = match opened {
        Err(error) if error.is_corrupt() || error.is_unreadable() && disk_works(path) => {
            tracing::error!(
                "{}: it is set aside, a new one is begun, and what can still be read is salvaged in the background",
                with_causes(&error)
            );
            recover(Writer::open_anew(settings, pipeline.run)?, pipeline, now)?
        }
        result => result?,
    };
    opened.writer.begin();
    if let Some(testimony) = testimony.filter(|_| log.is_doubtful) {
        let report = doubt(&opened.writer, &testimony);
        tracing::error!("{}", report.text);
        opened.doubt = Some(report);
    }
    Ok(opened)
}

/// Ensures the room that opening takes; the ballast is given back for it if need be.
fn make_way(settings: &WriterSettings) -> Result<(), OpenError> {
    let folder = settings.path.parent().unwrap_or(Path::new("."));
    if disk::space(folder).map_or(true, |space| space.free_bytes >= FREE_BYTES_MIN) {
        return Ok(());
    }
    let is_enough = || disk::takes(&folder.join(TRIAL), FREE_BYTES_MIN);
    if is_enough() {
        return Ok(());
    }
    if Ballast::new(folder, settings.capacity.ballast_bytes()).free() {
        tracing::warn!("the disk is full: the ballast is deleted to free space, so that the store can be opened");
    }
    if is_enough() { Ok(()) } else { Err(OpenError::NoSpace { path: settings.path.clone() }) }
}

fn open_if_whole(
    settings: &WriterSettings,
    pipeline: &PipelineSettings,
    testimony: Option<&Testimony>,
    log: &LogFinding,
    now: Moment,
) -> Result<Opened, OpenError> {
    let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
    let file_bytes = std::fs::metadata(&settings.path).map_or(0, |found| found.len());
    if testimony.is_some() && !schema::has_pages(&settings.path) {
        return Err(failed(schema::corrupt("the file is gone".to_owned())));
    }
    let mut writer = match Writer::open(settings, pipeline.run) {
        // It was ours. A store of a later version is left alone, if that can be one.
        Err(error) if testimony.is_some() && is_damage(&error) => {
            return Err(failed(schema::corrupt(error.to_string())));
        }
        result => result?,
    };
    for known in testimony.into_iter().flat_map(Testimony::named_streams) {
        let present = writer.streams().rows().get(usize::from(known.stream.id()) - 1);
        if present.is_none_or(|row| row.name != known.name) {
            return Err(failed(schema::corrupt(format!("its stream {} was {}", known.stream.id(), known.name))));
        }
    }
    for StreamRow { stream, name, .. } in writer.streams().rows() {
        let stream = *stream;
        let known = testimony.map_or(0, |testimony| testimony.last_sequence(name));
        let last = writer.last_sequence(stream).map_err(failed)?;
        let progress = held::assigned(writer.connection(), stream).map_err(failed)?;
        if progress.is_some_and(|progress| progress < last) {
            let text = format!("it holds record {last} of {name}, and does not know of it");
            return Err(failed(schema::corrupt(text)));
        }
        if last < known {
            let text = format!("it ends with record {last} of {name}, and record {known} was accepted");
            return Err(failed(schema::corrupt(text)));
        }
    }
    if file_bytes <= CHECKED_BYTES_MAX {
        check(writer.connection()).map_err(failed)?;
    }
    if let Some(KeptLog { folder, through }) = &log.kept {
        let last = |stream| {
            through.iter().find(|(name, _)| name == writer.streams().name(stream)).map_or(0, |(_, last)| *last)
        };
        let through = PerStream::new(writer.streams(), last);
        writer.expect_more(folder, &through).map_err(failed)?;
    }
    recover(writer, pipeline, now)
}

/// Whether the file cannot be what it says it is.
fn is_damage(error: &OpenError) -> bool {
    match error {
        OpenError::NotAStore { .. } => true,
        OpenError::Newer { found, .. } => *found > SCHEMA_VERSION + 100,
        _ => false,
    }
}

/// Whether the trees are whole, and what is listed is held.
///
/// # Errors
///
/// [`schema::is_corrupt`] if not; or if the store cannot be read.
pub fn check(db: &Connection) -> rusqlite::Result<()> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(schema::corrupt(found));
    }
    let unlike = "SELECT count(*) FROM held LEFT JOIN batch USING (id) WHERE batch.count IS NOT held.count";
    match db.query_row(unlike, [], |row| row.get::<_, i64>(0))? {
        0 => Ok(()),
        count => Err(schema::corrupt(format!("{count} batches are listed, and are not there"))),
    }
}

/// A copy of a log that has batches behind its damage.
struct KeptLog {
    /// Name of its folder.
    folder: String,
    /// Names of the streams, and up to where each has batches.
    through: Vec<(Arc<str>, u64)>,
}

/// What was found of the log before SQLite has seen it.
#[derive(Default)]
struct LogFinding {
    /// Something that was committed may be gone.
    is_doubtful: bool,
    kept: Option<KeptLog>,
}

impl LogFinding {
    fn of(settings: &WriterSettings, testimony: &Testimony) -> LogFinding {
        let look = || -> io::Result<LogFinding> {
            let path = &settings.path;
            let state = LogState::of(path)?;
            let is_foreign = match (testimony.is_clean, testimony.log_salt, state.salt) {
                // Nothing was committed after the end.
                (true, _, salt) => salt.is_some(),
                (false, Some(known), Some(salt)) => salt.wrapping_sub(known) > LOG_ROUNDS_MAX,
                _ => false,
            };
            if is_foreign {
                tracing::error!("the store's log is of another store: it is moved away");
                set_aside::move_foreign_log(path)?;
                return Ok(LogFinding { is_doubtful: !testimony.is_clean, kept: None });
            }
            let is_gone = testimony.log_salt.is_some() && state.salt.is_none();
            // SQLite itself shortens a log that was longer than its limit.
            let bytes_min = testimony.log_bytes.min(settings.capacity.log_bytes_max());
            let is_short = !testimony.is_clean && (state.is_cut || state.bytes < bytes_min);
            let mut finding = LogFinding { is_doubtful: is_gone || is_short, kept: None };
            if state.commits_behind_damage > 0 {
                finding.is_doubtful = true;
                finding.kept = keep_log(settings, testimony)?;
            }
            Ok(finding)
        };
        look().unwrap_or_else(|error| {
            tracing::warn!(%error, "the store's log cannot be examined");
            LogFinding::default()
        })
    }
}

/// Copies the log, if it has batches that SQLite will not see.
fn keep_log(settings: &WriterSettings, testimony: &Testimony) -> io::Result<Option<KeptLog>> {
    let scan = Scan::open(&settings.path, &testimony.runs())?;
    let mut known = KnownStreams::default();
    testimony.named_streams().for_each(|row| known.note(row));
    let (streams, mut scan) = scan.name_streams(known)?;
    let mut through = Vec::new();
    for StreamRow { stream, name, .. } in streams.rows() {
        through.push((Arc::clone(name), scan.last_sequence(*stream, testimony.last_sequence(name))?));
    }
    Ok(Some(KeptLog { folder: set_aside::copy_log(&settings.path)?, through }))
}

/// Says what may be lost, and since when.
fn doubt(writer: &Writer, testimony: &Testimony) -> Report {
    let rows = writer.streams().rows();
    let last = rows.iter().map(|row| writer.last_sequence(row.stream).unwrap_or(0)).sum::<u64>();
    let known = rows.iter().map(|row| testimony.last_sequence(&row.name)).sum::<u64>();
    let at_most = testimony.records_until_next.saturating_sub(last.saturating_sub(known));
    let since = clock::rfc3339(testimony.written_ms);
    let text = format!(
        "the store's log was damaged or lost: up to {at_most} records that were accepted since {since} may be lost, and are not counted"
    );
    Report::new(Trouble::Damage, text)
}

fn recover(writer: Writer, settings: &PipelineSettings, now: Moment) -> Result<Opened, OpenError> {
    let WriterSettings { path, vfs, .. } = writer.settings();
    let failed = |source| OpenError::Sqlite { path: path.clone(), source };
    let mut pipeline = Pipeline::new(settings.clone(), &writer.last_sequences().map_err(failed)?);
    pipeline.name_streams(writer.streams().clone());
    let mut reader = Reader::open(path, vfs.as_deref())?;
    let recovered = recovery::recover(&mut reader, &mut pipeline, now).map_err(failed)?;
    Ok(Opened { writer, pipeline, recovered, doubt: None })
}

#[cfg(test)]
mod tests;
