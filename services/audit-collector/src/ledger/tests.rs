//! Rows under a lease, on a PostgreSQL where `LEGATE_TEST_POSTGRES` names one: one log, whoever leads and whatever gets lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use legate_db::testing::{Fixture, on_each};
use legate_db::{Fault, TxError};
use legate_merkle::{Frontier, leaf_hash};
use proptest::prelude::*;
use sea_orm::ConnectionTrait as _;

use super::{Batch, Claim, Claimed, Head, Held, Ledger, NotDone, packed, unpacked};
use crate::schema::Migrator;

const LOG: &str = "example.org/audit-log";

fn claim(holder: &str) -> Claim {
    Claim {
        holder: holder.into(),
        address: format!("{holder}.example.org:7104"),
        verifier_key: "the key".into(),
        ttl: Duration::from_secs(30),
    }
}

async fn lead(ledger: &Ledger, holder: &str) -> (Held, Head) {
    match ledger.claim(&claim(holder)).await.unwrap() {
        Claimed::Lead(held, head) => (held, head),
        other => panic!("{other:?}"),
    }
}

/// The lease is over, as if its time had passed.
async fn is_over(ledger: &Ledger) {
    let ending = ledger.db.tx("over", |tx| {
        Box::pin(async move {
            tx.execute_unprepared("UPDATE log_lease SET lease_until = 0").await?;
            Ok::<_, TxError<NotDone>>(())
        })
    });
    ending.await.unwrap();
}

/// The next group of a tree, which grows by it.
fn next(tree: &mut Frontier, word: &str, count: usize) -> Batch {
    let (first, previous_root) = (tree.size(), tree.root());
    let leaves: Vec<Vec<u8>> = (0..count).map(|n| format!("{word} {first} {n}").into_bytes()).collect();
    leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
    Batch { first, epoch: 0, previous_root, root: tree.root(), leaves, names: vec![word.into()] }
}

async fn on_postgres(test: impl AsyncFn(Ledger)) {
    on_each::<Migrator>(async |fixture: Fixture| {
        if fixture.is_postgres() {
            test(Ledger::open(&fixture.url, LOG).await.unwrap()).await;
        }
    })
    .await;
}

