//! What a reading takes in a file: bytes and time, by format and, for Parquet, by the rows of a row group.
//!
//! Run it with `cargo bench --bench files`. The readings are those of a van's drive: eight metrics a second in one publish, with a sequence
//! number, as `firmware-sim record` makes them.

use std::time::Instant;

use firmware_sim::record::{Kind, RecordSettings, record};
use outrider::core::batch::Stored;
use outrider::core::identity::RunId;
use outrider::core::reading::{Attributes, Reading};
use outrider::sinks::files::RecordFile;
use outrider::sinks::files::format::{FileFormat, Packing};
use outrider::sinks::files::output::{Output, Target};
use outrider::store::log::Record;

const METRICS: usize = 8;
const READINGS: usize = 200_000;

struct Sample {
    metric: String,
    value: f64,
    measured_at_ms: i64,
    received_at_ms: i64,
    sequence: u64,
}

/// From the morning on, when the van is on the road.
fn samples() -> Vec<Sample> {
    let settings = RecordSettings { kind: Kind::Vehicle, devices: 1, days: 1, seed: 3, faults_per_day: 0.0 };
    let mut lines = Vec::new();
    record(&settings, &mut lines, &mut std::io::sink()).expect("memory");
    let lines = String::from_utf8(lines).expect("text");
    let fields: Vec<Vec<&str>> = lines.lines().map(|line| line.split(',').collect()).collect();
    let mut metrics: Vec<&str> = fields.iter().take(METRICS).map(|fields| fields[0]).collect();
    metrics.sort_unstable();
    let (mut samples, mut jitter) = (Vec::new(), 7_u64);
    let start_ms: i64 = fields[0][1].parse().expect("a time");
    for fields in fields.iter().filter(|fields| metrics.contains(&fields[0])) {
        let at_ms: i64 = fields[1].parse().expect("a time");
        let second = (at_ms - start_ms) / 1000;
        if second < 7 * 3600 {
            continue;
        }
        let is_next = samples.last().is_none_or(|last: &Sample| last.sequence != second as u64);
        if is_next {
            jitter = jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        let measured_at_ms = start_ms + second * 1000;
        samples.push(Sample {
            metric: fields[0].split('/').nth(1).expect("a metric").to_owned(),
            value: fields[2].parse().expect("a number"),
            measured_at_ms,
            received_at_ms: measured_at_ms + 8 + (jitter >> 60) as i64,
            sequence: second as u64,
        });
        if samples.len() == READINGS {
            break;
        }
    }
    samples
}

/// Writes a file of them; its size, and the time that it took for each reading in microseconds.
fn write(samples: &[Sample], format: FileFormat, rows: u32) -> (u64, f64) {
    let started = Instant::now();
    let output = Output::plain(Target::Memory(Vec::new()));
    let mut file = RecordFile::begin_with(format, "raw", output, rows).expect("memory");
    for (position, sample) in (1..).zip(samples) {
        let reading = Reading {
            measured_at_ms: sample.measured_at_ms,
            sequence: Some(sample.sequence),
            attributes: Attributes::NONE,
            ..Reading::at(sample.received_at_ms, "van-01", &sample.metric, sample.value)
        };
        let record = Record {
            sequence: position,
            run: RunId([0x7f; 8]),
            gateway: "truck-0042",
            position,
            received_ms: sample.received_at_ms,
            stored: Stored::Reading(reading),
        };
        file.write(&record).expect("memory");
    }
    let bytes = file.finish().expect("memory").bytes;
    (bytes, started.elapsed().as_secs_f64() * 1e6 / samples.len() as f64)
}

fn main() {
    let samples = samples();
    let report = |name: &str, (bytes, micros): (u64, f64)| {
        println!("{name:32} {:7.2} B a reading {micros:7.3} us", bytes as f64 / samples.len() as f64);
    };
    println!("{} readings of {METRICS} metrics at 1 Hz", samples.len());
    report("ndjson zstd", write(&samples, FileFormat::Ndjson(Packing::Zstd), 0));
    report("ndjson gzip", write(&samples, FileFormat::Ndjson(Packing::Gzip), 0));
    for rows in [500, 5_000, 20_000, 100_000] {
        report(&format!("parquet, {rows} rows a group"), write(&samples, FileFormat::Parquet, rows));
    }
    // A quarter of an hour, the default of `s3`, is one file.
    let quarter = &samples[..METRICS * 900];
    for (name, format) in
        [("ndjson zstd, 15 minutes", FileFormat::Ndjson(Packing::Zstd)), ("parquet, 15 minutes", FileFormat::Parquet)]
    {
        let (bytes, _) = write(quarter, format, 20_000);
        println!("{name:32} {:7.2} B a reading", bytes as f64 / quarter.len() as f64);
    }
}
