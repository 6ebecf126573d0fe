//! `GET /api/series/{device}/{metric}/history?from_ms=&to_ms=&points=`: what the store still holds of a series, as points for a chart.
//!
//! Reading it takes time, so it is done beside this thread, one request after the other, and an answer has what was found within
//! 0.4 s: `next` is the query that goes on from there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{TEXT, reply, series};
use crate::errors::with_causes;
use crate::store::history::{Answer, Place, Question};
use crate::store::reader::Reader;

/// The end of such a path.
const END: &str = "/history";
/// One request holds up the next one for so long; a batch takes much less.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// Requests that wait for longer are turned away.
const WAIT_MAX: Duration = Duration::from_secs(5);
const POINTS: u64 = 500;
const POINTS_MAX: u64 = 2_000;
const SPAN_MS: i64 = 3_600_000;
/// Widths of points that people expect, up to a day; wider ones are whole days.
const WIDTHS_MS: [u64; 21] = [
    1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
    1_800_000, 3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000,
];
const DAY_MS: u64 = 86_400_000;

/// Where to read.
#[derive(Debug)]
pub struct HistorySource {
    pub path: PathBuf,
    pub vfs: Option<String>,
    turn: Arc<Semaphore>,
}

impl HistorySource {
    pub fn new(path: PathBuf, vfs: Option<String>) -> HistorySource {
        HistorySource { path, vfs, turn: Arc::new(Semaphore::new(1)) }
    }
}

/// The series of a path, if it asks for history.
pub(super) fn target(path: &str) -> Option<(String, String)> {
    series::names(path.strip_prefix(series::ONE)?.strip_suffix(END)?)
}

pub(super) async fn answer(
    series: (String, String),
    query: Option<&str>,
    now_ms: i64,
    source: &HistorySource,
) -> Response<Full<Bytes>> {
    let request = match Request::parse(query.unwrap_or_default(), now_ms) {
        Ok(request) => request,
        Err(text) => return reply(StatusCode::BAD_REQUEST, TEXT, text),
    };
    let waiting = tokio::time::timeout(WAIT_MAX, Arc::clone(&source.turn).acquire_owned());
    let Ok(Ok(turn)) = waiting.await else {
        return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "others are reading at present: ask again\n");
    };
    let (path, vfs, question) = (source.path.clone(), source.vfs.clone(), request.question(series));
    let reading = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + ANSWER_WITHIN;
        let mut reader = Reader::open(&path, vfs.as_deref()).map_err(|error| with_causes(&error))?;
        let answer = question.answer(&mut reader, || Instant::now() >= until).map_err(|error| error.to_string())?;
        drop(turn);
        Ok::<_, String>(request.write(&question, &answer))
    });
    match reading.await {
        Ok(Ok(json)) => reply(StatusCode::OK, "application/json", json),
        Ok(Err(error)) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("cannot read the store: {error}\n")),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    from_ms: i64,
    to_ms: i64,
    points: u64,
    place: Place,
}

