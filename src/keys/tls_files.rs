//! The keys `ca`, `certificate` and `key` of whatever opens its own connections.

use std::path::Path;

use super::section::Section;
use crate::tls::{self, ClientFiles, Part};

/// Reads the three keys, and reports files that cannot be used.
pub fn read(section: &mut Section<'_>, beside: &Path) -> ClientFiles {
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
        let is_of_key = problem.part == Part::Key;
        section.blame(if is_of_key { "key" } else { "certificate" }, problem.to_string());
        // The key was not looked at then.
        if !is_of_key && let Err(problem) = tls::check_key(key) {
            section.blame("key", problem.to_string());
        }
    }
    ClientFiles { ca, identity }
}
