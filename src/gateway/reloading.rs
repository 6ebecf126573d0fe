//! Loads the configuration again: on SIGHUP, on request, and when its files change. Rules, certificates, users, rights and tokens take the
//! place of the old ones as a whole; if anything is wrong, the old ones stay, and the log, the status and alerts say why. The log and the
//! alerts also name rules that are slow, and certificates that are about to expire.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use super::certificates::Expiries;
use crate::admin::access::{Access, CurrentAccess};
use crate::clock;
use crate::core::detection::alert::{Report, Trouble};
use crate::core::rulebook::{Rulebook, SlowRules};
use crate::handoff::Input;
use crate::handoff::rules::{CurrentRules, Reloaded};
use crate::mqtt::listener::{CurrentPolicies, ListenerSettings, Policy};
use crate::pipeline::Message;
use crate::systemd::Notifier;

/// How often it is looked whether files have changed. What has changed is loaded once it stays the same for as long: it may be half written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What holds from now on.
#[derive(Debug)]
pub struct Loaded {
    pub book: Box<Rulebook>,
    /// Each with its listener.
    pub policies: Vec<(ListenerSettings, Arc<Policy>)>,
    /// Of the administration interface, with its address.
    pub admin: (Option<SocketAddr>, Arc<Access>),
    /// Files and folders which, when they change, may say something else.
    pub watched: Vec<PathBuf>,
    /// What else has changed, and holds from the next start only.
    pub needs_restart: Vec<&'static str>,
}

/// Why nothing of it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// For people.
    pub text: String,
    pub concern: Concern,
}

/// What a problem is about, by which it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    Rules,
    Listeners,
    Admin,
}

/// Where the configuration comes from.
#[derive(Clone)]
pub struct ConfigurationSource {
    /// Loads it again.
    pub load: Arc<dyn Fn() -> Result<Loaded, LoadError> + Send + Sync>,
    /// As in [`Loaded::watched`].
    pub watched: Vec<PathBuf>,
}

impl fmt::Debug for ConfigurationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigurationSource").field("watched", &self.watched).finish_non_exhaustive()
    }
}

/// What is replaced while the gateway runs.
pub(super) struct Reloading {
    /// In the order of their policies.
    pub listeners: Vec<ListenerSettings>,
    pub policies: CurrentPolicies,
    /// The administration interface: its address, and who may use it.
    pub admin: (Option<SocketAddr>, CurrentAccess),
    pub rules: CurrentRules,
    pub pipeline: mpsc::Sender<Message>,
    pub notifier: Notifier,
}

