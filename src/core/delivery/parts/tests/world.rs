//! A driver and a cloud that fail, in virtual time, and what has to hold all the same.

use super::*;

#[derive(Debug)]
struct Line {
    device: String,
    class: Class,
    committed_us: u64,
    text: Vec<u8>,
}

/// A promise that the driver breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
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
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) plan: Plan,
    pub(super) has_age: bool,
    pub(super) is_tight: bool,
    pub(super) crashes: u32,
    pub(super) sabotage: Option<Sabotage>,
}

enum Happening {
    Commit,
    Weather,
    Crash,
    Reply { life: u64, id: RequestId, arrives: bool, reply: Reply },
    Saved { life: u64, persist: Persist },
}

pub(super) struct World {
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
    pub(super) fn new(scenario: Scenario) -> World {
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

    pub(super) fn run(mut self) -> Result<(), String> {
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
