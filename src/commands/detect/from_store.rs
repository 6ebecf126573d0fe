//! `outrider detect --from-store`: the two settings, the store, and one pass over what it holds.
//!
//! What is compared with is what `run` would take without any argument, because that is what runs: the system's file, or what is built
//! in. The store says besides what was really raised, by whatever configurations ran; that is counted too, and calibrates the rest.
//!
//! Each batch is read in a transaction of its own and shown to both settings before the next one is read: a gateway that runs on the
//! store is never in the way, nor in ours, and memory does not grow with the store.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::core::batch::{Stored, Tag};
use crate::core::detection::alert::{self, State};
use crate::core::detection::detectors::profile::{Profile, Profiles};
use crate::core::identity::Stream;
use crate::keys::problem::Problems;
use crate::store::log::{Block, Entry, Record};
use crate::store::reader::Reader;
use crate::store::schema::{self, FileState, OpenError, store_path};

use super::comparison::{Comparison, SIDES};
use super::progress::Progress;
use super::replay::{Replay, Setting};
use crate::commands::configuration::ConfigArguments;

/// What the command line says.
#[derive(Debug)]
pub struct Question {
    /// As changed. Without it the profile alone is the change.
    pub changed: Option<PathBuf>,
    pub profile: Option<Profile>,
    pub present: Option<PathBuf>,
    pub state: Option<String>,
}

/// A setting, and what it is called.
#[derive(Debug)]
pub struct Named {
    pub name: String,
    pub setting: Setting,
}

#[derive(Debug)]
pub struct Plan {
    pub store: PathBuf,
    pub present: Named,
    pub changed: Named,
}

impl Question {
    pub fn load(self) -> Result<Plan, Problems> {
        let present = ConfigArguments::of(self.present.clone(), self.state.clone()).load()?;
        let changed = match self.changed {
            Some(file) => ConfigArguments::of(Some(file), self.state).load()?,
            None => present.clone(),
        };
        let name = |file: &Option<PathBuf>| match file {
            Some(file) => file.display().to_string(),
            None => "what is built in".to_owned(),
        };
        let store = store_path(&changed.store.folder);
        let present =
            Named { name: name(&present.file), setting: Setting { monitor: present.monitor, alerts: present.alerts } };
        let mut changed =
            Named { name: name(&changed.file), setting: Setting { monitor: changed.monitor, alerts: changed.alerts } };
        if let Some(profile) = self.profile {
            changed.setting.monitor.profiles = Profiles::always(profile);
            changed.name = format!("{}, every series as {}", changed.name, profile.name);
        }
        Ok(Plan { store, present, changed })
    }
}

/// How long after the receipt of its reading an alert may be raised.
const RAISED_AFTER_MS: i64 = 1000;

/// What stopped it.
#[derive(Debug)]
pub enum StoreError {
    Missing {
        path: PathBuf,
    },
    Open(OpenError),
    Read {
        path: PathBuf,
        source: rusqlite::Error,
    },
    Empty {
        path: PathBuf,
    },
    /// It holds readings, and all of them are damaged.
    Unreadable {
        path: PathBuf,
        batches: u64,
    },
    Print(io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Missing { path } => write!(
                f,
                "there is no store {}: say which state folder the gateway has, by store.path in the configuration or by --state",
                path.display()
            ),
            StoreError::Open(error) => {
                error.fmt(f)?;
                match error {
                    OpenError::Sqlite { source, .. } => f.write_str(advice(source)),
                    _ => Ok(()),
                }
            }
            StoreError::Read { path, source } => {
                write!(f, "cannot read the store {}: {source}{}", path.display(), advice(source))
            }
            StoreError::Empty { path } => write!(
                f,
                "the store {} holds no readings: those that every sink has taken are no longer there",
                path.display()
            ),
            StoreError::Unreadable { path, batches } => {
                write!(
                    f,
                    "the store {} holds {batches} batches of readings, and all of them are damaged",
                    path.display()
                )
            }
            StoreError::Print(source) => write!(f, "cannot print: {source}"),
        }
    }
}

impl std::error::Error for StoreError {}

fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        _ if schema::is_corrupt(error) => {
            "; the gateway sets a damaged store aside when it starts, and takes over what can be read of it"
        }
        // Readers of a log have to write into its index.
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "; reading it takes the rights of the user who runs the gateway"
        }
        _ => "",
    }
}

/// What the pass has found.
#[derive(Debug)]
pub struct Found {
    pub comparison: Comparison,
    pub readings: u64,
    /// Times of receipt.
    pub first_ms: i64,
    pub last_ms: i64,
    /// How much of the devices' own time the readings cover, without what the gateway was away.
    pub covered_ms: u64,
    /// Batches that the store holds and that cannot be read.
    pub damaged_batches: u64,
    /// Readings out of a damaged store: they stand where they were found again, not where they belong.
    pub salvaged_readings: u64,
    /// Since when the store holds what was really raised; nothing if it holds none of it.
    pub raised_since_ms: Option<i64>,
    /// Readings that came so late that the gateway raised nothing for them.
    pub late_readings: u64,
    /// Readings of devices that were too many to look at.
    pub left_out_readings: u64,
    /// Series that are watched, by side.
    pub series: [usize; 2],
}

