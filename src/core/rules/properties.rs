//! Properties of a message that are written by hand, to try a rule with them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::mqtt::packet::{DecodeError, PassedOn, Property, encode_properties};

/// What `get_mqtt_property('format_indicator')` gives of a payload that is UTF-8.
pub(super) const UTF_8: &str = "UTF8_DATA";
/// What it gives of any other.
pub(super) const ANY_BYTES: &str = "UNSPECIFIED_BYTES";

/// Properties of MQTT 5, with the names and values that they have in the language.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "Written")]
pub struct GivenProperties {
    encoded: Vec<u8>,
}

impl GivenProperties {
    /// As a publish would have them.
    pub fn passed_on(&self) -> PassedOn<'_> {
        PassedOn::from_own(&self.encoded)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format_indicator: Option<String>,
    content_type: Option<String>,
    response_topic: Option<String>,
    /// In base64.
    correlation_data: Option<String>,
    /// Names with their values.
    #[serde(default)]
    user_properties: Vec<(String, String)>,
}

/// Why they are no properties.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("format_indicator is neither {UTF_8} nor {ANY_BYTES}")]
    Format,
    #[error("correlation_data is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("{0}")]
    Property(&'static str),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Fault {
        match error {
            DecodeError::Malformed(what) | DecodeError::Protocol(what) => Fault::Property(what),
            _ => Fault::Property("no properties of a publish"),
        }
    }
}

impl TryFrom<Written> for GivenProperties {
    type Error = Fault;

    fn try_from(written: Written) -> Result<GivenProperties, Fault> {
        let is_utf8 = match written.format_indicator.as_deref() {
            None => None,
            Some(UTF_8) => Some(true),
            Some(ANY_BYTES) => Some(false),
            Some(_) => return Err(Fault::Format),
        };
        let correlation_data = written.correlation_data.map(|base64| STANDARD.decode(base64)).transpose()?;
        let single = [
            is_utf8.map(|is_utf8| Property::PayloadFormat { is_utf8 }),
            written.content_type.as_deref().map(Property::ContentType),
            written.response_topic.as_deref().map(Property::ResponseTopic),
            correlation_data.as_deref().map(Property::CorrelationData),
        ];
        let user = written.user_properties.iter().map(|(name, value)| Property::User { name, value });
        let properties: Vec<Property<'_>> = single.into_iter().flatten().chain(user).collect();
        Ok(GivenProperties { encoded: encode_properties(&properties)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GivenProperties, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn they_are_those_of_a_publish() {
        let text = r#"{"user_properties":[["k","v"],["k",""]],"correlation_data":"AP8=","response_topic":"r","content_type":"c","format_indicator":"UTF8_DATA"}"#;
        let given = read(text).expect("right");
        let expected = [
            Property::PayloadFormat { is_utf8: true },
            Property::ContentType("c"),
            Property::ResponseTopic("r"),
            Property::CorrelationData(&[0, 255]),
            Property::User { name: "k", value: "v" },
            Property::User { name: "k", value: "" },
        ];
        assert_eq!(given.passed_on().properties().collect::<Vec<_>>(), expected);
        assert_eq!(read("{}"), Ok(GivenProperties::default()));
    }

    #[test]
    fn what_no_publish_can_have_is_refused() {
        let long = format!(r#"{{"content_type":"{}"}}"#, "x".repeat(65_536));
        for (text, why) in [
            (r#"{"format_indicator":"utf8"}"#, "neither UTF8_DATA nor UNSPECIFIED_BYTES"),
            (r#"{"correlation_data":"!"}"#, "correlation_data is not base64"),
            (r#"{"response_topic":"a/#"}"#, "a response topic that is empty or has a wildcard"),
            (r#"{"content_type":"a\u0000"}"#, "a text with a NUL"),
            (r#"{"user_properties":[["k"]]}"#, "invalid length 1"),
            (r#"{"expiry":1}"#, "unknown field `expiry`"),
            (&long, "more than 65535 bytes"),
        ] {
            let refusal = read(text).expect_err("wrong");
            assert!(refusal.contains(why), "{refusal}");
        }
    }
}
