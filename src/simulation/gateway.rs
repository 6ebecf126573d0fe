//! The gateway, put together as it is in the process, but without threads: whoever owns it lets each part have its turn.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

use tokio::sync::watch;

use super::scenario::{self, Config};
use crate::clock;
use crate::core::delivery::{DeliverySettings, Event, Grouping, Plan};
use crate::core::detection::alert::Moment;
use crate::core::detection::detectors::limit::{Bounds, Limits};
use crate::core::detection::monitor::MonitorSettings;
use crate::core::identity::{PerStream, RunId, Stream, StreamRow};
use crate::core::link::Class;
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::handoff::{Input, PipelineHandle};
use crate::ingest::{ClockState, Ingest};
use crate::mqtt::outbox::Outbox;
use crate::pipeline::committer::{Committer, Job, UnderWay};
use crate::pipeline::{
    CommitPacing, CommittedSequences, LoopParts, Message, PipelineLoop, StoreBeats, StoreCounters, announce,
};
use crate::sinks::forwarder::{Forwarder, ForwarderParts, Next};
use crate::sinks::status::{ForwardStatus, Link};
use crate::sinks::stream::StreamParts;
use crate::store::opening::{self, Opened};
use crate::store::reader::Reader;
use crate::store::retention::WhenFull;
use crate::store::salvage::{Salvage, Salvaged, Salvaging, Step, Unfinished};
use crate::store::schema::{OpenError, Synchronous, store_path};
use crate::store::writer::WriterSettings;

pub(super) const GATEWAY: &str = "g";
/// What all sessions may have waiting, as in the configuration.
const BUDGET_BYTES: u32 = 8 << 20;

thread_local! {
    /// Salvage that was begun, and has not had a turn yet.
    static BEGUN: RefCell<Vec<Salvaging>> = const { RefCell::new(Vec::new()) };
}

fn begin_salvage(salvage: Salvage, unfinished: Vec<Unfinished>) {
    if !unfinished.is_empty() {
        salvage.destination.started();
        BEGUN.with_borrow_mut(|begun| begun.push(Salvaging::new(salvage, unfinished)));
    }
}

/// The parts that need a store.
pub(super) struct StoreSide {
    pub committer: Committer,
    /// The batch that is on its way to the disk, and when the disk has done with it.
    pub under_way: Option<(u64, Box<UnderWay>)>,
    pub maintain_us: u64,
    pub forwarders: Vec<RunningForwarder>,
    pub salvaging: Vec<RunningSalvage>,
}

pub(super) struct RunningForwarder {
    pub sink: usize,
    pub stream: Stream,
    pub forwarder: Forwarder,
    pub next: Next,
    pub due_us: u64,
}

pub(super) struct RunningSalvage {
    salvaging: Salvaging,
    /// Nothing comes of it: it closes once the chunk is durable.
    committed: Option<Receiver<()>>,
    pub due_us: u64,
}

pub(super) struct Gateway {
    pub pipeline: PipelineLoop,
    pub messages: Receiver<Message>,
    pub sender: Sender<Message>,
    /// The pipeline gathers until then.
    pub gathers_until_us: u64,
    pub jobs: Receiver<Job>,
    pub store: Option<StoreSide>,
    pub counters: Arc<StoreCounters>,
    pub outbox: Outbox,
    pub handle: PipelineHandle<Message>,
    pub ingest: Ingest,
    pub links: Vec<watch::Sender<Link>>,
    /// It was told to end, and has.
    pub is_shut_down: bool,
    pub has_ended: bool,
}

/// What the gateway is started on.
pub(super) struct Site<'a> {
    pub folder: &'a Path,
    pub vfs: &'a str,
    pub config: &'a Config,
    pub pacing: CommitPacing,
    pub run: RunId,
    pub seed: u64,
    pub now_us: u64,
}

/// Why a start failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{0:?}")]
    Open(OpenError),
    /// A sink could not be registered.
    #[error("{0:?}")]
    Sqlite(rusqlite::Error),
}

