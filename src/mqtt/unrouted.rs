//! Publishes that no route takes are acknowledged but not stored: the log names their topics, and if numbers are lost, so does an alert.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::core::detection::alert::{Report, Trouble};
use crate::ingest;

/// Most missing routes that the log names.
const ADVISED_MAX: usize = 16;
/// How often payloads are checked for numbers again, and the alert is renewed.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// The alert keeps naming its first topic while numbers arrive there; otherwise it would change with each publish.
const NAMED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct UnroutedPublishes {
    advised: HashSet<Option<String>>,
    reported: Option<Instant>,
    /// The topic that the alert names, and when the last publish arrived there.
    named: Option<(String, Instant)>,
}

impl UnroutedPublishes {
    /// Logs the route that would take the topic: once per route, and only for a limited number of routes.
    pub fn advise(&mut self, topic: &str) {
        if self.advised.len() == ADVISED_MAX {
            return;
        }
        let route = ingest::route_for(topic);
        if !self.advised.contains(&route) {
            let topic = topic.escape_debug();
            match &route {
                Some(route) => tracing::warn!(
                    "publishes to \"{topic}\" are acknowledged but not stored: no route takes this topic; to store what is a number or \
                     JSON of them, add to the configuration, and restart:\n{route}"
                ),
                None => tracing::warn!(
                    "publishes to \"{topic}\" are acknowledged but not stored: no route can take this topic"
                ),
            }
            self.advised.insert(route);
        }
    }

    /// Whether a publish to this topic would be reported if it carried a number.
    pub fn is_due(&mut self, topic: &str, now: Instant) -> bool {
        if let Some((named, seen)) = &mut self.named
            && named == topic
        {
            *seen = now;
        }
        self.reported.is_none_or(|reported| now.duration_since(reported) >= REPORT_EVERY)
    }

    pub fn report(&mut self, topic: &str, now: Instant) -> Report {
        self.reported = Some(now);
        let is_over = self.named.as_ref().is_none_or(|(_, seen)| now.duration_since(*seen) >= NAMED_FOR);
        if is_over {
            self.named = Some((topic.to_owned(), now));
        }
        let named = self.named.as_ref().map_or(topic, |(named, _)| named);
        let remedy = match ingest::route_for(named) {
            Some(route) => {
                let keys: Vec<&str> = route.lines().skip(1).collect();
                format!("add a [[route]] with {} to the configuration, and restart", keys.join(" and "))
            }
            None => "no route can take it; publish to another one".to_owned(),
        };
        let named = named.escape_debug();
        let text = format!(
            "numbers published to \"{named}\" are acknowledged but not stored: no route takes this topic; {remedy}"
        );
        Report::new(Trouble::Unrouted, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alert_keeps_its_words_while_publishes_come_to_its_topic() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut unrouted = UnroutedPublishes::default();
        assert!(unrouted.is_due("plant/a/t", at(0)));
        let first = unrouted.report("plant/a/t", at(0));
        let words = ["\"plant/a/t\"", "[[route]] with topic = \"plant/{device}/{metric...}\""];
        assert!(words.iter().all(|words| first.text.contains(words)), "{}", first.text);
        assert!(!unrouted.is_due("hall/b", at(4)) && unrouted.is_due("hall/b", at(5)));
        assert_eq!(unrouted.report("hall/b", at(5)), first);
        unrouted.is_due("plant/a/t", at(50));
        assert_eq!(unrouted.report("hall/b", at(100)), first);
        assert!(
            unrouted.report("hall/b", at(110)).text.contains("\"hall/b\""),
            "nothing comes to the first one any more"
        );
    }
}
