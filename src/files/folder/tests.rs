//! Compressed files in a folder.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::core::files::Packed;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn folder(path: &Path, places: &[Place], skips_packed: bool) -> Folder {
    Folder::new(path.to_owned(), "*".to_owned(), Default::default(), places.iter(), skips_packed)
}

/// All that is in the files that are seen.
fn texts(folder: &mut Folder) -> Vec<Vec<u8>> {
    let mut seen = folder.list().expect("a folder");
    seen.sort_by(|a, b| a.path.cmp(&b.path));
    let text = |one: Seen| {
        let handle = folder.open(&one.path).expect("it is there");
        let mut text = vec![0; usize::try_from(one.stat.size).expect("small")];
        assert_eq!(folder.read_at(&handle, 0, &mut text).expect("it can be read"), text.len());
        text
    };
    seen.into_iter().map(text).collect()
}

fn seen_after(folder: &mut Folder, looks: usize) -> Vec<Vec<u8>> {
    for _ in 0..looks {
        folder.list().expect("a folder");
        while folder.unpack(1 << 20) {}
    }
    texts(folder)
}

#[test]
fn a_compressed_file_is_what_is_in_it_once_it_is_whole() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("x.log.1.gz");
    let whole = gzip(b"a\nb\n");
    std::fs::write(&path, &whole[..12]).expect("written");
    let mut folder = folder(temporary.path(), &[], false);
    assert!(seen_after(&mut folder, 3).is_empty(), "it may be being written");
    // Two that were appended to each other are one text.
    std::fs::write(&path, [whole, gzip(b"c\n")].concat()).expect("written");
    assert!(seen_after(&mut folder, 1).is_empty(), "it has just changed");
    assert_eq!(seen_after(&mut folder, 1), [b"a\nb\nc\n"]);
    assert!(folder.take_damaged().is_empty());
    assert!(folder.list().expect("a folder").iter().all(|one| !one.stat.is_damaged));
}

#[test]
fn of_a_damaged_file_whole_lines_are_read_and_of_a_bomb_nothing() {
    let temporary = tempfile::tempdir().expect("a folder");
    let text: Vec<u8> =
        (0..50_000_u32).flat_map(|n| format!("{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
    let whole = gzip(&text);
    std::fs::write(temporary.path().join("a.gz"), &whole[..whole.len() / 2]).expect("written");
    std::fs::write(temporary.path().join("b.gz"), b"no gzip").expect("written");
    let bomb = gzip(&vec![b'0'; 4 << 20]);
    std::fs::write(temporary.path().join("c.gz"), bomb).expect("written");
    let mut folder = folder(temporary.path(), &[], false);
    folder.packed.grace = Duration::ZERO;
    folder.packed.unpacked_bytes_always = 1 << 20;
    let seen = seen_after(&mut folder, 2);
    assert!(folder.list().expect("a folder").iter().all(|one| one.stat.is_damaged));
    assert!(seen[0].len() > text.len() / 4 && text.starts_with(&seen[0]) && seen[0].ends_with(b"\n"));
    assert_eq!((&seen[1], &seen[2], seen.len()), (&vec![], &vec![], 3));
    let mut damaged = folder.take_damaged();
    damaged.sort();
    assert_eq!(damaged.len(), 3, "{damaged:?}");
    assert!(damaged[2].1.contains("more than 250 times"), "{damaged:?}");
    assert!(seen_after(&mut folder, 2).len() == 3 && folder.take_damaged().is_empty(), "told once");
}

/// Bytes that are wrong may unpack to anything, and only the checksum at the end tells.
#[test]
fn of_a_member_with_a_wrong_checksum_nothing_is_read() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (first, mut second) = (gzip(b"a 1\na 2\nhalf"), gzip(&b" a line\nb 1\nb 2\n".repeat(50)));
    let checksum = second.len() - 8;
    second[checksum] ^= 1;
    std::fs::write(temporary.path().join("a.gz"), [first, second.clone()].concat()).expect("written");
    std::fs::write(temporary.path().join("b.gz"), &second).expect("written");
    let mut folder = folder(temporary.path(), &[], false);
    folder.packed.grace = Duration::ZERO;
    let seen = seen_after(&mut folder, 2);
    assert_eq!(seen, [b"a 1\na 2\n".to_vec(), vec![]]);
    assert_eq!(folder.take_damaged().len(), 2);
}

#[test]
fn any_place_can_be_read_and_those_in_order_are_unpacked_once() {
    let temporary = tempfile::tempdir().expect("a folder");
    let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(temporary.path().join("x.gz"), gzip(&text)).expect("written");
    let mut folder = folder(temporary.path(), &[], false);
    seen_after(&mut folder, 1);
    let path = folder.list().expect("a folder")[0].path.clone();
    let handle = folder.open(&path).expect("it is there");
    assert!(matches!(handle, Opened::Packed(..)));
    for (offset, length) in [(0, 10), (5, 2_000), (1_800, 70_000), (71_000, 70_000), (700_000, 200_000), (3, 5_000)] {
        let mut buffer = vec![0; length];
        let read = folder.read_at(&handle, offset as u64, &mut buffer).expect("it can be read");
        assert_eq!(buffer[..read], text[offset..text.len().min(offset + length)], "{offset}");
    }
}

#[test]
fn what_an_earlier_start_has_unpacked_is_known_at_once() {
    let temporary = tempfile::tempdir().expect("a folder");
    std::fs::write(temporary.path().join("x.gz"), gzip(b"a\n")).expect("written");
    let mut first = folder(temporary.path(), &[], false);
    seen_after(&mut first, 1);
    let seen = first.list().expect("a folder").remove(0);
    let packed = Some(Packed { seal: seen.stat.packed.expect("it is compressed"), size: seen.stat.size });
    let mark = Default::default();
    let place = Place {
        path: seen.path,
        file: seen.stat.file,
        mark,
        missed: 0,
        is_deleted: false,
        is_finished: true,
        is_damaged: true,
        packed,
    };
    let mut second = folder(temporary.path(), &[place], false);
    assert!(second.list().expect("a folder")[0].stat.is_damaged && second.take_damaged().len() == 1);
    assert_eq!(folder(temporary.path(), &[], false).list().expect("a folder").len(), 0);
    let skipped = folder(temporary.path(), &[], true).list().expect("a folder");
    assert_eq!(skipped[0].stat.size, 0, "for start = \"end\"");
}
