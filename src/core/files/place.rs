//! What is stored of a file: its place, with all that it takes to find the file again.

use serde::{Deserialize, Serialize};

use super::identity::{FileId, Print};

/// The number of a generation, from 1: of two that a look finds, the one that was written to earlier has the lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GenerationNumber(pub u64);

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Bytes before it.
    pub offset: u64,
    /// The first of these bytes.
    pub head: Print,
    /// The last of these bytes.
    pub tail: Print,
    /// It is within a line that is too long: what follows is left out up to the next newline.
    pub is_skipping: bool,
}

/// How far a file has been read, and which file that is. Stored as CBOR with named fields, to which later versions may add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where it was seen last.
    pub path: String,
    /// Which file.
    pub file: FileId,
    /// How far its readings are stored.
    pub mark: Mark,
    /// Starts at which it was not found.
    #[serde(default)]
    pub missed: u32,
    /// It was deleted after it had been read.
    #[serde(default)]
    pub is_deleted: bool,
    /// It has another name than the one it was written under, and was read to its end when nobody had written to it for a while.
    #[serde(default)]
    pub is_finished: bool,
    /// It is compressed, and not all of it can be unpacked.
    #[serde(default)]
    pub is_damaged: bool,
    /// If it is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
}

/// What is known of a compressed file, so that it need not be unpacked to be known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// What tells its content from any other.
    pub seal: u64,
    /// Bytes of what is in it.
    pub size: u64,
}

/// What is to be stored, or deleted, with the next commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceChange {
    /// Of which generation.
    pub number: GenerationNumber,
    /// `None` deletes it.
    pub place: Option<Place>,
}

/// The letter that keys of places begin with.
const LETTER: u8 = b'F';

/// The key of a place in the store, of a file of this glob.
pub fn place_key(glob: &str, number: GenerationNumber) -> Vec<u8> {
    [&[LETTER], glob.as_bytes(), &[0], &number.0.to_be_bytes()].concat()
}

/// Whose place a key is of; `None` if it is of another glob, or of something else.
pub fn place_number(glob: &str, key: &[u8]) -> Option<GenerationNumber> {
    let (letter, rest) = key.split_first()?;
    let number = rest.strip_prefix(glob.as_bytes())?.strip_prefix(&[0])?;
    let number = number.try_into().ok().filter(|_| *letter == LETTER)?;
    Some(GenerationNumber(u64::from_be_bytes(number)))
}

/// Of which glob's files a key is; `None` if it is of something else.
pub fn place_glob(key: &[u8]) -> Option<&str> {
    let (glob, number) = key.strip_prefix(&[LETTER])?.split_last_chunk::<9>()?;
    std::str::from_utf8(glob).ok().filter(|_| number[0] == 0)
}

impl Place {
    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).expect("memory takes it");
        bytes
    }

    /// What these bytes say; `None` if they are no place.
    pub fn from_bytes(bytes: &[u8]) -> Option<Place> {
        ciborium::from_reader(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_anything_else_is_none() {
        let file = FileId { device: 66_306, inode: 12, born_ns: Some(1_795_465_865_120_000_000) };
        let mark =
            Mark { offset: 4_096, head: Print::of(b"{\"value\":1}\n"), tail: Print::of(b"}\n"), is_skipping: false };
        let place = Place {
            path: "/data/x.log".into(),
            file,
            mark,
            missed: 0,
            is_deleted: false,
            is_finished: true,
            is_damaged: true,
            packed: Some(Packed { seal: 7, size: 8_192 }),
        };
        assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place));
        assert_eq!(Place::from_bytes(b"F"), None);
        let key = place_key("/data/*.log", GenerationNumber(7));
        assert_eq!(place_number("/data/*.log", &key), Some(GenerationNumber(7)));
        assert_eq!(place_number("/data/*", &key), None);
        assert_eq!(place_glob(&key), Some("/data/*.log"));
        assert_eq!(place_glob(b"m\0\0\0\0\0\0\0\x07"), None);
        assert_eq!(place_number("", b"m\0\0\0\0\0\0\0\x07"), None);
    }
}
