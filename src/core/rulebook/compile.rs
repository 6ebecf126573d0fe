//! From a definition to a rule: everything that can be wrong with it is found here.

use std::sync::Arc;

use super::definition::{ActionDefinition, Definition};
use super::functions::{self, MESSAGE_FUNCTIONS, MessageFunction, READING_FUNCTIONS, ReadingFunction};
use super::rule::{Action, Condition, Rule, RuleProblem, Trigger};
use super::surroundings::Surroundings;
use crate::mqtt::topic;
use crate::rules::{Expression, ExtraCall, ParseError, Statement, Template, Vocabulary};

/// Longest span of a window, and longest time that a condition has to hold, in milliseconds.
pub const SPAN_MS_MAX: i64 = 24 * 3_600_000;
/// Most actions of a rule, and of its errors; as in AWS IoT.
pub const ACTIONS_MAX: usize = 10;

const MESSAGE_VOCABULARY: Vocabulary<'static> = Vocabulary { functions: &MESSAGE_FUNCTIONS, has_dotted_names: false };
const READING_VOCABULARY: Vocabulary<'static> = Vocabulary { functions: &READING_FUNCTIONS, has_dotted_names: true };

impl Rule {
    /// Compiles a definition.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn compile(definition: &Definition, surroundings: &Surroundings) -> Result<Rule, Vec<RuleProblem>> {
        let is_sql = definition.sql.is_some();
        let mut compiler =
            Compiler { surroundings, is_sql, variables: Vec::new(), problems: Vec::new(), warnings: Vec::new() };
        let trigger = compiler.trigger(definition);
        if definition.actions.is_empty() {
            compiler.blame(
                "name",
                "the rule does nothing; give it an action, for example alert = \"major\", or count = true",
            );
        }
        for (actions, key) in [(&definition.actions, "name"), (&definition.on_error, "error")] {
            if actions.len() > ACTIONS_MAX {
                compiler.blame(key, format!("it has {} actions; there may be {ACTIONS_MAX}", actions.len()));
            }
        }
        let actions = definition.actions.iter().filter_map(|action| compiler.action(action)).collect();
        let on_error = definition.on_error.iter().filter_map(|action| compiler.error_action(action)).collect();
        let Compiler { problems, warnings, .. } = compiler;
        match trigger {
            Some(trigger) if problems.is_empty() => Ok(Rule {
                name: definition.name.as_str().into(),
                fingerprint: definition.fingerprint(),
                tally: Arc::default(),
                warnings,
                trigger,
                actions,
                on_error,
            }),
            _ => Err(problems),
        }
    }
}

/// What a model is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    OfRecord,
    OfWindows,
}

struct Compiler<'a> {
    surroundings: &'a Surroundings,
    is_sql: bool,
    /// What SET says.
    variables: Vec<String>,
    problems: Vec<RuleProblem>,
    warnings: Vec<RuleProblem>,
}

