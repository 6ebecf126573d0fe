//! Which columns the Parquet files of a stream have: the fields of its records, under their names.
//!
//! A stream with several types of records has the fields of all of them; what a record has not is null. Objects and lists are JSON texts.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// The JSON text of a value of any kind.
    Json,
    Integer,
    Double,
    Boolean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Never null.
    pub is_required: bool,
}

use Kind::{Boolean, Double, Integer, Json, Text};

/// The fields that all records have. The type comes first, because it says what the others mean.
const COMMON: [(&str, Kind); 5] =
    [("type", Text), ("v", Integer), ("gateway", Text), ("run", Text), ("position", Integer)];

/// Of readings; their order is that of the numbers in [`at`].
const READING: [(&str, Kind); 11] = [
    ("device", Text),
    ("metric", Text),
    ("value", Double),
    ("value_exact", Text),
    ("measured_at_ms", Integer),
    ("received_at_ms", Integer),
    ("time_quality", Text),
    ("device_clock", Text),
    ("device_time_ms", Integer),
    ("seq", Integer),
    ("attributes", Json),
];

/// Where the columns of a reading are, in the streams that have them.
pub mod at {
    pub const TYPE: usize = 0;
    pub const V: usize = 1;
    pub const GATEWAY: usize = 2;
    pub const RUN: usize = 3;
    pub const POSITION: usize = 4;
    pub const DEVICE: usize = 5;
    pub const METRIC: usize = 6;
    pub const VALUE: usize = 7;
    pub const VALUE_EXACT: usize = 8;
    pub const MEASURED_AT_MS: usize = 9;
    pub const RECEIVED_AT_MS: usize = 10;
    pub const TIME_QUALITY: usize = 11;
    pub const DEVICE_CLOCK: usize = 12;
    pub const DEVICE_TIME_MS: usize = 13;
    pub const SEQ: usize = 14;
    pub const ATTRIBUTES: usize = 15;
}

const ANOMALY: [(&str, Kind); 10] = [
    ("raw_run", Text),
    ("raw_position", Integer),
    ("detector", Text),
    ("also", Json),
    ("score", Double),
    ("expected", Double),
    ("spread", Double),
    ("reason", Text),
    ("late", Boolean),
    ("maturity", Text),
];

const ALERT: [(&str, Kind); 25] = [
    ("id", Text),
    ("revision", Integer),
    ("device", Text),
    ("metric", Text),
    ("kind", Text),
    ("state", Text),
    ("severity", Text),
    ("detectors", Json),
    ("value", Double),
    ("expected", Double),
    ("score", Double),
    ("raised_at_ms", Integer),
    ("updated_at_ms", Integer),
    ("cleared_at_ms", Integer),
    ("count", Integer),
    ("acknowledged_by", Text),
    ("normal", Boolean),
    ("cleared_reason", Text),
    ("stale", Boolean),
    ("last_reading_at_ms", Integer),
    ("maturity", Text),
    ("returns", Integer),
    ("flapping", Boolean),
    ("message", Text),
    ("stored", Boolean),
];

const GATEWAY: [(&str, Kind); 15] = [
    ("version", Text),
    ("at_ms", Integer),
    ("state", Text),
    ("clock", Text),
    ("uptime_s", Integer),
    ("received", Json),
    ("ledger", Json),
    ("streams", Json),
    ("store_bytes", Integer),
    ("damaged_stores", Integer),
    ("store_oldest_age_s", Integer),
    ("sinks", Json),
    ("dropped_sinks", Json),
    ("alerts_raised", Integer),
    ("disk", Json),
];

const RECORD: [(&str, Kind); 7] = [
    ("stream", Text),
    ("rule", Text),
    ("device", Text),
    ("topic", Text),
    ("received_at_ms", Integer),
    ("payload", Json),
    ("payload_base64", Text),
];

/// The columns of a stream, in their order.
pub fn of_stream(stream: &str) -> Vec<Column> {
    let parts: &[&[(&'static str, Kind)]] = match stream {
        "raw" => &[&READING],
        "anomalies" => &[&READING, &ANOMALY, &ALERT, &GATEWAY],
        _ => &[&RECORD],
    };
    let column = |is_required| move |&(name, kind): &(&'static str, Kind)| Column { name, kind, is_required };
    let mut columns: Vec<Column> = COMMON.iter().map(column(true)).collect();
    for field in parts.iter().flat_map(|part| part.iter()) {
        if columns.iter().all(|known| known.name != field.0) {
            columns.push(column(false)(field));
        }
    }
    columns
}

/// Whether readings of the store may be in it.
pub fn has_readings(stream: &str) -> bool {
    matches!(stream, "raw" | "anomalies")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(schema: &str) -> Vec<(String, Vec<String>)> {
        let path = format!("{}/config/schema/{schema}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("a schema");
        let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let kinds = |field: &serde_json::Value| match (&field["type"], &field["const"], &field["enum"]) {
            (serde_json::Value::String(kind), _, _) => vec![kind.clone()],
            (serde_json::Value::Array(kinds), _, _) => kinds
                .iter()
                .filter_map(|kind| kind.as_str())
                .filter(|kind| *kind != "null")
                .map(str::to_owned)
                .collect(),
            (_, serde_json::Value::Bool(_), _) => vec!["boolean".to_owned()],
            (_, serde_json::Value::Number(_), _) => vec!["integer".to_owned()],
            (_, serde_json::Value::String(_), _) | (_, _, serde_json::Value::Array(_)) => vec!["string".to_owned()],
            _ => vec!["any".to_owned()],
        };
        let properties = schema["properties"].as_object().expect("fields");
        properties.iter().map(|(name, field)| (name.clone(), kinds(field))).collect()
    }

    #[test]
    fn every_field_of_the_schemas_has_a_column_of_its_kind() {
        for (stream, schemas) in
            [("raw", &["reading"][..]), ("anomalies", &["anomaly", "alert", "gateway"]), ("trips", &["record"])]
        {
            let columns = of_stream(stream);
            let mut known: Vec<&str> = Vec::new();
            let fields: Vec<_> = schemas.iter().flat_map(|schema| field_of(schema)).collect();
            for (name, kinds) in &fields {
                let column = columns.iter().find(|column| column.name == name);
                let column = column.unwrap_or_else(|| panic!("{stream} has no column {name}"));
                let expected = match kinds[0].as_str() {
                    "string" => Text,
                    "integer" => Integer,
                    "number" => Double,
                    "boolean" => Boolean,
                    _ => Json,
                };
                assert_eq!(column.kind, expected, "{stream} {name} {kinds:?}");
                known.push(column.name);
            }
            let unknown: Vec<_> = columns.iter().filter(|column| !known.contains(&column.name)).collect();
            assert!(unknown.is_empty(), "{stream}: {unknown:?}");
            assert_eq!(columns[0].name, "type");
        }
    }

    #[test]
    fn readings_are_where_they_are_looked_for() {
        for stream in ["raw", "anomalies"] {
            let columns = of_stream(stream);
            let names =
                [(at::TYPE, "type"), (at::POSITION, "position"), (at::VALUE, "value"), (at::ATTRIBUTES, "attributes")];
            assert!(has_readings(stream) && names.iter().all(|(at, name)| columns[*at].name == *name));
        }
        assert!(!has_readings("trips"));
    }
}
