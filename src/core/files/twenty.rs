//! Twenty ways in which programs that follow files lose lines or read them twice, and what happens here.

use super::model::View;
use super::reader::{Reader, settings};
use super::{Framing, Note, Settings, Start};

const LOG: &str = "/d/x.log";

fn reader() -> Reader {
    with(settings())
}

fn with(settings: Settings) -> Reader {
    Reader::new(View::default(), settings)
}

impl Reader {
    fn append(&self, path: &str, text: &str) {
        self.view.0.borrow_mut().append(path, text.as_bytes());
    }

    /// A look a second later, with everything that it finds read and stored.
    fn second(&mut self) {
        self.pass(1_000);
        self.look();
        self.read(usize::MAX);
        self.commit(usize::MAX, true);
    }

    fn seconds(&mut self, count: usize) -> String {
        (0..count).for_each(|_| self.second());
        self.stored.join(" ")
    }
}

#[test]
fn case_1_a_file_that_gets_the_inode_of_a_deleted_one_is_read_from_its_beginning() {
    let mut reader = reader();
    reader.append(LOG, "a\nb\n");
    reader.second();
    // Written after the look, then deleted: it is open still, so its inode is not free.
    reader.append(LOG, "c\n");
    reader.view.0.borrow_mut().delete(LOG);
    reader.append(LOG, "d\ne\nf\ng\n");
    assert_eq!(reader.seconds(2), "a b c d e f g");

    // While nobody holds it open, the inode is used again at once.
    reader.kill();
    reader.view.0.borrow_mut().delete(LOG);
    reader.append(LOG, "1\n2\n3\n4\n5\n6\n");
    assert_eq!(reader.seconds(2), "a b c d e f g 1 2 3 4 5 6");
    assert_eq!(reader.follower.counts().cuts, 1, "what was written in between is not known");
}

#[test]
fn case_2_equal_headers_do_not_make_two_files_one() {
    let mut reader = with(Settings { has_header: true, framing: Framing::Csv { separator: b',' }, ..settings() });
    let header = "time,value\n";
    for (file, rows) in [("/d/t-1.csv", "1,a\n"), ("/d/t-2.csv", "1,b\n"), ("/d/t-3.csv", "1,c\n")] {
        reader.append(file, header);
        reader.second();
        reader.append(file, rows);
    }
    assert_eq!(reader.seconds(3), "1,a 1,b 1,c");
    reader.append("/d/t-1.csv", "2,a\n");
    reader.append("/d/t-3.csv", "2,c\n");
    assert_eq!(reader.seconds(1), "1,a 1,b 1,c 2,a 2,c");
}

#[test]
fn case_3_a_file_of_a_few_bytes_is_read_and_found_again() {
    let mut reader = reader();
    reader.append(LOG, "a\n");
    assert_eq!(reader.seconds(1), "a");
    reader.kill();
    reader.append(LOG, "b\n");
    assert_eq!(reader.seconds(1), "a b");
}

#[test]
fn case_4_what_is_written_between_copy_and_cut_is_lost_and_counted() {
    let mut reader = reader();
    reader.append(LOG, "a\n");
    reader.second();
    reader.view.0.borrow_mut().copy(LOG, "/d/x.log.1");
    reader.append(LOG, "lost\n");
    reader.view.0.borrow_mut().set(LOG, b"");
    reader.append(LOG, "b\n");
    assert_eq!(reader.seconds(15), "a b");
    let counts = reader.follower.counts();
    assert_eq!((counts.cuts, counts.copies), (1, 1));
    let notes = reader.follower.take_notes();
    assert!(notes.iter().any(|note| matches!(note, Note::Copy { .. })), "{notes:?}");
    // The same without a copy.
    reader.view.0.borrow_mut().set(LOG, b"c\n");
    reader.seconds(15);
    let notes = reader.follower.take_notes();
    assert!(notes.iter().any(|note| matches!(note, Note::Cut { .. })), "{notes:?}");
}

#[test]
fn case_5_a_file_that_is_cut_and_written_past_its_place_is_read_from_its_beginning() {
    let mut reader = reader();
    reader.append(LOG, "a\nb\n");
    reader.second();
    reader.view.0.borrow_mut().set(LOG, b"1\n2\n3\n4\n");
    assert_eq!(reader.seconds(1), "a b 1 2 3 4");
    // Of the same length: only its time tells.
    reader.view.0.borrow_mut().set(LOG, b"5\n6\n7\n8\n");
    assert_eq!(reader.seconds(1), "a b 1 2 3 4 5 6 7 8");
    assert_eq!(reader.follower.counts().cuts, 2);
}