impl Reloading {
    /// Serves for as long as the gateway runs.
    ///
    /// `hangup` is made before anybody is told that the gateway is ready: until then a SIGHUP ends the process.
    pub async fn run(self, source: Option<ConfigurationSource>, hangup: io::Result<Signal>) {
        let mut hangup = match hangup {
            Ok(hangup) => hangup,
            Err(error) => {
                return tracing::error!(%error, "nothing is loaded again: SIGHUP cannot be caught");
            }
        };
        let Some(source) = source else {
            while hangup.recv().await.is_some() {
                // Whoever sent it through systemd waits for an answer.
                self.notifier.reloading();
                tracing::info!("SIGHUP: there is nothing to load again");
                self.notifier.ready();
            }
            return;
        };
        let mut files = Files::new(source.watched.clone());
        let (mut slow, mut expiries, mut failed) = (SlowRules::default(), Expiries::default(), None);
        loop {
            let is_asked = tokio::select! {
                asked = hangup.recv() => asked.is_some(),
                () = self.rules.asked() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if is_asked || files.have_changed() {
                let asking = self.rules.take_asking();
                let before = look(&files.paths);
                self.notifier.reloading();
                let loaded = load(&source).await;
                if let Ok(loaded) = &loaded {
                    // What has changed while it was loaded is another change.
                    files = Files { known: before, ..Files::new(loaded.watched.clone()) };
                }
                failed = loaded.as_ref().err().cloned();
                let reloaded = self.adopt(loaded);
                self.notifier.ready();
                for answer in asking {
                    // Whoever asked may have gone.
                    let _ = answer.send(reloaded.clone());
                }
            }
            if slow.look(&self.rules.book(), clock::nanoseconds()) {
                match slow.text() {
                    Some(text) => tracing::warn!("rules take much of the processor: {text}"),
                    None => tracing::info!("no rule takes much of the processor any more"),
                }
            }
            self.report_rules(failed.as_ref(), slow.text());
            self.report_listeners(failed.as_ref(), &mut expiries);
            self.report_admin(failed.as_ref(), &mut expiries);
        }
    }

    fn adopt(&self, loaded: Result<Loaded, LoadError>) -> Reloaded {
        match loaded {
            Ok(Loaded { mut book, policies, admin, needs_restart, .. }) => {
                let before = self.rules.book();
                book.succeed(&before);
                let mut text = changes(&before, &book);
                if !needs_restart.is_empty() {
                    let parts = needs_restart.join(", ");
                    text.push_str(&format!("; also changed, for which a restart is needed: {parts}"));
                }
                tracing::info!(
                    "loaded again: {text}; certificates, users, rights and tokens are as their files are now"
                );
                self.rules.replace(Arc::from(book));
                self.replace_policies(policies);
                self.replace_access(admin);
                Ok(text)
            }
            Err(LoadError { text, .. }) => {
                if self.rules.error().as_ref() != Some(&text) {
                    tracing::error!("nothing is loaded again, what was in force before stays: {text}");
                }
                self.rules.refuse(text.clone());
                Err(text)
            }
        }
    }

    /// A policy is for the address that it was written for: a listener that is not configured as it runs keeps its own until a restart.
    fn replace_policies(&self, mut policies: Vec<(ListenerSettings, Arc<Policy>)>) {
        let mut policy_of = |listener: &ListenerSettings, old: Arc<Policy>| {
            let is_for_it = |(other, new): &(ListenerSettings, Arc<Policy>)| {
                let ListenerSettings { name, listen, is_websocket, .. } = other;
                (name, listen, is_websocket) == (&listener.name, &listener.listen, &listener.is_websocket)
                    && new.tls.is_some() == old.tls.is_some()
            };
            match policies.iter().position(is_for_it) {
                Some(at) => policies.swap_remove(at).1,
                None => {
                    let name = &listener.name;
                    tracing::warn!("listener {name} is configured otherwise: it stays as it is until a restart");
                    old
                }
            }
        };
        let before = self.policies.all();
        let now = self.listeners.iter().zip(before).map(|(listener, old)| policy_of(listener, old)).collect();
        self.policies.replace(now);
    }

    /// As for listeners: who may use the interface was said for one address, with TLS or without it.
    fn replace_access(&self, (listen, access): (Option<SocketAddr>, Arc<Access>)) {
        let (own, current) = &self.admin;
        match listen == *own && access.tls.is_some() == current.get().tls.is_some() {
            true => current.replace(access),
            false => {
                tracing::warn!(
                    "the administration interface is configured otherwise: it stays as it is until a restart"
                );
            }
        }
    }

    fn report_rules(&self, failed: Option<&LoadError>, slow: Option<String>) {
        let error = failed.filter(|error| error.concern == Concern::Rules);
        let error = error.map(|error| format!("the rules before stay in force: {}", error.text));
        let troubles: Vec<String> = error.into_iter().chain(slow).collect();
        if !troubles.is_empty() {
            self.report(Trouble::Rules, troubles.join("; "));
        }
    }

    /// Files that are wrong concern all listeners: none has been given what is new.
    fn report_listeners(&self, failed: Option<&LoadError>, expiries: &mut Expiries) {
        let failed = failed.filter(|error| error.concern == Concern::Listeners);
        for (ListenerSettings { name, .. }, policy) in self.listeners.iter().zip(self.policies.all()) {
            let error = failed.filter(|_| policy.tls.is_some() || policy.users.is_some());
            let error = error.map(stays);
            let tls = policy.tls.as_deref();
            let expiry = tls.and_then(|tls| expiries.look(&format!("listener {name}"), &tls.expiries, clock::now_ms()));
            let troubles: Vec<String> = error.into_iter().chain(expiry).collect();
            if !troubles.is_empty() {
                self.report(Trouble::Certificate(name.clone()), troubles.join("; "));
            }
        }
    }

    fn report_admin(&self, failed: Option<&LoadError>, expiries: &mut Expiries) {
        let error = failed.filter(|error| error.concern == Concern::Admin).map(stays);
        let access = self.admin.1.get();
        let tls = access.tls.as_deref();
        let expiry = tls.and_then(|tls| expiries.look("administration interface", &tls.expiries, clock::now_ms()));
        let troubles: Vec<String> = error.into_iter().chain(expiry).collect();
        if !troubles.is_empty() {
            self.report(Trouble::Admin, troubles.join("; "));
        }
    }

    fn report(&self, trouble: Trouble, text: String) {
        // Without a pipeline the process is ending.
        let _ = self.pipeline.send(Message::Input(Input::Report(Report::new(trouble, text))));
    }
}

fn stays(error: &LoadError) -> String {
    format!("what was in force before stays: {}", error.text)
}

/// On a thread of its own: reading files must not hold up devices.
async fn load(source: &ConfigurationSource) -> Result<Loaded, LoadError> {
    let failed = |text: String| LoadError { text, concern: Concern::Rules };
    let (sender, loaded) = oneshot::channel();
    let load = Arc::clone(&source.load);
    let spawned = std::thread::Builder::new().name("reload".to_owned()).spawn(move || sender.send(load()));
    match spawned {
        Ok(_) => loaded.await.unwrap_or_else(|_| Err(failed("loading ended unexpectedly".to_owned()))),
        Err(error) => Err(failed(format!("no thread to load with: {error}"))),
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
