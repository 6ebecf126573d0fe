//! What the cloud has, and what it does with a request.

use std::collections::{HashMap, HashSet};

use super::super::{Outcome, Reply, Request, RetryReason, Scope};

/// xorshift64*: a seed gives the same run again.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the sky holds at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Calm,
    /// So many per cent of the records fail.
    Showers(u64),
    /// So many per cent of the replies are lost.
    Fog(u64),
    /// So many per cent of the requests hang until the time is over.
    Stalls(u64),
    /// So many per cent of the requests are refused as a whole.
    Storm(u64),
    /// So many per cent of the requests are refused as a whole, most of them with a word to come again after some time.
    Busy(u64),
    Unreachable,
    /// Credentials have to be fresh.
    Expired,
    /// There is no such stream.
    Unknown,
    /// Something on the way takes no request with more data than this.
    Narrow(usize),
}

#[derive(Clone, Debug)]
struct Shard {
    per_second: f64,
    tokens: f64,
    refilled_us: u64,
}

impl Shard {
    fn takes(&mut self, now_us: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.refilled_us);
        self.refilled_us = self.refilled_us.max(now_us);
        self.tokens = (self.tokens + elapsed_us as f64 * self.per_second / 1e6).min(self.per_second / 4.0);
        let takes = self.tokens >= 1.0;
        self.tokens -= if takes { 1.0 } else { 0.0 };
        takes
    }
}

#[derive(Debug)]
pub struct Cloud {
    shards: Vec<Shard>,
    /// How often each line has arrived.
    pub arrived: HashMap<u64, u32>,
    /// Lines that may arrive again: nobody heard that they had.
    pub excused: HashSet<u64>,
    last_of_device: HashMap<String, u64>,
    pub repeats: u64,
    pub throttled: u64,
    pub failed: u64,
}

/// The sequences of a record's lines, each of which begins with its own.
pub fn sequences(data: &[u8]) -> impl Iterator<Item = u64> {
    data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| {
        let digits = line.split(|byte| *byte == b' ').next().expect("a line has a number");
        std::str::from_utf8(digits).expect("digits").parse().expect("digits")
    })
}

pub fn is_poison(data: &[u8]) -> bool {
    data.windows(6).any(|window| window == b"poison")
}

impl Cloud {
    pub fn new(shards: usize, random: &mut Random) -> Cloud {
        let mut shard = || {
            let per_second = [10.0, 40.0, 500.0, 1e9][random.below(4) as usize];
            Shard { per_second, tokens: 0.0, refilled_us: 0 }
        };
        Cloud {
            shards: (0..shards).map(|_| shard()).collect(),
            arrived: HashMap::new(),
            excused: HashSet::new(),
            last_of_device: HashMap::new(),
            repeats: 0,
            throttled: 0,
            failed: 0,
        }
    }

    /// Takes what it can of a request, as the service does: refused as a whole, or record by record.
    /// So many per cent of the records fail, and all of the sick device.
    pub fn put(
        &mut self,
        request: &Request,
        (fail, sick): (u64, Option<&str>),
        random: &mut Random,
        now_us: u64,
    ) -> Result<Reply, String> {
        if request.records.iter().any(|record| is_poison(&record.data)) {
            return Ok(Reply::whole(Outcome::Reject("poison".to_owned()), request.records.len()));
        }
        let mut outcomes = Vec::new();
        for record in &request.records {
            let shard = record.device.bytes().map(usize::from).sum::<usize>() % self.shards.len();
            outcomes.push(if sick == Some(&*record.device) {
                Outcome::Retry(RetryReason::Internal)
            } else if random.percent(fail) {
                self.failed += 1;
                match random.below(3) {
                    0 => Outcome::Retry(RetryReason::Internal),
                    1 => Outcome::Retry(RetryReason::Throttled),
                    // The time that is asked for one record is that of no other.
                    _ => Outcome::Later { reason: "busy".to_owned(), after_us: Some(3_600_000_000) },
                }
            } else if self.shards[shard].takes(now_us) {
                self.take(&record.device, &record.data)?;
                Outcome::Accepted { shard: Some(shard.to_string()) }
            } else {
                self.throttled += 1;
                Outcome::Retry(RetryReason::Throttled)
            });
        }
        Ok(Reply { scope: Scope::Records, outcomes, passed_over: 0 })
    }

    pub fn take(&mut self, device: &str, data: &[u8]) -> Result<(), String> {
        for sequence in sequences(data) {
            let count = self.arrived.entry(sequence).or_default();
            *count += 1;
            if *count > 1 {
                self.repeats += 1;
                if !self.excused.contains(&sequence) {
                    return Err(format!("line {sequence} of {device} arrived twice without a reason"));
                }
                continue;
            }
            let last = self.last_of_device.entry(device.to_owned()).or_default();
            if sequence < *last {
                return Err(format!("line {sequence} of {device} arrived out of order, after {last}"));
            }
            *last = sequence.max(*last);
        }
        Ok(())
    }
}
