//! `outrider cert`: makes a CA of one's own, certificates of the server and of devices, and the list of those that are revoked.
//!
//! What is there is never overwritten, but for the revocation list, which grows. A key is in no place but its file.

mod authority;
mod folder;
mod names;
mod revocation;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::Exit;
use crate::tls::FileProblem;
use authority::{Authority, Purpose};
use folder::{Folder, shell_word, toml_text};
use names::{DeviceName, HostName};

/// Makes certificates, and revokes them.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Make a CA, a certificate for the gateway and certificates for devices, as far as they are not there
    Init(InitArguments),
    /// Revoke certificates of devices; without names, renew the list of those that are revoked
    Revoke(RevokeArguments),
}

/// The arguments of `outrider cert init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Where the files are made; a CA that is there is used
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// A name or an address by which devices reach the gateway [default: localhost, 127.0.0.1, ::1 and the name of this machine]
    #[arg(long = "host", value_name = "NAME_OR_IP")]
    hosts: Vec<HostName>,
    /// A device that gets a certificate of its own
    #[arg(long = "device", value_name = "NAME")]
    devices: Vec<DeviceName>,
    /// How long the certificates of the gateway and of devices are valid
    #[arg(long, value_name = "N", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

/// The arguments of `outrider cert revoke`.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// The folder of `outrider cert init`
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Devices whose certificates are revoked
    #[arg(value_name = "NAME")]
    devices: Vec<DeviceName>,
    /// After how long the gateway warns that the list is old; it still holds then
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

/// Why certificates could not be made or revoked.
#[derive(Debug, thiserror::Error)]
enum CertProblem {
    #[error("{} cannot be written: {problem}", path.display())]
    Write { path: PathBuf, problem: io::Error },
    #[error("{}: {problem}", path.display())]
    Read { path: PathBuf, problem: FileProblem },
    #[error("{there} is there without {missing}: put that one back, or remove {there} to have both made anew")]
    Half { there: String, missing: String },
    #[error("{} has no ca.pem and ca.key; outrider cert init makes them", .0.display())]
    NoAuthority(PathBuf),
    #[error("{}: {problem}", path.display())]
    Authority { path: PathBuf, problem: &'static str },
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{} is not a certificate of the CA in ca.pem, which alone can revoke it", .0.display())]
    Stranger(PathBuf),
    #[error("{} is not a revocation list of the CA in ca.pem: move it elsewhere, and list both in client_crl", .0.display())]
    ForeignList(PathBuf),
    #[error("{} is there: another revocation is under way, or was cut off; remove it in that case", .0.display())]
    Busy(PathBuf),
}

/// Runs `outrider cert`.
pub fn command(command: &CertCommand) -> ExitCode {
    let mut report = String::new();
    let now = OffsetDateTime::from(std::time::SystemTime::now());
    let done = match command {
        CertCommand::Init(arguments) => init(arguments, &host_name(), now, &mut report),
        CertCommand::Revoke(arguments) => revoke(arguments, now, &mut report),
    };
    // What was made before a problem is there. The reader may have closed the pipe early.
    let _ = io::stdout().write_all(report.as_bytes());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("outrider: {problem}");
            Exit::RunTime.into()
        }
    }
}

/// `machine`: the name of this machine.
fn init(arguments: &InitArguments, machine: &str, now: OffsetDateTime, report: &mut String) -> Result<(), CertProblem> {
    let folder = Folder::make(&arguments.folder)?;
    let authority = match Authority::open(&folder)? {
        Some(authority) => {
            report.push_str("ca.pem, ca.key: are there, and sign what is made\n");
            authority
        }
        None => {
            let authority = Authority::make(&folder, now)?;
            report.push_str("ca.pem: made; the CA, which every device needs to recognise the gateway\n");
            report
                .push_str("ca.key: made; signs certificates. The gateway does not need it: keep it in a safe place\n");
            authority
        }
    };
    let until = authority.until(now, arguments.days);
    let hosts = match arguments.hosts.as_slice() {
        [] => HostName::defaults(machine),
        given => given.to_vec(),
    };
    let made = authority.issue(&folder, "server", &Purpose::Server(&hosts), (now, until))?;
    let names = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = match made {
        true => writeln!(report, "server.pem, server.key: made; the gateway, as {names}, until {}", until.date()),
        false => {
            writeln!(report, "server.pem, server.key: are there and stay as they are; remove both to have others made")
        }
    };
    for device in &arguments.devices {
        let name = format!("devices/{device}");
        let made = authority.issue(&folder, &name, &Purpose::Device(device), (now, until))?;
        let _ = match made {
            true => writeln!(report, "{name}.pem, {name}.key: made; for the device {device}, until {}", until.date()),
            false => writeln!(report, "{name}.pem, {name}.key: are there and stay as they are"),
        };
    }
    let mut names = hosts.iter().map(ToString::to_string);
    let host = names.find(|host| !host.starts_with('*')).unwrap_or_else(|| "HOST".to_owned());
    describe_use(&folder, &host, arguments.devices.first(), report);
    Ok(())
}

