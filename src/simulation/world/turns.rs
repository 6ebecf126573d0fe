//! Each part of the gateway has its turn when its time has come, or something has come for it.

use super::{Happening, MS, SECOND, World};
use crate::admin::ledger;
use crate::core::delivery::{Event, Outcome, Reply, Request, RequestId, RetryReason};
use crate::core::identity::Stream;
use crate::core::pipeline::RecordRefusal;
use crate::core::record::{RulePayload, RuleRecord};
use crate::pipeline::committer::{Attempt, RETRY_PAUSE};
use crate::pipeline::{self, Message};
use crate::simulation::cloud::Exchange;
use crate::simulation::devices::{Edge, Reading};
use crate::simulation::gateway::{self, Gateway};
use crate::simulation::scenario::{self, SINKS, Sabotage, TRIPS};
use crate::sinks::forwarder::{Next, Wait};

/// More turns than that at one moment are turns for nothing.
const TURNS_MAX: usize = 20_000;
/// What the open batches may hold: what the pipeline takes ahead of a disk that hangs, and one turn.
const OPEN_BYTES_MAX: usize = 10 << 20;

impl World {
    /// When a part of the gateway wants its turn even if nothing happens.
    pub(super) fn next_turn_us(&self) -> u64 {
        let Some(gateway) = &self.gateway else { return u64::MAX };
        let pipeline_us = match gateway.gathers_until_us {
            gathers_us if gathers_us > self.now_us => gathers_us,
            _ if gateway.has_ended => u64::MAX,
            _ => gateway.pipeline.next_turn().saturating_duration_since(self.began).as_micros() as u64,
        };
        let Some(store) = &gateway.store else { return pipeline_us };
        let committer_us = store.under_way.as_ref().map_or(store.maintain_us, |(due_us, _)| *due_us);
        let forwarders_us = store.forwarders.iter().map(|running| running.due_us);
        let salvage_us = store.salvaging.iter().map(|running| running.due_us);
        forwarders_us.chain(salvage_us).chain([pipeline_us, committer_us]).min().unwrap_or(u64::MAX)
    }

    pub(super) fn take_turns(&mut self) -> Result<(), String> {
        let mut last = [false; 5];
        for _ in 0..TURNS_MAX {
            let moved = [
                self.pipeline_turn()?,
                self.committer_turn()?,
                self.forwarder_turn()?,
                self.salvage_turn(),
                self.devices_turn()?,
            ];
            self.go_on_stopping();
            if moved == [false; 5] {
                return Ok(());
            }
            last = moved;
        }
        Err(format!("turns for nothing, of pipeline, committer, forwarders, salvage and devices: {last:?}"))
    }

    fn pipeline_turn(&mut self) -> Result<bool, String> {
        let Some(gateway) = self.gateway.as_mut().filter(|gateway| !gateway.has_ended) else { return Ok(false) };
        if gateway.gathers_until_us > self.now_us {
            return Ok(false);
        }
        let now = self.began + std::time::Duration::from_micros(self.now_us);
        let message = gateway.messages.try_recv().ok();
        if message.is_none() && gateway.pipeline.next_turn() > now {
            return Ok(false);
        }
        gateway.has_ended = gateway.pipeline.turn(message, &gateway.messages) == pipeline::Turn::Ended;
        let gathers_us = gateway.pipeline.gathers_for(now).map_or(0, |pause| pause.as_micros() as u64);
        gateway.gathers_until_us = self.now_us + gathers_us;
        let open_bytes = gateway.pipeline.open_bytes();
        if open_bytes > OPEN_BYTES_MAX {
            return Err(format!("the open batches hold {open_bytes} bytes"));
        }
        while let Some(message) = gateway.outbox.take() {
            self.checks.published(&message);
            self.trace.update(message.topic.as_bytes());
        }
        Ok(true)
    }

    /// A commit takes its time, and then it is made.
    fn committer_turn(&mut self) -> Result<bool, String> {
        let Some(Gateway { store: Some(store), jobs, .. }) = &mut self.gateway else { return Ok(false) };
        match store.under_way.take() {
            Some((due_us, under_way)) if due_us > self.now_us => store.under_way = Some((due_us, under_way)),
            Some((_, under_way)) => return self.commit(*under_way).map(|()| true),
            None => {
                if let Ok(job) = jobs.try_recv() {
                    let is_slow = self.slow_until_us > self.now_us;
                    let slow_us = if is_slow { self.random.below(self.slow_ms_max * MS) } else { 0 };
                    let due_us = self.now_us + self.random.within(2 * MS, 25 * MS) + slow_us;
                    store.under_way = Some((due_us, Box::new(store.committer.begin(job))));
                    return Ok(true);
                }
                if store.maintain_us <= self.now_us {
                    return Ok(self.maintain());
                }
            }
        }
        Ok(false)
    }

