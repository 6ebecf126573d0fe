//! The smallest sink: it takes every record of the raw stream and does nothing with it. A sink needs no more than this file and its line in
//! the registry.

use std::rc::Rc;
use std::sync::Arc;

use super::Sink;
use super::kind::{ConfiguredSink, SinkKind, Surroundings};
use super::probe::{Probe, Probing};
use super::start::{SinkThread, StartError, Starting};
use crate::core::delivery::{DeliverySettings, Grouping, Outcome, OutgoingRecord, Partition, Patience, Reply};
use crate::finding::Finding;
use crate::keys::key::Fallback::Literal;
use crate::keys::key::{Group, Key, count, key_of};
use crate::keys::section::Section;

pub const NAME: &str = "nothing";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "nowhere", sends_records: true, keys: KEYS, read };

const KEYS: &[Key] = &[key_of(
    Group::SinkOf(NAME),
    "requests_in_flight",
    count(1, 64),
    Literal("4"),
    "Most requests in flight at one time.",
)];

#[derive(Debug)]
struct Nothing {
    requests_in_flight: usize,
}

fn read(section: &mut Section<'_>, _: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    Arc::new(Nothing { requests_in_flight: section.count("requests_in_flight") })
}

impl ConfiguredSink for Nothing {
    fn takes(&self, stream: &str) -> bool {
        stream == "raw"
    }

    fn describe(&self) -> String {
        "nowhere".to_owned()
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let delivery = DeliverySettings {
            grouping: Grouping::Lines,
            record_bytes_soft: 64 << 10,
            record_bytes_max: 1 << 20,
            request_records_max: 100,
            request_bytes_max: 1 << 20,
            requests_in_flight_max: self.requests_in_flight,
            held_bytes_max: 2 << 20,
            partition: Partition::Device,
            linger_us: 0,
            age_us_max: None,
            patience: Patience::default(),
        };
        starting.forward(|stream| self.takes(stream), &delivery, |_| Rc::new(Taker))
    }

    fn probe<'a>(&'a self, _: &'a Probing) -> Probe<'a> {
        Box::pin(async { vec![Finding::well("there is nothing to reach")] })
    }
}

struct Taker;

impl Sink for Taker {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        Reply::whole(Outcome::Accepted { shard: None }, records.len())
    }
}

mod tests {
    use std::path::Path;

    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    #[test]
    fn a_sink_is_one_file_and_a_line_of_the_registry() {
        let text = "store.path = '/s'\n[[sink]]\nname = 'x'\ntype = 'nothing'\nrequests_in_flight = 7\n";
        let read = |text: &str| Configuration::parse(Path::new("f"), text, &Sources::default(), &Host::read());
        let sinks = read(text).expect("right").sinks;
        let sink = &sinks[0];
        assert_eq!((sink.kind, sink.sink.describe().as_str()), ("nothing", "nowhere"));
        assert_eq!(format!("{:?}", sink.sink), "Nothing { requests_in_flight: 7 }");
        assert!(sink.takes("raw") && !sink.takes("anomalies"));
        let wrong = read(&text.replace("= 7", "= 65")).expect_err("out of range").to_string();
        assert!(wrong.contains("f:5: sink[0].requests_in_flight = 65: out of range"), "{wrong}");
    }
}
