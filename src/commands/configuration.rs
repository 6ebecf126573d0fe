//! The arguments with which commands load the configuration.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::host::Host;
use crate::config::{Argument, Configuration, Sources};
use crate::keys::problem::Problems;

#[derive(Clone, Debug, Args)]
pub struct ConfigArguments {
    /// The configuration file [default: /etc/outrider/outrider.toml if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where devices connect, instead of mqtt.listen; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Let --listen be open to the network: without TLS and passwords, whoever reaches it can publish, subscribe and read everything
    #[arg(long)]
    insecure: bool,
    /// The state folder, instead of store.path
    #[arg(long, value_name = "FOLDER")]
    state: Option<String>,
}

/// What is said in place of the file's name. One that lies at hand was perhaps meant.
pub(super) fn no_file() -> String {
    let hint = match Path::new("outrider.toml").is_file() {
        true => " (./outrider.toml is not read without --config outrider.toml)",
        false => "",
    };
    format!("no file; the defaults apply{hint}")
}

/// Where this path is, whatever the working directory will be.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl ConfigArguments {
    /// What `run` would load with this file and this state folder.
    pub fn of(config: Option<PathBuf>, state: Option<String>) -> ConfigArguments {
        ConfigArguments { config, listen: None, insecure: false, state }
    }

    pub fn load(&self) -> Result<Configuration, Problems> {
        Configuration::load(&self.sources(), &Host::read())
    }

    /// What a file, the variables and the arguments set.
    pub fn sources(&self) -> Sources {
        let listen = ("--listen", "mqtt", "listen", &self.listen);
        let state = ("--state", "store", "path", &self.state);
        let is_insecure = self.insecure.then(|| "true".to_owned());
        let insecure = ("--insecure", "mqtt", "insecure", &is_insecure);
        let given = [listen, insecure, state].into_iter().filter_map(|(name, section, key, text)| {
            let text = text.clone()?;
            Some(Argument { name, section, key, text })
        });
        Sources::of_process(self.config.clone(), given.collect())
    }
}

/// Loads one file and nothing else: the result of a command that only reads must not depend on the machine.
pub fn load_file(file: &Path) -> Result<Configuration, Problems> {
    Configuration::load(&Sources { file: Some(file.to_owned()), ..Sources::default() }, &Host::read())
}

/// Loads a file of rules: by itself, or with the zones, tables, routes and everything else of a configuration. Nothing else is looked at.
pub fn load_rules(rules: &Path, config: Option<&Path>, state: Option<&str>) -> Result<Configuration, Problems> {
    let state = state.map(|text| Argument { name: "--state", section: "store", key: "path", text: text.to_owned() });
    let file = Some(config.unwrap_or(rules).to_owned());
    let rules = config.map(|_| rules.to_owned());
    let sources = Sources { file, rules, arguments: state.into_iter().collect(), ..Sources::default() };
    Configuration::load(&sources, &Host::read())
}
