//! `postgres://user@host:5432/database`.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::sinks::address;

const DEFAULT_PORT: u16 = 5432;

/// Where a database is, and who comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub user: String,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    pub database: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Place {
    /// # Errors
    ///
    /// What is wrong, without repeating anything: there may be a password in it.
    pub fn parse(url: &str) -> Result<Place, &'static str> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or("does not start with postgres://")?;
        if rest.contains(['?', '#']) {
            return Err("ends with options, which are keys of the [[sink]]: sslmode, ca, certificate, key");
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, server) = authority.rsplit_once('@').ok_or("names no user; write postgres://USER@HOST/DATABASE")?;
        if user.contains(':') {
            return Err("has a password in it; give it as password = \"env:NAME\" instead, so that it is in no file");
        }
        let user = decoded(user).filter(|user| !user.is_empty());
        let user = user.ok_or("names no user; write postgres://USER@HOST/DATABASE")?;
        let (host, port) = host_and_port(server)?;
        let database = match database {
            "" => user.clone(),
            database => decoded(database).ok_or("has a database with a name that is no text")?,
        };
        Ok(Place { user, host, port, database })
    }

    /// Whether it is the same database, whoever comes, as far as the names say so.
    pub fn is_same_database(&self, other: &Place) -> bool {
        address::is_same_host(&self.host, &other.host) && self.port == other.port && self.database == other.database
    }

    /// Nobody can be between us and it.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

fn host_and_port(server: &str) -> Result<(String, u16), &'static str> {
    if server.contains(',') {
        return Err("names several hosts; name one, or a name that leads to the one that can be written to");
    }
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => {
            (host, Some(port.strip_prefix(':').ok_or("has something between the host and its port")?))
        }
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let is_named = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let is_address = host.parse::<IpAddr>().is_ok();
    if host.is_empty() || !(is_named || is_address) {
        return Err("has no name or address of a host; sockets in the file system are not supported");
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("has a port that is none")?,
        None => DEFAULT_PORT,
    };
    Ok((host.to_owned(), port))
}

/// Without percent signs. A name with a null character would end early on its way.
fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.contains('\0')).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_who() {
        for (url, user, server, database) in [
            ("postgres://outrider@db.example.com/fleet", "outrider", "db.example.com:5432", "fleet"),
            ("postgresql://outrider@10.0.0.7:6432/fleet", "outrider", "10.0.0.7:6432", "fleet"),
            ("postgres://a%40b@[::1]:5433/my%20fleet", "a@b", "[::1]:5433", "my fleet"),
            ("postgres://outrider@db", "outrider", "db:5432", "outrider"),
            ("postgres://outrider@[fe80::1]/", "outrider", "[fe80::1]:5432", "outrider"),
        ] {
            let place = Place::parse(url).unwrap_or_else(|problem| panic!("{url}: {problem}"));
            assert_eq!((&*place.user, &*place.to_string(), &*place.database), (user, server, database), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_secret() {
        for (url, words) in [
            ("http://u@h/d", "postgres://"),
            ("postgres://h/d", "no user"),
            ("postgres://@h/d", "no user"),
            ("postgres://u:secret@h/d", "password"),
            ("postgres://u@h/d?sslmode=require", "keys of the [[sink]]"),
            ("postgres://u@a,b/d", "several hosts"),
            ("postgres://u@/d", "no name or address"),
            ("postgres://u@%2Fvar%2Frun/d", "no name or address"),
            ("postgres://u@h:0/d", "port"),
            ("postgres://u@h:70000/d", "port"),
            ("postgres://u@[::1]5/d", "between"),
            ("postgres://u@h/%00", "no text"),
        ] {
            let problem = Place::parse(url).expect_err(url);
            assert!(problem.contains(words) && !problem.contains("secret"), "{url}: {problem}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let is_loopback = |host: &str| Place::parse(&format!("postgres://u@{host}/d")).expect("right").is_loopback();
        for host in ["localhost", "127.0.0.1", "127.1.2.3:5433", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["db", "10.0.0.1", "localhost.example.com", "[fe80::1]"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
