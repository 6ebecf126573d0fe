use super::super::{Moment, PerStream, PipelineSettings, Sealed, Storing};
use super::*;
use crate::batch::{Decoder, Stored};
use crate::identity::RunId;
use crate::record::RulePayload;

const NOW: Moment = Moment { wall_ms: 1_000, steady_ms: 0 };

fn streams() -> [Stream; 2] {
    [3, 4].map(|id| Stream::from_id(id).expect("a number"))
}

fn pipeline() -> Pipeline {
    let mut last_sequences = PerStream::default();
    streams().iter().for_each(|stream| *last_sequences.entry(*stream) = 10);
    let settings = PipelineSettings::new("g", RunId([1; 8]));
    Pipeline::new(settings, &last_sequences)
}

fn record(device: Option<&'static str>, payload: &'static [u8]) -> RuleRecord<'static> {
    let payload = RulePayload::Json(payload);
    RuleRecord { stream: "s", rule: "the-rule", device, topic: Some("a"), received_at_ms: 5, payload }
}

/// Keys and positions of what is sealed of a stream.
fn sealed_of(sealed: &Sealed, stream: Stream) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for batch in sealed.of(stream) {
        assert_eq!(batch.last_sequence, 10 + batch.first_position - 1 + u64::from(batch.count));
        for (stored, position) in Decoder::new(&batch.payload).expect("ours").zip(batch.first_position..) {
            let Ok(Stored::Line { tag, device, line }) = stored else { panic!("a line") };
            assert_eq!(tag, Tag::Record as u8);
            let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            assert_eq!(line["position"], position, "as it is sealed");
            found.push((device.to_owned(), position));
        }
    }
    found
}

#[test]
fn records_are_numbered_within_their_stream_and_sealed_with_all_others() {
    let mut pipeline = pipeline();
    let [first, second] = streams();
    assert_eq!(pipeline.push_record(first, &record(Some("tank"), b"1")), Ok(1));
    assert_eq!(pipeline.push_record(second, &record(Some("tank"), b"1")), Ok(1));
    assert_eq!(pipeline.push_record(first, &record(None, b"2")), Ok(2));
    assert_eq!(pipeline.open_count(), 3);
    let sealed = pipeline.seal();
    assert_eq!(sealed_of(&sealed, first), [("tank".to_owned(), 1), ("the-rule".to_owned(), 2)]);
    assert_eq!(sealed_of(&sealed, second), [("tank".to_owned(), 1)]);
    assert_eq!((pipeline.open_count(), pipeline.seal().is_empty()), (0, true));
    assert_eq!(pipeline.push_record(first, &record(None, b"3")), Ok(3), "positions go on");
}

#[test]
fn a_record_that_is_not_taken_has_no_position() {
    let mut pipeline = pipeline();
    let [first, _] = streams();
    let long = vec![b'1'; RECORD_BYTES_MAX].leak();
    let refusal = pipeline.push_record(first, &record(None, long)).expect_err("too long");
    assert!(matches!(refusal, RecordRefusal::TooLong { bytes } if bytes > RECORD_BYTES_MAX), "{refusal}");
    pipeline.set_storing(Storing::Nothing, NOW);
    assert_eq!(pipeline.push_record(first, &record(None, b"1")), Err(RecordRefusal::NothingStored));
    pipeline.set_storing(Storing::Everything, NOW);
    assert_eq!(pipeline.push_record(first, &record(None, b"1")), Ok(1));
    assert_eq!(sealed_of(&pipeline.seal(), first), [("the-rule".to_owned(), 1)]);
}

#[test]
fn many_records_make_several_batches_none_of_which_is_too_large() {
    let mut pipeline = pipeline();
    let [first, _] = streams();
    let payload = format!("\"{}\"", "1".repeat(RECORD_BYTES_MAX / 2)).into_bytes().leak();
    for position in 1..=20 {
        assert_eq!(pipeline.push_record(first, &record(Some("d"), payload)), Ok(position));
    }
    let sealed = pipeline.seal();
    assert!(sealed.of(first).count() > 1);
    assert!(sealed.of(first).all(|batch| batch.payload.len() <= crate::batch::CLOSED_AT_BYTES + RECORD_BYTES_MAX));
    assert_eq!(sealed_of(&sealed, first).len(), 20);
}
