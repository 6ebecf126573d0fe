//! A steady load against shards with Kinesis' limits, in virtual time: how fast a backlog is gone after a time in which everything was
//! throttled, and how well a limit is used.

use std::collections::BTreeMap;

use super::super::*;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// The service holds back one second of what it allows.
const RECORDS_A_SECOND: f64 = 1_000.0;
const BYTES_A_SECOND: f64 = 1_000_000.0;
const LATENCY_US: u64 = 25 * MS;
const COMMIT_US: u64 = 40 * MS;

struct Shard {
    records: f64,
    bytes: f64,
    filled_us: u64,
}

impl Shard {
    fn takes(&mut self, bytes: usize, now_us: u64) -> bool {
        let seconds = (now_us - self.filled_us) as f64 / 1e6;
        self.filled_us = now_us;
        self.records = (self.records + seconds * RECORDS_A_SECOND).min(RECORDS_A_SECOND);
        self.bytes = (self.bytes + seconds * BYTES_A_SECOND).min(BYTES_A_SECOND);
        let takes = self.records >= 1.0 && self.bytes >= bytes as f64;
        if takes {
            (self.records, self.bytes) = (self.records - 1.0, self.bytes - bytes as f64);
        }
        takes
    }
}

#[derive(Clone, Debug)]
struct Load {
    shards: usize,
    grouping: Grouping,
    readings_a_second: u64,
    line_bytes: usize,
    /// Everything is refused in this time.
    dark_us: std::ops::Range<u64>,
    devices: u64,
    /// All records of the first device fail in this time.
    sick_us: std::ops::Range<u64>,
    patience: Patience,
}

impl Load {
    fn new(shards: usize, grouping: Grouping, readings_a_second: u64) -> Load {
        let dark_us = 10 * SECOND..35 * SECOND;
        Load {
            shards,
            grouping,
            readings_a_second,
            line_bytes: 220,
            dark_us,
            devices: 200,
            sick_us: 0..0,
            patience: Patience::default(),
        }
    }
}

/// How a load went.
#[derive(Debug, Default)]
struct Course {
    now_us: u64,
    offered: u64,
    accepted: u64,
    records_accepted: u64,
    records_refused: u64,
    /// Longest time between two attempts at a shard in the dark.
    longest_silence_us: u64,
}

struct Bench {
    load: Load,
    delivery: Delivery,
    shards: Vec<Shard>,
    on_the_way: BTreeMap<(u64, u64), Request>,
    committed: u64,
    asked_us: Vec<u64>,
    course: Course,
    wait_until_us: u64,
}

impl Bench {
    fn new(load: Load) -> Bench {
        let settings = DeliverySettings { grouping: load.grouping, patience: load.patience, ..Default::default() };
        let shard = |_| Shard { records: RECORDS_A_SECOND, bytes: BYTES_A_SECOND, filled_us: 0 };
        Bench {
            delivery: Delivery::new(settings, &CursorState::at(0), 7),
            shards: (0..load.shards).map(shard).collect(),
            on_the_way: BTreeMap::new(),
            committed: 0,
            asked_us: vec![0; load.shards],
            course: Course::default(),
            wait_until_us: 0,
            load,
        }
    }

    fn drive(&mut self, mut event: Event) {
        let now_us = self.course.now_us;
        loop {
            let line = vec![b'x'; self.load.line_bytes - 1];
            let mut turn = 2_000;
            while turn > 0 && self.course.offered < self.committed && self.delivery.wants_more() {
                self.course.offered += 1;
                turn -= 1;
                let device = format!("d{}", self.course.offered % self.load.devices);
                self.delivery.offer(self.course.offered, &device, now_us, |out| {
                    out.extend_from_slice(&line);
                    out.push(b'\n');
                });
            }
            self.read_aside(&line);
            let actions = self.delivery.step(event, now_us);
            for request in actions.send {
                self.on_the_way.insert((now_us + LATENCY_US, request.id.0), request);
            }
            self.wait_until_us = actions.wait_until_us.unwrap_or(u64::MAX);
            let is_reading = self.course.offered < self.committed && self.delivery.wants_more();
            if !is_reading && self.delivery.aside_wants().is_none() {
                return;
            }
            event = Event::Tick { behind: is_reading };
        }
    }