#[test]
fn case_6_a_copy_is_not_read_again_and_saves_what_was_not_read() {
    let mut reader = reader();
    reader.append(LOG, "a\nb\n");
    reader.second();
    reader.append(LOG, "c\n");
    reader.view.0.borrow_mut().copy(LOG, "/d/x.log.1");
    reader.view.0.borrow_mut().set(LOG, b"d\n");
    assert_eq!(reader.seconds(3), "a b d c");
    assert_eq!(reader.follower.counts().copies, 1);
}

#[test]
fn case_7_a_file_that_was_rotated_while_nobody_looked_is_read_on_under_its_new_name() {
    let mut reader = reader();
    reader.append(LOG, "a\n");
    reader.second();
    reader.kill();
    reader.append(LOG, "b\n");
    reader.view.0.borrow_mut().rename(LOG, "/d/x.log.1");
    reader.append(LOG, "c\n");
    assert_eq!(reader.seconds(1), "a b c");
}

#[test]
fn case_7_the_oldest_of_a_chain_is_no_loss_if_it_was_read_and_one_that_may_have_grown_is() {
    let mut reader = reader();
    let rotate = |reader: &mut Reader, line: &str| {
        reader.view.0.borrow_mut().rename(LOG, "/d/x.log.1");
        reader.append(LOG, line);
    };
    reader.append(LOG, "a\n");
    reader.second();
    rotate(&mut reader, "b\n");
    assert_eq!(reader.seconds(14), "a b");
    reader.kill();
    rotate(&mut reader, "c\n");
    // The new one may have got the inode of the oldest.
    let told = |reader: &Reader| reader.follower.counts().vanished + reader.follower.counts().cuts;
    assert_eq!((reader.seconds(1).as_str(), told(&reader)), ("a b c", 0));
    // Somebody may have written to it since it was read.
    reader.kill();
    rotate(&mut reader, "d\n");
    assert_eq!((reader.seconds(1).as_str(), told(&reader)), ("a b c d", 1));
}

#[test]
fn case_8_two_rotations_between_two_looks_are_read_in_order() {
    let mut reader = reader();
    reader.append(LOG, "a\n");
    reader.second();
    for line in ["b\n", "c\n"] {
        reader.append(LOG, line);
        reader.view.0.borrow_mut().rename("/d/x.log.1", "/d/x.log.2");
        reader.view.0.borrow_mut().rename(LOG, "/d/x.log.1");
    }
    reader.append(LOG, "d\n");
    assert_eq!(reader.seconds(1), "a b c d");
    // Whoever has the old one open may still write to it.
    reader.append("/d/x.log.2", "late\n");
    reader.append(LOG, "e\n");
    assert_eq!(reader.seconds(1), "a b c d late e");
}

#[test]
fn case_9_the_place_is_the_end_of_the_last_whole_line_that_is_stored() {
    let mut reader = reader();
    reader.append(LOG, "a\nb");
    reader.second();
    reader.kill();
    reader.append(LOG, "c\n");
    assert_eq!(reader.seconds(1), "a bc");
    // Read, and not stored when the process was killed.
    reader.append(LOG, "d\n");
    reader.look();
    reader.read(1);
    reader.kill();
    assert_eq!(reader.seconds(1), "a bc d");
}

#[test]
fn case_10_a_last_line_without_a_newline_is_read_when_it_is_old_or_rotated() {
    let mut reader = reader();
    reader.append(LOG, "a\nb");
    assert_eq!(reader.seconds(29), "a");
    assert_eq!(reader.seconds(3), "a b", "after `idle`");
    reader.append(LOG, "\nc");
    reader.view.0.borrow_mut().rename(LOG, "/d/x.log.1");
    assert_eq!(reader.seconds(12), "a b c", "after the grace of a rotated one");
    reader.append(LOG, "d");
    reader.second();
    reader.view.0.borrow_mut().delete(LOG);
    assert_eq!(reader.seconds(12), "a b c d", "and of a deleted one");
}

#[test]
fn case_11_a_line_that_is_too_long_costs_only_itself() {
    let mut reader = reader();
    let long = "x".repeat(500);
    reader.append(LOG, &format!("a\n{long}"));
    assert_eq!(reader.seconds(1), "a");
    reader.kill();
    reader.append(LOG, &format!("{long}\nb\n"));
    assert_eq!(reader.seconds(1), "a b");
    assert_eq!(reader.follower.counts().too_long, 0, "counted once, before the restart");
}

