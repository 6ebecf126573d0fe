//! Who may do what: the rights of the configuration, and ACL files in the format of mosquitto.
//!
//! The first right that matches decides; else the ACL file if there is one; else the listener: an open one allows, one with authentication
//! refuses. What is for a client is picked once, when it has connected; to ask per message allocates nothing, and costs at most one
//! comparison with each of its rights and ACL lines. Topics and filters that are asked about are valid ones: what is refused whatever the
//! rights say, such as to publish to `$SYS`, is not known here.
//!
//! To subscribe, a right must cover the whole filter; one that the filter reaches beyond decides nothing then, and
//! [`Permissions::receive`] holds every message against the rights.

use std::fmt;
use std::sync::Arc;

mod filter;
pub mod mosquitto;
pub mod password;
mod problem;
mod right;
mod template;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
pub mod users;

pub use mosquitto::Acl;
pub use problem::LineProblem;
pub use right::{Allowed, DenyCode, RIGHTS_MAX, Right, RightError, WHO_BYTES_MAX};
pub use template::TemplateError;

use crate::mqtt::topic::{self, TopicError};
use mosquitto::ClientLines;
use right::ClientRight;
use template::Placeholder;

/// Who a client is, once it has connected. All but the client id is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user of a login, or what the certificate says; `None`: anonymous.
    pub name: Option<String>,
    /// The user of a login.
    pub user: Option<String>,
    /// What the certificate's template gave.
    pub cn: Option<String>,
    /// What the client calls itself: any client may choose any.
    pub client_id: String,
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To publish to a topic.
    Publish,
    /// To acknowledge an alert, on `alerts/{device}/{metric}/{kind}/ack`.
    Acknowledge,
    /// To subscribe to a filter, which may be shared.
    Subscribe,
    /// To be sent a message on a topic.
    Receive,
}

/// What was decided, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to tell the client if it is refused.
    pub outcome: Result<(), DenyCode>,
    /// What decided.
    pub by: By,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A right, by its place in the configuration from 0.
    Right(usize),
    /// A line of the ACL file, from 1.
    AclLine(usize),
    /// The ACL file, because no line of it matches.
    NoAclLine,
    /// The listener, because nothing matches and it takes anonymous clients.
    OpenListener,
    /// The listener, because nothing matches and it has authentication.
    ClosedListener,
    /// Nothing: it is no filter.
    NotAFilter(TopicError),
}

/// All that a listener knows of rights. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    rights: Arc<[Right]>,
    acl: Option<Arc<Acl>>,
    is_open: bool,
}

/// What one client may do.
#[derive(Clone, Debug)]
pub struct Permissions {
    rights: Box<[ClientRight]>,
    acl: Option<ClientLines>,
    is_open: bool,
    is_everything: bool,
}

impl Access {
    /// Everybody may do everything.
    pub fn open() -> Access {
        Access { rights: Arc::default(), acl: None, is_open: true }
    }

    /// The rights and the ACL file of a listener; `is_open` if it takes anonymous clients.
    ///
    /// # Errors
    ///
    /// If there are more than [`RIGHTS_MAX`] rights.
    pub fn new(rights: Vec<Right>, acl: Option<Arc<Acl>>, is_open: bool) -> Result<Access, RightError> {
        if rights.len() > RIGHTS_MAX {
            return Err(RightError::TooMany(rights.len()));
        }
        Ok(Access { rights: rights.into(), acl, is_open })
    }

    /// Whether there may be a client that may do this with anything.
    pub fn allows_somebody(&self, action: Action) -> bool {
        for right in self.rights.iter() {
            if right.allows(action) {
                return true;
            }
            if right.is_about_everything() {
                return false;
            }
        }
        match &self.acl {
            Some(acl) => acl.allows_somebody(action),
            None => self.is_open,
        }
    }

