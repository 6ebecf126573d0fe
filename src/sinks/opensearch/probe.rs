//! Tries whether the cluster would let us in, without sending it anything that it keeps.

use serde::Deserialize;

use super::client::{Answer, Client, Login, Question};
use super::outcome;
use super::target::OpenSearchCluster;
use super::{CONTENT_TYPE, PATH};
use crate::clock;
use crate::core::delivery::Outcome;
use crate::core::identity::Stream;
use crate::finding::Finding;
use crate::sinks::aws::probe as aws;
use crate::sinks::http::outcome::shown;
use crate::sinks::probe::{of_certificates, of_outcome};

const ANSWER_BYTES_MAX: usize = 1 << 20;

pub async fn cluster(cluster: &OpenSearchCluster, gateway: &str) -> Vec<Finding> {
    let mut findings = cluster.ca.as_ref().map_or(Vec::new(), |ca| of_certificates(ca));
    let client = cluster.client(cluster.connector(None));
    if let Login::Aws { connection, .. } = &cluster.login {
        findings.extend(aws::of_role_alias(connection));
    }
    if let Some(service) = client.service() {
        match aws::credentials(service).await {
            Ok(text) => findings.push(Finding::well(text)),
            Err(finding) => {
                findings.push(finding);
                return findings;
            }
        }
    }
    let what = who(&client, &cluster.url).await;
    let is_reached = what.remedy.is_none();
    findings.push(what);
    if is_reached {
        findings.push(may_write(&client).await);
        let streams = Stream::BUILT_IN
            .map(|(_, name)| name)
            .into_iter()
            .filter(|name| cluster.streams.as_ref().is_none_or(|streams| streams.iter().any(|taken| taken == name)));
        for stream in streams {
            let index = cluster.index.names(stream).at(gateway, clock::now_ms());
            findings.extend(template(&client, &index).await);
        }
    }
    findings
}

#[derive(Deserialize)]
struct Who {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    #[serde(default)]
    distribution: Option<String>,
}

async fn ask(client: &Client, method: &'static str, path: &str, body: &str) -> Result<Answer, Outcome> {
    let question = Question {
        method,
        path,
        content_type: CONTENT_TYPE,
        encoding: None,
        body: body.as_bytes().to_vec(),
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    client.ask(question).await
}

async fn who(client: &Client, url: &str) -> Finding {
    let asked = format!("GET {url}/");
    match ask(client, "GET", "/", "").await {
        Ok(answer) if (200..300).contains(&answer.http.status) => of_version(&asked, &answer.http.text),
        // Collections of OpenSearch Serverless have no such page, and who may write only may not see it; whether that is so is tried next.
        Ok(answer) if matches!(answer.http.status, 403 | 404) => {
            Finding::well(format!("{asked}: it answers, and does not say what it is"))
        }
        Ok(answer) => of_outcome(&asked, &client.of_refusal(answer, outcome::of_request)),
        Err(outcome) => of_outcome(&asked, &outcome),
    }
}

fn of_version(asked: &str, body: &[u8]) -> Finding {
    match serde_json::from_slice::<Who>(body) {
        Ok(Who { version: Version { number, distribution } }) => {
            let name = distribution.as_deref().unwrap_or("elasticsearch");
            Finding::well(format!("{asked}: it is {} {}", shown(name), shown(&number)))
        }
        Err(_) => Finding::bad(
            format!("{asked}: it answers, and is neither OpenSearch nor Elasticsearch"),
            "look at url of the [[sink]]",
        ),
    }
}

/// A document for an alias that is not there: it is refused for that by whoever would take it, and never stored.
const NOWHERE: &str = "{\"create\":{\"_index\":\"outrider-doctor\",\"_id\":\"doctor\"}}\n{}\n";

async fn may_write(client: &Client) -> Finding {
    let asked = "a document for an alias that is not there";
    match ask(client, "POST", &format!("{PATH}&require_alias=true"), NOWHERE).await {
        Ok(answer) if (200..300).contains(&answer.http.status) => {
            match outcome::of_items(&answer.http.text, &["doctor".to_owned()], &|text| client.without_secrets(text)) {
                Some(verdicts) => of_nowhere(&verdicts),
                None => of_outcome(asked, &outcome::not_of_bulk()),
            }
        }
        Ok(answer) => of_outcome(asked, &client.of_refusal(answer, outcome::of_request)),
        Err(outcome) => of_outcome(asked, &outcome),
    }
}

fn of_nowhere(verdicts: &[outcome::Verdict]) -> Finding {
    match verdicts {
        [outcome::Verdict::Halted(reason)] if reason.starts_with("security_exception") => Finding::bad(
            format!("_bulk: {reason}"),
            "give the user, the key or the role the rights create_doc and create_index on the indices",
        ),
        _ => Finding::well(
            "_bulk: it is taken; whether this user may make and write the indices is told by the first record"
                .to_owned(),
        ),
    }
}

/// Whether the cluster knows what the fields of such an index are; nothing is said where it does not tell.
async fn template(client: &Client, index: &str) -> Option<Finding> {
    let answer = ask(client, "POST", &format!("/_index_template/_simulate_index/{index}"), "").await.ok()?;
    if answer.http.status != 200 {
        return None;
    }
    of_template(index, &answer.http.text)
}

fn of_template(index: &str, body: &[u8]) -> Option<Finding> {
    let told: serde_json::Value = serde_json::from_slice(body).ok()?;
    let fields = &told["template"]["mappings"]["properties"];
    match fields["attributes"].is_object() {
        true => Some(Finding::well(format!("the index {index} gets its fields from a template"))),
        false => Some(Finding::warning(
            format!(
                "no template says what the fields of the index {index} are: each is taken for what its first document has"
            ),
            "put one of config/opensearch/ into the cluster (docs/STORES.md), before the first record",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    #[test]
    fn what_the_cluster_is_is_told() {
        for (body, verdict, words) in [
            (r#"{"version":{"distribution":"opensearch","number":"2.19.6"}}"#, Verdict::Well, "opensearch 2.19.6"),
            (r#"{"version":{"number":"8.15.0"},"tagline":"x"}"#, Verdict::Well, "elasticsearch 8.15.0"),
            ("<html>", Verdict::Bad, "neither OpenSearch nor Elasticsearch"),
        ] {
            let found = of_version("GET x", body.as_bytes());
            assert!(found.verdict == verdict && found.found.contains(words), "{}", found.found);
        }
    }

    #[test]
    fn an_index_without_a_template_is_worth_a_word() {
        let template =
            r#"{"template":{"mappings":{"dynamic":"false","properties":{"attributes":{"type":"flat_object"}}}}}"#;
        let verdict = |body: &str| of_template("x", body.as_bytes()).map(|finding| finding.verdict);
        assert_eq!(verdict(template), Some(Verdict::Well));
        assert_eq!(verdict("{}"), Some(Verdict::Warning));
        assert_eq!(verdict("<html>"), None);
    }

    #[test]
    fn a_right_that_is_missing_is_told_from_an_alias_that_is() {
        let verdict = |reason: &str| of_nowhere(&[outcome::Verdict::Halted(reason.to_owned())]).verdict;
        assert_eq!(verdict("index_not_found_exception: no such index"), Verdict::Well);
        assert_eq!(verdict("security_exception: no permissions"), Verdict::Bad);
    }
}
