//! When the open batch is due to be committed: soon if somebody waits for it, else as late as the user allows, because each commit wears
//! the disk. What is only nice to have on the disk, as a cursor, first waits for a commit that comes anyway. Also whether the commit that is under way takes so long that the disk must be said to hang.

use std::time::Duration;

use crate::mqtt::pace::Urgency;

/// How long the open batch may wait for its commit.
#[derive(Clone, Copy, Debug)]
pub struct CommitDelays {
    /// While a client waits; a quarter of it while only one client is sending.
    pub delay: Duration,
    /// While nobody waits.
    pub delay_max: Duration,
    /// So many readings are committed without waiting for more.
    pub readings: u32,
    /// A commit that takes longer has met a disk that hangs.
    pub hung_after: Duration,
}

/// What else waits while a commit is under way.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Whether new publishes are still heard. Once they are not, a hanging disk has to be recognised sooner.
    pub is_heard: bool,
    /// The time that is left for an orderly end, if the process is ending.
    pub grace: Option<Duration>,
}

/// So long what may be lost waits for another reason to commit, before it is one itself.
const LINGER: Duration = Duration::from_secs(1);
/// With so many readings a commit is worth its cost: they wait no longer than urgent ones.
const COMPANY_READINGS: u32 = 64;
/// One in so many of the batches that clients may be waiting for is delayed further, to see which clients go on without an answer. More
/// than 100, so that the 99th percentile of a client that does wait is not affected.
const STRETCHED_EVERY: u32 = 128;
/// Longer than the 100 ms after an answer within which a client is taken to be waiting.
const STRETCH: Duration = Duration::from_millis(200);

/// No disk in use is slower than that.
const SLOW_DISK_BYTES_A_SECOND: u64 = 1 << 20;
/// A commit that takes so many times longer than the slowest of the last few is not explained by a disk that is slow at present.
const SLOWER_THAN_USUAL: u32 = 4;

/// The batch on its way to the disk.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    sealed: Duration,
    bytes: u64,
}

/// Which clients have publishes in the open batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Senders {
    #[default]
    None,
    One(u64),
    Many,
}

/// The clock of one pipeline. Times are since any fixed moment.
#[derive(Debug)]
pub struct CommitClock {
    delays: CommitDelays,
    /// When the first thing in the open batch came, or the time from which it waits.
    oldest: Option<Duration>,
    urgency: Urgency,
    senders: Senders,
    /// Batches that clients may have been waiting for, since one was last stretched.
    likely: u32,
    under_way: Option<UnderWay>,
    /// How long the slowest of the last few commits took; it fades.
    slowest: Duration,
}

impl CommitClock {
    /// No batch is open yet.
    pub fn new(delays: CommitDelays) -> CommitClock {
        CommitClock {
            delays,
            oldest: None,
            urgency: Urgency::Relaxed,
            senders: Senders::None,
            likely: 0,
            under_way: None,
            slowest: Duration::ZERO,
        }
    }

    /// Takes note that publishes of a client, known by its session, are in the open batch.
    pub fn received(&mut self, now: Duration, session: u64, urgency: Urgency) {
        self.senders = match self.senders {
            Senders::None => Senders::One(session),
            Senders::One(other) if other == session => Senders::One(session),
            _ => Senders::Many,
        };
        self.waits(now, urgency);
    }

    /// Takes note that something waits for the next commit from `since` on, which may lie in the future.
    pub fn waits(&mut self, since: Duration, urgency: Urgency) {
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
        self.urgency = self.urgency.max(urgency);
    }

    /// Takes note of something that may be lost in a crash, and so may wait for a commit that comes for another reason, but not for ever:
    /// a cursor that has moved, whose loss costs repeats.
    pub fn lingers(&mut self, now: Duration) {
        self.waits(now + LINGER, Urgency::Relaxed);
    }

    /// Takes note that nothing waits any more: what did was committed another way.
    pub fn rests(&mut self) {
        (self.oldest, self.urgency, self.senders) = (None, Urgency::Relaxed, Senders::None);
    }

    /// Takes note that the batch, for which so many bytes of the sessions' budget wait, is on its way to the disk, and a new one is open.
    ///
    /// # Panics
    ///
    /// If a commit is under way already: there is one at a time.
    pub fn sealed(&mut self, now: Duration, bytes: u64) {
        assert!(self.under_way.is_none(), "one commit at a time");
        self.under_way = Some(UnderWay { sealed: now, bytes });
        if self.urgency == Urgency::Likely {
            self.likely = if self.is_stretched() { 0 } else { self.likely + 1 };
        }
        self.rests();
    }

