//! For tests: CAs, certificates, files, and handshakes in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ServerConfig, ServerConnection};
use rustls::{Connection, Error, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::{ClientCertificates, Tls, TlsFiles, TlsProblem, load};

/// Both versions of TLS.
pub(crate) static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A CA that signs what it is given.
pub(crate) struct TestAuthority {
    pub issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

/// A certificate, what leads from it to its CA, and its key.
pub(crate) struct Credentials {
    pub chain: Vec<CertificateDer<'static>>,
    pub pem: String,
    pub key: KeyPair,
    pub serial: SerialNumber,
}

/// How a handshake went.
#[derive(Debug)]
pub(crate) struct Shaken {
    pub version: Option<ProtocolVersion>,
    pub kind: Option<HandshakeKind>,
}

/// Who ended a handshake.
#[derive(Debug)]
pub(crate) enum Refused {
    ByServer(Error),
    ByClient(Error),
}

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::from(std::time::SystemTime::now())
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params
}

fn of_authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl TestAuthority {
    pub fn new(name: &str) -> TestAuthority {
        TestAuthority::of(of_authority(name))
    }

    pub fn of(params: CertificateParams) -> TestAuthority {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        TestAuthority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// One whose time is over.
    pub fn expired(name: &str) -> TestAuthority {
        let mut params = of_authority(name);
        params.not_after = date_time_ymd(2021, 2, 3);
        TestAuthority::of(params)
    }

    /// One that this one has signed.
    pub fn intermediate(&self, name: &str) -> TestAuthority {
        let (params, key) = (of_authority(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TestAuthority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn sign(&self, params: &CertificateParams) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let parsed = super::identity::parsed(certificate.der()).unwrap();
        let serial = SerialNumber::from_slice(parsed.raw_serial());
        Credentials { chain: vec![certificate.der().clone()], pem: certificate.pem(), key, serial }
    }

    /// A client's certificate that is valid for `valid`.
    pub fn client_for(&self, name: &str, valid: Duration) -> Credentials {
        let mut params = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = now() + valid;
        self.sign(&params)
    }

    pub fn client(&self, name: &str) -> Credentials {
        self.client_for(name, Duration::days(1))
    }

    pub fn server(&self) -> Credentials {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name = named("localhost").distinguished_name;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// A revocation list in PEM that was made on this day of January 2026.
    pub fn list(&self, day: u8, valid: Duration, revoked: &[&Credentials]) -> String {
        let this_update = date_time_ymd(2026, 1, day);
        let entry = |credentials: &&Credentials| RevokedCertParams {
            serial_number: credentials.serial.clone(),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update: now() + valid,
            crl_number: SerialNumber::from(u64::from(day)),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Credentials {
    /// The same with a certificate of an intermediate CA.
    pub fn by_way_of(mut self, authority: &TestAuthority) -> Credentials {
        self.chain.push(authority.certificate.clone());
        self
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// A folder with the files of a listener.
pub(crate) struct Files {
    folder: TempDir,
    pub files: TlsFiles,
}

impl Files {
    pub fn new(server: &Credentials) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles {
            certificate: path("server.pem"),
            key: path("server.key"),
            client_ca: Vec::new(),
            client_crl: Vec::new(),
        };
        let files = Files { folder, files };
        files.write("server.pem", &server.pem);
        files.write("server.key", server.key.serialize_pem());
        std::fs::set_permissions(&files.files.key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        files
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn with_authorities(mut self, authorities: &[&TestAuthority]) -> Files {
        for (index, authority) in authorities.iter().enumerate() {
            let path = self.write(&format!("ca-{index}.pem"), &authority.pem);
            self.files.client_ca.push(path);
        }
        self
    }

    pub fn with_lists(mut self, lists: &[String]) -> Files {
        self.files.client_crl =
            lists.iter().enumerate().map(|(index, list)| self.write(&format!("crl-{index}.pem"), list)).collect();
        self
    }

    pub fn load(&self) -> Result<Tls, TlsProblem> {
        load(&self.files, ClientCertificates::Demanded)
    }
}

pub(crate) fn client(
    authority: &CertificateDer<'static>,
    own: Option<&Credentials>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key_der()).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// Shakes hands until neither side has anything to say: in version 1.3 the client is done before the server has looked at its certificate.
pub(crate) fn shake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, host: &str) -> Result<Shaken, Refused> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::clone(client), name).unwrap());
    let mut server = Connection::from(ServerConnection::new(Arc::clone(server)).unwrap());
    while client.wants_write() || server.wants_write() {
        transfer(&mut client, &mut server).map_err(Refused::ByServer)?;
        transfer(&mut server, &mut client).map_err(Refused::ByClient)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Shaken { version: server.protocol_version(), kind: server.handshake_kind() })
}

fn transfer(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}