impl Site<'_> {
    fn pipeline_settings(&self) -> PipelineSettings {
        let bounds = Bounds { high: Some(super::devices::LIMIT), ..Bounds::NONE };
        let limits = Limits::new(vec![(super::devices::LIMITED.to_owned(), bounds)]);
        PipelineSettings {
            monitor: MonitorSettings { limits, ..MonitorSettings::default() },
            ..PipelineSettings::new(GATEWAY, self.run)
        }
    }

    pub fn open(&self) -> Result<Opened, OpenError> {
        let settings = WriterSettings {
            path: store_path(self.folder),
            gateway: GATEWAY.to_owned(),
            synchronous: Synchronous::Full,
            vfs: Some(self.vfs.to_owned()),
            capacity: self.config.capacity,
            streams: scenario::named_streams(),
        };
        opening::open(&settings, &self.pipeline_settings(), Moment { wall_ms: clock::now_ms(), steady_ms: 0 })
    }

    /// Starts with a store, or without one as long as there is none.
    pub fn start(&self, opened: Option<Opened>) -> Result<Gateway, StartError> {
        let (sender, messages) = mpsc::channel();
        let (jobs_sender, jobs) = mpsc::sync_channel(1);
        let (counters, outbox) = (Arc::new(StoreCounters::default()), Outbox::default());
        counters.room_bytes.set(u64::MAX);
        counters.set_failing(opened.is_none());
        let links: Vec<_> = (0..super::scenario::SINKS.len()).map(|_| watch::Sender::new(Link::Up)).collect();
        let when_full = if opened.is_some() { self.config.capacity.when_full } else { WhenFull::Refuse };
        let (judge, store) = match opened {
            Some(opened) => {
                let (judge, store) = self.start_store(opened, &sender, &counters, &outbox, &links)?;
                (judge, Some(store))
            }
            None => {
                let mut judge = Pipeline::new(self.pipeline_settings(), &PerStream::new(&scenario::streams(), |_| 0));
                judge.listen_from(Moment { wall_ms: clock::now_ms(), steady_ms: 0 });
                (judge, None)
            }
        };
        let pipeline = PipelineLoop::new(LoopParts {
            pipeline: judge,
            pacing: self.pacing,
            jobs: jobs_sender,
            when_full,
            counters: Arc::clone(&counters),
            outbox: outbox.clone(),
            beats: StoreBeats::default(),
            budget_bytes: u64::from(BUDGET_BYTES),
            now_ms: clock::now_ms,
        });
        let clock_state = ClockState::new(true);
        Ok(Gateway {
            pipeline,
            messages,
            handle: PipelineHandle::new(sender.clone(), BUDGET_BYTES),
            sender,
            gathers_until_us: 0,
            jobs,
            store,
            counters,
            outbox,
            ingest: Ingest::new(Ingest::default_routes(), clock_state),
            links,
            is_shut_down: false,
            has_ended: false,
        })
    }

    fn start_store(
        &self,
        opened: Opened,
        sender: &Sender<Message>,
        counters: &Arc<StoreCounters>,
        outbox: &Outbox,
        links: &[watch::Sender<Link>],
    ) -> Result<(Pipeline, StoreSide), StartError> {
        let Opened { mut writer, pipeline, recovered, doubt } = opened;
        let last_sequences = writer.last_sequences().map_err(StartError::Sqlite)?;
        let committed: CommittedSequences = last_sequences.map(|_, last| watch::Sender::new(*last));
        let streams = writer.streams_in_use().map_err(StartError::Sqlite)?;
        let mut forwarders = Vec::new();
        for sink in self.config.sinks.iter().copied() {
            for StreamRow { stream, name: stream_name, .. } in &streams {
                let (stream, stream_name) = (*stream, Arc::clone(stream_name));
                let name = super::scenario::SINKS[sink];
                let cursor = writer.register_sink(name, stream).map_err(StartError::Sqlite)?;
                let parts = StreamParts {
                    sink: name.to_owned(),
                    stream,
                    stream_name,
                    reader: Reader::open(&store_path(self.folder), Some(self.vfs)).map_err(StartError::Open)?,
                    cursor,
                    passed_over: writer.passed_over(name, stream),
                    held_keys: writer.held_keys(name, stream),
                    committed: committed.of(stream).subscribe(),
                    given_up: writer.given_up(stream),
                    link: links[sink].subscribe(),
                    pipeline: sender.clone(),
                    saves: Default::default(),
                    status: Arc::new(ForwardStatus::default()),
                    beat: Default::default(),
                    plan: Plan::Whole { class: Class::Live },
                    counted_link: None,
                    socket: Default::default(),
                };
                let forwarder = Forwarder::new(ForwarderParts {
                    stream: parts,
                    delivery: delivery_settings(sink),
                    seed: self.seed ^ sink as u64,
                    flush_within: std::time::Duration::from_secs(5),
                });
                let next = Next::Soon { is_behind: false };
                forwarders.push(RunningForwarder { sink, stream, forwarder, next, due_us: self.now_us });
            }
        }
        recovered.alerts.iter().for_each(|alert| outbox.put(announce::message(alert)));
        if let Some(doubt) = doubt {
            sender.send(Message::Input(Input::Report(doubt))).expect("the receiver is there");
        }
        let committer = Committer::start(
            writer,
            sender.clone(),
            committed,
            Arc::clone(counters),
            Default::default(),
            begin_salvage,
        );
        let store = StoreSide {
            committer,
            under_way: None,
            maintain_us: self.now_us + 1_000_000,
            forwarders,
            salvaging: Vec::new(),
        };
        Ok((pipeline, store))
    }
}

