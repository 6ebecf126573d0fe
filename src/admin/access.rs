//! Who may use the administration interface, and for what: tokens, and certificates of clients.
//!
//! Without either everybody may look and acknowledge, which is right for a machine of one's own. With one of them every request needs a role,
//! but for `/healthz` and `/readyz`: what probes them has nowhere to keep a secret, and learns a word; and for the files of the pages. The cookie of the page is the token
//! itself, so there are no sessions that could fill memory or outlive a token that is taken from the file.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{AUTHORIZATION, COOKIE};
use hyper::{HeaderMap, Method};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::acknowledge;
use super::role::Role;
use super::tokens::{Holder, Tokens};
use super::web;
use crate::counter::Counter;
use crate::tls::{Tls, identity};

pub const COOKIE_NAME: &str = "outrider_token";
/// A browser may send several of one name; a page sets one.
const COOKIES_MAX: usize = 4;

/// Who is let in. Comes from files, and is replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub tls: Option<Arc<Tls>>,
    pub tokens: Option<Arc<Tokens>>,
    /// What whoever shows a certificate may do.
    pub client_role: Role,
}

/// What is in force. Shared by whoever loads it and by the interface. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CurrentAccess(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    access: Mutex<Arc<Access>>,
    logins_refused: Counter,
}

impl CurrentAccess {
    pub fn new(access: Arc<Access>) -> CurrentAccess {
        CurrentAccess(Arc::new(Shared { access: Mutex::new(access), logins_refused: Counter::default() }))
    }

    pub fn get(&self) -> Arc<Access> {
        Arc::clone(&self.0.access.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace(&self, access: Arc<Access>) {
        *self.0.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// Wrong tokens since the start.
    pub fn logins_refused(&self) -> &Counter {
        &self.0.logins_refused
    }
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It comes from nobody that is known.
    Nobody,
    /// It has a token, and a wrong one.
    WrongToken,
    /// Whoever it comes from may not do that.
    RoleTooLow { holder: Holder, needed: Role },
}

/// The role that a request needs, whatever comes of it; `None` if none. What is not known needs the highest.
pub fn needed(method: &Method, path: &str) -> Option<Role> {
    match *method {
        Method::GET | Method::HEAD if path.starts_with(web::FILES) => None,
        Method::GET | Method::HEAD => (!matches!(path, "/healthz" | "/readyz")).then_some(Role::View),
        Method::POST if acknowledge::target(path).is_some() => Some(Role::Acknowledge),
        _ => Some(Role::Operate),
    }
}

impl Access {
    /// Whether nobody needs to log in.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none() && !self.asks_for_certificates()
    }

    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates())
    }

    /// Whom a request comes from, if it may be answered; `certificate` is what TLS has checked.
    ///
    /// A token and a certificate let in, each by itself; whoever has both has the higher role. A wrong token is refused in any case.
    pub fn admit(
        &self,
        headers: &HeaderMap,
        certificate: Option<&CertificateDer<'_>>,
        needed: Role,
    ) -> Result<Holder, Refusal> {
        let by_token = self.holder_of_token(headers)?.cloned();
        let by_certificate = certificate
            .filter(|_| self.asks_for_certificates())
            .map(|certificate| Holder { name: identity::subject(certificate), role: self.client_role });
        // Of two with the same role the last one is taken, which names a person rather than a machine.
        let holder = by_certificate.into_iter().chain(by_token).max_by_key(|holder| holder.role);
        let holder = holder.ok_or(Refusal::Nobody)?;
        if holder.role < needed {
            return Err(Refusal::RoleTooLow { holder, needed });
        }
        Ok(holder)
    }

    /// The same later on: what it has shown in the handshake may have been revoked or have expired meanwhile.
    pub fn admit_again(
        &self,
        headers: &HeaderMap,
        certificates: &[CertificateDer<'_>],
        needed: Role,
        now: UnixTime,
    ) -> Result<Holder, Refusal> {
        let is_right =
            |_: &&CertificateDer<'_>| self.tls.as_ref().is_some_and(|tls| tls.still_admits(certificates, now));
        self.admit(headers, certificates.first().filter(is_right), needed)
    }

    fn holder_of_token(&self, headers: &HeaderMap) -> Result<Option<&Holder>, Refusal> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        if let Some(token) = bearer_token(headers) {
            return tokens.holder(token).map(Some).ok_or(Refusal::WrongToken);
        }
        let mut cookies = cookies(headers).take(COOKIES_MAX).peekable();
        if cookies.peek().is_none() {
            return Ok(None);
        }
        cookies.find_map(|token| tokens.holder(token)).map(Some).ok_or(Refusal::WrongToken)
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The values of our cookie. An empty one is what is left of a login.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, value)| *name == COOKIE_NAME && !value.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::tokens;
    use crate::tls::testing::{Credentials, Files, TestAuthority};

