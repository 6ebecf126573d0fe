use std::collections::HashMap;

use super::*;
use crate::batch::varint::Cursor;
use crate::detection::alert::{ALERTS_MAX, read_alert, write_alert};
use crate::identity::RunId;

const RUN: RunId = RunId([3; 8]);

fn at(seconds: u64) -> Moment {
    Moment { wall_ms: 1_000_000 + seconds as i64 * 1000, steady_ms: seconds * 1000 }
}

fn flag<'a>(metric: &'a str, position: u64, severity: Severity, detectors: &'a [&'a str]) -> Flag<'a> {
    Flag {
        device: "tank",
        metric,
        kind: "anomaly",
        detectors,
        weight: Weight { severity, severity_max: Severity::Critical },
        value: 25.8,
        text: None,
        expected: Some(22.1),
        score: 1.8,
        run: RUN,
        position,
        is_held: false,
        rhythm: None,
        limits: 0,
        is_pending: false,
        maturity: None,
        holder: Holder::default(),
    }
}

fn key(metric: &str, kind: &str) -> AlertKey {
    AlertKey { device: "tank".to_owned(), metric: metric.to_owned(), kind: kind.to_owned() }
}

/// What became of the alerts, as `second:what`: R raised, U updated, S stale, A acknowledged, C cleared, F forgotten, G gone; `~` where it
/// comes and goes, a letter of the severity behind R, U and S (w, m, M, c).
struct Life {
    book: AlertBook,
    /// What the store holds.
    rows: HashMap<AlertKey, Vec<u8>>,
    snapshot: Vec<u8>,
    told: Vec<String>,
}

impl Life {
    fn note(&mut self, second: u64, changes: &mut Vec<AlertChange>) {
        for AlertChange { key, alert, .. } in changes.drain(..) {
            let Some(alert) = alert else {
                self.told.push(format!("{second}:G"));
                self.rows.remove(&key);
                continue;
            };
            let severity = match alert.severity {
                Severity::Warning => "w",
                Severity::Minor => "m",
                Severity::Major => "M",
                Severity::Critical => "c",
            };
            let what = match (alert.state, alert.cleared_reason) {
                (State::Cleared, None) => "C".to_owned(),
                (State::Cleared, Some(ClearedReason::Forgotten)) => "F".to_owned(),
                (State::Cleared, Some(reason)) => reason.name().to_owned(),
                (State::Raised, _) if alert.stale_since_ms.is_some() => format!("S{severity}"),
                (State::Raised, _) if alert.revision == 1 => format!("R{severity}"),
                (State::Raised, _) if alert.acknowledged_by.is_some() => format!("A{severity}"),
                (State::Raised, _) => format!("U{severity}"),
            };
            let mut line = Vec::new();
            write_alert(&mut line, "g", RUN, 1, &key, &alert);
            assert_eq!(read_alert(&line), Some((key.clone(), alert)), "what is written is read back");
            let flapping = String::from_utf8_lossy(&line).contains("it comes and goes");
            self.told.push(format!("{second}:{what}{}", if flapping { "~" } else { "" }));
            self.rows.insert(key, line);
        }
    }

    /// The process ends, with a snapshot or without, and starts again: what the store holds is all that is left.
    fn restart(&mut self, second: u64, has_snapshot: bool) {
        if has_snapshot {
            self.snapshot.clear();
            self.book.snapshot(at(second), &mut self.snapshot);
        }
        self.book = AlertBook::new("g", AlertTimes::default());
        self.book.listen_from(at(second));
        if !self.snapshot.is_empty() {
            let mut cursor = Cursor { rest: &self.snapshot };
            self.book.remember(&mut cursor, true, at(second)).expect("a snapshot of ours");
            assert!(cursor.rest.is_empty());
        }
        for line in self.rows.values() {
            let (key, alert) = read_alert(line).expect("what was written");
            self.book.restore(key, alert, None, at(second));
        }
        assert!(self.book.restored().count() <= self.rows.len());
    }
}

/// A reading of temp that is flagged for nothing.
fn good() -> Heard<'static> {
    Heard {
        device: "tank",
        metric: "temp",
        value: 22.0,
        rhythm: None,
        flagged: Kinds::default(),
        is_late: false,
        is_usable: true,
        is_judged: true,
        has_level: true,
        uncleared_limits: 0,
    }
}

