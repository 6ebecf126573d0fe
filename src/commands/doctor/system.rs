//! The machine: its clock, its limits, and what runs the gateway.

use std::time::{Duration, UNIX_EPOCH};

use super::Case;
use crate::clock::{self, rfc3339};
use crate::core::identity::Stream;
use crate::descriptors::Room;
use crate::finding::Finding;
use crate::keys::units::approximate_duration;
use crate::store::held;
use crate::store::reader::Reader;
use crate::store::schema::store_path;

/// 2015: a device's clock before it is taken for one that is not set, too.
const EARLIEST_MS: i64 = 1_420_070_400_000;

/// What the clock is held against.
struct Times {
    now_ms: i64,
    is_synchronised: bool,
    /// When the program's file was made.
    built_ms: Option<i64>,
    /// When the newest record in the store came.
    newest_ms: Option<i64>,
}

pub fn clock(case: &Case) -> Vec<Finding> {
    let program = std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified());
    let built_ms = program.ok().filter(|time| *time > UNIX_EPOCH).map(clock::ms);
    let store = store_path(&case.configuration.store.folder);
    let newest_ms = store.exists().then(|| newest_ms(&store)).flatten();
    let times = Times { now_ms: clock::now_ms(), is_synchronised: clock::is_synchronised(), built_ms, newest_ms };
    vec![of_times(&times)]
}

fn newest_ms(store: &std::path::Path) -> Option<i64> {
    let mut reader = Reader::open(store, None).ok()?;
    let db = reader.connection();
    let newest = Stream::BUILT_IN.iter().filter_map(|(stream, _)| held::newest(db, *stream).ok().flatten());
    newest.map(|newest| newest.last_ms).max()
}

fn of_times(times: &Times) -> Finding {
    let Times { now_ms, is_synchronised, built_ms, newest_ms } = *times;
    let now = rfc3339(now_ms);
    let set =
        "set the clock, or let chrony or systemd-timesyncd do it; a battery-backed clock keeps it over a power cut";
    if now_ms < EARLIEST_MS {
        return Finding::bad(format!("{now}: it is not set"), set);
    }
    // Files are copied and clocks differ a little: a minute is no sign.
    let is_before = |ms: Option<i64>| ms.filter(|ms| now_ms < ms - 60_000);
    if let Some(newest_ms) = is_before(newest_ms) {
        return Finding::bad(
            format!("{now}: it is behind the newest record in the store, of {}", rfc3339(newest_ms)),
            set,
        );
    }
    if let Some(built_ms) = is_before(built_ms) {
        return Finding::bad(format!("{now}: it is before this program was made, on {}", rfc3339(built_ms)), set);
    }
    match is_synchronised {
        true => Finding::well(format!("{now}, synchronised")),
        false => Finding::warning(
            format!("{now}, not synchronised: readings are stored with time_quality unsynced"),
            "let chrony, systemd-timesyncd or ntpd run, and look whether it reaches a server (chronyc tracking, timedatectl)",
        ),
    }
}

pub fn open_files(case: &Case) -> Vec<Finding> {
    let configuration = &case.configuration;
    let (sinks, streams) = (configuration.sinks.len(), configuration.streams.len());
    let wanted = configuration.edge.connections_max;
    // The running gateway has a limit of its own.
    let running = case.running.answers().and_then(|answers| answers.pid);
    let of_process = running.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    let room = match of_process.as_deref().and_then(open_files_of) {
        Some(limit) => Ok(Room::with_limit(limit, sinks, streams)),
        None => Room::look(sinks, streams),
    };
    vec![match room {
        Ok(room) => match room.shortage(wanted) {
            Some(shortage) => {
                let (found, remedy) = shortage.split_once("; ").unwrap_or((&shortage, "raise the limit"));
                Finding::warning(found, remedy)
            }
            None => Finding::well(format!("{wanted} connections fit into the limit of {} open files", room.limit)),
        },
        Err(error) => Finding::skipped(format!("the limit is not known: {error}")),
    }]
}

/// The hard limit, to which the gateway raises its own.
fn open_files_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Whether something starts the gateway again when it ends.
pub fn service(case: &Case) -> Vec<Finding> {
    let Some(pid) = case.running.answers().and_then(|answers| answers.pid) else {
        return vec![Finding::skipped("the gateway does not answer")];
    };
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else {
        return vec![Finding::skipped("what started the gateway is not known: it is another user's")];
    };
    vec![of_environment(&environment)]
}

fn of_environment(environment: &[u8]) -> Finding {
    let value = |name: &str| {
        environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let watchdog = value("WATCHDOG_USEC").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    match (value("INVOCATION_ID"), value("NOTIFY_SOCKET"), watchdog) {
        (Some(_), Some(_), Some(us)) => {
            let within = approximate_duration(Duration::from_micros(us));
            Finding::well(format!("systemd runs the gateway, and restarts it if it shows no life for {within}"))
        }
        (Some(_), ..) => Finding::well("systemd runs the gateway; no watchdog of systemd looks after it"),
        (None, ..) => {
            Finding::skipped("systemd does not run the gateway; whether anything starts it again is not known")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    const NOW_MS: i64 = 1_795_465_865_120;
    const DAY_MS: i64 = 86_400_000;

    fn times() -> Times {
        Times { now_ms: NOW_MS, is_synchronised: true, built_ms: Some(NOW_MS - DAY_MS), newest_ms: Some(NOW_MS) }
    }

    #[test]
    fn a_clock_is_held_against_the_store_and_the_program() {
        let of = |times: Times| {
            let Finding { verdict, found, .. } = of_times(&times);
            (verdict, found)
        };
        assert_eq!(of(times()).0, Verdict::Well);
        for (times, words) in [
            (Times { now_ms: 86_400_000, ..times() }, "it is not set"),
            (Times { newest_ms: Some(NOW_MS + DAY_MS), ..times() }, "behind the newest record"),
            (Times { built_ms: Some(NOW_MS + DAY_MS), newest_ms: None, ..times() }, "before this program was made"),
        ] {
            let (verdict, found) = of(times);
            assert!(verdict == Verdict::Bad && found.contains(words), "{found}");
        }
        let (verdict, found) = of(Times { is_synchronised: false, ..times() });
        assert!(verdict == Verdict::Warning && found.contains("time_quality unsynced"), "{found}");
        assert_eq!(of(Times { newest_ms: Some(NOW_MS + 5_000), ..times() }).0, Verdict::Well, "what is just coming");
    }

    #[test]
    fn the_limit_of_another_process_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(open_files_of(limits), Some(524_288));
        assert_eq!(open_files_of("nonsense"), None);
    }

    #[test]
    fn what_runs_the_gateway_is_told_by_its_environment() {
        let of = |text: &str| of_environment(text.replace(' ', "\0").as_bytes()).found;
        assert!(
            of("PATH=/bin INVOCATION_ID=1 NOTIFY_SOCKET=/run/n WATCHDOG_USEC=30000000").contains("no life for 30 s")
        );
        assert!(of("INVOCATION_ID=1").contains("no watchdog"));
        assert!(of("PATH=/bin").contains("systemd does not run"));
    }
}
