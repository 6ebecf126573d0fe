//! Loads the rules again: on SIGHUP, on request, and when their files change. New rules take the place of the old ones as a whole; if they
//! are wrong, the old ones stay, and the log, the status and an alert say why. The log and the alert also name rules that are slow.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::clock;
use crate::core::detection::alert::{Report, Trouble};
use crate::core::rulebook::{Rulebook, SlowRules};
use crate::handoff::Input;
use crate::handoff::rules::{CurrentRules, LoadedRules, Reloaded, RuleSource};
use crate::pipeline::Message;

/// How often it is looked whether files have changed. What has changed is loaded once it stays the same for as long: it may be half written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves for as long as the gateway runs.
pub(super) async fn run(source: Option<RuleSource>, rules: CurrentRules, pipeline: mpsc::Sender<Message>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!(%error, "rules are not loaded again: SIGHUP cannot be caught"),
    };
    let Some(source) = source else {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: there is nothing to load again");
        }
        return;
    };
    let mut files = Files::new(source.watched.clone());
    let mut slow = SlowRules::default();
    loop {
        let is_asked = tokio::select! {
            asked = hangup.recv() => asked.is_some(),
            () = rules.asked() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        if is_asked || files.have_changed() {
            let asking = rules.take_asking();
            let loaded = load(&source).await;
            if let Ok(loaded) = &loaded {
                files = Files::new(loaded.watched.clone());
            }
            let reloaded = adopt(&rules, loaded);
            for answer in asking {
                // Whoever asked may have gone.
                let _ = answer.send(reloaded.clone());
            }
        }
        if slow.look(&rules.book(), clock::nanoseconds()) {
            match slow.text() {
                Some(text) => tracing::warn!("rules take much of the processor: {text}"),
                None => tracing::info!("no rule takes much of the processor any more"),
            }
        }
        let error = rules.error().map(|error| format!("the rules before stay in force: {error}"));
        let troubles: Vec<String> = error.into_iter().chain(slow.text()).collect();
        if !troubles.is_empty() {
            let report = Report::new(Trouble::Rules, troubles.join("; "));
            // Without a pipeline the process is ending.
            let _ = pipeline.send(Message::Input(Input::Report(report)));
        }
    }
}

/// On a thread of its own: reading files must not hold up devices.
async fn load(source: &RuleSource) -> Result<LoadedRules, String> {
    let (sender, loaded) = oneshot::channel();
    let load = Arc::clone(&source.load);
    let spawned = std::thread::Builder::new().name("rules".to_owned()).spawn(move || sender.send(load()));
    match spawned {
        Ok(_) => loaded.await.unwrap_or_else(|_| Err("loading them ended unexpectedly".to_owned())),
        Err(error) => Err(format!("no thread to load them: {error}")),
    }
}

fn adopt(rules: &CurrentRules, loaded: Result<LoadedRules, String>) -> Reloaded {
    match loaded {
        Ok(LoadedRules { mut book, needs_restart, .. }) => {
            let before = rules.book();
            book.succeed(&before);
            let mut text = changes(&before, &book);
            if !needs_restart.is_empty() {
                text.push_str(&format!("; also changed, for which a restart is needed: {}", needs_restart.join(", ")));
            }
            tracing::info!("rules loaded again: {text}");
            rules.replace(Arc::from(book));
            Ok(text)
        }
        Err(error) => {
            if rules.error().as_ref() != Some(&error) {
                tracing::error!("the rules are not loaded again, those before stay in force: {error}");
            }
            rules.refuse(error.clone());
            Err(error)
        }
    }
}

/// What is another one, in words.
fn changes(before: &Rulebook, book: &Rulebook) -> String {
    let names = |one: &Rulebook, other: &Rulebook, is_listed: fn(Option<u64>, u64) -> bool| -> Vec<String> {
        let fingerprint = |name: &str| other.named(name).map(|rule| rule.fingerprint);
        let listed = one.rules().iter().filter(|rule| is_listed(fingerprint(&rule.name), rule.fingerprint));
        listed.map(|rule| rule.name.to_string()).collect()
    };
    let added = names(book, before, |known, _| known.is_none());
    let changed = names(book, before, |known, now| known.is_some_and(|known| known != now));
    let removed = names(before, book, |known, _| known.is_none());
    let parts = [("added", added), ("changed", changed), ("removed", removed)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", names.join(", ")))
        .collect();
    let count = crate::counter::many(book.rules().len() as u64, "rule");
    match parts.is_empty() {
        true => format!("{count}, as before"),
        false => format!("{count}: {}", parts.join("; ")),
    }
}

/// What the files look like, from outside.
struct Files {
    paths: Vec<PathBuf>,
    known: u64,
    seen: u64,
}

impl Files {
    fn new(paths: Vec<PathBuf>) -> Files {
        let known = look(&paths);
        Files { paths, known, seen: known }
    }

    /// Whether they are others than before, and have been the same for two looks.
    fn have_changed(&mut self) -> bool {
        let now = look(&self.paths);
        let has_settled = std::mem::replace(&mut self.seen, now) == now;
        let has_changed = has_settled && now != self.known;
        if has_changed {
            self.known = now;
        }
        has_changed
    }
}

/// Sizes, times and names: of a folder, those of what is in it.
fn look(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut files: Vec<PathBuf> = paths.to_vec();
    for path in paths {
        if let Ok(entries) = std::fs::read_dir(path) {
            files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    files.sort();
    for file in files {
        let metadata = std::fs::metadata(&file).ok();
        let seen = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
        (file, seen).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_change_are_noticed_once_they_stay_the_same() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut files = Files::new(vec![folder.path().join("rules.d")]);
        assert!(!files.have_changed());
        std::fs::create_dir(folder.path().join("rules.d")).expect("a folder");
        std::fs::write(folder.path().join("rules.d/a.toml"), "x").expect("a file");
        assert!(!files.have_changed(), "it may be half written");
        std::fs::write(folder.path().join("rules.d/a.toml"), "xy").expect("a file");
        assert!(!files.have_changed(), "it was");
        assert!(files.have_changed() && !files.have_changed());
        std::fs::remove_file(folder.path().join("rules.d/a.toml")).expect("a file");
        assert!(!files.have_changed() && files.have_changed());
    }
}
