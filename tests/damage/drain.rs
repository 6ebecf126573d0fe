//! Opens a store, takes some more readings, and delivers everything to two model sinks, as the gateway's threads do, but on one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outrider::admin::ledger;
use outrider::core::cursor::CursorState;
use outrider::core::detection::alert::Moment;
use outrider::core::identity::{RunId, Stream};
use outrider::core::pipeline::Pipeline;
use outrider::core::ranges::Ranges;
use outrider::core::reading::{Reading, Readings};
use outrider::store::commit::CommitInput;
use outrider::store::cursors::CursorChange;
use outrider::store::held_keys::HeldKeyChange;
use outrider::store::log::{Block, Entry, Next};
use outrider::store::opening::{self, Opened};
use outrider::store::reader::Reader;
use outrider::store::salvage::{Destination, Salvage, Salvaged, Unfinished};
use outrider::store::schema::{self, store_path};
use outrider::store::writer::Writer;

use crate::Sabotage;
use crate::kinds::Kind;
use crate::template::{Image, SICK, SINKS, is_of, pipeline_settings, push_records, settings, streams};

/// Run and position.
pub type Identity = (RunId, u64);

/// So long an experiment may take at the most.
const DEADLINE: Duration = Duration::from_secs(30);
/// Run of the process that finds the damage.
const RUN: u8 = 2;

/// Everything that a whole store holds of a stream: sequence, identity and line.
pub fn read_all(folder: &Path, stream: Stream) -> Vec<(u64, Identity, Vec<u8>)> {
    let mut reader = Reader::open(&store_path(folder), None).unwrap();
    let (mut block, mut after, mut all) = (Block::default(), 0, Vec::new());
    while reader.read(stream, after, &mut block).unwrap() {
        for entry in block.entries(after) {
            if let Entry::Record(record) = entry {
                let mut line = Vec::new();
                record.write(&mut line);
                all.push((record.sequence, (record.run, record.position), line));
            }
        }
        after = block.last_sequence();
    }
    all
}

#[derive(Debug, Default)]
pub struct Outcome {
    /// Of the sink that lacks most: accepted, and not delivered.
    pub missing: u64,
    /// Counted as quarantined for that sink.
    pub counted: u64,
    /// For each sink: what is missing, less what is counted.
    differences: Vec<(&'static str, i64)>,
    pub renewed: bool,
    pub doubt: Option<String>,
    pub records_in_damage: u64,
}

impl Outcome {
    pub fn check(&self, kind: Kind, image: &Image) -> Result<(), String> {
        for (sink, difference) in &self.differences {
            let is_right = match kind {
                // It may be counted twice, but not too little.
                Kind::StalePage => *difference <= image.since_checkpoint as i64,
                kind if kind.is_of_log() => *difference <= image.since_checkpoint as i64,
                _ => *difference == 0,
            };
            if !is_right {
                return Err(format!("{kind:?}: {sink} lacks {difference} that are not counted; {self:?}"));
            }
            if kind.is_of_log() && *difference > 0 && self.doubt.is_none() && kind != Kind::CutLog {
                return Err(format!("{kind:?}: {sink} lacks {difference}, and nobody says so; {self:?}"));
            }
        }
        Ok(())
    }
}

/// What a model sink got in this experiment.
struct SinkModel {
    name: &'static str,
    delivered: HashSet<(Stream, Identity)>,
}

/// A key that a sink has set aside. It is well now: what the cursor has passed over is read once, and then it follows the cursor.
struct Aside {
    place: usize,
    stream: Stream,
    reader: Reader,
    /// Which of its lines are done with, and up to where it is read.
    done: CursorState,
    after: u64,
    /// Where the cursor stood at the start.
    passed: CursorState,
}

struct Bench<'a> {
    folder: &'a Path,
    image: &'a Image,
    writer: Writer,
    pipeline: Pipeline,
    sinks: Vec<SinkModel>,
    /// Lines of this process, by identity.
    own: HashMap<(Stream, Identity), Vec<u8>>,
    salvaged: (Sender<Vec<Salvaged>>, Receiver<Vec<Salvaged>>),
    is_salvaging: Arc<Mutex<u32>>,
    renewed: bool,
    until: Instant,
    sabotage: Option<Sabotage>,
}

