//! A bridge in the text of `outrider status`, and in that of `outrider check`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::text::Plain;
use crate::bridge::BridgeSettings;
use crate::counter::many;

/// What is shown of a bridge of `/api/status`.
#[derive(Debug, Deserialize)]
pub struct Bridge {
    name: String,
    url: String,
    connected: bool,
    last_error: Option<String>,
    received: u64,
    sent: u64,
    sent_refused: u64,
    dropped: u64,
    waiting: u64,
    commands: u64,
    commands_repeated: u64,
    commands_waiting: u64,
    #[serde(default)]
    commands_without_id: u64,
    #[serde(default)]
    commands_without_room: u64,
    commands_refused: BTreeMap<String, u64>,
}

impl Bridge {
    /// One line.
    pub fn text(&self) -> String {
        let state = if self.connected { "connected to" } else { "NOT connected to" };
        let mut text = format!(
            "{}: {state} {}, in {}, out {}, waiting out {}",
            self.name,
            Plain(&self.url),
            self.received,
            self.sent,
            self.waiting
        );
        let more = [
            (self.commands, "command", ""),
            (self.commands_repeated, "repeated command", " left out"),
            (self.commands_without_id, "command", " without an id, so a repeat would not be noticed"),
            (self.commands_waiting, "command", " waiting for the clock"),
            (self.commands_without_room, "command", " with NO ROOM to wait for the clock"),
            (self.sent_refused, "message", " not taken by the other broker"),
            (self.dropped, "message", " DROPPED for lack of room"),
        ];
        for (count, what, how) in more.into_iter().filter(|(count, ..)| *count > 0) {
            text += &format!(", {}{how}", many(count, what));
        }
        for (reason, count) in self.commands_refused.iter().filter(|(_, count)| **count > 0) {
            text += &format!(", {} REFUSED ({})", many(*count, "command"), Plain(reason));
        }
        if let Some(error) = &self.last_error {
            text += &format!("; {}", Plain(error));
        }
        text
    }
}

/// What a bridge does, a line for its connection and one for each of its topics.
pub fn described(bridge: &BridgeSettings) -> Vec<String> {
    let version = match bridge.version {
        crate::core::mqtt::packet::Version::V5 => "5",
        _ => "3.1.1",
    };
    let mut lines =
        vec![format!("{}: {} by MQTT {version}, as {}", bridge.name(), bridge.broker.endpoint, bridge.client_id)];
    for line in &bridge.plan.lines {
        if line.direction.is_in() {
            lines.push(format!(
                "{}: in, {} there is {} here, QoS {}",
                bridge.name(),
                line.remote,
                line.local,
                line.qos
            ));
        }
        if line.direction.is_out() {
            lines.push(format!(
                "{}: out, {} here is {} there, QoS {}",
                bridge.name(),
                line.local,
                line.remote,
                line.qos
            ));
        }
    }
    if let Some(commands) = &bridge.local.commands {
        lines.push(format!("{}: commands on {}, each once by its id", bridge.name(), commands.filters.join(", ")));
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_matters() {
        let bridge: Bridge = serde_json::from_str(
            r#"{"name":"cloud","url":"mqtts://b:8883","connected":false,"last_error":"no route","received":3,"sent":4,"sent_refused":0,
                "dropped":1,"waiting":7,"commands":2,"commands_repeated":1,"commands_waiting":0,"commands_refused":{"expired":1,"retained":0},"new":1}"#,
        )
        .unwrap();
        assert_eq!(
            bridge.text(),
            "cloud: NOT connected to mqtts://b:8883, in 3, out 4, waiting out 7, 2 commands, 1 repeated command left out, \
             1 message DROPPED for lack of room, 1 command REFUSED (expired); no route"
        );
    }
}
