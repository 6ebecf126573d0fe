//! One `[[file]]`: files that lines are read from.

use std::path::{Path, PathBuf};

use crate::core::files::{Framing, Settings, Start};
use crate::core::mqtt::topic;
use crate::files::{Content, FileSettings, Pattern, TopicText, compile};
use crate::ingest::{self, Route};
use crate::keys::section::Section;

/// Compressing a file, and finding out what is in it, may take so long.
const REMEMBER_DELETED_MS: i64 = 600_000;
/// Each has a thread.
const FILES_MAX: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    Csv,
    Pattern,
}

/// Adds the files of a section to those found before it.
pub fn read(mut section: Section<'_>, routes: &[Route], found: &mut Vec<FileSettings>) {
    if found.len() == FILES_MAX {
        section.blame_section(format!("more than {FILES_MAX} [[file]]"));
    }
    let glob = section.text("path");
    let parts = glob.as_deref().and_then(|glob| split(&mut section, glob));
    if found.iter().any(|other| Some(&other.path) == glob.as_ref()) {
        section.blame("path", "another [[file]] reads the same files");
    }
    let topic = section.text("topic").map(TopicText);
    if let Some(TopicText(text)) = &topic {
        blame_topic(&mut section, text, routes);
    }
    let formats = [("lines", Format::Lines), ("csv", Format::Csv), ("pattern", Format::Pattern)];
    let format = section.choice("format", &formats).unwrap_or(Format::Lines);
    let content = content(&mut section, format);
    let framing = framing(&mut section, format);
    if let (Some(TopicText(text)), Framing::Csv { separator }) = (&topic, &framing) {
        blame_columns(&mut section, text, *separator, routes);
    }
    let starts = [("beginning", Start::Beginning), ("end", Start::End)];
    let start = section.choice("start", &starts).unwrap_or(Start::Beginning);
    let has_header = section.boolean("header") && format == Format::Csv;
    let idle_ms = i64::try_from(section.milliseconds("idle")).unwrap_or(i64::MAX);
    let line_bytes_max = section.bytes("line_size_max");
    section.finish();
    let (Some(path), Some((folder, names)), Some(topic), Some(content)) = (glob, parts, topic, content) else { return };
    // Whether compressed rotations have names that match.
    let remember_deleted_ms = if names.ends_with('*') || names.ends_with(".gz") { REMEMBER_DELETED_MS } else { 0 };
    let limits = Settings::new(framing);
    let follow = Settings { has_header, start, idle_ms, line_bytes_max, remember_deleted_ms, ..limits };
    found.push(FileSettings { path, folder, names, topic, content, follow });
}

/// The folder and the pattern of the names in it.
fn split(section: &mut Section<'_>, glob: &str) -> Option<(PathBuf, String)> {
    let (folder, names) = match glob.rsplit_once('/') {
        Some(("", names)) => ("/", names),
        Some((folder, names)) => (folder, names),
        None => (".", glob),
    };
    let wrong = if folder.contains('*') {
        Some("it is a folder and a name, and only the name may hold *".to_owned())
    } else if names.is_empty() || Path::new(glob).is_dir() {
        Some(format!("it is a folder; \"{}/*\" is every file in it", glob.trim_end_matches('/')))
    } else {
        None
    };
    if let Some(wrong) = wrong {
        section.blame("path", wrong);
        return None;
    }
    Some((PathBuf::from(folder), names.to_owned()))
}

fn blame_topic(section: &mut Section<'_>, text: &str, routes: &[Route]) {
    let example = TopicText(text.to_owned()).of("/x.log");
    if let Err(wrong) = topic::check_topic(&example) {
        section.blame("topic", format!("it {}", wrong.reason()));
    } else if example.contains(['{', '}']) {
        section.blame("topic", "only {file} is filled in, by the file's name up to its first dot");
    } else if !routes.iter().any(|route| route.matches(&example).is_some()) {
        section.blame("topic", "no [[route]] takes it, so no line would be stored");
    }
}

/// What the route of a file's rows says of CSV must be what the file says: otherwise every row is refused, or read as something else.
fn blame_columns(section: &mut Section<'_>, text: &str, separator: u8, routes: &[Route]) {
    let example = TopicText(text.to_owned()).of("/x.log");
    let Some(route) = routes.iter().find(|route| route.matches(&example).is_some()) else { return };
    let places = route.places.as_deref();
    let theirs = places.and_then(|places| places.separator).unwrap_or(',');
    if route.format != ingest::Format::Csv {
        section.blame(
            "format",
            format!(
                "rows need a route with format = \"csv\", and the [[route]] that takes them, {route}, has another one"
            ),
        );
    } else if theirs != char::from(separator) {
        let theirs = if theirs == '\t' { "tab".to_owned() } else { theirs.to_string() };
        section.blame(
            "separator",
            format!("`separator` has to be \"{theirs}\", as the [[route]] says that takes the rows, {route}"),
        );
    } else if !section.boolean("header") && places.is_none_or(|places| places.columns.is_none()) {
        section.blame(
            "header",
            format!("without a header, the [[route]] that takes the rows, {route}, has to name the `columns`"),
        );
    }
}

