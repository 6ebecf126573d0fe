//! `outrider run`: runs the gateway until a signal ends it.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::configuration::{ConfigArguments, absolute, no_file};
use super::logging::LogArguments;
use super::{Exit, port_holder};
use crate::admin::access::Access;
use crate::config::Configuration;
use crate::config::listeners::ListenersConfiguration;
use crate::errors::with_causes;
use crate::gateway::{self, Concern, ConfigurationSource, GatewayError, GatewaySettings, LoadError, Loaded, Ready};
use crate::keys::problem::Problems;
use crate::mqtt;
use crate::mqtt::listener::{ListenerSettings, Policy};
use crate::program_pages;
use crate::sinks::kind::SinkSettings;
use crate::sinks::status::Link;
use crate::store::lock::LockError;
use crate::store::schema::OpenError;
use crate::systemd::Notifier;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RunArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    logs: LogArguments,
}

/// After this time the start of a gateway is over.
const START: Duration = Duration::from_secs(3);

const HELP: &str = "\
Every key of the configuration can be given as a variable, too:
  OUTRIDER__STORE__SIZE_MAX=1GiB outrider run

When it is ready it prints one line on standard output:
  {\"event\":\"ready\",\"mqtt\":\"IP:PORT\",\"listeners\":[\"IP:PORT\"],\"admin\":\"IP:PORT\"}
SIGTERM or SIGINT shuts it down cleanly, a second one ends it at once. What was
acknowledged is stored in either case. SIGHUP loads rules, certificates, users,
rights and tokens again, as does a change of their files.

Exit codes:
   0  shut down cleanly
   1  could not run, or could not go on
   2  usage
  75  another process has the state folder
  78  the configuration is wrong, or the store is of a newer version or of another program";

pub fn command(arguments: &RunArguments) -> ExitCode {
    arguments.logs.start();
    let configuration = match arguments.config.load() {
        Ok(configuration) => configuration,
        Err(problems) => {
            arguments.logs.report(&problems);
            return Exit::Configuration.into();
        }
    };
    log_start(&configuration);
    let source = source(arguments.config.clone(), configuration.clone());
    let look = format!("look at the state folder {}", configuration.store.folder.display());
    let settings = configuration.settings().map(|settings| GatewaySettings {
        source: Some(source),
        notifier: Notifier::from_environment(),
        ..settings
    });
    let result = settings.map_err(GatewayError::system(look)).and_then(run);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", explained(&error));
            exit_of(&error).into()
        }
    }
}

/// It is loaded again as it was at the start, with the same file, variables and arguments.
fn source(arguments: ConfigArguments, started_with: Configuration) -> ConfigurationSource {
    let files = watched(&started_with);
    let load = move || {
        let configuration = arguments
            .load()
            .map_err(|problems| LoadError { text: problems.in_one_line(), concern: concern(&problems) })?;
        let (needs_restart, watched) = (started_with.differences(&configuration), watched(&configuration));
        let ListenersConfiguration { listeners, policies, .. } = configuration.listeners;
        let policies = listeners.into_iter().zip(policies).collect();
        let admin = (configuration.admin.listen, configuration.admin.access);
        let book = Arc::into_inner(configuration.rules.book).expect("nobody else has what was just loaded");
        Ok(Loaded { book: Box::new(book), policies, admin, watched, needs_restart })
    };
    ConfigurationSource { load: Arc::new(load), watched: files }
}

fn watched(configuration: &Configuration) -> Vec<PathBuf> {
    [configuration.rules.watched.as_slice(), &configuration.listeners.watched, &configuration.admin.watched].concat()
}

fn concern(problems: &Problems) -> Concern {
    let is_of = |names: &[&str]| problems.sections().any(|section| names.contains(&section));
    match (is_of(&["listener", "right"]), is_of(&["admin"])) {
        (true, _) => Concern::Listeners,
        (false, true) => Concern::Admin,
        (false, false) => Concern::Rules,
    }
}

fn log_start(configuration: &Configuration) {
    let file = match &configuration.file {
        Some(file) => format!("configuration from {}", file.display()),
        None => format!("configuration: {}", no_file()),
    };
    let variables = match configuration.variables.as_slice() {
        [] => String::new(),
        variables => format!(", and from {}", variables.join(", ")),
    };
    let folder = absolute(&configuration.store.folder);
    let folder = folder.display();
    tracing::info!("outrider {}, {file}{variables}; state in {folder}", env!("CARGO_PKG_VERSION"));
    if !configuration.has_archive() {
        tracing::info!("{}", SinkSettings::NO_ARCHIVE);
    }
}

pub(super) fn exit_of(error: &GatewayError) -> Exit {
    match error {
        GatewayError::Locked(LockError::Taken { .. }) => Exit::Temporary,
        // Starting again would not help: the folder belongs to a newer version or another program, or the wrong folder is configured.
        GatewayError::Store(OpenError::Newer { .. } | OpenError::NotAStore { .. }) => Exit::Configuration,
        _ => Exit::RunTime,
    }
}

/// The error, with a hint how to fix it.
fn explained(error: &GatewayError) -> String {
    match error {
        GatewayError::Listen { key, .. } => {
            format!("{}; stop that, or {}", with_holder(error), port_holder::another_address(key))
        }
        _ => with_causes(error),
    }
}

