//! Acknowledgements, and what the detectors learn from them.
//!
//! What a person has said is stored as the state of its series, in the same commit as the acknowledgement: no replay of readings would bring
//! it back.

use super::{AlertKey, Moment, Pipeline, SnapshotChunk};
use crate::detection::alert::Acknowledgement;
use crate::detection::detectors::Lesson;
use crate::detection::monitor::CHUNK_SERIES;

/// Chunks of the snapshot that go with the next commit because somebody taught a series of theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct TaughtChunks {
    open: Vec<usize>,
    /// A snapshot was taken since the start, so what is stored is numbered as the series are now.
    is_numbered: bool,
}

impl TaughtChunks {
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}

impl Pipeline {
    /// A person has seen an alert, and may have said what it was. Returns what comes of it; `None` if there is no such alert.
    pub fn acknowledge(&mut self, key: &AlertKey, seen: &Acknowledgement, now: Moment) -> Option<Lesson> {
        if !self.book.acknowledge(now, key, seen, &mut self.changes) {
            return None;
        }
        self.record_changes(now);
        let Some(is_normal) = seen.normal else { return Some(Lesson::Unasked) };
        let detectors = &self.book.current(key).expect("it was just acknowledged").detectors;
        let lesson = self.monitor.teach(key, detectors, is_normal);
        if matches!(lesson, Lesson::Normal | Lesson::Fault) {
            let index = self.monitor.index_of(&key.device, &key.metric).expect("it was just taught");
            self.store_chunk(1 + index / CHUNK_SERIES);
        }
        Some(lesson)
    }

    fn store_chunk(&mut self, index: usize) {
        if !self.taught.open.contains(&index) {
            self.taught.open.push(index);
        }
        match &mut self.round {
            // The end of a round removes the chunks behind it.
            Some(round) => round.end = round.end.max(index + 1),
            None if self.taught.is_numbered => {}
            None => self.begin_snapshot(),
        }
    }

