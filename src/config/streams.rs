//! One `[[stream]]`: a stream besides the built-in ones, that rules write to.

use crate::core::identity::{Keep, NamedStream, Stream};
use crate::keys::problem::{Origin, Problems};
use crate::keys::section::Section;
use crate::sinks::kind::SinkSettings;

/// Each has a cursor of each sink, a connection to the store, and up to a batch in memory.
const STREAMS_MAX: usize = 16;

/// A stream, and the section that names it.
pub struct Named {
    pub stream: NamedStream,
    origin: Origin,
    section: String,
}

/// Adds the stream of a section to those found before it.
pub fn read(mut section: Section<'_>, found: &mut Vec<Named>) {
    if found.len() == STREAMS_MAX {
        section.blame_section(format!("more than {STREAMS_MAX} streams"));
    }
    let name = section.text("name");
    let keep = section.choice("keep", &Keep::NAMES).unwrap_or_default();
    let is_built_in = |name: &String| Stream::BUILT_IN.iter().any(|(_, built_in)| built_in == name);
    let is_twice = |name: &String| found.iter().any(|known| known.stream.name == *name);
    let wrong = match &name {
        Some(name) if is_built_in(name) => Some("every gateway has this stream; another name is needed"),
        Some(name) if is_twice(name) => Some("another [[stream]] has the same name"),
        _ => None,
    };
    wrong.iter().for_each(|wrong| section.blame("name", *wrong));
    let (origin, at) = section.place();
    section.finish();
    // One that is not right is no other stream.
    found.extend(name.filter(|_| wrong.is_none()).map(|name| Named {
        stream: NamedStream { name, keep },
        origin,
        section: at,
    }));
}

/// Reports streams that no sink takes: what is written to one would be kept nowhere for ever.
pub fn expect_sinks(streams: &[Named], sinks: &[SinkSettings], problems: &mut Problems) {
    for Named { stream, origin, section } in streams {
        let name = &stream.name;
        if !sinks.iter().any(|sink| sink.takes(name)) {
            let message = format!(
                "no sink takes the stream {name}, so its records would be kept nowhere for ever; name it in a [[sink]], such as \
                 streams = {{ {name} = \"target\" }} in one of type \"kinesis\", or add a [[sink]] of type \"archive\""
            );
            problems.add(origin, section, None, message);
        }
    }
}
