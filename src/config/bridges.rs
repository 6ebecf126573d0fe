//! One `[[bridge]]`: another broker, the topics that pass, and which of them are commands.

use std::net::SocketAddr;
use std::path::Path;

use crate::bridge::BridgeSettings;
use crate::core::bridge::command::Place;
use crate::core::bridge::{CommandSettings, Direction, Line, Plan};
use crate::core::mqtt::client::limits::check_filters;
use crate::core::mqtt::client::{Filter, Limits, Login, Takes};
use crate::core::mqtt::packet::{RetainHandling, Version};
use crate::core::mqtt::topic;
use crate::keys::broker;
use crate::keys::section::Section;
use crate::mqtt::bridging::LocalBridge;
use crate::sinks::address::is_same_host;
use crate::sinks::secret::from_environment;
use crate::uplink::{Broker, Endpoint};

/// All of them share a thread, and each may keep its part of what waits for subscribers.
const BRIDGES_MAX: usize = 16;
/// In which MQTT writes lengths.
const TEXT_BYTES_MAX: usize = 65_535;

/// What is around the sections.
pub struct BridgeSurroundings<'a> {
    /// The gateway's id, if it is right.
    pub gateway: Option<&'a str>,
    /// Where relative paths begin.
    pub beside: &'a Path,
    /// The largest packet that our broker takes.
    pub packet_bytes_max: usize,
    /// Where our broker listens.
    pub listeners: &'a [SocketAddr],
}

/// Adds the bridge of a section to those found before it.
pub fn read(mut section: Section<'_>, surroundings: &BridgeSurroundings<'_>, found: &mut Vec<BridgeSettings>) {
    if found.len() == BRIDGES_MAX {
        section.blame_section(format!("more than {BRIDGES_MAX} [[bridge]]"));
    }
    let name = section.text("name");
    if let Some(name) = &name
        && found.iter().any(|other| other.name() == name)
    {
        section.blame("name", "another [[bridge]] has the same name");
    }
    let versions = [("5", Version::V5), ("3.1.1", Version::V4)];
    let version = section.choice("version", &versions).unwrap_or(Version::V5);
    let broker = broker::read(&mut section, surroundings.beside);
    let login = login(&mut section);
    let plan = plan(&mut section, version);
    let commands = commands(&mut section, &plan);
    let default_id = || Some(format!("{}-{}", surroundings.gateway?, name.as_deref()?));
    let client_id = section.text("client_id").or_else(default_id).unwrap_or_default();
    let keep_alive = section.duration("keep_alive").as_secs();
    let queue_bytes_max = section.bytes("queue_size_max");
    let limits = limits(&mut section, broker.as_ref());
    check_subscriptions(&mut section, &plan, &limits);
    let trusts_clock = section.choice("command_clock", &[("synced", false), ("system", true)]).unwrap_or(false);
    if let Some(broker) = &broker {
        check_is_another(&mut section, &broker.endpoint, surroundings.listeners);
        check_beside(&mut section, (&broker.endpoint, &plan, &client_id), found);
    }
    section.finish();
    let (Some(name), Some(broker)) = (name, broker) else { return };
    let filters = plan.local_filters().into_iter().map(|(filter, qos)| (filter.to_owned(), qos)).collect();
    found.push(BridgeSettings {
        local: LocalBridge { name, filters, queue_bytes_max, commands, trusts_clock },
        broker,
        version,
        client_id,
        login,
        keep_alive_s: u16::try_from(keep_alive).unwrap_or(u16::MAX),
        limits,
        packet_bytes_max: surroundings.packet_bytes_max,
        plan,
    });
}

/// What goes out to our own broker comes in again, and goes out, without an end.
fn check_is_another(section: &mut Section<'_>, endpoint: &Endpoint, listeners: &[SocketAddr]) {
    if endpoint.is_loopback() && listeners.iter().any(|listener| listener.port() == endpoint.port) {
        section.blame("url", "this gateway itself listens there; a bridge leads to another broker");
    }
}

/// What two bridges to one broker say must fit.
fn check_beside(
    section: &mut Section<'_>,
    (endpoint, plan, client_id): (&Endpoint, &Plan, &str),
    found: &[BridgeSettings],
) {
    for other in found.iter().filter(|other| is_same_broker(&other.broker.endpoint, endpoint)) {
        if other.client_id == client_id {
            section.blame(
                "client_id",
                format!(
                    "the bridge {} has the same one at the same broker: each would throw out the other",
                    other.name()
                ),
            );
        }
        for problem in other.plan.problems_with(plan) {
            section.blame("topics", format!("with the bridge {} to the same broker: {problem}", other.name()));
        }
    }
}

