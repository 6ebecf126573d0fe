//! The network stack of all sinks that speak HTTP: connections, TLS and proxies, behind the SDK's interface.
//!
//! The proxy comes from the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case. Hosts on this
//! machine or on its link are always reached without a proxy, because an instance's credentials come from there.

mod connections;

use std::net::IpAddr;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;

use super::status::ForwardStatus;
use crate::core::delivery::Outcome;

/// The HTTP status of a request that is larger than something on the way takes.
pub const REQUEST_TOO_LARGE: u16 = 413;

pub use connections::{connector, connector_trusting};

/// Counts the bytes of the request bodies that go through it, and takes a 413 for what it says, whatever comes with it.
#[derive(Debug)]
pub struct Counted {
    below: SharedHttpConnector,
    status: Arc<ForwardStatus>,
}

impl Counted {
    pub fn connector(below: SharedHttpConnector, status: &Arc<ForwardStatus>) -> SharedHttpConnector {
        SharedHttpConnector::new(Counted { below, status: Arc::clone(status) })
    }

    /// The same, wrapped as the SDK requires it.
    pub fn client(below: SharedHttpConnector, status: &Arc<ForwardStatus>) -> SharedHttpClient {
        let counted = Counted::connector(below, status);
        http_client_fn(move |_, _| counted.clone())
    }
}

impl HttpConnector for Counted {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.status.sent_bytes.add(request.body().content_length().unwrap_or(0));
        let response = self.below.call(request);
        HttpConnectorFuture::new(async move {
            let mut response = response.await?;
            // It may come from a proxy, with a page that never ends or that nobody can read, before the request was sent to its end.
            if response.status().as_u16() == REQUEST_TOO_LARGE {
                *response.body_mut() = SdkBody::empty();
            }
            Ok(response)
        })
    }
}

/// The outcome of a request that got no response. The innermost cause is told, because that is what somebody may have to mend: the proxy
/// opens no tunnel, the certificate is of an unknown issuer, there is no such host.
pub fn unreachable(error: &dyn std::error::Error) -> Outcome {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Outcome::Unreachable(innermost.to_string())
}

/// Whether a URL's host is this machine or on its link.
pub fn is_here(url: &str) -> bool {
    let authority =
        url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host_and_port.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host_and_port.split(':').next().unwrap_or_default(),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_its_link_need_no_proxy() {
        for here in [
            "http://127.0.0.1:4568/x",
            "https://localhost",
            "http://[::1]:80/",
            "http://169.254.169.254/latest/",
            "http://u:p@LOCALHOST/",
        ] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in [
            "https://kinesis.eu-central-1.amazonaws.com/",
            "http://10.0.0.7/",
            "http://[2001:db8::1]/",
            "http://x/127.0.0.1",
        ] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
