//! What an answer of `_bulk` means: decided by status and error type. What is said besides is for people, with one exception.

use std::borrow::Cow;

use serde::Deserialize;

use crate::core::delivery::{Outcome, RetryReason};
use crate::sinks::http::outcome as http;

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored, now or since an earlier request.
    Accepted,
    /// Refused for good.
    Rejected(String),
    /// Failed for now.
    Waits(RetryReason, String),
    /// Somebody has to mend something.
    Halted(String),
}

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    create: Created<'a>,
}

#[derive(Deserialize)]
struct Created<'a> {
    #[serde(borrow)]
    _id: Cow<'a, str>,
    status: u16,
    error: Option<ItemError>,
}

/// Of a document, or of a whole request.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ItemError {
    r#type: String,
    reason: Option<String>,
    caused_by: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    reason: Option<String>,
}

/// What became of each of the documents with these ids, in their order. `None` if the answer is not about exactly these: cut off, of
/// something in between, or of another request.
pub fn of_items(body: &[u8], ids: &[String]) -> Option<Vec<Verdict>> {
    let bulk: Bulk<'_> = serde_json::from_slice(body).ok()?;
    let is_about_these =
        bulk.items.len() == ids.len() && bulk.items.iter().zip(ids).all(|(item, id)| *item.create._id == **id);
    is_about_these.then(|| bulk.items.into_iter().map(|item| of_item(item.create)).collect())
}

fn of_item(created: Created<'_>) -> Verdict {
    let error = created.error.unwrap_or_default();
    match created.status {
        200 | 201 => Verdict::Accepted,
        409 if error.r#type == "version_conflict_engine_exception" => Verdict::Accepted,
        status => of_error(status, &error),
    }
}

fn of_error(status: u16, error: &ItemError) -> Verdict {
    let said = said(status, error);
    match (status, &*error.r#type) {
        // With 403 or 429: somebody has set the index or the cluster to be read only, or the service has because its disk is full.
        (_, "cluster_block_exception" | "index_create_block_exception") => Verdict::Waits(RetryReason::Throttled, said),
        // With 400, though no document is to blame: the index is closed, or there may be no more shards.
        (_, "index_closed_exception" | "validation_exception") => Verdict::Waits(RetryReason::Internal, said),
        (_, "invalid_index_name_exception") => Verdict::Halted(said),
        (400, _) if is_full_of_fields(error) => Verdict::Waits(RetryReason::Internal, said),
        (400 | 413 | 422, _) => Verdict::Rejected(said),
        (401 | 403, _) => {
            Verdict::Halted(format!("{said}; the user, the key or the role has to be allowed to write there"))
        }
        (404, _) => Verdict::Halted(format!("{said}; make the index, or allow it to be made")),
        (429 | 503, _) => Verdict::Waits(RetryReason::Throttled, said),
        (402..500, _) if status != 408 && status != 409 => Verdict::Halted(said),
        _ => Verdict::Waits(RetryReason::Internal, said),
    }
}

/// The index has as many fields as it may have, and this document would add one. Services tell this from a document that is wrong by
/// words alone; where they change, such a document becomes a dead letter, which can be sent again.
fn is_full_of_fields(error: &ItemError) -> bool {
    let cause = error.caused_by.as_ref().and_then(|cause| cause.reason.as_deref());
    error.reason.as_deref().into_iter().chain(cause).any(|reason| reason.contains("Limit of total fields"))
}

/// What a service says of a value goes on with the value, which belongs into no log.
const PREVIEW: &str = " Preview of field's value:";

fn said(status: u16, error: &ItemError) -> String {
    let ItemError { r#type, reason, caused_by } = error;
    if r#type.is_empty() {
        return format!("status {status} of a document");
    }
    let mut said = r#type.clone();
    if let Some(reason) = reason {
        match reason.split_once(PREVIEW) {
            Some((before, _)) => return format!("{said}: {}", http::shown(before)),
            None => said = format!("{said}: {}", http::shown(reason)),
        }
    }
    match caused_by.as_ref().and_then(|cause| cause.reason.as_deref()) {
        Some(cause) => format!("{said}: {}", http::shown(cause)),
        None => said,
    }
}

/// The answer to a request that was not taken as a whole.
#[derive(Deserialize)]
struct Whole {
    error: ItemError,
}

