//! Who a client is, and by which listener it is here.

use std::rc::Rc;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::listener::Listener;
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

    pub fn permissions(&self) -> Permissions {
        self.listener.permissions(&self.identity)
    }

    /// Whether it would be let in now, with the certificates that it has shown and the login that it has given.
    pub fn is_still_admitted(&self, certificates: &[CertificateDer<'static>]) -> bool {
        let policy = self.listener.policy();
        if let (Some(tls), Some(own)) = (&policy.tls, certificates.first()) {
            let name = policy.identity.identity(own).ok();
            if !tls.still_admits(certificates, UnixTime::now()) || name != self.identity.cn {
                return false;
            }
        }
        let known = |name: &String| policy.users.as_ref()?.secret(name);
        match (&self.identity.user, &self.identity.cn) {
            (Some(user), _) => known(user) == self.secret.as_ref(),
            (None, Some(_)) => true,
            (None, None) => policy.allows_anonymous,
        }
    }
}
