//! The whole gateway: all threads and channels, which thread watches which, and the order in which they end.
//!
//! ```text
//! edge thread (tokio, this one)   sessions, fan-out
//! router thread                   the log between publishes and receivers
//! pipeline thread                 judges, fills the open batch
//! committer thread                one transaction after the other
//! admin thread (tokio)            health, metrics, status, the gateway's own records
//! one thread a sink (tokio)       reads the store, delivers
//! ```

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::admin::control::{self, ControlSocket};
use crate::admin::{self, origin::Hosts, status::Sources};
use crate::core::detection::alert::{AlertTimes, Moment};
use crate::core::detection::monitor::MonitorSettings;
use crate::core::identity::RunId;
use crate::core::pipeline::PipelineSettings;
use crate::counter::many;
use crate::descriptors;
use crate::disk;
use crate::handoff::{Input, PipelineHandle};
use crate::heartbeat::{Heartbeat, Watcher};
use crate::ingest::{ClockState, Ingest, Route};
use crate::mqtt::outbox::Outbox;
use crate::mqtt::{self, EdgeBeats, EdgeCounters, EdgeParts, EdgeSettings, Phase};
use crate::pipeline::announce;
use crate::pipeline::{
    self, CommitPacing, CommittedSequences, Message, StoreBeats, StoreCounters, StoreParts, StoreThreads, Unstorable,
};
use crate::sinks::kind::SinkSettings;
use crate::sinks::start::{SinkParts, SinkThread, StartError};
use crate::sinks::status::Link;
use crate::store::lock::{FolderLock, LockError};
use crate::store::opening::{self, Opened};
use crate::store::reader::Reader;
use crate::store::recovery::Recovered;
use crate::store::retention::Capacity;
use crate::store::schema::{OpenError, Synchronous, store_path};
use crate::store::writer::{Writer, WriterSettings};

