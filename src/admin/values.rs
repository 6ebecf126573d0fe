//! `GET /api/devices`: the devices in the order of their names, with what their series have together, in pages as of `/api/alerts`;
//! `?search=TEXT` leaves out those whose names do not contain it. `GET /api/values`: the newest value of each series, `?device=NAME` of one device
//! only. The `link` header leads to the next page.
//!
//! Only the pipeline knows. One of these questions is with it at a time, with a rest behind it, however many ask.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use tokio::sync::oneshot;

use super::alerts::encode;
use super::series::{ANSWER_WITHIN, UNKNOWN, ask, page};
use super::status::Sources;
use super::{TEXT, reply};
use crate::core::mqtt::topic;
use crate::pipeline::Message;
use crate::pipeline::values::{PAGE_DEVICES, PAGE_VALUES};

/// After each answer the pipeline is left alone for so long: many times what an answer takes it.
const REST: Duration = Duration::from_millis(20);

/// Asks the pipeline in turn; `None` if it does not answer in time.
async fn ask_in_turn<T>(
    sources: &Sources,
    pipeline: &Sender<Message>,
    question: impl FnOnce(oneshot::Sender<T>) -> Message,
) -> Option<T> {
    let turn = tokio::time::timeout(ANSWER_WITHIN, Arc::clone(&sources.questions).acquire_owned()).await.ok()?.ok()?;
    let answer = ask(pipeline, ANSWER_WITHIN, question).await;
    tokio::task::spawn_local(async move {
        tokio::time::sleep(REST).await;
        drop(turn);
    });
    answer
}

/// Fields of a query, percent-decoded; `None` if there is one that is not known here.
fn fields<const COUNT: usize>(query: Option<&str>, known: [&str; COUNT]) -> Option<[Option<String>; COUNT]> {
    let mut found = [const { None }; COUNT];
    for field in query.unwrap_or_default().split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=')?;
        let at = known.iter().position(|known| *known == name)?;
        found[at] = Some(value.to_owned());
    }
    Some(found)
}

pub(super) async fn devices(
    query: Option<&str>,
    sources: &Sources,
    pipeline: &Sender<Message>,
) -> Response<Full<Bytes>> {
    let Some([after, search]) = fields(query, ["after", "search"]) else {
        return reply(StatusCode::BAD_REQUEST, TEXT, "ask for ?after={device}&search={text}\n");
    };
    let decoded = |text: &Option<String>| topic::percent_decode(text.as_deref().unwrap_or_default());
    let question = (decoded(&after), decoded(&search));
    let message = |answer| Message::ListDevices { after: question.0, part: question.1, answer };
    let Some(lines) = ask_in_turn(sources, pipeline, message).await else { return unknown() };
    let search = search.map_or(String::new(), |search| format!("&search={}", encode(&topic::percent_decode(&search))));
    page(&lines, lines.len() == PAGE_DEVICES, |last| format!("/api/devices?after={}{search}", encode(&last.device)))
}

pub(super) async fn values(
    query: Option<&str>,
    sources: &Sources,
    pipeline: &Sender<Message>,
) -> Response<Full<Bytes>> {
    let parsed = fields(query, ["after", "device"]).and_then(|[after, device]| {
        let after = after.map_or(Some(Default::default()), |after| super::series::names(&after))?;
        Some((after, device.map(|device| topic::percent_decode(&device))))
    });
    let Some((after, device)) = parsed else {
        return reply(StatusCode::BAD_REQUEST, TEXT, "ask for ?after={device}/{metric}&device={device}\n");
    };
    let only = device.as_ref().map_or(String::new(), |device| format!("&device={}", encode(device)));
    let message = |answer| Message::ListValues { after, device, answer };
    let Some(lines) = ask_in_turn(sources, pipeline, message).await else { return unknown() };
    page(&lines, lines.len() == PAGE_VALUES, |last| {
        format!("/api/values?after={}/{}{only}", encode(&last.device), encode(&last.metric))
    })
}

fn unknown() -> Response<Full<Bytes>> {
    reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::alerts::PAGE_BYTES;

    #[test]
    fn a_query_is_taken_apart_and_a_mistake_in_it_is_told() {
        let known = ["after", "search"];
        assert_eq!(fields(None, known), Some([None, None]));
        assert_eq!(fields(Some("search=a%26b"), known), Some([None, Some("a%26b".to_owned())]));
        assert_eq!(fields(Some("before=a"), known), None);
        assert_eq!(fields(Some("after"), known), None);
    }

    #[test]
    fn a_page_leads_to_the_next_one_if_there_is_more() {
        let link = |lines: &[String], has_more| {
            let reply = page(lines, has_more, |last| format!("/x?after={}", encode(&last[..1])));
            reply.headers().get("link").map(|link| link.to_str().expect("a text").to_owned())
        };
        let short = ["a".to_owned(), "é".to_owned()];
        assert_eq!(link(&short[..1], false), None);
        assert_eq!(link(&short[..1], true).as_deref(), Some("</x?after=a>; rel=\"next\""));
        let long = ["b", "c", "d"].map(|first| first.repeat(PAGE_BYTES / 2));
        assert_eq!(link(&long, false).as_deref(), Some("</x?after=c>; rel=\"next\""));
        assert_eq!(link(&[], true), None);
    }
}
