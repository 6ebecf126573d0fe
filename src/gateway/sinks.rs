//! The sinks: how each is configured, and the thread that it runs on.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::LocalSet;

use super::{GatewayError, GatewaySettings};
use crate::admin::status::SinkSource;
use crate::core::delivery::DeliverySettings;
use crate::core::identity::Stream;
use crate::core::json;
use crate::heartbeat::{Beat, Heartbeat};
use crate::pipeline::{CommittedSequences, Message};
use crate::sinks::archive::folder::ArchiveFolder;
use crate::sinks::archive::{self, ArchiveSettings, ArchiverParts};
use crate::sinks::forwarder::{self, ForwarderParts};
use crate::sinks::kinesis::{self, KinesisConnection, KinesisSink};
use crate::sinks::status::{ForwardStatus, Link};
use crate::store::reader::Reader;
use crate::store::writer::Writer;

#[derive(Clone, Debug)]
pub struct SinkSettings {
    pub name: String,
    pub kind: SinkKind,
}

#[derive(Clone, Debug)]
pub enum SinkKind {
    Archive {
        folder: PathBuf,
        bytes_max: u64,
        /// Per cent of the disk that stay free.
        free_percent_min: u64,
        rotate_after: Duration,
        rotate_bytes: u64,
    },
    Kinesis {
        connection: KinesisConnection,
        delivery: DeliverySettings,
        /// Streams of the cloud; one that is not named gets nothing.
        raw: Option<String>,
        anomalies: Option<String>,
    },
}

impl SinkSettings {
    /// The built-in archive goes with the first `[[sink]]`, which nobody expects who adds one.
    pub const NO_ARCHIVE: &str = "no files are written: the built-in archive is there only while the configuration names no [[sink]]; to \
                                  keep it, add a [[sink]] with name = \"archive\" and type = \"archive\"";

    /// Whether it reads this stream of the store.
    pub fn takes(&self, stream: Stream) -> bool {
        match (&self.kind, stream) {
            (SinkKind::Archive { .. }, _) => true,
            (SinkKind::Kinesis { raw, .. }, Stream::Raw) => raw.is_some(),
            (SinkKind::Kinesis { anomalies, .. }, Stream::Anomalies) => anomalies.is_some(),
        }
    }
}

/// A sink at work.
pub(super) struct SinkThread {
    pub name: String,
    pub thread: JoinHandle<()>,
    pub sources: Vec<SinkSource>,
}

/// What every sink is started with.
pub(super) struct SinkParts<'a> {
    pub settings: &'a GatewaySettings,
    pub store: &'a Path,
    pub writer: &'a mut Writer,
    pub committed: &'a CommittedSequences,
    pub link: &'a watch::Sender<Link>,
    pub pipeline: &'a mpsc::Sender<Message>,
    pub heartbeat: &'a Heartbeat,
}

