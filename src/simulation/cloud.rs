//! What the sinks send to: streams that fail in every way that a cloud has, and check what arrives.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::devices::POISON;
use super::random::Random;
use crate::core::delivery::{Outcome, OutgoingRecord, Reply, Request, RetryReason, Scope};
use crate::core::identity::Stream;

const MS: u64 = 1_000;
/// How long a sink waits for a reply.
const TIME_LIMIT_US: u64 = 10_000 * MS;

/// What the sky over a sink holds at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weather {
    Calm,
    /// So many per cent of the records fail.
    Showers(u64),
    /// Records of one device fail, and no others.
    OneKey,
    /// So many records a second are taken.
    Throttled(u64),
    /// So many per cent of the replies are lost with the connection.
    LostReplies(u64),
    /// So many per cent of the requests get no reply in time, and have an effect or not.
    TimeOuts(u64),
    /// So many per cent of the requests are refused as a whole.
    Refusals(u64),
    /// There is no such stream: somebody has to mend that.
    Halts,
    /// Something on the way takes no request with more bytes.
    TooLarge(usize),
    Unreachable,
}

impl Weather {
    pub fn any(random: &mut Random) -> Weather {
        let percent = random.within(5, 70);
        match random.below(14) {
            0 => Weather::Showers(percent),
            1 => Weather::OneKey,
            2 => Weather::Throttled(percent),
            3 => Weather::LostReplies(percent),
            4 => Weather::TimeOuts(percent),
            5 => Weather::Refusals(percent),
            6 => Weather::Halts,
            7 => Weather::TooLarge(6_000 + 100 * percent as usize),
            8 | 9 => Weather::Unreachable,
            _ => Weather::Calm,
        }
    }
}

/// What becomes of a request.
pub(super) struct Exchange {
    pub reply: Reply,
    pub reply_us: u64,
    /// The records arrive, at this time, and nobody hears that.
    pub unheard_us: Option<u64>,
}

/// A record, as its line names it. Runs are counted in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub stream: u16,
    pub run: usize,
    pub position: u64,
}

/// A line that the gateway made.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub identity: Identity,
    pub device: String,
    /// The number that the device gave its reading.
    pub number: Option<usize>,
}

/// All lines that were ever seen, by their identity: the same identity is the same line for ever.
#[derive(Default)]
pub(super) struct Lines {
    runs: Vec<String>,
    seen: HashMap<Identity, u32>,
}

impl Lines {
    pub fn begin_run(&mut self, run: String) {
        self.runs.push(run);
    }

    pub fn read(&mut self, stream: Stream, text: &[u8]) -> Result<Line, String> {
        let shown = || String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
        let fields: Value = serde_json::from_slice(text).map_err(|error| format!("{error}: {}", shown()))?;
        let run = fields["run"].as_str().unwrap_or_default();
        let run = self.runs.iter().position(|known| known == run).ok_or_else(|| format!("no such run: {}", shown()))?;
        let position = fields["position"].as_u64().ok_or_else(|| format!("no position: {}", shown()))?;
        let identity = Identity { stream: stream.id(), run, position };
        let check = crc32fast::hash(text.trim_ascii_end());
        if *self.seen.entry(identity).or_insert(check) != check {
            return Err(format!("{identity:?} was another record before: {}", shown()));
        }
        Ok(Line {
            identity,
            device: fields["device"].as_str().unwrap_or("_gateway").to_owned(),
            number: fields["seq"].as_u64().map(|number| number as usize).filter(|_| stream == Stream::RAW),
        })
    }
}

/// One sink's streams, as the cloud has them.
#[derive(Default)]
pub(super) struct Cloud {
    pub weather: Option<Weather>,
    pub arrived: HashSet<Identity>,
    /// Readings that have arrived, by device and number.
    pub readings: HashSet<(String, usize)>,
    last: HashMap<(u16, String), Identity>,
    /// How many records of each stream arrived after later ones of their device.
    late: BTreeMap<u16, u64>,
    throttle: Throttle,
    pub counts: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct Throttle {
    second: u64,
    taken: u64,
}

impl Throttle {
    fn takes(&mut self, records_a_second: u64, now_us: u64) -> bool {
        let second = now_us / (1_000 * MS);
        if second != self.second {
            (self.second, self.taken) = (second, 0);
        }
        self.taken += 1;
        self.taken <= records_a_second
    }
}

impl Cloud {
    fn count(&mut self, fault: &'static str) {
        *self.counts.entry(fault).or_default() += 1;
    }

