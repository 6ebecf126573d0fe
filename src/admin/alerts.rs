//! `GET /api/alerts`: the alerts as last stored, ordered by device, metric and kind, in pages.
//!
//! There may be some ten thousand; a page holds 128 KiB. Its `link` header leads to the next page, as `?after={device}/{metric}/{kind}`.
//! The position is a name, so alerts that come and go meanwhile make no other alert appear twice or be left out.

use std::fmt::Write;

use rusqlite::Connection;

use crate::core::detection::alert::AlertKey;
use crate::core::mqtt::topic;

/// A page ends at this size, after at least one alert; that is some hundreds of alerts. Bounds the memory taken by clients that ask but do
/// not read.
pub const PAGE_BYTES: usize = 128 * 1024;
/// Most rows looked at for a page.
const PAGE_ALERTS: u32 = 1_000;

#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// A JSON array.
    pub json: Vec<u8>,
    pub link: Option<String>,
}

/// The page that a request's query asks for; `None` if the query is not understood.
pub fn page(db: &Connection, query: Option<&str>) -> rusqlite::Result<Option<Page>> {
    let first = AlertKey { device: String::new(), metric: String::new(), kind: String::new() };
    match query.map_or(Some(first), after) {
        Some(after) => read_page(db, &after, PAGE_ALERTS).map(Some),
        None => Ok(None),
    }
}

pub fn is_known(db: &Connection, key: &AlertKey) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM alert WHERE device = ?1 AND metric = ?2 AND kind = ?3")?.exists([
        &key.device,
        &key.metric,
        &key.kind,
    ])
}

/// Parses device, metric and kind from the levels of a path.
pub fn key(levels: &str) -> Option<AlertKey> {
    let mut levels = levels.split('/').map(topic::percent_decode);
    let key = AlertKey { device: levels.next()?, metric: levels.next()?, kind: levels.next()? };
    levels.next().is_none().then_some(key)
}

fn after(query: &str) -> Option<AlertKey> {
    key(query.strip_prefix("after=")?)
}

fn read_page(db: &Connection, after: &AlertKey, alerts_max: u32) -> rusqlite::Result<Page> {
    let mut select = db.prepare_cached(
        "SELECT body, device, metric, kind FROM alert WHERE (device, metric, kind) > (?1, ?2, ?3)
         ORDER BY device, metric, kind LIMIT ?4",
    )?;
    let mut rows = select.query((&after.device, &after.metric, &after.kind, alerts_max + 1))?;
    let (mut json, mut count, mut last) = (b"[".to_vec(), 0, None);
    while let Some(row) = rows.next()? {
        if count == alerts_max || json.len() >= PAGE_BYTES {
            json.extend_from_slice(b"\n]\n");
            return Ok(Page { json, link: last.as_ref().map(link) });
        }
        json.extend_from_slice(if count == 0 { b"\n" } else { b",\n" });
        json.extend_from_slice(row.get_ref(0)?.as_blob()?.trim_ascii_end());
        last = Some(AlertKey { device: row.get(1)?, metric: row.get(2)?, kind: row.get(3)? });
        count += 1;
    }
    json.extend_from_slice(b"\n]\n");
    Ok(Page { json, link: None })
}

fn link(last: &AlertKey) -> String {
    let [device, metric, kind] = [&last.device, &last.metric, &last.kind].map(|level| encode(level));
    format!("</api/alerts?after={device}/{metric}/{kind}>; rel=\"next\"")
}

/// Stricter than in a topic: headers, addresses and request paths allow only these characters.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::RunId;
    use crate::store::writer::{Writer, WriterSettings};

    #[test]
    fn pages_follow_each_other_whatever_devices_are_called() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let writer = Writer::open(&WriterSettings::for_tests(folder.path()), RunId([1; 8])).expect("a store");
        let db = writer.connection();
        let devices = ["a", "a b", "a/b", "a>\"b", "ä%2F+#", "\n", "z"];
        for (device, metric) in devices.iter().flat_map(|device| [(device, "m"), (device, "n/o")]) {
            let body = format!("{{\"device\":{}}}\n", serde_json::json!(device));
            let insert = "INSERT INTO alert(device, metric, kind, body) VALUES (?1, ?2, 'gap', ?3)";
            db.execute(insert, (device, metric, body.into_bytes())).expect("a row");
        }
        for alerts_max in [1, 3, 13, 14, 15] {
            let (mut found, mut query, mut pages) = (Vec::new(), Some("after=//".to_owned()), 0u32);
            while let Some(asked) = query {
                let page = read_page(db, &after(&asked).expect("a place"), alerts_max).expect("readable");
                let alerts: Vec<serde_json::Value> = serde_json::from_slice(&page.json).expect("an array");
                found.extend(alerts.iter().map(|alert| alert["device"].as_str().expect("a text").to_owned()));
                let next = |link: &str| {
                    assert!(link.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{link}");
                    let address = link.strip_prefix("</api/alerts?").expect("here");
                    address.strip_suffix(">; rel=\"next\"").expect("the next one").to_owned()
                };
                query = page.link.as_deref().map(next);
                pages += 1;
            }
            let mut expected: Vec<&str> = devices.iter().flat_map(|device| [*device, *device]).collect();
            expected.sort_unstable();
            assert_eq!(
                (found, pages),
                (expected.iter().map(|device| (*device).to_owned()).collect(), 14u32.div_ceil(alerts_max))
            );
        }
        assert!(is_known(db, &key("a%2Fb/n%2Fo/gap").expect("a key")).expect("readable"));
        assert!(!is_known(db, &key("a%2Fb/n/gap").expect("a key")).expect("readable"));
        assert_eq!(page(db, Some("before=a/b/c")), Ok(None));
        assert_eq!(page(db, Some("after=a/b")), Ok(None));
    }
}