    /// The parts of the detectors' state that the next commit carries. If they complete a snapshot, how many it has.
    pub(super) fn next_parts(&mut self) -> (Vec<SnapshotChunk>, Option<u32>) {
        // One chunk among those of the last run, which are numbered in another way, could take the place of a series that has none yet.
        let is_whole = self.taught.is_open() && !self.taught.is_numbered;
        let (mut parts, count) = self.next_chunks(if is_whole { usize::MAX } else { self.chunks_a_commit });
        self.taught.is_numbered |= count.is_some();
        for index in std::mem::take(&mut self.taught.open) {
            if parts.iter().all(|part| part.index != index as u32) {
                parts.push(self.chunk(index));
            }
        }
        (parts, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::alert::{AlertTimes, State};
    use crate::identity::{PerStream, RunId, Streams};
    use crate::pipeline::{PipelineSettings, RestoredPart, Sealed};
    use crate::reading::{Reading, Readings};

    fn at(second: u64) -> Moment {
        Moment { wall_ms: 1_700_000_000_000 + 1_000 * second as i64, steady_ms: 1_000 * second }
    }

    fn pipeline(run: u8) -> Pipeline {
        let alerts = AlertTimes { remove_after_ms: u64::MAX / 4, ..AlertTimes::default() };
        let settings = PipelineSettings { alerts, ..PipelineSettings::new("g", RunId([run; 8])) };
        let mut pipeline = Pipeline::new(settings, &PerStream::new(&Streams::default(), |_| 0));
        pipeline.listen_from(at(0));
        pipeline
    }

    /// A device with a spike in the last of so many seconds, among others.
    fn live(pipeline: &mut Pipeline, seconds: std::ops::Range<u64>, others: usize) {
        let last = seconds.end - 1;
        for second in seconds {
            let mut readings = Readings::default();
            let now = at(second);
            let noise = (second * 7919 % 5) as f64 / 10.0;
            if second < 2 {
                let metrics: Vec<String> = (0..others).map(|number| format!("m{number}")).collect();
                metrics.iter().for_each(|metric| readings.push(&Reading::at(now.wall_ms, "other", metric, 1.0)));
            }
            let value = if second == last { 60.0 } else { 20.0 + noise };
            readings.push(&Reading::at(now.wall_ms, "tank", "temp", value));
            pipeline.take(&readings, now);
        }
    }

    fn key() -> AlertKey {
        AlertKey { device: "tank".into(), metric: "temp".into(), kind: "anomaly".into() }
    }

    fn acknowledge(pipeline: &mut Pipeline, normal: Option<bool>) -> Option<Lesson> {
        pipeline.acknowledge(&key(), &Acknowledgement { by: "anna".into(), normal }, at(1_000))
    }

    /// Whether the same spike is found by a pipeline that begins with the parts of these commits.
    fn finds_again(commits: &[&Sealed]) -> bool {
        let mut parts = std::collections::BTreeMap::new();
        for sealed in commits {
            parts.extend(sealed.snapshot.iter().map(|part| (part.index, &part.state)));
            parts.retain(|index, _| sealed.snapshot_chunks.is_none_or(|count| *index < count));
        }
        let mut pipeline = pipeline(2);
        for state in parts.values() {
            assert!(pipeline.restore(state, at(0)).is_ok_and(|part| part != RestoredPart::Series { left_out: 1 }));
        }
        assert!(pipeline.monitor().index_of("tank", "temp").is_some(), "it is restored");
        live(&mut pipeline, 1_200..1_240, 0);
        pipeline.flagged() > 0
    }

    #[test]
    fn what_is_taught_is_in_the_commit_of_its_acknowledgement() {
        for (word, is_found) in [(None, true), (Some(true), false), (Some(false), true)] {
            // Of 600 others, so that the series is in the third part.
            let mut pipeline = pipeline(1);
            live(&mut pipeline, 0..900, 600);
            // The state from before the alert, as the last snapshot has it, but for a spike that is not in it.
            pipeline.request_final_snapshot();
            let before = pipeline.seal();
            pipeline.chunks_a_commit = 1;
            assert_eq!(before.snapshot.len(), 4);
            let lesson = acknowledge(&mut pipeline, word).expect("an alert");
            assert_eq!(pipeline.is_snapshot_open(), word.is_some(), "{lesson:?}");
            let with_it = pipeline.seal();
            assert_eq!(with_it.alerts.len(), 1, "the alert's new state");
            let indices: Vec<u32> = with_it.snapshot.iter().map(|part| part.index).collect();
            assert_eq!(indices, word.map_or(vec![], |_| vec![3]), "the one that has the series");
            assert!(!pipeline.is_snapshot_open());
            assert_eq!(finds_again(&[&before, &with_it]), is_found, "{word:?}");
            // The control: the commits without the part of the acknowledgement's.
            assert!(finds_again(&[&before]));
        }
    }

    #[test]
    fn before_the_first_snapshot_all_of_it_is_in_that_commit() {
        let mut pipeline = pipeline(1);
        live(&mut pipeline, 0..900, 600);
        acknowledge(&mut pipeline, Some(true));
        let sealed = pipeline.seal();
        assert_eq!((sealed.snapshot.len(), sealed.snapshot_chunks), (4, Some(4)));
        assert!(!finds_again(&[&sealed]));
    }

    #[test]
    fn a_snapshot_under_way_does_not_remove_what_is_taught_meanwhile() {
        let mut pipeline = pipeline(1);
        // One chunk of series when it begins, and two when somebody teaches one of the second.
        let mut readings = Readings::default();
        (0..CHUNK_SERIES)
            .for_each(|number| readings.push(&Reading::at(at(1).wall_ms, "more", &format!("n{number}"), 1.0)));
        pipeline.take(&readings, at(1));
        pipeline.tick(at(2));
        let first = [pipeline.seal(), pipeline.seal()];
        assert_eq!(first[1].snapshot_chunks, Some(2));
        pipeline.begin_snapshot();
        let mut commits = vec![pipeline.seal()];
        live(&mut pipeline, 2..900, 0);
        acknowledge(&mut pipeline, Some(true));
        while pipeline.is_snapshot_open() {
            commits.push(pipeline.seal());
        }
        assert!(!finds_again(&first.iter().chain(&commits).collect::<Vec<_>>()));
        assert!(commits.iter().any(|sealed| sealed.snapshot_chunks.is_some()), "the snapshot was completed");
    }

    #[test]
    fn the_answer_says_what_is_learned() {
        let mut pipeline = pipeline(1);
        let kinds = |pipeline: &mut Pipeline, metric: &str, kind: &str| {
            let key = AlertKey { metric: metric.into(), kind: kind.into(), ..key() };
            let seen = Acknowledgement { by: "anna".into(), normal: Some(true) };
            pipeline.acknowledge(&key, &seen, at(1_000))
        };
        assert_eq!(acknowledge(&mut pipeline, Some(true)), None);
        live(&mut pipeline, 0..900, 0);
        let mut readings = Readings::default();
        readings.push(&Reading::at(at(900).wall_ms, "tank", "level", f64::NAN));
        pipeline.take(&readings, at(900));
        assert_eq!(acknowledge(&mut pipeline, None), Some(Lesson::Unasked));
        assert_eq!(acknowledge(&mut pipeline, Some(true)), Some(Lesson::Normal));
        assert_eq!(acknowledge(&mut pipeline, Some(false)), Some(Lesson::Fault));
        assert_eq!(kinds(&mut pipeline, "level", "limit"), Some(Lesson::NotOfKind));
        assert_eq!(kinds(&mut pipeline, "level", "stuck"), None);
        pipeline.monitor.forget_series("tank", Some("temp"), |_| ());
        assert_eq!(acknowledge(&mut pipeline, Some(true)), Some(Lesson::Unknown));
    }

    #[test]
    fn an_alert_whose_trouble_is_normal_clears_while_it_goes_on() {
        for (word, is_cleared) in [(None, false), (Some(true), true), (Some(false), false)] {
            let mut pipeline = pipeline(1);
            let go_on = |pipeline: &mut Pipeline, seconds: std::ops::Range<u64>, level: f64| {
                for second in seconds {
                    let mut readings = Readings::default();
                    let noise = (second * 7919 % 5) as f64 / 10.0;
                    readings.push(&Reading::at(at(second).wall_ms, "tank", "temp", level + noise));
                    pipeline.take(&readings, at(second));
                    pipeline.tick(at(second));
                }
            };
            go_on(&mut pipeline, 0..900, 20.0);
            go_on(&mut pipeline, 900..1_000, 30.0);
            assert_eq!(pipeline.book.current(&key()).map(|alert| alert.state), Some(State::Raised));
            acknowledge(&mut pipeline, word);
            go_on(&mut pipeline, 1_000..1_040, 30.0);
            let state = pipeline.book.current(&key()).map(|alert| alert.state);
            assert_eq!(state == Some(State::Cleared), is_cleared, "{word:?}");
        }
    }
}
