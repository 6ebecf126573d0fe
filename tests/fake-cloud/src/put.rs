//! PutRecords: checks in the order of the service, then handles each record separately.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde::Deserialize;

use crate::engine::{ApiError, Engine, Now};
use crate::operations::{parse, stream_name};
use crate::plain::plain;
use crate::settings::{Limits, Mode};
use crate::stream::{Record, shard_id};

#[derive(Deserialize)]
struct PutRecords<'a> {
    #[serde(rename = "StreamName")]
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "Records", borrow)]
    records: Vec<Entry<'a>>,
}

/// Borrowed from the request unless JSON escapes prevent it: the data is most of what this process reads.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "Data", borrow)]
    data: Cow<'a, str>,
    #[serde(rename = "PartitionKey", borrow)]
    partition_key: Cow<'a, str>,
    #[serde(rename = "ExplicitHashKey")]
    explicit_hash_key: Option<String>,
}

/// A record that passed the checks of the request.
pub(crate) struct Checked<'a> {
    pub(crate) partition_key: &'a str,
    pub(crate) data: Range<usize>,
    pub(crate) hash_key: u128,
}

impl Checked<'_> {
    fn bytes(&self) -> u64 {
        (self.partition_key.len() + self.data.len()) as u64
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Accepted { shard: u32, sequence: u64 },
    Throttled { shard: u32 },
    Failed,
}

pub(crate) fn put_records(engine: &mut Engine, body: &[u8], now: Now) -> Result<Vec<u8>, ApiError> {
    with_scratch(engine, |engine, decoded| put_decoded(engine, body, decoded, now))
}

/// Lends the engine's buffer for decoded data.
pub(crate) fn with_scratch<T>(engine: &mut Engine, put: impl FnOnce(&mut Engine, &mut Vec<u8>) -> T) -> T {
    let mut decoded = std::mem::take(&mut engine.scratch);
    decoded.clear();
    let result = put(engine, &mut decoded);
    if engine.scratch.capacity() == 0 {
        engine.scratch = decoded;
    }
    result
}

