//! The server that points are written to.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;

use super::points::Form;
use super::server::{Login, Place};
use crate::core::delivery::DeliverySettings;
use crate::sinks::compression::Compression;
use crate::sinks::http::client::Client;
use crate::sinks::secret::Secret;

/// A `[[sink]]` of this type.
#[derive(Clone, Debug)]
pub struct InfluxTarget {
    pub place: Place,
    pub login: Login,
    pub form: Form,
    /// Names of the streams; `None` is every stream.
    pub streams: Option<Vec<String>>,
    pub compression: Compression,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub delivery: DeliverySettings,
}

impl InfluxTarget {
    pub fn client(&self, connector: SharedHttpConnector) -> Client {
        let authorization = self.place.authorization(&self.login);
        let headers = authorization.into_iter().map(|value| ("authorization".to_owned(), value)).collect();
        Client::to(Secret(self.place.url.clone()), headers, self.request_timeout, connector)
    }

    /// Whether nothing is encrypted on the way.
    pub fn is_plain(&self) -> bool {
        self.place.url.starts_with("http://")
    }
}