    fn maintain(&mut self) -> bool {
        let Some(Gateway { store: Some(store), .. }) = &mut self.gateway else { return false };
        store.committer.maintain();
        store.maintain_us = self.now_us + store.committer.look_pause().as_micros() as u64;
        self.count_refusals();
        self.has_died();
        true
    }

    fn commit(&mut self, under_way: pipeline::committer::UnderWay) -> Result<(), String> {
        let Some(Gateway { store: Some(store), .. }) = &mut self.gateway else { return Ok(()) };
        let attempt = store.committer.attempt(under_way);
        store.take_begun(self.now_us);
        if self.has_died() {
            return Ok(());
        }
        let Some(Gateway { store: Some(store), sender, .. }) = &mut self.gateway else { return Ok(()) };
        let (is_committed, is_given_up) = (matches!(attempt, Attempt::Committed), matches!(attempt, Attempt::GivenUp));
        match attempt {
            Attempt::Committed => {}
            Attempt::Again(under_way) => {
                store.under_way = Some((self.now_us + RETRY_PAUSE.as_micros() as u64, under_way));
            }
            // The pipeline may have given up before.
            Attempt::GivenUp => drop(sender.send(Message::Abandoned)),
        }
        self.count_refusals();
        self.note(format_args!("commit: {is_committed}{}", if is_given_up { ", given up" } else { "" }));
        if !is_committed {
            return Ok(());
        }
        self.commits += 1;
        self.sabotage_store();
        self.check_commit()?;
        self.maintain();
        Ok(())
    }

    /// What the last commit left adds up, and nothing goes back.
    pub(super) fn check_commit(&mut self) -> Result<(), String> {
        let Some(Gateway { store: Some(store), .. }) = &mut self.gateway else { return Ok(()) };
        if !store.salvaging.is_empty() {
            self.checks.store_begins_anew();
            return Ok(());
        }
        let db = store.committer.writer.connection();
        let lines = self.disk.observe(|| ledger::ledger(db)).map_err(|error| format!("the ledger: {error}"))?;
        self.checks.committed(lines)
    }

    fn sabotage_store(&mut self) {
        let Some(Gateway { store: Some(store), .. }) = &mut self.gateway else { return };
        let db = store.committer.writer.connection();
        let sql = match self.scenario.sabotage {
            Some(Sabotage::BreaksCounter(term)) if self.commits == 100 => {
                format!("UPDATE progress SET {term} = {term} + 1 WHERE stream > 0 AND name <> ''")
            }
            Some(Sabotage::DeletesUndelivered) if self.commits.is_multiple_of(50) => {
                "DELETE FROM batch WHERE id = (SELECT max(id) FROM batch WHERE stream = 1)".to_owned()
            }
            _ => return,
        };
        self.disk.observe(|| db.execute_batch(&sql)).expect("a store that has just committed");
    }

    fn forwarder_turn(&mut self) -> Result<bool, String> {
        let Some(Gateway { store: Some(store), .. }) = &self.gateway else { return Ok(false) };
        let Some(at) = store.forwarders.iter().position(|running| running.due_us <= self.now_us) else {
            return self.wait_again();
        };
        let event = gateway::due_event(&store.forwarders[at]);
        self.forward(at, event)?;
        Ok(true)
    }

    /// A commit may bring forward what forwarders wait for.
    fn wait_again(&mut self) -> Result<bool, String> {
        let mut has_moved = false;
        let Some(Gateway { store: Some(store), .. }) = &mut self.gateway else { return Ok(false) };
        for running in &mut store.forwarders {
            if !running.forwarder.has_news() {
                continue;
            }
            let due_us = due_us(running, self.began, self.now_us);
            has_moved |= due_us <= self.now_us;
            running.due_us = due_us;
        }
        Ok(has_moved)
    }

