//! Reads `[[listener]]` and `[[right]]`, and the files that they name.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exposure::expect_closed;
use super::sections::{Mqtt, Reader};
use crate::core::mqtt::access::users::Users;
use crate::core::mqtt::access::{Access, Acl, Allowed, DenyCode, LineProblem, RIGHTS_MAX, Right};
use crate::keys::key::Group;
use crate::keys::section::Section;
use crate::keys::units::format_size;
use crate::mqtt::listener::{ClientLimits, ListenerSettings, Policy};
use crate::tls::identity::Template;
use crate::tls::{self, Tls, TlsFiles};

/// Most listeners: each is a socket.
const LISTENERS_MAX: usize = 32;
/// A longer file is not one of users, nor of rights.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The key of the listener that is there without any section.
const MQTT_LISTEN: &str = "mqtt.listen";

/// What a right may allow.
const ACTIONS: [&str; 3] = ["publish", "subscribe", "acknowledge"];

/// All listeners, and what is allowed there.
#[derive(Clone, Debug, Default)]
pub struct ListenersConfiguration {
    pub listeners: Vec<ListenerSettings>,
    /// One for each.
    pub policies: Vec<Arc<Policy>>,
    /// Files which, when they change, may say something else.
    pub watched: Vec<PathBuf>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

impl ListenersConfiguration {
    fn add(&mut self, listener: ListenerSettings, policy: Policy) {
        self.listeners.push(listener);
        self.policies.push(Arc::new(policy));
    }
}

impl Reader<'_> {
    /// Reads all listeners, of which that of `[mqtt]` is the first if there is no other, or if its address is given. `file` is that of the
    /// configuration: relative paths begin beside it.
    pub(super) fn listeners(&mut self, file: Option<&Path>, mqtt: &Mqtt) -> ListenersConfiguration {
        let beside = file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let rights = self.rights();
        let mut all = ListenersConfiguration::default();
        let is_alone = !self.document.lists.contains_key(Group::Listener.section());
        if is_alone || mqtt.is_listen_given {
            let settings = ListenerSettings {
                client: mqtt.client.clone(),
                ..ListenerSettings::plain("mqtt", MQTT_LISTEN, mqtt.listen)
            };
            let access = Access::new(rights.clone(), None, true).expect("they are counted");
            all.add(settings, Policy { access, ..Policy::open() });
        }
        self.each(Group::Listener, |section| read(section, &beside, mqtt, &rights, &mut all));
        all
    }

    fn rights(&mut self) -> Vec<Right> {
        let mut rights = Vec::new();
        self.each(Group::Right, |mut section| {
            let (who, topic, allow) = (section.text("who"), section.text("topic"), allowed(&mut section));
            let deny_code = section.choice("deny_code", &DenyCode::NAMES).unwrap_or_default();
            if rights.len() == RIGHTS_MAX {
                section.blame_section(format!("more than {RIGHTS_MAX} rights"));
            } else if let (Some(topic), Some(allow)) = (topic, allow) {
                match Right::new(who.as_deref(), &topic, allow, deny_code) {
                    Ok(right) => rights.push(right),
                    Err(error) => section.blame("topic", error.to_string()),
                }
            }
            section.finish();
        });
        rights
    }
}

fn allowed(section: &mut Section<'_>) -> Option<Allowed> {
    let words = section.texts_if_there("allow")?;
    if let Some(unknown) = words.iter().find(|word| !ACTIONS.contains(&word.as_str())) {
        let known = ACTIONS.map(|word| format!("\"{word}\"")).join(", ");
        section.blame("allow", format!("\"{unknown}\" is nothing that can be allowed; there are {known}"));
        return None;
    }
    let has = |word: &str| words.iter().any(|known| known == word);
    Some(Allowed { publish: has("publish"), subscribe: has("subscribe"), acknowledge: has("acknowledge") })
}

fn read(mut section: Section<'_>, beside: &Path, mqtt: &Mqtt, rights: &[Right], all: &mut ListenersConfiguration) {
    let number = all.listeners.iter().filter(|known| known.key != MQTT_LISTEN).count() + 1;
    let name = section.text("name").unwrap_or_else(|| format!("listener-{number}"));
    let listen = section.given_listen("listen");
    if number > LISTENERS_MAX {
        section.blame_section(format!("more than {LISTENERS_MAX} listeners"));
    }
    if all.listeners.iter().any(|known| known.name == name) {
        section.blame("name", "another listener has this name");
    }
    if let Some(listen) = listen
        && listen.port() != 0
        && all.listeners.iter().any(|known| known.listen == listen)
    {
        section.blame("listen", "another listener has this address");
    }
    let settings = ListenerSettings {
        name,
        key: format!("{}.listen", section.place().1),
        listen: listen.unwrap_or(mqtt.listen),
        is_websocket: section.boolean("websocket"),
        origins: section.texts("websocket_origins"),
        client: client_limits(&mut section, &mqtt.client),
    };
    let mut files = Files { section: &mut section, beside, watched: &mut all.watched };
    let (tls, users, acl) = (files.tls(), files.users(), files.acl());
    let identity = identity(&mut section);
    let allows_anonymous = section.boolean("anonymous");
    let has_client_ca = section.has("client_ca");
    let has_authentication = !allows_anonymous && (section.has("users") || has_client_ca);
    if !allows_anonymous && !has_authentication {
        section.blame_section("nobody could log in: it needs `users`, `client_ca`, or anonymous = true");
    }
    let is_insecure = section.boolean("insecure");
    let is_encrypted = section.has("tls_certificate");
    if let Some(listen) = listen
        && !is_insecure
    {
        expect_closed(&mut section, listen, is_encrypted, has_authentication);
    }
    if settings.is_websocket && !settings.origins.is_empty() && settings.origins.iter().any(|origin| origin == "*") {
        all.warnings.push(format!("listener {}: pages of every site may connect to it", settings.name));
    }
    if let Some(tls) = &tls {
        all.warnings.extend(tls.warnings.iter().map(|warning| format!("listener {}: {warning}", settings.name)));
    }
    let access = Access::new(rights.to_vec(), acl, allows_anonymous).expect("they are counted");
    all.add(settings, Policy { tls, identity, users, allows_anonymous, access });
    section.finish();
}

