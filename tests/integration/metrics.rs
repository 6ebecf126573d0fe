//! The metrics, and what is written down about them: the page, the alerts for Prometheus and the dashboard for Grafana.
//!
//! With `OUTRIDER_WRITE_METRICS=1` the page is written instead of compared.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use outrider::store::schema::store_path;
use serde_json::json;

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::listeners::expect_success;

const WRITE: &str = "OUTRIDER_WRITE_METRICS";

/// Rules, certificates, a link, and a sink beside the archive: whatever brings metrics of its own.
const CONFIG: &str = "\
[[listener]]
name = \"vehicles\"
listen = \"127.0.0.1:0\"
tls_certificate = \"certificates/server.pem\"
tls_key = \"certificates/server.key\"
client_ca = \"certificates/ca.pem\"
[mqtt]
listen = \"127.0.0.1:0\"
[[sink]]
name = \"archive\"
type = \"archive\"
[[link]]
name = \"lte\"
metered = \"yes\"
bytes_per_day = \"1MiB\"
bytes_per_month = \"20MiB\"
[[rule]]
name = \"hot\"
when = \"temperature > 110\"
alert = \"critical\"
[[file]]
path = \"IN/*.log\"
topic = \"devices/{file}\"
[[bridge]]
name = \"cloud\"
url = \"mqtt://127.0.0.1:9\"
topics = [\"commands/# in 1\"]
commands = [\"commands/#\"]
";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Leaves a store whose link was counted yesterday as well: a link that is counted since midnight has no forecast in the day's first hour.
fn count_yesterday(folder: &Path, config: &str) {
    assert!(Gateway::start_configured(folder, config, &[], &[]).stop().success());
    let yesterday = outrider::gateway::now_ms() / 86_400_000 - 1;
    let days = json!({"known": [{"number": yesterday, "spent": 1_000}], "grants": 3, "since_budget_ms": 0, "since_grant_ms": 0});
    let state = json!({"days": days});
    let store = rusqlite::Connection::open(store_path(&folder.join("state"))).unwrap();
    let counted = "INSERT INTO progress(stream, name, value, acknowledged) VALUES (0, 'link_bytes:lte', 1000, ?1)";
    store.execute(counted, [state.to_string().as_bytes()]).unwrap();
}

/// The metrics of a gateway that has taken readings, good ones and bad ones.
fn metrics(folder: &Path) -> String {
    let certificates = folder.join("certificates");
    expect_success(&["cert", "init", certificates.to_str().unwrap()], "");
    let config = CONFIG.replace("IN", folder.to_str().unwrap());
    count_yesterday(folder, &config);
    std::fs::write(folder.join("a.log"), "{\"value\":1}\n").unwrap();
    let gateway = Gateway::start_configured(folder, &config, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    for value in [20, 21, 120] {
        client.publish("devices/tank-1/temperature", format!("{{\"value\": {value}}}"));
    }
    client.publish("devices/tank-1/temperature", "{");
    wait_until("the rule has found it", || {
        gateway.get("/metrics").1.contains("outrider_rule_matches_total{rule=\"hot\"} 1")
            && gateway.get("/metrics").1.contains("outrider_file_newest_line_seconds{")
    });
    gateway.get("/metrics").1
}

#[derive(Debug, Default, PartialEq)]
struct Family {
    name: String,
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn families(text: &str) -> Vec<Family> {
    let mut found: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            found.push(Family { name: name.to_owned(), help: help.to_owned(), ..Family::default() });
            continue;
        }
        let last = found.last_mut().expect("a family comes first");
        if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            last.kind = kind.to_owned();
        } else if let Some((labels, _)) = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')) {
            // Values have no comma and equals sign here.
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            last.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    found
}

fn page(families: &[Family]) -> String {
    let mut page = "# Metrics\n\n\
        `http://GATEWAY:9464/metrics` has them in Prometheus' text format. Counters that say *over all runs* survive restarts; the others begin with the process, as Prometheus\n\
        expects. Sizes are bytes, times are seconds. This page is written by a test from what a gateway answers.\n\n\
        [config/prometheus/outrider.rules.yml](../config/prometheus/outrider.rules.yml) has alerts on them, [config/grafana/outrider.json](../config/grafana/outrider.json) a dashboard;\n\
        both expect a scrape job named `outrider`:\n\n\
        ```yaml\n\
        scrape_configs:\n  - job_name: outrider\n    static_configs:\n      - targets: [\"truck-0042:9464\"]\n    # With admin.tokens: a token of the role view.\n    # authorization: {credentials_file: /etc/prometheus/outrider.token}\n\
        ```\n\n\
        | metric | type | labels | what it says |\n|---|---|---|---|\n"
        .to_owned();
    for Family { name, kind, help, labels } in families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    page
}

/// Names of our metrics in expressions.
fn named_in(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !is_part(letter));
    words
        .filter(|word| ["outrider_", "process_"].iter().any(|begin| word.starts_with(begin)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_is_written_down_and_every_expression_is_of_metrics_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let families = families(&metrics(folder.path()));
    assert!(families.len() > 80, "{}", families.len());
    let names: BTreeSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names.len(), families.len(), "each is there once");
    assert!(names.contains("outrider_link_bytes_today"));
    let file = root().join("docs/METRICS.md");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, page(&families)).unwrap();
    }
    assert!(
        read("docs/METRICS.md") == page(&families),
        "docs/METRICS.md is not what a gateway says: {WRITE}=1 writes it"
    );
    let mut known: BTreeSet<String> = families.iter().map(|family| family.name.clone()).collect();
    for family in families.iter().filter(|family| family.kind == "histogram") {
        known.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", family.name)));
    }
    for path in ["config/prometheus/outrider.rules.yml", "config/grafana/outrider.json", "tests/prometheus/alerts.yml"]
    {
        let named = named_in(&read(path));
        assert!(named.len() > 10, "{path} is about them");
        assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "{path}");
    }
    let control = named_in("rate(outrider_reading_total[1m]) / process_cpu_seconds_total{a=\"b\"}");
    assert_eq!(control.difference(&known).collect::<Vec<_>>(), ["outrider_reading_total"]);
}
