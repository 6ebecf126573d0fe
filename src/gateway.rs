//! The whole gateway: all threads and channels, which thread watches which, and the order in which they end.
//!
//! ```text
//! edge thread (tokio, this one)   sessions, fan-out
//! tls, logins                     handshakes, and passwords that are slow to check on purpose
//! router thread                   the log between publishes and receivers
//! pipeline thread                 judges, fills the open batch
//! committer thread                one transaction after the other
//! admin thread (tokio)            health, metrics, status, the gateway's own records
//! one thread a sink (tokio)       reads the store, delivers
//! bridges thread (tokio)          connections to other brokers, if there are any
//! ```

mod certificates;
mod ending;
mod error;
mod feeding;
mod inputs;
mod listening;
mod reloading;
mod storeless;

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

use self::ending::edge_result;
pub use self::error::GatewayError;
pub use self::listening::Ready;
use self::listening::{Listeners, bind_control};
use self::reloading::Reloading;
pub use self::reloading::{Concern, ConfigurationSource, LoadError, Loaded};
use self::storeless::Opening;
use crate::admin::access::CurrentAccess;
use crate::admin::history::HistorySource;
use crate::admin::status::Sources;
use crate::admin::{self, origin::Hosts, undecodable::SampleHints};
use crate::bridge::{BridgeSettings, BridgesThread};
pub use crate::clock::now_ms;
use crate::core::detection::alert::AlertTimes;
use crate::core::detection::monitor::MonitorSettings;
use crate::core::identity::{NamedStream, RunId};
use crate::descriptors;
use crate::disk;
use crate::files::{FileSettings, FilesThread};
use crate::handoff::rules::CurrentRules;
use crate::handoff::{Input, PipelineHandle};
use crate::heartbeat::{Heartbeat, Watcher};
use crate::ingest::{ClockState, Ingest, Route};
use crate::mqtt::listener::{CurrentPolicies, ListenerSettings};
use crate::mqtt::outbox::Outbox;
use crate::mqtt::{self, EdgeBeats, EdgeCounters, EdgeParts, EdgeSettings, Helpers, Phase};
use crate::pipeline::announce;
use crate::pipeline::{
    self, CommitPacing, CommittedSequences, Message, StoreBeats, StoreCounters, StoreParts, StoreThreads,
};
use crate::sinks::kind::SinkSettings;
use crate::sinks::links::{LinkConfiguration, SharedLink, metering};
use crate::sinks::start::{SinkParts, SinkThread};
use crate::sinks::status::Link;
use crate::store::lock::FolderLock;
use crate::store::opening::Opened;
use crate::store::reader::Reader;
use crate::store::recovery::Recovered;
use crate::store::retention::{Capacity, WhenFull};
use crate::store::schema::{OpenError, Synchronous, store_path};
use crate::store::writer::Writer;
use crate::systemd::Notifier;

#[derive(Clone, Debug)]
pub struct GatewaySettings {
    pub gateway_id: String,
    pub state_folder: PathBuf,
    /// At least one.
    pub listeners: Vec<ListenerSettings>,
    /// Who may do what on each.
    pub policies: CurrentPolicies,
    pub admin_listen: Option<SocketAddr>,
    /// Names under which the administration interface answers, besides addresses.
    pub admin_hosts: Vec<String>,
    /// Who may use it, and for what.
    pub admin_access: CurrentAccess,
    pub edge: EdgeSettings,
    pub routes: Vec<Route>,
    /// Files that are read.
    pub files: Vec<FileSettings>,
    /// The rules that it begins with, and those that take their place.
    pub rules: CurrentRules,
    /// Where rules and policies come from; `None` if they never change.
    pub source: Option<ConfigurationSource>,
    /// Tells systemd how the gateway is doing.
    pub notifier: Notifier,
    pub capacity: Capacity,
    pub synchronous: Synchronous,
    /// Name of the SQLite VFS; the default one unless a test inserts its own.
    pub vfs: Option<String>,
    /// If the store takes longer to open, the gateway watches without it until it is open.
    pub open_within: Duration,
    pub pacing: CommitPacing,
    pub monitor: MonitorSettings,
    pub alerts: AlertTimes,
    /// Whether the system clock is synchronised.
    pub is_synchronised: fn() -> bool,
    /// Most bytes that may wait for their commit, over all connections.
    pub uncommitted_bytes_max: u32,
    /// Streams besides the built-in ones.
    pub streams: Vec<NamedStream>,
    /// Links that are counted.
    pub links: Vec<LinkConfiguration>,
    pub sinks: Vec<SinkSettings>,
    /// Other brokers.
    pub bridges: Vec<BridgeSettings>,
    /// How long sinks may take to flush when the process ends.
    pub grace: Duration,
}