/// `script`: `second event` separated by commas, or `first..last/step event`. Events: w, m, M, c a spike of that severity; s a shift;
/// o a spike of another series of the device, capped at warning; L a limit, P one that waits; g a silence; k a good reading, n one whose value cannot be, l a
/// late one, u one that is not judged, b one within a limit and not within its clearing bound; a, e acknowledged by Anna, Bea; x a restart,
/// X one after a snapshot; - the gateway listens again from now on.
fn live(script: &str, until: u64) -> String {
    let mut events: Vec<(u64, &str)> = Vec::new();
    for part in script.split(", ").filter(|part| !part.is_empty()) {
        let (when, event) = part.split_once(' ').expect("when and what");
        match when.split_once("..") {
            Some((first, rest)) => {
                let (last, step) = rest.split_once('/').unwrap_or((rest, "1"));
                let number = |text: &str| text.parse::<u64>().expect("a second");
                events.extend(
                    (number(first)..=number(last)).step_by(number(step) as usize).map(|second| (second, event)),
                );
            }
            None => events.push((when.parse().expect("a second"), event)),
        }
    }
    events.sort_by_key(|(second, _)| *second);
    let mut events = events.into_iter().peekable();
    let book = AlertBook::new("g", AlertTimes::default());
    let mut life = Life { book, rows: HashMap::new(), snapshot: Vec::new(), told: Vec::new() };
    let mut changes = Vec::new();
    for second in 0..=until {
        life.book.tick(at(second), &mut changes);
        life.note(second, &mut changes);
        while let Some((_, event)) = events.next_if(|(when, _)| *when == second) {
            happen(&mut life, second, event, &mut changes);
            life.note(second, &mut changes);
        }
    }
    life.told.join(" ")
}

fn happen(life: &mut Life, second: u64, event: &str, changes: &mut Vec<AlertChange>) {
    let now = at(second);
    let spike = |severity| flag("temp", second, severity, &["spike"]);
    let mut hear = |heard: Heard<'_>| _ = life.book.hear(now, &heard, changes);
    match event {
        "w" => life.book.flag(now, &spike(Severity::Warning), changes),
        "m" => life.book.flag(now, &spike(Severity::Minor), changes),
        "M" => life.book.flag(now, &spike(Severity::Major), changes),
        "c" => life.book.flag(now, &spike(Severity::Critical), changes),
        "s" => life.book.flag(now, &flag("temp", second, Severity::Minor, &["shift"]), changes),
        "o" => {
            let weight = Weight { severity: Severity::Critical, severity_max: Severity::Warning };
            let other = Flag { weight, ..flag("hum", second, Severity::Critical, &["spike"]) };
            life.book.flag(now, &other, changes);
        }
        "L" => {
            let limit = flag("temp", second, Severity::Minor, &["limit"]);
            life.book.flag(now, &Flag { kind: "limit", limits: 1, ..limit }, changes);
        }
        "P" => {
            let limit = flag("temp", second, Severity::Critical, &["limit"]);
            life.book.flag(now, &Flag { kind: "limit", is_pending: true, ..limit }, changes);
        }
        "g" => {
            let gap = flag("temp", second, Severity::Minor, &["gap"]);
            life.book.flag(now, &Flag { kind: "gap", is_held: true, ..gap }, changes);
        }
        "k" => hear(good()),
        "n" => hear(Heard { is_usable: false, ..good() }),
        "l" => hear(Heard { is_late: true, ..good() }),
        "u" => hear(Heard { is_judged: false, ..good() }),
        "b" => hear(Heard { uncleared_limits: 1, ..good() }),
        "a" | "e" => {
            let by = if event == "a" { "anna" } else { "bea" };
            let seen = Acknowledgement { by: by.to_owned(), normal: None };
            life.book.acknowledge(now, &key("temp", "anomaly"), &seen, changes);
        }
        "x" => life.restart(second, false),
        "X" => life.restart(second, true),
        "-" => life.book.listen_from(now),
        other => panic!("no event {other}"),
    }
}

