//! An HTTP proxy that forwards all connections to one place and records the requests. Tunnels (`CONNECT`) are opened or refused.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    opens_tunnels: Arc<AtomicBool>,
}

impl Proxy {
    /// Forwards to `to`, whatever host is asked for. It ends with the process.
    pub fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            opens_tunnels: Arc::new(AtomicBool::new(true)),
        };
        let (asked, opens_tunnels) = (Arc::clone(&proxy.asked), Arc::clone(&proxy.opens_tunnels));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (asked, opens_tunnels) = (Arc::clone(&asked), Arc::clone(&opens_tunnels));
                // Whoever disconnects meanwhile has nothing forwarded.
                std::thread::spawn(move || serve(client?, to, &asked, &opens_tunnels));
            }
        });
        proxy
    }

    /// For values of environment variables.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn open_tunnels(&self, opens: bool) {
        self.opens_tunnels.store(opens, Ordering::SeqCst);
    }

    /// The first line of each connection.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut client: TcpStream,
    to: SocketAddr,
    asked: &Mutex<Vec<String>>,
    opens_tunnels: &AtomicBool,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let is_tunnel = line.starts_with("CONNECT ");
    asked.lock().unwrap().push(line);
    if is_tunnel && !opens_tunnels.load(Ordering::SeqCst) {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let mut server = TcpStream::connect(to)?;
    match is_tunnel {
        true => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?,
        false => server.write_all(&head)?,
    }
    let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || pass_on(from_server, to_client));
    pass_on(client, server);
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    // Ends with either side.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