/// Each sink has limits of its own: such as they are, so small that they are met all the time, and a line a record.
fn delivery_settings(sink: usize) -> DeliverySettings {
    let ample = DeliverySettings::default();
    match sink {
        0 => ample,
        1 => DeliverySettings {
            record_bytes_soft: 4_000,
            request_records_max: 3,
            request_bytes_max: 40_000,
            requests_in_flight_max: 2,
            held_bytes_max: 60_000,
            ..ample
        },
        _ => DeliverySettings { grouping: Grouping::Single, request_records_max: 20, ..ample },
    }
}

/// The most that the settings let a delivery hold: a quarter more for keys that are set aside, and the line that crosses the bound.
pub(super) fn held_bytes_max(sink: usize) -> usize {
    let bytes = delivery_settings(sink).held_bytes_max;
    bytes + bytes / 4 + (64 << 10)
}

impl StoreSide {
    /// Salvage that was begun since the last call.
    pub fn take_begun(&mut self, now_us: u64) {
        for salvaging in BEGUN.with_borrow_mut(std::mem::take) {
            self.salvaging.push(RunningSalvage { salvaging, committed: None, due_us: now_us });
        }
    }

    /// Lets what salvages have its turn.
    pub fn salvage(&mut self, counters: &StoreCounters, sender: &Sender<Message>, now_us: u64) {
        self.salvaging.retain_mut(|running| running.turn(counters, sender, now_us));
    }
}

/// What was left of a run that was cut off.
pub(super) fn forget_begun_salvage() {
    BEGUN.with_borrow_mut(Vec::clear);
}

/// How often it is looked whether a chunk is durable.
const LOOK_US: u64 = 5_000;

impl RunningSalvage {
    /// Returns whether there is more to do.
    fn turn(&mut self, counters: &StoreCounters, sender: &Sender<Message>, now_us: u64) -> bool {
        if self.due_us > now_us {
            return true;
        }
        self.due_us = now_us + LOOK_US;
        if let Some(committed) = &self.committed {
            if committed.try_recv() == Err(TryRecvError::Empty) {
                return true;
            }
            self.committed = None;
        }
        match self.salvaging.step(counters.room_bytes.get()) {
            Step::HandOver(chunk) => {
                self.hand_over(chunk, sender);
                true
            }
            Step::WaitForRoom => {
                self.due_us = now_us + 500_000;
                true
            }
            Step::Finished => false,
        }
    }

    fn hand_over(&mut self, chunk: Vec<Salvaged>, sender: &Sender<Message>) {
        let (committed, wait) = mpsc::channel();
        sender.send(Message::Salvaged { chunk, committed }).expect("the pipeline is there");
        self.committed = Some(wait);
    }
}

/// The event of a forwarder whose time has come.
pub(super) fn due_event(running: &RunningForwarder) -> Event {
    match running.next {
        Next::Soon { is_behind: true } => Event::Tick { behind: true },
        _ => running.forwarder.tick(),
    }
}
