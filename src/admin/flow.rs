//! How each stream flows to each sink: what comes and what leaves in a second, how old the oldest is that waits, and when it will be gone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ledger::LedgerLine;

/// Looks at the ledger that come sooner after each other are not kept.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Rates are those of so long, or of less while no older look is known. An archive delivers in steps of a minute at most, a cloud in bursts.
const RATE_OVER: Duration = Duration::from_secs(20);
/// Rates over longer than this say nothing of the present.
const OLD_AFTER: Duration = Duration::from_secs(150);
const SAMPLES_MAX: usize = 32;

/// One stream of one sink.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowLine {
    pub stream: String,
    pub sink: String,
    /// Records accepted in a second; `None` before there were two looks at the ledger.
    pub accepted_a_s: Option<f64>,
    pub delivered_a_s: Option<f64>,
    pub buffered: u64,
    /// How long the oldest buffered record has waited.
    pub oldest_age_s: Option<u64>,
    /// When everything will be delivered at these rates; `None` if it does not become less.
    pub drains_in_s: Option<u64>,
    pub last_error: Option<String>,
    /// What it waits for, such as the budget of a link. No fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    stream: String,
    sink: String,
    accepted: u64,
    delivered: u64,
}

/// Looks at the ledger of the last seconds, the oldest first.
#[derive(Debug, Default)]
pub struct FlowMeter(VecDeque<(Instant, Vec<Counted>)>);

impl FlowMeter {
    /// Takes note of what the ledger says now.
    pub fn note(&mut self, ledger: &[LedgerLine], now: Instant) {
        if self.0.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < SAMPLE_EVERY) {
            return;
        }
        // The newest of those that are old enough is what rates begin with.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= RATE_OVER)
            || self.0.len() >= SAMPLES_MAX
        {
            self.0.pop_front();
        }
        let counted = ledger.iter().map(|line| Counted {
            stream: line.stream.clone(),
            sink: line.sink.clone(),
            accepted: line.accepted,
            delivered: line.delivered,
        });
        self.0.push_back((now, counted.collect()));
    }

    /// How each line of the ledger flows now. `error_of` tells the last error of a sink and its stream.
    pub fn lines(
        &self,
        ledger: &[LedgerLine],
        (now, now_ms): (Instant, i64),
        error_of: impl Fn(&LedgerLine) -> Option<String>,
    ) -> Vec<FlowLine> {
        let base = self.0.front().filter(|(at, _)| {
            let elapsed = now.saturating_duration_since(*at);
            elapsed >= SAMPLE_EVERY && elapsed <= OLD_AFTER
        });
        let line = |line: &LedgerLine| {
            let before = base.and_then(|(at, counted)| {
                let before = counted.iter().find(|it| it.stream == line.stream && it.sink == line.sink)?;
                Some((before, now.saturating_duration_since(*at).as_secs_f64()))
            });
            let rate = |now: u64, before: u64, elapsed_s: f64| now.saturating_sub(before) as f64 / elapsed_s;
            let accepted_a_s = before.map(|(before, elapsed_s)| rate(line.accepted, before.accepted, elapsed_s));
            let delivered_a_s = before.map(|(before, elapsed_s)| rate(line.delivered, before.delivered, elapsed_s));
            let gained_a_s = delivered_a_s.zip(accepted_a_s).map_or(0.0, |(delivered, accepted)| delivered - accepted);
            FlowLine {
                stream: line.stream.clone(),
                sink: line.sink.clone(),
                accepted_a_s: accepted_a_s.map(rounded),
                delivered_a_s: delivered_a_s.map(rounded),
                buffered: line.buffered,
                oldest_age_s: line.oldest_ms.map(|oldest_ms| (now_ms - oldest_ms).max(0) as u64 / 1_000),
                drains_in_s: match line.buffered {
                    0 => Some(0),
                    buffered => (gained_a_s > 0.0).then(|| (buffered as f64 / gained_a_s).ceil() as u64),
                },
                last_error: error_of(line),
                waiting: None,
            }
        };
        ledger.iter().map(line).collect()
    }
}

fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(accepted: u64, delivered: u64) -> [LedgerLine; 1] {
        let names = ("raw".to_owned(), "cloud".to_owned());
        let buffered = accepted - delivered;
        let oldest_ms = (buffered > 0).then_some(5_000);
        [LedgerLine {
            stream: names.0,
            sink: names.1,
            accepted,
            delivered,
            buffered,
            oldest_ms,
            ..LedgerLine::default()
        }]
    }

    fn line(meter: &FlowMeter, ledger: &[LedgerLine], now: Instant) -> FlowLine {
        meter.lines(ledger, (now, 65_000), |_| None).remove(0)
    }

    #[test]
    fn rates_are_those_of_the_last_seconds_and_say_when_the_buffer_is_empty() {
        let (mut meter, start) = (FlowMeter::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        meter.note(&ledger(1_000, 0), start);
        let first = line(&meter, &ledger(1_000, 0), start);
        assert_eq!((first.accepted_a_s, first.delivered_a_s, first.drains_in_s), (None, None, None));
        assert_eq!((first.buffered, first.oldest_age_s), (1_000, Some(60)));
        let second = line(&meter, &ledger(1_020, 220), at(2));
        assert_eq!((second.accepted_a_s, second.delivered_a_s, second.drains_in_s), (Some(10.0), Some(110.0), Some(8)));
        let growing = line(&meter, &ledger(1_020, 10), at(2));
        assert_eq!((growing.delivered_a_s, growing.drains_in_s), (Some(5.0), None));
        let empty = line(&meter, &ledger(1_020, 1_020), at(2));
        assert_eq!((empty.oldest_age_s, empty.drains_in_s), (None, Some(0)));
        for second in 1..=100 {
            meter.note(&ledger(1_020 + second, 1_020), at(second));
            assert!(meter.0.len() <= SAMPLES_MAX);
        }
        let later = line(&meter, &ledger(1_120, 1_020), at(100));
        assert_eq!((later.accepted_a_s, later.delivered_a_s), (Some(1.0), Some(0.0)), "what was before does not count");
        assert_eq!(line(&meter, &ledger(1_120, 1_020), at(900)).accepted_a_s, None, "nobody has looked for long");
    }
}
