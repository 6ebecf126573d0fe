//! Timelines: what a device says and when it arrives, in seconds since a moment of 2023.

use proptest::prelude::*;

use super::*;

const BASE_MS: i64 = 1_700_000_000_000;
const HOUR_S: f64 = 3_600.0;
const YEAR_2100_MS: i64 = 4_102_444_800_000;

fn ms(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

/// A device, and whoever else publishes as it.
#[derive(Default)]
struct Timeline {
    clock: DeviceClock,
    publisher: u64,
}

impl Timeline {
    fn hear_ms(&mut self, device_ms: i64, received_s: f64) -> Judged {
        self.clock.judge(&Heard {
            device_ms,
            received_ms: BASE_MS + ms(received_s),
            now_ms: ms(received_s),
            publisher: self.publisher,
            is_synced: true,
        })
    }

    /// In seconds: when it was measured, what is wrong, and whether it is late.
    fn hear(&mut self, device_s: f64, received_s: f64) -> (f64, Option<ClockFault>, bool) {
        let judged = self.hear_ms(BASE_MS + ms(device_s), received_s);
        let fault = judged.device_time.map(|time| time.fault);
        assert!(judged.device_time.is_none_or(|time| time.device_ms == BASE_MS + ms(device_s)));
        ((judged.measured_at_ms - BASE_MS) as f64 / 1_000.0, fault, judged.is_late)
    }

    fn by(&mut self, publisher: u64) -> &mut Timeline {
        self.publisher = publisher;
        self
    }

    /// A reading a second, from and to such seconds of receipt, by a clock that is behind by so much.
    fn live(&mut self, behind_s: f64, seconds: std::ops::Range<i64>) -> Vec<(f64, Option<ClockFault>, bool)> {
        seconds.map(|s| self.hear(s as f64 - behind_s, s as f64)).collect()
    }
}

const RIGHT: Option<ClockFault> = None;
const AHEAD: Option<ClockFault> = Some(ClockFault::Ahead);
const BEHIND: Option<ClockFault> = Some(ClockFault::Behind);
const UNSET: Option<ClockFault> = Some(ClockFault::Unset);

#[test]
fn a_time_that_can_be_true_is_taken_as_it_is() {
    let mut device = Timeline::default();
    assert_eq!(device.hear(-60.0, 0.0), (-60.0, RIGHT, false));
    assert_eq!(device.hear(5.0, 0.0), (5.0, RIGHT, false));
    assert_eq!(device.hear(-60.001, 0.0), (-60.001, RIGHT, true));
    assert_eq!(device.hear(5.001, 0.0), (0.0, AHEAD, false));
}

#[test]
fn a_clock_that_was_never_set_is_passed_over() {
    for device_ms in [0, 946_684_800_000, UNSET_BEFORE_MS - 1] {
        let mut device = Timeline::default();
        for second in 0..30 {
            let judged = device.hear_ms(device_ms, f64::from(second));
            assert_eq!(judged.measured_at_ms, BASE_MS + 1_000 * i64::from(second));
            assert_eq!(judged.device_time, Some(DeviceTime { fault: ClockFault::Unset, device_ms }));
            assert!(!judged.is_late);
        }
        assert_eq!(device.hear(30.0, 30.0), (30.0, RIGHT, false), "set, and right at once");
    }
    assert_eq!(Timeline::default().hear_ms(UNSET_BEFORE_MS, 0.0).device_time, None);
    assert_eq!(UNSET, Some(ClockFault::Unset));
}

#[test]
fn a_clock_that_is_behind_is_known_after_ten_seconds_of_its_own() {
    for behind_s in [61.0, 600.0, HOUR_S, 24.0 * HOUR_S] {
        let mut device = Timeline::default();
        let heard = device.live(behind_s, 0..60);
        for (second, judged) in (0..).zip(&heard) {
            let time_s = f64::from(second);
            let expected = if second < 10 { (time_s - behind_s, RIGHT, true) } else { (time_s, BEHIND, false) };
            assert_eq!(*judged, expected, "behind by {behind_s}, second {second}");
        }
    }
    let mut seldom = Timeline::default();
    assert_eq!(seldom.hear(-HOUR_S, 0.0), (-HOUR_S, RIGHT, true));
    assert_eq!(seldom.hear(300.0 - HOUR_S, 300.5), (300.0, BEHIND, false), "two readings are enough");
}

#[test]
fn a_clock_that_is_ahead_is_taken_for_ours_until_its_offset_is_known() {
    for ahead_s in [5.5, 58.0, HOUR_S, 24.0 * 365.0 * HOUR_S] {
        let mut device = Timeline::default();
        let heard = device.live(-ahead_s, 0..30);
        assert!((0..).zip(&heard).all(|(s, judged)| *judged == (f64::from(s), AHEAD, false)), "{ahead_s}: {heard:?}");
    }
}

#[test]
fn a_backlog_of_a_right_clock_is_late_and_in_order_and_then_live() {
    for readings_a_second in [4, 100, 2_000] {
        let mut device = Timeline::default();
        let received_s = |n: i64| n as f64 / readings_a_second as f64;
        let count = 3_600;
        for n in 0..count {
            let device_s = n as f64 - 3_600.0;
            let held_up_s = received_s(n) - device_s;
            assert_eq!(device.hear(device_s, received_s(n)), (device_s, RIGHT, held_up_s > 60.0));
        }
        let live_s = received_s(count).ceil() as i64;
        assert!(device.live(0.0, live_s..live_s + 30).iter().all(|(_, fault, is_late)| *fault == RIGHT && !is_late));
    }
}

#[test]
fn a_backlog_of_a_clock_that_is_wrong_is_late_and_in_order() {
    for behind_s in [HOUR_S, -30.0, -300.0, -HOUR_S, -1e9] {
        let mut device = Timeline::default();
        device.live(behind_s, 0..30);
        // Off for ten minutes, then all of them at once by another connection, then live.
        device.publisher = 1;
        let mut last_s = 29.0;
        for n in 30..630 {
            let received_s = 629.0 + n as f64 / 1_000.0;
            let (measured_s, fault, is_late) = device.hear(n as f64 - behind_s, received_s);
            assert_eq!(fault, if behind_s > 0.0 { BEHIND } else { AHEAD }, "{behind_s}: {n}");
            assert_eq!((measured_s, is_late), (n as f64, received_s - n as f64 > 60.0), "behind by {behind_s}: {n}");
            assert!(measured_s > last_s);
            last_s = measured_s;
        }
        assert!(device.live(behind_s, 630..700).iter().all(|(_, _, is_late)| !is_late));
    }
}

#[test]
fn history_between_live_readings_is_history() {
    for history_a_second in [1, 10] {
        let mut device = Timeline::default();
        for second in 0..120 {
            for n in 0..history_a_second {
                let (received_s, device_s) = (second as f64, -3_000.0 + (second * history_a_second + n) as f64);
                assert_eq!(device.hear(device_s, received_s), (device_s, RIGHT, true), "{second}");
            }
            assert_eq!(device.hear(second as f64, second as f64 + 0.2), (second as f64, RIGHT, false));
        }
        // By a clock that is behind.
        let mut device = Timeline::default();
        for second in 0..120 {
            for n in 0..history_a_second {
                let device_s = -HOUR_S - 3_000.0 + (second * history_a_second + n) as f64;
                assert!(device.hear(device_s, second as f64).2);
            }
            let live = device.hear(second as f64 - HOUR_S, second as f64);
            assert!(second <= 10 || live == (second as f64, BEHIND, false), "{second}: {live:?}");
        }
    }
}

#[test]
fn several_readings_in_one_publish_have_the_offset_of_the_newest() {
    let mut device = Timeline::default();
    for publish in 1..10 {
        let sent_s = 10.0 * f64::from(publish);
        for n in 1..=10 {
            let measured_s = sent_s - 10.0 + f64::from(n);
            let judged = device.hear(measured_s - HOUR_S, sent_s);
            assert!(publish <= 2 || judged == (measured_s, BEHIND, false), "{publish} {n}: {judged:?}");
        }
    }
    // More than a minute in each: what is older was as late by a right clock.
    let mut device = Timeline::default();
    for publish in 1..10 {
        for n in 1..=300 {
            let judged = device.hear(f64::from(300 * (publish - 1) + n) - HOUR_S, f64::from(300 * publish));
            assert!(publish <= 2 || judged.2 == (300 - n > 60), "{publish} {n}: {judged:?}");
        }
    }
}

#[test]
fn who_wakes_up_now_and_then_by_a_new_connection_each_time_is_known_too() {
    let mut device = Timeline::default();
    for wake in 1..6 {
        for n in 1..=60 {
            let measured_s = f64::from(600 * (wake - 1) + 10 * n);
            let judged = device.by(wake as u64).hear(measured_s - HOUR_S, f64::from(600 * wake));
            assert!(wake <= 2 || n < 60 || judged == (measured_s, BEHIND, false), "{wake} {n}: {judged:?}");
        }
    }
}

#[test]
fn a_repeat_is_measured_when_it_was() {
    let mut device = Timeline::default();
    device.live(HOUR_S, 0..30);
    assert_eq!(device.hear(25.0 - HOUR_S, 40.0), (25.0, BEHIND, false));
    assert_eq!(device.by(1).hear(26.0 - HOUR_S, 140.0), (26.0, BEHIND, true));
    assert_eq!(device.hear(141.0 - HOUR_S, 141.0), (141.0, BEHIND, false));
}

#[test]
fn a_clock_that_is_set_is_right_at_once_and_one_that_is_set_wrong_soon() {
    for behind_s in [HOUR_S, -58.0, -HOUR_S, -1e9] {
        let mut device = Timeline::default();
        device.live(behind_s, 0..60);
        assert!((60..).zip(device.live(0.0, 60..100)).all(|(s, judged)| judged == (f64::from(s), RIGHT, false)));
        assert_eq!(device.hear(-500.0, 100.0), (-500.0, RIGHT, true), "a history by the clock that is right now");
    }
    let mut device = Timeline::default();
    device.live(HOUR_S, 0..60);
    let heard = device.live(2.0 * HOUR_S, 60..100);
    assert!(heard[..10].iter().all(|(_, _, is_late)| *is_late));
    assert_eq!(heard[10..], (70..100).map(|s| (f64::from(s), BEHIND, false)).collect::<Vec<_>>());
    let heard = device.live(600.0, 100..140);
    assert_eq!(heard[10..], (110..140).map(|s| (f64::from(s), BEHIND, false)).collect::<Vec<_>>());
}

#[test]
fn nobody_who_publishes_as_a_device_makes_its_own_readings_late() {
    let true_is_live = |behind_s: f64, attack: &dyn Fn(&mut Timeline, i64)| {
        let mut device = Timeline::default();
        device.by(1).live(behind_s, -30..0);
        for second in 0..200 {
            attack(&mut device, second);
            let judged = device.by(1).hear(second as f64 - behind_s, second as f64);
            assert!(!judged.2 && judged.0 == second as f64, "{second}: {judged:?}");
        }
    };
    for behind_s in [0.0, HOUR_S, -58.0] {
        true_is_live(behind_s, &|device, second| {
            if second == 20 {
                device.by(2).hear_ms(YEAR_2100_MS, 20.0);
                device.hear_ms(YEAR_2100_MS + 1_000, 20.1);
            }
        });
        // Also if such a clock runs on, or stands an hour or a minute off.
        for ahead_ms in [YEAR_2100_MS - BASE_MS, 58_000, 4_900, 0, -58_000, -600_000, -3_600_000] {
            true_is_live(behind_s, &|device, second| {
                device.by(2).hear_ms(BASE_MS + second * 1_000 + ahead_ms, second as f64);
            });
        }
        true_is_live(behind_s, &|device, second| {
            let wild_ms = BASE_MS + second * 1_000 + (second % 7 - 3) * 5_000_000;
            device.by(2 + second.unsigned_abs() % 3).hear_ms(wild_ms, second as f64);
        });
    }
}

#[test]
fn an_offset_near_a_line_does_not_flicker() {
    for behind_s in [59.5, 60.5, -4.9, -5.1] {
        let mut device = Timeline::default();
        let mut last_s = f64::MIN;
        for second in 0..200 {
            let jitter_s = f64::from(second * 7 % 10) / 10.0;
            let (measured_s, _, is_late) = device.hear(f64::from(second) - behind_s, f64::from(second) + jitter_s);
            if second > 12 {
                assert!(measured_s > last_s && !is_late, "{behind_s} {second}: {measured_s} after {last_s}");
                last_s = measured_s;
            }
        }
    }
}

#[test]
fn what_is_known_goes_on_after_a_start() {
    let mut device = Timeline::default();
    device.live(HOUR_S, 0..30);
    let offset_ms = device.clock.offset_ms().expect("a steady offset");
    let mut device = Timeline { clock: DeviceClock::restored(offset_ms), publisher: 7 };
    assert_eq!(device.hear(60.0 - HOUR_S, 60.0), (60.0, BEHIND, false));
    assert_eq!(device.hear(61.0, 61.0), (61.0, RIGHT, false), "set meanwhile");
}

#[test]
fn a_wrong_clock_is_told_until_it_is_right_or_not_heard_any_more() {
    let mut device = Timeline::default();
    device.live(-58.0, 0..30);
    assert!(device.clock.is_wrong(30_000) && device.clock.is_wrong(600_000) && !device.clock.is_wrong(630_000));
    assert!(device.clock.is_to_be_told(30_000) && !device.clock.is_to_be_told(34_999));
    device.by(2).hear(31.0, 31.0);
    assert!(device.clock.is_wrong(31_000), "somebody else's clock is right");
    device.by(0).hear(32.0, 32.0);
    assert!(!device.clock.is_wrong(32_000));
}

/// Late or not, of readings that come at so many times their own pace.
fn unsynced(clock: &mut DeviceClock, times: f64, device_s: std::ops::Range<i64>, from_s: f64) -> Vec<bool> {
    let hear = |second: i64| {
        let now_ms = ms(from_s + (second - device_s.start) as f64 / times);
        let (device_ms, received_ms) = (BASE_MS + second * 1_000, now_ms);
        let judged = clock.judge(&Heard { device_ms, received_ms, now_ms, publisher: 0, is_synced: false });
        assert_eq!((judged.measured_at_ms, judged.device_time), (device_ms, None));
        judged.is_late
    };
    device_s.clone().map(hear).collect()
}

#[test]
fn an_unsynchronised_gateway_calls_no_clock_wrong_and_knows_a_backlog_by_its_pace() {
    let mut clock = DeviceClock::default();
    assert!(unsynced(&mut clock, 1.0, 0..100, 0.0).iter().all(|is_late| !is_late));
    assert!(unsynced(&mut clock, 1.9, 100..200, 100.0).iter().all(|is_late| !is_late));
    let mut clock = DeviceClock::default();
    let backlog = unsynced(&mut clock, 50.0, 0..600, 0.0);
    assert!(backlog[5..].iter().all(|is_late| *is_late) && backlog[..5].iter().all(|is_late| !is_late));
    let live = unsynced(&mut clock, 1.0, 600..700, 12.0);
    assert!(live[10..].iter().all(|is_late| !is_late), "{live:?}");
    // History at ten times its pace between live readings, each as what it is.
    let mut clock = DeviceClock::default();
    for second in 0..60 {
        let history = unsynced(&mut clock, 10.0, second * 10 - 3_000..second * 10 - 2_990, second as f64);
        assert!(second < 2 || history.iter().all(|is_late| *is_late), "{second}: {history:?}");
        // The first is a leap.
        let live = unsynced(&mut clock, 1.0, second..second + 1, second as f64);
        assert!(second < 5 || live == [false], "{second}");
    }
    // What two clocks call the present is that, even right behind a backlog.
    let mut clock = DeviceClock::default();
    unsynced(&mut clock, 100.0, 0..600, 0.0);
    let device_ms = BASE_MS + 600_000;
    let present = Heard { device_ms, received_ms: device_ms + 10, now_ms: 6_010, publisher: 0, is_synced: false };
    assert!(!clock.judge(&present).is_late);
    assert!(clock.judge(&Heard { received_ms: device_ms + 60_001, ..present }).is_late);
    let unset = Heard { device_ms: 5_000, received_ms: 77, now_ms: 77, publisher: 0, is_synced: false };
    assert_eq!(
        clock.judge(&unset),
        Judged { measured_at_ms: 77, device_time: None, is_late: false, ahead_of_ms: None }
    );
}

/// How many of each publish are late: readings a second apart, each publish a number of them and when it came.
fn unsynced_publishes(clock: &mut DeviceClock, from_s: i64, publishes: &[(i64, f64)]) -> Vec<usize> {
    let mut next_s = from_s;
    let mut late = |&(count, at_s): &(i64, f64)| {
        let now_ms = ms(at_s);
        let hear = |device_s: i64| Heard {
            device_ms: BASE_MS + device_s * 1_000,
            received_ms: now_ms,
            now_ms,
            publisher: 0,
            is_synced: false,
        };
        next_s += count;
        (next_s - count..next_s).filter(|&device_s| clock.judge(&hear(device_s)).is_late).count()
    };
    publishes.iter().map(&mut late).collect()
}

#[test]
fn an_unsynchronised_gateway_knows_a_live_batch_from_a_backlog() {
    // The first five seconds of what comes together might come alone.
    for (count, late) in [(6, 0), (10, 0), (60, 0), (300, 234)] {
        let mut clock = DeviceClock::default();
        let live: Vec<_> = (1..20).map(|n| (count, (n * count) as f64 + 0.3 * (n % 3) as f64)).collect();
        let heard = unsynced_publishes(&mut clock, 0, &live);
        assert!(heard[1..].iter().all(|found| found.abs_diff(late) <= 1), "{count}: {heard:?}");
    }
    // An hour at once: of a device that is not known, and of one that was off, whose last minute is the present.
    let mut clock = DeviceClock::default();
    assert_eq!(unsynced_publishes(&mut clock, 0, &[(3_600, 0.0)]), [3_595]);
    assert_eq!(unsynced_publishes(&mut clock, 3_600, &[(60, 60.0), (60, 120.0), (3_600, 3_720.0)])[1..], [0, 3_534]);
    // In several publishes: a minute each, and ten seconds each.
    for count in [60, 10] {
        let mut clock = DeviceClock::default();
        unsynced_publishes(&mut clock, 0, &[(60, 60.0), (60, 120.0)]);
        let backlog: Vec<_> = (0..3_600 / count).map(|n| (count, 3_720.0 + n as f64 / 10.0)).collect();
        let late = unsynced_publishes(&mut clock, 120, &backlog);
        assert!(late[2..late.len() - 1].iter().all(|found| *found as i64 >= count - 5), "{count}: {late:?}");
        let live: Vec<_> = (1..10).map(|n| (60, 3_720.0 + f64::from(n) * 60.0)).collect();
        assert_eq!(unsynced_publishes(&mut clock, 3_720, &live)[1..], [0; 8], "{count}");
    }
}

#[test]
fn a_new_client_goes_on_with_the_clock_that_its_reading_fits() {
    for behind_s in [HOUR_S, -58.0] {
        let mut device = Timeline::default();
        device.by(1).live(behind_s, 0..30);
        device.by(2).live(0.0, 30..60);
        for n in 0..20_u64 {
            // Somebody with a right clock, who repeats something old too.
            let second = 60 + 10 * n;
            device.by(2).hear(second as f64, second as f64);
            device.by(2).hear(second as f64 - behind_s.max(0.0), second as f64);
            let once = device.by(10 + n).hear(second as f64 + 0.5 - behind_s, second as f64 + 0.7);
            assert!(!once.2 && once.1.is_some() && (once.0 - second as f64 - 0.5).abs() < 0.3, "{n}: {once:?}");
        }
    }
    // After a start.
    let mut device = Timeline { clock: DeviceClock::restored(3_600_000), publisher: 2 };
    device.live(0.0, 0..30);
    assert_eq!(device.by(3).hear(30.0 - HOUR_S, 30.0), (30.0, BEHIND, false));
}

#[test]
fn clients_whose_clock_is_not_known_displace_none_that_is() {
    let mut device = Timeline::default();
    device.by(2).hear(-9_000.0, 0.0);
    device.by(1).live(HOUR_S, 0..30);
    for n in 0..10 {
        device.by(2 + n).hear(-9_000.0 - 1_000.0 * n as f64, 30.0 + n as f64);
    }
    assert_eq!(device.by(1).hear(50.0 - HOUR_S, 50.0), (50.0, BEHIND, false));
}

/// Whatever a device and others may say.
fn chaos() -> impl Strategy<Value = Vec<(u64, i64, i64)>> {
    let offset_ms = prop_oneof![
        4 => Just(0i64),
        2 => -70_000i64..70_000,
        1 => Just(3_600_000),
        1 => Just(-3_600_000),
        1 => Just(BASE_MS - YEAR_2100_MS),
        1 => any::<i64>(),
    ];
    prop::collection::vec((0u64..6, 0i64..30_000, offset_ms), 0..200)
}

proptest! {
    #[test]
    fn nothing_is_measured_much_later_than_received(heard in chaos()) {
        let mut clock = DeviceClock::default();
        let mut received_ms = BASE_MS;
        for (publisher, step_ms, offset_ms) in heard {
            received_ms += step_ms;
            let device_ms = received_ms.saturating_sub(offset_ms);
            let judged = clock.judge(&Heard { device_ms, received_ms, now_ms: received_ms, publisher, is_synced: true });
            prop_assert!(judged.measured_at_ms <= received_ms + AHEAD_MS);
            prop_assert!(judged.device_time.is_some() || judged.measured_at_ms == device_ms);
            prop_assert!(clock.sources.len() <= SOURCES_MAX);
        }
    }

    #[test]
    fn a_time_that_can_be_true_is_live_whatever_was_said_before(heard in chaos(), delay_ms in -AHEAD_MS..=LATE_AFTER_MS) {
        let mut clock = DeviceClock::default();
        let mut received_ms = BASE_MS;
        for (publisher, step_ms, offset_ms) in heard {
            received_ms += step_ms;
            let device_ms = received_ms.saturating_sub(offset_ms);
            clock.judge(&Heard { device_ms, received_ms, now_ms: received_ms, publisher, is_synced: true });
        }
        let mut last = clock.clone();
        let live = |clock: &mut DeviceClock, publisher| {
            let device_ms = received_ms - delay_ms;
            clock.judge(&Heard { device_ms, received_ms, now_ms: received_ms, publisher, is_synced: true })
        };
        prop_assert!(!live(&mut last, 99).is_late, "of a client that said nothing of the kind");
        for publisher in 0..6 {
            let judged = live(&mut clock.clone(), publisher);
            prop_assert!(!judged.is_late || judged.device_time.is_some(), "out of its own buffer at the most: {:?}", judged);
        }
    }

    /// Delays of up to 1.9 s, and outages after which what was measured meanwhile comes at once.
    #[test]
    fn a_steady_clock_keeps_the_order_of_a_history(
        offset_s in prop_oneof![Just(0.0), Just(3_600.0), Just(86_400.0), Just(-58.0), Just(-300.0), Just(-1e8), -1e4..1e4f64],
        delays in prop::collection::vec(0i64..1_900, 30..200),
        outages in prop::collection::vec((40usize..150, 1usize..100), 0..3),
    ) {
        let mut clock = DeviceClock::default();
        let mut arrives: Vec<i64> = (0..).zip(&delays).map(|(n, delay)| n * 1_000 + delay).collect();
        for (from, len) in outages {
            let end = (from + len).min(arrives.len());
            let Some(&over_ms) = arrives.get(end.saturating_sub(1)) else { continue };
            arrives.iter_mut().take(end).skip(from).for_each(|at_ms| *at_ms = (*at_ms).max(over_ms));
        }
        let (mut last_ms, mut before_ms) = (i64::MIN, i64::MIN);
        for (n, at_ms) in (0i64..).zip(arrives) {
            let received_ms = BASE_MS + at_ms.max(before_ms);
            before_ms = received_ms - BASE_MS;
            let device_ms = BASE_MS + n * 1_000 - ms(offset_s);
            let judged = clock.judge(&Heard { device_ms, received_ms, now_ms: received_ms, publisher: 1, is_synced: true });
            if n > 25 {
                prop_assert!(judged.measured_at_ms > last_ms, "{} after {}", judged.measured_at_ms, last_ms);
                last_ms = judged.measured_at_ms;
            }
        }
    }
}