fn is_same_broker(one: &Endpoint, other: &Endpoint) -> bool {
    one.port == other.port && is_same_host(&one.host, &other.host)
}

fn login(section: &mut Section<'_>) -> Option<Login> {
    let user_name = section.text("username");
    let password = section.text("password").and_then(|text| from_environment(section, "password", text));
    if user_name.is_none() && section.has("password") {
        section.blame("password", "needs username, too");
    }
    let password = password.map(|secret| secret.0.into_bytes());
    let login = Login { user_name: user_name?, password };
    for (key, len) in [("username", login.user_name.len()), ("password", login.password.as_ref().map_or(0, Vec::len))] {
        if len > TEXT_BYTES_MAX {
            section.blame(key, format!("longer than {TEXT_BYTES_MAX} bytes"));
        }
    }
    Some(login)
}

fn plan(section: &mut Section<'_>, version: Version) -> Plan {
    let texts = section.texts("topics");
    if texts.is_empty() && section.has("topics") {
        section.blame("topics", "nothing would pass");
    }
    let mut plan = Plan::default();
    for text in &texts {
        match Line::parse(text) {
            Ok(line) => plan.lines.push(line),
            Err(problem) => section.blame("topics", format!("\"{text}\": {problem}")),
        }
    }
    for problem in plan.problems(version == Version::V5) {
        section.blame("topics", problem.to_string());
    }
    plan
}

fn limits(section: &mut Section<'_>, broker: Option<&Broker>) -> Limits {
    let is_of_aws = broker.is_some_and(|broker| broker.endpoint.is_of_aws());
    let implied = if is_of_aws { Limits::AWS_IOT } else { Limits::NONE };
    section.choice("limits", &[("none", Limits::NONE), ("aws-iot", Limits::AWS_IOT)]).unwrap_or(implied)
}

/// What comes in has to be subscribed to.
fn check_subscriptions(section: &mut Section<'_>, plan: &Plan, limits: &Limits) {
    let takes = Takes { qos_max: 2, retain: true, packet_bytes_max: None, wildcards: true, shared: true };
    let wanted = plan.remote_filters();
    if wanted.len() > limits.subscriptions_max {
        section.blame(
            "topics",
            format!("more than {} filters that come in, which the service takes", limits.subscriptions_max),
        );
    }
    for (filter, qos) in wanted {
        let asked = Filter {
            filter: filter.to_owned(),
            qos,
            no_local: false,
            retain_as_published: false,
            retained: RetainHandling::IfNew,
        };
        if let Err(unfit) = check_filters(&[asked], limits, &takes) {
            section.blame("topics", format!("\"{filter}\" cannot be subscribed to: {unfit}"));
        }
        if qos > limits.qos_max {
            let qos_max = limits.qos_max;
            section
                .blame("topics", format!("\"{filter}\": the service takes a quality of service of {qos_max} at most"));
        }
    }
}

fn commands(section: &mut Section<'_>, plan: &Plan) -> Option<CommandSettings> {
    let filters = section.texts_if_there("commands").unwrap_or_default();
    for filter in &filters {
        if let Err(error) = topic::check_filter(filter) {
            section.blame("commands", format!("the filter \"{filter}\" {}", error.reason()));
        } else if !is_taken_in(plan, filter) {
            section.blame("commands", format!("no line of `topics` brings in what \"{filter}\" matches"));
        }
    }
    let [id, expiry] = ["command_id", "command_expiry"].map(|key| {
        let text = section.text(key)?;
        Place::parse(&text).map_err(|problem| section.blame(key, problem.to_string())).ok()
    });
    for key in ["command_id", "command_expiry", "command_clock"] {
        if filters.is_empty() && section.has(key) {
            section.blame(key, "is not used without `commands`");
        }
    }
    Some(CommandSettings { filters, id: id?, expiry: expiry? }).filter(|commands| !commands.filters.is_empty())
}

