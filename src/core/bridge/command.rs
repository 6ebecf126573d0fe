//! What a message on a command topic is: its id, by which it is published once, and the time after which it must not be published any more.

use serde_json::Value;

use crate::mqtt::topic;
use crate::path::{Path, PathError, Root, Step};

/// Longer ids are none.
pub const ID_BYTES_MAX: usize = 256;

/// Which messages are commands, and where they say what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSettings {
    /// Filters of our topics.
    pub filters: Vec<String>,
    /// Where the id is.
    pub id: Place,
    /// Where the time is after which it is void.
    pub expiry: Place,
}

/// A place in a payload, where one value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Path);

/// Why a text is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It is no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It may find several values, or begins elsewhere.
    #[error("one value of the payload is meant, as in $.id")]
    Several,
}

impl Place {
    /// Reads a path such as `$.a.b`.
    ///
    /// # Errors
    ///
    /// If it does not lead to one value.
    pub fn parse(text: &str) -> Result<Place, PlaceError> {
        let path = Path::parse(text)?;
        match path.root == Root::Payload && !path.is_several() {
            true => Ok(Place(path)),
            false => Err(PlaceError::Several),
        }
    }

    fn find<'a>(&self, payload: &'a Value) -> Option<&'a Value> {
        self.0.steps.iter().try_fold(payload, |value, step| match step {
            Step::Name(name) => value.get(name),
            Step::Index(index) => value.get(index),
            Step::Members | Step::Elements => None,
        })
    }
}

/// Why a command is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It came after its time.
    Expired,
    /// It was retained: it would be given again at each subscription, so it is a state and no command.
    Retained,
    /// Its time cannot be read, so it cannot be kept.
    UnreadableExpiry,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 3] = [Refusal::Expired, Refusal::Retained, Refusal::UnreadableExpiry];

    /// As in metrics and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Expired => "expired",
            Refusal::Retained => "retained",
            Refusal::UnreadableExpiry => "unreadable_expiry",
        }
    }
}

/// A command, as its payload says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// `None` if it has none: then it is a message as any other.
    pub id: Option<String>,
    /// After which it is void, in milliseconds of the epoch.
    pub expires_at_ms: Option<i64>,
}

impl CommandSettings {
    /// Whether a message on this topic of ours is a command.
    pub fn concerns(&self, local: &str) -> bool {
        self.filters.iter().any(|filter| topic::matches(filter, local))
    }

    /// Reads a command.
    ///
    /// # Errors
    ///
    /// If it says when it expires, and that cannot be read.
    pub fn read(&self, payload: &[u8]) -> Result<Command, Refusal> {
        let Ok(payload) = serde_json::from_slice::<Value>(payload) else { return Ok(Command::default()) };
        let expires_at_ms = match self.expiry.find(&payload) {
            None | Some(Value::Null) => None,
            Some(value) => Some(time_ms(value).ok_or(Refusal::UnreadableExpiry)?),
        };
        Ok(Command { id: self.id.find(&payload).and_then(id), expires_at_ms })
    }
}

fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
    .filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)
}

/// Milliseconds as a number, or a time as RFC 3339 has it.
fn time_ms(value: &Value) -> Option<i64> {
    match value {
        // Of a fraction what is left out makes it expire earlier, not later.
        Value::Number(number) => number.as_i64().or_else(|| {
            let ms = number.as_f64()?.floor();
            (ms.abs() < 9e15).then_some(ms as i64)
        }),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        _ => None,
    }
}

/// What is known of the gateway's clock and of the ids that there were, when a command comes.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Milliseconds of the epoch; `None` while the clock is not set.
    pub now_ms: Option<i64>,
    /// Whether there was a command of this id.
    pub is_known: bool,
    /// Whether it came as a retained message.
    pub is_retained: bool,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is published, and is of no use any more after so many milliseconds.
    Publish {
        /// `None` if it does not expire by what it says itself.
        for_ms: Option<u64>,
    },
    /// It was published before.
    Repeat,
    /// Nobody can tell whether it has expired: it waits until the clock is set.
    WaitForClock,
    /// It is not published.
    Refuse(Refusal),
}

