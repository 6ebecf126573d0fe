//! The machine: who may send now, and what was spent.

use super::ahead::{self, Ahead};
use super::calendar::{self, DAY_MS};
use super::forecast::Forecast;
use super::kept::Kept;
use super::periods::{DAYS, MONTHS};
use super::permit::{Permit, Waiting};
use super::status::LinkStatus;
use super::{Class, LinkSettings, Metered, Now};

/// Who waits for a budget looks again after so long at the latest: it may have been raised, or the link may cost nothing any more.
const LOOK_AGAIN_US: u64 = 5_000_000;
/// A class is let first for so long after it was refused for the rate.
const WANTED_US: u64 = 2_000_000;
/// Between two classes that are to come again when the link is free.
const TURN_US: u64 = 1_000;
/// On a link with a rate a request is no longer than so many seconds of it, unless it is a single record.
const REQUEST_SECONDS: u64 = 1;
/// However low the rate is, a request may have so much.
const REQUEST_BYTES_MIN: u64 = 4 << 10;
/// How soon to ask again where what is to be spent is being stored.
const STORED_SOON_US: u64 = 10_000;
/// Where what is under way may turn out to leave room, it is asked again so soon: an answer gives back what was estimated too high.
const ANSWER_US: u64 = 100_000;

/// Decides for one link.
#[derive(Clone, Debug)]
pub struct Budget {
    settings: LinkSettings,
    metered: Metered,
    kept: Kept,
    /// What is under way, by estimate.
    reserved: u64,
    backlog_under_way: u32,
    /// When the bytes so far will have had their time, at the rate.
    busy_until_us: u64,
    /// When a class was last refused for the rate.
    wanted_us: [Option<u64>; Class::ALL.len()],
    /// What [`Self::waits_for_room`] said when a class asked last, for the status.
    too_long: [Option<Waiting>; Class::ALL.len()],
    advanced_us: Option<u64>,
    /// If spending is stored before it happens.
    ahead: Option<Ahead>,
}

impl Budget {
    /// Goes on from what was stored, or begins.
    pub fn new(settings: LinkSettings, kept: Option<Kept>) -> Budget {
        let mut kept = kept.unwrap_or_default();
        // Nobody was told how much of it was spent.
        let advance = std::mem::take(&mut kept.advance);
        kept.spend(advance);
        kept.days.begin();
        kept.months.begin();
        Budget {
            settings,
            metered: Metered::Unknown,
            kept,
            reserved: 0,
            backlog_under_way: 0,
            busy_until_us: 0,
            wanted_us: [None; Class::ALL.len()],
            too_long: [None; Class::ALL.len()],
            advanced_us: None,
            ahead: None,
        }
    }

    /// The same for who stores it: nothing is spent of a budget that is not stored yet.
    pub fn stored_ahead(settings: LinkSettings, kept: Option<Kept>) -> Budget {
        Budget { ahead: Some(Ahead::default()), ..Budget::new(settings, kept) }
    }

    /// What was counted.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What was counted and what is under way.
    fn outlay(&self) -> u64 {
        self.kept.counted().saturating_add(self.reserved)
    }

    /// How much is stored ahead, if there is anything that must not be overdrawn.
    fn advance_bytes(&self) -> Option<u64> {
        (self.is_metered() && self.settings.has_budget()).then(|| ahead::advance(&self.settings))
    }

    /// Whether [`Self::to_be_stored`] is to be called soon. It is said once, and again when that is durable.
    pub fn wants_saving(&mut self) -> bool {
        let (outlay, advance) = (self.outlay(), self.advance_bytes());
        self.ahead.as_mut().is_some_and(|ahead| ahead.wants_saving(outlay, advance))
    }

    /// What is to be stored, in the order of the calls. `is_last`: nothing more will be spent.
    pub fn to_be_stored(&mut self, is_last: bool) -> Kept {
        let through = match self.advance_bytes().filter(|_| !is_last) {
            Some(advance) => self.outlay().saturating_add(advance),
            None => self.kept.counted(),
        };
        if let Some(ahead) = &mut self.ahead {
            ahead.hand_over(through);
        }
        Kept { advance: through.saturating_sub(self.kept.counted()), ..self.kept.clone() }
    }

