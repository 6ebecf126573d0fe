//! PutRecordBatch of Firehose. A delivery stream is a stream with one shard here, because Firehose limits streams and has no shards.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::{ApiError, Engine, Now};
use crate::operations::{is_stream_name, parse};
use crate::put::{Checked, Outcome, carry_out, check_count, check_total, decode, with_scratch};
use crate::settings::Limits;

const INVALID: &str = "InvalidArgumentException";
/// Most characters of a delivery stream's name.
const NAME_CHARS_MAX: usize = 64;

#[derive(Deserialize)]
struct PutRecordBatch<'a> {
    #[serde(rename = "DeliveryStreamName")]
    name: String,
    #[serde(rename = "Records", borrow)]
    records: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "Data", borrow)]
    data: Cow<'a, str>,
}

pub(crate) fn put_record_batch(engine: &mut Engine, body: &[u8], now: Now) -> Result<Vec<u8>, ApiError> {
    let request: PutRecordBatch<'_> = parse(body)?;
    if !is_stream_name(&request.name) || request.name.len() > NAME_CHARS_MAX {
        return Err(ApiError::new("ValidationException", "DeliveryStreamName must be valid"));
    }
    let outcomes = with_scratch(engine, |engine, decoded| {
        let records = check(&request.records, decoded).inspect_err(|_| engine.count_fault("limits"))?;
        carry_out(engine, &request.name, INVALID, &records, body.len(), decoded, now)
    })?;
    Ok(reply(&outcomes))
}

fn check(entries: &[Entry<'_>], decoded: &mut Vec<u8>) -> Result<Vec<Checked<'static>>, ApiError> {
    let limits = &Limits::FIREHOSE;
    check_count(entries.len(), limits)?;
    let mut records = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let data = decode(index, &entry.data, 0, limits, decoded)?;
        records.push(Checked { partition_key: "", data, hash_key: 0 });
    }
    check_total(&records, limits)?;
    Ok(records)
}

fn reply(outcomes: &[Outcome]) -> Vec<u8> {
    let results: Vec<Value> = outcomes
        .iter()
        .map(|outcome| match *outcome {
            // As long as the service's.
            Outcome::Accepted { sequence, .. } => json!({"RecordId": format!("{sequence:0220}")}),
            Outcome::Throttled { .. } => {
                json!({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."})
            }
            Outcome::Failed => json!({"ErrorCode": "InternalFailure", "ErrorMessage": "Internal service failure."}),
        })
        .collect();
    let failed = results.iter().filter(|result| result.get("ErrorCode").is_some()).count();
    json!({"FailedPutCount": failed, "Encrypted": false, "RequestResponses": results}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_limits_are_those_of_the_service() {
        let check_sizes = |sizes: &[usize]| {
            let entry = |bytes: &usize| Entry { data: STANDARD.encode(vec![b'x'; *bytes]).into() };
            let entries: Vec<Entry<'_>> = sizes.iter().map(entry).collect();
            check(&entries, &mut Vec::new()).map(|records| records.len()).map_err(|error| error.code)
        };
        let record = 1_000 * 1024;
        assert_eq!(check_sizes(&[1; 500]), Ok(500));
        assert_eq!(check_sizes(&[1; 501]), Err("ValidationException"));
        assert_eq!(check_sizes(&[record; 4]), Ok(4));
        assert_eq!(check_sizes(&[record + 1]), Err("ValidationException"));
        let rest = 4 * 1024 * 1024 - 4 * record;
        assert_eq!(check_sizes(&[record, record, record, record, rest]), Ok(5));
        assert_eq!(check_sizes(&[record, record, record, record, rest + 1]), Err("InvalidArgumentException"));
    }
}
