//! Files that are copied, then cut, while they are written to and read: what is in a copy and was read is not read again.

use super::model::View;
use super::reader::{Reader, settings};
use super::{Note, Settings};

const LOG: &str = "/d/a.log";
const COPY: &str = "/d/a.log.1";
const PACKED: &str = "/d/a.log.1.gz";

/// What is done to the file and to its copy, and what the reader does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(&'static str),
    CopyTo(&'static str),
    Cut,
    /// The copy is compressed and deleted.
    Compress,
    /// Sees what is there, and reads nothing.
    Look,
    /// Reads and stores what is ready.
    Read,
    /// A look a second later, with everything read and stored.
    Second,
    Kill,
}

use Step::{Compress, CopyTo, Cut, Kill, Look, Read, Second, Write};

fn take(reader: &mut Reader, steps: &[Step]) {
    for step in steps {
        match *step {
            Write(text) => reader.view.0.borrow_mut().append(LOG, text.as_bytes()),
            CopyTo(path) => reader.view.0.borrow_mut().copy(LOG, path),
            Cut => reader.view.0.borrow_mut().set(LOG, b""),
            Compress => {
                reader.view.0.borrow_mut().copy(COPY, PACKED);
                reader.view.0.borrow_mut().delete(COPY);
            }
            Look => {
                reader.pass(1_000);
                reader.look();
            }
            Read => {
                reader.read(usize::MAX);
                reader.commit(usize::MAX, true);
            }
            Second => take(reader, &[Look, Read]),
            Kill => reader.kill(),
        }
    }
}

/// The names differ in a number, and the lines do not differ.
#[test]
fn files_of_two_devices_or_days_are_no_copies_of_each_other() {
    for [one, other] in [
        ["/d/pump-7.log", "/d/pump-8.log"],
        ["/d/pump-7.log.1.gz", "/d/pump-8.log.1.gz"],
        ["/d/x-20261130.csv", "/d/x-20261201.csv"],
        ["/d/x.log.2026-11-30", "/d/x.log.2026-12-01"],
    ] {
        let mut reader = Reader::new(View::default(), settings());
        let append = |reader: &mut Reader, path: &str, times: usize| {
            (0..times).for_each(|_| reader.view.0.borrow_mut().append(path, b"t 1\n"));
            take(reader, &[Second; 15]);
        };
        append(&mut reader, one, 8);
        append(&mut reader, other, 5);
        assert_eq!((reader.stored.len(), reader.follower.counts().copies), (13, 0), "{one} {other}");
    }
}

/// What is stored after these steps and half a minute, and how many bytes are known to be lost.
fn stored(settings: Settings, steps: &[Step]) -> (String, u64) {
    let mut reader = Reader::new(View::default(), settings);
    take(&mut reader, steps);
    take(&mut reader, &[Second; 30]);
    let lost = |note: &Note| match note {
        Note::Cut { unread_bytes, .. } => *unread_bytes,
        _ => 0,
    };
    let told: u64 = reader.follower.take_notes().iter().map(lost).sum();
    assert_eq!(told, reader.follower.counts().lost_bytes, "{steps:?}: what is counted is told");
    reader.stored.sort();
    (reader.stored.join(" "), told)
}

