//! Which broker, and how it is reached.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::counted::Counts;
use crate::tls::ClientFiles;

/// ALPN by which AWS IoT tells MQTT from HTTPS at port 443, where clients show certificates.
pub const AWS_IOT_ALPN: &str = "x-amzn-mqtt-ca";
/// The end of the names of AWS's brokers, in all partitions.
const AWS_HOSTS: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// How a broker is reached. The default leads nowhere.
#[derive(Clone, Debug, Default)]
pub struct Broker {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whom it has to be, and what is shown to it, where it speaks TLS.
    pub files: ClientFiles,
    /// The protocols that are offered in the TLS handshake; none if empty.
    pub alpn: Vec<String>,
    /// Time limit for connecting, with the TLS handshake and without the login.
    pub connect_timeout: Duration,
    /// Where bytes are counted, if anybody wants to know.
    pub counts: Option<Arc<dyn Counts>>,
}

/// The place of a broker, from a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; one of IPv6 without brackets.
    pub host: String,
    /// Of TCP.
    pub port: u16,
    /// Whether it is spoken to by TLS.
    pub is_tls: bool,
}

/// Why a text is no URL of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointProblem {
    #[error("begins neither with mqtt:// nor with mqtts://")]
    Scheme,
    #[error("names no host")]
    Host,
    #[error("has a port that is none")]
    Port,
    #[error("has a name or a password in it; use username and password")]
    Login,
    #[error("has more behind the host and the port")]
    Path,
}

impl Endpoint {
    /// Reads `mqtt://host`, `mqtts://host:port`, or the same with an address of IPv6 in brackets. Without a port it is 1883, or 8883.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Endpoint, EndpointProblem> {
        let (scheme, rest) = url.split_once("://").ok_or(EndpointProblem::Scheme)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" | "tls" => true,
            _ => return Err(EndpointProblem::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(EndpointProblem::Login);
        }
        if rest.contains(['/', '?', '#']) {
            return Err(EndpointProblem::Path);
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or(EndpointProblem::Host)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| EndpointProblem::Host)?;
                match (behind, behind.strip_prefix(':')) {
                    ("", _) => (host, None),
                    (_, Some(port)) => (host, Some(port)),
                    _ => return Err(EndpointProblem::Port),
                }
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(EndpointProblem::Host);
        }
        let port = match port {
            None if is_tls => 8883,
            None => 1883,
            // A sign would be read as a part of a number.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port > 0).ok_or(EndpointProblem::Port)?
            }
            Some(_) => return Err(EndpointProblem::Port),
        };
        Ok(Endpoint { host: host.to_owned(), port, is_tls })
    }

    /// Whether it is one of AWS IoT Core.
    pub fn is_of_aws(&self) -> bool {
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        AWS_HOSTS.iter().any(|end| host.ends_with(end))
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// What has to be offered in the TLS handshake, if nobody says anything else.
    pub fn usual_alpn(&self) -> Vec<String> {
        match self.is_tls && self.port == 443 && self.is_of_aws() {
            true => vec![AWS_IOT_ALPN.to_owned()],
            false => Vec::new(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_brokers_are_read() {
        for (url, host, port, is_tls, shown) in [
            ("mqtt://broker.example.com", "broker.example.com", 1883, false, "mqtt://broker.example.com:1883"),
            ("mqtts://broker.example.com/", "broker.example.com", 8883, true, "mqtts://broker.example.com:8883"),
            ("MQTTS://10.0.0.7:443", "10.0.0.7", 443, true, "mqtts://10.0.0.7:443"),
            ("tcp://a:1", "a", 1, false, "mqtt://a:1"),
            ("ssl://[::1]:8884", "::1", 8884, true, "mqtts://[::1]:8884"),
            ("mqtt://[2001:db8::1]", "2001:db8::1", 1883, false, "mqtt://[2001:db8::1]:1883"),
        ] {
            let endpoint = Endpoint::parse(url).expect(url);
            assert_eq!((&*endpoint.host, endpoint.port, endpoint.is_tls), (host, port, is_tls), "{url}");
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(Endpoint::parse(shown), Ok(endpoint));
        }
        for (url, problem) in [
            ("broker:1883", EndpointProblem::Scheme),
            ("http://broker", EndpointProblem::Scheme),
            ("mqtt://", EndpointProblem::Host),
            ("mqtt://:1883", EndpointProblem::Host),
            ("mqtt://a b", EndpointProblem::Host),
            ("mqtt://[x]", EndpointProblem::Host),
            ("mqtt://a:0", EndpointProblem::Port),
            ("mqtt://a:+1", EndpointProblem::Port),
            ("mqtt://a:70000", EndpointProblem::Port),
            ("mqtt://[::1]x", EndpointProblem::Port),
            ("mqtt://me:secret@a", EndpointProblem::Login),
            ("mqtt://a/topic", EndpointProblem::Path),
        ] {
            assert_eq!(Endpoint::parse(url), Err(problem), "{url}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let is_loopback = |host: &str| Endpoint::parse(&format!("mqtt://{host}")).expect("right").is_loopback();
        for host in ["localhost", "LOCALHOST:1884", "127.0.0.1", "127.8.8.8:1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.7", "broker", "[fe80::1]", "128.0.0.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn aws_is_told_by_its_names() {
        let at = |url| Endpoint::parse(url).expect("right");
        for (url, is_of_aws, alpn) in [
            ("mqtts://a1b2-ats.iot.eu-central-1.amazonaws.com", true, false),
            ("mqtts://a1b2-ats.iot.eu-central-1.amazonaws.com:443", true, true),
            ("mqtt://a1b2.ats.iot.cn-north-1.AMAZONAWS.com.cn.:443", true, false),
            ("mqtts://amazonaws.com.example.org:443", false, false),
        ] {
            assert_eq!((at(url).is_of_aws(), !at(url).usual_alpn().is_empty()), (is_of_aws, alpn), "{url}");
        }
    }
}
