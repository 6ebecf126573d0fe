//! A proxy that passes on small requests, and refuses larger ones in different manners.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a request is refused that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// 413 with an HTML page, after the whole request.
    Whole,
    /// 413 with an HTML page after the request's header; then the connection is closed.
    Early,
    /// 413 with an HTML page that never ends.
    Endless,
    /// 503 with an HTML page: it does not say why.
    Unavailable,
}

const PAGE: &str = "<html><h1>413 Request Entity Too Large</h1></html>";

pub struct Narrow {
    pub address: SocketAddr,
    refused: Arc<AtomicU64>,
}

impl Narrow {
    /// Passes on to `to` requests whose body has up to `body_bytes_max` bytes. It ends with the process.
    pub fn start(to: SocketAddr, body_bytes_max: usize, manner: Manner) -> Narrow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&refused);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                let connection = Connection { client, server, body_bytes_max, manner, refused: Arc::clone(&count) };
                std::thread::spawn(move || connection.serve());
            }
        });
        Narrow { address, refused }
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    body_bytes_max: usize,
    manner: Manner,
    refused: Arc<AtomicU64>,
}

impl Connection {
    /// Until one side closes; an error is a side that has closed.
    fn serve(mut self) {
        while let Some((head, length)) = read_head(&mut self.client) {
            if length > self.body_bytes_max {
                self.refused.fetch_add(1, Ordering::Relaxed);
                if !self.refuse(length) {
                    break;
                }
                continue;
            }
            let is_passed_on = self.server.write_all(&head).is_ok() && pass(&mut self.client, &mut self.server, length);
            let Some((head, length)) = read_head(&mut self.server).filter(|_| is_passed_on) else { break };
            if self.client.write_all(&head).is_err() || !pass(&mut self.server, &mut self.client, length) {
                break;
            }
        }
        let _ = self.client.shutdown(Shutdown::Both);
    }

    /// Whether the connection can be used again.
    fn refuse(&mut self, length: usize) -> bool {
        if self.manner != Manner::Early && !pass(&mut self.client, &mut std::io::sink(), length) {
            return false;
        }
        let status = if self.manner == Manner::Unavailable { "503 Service Unavailable" } else { "413 Too Large" };
        let length = match self.manner {
            Manner::Endless => String::new(),
            _ => format!("Content-Length: {}\r\n", PAGE.len()),
        };
        let reply = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{length}\r\n{PAGE}");
        if self.client.write_all(reply.as_bytes()).is_err() {
            return false;
        }
        if self.manner == Manner::Endless {
            // Until the client gives up.
            let _ = self.client.read(&mut [0]);
        }
        matches!(self.manner, Manner::Whole | Manner::Unavailable)
    }
}

/// The head of a message up to its empty line, and the length of its body.
fn read_head(from: &mut TcpStream) -> Option<(Vec<u8>, usize)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some((head, length.unwrap_or(0)))
}

fn pass(from: &mut TcpStream, to: &mut impl Write, length: usize) -> bool {
    std::io::copy(&mut from.take(length as u64), to).is_ok_and(|passed| passed == length as u64)
}
