//! For tests: a store that can be filled, and what a sink's task needs to read it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::watch;

use super::status::{ForwardStatus, Link};
use super::stream::StreamParts;
use crate::core::batch::{BatchEncoder, Tag};
use crate::core::delivery::Plan;
use crate::core::identity::{RunId, Stream};
use crate::core::link::Class;
use crate::core::pipeline::{Pipeline, PipelineSettings, Sealed, SealedBatch};
use crate::core::reading::{Attributes, Reading, Readings, TimeQuality};
use crate::pipeline::Message;
use crate::store::commit::CommitInput;
use crate::store::reader::Reader;
use crate::store::schema::{Synchronous, store_path};
use crate::store::writer::{Writer, WriterSettings};

fn open(folder: &Path, run: RunId) -> (Writer, Pipeline) {
    let settings = WriterSettings { synchronous: Synchronous::Off, ..WriterSettings::for_tests(folder) };
    let writer = Writer::open(&settings, run).expect("a store");
    let pipeline =
        Pipeline::new(PipelineSettings::new("g", run), &writer.last_sequences().expect("a store that can be read"));
    (writer, pipeline)
}

pub struct Bench {
    pub folder: tempfile::TempDir,
    pub writer: Writer,
    pub committed: watch::Sender<u64>,
    pub link: watch::Sender<Link>,
    pub status: Arc<ForwardStatus>,
    pipeline: Pipeline,
}

impl Bench {
    pub fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (writer, pipeline) = open(folder.path(), RunId([7; 8]));
        Bench {
            writer,
            folder,
            committed: watch::Sender::new(0),
            link: watch::Sender::new(Link::Up),
            status: Arc::default(),
            pipeline,
        }
    }

    /// Opens the store again, as the next process does.
    pub fn begin_run(&mut self, run: RunId) {
        (self.writer, self.pipeline) = open(self.folder.path(), run);
    }

    /// Commits this many readings of one device.
    pub fn commit(&mut self, count: u64) {
        self.commit_saying(count, count);
    }

    /// Commits a batch that claims to hold more readings than it does.
    pub fn commit_saying(&mut self, said: u64, count: u64) {
        self.commit_received(&vec![0; count as usize], said);
    }

    /// Commits a reading for each of these times of receipt.
    pub fn commit_at(&mut self, received_ms: &[i64]) {
        self.commit_received(received_ms, received_ms.len() as u64);
    }

    fn commit_received(&mut self, received_ms: &[i64], said: u64) {
        let count = received_ms.len() as u64;
        let mut readings = Readings::default();
        for (number, received_at_ms) in (0..).zip(received_ms) {
            readings.push(&Reading {
                device: "tank",
                metric: "t",
                value: 1.0,
                rounding: None,
                measured_at_ms: *received_at_ms,
                received_at_ms: *received_at_ms,
                time_quality: TimeQuality::Synced,
                device_time: None,
                sequence: Some(number),
                attributes: Attributes::NONE,
            });
        }
        self.pipeline.take(&readings, Default::default());
        let mut sealed = self.pipeline.seal();
        let batch = &mut sealed.batches[0];
        batch.last_sequence += said - count;
        batch.count = said as u32;
        self.writer.commit(&CommitInput { sealed, ..CommitInput::default() }).expect("a working disk");
        self.committed.send_modify(|last| *last += said);
    }

    /// Commits a reading of each of these devices.
    pub fn commit_of(&mut self, devices: &[&str]) {
        let mut readings = Readings::default();
        for (device, at) in devices.iter().zip(0..) {
            readings.push(&Reading::at(at, device, "t", 1.0));
        }
        self.pipeline.take(&readings, Default::default());
        let sealed = self.pipeline.seal();
        self.writer.commit(&CommitInput { sealed, ..CommitInput::default() }).expect("a working disk");
        self.committed.send_modify(|last| *last += devices.len() as u64);
    }

    /// Commits an anomaly for each of these lines.
    pub fn commit_anomalies(&mut self, lines: &[String]) {
        let mut encoder = BatchEncoder::default();
        for line in lines {
            encoder.push_line(Tag::Anomaly, "tank", line.as_bytes());
        }
        let before = *self.committed.borrow();
        let batch = SealedBatch {
            stream: Stream::ANOMALIES,
            last_sequence: before + lines.len() as u64,
            first_position: before,
            count: lines.len() as u32,
            first_ms: 0,
            last_ms: 0,
            payload: encoder.finish(),
        };
        let sealed = Sealed { batches: vec![batch], ..self.pipeline.seal() };
        self.writer.commit(&CommitInput { sealed, ..CommitInput::default() }).expect("a working disk");
        self.committed.send_modify(|last| *last += lines.len() as u64);
    }

    /// What a task needs to read the anomalies, of which alone something is committed.
    pub fn anomaly_parts(&mut self, sink: &str, pipeline: Sender<Message>) -> StreamParts {
        StreamParts {
            stream: Stream::ANOMALIES,
            stream_name: "anomalies".into(),
            cursor: self.writer.register_sink(sink, Stream::ANOMALIES).expect("a cursor"),
            plan: Plan::ByClass,
            ..self.stream_parts(sink, pipeline)
        }
    }

    /// What a task needs to read the raw stream.
    pub fn stream_parts(&mut self, sink: &str, pipeline: Sender<Message>) -> StreamParts {
        StreamParts {
            sink: sink.to_owned(),
            stream: Stream::RAW,
            stream_name: "raw".into(),
            reader: Reader::open(&store_path(self.folder.path()), None).expect("a reader"),
            cursor: self.writer.register_sink(sink, Stream::RAW).expect("a cursor"),
            passed_over: self.writer.passed_over(sink, Stream::RAW),
            held_keys: self.writer.held_keys(sink, Stream::RAW),
            committed: self.committed.subscribe(),
            given_up: self.writer.given_up(Stream::RAW),
            link: self.link.subscribe(),
            pipeline,
            saves: Default::default(),
            status: Arc::clone(&self.status),
            beat: Default::default(),
            plan: Plan::Whole { class: Class::Live },
            counted_link: None,
            socket: Default::default(),
        }
    }
}
