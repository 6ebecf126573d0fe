//! What rules may refer to besides messages and readings: zones on the map, lookup tables, and streams.

use std::collections::HashMap;
use std::sync::Arc;

use super::models::NamedModel;
use crate::rules::{Table, Value, Zones};

/// What rules may name.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// All zones.
    pub zones: Zones,
    /// Lookup tables by their names.
    pub tables: HashMap<String, Table>,
    /// Models by their names.
    pub models: HashMap<String, Arc<NamedModel>>,
    /// Names of the streams that records may go to.
    pub streams: Vec<String>,
}

impl Surroundings {
    /// The row of a table; Undefined if there is none.
    pub(super) fn row<'v>(&'v self, table: &Value<'_>, key: &Value<'_>) -> Value<'v> {
        let (Ok(Some(table)), Ok(Some(key))) = (table.to_text(), key.to_text()) else { return Value::Undefined };
        self.tables.get(&*table).map_or(Value::Undefined, |table| table.get(&key))
    }

    /// The model of this name.
    pub(super) fn model(&self, name: &Value<'_>) -> Option<&NamedModel> {
        self.models.get(&*name.to_text().ok()??).map(Arc::as_ref)
    }

    /// What a model makes of a record; Undefined without such a model, or if one of its inputs is missing.
    pub(super) fn prediction(&self, model: &Value<'_>, record: &Value<'_>) -> Value<'static> {
        self.model(model).and_then(|model| model.of_record(record)).unwrap_or(Value::Undefined)
    }

    /// Whether a place is in a zone; `None` if there is no such zone, or no such place.
    pub(super) fn is_inside(&self, zone: &Value<'_>, latitude: f64, longitude: f64) -> Option<bool> {
        let zone = zone.to_text().ok()??;
        is_place(latitude, longitude).then(|| self.zones.contains(&zone, longitude, latitude)).flatten()
    }

    /// The first zone that a place is in, by name; Undefined if there is none.
    pub(super) fn zone(&self, latitude: f64, longitude: f64) -> Value<'_> {
        let is_around = |zone: &&str| self.zones.contains(zone, longitude, latitude) == Some(true);
        let found = self.zones.names().find(|zone| is_place(latitude, longitude) && is_around(zone));
        found.map_or(Value::Undefined, |zone| Value::Text(zone.into()))
    }
}

fn is_place(latitude: f64, longitude: f64) -> bool {
    (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude)
}