struct IntoBench {
    chunks: Sender<Vec<Salvaged>>,
    running: Arc<Mutex<u32>>,
}

impl Destination for IntoBench {
    fn hand_over(&self, chunk: Vec<Salvaged>) -> Option<()> {
        self.chunks.send(chunk).ok()
    }

    fn room_bytes(&self) -> Option<u64> {
        Some(u64::MAX)
    }

    fn started(&self) {
        *self.running.lock().unwrap() += 1;
    }

    fn finished(&self) {
        *self.running.lock().unwrap() -= 1;
    }
}

pub fn run(folder: &Path, image: &Image, sabotage: Option<Sabotage>) -> Result<Outcome, String> {
    let until = Instant::now() + DEADLINE;
    let now = Moment { wall_ms: 1_100_000_000, steady_ms: 0 };
    let mut settings = settings(folder);
    settings.streams.reverse();
    let opened = opening::open(&settings, &pipeline_settings(RUN), now).map_err(|error| format!("start: {error}"))?;
    let Opened { writer, pipeline, doubt, .. } = opened;
    let sinks = SINKS.map(|name| SinkModel { name, delivered: HashSet::new() });
    let mut bench = Bench {
        folder,
        image,
        writer,
        pipeline,
        sinks: sinks.into(),
        own: HashMap::new(),
        salvaged: channel(),
        is_salvaging: Arc::default(),
        renewed: false,
        until,
        sabotage,
    };
    let failed = |error: rusqlite::Error| format!("{error}");
    let mut states: HashMap<(usize, Stream), CursorState> = HashMap::new();
    let mut asides = Vec::new();
    for (place, sink) in SINKS.into_iter().enumerate() {
        for stream in streams().all() {
            let state = bench.writer.register_sink(sink, stream).map_err(failed)?;
            let keys = bench.writer.held_keys(sink, stream);
            for (key, done) in keys.into_iter().filter(|_| sabotage != Some(Sabotage::KeysAreForgotten)) {
                if key != SICK {
                    return Err(format!("{key:?} is set aside"));
                }
                let reader = Reader::open(&store_path(folder), None).map_err(|error| error.to_string())?;
                asides.push(Aside { place, stream, reader, after: done.cursor, done, passed: state.clone() });
            }
            states.insert((place, stream), state);
        }
    }
    let unfinished = bench.writer.unfinished_salvages().map_err(failed)?;
    bench.renewed |= !unfinished.is_empty();
    bench.salvage(unfinished);
    bench.accept(50)?;
    bench.drain(&mut states, asides)?;
    let mut outcome = bench.compare()?;
    (outcome.renewed, outcome.doubt) = (bench.renewed, doubt.map(|report| report.text));
    Ok(outcome)
}

