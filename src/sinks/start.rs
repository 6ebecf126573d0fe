//! What a sink is started with, and the thread that it runs on.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::LocalSet;

use super::Sink;
use super::forwarder::{self, ForwarderParts};
use super::links::{Order, SharedLink, SocketBytes, Travel};
use super::status::{ForwardStatus, Link, SinkSource};
use super::stream::StreamParts;
use crate::core::delivery::{DeliverySettings, Plan};
use crate::core::identity::{Keep, StreamRow};
use crate::core::link::Class;
use crate::heartbeat::{Beat, Heartbeat};
use crate::pipeline::{CommittedSequences, Message};
use crate::store::reader::Reader;
use crate::store::schema::OpenError;
use crate::store::writer::Writer;

/// A running sink.
pub struct SinkThread {
    pub name: String,
    pub thread: JoinHandle<()>,
    pub sources: Vec<SinkSource>,
}

/// What all sinks are started with.
pub struct SinkParts<'a> {
    pub gateway_id: &'a str,
    pub store: &'a Path,
    pub vfs: Option<&'a str>,
    /// How long sinks may take to flush when the process ends.
    pub grace: Duration,
    pub writer: &'a mut Writer,
    /// The streams that there are to read.
    pub streams: &'a [StreamRow],
    pub committed: &'a CommittedSequences,
    pub link: &'a watch::Sender<Link>,
    pub pipeline: &'a mpsc::Sender<Message>,
    pub heartbeat: &'a Heartbeat,
    /// Links that are counted.
    pub links: &'a [Arc<SharedLink>],
}

/// One sink while it is being started.
pub struct Starting<'a> {
    name: &'a str,
    kind: &'static str,
    gateway_id: &'a str,
    store: &'a Path,
    vfs: Option<&'a str>,
    grace: Duration,
    writer: &'a mut Writer,
    streams: &'a [StreamRow],
    committed: &'a CommittedSequences,
    link: &'a watch::Sender<Link>,
    pipeline: &'a mpsc::Sender<Message>,
    beat: Beat,
    travel: Travel,
    counted_link: Option<Arc<SharedLink>>,
    socket: Arc<SocketBytes>,
    sources: Vec<SinkSource>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(OpenError),
    #[error("cannot use the store")]
    Sqlite(#[source] rusqlite::Error),
    #[error("cannot use the archive {}", folder.display())]
    Archive { folder: PathBuf, source: std::io::Error },
    /// The operating system refused something: a verb and its object.
    #[error("cannot {tried}")]
    System { tried: String, source: std::io::Error },
}

impl SinkParts<'_> {
    /// Starts one sink, given its name and kind, and how its records travel.
    pub fn starting<'b>(&'b mut self, name: &'b str, kind: &'static str, travel: &Travel) -> Starting<'b> {
        Starting {
            name,
            kind,
            gateway_id: self.gateway_id,
            store: self.store,
            vfs: self.vfs,
            grace: self.grace,
            writer: self.writer,
            streams: self.streams,
            committed: self.committed,
            link: self.link,
            pipeline: self.pipeline,
            beat: self.heartbeat.beat(thread_name(name)),
            travel: travel.clone(),
            counted_link: self.links.iter().find(|link| Some(&*link.name) == travel.link.as_deref()).map(Arc::clone),
            socket: Arc::default(),
            sources: Vec::new(),
        }
    }
}

/// Long enough for what is committed together to be sent together, without waiting for more.
const LINGER_US_OF_RESERVE: u64 = 2_000;

