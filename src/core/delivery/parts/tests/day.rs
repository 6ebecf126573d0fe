//! A day on a link with a budget of 20 MB, with 300 MB that have waited: two streams that share the link, in virtual time.
//!
//! The link takes 8 kB a second, one thing after the other. In the afternoon so much comes that the budget is spent before the day is over. In
//! the evening, the gateway is in reach of a network that costs nothing.

use super::*;
use crate::link::{Budget, Classes, LinkSettings, Metered, Now};

const BEGAN_MS: i64 = 1_795_478_400_000 / 86_400_000 * 86_400_000;
const HOUR_US: u64 = 3_600 * SECOND;
const DAY_US: u64 = 24 * HOUR_US;
const FREE_FROM_US: u64 = DAY_US - HOUR_US;
const BUDGET: u64 = 20_000_000;
const BACKLOG_LINES: u64 = 60_000;
const BACKLOG_LINE_BYTES: usize = 5_000;
/// Bytes a second.
const RATE: u64 = 8_000;
const COMMITS_EACH_US: u64 = 20 * SECOND;
/// When much comes.
const BURST_US: std::ops::Range<u64> = 15 * HOUR_US..17 * HOUR_US;
/// Each request has so many bytes that are no record's: headers, the answer.
const OVERHEAD: u64 = 700;
const RAW: usize = 0;
const RESERVE: usize = 1;

/// What is left out, so that the checks can be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Without {
    #[default]
    Nothing,
    /// Alerts may spend no more than others.
    AlertReserve,
    LiveFirst,
    Rate,
    Budget,
    /// Alerts wait for what else is in their stream.
    Classes,
}

struct LinkGate<'a> {
    budget: &'a mut Budget,
    under_way: &'a mut HashMap<(usize, RequestId), (Class, u64)>,
    stream: usize,
    is_open: bool,
}

fn at(now_us: u64) -> Now {
    Now { wall_ms: Some(BEGAN_MS + (now_us / 1_000) as i64), steady_us: now_us, passed_us: now_us }
}

fn bytes_of(request: &Request) -> u64 {
    request.records.iter().map(|record| record.data.len() as u64).sum::<u64>() + OVERHEAD
}

impl Gate for LinkGate<'_> {
    fn ask(&mut self, class: Class, first_bytes: usize, now_us: u64) -> Permit {
        match self.is_open {
            true => Permit::Go { bytes_max: usize::MAX },
            false => self.budget.ask(class, first_bytes, at(now_us)),
        }
    }

    fn sent(&mut self, class: Class, request: &Request, now_us: u64) {
        let bytes = bytes_of(request);
        self.budget.sent(class, bytes, at(now_us));
        self.under_way.insert((self.stream, request.id), (class, bytes));
    }

    fn unused(&mut self, _: Class) {}

    fn answered(&mut self, id: RequestId, now_us: u64) {
        let (class, bytes) = self.under_way.remove(&(self.stream, id)).expect("it was sent");
        self.budget.done(class, bytes, bytes, at(now_us));
    }

    fn wants_nothing(&mut self, class: Class) {
        self.budget.wants_nothing(class);
    }
}

#[derive(Debug, Default)]
struct Figures {
    alerts_p99_us: u64,
    live_p99_us: u64,
    spent: u64,
    largest_request: u64,
    /// Of the backlog, before the link cost nothing.
    backlog_on_budget: u64,
    delivered: u64,
    committed: u64,
}

struct DayLine {
    class: Class,
    bytes: usize,
    committed_us: u64,
}

struct Stream {
    parts: Parts,
    lines: Vec<DayLine>,
    wait_until_us: u64,
}

struct Day {
    streams: [Stream; 2],
    budget: Budget,
    under_way: HashMap<(usize, RequestId), (Class, u64)>,
    /// What is on the link, by when it arrives.
    link: BTreeMap<(u64, u64), (usize, Request)>,
    link_free_us: u64,
    sent: u64,
    without: Without,
    figures: Figures,
    alerts_us: Vec<u64>,
    live_us: Vec<u64>,
}

