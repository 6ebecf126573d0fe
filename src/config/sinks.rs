//! One `[[sink]]`: its keys depend on its type, and are read by the type's folder.

use super::reference;
use crate::keys::key::Group;
use crate::keys::problem::Problems;
use crate::keys::raw::Table;
use crate::keys::section::Section;
use crate::sinks::archive;
use crate::sinks::kind::{Conflict, Neighbour, SinkKind, SinkSettings, Surroundings};
use crate::sinks::links::{LinkConfiguration, Travel};
use crate::sinks::registry;

/// Each has a thread, and a cursor in every commit.
const SINKS_MAX: usize = 16;

/// The archive that is used if the configuration names no sink.
pub fn built_in(surroundings: &Surroundings<'_>) -> SinkSettings {
    let kind = &archive::sink::KIND;
    let mut problems = Problems::default();
    let (table, group) = (Table::new(super::Origin::BuiltIn), Group::SinkOf(kind.name));
    let mut section = Section::new(table, String::new(), group, reference::all(), &mut problems);
    let sink = (kind.read)(&mut section, surroundings);
    SinkSettings { name: "archive".to_owned(), kind: kind.name, sink, travel: Travel::default() }
}

/// Adds the sink of a section to those found before it.
pub fn read(
    mut section: Section<'_>,
    surroundings: &Surroundings<'_>,
    links: &[LinkConfiguration],
    found: &mut Vec<SinkSettings>,
) {
    if found.len() == SINKS_MAX {
        section.blame_section(format!("more than {SINKS_MAX} sinks"));
    }
    let name = section.text("name");
    if let Some(name) = &name
        && found.iter().any(|sink| sink.name == *name)
    {
        section.blame("name", "another [[sink]] has the same name");
    }
    let built = registry::KINDS.iter().map(|kind| (kind.name, Some(*kind)));
    let kinds: Vec<(&str, Option<&'static SinkKind>)> =
        built.chain(registry::LEFT_OUT.iter().map(|name| (*name, None))).collect();
    // Without a type it is unknown which keys are allowed, so none is blamed.
    let Some(kind) = section.choice("type", &kinds) else { return };
    let Some(kind) = kind else {
        return section.blame("type", "this program was built without it; build it with the feature of that name");
    };
    section.extend(Group::SinkOf(kind.name));
    let sink = (kind.read)(&mut section, surroundings);
    let shown = name.as_deref().unwrap_or("this sink");
    for SinkSettings { name: other, sink: theirs, .. } in found.iter() {
        let neighbour = Neighbour { name: other, sink: &**theirs };
        if let Some(Conflict { keys, text }) = sink.conflict(&neighbour, surroundings) {
            let key = keys.iter().find(|key| section.has(key)).or(keys.first()).unwrap_or(&"type");
            section.blame(key, format!("{shown} {text}"));
        }
    }
    let mut travel = Travel::default();
    if kind.sends_records {
        section.extend(Group::Travel);
        travel = super::links::travel(&mut section, links);
    }
    section.finish();
    found.extend(name.map(|name| SinkSettings { name, kind: kind.name, sink, travel }));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    /// The problems of two sections of a type, which have these keys in common.
    fn problems(kind: &str, common: &str, [one, other]: [&str; 2]) -> String {
        let section =
            |name: &str, keys: &str| format!("[[sink]]\nname = '{name}'\ntype = '{kind}'\n{common}\n{keys}\n");
        let stream = "store.path = '/s'\n[[stream]]\nname = 'trips'\n[[sink]]\nname = 'files'\ntype = 'archive'\n";
        let text = format!("{stream}{}{}", section("first", one), section("second", other));
        let read = Configuration::parse(Path::new("f"), &text, &Sources::default(), &Host::read());
        read.err().map(|problems| problems.to_string()).unwrap_or_default()
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn two_sections_do_not_write_different_streams_to_one_table() {
        let url = |url: &str, keys: &str| format!("url = 'postgres://{url}'\n{keys}");
        let with = |one: &str, other: &str| problems("postgres", "", [one, other]);
        let first = url("u@db.example.com/fleet", "raw = 'telemetry.readings'");
        for (other, key) in [
            (url("u@db.example.com/fleet", "anomalies = 'telemetry.readings'"), "anomalies"),
            (url("u@db.example.com/fleet", "streams = { trips = 'telemetry.readings' }"), "streams"),
            (url("u@DB.Example.COM:5432/fleet", "anomalies = 'telemetry.readings'"), "anomalies"),
            (url("other@db.example.com/fleet", "raw = 'a'\nanomalies = 'readings'"), "anomalies"),
        ] {
            let said = with(&first, &other);
            assert!(said.contains(&format!("sink[2].{key} = ")), "{said}");
            for words in
                ["second writes ", "the table ", " readings", "the sink first writes raw there", "a table of its own"]
            {
                assert!(said.contains(words.trim_start()), "{words}: {said}");
            }
            assert_eq!(said.contains("SCHEMA.NAME"), other.contains("'readings'"), "{said}");
        }
        for other in [
            // The same rows, which are there once.
            url("u@db.example.com/fleet", "raw = 'telemetry.readings'"),
            url("u@db.example.com/fleet", "anomalies = 'telemetry.events'"),
            url("u@db.example.com/fleet", "anomalies = 'other.readings'"),
            url("u@db.example.com/other", "anomalies = 'telemetry.readings'"),
            url("u@db.example.com:5433/fleet", "anomalies = 'telemetry.readings'"),
            url("u@db2.example.com/fleet", "anomalies = 'telemetry.readings'"),
        ] {
            assert_eq!(with(&first, &other), "", "{other}");
        }
    }

    #[test]
    fn two_sections_do_not_name_objects_of_different_streams_alike() {
        let with = |one: &str, other: &str| problems("s3", "bucket = 'lake'\nregion = 'eu-central-1'", [one, other]);
        for (one, other) in [
            ("raw = 'data'", "anomalies = 'data'"),
            ("prefix = 'fleet-'\nraw = 'x'", "streams = { trips = 'fleet-x' }"),
            ("", "raw = 'trips'"),
            ("endpoint = 'http://minio:9000'\nraw = 'x'", "endpoint = 'http://MINIO:9000/'\nanomalies = 'x'"),
        ] {
            let said = with(one, other);
            assert!(
                said.contains("the sink first stores those of") && said.contains("different prefixes"),
                "{one} {other}: {said}"
            );
        }
        for (one, other) in [
            ("", ""),
            ("raw = 'data'", "raw = 'data'"),
            ("", "raw = 'readings'"),
            ("prefix = 'a/'\nraw = 'data'", "prefix = 'b/'\nanomalies = 'data'"),
            ("endpoint = 'http://one:9000'\nraw = 'x'", "endpoint = 'http://two:9000'\nanomalies = 'x'"),
        ] {
            assert_eq!(with(one, other), "", "{one} {other}");
        }
    }

    #[test]
    fn two_sections_do_not_overwrite_readings_of_each_other() {
        let common = "server = 'influxdb2'\norg = 'o'\ntoken = 't'";
        let with = |one: &str, other: &str| problems("influxdb", common, [one, other]);
        let fleet = "url = 'https://influx:8086'\nbucket = 'fleet'\n";
        let overwrite = format!("{fleet}same_time = 'overwrite'");
        for other in
            [fleet.to_owned(), format!("{overwrite}\ntags = ['road']"), format!("{overwrite}\nmeasurement = 'x'")]
        {
            let said = with(&overwrite, &other);
            assert!(
                said.contains("the sink first writes them to") && said.contains("be the same in both"),
                "{other}: {said}"
            );
            assert!(with(&other, &overwrite).contains("be the same in both"), "whichever is first: {other}");
        }
        for (one, other) in [
            (overwrite.clone(), overwrite.clone()),
            (fleet.to_owned(), format!("{fleet}tags = ['road']\nmeasurement = 'x'")),
            (overwrite.clone(), format!("{fleet}streams = ['anomalies', 'trips']")),
            (overwrite.clone(), fleet.replace("'fleet'", "'other'")),
        ] {
            assert_eq!(with(&one, &other), "", "{other}");
        }
    }

    #[test]
    fn two_sections_are_not_one_client_of_a_broker() {
        let with = |one: &str, other: &str| problems("mqtt", "client_id = '{gateway}'", [one, other]);
        let said = with("url = 'mqtt://broker'", "url = 'mqtt://BROKER:1883'\ntopic = 'other/{device}'");
        assert!(said.contains("sink[2].client_id") && said.contains("as the sink first has"), "{said}");
        for other in ["url = 'mqtt://other'", "url = 'mqtt://broker:1884'", "url = 'mqtt://broker'\nusername = 'u'"] {
            assert_eq!(with("url = 'mqtt://broker'", other), "", "{other}");
        }
        assert_eq!(problems("mqtt", "url = 'mqtt://broker'", ["", ""]), "", "each has an id by its name");
    }
}
