//! Rows on a page of an SQLite file: the cells of a table's leaf, and the values of a record. Anything may stand there, so all is optional.

use super::schema::PAGE_BYTES;

const PAGE: usize = PAGE_BYTES as usize;
/// The first byte of a leaf of a table.
const TABLE_LEAF: u8 = 13;
/// Of the first page, what comes before its content.
const FILE_HEADER: usize = 100;

/// A row as it lies on its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell<'a> {
    pub row_id: i64,
    /// Of the whole record.
    pub bytes: usize,
    /// The part of the record that is on the page.
    pub local: &'a [u8],
    /// The page on which the record goes on; 0 if it does not.
    pub overflow: u32,
}

/// A record is not longer than this: SQLite's own limit is higher, but nothing that is stored here comes near it.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// The cells of a page, if it is a leaf of a table; those that can be read.
pub(super) fn cells(page: &[u8], is_first: bool) -> impl Iterator<Item = Cell<'_>> {
    let at = if is_first { FILE_HEADER } else { 0 };
    let number = |at: usize| page.get(at..at + 2).map(|bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]));
    let count = match page.get(at) {
        Some(&TABLE_LEAF) => number(at + 3).unwrap_or(0).min(PAGE / 4),
        _ => 0,
    };
    (0..count).filter_map(move |cell| read_cell(page, number(at + 8 + 2 * cell)?))
}

fn read_cell(page: &[u8], at: usize) -> Option<Cell<'_>> {
    let mut rest = page.get(at..)?;
    let bytes = usize::try_from(varint(&mut rest)?).ok().filter(|bytes| *bytes <= RECORD_BYTES_MAX)?;
    let row_id = varint(&mut rest)?;
    let local = local_bytes(bytes);
    let overflow = match bytes > local {
        true => u32::from_be_bytes(rest.get(local..local + 4)?.try_into().ok()?),
        false => 0,
    };
    Some(Cell { row_id, bytes, local: rest.get(..local)?, overflow })
}

/// How much of a record lies on the leaf itself, as the file format has it.
fn local_bytes(bytes: usize) -> usize {
    const LOCAL_MAX: usize = PAGE - 35;
    const LOCAL_MIN: usize = (PAGE - 12) * 32 / 255 - 23;
    if bytes <= LOCAL_MAX {
        return bytes;
    }
    let local = LOCAL_MIN + (bytes - LOCAL_MIN) % (PAGE - 4);
    if local <= LOCAL_MAX { local } else { LOCAL_MIN }
}

fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for place in 0..9 {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        if place == 8 {
            return Some((value << 8 | u64::from(*byte)).cast_signed());
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value.cast_signed());
        }
    }
    None
}

/// A column of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// NULL, or a number with a fraction: neither is read.
    Other,
    Number(i64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

impl<'a> Value<'a> {
    /// All columns; `None` unless every one is there.
    pub fn all(record: &'a [u8]) -> Option<Vec<Value<'a>>> {
        let mut kinds = Kinds::of(record)?;
        let mut values = Vec::new();
        while let Some(kind) = kinds.next()? {
            values.push(kinds.value(kind)?);
        }
        Some(values)
    }

    /// The columns that are there whole, of a record of which only the beginning is.
    pub fn all_within(record: &'a [u8]) -> Option<Vec<Value<'a>>> {
        let mut kinds = Kinds::of(record)?;
        let mut values = Vec::new();
        while let Some(kind) = kinds.next()? {
            let Some(value) = kinds.value(kind) else { break };
            values.push(value);
        }
        Some(values)
    }

    pub fn number(&self) -> Option<i64> {
        if let Value::Number(number) = self { Some(*number) } else { None }
    }

    pub fn bytes(&self) -> Option<&'a [u8]> {
        if let Value::Blob(bytes) = self { Some(bytes) } else { None }
    }

    pub fn text(&self) -> Option<&'a str> {
        if let Value::Text(text) = self { std::str::from_utf8(text).ok() } else { None }
    }
}

/// The header of a record, which says the kind of each column, and what is not read yet of its body.
struct Kinds<'a> {
    header: &'a [u8],
    body: &'a [u8],
}

impl<'a> Kinds<'a> {
    fn of(record: &'a [u8]) -> Option<Kinds<'a>> {
        let mut rest = record;
        let header_bytes = usize::try_from(varint(&mut rest)?).ok()?;
        let passed = record.len() - rest.len();
        let (header, body) = (record.get(passed..header_bytes)?, &record[header_bytes..]);
        Some(Kinds { header, body })
    }

    fn next(&mut self) -> Option<Option<u64>> {
        match self.header.is_empty() {
            true => Some(None),
            false => varint(&mut self.header).map(|kind| Some(kind.cast_unsigned())),
        }
    }

    fn value(&mut self, kind: u64) -> Option<Value<'a>> {
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((kind - 12) / 2).ok()?,
        };
        let (taken, rest) = (self.body.get(..bytes)?, &self.body[bytes..]);
        self.body = rest;
        Some(match kind {
            0 | 7 => Value::Other,
            8 | 9 => Value::Number((kind == 9).into()),
            1..=6 => Value::Number(number(taken)),
            _ if kind.is_multiple_of(2) => Value::Blob(taken),
            _ => Value::Text(taken),
        })
    }
}

/// A big-endian number of two's complement, of up to eight bytes.
fn number(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_file_format_writes_them() {
        let read = |mut bytes: &[u8]| varint(&mut bytes);
        assert_eq!(read(&[0x7f]), Some(127));
        assert_eq!(read(&[0x81, 0x00]), Some(128));
        assert_eq!(read(&[0xff; 9]), Some(-1));
        assert_eq!(read(&[0x81]), None);
        assert_eq!((number(&[0xff]), number(&[0x01, 0x00]), number(&[0x80, 0, 0])), (-1, 256, -8_388_608));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut noise = 1_u64;
        for round in 0..2_000 {
            let mut page = vec![0; PAGE];
            for byte in &mut page {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (noise >> 56) as u8;
            }
            page[if round % 2 == 0 { 0 } else { FILE_HEADER }] = TABLE_LEAF;
            for cell in cells(&page, round % 2 == 1) {
                let _ = (Value::all(cell.local), Value::all_within(cell.local));
            }
        }
        assert_eq!(cells(&[], false).count(), 0);
    }
}
