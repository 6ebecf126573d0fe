//! What an answer of `_bulk` means: decided by status and error type. What is said besides is for people, with one exception.

use serde::Deserialize;

use super::items::{self, Created, ItemError};
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
    /// Its index takes nothing, for a reason of its own; whether that is waited for depends on the index.
    Shut(Shut),
    /// It was waited for its index for long enough.
    GivenUp(String),
}

/// What is said of an index that is shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shut {
    pub said: String,
    /// There is no such index, and it may not be made.
    pub is_gone: bool,
}

/// What became of each of the documents with these ids, in their order, if the answer is about exactly these. `clean` takes out of a text
/// what nobody may see.
pub fn of_items(body: &[u8], ids: &[String], clean: Clean<'_>) -> Option<Vec<Verdict>> {
    items::read(body, ids, &|created| of_item(created, clean))
}

pub type Clean<'a> = &'a dyn Fn(&str) -> String;

fn of_item(created: Created<'_>, clean: Clean<'_>) -> Verdict {
    let error = created.error.unwrap_or_default();
    match created.status {
        // It can be found nowhere but there, and there not by its id.
        200 | 201 if created.failure_store.as_deref() == Some("used") => {
            Verdict::Rejected("it does not fit, and was put into the failure store of the data stream".to_owned())
        }
        200 | 201 => Verdict::Accepted,
        409 if error.r#type == "version_conflict_engine_exception" => Verdict::Accepted,
        status => of_error(status, &error, clean),
    }
}

