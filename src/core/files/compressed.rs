//! Files that are compressed when they are finished: what is in them is read once, before or after.

use super::model::{Action, View};
use super::reader::{Reader, settings};
use super::{Settings, Start};

const LOG: &str = "/d/a.log";
const ROTATED: &str = "/d/a.log.1";
const PACKED: &str = "/d/a.log.2.gz";

fn reader() -> Reader {
    Reader::new(View::default(), settings())
}

impl Reader {
    fn write(&self, path: &str, text: &str) {
        self.view.0.borrow_mut().append(path, text.as_bytes());
    }

    fn rename(&self, from: &str, to: &str) {
        self.view.0.borrow_mut().rename(from, to);
    }

    fn compress(&self, from: &str, to: &str) {
        let mut disk = self.view.0.borrow_mut();
        disk.copy(from, to);
        disk.delete(from);
    }

    fn after(&mut self, seconds: usize) -> String {
        for _ in 0..seconds {
            self.pass(1_000);
            self.look();
            self.read(usize::MAX);
            self.commit(usize::MAX, true);
        }
        self.stored.join(" ")
    }
}

#[test]
fn a_rotation_that_was_read_is_not_read_again_when_it_is_compressed() {
    let mut reader = reader();
    reader.write(LOG, "a\nb\n");
    reader.after(1);
    reader.rename(LOG, ROTATED);
    reader.write(LOG, "c\n");
    assert_eq!(reader.after(1), "a b c");
    // Compressed long after, so that it is not open any more; and listed a while after the other one was deleted.
    reader.after(400);
    reader.view.0.borrow_mut().hidden = Some(PACKED.to_owned());
    reader.compress(ROTATED, PACKED);
    reader.after(20);
    reader.view.0.borrow_mut().hidden = None;
    assert_eq!(reader.after(30), "a b c");
    let counts = reader.follower.counts();
    assert_eq!((counts.vanished, counts.lost_bytes), (0, 0));
    // The compressed one is renamed like any other.
    reader.rename(PACKED, "/d/a.log.3.gz");
    reader.write(LOG, "d\n");
    assert_eq!(reader.after(30), "a b c d");
}

#[test]
fn what_was_not_read_before_is_read_from_the_compressed_file() {
    let mut reader = reader();
    reader.write(LOG, "a\n");
    reader.after(1);
    reader.kill();
    reader.write(LOG, "b\nc");
    reader.rename(LOG, ROTATED);
    reader.compress(ROTATED, PACKED);
    reader.write(LOG, "d\n");
    // The new file has the inode of the old one, so it is met first.
    assert_eq!(reader.after(1), "a d b");
    assert_eq!(reader.follower.counts().vanished, 0, "it is all there");
    assert_eq!(reader.after(12), "a d b c", "the last line of a finished file is one without a newline, too");
    assert_eq!(reader.places.len(), 2, "{:?}", reader.places);
}

#[test]
fn a_finished_file_that_nobody_has_seen_before_is_read_whole_and_once() {
    let mut reader = reader();
    reader.write("/d/x-1.csv.gz", "a\nb\n");
    reader.write("/d/x-2.csv.gz", "c\n");
    assert_eq!(reader.after(12), "a b c");
    reader.kill();
    let reads = reader.view.0.borrow().reads;
    assert_eq!(reader.after(400), "a b c");
    assert!(reader.view.0.borrow().reads - reads <= 4, "what is known is not unpacked to be compared");
}

#[test]
fn a_file_that_was_deleted_is_remembered_for_compressed_ones_only() {
    let mut reader = reader();
    for _ in 0..2 {
        reader.write("/d/value.log", "{\"value\":1}\n");
        reader.after(30);
        reader.view.0.borrow_mut().delete("/d/value.log");
        reader.after(30);
    }
    assert_eq!(reader.stored.len(), 2, "written anew, with the same beginning");
    reader.kill();
    reader.write("/d/value.log", "{\"value\":1}\n");
    reader.after(3);
    assert_eq!(reader.stored.len(), 3, "and after a restart, with the inode of the deleted one");
}

#[test]
fn compressed_files_are_read_one_at_a_time() {
    let mut reader = Reader::new(View::default(), Settings { turn_bytes: 43, ..settings() });
    reader.write("/d/a.csv.gz", &"a\n".repeat(100));
    reader.write("/d/b.csv.gz", &"b\n".repeat(100));
    let stored = reader.after(1);
    assert_eq!(stored.find('b'), Some(200), "unpacking one from its beginning for each turn takes for ever");
}

#[test]
fn at_the_end_begins_what_is_compressed_already() {
    let mut reader = Reader::new(View::default(), Settings { start: Start::End, ..settings() });
    reader.write(PACKED, "a\n");
    reader.after(1);
    reader.write("/d/b.log.gz", "b\n");
    assert_eq!(reader.after(12), "b");
    reader.kill();
    assert_eq!(reader.after(12), "b");
}

#[test]
fn rotations_that_are_compressed_leave_nothing_behind() {
    let mut reader = reader();
    for _ in 0..200 {
        reader.view.0.borrow_mut().act(0, Action::Append(2));
        reader.after(1);
        reader.view.0.borrow_mut().act(0, Action::Rename);
        reader.view.0.borrow_mut().act(0, Action::Compress);
    }
    assert_eq!(reader.after(20).split(' ').count(), 400);
    assert!(reader.follower.overview(0).files_total <= 70, "{}", reader.follower.overview(0).files_total);
    reader.after(70);
    assert!(reader.places.len() <= 4, "{} places are stored", reader.places.len());
}
