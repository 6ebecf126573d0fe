//! The folder of the files: what is written is durable, keys can be read by their owner only, and nothing is overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::CertProblem;
use crate::tls;

const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// The folder of `outrider cert init`.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub fn make(path: &Path) -> Result<Folder, CertProblem> {
        let cannot = |problem| CertProblem::Write { path: path.to_owned(), problem };
        fs::create_dir_all(path).map_err(cannot)?;
        Ok(Folder::existing(path))
    }

    pub fn existing(path: &Path) -> Folder {
        // What is printed must work in every folder.
        Folder(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> Result<Vec<u8>, CertProblem> {
        let path = self.path(name);
        tls::read(&path).map_err(|problem| CertProblem::Read { path, problem })
    }

    pub fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    /// Whether a certificate and its key are there; one alone is a problem.
    pub fn has_pair(&self, name: &str) -> Result<bool, CertProblem> {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        match (self.has(&certificate), self.has(&key)) {
            (true, true) => Ok(true),
            (false, false) => Ok(false),
            (true, false) => Err(CertProblem::Half { there: certificate, missing: key }),
            (false, true) => Err(CertProblem::Half { there: key, missing: certificate }),
        }
    }

    /// Writes a certificate and its key, or neither.
    pub fn write_pair(&self, name: &str, certificate: &str, key: &str) -> Result<(), CertProblem> {
        let key_path = self.path(&format!("{name}.key"));
        if let Some(folder) = key_path.parent() {
            fs::create_dir_all(folder).map_err(|problem| CertProblem::Write { path: folder.to_owned(), problem })?;
        }
        write_new(&key_path, key.as_bytes(), KEY_MODE)?;
        let written = write_new(&self.path(&format!("{name}.pem")), certificate.as_bytes(), CERTIFICATE_MODE);
        if written.is_err() {
            // A key without its certificate would be in the way of the next attempt.
            let _ = fs::remove_file(&key_path);
        }
        written
    }

    /// Takes the place where a file is written before it replaces another one. Whoever finds it taken must wait: two that read the same
    /// file and both replace it would lose what one of them has added.
    pub fn replacement(&self, name: &str) -> Result<Replacement, CertProblem> {
        let temporary = self.path(&format!("{name}.new"));
        let file = create_new(&temporary, CERTIFICATE_MODE).map_err(|problem| match problem.kind() {
            io::ErrorKind::AlreadyExists => CertProblem::Busy(temporary.clone()),
            _ => CertProblem::Write { path: temporary.clone(), problem },
        })?;
        Ok(Replacement { file, temporary, path: self.path(name), is_done: false })
    }
}

/// The place of a file that is about to be replaced.
pub(super) struct Replacement {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    is_done: bool,
}

impl Replacement {
    pub fn write(mut self, content: &[u8]) -> Result<(), CertProblem> {
        let written = self.file.write_all(content).and_then(|()| self.file.sync_all());
        let renamed = written.and_then(|()| fs::rename(&self.temporary, &self.path));
        renamed.map_err(|problem| CertProblem::Write { path: self.path.clone(), problem })?;
        self.is_done = true;
        sync_parent(&self.path);
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A path as a value in TOML.
pub(super) fn toml_text(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.contains('\'') || text.chars().any(char::is_control) {
        false if !text.contains(['"', '\\']) => format!("\"{text}\""),
        false => format!("'{text}'"),
        true => format!("{text:?}"),
    }
}

/// A path as a word of a shell.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |character: char| character.is_alphanumeric() || "/._-:,@".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), CertProblem> {
    let cannot = |problem| CertProblem::Write { path: path.to_owned(), problem };
    let mut file = create_new(path, mode).map_err(cannot)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.map_err(cannot)?;
    sync_parent(path);
    Ok(())
}

fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Some file systems cannot; the file itself is written.
fn sync_parent(path: &Path) {
    let _ = path.parent().map(|parent| File::open(parent).and_then(|folder| folder.sync_all()));
}
