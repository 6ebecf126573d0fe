//! Turns the sections of a document into checked values, including what keys mean for each other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bridges::BridgeSurroundings;
use super::exposure::{LISTENER_REMEDY, expect_closed};
use super::host::Host;
use super::reference;
use super::{Configuration, StoreConfiguration, bridges, inputs, links, presets, routes, sinks, streams};
use crate::bridge::BridgeSettings;
use crate::core::detection::alert::{AlertTimes, Severity};
use crate::core::detection::detectors::limit::{Bounds, LIMITS_A_METRIC_MAX, Limits};
use crate::core::detection::detectors::profile::{Baseline, PROFILES_MAX, Profile, Profiles, Rule};
use crate::core::detection::monitor::MonitorSettings;
use crate::core::identity::NamedStream;
use crate::core::pipeline::commit_clock::CommitDelays;
use crate::ingest::route_test::RouteTest;
use crate::ingest::{Ingest, Route};
use crate::keys::key::Group;
use crate::keys::problem::{Origin, Problems};
use crate::keys::raw::{Document, Table};
use crate::keys::section::Section;
use crate::mqtt::listener::ClientLimits;
use crate::mqtt::quota::UserLimits;
use crate::mqtt::{EdgeSettings, Unrouted};
use crate::pipeline::CommitPacing;
use crate::sinks::aws::role_alias::RoleAlias;
use crate::sinks::kind::{SinkSettings, Surroundings};
use crate::sinks::links::LinkConfiguration;
use crate::store::retention::WhenFull;

pub struct Reader<'a> {
    pub document: Document,
    pub host: &'a Host,
    /// Blamed if a section does not exist.
    pub origin: Origin,
    /// The only file that rules are read from, if one is named.
    pub rules: Option<PathBuf>,
    pub problems: &'a mut Problems,
}

pub(super) struct Mqtt {
    pub listen: SocketAddr,
    /// Whether the address was given, and is not the built-in one.
    pub is_listen_given: bool,
    pub client: ClientLimits,
    pub connections_a_second_max: Option<u64>,
    edge: EdgeSettings,
    uncommitted_bytes_max: u32,
}

