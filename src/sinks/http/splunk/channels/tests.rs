//! Indexers behind a load balancer, some of which lose what they have in memory: an acknowledgement is never taken for another post's.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn random(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[test]
fn a_channel_is_used_again_until_it_was_idle_for_long() {
    let mut channels = Channels::default();
    let first = channels.take(random(1), 0);
    let second = channels.take(random(2), 0);
    assert_ne!(first, second);
    let id = first.id().to_owned();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
    channels.give_back(first, 5);
    let again = channels.take(random(3), 5 + IDLE_US_MAX - 1);
    assert_eq!(again.id(), id);
    channels.give_back(again, 9);
    assert_ne!(channels.take(random(4), 9 + IDLE_US_MAX).id(), id);
}

#[test]
fn a_number_that_does_not_rise_is_nobodys() {
    let mut channel = Channels::default().take(random(1), 0);
    let said: Vec<bool> = [0, 1, 5, 5, 0, 6].into_iter().map(|number| channel.is_new(number)).collect();
    assert_eq!(said, [true, true, true, false, false, true]);
}

#[test]
fn cookies_lead_back() {
    let mut channel = Channels::default().take(random(1), 0);
    channel.stay_with(&["nonsense".to_owned(), String::new()]);
    assert_eq!(channel.cookie(), None);
    channel.stay_with(&["LB=a1; Path=/; Secure".to_owned(), "LBCORS=a2; Path=/".to_owned()]);
    assert_eq!(channel.cookie(), Some("LB=a1; LBCORS=a2".to_owned()));
    // A response without any, or with one that nobody can keep, changes nothing.
    channel.stay_with(&[]);
    channel.stay_with(&[format!("x={}", "y".repeat(COOKIE_BYTES_MAX))]);
    assert_eq!(channel.cookie(), Some("LB=a1; LBCORS=a2".to_owned()));
}

#[test]
fn a_cookie_of_somebody_else_does_not_end_a_session() {
    let mut channel = Channels::default().take(random(1), 0);
    let mut after = |set: &str| {
        channel.stay_with(&[set.to_owned()]);
        channel.cookie().unwrap_or_default()
    };
    assert_eq!(after("SRV=a; path=/"), "SRV=a");
    assert_eq!(after("__cf_bm=x1; HttpOnly"), "SRV=a; __cf_bm=x1");
    assert_eq!(after("SRV=b"), "__cf_bm=x1; SRV=b");
    assert_eq!(after("__cf_bm=x2; Max-Age=0"), "SRV=b");
    assert_eq!(after(&format!("y={}", "y".repeat(COOKIE_BYTES_MAX - 6))), "SRV=b");
    assert_eq!(after("SRV=; path=/"), "");
}

/// Posts in vain, if indexers take turns and each post is acknowledged.
fn in_vain(is_told: bool) -> usize {
    let mut indexers: [Indexer; 3] = Default::default();
    let mut channels = Channels::default();
    let mut in_vain = 0;
    for post in 0..60 {
        let mut channel = channels.take(random(post), post);
        let number = indexers[post as usize % 3].post(channel.id(), post);
        if channel.is_new(number) {
            channels.give_back(channel, post);
        } else {
            in_vain += 1;
            if is_told {
                channels.another_answered(&channel, post);
            }
        }
    }
    in_vain
}

/// And its control.
#[test]
fn where_nothing_leads_back_to_an_indexer_one_post_is_in_vain() {
    assert_eq!(in_vain(true), 1);
    assert!(in_vain(false) > 10, "{}", in_vain(false));
}

#[test]
fn channels_are_used_again_after_an_hour_and_at_once_where_cookies_lead_back() {
    let mut channels = Channels::default();
    let met = channels.take(random(1), 0);
    channels.another_answered(&met, 0);
    channels.give_back(met, 1);
    let new = channels.take(random(2), NEW_ONLY_US);
    assert_eq!(new.id(), name(random(2)));
    channels.give_back(new, NEW_ONLY_US);
    let mut again = channels.take(random(3), NEW_ONLY_US);
    assert_eq!(again.id(), name(random(2)));
    again.stay_with(&["LB=1".to_owned()]);
    channels.another_answered(&again, NEW_ONLY_US);
    channels.give_back(again, NEW_ONLY_US);
    assert_eq!(channels.take(random(4), NEW_ONLY_US).id(), name(random(2)));
}

