//! Tries whether a sink can be reached and would be let in, without sending it anything that it keeps. For `outrider doctor`, beside a gateway
//! that may be running: nothing here touches the store.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use crate::clock;
use crate::core::delivery::{Outcome, RetryReason};
use crate::finding::Finding;
use crate::keys::units::approximate_duration;
use crate::tls::{self, ClientFiles, Expiry};

/// What a sink may need to know to be tried.
#[derive(Clone, Debug)]
pub struct Probing {
    pub gateway_id: String,
    /// Of the disk, so much is left to others.
    pub free_bytes_min: u64,
}

/// Its findings, when it has been tried.
pub type Probe<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + 'a>>;

const LINK: &str =
    "look at the link, name resolution, proxy and firewall; what is not delivered waits in the store meanwhile";
const MEND: &str = "mend it there or in the [[sink]]; what is not delivered waits in the store meanwhile";

/// What the answer to a request means that is refused where it is taken for what it is, because it holds nothing. `what` says what was asked.
pub fn of_outcome(what: &str, outcome: &Outcome) -> Finding {
    match outcome {
        Outcome::Accepted { .. } | Outcome::Reject(_) | Outcome::RejectLines(_) => {
            Finding::well(what.to_owned() + ": it answers")
        }
        Outcome::Halt(text) | Outcome::TooLarge(text) => Finding::bad(format!("{what}: {text}"), MEND),
        Outcome::Unreachable(text) => Finding::bad(format!("{what}: not reached: {text}"), LINK),
        Outcome::Later { reason, .. } => Finding::bad(format!("{what}: {reason}"), MEND),
        Outcome::Retry(reason @ RetryReason::Throttled) => {
            Finding::warning(format!("{what}: {reason}"), "it takes less than is sent: raise its limits if this lasts")
        }
        Outcome::Retry(reason @ RetryReason::Clock) => Finding::warning(
            format!("{what}: {reason}"),
            "requests are signed with the service's time, so this works; set the clock all the same",
        ),
        Outcome::Retry(reason @ RetryReason::Credentials) => {
            Finding::bad(format!("{what}: {reason}"), "renew the credentials")
        }
        Outcome::Retry(reason) => Finding::bad(format!("{what}: {reason}"), LINK),
    }
}

/// Days before its end at which a certificate is worth a word.
const DAYS_WARNED: i64 = 30;
const DAY_MS: i64 = 86_400_000;

/// Of a certificate that is shown to others, or that others show us.
pub fn of_expiry(expiry: &Expiry, now_ms: i64) -> Finding {
    let Expiry { file, what, not_before_ms, not_after_ms } = expiry;
    let name = format!("{what} ({})", file.display());
    let left_ms = not_after_ms - now_ms;
    let left = || approximate_duration(Duration::from_millis(left_ms.unsigned_abs()));
    if now_ms < *not_before_ms {
        let from = clock::rfc3339(*not_before_ms);
        return Finding::bad(
            format!("{name} is valid from {from} on only"),
            "look at the clock; else wait, or make a new one",
        );
    }
    if left_ms <= 0 {
        let since = format!("{name} has expired {} ago", left());
        return Finding::bad(since, "put a new one in its place; it is read again by itself, or by `outrider reload`");
    }
    let remedy = "make a new one in time (`outrider cert` for those of its own CA)";
    match left_ms / DAY_MS {
        0 => Finding::bad(format!("{name} expires in {}", left()), remedy),
        1..DAYS_WARNED => Finding::warning(format!("{name} expires in {}", left()), remedy),
        _ => Finding::well(format!("{name} is valid for {}", left())),
    }
}

/// Of the certificates that a connection of ours is made with.
pub fn of_client_files(files: &ClientFiles) -> Vec<Finding> {
    files.certificates().flat_map(of_certificates).collect()
}

/// Of the certificates in a file; those that are well are left out.
pub fn of_certificates(file: &Path) -> Vec<Finding> {
    match tls::expiries_of_file(file) {
        Ok(expiries) => expiries
            .iter()
            .map(|expiry| of_expiry(expiry, clock::now_ms()))
            .filter(|finding| finding.remedy.is_some())
            .collect(),
        Err(problem) => vec![Finding::bad(format!("{}: {problem}", file.display()), "put the right file there")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    #[test]
    fn a_certificate_is_worth_a_word_thirty_days_before_its_end_and_bad_on_its_last() {
        let expiry = Expiry {
            file: "server.pem".into(),
            what: "CN=gateway".to_owned(),
            not_before_ms: 10 * DAY_MS,
            not_after_ms: 100 * DAY_MS,
        };
        for (day, verdict, words) in [
            (9, Verdict::Bad, "valid from 1970-01-11T00:00:00Z on only"),
            (50, Verdict::Well, "is valid for 50 d"),
            (71, Verdict::Warning, "expires in 29 d"),
            (98, Verdict::Warning, "expires in 2 d"),
            (101, Verdict::Bad, "has expired 1 d ago"),
        ] {
            let Finding { verdict: found, found: text, .. } = of_expiry(&expiry, day * DAY_MS);
            assert!(found == verdict && text.contains(words), "{day}: {found:?} {text}");
        }
        assert_eq!(of_expiry(&expiry, 100 * DAY_MS - 1).verdict, Verdict::Bad);
    }

    #[test]
    fn what_a_person_has_to_mend_is_bad_and_what_holds_nothing_may_be_refused() {
        let verdict = |outcome| of_outcome("x", &outcome).verdict;
        assert_eq!(verdict(Outcome::Reject("empty".to_owned())), Verdict::Well);
        assert_eq!(verdict(Outcome::Halt("denied".to_owned())), Verdict::Bad);
        assert_eq!(verdict(Outcome::Retry(RetryReason::Clock)), Verdict::Warning);
        assert_eq!(verdict(Outcome::Retry(RetryReason::TimedOut)), Verdict::Bad);
    }
}
