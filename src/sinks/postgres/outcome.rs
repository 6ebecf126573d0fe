//! What the errors of a server mean: see PostgreSQL's table of error codes (SQLSTATE).

use super::message::ServerError;
use crate::core::delivery::{Outcome, RetryReason};

/// What became of rows that were inserted by one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each of them is in the table, by this statement or by an earlier one.
    Stored,
    /// None is, and it may be for what is in one or some of them. If it is so for all of them, [`Outcome::Halt`] is of the table.
    Row(Outcome),
    /// None is, as far as is known, for what is around them.
    Whole(Outcome),
}

/// At most this much of a server's message is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Of a statement, or of a login. `what` says what was tried, for people.
pub fn of(error: &ServerError, what: &str) -> Verdict {
    let text = || format!("{what}: {}", words(error));
    let later = || Outcome::Later { reason: text(), after_us: None };
    let class = error.code.get(..2).unwrap_or_default();
    match &*error.code {
        // The table is divided, and no part of it takes the row. A constraint would have a name.
        "23514" if error.constraint.is_none() => Verdict::Row(Outcome::Later {
            reason: format!("{}; make the partition, or a default one", text()),
            after_us: None,
        }),
        // A limit of the program that a row exceeds, such as the size of what an index holds, or how deep a document nests.
        "54000" | "54001" => Verdict::Row(Outcome::Reject(text())),
        "57014" => Verdict::Whole(Outcome::Retry(RetryReason::TimedOut)),
        // A server that is stopping, has crashed, or is starting.
        "57P01" | "57P02" | "57P03" => Verdict::Whole(Outcome::Unreachable(text())),
        // Locked by somebody.
        "55P03" | "55006" => Verdict::Whole(later()),
        // A limit that fewer rows may keep, such as how much of a compressed chunk a statement opens.
        "53400" => Verdict::Row(later()),
        _ => match class {
            // The data; a constraint; a view's condition; a function of a trigger that fails or refuses.
            "22" | "23" | "38" | "39" | "44" | "P0" => Verdict::Row(Outcome::Reject(text())),
            "08" => Verdict::Whole(Outcome::Unreachable(text())),
            "28" => Verdict::Whole(Outcome::Halt(format!("{}; look at url and password of the [[sink]]", text()))),
            "3D" => Verdict::Whole(Outcome::Halt(text())),
            // What is there, or may be used, is not what is needed: for every row, or for one, by a policy or a trigger.
            "0A" | "0L" | "0P" | "3F" | "42" | "55" => Verdict::Row(Outcome::Halt(text())),
            // Conflicts, resources, a database that can only be read, the system.
            "" | "25" | "26" | "40" | "53" | "57" | "58" | "72" | "F0" => Verdict::Whole(later()),
            _ if is_of_users(class) => Verdict::Row(Outcome::Reject(text())),
            // Whatever else: if it is for a row, that one waits alone.
            _ => Verdict::Row(later()),
        },
    }
}

/// A class that the standard leaves to others, and that PostgreSQL does not use: a trigger has chosen it. So it has 45, "unhandled user-defined
/// exception".
fn is_of_users(class: &str) -> bool {
    let is_left = class.starts_with(|first: char| matches!(first, '5'..='9' | 'I'..='Z'));
    class == "45" || is_left && !matches!(class, "54" | "XX")
}

/// Of what has no rows.
pub fn of_whole(error: &ServerError, what: &str) -> Outcome {
    match of(error, what) {
        Verdict::Whole(outcome) | Verdict::Row(outcome @ (Outcome::Later { .. } | Outcome::Halt(_))) => outcome,
        Verdict::Row(_) | Verdict::Stored => Outcome::Halt(format!("{what}: {}", words(error))),
    }
}

/// The server's message in one line, and its code.
pub fn words(error: &ServerError) -> String {
    let shown: String = error.message.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
    let code: String = error.code.chars().filter(char::is_ascii_alphanumeric).take(5).collect();
    format!("{shown} (SQLSTATE {code})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> ServerError {
        ServerError { code: code.to_owned(), message: "words".to_owned(), constraint: None }
    }

    #[test]
    fn every_code_has_the_verdict_that_its_cause_asks_for() {
        let of = |code| of(&error(code), "the table t");
        for code in [
            "22P02", "22P05", "22021", "22003", "22008", "22001", "23502", "23503", "23505", "54000", "54001", "P0001",
            // A trigger that raises what it likes, or is written in another language.
            "45000", "38000", "39004", "99001", "7X000", "U0001", "ZZ999",
        ] {
            assert!(matches!(of(code), Verdict::Row(Outcome::Reject(_))), "{code}");
        }
        for code in ["08006", "08P01", "57P01", "57P02", "57P03"] {
            assert!(matches!(of(code), Verdict::Whole(Outcome::Unreachable(_))), "{code}");
        }
        for code in
            ["25006", "40001", "40P01", "53100", "53300", "55P03", "55006", "57P05", "58030", "26000", "72000", "", "?"]
        {
            assert!(matches!(of(code), Verdict::Whole(Outcome::Later { .. })), "{code}");
        }
        // Too many rows of compressed chunks; an extension that trips over a row; what nobody knows.
        for code in ["53400", "XX000", "54023", "21000", "20000", "??", "H1000"] {
            assert!(matches!(of(code), Verdict::Row(Outcome::Later { .. })), "{code}");
        }
        for code in ["28P01", "28000", "3D000"] {
            assert!(matches!(of(code), Verdict::Whole(Outcome::Halt(_))), "{code}");
        }
        // A policy that refuses a row is 42501, a trigger that finds no table for one 42P01, a tiered range 0A000.
        for code in ["3F000", "42P01", "42703", "42501", "42P10", "0A000", "55000"] {
            assert!(matches!(of(code), Verdict::Row(Outcome::Halt(_))), "{code}");
        }
        assert_eq!(of("57014"), Verdict::Whole(Outcome::Retry(RetryReason::TimedOut)));
    }

    #[test]
    fn a_row_without_a_partition_waits_and_one_that_a_check_refuses_does_not() {
        assert!(matches!(of(&error("23514"), "t"), Verdict::Row(Outcome::Later { .. })));
        let of_a_check = ServerError { constraint: Some("t_value_check".to_owned()), ..error("23514") };
        assert!(matches!(of(&of_a_check, "t"), Verdict::Row(Outcome::Reject(_))));
    }

    #[test]
    fn what_has_no_rows_is_never_refused_for_them() {
        assert!(matches!(of_whole(&error("22023"), "t"), Outcome::Halt(_)));
        assert!(matches!(of_whole(&error("57P03"), "t"), Outcome::Unreachable(_)));
        assert!(matches!(of_whole(&error("42501"), "t"), Outcome::Halt(_)));
        assert!(matches!(of_whole(&error("53400"), "t"), Outcome::Later { .. }));
    }

    #[test]
    fn a_server_is_quoted_within_limits() {
        let long = ServerError { message: "no\u{7}\n".repeat(1_000), ..error("42501") };
        let text = words(&long);
        assert!(text.starts_with("nono") && text.ends_with("(SQLSTATE 42501)") && text.len() < 300, "{text}");
    }
}
