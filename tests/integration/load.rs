//! Clients that publish as fast as they are acknowledged, for tests of what happens to them meanwhile. What they publish is numbered, and
//! somebody watches what comes through.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Client, Packet, Publish, frame, text};
use crate::gateway::{DEADLINE, Gateway, wait_until};
use crate::listeners::login_packet;

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Connects to a listener with TLS, with the certificate whose path without ending is `own`. An error if it is not let in.
pub fn enter(
    address: SocketAddr,
    ca: &Path,
    own: &Path,
    version: u8,
    client_id: &str,
) -> io::Result<Client<TlsStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(own.with_extension("pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(own.with_extension("key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut client = Client::of_stream(StreamOwned::new(connection, socket));
    client.stream.write_all(&login_packet(version, client_id, None))?;
    match client.packet()? {
        Packet { first: 0x20, body } if body[1] == 0 => Ok(client),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

/// The serial number of a certificate.
pub fn serial(certificate: &CertificateDer<'_>) -> Vec<u8> {
    x509_parser::parse_x509_certificate(certificate).unwrap().1.raw_serial().to_vec()
}

/// The serial number of the certificate that the server has shown.
pub fn serial_of_server(client: &Client<TlsStream>) -> Vec<u8> {
    serial(&client.stream.conn.peer_certificates().unwrap()[0])
}

#[derive(Default)]
struct Counts {
    /// The number of the last publish that was acknowledged.
    acknowledged: AtomicU64,
    /// How many were acknowledged without a word, and how many as not allowed.
    allowed: AtomicU64,
    denied: AtomicU64,
    must_stop: AtomicBool,
    /// How the gateway has ended the connection.
    end: OnceLock<String>,
}

/// A client that publishes 1, 2, 3, ... on a topic.
pub struct Publisher {
    pub topic: String,
    counts: Arc<Counts>,
    thread: JoinHandle<()>,
}

impl Publisher {
    pub fn start<S: Read + Write + Send + 'static>(mut client: Client<S>, version: u8, topic: &str) -> Publisher {
        let counts = Arc::<Counts>::default();
        let (shared, own) = (Arc::clone(&counts), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !shared.must_stop.load(Ordering::Relaxed) {
                number += 1;
                match publish(&mut client, version, &own, number) {
                    Ok(0) => _ = shared.allowed.fetch_add(1, Ordering::Relaxed),
                    Ok(0x87) => _ = shared.denied.fetch_add(1, Ordering::Relaxed),
                    Ok(other) => panic!("{own}: reason {other:#x}"),
                    Err(error) => return shared.end.set(format!("{error:?}")).unwrap(),
                }
                shared.acknowledged.store(number, Ordering::Release);
            }
        });
        Publisher { topic: topic.to_owned(), counts, thread }
    }

    pub fn acknowledged(&self) -> u64 {
        self.counts.acknowledged.load(Ordering::Acquire)
    }

    pub fn allowed(&self) -> u64 {
        self.counts.allowed.load(Ordering::Relaxed)
    }

    pub fn denied(&self) -> u64 {
        self.counts.denied.load(Ordering::Relaxed)
    }

    pub fn has_ended(&self) -> bool {
        self.counts.end.get().is_some()
    }

    /// Waits until it has been acknowledged so often.
    pub fn reach(&self, number: u64) {
        wait_until(&format!("{number} acknowledgements of {}", self.topic), || {
            assert_eq!(self.counts.end.get(), None, "{} is disconnected", self.topic);
            self.acknowledged() >= number
        });
    }

    /// Returns the number of its last publish that was acknowledged, and whether another one may be stored.
    pub fn stop(self) -> (u64, bool) {
        self.counts.must_stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let counts = self.counts;
        (counts.acknowledged.load(Ordering::Acquire), counts.end.get().is_some())
    }
}

/// Publishes at QoS 1. Returns the reason code of the acknowledgement.
fn publish<S: Read + Write>(client: &mut Client<S>, version: u8, topic: &str, number: u64) -> io::Result<u8> {
    let id = client.next_packet_id().to_be_bytes();
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    body.extend_from_slice(&id);
    body.extend_from_slice(if version == 5 { &[0] } else { &[] });
    body.extend_from_slice(format!("{{\"n\":{number}}}").as_bytes());
    client.stream.write_all(&frame(0x32, &body))?;
    match client.packet()? {
        Packet { first: 0x40, body } if body[..2] == id => Ok(body.get(2).copied().unwrap_or(0)),
        // Of version 5, before the connection ends.
        Packet { first: 0xe0, body } => Err(io::Error::other(format!("{body:?}"))),
        other => panic!("{other:?}"),
    }
}

/// What has come on a topic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub last: u64,
    pub count: u64,
    /// How often a number did not follow on the one before.
    pub gaps: u64,
}