    /// What was to be stored last is durable.
    pub fn is_stored(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.is_stored();
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    /// Somebody has found out whether the link is metered.
    pub fn set_metered(&mut self, metered: Metered) {
        self.metered = metered;
        if !self.is_metered() {
            // What has gone while it cost nothing is not waited for later.
            self.busy_until_us = 0;
        }
    }

    /// Whether it counts as metered.
    pub fn is_metered(&self) -> bool {
        match self.metered {
            Metered::Yes => true,
            Metered::No => false,
            Metered::Unknown => self.settings.has_limit(),
        }
    }

    fn advance(&mut self, now: Now) {
        let passed_us = now.passed_us.saturating_sub(self.advanced_us.unwrap_or(now.passed_us));
        // What is less than a millisecond is passed on to the next time.
        let passed_ms = passed_us / 1_000;
        self.advanced_us = Some(now.passed_us.max(self.advanced_us.unwrap_or(0)) - passed_us % 1_000);
        let day = now.wall_ms.map(calendar::day_of);
        let month = now.wall_ms.map(|ms| calendar::month_of(ms, self.settings.reset_day));
        self.kept.days.advance(&DAYS, day, passed_ms);
        self.kept.months.advance(&MONTHS, month, passed_ms);
    }

    /// Whether a request of this class may be sent now, of which the first record has so many bytes. If it may, the caller sends one and says
    /// so by [`Self::sent`].
    pub fn ask(&mut self, class: Class, first_bytes: usize, now: Now) -> Permit {
        let permit = self.ask_budget(class, first_bytes, now);
        let (Permit::Go { bytes_max }, Some(ahead)) = (permit, &self.ahead) else { return permit };
        if self.advance_bytes().is_none() {
            return permit;
        }
        let left = ahead.left(self.outlay());
        match left.checked_sub(super::REQUEST_OVERHEAD_BYTES).map(|left| left / 4 * 3) {
            Some(left) if left > 0 => {
                Permit::Go { bytes_max: bytes_max.min(usize::try_from(left).unwrap_or(usize::MAX)) }
            }
            _ => Permit::Later { at_us: now.steady_us + STORED_SOON_US },
        }
    }

    fn ask_budget(&mut self, class: Class, first_bytes: usize, now: Now) -> Permit {
        self.advance(now);
        if !self.is_metered() {
            return Permit::Go { bytes_max: usize::MAX };
        }
        self.too_long[class.index()] = self.waits_for_room(class, first_bytes, 0);
        if let Some(waiting) = self.waits_for(class, 0, now).or(self.too_long[class.index()]) {
            return Permit::Wait { waiting, at_us: self.looks_again_us(waiting, now) };
        }
        // An estimate is no expense: what it leaves no room for waits for an answer, and not for another day.
        let reserved = self.reserved;
        if self.waits_for(class, reserved, now).or(self.waits_for_room(class, first_bytes, reserved)).is_some() {
            return Permit::Later { at_us: now.steady_us + ANSWER_US };
        }
        // Of what can wait there is one request at a time, so what is urgent shares the link with one of them at most.
        if class == Class::Backlog && self.backlog_under_way > 0 {
            return Permit::Later { at_us: now.steady_us + 100 * TURN_US };
        }
        let room = self.room(class);
        let Some(rate) = self.settings.rate else { return Permit::Go { bytes_max: room } };
        let of_rate = rate.saturating_mul(REQUEST_SECONDS).max(REQUEST_BYTES_MIN);
        let bytes_max = usize::try_from(of_rate).unwrap_or(usize::MAX).min(room);
        let turn_us = TURN_US * class.index() as u64;
        let free_us = self.busy_until_us.max(now.steady_us);
        if class != Class::Alerts && free_us > now.steady_us {
            self.wanted_us[class.index()] = Some(free_us);
            return Permit::Later { at_us: free_us + turn_us };
        }
        let is_wanted = |at: &Option<u64>| at.is_some_and(|at_us| now.steady_us < at_us + WANTED_US);
        if self.wanted_us[..class.index()].iter().any(is_wanted) {
            return Permit::Later { at_us: now.steady_us + turn_us.max(TURN_US) };
        }
        self.wanted_us[class.index()] = None;
        Permit::Go { bytes_max }
    }

    /// As [`Self::ask`], and if it may, what it may take is under way from now on, so that nobody else is told the same: until the caller
    /// says by [`Self::give_back`] that it knows better.
    pub fn reserve(&mut self, class: Class, first_bytes: usize, now: Now) -> Permit {
        let permit = self.ask(class, first_bytes, now);
        if let Permit::Go { bytes_max } = permit {
            self.sent(class, reserved(bytes_max), now);
        }
        permit
    }

    /// What was reserved with so many bytes is not under way, or is under way as something else, which the caller says next.
    pub fn give_back(&mut self, class: Class, bytes_max: usize) {
        self.settle(class, reserved(bytes_max), 0);
    }

    /// A class has nothing to send any more: nobody has to wait for it.
    pub fn wants_nothing(&mut self, class: Class) {
        self.wanted_us[class.index()] = None;
        self.too_long[class.index()] = None;
    }

    /// A request is on its way that will take so many bytes, by an estimate that is rather too high.
    pub fn sent(&mut self, class: Class, estimate: u64, now: Now) {
        self.reserved = self.reserved.saturating_add(estimate);
        self.backlog_under_way += u32::from(class == Class::Backlog);
        self.use_rate(estimate, now);
    }

    /// Its answer has come, or it is known that none will, and so many bytes went over the socket since the last word.
    pub fn done(&mut self, class: Class, estimate: u64, bytes: u64, now: Now) {
        self.settle(class, estimate, bytes);
        self.use_rate(bytes.saturating_sub(estimate), now);
        self.account(class, bytes, now);
    }

    /// An estimate is over, of which so much has come true. The rate was charged with it.
    fn settle(&mut self, class: Class, estimate: u64, bytes: u64) {
        self.reserved = self.reserved.saturating_sub(estimate);
        if class == Class::Backlog {
            self.backlog_under_way = self.backlog_under_way.saturating_sub(1);
        }
        if let Some(rate) = self.settings.rate.filter(|rate| *rate > 0) {
            self.busy_until_us = self.busy_until_us.saturating_sub(micros(estimate.saturating_sub(bytes), rate));
        }
    }

    /// So many bytes went over the socket for which nothing was reserved.
    pub fn spend(&mut self, class: Class, bytes: u64, now: Now) {
        self.use_rate(bytes, now);
        self.account(class, bytes, now);
    }

    fn account(&mut self, class: Class, bytes: u64, now: Now) {
        self.advance(now);
        if !self.is_metered() {
            self.kept.free_bytes = self.kept.free_bytes.saturating_add(bytes);
            return;
        }
        let of_class = &mut self.kept.by_class[class.index()];
        *of_class = of_class.saturating_add(bytes);
        self.kept.spend(bytes);
    }

    fn use_rate(&mut self, bytes: u64, now: Now) {
        if let Some(rate) = self.settings.rate.filter(|rate| *rate > 0 && self.is_metered()) {
            self.busy_until_us = self.busy_until_us.max(now.steady_us).saturating_add(micros(bytes, rate));
        }
    }

    /// So many bytes of records a request of a class may have without passing what the class may spend.
    fn room(&self, class: Class) -> usize {
        let [of_month, of_day] = self.budgets().map(|(limit, spent, _)| {
            limit.map(|limit| room_in(self.limit_of(class, limit).saturating_sub(spent).saturating_sub(self.reserved)))
        });
        of_month.into_iter().chain(of_day).min().unwrap_or(usize::MAX)
    }

    /// The budget whose next period a class waits for, because its first record does not fit into what is left, and would fit into a whole one.
    /// A record that fits into no budget goes as long as anything is left.
    fn waits_for_room(&self, class: Class, first_bytes: usize, under_way: u64) -> Option<Waiting> {
        // Nobody else wants what alerts leave, and an alert that waits for tomorrow is none.
        if class == Class::Alerts {
            return None;
        }
        let budgets = self.budgets().into_iter();
        let mut limits =
            budgets.filter_map(|(limit, spent, waiting)| Some((self.limit_of(class, limit?), spent, waiting)));
        let fits = |bytes: u64| first_bytes <= room_in(bytes);
        let would_ever_fit = limits.clone().all(|(limit, ..)| fits(limit));
        let is_short = |limit: u64, spent: u64| !fits(limit.saturating_sub(spent).saturating_sub(under_way));
        let short = limits.find(|(limit, spent, _)| would_ever_fit && is_short(*limit, *spent));
        short.map(|(_, _, waiting)| waiting)
    }

    /// Limit, what is spent of it, and what one waits for who has to wait for the next.
    fn budgets(&self) -> [(Option<u64>, u64, Waiting); 2] {
        [
            (self.settings.bytes_per_month, self.kept.months.present().spent, Waiting::Month),
            (self.settings.bytes_per_day, self.kept.days.present().spent, Waiting::Day),
        ]
    }

    /// What a class waits for, as far as budgets go, if so much is under way.
    fn waits_for(&self, class: Class, under_way: u64, now: Now) -> Option<Waiting> {
        if !self.settings.carries.has(class) {
            return Some(Waiting::Unmetered);
        }
        let is_spent = |limit: Option<u64>, spent: u64| {
            limit.is_some_and(|limit| spent.saturating_add(under_way) >= self.limit_of(class, limit))
        };
        if let Some((.., waiting)) = self.budgets().into_iter().find(|(limit, spent, _)| is_spent(*limit, *spent)) {
            return Some(waiting);
        }
        (class == Class::Backlog && self.is_ahead_of_pace(under_way, now)).then_some(Waiting::Pace)
    }

    /// Whether more was spent than an even pace would have spent by now. Without a clock that is set, nobody knows.
    fn is_ahead_of_pace(&self, under_way: u64, now: Now) -> bool {
        let Some(now_ms) = now.wall_ms else { return false };
        let reset_day = self.settings.reset_day;
        let month = calendar::month_of(now_ms, reset_day);
        let (month_ms, month_end_ms) =
            (calendar::month_end_ms(month - 1, reset_day), calendar::month_end_ms(month, reset_day));
        let day_ms = calendar::day_of(now_ms).saturating_mul(DAY_MS);
        let is_ahead = |limit: Option<u64>, spent: u64, began_ms: i64, end_ms: i64| {
            let Some(limit) = limit else { return false };
            let passed = now_ms.saturating_sub(began_ms) as f64 / end_ms.saturating_sub(began_ms).max(1) as f64;
            spent.saturating_add(under_way) as f64 >= self.limit_of(Class::Backlog, limit) as f64 * passed
        };
        is_ahead(self.settings.bytes_per_month, self.kept.months.present().spent, month_ms, month_end_ms)
            || is_ahead(self.settings.bytes_per_day, self.kept.days.present().spent, day_ms, day_ms + DAY_MS)
    }

    /// Up to where a class may spend a budget.
    fn limit_of(&self, class: Class, limit: u64) -> u64 {
        let reserve = u128::from(limit) * u128::from(self.settings.alert_reserve_percent.min(100)) / 100;
        match class {
            Class::Alerts => limit,
            _ => limit - u64::try_from(reserve).unwrap_or(limit),
        }
    }

    fn looks_again_us(&self, waiting: Waiting, now: Now) -> u64 {
        let end_ms = |now_ms: i64| match waiting {
            Waiting::Day => (calendar::day_of(now_ms) + 1).saturating_mul(DAY_MS),
            Waiting::Month => {
                calendar::month_end_ms(calendar::month_of(now_ms, self.settings.reset_day), self.settings.reset_day)
            }
            Waiting::Pace | Waiting::Unmetered | Waiting::Between => i64::MAX,
        };
        let left_ms =
            now.wall_ms.map_or(u64::MAX, |now_ms| end_ms(now_ms).saturating_sub(now_ms).max(1).unsigned_abs());
        now.steady_us + left_ms.saturating_mul(1_000).min(LOOK_AGAIN_US)
    }

    /// How it stands.
    pub fn status(&mut self, now: Now) -> LinkStatus {
        self.advance(now);
        let reset_day = self.settings.reset_day;
        let month = self.kept.months.present();
        let waits_for = |class: Class| {
            let is_spent = || self.waits_for(class, 0, now).or(self.too_long[class.index()]);
            if self.is_metered() { is_spent() } else { None }
        };
        // Of what the link does not carry, nobody expects that it is sent.
        let carried = Class::ALL.into_iter().filter(|class| self.settings.carries.has(*class));
        LinkStatus {
            is_metered: self.is_metered(),
            bytes_today: self.kept.days.present().spent,
            bytes_of_month: month.spent,
            metered_bytes: self.kept.metered_bytes,
            free_bytes: self.kept.free_bytes,
            by_class: self.kept.by_class,
            month_end_ms: now
                .wall_ms
                .map(|now_ms| calendar::month_end_ms(calendar::month_of(now_ms, reset_day), reset_day)),
            forecast: now.wall_ms.and_then(|now_ms| Forecast::of(&self.kept.days, month, now_ms, &self.settings)),
            waiting: carried
                .filter(|class| *class != Class::Alerts)
                .find_map(waits_for)
                .filter(|waiting| *waiting != Waiting::Pace),
            alerts_waiting: waits_for(Class::Alerts).filter(|waiting| *waiting != Waiting::Unmetered),
        }
    }
}

/// What a request with so many bytes at most takes. Where nothing bounds it, nothing is to be bounded by it.
fn reserved(bytes_max: usize) -> u64 {
    if bytes_max == usize::MAX { 0 } else { super::on_socket(bytes_max as u64) }
}

/// Of so many bytes on the socket, so many may be of records.
fn room_in(left: u64) -> usize {
    let left = left.saturating_sub(super::REQUEST_OVERHEAD_BYTES);
    usize::try_from(left - left.div_ceil(4)).unwrap_or(usize::MAX)
}

/// How long so many bytes take.
fn micros(bytes: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}
