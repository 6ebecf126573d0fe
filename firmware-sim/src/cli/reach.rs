//! The arguments that say how the gateway is reached.

use super::{Failure, usage_failure};
use crate::access::{Access, Login, Qos, Version, read_password};
use crate::tls::{Identity, Tls, TlsFiles};
use clap::Args;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct ReachArguments {
    /// The gateway's MQTT address
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT", value_parser = parse_broker)]
    broker: Broker,
    /// Use TLS, and trust the certificates of CAs in this file (PEM); the gateway must have one for HOST
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate to show to the gateway, with those between it and its CA (PEM)
    #[arg(long, value_name = "FILE", requires = "key", requires = "ca")]
    certificate: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// File whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// Version of MQTT: 3.1.1 or 5
    #[arg(long, default_value = "3.1.1", value_name = "VERSION")]
    mqtt: Version,
    /// 1: acknowledged with PUBACK. 2: with PUBCOMP. 0: not at all, and nothing is counted as acknowledged
    #[arg(long, default_value_t = 1, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
}

/// An address, and the name that it was given as.
#[derive(Clone, Debug)]
struct Broker {
    host: String,
    address: SocketAddr,
}

/// How the gateway is reached, with all files read.
#[derive(Debug)]
pub(super) struct Reach {
    pub broker: SocketAddr,
    pub access: Access,
    pub qos: Qos,
}

impl ReachArguments {
    pub(super) fn read(&self) -> Result<Reach, Failure> {
        let tls = match &self.ca {
            Some(ca) => {
                let identity = self.certificate.clone().zip(self.key.clone());
                let identity = identity.map(|(certificate, key)| Identity { certificate, key });
                let files = TlsFiles { ca: ca.clone(), identity };
                Some(Tls::new(&files, &self.broker.host).map_err(usage_failure)?)
            }
            None => None,
        };
        let login = match &self.username {
            Some(username) => {
                if username.is_empty() || username.len() > usize::from(u16::MAX) {
                    return Err(Failure::Usage("the user name must be 1 to 65,535 bytes".to_owned()));
                }
                let password = self.password_file.as_deref().map(read_password).transpose().map_err(usage_failure)?;
                Some(Login { username: username.clone(), password })
            }
            None => None,
        };
        let qos = Qos::from_level(self.qos).expect("clap takes 0 to 2 only");
        Ok(Reach { broker: self.broker.address, access: Access { version: self.mqtt, tls, login }, qos })
    }
}

/// Reads `host:port` or `ip:port`; a name is looked up once.
fn parse_broker(text: &str) -> Result<Broker, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("write host:port ({error})"))?;
    let address = found.next().ok_or_else(|| "the name has no address".to_owned())?;
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Broker { host: host.to_owned(), address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser;
    use rcgen::{CertificateParams, KeyPair};
    use std::fs;
    use std::path::Path;

    fn parsed(words: &[&str]) -> Result<ReachArguments, clap::Error> {
        let words = ["firmware-sim", "load"].iter().chain(words);
        Arguments::try_parse_from(words).map(|arguments| match arguments.command {
            Command::Load(arguments) => arguments.reach,
            Command::Fleet(_) | Command::Record(_) => panic!("no load"),
        })
    }

    fn read(words: &[&str]) -> Result<Reach, String> {
        parsed(words).expect("good arguments").read().map_err(|failure| match failure {
            Failure::Usage(reason) => reason,
            Failure::Run(reason) => panic!("not the arguments' fault: {reason}"),
        })
    }

    fn make_identity(folder: &Path) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["device".to_owned()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate");
        [("device.pem", certificate.pem()), ("device.key", key.serialize_pem())].map(|(name, content)| {
            let path = folder.join(name);
            fs::write(&path, content).expect("written");
            path.to_str().expect("a name").to_owned()
        })
    }

    #[test]
    fn an_open_gateway_is_reached_without_any_argument() {
        let reach = read(&[]).expect("the defaults");
        assert_eq!((reach.access, reach.qos), (Access::default(), Qos::AtLeastOnce));
        assert_eq!(reach.broker, SocketAddr::from(([127, 0, 0, 1], 1883)));
    }

    #[test]
    fn versions_and_qualities_are_those_of_mqtt() {
        for (words, version, level) in
            [(["--mqtt", "3.1.1", "--qos", "0"], Version::V3_1_1, 0), (["--mqtt", "5", "--qos", "2"], Version::V5, 2)]
        {
            let reach = read(&words).expect("good arguments");
            assert_eq!((reach.access.version, reach.qos.level()), (version, level));
        }
        for (words, told) in [(["--mqtt", "3.1"], "use 3.1.1 or 5"), (["--qos", "3"], "0..=2")] {
            let error = parsed(&words).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn the_files_of_tls_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let [certificate, key] = make_identity(folder.path());
        let ca = ["--broker", "localhost:8883", "--ca", &certificate];
        assert!(read(&ca).expect("a CA").access.tls.is_some());
        let mutual = [&ca[..], &["--certificate", &certificate, "--key", &key]].concat();
        assert!(read(&mutual).expect("a CA and a certificate").access.tls.is_some());
        let told = read(&["--ca", &key]).expect_err("no certificate");
        assert!(told.contains(&key) && told.contains("holds no certificate"), "{told}");
        let told = read(&["--ca", "/nowhere/ca.pem"]).expect_err("no file");
        assert!(told.contains("cannot read /nowhere/ca.pem: "), "{told}");
    }

    #[test]
    fn what_belongs_together_is_demanded_together() {
        for (words, missing) in [
            (&["--ca", "a", "--certificate", "b"][..], "--key"),
            (&["--ca", "a", "--key", "b"], "--certificate"),
            (&["--certificate", "a", "--key", "b"], "--ca"),
            (&["--password-file", "a"], "--username"),
        ] {
            let error = parsed(words).expect_err(missing);
            assert!(error.exit_code() == 2 && error.to_string().contains(missing), "{error}");
        }
    }

    #[test]
    fn a_login_has_its_password_in_a_file_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let file = path.to_str().expect("a name");
        fs::write(&path, "correct horse\n").expect("written");
        let login = |words: &[&str]| read(words).map(|reach| reach.access.login.expect("a login"));
        let username = "alice".to_owned();
        let with_password = login(&["--username", "alice", "--password-file", file]).expect("a password");
        let password = Some("correct horse".to_owned());
        assert_eq!(with_password, Login { username: username.clone(), password });
        assert_eq!(login(&["--username", "alice"]), Ok(Login { username, password: None }));
        fs::write(&path, "").expect("written");
        let told = login(&["--username", "alice", "--password-file", file]).expect_err("no password");
        assert!(told.contains(file) && told.contains("is empty"), "{told}");
        assert!(login(&["--username", ""]).is_err());
    }

    #[test]
    fn the_name_of_the_server_is_the_host_of_the_address() {
        for (text, host) in [("localhost:1", "localhost"), ("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1")] {
            assert_eq!(parse_broker(text).expect(text).host, host);
        }
    }
}