impl Reader<'_> {
    /// Reads everything, to find all problems; `None` if something without a default is missing.
    pub fn configuration(&mut self, file: Option<PathBuf>, variables: Vec<String>) -> Option<Configuration> {
        let (gateway_id, grace) = self.gateway();
        let store = self.store();
        let mqtt = self.mqtt();
        let listeners = self.listeners(file.as_deref(), &mqtt);
        let admin = self.admin(file.as_deref(), &listeners.listeners);
        let ((series_max, false_alarms_per_week), alerts) = (self.detection(), self.alert());
        let ((routes, route_tests), limits, profiles) = (self.routes(), self.limits(), self.profiles());
        let mut files = Vec::new();
        self.each(Group::File, |section| inputs::read(section, &routes, &mut files));
        let beside = file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let role_alias = self.aws(beside);
        let links = self.links(beside);
        let (streams, sinks) = self.streams_and_sinks(store.as_ref(), role_alias, (beside, &links));
        let names = streams.iter().map(|stream| stream.name.clone()).collect();
        let rules = self.rules(file.as_deref(), &routes, names, &sinks);
        let profiles = profiles.with_false_alarms_per_week(false_alarms_per_week);
        let monitor = MonitorSettings { series_max, limits, profiles, ..MonitorSettings::default() };
        let packet_bytes_max = listeners.listeners.iter().map(|listener| listener.client.packet_bytes_max).max();
        let edge =
            EdgeSettings { packet_bytes_max: packet_bytes_max.unwrap_or(mqtt.edge.packet_bytes_max), ..mqtt.edge };
        let own: Vec<SocketAddr> = listeners.listeners.iter().map(|listener| listener.listen).collect();
        let packet_bytes_max = edge.packet_bytes_max;
        let gateway = gateway_id.as_deref();
        let bridges = self.bridges(&BridgeSurroundings { gateway, beside, packet_bytes_max, listeners: &own });
        Some(Configuration {
            file,
            variables,
            gateway_id: gateway_id?,
            grace,
            store: store?,
            listeners,
            admin,
            edge,
            uncommitted_bytes_max: mqtt.uncommitted_bytes_max,
            monitor,
            alerts,
            routes,
            route_tests,
            inputs: files,
            streams,
            rules,
            links,
            sinks,
            bridges,
        })
    }

    fn bridges(&mut self, surroundings: &BridgeSurroundings<'_>) -> Vec<BridgeSettings> {
        let mut found = Vec::new();
        self.each(Group::Bridge, |section| bridges::read(section, surroundings, &mut found));
        found
    }

    pub(super) fn single(&mut self, group: Group) -> Section<'_> {
        let name = group.section();
        let table = self.document.sections.remove(name).unwrap_or_else(|| Table::new(self.origin.clone()));
        Section::new(table, name.to_owned(), group, reference::all(), self.problems)
    }

    /// Calls `read` for each item of a list, in the order of the file.
    pub(super) fn each(&mut self, group: Group, mut read: impl FnMut(Section<'_>)) {
        let name = group.section();
        for (index, table) in self.document.lists.remove(name).unwrap_or_default().into_iter().enumerate() {
            read(Section::new(table, format!("{name}[{index}]"), group, reference::all(), self.problems));
        }
    }

    fn gateway(&mut self) -> (Option<String>, std::time::Duration) {
        let host = self.host;
        let mut section = self.single(Group::Gateway);
        let is_default = !section.has("id");
        let template = section.text("id").expect("the id has a default");
        let id = host.gateway_id(&template, is_default);
        if let Err(message) = &id {
            section.blame("id", message.as_str());
        }
        let grace = section.duration("shutdown_grace");
        section.finish();
        (id.ok(), grace)
    }

    fn store(&mut self) -> Option<StoreConfiguration> {
        let state_folder = self.host.state_folder();
        let mut section = self.single(Group::Store);
        let is_named = section.has("path");
        let folder = section.path("path").or(state_folder);
        if folder.is_none() && !is_named {
            let message =
                "`path` is missing, and neither STATE_DIRECTORY nor HOME says where the state folder could be";
            section.blame("path", message);
        }
        let bytes_max = section.size_or_auto("size_max");
        let free_bytes_min = section.size_or_auto("free_space_min");
        let when_full = [("drop_oldest", WhenFull::DropOldest), ("refuse", WhenFull::Refuse)];
        let when_full = section.choice("when_full", &when_full).unwrap_or(WhenFull::DropOldest);
        let defaults = CommitPacing::default();
        let delays = CommitDelays {
            delay: section.duration("commit_delay"),
            delay_max: section.duration("commit_delay_max"),
            readings: section.count("commit_readings"),
            ..defaults.delays
        };
        let pacing = CommitPacing { delays, ..defaults };
        let history = section.duration("history");
        section.finish();
        Some(StoreConfiguration { folder: folder?, bytes_max, free_bytes_min, when_full, history, pacing })
    }

    fn mqtt(&mut self) -> Mqtt {
        let mut section = self.single(Group::Mqtt);
        let listen = section.listen("listen").expect("off is not allowed");
        let unrouted = [("pass", Unrouted::Pass), ("reject", Unrouted::Reject)];
        let is_listen_given = section.has("listen");
        if !section.boolean("insecure") {
            expect_closed(&mut section, listen, false, false, LISTENER_REMEDY);
        }
        let client = ClientLimits {
            packet_bytes_max: section.bytes("packet_size_max"),
            connect_timeout: section.duration("connect_timeout"),
            write_timeout: section.duration("write_timeout"),
            keep_alive_max: section.given_duration("keep_alive_max"),
            receive_maximum: section.given_count("receive_maximum"),
            uncommitted_max: section.integer("uncommitted_max"),
            packet_timeout: section.duration("packet_timeout"),
            session_expiry_max: section.duration("session_expiry_max"),
            filters_max: section.count("filters_per_client_max"),
            subscriber_bytes_max: section.bytes("subscriber_size_max"),
            retained_max: section.given_count("retained_per_client_max"),
            user: user_limits(&mut section),
        };
        let connections_a_second_max = section.given_count("connections_per_second_max");
        let edge = EdgeSettings {
            packet_bytes_max: client.packet_bytes_max,
            connections_max: section.count("connections_max"),
            connections_a_host_percent: section.count("connections_per_address_percent"),
            packets_under_way_bytes_max: section.bytes("packets_size_max"),
            filter_levels_max: section.count("filter_levels_max"),
            retained_max: section.count("retained_max"),
            retained_bytes_max: section.bytes("retained_size_max"),
            subscribers_bytes_max: section.bytes("subscribers_size_max"),
            persistent_sessions_max: section.count("sessions_max"),
            unrouted: section.choice("unrouted", &unrouted).unwrap_or(Unrouted::Pass),
            ..EdgeSettings::default()
        };
        let uncommitted_bytes_max = section.bytes("uncommitted_size_max");
        section.finish();
        Mqtt { listen, is_listen_given, client, connections_a_second_max, edge, uncommitted_bytes_max }
    }

    fn has_builtin_routes(&mut self) -> bool {
        let is_any_named = self.document.lists.contains_key(Group::Route.section());
        let mut section = self.single(Group::Ingest);
        let is_on = section.boolean("builtin_routes");
        if !is_on && !is_any_named {
            section.blame("builtin_routes", "without a [[route]], no reading would be stored");
        }
        section.finish();
        is_on
    }

    /// How many series are watched, and after how many alarms a detector has learned.
    fn detection(&mut self) -> (usize, u8) {
        let mut section = self.single(Group::Detection);
        let counts = (section.count("series_max"), section.count("false_alarms_per_week"));
        section.finish();
        counts
    }

    fn alert(&mut self) -> AlertTimes {
        let mut section = self.single(Group::Alert);
        let times = AlertTimes {
            clear_after_ms: section.milliseconds("clear_after"),
            remove_after_ms: section.milliseconds("remove_after"),
            ..AlertTimes::default()
        };
        section.finish();
        times
    }

    /// The routes of the file, followed by the built-in ones.
    fn routes(&mut self) -> (Vec<Route>, Vec<(String, RouteTest)>) {
        let has_builtin = self.has_builtin_routes();
        let mut topics: Vec<String> = Vec::new();
        let (mut routes, mut tests) = (Vec::new(), Vec::new());
        let group = Group::Route;
        let tables = self.document.lists.remove(group.section()).unwrap_or_default().into_iter().enumerate();
        let expanded = tables.flat_map(|(index, table)| {
            let has_one_topic_for_several = presets::has_one_topic_for_several(&table);
            presets::expand(table).into_iter().map(move |table| (index, table, has_one_topic_for_several))
        });
        for (index, table, has_one_topic_for_several) in expanded {
            let mut section =
                Section::new(table, format!("{}[{index}]", group.section()), group, reference::all(), self.problems);
            section.choice("preset", &presets::NAMES.map(|name| (name, ())));
            if has_one_topic_for_several {
                section.blame(
                    "topic",
                    "the preset has several topics; leave it out, or write the routes without the preset",
                );
            }
            let topic = section.text("topic");
            if let Some(topic) = &topic {
                if topics.contains(topic) {
                    section.blame("topic", "another [[route]] takes the same topics");
                }
                topics.push(topic.clone());
            }
            let name = format!("route[{index}].test");
            tests.extend(section.route_tests("test").into_iter().map(|test| (name.clone(), test)));
            routes.extend(routes::read(&mut section, topic));
            section.finish();
        }
        let is_free = |route: &Route| !topics.contains(&route.to_string());
        routes.extend(Ingest::default_routes().into_iter().filter(|route| has_builtin && is_free(route)));
        (routes, tests)
    }

    fn limits(&mut self) -> Limits {
        let mut limits: Vec<(String, Bounds)> = Vec::new();
        self.each(Group::Limit, |mut section| {
            let metric = section.text("metric");
            let sentinels = section.numbers("sentinel");
            let severities = Severity::ALL.map(|severity| (severity.name(), severity));
            let bounds = Bounds {
                device: section.text("device"),
                low: section.number("min"),
                high: section.number("max"),
                sentinels,
                severity: section.choice("severity", &severities).unwrap_or(Severity::Major),
                hold_ms: section.milliseconds("for"),
                clear_low: section.number("clear_min"),
                clear_high: section.number("clear_max"),
            };
            check_bounds(&mut section, &bounds);
            if let Some(metric) = metric {
                let of_metric = limits.iter().filter(|(known, _)| *known == metric);
                if of_metric.clone().any(|(_, known)| *known == bounds) {
                    section.blame_section("another [[limit]] says the same");
                } else if of_metric.count() >= LIMITS_A_METRIC_MAX {
                    section.blame("metric", format!("there are more than {LIMITS_A_METRIC_MAX} [[limit]] of it"));
                } else {
                    limits.push((metric, bounds));
                }
            }
            section.finish();
        });
        Limits::new(limits)
    }

    fn profiles(&mut self) -> Profiles {
        let mut rules = Vec::new();
        self.each(Group::Profile, |mut section| {
            let words = section.text("metrics").unwrap_or_default();
            let rule =
                Rule { words: words.split_whitespace().map(str::to_owned).collect(), profile: profile(&mut section) };
            if rule.words.is_empty() && section.has("metrics") {
                section.blame("metrics", "it holds no word");
            }
            if rules.len() == PROFILES_MAX {
                section.blame_section(format!("more than {PROFILES_MAX} profiles"));
            } else if !rule.words.is_empty() {
                rules.push(rule);
            }
            section.finish();
        });
        Profiles::new(rules)
    }

    fn links(&mut self, beside: &Path) -> Vec<LinkConfiguration> {
        let mut found = Vec::new();
        self.each(Group::Link, |section| links::read(section, beside, &mut found));
        found
    }

    fn streams_and_sinks(
        &mut self,
        store: Option<&StoreConfiguration>,
        role_alias: Option<Arc<RoleAlias>>,
        (beside, links): (&Path, &[LinkConfiguration]),
    ) -> (Vec<NamedStream>, Vec<SinkSettings>) {
        let mut named = Vec::new();
        self.each(Group::Stream, |section| streams::read(section, &mut named));
        let streams: Vec<NamedStream> = named.iter().map(|named| named.stream.clone()).collect();
        let state_folder = store.map(|store| store.folder.clone()).unwrap_or_default();
        let surroundings = Surroundings { state_folder: &state_folder, beside, streams: &streams, role_alias };
        let Some(sections) = self.document.lists.get(Group::Sink.section()).map(Vec::len) else {
            let sinks = vec![sinks::built_in(&surroundings)];
            return (streams, sinks);
        };
        let mut found = Vec::new();
        self.each(Group::Sink, |section| sinks::read(section, &surroundings, links, &mut found));
        // What a sink takes that could not be read is not known.
        if found.len() == sections {
            streams::expect_sinks(&named, &found, self.problems);
        }
        (streams, found)
    }
}

