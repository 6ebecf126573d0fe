//! What a key of the configuration is, and the sections that hold keys. The keys themselves are in `config::reference`, those of a sink in
//! its folder.

use std::time::Duration;

use super::kind::Kind;
use super::problem::near_miss;

/// Whether a section may appear once, `[store]`, or several times, `[[sink]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Single,
    List,
}

pub const SECTIONS: [(&str, Form); 22] = [
    ("gateway", Form::Single),
    ("store", Form::Single),
    ("mqtt", Form::Single),
    ("listener", Form::List),
    ("right", Form::List),
    ("admin", Form::Single),
    ("ingest", Form::Single),
    ("detection", Form::Single),
    ("alert", Form::Single),
    ("route", Form::List),
    ("file", Form::List),
    ("limit", Form::List),
    ("profile", Form::List),
    ("stream", Form::List),
    ("rules", Form::Single),
    ("table", Form::List),
    ("model", Form::List),
    ("rule", Form::List),
    ("aws", Form::Single),
    ("link", Form::List),
    ("sink", Form::List),
    ("bridge", Form::List),
];

/// Keys of one section. The keys of a sink depend on its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Gateway,
    Store,
    Mqtt,
    Listener,
    Right,
    Admin,
    Ingest,
    Detection,
    Alert,
    Route,
    File,
    Limit,
    Profile,
    Stream,
    Rules,
    Table,
    Model,
    Rule,
    Aws,
    Link,
    Sink,
    /// Those of every sink that sends records: how they travel.
    Travel,
    /// Those of one type of sink, by the type's name.
    SinkOf(&'static str),
    Bridge,
}

impl Group {
    pub fn section(self) -> &'static str {
        match self {
            Group::Gateway => "gateway",
            Group::Store => "store",
            Group::Mqtt => "mqtt",
            Group::Listener => "listener",
            Group::Right => "right",
            Group::Admin => "admin",
            Group::Ingest => "ingest",
            Group::Detection => "detection",
            Group::Alert => "alert",
            Group::Route => "route",
            Group::File => "file",
            Group::Limit => "limit",
            Group::Profile => "profile",
            Group::Stream => "stream",
            Group::Rules => "rules",
            Group::Table => "table",
            Group::Model => "model",
            Group::Rule => "rule",
            Group::Aws => "aws",
            Group::Link => "link",
            Group::Sink | Group::Travel | Group::SinkOf(_) => "sink",
            Group::Bridge => "bridge",
        }
    }

    /// The section's header in the file.
    pub fn header(self) -> String {
        let name = self.section();
        match (self, section(name)) {
            (Group::Travel, _) => "a [[sink]] that sends records".to_owned(),
            (Group::SinkOf(kind), _) => format!("[[sink]] of type \"{kind}\""),
            (_, Some((_, Form::List))) => format!("[[{name}]]"),
            _ => format!("[{name}]"),
        }
    }
}

/// What applies if a key is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// This value, as written in the file.
    Literal(&'static str),
    /// Its absence is a problem; `example` is a possible value.
    Required { example: &'static str },
    /// A default that is no literal, described in words.
    Otherwise { meaning: &'static str, example: &'static str },
}

#[derive(Debug)]
pub struct Key {
    pub group: Group,
    pub name: &'static str,
    pub kind: Kind,
    pub fallback: Fallback,
    pub about: &'static str,
}

pub fn section(name: &str) -> Option<(&'static str, Form)> {
    SECTIONS.iter().copied().find(|(known, _)| *known == name)
}

pub fn near_key(keys: &[&'static Key], name: &str) -> Option<&'static Key> {
    let meant = near_miss(name, keys.iter().map(|key| key.name))?;
    keys.iter().copied().find(|key| key.name == meant)
}

pub const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max, auto: false }
}

pub const fn size_or_auto(min: u64, max: u64) -> Kind {
    Kind::Size { min, max, auto: true }
}

pub const fn seconds(min: u64, max: u64) -> Kind {
    milliseconds(min * 1000, max * 1000)
}

pub const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Duration { min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

pub const fn count(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

pub const fn key_of(group: Group, name: &'static str, kind: Kind, fallback: Fallback, about: &'static str) -> Key {
    Key { group, name, kind, fallback, about }
}
