//! Bridges: whether each of the other brokers can be reached and would let the gateway in, and whether the running gateway is connected.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::LocalSet;

use super::{Case, Task};
use crate::bridge::BridgeSettings;
use crate::finding::Finding;

pub fn tasks(case: &Arc<Case>) -> Vec<Task> {
    let task = |bridge: &BridgeSettings| {
        let (shared, bridge) = (Arc::clone(case), bridge.clone());
        Task::new(format!("bridge {}", bridge.name()), move || look(&shared, &bridge))
    };
    case.configuration.bridges.iter().map(task).collect()
}

/// A gateway that is running knows best. Otherwise the login is tried.
fn look(case: &Case, bridge: &BridgeSettings) -> Vec<Finding> {
    if let Some(answers) = case.running.answers()
        && let Some(finding) = of_status(&answers.status, bridge.name())
    {
        return vec![finding];
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Finding::skipped(format!("it cannot be tried: {error}"))],
    };
    let tried = LocalSet::new().block_on(&runtime, bridge.try_login());
    // Names that are still looked up are not waited for.
    runtime.shutdown_background();
    let endpoint = &bridge.broker.endpoint;
    vec![match tried {
        Ok(_) => Finding::well(format!("{endpoint} lets the gateway in")),
        Err(error) => {
            Finding::bad(format!("{endpoint}: {error}"), "look at url, the certificates and the login of [[bridge]]")
        }
    }]
}

/// `None` if the running gateway has no such bridge.
fn of_status(status: &Value, name: &str) -> Option<Finding> {
    let bridge = status["bridges"].as_array()?.iter().find(|bridge| bridge["name"] == name)?;
    let (url, waiting) = (bridge["url"].as_str().unwrap_or_default(), bridge["waiting"].as_u64().unwrap_or(0));
    Some(match (bridge["connected"].as_bool(), bridge["last_error"].as_str()) {
        (Some(true), None) => Finding::well(format!("connected to {url}, {waiting} waiting to go out")),
        (Some(true), Some(error)) => Finding::warning(format!("connected to {url}: {error}"), "see the gateway's log"),
        (_, error) => Finding::bad(
            format!("not connected to {url}, {waiting} waiting to go out: {}", error.unwrap_or("no answer yet")),
            "look at url, the certificates and the login of [[bridge]]",
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_running_gateway_is_asked() {
        let status = json!({ "bridges": [
            { "name": "a", "url": "mqtt://a:1", "connected": true, "last_error": null, "waiting": 3 },
            { "name": "b", "url": "mqtt://b:1", "connected": false, "last_error": "no route", "waiting": 0 },
        ]});
        let text = |name| of_status(&status, name).map(|finding| finding.found);
        assert_eq!(text("a").as_deref(), Some("connected to mqtt://a:1, 3 waiting to go out"));
        assert_eq!(text("b").as_deref(), Some("not connected to mqtt://b:1, 0 waiting to go out: no route"));
        assert_eq!(text("c"), None);
    }
}