/// For a port in use: by which process.
pub(super) fn with_holder(error: &GatewayError) -> String {
    match error {
        GatewayError::Listen { what, address, source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            let holder = port_holder::find(*address).map_or("another process".to_owned(), |holder| holder.to_string());
            format!("cannot listen for {what} on {address}: the port is in use, most likely by {holder}")
        }
        _ => with_causes(error),
    }
}

/// Runs the gateway on this thread. A second signal ends the process at once.
pub fn run(settings: GatewaySettings) -> Result<(), GatewayError> {
    let runtime = mqtt::runtime().map_err(GatewayError::system("wait for sockets and timers"))?;
    runtime.block_on(async {
        let stop = first_signal().map_err(GatewayError::system("catch SIGTERM and SIGINT"))?;
        let (listeners, policies) = (settings.listeners.clone(), settings.policies.all());
        let (access, notifier) = (settings.admin_access.get(), settings.notifier.clone());
        let on_ready = |ready: Ready| {
            log_ready(&ready, &listeners, &policies, &access);
            print_ready(&ready);
            notifier.ready();
            tokio::spawn(give_back_start());
        };
        gateway::run(settings, watch::Sender::new(Link::Up), on_ready, stop).await
    })
}

/// By then the sinks, too, have begun.
async fn give_back_start() {
    tokio::time::sleep(START).await;
    program_pages::give_back();
}

/// Prints one line on standard output, for the program that started us; people read the log.
fn print_ready(ready: &Ready) {
    let quoted = |address: &SocketAddr| format!("\"{address}\"");
    let admin = ready.admin.as_ref().map_or("null".to_owned(), quoted);
    let listeners: Vec<String> = ready.listeners.iter().map(quoted).collect();
    let listeners = listeners.join(",");
    let line = format!(
        "{{\"event\":\"ready\",\"mqtt\":{},\"listeners\":[{listeners}],\"admin\":{admin}}}\n",
        quoted(&ready.mqtt)
    );
    // If nobody reads it, the gateway runs all the same.
    let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
}

fn log_ready(ready: &Ready, listeners: &[ListenerSettings], policies: &[Arc<Policy>], access: &Access) {
    for ((address, listener), policy) in ready.listeners.iter().zip(listeners).zip(policies) {
        log_listener(*address, listener, policy);
    }
    match ready.admin {
        Some(admin) => log_page(admin, access),
        None => tracing::info!("no status page: admin.listen is off"),
    }
}

fn log_page(address: SocketAddr, access: &Access) {
    let described = describe_page(address, access);
    let is_closed = access.tls.is_some() && !access.is_open();
    match address.ip().is_loopback() || is_closed {
        true => tracing::info!("status page on {described}"),
        false => {
            tracing::warn!("status page on {described}: whoever reaches the port can look, or read what others send")
        }
    }
}

/// Such as "https://0.0.0.0:9464/, with tokens, open to the network".
pub(super) fn describe_page(address: SocketAddr, access: &Access) -> String {
    let scheme = if access.tls.is_some() { "https" } else { "http" };
    let whom = match (access.tokens.is_some(), access.asks_for_certificates()) {
        (true, true) => ", with tokens or certificates",
        (true, false) => ", with tokens",
        (false, true) => ", with certificates",
        (false, false) if address.ip().is_loopback() => "",
        (false, false) => ", without a password",
    };
    let reach = if address.ip().is_loopback() { "" } else { ", open to the network" };
    format!("{scheme}://{address}/{whom}{reach}")
}

fn log_listener(address: SocketAddr, listener: &ListenerSettings, policy: &Policy) {
    let described = describe(address, listener, policy);
    let is_closed = policy.tls.is_some() && !policy.allows_anonymous;
    if address.ip().is_loopback() {
        let port = address.port();
        match is_closed {
            true => tracing::info!("listening for {described}; listen = \"0.0.0.0:{port}\" opens it to the network"),
            false => tracing::info!(
                "listening for {described}; a [[listener]] with certificates and users opens it to the network, --listen \
                 0.0.0.0:{port} --insecure to whoever reaches the port"
            ),
        }
    } else if is_closed {
        tracing::info!("listening for {described}");
    } else {
        tracing::warn!("listening for {described}: whoever reaches the port can connect, or read what others send");
    }
}

/// Such as "MQTT on 0.0.0.0:8883, encrypted, with passwords, open to the network".
pub(super) fn describe(address: SocketAddr, listener: &ListenerSettings, policy: &Policy) -> String {
    let over = if listener.is_websocket { "MQTT over WebSocket" } else { "MQTT" };
    let encrypted = if policy.tls.is_some() { "encrypted" } else { "unencrypted" };
    let asks_for_certificates = policy.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates());
    let whom = match (asks_for_certificates, policy.users.is_some(), policy.allows_anonymous) {
        (true, false, _) => "with certificates",
        (true, true, _) => "with certificates and, if they are sent, passwords",
        (false, _, false) => "with passwords",
        (false, true, true) => "with or without a password",
        (false, false, true) => "without a password",
    };
    let reach = if address.ip().is_loopback() { "for this machine only" } else { "open to the network" };
    format!("{over} on {address}, {encrypted}, {whom}, {reach}")
}

/// Ready at the first SIGTERM or SIGINT; a second one exits the process.
pub fn first_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::task::spawn_local(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("second signal: exiting at once; what was acknowledged is stored");
            std::process::exit(1);
        });
    })
}
