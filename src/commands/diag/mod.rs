//! `outrider diag collect`: what somebody far away needs to see to help, as one file, and nothing that is secret or private.
//!
//! Secrets are kept out three times: the configuration is written without them, what was refused by devices is left out unless it is asked for, and
//! each text is searched for whatever the configuration and the environment hold as a secret. Files of certificates, keys, users and
//! tokens are never read.

mod parts;
mod secrets;
mod tar;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Exit;
use super::configuration::ConfigArguments;
use crate::clock;
use crate::config::host::Host;
use crate::keys::units::approximate_size;
use secrets::Secrets;

#[derive(Debug, Subcommand)]
pub enum DiagCommand {
    /// Write an archive with what is needed to find out what is wrong, without secrets
    Collect(CollectArguments),
}

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct CollectArguments {
    /// The archive to write; - writes to standard output [default: outrider-diag-HOST-TIME.tar.gz]
    file: Option<PathBuf>,
    /// Also put in the beginnings of payloads that could not be decoded: they are whatever devices have sent
    #[arg(long)]
    with_samples: bool,
    #[command(flatten)]
    config: ConfigArguments,
}

const HELP: &str = "\
In it: what `outrider doctor`, `outrider status --json` and `config show
--effective` say, metrics, versions, the last 2,000 lines of the journal, mounts,
memory, limits, and names and sizes of the files in the state folder. Names of
devices, metrics and topics, and the values of alerts, are in it.
Not in it: passwords, tokens, keys, certificates, URLs that may hold a token,
readings, and payloads unless --with-samples is given.

Run it as the user of the gateway, or as root.

Exit codes:
   0  written
   1  it cannot be written
   2  usage";

/// One file of the archive.
struct Part {
    name: &'static str,
    text: String,
    /// What it is, for whoever looks at the list.
    what: &'static str,
}

pub fn command(command: &DiagCommand) -> ExitCode {
    let DiagCommand::Collect(arguments) = command;
    let secrets = Secrets::of(&arguments.config.sources(), &Host::read());
    let mut parts = parts::collect(&arguments.config, arguments.with_samples);
    for part in &mut parts {
        part.text = secrets.hidden(&part.text);
    }
    let contents = contents(&parts, arguments.with_samples);
    parts.insert(0, Part { name: "README.txt", text: contents.clone(), what: "" });
    match write(arguments, &parts) {
        Ok(written) => {
            eprint!("{contents}");
            eprintln!("{written}");
            ExitCode::SUCCESS
        }
        Err((file, error)) => {
            eprintln!("outrider: {file} cannot be written: {error}");
            Exit::RunTime.into()
        }
    }
}

fn contents(parts: &[Part], with_samples: bool) -> String {
    let mut text = String::from("In this archive:\n");
    for Part { name, text: content, what } in parts {
        text += &format!("  {name:18} {:>9}  {what}\n", approximate_size(content.len() as u64));
    }
    text += "Names of devices, metrics and topics are in it, and the values of alerts.\n\
             Not in it: passwords, tokens, keys, certificates, URLs that may hold a token, readings.\n";
    text += match with_samples {
        true => "The beginnings of payloads that could not be decoded are in status.json (--with-samples).\n",
        false => "Payloads that could not be decoded are left out (--with-samples puts their beginnings in).\n",
    };
    text
}

/// Returns what to say of it.
fn write(arguments: &CollectArguments, parts: &[Part]) -> Result<String, (String, io::Error)> {
    let packed = pack(parts).map_err(|error| ("the archive".to_owned(), error))?;
    let size = approximate_size(packed.len() as u64);
    if arguments.file.as_deref() == Some(Path::new("-")) {
        let mut out = io::stdout().lock();
        let written = out.write_all(&packed).and_then(|()| out.flush());
        return written.map(|()| format!("{size} written")).map_err(|error| ("standard output".to_owned(), error));
    }
    let file = arguments.file.clone().unwrap_or_else(default_file);
    let shown = file.display().to_string();
    // Others than its owner need not see it, and what is there is not replaced.
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let written = open.and_then(|mut open| open.write_all(&packed).and_then(|()| open.sync_all()));
    written
        .map(|()| format!("{shown} is written, {size}: look through it before you send it"))
        .map_err(|error| (shown, error))
}

fn default_file() -> PathBuf {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '.';
    let host: String = Host::read().hostname.chars().filter(|letter| is_plain(*letter)).collect();
    let now = clock::rfc3339(clock::now_ms()).replace(['-', ':'], "");
    PathBuf::from(format!("outrider-diag-{host}-{now}.tar.gz"))
}

fn pack(parts: &[Part]) -> io::Result<Vec<u8>> {
    let now_s = clock::now_ms().max(0).unsigned_abs() / 1000;
    let mut archive = tar::Archive::new(GzEncoder::new(Vec::new(), Compression::default()));
    for Part { name, text, .. } in parts {
        archive.add(&format!("outrider-diag/{name}"), text.as_bytes(), now_s)?;
    }
    archive.end()?.finish()
}
