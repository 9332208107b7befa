//! Each event once and in order, whatever emitters repeat and however often the collector dies.

use std::collections::HashMap;

use legate_merkle::{leaf_hash, verify_consistency, verify_inclusion};
use proptest::prelude::*;

use super::scene::{
    ME, Place, all, append, audit, copy, offer, on_each_place, open, open_at, own, producer, until_published,
};
use crate::log::{Appended, NotAppended};

#[derive(Clone, Debug)]
enum Act {
    /// Emitter, epoch, first number, count.
    Offer(u8, u8, u64, u64),
    /// Ends in peace and begins again.
    Restart,
    /// Is killed and begins again with the files as they are.
    Kill,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0u8..3, 0u8..2, 1u64..16, 1u64..6).prop_map(|(who, epoch, first, count)| Act::Offer(who, epoch, first, count)),
        1 => Just(Act::Restart),
        1 => Just(Act::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_log_is_what_a_simple_list_would_be(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(follow_the_model(&Place::Alone, acts));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn in_rows_it_is_the_same_list(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (is_shared, acts) = (|place: &Place| matches!(place, Place::Shared(_)), &acts);
        runtime.block_on(on_each_place(async |place| {
            if is_shared(&place) {
                follow_the_model(&place, acts.clone()).await;
            }
        }));
    }
}

async fn follow_the_model(place: &Place, acts: Vec<Act>) {
    let mut dir = tempfile::tempdir().unwrap();
    let (mut log, mut tasks) = open_at(place, dir.path()).await;
    let mut list = Vec::new();
    let mut last: HashMap<_, u64> = HashMap::new();
    for act in acts {
        match act {
            Act::Offer(who, epoch, first, count) => {
                let producer = producer(
                    ["registry", "credential-issuer", "policy-decision"][usize::from(who)],
                    &format!("e{epoch}"),
                );
                let known = last.get(&producer).copied().unwrap_or(0);
                let told = append(&log, &producer, first, count).await;
                if first > known + 1 {
                    assert_eq!(told, Err(NotAppended::Gap { expected: known + 1 }));
                    continue;
                }
                let Appended { acked_seq, first_leaf, appended } = told.unwrap();
                let end = known.max(first + count - 1);
                assert_eq!((acked_seq, appended as u64), (end, end - known));
                assert_eq!(first_leaf.is_some(), appended > 0);
                list.extend((known + 1..=end).map(|seq| (producer.clone(), seq)));
                if let Some(first_leaf) = first_leaf {
                    let there = all(&log);
                    assert_eq!(there[usize::try_from(first_leaf).unwrap()], (producer.clone(), known + 1));
                }
                last.insert(producer, end);
            }
            Act::Restart => {
                tasks.close().await;
                drop(log);
                (log, tasks) = open_at(place, dir.path()).await;
            }
            Act::Kill => {
                let left = copy(dir.path());
                tasks.close().await;
                drop(log);
                dir = left;
                (log, tasks) = open_at(place, dir.path()).await;
            }
        }
    }
    let there = all(&log);
    let told: Vec<_> = there.iter().filter(|(p, _)| p.spiffe_id != ME).cloned().collect();
    assert_eq!(told, list);
    let mine: Vec<u64> = there.iter().filter(|(p, _)| p.spiffe_id == ME).map(|(_, seq)| *seq).collect();
    assert!(mine.iter().zip(1..).all(|(a, b)| *a == b), "{mine:?}");
    tasks.close().await;
    let report = audit(dir.path(), None).unwrap();
    assert_eq!(report.entries, log.size());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_event_under_a_known_number_is_refused_and_nothing_behind_it_is_taken() {
    on_each_place(async |place| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open_at(&place, dir.path()).await;
        let me = producer("registry", "e1");
        append(&log, &me, 1, 100).await.unwrap();
        // A store of fifty that was put back, and tells sixty more: 51 to 110, others than the log has.
        let mut late = offer(&me, 51, 60);
        late.events = offer(&me, 1_051, 60).events;
        assert_eq!(log.append(late.clone()).await, Err(NotAppended::Other { seq: 51 }));
        // One of them is enough, wherever it stands.
        let mut one = offer(&me, 91, 20);
        one.events[7] = late.events[0].clone();
        assert_eq!(log.append(one).await, Err(NotAppended::Other { seq: 98 }));
        let told = append(&log, &me, 91, 20).await.unwrap();
        assert_eq!((told.acked_seq, told.appended), (110, 10));
        assert_eq!(all(&log).iter().filter(|(who, _)| *who == me).count(), 110);
        tasks.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_groups_and_each_keeps_its_order() {
    on_each_place(async |place| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open_at(&place, dir.path()).await;
        let emitters: Vec<_> = (0..24)
            .map(|n| {
                let log = log.clone();
                tokio::spawn(async move {
                    let me = producer("registry", &format!("e{n}"));
                    for round in 0..10u64 {
                        let told = append(&log, &me, 1 + round * 5, 5).await.unwrap();
                        assert_eq!((told.acked_seq, told.appended), (5 + round * 5, 5));
                    }
                })
            })
            .collect();
        for emitter in emitters {
            emitter.await.unwrap();
        }
        let mut next: HashMap<_, u64> = HashMap::new();
        for (who, seq) in all(&log) {
            let wanted = next.entry(who).or_insert(1);
            assert_eq!(seq, *wanted);
            *wanted += 1;
        }
        assert_eq!(next.len(), 25);
        tasks.close().await;
        assert_eq!(audit(dir.path(), None).unwrap().entries, log.size());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_emitter_that_floods_is_told_to_wait_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = super::scene::setup(dir.path());
    setup.waiting_bytes = 1_000;
    let (log, tasks, _) = crate::log::Log::open(setup, None).await.unwrap();
    // Larger than its half of the bound, so that it cannot be let in whatever the disk does.
    let flood = offer(&producer("registry", "e1"), 1, 8);
    assert!(flood.events.iter().map(bytes::Bytes::len).sum::<usize>() > 500);
    assert_eq!(log.append(flood).await, Err(NotAppended::Busy));
    append(&log, &producer("policy-decision", "e1"), 1, 1).await.unwrap();
    tasks.close().await;
    assert_eq!(append(&log, &producer("policy-decision", "e1"), 2, 1).await, Err(NotAppended::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_proof_holds_at_every_size_and_nothing_is_proved_beyond() {
    on_each_place(async |place| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open_at(&place, dir.path()).await;
        let me = producer("registry", "e1");
        for (first, count) in [(1, 3), (4, 250), (254, 20), (274, 300)] {
            append(&log, &me, first, count).await.unwrap();
            until_published(&log).await;
        }
        let size = until_published(&log).await;
        for tree in [1, 2, 255, 256, 257, 300, 511, 512, 513, size] {
            for index in [0, tree / 3, tree / 2, tree - 1] {
                let proved = log.prove_inclusion(index, tree).unwrap();
                verify_inclusion(index, tree, &leaf_hash(&proved.leaf), &proved.proof, &proved.root).unwrap();
            }
            let proved = log.prove_consistency(tree, 0).unwrap();
            verify_consistency(tree, size, &proved.first_root, &proved.second_root, &proved.proof).unwrap();
        }
        assert_eq!(log.prove_inclusion(0, 0).unwrap().size, size);
        assert!(log.prove_inclusion(size, 0).is_err());
        assert!(log.prove_inclusion(0, size + 1).is_err());
        assert!(log.prove_consistency(5, 4).is_err());
        assert!(log.prove_consistency(1, size + 1).is_err());
        assert_eq!(own(&log).len(), 1);
        tasks.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_disk_is_not_what_it_wrote_stops_for_ever_and_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    let me = producer("registry", "e1");
    append(&log, &me, 1, 3).await.unwrap();
    let size = until_published(&log).await;
    log.meddle().await;
    for _ in 0..3 {
        assert_eq!(append(&log, &me, 4, 1).await, Err(NotAppended::Stopped));
    }
    assert!(log.why_stopped().unwrap().contains("place"));
    assert_eq!(log.size(), size);
    assert_eq!(log.prove_inclusion(size - 1, 0).unwrap().size, size);
    tasks.close().await;
    assert_eq!(audit(dir.path(), None).unwrap().entries, size);
}