/// `terminal` is told how far it is.
pub fn compare(plan: &Plan, mut terminal: Option<&mut dyn Write>) -> Result<Found, StoreError> {
    let mut reader = open(&plan.store)?;
    let failed = |source| StoreError::Read { path: plan.store.clone(), source };
    let mut pass = Pass {
        replay: Replay::new(&plan.present.setting, &plan.changed.setting),
        block: Block::default(),
        first_ms: None,
        damaged_batches: 0,
        salvaged_readings: 0,
    };
    pass.readings(&mut reader, &mut terminal).map_err(failed)?;
    let (Some(first_ms), Some((_, last_ms))) = (pass.first_ms, pass.replay.last_heard()) else {
        let path = plan.store.clone();
        return Err(match pass.damaged_batches {
            0 => StoreError::Empty { path },
            batches => StoreError::Unreadable { path, batches },
        });
    };
    let raised_within = first_ms..=last_ms.saturating_add(RAISED_AFTER_MS);
    let raised_since_ms = pass.raised(&mut reader, raised_within).map_err(failed)?;
    pass.replay.finish();
    let replay = pass.replay;
    Ok(Found {
        readings: replay.readings(),
        first_ms,
        last_ms,
        covered_ms: replay.covered_ms(),
        damaged_batches: pass.damaged_batches,
        salvaged_readings: pass.salvaged_readings,
        raised_since_ms,
        late_readings: replay.late(),
        left_out_readings: replay.left_out(),
        series: SIDES.map(|side| replay.series(side)),
        comparison: replay.into_comparison(),
    })
}

/// Opens for reading a store that is there and is one of ours.
fn open(path: &Path) -> Result<Reader, StoreError> {
    // SQLite says only that it cannot open it.
    match path.metadata() {
        Ok(found) if found.len() == 0 => return Err(StoreError::Empty { path: path.to_owned() }),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        Err(source) => return Err(StoreError::Open(OpenError::Folder { path: path.to_owned(), source })),
    }
    let mut reader = Reader::open(path, None).map_err(StoreError::Open)?;
    match schema::examine(reader.connection(), path).map_err(StoreError::Open)? {
        FileState::New => Err(StoreError::Empty { path: path.to_owned() }),
        // Its batches are read as they are.
        FileState::Earlier | FileState::Present => Ok(reader),
    }
}

struct Pass {
    replay: Replay,
    block: Block,
    first_ms: Option<i64>,
    damaged_batches: u64,
    salvaged_readings: u64,
}

impl Pass {
    /// Up to what is there when it begins: a gateway that runs brings more and more.
    fn readings(&mut self, reader: &mut Reader, terminal: &mut Option<&mut dyn Write>) -> rusqlite::Result<()> {
        let (first, through) = reader.extent(Stream::RAW)?;
        let has_salvaged =
            reader.connection().query_row("SELECT EXISTS (SELECT 1 FROM salvage)", [], |row| row.get(0))?;
        let mut progress = Progress::new("readings", through.saturating_sub(first));
        let mut after = first;
        while after < through && reader.read(Stream::RAW, after, &mut self.block)? {
            let before = self.replay.readings();
            self.show(after, has_salvaged);
            if let Some(terminal) = terminal {
                let done = self.block.last_sequence() - after;
                // What cannot be told stops nothing.
                let _ = progress.note(done, self.replay.readings() - before, terminal);
            }
            after = self.block.last_sequence();
        }
        if let Some(terminal) = terminal {
            let _ = progress.end(terminal);
        }
        Ok(())
    }

    /// Shows the batch at hand to both settings.
    fn show(&mut self, after: u64, has_salvaged: bool) {
        if let Some(batch) = self.block.batch() {
            let heard = self.replay.last_heard();
            if heard.is_some_and(|(run, now_ms)| has_salvaged && batch.run.run != run && batch.first_ms < now_ms) {
                self.salvaged_readings += u64::from(batch.count);
                return;
            }
            self.first_ms.get_or_insert(batch.first_ms);
        }
        for entry in self.block.entries(after) {
            match entry {
                Entry::Record(Record { run, stored: Stored::Reading(reading), .. }) => self.replay.take(run, &reading),
                Entry::Damaged { .. } => self.damaged_batches += 1,
                Entry::Record(_) | Entry::Gap { .. } => {}
            }
        }
    }

    /// Counts what was really raised within this time. Returns since when the store knows.
    fn raised(&mut self, reader: &mut Reader, within: std::ops::RangeInclusive<i64>) -> rusqlite::Result<Option<i64>> {
        let (mut after, through) = reader.extent(Stream::ANOMALIES)?;
        // As long as nothing of it was deleted it knows everything.
        let mut since_ms = (after == 0).then_some(*within.start());
        while after < through && reader.read(Stream::ANOMALIES, after, &mut self.block)? {
            if let Some(batch) = self.block.batch() {
                since_ms.get_or_insert(batch.first_ms);
            }
            for entry in self.block.entries(after) {
                self.damaged_batches += u64::from(matches!(entry, Entry::Damaged { .. }));
                let Entry::Record(Record { stored: Stored::Line { tag, line, .. }, .. }) = entry else { continue };
                if tag != Tag::Alert as u8 {
                    continue;
                }
                // Of each alert the first record: what follows it are revisions. The gateway's own are no matter of readings.
                if let Some((key, alert)) = alert::read_alert(line)
                    && (alert.state, alert.revision) == (State::Raised, 1)
                    && key.kind != alert::GATEWAY_KIND
                    && within.contains(&alert.raised_at_ms)
                {
                    self.replay.comparison().raised(&key);
                }
            }
            after = self.block.last_sequence();
        }
        Ok(since_ms.filter(|since_ms| since_ms <= within.end()))
    }
}

#[cfg(test)]
mod tests;
