//! Samples of publishes that cannot be decoded: one of each kind, which is a reason and a topic, so that a device that goes on sending the
//! same does not displace what others have sent.

use std::collections::{HashMap, HashSet};

use rusqlite::{Transaction, params};

use super::totals;
use crate::handoff::Undecodable;

/// Most kinds of which a sample is kept, and most bytes of all samples and topics. The oldest are deleted first.
const KINDS_MAX: usize = 100;
const BYTES_MAX: usize = 512 << 10;
/// A sample stands for its kind for so long, so that a device that goes on does not cause a write each time.
const RENEWED_AFTER_MS: u64 = 3_600_000;

/// The newest of each kind, as many as are kept, the oldest first.
pub(super) fn kept(undecodable: &[Undecodable]) -> Vec<&Undecodable> {
    let (mut kinds, mut bytes) = (HashSet::new(), 0);
    let mut kept = Vec::new();
    for one in undecodable.iter().rev() {
        if kinds.len() == KINDS_MAX || !kinds.insert((one.reason, one.topic.as_str())) {
            continue;
        }
        bytes += size(one);
        if bytes > BYTES_MAX {
            break;
        }
        kept.push(one);
    }
    kept.reverse();
    kept
}

/// Bytes that a sample takes.
pub(super) fn size(one: &Undecodable) -> usize {
    one.topic.len() + one.sample.len()
}

/// Counts them all, and keeps samples.
pub(super) fn write(transaction: &Transaction<'_>, undecodable: &[Undecodable]) -> rusqlite::Result<()> {
    if undecodable.is_empty() {
        return Ok(());
    }
    for one in undecodable {
        totals::add(transaction, &format!("undecodable:{}", one.reason), 1)?;
    }
    let known = known(transaction)?;
    let is_due = |one: &&Undecodable| {
        let known_ms = known.get(&(one.reason.to_owned(), one.topic.clone()));
        known_ms.is_none_or(|known_ms| one.received_at_ms.abs_diff(*known_ms) >= RENEWED_AFTER_MS)
    };
    let due: Vec<&Undecodable> = kept(undecodable).into_iter().filter(is_due).collect();
    if due.is_empty() {
        return Ok(());
    }
    let mut insert = transaction
        .prepare_cached("INSERT INTO rejected_sample(received_ms, reason, topic, sample) VALUES (?1, ?2, ?3, ?4)")?;
    for one in due {
        insert.execute(params![one.received_at_ms, one.reason, one.topic, one.sample])?;
    }
    transaction
        .prepare_cached(
            "DELETE FROM rejected_sample WHERE id NOT IN (
               SELECT id FROM (
                 SELECT id, row_number() OVER newest AS nth, sum(bytes) OVER newest AS bytes FROM (
                   SELECT max(id) AS id, length(sample) + length(CAST(topic AS BLOB)) AS bytes FROM rejected_sample
                   GROUP BY reason, topic)
                 WINDOW newest AS (ORDER BY id DESC))
               WHERE nth <= ?1 AND bytes <= ?2)",
        )?
        .execute([KINDS_MAX as i64, BYTES_MAX as i64])?;
    Ok(())
}

/// When the sample of each kind came.
fn known(transaction: &Transaction<'_>) -> rusqlite::Result<HashMap<(String, String), i64>> {
    let mut select =
        transaction.prepare_cached("SELECT reason, topic, received_ms FROM rejected_sample ORDER BY id")?;
    select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::RunId;
    use crate::store::commit::CommitInput;
    use crate::store::writer::{Writer, WriterSettings};

    fn one(topic: &str, received_at_ms: i64, sample: &[u8]) -> Undecodable {
        Undecodable { reason: "not_json", topic: topic.to_owned(), file: None, sample: sample.to_vec(), received_at_ms }
    }

    /// Topic, first byte of the sample, and how many bytes that has; the oldest first.
    fn held(writer: &Writer) -> Vec<(String, u8, usize)> {
        let mut select =
            writer.connection().prepare("SELECT topic, sample FROM rejected_sample ORDER BY id").expect("a table");
        let row = |row: &rusqlite::Row<'_>| {
            let sample: Vec<u8> = row.get(1)?;
            Ok((row.get(0)?, sample[0], sample.len()))
        };
        select.query_map([], row).expect("rows").map(|row| row.expect("a row")).collect()
    }

    fn commit(writer: &mut Writer, undecodable: Vec<Undecodable>) {
        writer.commit(&CommitInput { undecodable, ..CommitInput::default() }).expect("a working disk");
    }

    #[test]
    fn a_device_that_goes_on_displaces_nobody() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&WriterSettings::for_tests(folder.path()), RunId([1; 8])).expect("a store");
        commit(&mut writer, vec![one("quiet", 0, b"a")]);
        for second in 0..300 {
            commit(&mut writer, vec![one("loud", second * 1_000, b"b"), one("loud", second * 1_000, b"c")]);
        }
        assert_eq!(held(&writer), [("quiet".to_owned(), b'a', 1), ("loud".to_owned(), b'c', 1)]);
        commit(&mut writer, vec![one("quiet", 3_599_999, b"d")]);
        assert_eq!(held(&writer)[0].1, b'a');
        commit(&mut writer, vec![one("quiet", 3_600_000, b"e")]);
        assert_eq!(held(&writer), [("loud".to_owned(), b'c', 1), ("quiet".to_owned(), b'e', 1)], "renewed");
    }

    #[test]
    fn the_newest_kinds_are_kept_in_number_and_bytes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Writer::open(&WriterSettings::for_tests(folder.path()), RunId([1; 8])).expect("a store");
        for round in 0..3 {
            commit(&mut writer, (0..90).map(|n| one(&format!("{round}-{n}"), 0, b"x")).collect());
        }
        let topics: Vec<String> = held(&writer).into_iter().map(|(topic, ..)| topic).collect();
        assert_eq!((topics.len(), topics[0].as_str(), topics[99].as_str()), (KINDS_MAX, "1-80", "2-89"));
        let large = |n: usize| one(&format!("large-{n}"), 0, &vec![b'x'; 200 << 10]);
        commit(&mut writer, vec![large(1)]);
        commit(&mut writer, vec![large(2)]);
        let bytes = |writer: &Writer| held(writer).iter().map(|(topic, _, bytes)| topic.len() + bytes).sum::<usize>();
        assert_eq!(held(&writer).len(), KINDS_MAX, "there is room for two");
        commit(&mut writer, vec![large(3), large(4), large(5)]);
        let topics: Vec<String> = held(&writer).into_iter().map(|(topic, ..)| topic).collect();
        assert_eq!(topics, ["large-4", "large-5"]);
        assert!(bytes(&writer) <= BYTES_MAX);
    }
}
