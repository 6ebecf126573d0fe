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
mod parts;
mod reloading;
mod settings;
mod state_folder;
mod storeless;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::LocalSet;

use self::ending::edge_result;
pub use self::error::GatewayError;
pub use self::listening::Ready;
use self::listening::{Listeners, Sockets, bind_control};
use self::parts::Parts;
use self::reloading::Reloading;
pub use self::reloading::{Concern, ConfigurationSource, LoadError, Loaded};
pub use self::settings::GatewaySettings;
use self::storeless::Opening;
use crate::admin;
pub use crate::clock::now_ms;
use crate::handoff::PipelineHandle;
use crate::ingest::{ClockState, Ingest};
use crate::mqtt::outbox::Outbox;
use crate::mqtt::{self, EdgeBeats, EdgeCounters, EdgeParts, Helpers, Phase};
use crate::sinks::status::Link;
use crate::store::opening::Opened;

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
    settings.leave_room()?;
    // Before the ports: a second process on the same folder should report the first one, not its ports.
    let lock = Arc::new(state_folder::lock(&settings.state_folder)?);
    let listeners = Listeners::bind(&settings).await?;
    state_folder::warn_of_writeback(&settings.state_folder);
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
        let Sockets { mqtt: sockets, admin } = listeners.sockets()?;
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
        let mut parts = Parts::start(settings, opened, link, &outbox)?;
        let pipeline = PipelineHandle::new(parts.pipeline.clone(), settings.uncommitted_bytes_max);
        if awaited.is_none() {
            parts.start_files(settings, (&pipeline, &counters.undecodable), &clock, &entries)?;
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
                    error = parts.watch(&clock, settings.is_synchronised) => return Err(error),
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