#[test]
fn lives_of_alerts() {
    let week = 7 * 86_400;
    let forgotten = format!("0:Rm {week}:F {}:G", week + 60);
    let stale_and_forgotten = format!("0:Rw 30:Sw {week}:F {}:G", week + 60);
    let table: &[(&str, u64, &str)] = &[
        // Raised, cleared, gone.
        ("", 200, ""),
        ("0 w, 1..200 k", 200, "0:Rw 31:C 91:G"),
        ("0 M, 1..89 k", 89, "0:RM 31:C"),
        ("10 c, 11..100 k", 101, "10:Rc 41:C 101:G"),
        ("0 w, 1..28 k, 29 w, 30..150 k", 150, "0:Rw 29:Uw 60:C 120:G"),
        ("0 w, 10 k, 40 k", 100, "0:Rw 40:C 100:G"),
        ("0 w, 10 k, 20 k, 39 k", 60, "0:Rw"),
        // Updates: what is new at once, the rest every five seconds.
        ("0..4 w", 20, "0:Rw"),
        ("0..12 w", 20, "0:Rw 5:Uw 10:Uw"),
        ("0 m, 1 s", 20, "0:Rm 1:Um"),
        ("0 s, 1 s", 20, "0:Rm"),
        ("0 w, 1 m, 2 M, 3 c", 20, "0:Rw 1:Um 2:UM 3:Uc"),
        ("0 c, 6 w", 20, "0:Rc 6:Uc"),
        ("0 M, 2 w, 4 s", 20, "0:RM 4:UM"),
        // No readings, no all-clear: it is stale, until somebody is heard again or nobody waits any more.
        ("0 w", 29, "0:Rw"),
        ("0 w", 3_600, "0:Rw 30:Sw"),
        ("0 w, 1..20 k", 3_600, "0:Rw 50:Sw"),
        ("0 w, 1..20 k, 100..110 k, 111 w", 120, "0:Rw 50:Sw 100:Uw 111:Uw"),
        ("0 w, 1..20 k, 100..200 k", 150, "0:Rw 50:Sw 100:Uw 130:C"),
        ("0 w, 40 w", 60, "0:Rw 30:Sw 40:Uw"),
        ("0 w, 31 n", 60, "0:Rw 30:Sw 31:Uw"),
        ("0 w, 31 l", 60, "0:Rw 30:Sw"),
        ("0 w", week + 60, &stale_and_forgotten),
        // A sensor that reports every seventy seconds.
        ("0..700/70 L", 720, "0:Rm 30:Sm 70:Um 140:Um 210:Um 280:Um 350:Um 420:Um 490:Um 560:Um 630:Um 700:Um"),
        ("0..140/70 L, 210..700/70 k", 400, "0:Rm 30:Sm 70:Um 140:Um 280:C 340:G"),
        ("0..140/70 L, 210 k", 559, "0:Rm 30:Sm 70:Um 140:Um"),
        ("0..140/70 L, 210 k", 561, "0:Rm 30:Sm 70:Um 140:Um 560:Sm"),
        // What is not good is not good.
        ("0 w, 1..200 n", 200, "0:Rw"),
        ("0 w, 1..200/20 n, 2..200/2 k", 200, "0:Rw"),
        ("0 w, 1..200 l", 60, "0:Rw 30:Sw"),
        ("0 w, 1..200 u", 200, "0:Rw"),
        ("0 L, 1..200 u", 40, "0:Rm 31:C"),
        ("0 L, 1..60 b, 61..200 k", 100, "0:Rm 91:C"),
        ("0 L, 1..60 k, 20 b", 60, "0:Rm 51:C"),
        ("0 w, 1..60 b", 60, "0:Rw 31:C"),
        // A limit that waits raises nothing; but while it is exceeded nothing clears.
        ("0..200 P", 200, ""),
        ("0 L, 1..20 k, 21 P, 22..60 k", 60, "0:Rm 21:Um 52:C"),
        // Acknowledged.
        ("0 w, 3 a, 4..95 k", 95, "0:Rw 3:Aw 34:C 94:G"),
        ("0 w, 3 a, 4 a", 20, "0:Rw 3:Aw"),
        ("0 w, 3 a, 4 e", 20, "0:Rw 3:Aw 4:Aw"),
        ("3 a", 20, ""),
        ("0 w, 1..95 k, 95 a", 100, "0:Rw 31:C 91:G"),
        ("0 w, 2 a, 3 c", 20, "0:Rw 2:Aw 3:Ac"),
        ("0 w, 2 a, 3..39 k, 40 w", 45, "0:Rw 2:Aw 33:C 40:Rw~"),
        // Back again: good for twice as long each time, and it says so.
        ("0 w, 1..39 k, 40 w, 41..170 k", 170, "0:Rw 31:C 40:Rw~ 101:C~ 161:G"),
        ("0 w, 1..99 k, 100 w, 101..240 k", 240, "0:Rw 31:C 91:G 100:Rw~ 161:C~ 221:G"),
        ("0 w, 1..39 k, 40 w, 41..109 k, 110 w, 111..235 k", 235, "0:Rw 31:C 40:Rw~ 101:C~ 110:Rw~ 231:C~"),
        ("0 w, 1..691 k, 692 w, 693..730 k", 730, "0:Rw 31:C 91:G 692:Rw 723:C"),
        ("0 w, 1..689 k, 690 w, 691..760 k", 760, "0:Rw 31:C 91:G 690:Rw~ 751:C~"),
        ("0..600/6 w", 620, "0:Rw 6:Uw 12:Uw 18:Uw 24:Uw 30:Uw 36:Uw 42:Uw 48:Uw 54:Uw 60:Uw"),
        // In company; but how grave a limit is has been said.
        ("0 o", 20, "0:Rw"),
        ("0 o, 5 m", 20, "0:Rw 5:RM"),
        ("0 o, 5 L", 20, "0:Rw 5:Rm"),
        ("0 o, 11 m", 20, "0:Rw 11:Rm"),
        ("0 m, 5 o", 20, "0:Rm 5:Rw"),
        ("0 m, 5 o, 6 m", 20, "0:Rm 5:Rw 6:UM"),
        ("0 o, 1 c", 20, "0:Rw 1:Rc"),
        // Silence stays until something is heard for a while, or nobody waits any more.
        ("0 g", 3_600, "0:Rm"),
        ("0 g, 100..200 k", 200, "0:Rm 130:C 190:G"),
        ("0 g, 100 k, 110 g", 3_600, "0:Rm 110:Um"),
        ("0 g, 100 k", 3_600, "0:Rm"),
        ("0 g, 100..200 l", 140, "0:Rm 130:C"),
        ("0 g, 100..200 n", 140, "0:Rm 130:C"),
        ("0 g", week + 60, &forgotten),
        ("0 g, 100..130 k, 135 g, 140..205 k", 205, "0:Rm 130:C 135:Rm~ 200:C~"),
        ("5 k", 60, ""),
        // We did not listen: that is neither good time nor silence.
        ("0 w, 1..20 k, 45 -, 46..80 k", 80, "0:Rw 56:C"),
        ("0 w, 25 -", 60, "0:Rw 55:Sw"),
        // Killed and started again.
        ("0 w, 20 x", 60, "0:Rw 50:Sw"),
        ("0 w, 20 x, 21..115 k", 115, "0:Rw 51:C 111:G"),
        ("0 w, 20 x, 25 w, 26..60 k", 60, "0:Rw 25:Uw 56:C"),
        ("0 w, 1..34 k, 35 x, 36..49 k, 50 w, 51..111 k", 115, "0:Rw 31:C 50:Rw~ 111:C~"),
        ("0 w, 1..35 k, 35 x", 100, "0:Rw 31:C 95:G"),
        ("0 w, 3 a, 20 x, 22 a, 23..60 k", 60, "0:Rw 3:Aw 53:C"),
        ("0 g, 50 x", 3_600, "0:Rm"),
        ("0 g, 50 x, 60..100 k", 100, "0:Rm 90:C"),
        ("0 g, 40000 x, 80000 x", week + 60, &forgotten),
        // What was heard before the end counts, if it was written down.
        ("0 w, 1..20 k, 20 X, 21..40 k", 40, "0:Rw 31:C"),
        ("0 w, 1..20 k, 20 x, 21..60 k", 60, "0:Rw 51:C"),
        ("0..1200/600 L, 1800 k, 1900 X, 2400 k", 2_500, "0:Rm 30:Sm 600:Um 1200:Um 2400:C 2460:G"),
        ("0 w, 1..20 k, 20 X, 26 w, 27 x, 28..60 k", 60, "0:Rw 26:Uw 58:C"),
    ];
    for (script, until, expected) in table {
        let told = live(script, *until);
        // Of a long row, its beginning.
        assert!(
            told.starts_with(expected) && (told == *expected || expected.len() > 60),
            "{script}\n{told}\n{expected}"
        );
    }
    assert!(table.len() >= 30);
}