impl Compiler<'_> {
    fn blame(&mut self, key: &'static str, message: impl Into<String>) {
        self.problems.push(RuleProblem { key, message: message.into() });
    }

    fn refused(&mut self, key: &'static str, error: &ParseError) {
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        self.blame(key, format!("{error}{hint}"));
    }

    fn vocabulary(&self) -> Vocabulary<'static> {
        if self.is_sql { MESSAGE_VOCABULARY } else { READING_VOCABULARY }
    }

    fn trigger(&mut self, definition: &Definition) -> Option<Trigger> {
        match (&definition.sql, &definition.when) {
            (Some(sql), None) => {
                let keys = [
                    ("from", definition.from.is_some()),
                    ("for", definition.hold_ms != 0),
                    ("until", definition.until.is_some()),
                    ("repeat", definition.repeats),
                ];
                for (key, _) in keys.into_iter().filter(|(_, is_there)| *is_there) {
                    self.blame(key, "it belongs to a rule with `when`; a statement says FROM and WHERE itself");
                }
                self.statement(sql)
            }
            (None, Some(when)) => self.condition(definition, when),
            (Some(_), Some(_)) => {
                self.blame("when", "a rule has either `sql`, which sees messages, or `when`, which sees readings");
                None
            }
            (None, None) => {
                self.blame("name", "`sql` or `when` is missing; for example when = \"engine_temperature > 110\"");
                None
            }
        }
    }

    fn statement(&mut self, sql: &str) -> Option<Trigger> {
        let statement = match Statement::parse_with(sql, MESSAGE_VOCABULARY) {
            Ok(statement) => statement,
            Err(error) => {
                self.refused("sql", &error);
                return None;
            }
        };
        if let Some(filter) = statement.filter() {
            if let Err(error) = topic::check_filter(filter) {
                self.blame("sql", format!("FROM '{filter}' is no topic filter: it {}", error.reason()));
            }
            if topic::is_reserved(filter) {
                self.blame("sql", "alerts/ and outrider/ belong to the gateway: rules do not see what it says itself");
            }
        }
        let warnings = statement.warnings().iter();
        self.warnings.extend(warnings.map(|warning| RuleProblem { key: "sql", message: warning.to_string() }));
        statement.calls().for_each(|call| self.check_call("sql", &call));
        self.variables = statement.variable_names().to_vec();
        Some(Trigger::Message(Box::new(statement)))
    }

    fn condition(&mut self, definition: &Definition, when: &str) -> Option<Trigger> {
        let when = self.expression("when", when);
        let until = definition.until.as_deref().map(|until| self.expression("until", until));
        if !(0..=SPAN_MS_MAX).contains(&definition.hold_ms) {
            self.blame("for", "from 0s to 1d");
        }
        let (when, until) = (when?, until.map_or(Some(None), |until| until.map(Some))?);
        if when.is_constant() && !definition.actions.iter().all(ActionDefinition::is_for_every_reading) {
            self.blame("when", "it is worth the same for every reading; name a metric, as in engine_temperature > 110");
        }
        let named = when.calls().find_map(|call| match functions::of_readings(call.function)? {
            ReadingFunction::Window(_) | ReadingFunction::Age | ReadingFunction::Verdict | ReadingFunction::Score => {
                text(&call, 0)
            }
            _ => None,
        });
        let model = |call: ExtraCall<'_>| self.surroundings.models.get(&text(&call, 0)?);
        let of_model = || Some(when.calls().find_map(model)?.metrics().next()?.to_owned());
        let named = named.or_else(of_model);
        let metric = when.names().first().map(|name| (*name).to_owned()).or(named).map(String::into_boxed_str);
        Some(Trigger::Readings(Box::new(Condition {
            from: definition.from.as_deref().map(Into::into),
            metric,
            when,
            until,
            hold_ms: definition.hold_ms,
            repeats: definition.repeats,
        })))
    }

    fn expression(&mut self, key: &'static str, text: &str) -> Option<Expression> {
        match Expression::parse(text, READING_VOCABULARY) {
            Ok(expression) => {
                let warnings = expression.warnings().iter();
                self.warnings.extend(warnings.map(|warning| RuleProblem { key, message: warning.to_string() }));
                expression.calls().for_each(|call| self.check_call(key, &call));
                Some(expression)
            }
            Err(error) => {
                self.refused(key, &error);
                None
            }
        }
    }

    fn template(&mut self, key: &'static str, text: &str) -> Option<Template> {
        match Template::parse(text, &self.variables, self.vocabulary()) {
            Ok(template) => {
                template.calls().for_each(|call| self.check_call(key, &call));
                Some(template)
            }
            Err(error) => {
                self.refused(key, &error);
                None
            }
        }
    }

    fn optional(&mut self, key: &'static str, text: Option<&String>) -> Option<Option<Template>> {
        match text {
            Some(text) => self.template(key, text).map(Some),
            None => Some(None),
        }
    }

    /// Spans, zones and tables are known when the rule is read.
    fn check_call(&mut self, key: &'static str, call: &ExtraCall<'_>) {
        let (is_table, is_zone, is_window) = match self.is_sql {
            true => {
                let function = functions::of_messages(call.function);
                let is = |wanted| function == Some(wanted);
                (is(MessageFunction::Lookup), is(MessageFunction::Inside), false)
            }
            false => match functions::of_readings(call.function) {
                Some(ReadingFunction::Lookup) => (true, false, false),
                Some(ReadingFunction::Inside | ReadingFunction::Entered | ReadingFunction::Left) => {
                    (false, true, false)
                }
                Some(ReadingFunction::Window(_)) => (false, false, true),
                _ => (false, false, false),
            },
        };
        let name = text(call, 0).unwrap_or_default();
        if is_table && !self.surroundings.tables.contains_key(&name) {
            self.blame(
                key,
                format!("there is no table \"{name}\"; a [[table]] section names each of them, and its file"),
            );
        }
        if is_zone && !self.surroundings.zones.names().any(|known| known == name) {
            self.blame(key, format!("there is no zone \"{name}\"; rules.zones names a GeoJSON file with all of them"));
        }
        if let Some(asked) = self.model_call(call)
            && let Some(problem) = self.model_problem(call, asked)
        {
            self.blame(key, problem);
        }
        if is_window && span_ms(call, 1).is_none() {
            self.blame(key, "the span of a window is a number of seconds, from 0.001 to 86400, as in avg(speed, 30)");
        }
        if call.arguments.len() == 4 && stay_ms(call).is_none() {
            self.blame(key, "the stay is a number of seconds, from 0 to 86400, as in entered(depot, lat, lon, 60)");
        }
    }

    /// Whether a call asks a model, and whether of the windows of its metrics.
    fn model_call(&self, call: &ExtraCall<'_>) -> Option<Asked> {
        match self.is_sql {
            true => matches!(functions::of_messages(call.function), Some(MessageFunction::PredictRecord))
                .then_some(Asked::OfRecord),
            false => match functions::of_readings(call.function)? {
                ReadingFunction::PredictRecord => Some(Asked::OfRecord),
                function if function.asks_model() => Some(Asked::OfWindows),
                _ => None,
            },
        }
    }

    /// What is wrong with a call that asks a model.
    fn model_problem(&self, call: &ExtraCall<'_>, asked: Asked) -> Option<String> {
        let Some(name) = text(call, 0) else {
            return Some("which model is asked has to be the same for every message, as in predict('pump')".to_owned());
        };
        let Some(model) = self.surroundings.models.get(&name) else {
            return Some(format!("there is no model \"{name}\"; a [[model]] section names each of them, and its file"));
        };
        if let (Asked::OfRecord, _) | (_, None) = (asked, model.unknown_input()) {
            let label = text(call, 1).filter(|_| asked == Asked::OfWindows)?;
            let labels: Vec<&str> = model.model().labels().iter().map(|label| &**label).collect();
            return (!labels.contains(&&*label)).then(|| match labels.is_empty() {
                true => format!("the model \"{name}\" has no labels"),
                false => format!("the model \"{name}\" has no label \"{label}\"; it has {}", labels.join(", ")),
            });
        }
        let input = &model.unknown_input()?.name;
        Some(format!(
            "the input \"{input}\" of the model \"{name}\" is no feature of a metric; `inputs` of its [[model]] can say \
             which it is, as in \"engine_temperature.mean\", or machinelearning_predict('{name}', '', {{...}}) gives it"
        ))
    }

    fn action(&mut self, action: &ActionDefinition) -> Option<Action> {
        Some(match action {
            ActionDefinition::Alert { severity, message, device } => {
                if !self.is_sql && device.is_some() {
                    self.blame("alert.device", "an alert of a rule with `when` is about the device of the readings");
                }
                let message = self.optional("alert.message", message.as_ref())?;
                let device = self.optional("alert.device", device.as_ref())?;
                Action::Alert { severity: *severity, message, device }
            }
            ActionDefinition::Republish { topic, payload, qos, retain } => {
                let topic = self.topic(topic)?;
                let payload = self.optional("republish.payload", payload.as_ref())?;
                Action::Republish { topic, payload, qos: *qos, retain: *retain }
            }
            ActionDefinition::Record { stream } => {
                if !self.surroundings.streams.contains(stream) {
                    let message = format!("there is no stream \"{stream}\"; [[stream]] name = \"{stream}\" makes it");
                    self.blame("stream", message);
                }
                Action::Record { stream: stream.as_str().into() }
            }
            ActionDefinition::Readings { device, metric, value } if self.is_sql => {
                if metric.is_some() || value.is_some() {
                    self.blame(
                        "readings",
                        "the result of the statement says metrics and values; `device` is all it needs",
                    );
                }
                let Some(device) = device else {
                    self.blame("readings.device", "it is missing; for example device = \"${topic(2)}\"");
                    return None;
                };
                Action::Payload { device: self.template("readings.device", device)? }
            }
            ActionDefinition::Readings { device, metric, value } => {
                let (Some(metric), Some(value)) = (metric, value) else {
                    self.blame(
                        "readings",
                        "`metric` and `value` are missing; for example value = \"voltage * current\"",
                    );
                    return None;
                };
                let device = self.optional("readings.device", device.as_ref())?;
                let value = self.expression("readings.value", value)?;
                Action::Value { device, metric: metric.as_str().into(), value }
            }
            ActionDefinition::Count => Action::Count,
            ActionDefinition::Drop => Action::Drop,
            ActionDefinition::Downsample { every_ms, keep } => {
                if self.is_sql {
                    self.blame(
                        "downsample",
                        "it belongs to a rule with `when`, for example when = \"metric() = 'rpm'\"",
                    );
                }
                Action::Downsample { every_ms: *every_ms, keep: keep.clone() }
            }
        })
    }

    fn error_action(&mut self, action: &ActionDefinition) -> Option<Action> {
        match action {
            ActionDefinition::Republish { payload: None, .. } | ActionDefinition::Record { .. } => self.action(action),
            _ => {
                self.blame("error", "an error is republished, without a payload of its own, or put into a stream");
                None
            }
        }
    }

    /// A topic that can be judged now is; others are when they are filled in.
    fn topic(&mut self, text: &str) -> Option<Template> {
        let template = self.template("republish.topic", text)?;
        if let Some(problem) = template.literal().and_then(topic_problem) {
            self.blame("republish.topic", problem);
        }
        Some(template)
    }
}

