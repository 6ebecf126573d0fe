//! A proxy between the gateway and a server of objects, which does something wrong with the next uploads.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of one PUT of the raw stream. Other requests pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The connection ends before anything is passed on.
    Reset,
    /// The service answers with this status and error code.
    Answer(u16, &'static str),
    /// Half of the body is passed on, then both connections end.
    CutUpload,
    /// Half of the body is passed on, and nothing more before the gateway has gone.
    HalfHeld,
    /// The reply comes without the object's ETag.
    NoEtag,
    /// All of it is passed on, and the reply is lost.
    ReplyLost,
    /// The reply is held back until the gateway has gone.
    ReplyHeld,
    /// The body is passed on in pieces, with pauses.
    Slow,
    /// The service says that the time of the signature is wrong, and has another one itself.
    Skewed,
}

pub struct Faulty {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    faults: Mutex<VecDeque<Fault>>,
    /// Faults that have struck.
    struck: AtomicU64,
    /// Uploads of which half has been passed on and is held.
    held: AtomicU64,
    /// Uploads of the raw stream that the server has answered with success.
    stored: AtomicU64,
    /// Each attempt is passed on under a name of its own.
    renames: AtomicBool,
    /// The heads of all requests.
    heads: Mutex<Vec<String>>,
}

impl Faulty {
    /// Forwards to `to`. It ends with the process.
    pub fn start(to: SocketAddr) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Faulty { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&proxy.state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let state = Arc::clone(&state);
                // Whoever disconnects meanwhile has nothing forwarded.
                std::thread::spawn(move || serve(client?, to, &state));
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of the next uploads, one after another.
    pub fn next(&self, faults: &[Fault]) {
        self.state.faults.lock().unwrap().extend(faults);
    }

    /// From now on each attempt is stored under a name of its own.
    pub fn rename_attempts(&self) {
        self.state.renames.store(true, Ordering::SeqCst);
    }

    pub fn struck(&self) -> u64 {
        self.state.struck.load(Ordering::SeqCst)
    }

    pub fn held(&self) -> u64 {
        self.state.held.load(Ordering::SeqCst)
    }

    pub fn stored(&self) -> u64 {
        self.state.stored.load(Ordering::SeqCst)
    }

    pub fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, to: SocketAddr, state: &State) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let is_put = head.starts_with("PUT ") && head.contains("/raw/");
    state.heads.lock().unwrap().push(head.clone());
    let fault = if is_put { state.faults.lock().unwrap().pop_front().unwrap_or(Fault::None) } else { Fault::None };
    state.struck.fetch_add(u64::from(fault != Fault::None), Ordering::SeqCst);
    if fault == Fault::Reset {
        return client.shutdown(Shutdown::Both);
    }
    if fault == Fault::HalfHeld {
        return hold(client, to, state, &head, length);
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    if let Fault::Answer(status, code) = fault {
        let text = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
        return write!(
            client,
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
    }
    if fault == Fault::Skewed {
        let date = "date: Tue, 01 Jan 2030 12:00:00 GMT";
        let text = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
        return write!(
            client,
            "HTTP/1.1 403 X\r\n{date}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
    }
    let mut server = TcpStream::connect(to)?;
    // The server ends its connection with its reply, which shows where that ends.
    let mut head = head.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    if is_put && state.renames.load(Ordering::SeqCst) {
        let number = state.heads.lock().unwrap().len();
        head = head.replacen(" HTTP/1.1", &format!("-{number} HTTP/1.1"), 1);
    }
    server.write_all(head.as_bytes())?;
    match fault {
        Fault::CutUpload => {
            server.write_all(&body[..length / 2])?;
            server.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        Fault::Slow => {
            for piece in body.chunks(length.div_ceil(4).max(1)) {
                server.write_all(piece)?;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        _ => server.write_all(&body)?,
    }
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    state.stored.fetch_add(u64::from(is_put && reply.starts_with(b"HTTP/1.1 200")), Ordering::SeqCst);
    if fault == Fault::NoEtag {
        reply = without_etag(&reply);
    }
    match fault {
        Fault::ReplyLost => client.shutdown(Shutdown::Both),
        Fault::ReplyHeld => client.read(&mut byte).map(|_| ()),
        _ => client.write_all(&reply),
    }
}

/// Passes on half of the body as it comes. The server's connection ends with the client's.
fn hold(mut client: TcpStream, to: SocketAddr, state: &State, head: &str, length: usize) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to)?;
    server.write_all(head.as_bytes())?;
    let half = std::io::copy(&mut (&mut client).take(length as u64 / 2), &mut server)?;
    assert!(half > 0 && half < length as u64);
    state.held.fetch_add(1, Ordering::SeqCst);
    std::io::copy(&mut client, &mut std::io::sink()).map(|_| ())
}

fn without_etag(reply: &[u8]) -> Vec<u8> {
    let reply = String::from_utf8(reply.to_vec()).unwrap();
    let lines: Vec<&str> = reply.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("etag:")).collect();
    assert!(lines.len() < reply.split("\r\n").count(), "{reply}");
    lines.join("\r\n").into_bytes()
}

/// A header of a request.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let is_it = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
    head.lines().find(is_it).map(|line| line.split_once(':').unwrap().1.trim())
}