#[test]
fn a_value_that_crosses_its_line_a_hundred_times_in_ten_minutes_raises_at_most_three_alerts() {
    // At every rhythm, also the slower ones that let an alert clear.
    for period in 6..=110 {
        // Between them it is well.
        let script = format!("0..600/{period} w, 1..620 k");
        let raised = live(&script, 620).matches(":Rw").count();
        assert!(raised <= 3, "every {period} s: {raised}");
    }
    let flags: Vec<String> = (0..100u64).map(|n| format!("{} w, {} k", n * 6 + n % 5, n * 6 + 5)).collect();
    assert!(live(&flags.join(", "), 620).matches(":Rw").count() <= 3);
}

#[test]
fn there_are_only_so_many_alerts_and_the_rest_is_counted() {
    let mut book = AlertBook::new("g", AlertTimes::default());
    let mut changes = Vec::new();
    let holder = Holder { is_limit_set: true, ..Holder::default() };
    for number in 0..ALERTS_MAX + 5 {
        let device = format!("d{number}");
        book.flag(
            at(0),
            &Flag { device: &device, holder, ..flag("temp", 1, Severity::Major, &["limit"]) },
            &mut changes,
        );
    }
    assert_eq!((changes.len(), book.raised(), book.unraised()), (ALERTS_MAX, ALERTS_MAX, 5));
    book.flag(at(9), &Flag { device: "d0", holder, ..flag("temp", 2, Severity::Major, &["limit"]) }, &mut changes);
    assert_eq!(changes.len(), ALERTS_MAX + 1, "one that is there goes on");
    for second in [10, 41] {
        for number in 0..ALERTS_MAX {
            book.hear(at(second), &Heard { device: &format!("d{number}"), ..good() }, &mut changes);
        }
    }
    for second in [200, 300, 301] {
        book.tick(at(second), &mut changes);
    }
    book.flag(at(301), &Flag { device: "new", holder, ..flag("temp", 3, Severity::Major, &["limit"]) }, &mut changes);
    assert_eq!((book.raised(), book.unraised()), (1, 5), "there is room again");
}

