//! Opening the store, at once or as soon as the disk lets it be opened; and what runs until then.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{GatewayError, GatewaySettings};
use crate::clock::now_ms;
use crate::core::detection::alert::Moment;
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::store::opening::{self, Opened};
use crate::store::schema::{OpenError, store_path};
use crate::store::writer::WriterSettings;

/// How often it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the store is opened with.
pub(super) struct Opening {
    writer: WriterSettings,
    pipeline: PipelineSettings,
}

impl Opening {
    pub fn new(settings: &GatewaySettings) -> Result<Opening, GatewayError> {
        let writer = WriterSettings {
            path: store_path(&settings.state_folder),
            gateway: settings.gateway_id.clone(),
            synchronous: settings.synchronous,
            vfs: settings.vfs.clone(),
            capacity: settings.capacity,
        };
        Ok(Opening { writer, pipeline: pipeline_settings(settings)? })
    }

    pub fn try_once(&self) -> Result<Opened, OpenError> {
        opening::open(&self.writer, &self.pipeline, Moment { wall_ms: now_ms(), steady_ms: 0 })
    }

    /// Tries on a thread of its own, until the store is open or nobody waits for it any more.
    pub fn keep_trying(self) -> std::io::Result<oneshot::Receiver<Box<Opened>>> {
        let (sender, awaited) = oneshot::channel();
        std::thread::Builder::new().name("opening".to_owned()).spawn(move || {
            while !sender.is_closed() {
                std::thread::sleep(RETRY_PAUSE);
                match self.try_once() {
                    Ok(opened) => {
                        // If nobody waits any more, the process is ending.
                        let _ = sender.send(Box::new(opened));
                        return;
                    }
                    Err(error) if error.is_of_the_disk() => {}
                    Err(error) => return tracing::error!("{error}"),
                }
            }
        })?;
        Ok(awaited)
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
    })
}

/// One that knows nothing of what is stored. It gives no positions: nothing can be stored.
pub(super) fn pipeline(settings: &GatewaySettings) -> Result<Pipeline, GatewayError> {
    let mut pipeline = Pipeline::new(pipeline_settings(settings)?, &PerStream::default());
    pipeline.listen_from(Moment { wall_ms: now_ms(), steady_ms: 0 });
    Ok(pipeline)
}