/// The running parts other than the MQTT side.
struct Parts {
    threads: StoreThreads,
    pipeline: mpsc::Sender<Message>,
    sinks: Vec<SinkThread>,
    files: Vec<FilesThread>,
    stop_files: watch::Sender<bool>,
    bridges: Option<BridgesThread>,
    links: Vec<Arc<SharedLink>>,
    link: watch::Sender<Link>,
    run: RunId,
    counters: Arc<StoreCounters>,
    beats: StoreBeats,
    heartbeat: Heartbeat,
}

impl Parts {
    /// What the administration interface reads.
    fn sources(
        &mut self,
        settings: &GatewaySettings,
        ready: &Ready,
        has_store: bool,
        edge: &Arc<EdgeCounters>,
        (clock, outbox): (&ClockState, &Outbox),
        phase: &watch::Receiver<Phase>,
    ) -> Result<Sources, GatewayError> {
        let open = || Reader::open(&store_path(&settings.state_folder), settings.vfs.as_deref());
        let reader = has_store.then(open).transpose().map_err(GatewayError::Store)?;
        Ok(Sources {
            gateway_id: settings.gateway_id.clone(),
            run: self.run,
            listeners: ready.listeners(&settings.listeners),
            admin_listen: ready.admin,
            started: Instant::now(),
            started_at_ms: now_ms(),
            state_folder: settings.state_folder.clone(),
            store_bytes_max: settings.capacity.bytes_max,
            reader: RefCell::new(reader),
            history: HistorySource::new(store_path(&settings.state_folder), settings.vfs.clone()),
            looked: RefCell::default(),
            flow: RefCell::default(),
            alerts: outbox.alerts(),
            questions: Arc::new(Semaphore::new(1)),
            sample_hints: RefCell::new(SampleHints::new(settings.routes.clone())),
            hosts: Hosts::new(settings.admin_hosts.clone()),
            access: settings.admin_access.clone(),
            policies: settings.policies.clone(),
            edge: Arc::clone(edge),
            store: Arc::clone(&self.counters),
            sinks: self.sinks.iter().flat_map(|sink| sink.sources.clone()).collect(),
            files: self.file_sources(settings),
            bridges: self.bridge_sources(),
            links: self.links.clone(),
            clock: clock.clone(),
            rules: settings.rules.clone(),
            phase: phase.clone(),
            watcher: RefCell::new(Watcher::new(&self.heartbeat)),
            stalled: RefCell::default(),
            now_ms,
        })
    }
}

const LISTEN: &str = "listen";

fn lock_folder(folder: &Path) -> Result<FolderLock, GatewayError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| GatewayError::Store(OpenError::Folder { path: folder.to_owned(), source }))?;
    let tried = || format!("make the state folder {} durable", folder.display());
    disk::sync_folders(folder).map_err(|source| GatewayError::system(tried())(source))?;
    FolderLock::acquire(folder).map_err(GatewayError::Locked)
}

/// A sink that is no longer configured, or not for a stream, keeps its cursor, in case this is a mistake, and with it all records from there
/// on, until their room is needed.
fn warn_of_left_sinks(writer: &Writer, sinks: &[SinkSettings]) -> rusqlite::Result<()> {
    for (sink, waiting) in writer.left_sinks()? {
        let is_configured = sinks.iter().any(|known| known.name == sink);
        if is_configured && waiting == 0 {
            continue;
        }
        let what = if is_configured { "no longer configured for each of its streams" } else { "no longer configured" };
        tracing::warn!(
            waiting,
            "the sink {sink} is {what}; what is not delivered to it is kept until its room is needed, then it goes \
             first and is counted as expired; to drop it now: {}",
            admin::status::drop_command(&sink)
        );
    }
    Ok(())
}