fn profile(section: &mut Section<'_>) -> Profile {
    let known = Profile::ALL.map(|profile| (profile.name, profile));
    let mut profile = section.choice("like", &known).unwrap_or(Profile::GENERIC);
    let is_on = [("on", true), ("off", false)];
    profile.gap = section.choice("gap", &is_on).unwrap_or(profile.gap);
    profile.stuck = section.choice("stuck", &is_on).unwrap_or(profile.stuck);
    let baselines = [("rolling", Baseline::Rolling), ("frozen", Baseline::Frozen)];
    profile.baseline = section.choice("baseline", &baselines).unwrap_or(profile.baseline);
    let severities = Severity::ALL.map(|severity| (severity.name(), severity));
    // If set explicitly, it applies to limits too.
    if let Some(severity_max) = section.choice("severity_max", &severities) {
        (profile.severity_max, profile.set_limit_severity_max) = (severity_max, severity_max);
    }
    for (name, threshold) in [("spike", &mut profile.spike), ("shift", &mut profile.shift)] {
        match section.number(name) {
            Some(number) if number < 1.0 => section.blame(name, "below 1, everything usual would stand out"),
            number => *threshold = number.unwrap_or(*threshold),
        }
    }
    match section.number("burst") {
        Some(0.0) => profile.burst = None,
        Some(number) if number < 1.0 => section.blame("burst", "below 1, everything usual would stand out"),
        number => profile.burst = number.or(profile.burst),
    }
    profile
}