fn identity(section: &mut Section<'_>) -> Template {
    let text = section.text("identity").unwrap_or_default();
    text.parse().unwrap_or_else(|error: tls::identity::TemplateError| {
        section.blame("identity", error.to_string());
        Template::default()
    })
}

/// Those of `[mqtt]`, but for what the listener says itself.
fn client_limits(section: &mut Section<'_>, common: &ClientLimits) -> ClientLimits {
    ClientLimits {
        packet_bytes_max: section.given_bytes("packet_size_max").unwrap_or(common.packet_bytes_max),
        connect_timeout: section.given_duration("connect_timeout").unwrap_or(common.connect_timeout),
        write_timeout: section.given_duration("write_timeout").unwrap_or(common.write_timeout),
        packet_timeout: section.given_duration("packet_timeout").unwrap_or(common.packet_timeout),
        keep_alive_max: section.given_duration("keep_alive_max").or(common.keep_alive_max),
        receive_maximum: section.given_count("receive_maximum").or(common.receive_maximum),
        uncommitted_max: section.given_count("uncommitted_max").unwrap_or(common.uncommitted_max),
        session_expiry_max: section.given_duration("session_expiry_max").unwrap_or(common.session_expiry_max),
    }
}

/// Reads the files that a section names.
struct Files<'a, 'b> {
    section: &'a mut Section<'b>,
    beside: &'a Path,
    watched: &'a mut Vec<PathBuf>,
}

impl Files<'_, '_> {
    fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.section.path(key).map(|path| self.beside.join(path))?;
        self.watched.push(path.clone());
        Some(path)
    }

    fn paths(&mut self, key: &'static str) -> Vec<PathBuf> {
        let paths: Vec<PathBuf> =
            self.section.texts_if_there(key).unwrap_or_default().iter().map(|path| self.beside.join(path)).collect();
        self.watched.extend(paths.iter().cloned());
        paths
    }

    fn tls(&mut self) -> Option<Arc<Tls>> {
        let (certificate, key) = (self.path("tls_certificate"), self.path("tls_key"));
        let (client_ca, client_crl) = (self.paths("client_ca"), self.paths("client_crl"));
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                self.section.blame("tls_certificate", "without `tls_key`, the key that belongs to it");
                return None;
            }
            (None, Some(_)) => {
                self.section.blame("tls_key", "without `tls_certificate`, the certificate that it belongs to");
                return None;
            }
            (None, None) => {
                for key in ["client_ca", "client_crl"] {
                    if self.section.has(key) {
                        self.section.blame(key, "certificates of clients need TLS: `tls_certificate` and `tls_key`");
                    }
                }
                return None;
            }
        };
        if client_ca.is_empty() && !client_crl.is_empty() {
            self.section.blame("client_crl", "without `client_ca`, no client shows a certificate");
        }
        match tls::load(&TlsFiles { certificate, key, client_ca, client_crl }) {
            Ok(tls) => Some(Arc::new(tls)),
            Err(problem) => {
                self.section.blame(problem.key(), problem.to_string());
                None
            }
        }
    }

    fn users(&mut self) -> Option<Arc<Users>> {
        self.parsed("users", Users::parse)
    }

    fn acl(&mut self) -> Option<Arc<Acl>> {
        self.parsed("acl", Acl::parse)
    }

    /// What the lines of a file say; each that is wrong is a problem of its key.
    fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Vec<LineProblem>>,
    ) -> Option<Arc<T>> {
        let path = self.path(key)?;
        let of_line = |problem: LineProblem| format!("{}: {problem}", path.display());
        let parsed = text_of(&path)
            .map_err(|error| vec![error])
            .and_then(|text| parse(&text).map_err(|problems| problems.into_iter().map(of_line).collect()));
        match parsed {
            Ok(parsed) => Some(Arc::new(parsed)),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.section.blame(key, problem));
                None
            }
        }
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
    if !std::fs::metadata(path).map_err(|error| cannot(&error))?.is_file() {
        // A pipe would be waited for.
        return Err(cannot(&"it is no file"));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| cannot(&error))?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(cannot(&format!("it is larger than {}", format_size(FILE_BYTES_MAX)))),
        false => Ok(text),
    }
}
