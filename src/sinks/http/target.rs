//! The address that records are posted to.

use std::time::Duration;

use super::alerts::AlertFormat;
use super::forms::Form;
use crate::core::delivery::DeliverySettings;
use crate::sinks::compression::Compression;
use crate::sinks::secret::Secret;

/// What is posted.
#[derive(Clone, Debug)]
pub enum Take {
    All {
        /// Names of the streams; `None` is every stream.
        streams: Option<Vec<String>>,
    },
    Alerts(AlertFormat),
}

/// The URL that records are posted to, and its headers.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    /// May hold a token, as chat webhooks do.
    pub url: Secret,
    pub headers: Vec<(String, Secret)>,
    pub form: Form,
    pub compression: Compression,
    pub take: Take,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub delivery: DeliverySettings,
}

impl HttpTarget {
    /// The URL without the parts that may be secret.
    pub fn origin(&self) -> &str {
        let url = &self.url.0;
        let host = url.find("://").map_or(0, |at| at + 3);
        let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
        match url[host..end].rfind('@') {
            Some(at) => &url[host + at + 1..end],
            None => &url[..end],
        }
    }
}