    pub(super) fn tell_forwarders_of_links(&mut self) {
        let count =
            self.gateway.as_ref().and_then(|gateway| gateway.store.as_ref()).map_or(0, |store| store.forwarders.len());
        for at in (0..count).rev() {
            let Some(Gateway { store: Some(store), .. }) = &mut self.gateway else { return };
            if store.forwarders[at].forwarder.link_changes() {
                let event = store.forwarders[at].forwarder.link_event();
                // Nothing arrives here, so nothing can arrive wrongly.
                let _ = self.forward(at, event);
            }
        }
    }

    pub(super) fn reply(&mut self, sink: usize, stream: Stream, id: RequestId, mut reply: Reply) -> Result<(), String> {
        let Some(Gateway { store: Some(store), .. }) = &self.gateway else { return Ok(()) };
        let Some(at) = store.forwarders.iter().position(|running| (running.sink, running.stream) == (sink, stream))
        else {
            return Ok(());
        };
        if self.scenario.sabotage == Some(Sabotage::PassesOverFailures) {
            for outcome in &mut reply.outcomes {
                if matches!(outcome, Outcome::Retry(RetryReason::Internal | RetryReason::Throttled)) {
                    *outcome = Outcome::Accepted { shard: None };
                }
            }
        }
        self.forward(at, Event::Replied { id, reply })
    }

    fn forward(&mut self, at: usize, event: Event) -> Result<(), String> {
        let Some(Gateway { store: Some(store), .. }) = &mut self.gateway else { return Ok(()) };
        let running = &mut store.forwarders[at];
        let (sink, stream) = (running.sink, running.stream);
        let turn = running.forwarder.turn(event);
        running.next = turn.next;
        running.due_us = due_us(running, self.began, self.now_us);
        let (refusals, held_bytes): (Vec<_>, _) = (
            turn.send.iter().map(|request| running.forwarder.refusal(request)).collect(),
            running.forwarder.held_bytes(),
        );
        if matches!(turn.next, Next::Ended) {
            store.forwarders.remove(at);
        }
        if self.has_died() {
            return Ok(());
        }
        self.count_refusals();
        if held_bytes > gateway::held_bytes_max(sink) {
            return Err(format!("{} holds {held_bytes} bytes", SINKS[sink]));
        }
        for (request, refusal) in turn.send.into_iter().zip(refusals) {
            self.send(sink, stream, request, refusal)?;
        }
        Ok(())
    }

    fn send(&mut self, sink: usize, stream: Stream, request: Request, refusal: Option<Reply>) -> Result<(), String> {
        let (id, life) = (request.id, self.life);
        let exchange = match refusal {
            Some(reply) => Exchange { reply, reply_us: self.now_us, unheard_us: None },
            None => self.clouds[sink].send(stream, &request, &mut self.lines, &mut self.random, self.now_us)?,
        };
        let Exchange { reply, reply_us, unheard_us } = exchange;
        let (records, outcome) = (request.records.len(), format!("{:?}", reply.outcomes.first()));
        self.note(format_args!("{} {stream:?} sends {records}: {outcome}", SINKS[sink]));
        if let Some(arrives_us) = unheard_us {
            self.schedule(arrives_us, Happening::Arrive { sink, stream, records: request.records });
        }
        self.schedule(reply_us, Happening::Reply { life, sink, stream, id, reply });
        Ok(())
    }

    fn salvage_turn(&mut self) -> bool {
        let Some(Gateway { store: Some(store), counters, sender, .. }) = &mut self.gateway else { return false };
        store.take_begun(self.now_us);
        let is_due = store.salvaging.iter().any(|running| running.due_us <= self.now_us);
        store.salvage(counters, sender, self.now_us);
        is_due
    }

    /// Acknowledgements reach their devices, and these send what they have.
    fn devices_turn(&mut self) -> Result<bool, String> {
        let mut has_moved = false;
        for at in 0..self.devices.len() {
            let before = self.devices[at].acknowledged;
            let settled = self.devices[at].settle(self.now_us);
            if settled.acknowledged > 0 {
                has_moved = true;
                let now = self.devices[at].acknowledged;
                let stored = self.gateway.as_ref().map_or(0, |gateway| gateway.counters.readings.get());
                self.note(format_args!("device {at} has its acknowledgement of {now}"));
                self.checks.acknowledged(at, before + 1..=now, stored)?;
                self.look_at_durable(at, now)?;
            }
            if settled.is_turned_away {
                self.note(format_args!("device {at} is turned away"));
                self.devices[at].disconnect();
                let us = self.random.within(SECOND / 5, 3 * SECOND);
                self.after(us, Happening::Connect { device: at });
            }
            has_moved |= self.publish(at);
        }
        Ok(has_moved)
    }

