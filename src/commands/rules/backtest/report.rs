//! What a backtest has found, for people.
//!
//! A figure per day is the number of alerts divided by the time that the readings cover. From less than an hour none is calculated, because it
//! would say little about a day.

use std::fmt::Write;
use std::time::Duration;

use super::{Found, Moment, RuleFound};
use crate::clock::rfc3339;
use crate::counter::many;
use crate::keys::units::approximate_duration;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

pub fn text(found: &Found) -> String {
    let mut text = String::new();
    write_text(&mut text, found).expect("a text takes everything");
    text
}

fn write_text(text: &mut String, found: &Found) -> std::fmt::Result {
    let (readings, devices) = (many(found.readings, "reading"), many(found.devices as u64, "device"));
    write!(text, "{readings} of {devices}")?;
    if let Some((first_ms, last_ms)) = found.recorded.within_ms {
        write!(text, ", {} to {}", rfc3339(first_ms), rfc3339(last_ms))?;
    }
    let covered = approximate_duration(Duration::from_millis(found.covered_ms));
    writeln!(text, "; they cover {covered} of the devices' time\n")?;
    let width = found.rules.iter().map(|rule| rule.name.len()).max().unwrap_or(0).max(4);
    if found.rules.is_empty() {
        writeln!(text, "no rule has `when`")?;
    } else {
        writeln!(
            text,
            "{:width$}  {:>11}  {:>7}  {:>7}  {:>7}  {:>6}  {:>7}",
            "rule", "looked at", "begins", "alerts", "cleared", "a day", "ns each"
        )?;
    }
    for rule in &found.rules {
        write_rule(text, rule, width, found.covered_ms)?;
    }
    let notes = notes(found);
    if !notes.is_empty() {
        writeln!(text)?;
    }
    notes.iter().try_for_each(|note| writeln!(text, "Note: {note}"))
}

fn write_rule(text: &mut String, rule: &RuleFound, width: usize, covered_ms: u64) -> std::fmt::Result {
    let RuleFound { name, looked_at, begins, raised, cleared, moments, .. } = rule;
    let a_day = (covered_ms >= HOUR_MS).then(|| *raised as f64 * DAY_MS as f64 / covered_ms as f64);
    let a_day = a_day.map_or("-".to_owned(), |alerts| format!("{alerts:.1}"));
    let each = rule.nanoseconds.checked_div(*looked_at).map_or("-".to_owned(), |nanoseconds| nanoseconds.to_string());
    writeln!(text, "{name:width$}  {looked_at:>11}  {begins:>7}  {raised:>7}  {cleared:>7}  {a_day:>6}  {each:>7}")?;
    for Moment { at_ms, device, reading } in moments {
        let what = match reading {
            Some((metric, value)) => format!("{metric} {value}"),
            None => "by time alone".to_owned(),
        };
        writeln!(text, "  {}  {device}  {what}", rfc3339(*at_ms))?;
    }
    let further = begins.saturating_sub(moments.len() as u64);
    if further > 0 {
        writeln!(text, "  and {further} more")?;
    }
    Ok(())
}

fn notes(found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    if !found.left_out.is_empty() {
        notes.push(format!("messages are not recorded, so these rules are left out: {}", found.left_out.join(", ")));
    }
    for rule in found.rules.iter().filter(|rule| rule.errors > 0) {
        let first = rule.error.as_deref().unwrap_or("not told");
        notes.push(format!("{} failed {} times; the first error: {first}", rule.name, rule.errors));
    }
    let recorded = &found.recorded;
    let counts = [
        (recorded.malformed_lines, "malformed lines were skipped"),
        (recorded.damaged_batches, "batches of the store are damaged, and were skipped"),
        (
            recorded.salvaged_readings,
            "readings were salvaged from a damaged store without their order, and were skipped",
        ),
        (
            found.disordered,
            "readings were older than one before of their device; files should be in the order of the times",
        ),
        (found.late, "of them were so late that no rule looks at them"),
        (found.readings_left_out, "readings were left out, because there are too many devices"),
    ];
    notes.extend(counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}")));
    notes
}

#[cfg(test)]
mod tests {
    use super::super::Recorded;
    use super::*;

    #[test]
    fn all_that_was_found_is_told() {
        let moment = |at_ms, reading| Moment { at_ms, device: "truck".to_owned(), reading };
        let rule = RuleFound {
            name: "hot".to_owned(),
            looked_at: 1_000,
            begins: 3,
            raised: 2,
            cleared: 1,
            errors: 4,
            error: Some("alert: bad".to_owned()),
            nanoseconds: 250_000,
            moments: vec![moment(0, Some(("t".to_owned(), 120.5))), moment(60_000, None)],
        };
        let mut found = Found {
            rules: vec![rule],
            left_out: vec!["offer".to_owned()],
            recorded: Recorded { within_ms: Some((0, 60_000)), malformed_lines: 7, ..Recorded::default() },
            readings: 1_000,
            devices: 1,
            covered_ms: 12 * HOUR_MS,
            late: 0,
            disordered: 0,
            readings_left_out: 0,
        };
        let told = text(&found);
        let lines: Vec<&str> = told.lines().collect();
        assert!(
            lines[0].starts_with(
                "1000 readings of 1 device, 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z; they cover 12 h"
            )
        );
        let cells: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(cells, ["hot", "1000", "3", "2", "1", "4.0", "250"]);
        assert_eq!(
            lines[4..7],
            ["  1970-01-01T00:00:00Z  truck  t 120.5", "  1970-01-01T00:01:00Z  truck  by time alone", "  and 1 more"]
        );
        assert!(told.contains("left out: offer") && told.contains("hot failed 4 times; the first error: alert: bad"));
        assert!(told.contains("7 malformed lines") && !told.contains("damaged"));
        found.covered_ms = HOUR_MS / 2;
        assert!(text(&found).lines().nth(3).is_some_and(|line| line.contains("  -  ")), "too short for a figure");
    }
}