/// Runs until `stop` is ready, then drains and ends; or until something ends that must not.
///
/// A store that the disk keeps from being opened is waited for while everything else runs, except for the sinks. When it can be opened, all
/// of it begins again, with the store; the addresses stay taken meanwhile.
pub async fn run(
    mut settings: GatewaySettings,
    link: watch::Sender<Link>,
    on_ready: impl FnOnce(Ready),
    stop: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    settings.edge.stored_bytes_max = stored_bytes_max(&settings.capacity);
    leave_descriptors(&mut settings).map_err(GatewayError::system("find out how many files may be open"))?;
    // Before the ports: a second process on the same folder should report the first one, not its ports.
    let lock = Arc::new(lock_folder(&settings.state_folder)?);
    let listeners = Listeners::bind(&settings).await?;
    warn_of_writeback(&settings.state_folder);
    let (mut stop, mut on_ready) = (pin!(stop), Some(on_ready));
    let mut on_ready = |ready| {
        if let Some(on_ready) = on_ready.take() {
            on_ready(ready);
        }
    };
    let mut opening = Opening::start(&settings, &lock)?;
    let opened = tokio::select! {
        opened = opening.within(settings.open_within) => opened?,
        // Nothing was taken yet.
        () = &mut stop => return Ok(()),
    };
    let store = match opened {
        Some(opened) => Store::Open(opened),
        None => {
            let without = Phases { settings: &settings, listeners: &listeners, link: watch::Sender::new(Link::Up) };
            match without.serve(Store::Awaited(opening), &mut on_ready, &mut stop).await? {
                Ended::Stopped => return Ok(()),
                Ended::StoreOpened(opened) => {
                    tracing::info!("the store is open: everything begins again, with it");
                    Store::Open(opened)
                }
            }
        }
    };
    let with = Phases { settings: &settings, listeners: &listeners, link };
    with.serve(store, &mut on_ready, &mut stop).await?;
    Ok(())
}

/// What the gateway has of its store.
enum Store {
    Open(Box<Opened>),
    /// It cannot be opened at present; it comes when it can.
    Awaited(Opening),
}

/// How serving ended, if not with an error.
enum Ended {
    Stopped,
    StoreOpened(Box<Opened>),
}

/// What the gateway runs with, once without its store and once with it.
struct Phases<'a> {
    settings: &'a GatewaySettings,
    listeners: &'a Listeners,
    link: watch::Sender<Link>,
}

