//! Who a client is: by its certificate, by its login, or nobody in particular.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::Edge;
use super::client::Client;
use super::listener::Listener;
use super::login::LoginRefusal;
use super::transport::Transport;
use crate::core::mqtt::access::Identity;
use crate::core::mqtt::packet::reason;
use crate::handoff::Input;
use crate::tls::identity::IdentityProblem;

/// Most hosts for which the log says that they sent a login.
const LOGIN_WARNINGS_MAX: usize = 64;

/// What a client has said of itself, and where it says so from.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub peer: SocketAddr,
}

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stranger {
    #[error("its certificate does not say who it is: {0}")]
    Certificate(#[from] IdentityProblem),
    #[error("this listener asks for a user name and a password")]
    NoLogin,
    #[error("the user name or the password is wrong")]
    WrongLogin,
    #[error("several logins of this user were wrong; it may try again in a while")]
    TooSoon,
    #[error("too many logins are being checked")]
    Busy,
}

impl Stranger {
    /// The reason code that it is told.
    pub fn reason(&self) -> u8 {
        match self {
            Stranger::Certificate(_) | Stranger::NoLogin => reason::NOT_AUTHORIZED,
            Stranger::WrongLogin => reason::BAD_LOGIN,
            Stranger::TooSoon => reason::RATE,
            Stranger::Busy => reason::BUSY,
        }
    }
}

impl From<LoginRefusal> for Stranger {
    fn from(refusal: LoginRefusal) -> Stranger {
        match refusal {
            LoginRefusal::Wrong => Stranger::WrongLogin,
            LoginRefusal::TooSoon => Stranger::TooSoon,
            LoginRefusal::Busy => Stranger::Busy,
        }
    }
}

impl<T: From<Input> + 'static> Edge<T> {
    pub(super) async fn identify(
        &self,
        listener: &Rc<Listener>,
        transport: &RefCell<Transport>,
        client_id: String,
        login: Login<'_>,
    ) -> Result<Client, Stranger> {
        let policy = listener.policy();
        let named = transport.borrow().certificates().first().map(|own| policy.identity.identity(own));
        let cn = named.transpose()?;
        let mut client = Client {
            identity: Identity { name: cn.clone(), user: None, cn, client_id },
            listener: Rc::clone(listener),
            secret: None,
        };
        let has_login = login.name.is_some() || login.password.is_some();
        match &policy.users {
            Some(users) if has_login => {
                let (name, password) = (login.name.unwrap_or_default(), login.password.unwrap_or_default());
                if let Err(refusal) = self.helpers.logins.check(users, login.peer.ip(), name, password).await {
                    self.counters.logins_refused.add(1);
                    return Err(refusal.into());
                }
                client.secret = users.secret(name).cloned();
                client.identity.user = Some(name.to_owned());
                client.identity.name = client.identity.user.clone();
            }
            _ if client.identity.name.is_some() => {}
            _ if !policy.allows_anonymous => return Err(Stranger::NoLogin),
            _ if has_login => self.note_login(login.peer, client.id()),
            _ => {}
        }
        Ok(client)
    }

    /// A login is accepted: refusing clients that send one would lock out devices that have one configured while admitting all others. But
    /// nobody may believe that it protects anything. A user name can be a secret, so the log does not show it.
    fn note_login(&self, peer: SocketAddr, client_id: &str) {
        self.counters.logins_unchecked.add(1);
        let mut told = self.told_of_logins.borrow_mut();
        if told.len() < LOGIN_WARNINGS_MAX && told.insert(peer.ip()) {
            tracing::warn!(
                client_id,
                "{} sent a login, but logins are not checked: whoever reaches this port can publish and subscribe",
                peer.ip()
            );
        }
    }
}
