//! Of each `[[file]]`.

use super::text::Text;
use crate::admin::status::{InputStatus, Status};

/// Name, kind, help and value of a metric of each `[[file]]`.
type OfFiles = (&'static str, &'static str, &'static str, fn(&InputStatus) -> f64);

const OF_FILES: [OfFiles; 13] = [
    ("file_known", "gauge", "files that are known", |files| files.files_total as f64),
    ("file_size_bytes", "gauge", "bytes of the files that are read", |files| files.size_bytes as f64),
    ("file_place_bytes", "gauge", "bytes of them whose readings are stored", |files| {
        files.size_bytes.saturating_sub(files.lag_bytes) as f64
    }),
    ("file_lag_bytes", "gauge", "bytes of them that were seen and are not stored yet", |files| files.lag_bytes as f64),
    ("file_lines_total", "counter", "lines stored since the start", |files| files.lines as f64),
    ("file_lines_refused_total", "counter", "lines that could not be decoded, or that no route takes", |files| {
        files.lines_refused as f64
    }),
    ("file_lines_too_long_total", "counter", "lines left out because they are too long", |files| {
        files.lines_too_long as f64
    }),
    ("file_cuts_total", "counter", "files that were cut, with what was written after the last look", |files| {
        files.cuts as f64
    }),
    ("file_vanished_total", "counter", "files that went away unseen, perhaps with lines that were not read", |files| {
        files.vanished as f64
    }),
    ("file_let_go_total", "counter", "deleted files that were let go before they were read", |files| {
        files.let_go as f64
    }),
    (
        "file_lost_bytes_total",
        "counter",
        "bytes that were seen, and were cut or deleted before they were read",
        |files| files.lost_bytes as f64,
    ),
    ("file_damaged_total", "counter", "compressed files that cannot be unpacked as a whole", |files| {
        files.damaged as f64
    }),
    ("file_faults_total", "counter", "files that could not be opened or read, once each look", |files| {
        files.faults as f64
    }),
];

pub fn write(text: &mut Text, status: &Status) {
    if status.files.is_empty() {
        return;
    }
    for (name, kind, help, value) in OF_FILES {
        text.family(name, kind, help);
        for files in &status.files {
            text.sample(name, &[("file", &files.path)], value(files));
        }
    }
    text.family("file_newest_line_seconds", "gauge", "how long ago the newest line was read, since the start");
    for files in &status.files {
        if let Some(newest_ms) = files.newest_line_ms {
            let age_ms = (status.now_ms - newest_ms).max(0);
            text.sample("file_newest_line_seconds", &[("file", &files.path)], age_ms as f64 / 1e3);
        }
    }
}
