//! What sinks to services of AWS share: where the service is, credentials, the time that requests are signed with, signed requests
//! and error codes.

pub mod clock;
pub mod credentials;
pub mod errors;
pub mod probe;
pub mod role_alias;
pub mod service;

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector};
use aws_smithy_types::retry::ReconnectMode;

use super::network;
use super::stream::StreamParts;
use clock::ServiceClock;
use role_alias::RoleAlias;

/// How to reach a service.
#[derive(Clone, Debug)]
pub struct AwsConnection {
    /// `None`: as the SDK finds it.
    pub region: Option<String>,
    /// `None`: the region's own.
    pub endpoint: Option<String>,
    pub connect_timeout: Duration,
    /// Time limit of one request, from its start to the complete response; for uploads, how long one may stand still.
    pub request_timeout: Duration,
    /// `None`: credentials come from the SDK's own chain, environment, profile, container and instance.
    pub role_alias: Option<Arc<RoleAlias>>,
}

impl AwsConnection {
    /// The network connector, shared by all streams of a sink.
    pub fn connector(&self) -> SharedHttpConnector {
        network::connector(self.connect_timeout, None)
    }

    /// The same for a sink whose link may have to know what goes over the sockets.
    pub fn connector_of(&self, parts: &StreamParts) -> SharedHttpConnector {
        network::connector(self.connect_timeout, parts.counts())
    }

    /// What the environment and the profile say, as far as the configuration does not.
    pub async fn load(&self, http: SharedHttpClient, clock: &ServiceClock) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect_timeout)
            .operation_timeout(self.request_timeout)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .time_source(clock.clone())
            // Our connections see by themselves what has failed on them.
            .retry_config(RetryConfig::disabled().with_reconnect_mode(ReconnectMode::ReuseAllConnections))
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(role_alias) = &self.role_alias {
            loader = loader.credentials_provider(SharedCredentialsProvider::new(role_alias.provider(clock)));
        }
        loader.load().await
    }

    /// The service does not take the credentials any more, if they `have_ended`; else somebody may have to mend something, and others may be
    /// better.
    pub async fn doubt_credentials(&self, have_ended: bool) {
        if let Some(role_alias) = &self.role_alias {
            role_alias.doubt(have_ended).await;
        }
    }

    /// What `check` says of where the service is.
    pub fn describe_place(&self) -> String {
        let region = self.region.as_deref().unwrap_or("the region of AWS_REGION or the AWS profile");
        let endpoint = self.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("{region}{endpoint}")
    }

    /// What `check` says of where credentials come from, if it is to be said.
    pub fn describe_credentials(&self) -> String {
        match &self.role_alias {
            Some(role_alias) => {
                format!(
                    ", credentials of the role alias {} at {}",
                    role_alias.settings().role_alias,
                    role_alias.settings().host
                )
            }
            None => String::new(),
        }
    }

    /// What `check` notes if there are no credentials.
    pub fn notes(&self) -> Vec<String> {
        let is_known = self.role_alias.is_some() || credentials::is_any_configured();
        if is_known { Vec::new() } else { vec![credentials::REMEDY.to_owned()] }
    }
}