    /// What is for this client.
    pub fn permissions(&self, identity: &Identity) -> Permissions {
        let mut rights = Vec::new();
        let mut is_complete = false;
        for (index, right) in self.rights.iter().enumerate() {
            let Some(right) = right.for_client(index, identity) else { continue };
            is_complete = filter::covers(&right.filter, "#");
            rights.push(right);
            if is_complete {
                // Nothing is left for those behind it.
                break;
            }
        }
        let default_allows = self.is_open && self.acl.is_none();
        Permissions {
            is_everything: (is_complete || default_allows) && rights.iter().all(|right| right.allow == Allowed::ALL),
            rights: rights.into(),
            acl: self.acl.as_ref().map(|acl| acl.for_client(identity)),
            is_open: self.is_open,
        }
    }
}

impl Permissions {
    /// All that there is.
    pub fn everything() -> Permissions {
        Access::open().permissions(&Identity::default())
    }

    /// Whether it may do all, so that nothing needs to be asked per message.
    pub fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Whether it may publish to a topic.
    ///
    /// # Errors
    ///
    /// What to tell it if not.
    pub fn publish(&self, topic: &str) -> Result<(), DenyCode> {
        self.decide(Action::Publish, topic).outcome
    }

    /// Whether it may acknowledge an alert, by publishing to `alerts/{device}/{metric}/{kind}/ack`.
    ///
    /// # Errors
    ///
    /// What to tell it if not.
    pub fn acknowledge(&self, topic: &str) -> Result<(), DenyCode> {
        self.decide(Action::Acknowledge, topic).outcome
    }

    /// Whether it may subscribe to a filter. Of a shared subscription the filter behind the group counts.
    ///
    /// # Errors
    ///
    /// What to tell it if not.
    pub fn subscribe(&self, filter: &str) -> Result<(), DenyCode> {
        self.decide(Action::Subscribe, filter).outcome
    }

    /// Whether it may be sent a message on a topic.
    pub fn receive(&self, topic: &str) -> bool {
        self.is_everything || self.decide(Action::Receive, topic).is_allowed()
    }

    /// Whether it may do something, and what says so.
    pub fn decide(&self, action: Action, topic: &str) -> Decision {
        let mut asked = topic;
        if action == Action::Subscribe {
            match topic::split_shared(topic) {
                Ok((_, filter)) => asked = filter,
                Err(error) => return Decision::refused(By::NotAFilter(error)),
            }
        }
        if let Some(right) = self.rights.iter().find(|right| right.decides(action, asked)) {
            return Decision { outcome: right.outcome(action), by: By::Right(right.index) };
        }
        match &self.acl {
            Some(lines) => lines.decide(action, asked),
            None if self.is_open => Decision::allowed(By::OpenListener),
            None => Decision::refused(By::ClosedListener),
        }
    }
}

impl Identity {
    fn value(&self, placeholder: Placeholder) -> Option<&str> {
        match placeholder {
            Placeholder::ClientId => Some(&self.client_id),
            Placeholder::User => self.user.as_deref(),
            Placeholder::Cn => self.cn.as_deref(),
            Placeholder::Name => self.name.as_deref(),
        }
    }
}

impl Action {
    /// As they are called by people.
    pub const NAMES: [(&'static str, Action); 4] = [
        ("publish", Action::Publish),
        ("acknowledge", Action::Acknowledge),
        ("subscribe", Action::Subscribe),
        ("receive", Action::Receive),
    ];
}

impl Decision {
    /// Whether the client may.
    pub fn is_allowed(&self) -> bool {
        self.outcome.is_ok()
    }

    fn allowed(by: By) -> Decision {
        Decision { outcome: Ok(()), by }
    }

    fn refused(by: By) -> Decision {
        Decision { outcome: Err(DenyCode::default()), by }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Right(index) => write!(f, "right[{index}]"),
            By::AclLine(line) => write!(f, "acl line {line}"),
            By::NoAclLine => f.write_str("nothing matches: an acl file refuses what no line of it allows"),
            By::OpenListener => f.write_str("nothing matches: a listener without authentication allows"),
            By::ClosedListener => f.write_str("nothing matches: a listener with authentication refuses"),
            By::NotAFilter(error) => write!(f, "the filter {}", error.reason()),
        }
    }
}
