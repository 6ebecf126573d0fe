//! What rules do to the raw stream is counted, and held back readings are lost neither by other rules nor on a full disk.

use super::*;
use crate::identity::PerStream;
use crate::rulebook::{ActionDefinition, Definition, Keep, Rule, Surroundings};

const START_MS: i64 = 1_700_000_000_000;

fn at(second: i64) -> Moment {
    Moment { wall_ms: START_MS + second * 1_000, steady_ms: second as u64 * 1_000 }
}

fn book(rules: &[(&str, &str, ActionDefinition)]) -> Arc<Rulebook> {
    let compile = |(name, when, action): &(&str, &str, ActionDefinition)| {
        let (name, when, actions) = ((*name).to_owned(), Some((*when).to_owned()), vec![action.clone()]);
        let definition = Definition { name, when, actions, ..Definition::default() };
        Rule::compile(&definition, &Surroundings::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
    };
    Arc::new(Rulebook::new(rules.iter().map(compile).collect(), Surroundings::default()))
}

fn pipeline(book: Arc<Rulebook>) -> Pipeline {
    let rules = RuleSettings { book, ..RuleSettings::default() };
    Pipeline::new(PipelineSettings { rules, ..PipelineSettings::new("g", RunId([1; 8])) }, &PerStream::default())
}

fn take(pipeline: &mut Pipeline, second: i64, metric: &str, value: f64) {
    let mut readings = Readings::default();
    readings.push(&Reading::at(at(second).wall_ms, "d", metric, value));
    pipeline.take(&readings, at(second));
}

/// Raw records of the open batches, and the amounts that are counted with them.
fn sealed(pipeline: &mut Pipeline) -> (u64, Vec<(&'static str, u64)>) {
    let sealed = pipeline.seal();
    let raw = sealed.of(Stream::RAW).map(|batch| u64::from(batch.count)).sum();
    (raw, sealed.received)
}

fn downsample() -> ActionDefinition {
    ActionDefinition::Downsample { every_ms: 60_000, keep: vec![Keep::Last] }
}

#[test]
fn a_reading_that_one_rule_makes_and_another_drops_is_neither_received_nor_stored() {
    let double =
        ActionDefinition::Readings { device: None, metric: Some("double".to_owned()), value: Some("t * 2".to_owned()) };
    let rules = [("make", "t > 0", double), ("drop", "metric() = 'double'", ActionDefinition::Drop)];
    let mut pipeline = pipeline(book(&rules));
    take(&mut pipeline, 0, "t", 5.0);
    assert_eq!(sealed(&mut pipeline), (1, vec![("accepted", 1)]));
}

#[test]
fn other_rules_take_the_place_of_those_before_and_what_those_held_back_is_stored() {
    let mut pipeline = pipeline(book(&[("thin", "metric() = 't'", downsample())]));
    (0..3).for_each(|second| take(&mut pipeline, second, "t", 5.0));
    assert_eq!(sealed(&mut pipeline), (0, vec![("summarised_by_rule", 3)]));
    pipeline.adopt_rules(book(&[]), at(3));
    assert_eq!(sealed(&mut pipeline), (1, vec![("derived", 1)]));
}

#[test]
fn what_is_held_back_waits_until_it_can_be_stored() {
    let mut pipeline = pipeline(book(&[("thin", "metric() = 't'", downsample())]));
    take(&mut pipeline, 0, "t", 5.0);
    sealed(&mut pipeline);
    for storing in [Storing::AllButReadings, Storing::Nothing] {
        pipeline.set_storing(storing, at(100));
        pipeline.tick(at(200));
        pipeline.close_spans(at(200));
        assert_eq!(pipeline.open_readings(), 0, "{storing:?}");
    }
    pipeline.set_storing(Storing::Everything, at(300));
    pipeline.tick(at(300));
    assert_eq!(pipeline.open_readings(), 1);
}
