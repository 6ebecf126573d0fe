//! An HTTP proxy that forwards all connections to one place and records the requests. Tunnels (`CONNECT`) are opened or refused.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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

    /// Where it is spoken to by TLS, with the certificate in a folder that `outrider cert init` has made.
    pub fn behind_tls(&self, certificates: &Path) -> SocketAddr {
        let chain =
            CertificateDer::pem_file_iter(certificates.join("server.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(certificates.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (acceptor, to) = (tokio_rustls::TlsAcceptor::from(Arc::new(config)), self.address);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((client, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        let mut client = acceptor.accept(client).await?;
                        let mut proxy = tokio::net::TcpStream::connect(to).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut proxy).await
                    });
                }
            });
        });
        address
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
