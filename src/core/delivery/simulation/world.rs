//! The driver, the network and the checks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::super::progress::Progress;
use super::super::*;
use super::cloud::{Cloud, Random, Weather, sequences};
use super::scenario::{Sabotage, Scenario, Summary};

mod checks;
mod sending;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// How long the sink waits for a reply.
const TIME_LIMIT_US: u64 = SECOND;
/// From then on the weather stays calm and nothing crashes.
const CALM_FROM_US: u64 = 25 * SECOND;
/// With a shard that takes ten records a second everything must be through by then.
const DRAINED_BY_US: u64 = CALM_FROM_US + 300 * SECOND;
/// All records of one device fail for so long.
const SICK_FROM_US: u64 = 2 * SECOND;
const SICK_UNTIL_US: u64 = 30 * SECOND;
const LINE_BYTES_MAX: usize = 200;

/// Whether the sink only says that it takes a line. It arrives all the same, so that the other checks hold for it.
fn is_passed_over(sequence: u64) -> bool {
    sequence.is_multiple_of(7)
}

#[derive(Debug)]
struct Line {
    device: String,
    text: Vec<u8>,
}

/// What is saved of a key that is set aside.
#[derive(Clone, Debug, Default)]
struct KeyRow {
    state: CursorState,
    /// Lines that the cursor has passed over and that are not done with.
    pending: BTreeSet<u64>,
}

#[derive(Debug)]
enum Happening {
    Commit,
    Weather,
    Calm,
    Crash,
    Arrive { life: u32, request: Request, fail: u64, is_answered: bool },
    Reply { life: u32, id: RequestId, reply: Reply },
    SinkSends { device: String, data: Bytes },
    Saved { life: u32, persist: Persist },
}

/// What the process knows, and a crash takes.
#[derive(Debug, Default)]
struct Memory {
    /// Records that were sent and are not done with, by device.
    unfinished: HashMap<String, Bytes>,
    on_the_way: BTreeMap<RequestId, Request>,
    accepted: HashSet<u64>,
    /// Until when the service asked to be left alone.
    asked_until_us: u64,
    /// Lines passed over, also those of replies that are not there yet.
    passed_over: u64,
    wait_until_us: Option<u64>,
}

#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    settings: DeliverySettings,
    random: Random,
    cloud: Cloud,
    weather: Weather,
    now_us: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    next_entry: u64,
    lines: Vec<Line>,
    delivery: Delivery,
    memory: Memory,
    life: u32,
    life_began_us: u64,
    saved: CursorState,
    /// Lines passed over, as saved, and when this life began.
    saved_passed_over: u64,
    passed_over_before: u64,
    saved_keys: BTreeMap<String, KeyRow>,
    saving_until_us: u64,
    dead: HashSet<u64>,
    /// For the sabotage that swaps two records: the first of them, until the second has come.
    held_back: Option<OutgoingRecord>,
    has_swapped: bool,
    summary: Summary,
}

impl World {
    pub fn new(scenario: Scenario) -> World {
        let mut random = Random::new(scenario.seed);
        let grouping = if scenario.single { Grouping::Single } else { Grouping::Lines };
        let partition = if scenario.is_one_key { Partition::Gateway } else { Partition::Device };
        let ample =
            DeliverySettings { grouping, partition, record_bytes_max: 256 + LINE_BYTES_MAX, ..Default::default() };
        let settings = match scenario.is_tight {
            false => ample,
            true => DeliverySettings {
                record_bytes_soft: 150,
                request_records_max: 3,
                request_bytes_max: 1_200,
                requests_in_flight_max: 2,
                held_bytes_max: 5_000,
                patience: Patience { ranges_max: 12, persist_sequences: 10, keys_aside_max: 1, ..Patience::default() },
                ..ample
            },
        };
        let mut world = World {
            cloud: Cloud::new(scenario.shards, &mut random),
            delivery: Delivery::new(settings.clone(), &CursorState::at(0), scenario.seed),
            settings,
            weather: Weather::Calm,
            now_us: 0,
            queue: BTreeMap::new(),
            next_entry: 0,
            lines: Vec::new(),
            memory: Memory::default(),
            life: 0,
            life_began_us: 0,
            saved: CursorState::at(0),
            saved_passed_over: 0,
            passed_over_before: 0,
            saved_keys: BTreeMap::new(),
            saving_until_us: 0,
            dead: HashSet::new(),
            held_back: None,
            has_swapped: false,
            summary: Summary::default(),
            random,
            scenario,
        };
        world.schedule(0, Happening::Commit);
        world.schedule(0, Happening::Weather);
        world.schedule(CALM_FROM_US, Happening::Calm);
        for _ in 0..world.scenario.crashes {
            let at_us = world.random.below(CALM_FROM_US);
            world.schedule(at_us, Happening::Crash);
        }
        world
    }