    fn read_aside(&mut self, line: &[u8]) {
        let Some(after) = self.delivery.aside_wants() else { return };
        let (now_us, mut through) = (self.course.now_us, after);
        while through < after + 500 && through < self.course.offered && self.delivery.has_room_aside() {
            through += 1;
            let device = format!("d{}", through % self.load.devices);
            self.delivery.offer_aside(through, &device, now_us, |out| {
                out.extend_from_slice(line);
                out.push(b'\n');
            });
        }
        self.delivery.aside_was_read(after, through, now_us);
    }

    fn answer(&mut self, request: Request) {
        let now_us = self.course.now_us;
        let is_dark = self.load.dark_us.contains(&now_us);
        let mut outcomes = Vec::new();
        for record in &request.records {
            let at = record.device[1..].parse::<usize>().expect("a number") % self.shards.len();
            if is_dark && self.asked_us[at] >= self.load.dark_us.start {
                let silence_us = now_us - self.asked_us[at];
                self.course.longest_silence_us = self.course.longest_silence_us.max(silence_us);
            }
            self.asked_us[at] = now_us;
            if &*record.device == "d0" && self.load.sick_us.contains(&now_us) {
                outcomes.push(Outcome::Retry(RetryReason::Internal));
                continue;
            }
            outcomes.push(if !is_dark && self.shards[at].takes(record.data.len(), now_us) {
                self.course.accepted += record.data.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.course.records_accepted += 1;
                Outcome::Accepted { shard: Some(at.to_string()) }
            } else {
                self.course.records_refused += 1;
                Outcome::Retry(RetryReason::Throttled)
            });
        }
        self.drive(Event::Replied { id: request.id, reply: Reply { scope: Scope::Records, outcomes, passed_over: 0 } });
    }

    /// Goes on until that time, or until nothing waits after `since_us`.
    fn run(&mut self, until_us: u64, drained_since_us: u64) {
        while self.course.now_us < until_us {
            let now_us = self.course.now_us;
            if now_us >= drained_since_us && self.committed - self.course.accepted <= self.load.readings_a_second / 4 {
                return;
            }
            let reply_us = self.on_the_way.first_key_value().map_or(u64::MAX, |((at_us, _), _)| *at_us);
            let commit_us = (now_us / COMMIT_US + 1) * COMMIT_US;
            let next_us = reply_us.min(commit_us).min(self.wait_until_us.max(now_us + 1));
            self.course.now_us = next_us;
            if next_us == commit_us {
                self.committed = self.load.readings_a_second * next_us / SECOND;
            }
            match reply_us == next_us {
                true => {
                    let (_, request) = self.on_the_way.pop_first().expect("just seen");
                    self.answer(request);
                }
                false => self.drive(Event::Tick { behind: self.course.offered < self.committed }),
            }
        }
    }
}

/// What the shards take together, in readings a second.
fn capacity(load: &Load) -> f64 {
    let of_one = match load.grouping {
        Grouping::Single => RECORDS_A_SECOND.min(BYTES_A_SECOND / load.line_bytes as f64),
        Grouping::Lines => BYTES_A_SECOND / load.line_bytes as f64,
    };
    of_one * load.shards as f64
}

/// How long the backlog of the dark lasts after it, as a multiple of what it would take at full speed.
fn catches_up_within(load: &Load) -> (f64, Course) {
    let mut bench = Bench::new(load.clone());
    bench.run(load.dark_us.end, u64::MAX);
    let (dark_s, rate) = ((load.dark_us.end - load.dark_us.start) as f64 / 1e6, load.readings_a_second as f64);
    bench.course.records_refused = 0;
    bench.course.records_accepted = 0;
    bench.run(load.dark_us.end + 300 * SECOND, load.dark_us.end + SECOND);
    let taken_s = (bench.course.now_us - load.dark_us.end) as f64 / 1e6;
    (taken_s / (dark_s * rate / (capacity(load) - rate)), bench.course)
}

