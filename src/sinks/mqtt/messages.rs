//! From the lines of a record to messages: one holds the lines that stand together and have the same topic. Their order is kept, also among
//! topics.

use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;

use crate::core::mqtt::client::Message;
use crate::core::mqtt::template::{Filling, Template};

/// Turns records of one stream into messages.
#[derive(Clone, Debug)]
pub struct MessageMaker {
    pub template: Template,
    pub gateway: String,
    pub stream: String,
    /// A message takes no further line once it would hold more bytes.
    pub payload_bytes_max: usize,
}

/// What a topic may have of a record.
#[derive(Debug, Default, Deserialize)]
struct Looked<'a> {
    #[serde(default, borrow)]
    metric: Option<Cow<'a, str>>,
    #[serde(default, rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
}

impl MessageMaker {
    /// Messages for the lines of a device.
    pub fn messages(&self, device: &str, data: &Bytes) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        // Of the last message: where its lines begin, and where they end.
        let mut span = 0..0;
        let looks = self.template.looks_into_records();
        let mut topic = self.topic(device, b"");
        let finish = |span: &std::ops::Range<usize>, topic: &str, messages: &mut Vec<Message>| {
            if !span.is_empty() {
                let payload = data.slice(span.clone());
                messages.push(Message { topic: topic.to_owned(), payload, qos: 1, ..Message::default() });
            }
        };
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            let (start, end) = (span.end, span.end + line.len());
            let next = if looks { self.topic(device, line) } else { topic.clone() };
            if next != topic || end - span.start > self.payload_bytes_max {
                finish(&span, &topic, &mut messages);
                (topic, span.start) = (next, start);
            }
            span.end = end;
        }
        finish(&span, &topic, &mut messages);
        messages
    }

    fn topic(&self, device: &str, line: &[u8]) -> String {
        let looked: Looked<'_> = match self.template.looks_into_records() {
            true => serde_json::from_slice(line).unwrap_or_default(),
            false => Looked::default(),
        };
        self.template.fill(&Filling {
            gateway: &self.gateway,
            device,
            metric: looked.metric.as_deref().unwrap_or_default(),
            stream: &self.stream,
            kind: looked.kind.as_deref().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(template: &str, payload_bytes_max: usize, data: &str) -> Vec<(String, String)> {
        let maker = MessageMaker {
            template: Template::parse(template).expect(template),
            gateway: "gw".to_owned(),
            stream: "raw".to_owned(),
            payload_bytes_max,
        };
        let messages = maker.messages("tank/1", &Bytes::copy_from_slice(data.as_bytes()));
        let shown = |message: Message| (message.topic, String::from_utf8(message.payload.to_vec()).expect("text"));
        messages.into_iter().map(shown).collect()
    }

    fn line(kind: &str, metric: &str) -> String {
        format!("{{\"v\":1,\"type\":\"{kind}\",\"metric\":\"{metric}\"}}\n")
    }

    #[test]
    fn lines_of_one_topic_share_a_message_as_far_as_they_fit() {
        let lines = [line("reading", "a"), line("reading", "b"), line("reading", "b"), line("reading", "a")];
        let data = lines.concat();
        assert_eq!(made("x/{device}", 1 << 20, &data), [("x/tank%2F1".to_owned(), data.clone())]);
        let len = lines[0].len();
        let halves: Vec<String> = made("x/{device}", 2 * len, &data).into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(halves, [lines[..2].concat(), lines[2..].concat()]);
        // A line that is too long is not cut: whether it can be sent is seen later.
        assert_eq!(made("x", 1, &data).len(), 4);
        let by_metric: Vec<(String, String)> = made("x/{metric}", 1 << 20, &data);
        let expected = [("x/a", lines[0].clone()), ("x/b", lines[1..3].concat()), ("x/a", lines[3].clone())];
        assert_eq!(
            by_metric,
            expected.map(|(topic, payload)| (topic.to_owned(), payload)),
            "in the order of the lines"
        );
        assert_eq!(made("x/{metric}", 1 << 20, "").len(), 0);
    }

    #[test]
    fn records_without_a_metric_have_a_topic_too() {
        let data = "{\"v\":1,\"type\":\"gateway\"}\nnot JSON\n{\"type\":\"a\\u002fb\",\"metric\":null}\n";
        let topics: Vec<String> = made("{type}/{metric}", 1 << 20, data).into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(topics, ["gateway/_", "_/_", "a%2Fb/_"]);
    }
}
