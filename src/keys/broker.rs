//! The keys by which another broker is reached: those of a `[[bridge]]`, and of a sink that publishes to one.

use std::path::Path;

use super::section::Section;
use super::tls_files;
use crate::uplink::{Broker, Endpoint};

/// Reads `url`, the files of TLS, `alpn` and `connect_timeout`; `None` if `url` is missing or wrong, which the section reports.
pub fn read(section: &mut Section<'_>, beside: &Path) -> Option<Broker> {
    let endpoint = section.text("url").and_then(|url| Endpoint::parse(&url).ok());
    let files = tls_files::read(section, beside);
    let alpn = section.texts_if_there("alpn");
    let connect_timeout = section.duration("connect_timeout");
    let endpoint = endpoint?;
    for key in ["ca", "certificate", "alpn"] {
        if !endpoint.is_tls && section.has(key) {
            section.blame(key, "needs TLS; begin url with mqtts://");
        }
    }
    let alpn = alpn.unwrap_or_else(|| endpoint.usual_alpn());
    Some(Broker { endpoint, files, alpn, connect_timeout, counts: None })
}
