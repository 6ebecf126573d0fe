//! Tells points that are wrong from a server that refuses them all.
//!
//! A field has the same type in all points of ours. So what a server has against one of them, such as a field that somebody else has made an integer, it mostly has against all, and
//! few dead letters are enough to know it. What is refused in a request of its own is counted by the delivery; this counts what is refused beside points that are too old, which are given up without being
//! counted, because of a backlog there may be any number of them.

use crate::core::delivery::{Outcome, Reply, Scope};

/// So many lines are given up in a row, while no point is stored.
pub const REFUSED_IN_A_ROW_MAX: u32 = 10;

/// Of one stream.
#[derive(Debug, Default)]
pub struct Refusals {
    in_a_row: u32,
}

impl Refusals {
    /// The reply with a halt in place of refusals that are not to be believed any more. `lines_alone` tells of each record whether it is a single line, which would be given up.
    pub fn judge(&mut self, mut reply: Reply, is_any_stored: bool, lines_alone: &[bool]) -> Reply {
        if is_any_stored {
            self.in_a_row = 0;
        }
        if is_any_stored || reply.scope == Scope::Request {
            return reply;
        }
        for (outcome, is_alone) in reply.outcomes.iter_mut().zip(lines_alone) {
            let Outcome::Reject(said) = outcome else { continue };
            if !is_alone {
                continue;
            }
            match self.in_a_row < REFUSED_IN_A_ROW_MAX {
                true => self.in_a_row += 1,
                false => {
                    *outcome = Outcome::Halt(format!(
                        "{said} ({REFUSED_IN_A_ROW_MAX} in a row, so it is not the fault of one)"
                    ));
                }
            }
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(outcomes: &[Outcome]) -> Reply {
        Reply { scope: Scope::Records, outcomes: outcomes.to_vec(), passed_over: 0 }
    }

    fn bad() -> Outcome {
        Outcome::Reject("field type conflict".to_owned())
    }

    fn old() -> Outcome {
        Outcome::RejectLines("points beyond retention policy".to_owned())
    }

    #[test]
    fn what_is_refused_for_ever_beside_what_is_too_old_halts_and_the_old_ones_go_on() {
        let mut refusals = Refusals::default();
        let mut given_up = 0;
        for _ in 0..100 {
            let judged = refusals.judge(reply(&[old(), bad()]), false, &[true, true]);
            assert_eq!(judged.outcomes[0], old());
            match &judged.outcomes[1] {
                Outcome::Reject(_) => given_up += 1,
                Outcome::Halt(said) => assert!(said.starts_with("field type conflict (10 in a row"), "{said}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(given_up, REFUSED_IN_A_ROW_MAX);
    }

    #[test]
    fn a_point_that_is_stored_shows_that_the_others_are_to_blame() {
        let mut refusals = Refusals::default();
        for _ in 0..100 {
            for _ in 0..REFUSED_IN_A_ROW_MAX {
                assert_eq!(refusals.judge(reply(&[bad()]), false, &[true]).outcomes, [bad()]);
            }
            let taken = reply(&[bad(), Outcome::Accepted { shard: None }]);
            assert_eq!(refusals.judge(taken.clone(), true, &[true, true]), taken);
        }
    }

    #[test]
    fn what_is_not_given_up_yet_is_not_counted() {
        let mut refusals = Refusals::default();
        for _ in 0..100 {
            // It is halved.
            assert_eq!(refusals.judge(reply(&[bad()]), false, &[false]).outcomes, [bad()]);
            // The delivery counts these.
            assert_eq!(refusals.judge(Reply::whole(bad(), 1), false, &[true]).outcomes, [bad()]);
        }
        assert_eq!(refusals.judge(reply(&[bad()]), false, &[true]).outcomes, [bad()]);
    }
}
