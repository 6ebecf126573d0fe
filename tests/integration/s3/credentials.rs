//! AWS IoT's credentials endpoint, as far as it is documented: over TLS, for clients that show a certificate of a CA.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The endpoint, and in its folder `ca.pem`, `device.pem` and `device.key`, and `other.pem` and `other.key` of another CA.
pub struct Endpoint {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    config: Arc<ServerConfig>,
    /// The heads of all requests.
    heads: Mutex<Vec<String>>,
    handshakes_failed: AtomicU64,
    lasts_s: AtomicU64,
    status: AtomicU16,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn device(&self, folder: &Path, name: &str) {
        let mut params = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Endpoint {
    /// Gives credentials that last so long. It ends with the process.
    pub fn start(folder: &Path, lasts: Duration) -> Endpoint {
        let authority = Authority::new("authority");
        std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        authority.device(folder, "device");
        Authority::new("other authority").device(folder, "other");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            config: Arc::new(config),
            heads: Mutex::default(),
            handshakes_failed: AtomicU64::default(),
            lasts_s: AtomicU64::new(lasts.as_secs()),
            status: AtomicU16::new(200),
        });
        let endpoint = Endpoint { address: listener.local_addr().unwrap(), state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || {
                    let served = client.and_then(|client| serve(client, &state));
                    state.handshakes_failed.fetch_add(u64::from(served.is_err()), Ordering::SeqCst);
                });
            }
        });
        endpoint
    }

    pub fn answer_with(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    pub fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }

    pub fn handshakes_failed(&self) -> u64 {
        self.state.handshakes_failed.load(Ordering::SeqCst)
    }
}

fn serve(mut client: TcpStream, state: &State) -> std::io::Result<()> {
    let mut connection = ServerConnection::new(Arc::clone(&state.config)).unwrap();
    let mut tls = Stream::new(&mut connection, &mut client);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        tls.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let number = {
        let mut heads = state.heads.lock().unwrap();
        heads.push(String::from_utf8(head).unwrap());
        heads.len()
    };
    let ends = OffsetDateTime::from(SystemTime::now() + Duration::from_secs(state.lasts_s.load(Ordering::SeqCst)));
    let ends = ends.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap();
    let (status, body) = match state.status.load(Ordering::SeqCst) {
        200 => (
            200,
            format!(
                r#"{{"credentials":{{"accessKeyId":"ASIA{number}","secretAccessKey":"secret","sessionToken":"token","expiration":"{ends}"}}}}"#
            ),
        ),
        status => (status, r#"{"message":"Access Denied"}"#.to_owned()),
    };
    let date = httpdate(OffsetDateTime::from(SystemTime::now()));
    let head = format!(
        "HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tls.write_all(head.as_bytes())?;
    tls.write_all(body.as_bytes())?;
    connection.send_close_notify();
    connection.complete_io(&mut client).map(|_| ())
}

fn httpdate(at: OffsetDateTime) -> String {
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    let (date, time) = (at.date(), at.time());
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        &weekday[..3],
        date.day(),
        &month[..3],
        date.year(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