    fn publish(&mut self, at: usize) -> bool {
        let (now_us, now_ms) = (self.now_us, self.now_ms());
        let Some(gateway) = self.gateway.as_mut().filter(|_| !self.is_stopping) else { return false };
        let mut edge = Edge { ingest: &mut gateway.ingest, pipeline: &gateway.handle, now_us, now_ms };
        let Some(new) = self.devices[at].publish(&mut edge) else { return false };
        let offset_ms = self.wall_offset_ms;
        // A reading that is late, or whose time is in doubt, raises nothing.
        let is_timely =
            |reading: &&Reading| reading.is_beyond_limit() && offset_ms == 0 && now_ms - reading.measured_at_ms < 5_000;
        let is_beyond = new.iter().any(|reading| is_timely(&reading));
        // As a rule would that matches every third reading.
        let matching = new.iter().filter(|reading| reading.measured_at_ms % 3 == 0);
        let matching: Vec<bool> = matching.map(|reading| reading.is_poison).collect();
        if is_beyond {
            self.checks.expect_alert(&self.devices[at].name, now_us);
        }
        for is_poison in matching {
            let record = RuleRecord {
                stream: TRIPS,
                rule: "third",
                device: Some(&self.devices[at].name),
                topic: Some("a/b"),
                received_at_ms: now_ms,
                payload: RulePayload::Json(if is_poison { br#""poison""# } else { b"1" }),
            };
            let stream = scenario::streams().find(TRIPS).expect("one of them");
            match gateway.pipeline.pipeline().push_record(stream, &record) {
                Ok(_) | Err(RecordRefusal::NothingStored) => {}
                Err(refusal) => panic!("{refusal}"),
            }
        }
        true
    }

    pub(super) fn connect(&mut self, device: usize) {
        let is_there = self.gateway.is_some() && !self.is_stopping;
        if is_there && !self.devices[device].is_connected() {
            self.sessions += 1;
            self.devices[device].connect(self.sessions, self.now_us);
            self.note(format_args!("device {device} connects"));
        }
        // It looks now and then whether it is still connected, and sometimes it loses its connection.
        let loses = !self.is_healed && self.random.one_in(20);
        if loses {
            self.devices[device].disconnect();
        }
        let us = self.random.within(SECOND, 4 * SECOND);
        self.after(us, Happening::Connect { device });
    }

    /// A device measures, and will again.
    pub(super) fn measure(&mut self, device: usize) {
        if self.measured >= self.scenario.readings {
            return;
        }
        self.measured += 1;
        let note_bytes = if self.is_small { self.random.within(500, 3_000) } else { self.random.below(60) };
        let note: String = (0..note_bytes).map(|_| char::from(b'a' + self.random.below(26) as u8)).collect();
        let is_beyond = self.random.one_in(100);
        let reading = Reading {
            value: if is_beyond { 5_000.0 } else { 20.0 + self.random.below(100) as f64 / 100.0 },
            measured_at_ms: super::BEGAN_MS + (self.now_us / MS) as i64,
            is_poison: self.random.one_in(150),
            attribute: note,
        };
        self.devices[device].readings.push(reading);
        // All is measured after four fifths of the time.
        let mean_us = self.heals_us() / 5 * 4 * self.devices.len() as u64 / self.scenario.readings;
        let us = if self.random.percent(30) { self.random.below(50 * MS) } else { self.random.below(3 * mean_us) };
        self.after(us, Happening::Measure { device });
    }
}

fn due_us(running: &mut gateway::RunningForwarder, began: std::time::Instant, now_us: u64) -> u64 {
    match running.next {
        // Others come first.
        Next::Soon { .. } => now_us + 1,
        Next::Ended => u64::MAX,
        Next::Waits { until_us } => match running.forwarder.wait(until_us) {
            Wait::Not(_) => now_us + 1,
            Wait::Until { deadline, .. } => {
                deadline.map_or(u64::MAX, |deadline| deadline.saturating_duration_since(began).as_micros() as u64)
            }
        },
    }
}
