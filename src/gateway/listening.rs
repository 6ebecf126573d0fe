//! The sockets of a gateway.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use super::{GatewayError, GatewaySettings};
use crate::admin;
use crate::admin::control::{self, ControlSocket};
use crate::admin::status::ListenerStatus;
use crate::mqtt::listener::ListenerSettings;

const OWN_ADDRESS: &str = "find out the address that is listened on";

/// The addresses that it listens on.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The first listener's.
    pub mqtt: SocketAddr,
    /// All listeners', in the order of the configuration.
    pub listeners: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

impl Ready {
    pub(super) fn listeners(&self, settings: &[ListenerSettings]) -> Vec<ListenerStatus> {
        let named = settings.iter().zip(&self.listeners);
        named.map(|(listener, listen)| ListenerStatus { name: listener.name.clone(), listen: *listen }).collect()
    }
}

/// The sockets that are listened on, for as long as the process runs.
pub(super) struct Listeners {
    mqtt: Vec<std::net::TcpListener>,
    admin: Option<std::net::TcpListener>,
    pub(super) ready: Ready,
}

/// The same sockets, for one run of what listens on them.
pub(super) struct Sockets {
    pub(super) mqtt: Vec<TcpListener>,
    pub(super) admin: Option<std::net::TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(settings: &GatewaySettings) -> Result<Listeners, GatewayError> {
        let mut mqtt = Vec::new();
        for ListenerSettings { key, listen: address, .. } in &settings.listeners {
            let (key, address) = (key.clone(), *address);
            let failed = |source| GatewayError::Listen { what: "MQTT", key, address, source };
            mqtt.push(TcpListener::bind(address).await.and_then(TcpListener::into_std).map_err(failed)?);
        }
        let admin = settings.admin_listen.map(bind_admin).transpose()?;
        let own_address = || -> std::io::Result<Ready> {
            let admin = admin.as_ref().map(|listener| listener.local_addr()).transpose()?;
            let listeners = mqtt.iter().map(|listener| listener.local_addr()).collect::<Result<Vec<_>, _>>()?;
            Ok(Ready { mqtt: *listeners.first().expect("there is a listener"), listeners, admin })
        };
        let ready = own_address().map_err(GatewayError::system(OWN_ADDRESS))?;
        Ok(Listeners { mqtt, admin, ready })
    }

    /// For a run of the gateway. The addresses stay taken after it.
    pub(super) fn sockets(&self) -> Result<Sockets, GatewayError> {
        let again = |listener: &std::net::TcpListener| listener.try_clone().and_then(TcpListener::from_std);
        let sockets = || -> std::io::Result<Sockets> {
            let mqtt = self.mqtt.iter().map(again).collect::<Result<Vec<_>, _>>()?;
            let admin = self.admin.as_ref().map(|listener| listener.try_clone()).transpose()?;
            Ok(Sockets { mqtt, admin })
        };
        sockets().map_err(GatewayError::system("listen"))
    }
}

fn bind_admin(address: SocketAddr) -> Result<std::net::TcpListener, GatewayError> {
    let key = "admin.listen".to_owned();
    admin::bind(address).map_err(|source| GatewayError::Listen { what: "the status page", key, address, source })
}

/// If this fails, the gateway runs all the same: readings from devices matter more.
pub(super) fn bind_control(folder: &Path) -> Option<ControlSocket> {
    match ControlSocket::bind(folder) {
        Ok(socket) => Some(socket),
        Err(error) => {
            let path = control::socket_path(folder);
            tracing::warn!(%error, "no control socket {}: series, alerts and sinks cannot be managed", path.display());
            None
        }
    }
}
