//! One `[[link]]`, and what a `[[sink]]` says of how its records travel.

use std::path::Path;

use crate::core::link::{Class, Classes, LinkSettings};
use crate::keys::problem::near_miss;
use crate::keys::section::Section;
use crate::sinks::links::metering::MeteredBy;
use crate::sinks::links::{LinkConfiguration, Order, Travel};

/// Each is written with each cursor of a sink that uses it.
const LINKS_MAX: usize = 16;

/// Adds the link of a section to those found before it. Relative paths begin in the folder of the configuration.
pub fn read(mut section: Section<'_>, beside: &Path, found: &mut Vec<LinkConfiguration>) {
    if found.len() == LINKS_MAX {
        section.blame_section(format!("more than {LINKS_MAX} links"));
    }
    let name = section.text("name");
    if let Some(name) = &name
        && found.iter().any(|link| link.name == *name)
    {
        section.blame("name", "another [[link]] has the same name");
    }
    let metered = metered(&mut section, beside);
    let settings = LinkSettings {
        bytes_per_day: section.given_bytes("bytes_per_day"),
        bytes_per_month: section.given_bytes("bytes_per_month"),
        reset_day: section.count("reset_day"),
        rate: section.given_bytes("rate"),
        alert_reserve_percent: reserve(&mut section),
        carries: carries(&mut section),
    };
    if settings.bytes_per_month.is_none() && section.has("reset_day") {
        section.blame("reset_day", "a month counts only with bytes_per_month");
    }
    section.finish();
    found.extend(name.map(|name| LinkConfiguration { name, settings, metered }));
}

fn metered(section: &mut Section<'_>, beside: &Path) -> MeteredBy {
    let words = [("auto", None), ("yes", Some(MeteredWord::Yes)), ("no", Some(MeteredWord::No))];
    let said = section.choice("metered", &words).flatten();
    let interface = section.text("interface");
    let file = section.path("state_file").map(|path| beside.join(path));
    for name in ["interface", "state_file"] {
        if said.is_some() && section.has(name) {
            section.blame(name, "is not looked at; leave it away, or set metered = \"auto\"");
        }
    }
    match said {
        Some(MeteredWord::Yes) => MeteredBy::Yes,
        Some(MeteredWord::No) => MeteredBy::No,
        None => MeteredBy::Auto { file, interface },
    }
}

#[derive(Clone, Copy)]
enum MeteredWord {
    Yes,
    No,
}

/// Most per cent of a budget that may be for alerts alone.
const RESERVE_PERCENT_MAX: u8 = 90;

fn reserve(section: &mut Section<'_>) -> u8 {
    let text = section.text("alert_reserve").unwrap_or_default();
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    percent.filter(|percent| *percent <= RESERVE_PERCENT_MAX).unwrap_or_else(|| {
        section
            .blame("alert_reserve", format!("it is a part of the budget, from \"0%\" to \"{RESERVE_PERCENT_MAX}%\""));
        0
    })
}

fn carries(section: &mut Section<'_>) -> Classes {
    let Some(words) = section.texts_if_there("carries") else { return Classes::ALL };
    let names = Class::ALL.map(Class::name);
    let mut classes = Vec::new();
    for word in &words {
        match Class::ALL.into_iter().find(|class| class.name() == word) {
            Some(class) => classes.push(class),
            None => section.blame(
                "carries",
                match near_miss(word, names) {
                    Some(meant) => format!("there is no class {word}; did you mean `{meant}`?"),
                    None => format!("there is no class {word}; there are {}", names.join(", ")),
                },
            ),
        }
    }
    if words.is_empty() {
        section.blame("carries", "names nothing; without this key, the link carries everything");
    }
    classes.into_iter().collect()
}

/// What a sink that sends records says of how they travel.
pub fn travel(section: &mut Section<'_>, links: &[LinkConfiguration]) -> Travel {
    let link = section.text("link");
    let travel = Travel {
        order: section.choice("order", &Order::NAMES).unwrap_or_default(),
        age_max: section.given_duration("max_age"),
        link,
    };
    if let Some(link) = &travel.link
        && !links.iter().any(|known| known.name == *link)
    {
        let known: Vec<&str> = links.iter().map(|known| known.name.as_str()).collect();
        section.blame(
            "link",
            match (near_miss(link, known.iter().copied()), known.is_empty()) {
                (Some(meant), _) => format!("there is no link {link}; did you mean `{meant}`?"),
                (None, true) => format!("there is no link {link}; add a [[link]] with name = \"{link}\""),
                (None, false) => format!("there is no link {link}; there are {}", known.join(", ")),
            },
        );
    }
    travel
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    fn read(text: &str) -> Result<Configuration, String> {
        let text = format!("store.path = '/s'\n{text}");
        let parsed = Configuration::parse(Path::new("/etc/f"), &text, &Sources::default(), &Host::read());
        parsed.map_err(|problems| problems.to_string())
    }

    const SINK: &str = "[[sink]]\nname = 'x'\ntype = 'nothing'\n";

    #[test]
    fn a_link_and_what_a_sink_says_of_it_are_read() {
        let link = "[[link]]\nname = 'lte'\nstate_file = 'm'\nbytes_per_month = '2GiB'\nreset_day = 31\nrate = '32KiB'\n\
                    alert_reserve = '5%'\ncarries = ['alerts', 'live']\n";
        let found = read(&format!("{link}{SINK}link = 'lte'\norder = 'live-first'\nmax_age = '2h'\n")).expect("right");
        let LinkConfiguration { name, settings, metered } = &found.links[0];
        let file = Some(Path::new("/etc/m").to_owned());
        assert_eq!((name.as_str(), metered), ("lte", &MeteredBy::Auto { file, interface: None }));
        assert_eq!((settings.bytes_per_month, settings.bytes_per_day), (Some(2 << 30), None));
        assert_eq!((settings.reset_day, settings.rate, settings.alert_reserve_percent), (31, Some(32 << 10), 5));
        assert!(settings.carries.has(Class::Live) && !settings.carries.has(Class::Backlog));
        let Travel { link, order, age_max } = &found.sinks[0].travel;
        assert_eq!((link.as_deref(), *order), (Some("lte"), Order::LiveFirst));
        assert_eq!(*age_max, Some(Duration::from_secs(7_200)));
        let plain = read(SINK).expect("right");
        assert!(plain.links.is_empty() && plain.sinks[0].travel.link.is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let link = |keys: &str| format!("[[link]]\nname = 'lte'\n{keys}\n{SINK}");
        for (text, expected) in [
            (link("metered = 'yes'\ninterface = 'wwan0'"), "is not looked at"),
            (link("alert_reserve = '95%'"), "from \"0%\" to \"90%\""),
            (link("alert_reserve = 'much'"), "a part of the budget"),
            (link("carries = ['alert']"), "did you mean `alerts`?"),
            (link("carries = []"), "names nothing"),
            (link("reset_day = 3"), "only with bytes_per_month"),
            (format!("{}link = 'lt'\n", link("")), "did you mean `lte`?"),
            (format!("{SINK}link = 'lte'\n"), "add a [[link]]"),
            (format!("{}{}", link(""), link("")), "another [[link]] has the same name"),
            ("[[sink]]\nname = 'a'\ntype = 'archive'\norder = 'oldest'\n".to_owned(), "not of this one"),
        ] {
            let problems = read(&text).expect_err("wrong");
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }
}
