//! For a bare number that text and CBOR both claim: the route on which it is no longer a question.

use super::takes;
use crate::ingest::advice::quoted;
use crate::ingest::{Format, Ingest, Route, formats, route};

/// Names the line for each of the two, if both would take the payload.
pub fn lines_that_settle(routes: &[Route], topic: &str, payload: &[u8]) -> Option<String> {
    let route = routes.iter().find(|route| route.matches(topic).is_some())?;
    let is_built_in = Ingest::default_routes().contains(route);
    let own = if is_built_in { own_route(topic) } else { None };
    let (intro, route) = match own {
        Some((text, route)) => (format!("add to the configuration:\n{text}"), route),
        None if is_built_in => (format!("add to the configuration:\n[[route]]\ntopic = \"{route}\""), route.clone()),
        None => (format!("add to the route \"{route}\":"), route.clone()),
    };
    // Objects may arrive by the same route unless it is for this topic only: `json` leaves them as they are.
    let texts = match is_built_in {
        true => [("number", Format::Number), ("json", Format::Json)],
        false => [("json", Format::Json), ("number", Format::Number)],
    };
    let is_taken = |format: Format| takes(with_format(&route, format), topic, payload);
    let text = texts.into_iter().find(|(_, format)| is_taken(*format)).map(|(name, _)| name);
    match (text, is_taken(Format::Cbor)) {
        (Some(text), true) => Some(format!("{intro}\nformat = \"{text}\" # or \"cbor\", whichever the device sends")),
        (Some(text), false) => Some(format!("{intro}\nformat = \"{text}\"")),
        (None, true) => Some(format!("{intro}\nformat = \"cbor\"")),
        (None, false) => None,
    }
}

/// A route before the built-in ones that leaves what others send alone: for one metric of all devices, or for one device.
fn own_route(topic: &str) -> Option<(String, Route)> {
    let levels: Vec<&str> = topic.split('/').collect();
    let [root, device, metric @ ..] = levels.as_slice() else { return None };
    if !levels.iter().all(|level| route::is_literal(level)) {
        return None;
    }
    let (template, key, name) = match metric {
        [] => (topic.to_owned(), "device", (*device).to_owned()),
        _ => (format!("{root}/{{device}}/{}", metric.join("/")), "metric", metric.join(".")),
    };
    let text = format!("[[route]]\ntopic = {}\n{key} = {}", quoted(&template), quoted(&name));
    let (device, metric) = if key == "device" { (Some(name), None) } else { (None, Some(name)) };
    Some((text, Route::parse(&template, Format::Auto, device, metric).ok()?))
}

fn with_format(route: &Route, format: Format) -> Route {
    let places = route.places.as_deref().cloned().unwrap_or_default().or(formats::places(format));
    let mut route = route.clone();
    route.format = format;
    if places.is_any() { route.with_places(places) } else { route }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};
    use crate::core::reading::Readings;
    use crate::ingest::bare::JSON_OR_CBOR;
    use crate::ingest::hints::{hint, why};
    use crate::ingest::{ClockState, Decoded};

    fn hinted(routes: &[Route], topic: &str, payload: &[u8]) -> String {
        let hint = hint(routes, topic, payload, JSON_OR_CBOR);
        hint.strip_prefix(why(JSON_OR_CBOR)).expect("the reason in words").to_owned()
    }

    /// What the routes of this configuration make of a publish.
    fn stored(configuration: &str, topic: &str, payload: &[u8]) -> Vec<(String, String, f64)> {
        let sources =
            Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
        let read = Configuration::parse(std::path::Path::new("file"), configuration, &sources, &Host::read());
        let routes = read.unwrap_or_else(|problems| panic!("{configuration}: {problems}")).routes;
        let mut readings = Readings::default();
        let decoded = Ingest::new(routes, ClockState::new(true)).decode(topic, payload, 0, &mut readings);
        assert_eq!(decoded, Decoded::Stored { readings: readings.len() }, "{configuration}: {topic}");
        readings.iter().map(|it| (it.device.to_owned(), it.metric.to_owned(), it.value)).collect()
    }

    #[test]
    fn both_lines_are_named_and_each_settles_it() {
        let routes = Ingest::default_routes();
        for (topic, metric, neighbour) in [
            ("devices/a/relay", "relay", "devices/a/t"),
            ("vehicles/a/door/left", "door.left", "vehicles/a/door"),
            ("devices/a", "value", "devices/b"),
            ("devices/a\"b\\/λ x", "λ x", "devices/a\"b\\"),
            ("devices/{a}/t", "t", "vehicles/a"),
        ] {
            let hint = hinted(&routes, topic, b"1");
            let advice = hint.strip_prefix("; add to the configuration:\n").expect("a route").to_owned();
            assert!(advice.ends_with("\nformat = \"number\" # or \"cbor\", whichever the device sends"), "{advice}");
            let device = topic.split('/').nth(1).expect("a device").to_owned();
            let reading = |value: f64| vec![(device.clone(), metric.to_owned(), value)];
            assert_eq!(stored(&advice, topic, b"1"), reading(1.0));
            assert_eq!(stored(&advice.replace("\"number\"", "\"cbor\""), topic, b"1"), reading(-18.0));
            assert_eq!(stored(&advice, neighbour, b"{\"t\":1}").len(), 1, "whoever sends objects goes on");
        }
        let advice = hinted(&routes, "devices/a/relay", b"1");
        assert!(advice.contains("topic = \"devices/{device}/relay\"\nmetric = \"relay\""), "{advice}");
    }

    #[test]
    fn a_route_of_the_user_gets_a_line() {
        let route = Route::parse("plant/{device}", Format::Auto, None, None).expect("a template");
        let hint = |payload: &[u8]| hinted(std::slice::from_ref(&route), "plant/a", payload);
        let expected = "; add to the route \"plant/{device}\":\nformat = ";
        assert_eq!(hint(b"85"), format!("{expected}\"json\" # or \"cbor\", whichever the device sends"));
        assert_eq!(hint(b"8c"), format!("{expected}\"number\" # or \"cbor\", whichever the device sends"));
        assert_eq!(hint(b"\n"), format!("{expected}\"cbor\""), "no number as text");
    }
}
