//! Parts against a cloud that fails, through crashes, and a whole day on a link with a budget.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::super::simulation::cloud::{Random, sequences};
use super::super::{Grouping, Outcome, Reply, RetryReason, Scope};
use super::*;

mod day;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
const CALM_FROM_US: u64 = 120 * SECOND;
const AGE_US_MAX: u64 = 30 * SECOND;

#[derive(Debug)]
struct Line {
    device: String,
    class: Class,
    committed_us: u64,
    text: Vec<u8>,
}

/// A promise that the driver breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    /// The next process begins with the cursor alone.
    ForgetsRanges,
    /// Lines of an earlier process that are done with are taken for the backlog's.
    ForgetsTheCursor,
    /// No line is too old.
    ForgetsAges,
    /// A request that failed counts as answered well.
    FailuresCountAsAccepted,
}

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    plan: Plan,
    has_age: bool,
    is_tight: bool,
    crashes: u32,
    sabotage: Option<Sabotage>,
}

enum Happening {
    Commit,
    Weather,
    Crash,
    Reply { life: u64, id: RequestId, arrives: bool, reply: Reply },
    Saved { life: u64, persist: Persist },
}

struct World {
    scenario: Scenario,
    settings: DeliverySettings,
    random: Random,
    now_us: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    entries: u64,
    lines: Vec<Line>,
    parts: Parts,
    /// The steady clock of a process begins with it.
    life: u64,
    life_began_us: u64,
    wait_until_us: Option<u64>,
    under_way: HashMap<RequestId, Request>,
    fail_percent: u64,
    is_down: bool,
    arrived: HashMap<u64, u32>,
    excused: HashSet<u64>,
    expired: HashSet<u64>,
    last: HashMap<(u64, u64, String), u64>,
    saved: CursorState,
    saving_until_us: u64,
    sent_while_live_waited: u64,
}

impl World {
    fn new(scenario: Scenario) -> World {
        let ample = DeliverySettings {
            record_bytes_soft: 2_000,
            request_bytes_max: 8_000,
            age_us_max: scenario.has_age.then_some(AGE_US_MAX),
            // Keys that are set aside are a matter of the simulation of the whole.
            patience: Patience { keys_aside_max: 0, ..Patience::default() },
            ..DeliverySettings::default()
        };
        let settings = match scenario.is_tight {
            false => ample,
            true => DeliverySettings {
                grouping: Grouping::Single,
                request_records_max: 5,
                requests_in_flight_max: 2,
                held_bytes_max: 12_000,
                patience: Patience { ranges_max: 40, ..ample.patience },
                ..ample
            },
        };
        let mut world = World {
            parts: Parts::new(scenario.plan, settings.clone(), &CursorState::at(0), 0, scenario.seed),
            settings,
            random: Random::new(scenario.seed),
            now_us: 0,
            queue: BTreeMap::new(),
            entries: 0,
            lines: Vec::new(),
            life: 0,
            life_began_us: 0,
            wait_until_us: None,
            under_way: HashMap::new(),
            fail_percent: 0,
            is_down: false,
            arrived: HashMap::new(),
            excused: HashSet::new(),
            expired: HashSet::new(),
            last: HashMap::new(),
            saved: CursorState::at(0),
            saving_until_us: 0,
            sent_while_live_waited: 0,
            scenario,
        };
        world.schedule(0, Happening::Commit);
        world.schedule(0, Happening::Weather);
        for _ in 0..world.scenario.crashes {
            let at_us = world.random.below(CALM_FROM_US);
            world.schedule(at_us, Happening::Crash);
        }
        world
    }

    fn schedule(&mut self, at_us: u64, happening: Happening) {
        self.entries += 1;
        self.queue.insert((at_us, self.entries), happening);
    }

    fn run(mut self) -> Result<(), String> {
        self.drive(Event::Tick { behind: false })?;
        while self.now_us < CALM_FROM_US || !self.parts.is_drained() || self.parts.is_behind(self.lines.len() as u64) {
            if self.now_us > CALM_FROM_US + 600 * SECOND {
                return Err(format!("not drained in time: {:?}", self.parts));
            }
            self.go_on()?;
        }
        self.drive(Event::Flush)?;
        while let Some((_, happening)) = self.queue.pop_first() {
            if let Happening::Saved { life, persist } = happening
                && life == self.life
            {
                self.save(persist)?;
            }
        }
        let last = self.lines.len() as u64;
        if self.saved != CursorState::at(last) {
            return Err(format!("{:?} is saved at the end, of {last} lines", self.saved));
        }
        match (1..=last).find(|sequence| !self.is_settled(*sequence)) {
            Some(sequence) => Err(format!("line {sequence} is nowhere")),
            None => Ok(()),
        }
    }

