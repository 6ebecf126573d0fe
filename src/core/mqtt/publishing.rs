//! Decides what happens to a message that a client publishes, or leaves to be published as its will. All such questions are asked here.

use super::topic::{self, TopicError};
use crate::mqtt::access::{DenyCode, Permissions};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// The client itself, by a PUBLISH.
    Publish,
    /// Its will: nobody is there any more who could have seen an alert.
    Will,
}

/// What happens to a message that a client publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishVerdict {
    /// Decode, store, fan out.
    Take,
    /// An acknowledgement of an alert by a person.
    AcknowledgeAlert,
    /// A topic of the gateway's own, or of brokers: acknowledged, so that the client does not repeat it, and dropped.
    Refuse,
    /// The client has no right to it: the same, and version 5 is told this code.
    Deny(DenyCode),
}

/// Decides by the topic, and by what the client may do.
///
/// # Errors
///
/// If MQTT does not allow the topic in a PUBLISH.
pub fn judge(voice: Voice, topic: &str, permissions: &Permissions) -> Result<PublishVerdict, TopicError> {
    match topic::check_topic(topic) {
        Err(TopicError::Dollar) => return Ok(PublishVerdict::Refuse),
        checked => checked?,
    }
    let is_acknowledgement = || topic::alert_acknowledgement(topic).is_some();
    Ok(match voice {
        _ if !topic::is_reserved(topic) => {
            permissions.publish(topic).map_or_else(PublishVerdict::Deny, |()| PublishVerdict::Take)
        }
        Voice::Publish if is_acknowledgement() => {
            permissions.acknowledge(topic).map_or_else(PublishVerdict::Deny, |()| PublishVerdict::AcknowledgeAlert)
        }
        Voice::Publish | Voice::Will => PublishVerdict::Refuse,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_own_topics_are_nobodys_and_only_the_living_acknowledge() {
        let both = |topic| [Voice::Publish, Voice::Will].map(|voice| judge(voice, topic, &Permissions::everything()));
        assert_eq!(both("devices/a"), [Ok(PublishVerdict::Take); 2]);
        for own in ["alerts/a", "outrider/status"] {
            assert_eq!(both(own), [Ok(PublishVerdict::Refuse); 2]);
        }
        let acknowledged = both("alerts/tank/temperature/limit/ack");
        assert_eq!(acknowledged, [Ok(PublishVerdict::AcknowledgeAlert), Ok(PublishVerdict::Refuse)]);
        assert_eq!(both("$SYS/broker/uptime"), [Ok(PublishVerdict::Refuse); 2]);
        assert!(both("a/#").iter().all(Result::is_err));
    }
}
