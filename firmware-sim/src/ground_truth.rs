//! The faults that were really made, one NDJSON line each, to judge what a detector found.

use crate::fault::{Fault, FaultKind};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// A fault as it happened. Readings of the device measured in `[start_ms, end_ms)`, epoch milliseconds, are affected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroundTruth {
    pub device: String,
    pub metric: &'static str,
    pub fault: FaultKind,
    pub start_ms: i64,
    pub end_ms: i64,
    pub magnitude: f64,
}

impl GroundTruth {
    pub fn new(fault: &Fault, start_ms: i64, end_ms: i64) -> Self {
        let (device, metric) = (fault.device.clone(), fault.metric_name());
        GroundTruth { device, metric, fault: fault.kind, start_ms, end_ms, magnitude: fault.magnitude }
    }
}

/// Writes each fault when it is over, unbuffered, so the file is right even if the simulator is killed.
#[derive(Debug)]
pub struct GroundTruthFile(File);

impl GroundTruthFile {
    pub fn create(path: &Path) -> io::Result<Self> {
        File::create(path).map(GroundTruthFile)
    }

    pub fn append(&mut self, truth: &GroundTruth) -> io::Result<()> {
        let mut line = serde_json::to_vec(truth)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}