/// What an indexer knows of one channel: for each number, which post it is, and whether it is stored.
#[derive(Default)]
struct Indexer {
    channels: BTreeMap<String, Vec<(u64, bool)>>,
}

impl Indexer {
    fn post(&mut self, channel: &str, post: u64) -> u64 {
        let posts = self.channels.entry(channel.to_owned()).or_default();
        posts.push((post, false));
        posts.len() as u64 - 1
    }

    /// Of the oldest implementation: it keeps for ever what it has stored.
    fn poll(&self, channel: &str, number: u64) -> bool {
        let posts = self.channels.get(channel);
        posts.and_then(|posts| posts.get(number as usize)).is_some_and(|(_, is_stored)| *is_stored)
    }

    fn store(&mut self, stored: &mut Vec<u64>) {
        for (post, is_stored) in self.channels.values_mut().flatten() {
            *is_stored = true;
            stored.push(*post);
        }
    }
}

/// How one post goes: to which indexer, whether its reply is lost, whether it is stored before it is asked for, who is asked.
#[derive(Clone, Debug)]
struct Way {
    to: usize,
    is_reply_lost: bool,
    is_stored: bool,
    is_stored_late: bool,
    is_lost: bool,
    asked: Vec<usize>,
}

fn way() -> impl Strategy<Value = Way> {
    let asked = proptest::collection::vec(0..3_usize, 1..4);
    (0..3_usize, proptest::bool::weighted(0.2), any::<bool>(), any::<bool>(), proptest::bool::weighted(0.1), asked)
        .prop_map(|(to, is_reply_lost, is_stored, is_stored_late, is_lost, asked)| Way {
            to,
            is_reply_lost,
            is_stored,
            is_stored_late,
            is_lost,
            asked,
        })
}

/// The first post that was taken for stored while no indexer had stored it.
fn false_acknowledgement(ways: &[Way], is_careful: bool) -> Option<u64> {
    let mut indexers: [Indexer; 3] = Default::default();
    let mut channels = Channels::default();
    let mut stored = Vec::new();
    for (post, way) in (0..).zip(ways) {
        if way.is_lost {
            // It starts anew, without what it had in memory.
            indexers[way.to] = Indexer::default();
        }
        let mut channel = channels.take(random(post), post);
        let number = indexers[way.to].post(channel.id(), post);
        if way.is_stored {
            indexers[way.to].store(&mut stored);
        }
        let is_known = !way.is_reply_lost && (channel.is_new(number) || !is_careful);
        if !way.is_reply_lost && !is_known {
            channels.another_answered(&channel, post);
        }
        let is_acknowledged = is_known && way.asked.iter().any(|asked| indexers[*asked].poll(channel.id(), number));
        if is_acknowledged && !stored.contains(&post) {
            return Some(post);
        }
        if is_acknowledged || !is_careful {
            channels.give_back(channel, post);
        }
        if way.is_stored_late {
            indexers[way.to].store(&mut stored);
        }
    }
    None
}

proptest! {
    #[test]
    fn no_acknowledgement_is_taken_for_another_posts(ways in proptest::collection::vec(way(), 1..40)) {
        prop_assert_eq!(false_acknowledgement(&ways, true), None);
    }
}

/// The control: with one channel for every post, an indexer acknowledges a post that another one has lost.
#[test]
fn without_care_another_indexers_word_is_believed() {
    let way = |to, is_stored, asked| Way {
        to,
        is_reply_lost: false,
        is_stored,
        is_stored_late: false,
        is_lost: false,
        asked: vec![asked],
    };
    let ways = [way(0, true, 0), way(1, false, 0)];
    assert_eq!((false_acknowledgement(&ways, false), false_acknowledgement(&ways, true)), (Some(1), None));
}
