//! One `[[sink]]`: its keys depend on its type.

use std::path::{Path, PathBuf};

use super::problem::Problems;
use super::raw::Table;
use super::reference::Group;
use super::section::Section;
use super::units::format_size;
use crate::core::delivery::{DeliverySettings, Grouping};
use crate::gateway::{SinkKind, SinkSettings};
use crate::sinks::kinesis::KinesisConnection;

/// Each has a thread, and a cursor in every commit.
const SINKS_MAX: usize = 16;

#[derive(Clone, Copy)]
enum Type {
    Archive,
    Kinesis,
}

/// The archive that is there when the configuration names no sink.
pub fn built_in(folder: PathBuf) -> SinkSettings {
    let mut problems = Problems::default();
    let table = Table::new(super::Origin::BuiltIn);
    let mut section = Section::new(table, String::new(), Group::SinkArchive, &mut problems);
    SinkSettings { name: "archive".to_owned(), kind: archive(&mut section, &folder) }
}

/// Adds the sink of a section to those that were found before it.
pub fn read(mut section: Section<'_>, archive_folder: &Path, found: &mut Vec<SinkSettings>) {
    if found.len() == SINKS_MAX {
        section.blame_section(format!("more than {SINKS_MAX} sinks"));
    }
    let name = section.text("name");
    if let Some(name) = &name
        && found.iter().any(|sink| sink.name == *name)
    {
        section.blame("name", "another [[sink]] has the same name");
    }
    let kind = match section.choice("type", &[("archive", Type::Archive), ("kinesis", Type::Kinesis)]) {
        Some(Type::Archive) => {
            section.extend(Group::SinkArchive);
            archive(&mut section, archive_folder)
        }
        Some(Type::Kinesis) => {
            section.extend(Group::SinkKinesis);
            kinesis(&mut section)
        }
        // Which keys it may have is unknown, so none is blamed.
        None => return,
    };
    if let SinkKind::Archive { folder, .. } = &kind
        && found.iter().any(|sink| matches!(&sink.kind, SinkKind::Archive { folder: other, .. } if other == folder))
    {
        section.blame("path", "another [[sink]] writes its files there");
    }
    section.finish();
    found.extend(name.map(|name| SinkSettings { name, kind }));
}

fn archive(section: &mut Section<'_>, folder: &Path) -> SinkKind {
    SinkKind::Archive {
        folder: section.path("path").unwrap_or_else(|| folder.to_owned()),
        bytes_max: section.size("size_max"),
        free_percent_min: section.integer("free_percent_min"),
        rotate_after: section.duration("rotate_after"),
        rotate_bytes: section.size("rotate_size"),
    }
}

fn kinesis(section: &mut Section<'_>) -> SinkKind {
    let connection = KinesisConnection {
        region: section.text("region"),
        endpoint: section.text("endpoint"),
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
    };
    let is_any_named = section.has("raw") || section.has("anomalies");
    let (raw, anomalies) = (section.text("raw"), section.text("anomalies"));
    if !is_any_named {
        section.blame_section("names no stream; give it raw, anomalies or both, for example raw = \"telemetry-raw\"");
    }
    let groupings = [("lines", Grouping::Lines), ("single", Grouping::Single)];
    let delivery = DeliverySettings {
        grouping: section.choice("record", &groupings).unwrap_or(Grouping::Lines),
        linger_us: section.duration("batch_delay").as_micros() as u64,
        record_bytes_soft: section.bytes("record_size"),
        record_bytes_max: section.bytes("record_size_max"),
        request_bytes_max: section.bytes("request_size_max"),
        requests_in_flight_max: section.count("requests_in_flight"),
        held_bytes_max: section.bytes("held_size_max"),
        ..DeliverySettings::default()
    };
    let sizes = [
        ("record_size", delivery.record_bytes_soft, "record_size_max", delivery.record_bytes_max),
        ("record_size_max", delivery.record_bytes_max, "request_size_max", delivery.request_bytes_max),
    ];
    for (name, bytes, limit, bytes_max) in sizes {
        if bytes > bytes_max {
            let [bytes, bytes_max] = [bytes, bytes_max].map(|bytes| format_size(bytes as u64));
            section.blame(name, format!("{name} is {bytes}, more than {limit}, which is {bytes_max}"));
        }
    }
    SinkKind::Kinesis { connection, delivery, raw, anomalies }
}