#[test]
fn an_alert_tells_of_the_gravest_reading_and_of_what_was_normal_before() {
    let mut book = AlertBook::new("g", AlertTimes::default());
    let mut changes = Vec::new();
    let up = flag("temp", 1, Severity::Minor, &["spike"]);
    book.flag(at(0), &Flag { expected: None, score: 1.1, ..up }, &mut changes);
    book.flag(at(6), &Flag { value: 28.0, expected: Some(22.0), score: 3.0, ..up }, &mut changes);
    book.flag(at(12), &Flag { value: 22.5, expected: Some(28.0), score: 2.0, ..up }, &mut changes);
    let alert = changes.pop().and_then(|change| change.alert).expect("updated");
    assert_eq!((alert.value, alert.expected, alert.score, alert.revision), (28.0, Some(22.0), 3.0, 3));

    let high = Flag {
        kind: "limit",
        value: 7.0,
        expected: Some(6.0),
        score: 1.2,
        ..flag("oil", 1, Severity::Minor, &["limit"])
    };
    book.flag(at(20), &high, &mut changes);
    book.flag(at(26), &Flag { value: -1.0, expected: Some(1.5), score: 2.7, ..high }, &mut changes);
    let AlertChange { key, alert, .. } = changes.pop().expect("updated");
    let text = crate::detection::alert::message(&key, &alert.expect("raised"));
    assert_eq!(text, "oil of tank is -1; the limit is 1.5");
}

#[test]
fn a_level_that_has_become_normal_is_not_said_to_be_back() {
    let cleared_at = |value: f64, expected: Option<f64>| {
        let (mut book, mut changes) = (AlertBook::new("g", AlertTimes::default()), Vec::new());
        let up = Flag { value: 120.0, expected, ..flag("temp", 1, Severity::Major, &["shift"]) };
        book.flag(at(0), &up, &mut changes);
        (1..40).for_each(|second| _ = book.hear(at(second), &Heard { value, ..good() }, &mut changes));
        let AlertChange { key, what, alert } = changes.pop().expect("cleared");
        let alert = alert.filter(|_| what == What::Cleared).expect("cleared");
        let mut line = Vec::new();
        write_alert(&mut line, "g", RUN, 1, &key, &alert);
        assert_eq!(read_alert(&line), Some((key.clone(), alert.clone())), "what is written is read back");
        crate::detection::alert::message(&key, &alert)
    };
    assert_eq!(cleared_at(119.5, Some(90.0)), "temp of tank stays at 119.5; 90 was normal before");
    assert_eq!(cleared_at(91.0, Some(90.0)), "temp of tank is back to normal");
    assert_eq!(cleared_at(119.5, None), "temp of tank is back to normal");
}

