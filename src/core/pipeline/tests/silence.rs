//! Who is missed, and who is not.

use super::*;

#[test]
fn devices_that_lose_their_power_together_are_one_alert_each() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..DEVICES, 80);
    assert_eq!(gateway.raised, Vec::<String>::new());
    gateway.advance(20);
    assert_eq!(gateway.raised.len(), DEVICES as usize, "{:?}", &gateway.raised[..5]);
    assert!(gateway.raised.iter().all(|name| name.ends_with("/_device/gap")));
    assert!(gateway.alerts["d7/_device/gap"].contains("\"message\":\"no data from d7\""));
    gateway.advance(120);
    assert_eq!(gateway.alerts.len(), DEVICES as usize, "as long as they are silent");
    drive(&mut gateway, 0..DEVICES, 40);
    assert!(gateway.alerts.values().all(|body| body.contains("\"state\":\"cleared\"")));
    assert_eq!(gateway.raised.len(), DEVICES as usize, "that they are back raises nothing");
}

/// The control is the test before: else they are missed.
#[test]
fn whoever_could_not_be_listened_to_is_not_missed() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..DEVICES, 80);
    gateway.advance(3);
    gateway.pipeline.listen_from(gateway.now());
    gateway.advance(59);
    assert_eq!(gateway.raised, Vec::<String>::new());
    gateway.advance(5);
    assert_eq!(gateway.raised.len(), DEVICES as usize, "who does not come back then is");
}

#[test]
fn devices_that_take_their_leave_are_not_missed() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..DEVICES, 80);
    for publisher in 1..=DEVICES {
        gateway.pipeline.sleep(publisher);
    }
    gateway.advance(600);
    drive(&mut gateway, 0..DEVICES, 20);
    assert_eq!(gateway.raised, Vec::<String>::new());
    gateway.advance(20);
    assert_eq!(gateway.raised.len(), DEVICES as usize, "awake again, they are missed");
}

#[test]
fn who_says_goodbye_for_another_does_not_put_it_to_sleep() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..2, 80);
    gateway.pipeline.sleep(1);
    gateway.advance(20);
    assert_eq!(gateway.raised, ["d1/_device/gap"]);
}

#[test]
fn the_gateways_own_absence_is_no_silence() {
    for devices_return in [true, false] {
        let mut gateway = Gateway::start(WALL_MS);
        drive(&mut gateway, 0..DEVICES, 80);
        gateway.restart(8 * 3_600_000);
        if devices_return {
            gateway.advance(50);
            drive(&mut gateway, 0..DEVICES, 100);
            assert_eq!(gateway.raised, Vec::<String>::new());
        } else {
            gateway.advance(59);
            assert_eq!(gateway.raised, Vec::<String>::new(), "a minute is given to them");
            gateway.advance(5);
            assert_eq!(gateway.raised.len(), DEVICES as usize, "who does not come back is missed");
        }
    }
}

#[test]
fn a_silence_goes_on_across_a_restart() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..2, 80);
    drive(&mut gateway, 0..1, 20);
    assert_eq!(gateway.raised, ["d1/_device/gap"]);
    gateway.restart(60_000);
    gateway.advance(1);
    drive(&mut gateway, 0..1, 120);
    assert_eq!(gateway.raised.len(), 1);
    assert!(gateway.alerts["d1/_device/gap"].contains("\"state\":\"raised\""));
    drive(&mut gateway, 0..2, 35);
    assert!(gateway.alerts["d1/_device/gap"].contains("\"state\":\"cleared\""));
}

#[test]
fn one_silent_series_of_a_device_is_missed_by_itself_and_a_metric_without_silences_never() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..1, 80);
    for second in 0..30 {
        gateway.publish(1, "d0", "speed", 20.0 + (second % 3) as f64);
        gateway.publish(1, "d0", "oil_pressure", 20.0 + (second % 3) as f64 / 10.0);
        gateway.publish(1, "d0", "vibration", 20.0 + (second % 3) as f64 / 10.0);
        gateway.advance(1);
    }
    assert_eq!(gateway.raised, ["d0/engine_temp/gap"], "and not lat, whose profile is off");
    assert_eq!(gateway.raised_of("gap"), 1);
}

#[test]
fn a_start_that_ends_at_once_makes_nobody_older() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..1, 80);
    let series = gateway.pipeline.monitor().series_count();
    gateway.restart(1_000);
    gateway.restart(1_000);
    gateway.advance(3_700);
    assert_eq!(gateway.pipeline.monitor().series_count(), series);
}

#[test]
fn who_took_its_leave_while_it_was_missed_is_missing_until_it_is_heard() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..1, 80);
    gateway.advance(20);
    assert_eq!(gateway.raised, ["d0/_device/gap"]);
    gateway.pipeline.sleep(1);
    gateway.advance(5);
    gateway.restart(10_000);
    gateway.advance(35);
    assert!(
        gateway.alerts["d0/_device/gap"].contains("\"state\":\"raised\""),
        "a goodbye says nothing of what is missing"
    );
    drive(&mut gateway, 0..1, 35);
    assert!(gateway.alerts["d0/_device/gap"].contains("\"state\":\"cleared\""));
    assert_eq!(gateway.raised, ["d0/_device/gap"]);
}

#[test]
fn what_comes_only_while_driving_makes_nobody_wait_for_it() {
    let mut gateway = Gateway::start(WALL_MS);
    let mut minutes = |minutes: u64, drives: bool| {
        for second in 0..60 * minutes {
            if drives {
                gateway.publish(1, "truck", "lat", second as f64);
            }
            if second % 60 == 0 {
                gateway.publish(1, "truck", "temp", 20.0 + (second % 7) as f64 / 10.0);
            }
            gateway.advance(1);
        }
        gateway.raised.clone()
    };
    assert_eq!(minutes(30, true), Vec::<String>::new());
    assert_eq!(minutes(30, false), Vec::<String>::new(), "parked");
    gateway.advance(200);
    assert_eq!(gateway.raised, Vec::<String>::new());
    gateway.advance(200);
    assert_eq!(gateway.raised, ["truck/_device/gap"], "gone");
}

#[test]
fn a_week_of_silence_is_forgotten() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..1, 80);
    gateway.advance(7 * 86_400 + 20);
    let alert = gateway.alerts.get("d0/_device/gap").expect("cleared a moment ago");
    assert!(alert.contains("\"state\":\"cleared\"") && alert.contains("\"cleared_reason\":\"forgotten\""), "{alert}");
    gateway.advance(120);
    assert_eq!(gateway.alerts.len(), 0);
    assert_eq!(gateway.raised.len(), 1);
}

#[test]
fn a_device_that_is_missed_and_forgotten_in_one_tick_is_told_by_name() {
    let mut gateway = Gateway::start(WALL_MS);
    drive(&mut gateway, 0..1, 80);
    gateway.steady_ms += 8 * 86_400_000;
    gateway.advance(1);
    assert_eq!(gateway.raised, ["d0/_device/gap"]);
    assert_eq!(gateway.pipeline.monitor().series_count(), 0);
}
