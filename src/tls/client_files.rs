//! The files of connections that the gateway opens by itself: whom it trusts, and what it shows.

use std::path::{Path, PathBuf};

use rustls::ClientConfig;

use super::{TlsProblem, client_config, roots_of_file, roots_of_system};

/// Why no connection can be made with some files.
#[derive(Debug, thiserror::Error)]
pub enum ClientProblem {
    #[error(transparent)]
    File(#[from] TlsProblem),
    #[error("the system knows no CA; set ca, or install ca-certificates")]
    NoAuthority,
}

/// Files of the client's side of TLS; they are read for each connection, so they may be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The CAs that the server's certificate may be of; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to it, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl ClientFiles {
    pub fn is_any(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    /// Certificate and key that are shown to a server that asks.
    pub fn shown(&self) -> Option<(&Path, &Path)> {
        self.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()))
    }

    /// Those in which certificates are.
    pub fn certificates(&self) -> impl Iterator<Item = &Path> {
        self.ca.as_deref().into_iter().chain(self.shown().map(|(certificate, _)| certificate))
    }

    /// For a connection to a server with a certificate of these CAs.
    ///
    /// # Errors
    ///
    /// If a file cannot be used, or the CAs are those of the system, and it has none.
    pub fn config(&self) -> Result<ClientConfig, ClientProblem> {
        let roots = match &self.ca {
            Some(ca) => roots_of_file(ca)?,
            None => roots_of_system().ok_or(ClientProblem::NoAuthority)?,
        };
        Ok(client_config(self.shown(), roots)?)
    }
}
