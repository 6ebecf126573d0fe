//! Checks logins, without holding up anybody: what is slow on purpose is done on one thread, of which each host gets a part.
//!
//! A login that was right is remembered until the users change, so that a fleet that comes back after a power cut costs little, and so that
//! guesses of others do not keep out who is known.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::pool::host_address;
use crate::core::mqtt::access::password::{Memory, Secret};
use crate::core::mqtt::access::users::{NAME_BYTES_MAX, Users};

/// Logins that may wait for the thread.
const WAITING_MAX: usize = 64;
/// Of these, those of one host.
const WAITING_A_HOST: usize = 16;
/// Logins that are remembered.
const REMEMBERED_MAX: usize = 8_192;
/// Hosts and users whose wrong logins are remembered.
const FAILURES_MAX: usize = 4_096;
/// So many wrong logins in a row cost nothing but themselves.
const FREE_FAILURES: u32 = 3;
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginRefusal {
    Wrong,
    /// After several that were wrong.
    TooSoon,
    /// Too many wait for the thread.
    Busy,
}

struct Check {
    users: Arc<Users>,
    name: String,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

struct Failures {
    count: u32,
    until: Instant,
}

pub(super) struct Logins {
    checks: mpsc::SyncSender<Check>,
    /// Drawn at random: whoever reads this memory must not be able to try passwords quickly.
    key: [u8; 32],
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    /// Digests of logins that were right.
    right: HashMap<[u8; 32], Arc<Users>>,
    failures: HashMap<(IpAddr, String), Failures>,
    waiting: HashMap<IpAddr, usize>,
}

impl Logins {
    pub fn start() -> io::Result<Logins> {
        let (checks, receiver) = mpsc::sync_channel(WAITING_MAX);
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        std::thread::Builder::new().name("logins".to_owned()).spawn(move || serve(&receiver))?;
        Ok(Logins { checks, key, state: Rc::default() })
    }

    /// Forgets what was right by the users before.
    pub fn forget(&self) {
        self.state.borrow_mut().right.clear();
    }

    pub async fn check(
        &self,
        users: &Arc<Users>,
        peer: IpAddr,
        name: &str,
        password: &[u8],
    ) -> Result<(), LoginRefusal> {
        if name.len() > NAME_BYTES_MAX {
            // No user is called so, and it is not to be remembered.
            return Err(LoginRefusal::Wrong);
        }
        let (host, digest) = (host_address(peer), self.digest(name, password));
        let is_known = self.state.borrow().right.get(&digest).is_some_and(|known| Arc::ptr_eq(known, users));
        if is_known {
            return Ok(());
        }
        let who = (host, name.to_owned());
        let now = Instant::now();
        if self.state.borrow().failures.get(&who).is_some_and(|failures| now < failures.until) {
            return Err(LoginRefusal::TooSoon);
        }
        let is_right = match users.secret(name) {
            Some(secret) if secret.is_cheap() => secret.verify(password, &mut Memory::default()),
            _ => self.wait_for(Arc::clone(users), host, name, password).await?,
        };
        let mut state = self.state.borrow_mut();
        if !is_right {
            state.note_failure(who);
            return Err(LoginRefusal::Wrong);
        }
        state.failures.remove(&who);
        if state.right.len() >= REMEMBERED_MAX {
            state.right.clear();
        }
        state.right.insert(digest, Arc::clone(users));
        Ok(())
    }

    async fn wait_for(
        &self,
        users: Arc<Users>,
        host: IpAddr,
        name: &str,
        password: &[u8],
    ) -> Result<bool, LoginRefusal> {
        let _place = Place::take(&self.state, host).ok_or(LoginRefusal::Busy)?;
        let (answer, answered) = oneshot::channel();
        let check = Check { users, name: name.to_owned(), password: password.to_owned(), answer };
        self.checks.try_send(check).map_err(|_| LoginRefusal::Busy)?;
        answered.await.map_err(|_| LoginRefusal::Busy)
    }

    fn digest(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let length = (name.len() as u64).to_be_bytes();
        let mut digest = Sha256::new();
        for part in [&self.key, &length[..], name.as_bytes(), password] {
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl State {
    fn note_failure(&mut self, who: (IpAddr, String)) {
        let now = Instant::now();
        if self.failures.len() >= FAILURES_MAX {
            self.failures.retain(|_, failures| now < failures.until);
            if self.failures.len() >= FAILURES_MAX {
                self.failures.clear();
            }
        }
        let failures = self.failures.entry(who).or_insert(Failures { count: 0, until: now });
        failures.count += 1;
        if let Some(doublings) = failures.count.checked_sub(FREE_FAILURES) {
            failures.until = now + BACK_OFF.saturating_mul(1 << doublings.min(16)).min(BACK_OFF_MAX);
        }
    }
}

/// A host's place among those that wait for the thread.
struct Place {
    state: Rc<RefCell<State>>,
    host: IpAddr,
}

impl Place {
    fn take(state: &Rc<RefCell<State>>, host: IpAddr) -> Option<Place> {
        let mut inner = state.borrow_mut();
        let waiting = inner.waiting.entry(host).or_default();
        if *waiting >= WAITING_A_HOST {
            return None;
        }
        *waiting += 1;
        Some(Place { state: Rc::clone(state), host })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        if let Some(waiting) = state.waiting.get_mut(&self.host) {
            *waiting -= 1;
            if *waiting == 0 {
                state.waiting.remove(&self.host);
            }
        }
    }
}

fn serve(checks: &mpsc::Receiver<Check>) {
    let (mut memory, dummy) = (Memory::default(), Secret::dummy());
    for Check { users, name, password, answer } in checks {
        // Whoever has hung up does not cost the others their time.
        if answer.is_closed() {
            continue;
        }
        let is_right = match users.secret(&name) {
            Some(secret) => secret.verify(&password, &mut memory),
            None => {
                // A name that does not exist takes as long as one that does.
                dummy.verify(&password, &mut memory);
                false
            }
        };
        let _ = answer.send(is_right);
    }
}
