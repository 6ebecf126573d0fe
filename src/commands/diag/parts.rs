//! The parts of the archive. Each is bounded in size and in the time that it takes.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

use super::Part;
use crate::clock;
use crate::commands::configuration::ConfigArguments;
use crate::commands::doctor;
use crate::commands::operate::{self, Method};
use crate::config::Configuration;
use crate::config::effective::Shown;
use crate::config::host::Host;
use crate::disk;
use crate::keys::problem::Problems;
use crate::store::lock;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Files of the kernel say less than this.
const FILE_BYTES_MAX: u64 = 1 << 20;
const JOURNAL_LINES: &str = "2000";
const JOURNAL_BYTES_MAX: u64 = 2 << 20;
const JOURNAL_WITHIN: Duration = Duration::from_secs(10);
const FILES_MAX: usize = 2_000;

pub fn collect(arguments: &ConfigArguments, with_samples: bool) -> Vec<Part> {
    let part = |name, what, text| Part { name, text, what };
    let loaded = arguments.load();
    let report = doctor::examine(arguments, &doctor::Login::default());
    // What is wrong with a configuration is told with the values, which may be secret.
    let doctor = if loaded.is_ok() { report } else { report.without_configuration() };
    let mut parts = vec![
        part("doctor.txt", "what outrider doctor says", doctor.text(false)),
        part("doctor.json", "the same for programs", doctor.json()),
        part("configuration.toml", "what is in force, without secrets", configuration(arguments, &loaded)),
        part("versions.txt", "of program, kernel and system", versions()),
    ];
    let pid = loaded.as_ref().ok().and_then(|loaded| pid(&loaded.store.folder));
    if let Ok(loaded) = &loaded {
        let folder = &loaded.store.folder;
        parts.push(part("status.json", "what the running gateway says of itself", status(folder, with_samples)));
        parts.push(part("metrics.txt", "its metrics", get(folder, "/metrics").unwrap_or_else(|error| error)));
        parts.push(part("files.txt", "names and sizes of the files in the state folder", files(folder)));
    }
    parts.push(part("journal.txt", "the gateway's last lines in the journal", journal(pid)));
    parts.push(part("system.txt", "mounts, memory, disk, limits", system(loaded.as_ref().ok(), pid)));
    parts
}

fn configuration(arguments: &ConfigArguments, loaded: &Result<Configuration, Problems>) -> String {
    match loaded {
        Err(problems) => format!(
            "# It is wrong: {} problems, which outrider check names. They are left out here, because they quote values.\n",
            problems.len()
        ),
        Ok(_) => Configuration::show(&arguments.sources(), &Host::read(), Shown::Effective)
            .unwrap_or_else(|_| "# It has changed meanwhile.\n".to_owned()),
    }
}

