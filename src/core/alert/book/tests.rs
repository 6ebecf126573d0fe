use super::*;
use crate::core::alert::{read_alert, write_alert};
use crate::core::identity::RunId;

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
        severity,
        severity_max: Severity::Critical,
        value: 25.8,
        expected: Some(22.1),
        score: 1.8,
        run: RUN,
        position,
        is_held: false,
    }
}

fn key(metric: &str, kind: &str) -> AlertKey {
    AlertKey { device: "tank".to_owned(), metric: metric.to_owned(), kind: kind.to_owned() }
}

/// What became of the alerts, as `second:what`: R raised, U updated, A acknowledged, C cleared, E expired, G gone; `~` where it comes and goes,
/// a letter of the severity behind R and U (w, m, M, c).
struct Life {
    book: AlertBook,
    /// What the store holds.
    rows: HashMap<AlertKey, Vec<u8>>,
    told: Vec<String>,
}

impl Life {
    fn note(&mut self, second: u64, changes: &mut Vec<AlertChange>) {
        for AlertChange { key, alert } in changes.drain(..) {
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
                (State::Cleared, Some(reason)) => reason.name().to_uppercase()[..1].to_owned(),
                (State::Raised, _) if alert.revision == 1 => format!("R{severity}"),
                (State::Raised, _) if alert.acknowledged_by.is_some() => format!("A{severity}"),
                (State::Raised, _) => format!("U{severity}"),
            };
            let mut line = Vec::new();
            write_alert(&mut line, "g", RUN, 1, &key, &alert);
            let flapping = String::from_utf8_lossy(&line).contains("it comes and goes");
            self.told.push(format!("{second}:{what}{}", if flapping { "~" } else { "" }));
            self.rows.insert(key, line);
        }
    }

    /// The process is killed and started again: what the store holds is all that is left.
    fn restart(&mut self, second: u64) {
        self.book = AlertBook::new("g", AlertTimes::default());
        for line in self.rows.values() {
            let (key, alert) = read_alert(line).expect("what was written");
            // Raised for so long, all of which it was silent.
            let held_ms = (at(second).wall_ms - alert.raised_at_ms) as u64;
            let held_ms = (key.kind == "gap" && alert.state == State::Raised).then_some(held_ms);
            self.book.restore(key, alert, held_ms, at(second));
        }
    }
}

/// `script`: `second event` separated by commas, or `first..last/step event`. Events: w, m, M, c a spike of that severity; s a shift;
/// o a spike of another series of the device, capped at warning; g a silence, h its end; a, b acknowledged by Anna, Bea; x a restart.
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
    let mut life = Life { book: AlertBook::new("g", AlertTimes::default()), rows: HashMap::new(), told: Vec::new() };
    let mut changes = Vec::new();
    for second in 0..=until {
        life.book.tick(at(second), &mut changes);
        life.note(second, &mut changes);
        for (_, event) in events.iter().filter(|(when, _)| *when == second) {
            let spike = |severity| flag("temp", second, severity, &["spike"]);
            match *event {
                "w" => life.book.flag(at(second), &spike(Severity::Warning), &mut changes),
                "m" => life.book.flag(at(second), &spike(Severity::Minor), &mut changes),
                "M" => life.book.flag(at(second), &spike(Severity::Major), &mut changes),
                "c" => life.book.flag(at(second), &spike(Severity::Critical), &mut changes),
                "s" => life.book.flag(at(second), &flag("temp", second, Severity::Minor, &["shift"]), &mut changes),
                "o" => {
                    let severity_max = Severity::Warning;
                    let other = Flag { severity_max, ..flag("hum", second, Severity::Critical, &["spike"]) };
                    life.book.flag(at(second), &other, &mut changes);
                }
                "g" => {
                    let gap = flag("temp", second, Severity::Minor, &["gap"]);
                    life.book.flag(at(second), &Flag { kind: "gap", is_held: true, ..gap }, &mut changes);
                }
                "h" => life.book.release(at(second), &key("temp", "gap")),
                "a" | "b" => {
                    let by = if *event == "a" { "anna" } else { "bea" };
                    life.book.acknowledge(at(second), &key("temp", "anomaly"), by, &mut changes);
                }
                "x" => life.restart(second),
                other => panic!("no event {other}"),
            }
            life.note(second, &mut changes);
        }
    }
    life.told.join(" ")
}

