//! The operations besides PutRecords: streams, shards, and enough of a consumer to look at what arrived.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::{ApiError, Engine, Now, STREAMS_MAX};
use crate::put::sequence_number;
use crate::settings::{Mode, StreamSettings};
use crate::stream::{Record, Stream, parse_shard_id, shard_id};

const RECORDS_A_READ_MAX: usize = 10_000;
/// Most bytes of data in one answer to GetRecords.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The fields of all these operations together; each uses a few of them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_count: Option<u32>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    starting_sequence_number: Option<String>,
    shard_iterator: Option<String>,
    limit: Option<usize>,
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::new("SerializationException", error.to_string()))
}

/// The stream's name, given directly or as the end of an ARN; the name has priority.
pub(crate) fn stream_name<'a>(name: Option<&'a str>, arn: Option<&'a str>) -> Result<&'a str, ApiError> {
    name.or_else(|| arn?.rsplit_once(":stream/").map(|(_, name)| name))
        .filter(|name| is_stream_name(name))
        .ok_or_else(|| ApiError::new("ValidationException", "either StreamARN or StreamName must be valid"))
}

pub(crate) fn is_stream_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(is_allowed)
}

pub(crate) fn perform(engine: &mut Engine, operation: &str, body: &[u8], now: Now) -> Result<Vec<u8>, ApiError> {
    let input: Input = match operation {
        "CreateStream"
        | "DeleteStream"
        | "DescribeStream"
        | "DescribeStreamSummary"
        | "ListShards"
        | "ListStreams"
        | "GetShardIterator"
        | "GetRecords" => parse(body)?,
        _ => return Err(ApiError::new("UnknownOperationException", format!("unknown operation {operation}"))),
    };
    match operation {
        "ListStreams" => return Ok(list_streams(engine, now)),
        "GetRecords" => return get_records(engine, &input),
        _ => {}
    }
    let name = stream_name(input.stream_name.as_deref(), input.stream_arn.as_deref())?;
    match operation {
        "CreateStream" => create_stream(engine, name, &input, now),
        "DeleteStream" => {
            engine.stream(name, now)?;
            engine.streams.remove(name);
            Ok(b"{}".to_vec())
        }
        "DescribeStream" => describe_stream(name, engine.stream(name, now)?),
        "DescribeStreamSummary" => describe_summary(name, engine.stream(name, now)?),
        "ListShards" => Ok(answer(&json!({"Shards": shards(engine.stream(name, now)?)}))),
        _ => get_shard_iterator(engine, name, &input, now),
    }
}

fn answer(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn create_stream(engine: &mut Engine, name: &str, input: &Input, now: Now) -> Result<Vec<u8>, ApiError> {
    if engine.stream(name, now).is_ok() {
        return Err(ApiError::new("ResourceInUseException", format!("Stream {name} already exists.")));
    }
    let shards = input.shard_count.unwrap_or(4);
    let (name, shard_limits) = (name.to_owned(), engine.shard_limits);
    let settings = StreamSettings { name, shards, shard_limits, appears_after: std::time::Duration::ZERO };
    if !engine.create_stream(&settings, now) {
        let message = format!("at most {STREAMS_MAX} streams of 1 to {} shards", StreamSettings::SHARDS_MAX);
        return Err(ApiError::new("LimitExceededException", message));
    }
    Ok(b"{}".to_vec())
}

fn list_streams(engine: &Engine, now: Now) -> Vec<u8> {
    let is_there = |stream: &Stream| stream.appears_at_ns <= now.since_start_ns;
    let there = engine.streams.iter().filter(|(_, stream)| is_there(stream));
    let mut names: Vec<&str> = there.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    answer(&json!({"StreamNames": names, "HasMoreStreams": false}))
}

fn arn(name: &str) -> String {
    format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}")
}

fn shards(stream: &Stream) -> Vec<Value> {
    let describe = |shard| {
        let (first, last) = stream.hash_range(shard);
        json!({
            "ShardId": shard_id(shard),
            "HashKeyRange": {"StartingHashKey": first.to_string(), "EndingHashKey": last.to_string()},
            "SequenceNumberRange": {"StartingSequenceNumber": sequence_number(0)},
        })
    };
    (0..stream.shard_count()).map(describe).collect()
}