    /// Takes note that the commit that was under way has returned.
    pub fn returned(&mut self, now: Duration) {
        if let Some(UnderWay { sealed, .. }) = self.under_way.take() {
            self.slowest = (self.slowest / 8 * 7).max(now.saturating_sub(sealed));
        }
    }

    /// Whether a commit is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether a commit has been under way for longer than this.
    pub fn is_busy_for(&self, duration: Duration, now: Duration) -> bool {
        self.under_way.is_some_and(|commit| now >= commit.sealed + duration)
    }

    /// Whether the commit that is under way takes so long that the disk must be said to hang.
    pub fn is_hung(&self, now: Duration, load: Load) -> bool {
        let Some(UnderWay { bytes, .. }) = self.under_way else { return false };
        let patience = self.delays.hung_after;
        let patience = match load.is_heard {
            true => patience,
            false => {
                let usual = SLOWER_THAN_USUAL * self.slowest + Duration::from_secs(bytes / SLOW_DISK_BYTES_A_SECOND);
                patience.min(usual.max(patience / 4))
            }
        };
        self.is_busy_for(load.grace.map_or(patience, |grace| patience.min(grace / 2)), now)
    }

    /// Whether so many readings are enough not to wait for more.
    pub fn is_enough(&self, readings: u32) -> bool {
        readings >= self.delays.readings
    }

    /// When the open batch, with so many readings, is due; `None` if nothing waits.
    pub fn due_at(&self, readings: u32) -> Option<Duration> {
        self.oldest.map(|oldest| oldest + self.delay(readings))
    }

    /// Whether the batch is due so soon that readings should be left to gather, rather than be looked at one by one.
    pub fn is_gathering(&self, now: Duration, readings: u32) -> bool {
        self.oldest.is_some_and(|oldest| oldest <= now) && self.delay(readings) <= self.delays.delay
    }

    fn delay(&self, readings: u32) -> Duration {
        let CommitDelays { delay, delay_max, .. } = self.delays;
        // The acknowledgement has to arrive within `delay_max`, even if the commit takes some time.
        let relaxed = (delay_max / 8 * 7).max(delay);
        let has_company = readings >= COMPANY_READINGS;
        let soon = if matches!(self.senders, Senders::One(_)) { delay / 4 } else { delay };
        match self.urgency {
            Urgency::Relaxed if has_company => delay,
            Urgency::Relaxed => relaxed,
            Urgency::Likely if self.is_stretched() && !has_company => STRETCH.min(relaxed),
            Urgency::Likely | Urgency::Urgent => soon,
        }
    }

