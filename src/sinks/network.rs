//! The network stack shared by all sinks to services: the SDK's TLS, connections and proxies.
//!
//! The proxy comes from the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case. Hosts on this
//! machine or on its link are always reached without a proxy, because an instance's credentials come from there.

mod counting;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;

use super::status::ForwardStatus;
use crate::core::delivery::Outcome;

/// The HTTP status of a request that is larger than something on the way takes.
pub const REQUEST_TOO_LARGE: u16 = 413;

#[derive(Debug)]
struct Network {
    direct: SharedHttpConnector,
    proxied: SharedHttpConnector,
}

/// The same, where a link has to know what goes over the sockets.
pub use counting::connector as counting_connector;

/// Connects with the first request; `with_tls` for URLs that may begin with `https`.
pub fn connector(connect_timeout: Duration, with_tls: bool) -> SharedHttpConnector {
    let build = |proxy: ProxyConfig| {
        let builder = Connector::builder()
            .connector_settings(HttpConnectorSettings::builder().connect_timeout(connect_timeout).build())
            .sleep_impl(TokioSleep::new())
            .proxy_config(proxy);
        SharedHttpConnector::new(match with_tls {
            true => builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build(),
            false => builder.build_http(),
        })
    };
    let (direct, proxied) = (build(ProxyConfig::disabled()), build(ProxyConfig::from_env()));
    SharedHttpConnector::new(Network { direct, proxied })
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match is_here(request.uri()) {
            true => self.direct.call(request),
            false => self.proxied.call(request),
        }
    }
}

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
