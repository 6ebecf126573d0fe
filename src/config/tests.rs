use super::*;
use crate::core::aggregate;
use crate::core::delivery::{DeliverySettings, Grouping, Partition};
use crate::core::identity::Keep;
use crate::core::reading::Readings;
use crate::ingest::{ClockState, Decoded, Ingest};
use crate::keys::key::{Group, Key};
use crate::mqtt::Unrouted;
use crate::sinks::archive::sink::ArchiveSink;
use crate::sinks::compression::Compression;
use crate::sinks::firehose::sink::FirehoseStreams;
use crate::sinks::kinesis::sink::KinesisStreams;

fn host() -> Host {
    Host {
        hostname: "truck".to_owned(),
        machine_id: Some("0123456789abcdef".to_owned()),
        home: Some(PathBuf::from("/home/pi")),
        state_directory: None,
        system_file: PathBuf::from("/nowhere/outrider.toml"),
    }
}

fn with(text: &str, variables: &[(&str, &str)]) -> Result<Configuration, Vec<String>> {
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let sources = Sources { variables, ..Sources::default() };
    Configuration::parse(Path::new("file"), text, &sources, &host())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn right(text: &str) -> Configuration {
    with(text, &[]).expect("a right configuration")
}

fn wrong(text: &str) -> Vec<String> {
    with(text, &[]).expect_err("a wrong configuration")
}

#[test]
fn nothing_said_is_what_the_parts_take_by_default() {
    let built_in = Configuration::load(&Sources::default(), &host()).expect("complete");
    assert_eq!((built_in.gateway_id.as_str(), built_in.file), ("truck-01234567", None));
    assert_eq!(built_in.store.folder, Path::new("/home/pi/.local/state/outrider"));
    assert_eq!(built_in.store.when_full, WhenFull::DropOldest);
    assert_eq!((built_in.store.bytes_max, built_in.store.free_bytes_min), (None, None));
    assert_eq!(built_in.listeners.listeners[0].listen.to_string(), "127.0.0.1:1883");
    assert_eq!(built_in.admin.listen.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9464"));
    assert_eq!(format!("{:?}", built_in.edge), format!("{:?}", EdgeSettings::default()));
    assert_eq!(format!("{:?}", built_in.store.pacing), format!("{:?}", CommitPacing::default()));
    assert_eq!((built_in.monitor, built_in.alerts), (MonitorSettings::default(), AlertTimes::default()));
    assert_eq!(built_in.routes, Ingest::default_routes());
    assert_eq!(built_in.sinks.len(), 1);
    let archive = ArchiveSink::of(&built_in.sinks[0]).expect("an archive");
    let ArchiveSink { folder, bytes_max, free_percent_min, keep_min, rotate_after, rotate_bytes, format } = archive;
    assert_eq!(format.suffix(), ".ndjson.zst");
    assert_eq!(folder, Path::new("/home/pi/.local/state/outrider/archive"));
    assert_eq!((*bytes_max, *free_percent_min, *rotate_bytes), (2 << 30, 10, 16 << 20));
    assert_eq!((*keep_min, *rotate_after), (Duration::from_secs(86_400), Duration::from_secs(60)));
}

#[test]
fn every_kind_of_value_arrives() {
    let configuration = right(
        r#"
        gateway.id = "x-{machine_id_short}"
        [store]
        path = "/data"
        size_max = "100MB"
        when_full = "refuse"
        free_space_min = "0B"
        commit_delay = "20ms"
        [mqtt]
        listen = "[::]:1883"
        insecure = true
        unrouted = "reject"
        uncommitted_size_max = "1MiB"
        [admin]
        listen = "off"
        [[route]]
        topic = "plant/{line}/{metric...}"
        device = "plant"
        format = "cbor"
        [[limit]]
        metric = "temp"
        max = 40
        sentinel = [-127, 85.0]
        [[sink]]
        name = "files"
        type = "archive"
        [[sink]]
        name = "cloud"
        type = "kinesis"
        region = "eu-central-1"
        raw = "telemetry-raw"
        record = "single"
        timeout = "3s"
        "#,
    );
    assert_eq!(configuration.gateway_id, "x-01234567");
    assert_eq!(configuration.store.bytes_max, Some(100_000_000));
    assert_eq!(configuration.store.free_bytes_min, Some(0));
    assert_eq!(configuration.store.when_full, WhenFull::Refuse);
    assert_eq!(configuration.store.pacing.delays.delay, Duration::from_millis(20));
    assert_eq!(configuration.listeners.listeners[0].listen.to_string(), "[::]:1883");
    assert_eq!((configuration.admin.listen, configuration.edge.unrouted), (None, Unrouted::Reject));
    assert_eq!(configuration.uncommitted_bytes_max, 1 << 20);
    let bounds = configuration.monitor.limits.of("temp").first().expect("a limit");
    assert_eq!((bounds.low, bounds.high), (None, Some(40.0)));
    assert_eq!(bounds.sentinels.as_deref(), Some([-127.0, 85.0].as_slice()));
    let mut ingest = Ingest::new(configuration.routes, ClockState::new(true));
    let mut readings = Readings::default();
    assert_eq!(ingest.decode("plant/3/oven/temp", &[0x18, 42], 0, &mut readings), Decoded::Stored { readings: 1 });
    assert_eq!(ingest.decode("devices/a/temp", b"12", 0, &mut readings), Decoded::Stored { readings: 1 }, "built in");
    let names: Vec<_> = configuration.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["files", "cloud"]);
    let archive = crate::sinks::archive::sink::ArchiveSink::of(&configuration.sinks[0]);
    assert_eq!(archive.map(|archive| &*archive.folder), Some(Path::new("/data/archive")));
    let any: &dyn std::any::Any = &*configuration.sinks[1].sink;
    let KinesisStreams { connection, delivery, targets, compression, .. } = any.downcast_ref().expect("Kinesis");
    assert_eq!(connection.region.as_deref(), Some("eu-central-1"));
    assert_eq!((connection.endpoint.as_deref(), connection.request_timeout), (None, Duration::from_secs(3)));
    assert_eq!(targets.iter().collect::<Vec<_>>(), [(&"raw".to_owned(), &"telemetry-raw".to_owned())]);
    assert_eq!(*compression, Compression::None);
    assert_eq!(*delivery, DeliverySettings { grouping: Grouping::Single, ..DeliverySettings::default() });
}

#[test]
fn named_routes_come_before_those_that_are_built_in() {
    let routes = |text: &str| right(text).routes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let built_in: Vec<String> = Ingest::default_routes().iter().map(ToString::to_string).collect();
    let own = "[[route]]\ntopic = 'plant/{device}'\n";
    assert_eq!(routes(own), [&["plant/{device}".to_owned()], &built_in[..]].concat());
    assert_eq!(
        routes("[[route]]\ntopic = 'vehicles/{device}'\nformat = 'cbor'").len(),
        4,
        "one of them is read otherwise"
    );
    assert_eq!(routes(&format!("ingest.builtin_routes = false\n{own}")), ["plant/{device}"]);
    let without = with(own, &[("OUTRIDER__INGEST__BUILTIN_ROUTES", "false")]).expect("right");
    assert_eq!(without.routes.len(), 1);
    let problem = |text: &str| wrong(text).first().cloned().expect("a problem");
    assert_eq!(
        problem("ingest.builtin_routes = false"),
        "file:1: ingest.builtin_routes = false: without a [[route]], no reading would be stored"
    );
    assert!(problem("ingest.builtin_routes = 'no'").contains("neither true nor false; true or false, without quotes"));
}

#[test]
fn all_problems_come_at_once_each_with_its_line() {
    let problems = wrong(
        "port = 1\n\
         [store]\n\
         size_max = 512MiB\n\
         when_full = \"block\"\n\
         pth = \"/x\"\n\
         free_space_min = 7\n\
         [mqtt]\n\
         listen = 0.0.0.0:1883\n\
         connect_timeout = [\n\
           \"0s\"]\n\
         raw = \"r\"\n\
         [sotre]\n\
         [limit]\n\
         [[admin]]\n",
    );
    let expected = [
        "file:1: port = 1: a key that stands in no section, and no section has one like it",
        "file:3: a value with a unit stands in quotes; write \"512MiB\"",
        "file:4: store.when_full = \"block\": not a choice; one of \"drop_oldest\", \"refuse\"",
        "file:5: store.pth = \"/x\": unknown key; did you mean `path`?",
        "file:6: store.free_space_min = 7: not a size, the unit is missing; write \"7MiB\" if that is meant; a size, \"0B\" to \
         \"1TiB\", or \"auto\"",
        "file:8: a text stands in quotes; write \"0.0.0.0:1883\"",
        "file:9: mqtt.connect_timeout = [ \"0s\"]: not a duration; write a number with ms, s, m, h or d; a duration, \"1s\" to \"5m\"",
        "file:11: mqtt.raw = \"r\": unknown key here; did you mean `raw` in [[sink]] of type \"kinesis\"?",
        "file:12: sotre: unknown section `sotre`; did you mean `store`?",
        "file:13: limit: a section that may stand several times; write [[limit]]",
        "file:14: admin: a section that stands once; write [admin]",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn a_broken_header_is_told_alone() {
    assert_eq!(wrong("[mqtt]\nx = 1\n[store\nsize_max = 7\n"), ["file:3: not TOML: unclosed table, expected `]`"]);
}

#[test]
fn what_is_right_alone_may_be_wrong_beside_others() {
    for (text, expected) in [
        (
            "[[route]]\ntopic = 'hall'",
            "file:2: route[0].topic = 'hall': no level is {device}; give the route a fixed `device` instead",
        ),
        (
            "[[route]]\ntopic = '{device}'\ndevice = 'x'",
            "file:3: route[0].device = 'x': the topic says which device it is",
        ),
        (
            "[[route]]\ntopic = 'x/{metric}'\ndevice = '_gateway'",
            "file:3: route[0].device = '_gateway': this name is the gateway's own",
        ),
        (
            "[[route]]\ntopic = '{device}/x'\nmetric = '_device'",
            "file:3: route[0].metric = '_device': this name is the gateway's own",
        ),
        (
            "[[route]]\ntopic = '{device}/{metric}'\nmetric = 'x'",
            "file:3: route[0].metric = 'x': the topic says which metric it is",
        ),
        (
            "[[route]]\ntopic = '{device}'\n[[route]]\ntopic = '{device}'",
            "file:4: route[1].topic = '{device}': another [[route]] takes the same topics",
        ),
        ("[[limit]]\nmetric = 'x'", "file:1: limit[0]: limits nothing; give it min, max or sentinel"),
        ("[[limit]]\nmetric = 'x'\nmin = 2\nmax = 1.5", "file:3: limit[0].min = 2: above max, 1.5"),
        (
            "[[limit]]\nmetric = 'x'\nmin = 2\n[[limit]]\nmetric = 'x'\nmin = 2",
            "file:4: limit[1]: another [[limit]] says the same",
        ),
        ("[[limit]]\nmetric = 'x'\nmin = 2\nclear_max = 1", "file:4: limit[0].clear_max = 1: it needs a max"),
        ("[[limit]]\nmetric = 'x'\nmin = 2\nclear_min = 1", "file:4: limit[0].clear_min = 1: below min, 2"),
        ("[[limit]]\nmetric = 'x'\nmax = 2\nclear_max = 3", "file:4: limit[0].clear_max = 3: above max, 2"),
        (
            "[[limit]]\nmetric = 'x'\nmin = 1\nmax = 2\nclear_min = 1.9\nclear_max = 1.1",
            "file:1: limit[0]: nothing would clear it: clear_min is above clear_max",
        ),
        (
            "[[sink]]\nname = 'a'\ntype = 'archive'\n[[sink]]\nname = 'a'\ntype = 'archive'\npath = '/p'",
            "file:5: sink[1].name = 'a': another [[sink]] has the same name",
        ),
        (
            "[[sink]]\nname = 'a'\ntype = 'archive'\npath = '/p'\n[[sink]]\nname = 'b'\ntype = 'archive'\npath = '/p/'",
            "file:8: sink[1].path = '/p/': b writes its files to /p/, as the sink a does; give each a folder of its own",
        ),
        (
            "[[sink]]\nname = 'a'\ntype = 'kinesis'\nregion = 'eu'",
            "file:1: sink[0]: names no stream; give it raw, anomalies or both, for example raw = \"telemetry-raw\"",
        ),
        (
            "[[sink]]\nname = 'a'\ntype = 'kinesis'\nraw = 'r'\nrequest_size_max = '512KiB'",
            "file:1: sink[0]: record_size_max is 1MiB, more than request_size_max, which is 512KiB",
        ),
        (
            "[[sink]]\nname = 'a'\ntype = 'pulsar'\nbrokers = 'x'",
            "file:3: sink[0].type = 'pulsar': not a choice; one of \"archive\", \"kinesis\", \"firehose\", \"kafka\", \"http\", \"s3\", \"influxdb\", \"opensearch\", \"postgres\", \"mqtt\", \"nothing\"",
        ),
        (
            "[[sink]]\nname = 'a'\ntype = 'archive'\nraw = 'x'",
            "file:4: sink[0].raw = 'x': a key of [[sink]] of type \"kinesis\", not of this one",
        ),
        ("admin.listen = '127.0.0.1:1883'", "file:1: admin.listen = '127.0.0.1:1883': mqtt.listen is the same address"),
        (
            "gateway.id = '{host}'",
            "file:1: gateway.id = '{host}': unknown placeholder; there are {hostname}, {machine_id} and {machine_id_short}",
        ),
        ("store.path = '~/x'", "file:1: store.path = '~/x': ~ is not expanded; write the whole path"),
        ("[[sink]]\n", "file:1: sink[0]: `name` is missing; for example name = \"cloud\""),
    ] {
        assert_eq!(wrong(text).first().map(String::as_str), Some(expected), "{text}");
    }
}

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
            "OUTRIDER__STORE__SIZE_MAX: store.size_max = \"1\": not a size, the unit is missing; write \"1MiB\" if that is meant; \
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

#[test]
fn metrics_have_profiles_of_their_own() {
    let text = "[[profile]]\nmetrics = 'door Hatch'\ngap = 'off'\n[[profile]]\nmetrics = 'pump'\nlike = 'plant'\nshift = 9\nburst = 0\n\
                severity_max = 'minor'\n";
    let profiles = right(text).monitor.profiles;
    let of = |metric| *profiles.get(profiles.of_metric(metric));
    assert_eq!((of("cargo_hatch").name, of("cargo_hatch").gap, of("humidity").name), ("generic", false, "slow"));
    let pump = of("pump_temperature");
    assert_eq!((pump.name, pump.shift, pump.burst, pump.severity_max.name()), ("plant", 9.0, None, "minor"));
    let of_a_limit = |metric| of(metric).set_limit_severity_max.name();
    assert_eq!((of_a_limit("pump_temperature"), of_a_limit("cargo_hatch")), ("minor", "critical"));
    for (text, problem) in [
        ("[[profile]]\nmetrics = ' '", "profile[0].metrics = ' ': it holds no word"),
        (
            "[[profile]]\nmetrics = 'a'\nspike = 0.5",
            "profile[0].spike = 0.5: below 1, everything usual would stand out",
        ),
    ] {
        let problems = wrong(text).join("\n");
        assert!(problems.contains(problem), "{problems}");
    }
    let names = crate::core::detection::detectors::profile::Profile::ALL.map(|profile| profile.name);
    let is_like = |key: &&&Key| key.group == Group::Profile && key.name == "like";
    let like = reference::all().iter().find(is_like).expect("a key");
    assert!(names.iter().all(|name| like.kind.to_string().contains(&format!("\"{name}\""))), "{}", like.kind);
}

#[test]
fn what_a_rule_posts_is_in_a_stream_that_is_posted() {
    let with = |kind: &str| {
        format!(
            "[[stream]]\nname = \"calls\"\n[[sink]]\nname = \"a\"\n{kind}\n[[rule]]\nname = \"r\"\nwhen = \"t > 1\"\nwebhook = \"calls\""
        )
    };
    let posted = right(&with("type = \"http\"\nurl = \"https://a.b/\"\nstreams = [\"calls\"]"));
    assert_eq!(posted.rules.book.rules()[0].streams().collect::<Vec<_>>(), ["calls"]);
    let filed = wrong(&with("type = \"archive\"\npath = \"x\""));
    let expected = "rule[0].webhook = \"calls\": no [[sink]] of type \"http\" takes the stream calls; add streams = [\"calls\"] to one";
    assert!(filed.len() == 1 && filed[0].ends_with(expected), "{filed:?}");
}

#[test]
fn streams_are_named_and_taken_by_sinks() {
    let configuration = right(
        r#"
        [[stream]]
        name = "trips"
        [[stream]]
        name = "door_events-2"
        keep = "reserve"
        [[sink]]
        name = "cloud"
        type = "kinesis"
        raw = "fleet-raw"
        streams = { trips = "fleet-trips", anomalies = "fleet-anomalies" }
        [[sink]]
        name = "web"
        type = "http"
        url = "https://example.com/"
        streams = ["door_events-2", "raw"]
        "#,
    );
    let named = |name: &str, keep| NamedStream { name: name.to_owned(), keep };
    assert_eq!(configuration.streams, [named("trips", Keep::Bulk), named("door_events-2", Keep::Reserve)]);
    let taken = |sink: usize| {
        let names = ["raw", "anomalies", "trips", "door_events-2"];
        names.into_iter().filter(|name| configuration.sinks[sink].takes(name)).collect::<Vec<_>>()
    };
    assert_eq!((taken(0), taken(1)), (vec!["raw", "anomalies", "trips"], vec!["raw", "door_events-2"]));
    let described = configuration.sinks[0].sink.describe();
    assert!(
        described
            .ends_with("raw to stream fleet-raw, anomalies to stream fleet-anomalies, trips to stream fleet-trips")
    );
    let all = right("[[stream]]\nname = \"trips\"\n[[sink]]\nname = \"web\"\ntype = \"http\"\nurl = \"https://a.b/\"");
    assert!(all.sinks[0].takes("trips"), "every stream, if none is named");
    assert!(right("[[stream]]\nname = \"trips\"").sinks[0].takes("trips"), "the built-in archive takes every stream");
}

#[test]
fn a_stream_that_nobody_takes_or_has_is_a_problem() {
    let problems = wrong(
        r#"
        [[stream]]
        name = "trips"
        [[stream]]
        name = "raw"
        [[stream]]
        name = "trips"
        watched = true
        [[stream]]
        name = "Doors"
        [[stream]]
        name = "doors"
        keep = "all"
        [[sink]]
        name = "cloud"
        type = "kinesis"
        streams = { trip = "x", raw = "y", other = "z" }
        raw = "r"
        [[sink]]
        name = "web"
        type = "http"
        url = "https://example.com/"
        take = "alerts"
        streams = ["doors"]
        "#,
    );
    let expected = [
        "file:2: stream[0]: no sink takes the stream trips, so its records would be kept nowhere for ever",
        "file:5: stream[1].name = \"raw\": every gateway has this stream",
        "file:7: stream[2].name = \"trips\": another [[stream]] has the same name",
        "file:8: stream[2].watched = true: unknown key; there are name, keep",
        "file:10: stream[3].name = \"Doors\": not allowed here; 1 to 64 characters of a-z, 0-9, _ and -",
        "file:11: stream[4]: no sink takes the stream doors",
        "file:13: stream[4].keep = \"all\": not a choice",
        "file:17: sink[0].streams = { trip = \"x\", raw = \"y\", other = \"z\" }: there is no stream other; add a [[stream]]",
        "file:17: sink[0].streams = { trip = \"x\", raw = \"y\", other = \"z\" }: raw is a key of its own",
        "file:17: sink[0].streams = { trip = \"x\", raw = \"y\", other = \"z\" }: there is no stream trip; did you mean `trips`?",
        "file:24: sink[1].streams = [\"doors\"]: alerts are in one stream",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
    let many: String = (0..17).map(|number| format!("[[stream]]\nname = \"s{number}\"\n")).collect();
    assert_eq!(wrong(&many), ["file:33: stream[16]: more than 16 streams"]);
    let targets = "[[sink]]\nname = \"a\"\ntype = \"kinesis\"\nstreams = { raw = \"not allowed\" }";
    assert!(wrong(targets)[0].starts_with("file:4: sink[0].streams = "));
    let none = "[[sink]]\nname = \"a\"\ntype = \"http\"\nurl = \"https://a.b\"\nstreams = []";
    assert!(wrong(none)[0].contains("names no stream"));
}

#[test]
fn a_body_has_its_own_keys_and_what_makes_no_sense_is_named() {
    let sink = |keys: &str| format!("[[sink]]\nname = \"a\"\ntype = \"http\"\nurl = \"https://a.b:8088\"\n{keys}\n");
    let splunk = right(&sink("body = \"splunk\"\ntoken = \"t\""));
    let described = splunk.sinks[0].sink.describe();
    assert!(
        described.ends_with("posted to https://a.b:8088 for Splunk, until its indexers acknowledge"),
        "{described}"
    );
    assert!(splunk.sinks[0].sink.notes()[0].starts_with("until Splunk's indexers acknowledge"));
    let unacknowledged = right(&sink("body = \"splunk\"\ntoken = \"t\"\nacknowledge = false"));
    assert!(unacknowledged.sinks[0].sink.notes()[0].starts_with("acknowledge = false"));
    let firehose = right(&sink("body = \"firehose\"\ncompression = \"gzip\"\ncommon_attributes = { site = \"y\" }"));
    assert!(firehose.sinks[0].sink.describe().ends_with("as Amazon Data Firehose does"));
    right(&sink("body = \"splunk\"\ntoken = \"t\"\ntake = \"alerts\""));
    let longest = format!("arn:aws-us-gov:firehose:us-gov-west-1:123456789012:deliverystream/{}", "a".repeat(64));
    right(&sink(&format!("body = \"firehose\"\nsource_arn = \"{longest}\"")));
    right(&sink("body = \"splunk\"\ntoken = \"t\"\nacknowledge = false\nheaders = { Cookie = \"waf=1\" }"));
    let attributes: Vec<String> = (0..5).map(|at| format!("a{at} = \"{}\"", "v".repeat(1_000))).collect();
    let attributes = attributes.join(", ");
    let long = "k".repeat(4097);
    for (keys, expected) in [
        ("body = \"splunk\"", "Splunk needs token"),
        ("token = \"t\"", "only body = \"splunk\" has this"),
        ("body = \"firehose\"\nacknowledge = true", "only body = \"splunk\" has this"),
        ("body = \"splunk\"\ntoken = \"t\"\naccess_key = \"k\"", "only body = \"firehose\" has this"),
        ("body = \"firehose\"\ncompression = \"zstd\"", "compressed by gzip or not at all"),
        ("body = \"firehose\"\nsource_arn = \"fleet\"", "not of the form arn:aws:firehose:"),
        ("body = \"firehose\"\nheaders = { X-Amz-Firehose-Access-Key = \"k\" }", "headers of its protocol"),
        ("body = \"splunk\"\ntoken = \"t\"\nheaders = { authorization = \"Splunk t\" }", "headers of its protocol"),
        (
            "body = \"splunk\"\ntoken = \"t\"\nacknowledge = false\nacknowledge_timeout = \"1m\"",
            "nothing is waited for",
        ),
        ("body = \"firehose\"\ntake = \"alerts\"\nalert_format = \"alertmanager\"", "know no such body"),
        (&format!("body = \"firehose\"\naccess_key = \"{long}\""), "1 to 4096 bytes"),
        (&format!("body = \"firehose\"\ncommon_attributes = {{ {attributes} }}"), "4096 bytes together"),
        ("body = \"splunk\"\ntoken = \"t\"\nheaders = { Cookie = \"waf=1\" }", "leave Cookie away"),
        ("body = \"firehose\"\naccess_key = \"env:NOT_SET_ANYWHERE\"", "NOT_SET_ANYWHERE is not set"),
    ] {
        let problems = wrong(&sink(keys));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{keys}: {problems:?}");
    }
    let whole = sink("body = \"splunk\"\ntoken = \"t\"").replace("8088", "8088/services/collector/event");
    assert!(wrong(&whole)[0].contains("the address of the collector alone"));
}

#[test]
fn firehose_has_limits_of_its_own() {
    let sink = |keys: &str| format!("[[sink]]\nname = \"a\"\ntype = \"firehose\"\n{keys}\n");
    let configuration = right(&sink("raw = \"fleet-raw\""));
    let read: &dyn std::any::Any = &*configuration.sinks[0].sink;
    let delivery = &read.downcast_ref::<FirehoseStreams>().expect("a sink to Firehose").delivery;
    assert_eq!((delivery.request_records_max, delivery.record_bytes_max), (500, 1_000 << 10));
    assert_eq!((delivery.grouping, delivery.partition), (Grouping::Lines, Partition::Gateway));
    assert_eq!((delivery.record_bytes_soft, delivery.request_bytes_max), (256 << 10, 1 << 20));
    // Data that cannot be compressed becomes longer; a small request bounds its records.
    let packed = right(&sink("raw = \"r\"\ncompression = \"zstd\"\nrequest_size_max = \"512KiB\""));
    let read: &dyn std::any::Any = &*packed.sinks[0].sink;
    let most = read.downcast_ref::<FirehoseStreams>().expect("a sink to Firehose").delivery.record_bytes_max;
    assert!(most < 512 << 10 && most > 500 << 10, "{most}");
    for (keys, expected) in [
        ("record_size = \"1KiB\"", "names no stream"),
        ("raw = \"r\"\nrecord_size = \"1001KiB\"", "record_size"),
        ("raw = \"r\"\nrequest_size_max = \"5MiB\"", "request_size_max"),
        ("raw = \"r\"\nrequest_size_max = \"128KiB\"", "record_size is 256KiB, more than request_size_max"),
        (&format!("raw = \"{}\"", "x".repeat(65)), "at most 64 characters"),
    ] {
        let problems = wrong(&sink(keys));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{keys}: {problems:?}");
    }
}

#[test]
fn aggregated_records_leave_room_for_their_frames_and_are_not_compressed() {
    let sink = |keys: &str| {
        format!("[[sink]]\nname = \"a\"\ntype = \"kinesis\"\nraw = \"fleet-raw\"\nrecord = \"kpl\"\n{keys}\n")
    };
    let configuration = right(&sink("record_size = \"1MiB\""));
    let read: &dyn std::any::Any = &*configuration.sinks[0].sink;
    let streams = read.downcast_ref::<KinesisStreams>().expect("a sink to Kinesis");
    let delivery = &streams.delivery;
    assert_eq!((delivery.grouping, streams.is_aggregated), (Grouping::Lines, true));
    assert_eq!(delivery.record_bytes_max, aggregate::lines_bytes_max(1 << 20));
    assert_eq!(
        (delivery.record_bytes_soft, delivery.request_bytes_max),
        (delivery.record_bytes_max, delivery.record_bytes_max)
    );
    let notes = configuration.sinks[0].sink.notes();
    assert!(notes.iter().any(|note| note.contains("AWS Lambda without a library")), "{notes:?}");
    let problems = wrong(&sink("compression = \"gzip\""));
    assert!(
        problems.len() == 1 && problems[0].contains("nobody would know that a compressed record has others in it"),
        "{problems:?}"
    );
}
