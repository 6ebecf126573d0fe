//! Names that certificates are made for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::DnsName;

use crate::tls::identity::forbidden_character;

/// X.520 allows a common name no more characters, and some clients are strict about it.
const DEVICE_BYTES_MAX: usize = 64;

/// The name of a device: the common name of its certificate, and the name of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceName(String);

#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceNameError {
    #[error("a device needs a name")]
    Empty,
    #[error("longer than {DEVICE_BYTES_MAX} bytes")]
    TooLong,
    #[error("has {0:?}: +, #, / and control characters mean something in topics, and \\ in paths")]
    Forbidden(char),
    #[error("is a folder of every system")]
    Folder,
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(name: &str) -> Result<DeviceName, DeviceNameError> {
        let forbidden = forbidden_character(name).or_else(|| name.contains('\\').then_some('\\'));
        match (name, forbidden) {
            ("", _) => Err(DeviceNameError::Empty),
            (".", _) | ("..", _) => Err(DeviceNameError::Folder),
            (_, Some(character)) => Err(DeviceNameError::Forbidden(character)),
            _ if name.len() > DEVICE_BYTES_MAX => Err(DeviceNameError::TooLong),
            _ => Ok(DeviceName(name.to_owned())),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// By what devices reach the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostName {
    Name(String),
    Address(IpAddr),
}

#[derive(Debug, thiserror::Error)]
#[error("neither a DNS name nor an IP address")]
pub(super) struct HostNameError;

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<HostName, HostNameError> {
        if let Ok(address) = text.parse() {
            return Ok(HostName::Address(address));
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        DnsName::try_from(name).map(|_| HostName::Name(text.to_owned())).map_err(|_| HostNameError)
    }
}

impl HostName {
    /// How this machine is reached if nobody says how.
    pub fn defaults(machine: &str) -> Vec<HostName> {
        let mut hosts: Vec<HostName> = Vec::new();
        for text in ["localhost", "127.0.0.1", "::1", machine] {
            if let Ok(host) = text.parse()
                && !hosts.contains(&host)
            {
                hosts.push(host);
            }
        }
        hosts
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostName::Name(name) => formatter.write_str(name),
            HostName::Address(address) => address.fmt(formatter),
        }
    }
}
