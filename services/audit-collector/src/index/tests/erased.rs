//! Names that are gone, one person's or all that have had their time: the index forgets them, and one made again says the same.

use std::sync::{Arc, OnceLock};

use legate_clock::{Clock, TestClock};
use parking_lot::Mutex;

use super::*;
use crate::domain::quota::{Limits, Quotas};
use crate::flow::Desk;
use crate::flow::reads::Reads;
use crate::flow::retain::{Ran, retain};
use crate::flow::tail::Tails;
use crate::freshness::Freshness;
use crate::log::tests::scene::{audit, setup, until_published};
use crate::metrics::Metrics;
use crate::personal::Ending;

/// Nobody's certificate is shown here.
fn nobody() -> legate_mtls::Trust {
    let now = Timestamp::from_secs(START);
    let ca = legate_mtls::pki::Ca::generate("services", now, Duration::from_secs(60)).unwrap();
    let domain = legate_ids::TrustDomain::parse("example.org").unwrap();
    legate_mtls::Trust::from_pem(domain, ca.cert_pem(), None).unwrap()
}

/// A desk at a log and its index, at which nobody has sat yet.
pub(super) fn desk(log: &Log, index: &Index, clock: &Arc<TestClock>) -> Desk {
    Desk {
        log: log.clone(),
        index: index.clone(),
        fresh: Freshness::default(),
        auditors: Default::default(),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        reads: Reads::new(false),
        trust: nobody(),
        refusals: Default::default(),
        tails: Tails::for_people(),
        feeds: Tails::for_services(),
        metrics: Metrics::default(),
        cosigned: crate::witness::Cosigned::by_nobody(),
        custody: tokio::sync::Mutex::default(),
        quotas: Mutex::new(Quotas::new(Limits::WORKLOAD)),
        service_quotas: Mutex::new(Quotas::new(Limits::WORKLOAD)),
        receipts: Mutex::new(Quotas::new(Limits::RECEIPTS)),
        lines: Default::default(),
        changing: Default::default(),
        stopping: OnceLock::new(),
    }
}

/// The index is thrown away, and one is made again from the log.
async fn made_again(fixture: &Fixture, log: &Log) -> (Index, tokio::task::JoinHandle<()>) {
    let spoiling = fixture.db.tx("spoil", |tx| {
        Box::pin(async move {
            tx.execute_unprepared("DELETE FROM index_head").await.map(|_| ()).map_err(TxError::<()>::from)
        })
    });
    spoiling.await.unwrap();
    let again = index(fixture);
    let following = tokio::spawn(again.clone().follow(log.clone()));
    until(&again, log.size()).await;
    (again, following)
}

/// What every table of events says, for an index to be compared with another.
type Tables =
    ((Vec<event::Model>, Vec<link::Model>), BTreeMap<(i16, String), Vec<u64>>, Vec<usage::Model>, Vec<numbered::Model>);

