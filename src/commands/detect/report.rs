//! Prints the result of the comparison, for people and for programs.
//!
//! A figure per day is the number of alerts divided by the time that the readings cover, by the devices' own clocks and without the time
//! when the gateway was off. From less than an hour none is calculated, because it would say little about a day. From less than a day it is
//! marked as an estimate.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::json;

use super::comparison::Tally;
use super::from_store::{Found, Plan, StoreError, compare};
use crate::clock;
use crate::core::detection::alert::AlertKey;
use crate::keys::units::approximate_duration;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Most series shown to people.
const ROWS_SHOWN: usize = 30;

/// Alerts per day, if the covered time is long enough.
fn per_day(alerts: u64, covered_ms: u64) -> Option<f64> {
    (covered_ms >= HOUR_MS).then(|| alerts as f64 * DAY_MS as f64 / covered_ms as f64)
}

pub fn run(plan: &Plan, json: bool) -> Result<(), StoreError> {
    let mut errors = io::stderr().lock();
    let is_terminal = errors.is_terminal();
    let found = compare(plan, is_terminal.then_some(&mut errors as &mut dyn Write))?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    let printed = match json {
        true => write_json(&mut output, plan, &found),
        false => write_text(&mut output, plan, &found),
    };
    match printed.and_then(|()| output.flush()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(StoreError::Print),
    }
}

pub fn write_text(output: &mut impl Write, plan: &Plan, found: &Found) -> io::Result<()> {
    let Found { covered_ms, .. } = *found;
    let total = found.comparison.total();
    let series = found.series[0].max(found.series[1]);
    writeln!(output, "store      {}", plan.store.display())?;
    writeln!(output, "holds      {} readings, {series} series watched", found.readings)?;
    writeln!(output, "received   {} to {} UTC", date(found.first_ms), date(found.last_ms))?;
    writeln!(output, "covers     {} of the devices' time", approximate_duration(Duration::from_millis(covered_ms)))?;
    writeln!(output, "present    {}", plan.present.name)?;
    writeln!(output, "changed    {}", plan.changed.name)?;
    writeln!(output)?;
    writeln!(output, "{:<25}{:>8}{:>10}", "alerts", "number", "a day")?;
    let mut line = |label: &str, alerts: u64| {
        let a_day = per_day(alerts, covered_ms).map_or("-".to_owned(), |number| format!("{number:.1}"));
        writeln!(output, "{label:<25}{alerts:>8}{a_day:>10}")
    };
    line("present configuration", total.present)?;
    line("changed configuration", total.changed)?;
    line("  new", total.new)?;
    line("  no longer raised", total.gone)?;
    if found.raised_since_ms.is_some() {
        line("raised by the gateway", total.raised)?;
    }
    write_rows(output, found)?;
    let notes = notes(plan, found);
    if !notes.is_empty() {
        writeln!(output)?;
    }
    notes.iter().try_for_each(|note| writeln!(output, "Note: {note}"))
}

fn write_rows(output: &mut impl Write, found: &Found) -> io::Result<()> {
    let rows = found.comparison.rows();
    let differing: Vec<_> = rows.into_iter().filter(|(_, tally)| tally.differences() > 0).collect();
    if differing.is_empty() {
        return Ok(());
    }
    writeln!(output, "\n{:>8}{:>11}{:>10}{:>10}  series, kind", "new", "no longer", "present", "changed")?;
    for (key, tally) in differing.iter().take(ROWS_SHOWN) {
        let AlertKey { device, metric, kind } = key;
        let Tally { new, gone, present, changed, .. } = tally;
        // A device's name may contain anything.
        let series = format!("{device}/{metric}");
        writeln!(output, "{new:>8}{gone:>11}{present:>10}{changed:>10}  {}, {kind}", series.escape_debug())?;
    }
    let left_out = differing.iter().skip(ROWS_SHOWN);
    if left_out.len() > 0 {
        let alerts: u64 = left_out.clone().map(|(_, tally)| tally.differences()).sum();
        writeln!(output, "{:>8} further series and kinds, {alerts} alerts; --json lists them", left_out.len())?;
    }
    Ok(())
}