/// What a request that was not taken means for all of its documents.
pub fn of_request(answer: &http::Answer) -> Outcome {
    let error =
        serde_json::from_slice::<Whole>(&answer.text).map_or_else(|_| ItemError::default(), |whole| whole.error);
    match &*error.r#type {
        "cluster_block_exception" => Outcome::Later { reason: said(answer.status, &error), after_us: None },
        _ if (200..300).contains(&answer.status) => not_of_bulk(),
        _ => http::of(answer),
    }
}

/// Something in between has answered, or the answer was cut off: none counts as stored.
pub fn not_of_bulk() -> Outcome {
    Outcome::Later { reason: "the answer is cut off, or not about what was sent".to_owned(), after_us: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("g.7f.raw.{number}")).collect()
    }

    fn answer(items: &[&str]) -> String {
        let items: Vec<String> = (1..)
            .zip(items)
            .map(|(number, item)| format!("{{\"create\":{{\"_id\":\"g.7f.raw.{number}\",{item}}}}}"))
            .collect();
        format!("{{\"errors\":true,\"items\":[{}]}}", items.join(","))
    }

    fn error(status: u16, kind: &str, reason: &str) -> Verdict {
        let item = format!("\"status\":{status},\"error\":{{\"type\":\"{kind}\",\"reason\":\"{reason}\"}}");
        of_items(answer(&[&item]).as_bytes(), &ids(1)).expect("an answer").remove(0)
    }

    /// As OpenSearch 2.19 answers, but for those of Elasticsearch and of its security.
    #[test]
    fn each_error_of_a_document_has_its_meaning() {
        for (status, kind, reason) in [
            (400, "mapper_parsing_exception", "failed to parse field [x] of type [long] in document with id '2'."),
            (400, "document_parsing_exception", "[1:5] failed to parse field [x] of type [long]"),
            (
                400,
                "strict_dynamic_mapping_exception",
                "mapping set to strict, dynamic introduction of [b] is not allowed",
            ),
            (400, "illegal_argument_exception", "Document contains at least one immense term in field=k"),
            (400, "illegal_argument_exception", "pipeline with id [nope] does not exist"),
        ] {
            assert_eq!(error(status, kind, reason), Verdict::Rejected(format!("{kind}: {reason}")));
        }
        for (status, kind, reason, waits) in [
            (
                429,
                "cluster_block_exception",
                "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage]",
                RetryReason::Throttled,
            ),
            (
                403,
                "cluster_block_exception",
                "index [x] blocked by: [FORBIDDEN/8/index write (api)]",
                RetryReason::Throttled,
            ),
            (429, "es_rejected_execution_exception", "rejected execution", RetryReason::Throttled),
            (429, "rejected_execution_exception", "rejected execution", RetryReason::Throttled),
            (429, "circuit_breaking_exception", "Data too large", RetryReason::Throttled),
            (503, "unavailable_shards_exception", "primary shard is not active", RetryReason::Throttled),
            (503, "process_cluster_event_timeout_exception", "failed to process cluster event", RetryReason::Throttled),
            (
                400,
                "illegal_argument_exception",
                "Limit of total fields [1000] has been exceeded",
                RetryReason::Internal,
            ),
            (
                400,
                "document_parsing_exception",
                "Limit of total fields [9] has been exceeded while adding",
                RetryReason::Internal,
            ),
            (400, "index_closed_exception", "closed", RetryReason::Internal),
            (400, "validation_exception", "this action would add [2] total shards", RetryReason::Internal),
            (409, "never_heard_of", "x", RetryReason::Internal),
            (500, "never_heard_of", "x", RetryReason::Internal),
            (302, "never_heard_of", "x", RetryReason::Internal),
        ] {
            assert_eq!(error(status, kind, reason), Verdict::Waits(waits, format!("{kind}: {reason}")), "{kind}");
        }
        for (status, kind) in [
            (403, "security_exception"),
            (401, "security_exception"),
            (404, "index_not_found_exception"),
            (400, "invalid_index_name_exception"),
            (405, "never_heard_of"),
        ] {
            let Verdict::Halted(said) = error(status, kind, "why") else { panic!("{kind}") };
            assert!(said.starts_with(&format!("{kind}: why")), "{said}");
        }
    }

    #[test]
    fn what_is_there_already_is_stored() {
        assert_eq!(error(409, "version_conflict_engine_exception", "document already exists"), Verdict::Accepted);
        let all = of_items(answer(&["\"status\":201", "\"status\":200"]).as_bytes(), &ids(2));
        assert_eq!(all, Some(vec![Verdict::Accepted, Verdict::Accepted]));
        let none = of_items(answer(&["\"status\":500"]).as_bytes(), &ids(1)).expect("an answer");
        assert_eq!(none, [Verdict::Waits(RetryReason::Internal, "status 500 of a document".to_owned())]);
    }

    #[test]
    fn a_value_is_not_repeated_and_a_cause_is() {
        let item = r#""status":400,"error":{"type":"t","reason":"of [x]. Preview of field's value: 'secret'","caused_by":{"type":"c","reason":"secret"}}"#;
        let verdicts = of_items(answer(&[item]).as_bytes(), &ids(1)).expect("an answer");
        assert_eq!(verdicts, [Verdict::Rejected("t: of [x].".to_owned())]);
        let item = r#""status":400,"error":{"type":"t","reason":"failed","caused_by":{"type":"c","reason":"why\nat"}}"#;
        let verdicts = of_items(answer(&[item]).as_bytes(), &ids(1)).expect("an answer");
        assert_eq!(verdicts, [Verdict::Rejected("t: failed: why at".to_owned())]);
    }

    #[test]
    fn an_answer_that_is_not_about_these_documents_says_nothing_of_them() {
        let right = answer(&["\"status\":201", "\"status\":201"]);
        assert!(of_items(right.as_bytes(), &ids(2)).is_some());
        for (body, count) in [
            (right.clone(), 1),
            (right.clone(), 3),
            (right[..right.len() - 3].to_owned(), 2),
            (right.replace("raw.2", "raw.3"), 2),
            (right.replace("raw.1", "raw.2").replacen("raw.2", "raw.1", 0), 2),
            (right.replace("create", "index"), 2),
            (right.replace("\"status\":201", "\"result\":\"created\""), 2),
            ("{}".to_owned(), 0),
            ("<html>welcome".to_owned(), 1),
            (String::new(), 1),
        ] {
            assert_eq!(of_items(body.as_bytes(), &ids(count)), None, "{body}");
        }
        let swapped = right.replace("raw.1", "raw.0").replace("raw.2", "raw.1").replace("raw.0", "raw.2");
        assert_eq!(of_items(swapped.as_bytes(), &ids(2)), None, "{swapped}");
    }

    #[test]
    fn whole_requests_wait_are_halved_or_need_somebody() {
        let of = |status, text: &str| {
            let text = text.as_bytes().to_vec();
            of_request(&http::Answer { status, retry_after: Some("7".to_owned()), date: None, text })
        };
        let blocked = r#"{"error":{"root_cause":[],"type":"cluster_block_exception","reason":"FORBIDDEN/6/cluster read-only (api)"},"status":403}"#;
        let Outcome::Later { reason, .. } = of(403, blocked) else { panic!("it is not waited for") };
        assert!(reason.starts_with("cluster_block_exception: FORBIDDEN/6"), "{reason}");
        let too_long =
            r#"{"error":{"type":"action_request_validation_exception","reason":"id is too long"},"status":400}"#;
        assert!(matches!(of(400, too_long), Outcome::Reject(_)));
        let denied = r#"{"error":{"root_cause":[{"type":"security_exception"}],"type":"security_exception","reason":"no permissions"},"status":403}"#;
        assert!(matches!(of(403, denied), Outcome::Halt(_)));
        assert!(matches!(of(403, r#"{"Message":"User: anonymous is not authorized"}"#), Outcome::Halt(_)));
        for status in [301, 401, 404, 405, 406] {
            assert!(matches!(of(status, "Unauthorized"), Outcome::Halt(_)), "{status}");
        }
        assert!(matches!(of(413, ""), Outcome::TooLarge(_)));
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(
                matches!(of(status, r#"{"error":"x"}"#), Outcome::Later { after_us: Some(7_000_000), .. }),
                "{status}"
            );
        }
        assert_eq!(of(200, "<html>welcome"), not_of_bulk());
        assert_eq!(of(204, ""), not_of_bulk());
    }
}
