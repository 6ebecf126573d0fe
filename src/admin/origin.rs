//! Which pages may send requests here. A page of another site can point its own name at our address (DNS rebinding), and could then read
//! what is served as if it were its own, or acknowledge in its user's name.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

/// Names under which we accept requests, besides addresses, `localhost`, and names without a dot: names of sites have one.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    pub fn new(names: Vec<String>) -> Hosts {
        Hosts(names)
    }

    /// Checks the `Host` header; clients that are no browsers may omit it.
    pub fn is_asked_as_us(&self, headers: &HeaderMap) -> bool {
        match headers.get("host") {
            Some(host) => host.to_str().is_ok_and(|host| self.is_ours(name_of(host))),
            None => true,
        }
    }

    /// Whether a request that changes something comes from our own page, or from no page at all.
    pub fn is_from_us(&self, headers: &HeaderMap) -> bool {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_ascii_lowercase();
        let Some(origin) = headers.get("origin").map(text) else { return true };
        let Some((_, authority)) = origin.split_once("://") else { return false };
        let is_same = headers.get("host").map(text).is_some_and(|host| host == authority);
        is_same || self.is_named(name_of(authority))
    }

    fn is_ours(&self, name: &str) -> bool {
        name.parse::<IpAddr>().is_ok() || !name.contains('.') || self.is_named(name)
    }

    fn is_named(&self, name: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Without the port, and without the brackets of an IPv6 address.
fn name_of(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a value");
        pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    #[test]
    fn names_of_other_sites_are_not_answered() {
        let hosts = Hosts::new(vec!["gateway.example.com".to_owned(), "truck.local".to_owned()]);
        let is_asked = |host| hosts.is_asked_as_us(&headers(&[("host", host)]));
        for ours in [
            "localhost",
            "LocalHost:9464",
            "127.0.0.1:9464",
            "127.0.0.1",
            "[::1]:9464",
            "[::1]",
            "192.168.1.7:80",
            "outrider:9464",
            "Gateway.example.com:9464",
            "truck.local.",
        ] {
            assert!(is_asked(ours), "{ours}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9464",
            "example.com",
            "é.x",
        ] {
            assert!(!is_asked(foreign), "{foreign}");
        }
    }

    #[test]
    fn only_our_own_page_changes_anything() {
        let hosts = Hosts::new(vec!["gateway.example.com".to_owned()]);
        let is_from_us = |host, origin| hosts.is_from_us(&headers(&[("host", host), ("origin", origin)]));
        assert!(hosts.is_from_us(&headers(&[("host", "10.0.0.1:9464")])), "a program");
        assert!(is_from_us("10.0.0.1:9464", "http://10.0.0.1:9464"));
        assert!(is_from_us("127.0.0.1:9464", "https://gateway.example.com"), "behind a proxy");
        for foreign in [
            "http://evil.example",
            "http://10.0.0.2:9464",
            "http://10.0.0.1",
            "null",
            "http://10.0.0.1:9464.evil.example",
        ] {
            assert!(!is_from_us("10.0.0.1:9464", foreign), "{foreign}");
        }
    }
}