#[test]
fn lives_of_alerts() {
    let day = 86_400;
    let table: &[(&str, u64, &str)] = &[
        // Raised, cleared, gone.
        ("", 200, ""),
        ("0 w", 200, "0:Rw 30:C 90:G"),
        ("0 m", 29, "0:Rm"),
        ("0 M", 89, "0:RM 30:C"),
        ("10 c", 100, "10:Rc 40:C 100:G"),
        ("0 w, 29 w", 150, "0:Rw 29:Uw 59:C 119:G"),
        ("0 w, 15 w, 31 w, 60 w", 95, "0:Rw 15:Uw 31:Uw 60:Uw 90:C"),
        // Updates: what is new at once, the rest every five seconds.
        ("0..4 w", 20, "0:Rw"),
        ("0..12 w", 20, "0:Rw 5:Uw 10:Uw"),
        ("0 m, 1 s", 20, "0:Rm 1:Um"),
        ("0 s, 1 s", 20, "0:Rm"),
        ("0 w, 1 m, 2 M, 3 c", 20, "0:Rw 1:Um 2:UM 3:Uc"),
        ("0 c, 6 w", 20, "0:Rc 6:Uc"),
        ("0 M, 2 w, 4 s", 20, "0:RM 4:UM"),
        // Acknowledged.
        ("0 w, 3 a", 95, "0:Rw 3:Aw 30:C 90:G"),
        ("0 w, 3 a, 4 a", 20, "0:Rw 3:Aw"),
        ("0 w, 3 a, 4 b", 20, "0:Rw 3:Aw 4:Aw"),
        ("3 a", 20, ""),
        ("0 w, 95 a", 100, "0:Rw 30:C 90:G"),
        ("0 w, 2 a, 3 c", 20, "0:Rw 2:Aw 3:Ac"),
        ("0 w, 2 a, 40 w", 45, "0:Rw 2:Aw 30:C 40:Rw~"),
        // Back again: quiet for twice as long each time, and it says so.
        ("0 w, 40 w", 170, "0:Rw 30:C 40:Rw~ 100:C~ 160:G"),
        ("0 w, 100 w", 240, "0:Rw 30:C 90:G 100:Rw~ 160:C~ 220:G"),
        ("0 w, 40 w, 110 w", 235, "0:Rw 30:C 40:Rw~ 100:C~ 110:Rw~ 230:C~"),
        ("0 w, 40 w, 110 w, 240 w", 485, "0:Rw 30:C 40:Rw~ 100:C~ 110:Rw~ 230:C~ 240:Rw~ 480:C~"),
        ("0 w, 691 w", 730, "0:Rw 30:C 90:G 691:Rw 721:C"),
        ("0 w, 689 w", 760, "0:Rw 30:C 90:G 689:Rw~ 749:C~"),
        ("0..600/6 w", 620, "0:Rw 6:Uw 12:Uw 18:Uw 24:Uw 30:Uw 36:Uw 42:Uw 48:Uw 54:Uw 60:Uw"),
        // In company.
        ("0 o", 20, "0:Rw"),
        ("0 o, 5 m", 20, "0:Rw 5:RM"),
        ("0 o, 11 m", 20, "0:Rw 11:Rm"),
        ("0 m, 5 o", 20, "0:Rm 5:Rw"),
        ("0 m, 5 o, 6 m", 20, "0:Rm 5:Rw 6:UM"),
        ("0 o, 1 c", 20, "0:Rw 1:Rc"),
        // Silence stays until something is heard, or nobody waits any more.
        ("0 g", 3_600, "0:Rm"),
        ("0 g, 100 h", 200, "0:Rm 130:C 190:G"),
        ("0 g, 100 h, 110 g", 3_600, "0:Rm 110:Um"),
        ("0 g", day + 60, "0:Rm 86400:E 86460:G"),
        ("0 g, 100 h, 135 g, 140 h", 205, "0:Rm 130:C 135:Rm~ 200:C~"),
        ("5 h", 60, ""),
        // Killed and started again.
        ("0 w, 20 x", 115, "0:Rw 50:C 110:G"),
        ("0 w, 20 x, 25 w", 60, "0:Rw 25:Uw 55:C"),
        ("0 w, 35 x, 50 w", 115, "0:Rw 30:C 50:Rw~ 110:C~"),
        ("0 w, 35 x", 100, "0:Rw 30:C 95:G"),
        ("0 w, 3 a, 20 x, 22 a", 60, "0:Rw 3:Aw 50:C"),
        ("0 w, 40 w, 110 w, 120 x", 250, "0:Rw 30:C 40:Rw~ 100:C~ 110:Rw~ 240:C~"),
        ("0 g, 50 x", 3_600, "0:Rm"),
        ("0 g, 50 x, 60 h", 100, "0:Rm 90:C"),
        ("0 g, 40000 x, 80000 x", day + 60, "0:Rm 86400:E 86460:G"),
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
        let raised = live(&format!("0..600/{period} w"), 620).matches(":Rw").count();
        assert!(raised <= 3, "every {period} s: {raised}");
    }
    let flags: Vec<String> = (0..100u64).map(|n| format!("{} w", n * 6 + n % 5)).collect();
    assert!(live(&flags.join(", "), 620).matches(":Rw").count() <= 3);
}

