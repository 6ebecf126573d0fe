//! Of the store and its disk.

use super::text::Text;
use crate::admin::status::Status;

pub fn write(text: &mut Text, status: &Status) {
    if let Some(written) = &status.cost.written {
        text.counter(
            "disk_written_bytes_total",
            "bytes that the process wrote to disks since the start, in whole pages",
            written.bytes,
        );
    }
    text.gauge("buffer_bytes", "bytes in use in the store", status.store.bytes as f64);
    text.gauge("buffer_bytes_max", "capacity of the store", status.store.bytes_max as f64);
    text.gauge(
        "buffer_oldest_seconds",
        "age of the oldest record that is held for a sink",
        status.store.oldest_age_s.unwrap_or(0) as f64,
    );
    text.family("buffer_events", "gauge", "records held and not delivered, by stream and sink");
    for line in &status.ledger {
        text.sample("buffer_events", &[("stream", &line.stream), ("sink", &line.sink)], line.buffered as f64);
    }
    text.family("history_events", "gauge", "records held though every sink has them, by stream");
    for stream in &status.store.streams {
        text.sample("history_events", &[("stream", &stream.stream)], stream.history_records as f64);
    }
    text.family("history_seconds", "gauge", "age of the oldest of these");
    for stream in &status.store.streams {
        let age_ms = stream.history_from_ms.map_or(0, |from_ms| (status.now_ms - from_ms).max(0));
        text.sample("history_seconds", &[("stream", &stream.stream)], age_ms as f64 / 1e3);
    }
    text.gauge(
        "dead_letters_held",
        "refused records that are kept to be looked at",
        status.store.dead_letters_held as f64,
    );
    text.flag("store_salvaging", "1 while records are taken over from a damaged store", status.store.salvaging);
    text.counter("store_commits_total", "transactions since the start", status.store.commits);
    text.gauge(
        "store_commit_seconds_last",
        "duration of the last commit, fsync included",
        status.store.commit_ms_last / 1e3,
    );
    text.gauge("store_commit_seconds_max", "longest commit since the start", status.store.commit_ms_max / 1e3);
    text.flag("store_writing", "0 while the store cannot be written", status.store.writing);
    text.counter(
        "store_readings_refused_total",
        "readings turned away since the start because they could not be stored",
        status.store.readings_refused,
    );
    text.counter(
        "store_damaged_total",
        "damaged stores that were set aside, over all runs",
        status.store.damaged_stores,
    );
    if let Some(disk) = &status.disk {
        text.gauge("disk_free_bytes", "free bytes of the state folder's disk", disk.free_bytes as f64);
        text.gauge("disk_size_bytes", "size of the state folder's disk", disk.total_bytes as f64);
    }
}
