//! What is open to the network.

use std::net::SocketAddr;

use crate::keys::section::Section;

pub(super) const LISTENER_REMEDY: &str = "give a [[listener]] tls_certificate and tls_key, and users or client_ca; or say insecure = true \
                                          (--insecure beside --listen)";
pub(super) const ADMIN_REMEDY: &str =
    "give [admin] tls_certificate and tls_key, and tokens or client_ca; or say insecure = true in [admin]";

/// What listens beyond this machine has TLS and authentication, unless the configuration says in plain words that it does not. `remedy` says
/// what would be right.
pub(super) fn expect_closed(
    section: &mut Section<'_>,
    listen: SocketAddr,
    is_encrypted: bool,
    has_authentication: bool,
    remedy: &str,
) {
    let missing = match (is_encrypted, has_authentication) {
        (true, true) => return,
        (false, false) => "TLS and authentication",
        (false, true) => "TLS",
        (true, false) => "authentication",
    };
    if !listen.ip().is_loopback() {
        section.blame("listen", format!("open to the network without {missing}: {remedy}"));
    }
}
