//! Restores the detectors and the alerts at a start, and emits nothing twice.
//!
//! The snapshot is loaded, and the batches after it are replayed: the detectors learn, and nothing is emitted. Which alerts are raised is
//! in their own table, which was written in the same transactions as the records of their changes.

use rusqlite::Connection;

use super::held;
use super::log::{Block, Entry, Next};
use super::reader::Reader;
use super::streams;
use crate::core::batch::Stored;
use crate::core::detection::alert::{self, Moment};
use crate::core::identity::Stream;
use crate::core::pipeline::{AlertRow, Pipeline, RestoredPart};

/// What was restored.
#[derive(Debug, Default)]
pub struct Recovered {
    pub series: usize,
    pub replayed: u64,
    /// Alerts in the store, to be published again: retained messages are kept only in memory.
    pub alerts: Vec<AlertRow>,
}

/// Restores the state of the detectors and the alerts from the store.
///
/// # Errors
///
/// If the store cannot be read.
pub fn recover(reader: &mut Reader, pipeline: &mut Pipeline, now: Moment) -> rusqlite::Result<Recovered> {
    // First: time in which we did not run must not count as silence of replayed devices.
    pipeline.listen_from(now);
    pipeline.received_until(newest_receipt_ms(reader.connection())?);
    let snapshot = restore_snapshot(reader.connection(), pipeline, now)?;
    let series = pipeline.monitor().series_count();
    // Before the replay: a replayed reading may help to clear an alert.
    let alerts = restore_alerts(reader.connection(), pipeline, now)?;
    let replayed = replay(reader, pipeline, &snapshot, now)?;
    pipeline.end_recovery();
    Ok(Recovered { series, replayed, alerts })
}

/// When the store's newest batches were received. The clock may have been wrong before, but that is no reason to read all batches.
fn newest_receipt_ms(db: &Connection) -> rusqlite::Result<i64> {
    let newest = |stream| Ok(held::newest(db, stream)?.map_or(0, |newest| newest.last_ms));
    streams::load(db)?.all().try_fold(0, |latest, stream| newest(stream).map(|ms: i64| latest.max(ms)))
}

/// A restored chunk: its series come before `end` in the monitor, and have seen everything up to `sequence`.
struct Chunk {
    end: usize,
    sequence: u64,
}

#[derive(Default)]
struct Snapshot {
    chunks: Vec<Chunk>,
    /// Last sequence that the part about alerts has seen.
    alerts_sequence: u64,
}

fn restore_snapshot(db: &Connection, pipeline: &mut Pipeline, now: Moment) -> rusqlite::Result<Snapshot> {
    let mut select = db.prepare("SELECT seq, state FROM snapshot ORDER BY chunk")?;
    let mut rows = select.query([])?;
    let mut snapshot = Snapshot::default();
    while let Some(row) = rows.next()? {
        let state = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let sequence = row.get::<_, i64>(0)?.max(0) as u64;
        match pipeline.restore(state, now) {
            Ok(RestoredPart::Alerts) => snapshot.alerts_sequence = sequence,
            Ok(RestoredPart::Series { .. }) => {}
            // Its series warm up again, which is better than not starting.
            Err(error) => {
                tracing::warn!(%error, "a part of the detectors' snapshot cannot be restored and is left out")
            }
        }
        snapshot.chunks.push(Chunk { end: pipeline.monitor().series_count(), sequence });
    }
    Ok(snapshot)
}

/// Replays to the detectors what came after their snapshot. Series that are in no chunk are newer than all chunks.
fn replay(reader: &mut Reader, pipeline: &mut Pipeline, snapshot: &Snapshot, now: Moment) -> rusqlite::Result<u64> {
    let Snapshot { chunks, alerts_sequence } = snapshot;
    let mut after = chunks.iter().map(|chunk| chunk.sequence).min().unwrap_or(0);
    let mut block = Block::default();
    let mut replayed = 0;
    while reader.read_strictly(Stream::RAW, after, &mut block)? == Next::Block {
        for entry in block.entries(after) {
            // The sinks count damaged records; the detectors do without them.
            let Entry::Record(record) = entry else { continue };
            let Stored::Reading(reading) = &record.stored else { continue };
            let place = pipeline.monitor().index_of(reading.device, reading.metric);
            let seen = place.and_then(|place| chunks.iter().find(|chunk| place < chunk.end));
            let is_new_to_series = seen.is_none_or(|chunk| record.sequence > chunk.sequence);
            let is_news = record.sequence > *alerts_sequence;
            if is_new_to_series || is_news {
                pipeline.replay(reading, is_new_to_series, is_news, now);
                replayed += u64::from(is_new_to_series);
            }
        }
        after = block.last_sequence();
    }
    Ok(replayed)
}