impl Phases<'_> {
    async fn serve(
        self,
        store: Store,
        on_ready: &mut impl FnMut(Ready),
        stop: &mut Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, GatewayError> {
        let Phases { settings, listeners, link } = self;
        let again = |listener: &std::net::TcpListener| listener.try_clone().and_then(TcpListener::from_std);
        let sockets = listeners.mqtt.iter().map(again).collect::<Result<Vec<_>, _>>();
        let sockets = sockets.map_err(GatewayError::system(LISTEN))?;
        let admin = listeners.admin.as_ref().map(|listener| listener.try_clone()).transpose();
        let admin = admin.map_err(GatewayError::system(LISTEN))?;
        let control = bind_control(&settings.state_folder);
        let (phase, phase_seen) = watch::channel(Phase::Running);
        let counters = Arc::new(EdgeCounters::default());
        let clock = ClockState::new((settings.is_synchronised)());
        let outbox = Outbox::default();
        let (opened, awaited) = match store {
            Store::Open(opened) => (Some(*opened), None),
            Store::Awaited(awaited) => (None, Some(awaited)),
        };
        let entries = opened.as_ref().map(|opened| opened.writer.entries()).transpose();
        let entries = entries.map_err(GatewayError::Sqlite)?.unwrap_or_default();
        let mut parts = start(settings, opened, link, &outbox)?;
        let pipeline = PipelineHandle::new(parts.pipeline.clone(), settings.uncommitted_bytes_max);
        if awaited.is_none() {
            parts.start_files(settings, &pipeline, &clock, &entries)?;
        }
        // Without a store nothing passes: it could not be acknowledged.
        let bridges = if awaited.is_none() { parts.start_bridges(settings, &pipeline)? } else { Vec::new() };
        let sources =
            parts.sources(settings, &listeners.ready, awaited.is_none(), &counters, (&clock, &outbox), &phase_seen)?;
        let admin_thread = admin::spawn((admin, control), sources, parts.pipeline.clone())
            .map_err(GatewayError::system("start the thread of the status page"))?;
        let edge_parts = EdgeParts {
            settings: settings.edge.clone(),
            listeners: settings.listeners.clone(),
            policies: settings.policies.clone(),
            helpers: Helpers::start().map_err(GatewayError::system("start the threads of handshakes and logins"))?,
            pipeline,
            ingest: Ingest::new(settings.routes.clone(), clock.clone()),
            rules: settings.rules.clone(),
            counters,
            now_ms,
            phase: phase_seen,
            outbox,
            beats: EdgeBeats::new(&parts.heartbeat, &parts.beats.committer),
            entries,
            bridges,
            clock: clock.clone(),
        };
        let local = LocalSet::new();
        let mut edge = local.spawn_local(mqtt::run(sockets, edge_parts));
        let reloading = Reloading {
            listeners: settings.listeners.clone(),
            policies: settings.policies.clone(),
            admin: (settings.admin_listen, settings.admin_access.clone()),
            rules: settings.rules.clone(),
            pipeline: parts.pipeline.clone(),
            notifier: settings.notifier.clone(),
        };
        local.spawn_local(reloading.run(settings.source.clone(), signal(SignalKind::hangup())));
        on_ready(listeners.ready.clone());
        local
            .run_until(async {
                let opened = tokio::select! {
                    ended = &mut edge => return edge_result(ended).map(|()| Ended::Stopped),
                    error = watch_threads(&parts, &clock, settings.is_synchronised) => return Err(error),
                    () = feeding::feed(&settings.notifier, &parts.heartbeat, &parts.counters) => unreachable!("it has no end"),
                    () = &mut *stop => None,
                    opened = store_opened(awaited) => Some(opened),
                };
                let grace = if opened.is_none() { settings.grace } else { settings.grace.min(SWITCH_WITHIN) };
                if opened.is_none() {
                    settings.notifier.stopping();
                    tracing::info!("stopping: no new connections; what was received is stored and acknowledged first");
                }
                let result = ending::drain_and_end(parts, edge, (phase, admin_thread), grace).await;
                match opened {
                    // Nothing of it could be stored, nothing was acknowledged, and nothing is lost.
                    Some(opened) => Ok(Ended::StoreOpened(opened)),
                    None => result.map(|()| Ended::Stopped),
                }
            })
            .await
    }
}

/// How long clients may take to leave when the store has been opened.
const SWITCH_WITHIN: Duration = Duration::from_secs(2);

async fn store_opened(awaited: Option<Opening>) -> Box<Opened> {
    match awaited {
        Some(opening) => opening.opened().await,
        None => std::future::pending().await,
    }
}