    fn is_settled(&self, sequence: u64) -> bool {
        self.arrived.contains_key(&sequence) || self.expired.contains(&sequence)
    }

    fn own_us(&self) -> u64 {
        self.now_us - self.life_began_us
    }

    fn go_on(&mut self) -> Result<(), String> {
        let outside_us = self.queue.first_key_value().map(|((at_us, _), _)| *at_us);
        let due_us = self.wait_until_us.map(|until_us| until_us + self.life_began_us);
        if let Some(due_us) = due_us
            && outside_us.is_none_or(|outside_us| due_us <= outside_us)
        {
            self.now_us = self.now_us.max(due_us);
            return self.drive(Event::Tick { behind: false });
        }
        let Some(((at_us, _), happening)) = self.queue.pop_first() else {
            if self.parts.is_drained() && !self.parts.is_behind(self.lines.len() as u64) {
                self.now_us = CALM_FROM_US;
                return Ok(());
            }
            return Err(format!("nothing will ever happen again: {:?}", self.parts));
        };
        self.now_us = at_us;
        match happening {
            Happening::Commit => self.commit(),
            Happening::Weather => self.change_weather(),
            Happening::Crash => self.crash(),
            Happening::Reply { life, id, arrives, reply } => self.reply(life, id, arrives, reply),
            Happening::Saved { life, persist } if life == self.life => self.save(persist),
            Happening::Saved { .. } => Ok(()),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        for _ in 0..1 + self.random.below(12) {
            let sequence = self.lines.len() as u64 + 1;
            let device = format!("d{}", self.random.below(4));
            let class = CLASSES[self.random.below(3) as usize];
            let text = format!("{sequence} {}\n", "x".repeat(20 + self.random.below(100) as usize)).into_bytes();
            self.lines.push(Line { device, class, committed_us: self.now_us, text });
        }
        if self.now_us < CALM_FROM_US - SECOND {
            let next_us = self.now_us + 1 + self.random.below(SECOND);
            self.schedule(next_us, Happening::Commit);
        }
        self.drive(Event::Tick { behind: false })
    }

    fn change_weather(&mut self) -> Result<(), String> {
        let is_calm = self.now_us >= CALM_FROM_US - SECOND;
        self.is_down = !is_calm && self.random.percent(40);
        self.fail_percent = if is_calm || self.random.percent(50) { 0 } else { self.random.below(60) };
        if !is_calm {
            let next_us = self.now_us + 500 * MS + self.random.below(25 * SECOND);
            self.schedule(next_us.min(CALM_FROM_US), Happening::Weather);
        }
        self.drive(Event::LinkUp)
    }

    fn crash(&mut self) -> Result<(), String> {
        let flying: Vec<Request> = std::mem::take(&mut self.under_way).into_values().collect();
        let lines = flying.iter().flat_map(|request| &request.records).flat_map(|record| sequences(&record.data));
        self.excused.extend(lines);
        let saved = Progress::new(&self.saved);
        self.excused.extend(self.arrived.keys().copied().filter(|sequence| !saved.is_done(*sequence)));
        match self.scenario.sabotage {
            Some(Sabotage::ForgetsRanges) => self.saved.acknowledged.clear(),
            Some(Sabotage::ForgetsTheCursor) => self.saved = CursorState::at(0),
            _ => {}
        }
        self.life += 1;
        self.life_began_us = self.now_us;
        self.saving_until_us = self.now_us;
        let (plan, head) = (self.scenario.plan, self.lines.len() as u64);
        self.parts = Parts::new(plan, self.settings.clone(), &self.saved, head, self.scenario.seed + self.life);
        self.drive(Event::Tick { behind: false })
    }

    fn read(&mut self) -> bool {
        let now_us = self.own_us();
        self.parts.set_head(self.lines.len() as u64);
        let mut has_read = false;
        for part in 0..self.parts.count() {
            for _ in 0..50 {
                if !self.parts.wants_more(part) || self.parts.unread(part) == 0 {
                    break;
                }
                let after = self.parts.offered_through(part);
                let line = &self.lines[after as usize];
                let age_us = match self.scenario.sabotage {
                    Some(Sabotage::ForgetsAges) => 0,
                    _ => self.now_us - line.committed_us,
                };
                let offered = Offered { sequence: after + 1, device: &line.device, class: line.class, age_us };
                self.parts.offer(part, offered, now_us, |out| out.extend_from_slice(&line.text));
                has_read = true;
            }
        }
        has_read
    }

    fn drive(&mut self, event: Event) -> Result<(), String> {
        let mut event = event;
        loop {
            let has_read = self.read();
            let now_us = self.own_us();
            let Actions { send, persist, wait_until_us } = self.parts.step(event, &mut Open, now_us);
            let has_sent = !send.is_empty();
            for request in send {
                self.send(request)?;
            }
            if let Some(persist) = persist {
                self.saving_until_us = self.saving_until_us.max(self.now_us + self.random.below(SECOND));
                self.schedule(self.saving_until_us, Happening::Saved { life: self.life, persist });
            }
            self.wait_until_us = wait_until_us;
            for part in &self.parts.parts {
                part.check();
            }
            // What was live may have been left to the backlog just now.
            let can_read = |part| self.parts.wants_more(part) && self.parts.unread(part) > 0;
            if !has_read && !has_sent && !(0..self.parts.count()).any(can_read) {
                return match wait_until_us {
                    Some(until_us) if until_us <= now_us => Err("it asks to be called again at once".to_owned()),
                    _ => Ok(()),
                };
            }
            event = Event::Tick { behind: false };
        }
    }

    fn send(&mut self, request: Request) -> Result<(), String> {
        let part = request.id.0 % self.parts.count() as u64;
        if part == 1 && self.parts.is_backlog_held(self.own_us()) {
            self.sent_while_live_waited += 1;
            return Err("what has waited goes before what comes now".to_owned());
        }
        for record in &request.records {
            for sequence in sequences(&record.data) {
                let age_us = self.now_us - self.lines[sequence as usize - 1].committed_us;
                if self.scenario.has_age && age_us > AGE_US_MAX + SECOND {
                    return Err(format!("line {sequence} is sent at an age of {age_us} us"));
                }
                let mut others = self.under_way.values().flat_map(|request| &request.records);
                if others.any(|other| sequences(&other.data).any(|other| other == sequence)) {
                    return Err(format!("line {sequence} is on its way twice"));
                }
            }
        }
        let count = request.records.len();
        let (id, life) = (request.id, self.life);
        self.under_way.insert(id, request);
        let reply_us = self.now_us + MS + self.random.below(300 * MS);
        let lost = || Reply::whole(Outcome::Retry(RetryReason::Connection), count);
        let (arrives, reply) = if self.is_down {
            (false, lost())
        } else if self.random.percent(self.fail_percent) {
            // Nobody hears whether it has arrived.
            (self.random.percent(50), lost())
        } else {
            let outcome = |fails: bool| match fails {
                true => Outcome::Retry(RetryReason::Internal),
                false => Outcome::Accepted { shard: None },
            };
            let fail_percent = self.fail_percent;
            let outcomes = (0..count).map(|_| outcome(self.random.percent(fail_percent / 2))).collect();
            (true, Reply { scope: Scope::Records, outcomes, passed_over: 0 })
        };
        self.schedule(reply_us, Happening::Reply { life, id, arrives, reply });
        Ok(())
    }

    fn reply(&mut self, life: u64, id: RequestId, arrives: bool, mut reply: Reply) -> Result<(), String> {
        if life != self.life {
            return Ok(());
        }
        let request = self.under_way.remove(&id).expect("it is under way");
        let is_heard = reply.scope == Scope::Records;
        for (record, outcome) in request.records.iter().zip(&reply.outcomes) {
            let is_taken = arrives && (!is_heard || matches!(outcome, Outcome::Accepted { .. }));
            for sequence in sequences(&record.data).filter(|_| is_taken) {
                self.arrive(id.0 % self.parts.count() as u64, &record.device, sequence)?;
                if !is_heard {
                    self.excused.insert(sequence);
                }
            }
        }
        if self.scenario.sabotage == Some(Sabotage::FailuresCountAsAccepted) {
            reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
        }
        self.drive(Event::Replied { id, reply })
    }

    fn arrive(&mut self, part: u64, device: &str, sequence: u64) -> Result<(), String> {
        let count = self.arrived.entry(sequence).or_default();
        *count += 1;
        if *count > 1 {
            return match self.excused.contains(&sequence) {
                true => Ok(()),
                false => Err(format!("line {sequence} arrived twice without a reason")),
            };
        }
        let last = self.last.entry((self.life, part, device.to_owned())).or_default();
        if sequence < *last {
            return Err(format!("line {sequence} of {device} arrived after {last}, in part {part}"));
        }
        *last = sequence;
        Ok(())
    }

    fn save(&mut self, persist: Persist) -> Result<(), String> {
        for (first, last) in persist.expired {
            for sequence in first..=last {
                let age_us = self.now_us - self.lines[sequence as usize - 1].committed_us;
                if !self.scenario.has_age || age_us + 2 * SECOND < AGE_US_MAX {
                    return Err(format!("line {sequence} expired at an age of {age_us} us"));
                }
                self.expired.insert(sequence);
            }
        }
        let state = persist.state;
        if state.cursor < self.saved.cursor {
            return Err(format!("the cursor went from {:?} to {state:?}", self.saved));
        }
        let ranges = state.acknowledged.iter().copied().chain([(self.saved.cursor + 1, state.cursor)]);
        for sequence in ranges.flat_map(|(first, last)| first..=last) {
            if !self.is_settled(sequence) {
                return Err(format!("line {sequence} is done with, and is nowhere"));
            }
        }
        self.saved = state;
        Ok(())
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    prop_oneof![Just(Plan::LiveFirst), Just(Plan::ByClass), Just(Plan::Whole { class: Class::Live })]
}

proptest! {
    #[test]
    fn every_promise_is_kept_in_parts(
        seed in any::<u64>(), plan in plan(), [has_age, is_tight] in any::<[bool; 2]>(), crashes in 0..4_u32,
    ) {
        let scenario = Scenario { seed, plan, has_age, is_tight, crashes, sabotage: None };
        if let Err(broken) = World::new(scenario).run() {
            return Err(TestCaseError::fail(broken));
        }
    }
}

/// The control.
#[test]
fn broken_promises_are_noticed_in_parts() {
    for (sabotage, symptom) in [
        (Sabotage::ForgetsRanges, "twice without a reason"),
        (Sabotage::ForgetsTheCursor, "twice without a reason"),
        (Sabotage::ForgetsAges, "is sent at an age of"),
        (Sabotage::FailuresCountAsAccepted, "is done with, and is nowhere"),
    ] {
        let scenario = |seed| Scenario {
            seed,
            plan: if seed % 2 == 0 { Plan::LiveFirst } else { Plan::ByClass },
            has_age: sabotage == Sabotage::ForgetsAges,
            is_tight: false,
            crashes: 2,
            sabotage: Some(sabotage),
        };
        let found: Vec<String> = (1..=10).filter_map(|seed| World::new(scenario(seed)).run().err()).collect();
        assert!(found.iter().any(|text| text.contains(symptom)), "{sabotage:?}: {found:?}");
    }
}

/// Delivers at once.
fn deliver(parts: &mut Parts, requests: Vec<Request>, now_us: u64) -> Vec<u64> {
    let mut delivered = Vec::new();
    let mut requests = VecDeque::from(requests);
    while let Some(request) = requests.pop_front() {
        delivered.extend(request.records.iter().flat_map(|record| sequences(&record.data).collect::<Vec<u64>>()));
        let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
        requests.extend(parts.step(Event::Replied { id: request.id, reply }, &mut Open, now_us).send);
    }
    delivered
}

fn offer(parts: &mut Parts, part: usize, through: u64, now_us: u64) {
    parts.set_head(through);
    while parts.unread(part) > 0 && parts.wants_more(part) {
        let sequence = parts.offered_through(part) + 1;
        let line = Offered { sequence, device: "d", class: Class::Live, age_us: 0 };
        parts.offer(part, line, now_us, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
    }
}

#[test]
fn what_comes_now_goes_before_what_has_waited() {
    let settings = DeliverySettings { linger_us: 0, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(10), 100, 1);
    assert_eq!((parts.unread(0), parts.unread(1)), (0, 90));
    offer(&mut parts, 1, 103, 0);
    offer(&mut parts, 0, 103, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    let first: Vec<u64> = sequences(&send[0].records[0].data).collect();
    assert_eq!(first, [101, 102, 103]);
    let delivered = deliver(&mut parts, send, 0);
    assert_eq!(delivered.len(), 93);
    assert_eq!(parts.save(1).expect("changed").state, CursorState::at(103));
}

#[test]
fn what_waits_for_too_long_is_left_to_the_backlog() {
    let settings = DeliverySettings { linger_us: 0, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(0), 0, 1);
    offer(&mut parts, 0, 5, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    let down = |request: &Request| Reply::whole(Outcome::Retry(RetryReason::Connection), request.records.len());
    parts.step(Event::Replied { id: send[0].id, reply: down(&send[0]) }, &mut Open, 1);
    assert_eq!(parts.unread(1), 0);
    let mut now_us = 11 * SECOND;
    let mut send = parts.step(Event::Tick { behind: false }, &mut Open, now_us).send;
    assert!(send.is_empty() && parts.unread(1) == 5, "{send:?}");
    // Ten seconds later something new comes: it goes first.
    now_us += 10 * SECOND;
    offer(&mut parts, 0, 7, now_us);
    offer(&mut parts, 1, 7, now_us);
    send = parts.step(Event::LinkUp, &mut Open, now_us).send;
    assert_eq!(deliver(&mut parts, send, now_us), [6, 7, 1, 2, 3, 4, 5]);
}

#[test]
fn what_has_waited_is_sent_while_the_last_reply_is_waited_for() {
    let settings = DeliverySettings {
        grouping: Grouping::Single,
        linger_us: 0,
        request_records_max: 1,
        requests_in_flight_max: 1,
        ..DeliverySettings::default()
    };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(10), 100, 1);
    parts.set_head(105);
    for (sequence, device) in (101..=105).zip(["a", "b", "c", "d", "e"]) {
        let line = Offered { sequence, device, class: Class::Live, age_us: 0 };
        parts.offer(0, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
    }
    let live = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    assert_eq!(live.len(), 1, "its answer does not come");
    offer(&mut parts, 1, 105, 0);
    assert!(parts.step(Event::Tick { behind: false }, &mut Open, SECOND).send.is_empty(), "there is more that is live");
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 12 * SECOND).send;
    let sent: Vec<u64> = send.iter().flat_map(|one| sequences(&one.records[0].data).collect::<Vec<u64>>()).collect();
    assert_eq!(sent, [11]);
    // When it comes, what is left of what was live is the backlog's.
    let reply = Reply::whole(Outcome::Accepted { shard: None }, 1);
    parts.step(Event::Replied { id: live[0].id, reply }, &mut Open, 13 * SECOND);
    offer(&mut parts, 1, 105, 13 * SECOND);
    assert_eq!(
        deliver(&mut parts, send, 13 * SECOND),
        [11..=100, 102..=105].into_iter().flatten().collect::<Vec<u64>>()
    );
}

#[test]
fn a_shard_that_takes_nothing_does_not_hold_up_what_has_waited() {
    let patience = Patience { throttled_pause_us: 60 * SECOND, ..Patience::default() };
    let settings =
        DeliverySettings { grouping: Grouping::Single, linger_us: 0, patience, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(0), 0, 1);
    offer(&mut parts, 0, 100, 0);
    let mut is_first = true;
    for now_us in (0..5_000).map(|at| at * MS) {
        let mut requests = VecDeque::from(parts.step(Event::Tick { behind: false }, &mut Open, now_us).send);
        while let Some(request) = requests.pop_front() {
            let shard = Some("s".to_owned());
            let outcome = if is_first { Outcome::Accepted { shard } } else { Outcome::Retry(RetryReason::Throttled) };
            is_first = false;
            let outcomes = vec![outcome; request.records.len()];
            let reply = Reply { scope: Scope::Records, outcomes, passed_over: 0 };
            requests.extend(parts.step(Event::Replied { id: request.id, reply }, &mut Open, now_us).send);
        }
    }
    parts.split = 200;
    parts.head = 200;
    parts.parts[1].skip_through(100, 5_000 * MS);
    offer(&mut parts, 1, 200, 5_000 * MS);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 5_000 * MS).send;
    assert!(send.iter().any(|request| request.id.0 % 2 == 1), "{send:?}");
}

/// Half more comes than can be sent, and more than is held waits in the store: what is sent as live is live all the same.
#[test]
fn what_is_live_is_not_old_though_more_comes_than_can_be_sent() {
    const EACH_US: u64 = 100 * MS;
    let settings = DeliverySettings {
        grouping: Grouping::Single,
        linger_us: 0,
        request_records_max: 10,
        requests_in_flight_max: 1,
        // Of each part, for some five seconds.
        held_bytes_max: 2 * 50 * 290,
        ..DeliverySettings::default()
    };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(0), 0, 1);
    let (mut committed_us, mut free_us) = (Vec::new(), 0);
    let mut on_the_way: VecDeque<(u64, u64, Vec<u64>)> = VecDeque::new();
    let (mut oldest_us, mut live) = (0, 0);
    for now_us in (0..300).flat_map(|second| (0..20).map(move |at| second * SECOND + at * 50 * MS)) {
        let come = (now_us / 1_000 * 15 / 1_000) as usize;
        committed_us.resize(come, now_us);
        let mut event = Event::Tick { behind: false };
        if let Some((_, id, lines)) = on_the_way.pop_front_if(|(at_us, ..)| *at_us <= now_us) {
            if id % 2 == 0 {
                live += lines.len();
                let ages_us = lines.iter().map(|sequence| now_us - committed_us[*sequence as usize - 1]);
                oldest_us = oldest_us.max(ages_us.max().unwrap_or(0));
            }
            let reply = Reply::whole(Outcome::Accepted { shard: None }, lines.len());
            event = Event::Replied { id: RequestId(id), reply };
        }
        for part in [0, 1] {
            offer(&mut parts, part, come as u64, now_us);
        }
        for request in parts.step(event, &mut Open, now_us).send {
            let lines: Vec<u64> =
                request.records.iter().flat_map(|one| sequences(&one.data).collect::<Vec<u64>>()).collect();
            free_us = now_us.max(free_us) + EACH_US * lines.len() as u64;
            on_the_way.push_back((free_us, request.id.0, lines));
        }
    }
    assert!(live > 1_500, "{live}");
    assert!(oldest_us < 20 * SECOND, "{oldest_us}");
}

/// Lets alerts go.
struct AlertsOnly;
impl Gate for AlertsOnly {
    fn ask(&mut self, class: Class, now_us: u64) -> Permit {
        match class {
            Class::Alerts => Permit::Go { bytes_max: usize::MAX },
            _ => Permit::Wait { waiting: Waiting::Day, at_us: now_us + SECOND },
        }
    }
    fn sent(&mut self, _: Class, _: &Request, _: u64) {}
    fn unused(&mut self, _: Class) {}
    fn answered(&mut self, _: RequestId, _: u64) {}
    fn wants_nothing(&mut self, _: Class) {}
}

/// Many ranges are done with, as after a start.
fn with_gaps(count: u64) -> CursorState {
    CursorState { cursor: 0, acknowledged: (1..=count).map(|at| (2 * at, 2 * at)).collect() }
}

fn with_ranges(ranges_max: usize) -> DeliverySettings {
    let patience = Patience { ranges_max, ..Patience::default() };
    DeliverySettings { linger_us: 0, patience, ..DeliverySettings::default() }
}

#[test]
fn gaps_are_filled_together_however_many_there_are() {
    for plan in [Plan::LiveFirst, Plan::ByClass] {
        let mut parts = Parts::new(plan, with_ranges(50), &with_gaps(30), 60, 1);
        let last = parts.count() - 1;
        for part in 0..=last {
            while parts.unread(part) > 0 && parts.wants_more(part) {
                let sequence = parts.offered_through(part) + 1;
                let line = Offered { sequence, device: "d", class: Class::Anomalies, age_us: 0 };
                parts.offer(part, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
            }
        }
        assert_eq!(parts.unread(last), 0, "{plan:?}");
        let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
        assert_eq!(send.len(), 1, "{plan:?}: they share a request");
    }
}

#[test]
fn what_is_live_is_left_to_the_backlog_where_there_can_be_no_more_ranges() {
    let mut parts = Parts::new(Plan::LiveFirst, with_ranges(30), &with_gaps(30), 60, 1);
    offer(&mut parts, 0, 65, 0);
    assert_eq!(parts.unread(0), 5, "it would be one more range");
    parts.step(Event::Tick { behind: false }, &mut Open, 0);
    offer(&mut parts, 1, 65, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    assert_eq!(deliver(&mut parts, send, 0).len(), 30, "so much is held");
    offer(&mut parts, 1, 65, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    assert_eq!(deliver(&mut parts, send, 0), [61, 62, 63, 64, 65]);
    assert_eq!(parts.save(1).expect("changed").state, CursorState::at(65));
}

/// As long as anomalies wait, each alert between them is one more range.
#[test]
fn the_number_of_ranges_has_a_bound_that_is_told() {
    let mut parts = Parts::new(Plan::ByClass, with_ranges(20), &CursorState::at(0), 0, 1);
    parts.set_head(200);
    let read = |parts: &mut Parts| {
        for part in 0..3 {
            while parts.unread(part) > 0 && parts.wants_more(part) {
                let sequence = parts.offered_through(part) + 1;
                let class = if sequence.is_multiple_of(2) { Class::Alerts } else { Class::Anomalies };
                let line = Offered { sequence, device: "d", class, age_us: 0 };
                parts.offer(part, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
            }
        }
    };
    for _ in 0..200 {
        read(&mut parts);
        for request in parts.step(Event::Tick { behind: false }, &mut AlertsOnly, 0).send {
            let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
            parts.step(Event::Replied { id: request.id, reply }, &mut AlertsOnly, 0);
        }
    }
    let saved = parts.save(1).expect("changed").state;
    assert_eq!((saved.cursor, saved.acknowledged.len()), (0, 20), "{saved:?}");
    assert_eq!(parts.status().waiting, Some(Waiting::Between));
    for _ in 0..20 {
        read(&mut parts);
        let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
        deliver(&mut parts, send, 0);
    }
    assert_eq!(parts.save(1).expect("changed").state, CursorState::at(200));
    assert_eq!(parts.status().waiting, None);
}

#[test]
fn alerts_do_not_wait_for_anomalies() {
    let settings = DeliverySettings { linger_us: 0, held_bytes_max: 3_000, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::ByClass, settings.clone(), &CursorState::at(0), 0, 1);
    parts.set_head(100);
    let read = |parts: &mut Parts| {
        for part in 0..3 {
            while parts.unread(part) > 0 && parts.wants_more(part) {
                let sequence = parts.offered_through(part) + 1;
                let class = if sequence.is_multiple_of(10) { Class::Alerts } else { Class::Anomalies };
                let device = format!("d{sequence}");
                let line = Offered { sequence, device: &device, class, age_us: 0 };
                parts.offer(part, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
            }
        }
    };
    let mut alerts = Vec::new();
    for _ in 0..20 {
        read(&mut parts);
        for request in parts.step(Event::Tick { behind: false }, &mut AlertsOnly, 0).send {
            alerts.extend(request.records.iter().flat_map(|record| sequences(&record.data)));
            let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
            parts.step(Event::Replied { id: request.id, reply }, &mut AlertsOnly, 0);
        }
    }
    assert_eq!(alerts, (1..=10).map(|at| at * 10).collect::<Vec<u64>>());
    assert!(parts.is_stuck(), "anomalies wait, and alerts are sent");
    parts.set_head(110);
    read(&mut parts);
    let request = parts.step(Event::Tick { behind: false }, &mut AlertsOnly, 0).send.remove(0);
    assert!(!parts.is_stuck(), "an alert is on its way");
    let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
    parts.step(Event::Replied { id: request.id, reply }, &mut AlertsOnly, 0);
    assert!(parts.is_stuck());
    assert_eq!(parts.status().waiting, Some(Waiting::Day));
    assert_eq!(parts.status().failing, None, "no fault");
    let saved = parts.save(1).expect("changed").state;
    assert_eq!((saved.cursor, saved.acknowledged.len()), (0, 11), "{saved:?}");
    // The next process sends the others, and no alert again.
    let mut next = Parts::new(Plan::ByClass, settings, &saved, 110, 2);
    let mut others = 0;
    for _ in 0..100 {
        read(&mut next);
        let send = next.step(Event::Tick { behind: false }, &mut Open, 0).send;
        others += deliver(&mut next, send, 0).into_iter().inspect(|at| assert!(at % 10 != 0, "{at} again")).count();
    }
    assert_eq!(others, 99);
}