/// What one has to know to judge the numbers.
fn notes(plan: &Plan, found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    let span = approximate_duration(Duration::from_millis(found.covered_ms));
    if plan.present.setting == plan.changed.setting {
        notes.push("both configurations watch alike; --against FILE compares with an earlier configuration".to_owned());
    }
    match found.covered_ms {
        ms if ms < HOUR_MS => notes.push(format!(
            "{span} say nothing of a day. The store holds what some sink has not taken yet; the rest is no longer there"
        )),
        ms if ms < DAY_MS => notes.push(format!("a day's figures are a guess, out of {span}")),
        _ => {}
    }
    match found.raised_since_ms {
        None => notes.push("the store no longer holds which alerts the gateway raised".to_owned()),
        Some(since_ms) if since_ms > found.first_ms => {
            notes.push(format!("which alerts the gateway raised, the store knows since {} UTC only", date(since_ms)))
        }
        Some(_) => {}
    }
    if found.damaged_batches > 0 {
        notes.push(format!(
            "damaged, and left out: {} of the store",
            match found.damaged_batches {
                1 => "1 batch".to_owned(),
                more => format!("{more} batches"),
            }
        ));
    }
    if found.salvaged_readings > 0 {
        notes.push(format!(
            "{} readings salvaged from a damaged store were left out: they are not in the order of their times",
            found.salvaged_readings
        ));
    }
    if found.late_readings > 0 {
        notes.push(format!(
            "{} readings came late: the gateway raised no alert for them, but here they count as if they had come in time",
            found.late_readings
        ));
    }
    if found.left_out_readings > 0 {
        notes.push(format!("{} readings were left out: there are too many devices", found.left_out_readings));
    }
    if found.comparison.rows_given_up() > 0 {
        notes.push(format!("{} rows were dropped because there are too many", found.comparison.rows_given_up()));
    }
    notes
}

/// A line for the totals, then one for each series and kind that had an alert.
pub fn write_json(output: &mut impl Write, plan: &Plan, found: &Found) -> io::Result<()> {
    let total = found.comparison.total();
    let alerts = |alerts: u64| json!({ "alerts": alerts, "per_day": per_day(alerts, found.covered_ms) });
    let side = |name: &str, series: usize, number: u64| {
        json!({
            "configuration": name, "series": series, "alerts": number, "per_day": per_day(number, found.covered_ms),
        })
    };
    let raised = found.raised_since_ms.map(|since_ms| {
        json!({ "alerts": total.raised, "per_day": per_day(total.raised, found.covered_ms), "since_ms": since_ms })
    });
    let whole = json!({
        "type": "comparison",
        "store": plan.store.display().to_string(),
        "readings": found.readings,
        "first_ms": found.first_ms,
        "last_ms": found.last_ms,
        "covered_ms": found.covered_ms,
        "present": side(&plan.present.name, found.series[0], total.present),
        "changed": side(&plan.changed.name, found.series[1], total.changed),
        "new": alerts(total.new),
        "no_longer": alerts(total.gone),
        "raised": raised,
        "damaged_batches": found.damaged_batches,
        "salvaged_readings": found.salvaged_readings,
        "readings_late": found.late_readings,
        "readings_left_out": found.left_out_readings,
        "rows_given_up": found.comparison.rows_given_up(),
    });
    writeln!(output, "{whole}")?;
    for (AlertKey { device, metric, kind }, tally) in found.comparison.rows() {
        let row = json!({
            "type": "series", "device": device, "metric": metric, "kind": kind,
            "present": tally.present, "changed": tally.changed, "new": tally.new, "no_longer": tally.gone,
            "raised": found.raised_since_ms.map(|_| tally.raised),
        });
        writeln!(output, "{row}")?;
    }
    Ok(())
}

fn date(at_ms: i64) -> String {
    let at = clock::utc(at_ms);
    format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_made_of_an_hour_at_least() {
        assert_eq!(per_day(3, HOUR_MS - 1), None);
        assert_eq!(per_day(3, HOUR_MS), Some(72.0));
        assert_eq!(per_day(3, 2 * DAY_MS), Some(1.5));
    }

    #[test]
    fn times_are_written_in_full() {
        assert_eq!(date(1_795_465_865_120), "2026-11-23 20:31:05");
        assert_eq!(date(-1), "1969-12-31 23:59:59");
    }
}
