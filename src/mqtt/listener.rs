//! Listeners: where clients connect, and what holds for those that do.
//!
//! What a listener is cannot change while the gateway runs. Its [`Policy`], which comes from files, can: it is replaced as a whole, also for
//! the clients that are connected.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::quota::{Quotas, UserLimits};
use crate::core::mqtt::access::users::Users;
use crate::core::mqtt::access::{Access, Identity, Permissions};
use crate::tls::Tls;
use crate::tls::identity::Template;

/// What one client may have and do, whoever it is.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    pub packet_bytes_max: usize,
    /// For the handshakes of TLS and WebSocket, and CONNECT, together.
    pub connect_timeout: Duration,
    pub write_timeout: Duration,
    /// Time limit for a packet larger than a few KiB to arrive completely.
    pub packet_timeout: Duration,
    /// Longest keep-alive of a client of version 5; `None` is as long as it likes, or none at all.
    pub keep_alive_max: Option<Duration>,
    /// Most publishes that a client may have unacknowledged: version 5 is told, and one that has more is disconnected.
    pub receive_maximum: Option<u16>,
    /// Most publishes of one connection that may wait for their commit; beyond it its socket is not read.
    pub uncommitted_max: u64,
    /// How long persistent sessions are kept.
    pub session_expiry_max: Duration,
    /// Most filters.
    pub filters_max: usize,
    /// Most bytes that may wait for one subscriber; beyond it, it is disconnected, or its session ends while it is away.
    pub subscriber_bytes_max: usize,
    /// Most topics on which what one client has published last is retained.
    pub retained_max: Option<usize>,
    pub user: UserLimits,
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            packet_bytes_max: 256 * 1024,
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            packet_timeout: Duration::from_secs(60),
            keep_alive_max: None,
            receive_maximum: None,
            uncommitted_max: 256,
            session_expiry_max: Duration::from_secs(86_400),
            filters_max: 64,
            subscriber_bytes_max: 1 << 20,
            retained_max: None,
            user: UserLimits::default(),
        }
    }
}

/// What a listener is.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    pub name: String,
    /// Its key in the configuration, which is blamed if nothing can listen there.
    pub key: String,
    pub listen: SocketAddr,
    pub is_websocket: bool,
    /// Sites whose pages may connect by WebSocket, besides those of the same host.
    pub origins: Vec<String>,
    /// Most connections by this listener; all listeners together have a limit of their own.
    pub connections_max: Option<usize>,
    /// Most connections that are accepted in a second; others wait.
    pub connections_a_second_max: Option<u64>,
    pub client: ClientLimits,
}

impl ListenerSettings {
    /// For MQTT over TCP.
    pub fn plain(name: &str, key: &str, listen: SocketAddr) -> ListenerSettings {
        ListenerSettings {
            name: name.to_owned(),
            key: key.to_owned(),
            listen,
            is_websocket: false,
            origins: Vec::new(),
            connections_max: None,
            connections_a_second_max: None,
            client: ClientLimits::default(),
        }
    }
}

/// Who is let in by a listener, and what they may do.
#[derive(Clone, Debug)]
pub struct Policy {
    pub tls: Option<Arc<Tls>>,
    /// How a client with a certificate is called.
    pub identity: Template,
    /// Whom a password or a token lets in; without it, logins are not checked.
    pub users: Option<Arc<Users>>,
    pub allows_anonymous: bool,
    pub access: Access,
}

impl Policy {
    /// Everybody may do everything.
    pub fn open() -> Policy {
        Policy { tls: None, identity: Template::default(), users: None, allows_anonymous: true, access: Access::open() }
    }
}

/// The policies that are in force, one for each listener, in their order. Shared by whoever loads them and by the MQTT side. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CurrentPolicies(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    policies: Mutex<Vec<Arc<Policy>>>,
    version: AtomicU64,
}

impl CurrentPolicies {
    pub fn new(policies: Vec<Arc<Policy>>) -> CurrentPolicies {
        CurrentPolicies(Arc::new(Shared { policies: Mutex::new(policies), version: AtomicU64::new(0) }))
    }

    fn policies(&self) -> MutexGuard<'_, Vec<Arc<Policy>>> {
        self.0.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often they were replaced.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    pub fn all(&self) -> Vec<Arc<Policy>> {
        self.policies().clone()
    }

    /// The number of listeners stays the same.
    pub fn replace(&self, policies: Vec<Arc<Policy>>) {
        let mut current = self.policies();
        assert_eq!(current.len(), policies.len(), "a listener is added by a restart only");
        *current = policies;
        drop(current);
        self.0.version.fetch_add(1, Ordering::Release);
    }
}

/// One listener, as its connections see it.
#[derive(Debug)]
pub struct Listener {
    pub settings: ListenerSettings,
    policy: RefCell<Arc<Policy>>,
    /// How often its policy was replaced.
    generation: Cell<u64>,
    pub quotas: Quotas,
}

impl Listener {
    pub fn new(settings: ListenerSettings, policy: Arc<Policy>) -> Listener {
        Listener { settings, policy: RefCell::new(policy), generation: Cell::new(0), quotas: Quotas::default() }
    }

    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub fn replace(&self, policy: Arc<Policy>) {
        self.policy.replace(policy);
        self.generation.set(self.generation.get() + 1);
    }

    pub fn permissions(&self, identity: &Identity) -> Permissions {
        self.policy.borrow().access.permissions(identity)
    }
}

/// The listeners, and the policies that they were given last.
pub(super) struct RenewedPolicies {
    current: CurrentPolicies,
    version: u64,
    pub listeners: Vec<Rc<Listener>>,
}

impl RenewedPolicies {
    pub fn new(current: CurrentPolicies, settings: Vec<ListenerSettings>) -> RenewedPolicies {
        let (version, policies) = (current.version(), current.all());
        let listeners = settings.into_iter().zip(policies);
        let listeners = listeners.map(|(settings, policy)| Rc::new(Listener::new(settings, policy))).collect();
        RenewedPolicies { current, version, listeners }
    }

    /// Gives the listeners the policies that have taken the place of theirs. Returns whether there are such.
    pub fn renew(&mut self) -> bool {
        let version = self.current.version();
        if version == self.version {
            return false;
        }
        self.version = version;
        for (listener, policy) in self.listeners.iter().zip(self.current.all()) {
            listener.replace(policy);
        }
        true
    }
}
