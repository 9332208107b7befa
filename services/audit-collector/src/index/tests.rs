//! The index on each database: what it finds, and that it is the log's whatever happened to it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use legate_boot::Context;
use legate_clock::Timestamp;
use legate_db::testing::{Fixture, on_each};
use legate_db::{Fault, TxError};
use legate_ids::EventId;
use legate_wire::audit::{AuditEvent, Emitter, EventDecision, EventResource, Outcome};
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, EntityTrait as _, PaginatorTrait as _};

use super::Index;
use crate::domain::question::{Question, TypeFilter};
use crate::log::tests::scene::{ME, ORIGIN, open, producer};
use crate::log::{Log, Offer};
use crate::schema::Migrator;
use crate::store::event;

const START: i64 = 1_800_000_000;

fn pick(n: u64, of: &[&str]) -> String {
    of[usize::try_from(n).unwrap() % of.len()].to_owned()
}

/// Events that differ in everything that is asked for; some of it no database likes.
fn told(n: u64) -> AuditEvent {
    let long = "x".repeat(3_000);
    AuditEvent {
        event_id: EventId::from_parts(n, [0; 10]).to_string(),
        emitter: Some(Emitter { spiffe_id: producer("registry", "e1").spiffe_id, epoch: "e1".into(), seq: n }),
        time: Some(Timestamp::from_secs(START + i64::try_from(n / 3).unwrap()).into()),
        r#type: pick(n, &["agent.suspended", "agent.created", "agents.listed", "decision.made", "agent"]),
        namespace: pick(n, &["", "payments", "pay%", "pay_"]),
        actor: pick(n / 2, &["", "spiffe://example.org/legate/operator/a", "nul\0nul", &long, &format!("{long}y")]),
        agent_id: pick(n, &["", "agt_1", "agt_2"]),
        action: pick(n, &["invoice:read", "invoice:write"]),
        resource: (!n.is_multiple_of(4)).then(|| EventResource {
            r#type: pick(n, &["Invoice", "Ledger"]),
            id: pick(n, &["apollo/1", "'; DROP TABLE indexed_event; --"]),
            ..EventResource::default()
        }),
        outcome: i32::try_from(n % 4).unwrap(),
        trace_id: pick(n / 5, &["", "4bf92f3577b34da6a3ce929d0e0e4736"]),
        credential_id: pick(n, &["", "cred_1"]),
        decision: n
            .is_multiple_of(7)
            .then(|| EventDecision { decision_id: format!("dec_{n}"), ..EventDecision::default() }),
        ..AuditEvent::default()
    }
}

async fn tell(log: &Log, from: u64, count: u64) {
    let events = (from..from + count).map(|n| told(n).encode_to_vec().into()).collect();
    log.append(Offer { producer: producer("registry", "e1"), first_seq: from, events }).await.unwrap();
}

fn questions() -> Vec<Question> {
    let base = Question::default;
    let long = "x".repeat(3_000);
    let time = |secs: i64| Some(Timestamp::from_secs(START + secs));
    vec![
        base(),
        Question { agent_id: "agt_1".into(), ..base() },
        Question { agent_id: "agt_".into(), ..base() },
        Question { kind: TypeFilter::Exactly("agent".into()), ..base() },
        Question { kind: TypeFilter::Under("agent".into()), ..base() },
        Question { kind: TypeFilter::Under("log".into()), ..base() },
        Question { namespace: "pay%".into(), ..base() },
        Question { namespace: "pay_".into(), ..base() },
        Question { actor: "nul\0nul".into(), ..base() },
        Question { actor: long.clone(), ..base() },
        Question { actor: format!("{long}y"), outcome: Outcome::Denied.into(), ..base() },
        Question { resource_type: "Invoice".into(), ..base() },
        Question { resource_type: "Ledger".into(), resource_id: "'; DROP TABLE indexed_event; --".into(), ..base() },
        Question { resource_id: "apollo/1".into(), action: "invoice:read".into(), ..base() },
        Question { outcome: Outcome::Failure.into(), ..base() },
        Question { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(), agent_id: "agt_2".into(), ..base() },
        Question { credential_id: "cred_1".into(), ..base() },
        Question { decision_id: "dec_14".into(), ..base() },
        Question { emitter: ME.into(), ..base() },
        Question { emitter: producer("registry", "").spiffe_id, ..base() },
        Question { from: time(3), to: time(9), ..base() },
        Question { from: time(9), kind: TypeFilter::Exactly("decision.made".into()), ..base() },
    ]
}

