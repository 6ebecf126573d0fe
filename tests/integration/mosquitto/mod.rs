//! Mosquitto, a broker that others wrote, and its clients. `tests/setup.d/mqtt-clients` installs them.

mod listening;
mod reader;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::gateway::wait_until;
use crate::ports::free_port;

pub use listening::Listening;
pub use reader::Reader;

/// A Mosquitto that keeps what it has on disk.
pub struct Mosquitto {
    child: Child,
    pub address: SocketAddr,
    folder: PathBuf,
}

impl Mosquitto {
    /// One that keeps everything for its clients.
    pub fn start(folder: &Path) -> Mosquitto {
        Mosquitto::start_at(folder, free_port(), "max_queued_messages 0")
    }

    /// At this port, with more lines of configuration.
    pub fn start_at(folder: &Path, port: u16, more: &str) -> Mosquitto {
        let data = folder.join("mosquitto");
        std::fs::create_dir_all(&data).unwrap();
        // Started by root it would give its rights away, and could not write there.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {}/\nautosave_interval 1\n{more}\n",
            data.display()
        );
        std::fs::write(folder.join("mosquitto.conf"), config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Mosquitto { child: spawn(folder, address), address, folder: folder.to_owned() }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// One of its clients, connected to it by MQTT 5, at QoS 1.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let port = self.port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1"]).args(arguments);
        command
    }

    pub fn publish(&self, topic: &str, payload: &str, more: &[&str]) {
        let with = if payload.is_empty() { vec!["-n"] } else { vec!["-m", payload] };
        let output = self.command("mosquitto_pub", &[&["-t", topic][..], &with, more].concat()).output().unwrap();
        assert!(output.status.success(), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn subscribe(&self, filter: &str) -> Listening {
        Listening::start(self.command("mosquitto_sub", &["-t", filter]))
    }

    /// Ends it in order, so that it keeps what it has to deliver.
    pub fn stop(mut self) {
        self.end();
    }

    /// The same, and starts it again.
    pub fn restart(&mut self) {
        self.end();
        self.child = spawn(&self.folder, self.address);
    }

    fn end(&mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

fn spawn(folder: &Path, address: SocketAddr) -> Child {
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let log = std::fs::File::options().create(true).append(true).open(folder.join("mosquitto.log")).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("mosquitto.conf")).arg("-v").stdout(Stdio::null()).stderr(log);
    let child = command.spawn().unwrap_or_else(|error| panic!("mosquitto is needed; tests/run installs it: {error}"));
    wait_until("mosquitto listens", || TcpStream::connect(address).is_ok());
    child
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
