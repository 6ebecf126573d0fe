//! A payload through a route of each format and of each preset: taken whole or not at all. The first byte chooses the route.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use outrider::config::host::Host;
use outrider::config::{Configuration, Sources};
use outrider::core::reading::Readings;
use outrider::ingest::{ClockState, Decoded, Ingest};

const RECEIVED_AT_MS: i64 = 1_795_465_865_131;
/// A route, and a topic that it takes.
const ROUTES: [(&str, &str); 22] = [
    ("topic = 'f/{device}'\nformat = 'json'\nsequence = '$.n'", "f/d"),
    ("topic = 'f/{device}'\nformat = 'cbor'\nsequence = '$.n'", "f/d"),
    ("topic = 'f/{device}'\nformat = 'number'", "f/d"),
    ("topic = 'f/{device}'\nformat = 'csv'", "f/d"),
    ("topic = 'f/{device}'\nformat = 'csv'\nseparator = ';'\ncolumns = ['ts', 't']\nnumbers = 'lenient'", "f/d"),
    ("topic = 'f/{device}'\nformat = 'senml_json'", "f/d"),
    ("topic = 'f/{device}'\nformat = 'senml_cbor'", "f/d"),
    ("topic = 'f/{device}'\nformat = 'influx'", "f/d"),
    ("preset = 'sparkplug'", "spBv1.0/g/NBIRTH/e"),
    ("preset = 'sparkplug'", "spBv1.0/g/DDATA/e/d"),
    ("topic = 'f/{x}'\ndevice = '{$.id}'\ntime = '$.ts'\ntime_format = '%d.%m.%y %H:%M'\nnumbers = 'lenient'", "f/d"),
    ("topic = 'f/{device}'\neach = '$.*[*]'\nmetric = '{@key}'\nmetrics = ['@.*', '$.a']\nignore = ['@.x']", "f/d"),
    ("preset = 'tasmota'\ntime_zone = '+01:00'", "tele/d/SENSOR"),
    ("preset = 'shelly'", "d/events/rpc"),
    ("preset = 'zigbee2mqtt'", "zigbee2mqtt/d"),
    ("preset = 'owntracks'", "owntracks/u/d"),
    ("preset = 'teltonika'", "d/data"),
    ("preset = 'thingsboard'", "v1/gateway/telemetry"),
    ("preset = 'chirpstack'", "application/a/device/d/event/up"),
    ("preset = 'ttn'", "v3/a/devices/d/up"),
    ("preset = 'openxc'", "openxc/d"),
    ("preset = 'wirenboard'", "/devices/d/controls/t"),
];

thread_local! {
    static INGESTS: RefCell<Vec<Ingest>> = RefCell::new(ROUTES.iter().map(|(route, _)| ingest(route)).collect());
}

fn ingest(route: &str) -> Ingest {
    let host = Host {
        hostname: "truck".to_owned(),
        machine_id: None,
        home: None,
        state_directory: Some("/state".into()),
        system_file: "/nowhere".into(),
    };
    let text = format!("[[route]]\n{route}\n");
    let configuration = Configuration::parse(Path::new("file"), &text, &Sources::default(), &host).expect("a route");
    Ingest::new(configuration.routes, ClockState::new(true))
}

fuzz_target!(|input: &[u8]| {
    let Some((chosen, payload)) = input.split_first() else { return };
    let chosen = usize::from(*chosen) % ROUTES.len();
    INGESTS.with_borrow_mut(|ingests| {
        let mut readings = Readings::default();
        match ingests[chosen].decode(ROUTES[chosen].1, payload, RECEIVED_AT_MS, &mut readings) {
            Decoded::Stored { readings: stored } => assert_eq!(stored, readings.len()),
            Decoded::Unrouted | Decoded::Undecodable { .. } => assert_eq!(readings.len(), 0),
        }
        assert!(readings.iter().all(|reading| !reading.device.is_empty() && !reading.metric.is_empty()));
    });
});
