//! The running parts other than the MQTT side: how they are started, what the administration interface sees of them, and which of their
//! threads has ended.

use std::cell::RefCell;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::listening::Ready;
use super::{GatewayError, GatewaySettings, storeless};
use crate::admin::history::HistorySource;
use crate::admin::status::Sources;
use crate::admin::{self, origin::Hosts, undecodable::SampleHints};
use crate::bridge::BridgesThread;
use crate::clock::now_ms;
use crate::core::identity::RunId;
use crate::files::FilesThread;
use crate::handoff::Input;
use crate::heartbeat::{Heartbeat, Watcher};
use crate::ingest::ClockState;
use crate::mqtt::outbox::Outbox;
use crate::mqtt::{EdgeCounters, Phase};
use crate::pipeline::{
    self, CommittedSequences, Message, StoreBeats, StoreCounters, StoreParts, StoreThreads, announce,
};
use crate::sinks::kind::SinkSettings;
use crate::sinks::links::{SharedLink, metering};
use crate::sinks::start::{SinkParts, SinkThread};
use crate::sinks::status::Link;
use crate::store::opening::Opened;
use crate::store::reader::Reader;
use crate::store::recovery::Recovered;
use crate::store::schema::store_path;
use crate::store::writer::Writer;

/// The running parts other than the MQTT side.
pub struct Parts {
    pub threads: StoreThreads,
    pub pipeline: mpsc::Sender<Message>,
    pub sinks: Vec<SinkThread>,
    pub files: Vec<FilesThread>,
    pub stop_files: watch::Sender<bool>,
    pub bridges: Option<BridgesThread>,
    pub links: Vec<Arc<SharedLink>>,
    pub link: watch::Sender<Link>,
    pub run: RunId,
    pub counters: Arc<StoreCounters>,
    pub beats: StoreBeats,
    pub heartbeat: Heartbeat,
}

impl Parts {
    /// Starts everything that reads or writes the store; without one, what watches only.
    pub fn start(
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
            links = start_links(settings, writer)?;
            let streams = writer.streams_in_use().map_err(GatewayError::Sqlite)?;
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
        announce_restored(&recovered, outbox);
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

    /// What the administration interface reads.
    pub fn sources(
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

    /// Returns when a thread that must not end has ended; until then it passes on whether the clock is synchronised.
    pub async fn watch(&self, clock: &ClockState, is_synchronised: fn() -> bool) -> GatewayError {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.set(is_synchronised());
            if let Some(thread) = self.ended_thread() {
                return GatewayError::Ended { thread };
            }
        }
    }

    fn ended_thread(&self) -> Option<&'static str> {
        let ended = [
            ("pipeline", self.threads.pipeline.is_finished()),
            ("committer", self.threads.committer.is_finished()),
            ("files", self.files.iter().any(|files| files.thread.is_finished())),
            ("bridges", self.bridges.as_ref().is_some_and(|bridges| bridges.thread.is_finished())),
            ("sink", self.sinks.iter().any(|sink| sink.thread.is_finished())),
        ];
        ended.into_iter().find_map(|(thread, has_ended)| has_ended.then_some(thread))
    }
}

/// The links of the configuration, with what the store knows of them.
fn start_links(settings: &GatewaySettings, writer: &Writer) -> Result<Vec<Arc<SharedLink>>, GatewayError> {
    let mut links = Vec::new();
    for link in &settings.links {
        let stored = writer.link_state(&link.name).map_err(GatewayError::Sqlite)?;
        links.push(Arc::new(SharedLink::new(link, stored)));
    }
    metering::watch(&links).map_err(GatewayError::system("start the thread that looks at links"))?;
    Ok(links)
}

/// Alerts that were raised before the start are published again: their retained messages are kept only in memory.
fn announce_restored(recovered: &Recovered, outbox: &Outbox) {
    let Recovered { series, replayed, alerts } = recovered;
    if *series > 0 || *replayed > 0 {
        tracing::info!(series, replayed, alerts = alerts.len(), "detectors and alerts are restored");
    }
    alerts.iter().for_each(|alert| outbox.put(announce::message(alert)));
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