fn of_error(status: u16, error: &ItemError, clean: Clean<'_>) -> Verdict {
    let said = said(status, error, clean);
    match (status, &*error.r#type) {
        // Somebody has set the index to be read only, or closed it, which may be meant: records of other days go on.
        (403, "cluster_block_exception") if is_block_of_index(error) => Verdict::Shut(Shut { said, is_gone: false }),
        (_, "index_closed_exception") => Verdict::Shut(Shut { said, is_gone: false }),
        (404, "index_not_found_exception") => Verdict::Shut(Shut { said, is_gone: true }),
        (403, "cluster_block_exception") => {
            Verdict::Waits(RetryReason::Throttled, format!("{said} (to be lifted, or these records wait)"))
        }
        // The service has, because its disk is full, and lifts it by itself.
        (_, "cluster_block_exception" | "index_create_block_exception") => Verdict::Waits(RetryReason::Throttled, said),
        // With 400, though no document is to blame: there may be no more shards.
        (_, "validation_exception") => Verdict::Waits(RetryReason::Internal, said),
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

/// Somebody has set the index to be read only, or has closed it, and not the cluster, and not the cluster itself because its disk is full. Blocks have numbers and words, and
/// words that are not recognised are waited for.
fn is_block_of_index(error: &ItemError) -> bool {
    let reason = error.reason.as_deref().unwrap_or_default();
    reason.contains("/index ") && !reason.contains("/cluster ") && !reason.contains("/12/")
}

/// The index has as many fields as it may have, and this document would add one. Services tell this from a document that is wrong by
/// words alone; where they change, such a document becomes a dead letter, which can be sent again.
fn is_full_of_fields(error: &ItemError) -> bool {
    let cause = error.caused_by.as_ref().and_then(|cause| cause.reason.as_deref());
    error.reason.as_deref().into_iter().chain(cause).any(|reason| reason.contains("Limit of total fields"))
}

/// What a service says of a value goes on with the value, which belongs into no log.
const PREVIEW: &str = " Preview of field's value:";

fn said(status: u16, error: &ItemError, clean: Clean<'_>) -> String {
    let ItemError { r#type, reason, caused_by } = error;
    if r#type.is_empty() {
        return format!("status {status} of a document");
    }
    // A secret is found in a whole text only, so this comes before it is shortened.
    let shown = |text: &str| http::shown(&clean(text));
    let mut said = shown(r#type);
    if let Some(reason) = reason {
        match reason.split_once(PREVIEW) {
            Some((before, _)) => return format!("{said}: {}", shown(before)),
            None => said = format!("{said}: {}", shown(reason)),
        }
    }
    match caused_by.as_ref().and_then(|cause| cause.reason.as_deref()) {
        Some(cause) => format!("{said}: {}", shown(cause)),
        None => said,
    }
}

/// The answer to a request that was not taken as a whole.
#[derive(Deserialize)]
struct Whole {
    error: ItemError,
}

/// What a request that was not taken means for all of its documents. Secrets are not in it any more.
///
/// What stands before a document is written by us, so a request that is not understood is hardly ever the fault of a document: it is TLS that
/// is missing, or something that is not allowed, and somebody has to mend it.
pub fn of_request(answer: &http::Answer) -> Outcome {
    let error =
        serde_json::from_slice::<Whole>(&answer.text).map_or_else(|_| ItemError::default(), |whole| whole.error);
    match (&*error.r#type, http::of(answer)) {
        ("cluster_block_exception", _) => {
            Outcome::Later { reason: said(answer.status, &error, &str::to_owned), after_us: None }
        }
        (_, Outcome::Accepted { .. }) => not_of_bulk(),
        ("action_request_validation_exception", outcome) => outcome,
        (_, Outcome::Reject(said)) => Outcome::Halt(said),
        (_, outcome) => outcome,
    }
}

/// An answer of which no more was read than so many bytes.
pub fn too_long(documents: usize, answer_bytes_max: usize) -> Outcome {
    match documents * ANSWER_ITEM_BYTES >= answer_bytes_max {
        // A smaller request has a shorter answer; what was stored of this one is known by its id.
        true => Outcome::TooLarge(format!("the answer is longer than {answer_bytes_max} bytes")),
        // So few documents have no such answer.
        false => not_of_bulk(),
    }
}

/// An answer has so much for each document, and so much besides for reasons that are long.
const ANSWER_ITEM_BYTES: usize = 1 << 10;
const ANSWER_BYTES_MIN: usize = 1 << 20;
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// How much of the answer to so many documents is read.
pub fn answer_bytes_max(documents: usize) -> usize {
    (documents * ANSWER_ITEM_BYTES).clamp(ANSWER_BYTES_MIN, ANSWER_BYTES_MAX)
}

/// Something in between has answered, or the answer was cut off: none counts as stored.
pub fn not_of_bulk() -> Outcome {
    Outcome::Later { reason: "the answer is cut off, or not about what was sent".to_owned(), after_us: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_items(body: &[u8], ids: &[String]) -> Option<Vec<Verdict>> {
        super::of_items(body, ids, &|text| text.replace("hidden", "(not shown)"))
    }

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
            (404, "never_heard_of"),
            (400, "invalid_index_name_exception"),
            (405, "never_heard_of"),
        ] {
            let Verdict::Halted(said) = error(status, kind, "why") else { panic!("{kind}") };
            assert!(said.starts_with(&format!("{kind}: why")), "{said}");
        }
        for (status, kind, reason, is_gone) in [
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)];", false),
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/5/index read-only (api)];", false),
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/4/index closed];", false),
            (400, "index_closed_exception", "closed", false),
            (404, "index_not_found_exception", "no such index [x]", true),
        ] {
            assert_eq!(error(status, kind, reason), Verdict::Shut(Shut { said: format!("{kind}: {reason}"), is_gone }));
        }
        // The cluster, for whatever index, and one that is lifted by itself.
        for reason in [
            "blocked by: [FORBIDDEN/6/cluster read-only (api)];",
            "index [x] blocked by: [FORBIDDEN/8/index write (api)];[FORBIDDEN/6/cluster read-only (api)];",
            "index [x] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];",
            "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];",
            "words of a later version",
        ] {
            let blocked = error(403, "cluster_block_exception", reason);
            assert!(matches!(blocked, Verdict::Waits(RetryReason::Throttled, _)), "{reason}: {blocked:?}");
        }
    }

    /// Data streams of Elasticsearch answer so, and nobody would find the document where it was sent.
    #[test]
    fn what_is_put_aside_by_the_service_is_refused() {
        let of = |failure_store: &str| {
            let item = format!("\"status\":201,\"failure_store\":\"{failure_store}\"");
            of_items(answer(&[&item]).as_bytes(), &ids(1)).expect("an answer").remove(0)
        };
        assert!(matches!(of("used"), Verdict::Rejected(said) if said.contains("failure store")));
        assert_eq!(of("not_applicable_or_unknown"), Verdict::Accepted);
    }

    #[test]
    fn what_is_shown_is_a_line_and_holds_no_secret_not_even_a_part() {
        let padding = "x".repeat(197);
        let item = format!(
            "\"status\":400,\"error\":{{\"type\":\"{padding}hidden\\nx\",\"reason\":\"{padding}hidden\",\"caused_by\":{{\"reason\":\"hidden\"}}}}"
        );
        let verdicts = of_items(answer(&[&item]).as_bytes(), &ids(1)).expect("an answer");
        let [Verdict::Rejected(said)] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert!(!said.contains("hid") && !said.contains('\n') && said.len() < 700, "{said}");
    }

    #[test]
    fn a_long_answer_to_few_documents_is_not_of_the_service() {
        let of = |documents| too_long(documents, answer_bytes_max(documents));
        assert_eq!((of(1), of(1000)), (not_of_bulk(), not_of_bulk()));
        assert!(matches!((of(2000), of(100_000)), (Outcome::TooLarge(_), Outcome::TooLarge(_))));
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
        for nobodys in [
            "<html><center>The plain HTTP request was sent to HTTPS port</center>",
            r#"{"error":{"type":"illegal_argument_exception","reason":"explicit index in bulk is not allowed"},"status":400}"#,
            r#"{"error":"no handler found"}"#,
        ] {
            for status in [400, 422] {
                assert!(matches!(of(status, nobodys), Outcome::Halt(_)), "{nobodys}");
            }
        }
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
