//! Names of persons: whatever a kill leaves, each leaf has those that it commits to, and an erasure that was begun is ended.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_personal::Split;
use legate_wire::audit::AuditEvent;
use prost::Message as _;

use super::scene::{
    Place, audit, copy, event, join, on_each_place, open, open_at, own, personal, producer, until_published,
};
use crate::domain::entry::SUBJECT_ERASED;
use crate::log::{Log, Offer};
use crate::personal::{Ending, Unsealed};

fn named(of: &str, seq: u64) -> (AuditEvent, Unsealed) {
    let plain = AuditEvent::decode(event(&producer("registry", "e1"), seq)).unwrap();
    let named = AuditEvent { subject: format!("user:{of}{seq}"), reason: format!("user:{of} said so"), ..plain };
    let Split { event, parts } = legate_personal::split(named, rand::random);
    let time = Timestamp::from_secs(1_800_000_000);
    (event, Unsealed { leaf: 0, kind: "test.told".into(), time, parts })
}

async fn tell(log: &Log, first_seq: u64, of: &str) -> u64 {
    let (event, unsealed) = named(of, first_seq);
    let personal = BTreeMap::from([(0, unsealed)]);
    let events = vec![event.encode_to_vec().into()];
    let offer = Offer { producer: producer("registry", "e1"), first_seq, events, personal, signature: None };
    log.append(offer).await.unwrap().acked_seq
}

/// Each event of the emitter is shown as it was told.
fn every_name_is_there(log: &Log, of: &str) -> u64 {
    let mut count = 0;
    let mut at = 0;
    while at < log.size() {
        let leaves = log.read(at, log.size(), 1 << 20).unwrap();
        at += leaves.len() as u64;
        for seen in log.seen(leaves).into_iter().filter(|seen| !seen.event.personal.is_empty()) {
            let seq = seen.event.emitter.as_ref().unwrap().seq;
            assert_eq!(seen.event.subject, format!("user:{of}{seq}"), "leaf {}", seen.at);
            assert_eq!(seen.event.reason, format!("user:{of} said so"));
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_kill_leaves_has_the_names_of_every_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    let writer = tokio::spawn({
        let log = log.clone();
        async move {
            for seq in 1..=300 {
                tell(&log, seq, "ada").await;
            }
        }
    });
    let mut seen = 0;
    while !writer.is_finished() {
        let acked = log.size();
        let killed = copy(dir.path());
        let (log, tasks) = open(killed.path()).await;
        seen = every_name_is_there(&log, "ada");
        assert!(log.size() >= acked);
        tasks.close().await;
    }
    writer.await.unwrap();
    assert!(seen > 0);
    assert_eq!(every_name_is_there(&log, "ada"), 300);
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_whose_leaf_was_never_written_are_nobodys() {
    on_each_place(async |place| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open_at(&place, dir.path()).await;
        for seq in 1..=70 {
            tell(&log, seq, "ada").await;
        }
        // What is left of a group that was killed between its names and its leaves.
        let size = log.size();
        let lost = (0..90).map(|at| Unsealed { leaf: size + at, ..named("mallory", 71 + at).1 }).collect();
        let sealed = log.vault().seal(lost).await.unwrap();
        log.vault().keep(sealed).await.unwrap();
        tasks.close().await;
        drop(log);
        let (log, tasks) = open_at(&place, dir.path()).await;
        for seq in 71..=200 {
            tell(&log, seq, "ada").await;
        }
        assert_eq!(every_name_is_there(&log, "ada"), 200);
        tasks.close().await;
        drop(log);
        let (log, tasks) = open_at(&place, dir.path()).await;
        assert_eq!(every_name_is_there(&log, "ada"), 200);
        tasks.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_was_killed_is_ended_and_told_at_the_next_start() {
    on_each_place(async |place| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open_at(&place, dir.path()).await;
        let acked = tell(&log, 1, "ada").await;
        assert_eq!(acked, 1);
        let mut ending = Ending {
            person: Some(log.vault().pseudonym("user:ada1")),
            slots: Vec::new(),
            event: AuditEvent { r#type: SUBJECT_ERASED.into(), reason: "TICKET-1".into(), ..AuditEvent::default() },
        };
        let vault = log.vault().clone();
        let ended = tokio::task::spawn_blocking(move || vault.end(&mut ending).unwrap());
        assert_eq!(ended.await.unwrap(), 1);
        let is_erased = |log: &Log| {
            let leaves = log.read(0, log.size(), 1 << 20).unwrap();
            let seen = log.seen(leaves).into_iter().find(|seen| !seen.event.personal.is_empty()).unwrap();
            assert_eq!(seen.event.reason, "user:ada said so", "the other person is untouched");
            seen.event.subject == legate_personal::ERASED
        };
        assert!(is_erased(&log));
        tasks.close().await;
        drop(log);
        let (log, tasks) = open_at(&place, dir.path()).await;
        until_published(&log).await;
        tasks.close().await;
        let told: Vec<AuditEvent> = own(&log).into_iter().filter(|event| event.r#type == SUBJECT_ERASED).collect();
        assert_eq!((told.len(), told[0].reason.as_str(), told[0].details["keys"].as_str()), (1, "TICKET-1", "1"));
        assert!(is_erased(&log) && !personal(dir.path()).dir.join("ending").exists());
        audit(dir.path(), None).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_taken_over_and_one_that_is_erased_is_so_for_everybody() {
    on_each_place(async |place| {
        let Place::Shared(_) = place else { return };
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (log, tasks) = open_at(&place, a.path()).await;
        for seq in 1..=20 {
            tell(&log, seq, "ada").await;
        }
        let of = log.vault().alias("user:ada7");
        join(a.path(), b.path());
        let (second, second_tasks) = open_at(&place, b.path()).await;
        assert_eq!(every_name_is_there(&second, "ada"), 20);
        assert_eq!(second.vault().alias("user:ada7"), of, "one person has one pseudonym");
        tell(&second, 21, "ada").await;
        let event = AuditEvent { r#type: SUBJECT_ERASED.into(), ..AuditEvent::default() };
        let person = Some(second.vault().pseudonym("user:ada7"));
        let leaf = second.end(Ending { person, slots: Vec::new(), event }).await.unwrap();
        assert_eq!(leaf + 1, second.size());
        second_tasks.close().await;
        tasks.close().await;
        drop((log, second));
        // The first comes back, over its own copy of what is sealed: the key is nowhere any more.
        let (log, tasks) = open_at(&place, a.path()).await;
        let seen = log.seen(log.read(0, log.size(), 1 << 20).unwrap());
        let subjects: Vec<String> = seen.into_iter().map(|seen| seen.event.subject).filter(|s| !s.is_empty()).collect();
        assert_eq!(subjects.len(), 21);
        assert_eq!(subjects.iter().filter(|subject| *subject == legate_personal::ERASED).count(), 1);
        assert_eq!(subjects[6], legate_personal::ERASED);
        assert_eq!(subjects[20], "user:ada21");
        assert!(!log.vault().knows("user:ada7") && log.vault().knows("user:ada8"));
        assert!(!personal(a.path()).dir.join("keys").exists(), "keys of names are in no file");
        tasks.close().await;
    })
    .await;
}
