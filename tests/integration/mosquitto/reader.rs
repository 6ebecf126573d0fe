//! Somebody who is subscribed, and stays so.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, Options, Publish, frame};

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
