//! All lines of a bridge together: which of them a topic belongs to, and that no message comes back to where it came from.

use super::line::{Direction, Line};
use super::overlap::overlap;
use crate::mqtt::topic;

/// The lines of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In their order.
    pub lines: Vec<Line>,
}

/// Why lines do not fit each other. Each names them as they are written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A message would come back.
    #[error(
        "\"{out}\" and \"{into}\" meet at the {side} side: what goes out could come back in; `both` is for one set of topics"
    )]
    Loop {
        /// The line by which it leaves.
        out: String,
        /// The line by which it would come back.
        into: String,
        /// Where they meet.
        side: &'static str,
    },
    /// A message would come twice.
    #[error(
        "\"{first}\" and \"{second}\" both take in some topics of the other broker: such a message would be published twice"
    )]
    TwiceIn {
        /// The one that stands first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A message would go out twice.
    #[error("\"{first}\" and \"{second}\" both send out some of our topics: such a message would go out twice")]
    TwiceOut {
        /// The one that stands first.
        first: String,
        /// The other one.
        second: String,
    },
    /// Before version 5 a broker sends back what a subscriber publishes.
    #[error(
        "\"{0}\" passes both ways, which needs MQTT 5 on the other side: before, a broker sends back what it was sent"
    )]
    BothBeforeV5(String),
}

/// Why a topic does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// None of the lines is for it (any more).
    #[error("no line of `topics` is for it")]
    NoLine,
    /// It is `a` of a line with `a/#`, and without the prefix nothing is left of it.
    #[error("its line of `topics` takes the prefix away, and nothing is left")]
    NothingLeft,
}

impl Plan {
    /// What a topic of ours is called on the other side, and the highest quality of service.
    ///
    /// # Errors
    ///
    /// Why it does not go out.
    pub fn to_remote(&self, local: &str) -> Result<(String, u8), NoWay> {
        let mut out = self.lines.iter().filter(|line| line.direction.is_out() && topic::matches(&line.local, local));
        match out.clone().find_map(|line| Some((line.to_remote(local)?, line.qos))) {
            Some(mapped) => Ok(mapped),
            None => Err(if out.next().is_some() { NoWay::NothingLeft } else { NoWay::NoLine }),
        }
    }

    /// What a topic of the other side is called here.
    ///
    /// # Errors
    ///
    /// Why it does not come in.
    pub fn to_local(&self, remote: &str) -> Result<String, NoWay> {
        let mut into = self.lines.iter().filter(|line| line.direction.is_in() && topic::matches(&line.remote, remote));
        match into.clone().find_map(|line| line.to_local(remote)) {
            Some(mapped) => Ok(mapped),
            None => Err(if into.next().is_some() { NoWay::NothingLeft } else { NoWay::NoLine }),
        }
    }

    /// Filters for the other side's messages, with their quality of service.
    pub fn remote_filters(&self) -> Vec<(&str, u8)> {
        self.lines.iter().filter(|line| line.direction.is_in()).map(|line| (line.remote.as_str(), line.qos)).collect()
    }

    /// Filters for our own messages, with their quality of service.
    pub fn local_filters(&self) -> Vec<(&str, u8)> {
        self.lines.iter().filter(|line| line.direction.is_out()).map(|line| (line.local.as_str(), line.qos)).collect()
    }

    /// Where lines do not fit each other.
    pub fn problems(&self, is_version_5: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            if line.direction == Direction::Both && !is_version_5 {
                problems.push(Problem::BothBeforeV5(line.to_string()));
            }
            self.lines[..at].iter().for_each(|before| compare(before, line, &mut problems));
        }
        problems
    }

    /// Where lines of two bridges to one and the same broker do not fit each other.
    pub fn problems_with(&self, other: &Plan) -> Vec<Problem> {
        let mut problems = Vec::new();
        for first in &self.lines {
            other.lines.iter().for_each(|second| compare_at_one_broker(first, second, &mut problems));
        }
        problems
    }
}

fn compare(first: &Line, second: &Line, problems: &mut Vec<Problem>) {
    let names = || (first.to_string(), second.to_string());
    let (is_remote_shared, is_local_shared) =
        (overlap(&first.remote, &second.remote), overlap(&first.local, &second.local));
    if first.direction.is_in() && second.direction.is_in() && is_remote_shared {
        let (first, second) = names();
        problems.push(Problem::TwiceIn { first, second });
        return;
    }
    if first.direction.is_out() && second.direction.is_out() && is_local_shared {
        let (first, second) = names();
        problems.push(Problem::TwiceOut { first, second });
        return;
    }
    let side = if is_remote_shared { "remote" } else { "local" };
    if (is_remote_shared || is_local_shared) && may_come_back(first, second) {
        problems.push(come_back(first, second, side));
    }
}

/// Between two bridges, what comes in by one may well go out by the other, if the other leads elsewhere. If it does not, they meet there.
fn compare_at_one_broker(first: &Line, second: &Line, problems: &mut Vec<Problem>) {
    if !overlap(&first.remote, &second.remote) {
        return;
    }
    if first.direction.is_in() && second.direction.is_in() {
        problems.push(Problem::TwiceIn { first: first.to_string(), second: second.to_string() });
    } else if may_come_back(first, second) {
        problems.push(come_back(first, second, "remote"));
    }
}

fn may_come_back(first: &Line, second: &Line) -> bool {
    let is_way = |out: &Line, into: &Line| out.direction.is_out() && into.direction.is_in();
    is_way(first, second) || is_way(second, first)
}

