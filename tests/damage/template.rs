//! The store that is damaged: two thousand readings, of which one sink has a half and another one a little more. One of the devices is set
//! aside.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use outrider::core::cursor::CursorState;
use outrider::core::detection::alert::Moment;
use outrider::core::identity::{Keep, NamedStream, PerStream, RunId, Stream, StreamRow, Streams};
use outrider::core::pipeline::{Pipeline, PipelineSettings};
use outrider::core::ranges::Ranges;
use outrider::core::reading::{Attributes, Reading, Readings, pack_attribute};
use outrider::core::record::{RulePayload, RuleRecord};
use outrider::store::commit::CommitInput;
use outrider::store::cursors::{CursorChange, DeadLetter};
use outrider::store::held_keys::HeldKeyChange;
use outrider::store::pages_of_batches;
use outrider::store::retention::Capacity;
use outrider::store::schema::{Synchronous, store_path};
use outrider::store::writer::{Writer, WriterSettings};

use crate::Random;
use crate::drain::{Identity, read_all};

pub const SINKS: [&str; 2] = ["half", "ahead"];
/// The device whose records the first sink has set aside.
pub const SICK: &str = "truck-3";
const COMMITS: u64 = 60;
const READINGS_A_COMMIT: u64 = 34;
pub const PAGE: usize = 4096;

/// How the process ended before the damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Stopped,
    Killed,
}

/// The files of a state folder, and what is known of what is in them.
pub struct Image {
    files: Vec<(String, Vec<u8>)>,
    /// Everything that was accepted, by stream and identity, and its line.
    pub accepted: HashMap<(Stream, Identity), Vec<u8>>,
    /// What each sink has.
    pub delivered: HashMap<&'static str, HashSet<(Stream, Identity)>>,
    /// Records that were committed since the last checkpoint.
    pub since_checkpoint: u64,
    /// Pages of the file, and how many records of each are on them.
    records_by_page: HashMap<usize, Vec<(Stream, u64, u64)>>,
}

pub struct Template {
    stopped: Image,
    killed: Image,
    /// The file as it was earlier.
    pub past: Vec<Vec<u8>>,
    /// The log of another store.
    pub foreign_log: Vec<u8>,
}

/// Streams that the configuration names. The process that finds the damage has them the other way round.
const STREAMS: [(&str, Keep); 2] = [("trips", Keep::Bulk), ("doors", Keep::Reserve)];

/// Those that rules write to.
pub fn named_streams() -> Vec<NamedStream> {
    STREAMS.map(|(name, keep)| NamedStream { name: name.to_owned(), keep }).to_vec()
}

/// All streams, under the numbers that they keep.
pub fn streams() -> Streams {
    Streams::default().with(&named_streams()).unwrap()
}

/// As rules do: a record in each of their streams.
pub fn push_records(pipeline: &mut Pipeline, device: &str, number: u64, received_at_ms: i64) {
    let payload = number.to_string();
    for StreamRow { stream, name, .. } in &streams().rows()[2..] {
        let record = RuleRecord {
            stream: name,
            rule: "every-one",
            device: Some(device),
            topic: Some("a/b"),
            received_at_ms,
            payload: RulePayload::Json(payload.as_bytes()),
        };
        pipeline.push_record(*stream, &record).unwrap();
    }
}

pub fn settings(folder: &Path) -> WriterSettings {
    WriterSettings {
        path: store_path(folder),
        gateway: "g".to_owned(),
        synchronous: Synchronous::Off,
        vfs: None,
        capacity: Capacity { history_ms: 3_600_000, ..Capacity::new(64 << 20) },
        streams: named_streams(),
    }
}

pub fn pipeline_settings(run: u8) -> PipelineSettings {
    PipelineSettings {
        gateway: "g".to_owned(),
        run: RunId([run; 8]),
        monitor: Default::default(),
        alerts: Default::default(),
        rules: Default::default(),
    }
}

