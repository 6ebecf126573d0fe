//! What a commit takes, and for how much of it room is made.

use super::*;
use crate::core::pipeline::AlertRow;
use crate::core::reading::pack_attribute;

#[test]
fn a_commit_says_what_its_payloads_take_once_they_are_compressed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
    let report = commit(
        &mut writer,
        &mut new_pipeline(RUN, &PerStream::default()),
        &readings(1, 1000, "the same again and again"),
    );
    let stored = writer.connection().query_row("SELECT length(payload), raw_len FROM batch", [], |row| {
        Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
    });
    let (stored, raw) = stored.expect("one batch");
    assert_eq!(report.payload_bytes, stored);
    assert!(stored < raw, "{stored} of {raw}");
}

/// A hostile device may send large readings that compress to nothing: they must displace nobody's readings.
#[test]
fn room_is_made_for_what_is_stored_and_not_for_what_it_was() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 16 << 20), RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    writer.register_sink("one", Stream::RAW).expect("a cursor");
    writer.register_sink("one", Stream::ANOMALIES).expect("a cursor");
    commit(&mut writer, &mut pipeline, &readings(1, 1_000, ""));
    let mut packed = Vec::new();
    pack_attribute(&mut packed, "a", &"\"".repeat(16_000));
    let mut flood = Readings::default();
    for number in 0..1_000 {
        let attributes = Attributes::from_packed(&packed).expect("just packed");
        flood.push(&Reading { attributes, ..Reading::at(1, "flood", &format!("m{number}"), f64::NAN) });
    }
    pipeline.take(&flood, Default::default());
    let input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
    let bytes: usize = input.batches().map(|batch| batch.payload.len()).sum();
    assert!(bytes > 30 << 20, "more than the store: {bytes}");
    let report = writer.commit(&input).expect("a working disk");
    assert_eq!(report.expired, []);
    assert!(report.payload_bytes < 1 << 20, "{}", report.payload_bytes);
    assert_eq!(ledger(&writer), (2_000, 0, 0, 2_000));
}

/// The size that is computed beforehand is the size that it takes.
#[test]
fn what_a_row_takes_is_known_before_it_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
    let mut noise = 1u64;
    for bytes in [10, 5_000, 300_000] {
        let mut input = CommitInput::default();
        let mut batch = anomaly_batch(1, &mut noise);
        batch.payload = (0..bytes)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        batch.last_sequence = bytes;
        input.sealed.batches.push(batch);
        let counted: u64 = rows::compress(&writer.run, &input).iter().map(BatchRow::stored_bytes).sum();
        let before = retention::used_bytes(writer.connection()).expect("a number");
        let report = writer.commit(&input).expect("a working disk");
        assert!(report.used_bytes <= before + counted && counted <= report.used_bytes - before + 3 * 4096);
    }
}

/// What replaces earlier data, or is not stored at all, displaces nothing.
#[test]
fn room_is_made_neither_for_what_is_replaced_nor_for_samples_that_are_not_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 16 << 20), RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    writer.register_sink("one", Stream::RAW).expect("a cursor");
    commit(&mut writer, &mut pipeline, &readings(1, 1_000, ""));
    let alert = |number: usize| AlertRow {
        device: format!("d{}", number % 1_000),
        metric: "m".to_owned(),
        kind: "limit".to_owned(),
        body: Some(format!("\"{}\"", "x".repeat(998)).into_bytes()),
    };
    let mut input = CommitInput::default();
    // Each of a thousand alerts changes twenty times.
    input.sealed.alerts = (0..20_000).map(alert).collect();
    input.sealed.snapshot = vec![SnapshotChunk { index: 0, sequence: 0, state: vec![b'x'; 1 << 20] }];
    input.undecodable = (0..10_000)
        .map(|number| Undecodable {
            reason: "not_json",
            topic: "devices/d".to_owned(),
            file: None,
            sample: vec![b'x'; 1_024],
            received_at_ms: number,
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(writer.commit(&input).expect("a working disk").expired, []);
    }
    assert_eq!(ledger(&writer), (1_000, 0, 0, 1_000));
}
