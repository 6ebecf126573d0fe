//! `outrider detect --from-store`: two settings, the store, and one pass over what it holds.
//!
//! The present settings are those that `run` would use without arguments, because that is what normally runs: the system's file, or
//! built-in defaults. The store also says which alerts were really raised, by whatever configurations ran; they are counted too, as a
//! reference for the other figures.
//!
//! Each batch is read in a transaction of its own and given to both settings before the next one is read: this neither blocks a running
//! gateway nor is blocked by it, and memory does not grow with the store.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::core::batch::{Stored, Tag};
use crate::core::detection::alert::{self, State};
use crate::core::detection::detectors::profile::{Profile, Profiles};
use crate::core::identity::Stream;
use crate::errors::with_causes;
use crate::keys::problem::Problems;
use crate::store::log::{Block, Entry, Record};
use crate::store::reader::Reader;
use crate::store::schema::{self, FileState, OpenError, store_path};

use super::comparison::{Comparison, SIDES};
use super::progress::Progress;
use super::replay::{Replay, Setting};
use crate::commands::configuration::ConfigArguments;
use crate::config::Configuration;

/// The arguments of the command line.
#[derive(Debug)]
pub struct Question {
    /// The changed configuration. If there is none, `profile` is the only change.
    pub changed: Option<PathBuf>,
    pub profile: Option<Profile>,
    pub present: Option<PathBuf>,
    pub state: Option<String>,
}

/// A setting and its name in the output.
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
        let named = |configuration: Configuration| {
            let Configuration { file, monitor, alerts, rules, .. } = configuration;
            Named { name: name(&file), setting: Setting { monitor, alerts, models: rules.models } }
        };
        let (present, mut changed) = (named(present), named(changed));
        if let Some(profile) = self.profile {
            let false_alarms = changed.setting.monitor.profiles.false_alarms_per_week();
            changed.setting.monitor.profiles = Profiles::always(profile).with_false_alarms_per_week(false_alarms);
            changed.name = format!("{}, every series as {}", changed.name, profile.name);
        }
        Ok(Plan { store, present, changed })
    }
}

/// An alert may be raised up to this long after its reading was received.
const RAISED_AFTER_MS: i64 = 1000;

/// Why the replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "there is no store {}: say which state folder the gateway has, by store.path in the configuration or by --state",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error(transparent)]
    Open(OpenError),
    #[error("cannot read the store {}", path.display())]
    Read { path: PathBuf, source: rusqlite::Error },
    #[error("the store {} holds no readings: those that every sink has taken are no longer there", path.display())]
    Empty { path: PathBuf },
    /// It holds readings, but all of them are damaged.
    #[error("the store {} holds {batches} batches of readings, and all of them are damaged", path.display())]
    Unreadable { path: PathBuf, batches: u64 },
    #[error("cannot print")]
    Print(#[source] io::Error),
}

impl StoreError {
    /// The error with its causes, and with a hint how to fix it.
    pub fn explained(&self) -> String {
        let advice = match self {
            StoreError::Open(OpenError::Sqlite { source, .. }) | StoreError::Read { source, .. } => advice(source),
            _ => "",
        };
        with_causes(self) + advice
    }
}

fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        _ if schema::is_corrupt(error) => {
            "; the gateway sets a damaged store aside when it starts, and takes over what can be read of it"
        }
        // Readers of a write-ahead log have to write to its index.
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "; reading it takes the rights of the user who runs the gateway"
        }
        _ => "",
    }
}

/// The results of the pass.
#[derive(Debug)]
pub struct Found {
    pub comparison: Comparison,
    pub readings: u64,
    /// Receive times of the first and last reading.
    pub first_ms: i64,
    pub last_ms: i64,
    /// How much of the devices' own time the readings cover, without the time when the gateway was off.
    pub covered_ms: u64,
    /// Batches in the store that cannot be read.
    pub damaged_batches: u64,
    /// Readings salvaged from a damaged store: they are in the order of salvage, not of their times.
    pub salvaged_readings: u64,
    /// Since when the store holds the alerts that were really raised; `None` if it holds none of them.
    pub raised_since_ms: Option<i64>,
    /// Readings that arrived so late that the gateway raised no alert for them.
    pub late_readings: u64,
    /// Readings of devices beyond the number that can be watched.
    pub left_out_readings: u64,
    /// Number of watched series, by side.
    pub series: [usize; 2],
}

/// Prints its progress to `terminal`.
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

/// Opens for reading a store that must exist and be one of ours.
pub fn open(path: &Path) -> Result<Reader, StoreError> {
    // SQLite would only say that it cannot open it.
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
        // Batches of an earlier version are read as they are.
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
    /// Reads up to the batch that is the last one at the beginning: a running gateway keeps adding more.
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
                // If the progress cannot be printed, go on.
                let _ = progress.note(done, self.replay.readings() - before, terminal);
            }
            after = self.block.last_sequence();
        }
        if let Some(terminal) = terminal {
            let _ = progress.end(terminal);
        }
        Ok(())
    }

    /// Gives the current batch to both settings.
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

    /// Counts the alerts that were really raised within this time. Returns since when the store knows.
    fn raised(&mut self, reader: &mut Reader, within: std::ops::RangeInclusive<i64>) -> rusqlite::Result<Option<i64>> {
        let (mut after, through) = reader.extent(Stream::ANOMALIES)?;
        // If nothing was deleted, it knows everything.
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
                // Only the first record of each alert counts; the others are revisions. The gateway's own alerts do not depend on readings.
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
