//! A way to a service on which somebody else than the gateway counts the bytes, and that can be closed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Passes on connections, and counts their bytes both ways.
pub struct Meter {
    pub address: SocketAddr,
    bytes: Arc<AtomicU64>,
    is_open: Arc<AtomicBool>,
}

impl Meter {
    /// It ends with the process.
    pub fn start(to: SocketAddr) -> Meter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let meter = Meter { address, bytes: Arc::default(), is_open: Arc::new(AtomicBool::new(true)) };
        let (bytes, is_open) = (Arc::clone(&meter.bytes), Arc::clone(&meter.is_open));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let bytes = Arc::clone(&bytes);
                    std::thread::spawn(move || pass_on(from, to, &bytes));
                }
            }
        });
        meter
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Whether further connections are passed on; otherwise they are closed at once.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::SeqCst);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, bytes: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        bytes.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
