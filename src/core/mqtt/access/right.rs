//! One `[[right]]` of the configuration: for whom it is, on which topics, and what it allows. It decides also by what it does not allow.

use std::sync::Arc;

use super::filter;
use super::template::{Template, TemplateError};
use super::{Action, Identity};
use crate::pattern;

/// Most rights of a listener: each message may be held against all of them.
pub const RIGHTS_MAX: usize = 1_000;
/// Longest `who`, in bytes.
pub const WHO_BYTES_MAX: usize = 256;

/// What a right says for the clients that it is for.
#[derive(Clone, Debug)]
pub struct Right {
    who: Who,
    topic: Template,
    allow: Allowed,
    deny_code: DenyCode,
}

/// What a right allows; the rest it denies. Receiving goes with subscribing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// To publish to the topics.
    pub publish: bool,
    /// To subscribe to filters that match nothing else, and to receive.
    pub subscribe: bool,
    /// To acknowledge alerts.
    pub acknowledge: bool,
}

/// What a client whose request is refused is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DenyCode {
    /// It has no right to.
    #[default]
    NotAuthorized,
    /// Nothing more than that it failed.
    Unspecified,
}

/// Why a right is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightError {
    /// Its `who` fits nobody, or is too long.
    #[error("who must have 1 to {WHO_BYTES_MAX} bytes; without it the right is for every client")]
    Who,
    /// Its topic is no filter with placeholders.
    #[error(transparent)]
    Topic(#[from] TemplateError),
    /// There are too many.
    #[error("there are {0} rights, and at most {RIGHTS_MAX} are taken")]
    TooMany(usize),
}

/// A right that is for a client, with its names filled in.
#[derive(Clone, Debug)]
pub(super) struct ClientRight {
    pub(super) filter: Arc<str>,
    /// Its place in the configuration, from 0.
    pub(super) index: usize,
    pub(super) allow: Allowed,
    pub(super) deny_code: DenyCode,
}

#[derive(Clone, Debug)]
enum Who {
    Everyone,
    Anonymous,
    Like(Box<str>),
}

impl Right {
    /// A right for `who`: every client if absent, those without a name if `anonymous`, else those whose name is like it (`*` stands for any
    /// text).
    ///
    /// # Errors
    ///
    /// If `who` is empty or too long, or `topic` is no filter with known placeholders.
    pub fn new(who: Option<&str>, topic: &str, allow: Allowed, deny_code: DenyCode) -> Result<Right, RightError> {
        let who = match who {
            None => Who::Everyone,
            Some("anonymous") => Who::Anonymous,
            Some(pattern) if (1..=WHO_BYTES_MAX).contains(&pattern.len()) => Who::Like(pattern.into()),
            Some(_) => return Err(RightError::Who),
        };
        Ok(Right { who, topic: Template::with_braces(topic)?, allow, deny_code })
    }

    /// Whether it allows this to whom it is for.
    pub(super) fn allows(&self, action: Action) -> bool {
        self.allow.allows(action)
    }

    /// Whether nothing is left to those behind it.
    pub(super) fn is_about_everything(&self) -> bool {
        matches!(self.who, Who::Everyone) && *self.topic.text() == *"#"
    }

    /// The right as it is for a client; `None` if it is not for it.
    pub(super) fn for_client(&self, index: usize, identity: &Identity) -> Option<ClientRight> {
        let is_for_it = match (&self.who, &identity.name) {
            (Who::Everyone, _) | (Who::Anonymous, None) => true,
            (Who::Like(pattern), Some(name)) => pattern::is_like(name, pattern),
            (Who::Anonymous, Some(_)) | (Who::Like(_), None) => false,
        };
        let filter = is_for_it.then(|| self.topic.fill(identity)).flatten()?;
        Some(ClientRight { filter, index, allow: self.allow, deny_code: self.deny_code })
    }
}

impl Allowed {
    /// All that there is.
    pub const ALL: Allowed = Allowed { publish: true, subscribe: true, acknowledge: true };

    /// Whether it allows this.
    pub fn allows(self, action: Action) -> bool {
        match action {
            Action::Publish => self.publish,
            Action::Acknowledge => self.acknowledge,
            Action::Subscribe | Action::Receive => self.subscribe,
        }
    }
}

impl DenyCode {
    /// As it stands in the configuration.
    pub const NAMES: [(&'static str, DenyCode); 2] =
        [("not_authorized", DenyCode::NotAuthorized), ("unspecified", DenyCode::Unspecified)];

    /// The reason code in an answer: `PUBACK`, `PUBREC` and `SUBACK` have the same.
    pub fn reason(self) -> u8 {
        match self {
            DenyCode::NotAuthorized => 0x87,
            DenyCode::Unspecified => 0x80,
        }
    }
}

impl ClientRight {
    /// Whether it is this right that decides, if none before it does. A right that a filter reaches beyond does not: what is received is
    /// held against the rights topic by topic.
    pub(super) fn decides(&self, action: Action, asked: &str) -> bool {
        match action {
            Action::Subscribe => filter::covers(&self.filter, asked),
            Action::Publish | Action::Acknowledge | Action::Receive => filter::matches(&self.filter, asked),
        }
    }

    pub(super) fn outcome(&self, action: Action) -> Result<(), DenyCode> {
        if self.allow.allows(action) { Ok(()) } else { Err(self.deny_code) }
    }
}