impl SinkParts<'_> {
    pub fn start(&mut self, sink: &SinkSettings) -> Result<SinkThread, GatewayError> {
        match &sink.kind {
            SinkKind::Archive { .. } => self.start_archive(sink),
            SinkKind::Kinesis { connection, delivery, raw, anomalies } => {
                let streams = [(Stream::Raw, raw), (Stream::Anomalies, anomalies)];
                let streams = streams.into_iter().filter_map(|(stream, name)| Some((stream, name.clone()?))).collect();
                self.start_kinesis(&sink.name, connection.clone(), delivery, streams)
            }
        }
    }

    fn start_archive(&mut self, sink: &SinkSettings) -> Result<SinkThread, GatewayError> {
        let SinkKind::Archive { folder, bytes_max, free_percent_min, rotate_after, rotate_bytes } = &sink.kind else {
            unreachable!("asked for an archive")
        };
        let archive_folder = ArchiveFolder::open(folder, *bytes_max, *free_percent_min)
            .map_err(|source| GatewayError::Archive { folder: folder.clone(), source })?;
        let archive_folder = Arc::new(Mutex::new(archive_folder));
        let beat = self.beat(&sink.name);
        let mut archivers = Vec::new();
        let mut sources = Vec::new();
        for stream in Stream::ALL {
            let status = Arc::new(ForwardStatus::default());
            sources.push(SinkSource { sink: sink.name.clone(), stream, kind: "archive", status: Arc::clone(&status) });
            archivers.push(ArchiverParts {
                settings: ArchiveSettings {
                    sink: sink.name.clone(),
                    rotate_after: *rotate_after,
                    rotate_bytes: *rotate_bytes,
                },
                stream,
                folder: Arc::clone(&archive_folder),
                reader: self.reader()?,
                cursor: self.writer.register_sink(&sink.name, stream).map_err(GatewayError::Sqlite)?,
                gateway: json::escape(&self.settings.gateway_id),
                committed: self.committed.of(stream).subscribe(),
                link: self.link.subscribe(),
                pipeline: self.pipeline.clone(),
                status,
                beat: beat.clone(),
            });
        }
        spawn(&sink.name, sources, beat, move || async move {
            let tasks = LocalSet::new();
            for archiver in archivers {
                tasks.spawn_local(archive::run(archiver));
            }
            tasks.await;
        })
    }

    fn start_kinesis(
        &mut self,
        name: &str,
        connection: KinesisConnection,
        delivery: &DeliverySettings,
        streams: Vec<(Stream, String)>,
    ) -> Result<SinkThread, GatewayError> {
        let gateway = self.settings.gateway_id.clone();
        let beat = self.beat(name);
        let mut forwarders = Vec::new();
        let mut sources = Vec::new();
        for (stream, cloud_stream) in streams {
            let status = Arc::new(ForwardStatus::default());
            sources.push(SinkSource { sink: name.to_owned(), stream, kind: "kinesis", status: Arc::clone(&status) });
            let parts = ForwarderParts {
                sink: name.to_owned(),
                stream,
                delivery: delivery.clone(),
                reader: self.reader()?,
                cursor: self.writer.register_sink(name, stream).map_err(GatewayError::Sqlite)?,
                gateway: json::escape(&gateway),
                committed: self.committed.of(stream).subscribe(),
                link: self.link.subscribe(),
                pipeline: self.pipeline.clone(),
                status,
                beat: beat.clone(),
                seed: random_seed()?,
                flush_within: self.settings.grace,
            };
            forwarders.push((parts, cloud_stream));
        }
        spawn(name, sources, beat, move || async move {
            let http = kinesis::http_client(&connection);
            let tasks = LocalSet::new();
            for (parts, cloud_stream) in forwarders {
                let sink = KinesisSink::new(connection.clone(), http.clone(), cloud_stream, gateway.clone());
                tasks.spawn_local(forwarder::run(parts, Rc::new(sink)));
            }
            tasks.await;
        })
    }

    fn beat(&self, name: &str) -> Beat {
        self.heartbeat.beat(thread_name(name))
    }

    fn reader(&self) -> Result<Reader, GatewayError> {
        Reader::open(self.store, self.settings.vfs.as_deref()).map_err(GatewayError::Store)
    }
}

/// Of the jitter: two gateways that lost the same link must not come back in step.
fn random_seed() -> Result<u64, GatewayError> {
    getrandom::u64().map_err(|error| GatewayError::system(super::RANDOMNESS)(std::io::Error::other(error)))
}

fn thread_name(sink: &str) -> String {
    format!("sink-{sink}")
}

/// A thread with a runtime of its own: what one sink waits for is nothing to the others.
fn spawn<F: Future<Output = ()>>(
    name: &str,
    sources: Vec<SinkSource>,
    beat: Beat,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<SinkThread, GatewayError> {
    let tried = || format!("start the thread of the sink {name}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| GatewayError::system(tried())(source))?;
    let thread = std::thread::Builder::new()
        .name(thread_name(name))
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work() => {}
                    () = beat.pulse() => {}
                }
            });
        })
        .map_err(|source| GatewayError::system(tried())(source))?;
    Ok(SinkThread { name: name.to_owned(), thread, sources })
}
