//! One world: its time, what happens in it, and everything that lives there. One thing happens at a time, and after each of them all parts of
//! the gateway that have something to do have their turns.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::checks::Checks;
use super::cloud::{Cloud, Lines, Weather};
use super::devices::Device;
use super::disk::Disk;
use super::gateway::{self, Gateway};
use super::random::Random;
use super::scenario::{Config, Fault, SINKS, Sabotage, Scenario, streams};
use crate::core::delivery::{OutgoingRecord, Reply, RequestId};
use crate::core::identity::Stream;
use crate::{clock, disk};

mod durable;
mod faults;
mod lives;
mod turns;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// Once nothing fails any more, all is acknowledged and delivered within this time.
const DRAINED_WITHIN_US: u64 = 180 * SECOND;
/// The disk, when nobody fills it.
const DISK_BYTES: u64 = 1 << 30;
const BEGAN_MS: i64 = 1_795_000_000_000;

#[derive(Debug)]
enum Happening {
    /// A device measures.
    Measure {
        device: usize,
    },
    Connect {
        device: usize,
    },
    Reply {
        life: u64,
        sink: usize,
        stream: Stream,
        id: RequestId,
        reply: Reply,
    },
    /// Records arrive whose reply nobody waits for.
    Arrive {
        sink: usize,
        stream: Stream,
        records: Vec<OutgoingRecord>,
    },
    Weather {
        sink: usize,
    },
    Fault(Fault),
    DiskFreed,
    LinkUp {
        sink: usize,
    },
    /// Nothing fails any more from here on.
    Heal,
    /// The machine, or the process, begins again.
    Boot,
    /// The process looks whether its store can be opened by now.
    Reopen {
        life: u64,
    },
    /// An orderly end takes no longer than this.
    EndBy {
        life: u64,
    },
}

/// How a run went; the same for the same seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Of everything that happened.
    pub trace: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub seconds: u64,
    pub lives: u64,
    pub commits: u64,
    pub arrived: u64,
    pub alerts: u64,
    pub expired: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { seconds, lives, commits, arrived, alerts, expired, .. } = self;
        write!(
            f,
            "{seconds} s, {lives} lives, {commits} commits, {arrived} records arrived, {expired} expired, {alerts} alerts"
        )
    }
}

pub(crate) struct World {
    scenario: Scenario,
    random: Random,
    began: Instant,
    now_us: u64,
    wall_offset_ms: i64,
    queue: BTreeMap<(u64, u64), Happening>,
    happenings: u64,
    folder: tempfile::TempDir,
    scratch: tempfile::TempDir,
    disk: Disk,
    is_small: bool,
    config: Config,
    /// While it runs. It is put away before its disk.
    gateway: Option<Gateway>,
    life: u64,
    sessions: u64,
    /// A power cut, with what it leaves, or a kill comes with a call to the disk.
    cut: Option<Fault>,
    is_stopping: bool,
    /// Refusals of the disk before this process began.
    refused_before: u64,
    is_healed: bool,
    slow_until_us: u64,
    slow_ms_max: u64,
    devices: Vec<Device>,
    clouds: [Cloud; SINKS.len()],
    lines: Lines,
    checks: Checks,
    commits: u64,
    faults: BTreeMap<&'static str, u64>,
    trace: crc32fast::Hasher,
    is_verbose: bool,
    measured: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        self.disk.switch_off();
        self.gateway = None;
        gateway::forget_begun_salvage();
        clock::simulated::clear();
        disk::simulated::clear();
    }
}

/// A folder in memory, if the system has one: nothing here has to last.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
}

