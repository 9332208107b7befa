//! The record comes before the answer, and without a record there is no ALLOW.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_wire::audit::{AuditEvent, Outcome};

use super::super::evaluate::evaluate;
use crate::domain::answer::Denial;
use crate::testing::*;

#[tokio::test]
async fn the_record_says_everything_that_the_answer_says() {
    let stage = Stage::set().await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    let said = stage.paper.events();
    let event = said.last().unwrap();
    assert_eq!(event.r#type, "decision.made");
    assert_eq!(event.actor, "spiffe://example.org/ns/payments/enforcer/invoices");
    assert_eq!(event.namespace, "payments");
    assert_eq!(event.agent_id, agent_id(1).to_string());
    assert_eq!(event.action, "invoice:read");
    assert_eq!(event.resource.as_ref().unwrap().id, "apollo/1001");
    assert_eq!(event.outcome(), Outcome::Success);
    assert_eq!(event.reason_code, "ALLOWED");
    assert_eq!(event.revision, 1);
    assert_eq!(event.correlation_id, "task-1");
    assert_eq!(event.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    let decision = event.decision.as_ref().unwrap();
    assert_eq!(decision.decision_id, spoken.id.to_string());
    assert_eq!(decision.determining, ["binding:payments/reads-apollo@1", "policy:payments/production@1"]);
    let emitter = event.emitter.as_ref().unwrap();
    assert_eq!((emitter.spiffe_id.as_str(), emitter.seq), ("spiffe://example.org/legate/policy-decision", 2));
}

#[tokio::test]
async fn no_record_no_allow() {
    for (mood, text) in [(Mood::Full, "full"), (Mood::Broken, "failed"), (Mood::Hanging, "500 ms")] {
        let stage = Stage::set().await;
        stage.paper.be(mood);
        let start = std::time::Instant::now();
        let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{mood:?} took {:?}", start.elapsed());
        assert_eq!(spoken.answer.word(), "AUDIT_UNAVAILABLE", "{mood:?}");
        assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Undecided);
        assert!(spoken.message.contains(text), "{}", spoken.message);
        assert_eq!(spoken.valid_until, None);
        stage.paper.be(Mood::Good);
        let word = stage.word(stage.good()).await;
        match mood {
            Mood::Full => assert_eq!(word, "ALLOWED", "a disk that has room again goes on"),
            _ => assert_eq!(word, "AUDIT_UNAVAILABLE", "{mood:?}"),
        }
    }
}

#[tokio::test]
async fn a_backlog_past_its_bound_denies_until_it_shrinks() {
    let stage = Stage::set().await;
    stage.paper.waiting.store(1 << 20, Ordering::SeqCst);
    assert_eq!(stage.word(stage.good()).await, "AUDIT_UNAVAILABLE");
    stage.paper.waiting.store((1 << 20) - 1, Ordering::SeqCst);
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
}

#[tokio::test]
async fn durable_actions_are_on_disk_before_the_answer_and_others_do_not_wait_for_it() {
    let mut stage = Stage::set().await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    assert!(!stage.paper.synced.load(Ordering::SeqCst));
    stage.change(vec![(point("invoices", |p| p.durable_actions = vec!["invoice:read".into()]), false)]).await;
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "ALLOWED");
    assert!(!stage.paper.synced.load(Ordering::SeqCst));
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    assert!(stage.paper.synced.load(Ordering::SeqCst));
    stage.paper.be(Mood::SyncFails);
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "ALLOWED");
    assert_eq!(stage.word(stage.good()).await, "AUDIT_UNAVAILABLE");
    // After a failed fsync nobody knows what is on the disk.
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "AUDIT_UNAVAILABLE");
}

#[tokio::test]
async fn denials_are_recorded_as_well_and_numbers_have_no_gap() {
    let stage = Stage::set().await;
    stage.word(stage.good()).await;
    stage.word(stage.good().action("invoice:delete")).await;
    stage.paper.be(Mood::Full);
    stage.word(stage.good()).await;
    stage.paper.be(Mood::Good);
    let asks = [stage.good(), stage.with_token("nonsense".into())];
    evaluate(&stage.desk, &enforcer("invoices"), &asks).await.unwrap();
    let said = stage.paper.events();
    let codes: Vec<_> = said.iter().map(|e| e.reason_code.as_str()).collect();
    assert_eq!(codes, ["", "ALLOWED", "NOT_PERMITTED", "ALLOWED", "TOKEN_INVALID"]);
    let numbers: Vec<_> = said.iter().map(|e| e.emitter.as_ref().unwrap().seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(said[0].r#type, "spool.opened");
}

#[tokio::test]
async fn an_allow_that_became_old_before_it_was_said_is_withdrawn() {
    let mut stage = Stage::set().await;
    stage.change(vec![(point("invoices", |p| p.durable_actions = vec!["*".into()]), false)]).await;
    stage.pongs.on.store(false, Ordering::SeqCst);
    // The process is stopped for half a minute while its record is written.
    stage.paper.stop_while_syncing(std::sync::Arc::clone(&stage.clock), Duration::from_secs(30));
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "STALE");
    let said = stage.paper.events();
    let last: Vec<_> = said.iter().rev().take(2).map(|e| (e.r#type.as_str(), e.reason_code.as_str())).collect();
    assert_eq!(last, [("decision.withdrawn", "STALE"), ("decision.made", "ALLOWED")]);
    let ids: Vec<_> = said.iter().rev().take(2).map(|e| &e.decision.as_ref().unwrap().decision_id).collect();
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn what_waits_for_a_hanging_disk_is_bounded_by_its_events_not_by_its_calls() {
    let stage = Stage::set().await;
    stage.paper.be(Mood::Hanging);
    let events = || vec![AuditEvent::default(); 256];
    let mut waiting = Vec::new();
    for _ in 0..1_000 {
        let mut one = Box::pin(stage.desk.spool.write(events(), false));
        match futures_util::poll!(&mut one) {
            std::task::Poll::Pending => waiting.push(one),
            std::task::Poll::Ready(refused) => {
                assert!(refused.unwrap_err().to_string().contains("more calls wait"));
            }
        }
    }
    assert!((100..=400).contains(&waiting.len()), "{}", waiting.len());
}
