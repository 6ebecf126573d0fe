//! How a broker is spoken to: the version of MQTT, the quality of service, TLS, and who logs in.

use crate::tls::Tls;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    V3_1_1,
    V5,
}

impl Version {
    pub fn name(self) -> &'static str {
        match self {
            Version::V3_1_1 => "3.1.1",
            Version::V5 => "5",
        }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Version::V3_1_1, Version::V5].into_iter().find(|version| version.name() == text);
        known.ok_or_else(|| format!("unknown version `{text}`, use 3.1.1 or 5"))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce,
    #[default]
    AtLeastOnce,
    ExactlyOnce,
}

impl Qos {
    /// As it is written: 0, 1 or 2.
    pub fn level(self) -> u8 {
        self as u8
    }

    pub fn from_level(level: u8) -> Option<Self> {
        [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().find(|qos| qos.level() == level)
    }

    /// The packet by which a publish counts as acknowledged; none with QoS 0.
    pub fn acknowledged_by(self) -> Option<&'static str> {
        match self {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some("PUBACK"),
            Qos::ExactlyOnce => Some("PUBCOMP"),
        }
    }
}

/// A user of the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The default is what an open broker takes: MQTT 3.1.1 without TLS and without a login.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    pub version: Version,
    pub tls: Option<Tls>,
    pub login: Option<Login>,
}

/// The most that MQTT has room for.
const PASSWORD_BYTES_MAX: u64 = 65_535;

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("cannot read the password file {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the first line of the password file {} is empty, and must be the password", path.display())]
    Empty { path: PathBuf },
    #[error("the password in {} is longer than 65,535 bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("the password in {} is not UTF-8", path.display())]
    NotText { path: PathBuf },
}

/// The first line of a file, without its end.
pub fn read_password(path: &Path) -> Result<String, PasswordError> {
    let unreadable = |source| PasswordError::Unreadable { path: path.to_owned(), source };
    let mut content = Vec::new();
    // The end of the line may be two bytes.
    File::open(path)
        .and_then(|file| file.take(PASSWORD_BYTES_MAX + 3).read_to_end(&mut content))
        .map_err(unreadable)?;
    let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(PasswordError::Empty { path: path.to_owned() });
    }
    if line.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(PasswordError::TooLong { path: path.to_owned() });
    }
    String::from_utf8(line.to_vec()).map_err(|_| PasswordError::NotText { path: path.to_owned() })
}

/// How many connections shake hands or log in at once: a broker checks passwords one after the other, and lets few wait.
const HANDSHAKES_MAX: usize = 8;

/// A line for all connections of a run that cost the broker more than a socket: those with TLS or a login.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshakes(Option<Arc<Semaphore>>);

impl Handshakes {
    pub fn new(access: &Access) -> Self {
        let is_costly = access.tls.is_some() || access.login.is_some();
        Handshakes(is_costly.then(|| Arc::new(Semaphore::new(HANDSHAKES_MAX))))
    }

    /// Waits for a turn, which lasts until the result is dropped.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match &self.0 {
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        for (content, expected) in
            [("secret", "secret"), ("secret\n", "secret"), ("a b \r\nmore\n", "a b "), ("\u{fc}\n", "\u{fc}")]
        {
            fs::write(&path, content).expect("written");
            assert_eq!(read_password(&path).expect(content), expected);
        }
        let longest = "x".repeat(65_535);
        fs::write(&path, format!("{longest}\r\n")).expect("written");
        assert_eq!(read_password(&path).expect("as long as it may be"), longest);
    }

    #[test]
    fn a_file_without_a_password_says_what_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let told = |content: &[u8]| {
            fs::write(&path, content).expect("written");
            read_password(&path).expect_err("no password").to_string()
        };
        for empty in [&b""[..], b"\n", b"\r\nsecret\n"] {
            assert!(told(empty).contains("first line") && told(empty).contains("is empty"));
        }
        assert!(told(b"\xff\xfe\n").contains("not UTF-8"));
        assert!(told(&[b'x'; 65_536]).contains("longer than 65,535 bytes"));
        let missing = read_password(&folder.path().join("nothing")).expect_err("no file").to_string();
        assert!(missing.contains("nothing"), "{missing}");
    }

    #[test]
    fn a_password_is_not_shown() {
        let login = Login { username: "alice".to_owned(), password: Some("secret".to_owned()) };
        let shown = format!("{:?}", Access { login: Some(login), ..Access::default() });
        assert!(shown.contains("alice") && !shown.contains("secret"), "{shown}");
    }

    #[tokio::test]
    async fn few_shake_hands_at_once_and_all_in_the_end() {
        let login = Some(Login { username: "alice".to_owned(), password: None });
        let handshakes = Handshakes::new(&Access { login, ..Access::default() });
        let mut turns = Vec::new();
        for _ in 0..HANDSHAKES_MAX {
            turns.push(handshakes.turn().await.expect("a turn"));
        }
        let next = handshakes.turn();
        tokio::pin!(next);
        let is_waiting = tokio::time::timeout(std::time::Duration::from_millis(20), &mut next).await.is_err();
        assert!(is_waiting);
        turns.pop();
        assert!(next.await.is_some());
        assert!(Handshakes::new(&Access::default()).turn().await.is_none(), "an open broker is not spared");
    }
}