#[derive(Clone, Debug)]
pub struct GatewaySettings {
    pub gateway_id: String,
    pub state_folder: PathBuf,
    pub mqtt_listen: SocketAddr,
    pub admin_listen: Option<SocketAddr>,
    /// Names under which the administration interface answers, besides addresses.
    pub admin_hosts: Vec<String>,
    pub edge: EdgeSettings,
    pub routes: Vec<Route>,
    pub capacity: Capacity,
    pub synchronous: Synchronous,
    /// Name of the SQLite VFS; the default one unless a test inserts its own.
    pub vfs: Option<String>,
    pub pacing: CommitPacing,
    pub monitor: MonitorSettings,
    pub alerts: AlertTimes,
    /// Whether the system clock is synchronised.
    pub is_synchronised: fn() -> bool,
    /// Most bytes that may wait for their commit, over all connections.
    pub uncommitted_bytes_max: u32,
    pub sinks: Vec<SinkSettings>,
    /// How long sinks may take to flush when the process ends.
    pub grace: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Locked(LockError),
    #[error(transparent)]
    Store(OpenError),
    #[error("cannot use the store")]
    Sqlite(#[source] rusqlite::Error),
    #[error("cannot listen for {what} on {address}")]
    Listen {
        what: &'static str,
        /// Its key in the configuration.
        key: &'static str,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Sink(StartError),
    /// The operating system refused something: a verb and its object.
    #[error("cannot {tried}")]
    System { tried: Cow<'static, str>, source: std::io::Error },
    #[error("the router of local subscriptions has ended")]
    RouterDead,
    /// A thread that should live as long as the process has ended.
    #[error("the {thread} thread has ended unexpectedly")]
    Ended { thread: &'static str },
    /// Threads that were still working when the grace period was over.
    #[error("stopped before these had finished: {}; nothing is lost", .0.join(", "))]
    Stragglers(Vec<String>),
    /// The disk did not accept the last readings, which were not acknowledged.
    #[error("stopped, but the disk {trouble}: {}", what_is_unstored(*readings))]
    Unstored { readings: u64, trouble: &'static str },
}

fn what_is_unstored(readings: u64) -> String {
    match readings {
        0 => "no readings are lost; the progress of the sinks and the state of the detectors could not be saved"
            .to_owned(),
        _ => format!(
            "{} could not be stored; not acknowledged, so that devices that publish at QoS 1 send again",
            many(readings, "reading")
        ),
    }
}

impl GatewayError {
    /// Makes an error for what failed: `cannot {tried}`.
    pub fn system(tried: impl Into<Cow<'static, str>>) -> impl FnOnce(std::io::Error) -> GatewayError {
        move |source| GatewayError::System { tried: tried.into(), source }
    }
}

/// The addresses that it listens on.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub mqtt: SocketAddr,
    pub admin: Option<SocketAddr>,
}

/// The running parts other than the MQTT side.
struct Parts {
    /// Held as long as the process uses the folder.
    _lock: FolderLock,
    threads: StoreThreads,
    pipeline: mpsc::Sender<Message>,
    sinks: Vec<SinkThread>,
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
        edge: &Arc<EdgeCounters>,
        clock: &ClockState,
        phase: &watch::Receiver<Phase>,
    ) -> Result<Sources, GatewayError> {
        let reader = Reader::open(&store_path(&settings.state_folder), settings.vfs.as_deref());
        let reader = reader.map_err(GatewayError::Store)?;
        Ok(Sources {
            gateway_id: settings.gateway_id.clone(),
            run: self.run,
            started: Instant::now(),
            started_at_ms: now_ms(),
            state_folder: settings.state_folder.clone(),
            store_bytes_max: settings.capacity.bytes_max,
            reader: RefCell::new(reader),
            looked: RefCell::default(),
            hosts: Hosts::new(settings.admin_hosts.clone()),
            edge: Arc::clone(edge),
            store: Arc::clone(&self.counters),
            sinks: self.sinks.iter().flat_map(|sink| sink.sources.clone()).collect(),
            clock: clock.clone(),
            phase: phase.clone(),
            watcher: RefCell::new(Watcher::new(&self.heartbeat)),
            stalled: RefCell::default(),
            now_ms,
        })
    }
}

const OWN_ADDRESS: &str = "find out the address that is listened on";
const RANDOMNESS: &str = "get random bytes from the system";

fn lock_folder(folder: &Path) -> Result<FolderLock, GatewayError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| GatewayError::Store(OpenError::Folder { path: folder.to_owned(), source }))?;
    let tried = || format!("make the state folder {} durable", folder.display());
    disk::sync_folders(folder).map_err(|source| GatewayError::system(tried())(source))?;
    FolderLock::acquire(folder).map_err(GatewayError::Locked)
}

fn bind_admin(address: SocketAddr) -> Result<std::net::TcpListener, GatewayError> {
    let (what, key) = ("the status page", "admin.listen");
    admin::bind(address).map_err(|source| GatewayError::Listen { what, key, address, source })
}

/// If this fails, the gateway runs all the same: readings from devices matter more.
fn bind_control(folder: &Path) -> Option<ControlSocket> {
    match ControlSocket::bind(folder) {
        Ok(socket) => Some(socket),
        Err(error) => {
            let path = control::socket_path(folder);
            tracing::warn!(%error, "no control socket {}: series, alerts and sinks cannot be managed", path.display());
            None
        }
    }
}

/// A sink that is no longer configured keeps its cursor, in case this is a mistake, and with it all records from there on.
fn warn_of_left_sinks(writer: &Writer) -> rusqlite::Result<()> {
    for (sink, waiting) in writer.left_sinks()? {
        tracing::warn!(
            waiting,
            "the sink {sink} is no longer configured; what is not delivered to it is kept; to drop it: {}",
            admin::status::drop_command(&sink)
        );
    }
    Ok(())
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Runs until `stop` is ready, then drains and ends; or until something ends that must not.
pub async fn run(
    mut settings: GatewaySettings,
    link: watch::Sender<Link>,
    on_ready: impl FnOnce(Ready),
    stop: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    leave_descriptors(&mut settings).map_err(GatewayError::system("find out how many files may be open"))?;
    // Before the ports: a second process on the same folder should report the first one, not its ports.
    let lock = lock_folder(&settings.state_folder)?;
    let listener = TcpListener::bind(settings.mqtt_listen).await.map_err(|source| GatewayError::Listen {
        what: "MQTT",
        key: "mqtt.listen",
        address: settings.mqtt_listen,
        source,
    })?;
    let admin_listener = settings.admin_listen.map(bind_admin).transpose()?;
    let admin = admin_listener
        .as_ref()
        .map(|listener| listener.local_addr())
        .transpose()
        .map_err(GatewayError::system(OWN_ADDRESS))?;
    let control = bind_control(&settings.state_folder);
    let ready = Ready { mqtt: listener.local_addr().map_err(GatewayError::system(OWN_ADDRESS))?, admin };
    let (phase, phase_seen) = watch::channel(Phase::Running);
    let counters = Arc::new(EdgeCounters::default());
    let clock = ClockState::new((settings.is_synchronised)());
    let outbox = Outbox::default();
    let mut parts = start(&settings, lock, link, &outbox)?;
    let sources = parts.sources(&settings, &counters, &clock, &phase_seen)?;
    let admin_thread = admin::spawn((admin_listener, control), sources, parts.pipeline.clone())
        .map_err(GatewayError::system("start the thread of the status page"))?;
    let edge_parts = EdgeParts {
        settings: settings.edge.clone(),
        pipeline: PipelineHandle::new(parts.pipeline.clone(), settings.uncommitted_bytes_max),
        ingest: Ingest::new(settings.routes.clone(), clock.clone()),
        counters,
        now_ms,
        phase: phase_seen,
        outbox,
        beats: EdgeBeats::new(&parts.heartbeat, &parts.beats.committer),
    };
    let local = LocalSet::new();
    let mut edge = local.spawn_local(mqtt::run(listener, edge_parts));
    on_ready(ready);
    local
        .run_until(async {
            tokio::select! {
                ended = &mut edge => return edge_result(ended),
                error = watch_threads(&parts, &clock, settings.is_synchronised) => return Err(error),
                () = stop => {}
            }
            tracing::info!("stopping: no new connections; what was received is stored and acknowledged first");
            let deadline = Instant::now() + settings.grace;
            phase.send_replace(Phase::Draining);
            // Gone only if it has panicked, which joining it reports.
            let _ = parts.pipeline.send(Message::Draining { until: deadline });
            let mut stragglers = Vec::new();
            match tokio::time::timeout(settings.grace, edge).await {
                Ok(ended) => edge_result(ended)?,
                // They must not keep everything else from ending in order; what they still send is not acknowledged.
                Err(_) => stragglers.push("MQTT connections".to_owned()),
            }
            let counters = Arc::clone(&parts.counters);
            stragglers.extend(end(parts, (phase, admin_thread), settings.grace, deadline).await);
            if let Some(readings) = counters.readings_abandoned() {
                return Err(unstored(readings, &counters));
            }
            if stragglers.is_empty() { Ok(()) } else { Err(GatewayError::Stragglers(stragglers)) }
        })
        .await
}

fn edge_result(ended: Result<Result<(), mqtt::RouterDead>, tokio::task::JoinError>) -> Result<(), GatewayError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(mqtt::RouterDead)) => Err(GatewayError::RouterDead),
        Err(_) => Err(GatewayError::Ended { thread: "edge" }),
    }
}

