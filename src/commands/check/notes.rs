//! What `outrider check` says of a configuration that is right, and may not be what was meant.

use super::Held;
use crate::admin::ledger::LedgerLine;
use crate::bridge::BridgeSettings;
use crate::config::Configuration;
use crate::core::link::{Class, Metered};
use crate::core::mqtt::topic;
use crate::descriptors::Room;
use crate::files::FileSettings;
use crate::sinks::archive::sink::ArchiveSink;
use crate::sinks::kind::SinkSettings;
use crate::sinks::links::LinkConfiguration;
use crate::sinks::links::metering::{self, MeteredBy};
use crate::sinks::s3;
use crate::store::retention::Capacity;

/// What is allowed and may surprise.
pub(super) fn all(configuration: &Configuration, capacity: &Capacity, held: &Held) -> Vec<String> {
    let room = Room::look(configuration.sinks.len(), configuration.streams.len());
    let of_files = configuration.inputs.iter().map(FileSettings::descriptors).sum();
    let room = room.ok().map(|room| room.besides(of_files));
    let shortage = room.and_then(|room| room.shortage(configuration.edge.connections_max));
    let mut warnings: Vec<String> = shortage.into_iter().collect();
    for link in &configuration.links {
        let is_used = configuration.sinks.iter().any(|sink| sink.travel.link.as_deref() == Some(&*link.name));
        warnings.extend(of_link(link, is_used).into_iter().map(|note| format!("link {}: {note}", link.name)));
    }
    warnings.extend(past_links(configuration));
    warnings.extend(of_sinks(configuration.sinks.iter().map(|sink| (&*sink.name, sink.sink.notes()))));
    warnings.extend(configuration.bridges.iter().flat_map(|bridge| bridge.notes(&configuration.gateway_id)));
    if !configuration.has_archive() {
        warnings.push(SinkSettings::NO_ARCHIVE.to_owned());
    }
    warnings.extend(configuration.listeners.warnings.iter().chain(&configuration.admin.warnings).cloned());
    warnings.extend(configuration.rules.warnings.iter().map(|warning| format!("rule {warning}")));
    warnings.extend(unseen_lines(configuration));
    let Held::View(view) = held else { return warnings };
    if view.used_bytes > capacity.bytes_max {
        warnings.push(
            "the store holds more than store.size_max allows: the oldest readings would be dropped at the start"
                .to_owned(),
        );
    }
    let is_named =
        |line: &&LedgerLine| configuration.sinks.iter().any(|sink| sink.name == line.sink && sink.takes(&line.stream));
    for line in view.ledger.iter().filter(|line| !is_named(line)) {
        let LedgerLine { sink, stream, buffered, .. } = line;
        let waiting = if *buffered == 1 { "1 record waits".to_owned() } else { format!("{buffered} records wait") };
        warnings.push(format!(
            "the configuration no longer names the sink {sink} for the stream {stream}: {waiting} for it now, and \
             further ones are kept for it as long as there is room"
        ));
    }
    warnings
}

/// Rules that look as if they saw lines of files: these are no messages.
fn unseen_lines(configuration: &Configuration) -> impl Iterator<Item = String> + '_ {
    let sees = |rule: &crate::core::rulebook::Rule, file: &FileSettings| {
        rule.filter().is_some_and(|filter| topic::matches(filter, &file.topic.of(&file.path)))
    };
    configuration.rules.book.rules().iter().filter(|rule| rule.sees_messages()).filter_map(move |rule| {
        let file = configuration.inputs.iter().find(|file| sees(rule, file))?;
        Some(format!(
            "rule {}: it has `sql`, so it sees messages only, and not the lines of {}; a rule with `when` sees their readings",
            rule.name, file.path
        ))
    })
}

/// What a link says that is of no use, or may be meant otherwise.
fn of_link(link: &LinkConfiguration, is_used: bool) -> Vec<String> {
    let LinkConfiguration { settings, metered, .. } = link;
    let mut notes = Vec::new();
    let mut note = |text: &str| notes.push(text.to_owned());
    if !metered.is_known() {
        match settings.has_limit() {
            true => note("without `metered`, `interface` and `state_file`, it always counts as metered"),
            false => note(
                "without `metered`, `interface` and `state_file`, it never counts as metered, and nothing is limited on it",
            ),
        }
    }
    if *metered == MeteredBy::No && settings.has_limit() {
        note("metered = \"no\", so nothing is limited on it");
    }
    if let MeteredBy::Auto { file: Some(file), .. } = metered
        && metering::of_file(file) == Metered::Unknown
    {
        note(&format!("state_file {} says neither yes nor no now, so it does not count until it does", file.display()));
    }
    if settings.bytes_per_day.zip(settings.bytes_per_month).is_some_and(|(day, month)| day > month) {
        note("bytes_per_day is more than bytes_per_month, so the month is spent before a day is");
    }
    if !settings.carries.has(Class::Alerts) {
        note("`carries` has no alerts, so they wait as long as it is metered");
    }
    if !is_used {
        note("no [[sink]] has it as its `link`, so nothing is counted or limited on it");
    }
    notes
}

