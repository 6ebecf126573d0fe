//! `GET /api/series`: the series that are watched, and those that are known not to be, each with the reason. In the order of device and
//! metric, in pages like those of `/api/alerts`: the `link` header leads to the next one, as `?after={device}/{metric}`.
//! `GET /api/series/{device}/{metric}` explains one: what has been learned of it, and what would be told.
//!
//! Only the pipeline knows. It is asked with a time limit, because it may be stalled, and then the rest of the status matters most.

use std::sync::mpsc::Sender;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::oneshot;

use super::alerts::{PAGE_BYTES, encode};
use super::{TEXT, pretty, reply};
use crate::core::mqtt::topic;
use crate::pipeline::Message;
use crate::pipeline::overview::{Overview, PAGE_SERIES, SeriesLine};

/// Beginning of the paths of single series.
pub(super) const ONE: &str = "/api/series/";
/// Longer than a busy pipeline needs.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
pub(super) const UNKNOWN: &str = "the gateway does not know at present\n";

/// What is watched; `None` if the pipeline does not answer in time.
pub(super) async fn overview(pipeline: &Sender<Message>) -> Option<Overview> {
    ask(pipeline, ANSWER_WITHIN, |answer| Message::Overview { answer }).await
}

/// Answers a request with this query.
pub(super) async fn answer(query: Option<&str>, pipeline: &Sender<Message>) -> Response<Full<Bytes>> {
    let Some((device, metric)) = query.map_or(Some(Default::default()), after) else {
        return reply(StatusCode::BAD_REQUEST, TEXT, "ask for ?after={device}/{metric}\n");
    };
    match ask(pipeline, ANSWER_WITHIN, |answer| Message::ListSeries { device, metric, answer }).await {
        Some(lines) => page_of_series(&lines),
        None => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, UNKNOWN),
    }
}

/// Answers what is asked of one series.
pub(super) async fn explain(path: &str, pipeline: &Sender<Message>) -> Response<Full<Bytes>> {
    let Some((device, metric)) = path.strip_prefix(ONE).and_then(names) else {
        return reply(StatusCode::NOT_FOUND, TEXT, "ask for /api/series/{device}/{metric}, a / in a name as %2F\n");
    };
    match ask(pipeline, ANSWER_WITHIN, |answer| Message::Explain { device, metric, answer }).await {
        Some(Some(explanation)) => reply(StatusCode::OK, "application/json", pretty(&explanation)),
        Some(None) => reply(
            StatusCode::NOT_FOUND,
            TEXT,
            "no such series is watched; /api/series lists those that are, and why others are not\n",
        ),
        None => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, UNKNOWN),
    }
}

pub(super) async fn ask<T>(
    pipeline: &Sender<Message>,
    within: Duration,
    question: impl FnOnce(oneshot::Sender<T>) -> Message,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    pipeline.send(question(answer)).ok()?;
    tokio::time::timeout(within, answered).await.ok()?.ok()
}

fn after(query: &str) -> Option<(String, String)> {
    names(query.strip_prefix("after=")?)
}

/// Device and metric of two levels, percent-encoded.
pub(super) fn names(levels: &str) -> Option<(String, String)> {
    let (device, metric) = levels.split_once('/')?;
    (!metric.contains('/')).then(|| (topic::percent_decode(device), topic::percent_decode(metric)))
}

fn page_of_series(lines: &[SeriesLine]) -> Response<Full<Bytes>> {
    page(lines, lines.len() == PAGE_SERIES, |last| {
        format!("/api/series?after={}/{}", encode(&last.device), encode(&last.metric))
    })
}

/// As many of the lines as a page holds, at least one; if there may be more, with a link to where the `next` ones are.
pub(super) fn page<T: Serialize>(lines: &[T], has_more: bool, next: impl Fn(&T) -> String) -> Response<Full<Bytes>> {
    let mut json = b"[".to_vec();
    let mut written = 0;
    for line in lines {
        if json.len() >= PAGE_BYTES {
            break;
        }
        json.extend_from_slice(if written == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut json, line).expect("plain data");
        written += 1;
    }
    json.extend_from_slice(b"\n]\n");
    let mut reply = reply(StatusCode::OK, "application/json", json);
    let has_more = has_more || written < lines.len();
    if let Some(last) = lines[..written].last().filter(|_| has_more) {
        let link = format!("<{}>; rel=\"next\"", next(last));
        reply.headers_mut().insert("link", link.try_into().expect("encoded for a header"));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize, reason: &str) -> SeriesLine {
        SeriesLine {
            device: format!("a/{number:04}"),
            metric: "x y".to_owned(),
            watched: true,
            profile: "generic",
            profile_word: None,
            maturity: None,
            limit: false,
            reason: reason.to_owned(),
        }
    }

    fn next(page: &Response<Full<Bytes>>) -> Option<String> {
        let link = page.headers().get("link")?.to_str().expect("a text");
        Some(
            link.strip_prefix("</api/series?")
                .and_then(|it| it.strip_suffix(">; rel=\"next\""))
                .expect("here")
                .to_owned(),
        )
    }

    #[test]
    fn a_page_that_is_full_leads_to_the_next() {
        let lines: Vec<SeriesLine> = (0..PAGE_SERIES).map(|number| line(number, "")).collect();
        assert_eq!(next(&page_of_series(&lines[..3])), None);
        let link = next(&page_of_series(&lines)).expect("there may be more");
        assert_eq!(after(&link), Some(("a/0499".to_owned(), "x y".to_owned())));
        let long: Vec<SeriesLine> = (0..5).map(|number| line(number, &"r".repeat(PAGE_BYTES / 2))).collect();
        assert_eq!(after(&next(&page_of_series(&long)).expect("there are more")).expect("a place").0, "a/0001");
        assert_eq!(next(&page_of_series(&[])), None);
        assert_eq!([after("before=a/b"), after("after=a"), after("after=a/b/c")], [None, None, None]);
    }

    #[tokio::test]
    async fn a_pipeline_that_does_not_answer_is_not_waited_for() {
        let (pipeline, receiver) = std::sync::mpsc::channel();
        let question = |answer| Message::Overview { answer };
        assert_eq!(ask(&pipeline, Duration::from_millis(1), question).await, None);
        assert_eq!(answer(Some("x"), &pipeline).await.status(), StatusCode::BAD_REQUEST);
        drop(receiver);
        assert_eq!(explain("/api/series/a/b", &pipeline).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        for path in ["/api/series/a", "/api/series/a/b/c", "/api/series/"] {
            assert_eq!(explain(path, &pipeline).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(answer(None, &pipeline).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
