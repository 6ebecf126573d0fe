//! Dead letters that are sent again, between other requests.

use super::*;

const LINK_IS_DOWN: &str = "nothing is sent at present";

/// Letters ask again so soon where others go first: those wait for the answer.
const LETTER_PAUSE_MAX: Duration = Duration::from_millis(100);

impl Forwarder {
    /// Whether an operator wants dead letters to be sent again.
    pub(super) fn has_letters(&mut self) -> bool {
        if self.resending.is_none() {
            let wish = self.status.wishes.take();
            self.resending = wish.map(|wish| Resending::new(wish, &self.name, &self.stream_name));
        }
        if *self.link.borrow() != Link::Up
            && let Some(mut resending) = self.resending.take()
        {
            resending.stop(LINK_IS_DOWN);
            resending.end();
        }
        self.resending.is_some()
    }

    /// Sends one of them.
    pub(super) async fn send_letter<S: Sink>(&mut self, sink: &S) {
        let Some(mut resending) = self.resending.take() else { return };
        let call = self.beat.at_disk();
        let letter = self.source.next_letter(resending.selection(), resending.after);
        drop(call);
        match letter {
            Ok(Some(letter)) if resending.is_meant(&letter) => {
                // Letters have waited for long.
                match self.gate.ask(Class::Backlog, letter.line.len(), self.now_us()) {
                    Permit::Go { .. } => {}
                    Permit::Later { at_us } => {
                        let pause = Duration::from_micros(at_us.saturating_sub(self.now_us())).min(LETTER_PAUSE_MAX);
                        self.resending = Some(resending);
                        tokio::time::sleep(pause).await;
                        return;
                    }
                    Permit::Wait { waiting, .. } => {
                        self.gate.wants_nothing(Class::Backlog);
                        resending.stop(waiting.text());
                        resending.end();
                        return;
                    }
                }
                let mut link = self.link.clone();
                self.gate.letter_begins();
                let goes_on = tokio::select! {
                    goes_on = resending.send(&self.letters, sink, &letter) => Some(goes_on),
                    // Neither the end of the process nor a link that is cut on purpose waits for a letter.
                    _ = link.wait_for(|link| *link != Link::Up) => None,
                };
                self.gate.letter_ends(Class::Backlog);
                match goes_on {
                    Some(true) => {
                        self.resending = Some(resending);
                        return;
                    }
                    Some(false) => {}
                    None => resending.stop(LINK_IS_DOWN),
                }
            }
            Ok(_) => {}
            Err(error) => resending.stop(&format!("cannot read the store: {error}")),
        }
        resending.end();
    }
}
