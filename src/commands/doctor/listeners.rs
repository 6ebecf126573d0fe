//! Where the gateway listens: whether the ports are free or its own, what is open to the network, and whether anybody may do anything.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use serde_json::Value;

use super::gateway::Running;
use super::{Case, Task};
use crate::commands::{port_holder, run};
use crate::core::mqtt::access::Action;
use crate::finding::Finding;

/// A place to listen on.
struct Place {
    /// As the status names it; `None` is the administration interface.
    listener: Option<String>,
    key: String,
    listen: SocketAddr,
    /// Such as "MQTT on 0.0.0.0:8883, encrypted, with passwords, open to the network".
    described: String,
    is_closed: bool,
}

fn places(case: &Case) -> Vec<Place> {
    let configuration = &case.configuration;
    let listeners = configuration.listeners.listeners.iter().zip(&configuration.listeners.policies);
    let mut places: Vec<Place> = listeners
        .map(|(listener, policy)| Place {
            listener: Some(listener.name.clone()),
            key: listener.key.clone(),
            listen: listener.listen,
            described: run::describe(listener.listen, listener, policy),
            is_closed: policy.tls.is_some() && !policy.allows_anonymous,
        })
        .collect();
    if let Some(listen) = configuration.admin.listen {
        let access = &configuration.admin.access;
        places.push(Place {
            listener: None,
            key: "admin.listen".to_owned(),
            listen,
            described: run::describe_page(listen, access),
            is_closed: access.tls.is_some() && !access.is_open(),
        });
    }
    places
}

pub fn tasks(case: &Arc<Case>) -> Vec<Task> {
    let task = |place: Place| {
        let shared = Arc::clone(case);
        let name = place.listener.as_ref().map_or("status page".to_owned(), |name| format!("listener {name}"));
        Task::new(name, move || vec![of_place(&place, &shared.running)])
    };
    places(case).into_iter().map(task).collect()
}

fn of_place(place: &Place, running: &Running) -> Finding {
    let Place { listen, described, .. } = place;
    let found = match running.answers() {
        Some(answers) => of_running(place, &answers.status, answers.pid),
        None if matches!(running, Running::Silent { .. }) => {
            Finding::skipped(format!("{described}: the gateway runs and does not say what it has"))
        }
        None => of_port(place),
    };
    // What is wrong with the port comes first.
    if found.remedy.is_some() || listen.ip().is_loopback() || place.is_closed {
        return found;
    }
    let reach = "whoever reaches the port can connect, or read what others send";
    let remedy = "a [[listener]] with tls_certificate, tls_key and users or client_ca; for the page, tokens in [admin]";
    Finding::warning(format!("{described}: {reach}"), remedy)
}

/// Whether the gateway has the address that the configuration says.
fn of_running(place: &Place, status: &Value, pid: Option<u32>) -> Finding {
    let Place { listener, key, listen, described, .. } = place;
    let has = match listener {
        None => status["admin"]["listen"].as_str(),
        Some(name) => {
            let listeners = status["listeners"].as_array().map(Vec::as_slice).unwrap_or_default();
            listeners.iter().find(|known| known["name"] == name.as_str()).and_then(|known| known["listen"].as_str())
        }
    };
    let Some(has) = has.and_then(|text| text.parse::<SocketAddr>().ok()) else {
        let remedy =
            "restart it, so that it runs with this configuration; or give --config and variables as it has them";
        return Finding::warning(format!("{described}: the running gateway does not listen there"), remedy);
    };
    if listen.port() == 0 {
        return Finding::well(format!("{described}; the gateway has taken {has}"));
    }
    if has != *listen {
        let remedy = "restart it, so that it runs with this configuration";
        return Finding::warning(format!("{key} is {listen}, and the running gateway has {has}"), remedy);
    }
    // Another process may share the port.
    match port_holder::find(*listen) {
        Some(holder) if pid.is_some_and(|pid| pid != holder.pid) => {
            Finding::warning(format!("{described}; {holder} listens there, too"), "stop that")
        }
        _ => Finding::well(described.clone()),
    }
}

/// Whether a gateway that is started could listen there.
fn of_port(Place { key, listen, described, .. }: &Place) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) => Finding::well(format!("{described}; nobody listens there now")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = port_holder::find(*listen).map_or("another process".to_owned(), |holder| holder.to_string());
            let remedy = format!("stop that, or {}", port_holder::another_address(key));
            Finding::bad(format!("{listen} is in use, most likely by {holder}"), remedy)
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            Finding::bad(format!("this machine has no address {}", listen.ip()), format!("correct {key}"))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let remedy = format!("set {key} to a port from 1024 on, or give the gateway CAP_NET_BIND_SERVICE");
            Finding::bad(format!("{listen}: {error}"), remedy)
        }
        Err(error) => Finding::bad(format!("{listen}: {error}"), format!("correct {key}")),
    }
}

/// Whether rights lock out everybody.
pub fn rights(case: &Case) -> Vec<Finding> {
    let listeners = &case.configuration.listeners;
    let mut findings = Vec::new();
    for (listener, policy) in listeners.listeners.iter().zip(&listeners.policies) {
        let may = |action| policy.access.allows_somebody(action);
        let what = match (may(Action::Publish), may(Action::Subscribe)) {
            (true, true) => continue,
            (false, false) => "publish or subscribe to",
            (false, true) => "publish to",
            (true, false) => "subscribe to",
        };
        let found = format!("by the listener {} nobody may {what} anything", listener.name);
        let remedy = "add a [[right]] with what is allowed; the first that matches decides (outrider acl test)";
        findings.push(match what {
            "subscribe to" => Finding::warning(found, remedy),
            _ => Finding::bad(found, remedy),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::well("by each listener somebody may publish, and somebody subscribe"));
    }
    findings
}