#[test]
fn each_line_of_a_copy_is_read_once_whatever_was_read_before_the_cut() {
    let table: &[(&str, u64, &[Step])] = &[
        // Read before the cut, after a look that did not see the copy.
        ("a b c d", 0, &[Write("a\nb\n"), Look, CopyTo(COPY), Write("c\n"), Read, Cut, Write("d\n")]),
        // And after one that did.
        ("a b c d", 0, &[Write("a\nb\n"), Second, CopyTo(COPY), Write("c\n"), Second, Cut, Write("d\n")]),
        ("a b c d", 0, &[Write("a\n"), Second, Write("b\n"), CopyTo(COPY), Write("c\n"), Second, Cut, Write("d\n")]),
        (
            "a b c d",
            0,
            &[Write("a\n"), Second, Write("b\n"), CopyTo(COPY), Look, Write("c\n"), Read, Cut, Write("d\n")],
        ),
        // Cut and written past the old place.
        (
            "a b c d e f g",
            0,
            &[Write("a\nb\n"), Second, CopyTo(COPY), Write("c\n"), Second, Cut, Write("d\ne\nf\ng\n")],
        ),
        // Half a line is in the copy.
        ("a b c d", 0, &[Write("a\nb"), Second, CopyTo(COPY), Write("\nc\n"), Second, Cut, Write("d\n")]),
        ("a bcd", 0, &[Write("a\nbc"), Second, CopyTo(COPY), Write("d\n"), Second, Cut]),
        // Hardly anything of it was read.
        ("a b c d", 0, &[Write("a\n"), Second, Write("b\nc\n"), CopyTo(COPY), Cut, Write("d\n")]),
        // What was written after the copy and not read is lost, and told as far as it was seen.
        ("a d", 0, &[Write("a\n"), Second, CopyTo(COPY), Write("bb\nc\n"), Cut, Write("d\n")]),
        ("a d", 5, &[Write("a\n"), Second, CopyTo(COPY), Write("bb\nc\n"), Look, Cut, Write("d\n")]),
        (
            "a b d",
            2,
            &[Write("a\n"), Second, CopyTo(COPY), Write("b\n"), Second, Write("c\n"), Look, Cut, Write("d\n")],
        ),
        ("a b d", 3, &[Write("a\n"), Second, Write("b\n"), CopyTo(COPY), Write("cc\n"), Look, Cut, Write("d\n")]),
        ("a d", 2, &[Write("a\n"), Second, Write("b\n"), Look, Cut, Write("d\n")]),
        ("a d", 2, &[Write("a\n"), Second, Write("b\n"), Look, Cut, Read, Write("d\n")]),
        ("a d e f", 0, &[Write("a\n"), Second, Cut, Write("d\ne\nf\n")]),
        // Twice, one soon after the other.
        (
            "a b c d e f",
            0,
            &[
                Write("a\nb\n"),
                Second,
                CopyTo("/d/a.log.2"),
                Write("c\n"),
                Second,
                Cut,
                Write("d\n"),
                Second,
                CopyTo(COPY),
                Write("e\n"),
                Second,
                Cut,
                Write("f\n"),
            ],
        ),
        // The copy is compressed, at once or later.
        ("a b c d", 0, &[Write("a\nb\n"), Look, CopyTo(COPY), Write("c\n"), Read, Cut, Compress, Write("d\n")]),
        ("a b c d", 0, &[Write("a\nb\n"), Second, CopyTo(PACKED), Write("c\n"), Second, Cut, Write("d\n")]),
        (
            "a b c d",
            0,
            &[Write("a\nb\n"), Second, CopyTo(COPY), Write("c\n"), Second, Cut, Second, Compress, Write("d\n")],
        ),
        (
            "a b c d",
            0,
            &[
                Write("a\nb\n"),
                Second,
                CopyTo(COPY),
                Write("c\n"),
                Second,
                Cut,
                Write("d\n"),
                Second,
                Second,
                Second,
                Compress,
            ],
        ),
        // A restart when all of that is over.
        (
            "a b c d",
            0,
            &[
                Write("a\nb\n"),
                Second,
                CopyTo(COPY),
                Write("c\n"),
                Second,
                Second,
                Cut,
                Write("d\n"),
                Second,
                Second,
                Second,
                Second,
                Second,
                Second,
                Second,
                Second,
                Second,
                Second,
                Second,
                Second,
                Kill,
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for (expected, lost_bytes, steps) in table {
        for open_max in [128, 0] {
            let found = stored(Settings { open_max, ..settings() }, steps);
            if found != ((*expected).to_owned(), *lost_bytes) {
                wrong.push(format!("{found:?} with {open_max} open: {steps:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_long_file_is_recognised_in_its_copy_however_much_was_read_between_copy_and_cut() {
    let lines = |range: std::ops::Range<usize>| range.map(|line| format!("{line:07}\n")).collect::<String>();
    for (copied, read) in [(400, 401), (400, 1_500), (1_500, 1_501), (1_500, 2_000)] {
        for (to, half) in [(COPY, ""), (COPY, "000"), (PACKED, "")] {
            let mut reader = Reader::new(View::default(), Settings { turn_bytes: 1_000, ..settings() });
            let append = |text: &str| reader.view.0.borrow_mut().append(LOG, text.as_bytes());
            append(&lines(0..copied));
            append(half);
            reader.view.0.borrow_mut().copy(LOG, to);
            reader.view.0.borrow_mut().hidden = Some(to.to_owned());
            append(lines(copied..read).strip_prefix(half).expect("zeros"));
            take(&mut reader, &[Second, Cut]);
            reader.view.0.borrow_mut().hidden = None;
            take(&mut reader, &[Second; 30]);
            assert_eq!(reader.stored.len(), read, "{copied} of {read} in {to} {half}");
            assert_eq!(reader.follower.counts().copies, 1);
        }
    }
}

#[test]
fn files_that_begin_with_the_same_line_are_no_copies() {
    // After a rotation, beside one that was cut, and beside one that is written to.
    let rename = |reader: &Reader| reader.view.0.borrow_mut().rename(LOG, COPY);
    let cut = |reader: &Reader| reader.view.0.borrow_mut().set(LOG, b"");
    for before in [&rename as &dyn Fn(&Reader), &cut, &|_: &Reader| ()] {
        let mut reader = Reader::new(View::default(), settings());
        take(&mut reader, &[Write("begin\na\nb\n"), Second]);
        before(&reader);
        let append = |text: &str| reader.view.0.borrow_mut().append("/d/a-2.log", text.as_bytes());
        append("begin\n");
        take(&mut reader, &[Second, Second]);
        let append = |text: &str| reader.view.0.borrow_mut().append("/d/a-2.log", text.as_bytes());
        append("c\n");
        take(&mut reader, &[Second; 3]);
        reader.stored.sort();
        assert_eq!(reader.stored.join(" "), "a b begin begin c");
    }
}
