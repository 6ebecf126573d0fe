//! The gateway of the demonstration: the real one, on a thread of its own, with a link that can be cut.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::config::host::Host;
use crate::config::{Argument, Configuration, Sources};
use crate::gateway::{self, GatewayError, GatewaySettings, Ready};
use crate::mqtt;
use crate::sinks::archive::sink::ArchiveSink;
use crate::sinks::status::Link;

/// The usual port of the administration interface, used if it is free.
const ADMIN_PORT: u16 = 9464;

/// How the gateway of a demonstration differs from others.
#[derive(Clone, Copy, Debug)]
pub struct StageSettings {
    pub port: u16,
    /// Whether to use any port if that one is taken.
    pub or_any_port: bool,
    /// How often files are closed: only finished files count as delivered, which the demonstration shows.
    pub rotate_after: Duration,
}

pub struct Stage {
    pub ready: Ready,
    pub link: watch::Sender<Link>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), GatewayError>>,
}

impl Stage {
    pub async fn start(folder: &Path, stage: StageSettings) -> Result<Stage, GatewayError> {
        let mut settings = settings(folder, stage).map_err(GatewayError::system("look at the folder of the demo"))?;
        loop {
            match Stage::start_with(settings.clone()).await {
                Err(GatewayError::Listen { what, key, address, source })
                    if source.kind() == io::ErrorKind::AddrInUse && address.port() != 0 =>
                {
                    if Some(address) == settings.admin_listen {
                        settings.admin_listen = Some(local(0));
                    } else if stage.or_any_port {
                        settings.listeners[0].listen = local(0);
                    } else {
                        return Err(GatewayError::Listen { what, key, address, source });
                    }
                }
                result => return result,
            }
        }
    }

    async fn start_with(settings: GatewaySettings) -> Result<Stage, GatewayError> {
        let link = watch::Sender::new(Link::Up);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let runtime = mqtt::runtime().map_err(GatewayError::system("wait for sockets and timers"))?;
        let gateways_link = link.clone();
        let work = move || {
            let on_ready = |place| {
                let _ = ready.send(place);
            };
            // A sender that is gone also means to stop.
            let stop = async { drop(stopped.await) };
            let result = runtime.block_on(gateway::run(settings, gateways_link, on_ready, stop));
            let _ = end.send(result);
        };
        std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(work)
            .map_err(GatewayError::system("start the thread of the gateway"))?;
        match is_ready.await {
            Ok(ready) => Ok(Stage { ready, link, stop, ended }),
            Err(_) => match ended.await {
                Ok(Err(error)) => Err(error),
                _ => Err(GatewayError::Ended { thread: "gateway" }),
            },
        }
    }

    /// Returns only if the gateway ends by itself, which it should not.
    pub async fn failure(&mut self) -> GatewayError {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            _ => GatewayError::Ended { thread: "gateway" },
        }
    }

    /// Stops it as a signal would: afterwards everything acknowledged is in the archive's files.
    pub async fn end(self) -> Result<(), GatewayError> {
        let _ = self.stop.send(());
        self.ended.await.unwrap_or(Err(GatewayError::Ended { thread: "gateway" }))
    }
}

/// Built-in settings, whatever the machine's own configuration says: a demonstration is the same everywhere.
fn settings(folder: &Path, stage: StageSettings) -> io::Result<GatewaySettings> {
    let argument = |name, section, key, text: String| Argument { name, section, key, text };
    let arguments = vec![
        argument("--state", "store", "path", folder.display().to_string()),
        argument("--port", "mqtt", "listen", local(stage.port).to_string()),
        argument("--admin", "admin", "listen", local(ADMIN_PORT).to_string()),
        argument("--id", "gateway", "id", "demo".to_owned()),
    ];
    let sources = Sources { arguments, ..Sources::default() };
    let configuration = Configuration::parse(Path::new("the demo's own"), "", &sources, &Host::read());
    let mut settings = configuration.expect("the built-in configuration is correct").settings()?;
    // A few megabytes fit on an almost full disk too, and must not be dropped before they are counted.
    settings.capacity.free_bytes_min = 0;
    for sink in &mut settings.sinks {
        ArchiveSink::change(sink, |archive| {
            archive.rotate_after = stage.rotate_after;
            archive.free_percent_min = 0;
        });
    }
    Ok(settings)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over_or_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let taken = std::net::TcpListener::bind(local(0)).expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        let settings = StageSettings { port, or_any_port: false, rotate_after: Duration::from_secs(1) };
        let refused = Stage::start(folder.path(), settings).await.map(|stage| stage.ready);
        assert!(matches!(&refused, Err(GatewayError::Listen { address, .. }) if address.port() == port), "{refused:?}");
        let stage =
            Stage::start(folder.path(), StageSettings { or_any_port: true, ..settings }).await.expect("another one");
        assert_ne!(stage.ready.mqtt.port(), port);
        stage.end().await.expect("a clean end");
    }
}