impl<'a> Starting<'a> {
    /// The streams that there are to read.
    pub fn streams(&self) -> &'a [StreamRow] {
        self.streams
    }

    /// Names of all streams that the store has or had something of.
    pub fn stream_names(&self) -> Vec<Arc<str>> {
        self.writer.streams().rows().iter().map(|row| Arc::clone(&row.name)).collect()
    }

    pub fn gateway_id(&self) -> &str {
        self.gateway_id
    }

    /// Of the disk, so much is left to others.
    pub fn free_bytes_min(&self) -> u64 {
        self.writer.settings().capacity.free_bytes_min
    }

    /// How large the store may become.
    pub fn store_bytes_max(&self) -> u64 {
        self.writer.settings().capacity.bytes_max
    }

    /// How long sinks may take to flush when the process ends.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Seeds the jitter: two gateways that lost the same link must not retry in step.
    pub fn random_seed(&self) -> Result<u64, StartError> {
        getrandom::u64().map_err(|error| StartError::System {
            tried: "get random bytes from the system".to_owned(),
            source: std::io::Error::other(error),
        })
    }

    /// Registers the sink for a stream, which a task has to read from now on.
    pub fn stream(&mut self, row: &StreamRow) -> Result<StreamParts, StartError> {
        let (stream, stream_name) = (row.stream, Arc::clone(&row.name));
        let cursor = self.writer.register_sink(self.name, stream).map_err(StartError::Sqlite)?;
        let status = Arc::new(ForwardStatus::default());
        let source = SinkSource {
            sink: self.name.to_owned(),
            stream,
            stream_name: Arc::clone(&stream_name),
            kind: self.kind,
            status: Arc::clone(&status),
        };
        self.sources.push(source);
        let plan = plan(&self.travel, row.keep);
        Ok(StreamParts {
            sink: self.name.to_owned(),
            stream,
            stream_name,
            reader: Reader::open(self.store, self.vfs).map_err(StartError::Store)?,
            cursor,
            passed_over: self.writer.passed_over(self.name, stream),
            held_keys: self.writer.held_keys(self.name, stream),
            committed: self.committed.of(stream).subscribe(),
            given_up: self.writer.given_up(stream),
            link: self.link.subscribe(),
            pipeline: self.pipeline.clone(),
            saves: Arc::default(),
            status,
            beat: self.beat.clone(),
            plan,
            counted_link: self.counted_link.clone(),
            socket: Arc::clone(&self.socket),
        })
    }

    /// Starts a record sink: a forwarder for each stream that it takes, with a sink that `make` creates on the sink's thread. Only the bulk
    /// streams linger as long as `delivery` says: the reserve streams report trouble.
    pub fn forward<S: Sink + 'static>(
        &mut self,
        takes: impl Fn(&str) -> bool,
        delivery: &DeliverySettings,
        make: impl FnMut(&StreamParts) -> Rc<S> + Send + 'static,
    ) -> Result<SinkThread, StartError> {
        self.forward_sharing(takes, delivery, move || make)
    }

    /// The same where the sinks of the streams share something that stays on their thread: `begin` is called there.
    pub fn forward_sharing<S: Sink + 'static, M: FnMut(&StreamParts) -> Rc<S>>(
        &mut self,
        takes: impl Fn(&str) -> bool,
        delivery: &DeliverySettings,
        begin: impl FnOnce() -> M + Send + 'static,
    ) -> Result<SinkThread, StartError> {
        let mut forwarders = Vec::new();
        let delivery = &self.bounded(delivery);
        for row in self.streams.iter().filter(|row| takes(&row.name)) {
            forwarders.push(ForwarderParts {
                stream: self.stream(row)?,
                delivery: match row.keep {
                    Keep::Bulk => delivery.clone(),
                    Keep::Reserve => {
                        DeliverySettings { linger_us: delivery.linger_us.min(LINGER_US_OF_RESERVE), ..delivery.clone() }
                    }
                },
                seed: self.random_seed()?,
                flush_within: self.grace,
            });
        }
        self.spawn(move || async move {
            let tasks = LocalSet::new();
            let mut make = begin();
            for parts in forwarders {
                let sink = make(&parts.stream);
                tasks.spawn_local(forwarder::run(parts, sink));
            }
            // What they share ends with them.
            drop(make);
            tasks.await;
        })
    }

    /// What its link and its age mean for a delivery.
    fn bounded(&self, delivery: &DeliverySettings) -> DeliverySettings {
        let of_link = self.counted_link.as_ref().map_or(usize::MAX, |link| link.settings.record_bytes_soft());
        let age_us = |age: Duration| u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        DeliverySettings {
            record_bytes_soft: delivery.record_bytes_soft.min(of_link),
            age_us_max: self.travel.age_max.map(age_us),
            ..delivery.clone()
        }
    }

    /// Each sink has a thread with a runtime of its own, so that one sink that blocks does not hold up the others.
    pub fn spawn<F: Future<Output = ()>>(
        &mut self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<SinkThread, StartError> {
        let name = self.name;
        let failed = |source| StartError::System { tried: format!("start the thread of the sink {name}"), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let beat = self.beat.clone();
        let thread = std::thread::Builder::new()
            .name(thread_name(name))
            .spawn(move || {
                // Which of the two below is first is left to chance, and the work may get stuck at once.
                beat.moved();
                runtime.block_on(async {
                    tokio::select! {
                        () = work() => {}
                        () = beat.pulse() => {}
                    }
                });
            })
            .map_err(failed)?;
        Ok(SinkThread { name: name.to_owned(), thread, sources: std::mem::take(&mut self.sources) })
    }
}

/// Into which parts a stream is divided.
fn plan(travel: &Travel, keep: Keep) -> Plan {
    match (keep, travel.order) {
        (Keep::Reserve, _) if travel.link.is_some() => Plan::ByClass,
        (Keep::Bulk, Order::LiveFirst) => Plan::LiveFirst,
        (Keep::Reserve, _) => Plan::Whole { class: Class::Anomalies },
        (Keep::Bulk, Order::Oldest) => Plan::Whole { class: Class::Live },
    }
}

fn thread_name(sink: &str) -> String {
    format!("sink-{sink}")
}