#[test]
fn there_are_only_so_many_alerts_and_the_rest_is_counted() {
    let mut book = AlertBook::new("g", AlertTimes::default());
    let mut changes = Vec::new();
    for number in 0..ALERTS_MAX + 5 {
        let device = format!("d{number}");
        book.flag(at(0), &Flag { device: &device, ..flag("temp", 1, Severity::Major, &["limit"]) }, &mut changes);
    }
    assert_eq!((changes.len(), book.raised(), book.unraised()), (ALERTS_MAX, ALERTS_MAX, 5));
    book.flag(at(9), &Flag { device: "d0", ..flag("temp", 2, Severity::Major, &["limit"]) }, &mut changes);
    assert_eq!(changes.len(), ALERTS_MAX + 1, "one that is there goes on");
    for second in [200, 300, 301] {
        book.tick(at(second), &mut changes);
    }
    book.flag(at(301), &Flag { device: "new", ..flag("temp", 3, Severity::Major, &["limit"]) }, &mut changes);
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
    let AlertChange { key, alert } = changes.pop().expect("updated");
    let text = crate::core::alert::message(&key, &alert.expect("raised"));
    assert_eq!(text, "oil of tank is -1; the limit is 1.5");
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
    book.acknowledge(at(1), &change.key, "anna", &mut changes);
    let change = changes.remove(0);
    let (key, alert) = (change.key, change.alert.expect("acknowledged"));
    let mut line = Vec::new();
    write_alert(&mut line, "g", RUN, 9, &key, &alert);
    assert_eq!(read_alert(&line), Some((key.clone(), alert.clone())));
    let text = String::from_utf8(line).expect("text");
    assert!(text.contains("\"message\":\"temp of tank is 25.8; 22.1 was normal\",\"stored\":true}\n"), "{text}");

    let mut restored = AlertBook::new("g", AlertTimes::default());
    restored.restore(key, alert.clone(), None, at(1000));
    restored.tick(at(1029), &mut changes);
    assert!(changes.is_empty(), "the gateway's own absence clears nothing");
    restored.flag(at(1029), &flag("temp", 7, Severity::Major, &["shift"]), &mut changes);
    let again = changes.remove(0).alert.expect("updated");
    assert_eq!((again.id, again.revision, again.raised_at_ms), (alert.id, 3, alert.raised_at_ms));
}