fn restore_alerts(db: &Connection, pipeline: &mut Pipeline, now: Moment) -> rusqlite::Result<Vec<AlertRow>> {
    let mut select = db.prepare("SELECT body FROM alert ORDER BY device, metric, kind")?;
    let mut rows = select.query([])?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        let body: Vec<u8> = row.get(0)?;
        if let Some((key, alert)) = alert::read_alert(&body) {
            alerts.push(AlertRow {
                device: key.device.clone(),
                metric: key.metric.clone(),
                kind: key.kind.clone(),
                body: Some(body),
            });
            pipeline.restore_alert(key, alert, now);
        }
    }
    Ok(alerts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::detection::monitor::MonitorSettings;
    use crate::core::identity::RunId;
    use crate::core::pipeline::PipelineSettings;
    use crate::core::reading::{Reading, Readings};
    use crate::store::commit::CommitInput;
    use crate::store::schema::store_path;
    use crate::store::writer::{Writer, WriterSettings};

    fn pipeline(run: u8, writer: &Writer) -> Pipeline {
        pipeline_of(run, writer, MonitorSettings::default())
    }

    fn pipeline_of(run: u8, writer: &Writer, monitor: MonitorSettings) -> Pipeline {
        Pipeline::new(
            PipelineSettings { monitor, ..PipelineSettings::new("g", RunId([run; 8])) },
            &writer.last_sequences().expect("numbers"),
        )
    }

    fn at(second: i64) -> Moment {
        Moment { wall_ms: second * 1000, steady_ms: second as u64 * 1000 }
    }

    fn take(pipeline: &mut Pipeline, second: i64, value: f64) {
        take_of(pipeline, "tank", second, value);
    }

    fn take_of(pipeline: &mut Pipeline, device: &str, second: i64, value: f64) {
        let mut readings = Readings::default();
        readings.push(&Reading::at(second * 1000, device, "temp", value));
        pipeline.take(&readings, at(second));
    }

    fn commit(writer: &mut Writer, pipeline: &mut Pipeline) {
        writer.commit(&CommitInput { sealed: pipeline.seal(), ..CommitInput::default() }).expect("a working disk");
    }

    fn wave(second: i64) -> f64 {
        90.0 + 0.2 * ((second * 7919) % 11) as f64
    }

    /// Killed during an alarm, some time after a snapshot: with or without recovery. Returns the alerts before and after the restart.
    fn alarm_across_a_restart(with_recovery: bool) -> (Vec<AlertRow>, Vec<AlertRow>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&WriterSettings::for_tests(folder.path()), RunId([1; 8])).expect("a new store");
        let mut first = pipeline(1, &writer);
        for second in 0..200 {
            take(&mut first, second, wave(second));
            if second == 150 {
                first.tick(at(150));
            }
            commit(&mut writer, &mut first);
        }
        take(&mut first, 200, 120.0);
        let before = first.open_alerts().to_vec();
        commit(&mut writer, &mut first);
        drop((first, writer));

        let mut writer =
            Writer::open(&WriterSettings::for_tests(folder.path()), RunId([2; 8])).expect("the same store");
        let mut second = pipeline(2, &writer);
        let mut reader = Reader::open(&store_path(folder.path()), None).expect("a reader");
        if with_recovery {
            let recovered = recover(&mut reader, &mut second, at(203)).expect("readable");
            assert_eq!((recovered.series, recovered.alerts.len()), (1, 1));
            assert_eq!(recovered.replayed, 49, "what came after the part of the snapshot that has the series");
        }
        (203..210).for_each(|at| take(&mut second, at, wave(at)));
        take(&mut second, 210, 60.0);
        let after = second.open_alerts().to_vec();
        commit(&mut writer, &mut second);
        (before, after)
    }

    #[test]
    fn what_a_snapshot_had_when_there_were_more_series_is_not_restored_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (run, series_max, known) in [(1, 600, 0), (2, 10, 10), (3, 600, 10)] {
            let mut writer = Writer::open(&WriterSettings::for_tests(folder.path()), RunId([run; 8])).expect("a store");
            let mut pipeline = pipeline_of(run, &writer, MonitorSettings { series_max, ..MonitorSettings::default() });
            let mut reader = Reader::open(&store_path(folder.path()), None).expect("a reader");
            assert_eq!(recover(&mut reader, &mut pipeline, at(i64::from(run))).expect("readable").series, known);
            if run == 1 {
                (0..600).for_each(|device| take_of(&mut pipeline, &format!("d{device}"), 1, 20.0));
            }
            pipeline.request_final_snapshot();
            commit(&mut writer, &mut pipeline);
        }
    }

    #[test]
    fn an_alarm_goes_on_across_a_restart_under_its_own_id() {
        let (before, after) = alarm_across_a_restart(true);
        let read = |row: &AlertRow| alert::read_alert(row.body.as_deref().expect("not gone")).expect("an alert").1;
        let (raised, went_on) = (read(&before[0]), read(after.last().expect("flagged at once: no new warm-up")));
        assert_eq!(raised.id, went_on.id);
        assert!(went_on.revision > raised.revision);
        assert_eq!((went_on.raised_at_ms, went_on.state), (raised.raised_at_ms, alert::State::Raised));
    }

    #[test]
    fn without_recovery_the_alarm_would_be_lost() {
        assert_eq!(alarm_across_a_restart(false).1, [], "a new warm-up hides it");
    }
}
