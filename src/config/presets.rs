//! Presets: routes for the payloads of known device families. They are data, in `presets.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::keys::problem::Problems;
use crate::keys::raw::{self, Entry, Table};
use crate::keys::value::Value;

/// Names of the presets, as the table of keys shows them.
pub const NAMES: [&str; 15] = [
    "aws-shadow",
    "chirpstack",
    "homie",
    "openxc",
    "owntracks",
    "shelly",
    "sparkplug",
    "tasmota",
    "teltonika",
    "thin-edge",
    "thingsboard",
    "thingsboard-device",
    "ttn",
    "wirenboard",
    "zigbee2mqtt",
];

const FILE: &str = "presets.toml";

fn presets() -> BTreeMap<String, Vec<Table>> {
    let mut problems = Problems::default();
    let presets = raw::lists(Path::new(FILE), include_str!("presets.toml"), &mut problems);
    assert!(problems.is_empty(), "a file of ours: {problems}");
    presets
}

/// The sections that a section stands for: itself, or each route of its preset, with its own keys before those of the preset.
pub fn expand(section: Table) -> Vec<Table> {
    let name = section.entries.get("preset").and_then(|entry| entry.value.text().map(str::to_owned));
    let Some(routes) = name.and_then(|name| presets().remove(&name)) else { return vec![section] };
    let with_own_keys = |route: Table| {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (key, entry) in route.entries {
            // Whoever reads a problem knows the section, not our file.
            entries.insert(key, Entry { origin: section.origin.clone(), key_origin: section.origin.clone(), ..entry });
        }
        entries.extend(section.entries.clone());
        Table { origin: section.origin.clone(), entries }
    };
    routes.into_iter().map(with_own_keys).collect()
}

/// Whether the section names a topic of its own, though its preset has several.
pub fn has_one_topic_for_several(section: &Table) -> bool {
    let is_several = |entry: &Entry| match &entry.value {
        Value::Text(name) | Value::Variable(name) => presets().get(name).is_some_and(|routes| routes.len() > 1),
        _ => false,
    };
    section.entries.contains_key("topic") && section.entries.get("preset").is_some_and(is_several)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_file() {
        let names: Vec<String> = presets().into_keys().collect();
        assert_eq!(names, NAMES);
    }
}