/// Why a rule cannot publish to a topic.
pub(super) fn topic_problem(text: &str) -> Option<String> {
    match topic::check_topic(text) {
        Err(error) => Some(format!("\"{text}\" is no topic to publish to: it {}", error.reason())),
        Ok(()) if topic::is_reserved(text) => {
            Some(format!("\"{text}\" belongs to the gateway: alerts/ and outrider/ do"))
        }
        Ok(()) => None,
    }
}

/// A constant argument as a text.
pub(super) fn text(call: &ExtraCall<'_>, place: usize) -> Option<String> {
    let value = (*call.arguments.get(place)?)?;
    value.to_text().ok()?.map(|text| text.into_owned())
}

/// A constant argument of seconds, more than 0.
pub(super) fn span_ms(call: &ExtraCall<'_>, place: usize) -> Option<i64> {
    seconds(call, place).filter(|span_ms| (1..=SPAN_MS_MAX).contains(span_ms))
}

/// The least stay of a crossing; without one, 0.
pub(super) fn stay_ms(call: &ExtraCall<'_>) -> Option<i64> {
    match call.arguments.len() {
        4 => seconds(call, 3).filter(|stay_ms| (0..=SPAN_MS_MAX).contains(stay_ms)),
        _ => Some(0),
    }
}

fn seconds(call: &ExtraCall<'_>, place: usize) -> Option<i64> {
    let seconds = (*call.arguments.get(place)?)?.to_number()?.to_double();
    (seconds.is_finite() && seconds.abs() < 1e9).then(|| (seconds * 1000.0).round() as i64)
}
