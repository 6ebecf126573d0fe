//! What lies over what, and what the machine says: variables, arguments, files and names.

use std::path::{Path, PathBuf};

use super::{host, with};
use crate::config::host::Host;
use crate::config::{Argument, Configuration, Sources};

#[test]
fn variables_lie_over_the_file_and_lists_grow_from_their_end() {
    let sinks: Vec<(String, String)> = (0..12)
        .flat_map(|n| {
            let name = |key| format!("OUTRIDER__SINK__{n}__{key}");
            [(name("TYPE"), "archive".to_owned()), (name("NAME"), format!("s{n}")), (name("PATH"), format!("/{n}"))]
        })
        .collect();
    let mut variables: Vec<(&str, &str)> = sinks.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    variables.extend([
        ("OUTRIDER__MQTT__LISTEN", "0.0.0.0:7"),
        ("OUTRIDER__MQTT__INSECURE", "true"),
        ("OUTRIDER__LIMIT__0__METRIC", "m"),
        ("OUTRIDER__LIMIT__0__SENTINEL", "1, 2.5"),
        ("OUTRIDER__DETECTION__SERIES_MAX", "77"),
        ("OUTRIDER__DETECTION__FALSE_ALARMS_PER_WEEK", "2"),
    ]);
    let configuration = with("[mqtt]\nlisten = 'nonsense'\nconnections_max = 9", &variables).expect("right");
    assert_eq!(
        (configuration.listeners.listeners[0].listen.to_string().as_str(), configuration.edge.connections_max),
        ("0.0.0.0:7", 9)
    );
    assert_eq!((configuration.monitor.series_max, configuration.monitor.profiles.false_alarms_per_week()), (77, 2));
    assert_eq!(
        configuration.monitor.limits.of("m").first().and_then(|bounds| bounds.sentinels.clone()),
        Some(vec![1.0, 2.5])
    );
    assert_eq!(configuration.sinks.len(), 12);
    assert_eq!(configuration.sinks[11].name, "s11");
    let problems = with(
        "",
        &[
            ("OUTRIDER__MQTT__LISTN", "x"),
            ("OUTRIDER__MQTT", "x"),
            ("OUTRIDER__SINK__NAME", "x"),
            ("OUTRIDER__SINK__7__NAME", "x"),
            ("OUTRIDER__STORE__SIZE_MAX", "1"),
        ],
    );
    let mut problems = problems.expect_err("wrong");
    problems.sort();
    assert_eq!(
        problems,
        [
            "OUTRIDER__MQTT: not a key; write OUTRIDER__MQTT__KEY",
            "OUTRIDER__MQTT__LISTN: mqtt.listn = \"x\": unknown key; did you mean `listen`?",
            "OUTRIDER__SINK__7__NAME: there are 0 [[sink]], counted from 0; the next is 0",
            "OUTRIDER__SINK__NAME: not a key; write OUTRIDER__SINK__0__KEY for the first [[sink]]",
            "OUTRIDER__STORE__SIZE_MAX: store.size_max = \"1\": not a size, the unit is missing; write \"1B\" or \"1MiB\" if that is meant; \
         a size, \"16MiB\" to \"1TiB\", or \"auto\"",
        ]
    );
}

#[test]
fn arguments_lie_over_everything() {
    let argument = Argument { name: "--listen", section: "mqtt", key: "listen", text: "127.0.0.1:5".to_owned() };
    let mut sources = Sources {
        variables: vec![("OUTRIDER__MQTT__LISTEN".to_owned(), "nonsense".to_owned())],
        arguments: vec![argument],
        ..Sources::default()
    };
    let read = |sources: &Sources| Configuration::parse(Path::new("file"), "", sources, &host());
    assert_eq!(read(&sources).expect("right").listeners.listeners[0].listen.port(), 5);
    sources.arguments[0].text = "5".to_owned();
    let problem = read(&sources).expect_err("wrong").iter().next().map(ToString::to_string).expect("a problem");
    assert!(problem.starts_with("--listen: mqtt.listen = \"5\": not an address to listen on"), "{problem}");
}

#[test]
fn a_file_is_named_or_the_systems_or_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let system = Host { system_file: folder.path().join("system.toml"), ..host() };
    std::fs::write(&system.system_file, "mqtt.listen = '127.0.0.1:1'").expect("a file");
    let named = folder.path().join("named.toml");
    std::fs::write(&named, "\u{feff}mqtt.listen = '127.0.0.1:2'\r\n").expect("a file");
    let load = |file: Option<&Path>| {
        Configuration::load(&Sources { file: file.map(Path::to_owned), ..Sources::default() }, &system)
    };
    assert_eq!(load(None).expect("right").listeners.listeners[0].listen.port(), 1);
    assert_eq!(load(Some(&named)).expect("right").listeners.listeners[0].listen.port(), 2);
    let problem =
        |file: &Path| load(Some(file)).expect_err("wrong").iter().next().map(ToString::to_string).expect("one");
    assert!(problem(&folder.path().join("none.toml")).contains("none.toml: cannot be read"));
    assert!(problem(folder.path()).contains("cannot be read: Is a directory"), "{}", problem(folder.path()));
    assert!(problem(Path::new("/dev/zero")).contains("larger than 1MiB"), "{}", problem(Path::new("/dev/zero")));
    assert_eq!(load(Some(Path::new("/dev/null"))).expect("right").listeners.listeners[0].listen.port(), 1883);
    std::fs::write(&named, b"a = 1\nb = '\xff'\n").expect("a file");
    assert!(problem(&named).ends_with("named.toml:2: not UTF-8"), "{}", problem(&named));
}

#[test]
fn a_machine_without_names_still_has_an_id_and_says_what_is_missing() {
    let bare = Host { machine_id: None, home: None, ..host() };
    let problems = Configuration::load(&Sources::default(), &bare).expect_err("no folder");
    assert_eq!(problems.len(), 1);
    assert!(problems.to_string().contains("neither STATE_DIRECTORY nor HOME"), "{problems}");
    assert_eq!(bare.gateway_id("{hostname}-{machine_id_short}", true).as_deref(), Ok("truck"));
    assert!(bare.gateway_id("{machine_id}", false).is_err());
    for (template, expected) in
        [("a{hostname}b{machine_id}", Some("atruckb0123456789abcdef")), ("{hostname", None), ("a}b", None), (" ", None)]
    {
        assert_eq!(host().gateway_id(template, false).ok().as_deref(), expected, "{template}");
    }
    let systemd = Host { state_directory: Some(PathBuf::from("/var/lib/outrider")), ..host() };
    assert_eq!(systemd.state_folder().as_deref(), Some(Path::new("/var/lib/outrider")));
}
