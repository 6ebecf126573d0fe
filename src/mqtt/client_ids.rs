//! Ids for clients that come without one.

use std::cell::Cell;

/// Client ids that the gateway chooses: other ones after each start, or a client could meet the session of another.
pub struct ClientIds {
    start: u64,
    last: Cell<u64>,
}

impl Default for ClientIds {
    fn default() -> Self {
        // Without randomness they are as good as before a restart.
        ClientIds { start: getrandom::u64().unwrap_or_default(), last: Cell::new(0) }
    }
}

impl ClientIds {
    pub fn next(&self) -> String {
        self.last.set(self.last.get() + 1);
        format!("outrider-{:016x}-{}", self.start, self.last.get())
    }
}

#[cfg(test)]
mod tests {
    use super::ClientIds;

    #[test]
    fn client_ids_that_are_chosen_are_others_after_a_restart() {
        let (before, after) = (ClientIds::default(), ClientIds::default());
        let ids = [before.next(), before.next(), after.next(), after.next()];
        assert!((1..4).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");
    }
}