/// A client that is subscribed, until the gateway ends.
pub struct Watcher(Arc<Mutex<HashMap<String, Seen>>>);

impl Watcher {
    /// Of a client that is subscribed in version 3.1.1.
    pub fn start<S: Read + Write + Send + 'static>(mut client: Client<S>) -> Watcher {
        let seen = Arc::<Mutex<HashMap<String, Seen>>>::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            while let Ok(packet) = client.packet() {
                let Publish { topic, payload, packet_id, .. } = Publish::of(&packet);
                let number = serde_json::from_slice::<serde_json::Value>(&payload).unwrap()["n"].as_u64().unwrap();
                let mut shared = shared.lock().unwrap();
                let seen = shared.entry(topic).or_default();
                seen.gaps += u64::from(number != seen.last + 1);
                (seen.last, seen.count) = (number, seen.count + 1);
                drop(shared);
                if client.stream.write_all(&frame(0x40, &packet_id.to_be_bytes())).is_err() {
                    return;
                }
            }
        });
        Watcher(seen)
    }

    /// What has come on a topic.
    pub fn seen(&self, topic: &str) -> Seen {
        self.0.lock().unwrap().get(topic).copied().unwrap_or_default()
    }

    /// Messages on all topics.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap().values().map(|seen| seen.count).sum()
    }
}

/// Publishers, and a watcher that sees what they publish by the open listener.
pub struct Load {
    pub watcher: Watcher,
    pub publishers: Vec<Publisher>,
}

impl Load {
    /// Before anybody publishes.
    pub fn start(gateway: &Gateway) -> Load {
        let mut client = Client::connect(gateway.mqtt, "watcher");
        assert_eq!(client.subscribe(&[("devices/#", 1)]), [1]);
        Load { watcher: Watcher::start(client), publishers: Vec::new() }
    }

    /// All that are connected are acknowledged so many times more.
    pub fn go_on(&self, count: u64) {
        let connected: Vec<&Publisher> = self.publishers.iter().filter(|one| !one.has_ended()).collect();
        let numbers: Vec<u64> = connected.iter().map(|one| one.acknowledged() + count).collect();
        connected.iter().zip(numbers).for_each(|(one, number)| one.reach(number));
    }

    pub fn publisher(&self, topic: &str) -> &Publisher {
        self.publishers.iter().find(|one| one.topic == topic).unwrap()
    }

    /// Ends it. What was acknowledged was accepted and passed on without a gap, and nothing else was. Returns how many are still here.
    pub fn finish(self, gateway: &Gateway) -> usize {
        let Load { watcher, publishers } = self;
        let (mut connected, mut total) = (0, 0);
        for publisher in publishers {
            let topic = publisher.topic.clone();
            let (acknowledged, has_ended) = publisher.stop();
            connected += usize::from(!has_ended);
            total += acknowledged;
            wait_until(&topic, || watcher.seen(&topic).last >= acknowledged);
            let Seen { last, gaps, .. } = watcher.seen(&topic);
            // Its connection may have ended between the commit and the acknowledgement.
            assert!(gaps == 0 && last - acknowledged <= u64::from(has_ended), "{topic}: {last}, {gaps} gaps");
        }
        let accepted = || gateway.status()["received"]["accepted"].as_u64().unwrap();
        wait_until("what is passed on is counted", || accepted() == watcher.count());
        assert!(accepted() >= total, "{} of {total}", accepted());
        connected
    }
}
