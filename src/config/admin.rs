//! Reads `[admin]`, and the files that it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exposure::{ADMIN_REMEDY, expect_closed};
use super::files::Files;
use super::sections::Reader;
use crate::admin::access::Access;
use crate::admin::role::Role;
use crate::admin::tokens::Tokens;
use crate::keys::key::Group;
use crate::mqtt::listener::ListenerSettings;
use crate::tls::ClientCertificates;

/// The administration interface.
#[derive(Clone, Debug, Default)]
pub struct AdminConfiguration {
    /// `None` if it is off.
    pub listen: Option<SocketAddr>,
    /// Names under which it answers, besides addresses.
    pub hosts: Vec<String>,
    pub access: Arc<Access>,
    /// Files which, when they change, may say something else.
    pub watched: Vec<PathBuf>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

impl AdminConfiguration {
    /// What holds from the next start only.
    pub(super) fn fixed(&self) -> (Option<SocketAddr>, &[String], bool) {
        (self.listen, &self.hosts, self.access.tls.is_some())
    }
}

impl Reader<'_> {
    /// `file` is that of the configuration: relative paths begin beside it.
    pub(super) fn admin(&mut self, file: Option<&Path>, listeners: &[ListenerSettings]) -> AdminConfiguration {
        let beside = file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let hostname = self.host.hostname.clone();
        let (mut watched, mut warnings) = (Vec::new(), Vec::new());
        let mut section = self.single(Group::Admin);
        let listen = section.listen("listen");
        let is_same = |listener: &&ListenerSettings| Some(listener.listen) == listen && listener.listen.port() != 0;
        if let Some(listener) = listeners.iter().find(is_same) {
            section.blame("listen", format!("{} is the same address", listener.key));
        }
        let mut hosts = section.texts("hosts");
        hosts.extend([format!("{hostname}.local"), hostname]);
        // Where a token lets in as well, whoever has none of the certificates has to get so far that it can be sent.
        let certificates = match section.has("tokens") {
            true => ClientCertificates::Optional,
            false => ClientCertificates::Demanded,
        };
        let mut files = Files { section: &mut section, beside: &beside, watched: &mut watched };
        let (tls, tokens) = (files.tls(certificates), files.parsed("tokens", Tokens::parse));
        let client_role = section.choice("client_role", &Role::NAMES).unwrap_or_default();
        let has_client_ca = section.has("client_ca");
        if has_client_ca && tls.as_ref().is_some_and(|tls| !tls.asks_for_certificates()) {
            section.blame("client_ca", "it names no file; leave it out, or name one with the CAs of clients");
        }
        if section.has("client_role") && !has_client_ca {
            section.blame("client_role", "without `client_ca`, no client shows a certificate");
        }
        if let Some(listen) = listen
            && !section.boolean("insecure")
        {
            let (is_encrypted, has_authentication) = (section.has("tls_certificate"), section.has("tokens"));
            expect_closed(&mut section, listen, is_encrypted, has_authentication || has_client_ca, ADMIN_REMEDY);
        }
        if let Some(tls) = &tls {
            warnings.extend(tls.warnings.iter().map(|warning| format!("status page: {warning}")));
        }
        if tokens.as_ref().is_some_and(|tokens| tokens.is_empty()) {
            warnings.push("status page: the file of admin.tokens holds no token".to_owned());
        }
        section.finish();
        AdminConfiguration { listen, hosts, access: Arc::new(Access { tls, tokens, client_role }), watched, warnings }
    }
}
