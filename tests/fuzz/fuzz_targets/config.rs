//! Any text as a configuration file is either valid or gives problems that can be printed.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use outrider::config::host::Host;
use outrider::config::{Configuration, Sources};

fuzz_target!(|text: &str| {
    let host = Host {
        hostname: "truck".to_owned(),
        machine_id: Some("0123456789abcdef".to_owned()),
        home: Some(PathBuf::from("/home/pi")),
        state_directory: None,
        system_file: PathBuf::from("/nowhere/outrider.toml"),
    };
    if let Err(problems) = Configuration::parse(Path::new("file"), text, &Sources::default(), &host) {
        assert!(!problems.to_string().is_empty());
    }
});