/// What sinks say of themselves; what several say is there once.
fn of_sinks<'a>(sinks: impl Iterator<Item = (&'a str, Vec<String>)>) -> Vec<String> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for (sink, notes) in sinks {
        for note in notes {
            match found.iter_mut().find(|(known, _)| *known == note) {
                Some((_, sinks)) => sinks.push(sink),
                None => found.push((note, vec![sink])),
            }
        }
    }
    let text = |(note, sinks): (String, Vec<&str>)| {
        format!("sink{} {}: {note}", if sinks.len() == 1 { "" } else { "s" }, sinks.join(", "))
    };
    found.into_iter().map(text).collect()
}

/// What sends past the links, while something is limited on one of them.
fn past_links(configuration: &Configuration) -> Vec<String> {
    if !configuration.links.iter().any(|link| link.settings.has_limit()) {
        return Vec::new();
    }
    let is_past = |sink: &&SinkSettings| sink.travel.link.is_none() && ArchiveSink::of(sink).is_none();
    let sinks = configuration.sinks.iter().filter(is_past);
    let why = |sink: &SinkSettings| {
        if sink.kind == s3::sink::NAME { "sinks of type s3 know no [[link]]" } else { "it is on no [[link]]" }
    };
    let sinks =
        sinks.map(|sink| format!("sink {}: {}, so what it sends is neither counted nor limited", sink.name, why(sink)));
    let leaves = |bridge: &&BridgeSettings| !bridge.broker.endpoint.is_loopback();
    let bridges = configuration.bridges.iter().filter(leaves);
    let bridges = bridges.map(|bridge| {
        format!("bridge {}: bridges know no [[link]], so what passes is neither counted nor limited", bridge.name())
    });
    sinks.chain(bridges).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::Sources;
    use crate::config::host::Host;
    use crate::core::link::LinkSettings;

    #[test]
    fn of_a_link_it_is_said_what_is_of_no_use() {
        let auto = |file: Option<&str>| MeteredBy::Auto { file: file.map(PathBuf::from), interface: None };
        let noted = |settings: LinkSettings, metered, is_used| {
            of_link(&LinkConfiguration { name: "lte".to_owned(), settings, metered }, is_used).join("; ")
        };
        let limited = || LinkSettings { rate: Some(9), ..LinkSettings::default() };
        for (settings, metered, is_used, expected) in [
            (limited(), auto(None), true, "always counts as metered"),
            (LinkSettings::default(), auto(None), true, "never counts as metered, and nothing is limited"),
            (limited(), MeteredBy::No, true, "metered = \"no\", so nothing is limited"),
            (limited(), auto(Some("/nowhere/state")), true, "state_file /nowhere/state says neither yes nor no"),
            (limited(), MeteredBy::Yes, false, "no [[sink]] has it as its `link`"),
            (
                LinkSettings { bytes_per_day: Some(9), bytes_per_month: Some(8), ..LinkSettings::default() },
                MeteredBy::Yes,
                true,
                "the month is spent before a day is",
            ),
            (
                LinkSettings { carries: [Class::State].into_iter().collect(), ..LinkSettings::default() },
                MeteredBy::Yes,
                true,
                "`carries` has no alerts",
            ),
        ] {
            let said = noted(settings, metered, is_used);
            assert!(said.contains(expected) && !said.contains("; "), "{expected}: {said}");
        }
        let interface = MeteredBy::Auto { file: None, interface: Some("wwan0".to_owned()) };
        for metered in [interface, MeteredBy::Yes] {
            assert_eq!(noted(limited(), metered, true), "");
        }
    }

    #[test]
    fn notes_name_their_sinks_and_are_there_once() {
        let notes = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        let sinks = [("a", notes(&["x", "y"])), ("b", notes(&["y"])), ("c", notes(&[]))];
        assert_eq!(of_sinks(sinks.into_iter()), ["sink a: x", "sinks a, b: y"]);
    }

    #[test]
    fn what_sends_past_a_limited_link_is_named() {
        let said = |link: &str| {
            let text = format!(
                "store.path = '/s'\n[[link]]\nname = 'lte'\nmetered = 'yes'\n{link}\n\
                 [[sink]]\nname = 'on'\ntype = 'http'\nurl = 'https://h/'\nlink = 'lte'\n\
                 [[sink]]\nname = 'past'\ntype = 'http'\nurl = 'https://h/'\n\
                 [[sink]]\nname = 'lake'\ntype = 's3'\nbucket = 'lake'\nregion = 'eu-central-1'\n\
                 [[sink]]\nname = 'files'\ntype = 'archive'\n\
                 [[bridge]]\nname = 'cloud'\nurl = 'mqtts://broker'\ntopics = ['a/# out 1']\n\
                 [[bridge]]\nname = 'here'\nurl = 'mqtt://127.0.0.1:1999'\ntopics = ['a/# out 1']\n"
            );
            let read = Configuration::parse(Path::new("f"), &text, &Sources::default(), &Host::read());
            past_links(&read.expect("right"))
        };
        let expected = [
            "sink past: it is on no [[link]], so what it sends is neither counted nor limited",
            "sink lake: sinks of type s3 know no [[link]], so what it sends is neither counted nor limited",
            "bridge cloud: bridges know no [[link]], so what passes is neither counted nor limited",
        ];
        assert_eq!(said("rate = '32KiB'"), expected);
        assert_eq!(said(""), Vec::<String>::new());
    }
}
