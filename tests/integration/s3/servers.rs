//! Servers of objects that others wrote, and what is in them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::gateway::wait_until;
use crate::ports::free_port;

pub const BUCKET: &str = "fleet";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In Python; it compares Content-MD5.
    Ministack,
    /// In Go.
    Gofakes3,
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

/// An object as it is stored.
pub struct Object {
    pub key: String,
    pub last: u64,
    pub content: Vec<u8>,
}

pub fn cached(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/objects").join(path);
    assert!(
        path.exists(),
        "{} is missing: tests/run installs it, or tests/setup.d/object-servers alone, which needs Python 3 and Go",
        path.display()
    );
    path
}

impl Server {
    /// Starts with an empty bucket.
    pub fn start(kind: Kind) -> Server {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = match kind {
            Kind::Ministack => {
                let mut command = Command::new(cached("venv/bin/ministack"));
                command
                    .env("BIND_HOST", "127.0.0.1")
                    .env("GATEWAY_PORT", address.port().to_string())
                    .env("SERVICES", "s3,firehose");
                command
            }
            Kind::Gofakes3 => {
                let mut command = Command::new(cached("gofakes3"));
                command.args(["-backend", "memory", "-host", &address.to_string()]);
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Server { child, address };
        wait_until("the server of objects", || {
            assert!(server.child.try_wait().unwrap().is_none(), "{kind:?} has ended");
            server.ask("PUT", &format!("/{BUCKET}")).is_ok_and(|(head, _)| head.starts_with("HTTP/1.1 200"))
        });
        server
    }

    pub fn create(&self, bucket: &str) {
        let (head, _) = self.ask("PUT", &format!("/{bucket}")).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }

    fn ask(&self, method: &str, path: &str) -> std::io::Result<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            self.address
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let body = answer.split_off(end + 4);
        Ok(match super::faulty::header(&head, "transfer-encoding") {
            Some("chunked") => (head, dechunked(&body)),
            _ => (head, body),
        })
    }

    /// Names of the objects whose names begin so, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.keys_in(BUCKET, prefix)
    }

    fn keys_in(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let (head, list) = self.ask("GET", &format!("/{bucket}?list-type=2&prefix={prefix}")).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let list = String::from_utf8(list).unwrap();
        let keys = list.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned());
        let mut keys: Vec<String> = keys.collect();
        assert!(keys.len() < 1000, "the list is cut there");
        keys.sort();
        keys
    }

    /// The head of the response, and what the object holds.
    pub fn content(&self, bucket: &str, key: &str) -> (String, Vec<u8>) {
        let path = key.replace('%', "%25").replace('=', "%3D");
        let (head, content) = self.ask("GET", &format!("/{bucket}/{path}")).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{key}: {head}");
        (head, content)
    }

    fn object(&self, bucket: &str, key: &str) -> Object {
        let (head, content) = self.content(bucket, key);
        let last = super::faulty::header(&head, "x-amz-meta-last").unwrap().parse().unwrap();
        Object { key: key.to_owned(), last, content }
    }

    pub fn objects_in(&self, bucket: &str, prefix: &str) -> Vec<Object> {
        self.keys_in(bucket, prefix).iter().map(|key| self.object(bucket, key)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap().trim(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
}
