//! The thread of all bridges.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::BridgeSettings;
use super::link::{self, Memory};
use super::over::Over;
use super::status::BridgeSource;
use crate::core::bridge::retry::Retry;
use crate::core::bridge::trouble::Troubles;
use crate::core::detection::alert::{Report, ReportPacer, Trouble};
use crate::handoff::{Input, PipelineHandle};
use crate::heartbeat::Beat;
use crate::mqtt::bridging::{BridgeEnd, LinkEnd};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// When the gateway ends, it takes no more links within this time after it has dropped the last one.
const ENDING_WITHIN: Duration = Duration::from_millis(500);

/// What the thread needs.
pub struct BridgeParts<T: From<Input>> {
    pub bridges: Vec<BridgeSettings>,
    pub pipeline: PipelineHandle<T>,
    /// Of this thread.
    pub beat: Beat,
    /// Set when the process is ending.
    pub stop: watch::Receiver<bool>,
}

/// A running thread.
#[derive(Debug)]
pub struct BridgesThread {
    pub thread: JoinHandle<()>,
    pub sources: Vec<BridgeSource>,
}

struct Bridge {
    settings: BridgeSettings,
    source: BridgeSource,
    links: mpsc::Sender<LinkEnd>,
}

/// Starts the thread. What is returned besides it is for our broker.
///
/// # Errors
///
/// If the system starts no thread.
pub fn start<T: From<Input> + Send + 'static>(
    parts: BridgeParts<T>,
) -> std::io::Result<(BridgesThread, Vec<BridgeEnd>)> {
    let BridgeParts { bridges, pipeline, beat, mut stop } = parts;
    let (mut running, mut ends, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for settings in bridges {
        let source = BridgeSource::new(settings.name().to_owned(), settings.broker.endpoint.to_string());
        let (links, links_out) = mpsc::channel(1);
        let counters = Arc::clone(&source.counters);
        ends.push(BridgeEnd { bridge: settings.local.clone(), links: links_out, counters });
        sources.push(source.clone());
        running.push(Bridge { settings, source, links });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("bridges".to_owned()).spawn(move || {
        beat.moved();
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            for bridge in running {
                tokio::task::spawn_local(bridge.run(pipeline.clone()));
            }
            tokio::select! {
                () = beat.pulse() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        // A name that is being looked up must not hold up the end.
        drop(local);
        runtime.shutdown_background();
    })?;
    Ok((BridgesThread { thread, sources }, ends))
}

impl Bridge {
    async fn run<T: From<Input>>(self, pipeline: PipelineHandle<T>) {
        tokio::select! {
            () = self.connect_again_and_again() => {}
            () = self.report(&pipeline) => {}
        }
    }

    async fn connect_again_and_again(&self) {
        let (mut retry, mut memory) = (Retry::default(), Memory::default());
        let mut told = None;
        loop {
            let began = Instant::now();
            let over = link::run(&self.settings, &self.source, &self.links, &mut memory).await;
            let was_connected = self.source.state().connected_at_ms.is_some();
            // When the process ends, the connection may be the first to notice.
            let is_ours = matches!(over, Over::Local | Over::Unstored);
            if is_ours && tokio::time::timeout(ENDING_WITHIN, self.links.closed()).await.is_ok() {
                return self.source.change(|state| state.connected_at_ms = None);
            }
            let text = over.to_string();
            self.source.change(|state| {
                state.connected_at_ms = None;
                state.last_error = Some(text.clone());
            });
            // A line a change, not an attempt.
            if was_connected || told.as_ref() != Some(&text) {
                tracing::warn!(
                    "bridge {}: not connected to {}: {text}",
                    self.settings.name(),
                    self.settings.broker.endpoint
                );
                told = Some(text);
            }
            let lasted = was_connected.then(|| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            // Without randomness a fleet comes back at once, which is no reason not to.
            let pause_ms = retry.pause_ms(lasted, getrandom::u64().unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// Reports for as long as something is wrong with it.
    async fn report<T: From<Input>>(&self, pipeline: &PipelineHandle<T>) {
        let name = self.settings.name();
        let trouble = Trouble::Bridge(name.to_owned());
        let (started, mut troubles, mut reports) = (Instant::now(), Troubles::default(), ReportPacer::default());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let text = troubles.look(name, &self.source.situation(), now_ms);
            if let Some(text) = text.filter(|_| reports.is_due(&trouble, now_ms)) {
                // Without a pipeline the process is ending.
                let _ = pipeline.report(Report::new(trouble.clone(), text));
            }
        }
    }
}
