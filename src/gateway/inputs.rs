//! The threads that read files, the places of files that no `[[file]]` is about any more, and the thread of bridges.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parts::Parts;
use super::{GatewayError, GatewaySettings, now_ms};
use crate::bridge::status::BridgeSource;
use crate::bridge::{self, BridgeParts};
use crate::core::files::place_glob;
use crate::core::mqtt::pace::Urgency;
use crate::core::reading::Readings;
use crate::files::status::FilesSource;
use crate::files::{self, FileSettings, FilesParts};
use crate::handoff::{Entry, EntryChange, PipelineHandle, SessionProgress, Submission};
use crate::ingest::undecodable::UndecodableKinds;
use crate::ingest::{ClockState, Ingest};
use crate::mqtt::bridging::BridgeEnd;
use crate::pipeline::Message;

impl Parts {
    /// Starts what reads files. Without a store nothing is read: it would only be refused.
    pub(super) fn start_files(
        &mut self,
        settings: &GatewaySettings,
        (pipeline, undecodable): (&PipelineHandle<Message>, &Arc<UndecodableKinds>),
        clock: &ClockState,
        entries: &[Entry],
    ) -> Result<(), GatewayError> {
        forget_left_places(&settings.files, pipeline, entries);
        for file in &settings.files {
            let started = files::start(FilesParts {
                settings: file.clone(),
                ingest: Ingest::new(settings.routes.clone(), clock.clone()),
                pipeline: pipeline.clone(),
                undecodable: Arc::clone(undecodable),
                entries,
                now_ms,
                beat: self.heartbeat.beat(format!("file-{}", file.path)),
                stop: self.stop_files.subscribe(),
            });
            self.files.push(started.map_err(GatewayError::system("start a thread that reads files"))?);
        }
        Ok(())
    }

    /// Starts the thread of all bridges. Returns what is for the MQTT side.
    pub(super) fn start_bridges(
        &mut self,
        settings: &GatewaySettings,
        pipeline: &PipelineHandle<Message>,
    ) -> Result<Vec<BridgeEnd>, GatewayError> {
        if settings.bridges.is_empty() {
            return Ok(Vec::new());
        }
        let started = bridge::start(BridgeParts {
            bridges: settings.bridges.clone(),
            pipeline: pipeline.clone(),
            beat: self.heartbeat.beat("bridges"),
            stop: self.stop_files.subscribe(),
        });
        let (thread, ends) = started.map_err(GatewayError::system("start the thread of bridges"))?;
        self.bridges = Some(thread);
        Ok(ends)
    }

    /// What is known of each `[[bridge]]`.
    pub(super) fn bridge_sources(&self) -> Vec<BridgeSource> {
        self.bridges.as_ref().map(|bridges| bridges.sources.clone()).unwrap_or_default()
    }

    /// How far the files of each `[[file]]` are read.
    pub(super) fn file_sources(&self, settings: &GatewaySettings) -> Vec<FilesSource> {
        let source = |file: &FileSettings| {
            let started = self.files.iter().find(|files| files.source.path == file.path);
            started.map_or_else(|| FilesSource::new(file.path.clone()), |files| files.source.clone())
        };
        settings.files.iter().map(source).collect()
    }
}

/// Deletes the places of files that are not read any more: they would stay in the store for ever.
fn forget_left_places(files: &[FileSettings], pipeline: &PipelineHandle<Message>, entries: &[Entry]) {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    let mut changes = Vec::new();
    for entry in entries {
        let Some(glob) = place_glob(&entry.key) else { continue };
        if files.iter().all(|file| file.path != glob) {
            *left.entry(glob).or_default() += 1;
            changes.push(EntryChange { key: entry.key.clone(), value: None });
        }
    }
    for (glob, places) in left {
        tracing::warn!(
            places,
            "no [[file]] has the path {glob} any more: how far its files were read is forgotten; if it comes back, they are read from their beginning"
        );
    }
    if changes.is_empty() {
        return;
    }
    // If this cannot be stored now, the next start does it. Without the pipeline the process is ending.
    let _ = pipeline.submit(Submission {
        session: Arc::<SessionProgress>::default(),
        through: 1,
        publishes: 1,
        wants_answer: false,
        urgency: Urgency::Relaxed,
        readings: Readings::default(),
        undecodable: Vec::new(),
        ruled: None,
        entries: changes,
        held_bytes: 0,
        share: None,
    });
}