impl Request {
    fn parse(query: &str, now_ms: i64) -> Result<Request, String> {
        let (mut from_ms, mut to_ms, mut points) = (None, None, POINTS);
        let mut place = Place::NEWEST;
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let wrong = || format!("{name} = {value:?}: not a whole number\n");
            match name {
                "from_ms" => from_ms = Some(value.parse().map_err(|_| wrong())?),
                "to_ms" => to_ms = Some(value.parse().map_err(|_| wrong())?),
                "points" => points = value.parse().map_err(|_| wrong())?,
                "raw_before" => place.raw = value.parse().map_err(|_| wrong())?,
                "anomalies_before" => place.anomalies = value.parse().map_err(|_| wrong())?,
                _ => return Err(format!("{name} is not known here: ask for from_ms, to_ms and points\n")),
            }
        }
        let to_ms: i64 = to_ms.unwrap_or(now_ms);
        let from_ms = from_ms.unwrap_or(to_ms.saturating_sub(SPAN_MS));
        if from_ms >= to_ms {
            return Err(format!(
                "from_ms = {from_ms} is not before to_ms = {to_ms}; both are milliseconds since 1970, UTC\n"
            ));
        }
        if !(1..=POINTS_MAX).contains(&points) {
            return Err(format!("points = {points}: 1 to {POINTS_MAX} are possible\n"));
        }
        Ok(Request { from_ms, to_ms, points, place })
    }

    fn point_ms(&self) -> u64 {
        let least = self.to_ms.abs_diff(self.from_ms).div_ceil(self.points);
        let width = WIDTHS_MS.into_iter().find(|width| *width >= least);
        width.unwrap_or(least.div_ceil(DAY_MS) * DAY_MS)
    }

    fn question(&self, (device, metric): (String, String)) -> Question {
        let times_ms = self.from_ms..self.to_ms;
        Question { device, metric, times_ms, point_ms: self.point_ms(), place: self.place }
    }

    fn write(&self, question: &Question, answer: &Answer) -> Vec<u8> {
        #[derive(Serialize)]
        struct Point {
            at_ms: i64,
            min: f64,
            max: f64,
            mean: f64,
            count: u64,
        }
        #[derive(Serialize)]
        struct History<'a> {
            device: &'a str,
            metric: &'a str,
            from_ms: i64,
            to_ms: i64,
            point_ms: u64,
            points: Vec<Point>,
            next: Option<String>,
        }
        let point = |(at_ms, point): (&i64, &crate::store::history::Point)| Point {
            at_ms: *at_ms,
            min: point.min,
            max: point.max,
            mean: point.mean(),
            count: point.count,
        };
        let history = History {
            device: &question.device,
            metric: &question.metric,
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            point_ms: question.point_ms,
            points: answer.points.iter().map(point).collect(),
            next: answer.next.map(|place| Request { place, ..*self }.query()),
        };
        let mut json = serde_json::to_vec(&history).expect("plain data");
        json.pop();
        // Records are JSON already.
        for (name, records) in [("anomalies", &answer.anomalies), ("alerts", &answer.alerts)] {
            let records: Vec<&[u8]> = records.iter().map(|record| record.trim_ascii_end()).collect();
            json.extend_from_slice(format!(",\n\"{name}\":[").as_bytes());
            json.extend_from_slice(&records.join(&b",\n"[..]));
            json.push(b']');
        }
        json.extend_from_slice(b"}\n");
        json
    }

    fn query(&self) -> String {
        let Request { from_ms, to_ms, points, place: Place { raw, anomalies } } = self;
        format!("from_ms={from_ms}&to_ms={to_ms}&points={points}&raw_before={raw}&anomalies_before={anomalies}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood_and_goes_on_from_its_place() {
        let request = Request::parse("", 10 * SPAN_MS).expect("all of it has defaults");
        assert_eq!((request.from_ms, request.to_ms, request.points), (9 * SPAN_MS, 10 * SPAN_MS, 500));
        assert_eq!(request.point_ms(), 10_000);
        let place = Place { raw: 7, anomalies: 0 };
        let next = Request { place, ..request };
        assert_eq!(Request::parse(&next.query(), 0), Ok(next));
        for (query, error) in [
            ("from_ms=x", "from_ms = \"x\": not a whole number\n"),
            ("from=1", "from is not known here: ask for from_ms, to_ms and points\n"),
            ("from_ms=5&to_ms=5", "from_ms = 5 is not before to_ms = 5; both are milliseconds since 1970, UTC\n"),
            ("points=0", "points = 0: 1 to 2000 are possible\n"),
        ] {
            assert_eq!(Request::parse(query, 10).expect_err("refused"), error);
        }
    }

    #[test]
    fn points_are_as_wide_as_people_expect() {
        let width =
            |span_ms: i64, points| Request { from_ms: 0, to_ms: span_ms, points, place: Place::NEWEST }.point_ms();
        assert_eq!(width(600_000, 600), 1_000);
        assert_eq!(width(86_400_000, 500), 300_000);
        assert_eq!(width(100, 500), 1);
        assert_eq!(width(400 * 86_400_000, 100), 4 * DAY_MS);
        assert_eq!(width(i64::MAX, 1) % DAY_MS, 0);
    }

    #[test]
    fn a_path_names_its_series() {
        let names = |device: &str, metric: &str| Some((device.to_owned(), metric.to_owned()));
        assert_eq!(target("/api/series/a%2Fb/speed/history"), names("a/b", "speed"));
        assert_eq!(target("/api/series/a/history"), None, "a series of that name");
        assert_eq!(target("/api/series/a/history/history"), names("a", "history"));
    }
}