async fn tables(index: &Index) -> Tables {
    let (mut events, mut links, mut counts) = (rows!(index, event), rows!(index, link), rows!(index, usage));
    let mut numbers = rows!(index, numbered);
    numbers.sort_by_key(|row| row.first_leaf);
    events.sort_by_key(|row| row.leaf);
    links.sort();
    counts.sort();
    ((events, links), postings(index).await, counts, numbers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_erased_is_forgotten_by_the_index_and_one_that_is_made_again_says_the_same() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        tell(&log, 1, 120).await;
        until(&index, log.size()).await;
        let ada = Question { subject: "user:ada".into(), ..Question::default() };
        let ask = async |question: &Question| {
            pages((&index, log.vault()), question, &Reach::Everywhere, 1_000, Order::OldestFirst).await
        };
        let (before, alias) = (ask(&ada).await, log.vault().alias("user:ada"));
        let all = every(&log);
        let of = |leaf: &u64| all[usize::try_from(*leaf).unwrap()].clone();
        assert!(before.iter().any(|leaf| of(leaf).personal.is_empty()), "as it was told before names were kept apart");
        assert!(before.iter().any(|leaf| !of(leaf).personal.is_empty()));

        let ending = || Ending {
            person: Some(log.vault().pseudonym("user:ada")),
            slots: Vec::new(),
            event: AuditEvent {
                r#type: crate::domain::entry::SUBJECT_ERASED.into(),
                details: [("pseudonym".to_owned(), alias.trim_start_matches("user:").to_owned())].into(),
                ..AuditEvent::default()
            },
        };
        log.end(ending()).await.unwrap();
        // Whom later events name has a new key.
        tell(&log, 121, 60).await;
        until(&index, log.size()).await;
        let after = ask(&ada).await;
        let kept: Vec<u64> = before.iter().copied().filter(|leaf| of(leaf).personal.is_empty()).collect();
        assert_eq!(after.iter().copied().filter(|leaf| *leaf < all.len() as u64).collect::<Vec<_>>(), kept);
        assert!(after.len() > kept.len());
        let erased = ask(&Question { subject: "erased".into(), ..Question::default() }).await;
        assert_eq!(erased, before.iter().copied().filter(|leaf| !kept.contains(leaf)).collect::<Vec<_>>());
        for leaf in &erased {
            let shown = every(&log)[usize::try_from(*leaf).unwrap()].clone();
            assert_eq!(AuditEvent { subject: "user:ada".into(), chain: of(leaf).chain, ..shown }, of(leaf));
        }

        let live = tables(&index).await;
        following.abort();
        index.close().await;
        let (again, following) = made_again(&fixture, &log).await;
        assert_eq!(tables(&again).await, live);
        // The log was open all the time, and verifies.
        let audited = until_published(&log).await;
        assert_eq!(audited, log.size());
        tasks.close().await;
        following.abort();
        again.close().await;
        audit(dir.path(), None).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_have_had_their_time_end_but_for_those_that_are_held() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::at(Timestamp::from_secs(START + 1_000));
        let mut setup = setup(dir.path());
        setup.clock = clock.clone();
        setup.personal.retention.days = Some(183);
        let (log, tasks, _) = Log::open(setup, None).await.unwrap();
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        tell(&log, 1, 120).await;
        let desk = desk(&log, &index, &clock);
        assert_eq!(retain(&desk).await.unwrap(), Ran::default(), "nothing is old");
        let hold = AuditEvent {
            subject: "user:grace".into(),
            outcome: Outcome::Success.into(),
            details: [("hold".to_owned(), "hold_1".to_owned())].into(),
            ..AuditEvent::default()
        };
        log.record(Own::from_event(crate::domain::entry::HOLD_SET, hold)).await.unwrap();
        clock.advance(Duration::from_secs(190 * 86_400));
        // What is told late is of its own time, and ends with it.
        tell(&log, 121, 30).await;
        assert_eq!(retain(&desk).await.unwrap(), Ran { ended: 0, held: 0 }, "its week is not over for so long");
        clock.advance(Duration::from_secs(14 * 86_400));
        let ran = retain(&desk).await.unwrap();
        assert!(ran.ended == 1 && ran.held == 1, "{ran:?}");
        until(&index, log.size()).await;
        let all = every(&log);
        let is_old = |event: &&AuditEvent| !event.personal.is_empty();
        assert!(all.iter().filter(is_old).all(|event| event.subject != "user:ada"));
        assert!(all.iter().filter(is_old).any(|event| event.subject == "user:grace"));
        assert!(all.iter().filter(is_old).any(|event| event.subject == "erased"));
        assert_eq!(retain(&desk).await.unwrap(), Ran { ended: 0, held: 1 });
        until(&index, log.size()).await;
        let ended: Vec<&AuditEvent> =
            all.iter().filter(|event| event.r#type == crate::domain::entry::NAMES_ENDED).collect();
        assert_eq!((ended.len(), ended[0].details["keys"].as_str(), ended[0].details["held"].as_str()), (1, "1", "1"));
        let live = tables(&index).await;
        following.abort();
        index.close().await;
        let (again, following) = made_again(&fixture, &log).await;
        assert_eq!(tables(&again).await, live);
        tasks.close().await;
        following.abort();
        again.close().await;
        audit(dir.path(), None).unwrap();
    })
    .await;
}
