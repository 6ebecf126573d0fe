//! From the lines of a stream to the parameters of a statement.

use std::borrow::Cow;

use super::insertion::{Content, Filled, Source};
use super::message::TextArray;
use crate::sinks::files::fields;

/// A record's own time, by the first of these that it has.
const TIMES: [&str; 4] = ["measured_at_ms", "updated_at_ms", "at_ms", "received_at_ms"];

/// An array for each column, with an element for each line.
pub fn arrays<'a>(lines: impl Iterator<Item = &'a [u8]>, columns: &[Filled], stream: &str) -> Vec<TextArray> {
    let mut arrays: Vec<TextArray> = columns.iter().map(|_| TextArray::default()).collect();
    let mut found = Vec::new();
    for line in lines {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        found.clear();
        found.extend(fields::of(line));
        for (column, array) in columns.iter().zip(&mut arrays) {
            array.push(value(line, &found, column, stream).as_deref());
        }
    }
    arrays
}

fn value<'a>(line: &'a [u8], fields: &[(&'a str, &'a str)], column: &Filled, stream: &'a str) -> Option<Cow<'a, str>> {
    let field = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| field.1);
    let value = match column.source {
        Source::Stream => return Some(stream.into()),
        Source::Record => return Some(String::from_utf8_lossy(line)),
        Source::At => TIMES.iter().find_map(|name| field(name))?,
        Source::ExactValue => match field("value_exact") {
            Some(exact) => return text_of(exact),
            None => field("value")?,
        },
        Source::Field(name) => field(name)?,
    };
    match column.content {
        _ if value == "null" => None,
        Content::Text => text_of(value),
        _ => Some(value.into()),
    }
}

/// What a text of JSON says. Anything else stays as it is.
fn text_of(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Some(inner.into()),
        Some(_) => serde_json::from_str::<String>(json).ok().map(Cow::Owned),
        None => Some(json.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: &str = r#"{"v":1,"type":"reading","gateway":"g","run":"r","position":7,"device":"a\"\u00e9","metric":"m","value":9007199254740992.0,"value_exact":"9007199254740993","measured_at_ms":5,"received_at_ms":6,"time_quality":"synced","attributes":{"road":"dry"}}"#;
    const ALERT: &str = r#"{"v":1,"type":"alert","gateway":"g","run":"r","position":1,"raised_at_ms":1,"updated_at_ms":3,"value":null,"cleared_at_ms":null}"#;

    fn of(line: &str, source: Source, content: Content) -> Option<String> {
        let fields: Vec<_> = fields::of(line.as_bytes()).collect();
        value(line.as_bytes(), &fields, &Filled { source, content }, "raw").map(Cow::into_owned)
    }

    #[test]
    fn columns_get_what_their_records_say() {
        for (line, source, content, expected) in [
            (READING, Source::Field("device"), Content::Text, Some("a\"é")),
            (READING, Source::Field("position"), Content::Integer, Some("7")),
            (READING, Source::Field("value"), Content::Double, Some("9007199254740992.0")),
            (READING, Source::ExactValue, Content::Double, Some("9007199254740993")),
            (READING, Source::Field("attributes"), Content::Json, Some(r#"{"road":"dry"}"#)),
            (READING, Source::Field("seq"), Content::Integer, None),
            (READING, Source::At, Content::Time, Some("5")),
            (READING, Source::Stream, Content::Text, Some("raw")),
            (READING, Source::Record, Content::Json, Some(READING)),
            (ALERT, Source::At, Content::Time, Some("3")),
            (ALERT, Source::Field("value"), Content::Double, None),
            (ALERT, Source::ExactValue, Content::Double, None),
            (ALERT, Source::Field("cleared_at_ms"), Content::Time, None),
            (r#"{"payload":null}"#, Source::Field("payload"), Content::Json, None),
            (r#"{"at_ms":4,"received_at_ms":9}"#, Source::At, Content::Time, Some("4")),
            ("noise", Source::Field("device"), Content::Text, None),
        ] {
            assert_eq!(of(line, source, content).as_deref(), expected, "{source:?}");
        }
    }

    #[test]
    fn each_line_is_an_element_of_each_array() {
        let columns = [Source::Field("position"), Source::Field("seq")]
            .map(|source| Filled { source, content: Content::Integer });
        let lines = [format!("{READING}\n"), ALERT.to_owned()];
        let mut expected = [TextArray::default(), TextArray::default()];
        expected[0].push(Some("7"));
        expected[0].push(Some("1"));
        (0..2).for_each(|_| expected[1].push(None));
        assert_eq!(arrays(lines.iter().map(|line| line.as_bytes()), &columns, "raw"), expected);
    }
}