fn day(without: Without) -> Figures {
    let link = LinkSettings {
        bytes_per_day: Some(BUDGET),
        rate: (without != Without::Rate).then_some(RATE),
        alert_reserve_percent: if without == Without::AlertReserve { 0 } else { 10 },
        carries: Classes::ALL,
        ..LinkSettings::default()
    };
    let settings = DeliverySettings {
        record_bytes_soft: RATE as usize,
        request_bytes_max: 256 << 10,
        linger_us: 200 * MS,
        ..DeliverySettings::default()
    };
    let raw = if without == Without::LiveFirst { Plan::Whole { class: Class::Live } } else { Plan::LiveFirst };
    let reserve = if without == Without::Classes { Plan::Whole { class: Class::Anomalies } } else { Plan::ByClass };
    let urgent = DeliverySettings { linger_us: 2 * MS, ..settings.clone() };
    let waited = || DayLine { class: Class::Backlog, bytes: BACKLOG_LINE_BYTES, committed_us: 0 };
    let backlog = (0..BACKLOG_LINES).map(|_| waited()).collect();
    let stream = |parts, lines| Stream { parts, lines, wait_until_us: 0 };
    let mut day = Day {
        streams: [
            stream(Parts::new(raw, settings, &CursorState::at(0), BACKLOG_LINES, 1), backlog),
            stream(Parts::new(reserve, urgent, &CursorState::at(0), 0, 2), Vec::new()),
        ],
        budget: Budget::new(link, None),
        under_way: HashMap::new(),
        link: BTreeMap::new(),
        link_free_us: 0,
        sent: 0,
        without,
        figures: Figures::default(),
        alerts_us: Vec::new(),
        live_us: Vec::new(),
    };
    day.run();
    day.figures
}

fn p99(latencies: &mut [u64]) -> u64 {
    latencies.sort_unstable();
    latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(u64::MAX)
}

impl Day {
    fn run(&mut self) {
        let (mut now_us, mut commits_us) = (0, 0);
        let mut is_free = false;
        loop {
            if commits_us <= now_us && now_us < DAY_US {
                self.commit(now_us);
                commits_us = now_us + COMMITS_EACH_US;
            }
            if !is_free && now_us >= FREE_FROM_US {
                is_free = true;
                self.figures.spent = self.budget.status(at(now_us)).bytes_today;
                self.figures.backlog_on_budget = self.backlog_delivered();
                self.budget.set_metered(Metered::No);
            }
            self.arrive(now_us);
            for stream in 0..self.streams.len() {
                self.turn(stream, Event::Tick { behind: false }, now_us);
            }
            let is_drained = self
                .streams
                .iter()
                .all(|stream| stream.parts.is_drained() && !stream.parts.is_behind(stream.lines.len() as u64));
            if now_us >= DAY_US && is_drained || now_us > 3 * DAY_US {
                break;
            }
            let arrives_us = self.link.first_key_value().map_or(u64::MAX, |((at_us, _), _)| *at_us);
            let turns_us = self.streams.iter().map(|stream| stream.wait_until_us).min().unwrap_or(u64::MAX);
            let commits_us = if now_us < DAY_US { commits_us } else { u64::MAX };
            let free_us = if is_free { u64::MAX } else { FREE_FROM_US };
            now_us = arrives_us.min(turns_us).min(commits_us).min(free_us).max(now_us + 1);
        }
        self.figures.committed = self.streams.iter().map(|stream| stream.lines.len() as u64).sum();
        (self.figures.alerts_p99_us, self.figures.live_p99_us) = (p99(&mut self.alerts_us), p99(&mut self.live_us));
    }

    fn backlog_delivered(&mut self) -> u64 {
        let parts = &self.streams[RAW].parts;
        let state = match parts.count() {
            1 => parts.parts[0].state(),
            _ => parts.done.state(),
        };
        state.done_within(1, BACKLOG_LINES)
    }

    /// Readings, and each minute an anomaly and an alert.
    fn commit(&mut self, now_us: u64) {
        let line = |class, bytes| DayLine { class, bytes, committed_us: now_us };
        let readings = if BURST_US.contains(&now_us) { 200 } else { 4 };
        self.streams[RAW].lines.extend((0..readings).map(|_| line(Class::Live, 200)));
        if (now_us / COMMITS_EACH_US).is_multiple_of(3) {
            self.streams[RESERVE].lines.extend([line(Class::Anomalies, 500), line(Class::Alerts, 500)]);
        }
    }