fn is_taken_in(plan: &Plan, filter: &str) -> bool {
    use crate::core::bridge::overlap::overlap;
    let mut lines = plan.lines.iter().filter(|line| line.direction != Direction::Out);
    lines.any(|line| overlap(&line.local, filter))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};
    use crate::core::mqtt::client::Limits;

    fn read(text: &str) -> Result<Configuration, Vec<String>> {
        let host = Host { system_file: std::path::PathBuf::new(), ..Host::read() };
        Configuration::parse(Path::new("file"), text, &Sources::default(), &host)
            .map_err(|problems| problems.iter().map(|problem| problem.message.clone()).collect())
    }

    fn bridge(name: &str, more: &str) -> String {
        format!("[[bridge]]\nname = '{name}'\nurl = 'mqtt://b'\n{more}\n")
    }

    #[test]
    fn a_bridge_needs_little() {
        let text = format!("gateway.id = 'g'\n{}", bridge("cloud", "topics = ['a/# in 1', 'b/# out 1']"));
        let found = read(&text).expect("right").bridges;
        assert_eq!((found[0].client_id.as_str(), found[0].broker.endpoint.port), ("g-cloud", 1883));
        assert_eq!(found[0].local.filters, [("b/#".to_owned(), 1)]);
        assert!(found[0].local.commands.is_none() && found[0].limits == Limits::NONE);
        let aws = "[[bridge]]\nname = 'a'\nurl = 'mqtts://x.iot.eu-central-1.amazonaws.com:443'\ntopics = ['a in 1']\ncommands = ['a']";
        let found = read(aws).expect("right").bridges;
        assert_eq!(
            (found[0].limits, found[0].broker.alpn.as_slice()),
            (Limits::AWS_IOT, &["x-amzn-mqtt-ca".to_owned()][..])
        );
    }

    #[test]
    fn that_everything_comes_in_is_noted() {
        let notes = |line: &str| {
            let text = format!("gateway.id = 'g'\n{}", bridge("cloud", &format!("topics = ['{line}']")));
            read(&text).expect("right").bridges[0].notes("g")
        };
        let noted = notes("# in 1");
        assert!(noted.len() == 1 && noted[0].starts_with("bridge cloud: \"# in 1\" lets everything"), "{noted:?}");
        for line in ["a/# in 1", "# out 1", "# in 1 fleet/ \"\""] {
            assert_eq!(notes(line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        for (text, expected) in [
            ("topics = []", "nothing would pass"),
            ("limits = 'aws-iot'\ntopics = ['a/b/c/d/e/f/g/h/# in 1']", "cannot be subscribed to"),
            ("limits = 'aws-iot'\ntopics = ['a in 2']", "a quality of service of 1 at most"),
            ("topics = ['a in 7']", "the quality of service is 0, 1 or 2"),
            ("topics = ['a/# in 1', 'a/b out 1']", "meet at the remote side"),
            ("version = '3.1.1'\ntopics = ['a/# both 1']", "needs MQTT 5"),
            ("topics = ['a in 1']\ncommands = ['b']", "no line of `topics` brings in"),
            ("topics = ['a in 1']\ncommands = ['a#']", "the filter \"a#\" has a wildcard"),
            ("topics = ['a in 1']\ncommand_id = '$.id'", "not used without `commands`"),
            ("topics = ['a in 1']\ncommands = ['a']\ncommand_id = '$.ids[*]'", "one value of the payload"),
            ("topics = ['a in 1']\npassword = 'x'", "needs username"),
            ("topics = ['a in 1']\nalpn = ['x']", "needs TLS"),
        ] {
            let problems = read(&bridge("cloud", text)).expect_err(text).join("; ");
            assert!(problems.contains(expected), "{text}: {problems}");
        }
        let missing = "topics = ['a in 1']\nca = '/no/ca'\ncertificate = '/no/c'\nkey = '/no/k'";
        let problems = read(&bridge("cloud", missing).replace("mqtt://", "mqtts://")).expect_err("no files");
        for file in ["/no/ca", "/no/c", "/no/k"] {
            assert!(problems.iter().any(|problem| problem.contains(&format!("{file}:"))), "{file}: {problems:?}");
        }
        for (first, second, host, expected) in [
            ("a/# in 1", "b/# in 1", "b", "throw out the other"),
            ("a/# in 1", "+/x out 1", "b", "with the bridge one to the same broker"),
            ("a/# in 1", "+/x out 1", "B:1883", "with the bridge one to the same broker"),
        ] {
            let id = if expected.contains("throw") { "client_id = 'me'\n" } else { "" };
            let text = bridge("one", &format!("{id}topics = ['{first}']"))
                + &bridge("two", &format!("{id}topics = ['{second}']")).replace("://b", &format!("://{host}"));
            let problems = read(&text).expect_err("refused").join("; ");
            assert!(problems.contains(expected), "{problems}");
        }
        for (url, is_right) in
            [("127.0.0.1:1884", false), ("localhost:1884", false), ("127.0.0.1", true), ("b:1884", true)]
        {
            let text = format!(
                "[mqtt]\nlisten = '0.0.0.0:1884'\ninsecure = true\n{}",
                bridge("one", "topics = ['a/# out 1']")
            );
            let read = read(&text.replace("://b", &format!("://{url}")));
            assert_eq!(read.is_ok(), is_right, "{url}: {:?}", read.err());
        }
        let elsewhere =
            bridge("one", "topics = ['a/# in 1']") + &bridge("two", "topics = ['+/x out 1']").replace("://b", "://c");
        assert_eq!(read(&elsewhere).map(|found| found.bridges.len()), Ok(2));
    }
}
