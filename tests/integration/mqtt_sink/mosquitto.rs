//! A real broker, and somebody who is subscribed to everything.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, Options, Publish, frame};
use crate::gateway::wait_until;
use crate::ports::free_port;

pub struct Mosquitto {
    child: Child,
    pub address: SocketAddr,
    folder: PathBuf,
}

impl Mosquitto {
    pub fn start(folder: &Path) -> Mosquitto {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let state = folder.join("mosquitto");
        std::fs::create_dir_all(&state).unwrap();
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nmax_queued_messages 0\n",
            address.port(),
            state.display()
        );
        // Started by root it would give its rights away, and could not write there.
        let config = config + "user root\n";
        std::fs::write(state.join("config"), config).unwrap();
        let child = spawn(&state, address);
        Mosquitto { child, address, folder: state }
    }

    /// Ends it in order, so that it keeps what it has to deliver, and starts it again.
    pub fn restart(&mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
        self.child = spawn(&self.folder, self.address);
    }
}

fn spawn(folder: &Path, address: SocketAddr) -> Child {
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("config")).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap_or_else(|error| panic!("mosquitto is needed; tests/run installs it: {error}"));
    wait_until("mosquitto listens", || std::net::TcpStream::connect(address).is_ok());
    child
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A topic and what was published to it.
type Message = (String, Vec<u8>);

/// Collects what is published below a filter, across restarts of the broker.
pub struct Reader {
    received: Arc<Mutex<Vec<Message>>>,
    is_done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Reader {
    pub fn start(address: SocketAddr, filter: &'static str) -> Reader {
        let (received, is_done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (there, done) = (Arc::clone(&received), Arc::clone(&is_done));
        let options = Options { client_id: "reader", clean: false, keep_alive_s: 0, will: None };
        let (mut client, _) = Client::connect_with(address, &options);
        assert_eq!(client.subscribe(&[(filter, 1)]), [1]);
        let thread = std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                match client.packet() {
                    Ok(packet) => {
                        let publish = Publish::of(&packet);
                        let acknowledged = client.stream.write_all(&frame(0x40, &publish.packet_id.to_be_bytes()));
                        // What is not acknowledged comes again.
                        drop(acknowledged);
                        there.lock().unwrap().push((publish.topic, publish.payload));
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => {
                        if let Ok(stream) = std::net::TcpStream::connect(address)
                            && let Ok((again, _)) = Client::try_over(stream, &options)
                        {
                            client = again;
                        }
                    }
                }
            }
        });
        Reader { received, is_done, thread: Some(thread) }
    }

    pub fn received(&self) -> Vec<Message> {
        self.received.lock().unwrap().clone()
    }

    pub fn records(&self) -> Vec<Value> {
        let received = self.received.lock().unwrap();
        let lines = received.iter().flat_map(|(_, payload)| payload.split_inclusive(|byte| *byte == b'\n'));
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A test that has failed says so by itself.
            let _ = thread.join();
        }
    }
}