    fn turn(&mut self, number: usize, event: Event, now_us: u64) {
        let mut event = event;
        loop {
            let Stream { parts, lines, .. } = &mut self.streams[number];
            parts.set_head(lines.len() as u64);
            let mut has_read = false;
            for part in 0..parts.count() {
                while parts.wants_more(part) && parts.unread(part) > 0 {
                    let after = parts.offered_through(part);
                    let DayLine { class, bytes, .. } = lines[after as usize];
                    let device = format!("d{}", after % 10);
                    let line = Offered { sequence: after + 1, device: &device, class, age_us: 0 };
                    parts.offer(part, line, now_us, |out| {
                        out.extend_from_slice(format!("{} ", after + 1).as_bytes());
                        out.resize(out.len() + bytes, b'x');
                        out.push(b'\n');
                    });
                    has_read = true;
                }
            }
            let (budget, under_way) = (&mut self.budget, &mut self.under_way);
            let mut gate = LinkGate { budget, under_way, stream: number, is_open: self.without == Without::Budget };
            let actions = parts.step(event, &mut gate, now_us);
            self.streams[number].wait_until_us = actions.wait_until_us.unwrap_or(u64::MAX);
            let has_sent = !actions.send.is_empty();
            for request in actions.send {
                self.send(number, request, now_us);
            }
            let parts = &self.streams[number].parts;
            let can_read = |part| parts.wants_more(part) && parts.unread(part) > 0;
            if !has_read && !has_sent && !(0..parts.count()).any(can_read) {
                return;
            }
            event = Event::Tick { behind: false };
        }
    }

    fn send(&mut self, number: usize, request: Request, now_us: u64) {
        let bytes = bytes_of(&request);
        if now_us < FREE_FROM_US {
            self.figures.largest_request = self.figures.largest_request.max(bytes);
        }
        // What costs nothing is faster.
        let rate = if now_us < FREE_FROM_US { RATE } else { 100 * RATE };
        self.link_free_us = self.link_free_us.max(now_us) + bytes * SECOND / rate;
        self.sent += 1;
        self.link.insert((self.link_free_us + 50 * MS, self.sent), (number, request));
    }

    fn arrive(&mut self, now_us: u64) {
        while let Some(entry) = self.link.first_entry().filter(|entry| entry.key().0 <= now_us) {
            let (number, request) = entry.remove();
            for sequence in request.records.iter().flat_map(|record| sequences(&record.data)) {
                let line = &self.streams[number].lines[sequence as usize - 1];
                let latency_us = now_us - line.committed_us;
                match line.class {
                    Class::Alerts => self.alerts_us.push(latency_us),
                    // Once the budget is spent, readings wait for the evening: only those that were sent before count.
                    Class::Live if now_us < FREE_FROM_US => self.live_us.push(latency_us),
                    _ => {}
                }
                self.figures.delivered += 1;
            }
            let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
            self.turn(number, Event::Replied { id: request.id, reply }, now_us);
        }
    }
}

#[test]
fn a_day_with_twenty_megabytes_and_three_hundred_that_have_waited() {
    let figures = day(Without::Nothing);
    assert!(figures.alerts_p99_us < 2 * SECOND, "{figures:?}");
    assert!(figures.live_p99_us < 12 * SECOND, "{figures:?}");
    assert!(figures.spent <= BUDGET + figures.largest_request, "{figures:?}");
    assert!(figures.backlog_on_budget > 0, "what is left of the budget is the backlog's: {figures:?}");
    assert_eq!(figures.delivered, figures.committed, "{figures:?}");
}

/// The controls: without each of these, something that is promised does not hold.
#[test]
fn each_part_of_it_is_needed() {
    let alerts = |figures: &Figures| figures.alerts_p99_us >= 2 * SECOND;
    let live = |figures: &Figures| figures.live_p99_us >= 12 * SECOND;
    let budget = |figures: &Figures| figures.spent > BUDGET + figures.largest_request;
    type IsBroken<'a> = &'a dyn Fn(&Figures) -> bool;
    let controls: [(Without, IsBroken<'_>); 5] = [
        (Without::AlertReserve, &alerts),
        (Without::Classes, &alerts),
        (Without::Rate, &alerts),
        (Without::LiveFirst, &live),
        (Without::Budget, &budget),
    ];
    for (without, is_broken) in controls {
        let figures = day(without);
        assert!(is_broken(&figures), "without {without:?}: {figures:?}");
    }
}