fn describe_stream(name: &str, stream: &Stream) -> Result<Vec<u8>, ApiError> {
    Ok(answer(&json!({"StreamDescription": {
        "StreamName": name, "StreamARN": arn(name), "StreamStatus": "ACTIVE", "Shards": shards(stream),
        "HasMoreShards": false, "RetentionPeriodHours": 24, "StreamCreationTimestamp": 0, "EnhancedMonitoring": [],
        "EncryptionType": "NONE",
    }})))
}

fn describe_summary(name: &str, stream: &Stream) -> Result<Vec<u8>, ApiError> {
    Ok(answer(&json!({"StreamDescriptionSummary": {
        "StreamName": name, "StreamARN": arn(name), "StreamStatus": "ACTIVE", "OpenShardCount": stream.shard_count(),
        "RetentionPeriodHours": 24, "StreamCreationTimestamp": 0, "EnhancedMonitoring": [], "ConsumerCount": 0,
        "EncryptionType": "NONE", "StreamModeDetails": {"StreamMode": "PROVISIONED"},
    }})))
}

/// An iterator names its stream, its shard and the number of the stream's records it has passed.
fn iterator(name: &str, shard: u32, index: usize) -> String {
    format!("{name}/{shard}/{index}")
}

fn get_shard_iterator(engine: &mut Engine, name: &str, input: &Input, now: Now) -> Result<Vec<u8>, ApiError> {
    let count = engine.stream(name, now)?.shard_count();
    let shard = input.shard_id.as_deref().and_then(parse_shard_id).filter(|shard| *shard < count);
    let shard = shard.ok_or_else(|| ApiError::new("ResourceNotFoundException", "no such shard"))?;
    let records = engine.records(name);
    let past = |from: u64| records.partition_point(|record| record.sequence < from);
    let sequence = || {
        let digits = input.starting_sequence_number.as_deref().and_then(|text| text.strip_prefix("49"));
        let sequence = digits.and_then(|digits| digits.parse::<u64>().ok());
        sequence.ok_or_else(|| ApiError::new("InvalidArgumentException", "StartingSequenceNumber is not one of ours"))
    };
    let index = match input.shard_iterator_type.as_deref() {
        Some("TRIM_HORIZON") => 0,
        Some("LATEST") => records.len(),
        Some("AT_SEQUENCE_NUMBER") => past(sequence()?),
        Some("AFTER_SEQUENCE_NUMBER") => past(sequence()?.saturating_add(1)),
        _ => return Err(ApiError::new("InvalidArgumentException", "this ShardIteratorType is not offered")),
    };
    Ok(answer(&json!({"ShardIterator": iterator(name, shard, index)})))
}

fn get_records(engine: &Engine, input: &Input) -> Result<Vec<u8>, ApiError> {
    if engine.mode == Mode::Count {
        return Err(ApiError::new("InvalidArgumentException", "this cloud counts records and keeps none"));
    }
    let parts = input.shard_iterator.as_deref().and_then(|text| {
        let (rest, index) = text.rsplit_once('/')?;
        let (name, shard) = rest.rsplit_once('/')?;
        Some((name, shard.parse::<u32>().ok()?, index.parse::<usize>().ok()?))
    });
    let Some((name, shard, start)) = parts else {
        return Err(ApiError::new("InvalidArgumentException", "this ShardIterator is not one of ours"));
    };
    let limit = input.limit.unwrap_or(RECORDS_A_READ_MAX).clamp(1, RECORDS_A_READ_MAX);
    let records = engine.records(name);
    let (mut found, mut bytes, mut next) = (Vec::new(), 0, start.min(records.len()));
    while next < records.len() && found.len() < limit && bytes < READ_BYTES_MAX {
        let record = &records[next];
        next += 1;
        if record.shard == shard {
            bytes += record.data.len();
            found.push(describe_record(record));
        }
    }
    Ok(answer(&json!({
        "Records": found, "NextShardIterator": iterator(name, shard, next), "MillisBehindLatest": 0,
    })))
}

fn describe_record(record: &Record) -> Value {
    json!({
        "SequenceNumber": sequence_number(record.sequence),
        "PartitionKey": &*record.partition_key,
        "Data": STANDARD.encode(&record.data),
        "ApproximateArrivalTimestamp": record.arrived_at_ms as f64 / 1_000.0,
    })
}
