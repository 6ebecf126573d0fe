//! What becomes of a request on its way to the cloud, there, and on its way back.

use super::*;

impl World {
    pub(super) fn send(&mut self, request: Request) -> Result<(), String> {
        self.check_request(&request)?;
        let (id, life, count) = (request.id, self.life, request.records.len());
        self.memory.on_the_way.insert(id, request.clone());
        let arrives_us = self.now_us + MS + self.random.below(40 * MS);
        let refusal = match self.weather {
            Weather::Unreachable => Some(Outcome::Unreachable("no route".to_owned())),
            Weather::Expired => Some(Outcome::Retry(RetryReason::Credentials)),
            Weather::Unknown if self.scenario.sabotage == Some(Sabotage::HaltsAreRefusals) => {
                Some(Outcome::Reject("unknown".to_owned()))
            }
            Weather::Unknown => Some(Outcome::Halt("unknown".to_owned())),
            Weather::Narrow(bytes_max)
                if request.records.iter().map(|record| record.data.len()).sum::<usize>() > bytes_max =>
            {
                self.summary.too_large += 1;
                Some(Outcome::TooLarge("too large".to_owned()))
            }
            Weather::Storm(percent) if self.random.percent(percent) => Some(Outcome::Retry(RetryReason::Throttled)),
            Weather::Busy(percent) if self.random.percent(percent) => {
                let later = |after_us| Some(Outcome::Later { reason: "busy".to_owned(), after_us });
                match self.random.below(4) {
                    0 => Some(Outcome::Retry(RetryReason::Throttled)),
                    1 => later(None),
                    _ => later(Some(self.random.below(4 * SECOND))),
                }
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            let reply = Reply::whole(refusal, count);
            self.schedule(arrives_us, Happening::Reply { life, id, reply });
            return Ok(());
        }
        let (unheard, reason, arrives_us, gives_up_us) = match self.weather {
            Weather::Fog(percent) => (percent, RetryReason::Connection, arrives_us, arrives_us + 10 * MS),
            Weather::Stalls(percent) => {
                // It may arrive after the sink has given it up, or never.
                let late_us = self.now_us + self.random.below(4 * TIME_LIMIT_US);
                (percent, RetryReason::TimedOut, late_us, self.now_us + TIME_LIMIT_US)
            }
            _ => (0, RetryReason::Internal, arrives_us, arrives_us),
        };
        if self.random.percent(unheard) {
            self.summary.unanswered += 1;
            self.cloud.excused.extend(request.records.iter().flat_map(|record| sequences(&record.data)));
            let reply = Reply::whole(Outcome::Retry(reason), count);
            self.schedule(gives_up_us, Happening::Reply { life, id, reply });
            if self.random.percent(75) {
                self.schedule(arrives_us, Happening::Arrive { life, request, fail: 0, is_answered: false });
            }
            return Ok(());
        }
        let fail = if let Weather::Showers(percent) = self.weather { percent } else { 0 };
        let arrives_us = arrives_us.min(self.now_us + TIME_LIMIT_US / 2);
        self.schedule(arrives_us, Happening::Arrive { life, request, fail, is_answered: true });
        Ok(())
    }

    pub(super) fn arrive(&mut self, life: u32, request: Request, fail: u64, is_answered: bool) -> Result<(), String> {
        let mut reply = self.put(&request, fail)?;
        if is_answered {
            self.sabotage(&request, &mut reply);
            let outcomes = request.records.iter().zip(&reply.outcomes);
            let accepted = outcomes.filter(|(_, outcome)| matches!(outcome, Outcome::Accepted { .. }));
            let lines = accepted.flat_map(|(record, _)| sequences(&record.data));
            reply.passed_over = lines.filter(|sequence| is_passed_over(*sequence)).count() as u64;
            if life == self.life {
                self.memory.passed_over += reply.passed_over;
            }
            let at_us = self.now_us + MS + self.random.below(20 * MS);
            self.schedule(at_us, Happening::Reply { life, id: request.id, reply });
        }
        Ok(())
    }

    /// What the cloud does with a request. To swap two records, one is held back until another of its key has been stored.
    fn put(&mut self, request: &Request, fail: u64) -> Result<Reply, String> {
        if self.scenario.sabotage == Some(Sabotage::TwoRecordsAreSwapped)
            && !self.has_swapped
            && let [record] = &request.records[..]
        {
            (self.held_back, self.has_swapped) = (Some(record.clone()), true);
            return Ok(Reply::whole(Outcome::Accepted { shard: None }, 1));
        }
        let is_sick = self.scenario.has_sick_device && (SICK_FROM_US..SICK_UNTIL_US).contains(&self.now_us);
        let sick = is_sick.then_some("d0");
        let reply = self.cloud.put(request, (fail, sick), &mut self.random, self.now_us)?;
        let is_next =
            |first: &mut OutgoingRecord| {
                request.records.iter().zip(&reply.outcomes).any(|(record, outcome)| {
                    record.device == first.device && matches!(outcome, Outcome::Accepted { .. })
                })
            };
        if let Some(first) = self.held_back.take_if(is_next) {
            self.cloud.take(&first.device, &first.data)?;
        }
        Ok(reply)
    }

    fn sabotage(&mut self, request: &Request, reply: &mut Reply) {
        let is_failure = |outcome: &Outcome| matches!(outcome, Outcome::Retry(_) | Outcome::Later { .. });
        let has_failures = reply.outcomes.iter().any(is_failure);
        if self.scenario.sabotage == Some(Sabotage::WholeRequestAgain) && has_failures {
            reply.outcomes.fill(Outcome::Retry(RetryReason::Internal));
        }
        let resends = self.scenario.sabotage == Some(Sabotage::FailuresAreSentByTheSink);
        if !resends && self.scenario.sabotage != Some(Sabotage::FailuresCountAsAccepted) {
            return;
        }
        for (record, outcome) in request.records.iter().zip(&mut reply.outcomes) {
            if is_failure(outcome) {
                *outcome = Outcome::Accepted { shard: None };
                if resends {
                    let (device, data) = (record.device.to_string(), record.data.clone());
                    self.schedule(self.now_us + 90 * MS, Happening::SinkSends { device, data });
                }
            }
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, mut reply: Reply) -> Result<(), String> {
        let later = reply.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Later { .. })).count() as u64;
        match (reply.scope, reply.outcomes.first_mut()) {
            (Scope::Request, Some(Outcome::Later { after_us, .. })) => {
                self.summary.later_requests += 1;
                let asked_until_us = self.now_us + after_us.unwrap_or(0);
                self.memory.asked_until_us = self.memory.asked_until_us.max(asked_until_us);
                if self.scenario.sabotage == Some(Sabotage::NoTimeIsAskedFor) {
                    *after_us = None;
                }
            }
            _ => self.summary.later_records += later,
        }
        let request = self.memory.on_the_way.remove(&id).expect("a reply answers a request");
        for (record, outcome) in request.records.iter().zip(&reply.outcomes) {
            if matches!(outcome, Outcome::Accepted { .. }) {
                self.memory.accepted.extend(sequences(&record.data));
                self.memory.unfinished.remove(&*record.device);
            }
            // One that was refused by itself may be sent again in parts.
            let is_refused = matches!(outcome, Outcome::Reject(_) | Outcome::TooLarge(_));
            if is_refused && request.records.len() == 1 {
                self.memory.unfinished.remove(&*record.device);
            }
        }
        self.drive(Event::Replied { id, reply })
    }
}