    fn is_stretched(&self) -> bool {
        self.likely >= STRETCHED_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn clock() -> CommitClock {
        CommitClock::new(CommitDelays { delay: ms(40), delay_max: ms(1000), readings: 500, hung_after: ms(5000) })
    }

    #[test]
    fn who_waits_gets_a_commit_soon_and_others_wait_for_company() {
        let mut clock = clock();
        assert_eq!(clock.due_at(0), None);
        clock.received(ms(100), 1, Urgency::Relaxed);
        assert_eq!(clock.due_at(1), Some(ms(975)));
        clock.received(ms(200), 2, Urgency::Relaxed);
        assert_eq!(clock.due_at(63), Some(ms(975)), "the first sets the time");
        assert_eq!(clock.due_at(64), Some(ms(140)), "enough to share a commit");
        clock.received(ms(300), 3, Urgency::Urgent);
        assert_eq!(clock.due_at(3), Some(ms(140)));
        clock.sealed(ms(310), 0);
        assert_eq!(clock.due_at(0), None);
        clock.received(ms(400), 3, Urgency::Urgent);
        assert_eq!(clock.due_at(1), Some(ms(410)), "one client alone has little to wait for");
        assert!(clock.is_enough(500) && !clock.is_enough(499));
    }

    #[test]
    fn what_may_wait_comes_with_what_is_due_before() {
        let mut clock = clock();
        clock.lingers(ms(0));
        assert_eq!(clock.due_at(0), Some(ms(1875)));
        clock.received(ms(500), 1, Urgency::Relaxed);
        assert_eq!(clock.due_at(1), Some(ms(1375)));
        clock.waits(ms(600), Urgency::Urgent);
        assert_eq!(clock.due_at(1), Some(ms(510)), "a record that was given up comes at once");
    }

    /// As while a backlog is sent and no readings come.
    #[test]
    fn a_cursor_that_moves_alone_is_committed_within_two_seconds_and_not_before_one() {
        for readings in [0, COMPANY_READINGS] {
            let mut clock = clock();
            let (mut moved, mut commits) = (None, 0);
            for now in 0..60_000 {
                // A forwarder saves its cursor up to ten times a second.
                if now % 100 == 0 {
                    clock.lingers(ms(now));
                    moved = moved.or(Some(now));
                }
                assert!(!clock.is_gathering(ms(now), readings) || now > moved.expect("it has moved") + 999);
                if clock.due_at(readings).is_some_and(|due| due <= ms(now)) {
                    let waited = now - moved.take().expect("only a cursor is open");
                    assert!((1_000..2_000).contains(&waited), "{waited} ms");
                    clock.sealed(ms(now), 0);
                    clock.returned(ms(now + 1));
                    commits += 1;
                }
            }
            assert!((30..60).contains(&commits), "{commits} commits in a minute");
        }
    }

    #[test]
    fn what_was_committed_another_way_waits_no_longer() {
        let mut clock = clock();
        clock.lingers(ms(0));
        clock.rests();
        assert_eq!(clock.due_at(0), None);
        clock.received(ms(100), 1, Urgency::Urgent);
        assert_eq!(clock.due_at(1), Some(ms(110)), "what comes next does");
    }

    #[test]
    fn now_and_then_a_batch_is_stretched_unless_somebody_surely_waits() {
        let mut clock = clock();
        let mut delay = |urgency| {
            clock.received(ms(0), 1, urgency);
            let due = clock.due_at(1);
            clock.sealed(ms(0), 0);
            clock.returned(ms(1));
            due
        };
        for _ in 0..STRETCHED_EVERY {
            assert_eq!(delay(Urgency::Likely), Some(ms(10)));
        }
        assert_eq!(delay(Urgency::Urgent), Some(ms(10)));
        assert_eq!(delay(Urgency::Likely), Some(ms(200)));
        assert_eq!(delay(Urgency::Likely), Some(ms(10)));
    }

    const HEARD: Load = Load { is_heard: true, grace: None };
    const UNHEARD: Load = Load { is_heard: false, grace: None };

    #[test]
    fn a_disk_hangs_sooner_where_nobody_is_heard_unless_commits_are_slow_or_large() {
        let mut clock = clock();
        assert!(!clock.is_hung(ms(60_000), UNHEARD), "nothing is under way");
        clock.sealed(ms(1_000), 0);
        let hung_from = |clock: &CommitClock, load| (0..).map(|n| ms(n * 10)).find(|now| clock.is_hung(*now, load));
        assert_eq!(hung_from(&clock, HEARD), Some(ms(6_000)));
        assert_eq!(hung_from(&clock, UNHEARD), Some(ms(2_250)));
        assert_eq!(
            hung_from(&clock, Load { is_heard: true, grace: Some(ms(3_000)) }),
            Some(ms(2_500)),
            "the process ends"
        );
        clock.returned(ms(1_800));
        clock.sealed(ms(2_000), 0);
        assert_eq!(hung_from(&clock, UNHEARD), Some(ms(5_200)), "four times the slowest");
        clock.returned(ms(2_100));
        clock.sealed(ms(3_000), 3 << 20);
        assert_eq!(
            hung_from(&clock, UNHEARD),
            Some(ms(8_000)),
            "three seconds for three megabytes, but never more than for all"
        );
        clock.returned(ms(3_100));
        for round in 0..40 {
            clock.sealed(ms(4_000 + round * 100), 0);
            clock.returned(ms(4_001 + round * 100));
        }
        clock.sealed(ms(9_000), 0);
        assert_eq!(hung_from(&clock, UNHEARD), Some(ms(10_250)), "what was slow once is forgotten");
    }

    #[test]
    fn a_commit_is_busy_from_its_seal_to_its_return() {
        let mut clock = clock();
        assert!(!clock.is_busy());
        clock.sealed(ms(100), 0);
        assert!(clock.is_busy() && clock.is_busy_for(ms(50), ms(150)) && !clock.is_busy_for(ms(51), ms(150)));
        clock.returned(ms(200));
        assert!(!clock.is_busy() && !clock.is_busy_for(ms(0), ms(300)));
    }
}
