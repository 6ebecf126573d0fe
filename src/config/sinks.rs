//! One `[[sink]]`: its keys depend on its type, and are read by the type's folder.

use super::reference;
use crate::keys::key::Group;
use crate::keys::problem::Problems;
use crate::keys::raw::Table;
use crate::keys::section::Section;
use crate::sinks::archive;
use crate::sinks::kind::{SinkKind, SinkSettings, Surroundings};
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
    if let Some(folder) = sink.folder()
        && found.iter().any(|other| other.sink.folder() == Some(folder))
    {
        section.blame("path", "another [[sink]] writes its files there");
    }
    let mut travel = Travel::default();
    if kind.sends_records {
        section.extend(Group::Travel);
        travel = super::links::travel(&mut section, links);
    }
    section.finish();
    found.extend(name.map(|name| SinkSettings { name, kind: kind.name, sink, travel }));
}
