//! Rules that see messages: `SELECT ... FROM ... WHERE ...`.

use super::Rulebook;
use super::acting::Acting;
use super::effects::Effects;
use super::functions::{self, MessageFunction};
use super::rule::{Rule, Trigger};
use super::surroundings::Surroundings;
use super::tally::laps;
use crate::detection::alert::RULE_METRIC;
use crate::mqtt::packet::PassedOn;
use crate::rules::{Allowance, Context, EvaluationError, Names, Payload, Statement, Value, is_basic_ingest, trace_id};

/// A message that the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// Where it was published to.
    pub topic: &'m str,
    /// What was published.
    pub payload: &'m [u8],
    /// Who published it; `None` if a rule did.
    pub client_id: Option<&'m str>,
    /// What it has besides, in MQTT 5; nothing if a rule published it.
    pub properties: PassedOn<'m>,
    /// By the gateway's clock, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// The device whose readings it carries, if a route says so.
    pub device: Option<&'m str>,
    /// Another one for each message: what is random is made of it.
    pub seed: u64,
    /// Rules that made it, each of a message that the one before it had made.
    pub made_by: &'m [u16],
}

impl<'m> Message<'m> {
    fn context(&self, trace_id: &'m str, allowance: Option<&'m Allowance>) -> Context<'m> {
        Context {
            topic: Some(self.topic),
            client_id: self.client_id,
            properties: self.properties,
            trace_id: Some(trace_id),
            now_ms: self.received_at_ms,
            seed: self.seed,
            allowance,
            ..Context::default()
        }
    }
}

/// What the names of a statement stand for.
struct MessageNames<'m> {
    payload: Payload<'m>,
    surroundings: &'m Surroundings,
}

impl Names for MessageNames<'_> {
    fn name<'v>(&'v self, name: &str) -> Value<'v> {
        self.payload.name(name)
    }

    fn whole(&self) -> Value<'_> {
        self.payload.whole()
    }

    fn steps(&self, function: usize, arguments: &[Value<'_>]) -> u32 {
        match (functions::of_messages(function), arguments) {
            (Some(MessageFunction::PredictRecord), [model, _, record]) => {
                self.surroundings.model(model).map_or(0, |model| model.steps_of_record(record))
            }
            _ => 0,
        }
    }

    fn call<'v>(&'v self, function: usize, arguments: &[Value<'v>]) -> Value<'v> {
        let [first, rest @ ..] = arguments else { return Value::Undefined };
        match (functions::of_messages(function), rest) {
            (Some(MessageFunction::Lookup), [key]) => self.surroundings.row(first, key),
            (Some(MessageFunction::PredictRecord), [_, record]) => self.surroundings.prediction(first, record),
            (Some(MessageFunction::Zone), [longitude]) => match (first.to_number(), longitude.to_number()) {
                (Some(latitude), Some(longitude)) => {
                    self.surroundings.zone(latitude.to_double(), longitude.to_double())
                }
                _ => Value::Undefined,
            },
            (Some(MessageFunction::Inside), [latitude, longitude]) => {
                let (Some(latitude), Some(longitude)) = (latitude.to_number(), longitude.to_number()) else {
                    return Value::Undefined;
                };
                self.surroundings.is_inside(first, latitude.to_double(), longitude.to_double()).into()
            }
            _ => Value::Undefined,
        }
    }
}

impl Rulebook {
    /// Whether a rule is for messages of this topic.
    pub fn sees(&self, topic: &str) -> bool {
        match is_basic_ingest(topic) {
            true => self.named_by(topic).is_some(),
            false => self.by_topic.may_match(topic, usize::MAX),
        }
    }

    /// The rule that a topic of Basic Ingest names.
    fn named_by(&self, topic: &str) -> Option<u16> {
        let name = topic.split('/').nth(2)?;
        let place = self.rules.iter().position(|rule| *rule.name == *name && rule.sees_messages())?;
        u16::try_from(place).ok()
    }

    /// What one statement makes of a message; nothing is done with it. `None` if the message does not pass, or the rule sees readings.
    ///
    /// # Errors
    ///
    /// If a bound is exceeded.
    pub fn result_of(&self, rule: &Rule, message: &Message<'_>) -> Result<Option<Vec<u8>>, EvaluationError> {
        let Trigger::Message(statement) = &rule.trigger else { return Ok(None) };
        if !statement.is_for(message.topic) {
            return Ok(None);
        }
        let names = MessageNames { payload: Payload::new(message.payload), surroundings: &self.surroundings };
        let trace_id = trace_id(message.seed);
        let context = message.context(&trace_id, None);
        let Some(found) = statement.evaluate(&names, &context)? else { return Ok(None) };
        let mut bytes = Vec::new();
        found.write(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Lets the rules look at a message, in the order of the configuration. `stopwatch` counts nanoseconds.
    pub fn apply(&self, message: &Message<'_>, stopwatch: &dyn Fn() -> u64, effects: &mut Effects) {
        let mut places = Vec::new();
        match is_basic_ingest(message.topic) {
            true => places.extend(self.named_by(message.topic)),
            false => _ = self.by_topic.each_match(message.topic, |place, _| places.push(*place)),
        }
        places.sort_unstable();
        let names = MessageNames { payload: Payload::new(message.payload), surroundings: &self.surroundings };
        let trace_id = trace_id(message.seed);
        let allowance = Allowance::default();
        let mut lap = laps(stopwatch);
        for place in places {
            let Some(rule) = self.rules.get(usize::from(place)) else { continue };
            let Trigger::Message(statement) = &rule.trigger else { continue };
            if self.cuts_loop(place, message.made_by) {
                continue;
            }
            // What is random is another for each rule.
            let seed = message.seed ^ u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let context = Context { seed, ..message.context(&trace_id, Some(&allowance)) };
            one(place, rule, statement, &names, &context, message, effects);
            rule.tally.evaluated(lap());
        }
    }
}

fn one(
    place: u16,
    rule: &Rule,
    statement: &Statement,
    names: &MessageNames<'_>,
    context: &Context<'_>,
    message: &Message<'_>,
    effects: &mut Effects,
) {
    let found = statement.evaluate(names, context);
    let no_result = || Ok((Vec::new(), false));
    let acting = Acting {
        place,
        rule,
        names,
        context,
        variables: &[],
        device: message.device,
        subject: (RULE_METRIC, f64::NAN),
        original: message.payload,
        received_at_ms: message.received_at_ms,
        result: &no_result,
    };
    match found {
        Err(error) => acting.fail(&error, effects),
        Ok(None) if rule.tally.has_alert() => acting.say_good(effects),
        Ok(None) => {}
        Ok(Some(found)) => {
            rule.tally.matched();
            let result = || {
                let mut bytes = Vec::new();
                found.write(&mut bytes)?;
                Ok((bytes, !matches!(found.value, Value::Bytes(_))))
            };
            Acting { variables: &found.variables, result: &result, ..acting }.act(|_| true, effects);
        }
    }
}
