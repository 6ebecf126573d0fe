//! Turns a `[[route]]` into a route.

use crate::core::detection::alert;
use crate::core::path::{Path, Root, Text};
use crate::ingest::places::Places;
use crate::ingest::{Format, Numbers, Route, TimeFormat, formats, parse_zone};
use crate::keys::section::Section;

/// `None` if it says too little, which is blamed.
pub fn read(section: &mut Section<'_>, topic: Option<String>) -> Option<Route> {
    let formats = [
        ("auto", Format::Auto),
        ("json", Format::Json),
        ("cbor", Format::Cbor),
        ("number", Format::Number),
        ("csv", Format::Csv),
        ("senml_json", Format::SenmlJson),
        ("senml_cbor", Format::SenmlCbor),
        ("influx", Format::Influx),
        ("sparkplug", Format::Sparkplug),
    ];
    let format = section.choice("format", &formats).unwrap_or(Format::Auto);
    let (device, metric) = (text(section, "device"), text(section, "metric"));
    let literal = |text: &Option<Text>| text.as_ref().and_then(Text::literal).map(str::to_owned);
    let (fixed_device, fixed_metric) = (literal(&device), literal(&metric));
    if fixed_device.as_deref().is_some_and(alert::is_own_device) {
        section.blame("device", "this name is the gateway's own");
    }
    if fixed_metric.as_deref().is_some_and(alert::is_own_metric) {
        section.blame("metric", "this name is the gateway's own");
    }
    let places = places(section, format, &device, &metric).or(formats::places(format));
    if format != Format::Csv && (places.columns.is_some() || places.separator.is_some()) {
        section.blame_section("`columns` and `separator` are of format = \"csv\"");
    }
    let has_device = device.is_some();
    // A device that is filled in needs no level of the topic.
    let known_device = fixed_device.clone().or(device.as_ref().map(|_| String::new()));
    match Route::parse(&topic?, format, known_device, fixed_metric.clone()) {
        Ok(route) => {
            if route.names_device() && fixed_device.is_some() {
                section.blame("device", "the topic says which device it is");
            }
            if route.names_metric() && fixed_metric.is_some() {
                section.blame("metric", "the topic says which metric it is");
            }
            for (key, text) in [("device", &device), ("metric", &metric)] {
                let unknown = text.iter().flat_map(Text::levels).find(|name| !route.has_level(name));
                if let Some(name) = unknown {
                    section.blame(key, format!("the topic has no level {{{name}}}"));
                }
            }
            assert!(has_device || route.names_device(), "checked with the template");
            let is_plain = matches!(format, Format::Auto | Format::Json | Format::Cbor) && !places.is_any();
            Some(if is_plain { route } else { route.with_places(places) })
        }
        Err(error) => {
            section.blame("topic", error.to_string());
            None
        }
    }
}

fn places(section: &mut Section<'_>, format: Format, device: &Option<Text>, metric: &Option<Text>) -> Places {
    let filled = |text: &Option<Text>| text.clone().filter(|text| text.literal().is_none());
    let has_comma = section.choice("decimal_separator", &[(".", false), (",", true)]).unwrap_or(false);
    let numbers = [("strict", Numbers::Strict), ("lenient", Numbers::Lenient { has_comma })];
    let places = Places {
        each: path(section, "each"),
        device: filled(device),
        metric: filled(metric),
        value: path(section, "value"),
        time: path(section, "time"),
        time_format: section.text("time_format").and_then(|text| TimeFormat::parse(&text).ok()).unwrap_or_default(),
        zone_s: section.text("time_zone").and_then(|text| parse_zone(&text)),
        sequence: path(section, "sequence"),
        metrics: section.measures("metrics"),
        attributes: section.attributes("attributes"),
        ignore: section.paths("ignore").unwrap_or_default(),
        // A bare number often has its unit, and there is nothing else that it could be.
        numbers: section
            .choice("numbers", &numbers)
            .or((format == Format::Number).then_some(Numbers::Lenient { has_comma })),
        columns: Some(section.texts("columns")).filter(|columns| !columns.is_empty()),
        separator: section.choice("separator", &[(",", ','), (";", ';'), ("tab", '\t')]).filter(|it| *it != ','),
        may_be_empty: false,
    };
    if has_comma && places.numbers() == Numbers::Strict {
        section.blame("decimal_separator", "it needs numbers = \"lenient\": numbers of JSON have a point");
    }
    if places.each.as_ref().is_some_and(|path| path.root == Root::Element) {
        section.blame("each", "it begins with $, the payload");
    }
    for (key, path) in [("value", &places.value), ("time", &places.time), ("sequence", &places.sequence)] {
        if path.as_ref().is_some_and(Path::is_several) {
            section.blame(key, "it leads to one value; a * belongs in `each` or `metrics`");
        }
    }
    places
}

