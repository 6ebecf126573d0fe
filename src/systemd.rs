//! Tells systemd how the process is doing, by datagrams as sd_notify(3) describes them: ready, reloading, stopping, a line for `systemctl
//! status`, and that the watchdog need not act.
//!
//! Without `NOTIFY_SOCKET` nothing is done. Whatever goes wrong is ignored: a gateway that cannot report goes on.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// The watchdog is fed this many times within the time that it waits: a single late one does not end the process.
const FEEDINGS: u32 = 3;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<Supervisor>>);

#[derive(Debug)]
struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says, which systemd sets for a unit with `Type=notify`.
    pub fn from_environment() -> Notifier {
        Notifier::from_variables(|name| std::env::var_os(name), std::process::id())
    }

    /// The same with other variables, in a process with this id.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Notifier {
        let Some(address) = variable("NOTIFY_SOCKET") else {
            return Notifier::default();
        };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // The variables may be inherited from a process that they were meant for.
        let is_for_us = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|&us| us > 0 && is_for_us).map(Duration::from_micros);
        match open(address.as_bytes()) {
            Ok((socket, address)) => Notifier(Some(Arc::new(Supervisor { socket, address, watchdog }))),
            Err(error) => {
                tracing::warn!(%error, "systemd cannot be told how the gateway is doing: NOTIFY_SOCKET cannot be used");
                Notifier::default()
            }
        }
    }

    /// How often [`Notifier::is_well`] has to be called; `None` if nobody waits for it.
    pub fn feed_every(&self) -> Option<Duration> {
        self.0.as_ref()?.watchdog.map(|time| time / FEEDINGS)
    }

    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Until [`Notifier::ready`].
    pub fn reloading(&self) {
        let time = crate::clock::monotonic_us();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={time}"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// For people, one line.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={text}"));
    }

    /// Feeds the watchdog.
    pub fn is_well(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        if let Some(Supervisor { socket, address, .. }) = self.0.as_deref() {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// The address is a path, or a name in the abstract namespace behind an @.
fn open(address: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    // The gateway must not wait for a supervisor that does not read.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        let given = |name: &str| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(value))
        };
        Notifier::from_variables(given, 42)
    }

    #[test]
    fn without_a_socket_nobody_is_told() {
        let notifier = notifier(&[("WATCHDOG_USEC", "3000000")]);
        assert!(notifier.0.is_none() && notifier.feed_every().is_none());
        notifier.ready();
    }

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notify");
        let path = path.to_str().expect("a text");
        let name = format!("outrider-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("an address");
        let sockets = [
            (path.to_owned(), UnixDatagram::bind(path).expect("a socket")),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address).expect("a socket")),
        ];
        for (address, socket) in sockets {
            let notifier = notifier(&[("NOTIFY_SOCKET", &address)]);
            notifier.ready();
            notifier.reloading();
            let mut text = [0; 100];
            let length = socket.recv(&mut text).expect("a message");
            assert_eq!(&text[..length], b"READY=1", "{address}");
            let length = socket.recv(&mut text).expect("a message");
            let text = std::str::from_utf8(&text[..length]).expect("a text");
            let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::parse::<u64>);
            assert!(matches!(time, Some(Ok(1..))), "{text}");
        }
    }

    #[test]
    fn the_watchdog_is_fed_if_it_waits_for_this_process() {
        let fed =
            |variables: &[(&str, &str)]| notifier(&[&[("NOTIFY_SOCKET", "@nobody")], variables].concat()).feed_every();
        assert_eq!(fed(&[]), None);
        assert_eq!(fed(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(10)));
        assert_eq!(fed(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "42")]), Some(Duration::from_secs(10)));
        assert_eq!(fed(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "41")]), None);
        assert_eq!(fed(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(fed(&[("WATCHDOG_USEC", "soon")]), None);
    }
}
