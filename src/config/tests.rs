mod sinks;
mod sources;
mod streams;

use super::*;
use crate::core::delivery::{DeliverySettings, Grouping};
use crate::core::reading::Readings;
use crate::ingest::{ClockState, Decoded, Ingest};
use crate::keys::key::{Group, Key};
use crate::mqtt::Unrouted;
use crate::sinks::archive::sink::ArchiveSink;
use crate::sinks::compression::Compression;
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
        "file:6: store.free_space_min = 7: not a size, the unit is missing; write \"7B\" or \"7MiB\" if that is meant; a size, \"0B\" to \
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
