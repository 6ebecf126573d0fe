//! Opening the store, at once or as soon as the disk lets it be opened; and what runs until then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{GatewayError, GatewaySettings};
use crate::clock::{self, now_ms};
use crate::core::detection::alert::Moment;
use crate::core::identity::{PerStream, RunId, Streams};
use crate::core::pipeline::{Pipeline, PipelineSettings, RuleSettings};
use crate::errors::with_causes;
use crate::store::lock::FolderLock;
use crate::store::opening::{self, Opened};
use crate::store::schema::{OpenError, store_path};
use crate::store::writer::WriterSettings;

/// How often it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The store on its way to being open, on a thread of its own: neither a disk that hangs nor a long migration keeps the process from
/// watching and from ending.
pub(super) struct Opening {
    opened: oneshot::Receiver<Result<Box<Opened>, OpenError>>,
    /// Why it cannot be opened at present. It is tried again.
    delayed: oneshot::Receiver<OpenError>,
}

impl Opening {
    /// The folder stays locked until the thread ends, which it does when the store is open or nobody waits for it any more.
    pub fn start(settings: &GatewaySettings, lock: &Arc<FolderLock>) -> Result<Opening, GatewayError> {
        let writer = WriterSettings {
            path: store_path(&settings.state_folder),
            gateway: settings.gateway_id.clone(),
            synchronous: settings.synchronous,
            vfs: settings.vfs.clone(),
            capacity: settings.capacity,
            streams: settings.streams.clone(),
        };
        let (pipeline, lock) = (pipeline_settings(settings)?, Arc::clone(lock));
        let ((sender, opened), (delays, delayed)) = (oneshot::channel(), oneshot::channel());
        let thread = std::thread::Builder::new().name("opening".to_owned()).spawn(move || {
            let _lock = lock;
            let mut delays = Some(delays);
            while !sender.is_closed() {
                match opening::open(&writer, &pipeline, Moment { wall_ms: now_ms(), steady_ms: 0 }) {
                    Err(error) if error.is_of_the_disk() => {
                        let _ = delays.take().map(|delays| delays.send(error));
                        std::thread::sleep(RETRY_PAUSE);
                    }
                    result => {
                        // If nobody waits any more, the process is ending.
                        let _ = sender.send(result.map(Box::new));
                        return;
                    }
                }
            }
        });
        thread.map_err(GatewayError::system("start a thread"))?;
        Ok(Opening { opened, delayed })
    }

    /// `None` if the store cannot be opened for now.
    pub async fn within(&mut self, time: Duration) -> Result<Option<Box<Opened>>, GatewayError> {
        tokio::select! {
            biased;
            opened = &mut self.opened => match opened {
                Ok(opened) => return opened.map(Some).map_err(GatewayError::Store),
                Err(_) => return Err(GatewayError::Ended { thread: "opening" }),
            },
            Ok(error) = &mut self.delayed => {
                tracing::error!("{}: nothing is acknowledged until it can be opened; everything is watched", with_causes(&error));
            }
            () = tokio::time::sleep(time) => {
                tracing::error!(
                    "the store has not been opened within {} s: nothing is acknowledged until it is; everything is watched",
                    time.as_secs()
                );
            }
        }
        Ok(None)
    }

    /// Waits for as long as it takes.
    pub async fn opened(self) -> Box<Opened> {
        match self.opened.await {
            Ok(Ok(opened)) => return opened,
            Ok(Err(error)) => tracing::error!("{}: it goes on without a store", with_causes(&error)),
            Err(_) => tracing::error!("the opening thread has ended unexpectedly: it goes on without a store"),
        }
        std::future::pending().await
    }
}

fn pipeline_settings(settings: &GatewaySettings) -> Result<PipelineSettings, GatewayError> {
    let mut run = [0; 8];
    getrandom::fill(&mut run)
        .map_err(|error| GatewayError::system("get random bytes from the system")(std::io::Error::other(error)))?;
    Ok(PipelineSettings {
        gateway: settings.gateway_id.clone(),
        run: RunId(run),
        monitor: settings.monitor.clone(),
        alerts: settings.alerts,
        rules: RuleSettings { book: settings.rules.book(), stopwatch: clock::nanoseconds },
    })
}

/// The streams while there is no store, under numbers of their own.
fn streams(settings: &GatewaySettings) -> Streams {
    Streams::default().with(&settings.streams).expect("there are not so many as numbers")
}

/// One that knows nothing of what is stored. It gives no positions: nothing can be stored.
pub(super) fn pipeline(settings: &GatewaySettings) -> Result<Pipeline, GatewayError> {
    let mut pipeline = Pipeline::new(pipeline_settings(settings)?, &PerStream::new(&streams(settings), |_| 0));
    pipeline.listen_from(Moment { wall_ms: now_ms(), steady_ms: 0 });
    Ok(pipeline)
}