#[test]
fn the_id_is_that_of_the_reading_that_raised_it() {
    let raise = |position| {
        let mut changes = Vec::new();
        let mut book = AlertBook::new("g", AlertTimes::default());
        book.flag(at(0), &flag("temp", position, Severity::Minor, &["spike"]), &mut changes);
        changes.remove(0).alert.expect("raised").id
    };
    assert_eq!(raise(1), raise(1));
    assert_ne!(raise(1), raise(2));
}

#[test]
fn an_alert_is_read_back_and_goes_on_where_it_was() {
    let mut book = AlertBook::new("g", AlertTimes::default());
    let mut changes = Vec::new();
    book.flag(at(0), &flag("temp", 1, Severity::Major, &["shift"]), &mut changes);
    let change = changes.remove(0);
    let seen = Acknowledgement { by: "anna".to_owned(), normal: None };
    book.acknowledge(at(1), &change.key, &seen, &mut changes);
    let change = changes.remove(0);
    let (key, alert) = (change.key, change.alert.expect("acknowledged"));
    let mut line = Vec::new();
    write_alert(&mut line, "g", RUN, 9, &key, &alert);
    assert_eq!(read_alert(&line), Some((key.clone(), alert.clone())));
    let text = String::from_utf8(line).expect("text");
    assert!(text.contains("\"message\":\"temp of tank is 25.8; 22.1 was normal\",\"stored\":true}\n"), "{text}");

    let mut restored = AlertBook::new("g", AlertTimes::default());
    restored.listen_from(at(1000));
    restored.restore(key, alert.clone(), None, at(1000));
    restored.tick(at(1029), &mut changes);
    assert!(changes.is_empty(), "the gateway's own absence clears nothing");
    restored.flag(at(1029), &flag("temp", 7, Severity::Major, &["shift"]), &mut changes);
    let again = changes.remove(0).alert.expect("updated");
    assert_eq!((again.id, again.revision, again.raised_at_ms), (alert.id, 3, alert.raised_at_ms));
}

#[test]
fn what_a_person_says_of_an_alert_stays_until_somebody_says_otherwise() {
    let mut book = AlertBook::new("g", AlertTimes::default());
    let mut changes = Vec::new();
    book.flag(at(0), &flag("temp", 1, Severity::Minor, &["shift"]), &mut changes);
    let key = changes[0].key.clone();
    let mut acknowledge = |by: &str, normal| {
        let mut changes = Vec::new();
        assert!(book.acknowledge(at(1), &key, &Acknowledgement { by: by.to_owned(), normal }, &mut changes));
        changes.pop().map(|change| {
            let alert = change.alert.expect("it is there");
            let mut line = Vec::new();
            write_alert(&mut line, "g", RUN, 1, &key, &alert);
            assert_eq!(read_alert(&line), Some((key.clone(), alert.clone())));
            let says = |text: &str| String::from_utf8_lossy(&line).contains(text);
            assert_eq!(says("\"normal\":"), alert.normal.is_some());
            (alert.acknowledged_by.expect("a name"), alert.normal)
        })
    };
    let told = |by: &str, normal| Some((by.to_owned(), normal));
    assert_eq!(acknowledge("anna", None), told("anna", None));
    assert_eq!(acknowledge("anna", Some(true)), told("anna", Some(true)));
    assert_eq!(acknowledge("anna", Some(true)), None);
    assert_eq!(acknowledge("anna", None), None);
    assert_eq!(acknowledge("bea", None), told("bea", Some(true)));
    assert_eq!(acknowledge("bea", Some(false)), told("bea", Some(false)));
    // Another time it is another trouble.
    book.clear(at(2), &key, ClearedReason::Operator, &mut changes);
    changes.clear();
    book.flag(at(3), &flag("temp", 2, Severity::Minor, &["shift"]), &mut changes);
    assert_eq!(changes[0].alert.as_ref().expect("raised").normal, None);
}
