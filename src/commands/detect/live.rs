//! What is found while readings arrive is what a replay of them finds.

use std::collections::{BTreeMap, BTreeSet};

use firmware_sim::vehicle::{Metric, Vehicle};

use super::lines::Watching;
use super::{Format, Options, run};
use crate::core::batch::{Decoder, Stored};
use crate::core::detection::alert;
use crate::core::detection::alert::Moment;
use crate::core::identity::{PerStream, RunId, Stream};
use crate::core::pipeline::{Pipeline, PipelineSettings, SnapshotChunk};
use crate::core::reading::{Reading, Readings};

const START_MS: i64 = 1_700_000_000_000;

/// Series, time and detector.
type Flag = (String, i64, String);

/// A pipeline with a clock of its own, which ticks twice a second as the gateway's thread does.
struct Live {
    pipeline: Pipeline,
    now: Moment,
    alerts: BTreeMap<(String, String, String), Vec<u8>>,
    flagged: BTreeSet<Flag>,
    chunks: Vec<SnapshotChunk>,
}

impl Live {
    fn start() -> Live {
        let now = Moment { wall_ms: START_MS, steady_ms: 0 };
        Live { pipeline: pipeline(1, now), now, alerts: BTreeMap::new(), flagged: BTreeSet::new(), chunks: Vec::new() }
    }

    fn publish(&mut self, metric: Metric, value: f64) {
        let mut readings = Readings::default();
        readings.push(&Reading::at(self.now.wall_ms, "truck", metric.name(), value));
        self.pipeline.take_from(&readings, 1, self.now);
        self.collect();
    }

    fn second_passes(&mut self) {
        for _ in 0..2 {
            self.now = Moment { wall_ms: self.now.wall_ms + 500, steady_ms: self.now.steady_ms + 500 };
            self.pipeline.tick(self.now);
            self.collect();
        }
    }

    /// Takes note of all that a commit would make durable.
    fn collect(&mut self) {
        let sealed = self.pipeline.seal();
        for row in sealed.alerts {
            let key = (row.device.to_string(), row.metric.to_string(), row.kind.to_string());
            match row.body {
                Some(body) => self.alerts.insert(key, body),
                None => self.alerts.remove(&key),
            };
        }
        for batch in sealed.batches.iter().filter(|batch| batch.stream == Stream::ANOMALIES) {
            for record in Decoder::new(&batch.payload).expect("a batch of ours") {
                let Ok(Stored::Line { line, .. }) = record else { panic!("a line") };
                self.flagged.extend(flags(&serde_json::from_slice(line).expect("JSON")));
            }
        }
        self.chunks.extend(sealed.snapshot);
    }

    /// Stopped with a snapshot, and started again at once.
    fn restart(&mut self) {
        self.chunks.clear();
        self.pipeline.request_final_snapshot();
        self.collect();
        self.now.steady_ms = 0;
        self.pipeline = pipeline(2, self.now);
        for chunk in &self.chunks {
            self.pipeline.restore(&chunk.state, self.now).expect("a snapshot of ours");
        }
        for body in self.alerts.values() {
            let (key, alert) = alert::read_alert(body).expect("an alert of ours");
            self.pipeline.restore_alert(key, alert, self.now);
        }
        self.pipeline.end_recovery();
    }
}

fn pipeline(run: u8, now: Moment) -> Pipeline {
    let mut pipeline = Pipeline::new(PipelineSettings::new("g", RunId([run; 8])), &PerStream::default());
    pipeline.listen_from(now);
    pipeline
}

/// What a line of the anomalous stream says: one detector, and others that agree.
fn flags(line: &serde_json::Value) -> Vec<Flag> {
    if line["type"] != "anomaly" {
        return Vec::new();
    }
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let series = format!("{}/{}", text(&line["device"]), text(&line["metric"]));
    let at_ms = line["measured_at_ms"].as_i64().expect("a time");
    let also = line["also"].as_array().expect("a list");
    std::iter::once(&line["detector"]).chain(also).map(|detector| (series.clone(), at_ms, text(detector))).collect()
}

/// What `outrider detect` prints for the lines of a file.
fn replayed(file: &str) -> BTreeSet<Flag> {
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    let options = Options { format: Format::Rows, severity_min: None, unit: None };
    run(file.as_bytes(), (&mut rows, &mut errors), Watching::default(), options, None).expect("memory");
    let flag = |row: &str| {
        let fields: Vec<&str> = row.split(',').collect();
        (fields[0].to_owned(), fields[1].parse().expect("a time"), fields[3].to_owned())
    };
    String::from_utf8(rows).expect("text").lines().map(flag).collect()
}

/// A vehicle's readings, with a spike, a step, a stuck stretch and a silence in its engine's temperature.
fn reported(vehicle: &Vehicle, metric: Metric, second: u64) -> Option<f64> {
    let value = vehicle.value(metric, second);
    if metric != Metric::EngineTemperature {
        return Some(value);
    }
    match second {
        700 => Some(value + 30.0),
        900..1_000 => Some(value + 12.0),
        1_400..1_500 => Some(vehicle.value(metric, 1_400)),
        1_700..1_730 => None,
        _ => Some(value),
    }
}

#[test]
fn live_and_replayed_the_verdicts_are_the_same_across_a_restart_too() {
    let vehicle = Vehicle::new(7, 3, 1.0);
    for restart_at in [None, Some(705), Some(950), Some(1_450)] {
        let mut live = Live::start();
        let mut file = String::new();
        for second in 0..2_000 {
            if restart_at == Some(second) {
                live.restart();
            }
            for metric in [Metric::EngineTemperature, Metric::ContainerTemperature, Metric::Speed] {
                if let Some(value) = reported(&vehicle, metric, second) {
                    live.publish(metric, value);
                    file += &format!("truck/{},{},{value}\n", metric.name(), live.now.wall_ms);
                }
            }
            live.second_passes();
        }
        let replayed = replayed(&file);
        let found: BTreeSet<&str> = replayed.iter().map(|(_, _, detector)| detector.as_str()).collect();
        assert_eq!(found, BTreeSet::from(["gap", "shift", "spike", "stuck"]), "the test says something");
        // A file has no ticks between its lines: a silence is told by the next line.
        let without_gaps = |all: &BTreeSet<Flag>| -> BTreeSet<Flag> {
            all.iter().filter(|(_, _, detector)| detector != "gap").cloned().collect()
        };
        assert_eq!(without_gaps(&live.flagged), without_gaps(&replayed), "restarted at {restart_at:?}");
        let gaps = |all: &BTreeSet<Flag>| -> Vec<i64> {
            all.iter().filter(|(_, _, detector)| detector == "gap").map(|(_, at_ms, _)| *at_ms).collect()
        };
        let (live, file) = (gaps(&live.flagged), gaps(&replayed));
        assert!(live.len() == 1 && file.len() == 1 && (live[0] - file[0]).abs() <= 1_000, "{live:?} {file:?}");
    }
}
