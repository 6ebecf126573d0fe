//! Reads `[aws]`: how sinks to services of AWS get their credentials, if not as the tools of AWS do.

use std::path::Path;
use std::sync::Arc;

use super::sections::Reader;
use crate::keys::key::Group;
use crate::sinks::aws::role_alias::{RoleAlias, RoleAliasSettings};
use crate::tls::{self, Part};

const HTTPS_PORT: u16 = 443;

impl Reader<'_> {
    /// Relative paths begin in the folder of the configuration.
    pub(super) fn aws(&mut self, beside: &Path) -> Option<Arc<RoleAlias>> {
        let mut section = self.single(Group::Aws);
        let endpoint = section.text("credentials_endpoint");
        let (role_alias, thing) = (section.text("role_alias"), section.text("thing"));
        let certificate = section.path("certificate").map(|path| beside.join(path));
        let key = section.path("key").map(|path| beside.join(path));
        let needed = ["credentials_endpoint", "role_alias", "certificate", "key"];
        let is_any_given = needed.iter().chain(&["thing"]).any(|name| section.has(name));
        for name in needed {
            if is_any_given && !section.has(name) {
                let all = needed.join(", ");
                section.blame_section(format!("`{name}` is missing; credentials by a certificate need {all}"));
            }
        }
        let settings =
            endpoint.zip(role_alias).zip(certificate.zip(key)).map(|((endpoint, role_alias), (certificate, key))| {
                let (host, port) = match endpoint.split_once(':') {
                    Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(HTTPS_PORT)),
                    None => (endpoint, HTTPS_PORT),
                };
                RoleAliasSettings { host, port, role_alias, thing, certificate, key }
            });
        if let Some(settings) = &settings
            && let Err(problem) = tls::check_client(&settings.certificate, &settings.key)
        {
            section.blame(if problem.part == Part::Key { "key" } else { "certificate" }, problem.to_string());
        }
        section.finish();
        settings.map(|settings| Arc::new(RoleAlias::new(settings)))
    }
}
