//! What must hold, whatever happens.

use std::collections::{BTreeMap, HashMap};

use super::cloud::Cloud;
use super::devices::Device;
use super::scenario::{SINKS, streams};
use crate::admin::ledger::LedgerLine;
use crate::core::identity::{Stream, StreamRow};
use crate::mqtt::outbox::OwnMessage;

/// An alert that nothing may hold up is out so soon after its reading was published.
const ALERT_WITHIN_US: u64 = 12_000_000;

#[derive(Default)]
pub(super) struct Checks {
    /// Acknowledged readings, in the order of their acknowledgements.
    acknowledged: Vec<(usize, usize)>,
    /// So many of them, from the first, were acknowledged before a sink had a cursor.
    before_sink: [Option<usize>; SINKS.len()],
    /// As the last commit of this life left it.
    ledger: BTreeMap<(String, String), LedgerLine>,
    /// Acknowledged, and stored, in this life.
    acknowledged_in_life: u64,
    /// Devices with an alert that is to be heard by then.
    alerts_due_us: BTreeMap<String, u64>,
    raised: HashMap<String, bool>,
    pub alerts: u64,
}

impl Checks {
    /// A process has begun, with these sinks.
    pub fn begin_life(&mut self, sinks: &[usize]) {
        self.acknowledged_in_life = 0;
        for sink in sinks {
            self.before_sink[*sink].get_or_insert(self.acknowledged.len());
        }
    }

    /// A store that was set aside may take with it what sinks had got at last: they get it again.
    pub fn store_begins_anew(&mut self) {
        self.ledger.clear();
    }

    pub fn has_no_ledger(&self) -> bool {
        self.ledger.is_empty()
    }

    /// A process has ended.
    pub fn end_life(&mut self) {
        self.alerts_due_us.clear();
        self.raised.clear();
    }

    /// A device got acknowledgements. So far this life has stored so many readings.
    pub fn acknowledged(
        &mut self,
        device: usize,
        numbers: std::ops::RangeInclusive<usize>,
        stored: u64,
    ) -> Result<(), String> {
        self.acknowledged_in_life += numbers.clone().count() as u64;
        self.acknowledged.extend(numbers.map(|number| (device, number)));
        match self.acknowledged_in_life <= stored {
            true => Ok(()),
            false => Err(format!("{} readings are acknowledged, and {stored} are stored", self.acknowledged_in_life)),
        }
    }

    /// A commit has returned.
    pub fn committed(&mut self, lines: Vec<LedgerLine>) -> Result<(), String> {
        for line in lines {
            if !line.adds_up() {
                return Err(format!("the ledger does not add up: {line:?}"));
            }
            let before = self.ledger.entry((line.sink.clone(), line.stream.clone())).or_default();
            let terms =
                |line: &LedgerLine| [line.cursor, line.accepted, line.delivered, line.expired, line.dead_lettered];
            if terms(before).iter().zip(terms(&line)).any(|(before, now)| now < *before) {
                return Err(format!("the ledger goes back, from {before:?} to {line:?}"));
            }
            *before = line;
        }
        Ok(())
    }

    /// A reading beyond its limit was published.
    pub fn expect_alert(&mut self, device: &str, now_us: u64) {
        if !self.raised.get(device).copied().unwrap_or(false) {
            self.alerts_due_us.entry(device.to_owned()).or_insert(now_us + ALERT_WITHIN_US);
        }
    }

    pub fn published(&mut self, message: &OwnMessage) {
        let levels: Vec<&str> = message.topic.split('/').collect();
        let ["alerts", device, _, "limit"] = levels[..] else { return };
        let is_raised = String::from_utf8_lossy(&message.payload).contains("\"state\":\"raised\"");
        self.alerts += u64::from(is_raised);
        self.raised.insert(device.to_owned(), is_raised);
        if is_raised {
            self.alerts_due_us.remove(device);
        }
    }

    pub fn check_alerts(&self, now_us: u64) -> Result<(), String> {
        match self.alerts_due_us.iter().find(|(_, due_us)| **due_us < now_us) {
            Some((device, _)) => Err(format!("no alert of {device} was published in time")),
            None => Ok(()),
        }
    }

    /// Everything is drained: each sink has what was acknowledged since it has a cursor, except for what is counted.
    pub fn check_end(&self, sinks: &[usize], devices: &[Device], clouds: &[Cloud]) -> Result<(), String> {
        for sink in sinks {
            let (cloud, name) = (&clouds[*sink], SINKS[*sink]);
            let from = self.before_sink[*sink].expect("it is configured");
            let is_missing = |(device, number): &&(usize, usize)| {
                !cloud.readings.contains(&(devices[*device].name.clone(), *number))
            };
            let missing: Vec<_> = self.acknowledged[from..].iter().filter(is_missing).collect();
            let is_refused = |(device, number): &&&(usize, usize)| devices[*device].readings[*number - 1].is_poison;
            let lost = missing.iter().filter(|one| !is_refused(one)).count() as u64;
            let line = self.line(name, Stream::RAW)?;
            if lost > line.expired + line.quarantined
                || missing.len() as u64 > line.expired + line.quarantined + line.dead_lettered
            {
                let first = missing.iter().find(|one| !is_refused(one)).or(missing.first());
                return Err(format!(
                    "{} acknowledged readings are not in {name}, among them {first:?}, and {lost} of them were not refused: {line:?}",
                    missing.len()
                ));
            }
            for StreamRow { stream, name: name_of_stream, .. } in streams().rows() {
                let line = self.line(name, *stream)?;
                let arrived = cloud.arrived.iter().filter(|identity| identity.stream == stream.id()).count() as u64;
                if line.delivered > arrived || line.buffered > 0 {
                    return Err(format!("{arrived} records of {name_of_stream} have arrived: {line:?}"));
                }
            }
        }
        Ok(())
    }

    pub fn line(&self, sink: &str, stream: Stream) -> Result<&LedgerLine, String> {
        let key = (sink.to_owned(), streams().name(stream).to_string());
        self.ledger.get(&key).ok_or_else(|| format!("{key:?} is not in the ledger"))
    }
}
