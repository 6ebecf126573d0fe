//! Proxies between the gateway and Kinesis, which it is told of or not.

use fake_cloud::Faults;

use super::cloud::{self, Cloud, RAW, SINGLE};
use super::{fleet, unlimited};
use crate::gateway::{Gateway, wait_until};
use crate::http::CERTIFICATE;
use crate::narrow::{Manner, Narrow};
use crate::proxy::Proxy;

#[test]
fn a_proxy_that_takes_small_requests_only_is_no_obstacle() {
    let mut cloud = Cloud::start(unlimited(), "");
    cloud.fake.go_offline().unwrap();
    cloud.publish(300);
    // All records together are many times as long, and so are the readings of one device.
    cloud.fake.set_faults(Faults { body_bytes_max: Some(16 * 1024), ..Faults::default() });
    cloud.fake.come_back().unwrap();
    cloud.expect_all();
    assert!(cloud.fake.stats().faults["body_bytes_max"] > 0);
    assert_eq!((cloud.stats(RAW).duplicates, cloud.sink(RAW)["records_rejected"].clone()), (0, 0.into()));
}

/// A proxy says in its own way that a request is too large.
#[test]
fn a_proxy_whose_page_nobody_can_read_is_no_obstacle() {
    for manner in [Manner::Whole, Manner::Early, Manner::Endless] {
        let folder = tempfile::tempdir().unwrap();
        let fake = fake_cloud::FakeCloud::start_blocking(unlimited()).unwrap();
        let proxy = Narrow::start(fake.address(), 16 * 1024, manner);
        let gateway = cloud::start_gateway(&folder, &cloud::config(&format!("http://{}", proxy.address), ""));
        let mut fleet = fleet::Fleet::default();
        fleet.publish(gateway.mqtt, 300);
        wait_until("everything is delivered", || fake.stats().streams[RAW].distinct == fleet.published());
        assert!(proxy.refused() > 0, "{manner:?}");
        let status = gateway.status();
        let sinks = status["sinks"].as_array().unwrap();
        assert!(sinks.iter().all(|sink| sink["records_rejected"] == 0), "{manner:?}: {status}");
    }
}

/// The control: if large requests are refused without the reason, nothing is delivered.
#[test]
fn a_proxy_that_does_not_say_why_is_an_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let fake = fake_cloud::FakeCloud::start_blocking(unlimited()).unwrap();
    let proxy = Narrow::start(fake.address(), 2 * 1024, Manner::Unavailable);
    let config = cloud::config(&format!("http://{}", proxy.address), "batch_delay = \"200ms\"");
    let gateway = cloud::start_gateway(&folder, &config);
    fleet::Fleet::default().publish(gateway.mqtt, 300);
    wait_until("it has tried several times", || proxy.refused() > 5);
    assert_eq!(fake.stats().streams[RAW].distinct, 0);
}

/// A gateway whose endpoint has a name that only a proxy can resolve.
fn start_behind(folder: &tempfile::TempDir, endpoint: &str, environment: &[(&str, &str)]) -> Gateway {
    let environment: Vec<_> = environment.iter().copied().chain([("SSL_CERT_FILE", CERTIFICATE)]).collect();
    cloud::start_gateway_in(folder, &cloud::config(endpoint, SINGLE), &environment)
}

fn proxy_to(fake: &fake_cloud::FakeCloud) -> Proxy {
    Proxy::start(fake.endpoint().strip_prefix("http://").unwrap().parse().unwrap())
}

#[test]
fn requests_go_through_the_proxy_of_the_environment() {
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let folder = tempfile::tempdir().unwrap();
        let fake = fake_cloud::FakeCloud::start_blocking(unlimited()).unwrap();
        let proxy = proxy_to(&fake);
        let gateway = start_behind(&folder, "http://kinesis.invalid", &[(variable, &proxy.url())]);
        let mut fleet = fleet::Fleet::default();
        fleet.publish(gateway.mqtt, 3);
        wait_until("everything is delivered", || fake.stats().streams[RAW].lines == 3 * fleet::DEVICES);
        let asked = proxy.asked();
        assert!(asked.iter().all(|line| line == "POST http://kinesis.invalid/ HTTP/1.1"), "{asked:?}");
    }
}

fn last_error(gateway: &Gateway) -> String {
    let status = gateway.status();
    let sink = status["sinks"].as_array().unwrap().iter().find(|sink| sink["stream"] == "raw").unwrap();
    sink["last_error"].as_str().unwrap_or_default().to_owned()
}

/// The control: if the proxy is not to be used, nothing reaches it or the cloud.
#[test]
fn what_needs_no_proxy_goes_around_it() {
    for (proxy_variable, no_proxy) in [("HTTP_PROXY", "NO_PROXY"), ("http_proxy", "no_proxy")] {
        let folder = tempfile::tempdir().unwrap();
        let fake = fake_cloud::FakeCloud::start_blocking(unlimited()).unwrap();
        let proxy = proxy_to(&fake);
        let environment = [(proxy_variable, proxy.url()), (no_proxy, ".invalid".to_owned())];
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let gateway = start_behind(&folder, "http://kinesis.invalid", &environment);
        fleet::Fleet::default().publish(gateway.mqtt, 1);
        wait_until("it cannot connect", || !last_error(&gateway).is_empty());
        assert_eq!((proxy.asked(), fake.stats().streams[RAW].lines), (vec![], 0));
    }
}

/// The fake cloud has no TLS, so the tunnel is asked for and then refused, or leads to something else.
#[test]
fn a_tunnel_that_fails_is_no_reason_to_halt() {
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        let folder = tempfile::tempdir().unwrap();
        let fake = fake_cloud::FakeCloud::start_blocking(unlimited()).unwrap();
        let proxy = proxy_to(&fake);
        proxy.open_tunnels(false);
        let gateway = start_behind(&folder, "https://kinesis.invalid", &[(variable, &proxy.url())]);
        fleet::Fleet::default().publish(gateway.mqtt, 1);
        let refused = "no connection: the proxy opens no tunnel: it answers with HTTP status 403";
        wait_until("it says why", || last_error(&gateway) == refused);
        proxy.open_tunnels(true);
        wait_until("it tries again", || last_error(&gateway) != refused);
        assert!(last_error(&gateway).starts_with("no connection: "), "{}", last_error(&gateway));
        assert!(proxy.asked().iter().all(|line| line == "CONNECT kinesis.invalid:443 HTTP/1.1"), "{:?}", proxy.asked());
        let log = std::fs::read_to_string(&gateway.log).unwrap();
        assert!(!log.contains("halted") && !log.contains("ERROR"), "{log}");
    }
}