impl World {
    pub fn new(scenario: Scenario) -> World {
        let mut random = Random::new(scenario.seed);
        let is_small = random.percent(40);
        let folder = folder();
        disk::simulated::set(folder.path(), DISK_BYTES);
        let disk = Disk::new(random.fork());
        if scenario.sabotage == Some(Sabotage::DropsSyncs) {
            disk.drop_syncs();
        }
        let devices = random.within(2, 8);
        let mut world = World {
            config: Config::any(is_small, &mut random),
            devices: (0..devices).map(|number| Device::new(number, &mut random)).collect(),
            random,
            began: Instant::now(),
            now_us: 0,
            wall_offset_ms: 0,
            queue: BTreeMap::new(),
            happenings: 0,
            scratch: self::folder(),
            folder,
            disk,
            is_small,
            gateway: None,
            life: 0,
            sessions: 0,
            cut: None,
            is_stopping: false,
            refused_before: 0,
            is_healed: false,
            slow_until_us: 0,
            slow_ms_max: 0,
            clouds: Default::default(),
            lines: Lines::default(),
            checks: Checks::default(),
            commits: 0,
            faults: BTreeMap::new(),
            trace: crc32fast::Hasher::new(),
            is_verbose: std::env::var_os("SIMULATION_TRACE").is_some(),
            measured: 0,
            scenario,
        };
        world.set_time(0);
        world.plan();
        world
    }

    /// When nothing fails any more.
    fn heals_us(&self) -> u64 {
        self.scenario.minutes * 60 * SECOND
    }

    fn plan(&mut self) {
        let heals_us = self.heals_us();
        self.schedule(0, Happening::Boot);
        self.schedule(heals_us, Happening::Heal);
        for device in 0..self.devices.len() {
            let (measures_us, connects_us) = (self.random.below(SECOND), self.random.below(5 * SECOND));
            self.schedule(measures_us, Happening::Measure { device });
            self.schedule(connects_us, Happening::Connect { device });
        }
        for sink in 0..SINKS.len() {
            self.schedule(0, Happening::Weather { sink });
        }
        // Some runs are calm for a while, and in some one fault meets the next.
        let faults = self.random.within(2, 4) * self.scenario.minutes;
        for _ in 0..faults {
            let (at_us, fault) = (self.random.within(SECOND, heals_us), Fault::any(&mut self.random));
            self.schedule(at_us, Happening::Fault(fault));
        }
    }

    /// Runs until everything is delivered, or a promise is broken.
    pub fn run(mut self) -> Result<Summary, String> {
        if self.is_verbose {
            // What the gateway logs, among what happens.
            let _ = tracing_subscriber::fmt().without_time().with_ansi(false).try_init();
        }
        match self.run_through() {
            Ok(()) => Ok(self.summary()),
            Err(broken) => Err(format!("seed {} at {} ms: {broken}", self.scenario.seed, self.now_us / MS)),
        }
    }

    fn run_through(&mut self) -> Result<(), String> {
        loop {
            if self.is_drained() {
                // The ledger may be older than a store that was set aside.
                self.check_commit()?;
                if self.is_drained() {
                    return self.checks.check_end(&self.config.sinks, &self.devices, &self.clouds);
                }
            }
            if self.now_us > self.heals_us() + DRAINED_WITHIN_US {
                return Err(format!("not drained in time: {}", self.what_is_left()));
            }
            self.step()?;
            if self.is_healed && self.checks.has_no_ledger() {
                // Nothing may be left to commit after a salvage.
                self.check_commit()?;
            }
        }
    }

    fn summary(&self) -> Summary {
        let mut faults = self.faults.clone();
        for cloud in &self.clouds {
            cloud.counts.iter().for_each(|(fault, count)| *faults.entry(fault).or_default() += count);
        }
        let expired = SINKS.iter().filter_map(|sink| self.checks.line(sink, Stream::RAW).ok()).map(|line| line.expired);
        Summary {
            trace: u64::from(self.trace.clone().finalize()),
            faults,
            seconds: self.now_us / SECOND,
            lives: self.life,
            commits: self.commits,
            arrived: self.clouds.iter().map(|cloud| cloud.arrived.len() as u64).sum(),
            alerts: self.checks.alerts,
            expired: expired.sum(),
        }
    }

    fn schedule(&mut self, at_us: u64, happening: Happening) {
        self.happenings += 1;
        self.queue.insert((at_us, self.happenings), happening);
    }

    fn after(&mut self, us: u64, happening: Happening) {
        self.schedule(self.now_us + us, happening);
    }

    fn set_time(&mut self, now_us: u64) {
        self.now_us = now_us;
        clock::simulated::set(self.began + Duration::from_micros(now_us), self.now_ms());
    }

    fn now_ms(&self) -> i64 {
        BEGAN_MS + self.wall_offset_ms + (self.now_us / MS) as i64
    }