impl Bench<'_> {
    fn salvage(&self, unfinished: Vec<Unfinished>) {
        let destination = IntoBench { chunks: self.salvaged.0.clone(), running: Arc::clone(&self.is_salvaging) };
        let settings = self.writer.settings();
        Salvage {
            store: settings.path.clone(),
            gateway: settings.gateway.clone(),
            capacity: settings.capacity,
            destination: Arc::new(destination),
        }
        .spawn(unfinished);
    }

    fn accept(&mut self, count: u64) -> Result<(), String> {
        let now = Moment { wall_ms: 1_100_000_000, steady_ms: 1 };
        let mut readings = Readings::default();
        for number in 0..count {
            let mut reading = Reading::at(now.wall_ms, "new", "speed_over_ground", 1.0);
            reading.sequence = Some(number);
            readings.push(&reading);
            push_records(&mut self.pipeline, "new", number, now.wall_ms);
        }
        self.pipeline.take(&readings, now);
        let sealed = self.pipeline.seal();
        self.commit(&CommitInput { sealed, ..CommitInput::default() })
    }

    /// As the committer does: a damaged store is renewed, and the same is committed again.
    fn commit(&mut self, input: &CommitInput) -> Result<(), String> {
        loop {
            match self.writer.commit(input) {
                Ok(_) => return Ok(()),
                Err(error) if schema::is_corrupt(&error) => self.renew()?,
                Err(error) => return Err(format!("commit: {error}")),
            }
            self.in_time("committing")?;
        }
    }

    fn renew(&mut self) -> Result<(), String> {
        self.renewed = true;
        let unfinished = self.writer.renew().map_err(|error| format!("renew: {error}"))?;
        self.salvage(unfinished);
        Ok(())
    }

    fn in_time(&self, what: &str) -> Result<(), String> {
        if Instant::now() > self.until { Err(format!("still {what} after {DEADLINE:?}")) } else { Ok(()) }
    }

    fn drain(
        &mut self,
        states: &mut HashMap<(usize, Stream), CursorState>,
        mut asides: Vec<Aside>,
    ) -> Result<(), String> {
        let mut readers = HashMap::new();
        for place in 0..SINKS.len() {
            for stream in streams().all() {
                let reader = Reader::open(&store_path(self.folder), None).map_err(|error| error.to_string())?;
                readers.insert((place, stream), reader);
            }
        }
        loop {
            self.in_time("draining")?;
            let is_salvaging = *self.is_salvaging.lock().unwrap() > 0;
            let chunk = match is_salvaging {
                true => self.salvaged.1.recv_timeout(Duration::from_millis(200)).ok(),
                false => self.salvaged.1.try_recv().ok(),
            };
            if let Some(mut salvaged) = chunk.clone() {
                if self.sabotage == Some(Sabotage::NothingIsSalvaged) {
                    salvaged.iter_mut().for_each(|salvaged| salvaged.batch = None);
                }
                self.commit(&CommitInput { salvaged, ..CommitInput::default() })?;
            }
            let mut is_idle = chunk.is_none() && !is_salvaging;
            for place in 0..SINKS.len() {
                for stream in streams().all() {
                    let (reader, state) =
                        (readers.get_mut(&(place, stream)).unwrap(), states.get_mut(&(place, stream)).unwrap());
                    is_idle &= !self.deliver(place, stream, reader, state)?;
                }
            }
            for mut aside in std::mem::take(&mut asides) {
                let state = &states[&(aside.place, aside.stream)];
                match self.deliver_aside(&mut aside, state)? {
                    Some(was_read) => {
                        is_idle &= !was_read;
                        asides.push(aside);
                    }
                    None => is_idle = false,
                }
            }
            if is_idle {
                return Ok(());
            }
        }
    }

    /// Delivers what the next block has of a key that is set aside. Returns whether there was something; `None` once the key follows the
    /// cursor, which is at `state`.
    fn deliver_aside(&mut self, aside: &mut Aside, state: &CursorState) -> Result<Option<bool>, String> {
        let Aside { place, stream, reader, done, after, passed } = aside;
        let last = passed.acknowledged.last().map_or(passed.cursor, |(_, last)| *last);
        let mut block = Block::default();
        match reader.read_strictly(*stream, *after, &mut block) {
            Ok(Next::Block | Next::Missing | Next::End) => {}
            Ok(Next::Salvaging) => return Ok(Some(false)),
            Err(error) if schema::is_corrupt(&error) => {
                if self.writer.file() == Some(reader.file()) {
                    self.renew()?;
                }
                return Ok(Some(true));
            }
            Err(error) => return Err(format!("read: {error}")),
        }
        let mut taken = Vec::new();
        for entry in block.entries(*after) {
            let Entry::Record(record) = entry else { continue };
            let is_done = |state: &CursorState| state.done_within(record.sequence, record.sequence) == 1;
            let mut line = Vec::new();
            record.write(&mut line);
            if is_done(passed) && !is_done(done) && is_of(SICK, &line) {
                taken.push((record.sequence, record.sequence));
                self.sinks[*place].delivered.insert((*stream, (record.run, record.position)));
            }
        }
        *after = block.last_sequence();
        let is_through = *after == 0 || *after >= last;
        let key = HeldKeyChange {
            key: SICK.to_owned(),
            state: (!is_through).then(|| CursorState::at(*after)),
            passed: Vec::new(),
            taken,
            dead: Vec::new(),
            expired: Vec::new(),
        };
        let change = CursorChange {
            sink: self.sinks[*place].name.to_owned(),
            stream: *stream,
            state: state.clone(),
            dead_letters: Vec::new(),
            unreadable: Ranges::default(),
            lost: Ranges::default(),
            passed_over: 0,
            expired: Vec::new(),
            held_keys: vec![key],
            link: None,
            save: None,
        };
        self.commit(&CommitInput { cursors: vec![change], ..CommitInput::default() })?;
        Ok((!is_through).then_some(true))
    }

    /// Delivers what the next block has. Returns whether there was something.
    fn deliver(
        &mut self,
        place: usize,
        stream: Stream,
        reader: &mut Reader,
        state: &mut CursorState,
    ) -> Result<bool, String> {
        let mut block = Block::default();
        let next = match self.sabotage {
            Some(Sabotage::GapsAreDelivered) => reader
                .read(stream, state.cursor, &mut block)
                .map(|is_found| if is_found { Next::Block } else { Next::End }),
            _ => reader.read_strictly(stream, state.cursor, &mut block),
        };
        match next {
            Ok(Next::Block | Next::Missing) => {}
            Ok(Next::Salvaging | Next::End) => return Ok(false),
            Err(error) if schema::is_corrupt(&error) => {
                if self.writer.file() == Some(reader.file()) {
                    self.renew()?;
                }
                return Ok(true);
            }
            Err(error) => return Err(format!("read: {error}")),
        }
        let (mut unreadable, mut lost) = (Ranges::default(), Ranges::default());
        for entry in block.entries(state.cursor) {
            match entry {
                Entry::Record(record) => {
                    let identity = (stream, (record.run, record.position));
                    let mut line = Vec::new();
                    record.write(&mut line);
                    let known = self.image.accepted.get(&identity).or_else(|| self.own.get(&identity));
                    match known {
                        Some(known) if *known != line => return Err(format!("{identity:?} is used twice")),
                        Some(_) => {}
                        None => drop(self.own.insert(identity, line)),
                    }
                    self.sinks[place].delivered.insert(identity);
                }
                Entry::Damaged { through, count } => unreadable.push(through + 1 - count, through),
                Entry::Gap { .. } if self.sabotage == Some(Sabotage::GapsAreDelivered) => {}
                Entry::Gap { through, lost: count } => lost.push(through + 1 - count, through),
            }
        }
        if block.last_sequence() <= state.cursor {
            return Err(format!("{stream:?} goes back from {}", state.cursor));
        }
        state.advance_to(block.last_sequence());
        let change = CursorChange {
            sink: self.sinks[place].name.to_owned(),
            stream,
            state: state.clone(),
            dead_letters: Vec::new(),
            unreadable,
            lost,
            passed_over: 0,
            expired: Vec::new(),
            held_keys: Vec::new(),
            link: None,
            save: None,
        };
        self.commit(&CommitInput { cursors: vec![change], ..CommitInput::default() })?;
        Ok(true)
    }

    fn compare(&self) -> Result<Outcome, String> {
        let view = ledger::look(self.writer.connection()).map_err(|error| format!("ledger: {error}"))?;
        if let Some(line) = view.ledger.iter().find(|line| !line.adds_up()) {
            return Err(format!("the ledger does not add up: {line:?}"));
        }
        let mut outcome = Outcome::default();
        for SinkModel { name, delivered } in &self.sinks {
            let before = &self.image.delivered[name];
            let missing =
                self.image.accepted.keys().filter(|known| !delivered.contains(known) && !before.contains(known));
            let missing: Vec<_> = missing.collect();
            if std::env::var_os("DAMAGE_SEED").is_some() {
                let mut lines: Vec<_> = missing.iter().map(|(stream, (_, position))| (*stream, *position)).collect();
                lines.sort_unstable();
                println!("{name} lacks {lines:?}");
                println!("{:?}", view.ledger);
            }
            let missing = missing.len() as u64;
            let counted =
                view.ledger.iter().filter(|line| line.sink == *name).map(|line| line.quarantined).sum::<u64>();
            if missing >= outcome.missing {
                (outcome.missing, outcome.counted) = (missing, counted.max(outcome.counted));
            }
            outcome.differences.push((name, missing as i64 - counted as i64));
        }
        Ok(outcome)
    }
}
