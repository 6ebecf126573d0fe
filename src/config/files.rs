//! The files that a section of the configuration names: certificates, users, rights and tokens.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::mqtt::access::LineProblem;
use crate::keys::section::Section;
use crate::keys::units::format_size;
use crate::tls::{self, ClientCertificates, Tls, TlsFiles};

/// A longer file is not one of users, nor of rights.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads the files that a section names.
pub(super) struct Files<'a, 'b> {
    pub section: &'a mut Section<'b>,
    /// Where relative paths begin.
    pub beside: &'a Path,
    /// Gets each file that is named.
    pub watched: &'a mut Vec<PathBuf>,
}

impl Files<'_, '_> {
    fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.section.path(key).map(|path| self.beside.join(path))?;
        self.watched.push(path.clone());
        Some(path)
    }

    fn paths(&mut self, key: &'static str) -> Vec<PathBuf> {
        let paths: Vec<PathBuf> =
            self.section.texts_if_there(key).unwrap_or_default().iter().map(|path| self.beside.join(path)).collect();
        self.watched.extend(paths.iter().cloned());
        paths
    }

    /// What TLS needs; `certificates` is about those of clients.
    pub fn tls(&mut self, certificates: ClientCertificates) -> Option<Arc<Tls>> {
        let (certificate, key) = (self.path("tls_certificate"), self.path("tls_key"));
        let (client_ca, client_crl) = (self.paths("client_ca"), self.paths("client_crl"));
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                self.section.blame("tls_certificate", "without `tls_key`, the key that belongs to it");
                return None;
            }
            (None, Some(_)) => {
                self.section.blame("tls_key", "without `tls_certificate`, the certificate that it belongs to");
                return None;
            }
            (None, None) => {
                for key in ["client_ca", "client_crl"] {
                    if self.section.has(key) {
                        self.section.blame(key, "certificates of clients need TLS: `tls_certificate` and `tls_key`");
                    }
                }
                return None;
            }
        };
        if client_ca.is_empty() && !client_crl.is_empty() {
            self.section.blame("client_crl", "without `client_ca`, no client shows a certificate");
        }
        match tls::load(&TlsFiles { certificate, key, client_ca, client_crl }, certificates) {
            Ok(tls) => Some(Arc::new(tls)),
            Err(problem) => {
                self.section.blame(problem.key(), problem.to_string());
                None
            }
        }
    }

    /// What the lines of a file say; each that is wrong is a problem of its key.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Vec<LineProblem>>,
    ) -> Option<Arc<T>> {
        let path = self.path(key)?;
        let of_line = |problem: LineProblem| format!("{}: {problem}", path.display());
        let parsed = text_of(&path)
            .map_err(|error| vec![error])
            .and_then(|text| parse(&text).map_err(|problems| problems.into_iter().map(of_line).collect()));
        match parsed {
            Ok(parsed) => Some(Arc::new(parsed)),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.section.blame(key, problem));
                None
            }
        }
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
    if !std::fs::metadata(path).map_err(|error| cannot(&error))?.is_file() {
        // A pipe would be waited for.
        return Err(cannot(&"it is no file"));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| cannot(&error))?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(cannot(&format!("it is larger than {}", format_size(FILE_BYTES_MAX)))),
        false => Ok(text),
    }
}
