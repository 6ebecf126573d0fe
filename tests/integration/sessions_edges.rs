//! Sessions over several restarts, in groups, and with requests that take each other back.

use crate::restart::{killed, publish_end, settle, start};
use crate::wire::{Connect, Message, VERSIONS, Version, Wire};

/// Numbers of messages do not begin anew when none is left in the store: what a session is done with would hide what comes.
#[test]
fn what_is_published_after_a_restart_with_nothing_waiting_outlives_the_next_one() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let keeper = Connect::kept(version, "keeper");
        let mut client = Wire::open(&gateway, &keeper);
        assert_eq!(client.subscribe("t", 1), 1);
        for round in 0..10 {
            publish_end(&gateway, "t");
            assert_eq!(client.take().payload, "end", "{round}");
        }
        drop(client);
        settle(&gateway, 0);
        let gateway = killed(&folder, gateway);
        publish_end(&gateway, "t");
        let gateway = killed(&folder, gateway);
        assert_eq!(Wire::resume(&gateway, &keeper).take().payload, "end");
    }
}

/// A number of a session that has ended is not given again while a message for it is in the store.
#[test]
fn nobody_gets_what_was_stored_for_a_session_that_has_ended() {
    let (folder, gateway) = start();
    let [stays, ends] = ["stays", "ends"].map(|id| Connect::kept(Version::Five, id));
    for connect in [&stays, &ends] {
        assert_eq!(Wire::open(&gateway, connect).subscribe("secret", 1), 1);
    }
    settle(&gateway, 0);
    publish_end(&gateway, "secret");
    drop(Wire::open(&gateway, &Connect::fleeting(Version::Five, "ends")));
    let gateway = killed(&folder, gateway);
    let other = Connect::kept(Version::Five, "other");
    drop(Wire::open(&gateway, &other));
    let gateway = killed(&folder, gateway);
    let mut client = Wire::resume(&gateway, &other);
    assert_eq!(client.subscribe("open", 1), 1);
    publish_end(&gateway, "open");
    assert_eq!(client.take().topic, "open");
}

#[test]
fn members_of_a_group_take_turns_and_what_is_for_one_that_is_away_is_stored() {
    let (folder, gateway) = start();
    let keeper = Connect::kept(Version::Five, "keeper");
    let mut client = Wire::open(&gateway, &keeper);
    assert_eq!(client.subscribe("$share/g/t", 1), 1);
    let mut other = Wire::open(&gateway, &Connect::fleeting(Version::Five, "other"));
    assert_eq!(other.subscribe("$share/g/t", 1), 1);
    let mut publisher = Wire::open(&gateway, &Connect::fleeting(Version::Five, "publisher"));
    for number in 0..20u16 {
        publisher.publish(&Message::new("t", &number.to_string(), 1, 1));
    }
    let numbers = |client: &mut Wire| (0..10).map(|_| client.take().payload).collect::<Vec<_>>();
    let (mine, theirs) = (numbers(&mut client), numbers(&mut other));
    assert!(mine.iter().all(|number| !theirs.contains(number)), "{mine:?} and {theirs:?}");
    drop((client, other));
    settle(&gateway, 1);
    publisher.publish(&Message::new("t", "last", 1, 1));
    let gateway = killed(&folder, gateway);
    let mut client = Wire::resume(&gateway, &keeper);
    let mut got = client.take().payload;
    while mine.contains(&got) {
        got = client.take().payload;
    }
    assert_eq!(got, "last");
}

/// In one segment, on a gateway where nothing else happens.
#[test]
fn a_subscription_that_is_taken_back_at_once_is_answered() {
    for version in VERSIONS {
        let (_folder, gateway) = start();
        let mut client = Wire::open(&gateway, &Connect::kept(version, "keeper"));
        let properties: &[u8] = if version == Version::Five { &[0] } else { &[] };
        let subscribe = [&[0, 7][..], properties, &[0, 1, b't', 1]].concat();
        let unsubscribe = [&[0, 8][..], properties, &[0, 1, b't']].concat();
        let packets = [vec![0x82, subscribe.len() as u8], subscribe, vec![0xa2, unsubscribe.len() as u8], unsubscribe];
        client.client.send(&packets.concat());
        client.expect(0x90, 7);
        client.expect(0xb0, 8);
        client.client.ping();
    }
}
