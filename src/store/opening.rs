//! Opens the store and restores the pipeline's state; a damaged store is set aside, and a new one created.

use super::reader::Reader;
use super::recovery::{self, Recovered};
use super::schema::OpenError;
use super::set_aside;
use super::writer::{Writer, WriterSettings};
use crate::core::detection::alert::Moment;
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::errors::with_causes;

#[derive(Debug)]
pub struct Opened {
    pub writer: Writer,
    pub pipeline: Pipeline,
    pub recovered: Recovered,
}

/// Opens the store and restores the pipeline's state from it.
///
/// # Errors
///
/// If the store cannot be opened and no new one created, or the file is not a store that this program can read.
pub fn open(settings: &WriterSettings, pipeline: &PipelineSettings, now: Moment) -> Result<Opened, OpenError> {
    if let Err(error) = set_aside::rename_former_folder(&settings.path) {
        tracing::warn!(%error, "the folder in which an earlier version set damaged stores aside cannot be renamed");
    }
    match Writer::open(settings, pipeline.run).and_then(|writer| recover(writer, pipeline, now)) {
        Err(error) if error.is_corrupt() => {
            tracing::error!(
                "{}: it is set aside, a new one is begun, and what can be read of it is salvaged in the background",
                with_causes(&error)
            );
            recover(Writer::open_anew(settings, pipeline.run)?, pipeline, now)
        }
        result => result,
    }
}

fn recover(writer: Writer, settings: &PipelineSettings, now: Moment) -> Result<Opened, OpenError> {
    let WriterSettings { path, vfs, .. } = writer.settings();
    let failed = |source| OpenError::Sqlite { path: path.clone(), source };
    let mut pipeline = Pipeline::new(settings.clone(), &writer.last_sequences().map_err(failed)?);
    let mut reader = Reader::open(path, vfs.as_deref())?;
    let recovered = recovery::recover(&mut reader, &mut pipeline, now).map_err(failed)?;
    Ok(Opened { writer, pipeline, recovered })
}