    /// Runs until everything is delivered or given up, and saved.
    pub fn run(mut self) -> Result<Summary, String> {
        self.drive(Event::Tick { behind: false })?;
        while self.now_us < CALM_FROM_US || !self.is_drained() {
            if self.now_us > DRAINED_BY_US {
                return Err(format!("not drained in time: {:?}", self.delivery));
            }
            self.go_on()?;
        }
        self.drive(Event::Flush)?;
        while let Some((_, happening)) = self.queue.pop_first() {
            if let Happening::Saved { life, persist } = happening
                && life == self.life
            {
                self.save(persist)?;
            }
        }
        self.check_end()?;
        self.summary.repeats = self.cloud.repeats;
        self.summary.throttled = self.cloud.throttled;
        self.summary.failed = self.cloud.failed;
        Ok(self.summary)
    }

    fn is_drained(&self) -> bool {
        self.delivery.is_drained() && !self.is_behind() && self.delivery.status().keys_aside == 0
    }

    fn is_behind(&self) -> bool {
        self.delivery.offered_through() < self.lines.len() as u64
    }

    fn schedule(&mut self, at_us: u64, happening: Happening) {
        self.next_entry += 1;
        self.queue.insert((at_us, self.next_entry), happening);
    }

    /// The next thing: what happens outside, or the time that the machine asked for.
    fn go_on(&mut self) -> Result<(), String> {
        let outside_us = self.queue.first_key_value().map(|((at_us, _), _)| *at_us);
        let due_us = self.memory.wait_until_us.map(|until_us| until_us + self.life_began_us);
        if let Some(due_us) = due_us
            && outside_us.is_none_or(|outside_us| due_us <= outside_us)
        {
            self.now_us = self.now_us.max(due_us);
            return self.drive(Event::Tick { behind: self.is_behind() });
        }
        let Some(((at_us, _), happening)) = self.queue.pop_first() else {
            return Err(format!("nothing will ever happen again: {:?}", self.delivery));
        };
        self.now_us = at_us;
        match happening {
            Happening::Commit => self.commit(),
            Happening::Weather => self.change_weather(),
            Happening::Calm => {
                // A line that nobody refuses comes last: it shows that refusals are no matter of the settings.
                self.weather = Weather::Calm;
                self.add_line(true);
                self.drive(Event::LinkUp)
            }
            Happening::Crash => self.crash(),
            Happening::Arrive { life, request, fail, is_answered } => self.arrive(life, request, fail, is_answered),
            Happening::Reply { life, id, reply } if life == self.life => self.reply(id, reply),
            Happening::Saved { life, persist } if life == self.life => self.save(persist),
            Happening::SinkSends { device, data } => self.cloud.take(&device, &data),
            Happening::Reply { .. } | Happening::Saved { .. } => Ok(()),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        for _ in 0..1 + self.random.below(60) {
            self.add_line(false);
        }
        if self.now_us < CALM_FROM_US - SECOND {
            let next_us = self.now_us + 1 + self.random.below(2 * SECOND);
            self.schedule(next_us, Happening::Commit);
        }
        self.drive(Event::Tick { behind: false })
    }

    fn add_line(&mut self, is_clean: bool) {
        let sequence = self.lines.len() + 1;
        // A few devices give most of the lines.
        let device = self.random.below(self.scenario.devices).min(self.random.below(self.scenario.devices));
        let is_bad = self.scenario.has_poison && device > 0 && !is_clean && self.random.percent(3);
        let (kind, bytes) = match is_bad {
            true if self.random.percent(50) => ("poison", 60),
            true => ("long", LINE_BYTES_MAX + 50),
            false => ("line", 20 + self.random.below(100) as usize),
        };
        let text = format!("{sequence} {kind} {}\n", "x".repeat(bytes)).into_bytes();
        self.lines.push(Line { device: format!("d{device}"), text });
    }

    fn change_weather(&mut self) -> Result<(), String> {
        let percent = 5 + self.random.below(60);
        let before = self.weather;
        self.weather = match self.random.below(12) {
            0 => Weather::Showers(percent),
            1 => Weather::Fog(percent),
            2 => Weather::Stalls(percent),
            3 => Weather::Storm(percent),
            4 => Weather::Unreachable,
            5 => Weather::Expired,
            6 => Weather::Unknown,
            7 => Weather::Narrow(LINE_BYTES_MAX + 2 * percent as usize),
            8 | 9 => Weather::Busy(percent),
            _ => Weather::Calm,
        };
        let next_us = self.now_us + 100 * MS + self.random.below(3 * SECOND);
        if next_us < CALM_FROM_US {
            self.schedule(next_us, Happening::Weather);
        }
        if before == Weather::Unreachable { self.drive(Event::LinkUp) } else { Ok(()) }
    }

    /// The process is gone with all it knew; what was saved is what the next one knows.
    fn crash(&mut self) -> Result<(), String> {
        self.summary.crashes += 1;
        let memory = std::mem::take(&mut self.memory);
        let flying = memory.on_the_way.values().flat_map(|request| &request.records);
        self.cloud.excused.extend(flying.flat_map(|record| sequences(&record.data)));
        let saved = Progress::new(&self.saved);
        let unsaved = self.cloud.arrived.keys().copied().filter(|sequence| !saved.is_done(*sequence));
        self.cloud.excused.extend(unsaved.collect::<Vec<u64>>());
        self.cloud.excused.extend(self.saved_keys.values().flat_map(|row| &row.pending));
        if self.scenario.sabotage == Some(Sabotage::ForgetsKeysAside) {
            self.saved_keys.clear();
        }
        if self.scenario.sabotage == Some(Sabotage::ForgetsRanges) {
            self.saved.acknowledged.clear();
        }
        self.life += 1;
        self.life_began_us = self.now_us;
        self.passed_over_before = self.saved_passed_over;
        self.saving_until_us = self.now_us;
        let seed = self.scenario.seed + u64::from(self.life);
        self.delivery = Delivery::new(self.settings.clone(), &self.saved, seed);
        let keys: Vec<_> = self.saved_keys.iter().map(|(key, row)| (key.clone(), row.state.clone())).collect();
        self.delivery.restore_aside(&keys);
        self.drive(Event::Tick { behind: false })
    }

    /// What the forwarder does with an event.
    fn drive(&mut self, event: Event) -> Result<(), String> {
        let mut event = event;
        loop {
            self.read();
            let was_halted = self.delivery.status().halted.is_some();
            let actions = self.delivery.step(event, self.now_us - self.life_began_us);
            self.summary.halts += u64::from(!was_halted && self.delivery.status().halted.is_some());
            self.act(actions)?;
            self.note_aside();
            self.check()?;
            let is_reading = self.delivery.wants_more() && self.is_behind();
            if !is_reading && self.delivery.aside_wants().is_none() {
                return Ok(());
            }
            event = Event::Tick { behind: true };
        }
    }

    fn read(&mut self) {
        self.read_aside();
        let now_us = self.now_us - self.life_began_us;
        for _ in 0..50 {
            let after = self.delivery.offered_through();
            let Some(line) = self.lines.get(after as usize).filter(|_| self.delivery.wants_more()) else { return };
            self.delivery.offer(after + 1, &line.device, now_us, |out| out.extend_from_slice(&line.text));
        }
    }

    /// A block of the log for the keys that are set aside.
    fn read_aside(&mut self) {
        let now_us = self.now_us - self.life_began_us;
        let Some(after) = self.delivery.aside_wants() else { return };
        let mut through = after;
        for (line, sequence) in self.lines.iter().zip(1..).skip(after as usize).take(30) {
            if !self.delivery.has_room_aside() {
                break;
            }
            if self.scenario.sabotage != Some(Sabotage::SkipsLinesAside) {
                self.delivery.offer_aside(sequence, &line.device, now_us, |out| out.extend_from_slice(&line.text));
            }
            through = sequence;
        }
        self.delivery.aside_was_read(after, through, now_us);
    }

    fn act(&mut self, actions: Actions) -> Result<(), String> {
        self.note(&format!("{} {actions:?}", self.now_us));
        self.memory.wait_until_us = actions.wait_until_us;
        if let Some(persist) = actions.persist {
            self.begin_save(persist)?;
        }
        actions.send.into_iter().try_for_each(|request| self.send(request))
    }

    /// Lines of a key that is set aside may be sent again in other records.
    fn note_aside(&mut self) {
        let delivery = &self.delivery;
        let before = self.memory.unfinished.len();
        self.memory.unfinished.retain(|device, _| !delivery.is_aside(device) || !delivery.is_idle(device));
        self.summary.set_aside += (before - self.memory.unfinished.len()) as u64;
    }

    /// FNV-1a over all that was done.
    fn note(&mut self, text: &str) {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.summary.trace = text.bytes().fold(self.summary.trace, mix);
    }
}
