//! `outrider rules test`: runs the tests that stand with rules. `outrider check` runs them too.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::replay::{Replay, What};
use crate::commands::Exit;
use crate::commands::configuration::load_rules;
use crate::config::Configuration;
use crate::core::identity::RunId;
use crate::core::reading::Reading;
use crate::core::rulebook::{Begin, Example, Message, RuleTest, TestReading, is_same_payload};
use crate::keys::problem::Problems;
use crate::keys::units::format_duration;

const HELP: &str = "\
A FILE holds [[rule]] sections: a file of the folder rules.d, or a whole configuration, whose zones, tables, routes and folder of \
rules are read too. A test shows a rule what it looks at, and says what is to come of it:

  [[rule]]
  name = \"hot\"
  when = \"engine_temperature > 110\"
  for = \"5s\"
  alert = \"major\"

  [[rule.test]]
  readings = [
    { metric = \"engine_temperature\", value = 120, at = \"0s\" },
    { metric = \"engine_temperature\", value = 121, at = \"5s\" },
  ]
  expect = \"5s\"   # or \"no match\", { at = \"5s\", device = \"truck-7\" }, or a list

  [[rule]]
  name = \"twice\"
  sql = \"SELECT n * 2 AS n FROM 'in/#'\"
  republish = { topic = \"out\" }
  test = { topic = \"in/a\", payload = '{\"n\":4}', expect = { n = 8 } }

Exit codes:
   0  all is as expected
   1  something is not
   2  usage
  78  a file is wrong";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct TestArguments {
    /// Files with rules
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The configuration whose zones, tables, routes and detectors the rules are tested with [default: FILE itself]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A test that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The rule, and which of its tests it is.
    pub name: String,
    pub failure: Option<Failure>,
}

/// What was expected, and what came instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub struct Failure {
    expected: String,
    got: String,
}

pub fn command(arguments: &TestArguments) -> ExitCode {
    let (mut loaded, mut wrong): (Vec<Configuration>, Vec<Problems>) = (Vec::new(), Vec::new());
    for file in &arguments.files {
        match load_rules(file, arguments.config.as_deref(), None) {
            Ok(configuration) => loaded.push(configuration),
            Err(problems) => wrong.push(problems),
        }
    }
    if !wrong.is_empty() {
        wrong.iter().for_each(|problems| eprintln!("{problems}"));
        return Exit::Configuration.into();
    }
    let mut text = String::new();
    let (mut count, mut failed) = (0, 0);
    for (configuration, file) in loaded.iter().zip(&arguments.files) {
        let of_file = if loaded.len() > 1 { format!("{}: ", file.display()) } else { String::new() };
        for Outcome { name, failure } in run(configuration) {
            count += 1;
            failed += usize::from(failure.is_some());
            text += &match failure {
                None => format!("ok      {of_file}{name}\n"),
                Some(failure) => format!("FAILED  {of_file}{name}: {failure}\n"),
            };
        }
    }
    text += &match (count, failed) {
        (0, _) => "there are no tests\n".to_owned(),
        (count, 0) => format!("{}, all as expected\n", tests(count)),
        (count, failed) => format!("{}, {failed} FAILED\n", tests(count)),
    };
    // The reader may have closed the pipe early.
    let _ = io::stdout().write_all(text.as_bytes());
    if failed > 0 { Exit::RunTime.into() } else { ExitCode::SUCCESS }
}

fn tests(count: usize) -> String {
    if count == 1 { "1 test".to_owned() } else { format!("{count} tests") }
}

/// Runs all tests of a configuration's rules, in their order.
pub fn run(configuration: &Configuration) -> Vec<Outcome> {
    let mut number = 0;
    let mut last = "";
    let mut outcomes = Vec::new();
    for (rule, test) in &configuration.rules.tests {
        number = if rule == last { number + 1 } else { 1 };
        last = rule;
        outcomes.push(Outcome {
            name: format!("{rule}, test {number}"),
            failure: run_one(configuration, rule, test).err(),
        });
    }
    outcomes
}

fn run_one(configuration: &Configuration, rule: &str, test: &RuleTest) -> Result<(), Failure> {
    match &test.example {
        Example::Message { topic, payload, client_id, properties, expected } => {
            let message = Message {
                topic,
                payload,
                client_id: client_id.as_deref(),
                properties: properties.passed_on(),
                received_at_ms: test.at_ms,
                device: None,
                seed: 1,
                made_by: &[],
            };
            of_message(configuration, rule, &message, expected.as_deref())
        }
        Example::Readings { readings, lasts_ms, expected } => {
            let found = begins(configuration, rule, readings, test.at_ms, *lasts_ms);
            let is_met = |(expected, found): (&Begin, &Begin)| {
                expected.at_ms == found.at_ms && (expected.device.is_none() || expected.device == found.device)
            };
            match found {
                Ok(found) if found.len() == expected.len() && expected.iter().zip(&found).all(is_met) => Ok(()),
                Ok(found) => Err(Failure { expected: moments(expected), got: moments(&found) }),
                Err(error) => Err(Failure { expected: moments(expected), got: format!("an error: {error}") }),
            }
        }
    }
}

fn of_message(
    configuration: &Configuration,
    rule: &str,
    message: &Message<'_>,
    expected: Option<&[u8]>,
) -> Result<(), Failure> {
    let book = &configuration.rules.book;
    let rule = book.named(rule).expect("a test is read with its rule");
    let shown = |payload: Option<&[u8]>| match payload {
        None => "no match".to_owned(),
        Some([]) => "an empty payload".to_owned(),
        Some(payload) => String::from_utf8_lossy(payload).escape_debug().to_string().replace("\\\"", "\""),
    };
    let got = match (book.result_of(rule, message), expected) {
        (Ok(None), None) => return Ok(()),
        (Ok(Some(found)), Some(expected)) if is_same_payload(&found, expected) => return Ok(()),
        (Ok(found), _) => shown(found.as_deref()),
        (Err(error), _) => format!("an error: {error}"),
    };
    Err(Failure { expected: shown(expected), got })
}

/// When the condition of a rule begins to hold, in the order of the times; or the rule's first error.
fn begins(
    configuration: &Configuration,
    rule: &str,
    readings: &[TestReading],
    at_ms: i64,
    lasts_ms: i64,
) -> Result<Vec<Begin>, String> {
    let (mut found, mut failure) = (Vec::new(), None);
    // However long the test takes, its moments are as exact as the gateway's.
    let mut replay = Replay::new(configuration, u64::MAX);
    let mut listen = |event: &super::replay::Event<'_>| match &event.what {
        _ if event.rule != rule => {}
        What::Begins => {
            found.push(Begin { at_ms: event.at_ms.saturating_sub(at_ms), device: Some(event.device.to_owned()) });
        }
        What::Failed(message) => failure = failure.take().or(Some(message.clone())),
        What::Raised | What::Cleared => {}
    };
    for TestReading { device, metric, value, at_ms: since_ms } in readings {
        let reading = Reading::at(at_ms.saturating_add(*since_ms), device, metric, *value);
        replay.take(RunId([0; 8]), &reading, &mut listen);
    }
    replay.finish(Some(at_ms.saturating_add(lasts_ms)), &mut listen);
    found.sort_by_key(|begin| begin.at_ms);
    failure.map_or(Ok(found), Err)
}

fn moments(begins: &[Begin]) -> String {
    let moment = |begin: &Begin| {
        let at = format_duration(Duration::from_millis(u64::try_from(begin.at_ms).unwrap_or(0)));
        // Zero of the smallest unit would be hard to recognise as what people write.
        let at = if begin.at_ms == 0 { "0s".to_owned() } else { at };
        begin.device.as_ref().map_or(at.clone(), |device| format!("{at} ({device})"))
    };
    match begins {
        [] => "no match".to_owned(),
        begins => format!("a beginning at {}", begins.iter().map(moment).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::config::host::Host;

    /// Each test of a configuration: what was wrong with it.
    fn failures(text: &str) -> Vec<Option<String>> {
        let sources =
            Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
        let configuration = Configuration::parse(std::path::Path::new("file"), text, &sources, &Host::read());
        let configuration = configuration.unwrap_or_else(|problems| panic!("{problems}"));
        run(&configuration).into_iter().map(|outcome| outcome.failure.map(|failure| failure.to_string())).collect()
    }

    fn of_condition(rule: &str, readings: &str, expect: &str) -> Option<String> {
        let text =
            format!("[[rule]]\nname = \"r\"\n{rule}\ndrop = true\n[[rule.test]]\nreadings = [{readings}]\n{expect}\n");
        failures(&text).remove(0)
    }

    #[test]
    fn a_condition_begins_to_hold_when_the_test_says() {
        let rule = "when = \"t > 5\"\nfor = \"5s\"";
        let readings = "{ metric = \"t\", value = 9 }, { metric = \"t\", value = 9, at = \"3s\" }, { metric = \"t\", value = 9.5, at = \"6s\" }";
        assert_eq!(of_condition(rule, readings, "expect = \"6s\""), None);
        let failure = |expect: &str| of_condition(rule, readings, expect);
        let too_early = "expected a beginning at 5s, got a beginning at 6s (device)".to_owned();
        assert_eq!(failure("expect = \"5s\""), Some(too_early));
        let twice = "expected a beginning at 6s, 7s, got a beginning at 6s (device)".to_owned();
        assert_eq!(failure("expect = [\"6s\", \"7s\"]"), Some(twice));
        let never = "expected no match, got a beginning at 6s (device)".to_owned();
        assert_eq!(failure("expect = \"no match\""), Some(never));
        assert_eq!(failure("expect = { at = \"6s\", device = \"device\" }"), None);
        assert!(failure("expect = { at = \"6s\", device = \"other\" }").is_some());
        assert_eq!(of_condition("when = \"t > 10\"", readings, "expect = \"no match\""), None);
        let got_nothing = "expected a beginning at 0s, got no match".to_owned();
        assert_eq!(of_condition("when = \"t > 10\"", readings, "expect = \"0s\""), Some(got_nothing));
    }

    #[test]
    fn a_condition_may_begin_again_and_for_several_devices() {
        let of = |device: &str, value: u32, at: &str| {
            format!("{{ device = \"{device}\", metric = \"t\", value = {value}, at = \"{at}\" }}")
        };
        let readings =
            [of("b", 9, "1s"), of("a", 9, "0s"), of("a", 1, "2s"), of("a", 9, "4s"), of("c", 9, "5s")].join(", ");
        let expect = "expect = [\"0s\", { at = \"1s\", device = \"b\" }, { at = \"4s\", device = \"a\" }]";
        assert_eq!(
            of_condition(
                "when = \"t > 5\"\nfrom = \"?\"".replace('?', "a").as_str(),
                &readings,
                "expect = [\"0s\", \"4s\"]"
            ),
            None
        );
        let all = of_condition("when = \"t > 5\"", &readings, expect).expect("one too many");
        assert!(all.ends_with("got a beginning at 0s (a), 1s (b), 4s (a), 5s (c)"), "{all}");
    }

    #[test]
    fn what_time_alone_brings_comes_within_the_test() {
        let readings = "{ metric = \"t\", value = 9 }";
        let rule = "when = \"age(t) > 60\"";
        assert_eq!(of_condition(rule, readings, "expect = \"no match\""), None, "the test ends with its readings");
        let found = of_condition(rule, readings, "lasts = \"2m\"\nexpect = \"no match\"").expect("it begins");
        assert_eq!(found, "expected no match, got a beginning at 60500ms (device)");
        assert_eq!(of_condition(rule, readings, "lasts = \"2m\"\nexpect = \"60.5s\""), None);
    }

    #[test]
    fn a_statement_makes_what_the_test_says() {
        let of = |sql: &str, test: &str| {
            failures(&format!(
                "[[rule]]\nname = \"r\"\nsql = \"{sql}\"\ndrop = true\ntest = {{ topic = \"in/a\", {test} }}\n"
            ))
            .remove(0)
        };
        let sql = "SELECT n * 2 AS n, clientid() AS c FROM 'in/+' WHERE n > 1";
        assert_eq!(of(sql, "payload = '{\"n\":4}', client_id = \"x\", expect = { n = 8.0, c = \"x\" }"), None);
        assert_eq!(of(sql, "payload = { n = 4 }, expect = '{ \"c\": \"n/a\", \"n\": 8 }'"), None);
        let wrong = "expected {\"n\":8}, got {\"n\":8,\"c\":\"n/a\"}".to_owned();
        assert_eq!(of(sql, "payload = { n = 4 }, expect = { n = 8 }"), Some(wrong));
        assert_eq!(of(sql, "payload = { n = 1 }, expect = \"no match\""), None);
        let passes = of(sql, "payload = { n = 4 }, expect = \"no match\"").expect("it passes");
        assert!(passes.starts_with("expected no match, got {"), "{passes}");
        assert_eq!(of("SELECT * FROM 'out'", "payload = \"1\", expect = \"no match\""), None, "another topic");
        assert_eq!(of("SELECT * FROM '#'", "payload_hex = \"6f 6e\", expect = \"on\""), None);
        let sql = "SELECT get_user_properties('k') AS k, get_mqtt_property('content_type') AS c FROM '#'";
        let properties = "properties = { content_type = 'text/plain', user_properties = [['k', 'v'], ['k', 'w']] }";
        let expect = "payload = \"on\", expect = { k = ['v', 'w'], c = 'text/plain' }";
        assert_eq!(of(sql, &format!("{properties}, {expect}")), None);
        assert!(of(sql, expect).is_some(), "without properties");
        assert_eq!(of("SELECT VALUE timestamp() FROM '#'", "payload = \"\", timestamp_ms = 7, expect = 7"), None);
    }

    #[test]
    fn each_test_has_a_name_and_one_of_a_rule_that_is_off_is_not_run() {
        let text = "[[rule]]\nname = \"a\"\nsql = \"SELECT * FROM '#'\"\ndrop = true\n\
            test = [{ topic = \"x\", payload = \"1\", expect = \"1\" }, { topic = \"x\", payload = \"1\", expect = \"2\" }]\n";
        let sources =
            Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
        let read = |text: &str| Configuration::parse(std::path::Path::new("file"), text, &sources, &Host::read());
        let outcomes = run(&read(text).expect("right"));
        let names: Vec<_> = outcomes.iter().map(|outcome| (outcome.name.as_str(), outcome.failure.is_none())).collect();
        assert_eq!(names, [("a, test 1", true), ("a, test 2", false)]);
        assert!(run(&read(&text.replace("drop", "enabled = false\ndrop")).expect("right")).is_empty());
        let problems = read(&text.replace("sql = \"SELECT * FROM '#'\"", "when = \"t > 1\"")).expect_err("wrong");
        assert!(
            problems.to_string().contains("the rule sees readings, so a test has readings and expect"),
            "{problems}"
        );
    }
}