fn come_back(first: &Line, second: &Line, side: &'static str) -> Problem {
    let (out, into) = match first.direction.is_out() && second.direction.is_in() {
        true => (first, second),
        false => (second, first),
    };
    Problem::Loop { out: out.to_string(), into: into.to_string(), side }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(lines: &[&str]) -> Plan {
        Plan { lines: lines.iter().map(|line| Line::parse(line).unwrap()).collect() }
    }

    #[test]
    fn lines_that_meet_are_refused() {
        for (lines, is_version_5, expected) in [
            (&["commands/# in 1", "status/# out 1"][..], false, &[][..]),
            (&["a/# both 1"], true, &[]),
            (&["a/# both 1"], false, &["\"a/# both 1\" passes both ways, which needs MQTT 5"]),
            (&["a/# in 1", "a/b out 1"], true, &["\"a/b out 1\" and \"a/# in 1\" meet at the remote side"]),
            (
                &["a/# in 1 x/ y/", "x/a/b out 1 \"\" z/"],
                true,
                &["\"x/a/b out 1 \"\" z/\" and \"a/# in 1 x/ y/\" meet at the local side"],
            ),
            (&["a/# in 1", "+/b in 0"], true, &["\"a/# in 1\" and \"+/b in 0\" both take in"]),
            (
                &["a/# out 1 \"\" x/", "a/# out 1 \"\" y/"],
                true,
                &["\"a/# out 1 \"\" x/\" and \"a/# out 1 \"\" y/\" both send out"],
            ),
            (&["a/# in 1 \"\" x/", "a/# in 1 \"\" y/"], true, &[]),
            (&["a/# both 1", "b/# both 1", "c/+ out 0"], true, &[]),
            (&["a/# both 1", "a/b out 1"], true, &["\"a/# both 1\" and \"a/b out 1\" both send out"]),
        ] {
            let found: Vec<String> = plan(lines).problems(is_version_5).iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{lines:?}: {found:?}");
            assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
        }
    }

    #[test]
    fn what_does_not_pass_says_why() {
        let plan = plan(&["# out 1 a/", "# in 1 \"\" b/", "c/# out 1", "# in 0 d/ e/"]);
        for (local, expected) in
            [("a/x", Ok("x")), ("a", Err(NoWay::NothingLeft)), ("c", Ok("c")), ("b", Err(NoWay::NoLine))]
        {
            assert_eq!(plan.to_remote(local), expected.map(|remote: &str| (remote.to_owned(), 1)), "{local}");
        }
        for (remote, expected) in
            [("b/x", Ok("x")), ("b", Err(NoWay::NothingLeft)), ("e", Ok("d")), ("a", Err(NoWay::NoLine))]
        {
            assert_eq!(plan.to_local(remote), expected.map(|local: &str| local.to_owned()), "{remote}");
        }
    }

    #[test]
    fn bridges_to_one_broker_are_looked_at_together() {
        let (a, b) = (plan(&["x/# in 1"]), plan(&["x/# out 1"]));
        assert_eq!(a.problems_with(&b).len(), 1, "what goes out by one comes in by the other");
        assert_eq!(a.problems_with(&a).len(), 1, "it comes in twice");
        assert_eq!(a.problems_with(&plan(&["x/# out 1 \"\" y/"])), []);
    }

    fn line() -> impl Strategy<Value = Line> {
        let pattern = prop::sample::select(vec!["#", "a/#", "+", "a/+", "a", "b/#"]);
        let direction = prop::sample::select(vec!["in", "out", "both"]);
        let prefix = || prop::sample::select(vec!["", "a/", "b/"]);
        (pattern, direction, prefix(), prefix())
            .prop_map(|(pattern, direction, local, remote)| format!("{pattern} {direction} 1 \"{local}\" \"{remote}\""))
            .prop_filter_map("valid", |text| Line::parse(&text).ok())
    }

    /// Topics of up to three levels.
    fn topics() -> Vec<String> {
        let levels = ["a", "b", "c"];
        let mut all: Vec<String> = Vec::new();
        for first in levels {
            all.push(first.to_owned());
            for second in levels {
                all.push(format!("{first}/{second}"));
                all.extend(levels.iter().map(|third| format!("{first}/{second}/{third}")));
            }
        }
        all
    }

    proptest! {
        /// A broker before version 5 on the other side, and none of ours' `no_local`: still nothing comes back, and nothing twice.
        #[test]
        fn what_has_no_problem_has_no_loop(lines in prop::collection::vec(line(), 1..4)) {
            let plan = Plan { lines };
            prop_assume!(plan.problems(false).is_empty());
            for topic in topics() {
                let ways = plan.lines.iter().filter(|line| line.direction.is_out() && line.to_remote(&topic).is_some());
                prop_assert!(ways.count() <= 1);
                let ways = plan.lines.iter().filter(|line| line.direction.is_in() && line.to_local(&topic).is_some());
                prop_assert!(ways.count() <= 1);
                if let Ok((remote, _)) = plan.to_remote(&topic) {
                    prop_assert!(plan.to_local(&remote).is_err(), "{} {}", &topic, remote);
                }
                if let Ok(local) = plan.to_local(&topic) {
                    prop_assert!(plan.to_remote(&local).is_err(), "{} {}", &topic, local);
                }
            }
        }
    }
}
