//! Whether the broker takes a publish and passes it on: a client of another maker connects to each listener, as devices do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::echo::{self, Answer, Connecting, Refused};
use super::{Case, Login, Task};
use crate::finding::Finding;
use crate::mqtt::listener::{ListenerSettings, Policy};
use crate::tls;

/// A publish is acknowledged within a second, whatever `store.commit_delay_max` says.
const SLOW_FROM: Duration = Duration::from_secs(3);

pub fn tasks(case: &Arc<Case>) -> Vec<Task> {
    let Some(answers) = case.running.answers() else {
        return vec![Task::new("broker", || vec![Finding::skipped("the gateway does not answer")])];
    };
    let addresses = answers.status["listeners"].as_array().cloned().unwrap_or_default();
    let address = |name: &str| {
        let known = addresses.iter().find(|known| known["name"] == name)?;
        known["listen"].as_str()?.parse::<SocketAddr>().ok()
    };
    let listeners = case.configuration.listeners.listeners.iter().zip(&case.configuration.listeners.policies);
    let task = |(listener, policy): (&ListenerSettings, &Arc<Policy>)| {
        let name = format!("broker by {}", listener.name);
        let Some(address) = address(&listener.name) else {
            return Task::new(name, || vec![Finding::skipped("the running gateway has no such listener")]);
        };
        let (is_websocket, policy, login) = (listener.is_websocket, Arc::clone(policy), case.login.clone());
        Task::new(name, move || vec![look(here(address), is_websocket, &policy, &login)])
    };
    listeners.map(task).collect()
}

/// An address that reaches it from this machine.
fn here(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn look(address: SocketAddr, is_websocket: bool, policy: &Policy, login: &Login) -> Finding {
    if is_websocket {
        return Finding::skipped("clients by WebSocket are not tried: look at it with one");
    }
    match connecting(address, policy, login) {
        Ok(connecting) => match echo::echo(connecting) {
            Ok(answer) => of_answer(&answer),
            Err(problem) => {
                let remedy = "look at the gateway's log; and at the login, if one was given";
                Finding::bad(format!("{address}: {problem}"), remedy)
            }
        },
        Err(finding) => finding,
    }
}

/// How to connect; or why that cannot be tried.
fn connecting(address: SocketAddr, policy: &Policy, login: &Login) -> Result<Connecting, Finding> {
    let asks_for_certificates = policy.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates());
    if asks_for_certificates && login.certificate.is_none() {
        return Err(Finding::skipped("it asks for a certificate: give --certificate and --key to try it"));
    }
    let needs_login = !policy.allows_anonymous && !asks_for_certificates;
    if needs_login && login.username.is_none() {
        return Err(Finding::skipped("it asks for a login: give --username and --password-file to try it"));
    }
    let wrong = |text: String| Finding::bad(text, "correct the files that are given");
    let credentials = match &login.username {
        Some(username) if policy.users.is_some() => {
            let password = login.password_file.as_deref().map_or(Ok(String::new()), password).map_err(wrong)?;
            Some((username.clone(), password))
        }
        _ => None,
    };
    let tls = match &policy.tls {
        None => None,
        Some(tls) => {
            let identity = login.certificate.as_deref().zip(login.key.as_deref()).filter(|_| asks_for_certificates);
            let config = tls::pinned_client_config(tls.certificate.clone(), identity, login.ca.as_deref());
            let config = config.map_err(|problem| wrong(problem.to_string()))?;
            let name = tls::name_of(&tls.certificate).unwrap_or_else(|| address.ip().into());
            Some((Arc::new(config), name))
        }
    };
    Ok(Connecting { address, tls, credentials })
}

/// The first line of a file.
fn password(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn of_answer(answer: &Answer) -> Finding {
    let Answer { acknowledged, returned, refused } = answer;
    let ms = |time: &Duration| format!("{} ms", time.as_millis());
    let mut found = format!("a publish was acknowledged after {}", ms(acknowledged));
    match (returned, refused) {
        (Some(returned), _) => found += &format!(", and came back after {}", ms(returned)),
        (None, Some(Refused::Publish)) => {
            found = format!("it lets this client in, which has no right to publish to {}", echo::TOPICS)
        }
        (None, Some(Refused::Subscribe)) => {
            found += &format!("; this client has no right to subscribe to {}", echo::TOPICS)
        }
        (None, None) => {}
    }
    match *acknowledged > SLOW_FROM {
        true => Finding::warning(found, "the disk is slow: look at commit_ms_max in `outrider status --json`"),
        false => Finding::well(found),
    }
}