/// Every row follows on the one before, and the head on the last; the leaves.
async fn one_chain(ledger: &Ledger) -> Vec<Vec<u8>> {
    let (mut tree, mut epoch, mut all) = (Frontier::new(), 0, Vec::new());
    loop {
        let page = ledger.batches(tree.size()).await.unwrap();
        if page.is_empty() {
            break;
        }
        for batch in page {
            assert_eq!((batch.first, batch.previous_root), (tree.size(), tree.root()));
            assert!(batch.epoch >= epoch);
            epoch = batch.epoch;
            batch.leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
            assert_eq!(batch.root, tree.root());
            all.extend(batch.leaves);
        }
    }
    assert_eq!(ledger.look().await.unwrap().unwrap().head, Head { size: tree.size(), root: tree.root() });
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_holder_writes_nothing_after_a_new_one_took_over() {
    on_postgres(async |ledger| {
        let (old, head) = lead(&ledger, "a").await;
        assert_eq!(head.size, 0);
        let mut tree = Frontier::new();
        old.commit(next(&mut tree, "old", 3), drop).await.unwrap();
        match ledger.claim(&claim("b")).await.unwrap() {
            Claimed::Follow(leader) => assert_eq!((leader.epoch, leader.address.as_str()), (1, "a.example.org:7104")),
            other => panic!("{other:?}"),
        }
        is_over(&ledger).await;
        let (new, head) = lead(&ledger, "b").await;
        assert_eq!((new.epoch(), head.size), (2, 3));
        // The new one has not written anything yet: only the epoch tells.
        let mut stale = tree.clone();
        let refused = old.commit(next(&mut stale, "late", 2), drop).await;
        assert_eq!(refused, Err(NotDone::Fenced));
        assert!(old.lost().is_cancelled());
        for refused in [
            old.renew().await,
            old.release().await,
            old.put_note("checkpoint", Some(b"old".to_vec())).await,
            old.put_slots(vec![(0, vec![1; 4])]).await,
        ] {
            assert_eq!(refused, Err(NotDone::Fenced));
        }
        assert_eq!(ledger.note("checkpoint").await.unwrap(), None);
        new.commit(next(&mut tree, "new", 1), drop).await.unwrap();
        assert_eq!(one_chain(&ledger).await.len(), 4);
        // It comes again under its own name at once, and the one that led is fenced in its turn.
        let (again, _) = lead(&ledger, "b").await;
        assert_eq!(again.epoch(), 3);
        assert_eq!(new.renew().await, Err(NotDone::Fenced));
        let mut other = claim("c");
        other.verifier_key = "another key".into();
        assert!(matches!(ledger.claim(&other).await.unwrap(), Claimed::OtherKey(key) if key == "the key"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_by_reading_and_not_made_twice() {
    on_postgres(async |ledger| {
        let (held, _) = lead(&ledger, "a").await;
        let mut tree = Frontier::new();
        for (round, fault) in
            [Fault::PersistedButReplyLost, Fault::NotPersisted, Fault::PersistedButReplyLost].into_iter().enumerate()
        {
            ledger.db.faults().plan("log_commit", fault);
            let told = std::sync::atomic::AtomicUsize::new(0);
            let waits = |_| {
                told.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            };
            held.commit(next(&mut tree, "told", round + 1), waits).await.unwrap();
            // That it waits, and that it does not any more.
            assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 2);
        }
        assert_eq!(ledger.db.faults().pending(), 0);
        assert_eq!(one_chain(&ledger).await.len(), 6);
        // Lost, and another one took over before it was found out: that it is there is the other one's to see.
        let last = next(&mut tree, "last", 1);
        ledger.db.faults().plan("log_commit", Fault::PersistedButReplyLost);
        let lost = held.commit_once(Arc::new(Batch { epoch: held.epoch(), ..last.clone() })).await;
        assert!(matches!(lost, Err(NotDone::Away(_))));
        is_over(&ledger).await;
        let (_, head) = lead(&ledger, "b").await;
        assert_eq!(head, Head { size: tree.size(), root: tree.root() });
        assert_eq!(held.commit(last, drop).await, Err(NotDone::Fenced));
        assert_eq!(one_chain(&ledger).await.len(), 7);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_who_take_turns_and_do_not_know_it_never_fork_the_log() {
    on_postgres(async |ledger| {
        let members = ["a", "b", "c"].map(|name| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let mut acked = Vec::new();
                for round in 0..12 {
                    // Another one may come first.
                    let (held, head) = loop {
                        is_over(&ledger).await;
                        match ledger.claim(&claim(name)).await.unwrap() {
                            Claimed::Lead(held, head) => break (held, head),
                            other => assert!(matches!(other, Claimed::Follow(_)), "{other:?}"),
                        }
                    };
                    // What is there is read as it is taken over.
                    let mut tree = Frontier::new();
                    while tree.size() < head.size {
                        for batch in ledger.batches(tree.size()).await.unwrap() {
                            batch.leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
                        }
                    }
                    for group in 0..3 {
                        let batch = next(&mut tree, &format!("{name} {round} {group}"), 1 + group);
                        match held.commit(batch.clone(), drop).await {
                            Ok(()) => acked.extend(batch.leaves),
                            Err(NotDone::Fenced | NotDone::Damaged(_)) => break,
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
                acked
            })
        });
        let mut acked = Vec::new();
        for member in members {
            acked.extend(member.await.unwrap());
        }
        let mut there = one_chain(&ledger).await;
        // Everything that was acknowledged is there, once, and nothing else is.
        there.sort();
        acked.sort();
        assert_eq!(there, acked);
        assert!(!acked.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_slots_and_names_are_what_was_put_last() {
    on_postgres(async |ledger| {
        let (held, _) = lead(&ledger, "a").await;
        held.put_note("ending", Some(b"one".to_vec())).await.unwrap();
        held.put_note("ending", Some(b"two".to_vec())).await.unwrap();
        assert_eq!(ledger.note("ending").await.unwrap().unwrap(), b"two");
        held.put_note("ending", None).await.unwrap();
        assert_eq!(ledger.note("ending").await.unwrap(), None);
        held.put_slots((0..9_000u64).map(|slot| (slot, slot.to_le_bytes().to_vec())).collect()).await.unwrap();
        held.put_slots(vec![(7, vec![0; 8])]).await.unwrap();
        let first = ledger.slots(0).await.unwrap();
        assert_eq!((first.len(), first[7].1.as_slice()), (8_192, [0; 8].as_slice()));
        assert_eq!(ledger.slots(8_192).await.unwrap().len(), 808);
        let mut tree = Frontier::new();
        for (word, count) in [("ada", 3), ("bob", 2), ("cyd", 4)] {
            held.commit(next(&mut tree, word, count), drop).await.unwrap();
        }
        let words = async |from| {
            let all = ledger.names(from).await.unwrap().into_iter();
            all.map(|(first, end, names)| (first, end, String::from_utf8(names.concat()).unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(words(0).await.len(), 3);
        assert_eq!(words(4).await, [(3, 5, "bob".to_owned()), (5, 9, "cyd".to_owned())]);
        assert_eq!(words(9).await, []);
    })
    .await;
}

proptest! {
    #[test]
    fn what_is_packed_comes_back_and_what_is_cut_does_not(
        all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
        cut in 1usize..4,
    ) {
        let bytes = packed(&all);
        prop_assert_eq!(unpacked(&bytes), Some(all.clone()));
        if !all.is_empty() {
            prop_assert_ne!(unpacked(&bytes[..bytes.len().saturating_sub(cut)]), Some(all));
        }
    }
}
