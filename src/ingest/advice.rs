//! For a topic that no route takes: the route that would take it, as TOML to paste at the end of a configuration.
//!
//! A topic may hold what a template cannot: braces, control characters, too many levels. So each proposal is parsed as `check` would parse
//! it before it is made.

use super::route::{Format, Route};
use super::{NAME_BYTES_MAX, route};

/// Device name for a topic that holds none.
const UNNAMED_DEVICE: &str = "unnamed";

/// `None` if no route can take the topic.
pub fn route_for(topic: &str) -> Option<String> {
    let levels: Vec<&str> = topic.split('/').collect();
    let proposals = [varying(&levels, false), varying(&levels, true), fixed(&levels)];
    let fitting = proposals.into_iter().find(|proposal| proposal.takes(topic))?;
    Some(fitting.to_string())
}

struct Proposal {
    template: String,
    device: Option<String>,
}

impl Proposal {
    fn takes(&self, topic: &str) -> bool {
        Route::parse(&self.template, Format::Auto, self.device.clone(), None)
            .is_ok_and(|route| route.matches(topic).is_some())
    }
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[[route]]\ntopic = {}", quoted(&self.template))?;
        self.device.iter().try_for_each(|device| write!(f, "\ndevice = {}", quoted(device)))
    }
}

/// The first level is the kind of device, the second one the device, and the rest the metric.
fn varying(levels: &[&str], is_first_varying: bool) -> Proposal {
    let mut named = levels.iter().enumerate().filter(|(_, level)| !level.is_empty()).map(|(at, _)| at);
    let first = named.next();
    let (Some(first), Some(device)) = (first, named.next()) else { return fixed(levels) };
    let rest = &levels[device + 1..];
    let has_gaps = rest.iter().any(|level| level.is_empty());
    let last_named = levels.iter().rposition(|level| !level.is_empty());
    let mut parts: Vec<String> = Vec::new();
    for (at, level) in levels.iter().enumerate() {
        parts.push(match at {
            _ if at == first && is_first_varying => placeholder(at),
            _ if at == device => "{device}".to_owned(),
            _ if at > device && !has_gaps => "{metric...}".to_owned(),
            _ if at > device && Some(at) == last_named => "{metric}".to_owned(),
            _ => literal(at, level),
        });
        if parts.last().is_some_and(|part| part == "{metric...}") {
            break;
        }
    }
    Proposal { template: parts.join("/"), device: None }
}

/// A route for this topic only.
fn fixed(levels: &[&str]) -> Proposal {
    let is_name = |level: &&&str| (1..=NAME_BYTES_MAX).contains(&level.len()) && route::is_literal(level);
    let device = levels.iter().find(is_name).map_or(UNNAMED_DEVICE, |level| *level);
    let parts: Vec<String> = levels.iter().enumerate().map(|(at, level)| literal(at, level)).collect();
    Proposal { template: parts.join("/"), device: Some(device.to_owned()) }
}

fn literal(at: usize, level: &str) -> String {
    if route::is_literal(level) { level.to_owned() } else { placeholder(at) }
}

fn placeholder(at: usize) -> String {
    format!("{{level_{}}}", at + 1)
}

/// A one-line TOML string that shows what it holds: invisible characters and those that change the writing direction are escaped.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ if c == '\'' || c.escape_debug().len() == 1 => out.push(c),
            _ => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};
    use crate::core::mqtt::topic;
    use crate::ingest::{ClockState, Decoded, Ingest};
    use proptest::prelude::*;

    /// The result of `outrider check`.
    fn checked(text: &str) -> Result<Vec<Route>, String> {
        let sources =
            Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
        let configuration = Configuration::parse(std::path::Path::new("file"), text, &sources, &Host::read());
        configuration.map(|configuration| configuration.routes).map_err(|problems| problems.to_string())
    }

    /// Pasted after the existing routes, the advice is accepted and takes the topic.
    fn assert_taken(topic: &str) {
        let advice = route_for(topic).unwrap_or_else(|| panic!("no route for {topic:?}"));
        assert!(!advice.lines().skip(3).any(|_| true), "{advice}");
        let text = format!("[mqtt]\nunrouted = \"reject\"\n[[route]]\ntopic = \"own/{{device}}\"\n{advice}\n");
        let routes = checked(&text).unwrap_or_else(|problems| panic!("{topic:?}: {advice}: {problems}"));
        let mut ingest = Ingest::new(routes, ClockState::new(true));
        let decoded = ingest.decode(topic, b"12", 0, &mut Default::default());
        assert_ne!(decoded, Decoded::Unrouted, "{topic:?}: {advice}");
    }

    #[test]
    fn the_advice_is_what_a_person_would_write() {
        let advice = |topic| route_for(topic).expect("a route");
        assert_eq!(advice("plant/pump/temp/in"), "[[route]]\ntopic = \"plant/{device}/{metric...}\"");
        assert_eq!(advice("plant/pump"), "[[route]]\ntopic = \"plant/{device}\"");
        assert_eq!(advice("/plant/pump/temp"), "[[route]]\ntopic = \"/plant/{device}/{metric...}\"");
        assert_eq!(advice("pump"), "[[route]]\ntopic = \"pump\"\ndevice = \"pump\"");
        assert_eq!(advice("plant/pump/temp/"), "[[route]]\ntopic = \"plant/{device}/{metric}/\"");
        assert_eq!(advice("a\"b\\/x"), "[[route]]\ntopic = \"a\\\"b\\\\/{device}\"");
        assert_eq!(advice("\u{202e}a/x"), "[[route]]\ntopic = \"\\U0000202Ea/{device}\"");
        assert_eq!(advice("a\nb/x"), "[[route]]\ntopic = \"{level_1}/{device}\"");
    }

    #[test]
    fn odd_topics_get_a_route_that_check_accepts() {
        let long = "x".repeat(1000);
        for topic in [
            "/",
            "//",
            "a/",
            "/a",
            "/a/",
            "a//b",
            "a//b/",
            "/a//b/c",
            "a/b/c//d/",
            "a/b//",
            "{",
            "{}/{device}/x",
            "a{b}/c/d",
            "\"/'/\\",
            "''' \"\"\"/x",
            "täglich/Kühlraum 1/温度",
            "a b/c d",
            "a\tb/c/d",
            "\n",
            "\u{7f}/\u{85}/x",
            "devices/a/",
            "devices//t",
            "vehicles",
            "a/$SYS/x",
            "{device}/{metric...}",
            "alertsx/y",
            "a/{metric}/b/",
            &format!("{long}/b/c"),
            &long,
            &format!("a/{long}"),
            &"a/".repeat(512),
        ] {
            assert_taken(topic);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_client_publishes_to(topic in "[a-c/{}\"'\\\\ \u{1}\u{202e}ä$]{1,40}") {
            prop_assume!(topic::check_topic(&topic).is_ok() && !topic::is_reserved(&topic));
            assert_taken(&topic);
        }
    }
}
