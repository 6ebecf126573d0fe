//! The servers that take line protocol: where each wants it, and how it is asked without being written to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::sinks::address;
use crate::sinks::secret::Secret;

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Influx1,
    Influx2,
    Influx3,
    VictoriaMetrics,
}

impl Server {
    pub const NAMES: &[&str] = &["influxdb1", "influxdb2", "influxdb3", "victoriametrics"];
    pub const CHOICES: [(&str, Server); 4] = [
        ("influxdb1", Server::Influx1),
        ("influxdb2", Server::Influx2),
        ("influxdb3", Server::Influx3),
        ("victoriametrics", Server::VictoriaMetrics),
    ];

    pub fn title(self) -> &'static str {
        match self {
            Server::Influx1 => "InfluxDB 1",
            Server::Influx2 => "InfluxDB 2",
            Server::Influx3 => "InfluxDB 3",
            Server::VictoriaMetrics => "VictoriaMetrics",
        }
    }

    pub fn knows_tokens_only(self) -> bool {
        matches!(self, Server::Influx2 | Server::Influx3)
    }

    /// VictoriaMetrics stores a text as the number 0.
    pub fn has_texts(self) -> bool {
        self != Server::VictoriaMetrics
    }

    /// VictoriaMetrics knows milliseconds only.
    pub fn has_nanoseconds(self) -> bool {
        self != Server::VictoriaMetrics
    }

    fn precision(self) -> &'static str {
        match self {
            Server::Influx1 | Server::Influx2 => "ns",
            Server::Influx3 => "nanosecond",
            Server::VictoriaMetrics => "ms",
        }
    }
}

/// Where on the server points go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub server: Server,
    /// What the paths of its API come behind.
    pub url: String,
    pub database: Option<String>,
    pub retention_policy: Option<String>,
    pub org: Option<String>,
    pub bucket: Option<String>,
}

/// What grants access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    None,
    Token(Secret),
    User { name: String, password: Secret },
}

/// A request that leaves nothing behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harmless {
    /// Nothing is written where points are: who may not write is refused, and so is a place that is not there.
    WriteNothing,
    /// A query, because to write nothing makes the database.
    Query,
}

/// What a query's values keep as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Place {
    /// Where points are posted, behind the URL.
    pub fn write_path(&self) -> String {
        let precision = Some(self.server.precision());
        let database = self.database.as_deref();
        match self.server {
            Server::Influx1 | Server::VictoriaMetrics => path_of(
                "/write",
                &[("db", database), ("rp", self.retention_policy.as_deref()), ("precision", precision)],
            ),
            Server::Influx2 => path_of(
                "/api/v2/write",
                &[("org", self.org.as_deref()), ("bucket", self.bucket.as_deref()), ("precision", precision)],
            ),
            // Stored durably before it answers, and good lines among bad ones as well. Both are the default, which a server's may change.
            Server::Influx3 => path_of(
                "/api/v3/write_lp",
                &[
                    ("db", database),
                    ("precision", precision),
                    ("accept_partial", Some("true")),
                    ("no_sync", Some("false")),
                ],
            ),
        }
    }

    /// Where it is asked whether it would let anybody in, and how.
    pub fn harmless(&self) -> (Harmless, String) {
        match self.server {
            Server::Influx3 => {
                let query = [("db", self.database.as_deref()), ("q", Some("SELECT 1")), ("format", Some("json"))];
                (Harmless::Query, path_of("/api/v3/query_sql", &query))
            }
            _ => (Harmless::WriteNothing, self.write_path()),
        }
    }

    /// Whether points of both are in one place, as far as the names say so.
    pub fn is_same(&self, other: &Place) -> bool {
        let names = |place: &Place| {
            let Place { database, retention_policy, org, bucket, .. } = place.clone();
            [database, retention_policy, org, bucket]
        };
        self.server == other.server && address::is_same_url(&self.url, &other.url) && names(self) == names(other)
    }

    /// Whether it is InfluxData's own service.
    pub fn is_cloud(&self) -> bool {
        let authority = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        let host = authority.split(['/', ':']).next().unwrap_or_default();
        self.server == Server::Influx2 && host.ends_with(".influxdata.com")
    }

    /// For people.
    pub fn describe(&self) -> String {
        let Place { url, database, retention_policy, org, bucket, .. } = self;
        let parts =
            [("database", database), ("retention policy", retention_policy), ("organisation", org), ("bucket", bucket)];
        let named = parts.into_iter().filter_map(|(what, name)| Some(format!(", {what} {}", name.as_ref()?)));
        format!("{} at {url}{}", self.server.title(), named.collect::<String>())
    }

    /// The value of the header Authorization.
    pub fn authorization(&self, login: &Login) -> Option<Secret> {
        match login {
            Login::None => None,
            Login::Token(token) => {
                let scheme = match self.server {
                    // InfluxDB 1 knows JSON web tokens, and a login in the place of a token.
                    Server::Influx1 if !token.0.contains(':') => "Bearer",
                    Server::Influx1 | Server::Influx2 => "Token",
                    Server::Influx3 | Server::VictoriaMetrics => "Bearer",
                };
                Some(Secret(format!("{scheme} {}", token.0)))
            }
            Login::User { name, password } => {
                Some(Secret(format!("Basic {}", BASE64.encode(format!("{name}:{}", password.0)))))
            }
        }
    }
}

