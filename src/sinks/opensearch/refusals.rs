//! Tells documents that are wrong from a mapping that is.
//!
//! A mapping that was guessed of one odd document may refuse nearly all that follow, and still take a few. What is refused is given up, and
//! dead letters are kept in a bounded number, so a whole backlog could be lost one document at a time.

/// So many more may be refused than accepted, before it is no longer the fault of single documents.
const SURPLUS_MAX: usize = 100;

/// What is given up is at most what is accepted, and `SURPLUS_MAX` more; over any stretch of time.
#[derive(Debug, Default)]
pub struct Refusals {
    /// How many more were refused than accepted, and not less than none: what went well long ago buys nothing.
    surplus: usize,
    holds: bool,
}

impl Refusals {
    /// Counts an answer, and says whether what it refuses may be given up. If not, that lasts until an answer is mostly good.
    pub fn may_give_up(&mut self, refused: usize, accepted: usize) -> bool {
        let surplus = (self.surplus + refused).saturating_sub(accepted);
        self.holds = match self.holds {
            true => accepted == 0 || accepted < refused,
            false => surplus > SURPLUS_MAX,
        };
        self.surplus = match self.holds {
            // What is refused comes again, and counts then.
            true => self.surplus.saturating_sub(accepted),
            false => surplus,
        };
        !self.holds
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_mostly_refused_is_not_given_up() {
        let mut refusals = Refusals::default();
        assert!(!refusals.may_give_up(900, 100), "one of ten is accepted");
        assert!(!refusals.may_give_up(1, 0), "nor is one of them alone");
        assert!(!refusals.may_give_up(0, 0), "an answer that says nothing of it changes nothing");
        assert!(!refusals.may_give_up(9, 1));
        assert!(refusals.may_give_up(0, 1), "the mapping is mended");
        assert!(refusals.may_give_up(100, 0));
        assert!(!refusals.may_give_up(1, 0));
    }

    #[test]
    fn single_ones_are_given_up_for_ever_and_good_times_are_no_credit() {
        let mut refusals = Refusals::default();
        for _ in 0..10_000 {
            assert!(refusals.may_give_up(50, 50));
        }
        assert!(refusals.may_give_up(0, 1_000_000));
        let given_up = (0..1000).filter(|_| refusals.may_give_up(1, 0)).count();
        assert_eq!(given_up, SURPLUS_MAX);
    }

    proptest! {
        #[test]
        fn no_more_is_given_up_than_accepted_and_some(answers in proptest::collection::vec((0_usize..300, 0_usize..300), 1..60)) {
            let mut refusals = Refusals::default();
            let given_up: Vec<usize> =
                answers.iter().map(|(refused, accepted)| if refusals.may_give_up(*refused, *accepted) { *refused } else { 0 }).collect();
            for from in 0..answers.len() {
                let (given_up, accepted): (usize, usize) =
                    (given_up[from..].iter().sum(), answers[from..].iter().map(|(_, accepted)| accepted).sum());
                prop_assert!(given_up <= accepted + SURPLUS_MAX, "{given_up} of {accepted} from {from} on");
            }
        }
    }
}
