//! Whether a link is metered: by the configuration, by a file that something else on the machine writes, or by NetworkManager.
//!
//! NetworkManager is asked by its own command, which needs no D-Bus here, every half minute and with a time limit. Where it is not there, hangs, or
//! does not know, nobody knows, and a link on which anything is limited counts as metered.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::SharedLink;
use crate::core::link::Metered;

const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Nothing that it says is longer.
const ANSWER_BYTES_MAX: u64 = 256;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_POLL: Duration = Duration::from_millis(50);

/// Who says whether a link is metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeteredBy {
    /// The configuration: it is.
    Yes,
    /// The configuration: it is not.
    No,
    /// A file with one word, and where that says nothing NetworkManager, of an interface; nobody, if there is neither.
    Auto { file: Option<PathBuf>, interface: Option<String> },
}

impl MeteredBy {
    /// What is known without looking.
    pub fn at_start(&self) -> Metered {
        match self {
            MeteredBy::Yes => Metered::Yes,
            MeteredBy::No => Metered::No,
            _ => Metered::Unknown,
        }
    }

    /// Whether somebody says so, or can be asked.
    pub fn is_known(&self) -> bool {
        matches!(self, MeteredBy::Yes | MeteredBy::No) || self.needs_looking()
    }

    fn needs_looking(&self) -> bool {
        matches!(self, MeteredBy::Auto { file: Some(_), .. } | MeteredBy::Auto { interface: Some(_), .. })
    }

    /// What is known now.
    fn look(&self) -> Metered {
        let MeteredBy::Auto { file, interface } = self else { return self.at_start() };
        let said = file.as_deref().map_or(Metered::Unknown, of_file);
        match (said, interface) {
            (Metered::Unknown, Some(interface)) => of_network_manager("nmcli", interface),
            _ => said,
        }
    }
}

/// Looks at once, and from then on every half minute, for as long as the links are there.
///
/// # Errors
///
/// If there can be no further thread.
pub fn watch(links: &[Arc<SharedLink>]) -> std::io::Result<()> {
    let watched: Vec<Weak<SharedLink>> =
        links.iter().filter(|link| link.metered.needs_looking()).map(Arc::downgrade).collect();
    if watched.is_empty() {
        return Ok(());
    }
    let look = move || {
        loop {
            let mut is_any_left = false;
            for link in watched.iter().filter_map(Weak::upgrade) {
                is_any_left = true;
                link.set_metered(link.metered.look());
            }
            if !is_any_left {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new().name("links".to_owned()).spawn(look).map(drop)
}

/// What a file says of a link.
pub fn of_file(path: &Path) -> Metered {
    // Whoever opens a pipe waits for somebody to write.
    if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Metered::Unknown;
    }
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(ANSWER_BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => of_words(&text),
        Err(_) => Metered::Unknown,
    }
}

/// The words that a file may hold, and those of NetworkManager, which adds in brackets that it has guessed.
fn of_words(text: &str) -> Metered {
    match text.split_whitespace().next().map(str::to_ascii_lowercase).as_deref() {
        Some("yes" | "metered" | "true" | "1") => Metered::Yes,
        Some("no" | "unmetered" | "false" | "0") => Metered::No,
        _ => Metered::Unknown,
    }
}

fn of_network_manager(command: &str, interface: &str) -> Metered {
    let arguments = ["-t", "-g", "GENERAL.METERED", "device", "show", interface];
    let started = Command::new(command)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut process) = started else { return Metered::Unknown };
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        match process.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(None) if Instant::now() < until => std::thread::sleep(ANSWER_POLL),
            _ => {
                let _ = process.kill();
                let _ = process.wait();
                return Metered::Unknown;
            }
        }
    }
    let mut text = String::new();
    match process.stdout.take().map(|out| out.take(ANSWER_BYTES_MAX).read_to_string(&mut text)) {
        Some(Ok(_)) => of_words(&text),
        _ => Metered::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn words_are_understood_and_others_say_nothing() {
        for (text, metered) in [
            ("yes\n", Metered::Yes),
            ("yes (guessed)\n", Metered::Yes),
            ("no (guessed)", Metered::No),
            ("Metered", Metered::Yes),
            ("0\n", Metered::No),
            ("unknown", Metered::Unknown),
            ("", Metered::Unknown),
            ("\u{0}\u{1}", Metered::Unknown),
        ] {
            assert_eq!(of_words(text), metered, "{text:?}");
        }
    }

    #[test]
    fn a_file_says_it_and_one_that_is_not_there_says_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metered");
        assert_eq!(of_file(&path), Metered::Unknown);
        std::fs::write(&path, "no\n").expect("writable");
        assert_eq!(of_file(&path), Metered::No);
        assert_eq!(of_file(folder.path()), Metered::Unknown);
        let pipe = folder.path().join("pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).expect("a path");
        // SAFETY: `name` ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert_eq!(of_file(&pipe), Metered::Unknown, "it does not wait");
    }

    #[test]
    fn network_manager_is_asked_by_its_command() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let command = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
            path.to_str().expect("text").to_owned()
        };
        assert_eq!(
            of_network_manager(&command("a", "[ \"$6\" = wwan0 ] && echo 'yes (guessed)'"), "wwan0"),
            Metered::Yes
        );
        assert_eq!(of_network_manager(&command("b", "echo yes; exit 10"), "wwan0"), Metered::Unknown);
        assert_eq!(of_network_manager("/no/such/command", "wwan0"), Metered::Unknown);
    }
}
