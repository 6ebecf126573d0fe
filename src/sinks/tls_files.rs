//! The keys `ca`, `certificate` and `key` of a sink that opens its own connections: whom it trusts, and what it shows.

use std::path::{Path, PathBuf};

use rustls::ClientConfig;

use super::probe::of_certificates;
use crate::finding::Finding;
use crate::keys::section::Section;
use crate::tls::{self, Part};

/// Files of the client's side of TLS; they are read for each connection, so they may be replaced.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// `None`: the CAs that the system trusts.
    pub ca: Option<PathBuf>,
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the three keys, and reports files that cannot be used.
    pub fn read(section: &mut Section<'_>, beside: &Path) -> TlsFiles {
        let [ca, certificate, key] =
            ["ca", "certificate", "key"].map(|name| section.path(name).map(|path| beside.join(path)));
        if let Some(ca) = &ca
            && let Err(problem) = tls::roots_of_file(ca)
        {
            section.blame("ca", problem.to_string());
        }
        for (given, name, other) in [(&certificate, "certificate", "key"), (&key, "key", "certificate")] {
            if given.is_some() && !section.has(other) {
                section.blame(name, format!("needs {other}, too"));
            }
        }
        let identity = certificate.zip(key);
        if let Some((certificate, key)) = &identity
            && let Err(problem) = tls::check_client(certificate, key)
        {
            section.blame(if problem.part == Part::Key { "key" } else { "certificate" }, problem.to_string());
        }
        TlsFiles { ca, identity }
    }

    pub fn is_any(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    /// Certificate and key that are shown to a server that asks.
    pub fn shown(&self) -> Option<(&Path, &Path)> {
        self.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()))
    }

    /// For a connection to a server with a certificate of these CAs, or what has to be mended.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        let roots = match &self.ca {
            Some(ca) => tls::roots_of_file(ca).map_err(|problem| problem.to_string())?,
            None => tls::roots_of_system().ok_or_else(|| {
                "the system knows no CA; set ca in the [[sink]], or install ca-certificates".to_owned()
            })?,
        };
        tls::client_config(self.shown(), roots).map_err(|problem| problem.to_string())
    }

    /// Certificates that are worth a word.
    pub fn findings(&self) -> Vec<Finding> {
        let files = self.ca.iter().chain(self.identity.iter().map(|(certificate, _)| certificate));
        files.flat_map(|file| of_certificates(file)).collect()
    }
}
