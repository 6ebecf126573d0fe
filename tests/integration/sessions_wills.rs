//! Wills of clients that the gateway does not see again after it was killed.

use std::time::{Duration, Instant};

use crate::restart::{killed, publish_end, settle, start};
use crate::wire::{Connect, Message, USER, VERSIONS, Will, Wire};

/// Comes before the gateway gives any client up.
const EARLIEST: Duration = Duration::from_secs(5);
const DELAY_S: u32 = 15;

fn with_will<'a>(connect: Connect<'a>, topic: &'a str, retain: bool) -> Connect<'a> {
    let will = Will { topic, payload: connect.client_id, retain, delay_s: 0, properties: b"\x26\x00\x01k\x00\x01v" };
    Connect { will: Some(will), ..connect }
}

fn delayed(connect: Connect<'_>) -> Connect<'_> {
    Connect { will: connect.will.map(|will| Will { delay_s: DELAY_S, ..will }), ..connect }
}

/// Waits for wills until the one of `last`. Returns them in order, each with how long after `since` it came.
fn wills(watcher: &mut Wire, since: Instant, last: &str) -> Vec<(Message, Duration)> {
    let mut got: Vec<(Message, Duration)> = Vec::new();
    while got.last().is_none_or(|(message, _)| message.payload != last) {
        got.push((watcher.take(), since.elapsed()));
    }
    got
}

fn names(got: &[(Message, Duration)]) -> Vec<&str> {
    let mut names: Vec<_> = got.iter().map(|(message, _)| message.payload.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn wills_outlive_a_kill_unless_the_client_comes_back_or_has_said_goodbye() {
    let (folder, gateway) = start();
    let [four, five] = VERSIONS;
    let kept = |version, id| with_will(Connect::kept(version, id), "wills/x", false);
    let fleeting = |version, id| with_will(Connect::fleeting(version, id), "wills/x", false);
    let lost = [
        kept(four, "lost-4"),
        kept(five, "lost-5"),
        fleeting(four, "lost-fleeting-4"),
        fleeting(five, "lost-fleeting-5"),
        with_will(Connect::kept(four, "lost-kept"), "wills/kept", true),
        delayed(kept(five, "lost-late")),
    ];
    let back = [kept(four, "back-4"), kept(five, "back-5"), delayed(kept(five, "back-late"))];
    let polite =
        [kept(four, "polite-4"), kept(five, "polite-5"), fleeting(four, "polite-6"), delayed(kept(five, "polite-7"))];
    let open = |connect: &Connect<'_>| Wire::open(&gateway, connect);
    let _there: Vec<_> = lost.iter().chain(&back).map(open).collect();
    polite.iter().map(open).for_each(Wire::disconnect);
    settle(&gateway, (lost.len() + back.len()) as u64);

    let gateway = killed(&folder, gateway);
    let started = Instant::now();
    let mut watcher = Wire::open(&gateway, &Connect::fleeting(five, "watcher"));
    assert_eq!(watcher.subscribe("wills/#", 1), 1);
    assert!(started.elapsed() < Duration::from_secs(2));
    let returned: Vec<_> = back.iter().map(|connect| Wire::resume(&gateway, connect)).collect();
    let got = wills(&mut watcher, started, "lost-late");
    publish_end(&gateway, "wills/end");
    assert_eq!(watcher.take().topic, "wills/end", "those who came back are there");
    let expected = ["lost-4", "lost-5", "lost-fleeting-4", "lost-fleeting-5", "lost-kept", "lost-late"];
    assert_eq!(names(&got), expected);
    for (will, after) in &got {
        let earliest = if will.payload == "lost-late" { Duration::from_secs(DELAY_S as u64 - 2) } else { EARLIEST };
        assert!(*after >= earliest, "{} came after {after:?}", will.payload);
        assert_eq!((will.qos, will.retain), (1, false));
        assert_eq!(will.property(USER).len(), usize::from(will.payload.ends_with("-5") || will.payload == "lost-late"));
    }
    let mut late = Wire::open(&gateway, &Connect::fleeting(four, "late"));
    late.subscribe("wills/#", 1);
    let found = late.take();
    assert_eq!((found.payload.as_str(), found.retain), ("lost-kept", true));

    // What was published is not published again, and who says goodbye now is not missed.
    returned.into_iter().for_each(Wire::disconnect);
    settle(&gateway, 2);
    let _there = Wire::open(&gateway, &kept(four, "second"));
    drop((watcher, late));
    let gateway = killed(&folder, gateway);
    let mut watcher = Wire::open(&gateway, &Connect::fleeting(five, "watcher"));
    let mut late = Wire::open(&gateway, &Connect::fleeting(four, "late"));
    late.subscribe("wills/#", 1);
    assert_eq!(late.take().payload, "lost-kept", "it is retained as any other message");
    // Not what is retained.
    assert_eq!(watcher.subscribe("wills/#", 0x21), 1);
    assert_eq!(names(&wills(&mut watcher, started, "second")), ["second"]);
    publish_end(&gateway, "wills/end");
    assert_eq!(watcher.take().payload, "end");
}
