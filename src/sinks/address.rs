//! What addresses of a configuration say, above all whether two lead to one server, as far as they say so themselves: nothing is resolved, so a server that has two names is two servers here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether both are the same host, whatever the case of its name. An address of IPv6 may be in brackets.
pub fn is_same_host(one: &str, other: &str) -> bool {
    plain_host(one) == plain_host(other)
}

fn plain_host(host: &str) -> String {
    const LOCAL: &str = "localhost";
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) | Ok(IpAddr::V6(Ipv6Addr::LOCALHOST)) => LOCAL.to_owned(),
        Ok(address) => address.to_string(),
        // A name that ends with a dot is complete, as those of a configuration are meant to be.
        Err(_) => host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(),
    }
}

/// Whether both are the same place of the same server: a port that is left away is that of the scheme, and a slash at the end says nothing.
pub fn is_same_url(one: &str, other: &str) -> bool {
    parts_of(one) == parts_of(other)
}

/// Whether a user stands before the host.
pub fn holds_login(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// Host, port and path.
fn parts_of(url: &str) -> (String, String, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" }),
    };
    (plain_host(host), port.to_owned(), path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_same_in_capital_letters_and_in_every_form_of_its_address() {
        for (one, other) in [
            ("db.example.com", "DB.Example.com"),
            ("db.example.com.", "db.example.com"),
            ("localhost", "127.0.0.1"),
            ("[::1]", "LOCALHOST"),
            ("[fe80::1]", "fe80:0::1"),
        ] {
            assert!(is_same_host(one, other), "{one} {other}");
        }
        for (one, other) in [("db", "db.example.com"), ("127.0.0.1", "127.0.0.2"), ("10.0.0.1", "10.0.0.10")] {
            assert!(!is_same_host(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_login_stands_before_the_host_and_nowhere_else() {
        for (url, expected) in [
            ("https://me:secret@host/in", true),
            ("http://me@host?x", true),
            ("https://host/@me", false),
            ("https://host?to=a@b", false),
            ("https://host", false),
        ] {
            assert_eq!(holds_login(url), expected, "{url}");
        }
    }

    #[test]
    fn a_url_is_the_same_with_the_port_that_it_has_anyway() {
        for (one, other) in [
            ("https://influx.example.com", "https://INFLUX.example.com:443/"),
            ("http://influx", "http://influx:80"),
            ("http://[::1]:8086", "http://localhost:8086/"),
            ("http://u:p@vm:8428/insert/0/influx", "http://vm:8428/insert/0/influx/"),
            ("http://[fe80::1]", "http://[fe80::1]:80"),
        ] {
            assert!(is_same_url(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("https://influx", "http://influx"),
            ("http://influx:8086", "http://influx:8087"),
            ("http://vm/insert/0", "http://vm/insert/1"),
        ] {
            assert!(!is_same_url(one, other), "{one} {other}");
        }
    }
}
