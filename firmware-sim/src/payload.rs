//! Encodes samples as payloads: an object with every metric, an array of such objects, or one metric per publish; JSON or CBOR.

use crate::vehicle::Metric;
use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Cbor,
}

/// How the readings of a sample are divided into publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// One publish on `vehicles/truck-07` with every metric.
    #[default]
    Object,
    /// One publish per metric, on `vehicles/truck-07/speed` and so on.
    Metric,
}

/// Everything that a vehicle measured at one moment. A missing value means a silent sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub measured_at_ms: i64,
    pub sequence: u64,
    pub values: [Option<f64>; Metric::ALL.len()],
    pub road: &'static str,
}

impl Sample {
    pub fn reading_count(&self) -> usize {
        self.values.iter().flatten().count()
    }
}

struct Object<'a>(&'a Sample);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Object(sample) = self;
        // A known length lets CBOR write a definite map, which every decoder reads.
        let mut map = serializer.serialize_map(Some(sample.reading_count() + 3))?;
        map.serialize_entry("ts_ms", &sample.measured_at_ms)?;
        map.serialize_entry("seq", &sample.sequence)?;
        for (metric, value) in Metric::ALL.into_iter().zip(sample.values) {
            if let Some(value) = value {
                map.serialize_entry(metric.name(), &value)?;
            }
        }
        map.serialize_entry("road", sample.road)?;
        map.end()
    }
}

#[derive(Serialize)]
struct Single {
    value: f64,
    ts_ms: i64,
    seq: u64,
    road: &'static str,
}

/// One sample as an object, several as an array of objects.
pub fn encode_samples(format: Format, samples: &[Sample]) -> Bytes {
    let objects: Vec<_> = samples.iter().map(Object).collect();
    encode(format, &objects)
}

/// One metric of one sample as an object, of several as an array; `None` if no sample has it.
pub fn encode_metric(format: Format, samples: &[Sample], metric: Metric) -> Option<Bytes> {
    let singles: Vec<_> = samples
        .iter()
        .filter_map(|sample| {
            let value = sample.values[metric.index()]?;
            Some(Single { value, ts_ms: sample.measured_at_ms, seq: sample.sequence, road: sample.road })
        })
        .collect();
    (!singles.is_empty()).then(|| encode(format, &singles))
}

fn encode<T: Serialize>(format: Format, items: &[T]) -> Bytes {
    match items {
        [one] => encode_value(format, one),
        _ => encode_value(format, &items),
    }
}

fn encode_value(format: Format, value: &impl Serialize) -> Bytes {
    let mut payload = Vec::with_capacity(192);
    match format {
        Format::Json => serde_json::to_writer(&mut payload, value).expect("numbers and texts have a JSON form"),
        Format::Cbor => ciborium::into_writer(value, &mut payload).expect("numbers and texts have a CBOR form"),
    }
    payload.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sequence: u64) -> Sample {
        let values = [Some(22.3), Some(92.1), None, Some(51.05), Some(3.7)];
        Sample { measured_at_ms: 1_700_000_000_123, sequence, values, road: "dry" }
    }

    #[test]
    fn an_object_holds_what_was_measured_and_nothing_else() {
        let json = encode_samples(Format::Json, &[sample(7)]);
        let expected = r#"{"ts_ms":1700000000123,"seq":7,"container_temperature":22.3,"engine_temperature":92.1,"latitude":51.05,"longitude":3.7,"road":"dry"}"#;
        assert_eq!(json, expected.as_bytes());
    }

    #[test]
    fn json_and_cbor_say_the_same() {
        let samples = [sample(1), sample(2), sample(3)];
        let json: serde_json::Value = serde_json::from_slice(&encode_samples(Format::Json, &samples)).expect("json");
        let cbor: serde_json::Value =
            ciborium::from_reader(encode_samples(Format::Cbor, &samples).as_ref()).expect("cbor");
        assert_eq!(json, cbor);
        assert_eq!(json.as_array().expect("several are an array").len(), 3);
        assert_eq!(json[2]["seq"], 3);
    }

    #[test]
    fn a_single_metric_has_value_time_sequence_and_road() {
        let json = encode_metric(Format::Json, &[sample(7)], Metric::EngineTemperature).expect("measured");
        assert_eq!(json, r#"{"value":92.1,"ts_ms":1700000000123,"seq":7,"road":"dry"}"#.as_bytes());
        assert_eq!(encode_metric(Format::Json, &[sample(7)], Metric::Speed), None);
    }
}
