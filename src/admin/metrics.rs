//! The status in Prometheus' text format. The names of all metrics are in this file and its parts, and `docs/METRICS.md` is written from what it writes.

use super::status::Status;
use crate::tls::Expiry;

mod bridges;
mod detection;
mod files;
mod ingest;
mod links;
mod mqtt;
mod process;
mod rules;
mod sinks;
mod store;
mod text;

use text::Text;

pub fn write(status: &Status, certificates: &[(String, Expiry)]) -> String {
    let mut text = Text(String::with_capacity(8192));
    text.family("info", "gauge", "version and identity of this gateway");
    text.sample("info", &[("version", status.version), ("gateway", &status.gateway), ("run", &status.run)], 1.0);
    text.gauge("uptime_seconds", "since the start of the process", status.uptime_s as f64);
    text.family("state", "gauge", "1 for the state that the gateway is in, in one word: running, or what is wrong");
    text.sample("state", &[("state", &status.state)], 1.0);
    text.flag("clock_synced", "1 while the system clock is synchronised", status.clock == "synced");
    ingest::write(&mut text, status);
    store::write(&mut text, status);
    text.histogram("commit_seconds", "how long commits took, since the start", &status.histograms.commit);
    text.histogram(
        "puback_seconds",
        "from reading a publish to writing its PUBACK, since the start",
        &status.histograms.puback,
    );
    sinks::write(&mut text, status);
    links::write(&mut text, status);
    mqtt::write(&mut text, status);
    files::write(&mut text, status);
    bridges::write(&mut text, status);
    text.counter(
        "admin_logins_refused_total",
        "requests to the administration interface with a wrong token, since the start",
        status.admin.logins_refused,
    );
    write_certificates(&mut text, certificates);
    process::write(&mut text, status);
    rules::write(&mut text, status);
    detection::write(&mut text, status);
    text.0
}

fn write_certificates(text: &mut Text, certificates: &[(String, Expiry)]) {
    text.family(
        "certificate_expiry_timestamp_seconds",
        "gauge",
        "when a certificate or revocation list ends, since 1970",
    );
    for (interface, expiry) in certificates {
        let file = expiry.file.display().to_string();
        let labels = [("interface", interface.as_str()), ("file", &file), ("what", &expiry.what)];
        text.sample("certificate_expiry_timestamp_seconds", &labels, (expiry.not_after_ms / 1000) as f64);
    }
}
