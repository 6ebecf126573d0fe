//! `outrider detect --explain SERIES`: what the detectors have learned of one series at the end of the input.
//!
//! Only readings of its device are replayed: they are all that it depends on.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::lines::{Choice, DetectError, Parsed, Replay, Unit, Watching, for_each_line, open, parse};
use super::models::ModelExplained;
use crate::clock;
use crate::core::detection::detectors::explanation::Explanation;

/// Most names that are kept to find similar ones, and that are told.
const NAMES_MAX: usize = 100_000;
const SIMILAR_MAX: usize = 3;
/// Longer names are not compared.
const NAME_BYTES_MAX: usize = 256;

/// Reads the files, or standard input, and prints to standard output: as text or, with `json`, as an object.
pub fn run_files(
    series: &str,
    files: &[PathBuf],
    watching: Watching,
    (json, unit): (bool, Option<Unit>),
) -> Result<(), DetectError> {
    let (mut input, _) = open(files).map_err(DetectError::Io)?;
    let explanation = explain(series, &mut input, watching, unit.unwrap_or(Unit::Ms))?;
    let text = match json {
        true => serde_json::to_string(&explanation).expect("plain data"),
        false => explanation.lines(),
    };
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(DetectError::Io(error)),
        _ => Ok(()),
    }
}

/// What the detectors have learned of a series, and what models make of its device.
#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    series: Explanation,
    /// Those with a threshold that are given something of the series.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<ModelExplained>,
}

impl Explained {
    fn lines(&self) -> String {
        let models = self.models.iter().map(|model| format!("\n{}", model.text));
        self.series.text.clone() + &models.collect::<String>()
    }
}

fn explain(wanted: &str, input: impl BufRead, watching: Watching, unit: Unit) -> Result<Explained, DetectError> {
    let mut replay = Replay::new(watching, Choice { json: false, severity_min: None });
    let mut others = BTreeSet::new();
    let (mut names, mut seen, mut malformed) = (None, false, false);
    for_each_line(input, |line, _| {
        let line = match parse(line, unit) {
            Parsed::Line(line) => line,
            Parsed::Other => return Ok(()),
            Parsed::Malformed => {
                malformed = true;
                return Ok(());
            }
        };
        seen = true;
        let (device, metric) = line.names();
        if *line.series == *wanted {
            names = Some((device.to_owned(), metric.to_owned()));
        } else if others.len() < NAMES_MAX && !others.contains(&*line.series) {
            others.insert(line.series.clone().into_owned());
        }
        let is_of_it = match device {
            "" => *line.series == *wanted,
            device => wanted.strip_prefix(device).is_some_and(|rest| rest.starts_with('/')),
        };
        if is_of_it { replay.line(&line, &mut io::sink()) } else { Ok(()) }
    })
    .map_err(DetectError::Io)?;
    let Some((device, metric)) = names else {
        return Err(if malformed && !seen { DetectError::NothingRead } else { unknown(wanted, &others) });
    };
    let models = replay.models.explain(&device, &metric);
    let series = replay.monitor.explain(&device, &metric, clock::rfc3339).ok_or_else(|| {
        let reason = replay.monitor.profile_choice(&metric).reason();
        DetectError::UnknownSeries(format!("{wanted} is not watched, or has no value that can be: {reason}"))
    })?;
    Ok(Explained { series, models })
}

fn unknown(wanted: &str, others: &BTreeSet<String>) -> DetectError {
    let comparable = others.iter().filter(|name| name.len().max(wanted.len()) <= NAME_BYTES_MAX);
    let likeness = |name: &String| strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase());
    let mut similar: Vec<(f64, &String)> = comparable.map(|name| (likeness(name), name)).collect();
    similar.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let names: Vec<&str> = similar.iter().take(SIMILAR_MAX).map(|(_, name)| name.as_str()).collect();
    DetectError::UnknownSeries(match names.is_empty() {
        true if others.is_empty() => format!("there is no series {wanted} in the input, nor any other"),
        true => format!("there is no series {wanted} in the input"),
        false => format!("there is no series {wanted} in the input; similar are {}", names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(wanted: &str, input: &str) -> Result<Explained, String> {
        explain(wanted, input.as_bytes(), Watching::default(), Unit::Ms).map_err(|error| error.to_string())
    }

    #[test]
    fn one_series_is_explained_and_an_unknown_one_is_told_with_similar_names() {
        let line = |i: i64| {
            let value = 90.0 + (i * 7919 % 5) as f64 / 10.0;
            format!(
                "truck/engine_temp,{0},{value}\ntruck/speed,{0},50\nvan/engine_temp,{0},1\nalone,{0},7\n",
                i * 1_000
            )
        };
        let input: String = (0..1_000).map(line).collect::<String>() + "truck/lat,0,1\n";
        let explanation = told("truck/engine_temp", &input).expect("it is there");
        let text = explanation.lines();
        let lines: Vec<&str> = text.lines().collect();
        let first = "truck/engine_temp is learning: heard for 16 minutes since 1970-01-01T00:00:00Z, 1000 readings";
        assert_eq!(lines[0], first);
        assert_eq!((explanation.series.learned.readings, explanation.series.learned.level), (1_000, Some(90.2)));
        assert_eq!(told("alone", &input).expect("it is there").series.device, "");
        for (wanted, expected) in [
            (
                "truck/engin_temp",
                "there is no series truck/engin_temp in the input; similar are truck/engine_temp, truck/speed, truck/lat",
            ),
            (
                "truck/lat",
                "truck/lat is not watched, or has no value that can be: the word \"lat\" in its name says that it is a position, a counter or a state; a [[profile]] can watch it",
            ),
        ] {
            assert_eq!(told(wanted, &input).expect_err("it is not"), expected);
        }
        assert_eq!(told("a/b", "").expect_err("nothing"), "there is no series a/b in the input, nor any other");
        assert!(told("a/b", "x\n").expect_err("nothing").contains("no line could be read"));
    }
}