/// The same question, answered by looking at every event.
fn answers(question: &Question, event: &AuditEvent) -> bool {
    let text = |asked: &str, found: &str| asked.is_empty() || asked == found;
    let resource = event.resource.clone().unwrap_or_default();
    let time = Timestamp::try_from(event.time.unwrap()).unwrap();
    let kind = match &question.kind {
        TypeFilter::Any => true,
        TypeFilter::Exactly(kind) => *kind == event.r#type,
        TypeFilter::Under(noun) => event.r#type.starts_with(&format!("{noun}.")),
    };
    kind && text(&question.agent_id, &event.agent_id)
        && text(&question.actor, &event.actor)
        && text(&question.namespace, &event.namespace)
        && text(&question.action, &event.action)
        && text(&question.resource_type, &resource.r#type)
        && text(&question.resource_id, &resource.id)
        && (question.outcome == 0 || question.outcome == event.outcome)
        && text(&question.trace_id, &event.trace_id)
        && text(&question.credential_id, &event.credential_id)
        && text(&question.decision_id, event.decision.as_ref().map_or("", |d| &d.decision_id))
        && text(&question.emitter, &event.emitter.as_ref().unwrap().spiffe_id)
        && question.from.is_none_or(|from| time >= from)
        && question.to.is_none_or(|to| time < to)
}

fn every(log: &Log) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    while (events.len() as u64) < log.size() {
        let leaves = log.read(events.len() as u64, log.size(), 1 << 20).unwrap();
        events.extend(leaves.iter().map(|(_, leaf)| AuditEvent::decode(leaf.as_slice()).unwrap()));
    }
    events
}

async fn pages(index: &Index, question: &Question, size: usize) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let (question, before) = (question.clone(), all.last().copied());
        let read = index.db().unwrap();
        let page = read.read("test_page", move |tx| {
            Box::pin(async move { event::page(tx, &question, before, size as u64).await })
        });
        let page = page.await.unwrap();
        let is_last = page.len() < size;
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

async fn until(index: &Index, size: u64) {
    let mut through = index.through();
    let reached = through.wait_for(|through| *through >= size);
    tokio::time::timeout(Duration::from_secs(20), reached).await.unwrap().unwrap();
}

fn index(fixture: &Fixture) -> Index {
    Index::new(fixture.url.clone(), ORIGIN.into(), Context::new())
}

/// The index holds each leaf of the log once, with the values of its event.
async fn is_exact(index: &Index, log: &Log) {
    let db = index.db().unwrap();
    let rows =
        db.read("test_rows", |tx| Box::pin(async move { Ok::<_, TxError<()>>(event::Entity::find().all(tx).await?) }));
    let mut rows = rows.await.unwrap();
    rows.sort_by_key(|row| row.leaf);
    let wanted: Vec<_> = (0..).zip(every(log)).map(|(leaf, e)| event::Model::of(leaf, &e)).collect();
    assert_eq!(rows, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_filter_finds_what_looking_at_every_event_finds() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        tell(&log, 1, 50).await;
        tell(&log, 51, 70).await;
        until(&index, log.size()).await;
        let events = every(&log);
        let mut found_any = 0;
        for question in questions() {
            let wanted: Vec<u64> = {
                let hits = (0u64..).zip(&events).filter(|(_, e)| answers(&question, e)).map(|(i, _)| i);
                let mut hits: Vec<u64> = hits.collect();
                hits.reverse();
                hits
            };
            found_any += usize::from(!wanted.is_empty());
            for size in [1_000, 7] {
                assert_eq!(pages(&index, &question, size).await, wanted, "{question:?}");
            }
        }
        assert!(found_any >= 20);
        is_exact(&index, &log).await;
        tasks.close().await;
        // The log has ended, and the index comes to its end.
        following.await.unwrap();
        assert_eq!(*index.through().borrow(), log.size());
        index.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_or_whose_answer_is_lost_doubles_and_loses_nothing() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        tell(&log, 1, 10).await;
        until(&index, log.size()).await;
        for (fault, from) in [(Fault::NotPersisted, 11), (Fault::PersistedButReplyLost, 21)] {
            let db = index.db().unwrap();
            db.faults().plan("index_events", fault);
            tell(&log, from, 10).await;
            until(&index, log.size()).await;
            assert_eq!(db.faults().pending(), 0);
            is_exact(&index, &log).await;
        }
        tasks.close().await;
        following.await.unwrap();
        index.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_not_the_logs_is_made_again_and_one_that_is_goes_on() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        tell(&log, 1, 30).await;
        let follow = async |spoil: &str| {
            if !spoil.is_empty() {
                fixture
                    .db
                    .tx("spoil", {
                        let spoil = spoil.to_owned();
                        move |tx| {
                            let spoil = spoil.clone();
                            Box::pin(async move {
                                tx.execute_unprepared(&spoil).await.map(|_| ()).map_err(TxError::<()>::from)
                            })
                        }
                    })
                    .await
                    .unwrap();
            }
            let index = index(&fixture);
            let following = tokio::spawn(index.clone().follow(log.clone()));
            until(&index, log.size()).await;
            is_exact(&index, &log).await;
            following.abort();
            index.close().await;
        };
        follow("").await;
        tell(&log, 31, 30).await;
        follow("").await;
        follow("UPDATE index_head SET size = size - 1").await;
        follow("UPDATE index_head SET origin = 'another/log'").await;
        follow("UPDATE index_head SET size = size + 1000").await;
        follow("DELETE FROM index_head").await;
        let rows = fixture
            .db
            .read("count", |tx| Box::pin(async move { Ok::<_, TxError<()>>(event::Entity::find().count(tx).await?) }));
        assert_eq!(rows.await.unwrap(), log.size());
        tasks.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    let url = "postgres://nobody@127.0.0.1:9/none".to_owned();
    let index = Index::new(url, ORIGIN.into(), Context::new());
    let following = tokio::spawn(index.clone().follow(log.clone()));
    tell(&log, 1, 100).await;
    assert!(index.db().is_none() && index.trouble().is_some());
    tasks.close().await;
    following.abort();
}