/// Starts everything that reads or writes the store; without one, what watches only.
fn start(
    settings: &GatewaySettings,
    opened: Option<Opened>,
    link: watch::Sender<Link>,
    outbox: &Outbox,
) -> Result<Parts, GatewayError> {
    let (mut writer, judge, recovered, doubt) = match opened {
        Some(Opened { writer, pipeline, recovered, doubt }) => (Some(writer), pipeline, recovered, doubt),
        None => (None, storeless::pipeline(settings)?, Recovered::default(), None),
    };
    let last_sequences = writer.as_ref().map(Writer::last_sequences).transpose().map_err(GatewayError::Sqlite)?;
    let last_sequences = last_sequences.unwrap_or_default();
    let committed: CommittedSequences = last_sequences.map(|_, last| watch::Sender::new(*last));
    let (pipeline, receiver) = mpsc::channel();
    let heartbeat = Heartbeat::default();
    let beats = StoreBeats { pipeline: heartbeat.beat("pipeline"), committer: heartbeat.beat("committer") };
    let (mut sinks, mut links) = (Vec::new(), Vec::new());
    if let Some(writer) = &mut writer {
        let streams = writer.streams_in_use().map_err(GatewayError::Sqlite)?;
        for link in &settings.links {
            let stored = writer.link_state(&link.name).map_err(GatewayError::Sqlite)?;
            links.push(Arc::new(SharedLink::new(link, stored)));
        }
        metering::watch(&links).map_err(GatewayError::system("start the thread that looks at links"))?;
        let mut parts = SinkParts {
            gateway_id: &settings.gateway_id,
            store: &store_path(&settings.state_folder),
            vfs: settings.vfs.as_deref(),
            grace: settings.grace,
            writer,
            streams: &streams,
            committed: &committed,
            link: &link,
            pipeline: &pipeline,
            heartbeat: &heartbeat,
            links: &links,
        };
        let start = |sink: &SinkSettings| sink.sink.start(&mut parts.starting(&sink.name, sink.kind, &sink.travel));
        let started = settings.sinks.iter().map(start);
        sinks = started.collect::<Result<Vec<_>, _>>().map_err(GatewayError::Sink)?;
        warn_of_left_sinks(writer, &settings.sinks).map_err(GatewayError::Sqlite)?;
    }
    if recovered.series > 0 || recovered.replayed > 0 {
        let Recovered { series, replayed, alerts } = &recovered;
        tracing::info!(series, replayed, alerts = alerts.len(), "detectors and alerts are restored");
    }
    recovered.alerts.iter().for_each(|alert| outbox.put(announce::message(alert)));
    if let Some(doubt) = doubt {
        let _ = pipeline.send(Message::Input(Input::Report(doubt)));
    }
    let counters = Arc::new(StoreCounters::default());
    let run = judge.run();
    let threads = pipeline::spawn(StoreParts {
        writer,
        pipeline: judge,
        pacing: settings.pacing,
        messages: (pipeline.clone(), receiver),
        committed,
        counters: Arc::clone(&counters),
        outbox: outbox.clone(),
        beats: beats.clone(),
        budget_bytes: u64::from(settings.uncommitted_bytes_max),
        now_ms,
    })
    .map_err(GatewayError::system("start the threads of the store"))?;
    let (files, bridges, stop_files) = (Vec::new(), None, watch::Sender::new(false));
    Ok(Parts { threads, pipeline, sinks, links, files, bridges, stop_files, link, run, counters, beats, heartbeat })
}

/// What clients leave with the gateway takes a part of the store: an eighth, or what readings that are refused leave free anyway.
fn stored_bytes_max(capacity: &Capacity) -> usize {
    let bytes = match capacity.when_full {
        WhenFull::DropOldest => capacity.bytes_max / 8,
        WhenFull::Refuse => (capacity.bytes_max / 8).min(capacity.reserve_bytes / 2),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Connections must not use up the descriptors that the gateway needs for itself.
fn leave_descriptors(settings: &mut GatewaySettings) -> std::io::Result<()> {
    let files = settings.files.iter().map(FileSettings::descriptors).sum();
    let room = descriptors::Room::make(settings.sinks.len(), settings.streams.len())?.besides(files);
    let wanted = settings.edge.connections_max;
    if let Some(shortage) = room.shortage(wanted) {
        tracing::warn!("{shortage}");
        settings.edge.connections_max = room.connections(wanted);
    }
    Ok(())
}

/// A file system that may write a file's metadata before its content is known to damage databases at a power cut.
fn warn_of_writeback(folder: &Path) {
    if let Ok(Some(mount)) = disk::mount(folder)
        && mount.is_writeback()
    {
        tracing::warn!(
            "{} is mounted with data=writeback: a power cut may damage the store; mount it with data=ordered",
            mount.path.display()
        );
    }
}

/// Returns when a thread that must not end has ended.
async fn watch_threads(parts: &Parts, clock: &ClockState, is_synchronised: fn() -> bool) -> GatewayError {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        clock.set(is_synchronised());
        if parts.threads.pipeline.is_finished() {
            return GatewayError::Ended { thread: "pipeline" };
        }
        if parts.threads.committer.is_finished() {
            return GatewayError::Ended { thread: "committer" };
        }
        if parts.files.iter().any(|files| files.thread.is_finished()) {
            return GatewayError::Ended { thread: "files" };
        }
        if parts.bridges.as_ref().is_some_and(|bridges| bridges.thread.is_finished()) {
            return GatewayError::Ended { thread: "bridges" };
        }
        if parts.sinks.iter().any(|sink| sink.thread.is_finished()) {
            return GatewayError::Ended { thread: "sink" };
        }
    }
}
