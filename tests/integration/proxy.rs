//! An HTTP proxy that forwards all connections to one place and records the requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Forwards to `to`, whatever host is asked for. It ends with the process.
    pub fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                pass_on(client.try_clone().unwrap(), server.try_clone().unwrap(), Some(Arc::clone(&notes)));
                pass_on(server, client, None);
            }
        });
        Proxy { address, asked }
    }

    /// The first lines of the requests.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, notes: Option<Arc<Mutex<Vec<String>>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        let mut is_first = true;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if let Some(notes) = notes.as_ref().filter(|_| is_first) {
                let line = String::from_utf8_lossy(&buffer[..read]).lines().next().unwrap_or_default().to_owned();
                notes.lock().unwrap().push(line);
            }
            is_first = false;
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
