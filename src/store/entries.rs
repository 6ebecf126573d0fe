//! Values under keys that others keep in the store: written in the commit of what they belong to, read at a start. What they mean is not
//! known here.
//!
//! The table was added to version 2 of the store, and is created when a store without it is opened.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::handoff::{Entry, EntryChange};

/// Bytes of a row besides its key and its value.
const ROW_BYTES: usize = 32;

pub(super) fn write(transaction: &Transaction<'_>, changes: &[EntryChange]) -> rusqlite::Result<()> {
    for EntryChange { key, value } in changes {
        match value {
            Some(value) => transaction
                .prepare_cached("INSERT OR REPLACE INTO entry(key, value, \"check\") VALUES (?1, ?2, ?3)")?
                .execute(params![key, value, checksum(key, value)])?,
            None => transaction.prepare_cached("DELETE FROM entry WHERE key = ?1")?.execute([key])?,
        };
    }
    Ok(())
}

/// Bytes that the changes add, if they replace nothing.
pub(super) fn needed(changes: &[EntryChange]) -> usize {
    changes.iter().filter(|change| change.value.is_some()).map(|change| change.byte_size() + ROW_BYTES).sum()
}

/// Bytes of what they replace or delete.
pub(super) fn replaced(db: &Connection, changes: &[EntryChange]) -> rusqlite::Result<u64> {
    let mut length = db.prepare_cached("SELECT length(key) + length(value) FROM entry WHERE key = ?1")?;
    let mut replaced = 0;
    for EntryChange { key, .. } in changes {
        let bytes: Option<i64> = length.query_row([key], |row| row.get(0)).optional()?;
        replaced += bytes.map_or(0, |bytes| bytes.max(0) as u64 + ROW_BYTES as u64);
    }
    Ok(replaced)
}

/// All entries, in the order of their keys. One whose checksum disagrees is left out.
///
/// # Errors
///
/// If the store cannot be read.
pub(super) fn load(db: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut select = db.prepare("SELECT key, value, \"check\" FROM entry ORDER BY key")?;
    let mut rows = select.query([])?;
    let (mut entries, mut damaged) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        match read(row) {
            Some(entry) => entries.push(entry),
            None => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::error!(
            damaged,
            "retained messages, parts of MQTT sessions, or places of files are damaged and left out"
        );
    }
    Ok(entries)
}

/// What can be read of a damaged store: from both ends, up to what cannot be read.
pub(super) fn load_damaged(db: &Connection) -> Vec<Entry> {
    let all = |order: &str| -> Vec<Entry> {
        let sql = format!("SELECT key, value, \"check\" FROM entry ORDER BY key {order}");
        let Ok(mut select) = db.prepare(&sql) else { return Vec::new() };
        let Ok(rows) = select.query_map([], |row| Ok(read(row))) else { return Vec::new() };
        rows.map_while(Result::ok).flatten().collect()
    };
    let mut entries = all("");
    let last = entries.last().map(|entry| entry.key.clone());
    entries.extend(all("DESC").into_iter().take_while(|entry| last.as_ref().is_none_or(|last| entry.key > *last)));
    entries
}

fn read(row: &rusqlite::Row<'_>) -> Option<Entry> {
    let entry = Entry { key: row.get(0).ok()?, value: row.get(1).ok()? };
    let check: u32 = row.get(2).ok()?;
    (check == checksum(&entry.key, &entry.value)).then_some(entry)
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// Writes entries into a new store.
pub(super) fn take_over(db: &Connection, entries: &[Entry]) -> rusqlite::Result<()> {
    for Entry { key, value } in entries {
        db.prepare_cached("INSERT OR IGNORE INTO entry(key, value, \"check\") VALUES (?1, ?2, ?3)")?
            .execute(params![key, value, checksum(key, value)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::RunId;
    use crate::store::commit::CommitInput;
    use crate::store::schema::store_path;
    use crate::store::writer::{Writer, WriterSettings};

    fn put(key: &str, value: &[u8]) -> EntryChange {
        EntryChange { key: key.into(), value: Some(value.to_vec()) }
    }

    fn commit(writer: &mut Writer, entries: Vec<EntryChange>) {
        writer.commit(&CommitInput { entries, ..CommitInput::default() }).expect("a working disk");
    }

    fn held(writer: &Writer) -> Vec<(String, Vec<u8>)> {
        let entries = load(writer.connection()).expect("readable");
        entries.into_iter().map(|entry| (String::from_utf8(entry.key).expect("text"), entry.value)).collect()
    }

    #[test]
    fn entries_are_changed_in_order_and_found_after_a_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = WriterSettings::for_tests(folder.path());
        let mut writer = Writer::open(&settings, RunId([1; 8])).expect("a store");
        let delete = |key: &str| EntryChange { key: key.into(), value: None };
        commit(&mut writer, vec![put("b", b"1"), put("a", &[7; 9_000]), put("c", b""), delete("b"), delete("none")]);
        commit(&mut writer, vec![put("d", b"1"), put("d", b"2")]);
        drop(writer);
        let writer = Writer::open(&settings, RunId([2; 8])).expect("the same store");
        assert_eq!(
            held(&writer),
            [("a".to_owned(), vec![7; 9_000]), ("c".to_owned(), vec![]), ("d".to_owned(), vec![b'2'])]
        );
    }

    #[test]
    fn a_damaged_entry_is_left_out_and_the_others_come_along_to_a_new_store() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = WriterSettings::for_tests(folder.path());
        let mut writer = Writer::open(&settings, RunId([1; 8])).expect("a store");
        commit(&mut writer, vec![put("a", b"1"), put("b", b"2"), put("c", b"3")]);
        writer.connection().execute("UPDATE entry SET value = x'00' WHERE key = CAST('b' AS BLOB)", []).expect("a row");
        assert_eq!(held(&writer), [("a".to_owned(), vec![b'1']), ("c".to_owned(), vec![b'3'])]);
        drop(writer);
        let writer = Writer::open_anew(&settings, RunId([2; 8])).expect("a new store");
        assert!(store_path(folder.path()).exists());
        assert_eq!(held(&writer), [("a".to_owned(), vec![b'1']), ("c".to_owned(), vec![b'3'])]);
    }
}