impl Template {
    pub fn make() -> Template {
        let folder = tempfile::tempdir().unwrap();
        let mut made = Maker::new(folder.path(), 1);
        let mut past = Vec::new();
        for commit in 0..COMMITS {
            made.commit();
            if commit == COMMITS / 2 {
                made.deliver();
            }
            if commit % 12 == 11 {
                made.checkpoint();
                past.push(std::fs::read(store_path(folder.path())).unwrap());
            }
        }
        let before = made.accepted();
        (0..8).for_each(|_| made.commit());
        let killed = made.image(made.accepted() - before);
        made.stop();
        let stopped = made.image(0);
        let other = tempfile::tempdir().unwrap();
        let mut foreign = Maker::new(other.path(), 9);
        (0..20).for_each(|_| foreign.commit());
        let foreign_log = std::fs::read(log_path(other.path())).unwrap();
        Template { stopped, killed, past, foreign_log }
    }

    pub fn image(&self, state: State) -> &Image {
        match state {
            State::Stopped => &self.stopped,
            State::Killed => &self.killed,
        }
    }

    /// Records of batches that have a part on any of these pages of the file.
    pub fn records_in(&self, state: State, pages: &[usize]) -> u64 {
        let by_page = &self.image(state).records_by_page;
        let batches: HashSet<&(Stream, u64, u64)> =
            pages.iter().filter_map(|page| by_page.get(page)).flatten().collect();
        batches.iter().map(|(_, _, count)| count).sum()
    }
}

/// Whether a line is of a device.
pub fn is_of(device: &str, line: &[u8]) -> bool {
    let value: serde_json::Value = serde_json::from_slice(line).unwrap();
    value["device"] == device
}

impl Image {
    /// How much of the file is pages, or of the log frames: behind them is room that the store has claimed.
    pub fn used_bytes(&self, is_log: bool) -> usize {
        let name = if is_log { "outrider.sqlite-wal" } else { "outrider.sqlite" };
        let bytes = &self.files.iter().find(|(known, _)| known == name).unwrap().1;
        if is_log { frames_bytes(bytes) } else { PAGE * number_at(bytes, 28) }
    }

