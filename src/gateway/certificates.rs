//! Which certificates are about to expire.

use std::collections::HashMap;

use crate::tls::Expiry;

const DAY_MS: i64 = 86_400_000;
/// So many days before, it is said again.
const DAYS_AHEAD: [i64; 3] = [1, 7, 30];

/// What was said of each interface.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    said: HashMap<String, String>,
}

impl Expiries {
    /// What is to be said now of the certificates of an interface, such as `listener devices`. It changes at 30, 7 and 1 days and at the end,
    /// and is logged then.
    pub fn look(&mut self, interface: &str, expiries: &[Expiry], now_ms: i64) -> Option<String> {
        let texts: Vec<String> = expiries.iter().filter_map(|expiry| text(expiry, now_ms)).collect();
        let text = (!texts.is_empty()).then(|| texts.join("; "));
        let said = self.said.get(interface);
        if said != text.as_ref() {
            match &text {
                Some(text) => tracing::warn!("{interface}: {text}"),
                None => tracing::info!("{interface}: its certificates are good again"),
            }
            match &text {
                Some(text) => _ = self.said.insert(interface.to_owned(), text.clone()),
                None => _ = self.said.remove(interface),
            }
        }
        text
    }
}

fn text(expiry: &Expiry, now_ms: i64) -> Option<String> {
    let Expiry { file, what, not_after_ms, .. } = expiry;
    let left_ms = not_after_ms - now_ms;
    let file = file.display();
    if left_ms <= 0 {
        return Some(format!("{what} ({file}) has expired"));
    }
    let days = DAYS_AHEAD.into_iter().find(|days| left_ms <= days * DAY_MS)?;
    let plural = if days == 1 { "" } else { "s" };
    Some(format!("{what} ({file}) expires within {days} day{plural}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_named_thirty_seven_and_one_days_before_it_expires() {
        let (file, what) = ("server.pem".into(), "CN=gateway".to_owned());
        let expiry = Expiry { file, what, not_before_ms: 0, not_after_ms: 100 * DAY_MS };
        let mut expiries = Expiries::default();
        let mut look = |day: i64| expiries.look("tls", std::slice::from_ref(&expiry), day * DAY_MS);
        assert_eq!(look(69), None);
        for (day, words) in [(70, "within 30 days"), (93, "within 7 days"), (99, "within 1 day"), (100, "has expired")]
        {
            let text = look(day).expect("it is told");
            assert!(text.contains("CN=gateway (server.pem)") && text.ends_with(words), "{text}");
        }
        assert_eq!(look(0), None, "it was replaced");
    }
}
