//! Reads the archive's files back, as anybody could, and compares them with what the devices know.
//!
//! Nothing here asks the gateway: the devices count what was acknowledged to them, and the files are decompressed and parsed line by line.
//! Only ranges of sequence numbers are remembered, so an archive of any size needs little memory.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use firmware_sim::ledger::DeviceAcknowledged;
use firmware_sim::sequences::SequenceSet;
use firmware_sim::vehicle::Metric;
use serde::Deserialize;

use crate::core::identity::{PerStream, Stream};
use crate::sinks::files::format::{FileFormat, Packing};

/// The demo's archive has the built-in format.
const SUFFIX: &str = FileFormat::Ndjson(Packing::Zstd).suffix();

/// What the devices and the subscriber know.
#[derive(Debug)]
pub struct Known {
    pub acknowledged: Vec<DeviceAcknowledged>,
    /// For each device, the sequence number of the last sample that it made, acknowledged or not; the first is 1.
    pub last_sequences: Vec<u64>,
    /// Identifier and revision of each alert that was received.
    pub alerts: Vec<(String, u32)>,
    /// Lost connections: what was in flight on them was sent twice.
    pub connections_lost: u64,
}

/// What the files contain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub acknowledged: u64,
    /// Distinct readings of our devices.
    pub readings: u64,
    /// Acknowledged readings that are not in the files.
    pub missing: u64,
    /// Readings that are in the files more than once.
    pub duplicates: u64,
    /// Readings in the files that no device has made.
    pub never_made: u64,
    /// Readings of devices that are not ours.
    pub others: u64,
    /// Records of either stream that share their run and position with another record.
    pub identities_repeated: u64,
    pub anomalies: u64,
    /// Anomalies whose reading is not in the raw stream.
    pub anomalies_alone: u64,
    /// Received alerts that are not in the files.
    pub alerts_missing: u64,
    pub damaged: Vec<Damaged>,
}

/// A file that cannot be read, or a line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub file: PathBuf,
    pub reason: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

/// Most damaged files that are named.
const DAMAGED_NAMED_MAX: usize = 8;
/// A record is far smaller; a longer line is damage, and must not exhaust the memory.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The fields of any record that matter here.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    run: Cow<'a, str>,
    position: u64,
    #[serde(borrow, default)]
    device: Cow<'a, str>,
    #[serde(borrow, default)]
    metric: Cow<'a, str>,
    seq: Option<u64>,
    #[serde(borrow, default)]
    raw_run: Option<Cow<'a, str>>,
    raw_position: Option<u64>,
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(default)]
    revision: u32,
}

/// Positions, by run.
#[derive(Debug, Default)]
struct Positions(HashMap<String, SequenceSet>);

impl Positions {
    /// Returns false if it was there already.
    fn insert(&mut self, run: &str, position: u64) -> bool {
        match self.0.get_mut(run) {
            Some(positions) => positions.insert(position),
            None => self.0.entry(run.to_owned()).or_default().insert(position),
        }
    }

    fn contains(&self, run: &str, position: u64) -> bool {
        self.0.get(run).is_some_and(|positions| positions.contains(position))
    }
}

struct Check<'a> {
    places: HashMap<&'a str, usize>,
    known: &'a Known,
    /// Sequences found, by device and metric.
    found: Vec<[SequenceSet; Metric::ALL.len()]>,
    positions: PerStream<Positions>,
    alerts: HashSet<(String, u32)>,
    result: Found,
}

/// Reads every finished file of both streams below `root`.
pub fn check(root: &Path, known: &Known) -> io::Result<Found> {
    let places = known.acknowledged.iter().enumerate().map(|(place, known)| (known.device.as_str(), place));
    let mut check = Check {
        places: places.collect(),
        known,
        found: known.acknowledged.iter().map(|_| Default::default()).collect(),
        positions: PerStream::default(),
        alerts: HashSet::new(),
        result: Found::default(),
    };
    // The raw stream first, because anomalies refer to it.
    for (stream, name) in Stream::BUILT_IN {
        let mut files = Vec::new();
        collect(&root.join(name), &mut files)?;
        files.sort();
        for file in files {
            check.read_file(&file, stream);
        }
    }
    Ok(check.finish())
}