fn put_decoded(engine: &mut Engine, body: &[u8], decoded: &mut Vec<u8>, now: Now) -> Result<Vec<u8>, ApiError> {
    let request: PutRecords<'_> = parse(body)?;
    let name = stream_name(request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let records = check(&request.records, &engine.limits, decoded).inspect_err(|_| engine.count_fault("limits"))?;
    let outcomes = carry_out(engine, name, "ValidationException", &records, body.len(), decoded, now)?;
    Ok(reply(&outcomes, name))
}

/// What follows once the request itself is found to be right; `invalid` is the code for one that holds the poison marker.
pub(crate) fn carry_out(
    engine: &mut Engine,
    name: &str,
    invalid: &'static str,
    records: &[Checked<'_>],
    body_bytes: usize,
    decoded: &mut Vec<u8>,
    now: Now,
) -> Result<Vec<Outcome>, ApiError> {
    match engine.stream(name, now) {
        Ok(stream) => stream.body_bytes += body_bytes as u64,
        Err(unknown) => {
            engine.count_fault("unknown_stream");
            return Err(unknown);
        }
    }
    if let Some(marker) = &engine.faults.poison_marker
        && let Some(index) =
            records.iter().position(|record| holds(&plain(&decoded[record.data.clone()]), marker.as_bytes()))
    {
        engine.count_fault("poison");
        return Err(ApiError {
            code: invalid,
            ..invalid_member(index, "data", "Member must not hold the poison marker")
        });
    }
    let outcomes = decide(engine, name, records, now)?;
    store(engine, name, records, &outcomes, decoded, now)?;
    Ok(outcomes)
}

fn holds(data: &[u8], marker: &[u8]) -> bool {
    memchr::memmem::find(data, marker).is_some()
}

fn invalid_member(index: usize, member: &str, constraint: &str) -> ApiError {
    let place = format!("records.{}.member.{member}", index + 1);
    let message = format!("1 validation error detected: Value at '{place}' failed to satisfy constraint: {constraint}");
    ApiError::new("ValidationException", message)
}

/// Decodes the records one after the other; a request with one invalid record is refused as a whole.
fn check<'a>(entries: &'a [Entry<'_>], limits: &Limits, decoded: &mut Vec<u8>) -> Result<Vec<Checked<'a>>, ApiError> {
    check_count(entries.len(), limits)?;
    let mut records = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        records.push(check_record(index, entry, limits, decoded)?);
    }
    check_total(&records, limits)?;
    Ok(records)
}

pub(crate) fn check_count(count: usize, limits: &Limits) -> Result<(), ApiError> {
    if count == 0 || count > limits.records_a_request {
        let bound = if count == 0 {
            "greater than or equal to 1".to_owned()
        } else {
            format!("less than or equal to {}", limits.records_a_request)
        };
        let message = format!(
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length {bound}"
        );
        return Err(ApiError::new("ValidationException", message));
    }
    Ok(())
}

pub(crate) fn check_total(records: &[Checked<'_>], limits: &Limits) -> Result<(), ApiError> {
    let total: u64 = records.iter().map(Checked::bytes).sum();
    if total > limits.request_bytes as u64 {
        let message = format!("Records size exceeds {} bytes limit", limits.request_bytes);
        return Err(ApiError::new("InvalidArgumentException", message));
    }
    Ok(())
}

/// Where the data of one record lies in `decoded`; a key of `key_bytes` counts as well.
pub(crate) fn decode(
    index: usize,
    data: &str,
    key_bytes: usize,
    limits: &Limits,
    decoded: &mut Vec<u8>,
) -> Result<Range<usize>, ApiError> {
    let start = decoded.len();
    STANDARD
        .decode_vec(data.as_bytes(), decoded)
        .map_err(|_| ApiError::new("SerializationException", format!("the data of record {index} is not base64")))?;
    if decoded.len() - start + key_bytes > limits.record_bytes {
        let constraint = format!("Member must have length less than or equal to {}", limits.record_bytes);
        return Err(invalid_member(index, "data", &constraint));
    }
    Ok(start..decoded.len())
}

fn check_record<'a>(
    index: usize,
    entry: &'a Entry<'_>,
    limits: &Limits,
    decoded: &mut Vec<u8>,
) -> Result<Checked<'a>, ApiError> {
    let key = entry.partition_key.as_ref();
    if key.is_empty() || key.chars().count() > limits.partition_key_chars {
        let constraint = format!("Member must have length from 1 to {}", limits.partition_key_chars);
        return Err(invalid_member(index, "partitionKey", &constraint));
    }
    let data = decode(index, &entry.data, key.len(), limits, decoded)?;
    let hash_key = match &entry.explicit_hash_key {
        // How Kinesis maps a partition key to a shard.
        None => u128::from_be_bytes(Md5::digest(key.as_bytes()).into()),
        Some(text) => text.parse().map_err(|_| {
            ApiError::new("InvalidArgumentException", format!("the ExplicitHashKey of record {index} is no hash key"))
        })?,
    };
    Ok(Checked { partition_key: key, data, hash_key })
}

/// Accepts or fails each record, in order of arrival or shuffled; the outcomes are in the order of the request.
fn decide(engine: &mut Engine, name: &str, records: &[Checked<'_>], now: Now) -> Result<Vec<Outcome>, ApiError> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    if engine.faults.shuffle_records {
        engine.random.shuffle(&mut order);
    }
    let mut outcomes = vec![Outcome::Failed; records.len()];
    for index in order {
        let record = &records[index];
        let is_throttled = engine.random.happens(engine.faults.record_throttled);
        let is_sick = engine.faults.sick_key.as_deref() == Some(record.partition_key);
        let is_failed = is_sick || !is_throttled && engine.random.happens(engine.faults.record_internal_failure);
        let stream = engine.stream(name, now)?;
        let shard = stream.shard_of(record.hash_key);
        outcomes[index] = if is_failed {
            engine.count_fault("record_internal_failure");
            Outcome::Failed
        } else if is_throttled {
            engine.count_fault("record_throttled");
            Outcome::Throttled { shard }
        } else if stream.admit(shard, record.bytes(), now.since_start_ns) {
            engine.sequence += 1;
            Outcome::Accepted { shard, sequence: engine.sequence }
        } else {
            engine.count_fault("shard_limit");
            Outcome::Throttled { shard }
        };
    }
    Ok(outcomes)
}

fn store(
    engine: &mut Engine,
    name: &str,
    records: &[Checked<'_>],
    outcomes: &[Outcome],
    decoded: &mut Vec<u8>,
    now: Now,
) -> Result<(), ApiError> {
    engine.put_requests += 1;
    let (request_number, mode) = (engine.put_requests, engine.mode);
    let stream = engine.stream(name, now)?;
    let mut accepted = Vec::with_capacity(records.len());
    for (record, outcome) in records.iter().zip(outcomes) {
        match *outcome {
            Outcome::Accepted { shard, sequence } => accepted.push((sequence, shard, record)),
            Outcome::Throttled { .. } => stream.records_throttled += 1,
            Outcome::Failed => stream.records_failed += 1,
        }
    }
    // The order of acceptance, which is that of the request unless it was shuffled.
    accepted.sort_unstable_by_key(|(sequence, ..)| *sequence);
    for (_, _, record) in &accepted {
        stream.tally.add(&plain(&decoded[record.data.clone()]), now.wall_ms);
    }
    if !accepted.is_empty() {
        stream.requests += 1;
        stream.first_record_at_ms.get_or_insert(now.wall_ms);
        stream.last_record_at_ms = Some(now.wall_ms);
    }
    if mode == Mode::Keep {
        let decoded = Bytes::from(std::mem::take(decoded));
        stream.records.extend(accepted.iter().map(|(sequence, shard, record)| Record {
            shard: *shard,
            sequence: *sequence,
            partition_key: Arc::from(record.partition_key),
            data: decoded.slice(record.data.clone()),
            request_number,
            arrived_at_ms: now.wall_ms,
        }));
    }
    Ok(())
}

/// The sequence number as the service writes it: decimal, too long for an integer, rising.
pub(crate) fn sequence_number(sequence: u64) -> String {
    format!("49{sequence:054}")
}

fn reply(outcomes: &[Outcome], stream: &str) -> Vec<u8> {
    let failed = outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Accepted { .. })).count();
    let mut body = String::with_capacity(64 + outcomes.len() * 130);
    let _ = write!(body, "{{\"FailedRecordCount\":{failed},\"EncryptionType\":\"NONE\",\"Records\":[");
    for (index, outcome) in outcomes.iter().enumerate() {
        body.push_str(if index == 0 { "" } else { "," });
        let _ = match *outcome {
            Outcome::Accepted { shard, sequence } => {
                write!(body, r#"{{"SequenceNumber":"49{sequence:054}","ShardId":"shardId-{shard:012}"}}"#)
            }
            Outcome::Throttled { shard } => {
                let shard = shard_id(shard);
                let message = format!("Rate exceeded for shard {shard} in stream {stream} under account 000000000000.");
                let message = serde_json::Value::String(message);
                write!(body, r#"{{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":{message}}}"#)
            }
            Outcome::Failed => {
                body.push_str(r#"{"ErrorCode":"InternalFailure","ErrorMessage":"Internal Service Failure"}"#);
                Ok(())
            }
        };
    }
    body.push_str("]}");
    body.into_bytes()
}
