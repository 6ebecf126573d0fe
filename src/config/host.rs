//! What the machine says about itself, read once and passed in, so that a configuration depends on its arguments only.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::keys::raw::VARIABLE_PREFIX;

/// The configuration file if none is named.
pub const SYSTEM_FILE: &str = "/etc/outrider/outrider.toml";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub hostname: String,
    /// Containers often have none.
    pub machine_id: Option<String>,
    pub home: Option<PathBuf>,
    pub state_directory: Option<PathBuf>,
    pub system_file: PathBuf,
}

impl Host {
    pub fn read() -> Host {
        let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let first_line = |path: &str| {
            let text = std::fs::read_to_string(path).ok()?;
            Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
        };
        Host {
            hostname: first_line("/proc/sys/kernel/hostname")
                .or_else(|| first_line("/etc/hostname"))
                .unwrap_or_else(|| "localhost".to_owned()),
            machine_id: first_line("/etc/machine-id")
                .or_else(|| first_line("/var/lib/dbus/machine-id"))
                // systemd writes this until the first boot has given the machine its id.
                .filter(|id| id != "uninitialized"),
            home: variable("HOME").map(PathBuf::from),
            state_directory: variable("STATE_DIRECTORY").and_then(first_directory),
            system_file: PathBuf::from(SYSTEM_FILE),
        }
    }

    pub fn state_folder(&self) -> Option<PathBuf> {
        let below_home = || Some(self.home.as_ref()?.join(".local/state/outrider"));
        self.state_directory.clone().or_else(below_home)
    }

    /// Fills in the placeholders of `gateway.id`.
    pub fn gateway_id(&self, template: &str, is_default: bool) -> Result<String, String> {
        let machine_id = match (&self.machine_id, is_default) {
            (Some(id), _) => id.as_str(),
            (None, true) => return check_id(self.hostname.clone()),
            (None, false) if template.contains("{machine_id") => {
                return Err("this machine has no machine id; use {hostname} or a plain text".to_owned());
            }
            (None, false) => "",
        };
        let short = &machine_id[..machine_id.floor_char_boundary(8)];
        let mut id = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            id.push_str(&rest[..at]);
            let (placeholder, after) = rest[at..].split_once('}').unwrap_or((&rest[at..], ""));
            match placeholder {
                "{hostname" => id.push_str(&self.hostname),
                "{machine_id" => id.push_str(machine_id),
                "{machine_id_short" => id.push_str(short),
                _ => {
                    return Err(
                        "unknown placeholder; there are {hostname}, {machine_id} and {machine_id_short}".to_owned()
                    );
                }
            }
            if rest.len() == at + placeholder.len() {
                return Err(format!("`{placeholder}` lacks its closing brace"));
            }
            rest = after;
        }
        id.push_str(rest);
        check_id(id)
    }
}

/// Most bytes of an id: with a slash and a device it is a partition key.
pub const ID_BYTES_MAX: usize = 127;

fn check_id(id: String) -> Result<String, String> {
    if id.len() > ID_BYTES_MAX {
        return Err(format!("the id is {} bytes long when filled in; at most {ID_BYTES_MAX} are allowed", id.len()));
    }
    if id.trim().is_empty() || id.chars().any(char::is_control) {
        return Err("the id is empty or holds a control character when filled in".to_owned());
    }
    Ok(id)
}

/// systemd may pass several folders, separated by colons.
fn first_directory(list: OsString) -> Option<PathBuf> {
    std::env::split_paths(&list).next().filter(|path| !path.as_os_str().is_empty())
}

/// The environment variables that may set keys, by name. Invalid UTF-8 is replaced; no key allows it anyway.
pub fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with(VARIABLE_PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
    });
    let mut variables: Vec<_> = variables.collect();
    variables.sort();
    variables
}