fn versions() -> String {
    let mut text = format!("outrider {} for {}\n", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    text += &format!("SQLite {}\n", rusqlite::version());
    for file in ["/proc/version", "/etc/os-release"] {
        text += &format!("\n{file}\n{}", beginning(Path::new(file)));
    }
    text
}

/// The beginning of a file, or why there is none.
fn beginning(file: &Path) -> String {
    let mut bytes = Vec::new();
    let read = fs::File::open(file).and_then(|open| open.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("({error})\n"),
    }
}

/// The process that has the state folder, or had it last.
fn pid(folder: &Path) -> Option<u32> {
    fs::read_to_string(folder.join(lock::FILE_NAME)).ok()?.trim().parse().ok()
}

fn get(folder: &Path, path: &str) -> Result<String, String> {
    match operate::exchange(folder, &Method::Get { bytes_max: ANSWER_BYTES_MAX }, path, ANSWER_WITHIN) {
        Ok((200, text)) => Ok(text + "\n"),
        Ok((code, text)) => Err(format!("({code}: {text})\n")),
        Err(error) => Err(format!("({})\n", operate::explained(&error, folder))),
    }
}

/// What devices have sent is private: what could not be decoded is left out, unless it is asked for.
fn status(folder: &Path, with_samples: bool) -> String {
    let text = match get(folder, "/api/status") {
        Ok(text) => text,
        Err(error) => return error,
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(mut status) => {
            if !with_samples {
                without_samples(&mut status);
            }
            serde_json::to_string_pretty(&status).expect("plain data") + "\n"
        }
        Err(error) => format!("(not understood: {error})\n"),
    }
}

fn without_samples(status: &mut Value) {
    if let Some(status) = status.as_object_mut() {
        for key in ["rejected_samples", "undecodable"] {
            let count = status.get(key).and_then(Value::as_array).map(Vec::len);
            status.insert(key.to_owned(), count.map_or(Value::Null, |count| format!("{count}, left out").into()));
        }
    }
}

/// Two levels are enough: files of the archive are in folders of days.
fn files(folder: &Path) -> String {
    let mut text = String::new();
    let mut open = vec![(folder.to_owned(), 2)];
    let mut count = 0;
    while let Some((folder, depth)) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                text += &format!("{}: {error}\n", folder.display());
                continue;
            }
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(file) = entry.metadata() else { continue };
            count += 1;
            if count > FILES_MAX {
                return text + "and more\n";
            }
            let modified = file.modified().map_or(String::new(), |time| clock::rfc3339(clock::ms(time)));
            let (mode, uid, gid) = (file.permissions().mode() & 0o7777, file.uid(), file.gid());
            let path = entry.path();
            text += &format!("{mode:04o} {uid}:{gid} {:>12} {modified} {}\n", file.len(), path.display());
            if file.is_dir() && depth > 0 {
                open.push((path, depth - 1));
            }
        }
    }
    text
}

fn journal(pid: Option<u32>) -> String {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "-o", "short-iso", "-n", JOURNAL_LINES, "-b", "-u", "outrider"]);
    if let Some(pid) = pid {
        // Also if the unit is called otherwise; never what another process had to say that had this number.
        command.args(["+", "_COMM=outrider"]).arg(format!("_PID={pid}"));
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return format!("(no journal: {error})\n"),
    };
    let out = child.stdout.take().expect("it is piped");
    let (sender, read) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let bytes = read.recv_timeout(JOURNAL_WITHIN);
    let _ = child.kill();
    let _ = child.wait();
    match bytes {
        Ok(bytes) if bytes.is_empty() => "(no lines of the unit outrider)\n".to_owned(),
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => format!("(journalctl does not come to an end within {} s)\n", JOURNAL_WITHIN.as_secs()),
    }
}

fn system(configuration: Option<&Configuration>, pid: Option<u32>) -> String {
    let mut text =
        format!("now {}, clock synchronised: {}\n", clock::rfc3339(clock::now_ms()), clock::is_synchronised());
    if let Some(configuration) = configuration {
        let folder = disk::existing_part(&configuration.store.folder);
        let space = disk::space(folder).map(|space| format!("{space:?}"));
        text += &format!("{}: {}\n", folder.display(), space.unwrap_or_else(|error| error.to_string()));
    }
    let mut sources: Vec<String> =
        ["/proc/self/mountinfo", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/diskstats"]
            .map(str::to_owned)
            .into();
    if let Some(pid) = pid {
        // Its environment is left out: it may hold secrets.
        sources.extend(["limits", "status", "io"].map(|file| format!("/proc/{pid}/{file}")));
    }
    for file in sources {
        text += &format!("\n{file}\n{}", beginning(Path::new(&file)));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_devices_have_sent_is_left_out_and_counted() {
        let mut status = json!({ "version": "1", "rejected_samples": [{ "sample": "private" }], "undecodable": [] });
        without_samples(&mut status);
        assert_eq!(status, json!({ "version": "1", "rejected_samples": "1, left out", "undecodable": "0, left out" }));
    }
}