    /// Notes what happened: the same seed gives the same notes.
    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let text = format!("{} {what}\n", self.now_us);
        if self.is_verbose {
            print!("{text}");
        }
        self.trace.update(text.as_bytes());
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// The next thing: one that happens outside, or a part of the gateway whose time has come.
    fn step(&mut self) -> Result<(), String> {
        let outside_us = self.queue.first_key_value().map_or(u64::MAX, |((at_us, _), _)| *at_us);
        let inside_us = self.next_turn_us();
        if outside_us == u64::MAX && inside_us == u64::MAX {
            return Err("nothing will ever happen again".to_owned());
        }
        self.set_time(outside_us.min(inside_us).max(self.now_us));
        if outside_us <= inside_us {
            let (_, happening) = self.queue.pop_first().expect("just looked at");
            self.happens(happening)?;
        }
        self.take_turns()?;
        self.checks.check_alerts(self.now_us)
    }

    fn happens(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Measure { device } => self.measure(device),
            Happening::Connect { device } => self.connect(device),
            Happening::Reply { life, sink, stream, id, reply } if life == self.life => {
                self.reply(sink, stream, id, reply)?
            }
            Happening::Arrive { sink, stream, records } => {
                let line = self.checks.line(SINKS[sink], stream);
                let given_up = line.map_or(0, |line| line.expired + line.quarantined);
                for record in &records {
                    self.clouds[sink].take(stream, record, &mut self.lines, given_up)?;
                }
            }
            Happening::Weather { sink } => self.change_weather(sink),
            Happening::Fault(fault) if !self.is_healed => self.fault(fault),
            Happening::DiskFreed => disk::simulated::set(self.folder.path(), DISK_BYTES),
            Happening::LinkUp { sink } => self.set_link(sink, true),
            Happening::Heal => self.heal(),
            Happening::Boot => self.boot()?,
            Happening::Reopen { life } if life == self.life => self.reopen()?,
            Happening::EndBy { life } if life == self.life => self.end_life(None),
            Happening::Reply { .. } | Happening::Fault(_) | Happening::Reopen { .. } | Happening::EndBy { .. } => {}
        }
        Ok(())
    }

    fn change_weather(&mut self, sink: usize) {
        let weather = if self.is_healed { Weather::Calm } else { Weather::any(&mut self.random) };
        self.clouds[sink].weather = Some(weather);
        if !self.is_healed {
            let us = self.random.within(SECOND, 25 * SECOND);
            self.after(us, Happening::Weather { sink });
        }
    }

    fn is_drained(&self) -> bool {
        let Some(Gateway { store: Some(store), .. }) = &self.gateway else { return false };
        let has_measured = self.measured >= self.scenario.readings;
        let is_idle = store.under_way.is_none() && store.salvaging.is_empty() && !self.is_stopping;
        let is_delivered = || {
            let lag = |running: &gateway::RunningForwarder| match self.checks.line(SINKS[running.sink], running.stream)
            {
                Ok(line) => line.buffered > 0,
                Err(_) => true,
            };
            !store.forwarders.iter().any(lag)
        };
        self.is_healed && has_measured && is_idle && self.devices.iter().all(Device::is_acknowledged) && is_delivered()
    }

    fn what_is_left(&self) -> String {
        let devices: Vec<_> = self.devices.iter().map(|device| device.readings.len() - device.acknowledged).collect();
        let has_store = self.gateway.as_ref().map(|gateway| gateway.store.is_some());
        let streams = streams();
        let lines: Vec<_> = SINKS
            .iter()
            .flat_map(|sink| streams.all().filter_map(|stream| self.checks.line(sink, stream).ok()))
            .collect();
        let unstorable = self.gateway.as_ref().and_then(|gateway| gateway.counters.unstorable());
        let salvaging =
            self.gateway.as_ref().and_then(|gateway| gateway.store.as_ref()).map(|store| store.salvaging.len());
        format!(
            "unacknowledged {devices:?}, a gateway with a store {has_store:?}, {unstorable:?}, salvaging {salvaging:?}, sinks {:?}, {lines:?}",
            self.config.sinks
        )
    }
}