#[test]
fn case_12_only_looks_decide() {
    let mut reader = reader();
    reader.append(LOG, "a\n");
    reader.look();
    // No event says so: the read finds what has come since the look.
    reader.append(LOG, "b\n");
    reader.read(usize::MAX);
    reader.commit(usize::MAX, true);
    assert_eq!(reader.seconds(1), "a b");
}

#[test]
fn case_13_many_files_are_not_all_open() {
    let mut reader = with(Settings { open_max: 8, close_after_ms: 60_000, ..settings() });
    for file in 0..200 {
        reader.append(&format!("/d/f{file}x.log"), "a\n");
    }
    reader.second();
    assert_eq!(reader.stored.len(), 200);
    let open = |reader: &Reader| reader.follower.overview(usize::MAX).files.iter().filter(|line| line.is_open).count();
    assert!(open(&reader) <= 8, "{}", open(&reader));
    reader.append("/d/f77x.log", "b\n");
    reader.second();
    assert_eq!(reader.stored.last().map(String::as_str), Some("b"));
    reader.pass(60_000);
    reader.second();
    assert_eq!(open(&reader), 0, "idle ones are closed");
}

#[test]
fn case_14_deleted_files_are_let_go_when_they_are_too_old_or_too_large() {
    let held = |settings: Settings, files: usize, ms: i64| {
        let mut reader = with(settings);
        for file in 0..files {
            reader.append(&format!("/d/{file}x.log"), "aaaaaaaaa\n");
        }
        reader.look();
        (0..files).for_each(|file| reader.view.0.borrow_mut().delete(&format!("/d/{file}x.log")));
        // Nothing can be stored.
        reader.pass(ms);
        reader.look();
        let counts = reader.follower.counts();
        (counts.let_go, counts.lost_bytes)
    };
    assert_eq!(held(Settings { held_bytes_max: 35, ..settings() }, 5, 1_000), (2, 20));
    assert_eq!(held(Settings { held_files_max: 4, ..settings() }, 5, 1_000), (1, 10));
    assert_eq!(held(Settings { held_ms_max: 0, ..settings() }, 3, 1_000), (3, 30));
    assert_eq!(held(settings(), 5, 1_000), (0, 0));
}

#[test]
fn case_15_the_place_is_stored_with_the_lines() {
    // The reader of these tests stores both at once. What is stored by halves shows here.
    let mut reader = reader();
    reader.append(LOG, "a\nb\n");
    reader.look();
    reader.read(1);
    // Stored, and the process is killed before it hears of that.
    reader.commit(usize::MAX, false);
    reader.kill();
    assert_eq!(reader.seconds(1), "a b");
}

#[test]
fn case_16_a_place_beyond_the_end_begins_anew_and_stopping_skips_nothing() {
    let mut reader = reader();
    reader.append(LOG, "aaaa\nb\n");
    reader.second();
    for line in ["c", "d"] {
        reader.kill();
        reader.append(LOG, &format!("{line}\n"));
        reader.second();
    }
    reader.kill();
    reader.view.0.borrow_mut().set(LOG, b"e\n");
    assert_eq!(reader.seconds(1), "aaaa b c d e");
    assert_eq!(reader.follower.counts().cuts, 1);
}

#[test]
fn case_17_several_files_that_are_written_to_take_turns() {
    let mut reader = with(Settings { turn_bytes: 43, ..settings() });
    for (file, line) in [("/d/a.log", "a\n"), ("/d/b.log", "b\n")] {
        reader.append(file, &line.repeat(100));
    }
    reader.look();
    reader.read(4);
    reader.commit(usize::MAX, true);
    let first: Vec<&str> = reader.stored.iter().map(String::as_str).take(44).collect();
    let count = |name: &str| first.iter().filter(|line| **line == name).count();
    assert!(count("a") >= 21 && count("b") >= 21, "{first:?}");
    assert_eq!(reader.seconds(1).matches('a').count(), 100);
}

#[test]
fn case_18_what_cannot_be_read_holds_up_nobody_and_is_tried_again() {
    let mut reader = reader();
    reader.append("/d/a.log", "a\n");
    reader.append("/d/b.log", "b\n");
    reader.view.0.borrow_mut().unreadable = Some("/d/a.log".to_owned());
    assert_eq!(reader.seconds(2), "b");
    assert!(reader.follower.counts().faults >= 2, "each look tries it once");
    reader.view.0.borrow_mut().unreadable = None;
    assert_eq!(reader.seconds(1), "b a");
}

#[test]
fn case_19_neither_bom_nor_carriage_return_is_part_of_a_line() {
    let mut reader = reader();
    reader.append(LOG, "\u{feff}a\r\nb\r\n");
    assert_eq!(reader.seconds(1), "a b");
}