fn content(section: &mut Section<'_>, format: Format) -> Option<Content> {
    let pattern = section.text("pattern");
    match (format, pattern) {
        (Format::Pattern, Some(text)) => match Pattern::parse(&text) {
            Ok(pattern) => Some(Content::Pattern(pattern)),
            Err(error) => {
                section.blame("pattern", error.to_string());
                None
            }
        },
        (Format::Pattern, None) => {
            section.blame_section("format = \"pattern\" needs `pattern`");
            None
        }
        (_, Some(_)) => {
            section.blame("pattern", "it is of format = \"pattern\"");
            None
        }
        (Format::Lines, None) => Some(Content::Payloads),
        (Format::Csv, None) => Some(Content::Csv),
    }
}

fn framing(section: &mut Section<'_>, format: Format) -> Framing {
    let separator = section.choice("separator", &[(",", b','), (";", b';'), ("tab", b'\t')]).unwrap_or(b',');
    let Some(start) = section.text("multiline_start") else {
        return if format == Format::Csv { Framing::Csv { separator } } else { Framing::Lines };
    };
    if format == Format::Csv {
        section.blame("multiline_start", "rows of CSV end with a newline that is not in quotes");
    }
    match compile(&start) {
        Ok(start) => Framing::Start(start),
        Err(error) => {
            section.blame("multiline_start", error.to_string());
            Framing::Lines
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    fn problem(file: &str) -> String {
        let sources =
            Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
        let text = format!("[[file]]\n{file}\n");
        let read = Configuration::parse(std::path::Path::new("file"), &text, &sources, &Host::read());
        read.map(|_| String::new()).unwrap_or_else(|problems| problems.to_string())
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        let right = "path = '/d/*.log'\ntopic = 'devices/{file}'\n";
        assert_eq!(problem(right), "");
        for (file, expected) in [
            ("topic = 'devices/a'", "`path` is missing"),
            ("path = '/*/x.log'\ntopic = 'devices/a'", "only the name may hold *"),
            ("path = '/d/'\ntopic = 'devices/a'", "it is a folder; \"/d/*\" is every file in it"),
            ("path = '/proc'\ntopic = 'devices/a'", "it is a folder; \"/proc/*\" is every file in it"),
            ("path = '/d/x'\ntopic = 'plant/a'", "no [[route]] takes it"),
            ("path = '/d/x'\ntopic = 'devices/#'", "file[0].topic"),
            ("path = '/d/x'\ntopic = 'devices/a'\nformat = 'pattern'", "needs `pattern`"),
            ("path = '/d/x'\ntopic = 'devices/a'\nformat = 'pattern'\npattern = 'a'", "no group has a name"),
            ("path = '/d/x'\ntopic = 'devices/a'\npattern = '(?<a>.)'", "it is of format = \"pattern\""),
            ("path = '/d/x'\ntopic = 'devices/a'\nmultiline_start = '('", "file[0].multiline_start"),
            ("path = '/d/x'\ntopic = 'devices/a'\nformat = 'csv'\nmultiline_start = 'a'", "not in quotes"),
            ("path = '/d/x'\ntopic = 'devices/{fle}'", "only {file} is filled in"),
            ("path = '/d/x'\ntopic = 'devices/a'\nformat = 'csv'", "devices/{device}, has another one"),
            ("path = '/d/x'\ntopic = 'rows/a'\nformat = 'csv'\n[[route]]\ntopic = 'rows/{device}'\nformat = 'csv'", ""),
            (
                "path = '/d/x'\ntopic = 'rows/a'\nformat = 'csv'\n[[route]]\ntopic = 'rows/{device}'\nformat = 'csv'\nseparator = ';'",
                "`separator` has to be \";\", as the [[route]] says that takes the rows, rows/{device}",
            ),
            (
                "path = '/d/x'\ntopic = 'rows/a'\nformat = 'csv'\nheader = false\n[[route]]\ntopic = 'rows/{device}'\nformat = 'csv'",
                "has to name the `columns`",
            ),
        ] {
            let found = problem(file);
            assert!(found.contains(expected) && (found.is_empty() || !expected.is_empty()), "{file}: {found}");
        }
        let twice = format!("{right}[[file]]\n{right}");
        assert!(problem(&twice).contains("another [[file]] reads the same files"));
    }
}
