//! The cost of turning a payload into readings: time per publish, by the way in which its route says where things are, next to a parser of
//! JSON that only builds a tree.
//!
//! Run it with `cargo bench --bench decode`. Rounds of all ways take turns, so that other load on the machine is shared by all.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use outrider::config::host::Host;
use outrider::config::{Configuration, Sources};
use outrider::core::reading::Readings;
use outrider::ingest::{ClockState, Decoded, Ingest};

const ROUNDS: usize = 25;
const PUBLISHES: u32 = 20_000;
const RECEIVED_AT_MS: i64 = 1_795_465_865_131;

const METER: &str = r#"{"device":"d01","seq":3,"ts_us":1795465865120000,"temperature":20.5,"fw":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;
const TRACKER: &str = r#"{"state":{"reported":{"ts":1795465865120,"sp":63,"66":12840,"67":4012,"latlng":"54.7,25.3","alt":110,"ang":271,"sat":14}}}"#;

/// A name, the routes, the topic, the payload, and how many readings come of it.
struct Way {
    name: &'static str,
    routes: &'static str,
    topic: &'static str,
    payload: Vec<u8>,
    readings: usize,
}

fn cbor(json: &str) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let mut bytes = Vec::new();
    ciborium::into_writer(&value, &mut bytes).expect("written");
    bytes
}

fn ways() -> Vec<Way> {
    let way = |name, routes, topic, payload: Vec<u8>, readings| Way { name, routes, topic, payload, readings };
    let json = || METER.as_bytes().to_vec();
    let places = "[[route]]\ntopic = 'm/{device}/{metric}'\nvalue = '$.temperature'\ntime = '$.ts_us'\ntime_format = 'unix_us'\nsequence = '$.seq'\nmetrics = []\n";
    vec![
        way("a number", "", "devices/d01/temperature", b"20.5".to_vec(), 1),
        way("JSON, built-in route", "", "devices/d01/temperature", json(), 1),
        way("JSON, route with paths", places, "m/d01/temperature", json(), 1),
        way("CBOR, built-in route", "", "devices/d01/temperature", cbor(METER), 1),
        way("CBOR, route with paths", places, "m/d01/temperature", cbor(METER), 1),
        way("6 metrics, built-in route", "", "devices/d01", TRACKER.as_bytes().to_vec(), 6),
        way("6 metrics, preset", "[[route]]\npreset = 'teltonika'\n", "d01/data", TRACKER.as_bytes().to_vec(), 6),
    ]
}

fn ingest(routes: &str) -> Ingest {
    let sources = Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
    let configuration = Configuration::parse(Path::new("file"), routes, &sources, &Host::read()).expect("routes");
    Ingest::new(configuration.routes, ClockState::new(true))
}

fn nanoseconds(mut act: impl FnMut()) -> f64 {
    let started = Instant::now();
    (0..PUBLISHES).for_each(|_| act());
    started.elapsed().as_nanos() as f64 / f64::from(PUBLISHES)
}

fn main() {
    let ways = ways();
    let mut ingests: Vec<Ingest> = ways.iter().map(|way| ingest(way.routes)).collect();
    let mut readings = Readings::default();
    let mut rounds = vec![(Vec::new(), Vec::new()); ways.len()];
    for _ in 0..ROUNDS {
        for ((way, ingest), (decode_ns, tree_ns)) in ways.iter().zip(&mut ingests).zip(&mut rounds) {
            decode_ns.push(nanoseconds(|| {
                readings.clear();
                let decoded = ingest.decode(way.topic, black_box(&way.payload), RECEIVED_AT_MS, &mut readings);
                assert_eq!(decoded, Decoded::Stored { readings: way.readings }, "{}", way.name);
            }));
            tree_ns.push(nanoseconds(|| {
                _ = black_box(serde_json::from_slice::<serde_json::Value>(black_box(&way.payload)));
            }));
        }
    }
    println!("ns a publish: the quietest round, and the median one");
    for (way, (decode_ns, tree_ns)) in ways.iter().zip(rounds) {
        let (best, median) = best_and_median(decode_ns);
        print!("{:28} {best:6.0} {median:6.0}", way.name);
        match way.payload.first() {
            Some(b'{') => println!("   serde_json's tree of it {:6.0}", best_and_median(tree_ns).0),
            _ => println!(),
        }
    }
}

/// Other load on the machine only ever adds time.
fn best_and_median(mut rounds: Vec<f64>) -> (f64, f64) {
    rounds.sort_by(f64::total_cmp);
    (rounds[0], rounds[rounds.len() / 2])
}