fn describe_use(folder: &Folder, host: &str, device: Option<&DeviceName>, report: &mut String) {
    let text = |name: &str| toml_text(&folder.path(name));
    let word = |name: &str| shell_word(&folder.path(name));
    report.push_str("\nIn the configuration of the gateway, whose user must be able to read server.key:\n");
    let _ = writeln!(report, "  [[listener]]\n  listen = \"0.0.0.0:8883\"");
    let _ = writeln!(report, "  tls_certificate = {}\n  tls_key = {}", text("server.pem"), text("server.key"));
    let (credentials, topic) = match device {
        Some(device) => {
            let _ = writeln!(report, "  client_ca = [{}]", text("ca.pem"));
            if folder.has("crl.pem") {
                let _ = writeln!(report, "  client_crl = [{}]", text("crl.pem"));
            }
            report.push_str("  [[right]]        # each device on its own topics, and nowhere else\n");
            report.push_str("  topic = \"devices/{cn}/#\"\n  allow = [\"publish\"]\n");
            let (own, key) = (format!("devices/{device}.pem"), format!("devices/{device}.key"));
            (format!(" --cert {} --key {}", word(&own), word(&key)), format!("devices/{device}"))
        }
        None => {
            report.push_str(
                "  # and who may connect: `users`, anonymous = true, or devices with certificates (--device NAME):\n",
            );
            let _ = writeln!(report, "  # client_ca = [{}]", text("ca.pem"));
            (String::new(), "devices/a".to_owned())
        }
    };
    report.push_str("\nA client:\n");
    let (ca, topic) = (word("ca.pem"), shell_word(Path::new(&topic)));
    let message = "'{\"temperature\":22.5}'";
    let _ =
        writeln!(report, "  mosquitto_pub -h {host} -p 8883 --cafile {ca}{credentials} -q 1 -t {topic} -m {message}");
}

fn revoke(arguments: &RevokeArguments, now: OffsetDateTime, report: &mut String) -> Result<(), CertProblem> {
    let folder = Folder::existing(&arguments.folder);
    let authority = Authority::open(&folder)?.ok_or_else(|| CertProblem::NoAuthority(arguments.folder.clone()))?;
    let renewal = now + time::Duration::days(arguments.days.into());
    let outcome = revocation::revoke(&folder, &authority, &arguments.devices, (now, renewal))?;
    for (device, is_new) in arguments.devices.iter().zip(&outcome.is_new) {
        let _ = match is_new {
            true => writeln!(report, "devices/{device}.pem: revoked; remove it and its key before another one is made"),
            false => writeln!(report, "devices/{device}.pem: is revoked already"),
        };
    }
    let (count, date) = (outcome.revoked, renewal.date());
    let noun = if count == 1 { "certificate is" } else { "certificates are" };
    let _ = writeln!(
        report,
        "crl.pem: written; {count} {noun} revoked. The gateway warns if it is not renewed until {date}"
    );
    let list = toml_text(&folder.path("crl.pem"));
    let _ = writeln!(report, "\nIn the configuration of the gateway, beside client_ca:\n  client_crl = [{list}]");
    Ok(())
}

fn host_name() -> String {
    let first_line = |path: &str| std::fs::read_to_string(path).ok()?.lines().next().map(|line| line.trim().to_owned());
    first_line("/proc/sys/kernel/hostname").or_else(|| first_line("/etc/hostname")).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