    /// What becomes of a request that is sent now. What arrives with its reply arrives at once.
    pub fn send(
        &mut self,
        stream: Stream,
        request: &Request,
        lines: &mut Lines,
        random: &mut Random,
        now_us: u64,
    ) -> Result<Exchange, String> {
        let count = request.records.len();
        let reply_us = now_us + random.within(5, 200) * MS;
        let weather = self.weather.unwrap_or(Weather::Calm);
        let whole = |outcome| Ok(Exchange { reply: Reply::whole(outcome, count), reply_us, unheard_us: None });
        let bytes: usize = request.records.iter().map(|record| record.data.len()).sum();
        // What would be refused arrives in no way.
        let is_refused = has_poison(&request.records);
        match weather {
            Weather::Unreachable => {
                self.count("unreachable");
                return whole(Outcome::Unreachable("no route".to_owned()));
            }
            Weather::Halts => {
                self.count("halted");
                return whole(Outcome::Halt("there is no such stream".to_owned()));
            }
            Weather::Refusals(percent) if random.percent(percent) => {
                self.count("refused for now");
                return whole(Outcome::Retry(RetryReason::Internal));
            }
            Weather::TooLarge(bytes_max) if bytes > bytes_max => {
                self.count("too large (413)");
                return whole(Outcome::TooLarge("413".to_owned()));
            }
            Weather::LostReplies(percent) if random.percent(percent) => {
                self.count("lost replies");
                let reply = Reply::whole(Outcome::Retry(RetryReason::Connection), count);
                let arrives_us = now_us + random.below(200) * MS;
                return Ok(Exchange { reply, reply_us, unheard_us: (!is_refused).then_some(arrives_us) });
            }
            Weather::TimeOuts(percent) if random.percent(percent) => {
                let reply = Reply::whole(Outcome::Retry(RetryReason::TimedOut), count);
                let has_effect = random.percent(50) && !is_refused;
                self.count(if has_effect { "time-outs with effect" } else { "time-outs without effect" });
                // It may arrive long after the sink has given it up.
                let unheard_us = has_effect.then(|| now_us + random.below(3 * TIME_LIMIT_US));
                return Ok(Exchange { reply, reply_us: now_us + TIME_LIMIT_US, unheard_us });
            }
            _ => {}
        }
        if is_refused {
            self.count("refused for good");
            return whole(Outcome::Reject("poison".to_owned()));
        }
        let mut outcomes = Vec::with_capacity(count);
        for record in &request.records {
            let failure = match weather {
                Weather::Showers(percent) if random.percent(percent) => Some(("failed records", RetryReason::Internal)),
                Weather::OneKey if record.device.ends_with('0') => Some(("one key fails", RetryReason::Internal)),
                Weather::Throttled(rate) if !self.throttle.takes(rate, now_us) => {
                    Some(("throttled records", RetryReason::Throttled))
                }
                _ => None,
            };
            outcomes.push(match failure {
                Some((fault, reason)) => {
                    self.count(fault);
                    Outcome::Retry(reason)
                }
                None => {
                    self.take(stream, record, lines, 0)?;
                    Outcome::Accepted { shard: Some("0".to_owned()) }
                }
            });
        }
        Ok(Exchange { reply: Reply { scope: Scope::Records, outcomes, passed_over: 0 }, reply_us, unheard_us: None })
    }

    /// Takes a record. Records of a device arrive in their order, or again. So many of those that got no answer may come too late: the
    /// gateway gave them up while they were on their way, and counted them.
    pub fn take(
        &mut self,
        stream: Stream,
        record: &OutgoingRecord,
        lines: &mut Lines,
        given_up: u64,
    ) -> Result<(), String> {
        for text in record.data.split_inclusive(|byte| *byte == b'\n') {
            let Line { identity, device, number, .. } = lines.read(stream, text)?;
            if let Some(number) = number {
                self.readings.insert((device.clone(), number));
            }
            if !self.arrived.insert(identity) {
                self.count("repeats");
                continue;
            }
            let last = self.last.entry((stream.id(), device)).or_insert(identity);
            if identity < *last {
                let late = self.late.entry(stream.id()).or_default();
                *late += 1;
                if *late <= given_up {
                    self.count("arrivals after they were given up");
                    continue;
                }
                return Err(format!("{identity:?} of {} arrived after {last:?}", record.device));
            }
            *last = identity;
        }
        Ok(())
    }
}

fn has_poison(records: &[OutgoingRecord]) -> bool {
    let mark = format!("\"{POISON}\"");
    records.iter().any(|record| record.data.windows(mark.len()).any(|window| window == mark.as_bytes()))
}