/// Reports bounds that contradict each other.
fn check_bounds(section: &mut Section<'_>, bounds: &Bounds) {
    let &Bounds { low, high, clear_low, clear_high, .. } = bounds;
    if low.or(high).is_none() && bounds.sentinels.is_none() {
        section.blame_section("limits nothing; give it min, max or sentinel");
    }
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        section.blame("min", format!("above max, {high}"));
    }
    match (low, clear_low) {
        (None, Some(_)) => section.blame("clear_min", "it needs a min"),
        (Some(low), Some(clear)) if clear < low => section.blame("clear_min", format!("below min, {low}")),
        _ => {}
    }
    match (high, clear_high) {
        (None, Some(_)) => section.blame("clear_max", "it needs a max"),
        (Some(high), Some(clear)) if clear > high => section.blame("clear_max", format!("above max, {high}")),
        _ => {}
    }
    if let (Some(clear_low), Some(clear_high)) = (clear_low.or(low), clear_high.or(high))
        && clear_low > clear_high
        && low <= high
    {
        section.blame_section("nothing would clear it: clear_min is above clear_max");
    }
}

pub(super) fn user_limits(section: &mut Section<'_>) -> UserLimits {
    UserLimits {
        connections_max: section.given_count("connections_per_user_max"),
        messages_a_second_max: section.given_count("messages_per_second_max"),
        bytes_a_second_max: section.given_bytes("size_per_second_max"),
    }
}
