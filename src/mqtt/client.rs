//! Who a client is, and by which listener it is here.

use std::rc::Rc;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::listener::{ClientLimits, Listener};
use crate::core::mqtt::access::password::Secret;
use crate::core::mqtt::access::{Identity, Permissions};

/// A client that was let in.
pub struct Client {
    pub identity: Identity,
    pub listener: Rc<Listener>,
    /// What its login was checked against.
    pub secret: Option<Secret>,
}

impl Client {
    pub fn id(&self) -> &str {
        &self.identity.client_id
    }

    /// Whether its session is kept although it is no longer let in: it has a new password, and comes back by the same name.
    pub fn comes_back(&self) -> bool {
        let policy = self.listener.policy();
        let secret = self.identity.user.as_ref().zip(policy.users.as_ref());
        secret.is_some_and(|(user, users)| users.secret(user).is_some())
    }

    pub fn limits(&self) -> &ClientLimits {
        &self.listener.settings.client
    }

    pub fn permissions(&self) -> Permissions {
        self.listener.permissions(&self.identity)
    }

    /// Whether it would be let in now, with the certificates that it has shown and the login that it has given.
    pub fn is_still_admitted(&self, certificates: &[CertificateDer<'static>]) -> bool {
        let policy = self.listener.policy();
        if policy.tls.as_ref().is_some_and(|tls| !tls.still_admits(certificates, UnixTime::now())) {
            return false;
        }
        let cn = certificates.first().and_then(|own| policy.identity.identity(own).ok());
        if cn != self.identity.cn {
            return false;
        }
        let known = |name: &String| policy.users.as_ref()?.secret(name);
        match (&self.identity.user, &self.identity.cn) {
            (Some(user), _) => known(user) == self.secret.as_ref(),
            (None, Some(_)) => true,
            (None, None) => policy.allows_anonymous,
        }
    }
}