    fn access() -> Access {
        let people = [("anna", Role::View), ("bob", Role::Acknowledge), ("carl", Role::Operate)];
        let file = people.iter().fold(String::new(), |file, (name, role)| {
            let holder = Holder { name: (*name).to_owned(), role: *role };
            tokens::with_token(&file, &holder, &format!("token-of-{name}")).expect("a name")
        });
        Access { tokens: Some(Arc::new(Tokens::parse(&file).expect("right"))), ..Access::default() }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn each_route_needs_its_role_and_what_is_not_known_the_highest() {
        use Role::{Acknowledge, Operate, View};
        for (method, path, role) in [
            ("GET", "/healthz", None),
            ("HEAD", "/readyz", None),
            ("GET", "/", Some(View)),
            ("GET", "/driver", Some(View)),
            ("GET", "/web/chart.js", None),
            ("POST", "/web/chart.js", Some(Operate)),
            ("GET", "/api/events", Some(View)),
            ("GET", "/api/status", Some(View)),
            ("GET", "/api/alerts", Some(View)),
            ("GET", "/api/series", Some(View)),
            ("GET", "/api/rules", Some(View)),
            ("HEAD", "/metrics", Some(View)),
            ("GET", "/nothing", Some(View)),
            ("GET", "/healthz/", Some(View)),
            ("GET", "/api/alerts/a/b/c/ack", Some(View)),
            ("POST", "/api/alerts/a/b/c/ack", Some(Acknowledge)),
            ("POST", "/healthz", Some(Operate)),
            ("POST", "/api/alerts/a/b/ack", Some(Operate)),
            ("PUT", "/api/alerts/a/b/c/ack", Some(Operate)),
            ("POST", "/api/reload", Some(Operate)),
            ("POST", "/api/dead-letters/cloud", Some(Operate)),
            ("DELETE", "/api/series/a", Some(Operate)),
            ("DELETE", "/api/alerts/a/b/c", Some(Operate)),
            ("DELETE", "/api/sinks/a", Some(Operate)),
            ("OPTIONS", "/api/status", Some(Operate)),
        ] {
            assert_eq!(needed(&method.parse().expect("a method"), path), role, "{method} {path}");
        }
    }

    #[test]
    fn a_role_may_do_what_those_below_it_may() {
        let access = access();
        for (name, allowed) in [("anna", 1), ("bob", 2), ("carl", 3)] {
            let headers = headers(&[("authorization", &format!("Bearer token-of-{name}"))]);
            for (at, (_, role)) in Role::NAMES.iter().enumerate() {
                let admitted = access.admit(&headers, None, *role);
                match at < allowed {
                    true => assert_eq!(admitted.expect("allowed").name, name),
                    false => assert!(matches!(admitted, Err(Refusal::RoleTooLow { .. })), "{name} {role}"),
                }
            }
        }
    }

    #[test]
    fn a_token_comes_in_a_header_or_in_a_cookie() {
        let access = access();
        let admit =
            |pairs: &[(&'static str, &str)]| access.admit(&headers(pairs), None, Role::View).map(|holder| holder.name);
        for right in [
            ("authorization", "Bearer token-of-anna"),
            ("authorization", "bearer  token-of-anna"),
            ("cookie", "outrider_token=token-of-anna"),
            ("cookie", "a=b; outrider_token=token-of-anna; c=d"),
            ("cookie", "outrider_token=other; outrider_token=token-of-anna"),
        ] {
            assert_eq!(admit(&[right]), Ok("anna".to_owned()), "{right:?}");
        }
        for wrong in [
            ("authorization", "Bearer token-of-ann"),
            ("authorization", "Bearer token-of-anna x"),
            ("cookie", "outrider_token=token-of-ann"),
            (
                "cookie",
                "outrider_token=1; outrider_token=2; outrider_token=3; outrider_token=4; outrider_token=token-of-anna",
            ),
        ] {
            assert_eq!(admit(&[wrong]), Err(Refusal::WrongToken), "{wrong:?}");
        }
        for nothing in [
            ("authorization", "Basic token-of-anna"),
            ("authorization", "token-of-anna"),
            ("cookie", "token=token-of-anna"),
            ("cookie", "outrider_token="),
            ("x-token", "token-of-anna"),
        ] {
            assert_eq!(admit(&[nothing]), Err(Refusal::Nobody), "{nothing:?}");
        }
        // The header decides: a program says by it who it is.
        let both = [("cookie", "outrider_token=token-of-anna"), ("authorization", "Bearer token-of-bob")];
        assert_eq!(admit(&both), Ok("bob".to_owned()));
    }

    #[test]
    fn a_certificate_counts_only_where_certificates_are_asked_for() {
        let certificate = CertificateDer::from(vec![0x30, 0]);
        let none = HeaderMap::new();
        assert_eq!(access().admit(&none, Some(&certificate), Role::View), Err(Refusal::Nobody));
        assert!(Access::default().is_open() && !access().is_open());
    }

    #[test]
    fn a_certificate_counts_only_as_long_as_it_is_neither_expired_nor_revoked() {
        let ca = TestAuthority::new("ca");
        let [own, other] = ["own", "other"].map(|name| ca.client(name));
        let with_lists = |lists: &[String]| {
            let tls = Files::new(&ca.server()).with_authorities(&[&ca]).with_lists(lists).load().expect("right");
            Access { tls: Some(Arc::new(tls)), ..access() }
        };
        let (now, none) = (UnixTime::now(), HeaderMap::new());
        let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + 2 * 86_400));
        let with_token = headers(&[("authorization", "Bearer token-of-anna")]);
        let admit = |access: &Access, shown: &Credentials, headers: &HeaderMap, now| {
            access.admit_again(headers, &shown.chain, Role::View, now).map(|_| ())
        };
        let nobody = Err(Refusal::Nobody);
        assert_eq!(admit(&with_lists(&[]), &own, &none, now), Ok(()));
        assert_eq!(admit(&with_lists(&[]), &own, &none, later), nobody, "expired");
        let revoked = with_lists(&[ca.list(1, time::Duration::days(1), &[&own])]);
        assert_eq!(admit(&revoked, &own, &none, now), nobody);
        assert_eq!(admit(&revoked, &other, &none, now), Ok(()));
        assert_eq!(admit(&revoked, &own, &with_token, now), Ok(()), "the token still counts");
    }
}