fn unstored(readings: u64, counters: &StoreCounters) -> GatewayError {
    let trouble = if counters.is_failing() { "answers with errors" } else { "does not answer" };
    GatewayError::Unstored { readings, trouble }
}

/// Opens the store and starts everything that reads or writes it.
fn start(
    settings: &GatewaySettings,
    lock: FolderLock,
    link: watch::Sender<Link>,
    outbox: &Outbox,
) -> Result<Parts, GatewayError> {
    let mut run = [0; 8];
    getrandom::fill(&mut run).map_err(|error| GatewayError::system(RANDOMNESS)(std::io::Error::other(error)))?;
    let run = RunId(run);
    let path = store_path(&settings.state_folder);
    let writer_settings = WriterSettings {
        path: path.clone(),
        gateway: settings.gateway_id.clone(),
        synchronous: settings.synchronous,
        vfs: settings.vfs.clone(),
        capacity: settings.capacity,
    };
    warn_of_writeback(&settings.state_folder);
    let opened = opening::open(
        &writer_settings,
        &PipelineSettings {
            gateway: settings.gateway_id.clone(),
            run,
            monitor: settings.monitor.clone(),
            alerts: settings.alerts,
        },
        Moment { wall_ms: now_ms(), steady_ms: 0 },
    );
    let Opened { mut writer, pipeline: judge, recovered, doubt } = opened.map_err(GatewayError::Store)?;
    let last_sequences = writer.last_sequences().map_err(GatewayError::Sqlite)?;
    let committed = CommittedSequences::new(|stream| watch::Sender::new(*last_sequences.of(stream)));
    let (pipeline, receiver) = mpsc::channel();
    let heartbeat = Heartbeat::default();
    let beats = StoreBeats { pipeline: heartbeat.beat("pipeline"), committer: heartbeat.beat("committer") };
    let mut parts = SinkParts {
        gateway_id: &settings.gateway_id,
        store: &path,
        vfs: settings.vfs.as_deref(),
        grace: settings.grace,
        writer: &mut writer,
        committed: &committed,
        link: &link,
        pipeline: &pipeline,
        heartbeat: &heartbeat,
    };
    let sinks = settings.sinks.iter().map(|sink| sink.sink.start(&mut parts.starting(&sink.name, sink.kind)));
    let sinks = sinks.collect::<Result<Vec<_>, _>>().map_err(GatewayError::Sink)?;
    warn_of_left_sinks(&writer).map_err(GatewayError::Sqlite)?;
    if recovered.series > 0 || recovered.replayed > 0 {
        let Recovered { series, replayed, alerts } = &recovered;
        tracing::info!(series, replayed, alerts = alerts.len(), "detectors and alerts are restored");
    }
    recovered.alerts.iter().for_each(|alert| outbox.put(announce::message(alert)));
    if let Some(doubt) = doubt {
        let _ = pipeline.send(Message::Input(Input::Report(doubt)));
    }
    let counters = Arc::new(StoreCounters::default());
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
    Ok(Parts { _lock: lock, threads, pipeline, sinks, link, run, counters, beats, heartbeat })
}

