use std::sync::mpsc::{Receiver, channel};

use super::*;

const KEY: Key = Key::Session(SessionNumber(7));

struct Store {
    keeper: Keeper,
    handed_over: Receiver<Input>,
}

impl Store {
    async fn next(&self) -> Submission {
        loop {
            match self.handed_over.try_recv() {
                Ok(Input::Submission(submission)) => return submission,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    fn values(submission: &Submission) -> Vec<Option<&[u8]>> {
        submission.entries.iter().map(|entry| entry.value.as_deref()).collect()
    }
}

fn with_store<F: Future<Output = ()>>(run: impl FnOnce(Store) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let (sender, handed_over) = channel::<Input>();
        let keeper = Keeper::default();
        tokio::task::spawn_local(keeper.clone().run(PipelineHandle::new(sender, 1 << 20)));
        run(Store { keeper, handed_over }).await;
    });
}

#[test]
fn nobody_waits_for_a_pipeline_that_is_gone() {
    with_store(|Store { keeper, handed_over }| async move {
        keeper.put(&KEY, vec![1], Known::No);
        drop(handed_over);
        keeper.settled(keeper.ticket()).await;
    });
}

#[test]
fn what_is_taken_back_before_it_is_handed_over_is_waited_for_by_nobody() {
    with_store(|store| async move {
        let keeper = &store.keeper;
        keeper.put(&KEY, vec![1], Known::No);
        let ticket = keeper.ticket();
        keeper.delete(&KEY);
        keeper.settled(ticket).await;
        // The same behind something that is under way.
        let other = Key::Session(SessionNumber(8));
        keeper.put(&other, vec![1], Known::No);
        keeper.ticket();
        let submission = store.next().await;
        keeper.put(&KEY, vec![1], Known::No);
        let ticket = keeper.ticket();
        keeper.delete(&KEY);
        tokio::task::yield_now().await;
        assert!(!keeper.is_settled(ticket));
        submission.session.commit_through(submission.through);
        keeper.settled(ticket).await;
    });
}

#[test]
fn what_a_publish_stores_is_not_overtaken_by_what_waits_here() {
    with_store(|store| async move {
        let keeper = &store.keeper;
        keeper.delete(&KEY);
        let other = Key::Session(SessionNumber(8));
        keeper.put(&other, vec![2], Known::No);
        keeper.ticket();
        let submission = store.next().await;
        assert_eq!(submission.entries.len(), 2);
        keeper.supersede(&KEY);
        submission.session.refuse(1..=1);
        let submission = store.next().await;
        assert_eq!(Store::values(&submission), [Some(&[2][..])], "what was refused of the other is tried again");
    });
}

#[test]
fn the_latest_value_is_stored_and_then_nobody_waits_any_more() {
    with_store(|store| async move {
        let keeper = &store.keeper;
        keeper.put(&KEY, vec![1], Known::No);
        keeper.put(&KEY, vec![2], Known::No);
        let ticket = keeper.ticket();
        let submission = store.next().await;
        assert_eq!((Store::values(&submission), keeper.is_settled(ticket)), (vec![Some(&[2][..])], false));
        keeper.delete(&KEY);
        let later = keeper.ticket();
        submission.session.commit_through(submission.through);
        keeper.settled(ticket).await;
        assert!(!keeper.is_settled(later));
        let submission = store.next().await;
        assert_eq!(Store::values(&submission), [None], "it is in the store");
        submission.session.commit_through(submission.through);
        keeper.settled(later).await;
    });
}

#[test]
fn while_nothing_can_be_stored_nobody_waits_and_it_is_tried_again() {
    with_store(|store| async move {
        let keeper = &store.keeper;
        keeper.put(&KEY, vec![1], Known::No);
        let ticket = keeper.ticket();
        let submission = store.next().await;
        submission.session.refuse(1..=1);
        keeper.settled(ticket).await;
        keeper.put(&KEY, vec![2], Known::Maybe);
        assert!(keeper.is_settled(keeper.ticket()));
        let submission = store.next().await;
        assert_eq!(Store::values(&submission), [Some(&[2][..])]);
        submission.session.refuse(2..=2);
        tokio::task::yield_now().await;
        keeper.delete(&KEY);
        let other = Key::Session(SessionNumber(8));
        keeper.put(&other, vec![3], Known::No);
        let submission = store.next().await;
        assert_eq!(Store::values(&submission), [Some(&[3][..])], "the first never came into the store");
        submission.session.excuse_through(3);
        submission.session.refuse(3..=3);
        tokio::task::yield_now().await;
        keeper.delete(&other);
        let submission = store.next().await;
        assert_eq!(Store::values(&submission), [None], "the disk may have taken it");
        submission.session.commit_through(submission.through);
        tokio::task::yield_now().await;
        keeper.put(&KEY, vec![4], Known::No);
        assert!(!keeper.is_settled(keeper.ticket()));
    });
}
