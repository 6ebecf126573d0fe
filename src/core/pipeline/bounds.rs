//! However much comes at once, batches and turns stay bounded.

use super::*;
use crate::batch::{CLOSED_AT_BYTES, Decoder, RECORD_BYTES_MAX};
use crate::identity::Streams;
use crate::reading::{Attributes, pack_attribute};

fn pipeline() -> Pipeline {
    Pipeline::new(
        PipelineSettings::new("g", RunId([1; 8])),
        &PerStream::new(&Streams::default(), |stream| if stream == Stream::RAW { 7 } else { 9 }),
    )
}

/// Readings each of which is an anomaly, with attributes that take so many bytes in its record.
fn anomalies(count: usize, attribute_bytes: usize) -> Readings {
    let mut packed = Vec::new();
    pack_attribute(&mut packed, "a", &"\u{1}".repeat(attribute_bytes / 6));
    let mut readings = Readings::default();
    for number in 0..count {
        let metric = format!("m{number}");
        let attributes = Attributes::from_packed(&packed).expect("just packed");
        readings.push(&Reading { attributes, ..Reading::at(1, "d", &metric, f64::NAN) });
    }
    readings
}

/// Nothing is left out or given twice, and no batch is too large.
fn assert_whole(batches: &[&SealedBatch], mut sequence: u64) -> u64 {
    let mut position = 0;
    for batch in batches {
        assert!(batch.payload.len() <= CLOSED_AT_BYTES + RECORD_BYTES_MAX, "{} bytes", batch.payload.len());
        assert_eq!(batch.first_position, position + 1);
        assert_eq!(batch.last_sequence, sequence + u64::from(batch.count));
        let records = Decoder::new(&batch.payload).expect("a batch of ours").map(|record| record.expect("a record"));
        assert_eq!(records.count() as u32, batch.count);
        position += u64::from(batch.count);
        sequence = batch.last_sequence;
    }
    position
}

#[test]
fn a_batch_is_closed_when_it_is_large_and_the_next_one_follows_it() {
    let mut pipeline = pipeline();
    pipeline.take(&anomalies(200, 60_000), Moment::default());
    assert!(pipeline.open_count() >= 400 && pipeline.open_bytes() > 12_000_000);
    let sealed = pipeline.seal();
    assert_eq!((pipeline.open_count(), pipeline.open_bytes()), (0, 0));
    let of = |stream| sealed.of(stream).collect::<Vec<_>>();
    assert_eq!(assert_whole(&of(Stream::RAW), 7), 200);
    assert!(of(Stream::ANOMALIES).len() >= 12, "several in one commit");
    assert_eq!(assert_whole(&of(Stream::ANOMALIES), 9), 200 + sealed.alerts.len() as u64);
}

#[test]
fn what_time_alone_brings_is_split_as_well() {
    let mut pipeline = pipeline();
    let at = |seconds: u64| Moment { wall_ms: 1_000 * seconds as i64, steady_ms: 1_000 * seconds };
    pipeline.listen_from(at(0));
    for second in 1..20 {
        let mut readings = Readings::default();
        for number in 0..4_000 {
            readings.push(&Reading::at(1_000 * second, &format!("d{number}"), "m", 1.0 + second as f64));
        }
        pipeline.take(&readings, at(second as u64));
    }
    pipeline.seal();
    let mut sealed = Sealed::default();
    for second in 20..600 {
        pipeline.tick(at(second));
        let next = pipeline.seal();
        if next.of(Stream::ANOMALIES).count() > sealed.of(Stream::ANOMALIES).count() {
            sealed = next;
        }
    }
    let of_one_tick: Vec<_> = sealed.of(Stream::ANOMALIES).collect();
    assert!(of_one_tick.len() > 1, "{} batches", of_one_tick.len());
    assert!(of_one_tick.iter().all(|batch| batch.payload.len() <= CLOSED_AT_BYTES + RECORD_BYTES_MAX));
}

#[test]
fn a_turn_is_bounded_in_readings_and_in_what_they_become() {
    let mut pipeline = pipeline();
    let mut turn = |readings: &Readings, taken| pipeline.take_turn(readings, taken, 0, Moment::default());
    let large = anomalies(100, 60_000);
    let first = turn(&large, 0);
    assert!((1..20).contains(&first), "{first} readings of 60 kB each");
    assert!((first + 1..40).contains(&turn(&large, first)));
    let many = anomalies(10_000, 0);
    assert!(turn(&many, 0) <= READINGS_A_TURN);
    assert_eq!(turn(&many, 9_999), 10_000);
    assert_eq!(turn(&many, 10_000), 10_000);
}