/// Connections must not use up the descriptors that the gateway needs for itself.
fn leave_descriptors(settings: &mut GatewaySettings) -> std::io::Result<()> {
    let room = descriptors::Room::make(settings.sinks.len())?;
    let wanted = settings.edge.connections_max;
    if let Some(shortage) = room.shortage(wanted) {
        tracing::warn!("{shortage}");
        settings.edge.connections_max = room.connections(wanted);
    }
    Ok(())
}

/// A file system that may write a file's metadata before its content is known to damage databases at a power cut.
fn warn_of_writeback(folder: &Path) {
    if let Ok(Some(mount)) = disk::writeback_mount(folder) {
        tracing::warn!(
            "{} is mounted with data=writeback: a power cut may damage the store; mount it with data=ordered",
            mount.display()
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
        if parts.sinks.iter().any(|sink| sink.thread.is_finished()) {
            return GatewayError::Ended { thread: "sink" };
        }
    }
}

/// Sinks flush until the end of the grace period; then they have this long to save their cursors.
const SINK_FAREWELL: Duration = Duration::from_secs(1);

/// A hanging disk is given up this long before the end of the grace period, because the remaining steps take a moment too.
const GIVE_UP_BEFORE: Duration = Duration::from_millis(500);

/// Ends the threads along the data flow: sinks flush, then the pipeline commits the rest and the cursors, then the administration interface
/// ends. Returns the names of those that did not end. If the disk is in trouble, nobody gets more than the grace period, which ends at
/// `deadline`.
async fn end(
    parts: Parts,
    (phase, admin): (watch::Sender<Phase>, JoinHandle<()>),
    grace: Duration,
    deadline: Instant,
) -> Vec<String> {
    let Parts { _lock, threads, pipeline, sinks, link, counters, .. } = parts;
    let is_in_trouble = || matches!(counters.unstorable(), Some(Unstorable::DiskFailing | Unstorable::DiskHung));
    let by = |usual: Duration| if is_in_trouble() { deadline } else { Instant::now() + usual };
    link.send_replace(Link::Ending);
    let sinks = sinks.into_iter().map(|sink| (sink.name, sink.thread)).collect();
    let mut stragglers = finished_by(by(grace + SINK_FAREWELL), sinks).await;
    // The threads are gone only if they have panicked, which joining them reports.
    let _ = pipeline.send(Message::Shutdown { until: deadline - GIVE_UP_BEFORE.min(grace) });
    drop((pipeline, phase));
    let by = by(grace);
    stragglers.extend(finished_by(by, vec![("pipeline".to_owned(), threads.pipeline)]).await);
    // A thread that hangs in the kernel cannot be joined.
    let committer_by = if counters.readings_abandoned().is_some() { Instant::now() + GIVE_UP_BEFORE } else { by };
    stragglers.extend(finished_by(committer_by, vec![("committer".to_owned(), threads.committer)]).await);
    stragglers.extend(finished_by(by, vec![("administration".to_owned(), admin)]).await);
    stragglers
}

/// Waits for the threads. Returns the names of those that did not end in time, or panicked.
async fn finished_by(deadline: Instant, threads: Vec<(String, JoinHandle<()>)>) -> Vec<String> {
    let mut stragglers = Vec::new();
    for (name, thread) in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if !thread.is_finished() || thread.join().is_err() {
            stragglers.push(name);
        }
    }
    stragglers
}