/// Decides about a command.
pub fn judge(command: &Command, situation: Situation) -> Verdict {
    if situation.is_retained {
        return Verdict::Refuse(Refusal::Retained);
    }
    if situation.is_known {
        return Verdict::Repeat;
    }
    match (command.expires_at_ms, situation.now_ms) {
        (None, _) => Verdict::Publish { for_ms: None },
        (Some(_), None) => Verdict::WaitForClock,
        (Some(expires_at_ms), Some(now_ms)) => match u64::try_from(expires_at_ms.saturating_sub(now_ms)) {
            Ok(for_ms) if for_ms > 0 => Verdict::Publish { for_ms: Some(for_ms) },
            _ => Verdict::Refuse(Refusal::Expired),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings() -> CommandSettings {
        CommandSettings {
            filters: vec!["commands/#".to_owned()],
            id: Place::parse("$.id").unwrap(),
            expiry: Place::parse("$.meta.expires[0]").unwrap(),
        }
    }

    #[test]
    fn commands_say_who_they_are_and_until_when() {
        let command = |id: Option<&str>, expires_at_ms| Ok(Command { id: id.map(str::to_owned), expires_at_ms });
        for (payload, expected) in [
            (r#"{"id":"open-1"}"#, command(Some("open-1"), None)),
            (r#"{"id":17,"meta":{"expires":[1795465865120]}}"#, command(Some("17"), Some(1_795_465_865_120))),
            (
                r#"{"id":"a","meta":{"expires":["2026-11-23T20:31:05.120Z"]}}"#,
                command(Some("a"), Some(1_795_465_865_120)),
            ),
            (
                r#"{"id":"a","meta":{"expires":["2026-11-23T21:31:05.120+01:00"]}}"#,
                command(Some("a"), Some(1_795_465_865_120)),
            ),
            (r#"{"id":"a","meta":{"expires":[1.9]}}"#, command(Some("a"), Some(1))),
            (r#"{"id":"a","meta":{"expires":[null]}}"#, command(Some("a"), None)),
            (r#"{"id":"a","meta":{"expires":["tomorrow"]}}"#, Err(Refusal::UnreadableExpiry)),
            (r#"{"id":"a","meta":{"expires":[1e300]}}"#, Err(Refusal::UnreadableExpiry)),
            (r#"{"id":"a","meta":{"expires":[{}]}}"#, Err(Refusal::UnreadableExpiry)),
            (r#"{"id":""}"#, command(None, None)),
            (r#"{"id":["a"]}"#, command(None, None)),
            ("open the door", command(None, None)),
            ("", command(None, None)),
        ] {
            assert_eq!(settings().read(payload.as_bytes()), expected, "{payload}");
        }
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(ID_BYTES_MAX + 1));
        assert_eq!(settings().read(long.as_bytes()), command(None, None));
        assert!(settings().concerns("commands/door") && !settings().concerns("devices/door"));
    }

    #[test]
    fn a_place_is_one_value() {
        for text in ["$.list[*]", "@.id", "id", "$.a.*"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_is_published_once_and_in_time() {
        let with = |expires_at_ms| Command { id: Some("a".to_owned()), expires_at_ms };
        let at = |now_ms, is_known, is_retained| Situation { now_ms, is_known, is_retained };
        for (command, situation, expected) in [
            (with(None), at(Some(5), false, false), Verdict::Publish { for_ms: None }),
            (with(None), at(None, false, false), Verdict::Publish { for_ms: None }),
            (with(Some(10)), at(Some(4), false, false), Verdict::Publish { for_ms: Some(6) }),
            (with(Some(10)), at(Some(10), false, false), Verdict::Refuse(Refusal::Expired)),
            (with(Some(i64::MIN)), at(Some(10), false, false), Verdict::Refuse(Refusal::Expired)),
            (with(Some(10)), at(None, false, false), Verdict::WaitForClock),
            (with(Some(10)), at(None, true, false), Verdict::Repeat),
            (with(Some(1)), at(Some(10), true, false), Verdict::Repeat),
            (with(None), at(Some(5), false, true), Verdict::Refuse(Refusal::Retained)),
            (with(None), at(Some(5), true, true), Verdict::Refuse(Refusal::Retained)),
        ] {
            assert_eq!(judge(&command, situation), expected, "{command:?} {situation:?}");
        }
    }
}