/// The kind of the key has checked it.
fn text(section: &mut Section<'_>, key: &str) -> Option<Text> {
    section.text(key).and_then(|text| Text::parse(&text).ok())
}

fn path(section: &mut Section<'_>, key: &str) -> Option<Path> {
    section.text(key).and_then(|text| Path::parse(&text).ok())
}

#[cfg(test)]
mod tests {
    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    fn problem(route: &str) -> String {
        let sources =
            Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
        let text = format!("[[route]]\n{route}\n");
        let read = Configuration::parse(std::path::Path::new("file"), &text, &sources, &Host::read());
        read.map(|_| String::new()).unwrap_or_else(|problems| problems.to_string())
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (route, expected) in [
            ("topic = 'a/{device}'\nvalue = 'v'", "route[0].value = 'v': column 1: a path begins with $"),
            ("topic = 'a/{device}'\nvalue = '$.a-b'", "column 4: a name with such a character stands in quotes"),
            ("topic = 'a/{device}'\nvalue = '$.a[*]'", "it leads to one value"),
            ("topic = 'a/{device}'\neach = '@.a'", "it begins with $"),
            ("topic = 'a'\ndevice = '{site}'", "the topic has no level {site}"),
            ("topic = 'a'\ndevice = '{$.a'", "column 1: a brace is not closed"),
            ("topic = 'a/{device}'\ndevice = 'x'", "the topic says which device it is"),
            ("topic = 'a/{device}'\nmetrics = { a = { factor = 2 } }", "`a` lacks its path"),
            ("topic = 'a/{device}'\nmetrics = { a = { path = '$.a', factor = 0 } }", "`a.factor` has no such value"),
            ("topic = 'a/{device}'\nmetrics = { a = { path = '$.a', scale = 2 } }", "`a.scale` is unknown"),
            ("topic = 'a/{device}'\nmetrics = ['$.a', '$b']", "$b: column 2: a step begins with . or ["),
            ("topic = 'a/{device}'\nattributes = { x = 1 }", "`x` is not a path"),
            ("topic = 'a/{device}'\nignore = 3", "not a list"),
            ("topic = 'a/{device}'\ntime_format = '%H:%M'", "a pattern needs year, month and day"),
            ("topic = 'a/{device}'\ntime_zone = 'Berlin'", "UTC, or an offset"),
            (
                "topic = 'a/{device}'\ntest = { topic = 'a/b', payload = '1' }",
                "not all of topic, payload or payload_hex",
            ),
            (
                "topic = 'a/{device}'\ntest = { topic = 'a/b', payload_hex = '1', expect = [] }",
                "no pairs of hex digits",
            ),
            (
                "topic = 'a/{device}'\ntest = [{ topic = 'a/b', payload = '1', expect = [{ volume = 1 }] }]",
                "`volume` is unknown",
            ),
            ("topic = 'a/{device}'\ndecimal_separator = ','", "it needs numbers = \"lenient\""),
        ] {
            let problem = problem(route);
            assert!(problem.contains(expected), "{route}: {problem}");
        }
        assert_eq!(problem("topic = 'a/{device}'\ndevice = '{$.id}'\nvalue = '$.a.\"b-c\"[0]'"), "");
    }
}
