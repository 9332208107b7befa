//! How old a view may be, and what a caller can demand of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_wire::registry as wire;

use super::super::evaluate::evaluate;
use crate::domain::answer::Denial;
use crate::testing::*;

#[tokio::test]
async fn past_the_bound_every_answer_is_stale() {
    let stage = Stage::set().await;
    stage.pongs.on.store(false, Ordering::SeqCst);
    stage.clock.advance(Duration::from_millis(4_999));
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    let left = spoken.valid_until.unwrap().since(spoken.at);
    assert_eq!(left, Duration::from_millis(1), "reused it does not outlive the view that made it");
    stage.clock.advance(Duration::from_millis(2));
    // Also for those who are not known any more, and about those who never were.
    for ask in [stage.good(), stage.good().kind("Ledger"), stage.asserted(agent_id(99))] {
        let spoken = stage.ask(&enforcer("nobody"), ask).await;
        assert_eq!(spoken.answer.word(), "STALE");
        assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Undecided);
        assert_eq!(spoken.valid_until, None);
    }
}

#[tokio::test]
async fn a_caller_can_demand_a_younger_view_but_no_older_one() {
    let stage = Stage::set().await;
    stage.pongs.on.store(false, Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(2));
    let with = |secs| {
        let mut ask = stage.good();
        ask.max_staleness = Some(Duration::from_secs(secs));
        ask
    };
    assert_eq!(stage.word(with(1)).await, "STALE");
    assert_eq!(stage.word(with(2)).await, "ALLOWED");
    stage.clock.advance(Duration::from_secs(4));
    assert_eq!(stage.word(with(3_600)).await, "STALE");
}

#[tokio::test]
async fn a_revision_is_waited_for_until_the_deadline() {
    let mut stage = Stage::set().await;
    let mut ask = stage.good();
    ask.at_least_revision = 2;
    let mut asker = enforcer("invoices");
    asker.deadline = tokio::time::Instant::now() + Duration::from_millis(80);
    let spoken = stage.ask(&asker, ask).await;
    assert_eq!(spoken.answer.word(), "REVISION_NOT_REACHED");
    assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Undecided);

    let mut ask = stage.good();
    ask.at_least_revision = 2;
    let desk = std::sync::Arc::clone(&stage.desk);
    let waiting = tokio::spawn(async move { evaluate(&desk, &enforcer("invoices"), &[ask]).await });
    let suspended = agent(1, |a| a.status.as_mut().unwrap().state = wire::AgentState::Suspended.into());
    stage.tell(vec![(suspended, false)]);
    let all = waiting.await.unwrap().unwrap();
    assert_eq!(all[0].answer.word(), "AGENT_SUSPENDED");
    assert_eq!(all[0].revision, 2);
}

#[tokio::test]
async fn a_policy_counts_from_the_revision_that_brought_it() {
    let mut stage = Stage::set().await;
    for n in 0..8u64 {
        let forbids = n % 2 == 0;
        let text =
            if forbids { "forbid(principal, action, resource);" } else { "permit(principal, action, resource);" };
        let mut ask = stage.good();
        ask.at_least_revision = n + 2;
        // Not waited for: the question meets a view whose policies are not compiled yet, and waits for those.
        stage.tell(vec![(policy("sealed", wire::PolicyMode::Enforce, text), false)]);
        let spoken = stage.ask(&enforcer("invoices"), ask).await;
        assert_eq!(spoken.answer.word(), if forbids { "FORBIDDEN_BY_POLICY" } else { "ALLOWED" });
        assert!(spoken.revision >= n + 2);
    }
}