fn path_of(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let pairs = query.iter().filter_map(|(key, value)| {
        let value = utf8_percent_encode((*value)?, PLAIN);
        Some(format!("{key}={value}"))
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(server: Server) -> Place {
        let named = |name: &str| Some(name.to_owned());
        Place {
            server,
            url: "http://h:8086/".to_owned(),
            database: named("fleet & co"),
            retention_policy: named("week"),
            org: named("ours"),
            bucket: named("a/b"),
        }
    }

    #[test]
    fn each_server_is_asked_where_it_wants_it() {
        for (server, expected) in [
            (Server::Influx1, "/write?db=fleet%20%26%20co&rp=week&precision=ns"),
            (Server::Influx2, "/api/v2/write?org=ours&bucket=a%2Fb&precision=ns"),
            (
                Server::Influx3,
                "/api/v3/write_lp?db=fleet%20%26%20co&precision=nanosecond&accept_partial=true&no_sync=false",
            ),
            (Server::VictoriaMetrics, "/write?db=fleet%20%26%20co&rp=week&precision=ms"),
        ] {
            assert_eq!(place(server).write_path(), expected);
        }
        let bare = Place { database: None, retention_policy: None, ..place(Server::VictoriaMetrics) };
        assert_eq!(bare.write_path(), "/write?precision=ms");
        assert_eq!(bare.harmless(), (Harmless::WriteNothing, bare.write_path()));
        let (how, path) = place(Server::Influx3).harmless();
        assert_eq!(how, Harmless::Query);
        assert_eq!(path, "/api/v3/query_sql?db=fleet%20%26%20co&q=SELECT%201&format=json");
    }

    #[test]
    fn each_server_has_its_way_of_logging_in_and_none_is_shown() {
        let token = Login::Token(Secret("t0k3n".to_owned()));
        let user = Login::User { name: "anna".to_owned(), password: Secret("pass".to_owned()) };
        let of_one = Login::Token(Secret("anna:pass".to_owned()));
        for (server, login, expected) in [
            (Server::Influx1, &token, "Bearer t0k3n"),
            (Server::Influx1, &of_one, "Token anna:pass"),
            (Server::Influx1, &user, "Basic YW5uYTpwYXNz"),
            (Server::Influx2, &token, "Token t0k3n"),
            (Server::Influx3, &token, "Bearer t0k3n"),
            (Server::VictoriaMetrics, &token, "Bearer t0k3n"),
        ] {
            assert_eq!(place(server).authorization(login), Some(Secret(expected.to_owned())));
        }
        assert_eq!(place(Server::Influx1).authorization(&Login::None), None);
        let shown = format!("{token:?} {user:?}");
        assert!(!shown.contains("t0k3n") && !shown.contains("pass\""), "{shown}");
    }
}
