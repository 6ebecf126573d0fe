//! Topics that records are published to: a text with places that are filled in, each a part of a level. What is filled in cannot make another
//! level, nor a wildcard, whatever a device is called.

use std::fmt::Write as _;

/// What a place stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The gateway's id.
    Gateway,
    /// The device of the record; of the gateway's own records `_`.
    Device,
    /// The metric of the record.
    Metric,
    /// The name of the stream.
    Stream,
    /// The type of the record.
    Type,
}

/// Their names.
const PLACES: [(&str, Place); 5] = [
    ("gateway", Place::Gateway),
    ("device", Place::Device),
    ("metric", Place::Metric),
    ("stream", Place::Stream),
    ("type", Place::Type),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// A topic with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// Why a text is no such topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It has no characters.
    #[error("is empty")]
    Empty,
    /// `+` and `#` are for filters.
    #[error("holds + or #, which a topic cannot have")]
    Wildcard,
    /// A control character.
    #[error("holds a control character")]
    Control,
    /// A brace without the other one.
    #[error("has a brace without the other one")]
    Brace,
    /// In the braces is something else.
    #[error("has no such place as {{{0}}}; there are {{gateway}}, {{device}}, {{metric}}, {{stream}} and {{type}}")]
    Unknown(String),
}

/// What is filled in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filling<'a> {
    /// The gateway's id.
    pub gateway: &'a str,
    /// Empty for the gateway's own records.
    pub device: &'a str,
    /// Empty if the record is of none.
    pub metric: &'a str,
    /// The name of the stream.
    pub stream: &'a str,
    /// The type of the record.
    pub kind: &'a str,
}

impl Template {
    /// Reads a topic with places in braces.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, behind) = rest.split_at(at);
            let behind = behind.strip_prefix('{').ok_or(TemplateError::Brace)?;
            let (name, behind) = behind.split_once('}').ok_or(TemplateError::Brace)?;
            let known = PLACES.iter().find(|(known, _)| *known == name);
            let (_, place) = known.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Place(*place));
            rest = behind;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        for part in &parts {
            match part {
                Part::Text(text) if text.contains(['+', '#']) => return Err(TemplateError::Wildcard),
                Part::Text(text) if text.chars().any(char::is_control) => return Err(TemplateError::Control),
                _ => {}
            }
        }
        Ok(Template { parts })
    }

    /// Whether a place of it depends on what is in the record, besides its device.
    pub fn looks_into_records(&self) -> bool {
        self.has(Place::Metric) || self.has(Place::Type)
    }

    /// Whether it has this place.
    pub fn has(&self, place: Place) -> bool {
        self.parts.contains(&Part::Place(place))
    }

    /// The topic of a record.
    pub fn fill(&self, filling: &Filling<'_>) -> String {
        let mut topic = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Place(Place::Gateway) => escape(filling.gateway, &mut topic),
                Part::Place(Place::Device) => escape(filling.device, &mut topic),
                Part::Place(Place::Metric) => escape(filling.metric, &mut topic),
                Part::Place(Place::Stream) => escape(filling.stream, &mut topic),
                Part::Place(Place::Type) => escape(filling.kind, &mut topic),
            }
        }
        topic
    }
}

/// What stands for nothing. A text that is this one is escaped, so that no two texts become the same.
const NOTHING: &str = "_";

/// Bytes of what cannot stand in a level are written as in URLs. `$` begins the topics of brokers.
fn escape(text: &str, out: &mut String) {
    match text {
        "" => out.push_str(NOTHING),
        NOTHING => out.push_str("%5F"),
        _ => {
            for c in text.chars() {
                match c {
                    '/' | '+' | '#' | '%' | '$' => escape_char(c, out),
                    c if c.is_control() => escape_char(c, out),
                    c => out.push(c),
                }
            }
        }
    }
}

fn escape_char(c: char, out: &mut String) {
    let mut buffer = [0; 4];
    for byte in c.encode_utf8(&mut buffer).bytes() {
        // Writing to a text does not fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::topic;

    fn filling(device: &str) -> Filling<'_> {
        Filling { gateway: "truck-1", device, metric: "tank.level", stream: "raw", kind: "reading" }
    }

    fn topic(template: &str, device: &str) -> String {
        Template::parse(template).expect(template).fill(&filling(device))
    }

    #[test]
    fn places_are_filled_in() {
        let all = "dt/{gateway}/{stream}-{type}/{device}/{metric}";
        assert_eq!(topic(all, "tank-1"), "dt/truck-1/raw-reading/tank-1/tank.level");
        assert_eq!(topic("$aws/rules/fleet/{device}", "a"), "$aws/rules/fleet/a");
        assert_eq!(topic("plain", "a"), "plain");
        for (device, level) in [
            ("", "_"),
            ("_", "%5F"),
            ("__", "__"),
            ("farm/1", "farm%2F1"),
            ("+", "%2B"),
            ("#", "%23"),
            ("100%", "100%25"),
            ("$SYS", "%24SYS"),
            ("a\u{85}b\n", "a%C2%85b%0A"),
            ("Kühlung 3", "Kühlung 3"),
        ] {
            assert_eq!(topic("{device}", device), level, "{device:?}");
        }
        for (text, error) in [
            ("", TemplateError::Empty),
            ("a/#", TemplateError::Wildcard),
            ("a/{device", TemplateError::Brace),
            ("a/}", TemplateError::Brace),
            ("a/{{device}}", TemplateError::Unknown("{device".to_owned())),
            ("a/{metric...}", TemplateError::Unknown("metric...".to_owned())),
            ("a\u{0}", TemplateError::Control),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text:?}");
        }
        let looks = |text| Template::parse(text).expect(text).looks_into_records();
        assert!(looks("{metric}") && looks("a{type}") && !looks("{gateway}/{device}/{stream}"));
    }

    proptest! {
        #[test]
        fn whatever_a_device_is_called_it_is_one_level_of_its_own(one in any::<String>(), other in any::<String>()) {
            let [first, second] = [&one, &other].map(|device| topic("a/{device}/b", device));
            prop_assert_eq!(topic::check_topic(&first.chars().take(200).collect::<String>()), Ok(()));
            prop_assert_eq!(first.split('/').count(), 3);
            prop_assert_eq!(first == second, one == other);
        }
    }
}
