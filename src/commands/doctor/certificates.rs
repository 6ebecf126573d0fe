//! The certificates that the gateway shows, and the authorities that it trusts. Whether files can be read and belong together is said by the
//! configuration, which has read them.

use super::Case;
use crate::clock;
use crate::finding::{Finding, Verdict};
use crate::sinks::probe::of_expiry;
use crate::tls::{self, Tls};

pub fn look(case: &Case) -> Vec<Finding> {
    let listeners = &case.configuration.listeners;
    let of_listeners = listeners.listeners.iter().zip(&listeners.policies).filter_map(|(listener, policy)| {
        let tls = policy.tls.as_ref()?;
        Some((format!("listener {}", listener.name), tls))
    });
    let of_admin = case.configuration.admin.access.tls.as_ref().map(|tls| ("status page".to_owned(), tls));
    let findings: Vec<Finding> = of_listeners.chain(of_admin).flat_map(|(name, tls)| of_tls(&name, tls)).collect();
    match findings.is_empty() {
        true => vec![Finding::skipped("no listener has TLS")],
        false => findings,
    }
}

/// The one that ends first, and all others that are worth a word.
fn of_tls(name: &str, tls: &Tls) -> Vec<Finding> {
    let now_ms = clock::now_ms();
    let mut expiries: Vec<_> = tls.expiries.iter().collect();
    expiries.sort_by_key(|expiry| expiry.not_after_ms);
    let findings = expiries.into_iter().map(|expiry| of_expiry(expiry, now_ms)).enumerate();
    let told = findings.filter(|(at, finding)| *at == 0 || finding.verdict > Verdict::Well);
    let mut told: Vec<Finding> =
        told.map(|(_, finding)| Finding { found: format!("{name}: {}", finding.found), ..finding }).collect();
    let flaws =
        tls.flaws.iter().map(|flaw| Finding::warning(format!("{name}: {flaw}"), "make a better one, or set its mode"));
    told.extend(flaws);
    told
}

/// Whom sinks trust that name no CA of their own.
pub fn of_system() -> Vec<Finding> {
    vec![match tls::roots_of_system() {
        Some(roots) => Finding::well(format!("{} are trusted", roots.len())),
        None => Finding::warning(
            "there are none: services by https cannot be trusted",
            "install the package ca-certificates",
        ),
    }]
}
