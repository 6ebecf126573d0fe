//! Reads `[[listener]]` and `[[right]]`, and the files that they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exposure::{LISTENER_REMEDY, expect_closed};
use super::files::Files;
use super::sections::{Mqtt, Reader, user_limits};
use crate::core::mqtt::access::users::Users;
use crate::core::mqtt::access::{Access, Acl, Allowed, DenyCode, RIGHTS_MAX, Right};
use crate::keys::key::Group;
use crate::keys::section::Section;
use crate::mqtt::listener::{ClientLimits, ListenerSettings, Policy};
use crate::mqtt::quota::UserLimits;
use crate::tls::identity::Template;
use crate::tls::{self, ClientCertificates};

/// Most listeners: each is a socket.
const LISTENERS_MAX: usize = 32;
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
                connections_a_second_max: mqtt.connections_a_second_max,
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
        connections_max: section.given_count("connections_max"),
        connections_a_second_max: section.given_count("connections_per_second_max").or(mqtt.connections_a_second_max),
        client: client_limits(&mut section, &mqtt.client),
    };
    let mut files = Files { section: &mut section, beside, watched: &mut all.watched };
    let tls = files.tls(ClientCertificates::Demanded);
    let (users, acl) = (files.parsed("users", Users::parse), files.parsed("acl", Acl::parse));
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
        expect_closed(&mut section, listen, is_encrypted, has_authentication, LISTENER_REMEDY);
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
    let user = user_limits(section);
    ClientLimits {
        packet_bytes_max: section.given_bytes("packet_size_max").unwrap_or(common.packet_bytes_max),
        connect_timeout: section.given_duration("connect_timeout").unwrap_or(common.connect_timeout),
        write_timeout: section.given_duration("write_timeout").unwrap_or(common.write_timeout),
        packet_timeout: section.given_duration("packet_timeout").unwrap_or(common.packet_timeout),
        keep_alive_max: section.given_duration("keep_alive_max").or(common.keep_alive_max),
        receive_maximum: section.given_count("receive_maximum").or(common.receive_maximum),
        uncommitted_max: section.given_count("uncommitted_max").unwrap_or(common.uncommitted_max),
        session_expiry_max: section.given_duration("session_expiry_max").unwrap_or(common.session_expiry_max),
        filters_max: section.given_count("filters_per_client_max").unwrap_or(common.filters_max),
        subscriber_bytes_max: section.given_bytes("subscriber_size_max").unwrap_or(common.subscriber_bytes_max),
        retained_max: section.given_count("retained_per_client_max").or(common.retained_max),
        user: UserLimits {
            connections_max: user.connections_max.or(common.user.connections_max),
            messages_a_second_max: user.messages_a_second_max.or(common.user.messages_a_second_max),
            bytes_a_second_max: user.bytes_a_second_max.or(common.user.bytes_a_second_max),
        },
    }
}