    pub fn write(&self, folder: &Path) {
        for (name, bytes) in &self.files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

fn number_at(bytes: &[u8], offset: usize) -> usize {
    u32::from_be_bytes(bytes[offset..offset + 4].try_into().unwrap()) as usize
}

/// The header of a log, and the frames that carry its salt.
fn frames_bytes(log: &[u8]) -> usize {
    const HEADER: usize = 32;
    let salt = &log[16..24];
    let frames = log[HEADER..].chunks_exact(24 + PAGE);
    HEADER + (24 + PAGE) * frames.take_while(|frame| &frame[8..16] == salt).count()
}

pub fn log_path(folder: &Path) -> std::path::PathBuf {
    folder.join("outrider.sqlite-wal")
}

struct Maker<'a> {
    folder: &'a Path,
    writer: Writer,
    pipeline: Pipeline,
    random: Random,
    commits: u64,
    delivered: HashMap<&'static str, HashSet<(Stream, Identity)>>,
}

impl<'a> Maker<'a> {
    fn new(folder: &'a Path, run: u8) -> Maker<'a> {
        let mut writer = Writer::open(&settings(folder), RunId([run; 8])).unwrap();
        for sink in SINKS {
            for stream in streams().all() {
                writer.register_sink(sink, stream).unwrap();
            }
        }
        let pipeline = Pipeline::new(pipeline_settings(run), &PerStream::new(writer.streams(), |_| 0));
        Maker { folder, writer, pipeline, random: Random::new(run.into()), commits: 0, delivered: HashMap::new() }
    }

    fn now(&self) -> Moment {
        Moment { wall_ms: 1_000_000 * 1_000 + self.commits as i64 * 1000, steady_ms: self.commits * 1000 }
    }

    fn commit(&mut self) {
        self.commits += 1;
        let now = self.now();
        let mut readings = Readings::default();
        for number in 0..READINGS_A_COMMIT {
            let device = format!("truck-{}", number % 5);
            let metric = if number % 7 == 0 { "cabin_temperature" } else { "speed_over_ground" };
            // One device is in trouble now and then: there are anomalies, and an alert that stays open.
            let value = match number == 5 && self.commits % 9 == 4 {
                true => f64::NAN,
                false => 20.0 + self.random.below(1 << 40) as f64 / f64::from(1 << 20),
            };
            let mut reading = Reading::at(now.wall_ms, &device, metric, value);
            reading.sequence = Some(self.commits * 1000 + number);
            // Every third batch is long, and goes on on pages of its own.
            let noise: String = (0..12).map(|_| format!("{:016x}", self.random.below(u64::MAX))).collect();
            let mut packed = Vec::new();
            if self.commits.is_multiple_of(3) {
                pack_attribute(&mut packed, "noise", &noise);
                reading.attributes = Attributes::from_packed(&packed).unwrap();
            }
            readings.push(&reading);
            if number % 4 == 0 {
                push_records(&mut self.pipeline, &device, number, now.wall_ms);
            }
        }
        self.pipeline.take(&readings, now);
        self.pipeline.tick(now);
        self.write(Vec::new());
    }

    fn write(&mut self, cursors: Vec<CursorChange>) {
        let sealed = self.pipeline.seal();
        self.writer.commit(&CommitInput { sealed, cursors, ..CommitInput::default() }).unwrap();
    }

    /// One sink has a half, and some beyond, of one device only a quarter; the other one a little more. Both have dead letters.
    fn deliver(&mut self) {
        for (sink, share) in SINKS.into_iter().zip([(1, 2), (3, 4)]) {
            for stream in streams().all() {
                let last = self.writer.last_sequence(stream).unwrap();
                let cursor = last * share.0 / share.1;
                let acknowledged = if last > cursor + 6 { vec![(cursor + 3, cursor + 5)] } else { Vec::new() };
                let state = CursorState { cursor, acknowledged };
                let letter = |sequence| DeadLetter { sequence, reason: "refused".into(), line: b"{}\n".to_vec() };
                let dead_letters = if cursor > 2 { vec![letter(cursor)] } else { Vec::new() };
                let is_set_aside = sink == SINKS[0] && stream == Stream::RAW;
                let mut passed = Vec::new();
                for (sequence, identity, line) in read_all(self.folder, stream) {
                    let is_passed = is_set_aside && sequence > cursor / 2 && sequence != cursor && is_of(SICK, &line);
                    // A dead letter is accounted for as well.
                    match state.done_within(sequence, sequence) {
                        1 if is_passed => passed.push((sequence, sequence)),
                        1 => drop(self.delivered.entry(sink).or_default().insert((stream, identity))),
                        _ => {}
                    }
                }
                let at = Some(CursorState::at(cursor / 2));
                let key = || HeldKeyChange {
                    key: SICK.to_owned(),
                    state: at,
                    passed,
                    taken: vec![],
                    dead: vec![],
                    expired: vec![],
                };
                let held_keys = if is_set_aside { vec![key()] } else { Vec::new() };
                let change = CursorChange {
                    sink: sink.to_owned(),
                    stream,
                    state,
                    dead_letters,
                    unreadable: Ranges::default(),
                    lost: Ranges::default(),
                    passed_over: 0,
                    expired: Vec::new(),
                    held_keys,
                    link: None,
                    save: None,
                };
                self.write(vec![change]);
            }
        }
    }

    fn accepted(&self) -> u64 {
        streams().all().map(|stream| self.writer.last_sequence(stream).unwrap()).sum()
    }

    /// As it is done at least once a minute.
    fn checkpoint(&mut self) {
        let later = std::time::Instant::now() + std::time::Duration::from_secs(61);
        self.writer.maintain(later).unwrap();
    }

    fn stop(&mut self) {
        self.pipeline.request_final_snapshot();
        self.write(Vec::new());
        self.writer.checkpoint().unwrap();
    }

    fn image(&self, since_checkpoint: u64) -> Image {
        let names = ["outrider.sqlite", "outrider.sqlite-wal", "outrider.sqlite-witness", "outrider.sqlite-first-page"];
        let read = |name: &str| Some((name.to_owned(), std::fs::read(self.folder.join(name)).ok()?));
        let mut accepted = HashMap::new();
        for stream in streams().all() {
            for (_, identity, line) in read_all(self.folder, stream) {
                accepted.insert((stream, identity), line);
            }
        }
        // What was delivered and deleted is not held any more, and was accepted all the same.
        Image {
            files: names.into_iter().filter_map(read).collect(),
            accepted,
            delivered: self.delivered.clone(),
            since_checkpoint,
            records_by_page: pages_of_batches(&store_path(self.folder)).unwrap(),
        }
    }
}
