//! The cluster that records are sent to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;

use super::PATH;
use super::client::{Client, Login};
use super::document::{data_bytes_max, overhead_bytes, record_bytes_max};
use super::index::IndexTemplate;
use crate::core::delivery::DeliverySettings;
use crate::sinks::compression::Compression;
use crate::sinks::links::SocketBytes;
use crate::sinks::network;

/// Sends to a cluster.
#[derive(Clone, Debug)]
pub struct OpenSearchCluster {
    pub url: String,
    pub index: IndexTemplate,
    /// Names of the streams; `None` is every stream.
    pub streams: Option<Vec<String>>,
    pub login: Login,
    pub ca: Option<PathBuf>,
    pub compression: Compression,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub request_bytes_max: usize,
    pub delivery: DeliverySettings,
}

impl OpenSearchCluster {
    /// As `Counted` wants it, for a sink with these counts.
    pub fn connector(&self, counts: Option<Arc<SocketBytes>>) -> SharedHttpConnector {
        network::connector_trusting(self.connect_timeout, self.ca.as_deref(), counts)
    }

    pub fn client(&self, connector: SharedHttpConnector) -> Client {
        Client::new(&self.url, &self.login, self.request_timeout, connector)
    }

    /// With half of the time that we wait, a cluster says of a single document that its shard is not there, before the answer about all others
    /// is given up. Collections of OpenSearch Serverless have no shards that one could wait for.
    pub fn bulk_path(&self) -> String {
        match self.login {
            Login::Aws { service: "aoss", .. } => PATH.to_owned(),
            _ => format!("{PATH}&timeout={}ms", self.request_timeout.as_millis() / 2),
        }
    }

    /// Requests no larger than allowed, with what is added to each record.
    pub fn delivery(&self, gateway: &str) -> DeliverySettings {
        let overhead_bytes = overhead_bytes(self.index.bytes_max(), gateway);
        let bytes_max = data_bytes_max(self.request_bytes_max, overhead_bytes);
        // Short ones leave room for a long one.
        let record_bytes_soft = self.delivery.record_bytes_soft.min(bytes_max / 4);
        let record_bytes_max = record_bytes_max(self.request_bytes_max, overhead_bytes, record_bytes_soft);
        DeliverySettings {
            record_bytes_soft,
            record_bytes_max: record_bytes_max.max(bytes_max),
            request_bytes_max: bytes_max,
            ..self.delivery.clone()
        }
    }
}
