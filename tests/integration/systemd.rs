//! What systemd is told: datagrams to the socket that it names.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread::spawn;
use std::time::{Duration, Instant};

use outrider::heartbeat::STALLED_AFTER;
use outrider::sinks::status::Link;
use outrider::systemd::Notifier;

use crate::client::Client;
use crate::gateway::{DEADLINE, Gateway, get, run_command};
use crate::in_process::InProcess;

/// In systemd's place.
struct Supervisor {
    socket: UnixDatagram,
    address: String,
}

impl Supervisor {
    fn new(folder: &Path) -> Supervisor {
        let address = folder.join("notify");
        let socket = UnixDatagram::bind(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Supervisor { socket, address: address.to_str().unwrap().to_owned() }
    }

    /// The next message; `None` if none comes for a moment.
    fn next(&self) -> Option<String> {
        let mut text = [0; 512];
        let length = self.socket.recv(&mut text).ok()?;
        Some(String::from_utf8(text[..length].to_vec()).unwrap())
    }

    /// Waits until a message says this, and returns what came until then.
    fn wait_for(&self, said: &str) -> Vec<String> {
        let (started, mut heard) = (Instant::now(), Vec::new());
        while !heard.last().is_some_and(|last: &String| last.contains(said)) {
            assert!(started.elapsed() < DEADLINE, "{said} does not come, only {heard:?}");
            heard.extend(self.next());
        }
        heard
    }

    /// How often the watchdog was fed within this time.
    fn feedings_within(&self, time: Duration) -> usize {
        let started = Instant::now();
        let messages = std::iter::from_fn(|| (started.elapsed() < time).then(|| self.next()));
        messages.flatten().filter(|message| message == FED).count()
    }

    /// Of the gateway on a thread of this process, with a watchdog that waits for three seconds.
    fn notifier(&self) -> Notifier {
        Notifier::from_variables(
            |name| match name {
                "NOTIFY_SOCKET" => Some(self.address.clone().into()),
                "WATCHDOG_USEC" => Some("3000000".into()),
                _ => None,
            },
            std::process::id(),
        )
    }
}

const FED: &str = "WATCHDOG=1";

fn signal(gateway: &Gateway, name: &str) {
    let pid = gateway.pid().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[test]
fn it_is_told_of_readiness_reloads_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let variables = [("NOTIFY_SOCKET", supervisor.address.as_str()), ("WATCHDOG_USEC", "3000000")];
    let gateway = Gateway::spawn(folder.path(), run_command(folder.path(), "", &[], &variables));
    supervisor.wait_for("READY=1");
    supervisor.wait_for(FED);
    supervisor.wait_for(FED);
    signal(&gateway, "-HUP");
    supervisor.wait_for("RELOADING=1\nMONOTONIC_USEC=");
    supervisor.wait_for("READY=1");
    assert!(gateway.stop().success());
    let heard = supervisor.wait_for("STOPPING=1");
    assert!(!heard.iter().any(|message| message == "READY=1"), "{heard:?}");
}

/// As long as a cloud that answers nothing, and one that cannot be reached, are no reason to end the process.
#[test]
fn the_watchdog_is_fed_while_the_link_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    // Connections are accepted by the system and never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[[sink]]\nname = \"silent\"\ntype = \"http\"\nurl = \"http://{}/\"\n[[sink]]\nname = \"gone\"\ntype = \"http\"\nurl = \
         \"http://127.0.0.1:1/\"\n",
        silent.local_addr().unwrap()
    );
    let variables = [("NOTIFY_SOCKET", supervisor.address.as_str()), ("WATCHDOG_USEC", "3000000")];
    let gateway = Gateway::spawn(folder.path(), run_command(folder.path(), &config, &[], &variables));
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("devices/device/t", b"{\"value\": 1.0}");
    let (accepted, _) = silent.accept().unwrap();
    let feedings = supervisor.feedings_within(2 * STALLED_AFTER);
    assert!(feedings >= 5, "fed {feedings} times");
    client.publish("devices/device/t", b"{\"value\": 2.0}");
    drop(accepted);
    gateway.kill();
}

/// A sink checks the link whenever it has something to do, so a test that holds the link blocks it. The control is the time before and after.
#[test]
fn the_watchdog_starves_while_a_thread_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let notifier = supervisor.notifier();
    let gateway = InProcess::start_with_link(folder.path(), Link::Up, |settings| settings.notifier = notifier);
    supervisor.wait_for(FED);
    let link = gateway.link.clone();
    let ((release, released), (hold, is_held)) = (mpsc::channel::<()>(), mpsc::channel());
    let blocking = spawn(move || {
        link.send_modify(|_| {
            hold.send(()).unwrap();
            assert!(released.recv().is_err(), "dropped");
        });
    });
    is_held.recv().unwrap();
    Client::connect(gateway.mqtt, "device").publish("devices/device/t", b"{\"value\": 1.0}");
    supervisor.wait_for("STATUS=the sink-archive thread is stalled");
    assert_eq!(supervisor.feedings_within(STALLED_AFTER), 0, "nothing is delivered any more");
    assert_eq!(get(gateway.admin, "/healthz").0, 503, "the same verdict");
    drop(release);
    blocking.join().unwrap();
    supervisor.wait_for("STATUS=readings are taken and stored");
    supervisor.wait_for(FED);
    gateway.stop();
}