#[test]
fn case_20_files_of_the_same_second_are_read_in_the_order_of_their_writing() {
    let mut reader = reader();
    for (file, line) in [("/d/x-3.log", "a\n"), ("/d/x-1.log", "b\n"), ("/d/x-2.log", "c\n")] {
        reader.append(file, line);
    }
    assert_eq!(reader.seconds(1), "a b c");
}

#[test]
fn at_the_end_begins_what_is_there_at_the_very_first_look_and_nothing_else() {
    let mut reader = with(Settings { start: Start::End, ..settings() });
    reader.append(LOG, "old\nhal");
    reader.second();
    reader.append(LOG, "f\na\n");
    reader.append("/d/y.log", "b\n");
    assert_eq!(reader.seconds(1), "b a");
    reader.kill();
    reader.append("/d/z.log", "c\n");
    assert_eq!(reader.seconds(1), "b a c");
    let mut reader = with(Settings { start: Start::End, ..settings() });
    reader.second();
    reader.kill();
    reader.append(LOG, "new\n");
    assert_eq!(reader.seconds(1), "new", "the first look found nothing");
}

#[test]
fn a_hole_that_a_writer_leaves_in_a_file_that_was_cut_is_passed_over() {
    let mut reader = reader();
    reader.append(LOG, "a\nb\n");
    reader.second();
    reader.view.0.borrow_mut().set(LOG, &[[0; 200].as_slice(), b"c\n"].concat());
    assert_eq!(reader.seconds(1), "a b c");
    assert_eq!(reader.follower.counts().hole_bytes, 200);
}

#[test]
fn a_file_that_comes_back_is_known() {
    let mut reader = reader();
    reader.append(LOG, "a\n");
    reader.second();
    reader.view.0.borrow_mut().rename(LOG, "/e/x.log");
    reader.view.0.borrow_mut().hidden = Some("/e/".to_owned());
    reader.seconds(30);
    reader.append("/e/x.log", "b\n");
    reader.view.0.borrow_mut().rename("/e/x.log", "/d/x.log.1");
    assert_eq!(reader.seconds(1), "a b");
}

#[test]
fn a_header_is_no_row_and_is_there_after_a_restart() {
    let mut reader = with(Settings { has_header: true, framing: Framing::Csv { separator: b',' }, ..settings() });
    reader.append("/d/t.csv", "\u{feff}time,value\r\n1,a\r\n");
    assert_eq!(reader.seconds(1), "1,a");
    reader.kill();
    reader.append("/d/t.csv", "2,\"b\nc\"\r\n");
    reader.pass(1_000);
    reader.look();
    let portion = reader.follower.read(reader.now_ms, &mut reader.view).expect("a row");
    assert_eq!(portion.lines().collect::<Vec<_>>(), [b"2,\"b\nc\""]);
    assert_eq!(portion.header.as_deref(), Some(b"time,value".as_slice()));
}

#[test]
fn a_file_that_is_missing_is_told_once_and_forgotten_after_some_starts() {
    let mut reader = reader();
    reader.append(LOG, "a\n");
    reader.append("/d/y.log", "b\n");
    reader.second();
    reader.kill();
    reader.view.0.borrow_mut().delete(LOG);
    for start in 0..10 {
        reader.second();
        assert_eq!(reader.follower.counts().vanished, u64::from(start == 0), "{start}");
        assert_eq!(reader.follower.overview(0).files_total, if start < 8 { 2 } else { 1 }, "{start}");
        reader.kill();
    }
    // A folder that is empty says nothing: perhaps it is not mounted.
    reader.view.0.borrow_mut().hidden = Some("/d/".to_owned());
    for _ in 0..10 {
        reader.second();
        reader.kill();
    }
    reader.view.0.borrow_mut().hidden = None;
    reader.append("/d/y.log", "c\n");
    assert_eq!(reader.seconds(1), "a b c");
}

#[test]
fn a_file_a_second_leaves_nothing_behind() {
    let mut reader = with(Settings { remember_deleted_ms: 0, ..settings() });
    for file in 0..600 {
        reader.append(LOG, &format!("{file}\n"));
        reader.second();
        reader.view.0.borrow_mut().rename("/d/x.log.1", "/d/x.log.2");
        reader.view.0.borrow_mut().rename(LOG, "/d/x.log.1");
    }
    assert_eq!(reader.stored.len(), 600);
    let known = reader.follower.overview(0).files_total;
    assert!(known <= 16, "{known} are known");
    assert!(reader.places.len() <= 16, "{} places are stored", reader.places.len());
}
