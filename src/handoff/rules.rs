//! The rules that are in force: one book, replaced as a whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::core::rulebook::Rulebook;

/// What a request to load the rules again has come to, in words; the error says why the rules before stay in force.
pub type Reloaded = Result<String, String>;

/// Shared by whoever loads rules and by those that run them. Cheap to clone.
///
/// The listener alone looks for a newer book, between two reads, and hands it to the pipeline in order with what it has read: so all rules
/// that look at a message, and at its readings, are of one book.
#[derive(Clone, Debug, Default)]
pub struct CurrentRules(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    version: AtomicU64,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    book: Arc<Rulebook>,
    /// Why what was loaded last is not in force.
    error: Option<String>,
    /// Whoever asks for the rules to be loaded again.
    asking: Vec<oneshot::Sender<Reloaded>>,
}

impl CurrentRules {
    pub fn new(book: Arc<Rulebook>) -> CurrentRules {
        let state = Mutex::new(State { book, ..State::default() });
        CurrentRules(Arc::new(Shared { state, ..Shared::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn book(&self) -> Arc<Rulebook> {
        Arc::clone(&self.state().book)
    }

    /// How often the book was replaced.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    pub fn replace(&self, book: Arc<Rulebook>) {
        let mut state = self.state();
        (state.book, state.error) = (book, None);
        drop(state);
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Why what was loaded last is not in force; `None` if it is.
    pub fn error(&self) -> Option<String> {
        self.state().error.clone()
    }

    pub fn refuse(&self, error: String) {
        self.state().error = Some(error);
    }

    /// Asks for the rules to be loaded again.
    pub fn ask(&self) -> oneshot::Receiver<Reloaded> {
        let (answer, answered) = oneshot::channel();
        self.state().asking.push(answer);
        self.0.asked.notify_one();
        answered
    }

    /// Returns once somebody has asked. Only one task may wait.
    pub async fn asked(&self) {
        self.0.asked.notified().await;
    }

    pub fn take_asking(&self) -> Vec<oneshot::Sender<Reloaded>> {
        std::mem::take(&mut self.state().asking)
    }
}
