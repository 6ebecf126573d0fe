//! `outrider run`: the gateway until a signal ends it.

use std::future::Future;
use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::forward::status::Link;
use crate::gateway::{self, GatewayError, GatewaySettings, Ready};

/// Runs the gateway on this thread. A second signal ends the process at once.
pub fn run(settings: GatewaySettings) -> Result<(), GatewayError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GatewayError::System)?;
    runtime.block_on(async {
        let stop = first_signal().map_err(GatewayError::System)?;
        gateway::run(settings, watch::Sender::new(Link::Up), print_ready, stop).await
    })
}

/// One line on standard output, for whoever started us; people read the log.
fn print_ready(ready: Ready) {
    let admin = ready.admin.map_or("null".to_owned(), |admin| format!("\"{admin}\""));
    let line = format!("{{\"event\":\"ready\",\"mqtt\":\"{}\",\"admin\":{admin}}}\n", ready.mqtt);
    // Nobody listens on the other end: no reason not to run.
    let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
    tracing::info!(mqtt = %ready.mqtt, admin = ready.admin.map(|a| a.to_string()), "ready");
}

/// Ready at the first SIGTERM or SIGINT; the one after it exits.
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