/// Finished files at any depth; none if the folder does not exist.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            files.push(entry.path());
        }
    }
    Ok(())
}

impl Check<'_> {
    /// If a file breaks off, what comes before the break counts.
    fn read_file(&mut self, file: &Path, stream: Stream) {
        if let Err(reason) = self.read_lines(file, stream)
            && self.result.damaged.len() < DAMAGED_NAMED_MAX
        {
            self.result.damaged.push(Damaged { file: file.to_owned(), reason });
        }
    }

    fn read_lines(&mut self, file: &Path, stream: Stream) -> Result<(), String> {
        let broken = |error: io::Error| format!("cannot be read to its end: {error}");
        let decoder = zstd::Decoder::new(File::open(file).map_err(broken)?).map_err(broken)?;
        let mut input = BufReader::with_capacity(1 << 16, decoder);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(broken)?;
            if read == 0 {
                break;
            }
            if !line.ends_with(b"\n") {
                return Err(format!("line {number} has no end"));
            }
            let record = serde_json::from_slice(&line).map_err(|error| format!("line {number}: {error}"))?;
            self.take(&record, stream);
        }
        Ok(())
    }

    fn take(&mut self, record: &Record<'_>, stream: Stream) {
        if !self.positions.of_mut(stream).insert(&record.run, record.position) {
            self.result.identities_repeated += 1;
        }
        match record.kind.as_ref() {
            "reading" => self.take_reading(record),
            "anomaly" => {
                self.result.anomalies += 1;
                let reading = record.raw_run.as_deref().zip(record.raw_position);
                if reading.is_some_and(|(run, position)| !self.positions.of(Stream::RAW).contains(run, position)) {
                    self.result.anomalies_alone += 1;
                }
            }
            "alert" => {
                self.alerts.insert((record.id.as_ref().to_owned(), record.revision));
            }
            _ => {}
        }
    }

    fn take_reading(&mut self, record: &Record<'_>) {
        // Without a sequence number, somebody else published it under the name of one of our devices.
        let (Some(&place), Some(sequence)) = (self.places.get(record.device.as_ref()), record.seq) else {
            self.result.others += 1;
            return;
        };
        let made = (1..=self.known.last_sequences[place]).contains(&sequence);
        let metric = Metric::ALL.into_iter().find(|metric| metric.name() == record.metric);
        match metric.filter(|_| made) {
            None => self.result.never_made += 1,
            Some(metric) if self.found[place][metric.index()].insert(sequence) => self.result.readings += 1,
            Some(_) => self.result.duplicates += 1,
        }
    }

    fn finish(mut self) -> Found {
        for (acknowledged, found) in self.known.acknowledged.iter().zip(&self.found) {
            for metric in Metric::ALL {
                let sequences = acknowledged.sequences(metric);
                let is_missing = |sequence: &u64| !found[metric.index()].contains(*sequence);
                self.result.acknowledged += sequences.count();
                self.result.missing += sequences.iter().filter(is_missing).count() as u64;
            }
        }
        let is_missing = |alert: &&(String, u32)| !self.alerts.contains(*alert);
        self.result.alerts_missing = self.known.alerts.iter().filter(is_missing).count() as u64;
        self.result
    }
}

impl Found {
    /// The disagreements between the files and the devices; empty if there are none.
    pub fn disagreements(&self, known: &Known) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.acknowledged == 0 {
            reasons.push("nothing was acknowledged to any vehicle".to_owned());
        }
        let mut unless_none = |count: u64, what: &str| {
            if count > 0 {
                reasons.push(format!("{what}: {count}"));
            }
        };
        unless_none(self.missing, "acknowledged readings that are not in the archive files");
        unless_none(self.never_made, "readings in the archive files that no vehicle has made");
        unless_none(self.identities_repeated, "records in the archive files with the identity of another one");
        if known.connections_lost == 0 {
            unless_none(
                self.duplicates,
                "readings that are repeated in the archive files, though no vehicle sent any again",
            );
        }
        unless_none(self.anomalies_alone, "anomalies whose reading is not in the archive files");
        unless_none(self.alerts_missing, "alerts that came over MQTT and are not in the archive files");
        reasons.extend(self.damaged.iter().map(Damaged::to_string));
        reasons
    }
}

#[cfg(test)]
mod tests;