#[test]
fn a_backlog_of_throttled_readings_is_gone_soon() {
    for shards in [1, 2] {
        let loads = [
            (Grouping::Single, 500 * shards as u64),
            (Grouping::Single, 300 * shards as u64),
            (Grouping::Lines, 2_000 * shards as u64),
            (Grouping::Lines, 1_500 * shards as u64),
        ];
        for (grouping, rate) in loads {
            let load = Load::new(shards, grouping, rate);
            let (multiple, course) = catches_up_within(&load);
            assert!(multiple <= 1.2, "{shards} shards, {grouping:?}, {rate}: {multiple}, {course:?}");
            assert!(course.longest_silence_us <= 2 * SECOND, "{course:?}");
            let refused = course.records_refused as f64 / (course.records_refused + course.records_accepted) as f64;
            assert!(refused < 0.4, "{refused} of all records were refused while it caught up: {course:?}");
        }
    }
}

/// The control: a shard that is asked every half minute is found out too late.
#[test]
fn a_shard_that_is_asked_too_seldom_leaves_a_backlog() {
    for shards in [1, 2] {
        let patience = Patience { throttled_pause_us: 60 * SECOND, ..Patience::default() };
        let load = Load { patience, ..Load::new(shards, Grouping::Lines, 2_000) };
        let (multiple, course) = catches_up_within(&load);
        assert!(multiple > 1.2, "{multiple}: {course:?}");
    }
}

#[test]
fn a_limit_is_used_up_without_a_storm() {
    for (shards, grouping) in [(1, Grouping::Single), (2, Grouping::Single), (1, Grouping::Lines), (2, Grouping::Lines)]
    {
        let mut load = Load::new(shards, grouping, 0);
        // Twice what fits.
        load.readings_a_second = 2 * capacity(&load) as u64;
        load.dark_us = 0..0;
        let mut bench = Bench::new(load.clone());
        bench.run(10 * SECOND, u64::MAX);
        let before = bench.course.accepted;
        (bench.course.records_accepted, bench.course.records_refused) = (0, 0);
        bench.run(40 * SECOND, u64::MAX);
        let used = (bench.course.accepted - before) as f64 / (30.0 * capacity(&load));
        let refused = bench.course.records_refused as f64 / bench.course.records_accepted as f64;
        assert!(used >= 0.95, "{shards} shards, {grouping:?}: {used}");
        assert!(refused <= 0.4, "{shards} shards, {grouping:?}: {refused}");
    }
}

/// One of ten devices is sick from the start, at 4,000 readings a second.
fn sick_load() -> Load {
    let load = Load::new(4, Grouping::Lines, 4_000);
    Load { dark_us: 0..0, devices: 10, sick_us: 0..300 * SECOND, ..load }
}

#[test]
fn one_device_whose_records_fail_stops_no_other() {
    let mut bench = Bench::new(sick_load());
    bench.run(300 * SECOND, u64::MAX);
    let (of_others, accepted) = (bench.committed / 10 * 9, bench.course.accepted);
    assert!(of_others - accepted < 4_000, "{of_others} of the others, {accepted} are accepted");
    let status = bench.delivery.status();
    assert_eq!((status.keys_aside, status.keys_aside_named), (1, vec!["d0".to_owned()]));
    assert!(status.held_bytes < 200_000 && status.records_rejected == 0, "{}", status.held_bytes);
    // Once it is well it has what it missed, 26 MB, in the time that its shard takes for that.
    bench.run(400 * SECOND, 301 * SECOND);
    let taken_s = (bench.course.now_us - 300 * SECOND) / SECOND;
    assert!(taken_s < 60, "{taken_s} s");
    bench.run(bench.course.now_us + 5 * SECOND, u64::MAX);
    assert_eq!(bench.delivery.status().keys_aside, 0);
}

/// The control: what is held for a device that is never set aside leaves no room for the others.
#[test]
fn a_device_that_is_not_set_aside_stops_all_others() {
    let patience = Patience { key_fails_us: 3_600 * SECOND, ..Patience::default() };
    let mut bench = Bench::new(Load { patience, ..sick_load() });
    bench.run(300 * SECOND, u64::MAX);
    let (of_others, accepted) = (bench.committed / 10 * 9, bench.course.accepted);
    assert!(accepted < of_others / 2, "{of_others} of the others, {accepted} are accepted");
}
