//! The caller's own right to ask.

use legate_ids::Name;
use legate_wire::registry as wire;

use super::super::asker::Kind;
use super::super::evaluate::evaluate;
use crate::testing::*;

async fn refusal(stage: &Stage, asker: &crate::flow::Asker, ask: crate::convert::Ask) -> &'static str {
    evaluate(&stage.desk, asker, &[ask]).await.unwrap_err().reason()
}

#[tokio::test]
async fn asks_only_about_its_own_resource_types() {
    let stage = Stage::set().await;
    let word = refusal(&stage, &enforcer("invoices"), stage.good().kind("Ledger")).await;
    assert_eq!(word, "CALLER_MAY_NOT_ASK");
    let mut stage = stage;
    stage.change(vec![(point("invoices", |p| p.resource_types.clear()), false)]).await;
    assert_eq!(refusal(&stage, &enforcer("invoices"), stage.good()).await, "CALLER_MAY_NOT_ASK");
}

#[tokio::test]
async fn names_an_agent_without_a_token_only_with_the_right_to() {
    let stage = Stage::set().await;
    let word = refusal(&stage, &enforcer("invoices"), stage.asserted(agent_id(1))).await;
    assert_eq!(word, "SUBJECT_NOT_PROVEN");
    let spoken = stage.ask(&enforcer("trusted"), stage.asserted(agent_id(1))).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    let spoken = stage.ask(&operator(), stage.asserted(agent_id(1))).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    let said = stage.paper.events();
    let event = said.last().unwrap();
    assert_eq!(event.actor, "spiffe://example.org/legate/operator/alice");
    assert_eq!(event.details["subject_proof"], "asserted");
}

#[tokio::test]
async fn has_to_be_declared() {
    let mut stage = Stage::set().await;
    assert_eq!(refusal(&stage, &enforcer("nobody"), stage.good()).await, "CALLER_UNKNOWN");
    stage.change(vec![(point("invoices", |_| ()), true)]).await;
    assert_eq!(refusal(&stage, &enforcer("invoices"), stage.good()).await, "CALLER_UNKNOWN");
    let mut service = operator();
    service.kind = Kind::Service;
    assert_eq!(refusal(&stage, &service, stage.good()).await, "CALLER_UNKNOWN");
}

/// The view that let the call in did not know of it yet; the one that answers does.
#[tokio::test]
async fn is_refused_when_it_lost_its_standing_while_it_waited() {
    let anew = |at: i64| {
        let mut anew = point("invoices", |_| ());
        if let Some(wire::declaration::Object::EnforcementPoint(p)) = &mut anew.object {
            p.metadata.as_mut().unwrap().create_time = Some(prost_types::Timestamp { seconds: at, nanos: 0 });
        }
        anew
    };
    for (change, word) in [(revocation(CALLER), "CALLER_REVOKED"), (anew(NOW - 10), "CALLER_CUT_OFF")] {
        let mut stage = Stage::set().await;
        let mut ask = stage.good();
        ask.at_least_revision = 2;
        let desk = std::sync::Arc::clone(&stage.desk);
        let waiting = tokio::spawn(async move { evaluate(&desk, &enforcer("invoices"), &[ask]).await });
        stage.tell(vec![(change, false)]);
        assert_eq!(waiting.await.unwrap().map(|_| ()).unwrap_err().reason(), word);
        assert_eq!(stage.paper.events().last().unwrap().reason_code, word);
    }
}

#[tokio::test]
async fn never_sees_an_agent_of_another_namespace() {
    let mut stage = Stage::set().await;
    let mut foreign = point("trusted", |p| p.may_assert_subject = true);
    if let Some(wire::declaration::Object::EnforcementPoint(p)) = &mut foreign.object {
        p.metadata.as_mut().unwrap().namespace = "sales".into();
    }
    stage.change(vec![(foreign, false)]).await;
    let mut asker = enforcer("trusted");
    asker.kind = Kind::Enforcer { namespace: Name::parse("sales").unwrap(), name: Name::parse("trusted").unwrap() };
    for ask in [stage.asserted(agent_id(1)), stage.good()] {
        let spoken = stage.ask(&asker, ask).await;
        assert_eq!(spoken.answer.word(), "AGENT_UNKNOWN");
        assert!(spoken.agent.is_none());
        assert!(!spoken.message.contains("payments"), "{}", spoken.message);
    }
}

#[tokio::test]
async fn one_forbidden_element_forbids_only_itself_and_one_refused_refuses_all() {
    let stage = Stage::set().await;
    let sealed = || stage.good().attribute("sealed", crate::domain::question::Value::Bool(true));
    let asks = [stage.good(), sealed(), stage.good().action("invoice:delete"), stage.good()];
    let all = evaluate(&stage.desk, &enforcer("invoices"), &asks).await.unwrap();
    let words: Vec<_> = all.iter().map(|s| s.answer.word()).collect();
    assert_eq!(words, ["ALLOWED", "FORBIDDEN_BY_POLICY", "NOT_PERMITTED", "ALLOWED"]);
    assert!(all.windows(2).all(|pair| pair[0].id != pair[1].id));

    let before = stage.paper.events().len();
    let asks = [stage.good(), stage.good().kind("Ledger")];
    let fault = evaluate(&stage.desk, &enforcer("invoices"), &asks).await.unwrap_err();
    assert_eq!(fault.reason(), "CALLER_MAY_NOT_ASK");
    let said = stage.paper.events();
    assert_eq!(said.len(), before + 1, "only the refusal is recorded, no decision was made");
    assert_eq!(
        (said[before].r#type.as_str(), said[before].reason_code.as_str()),
        ("decision.refused", "CALLER_MAY_NOT_ASK")
    );
}

/// Each question may meet ten thousand policies; the follower of the registry and other callers work on the same threads.
#[tokio::test]
async fn a_long_batch_lets_others_work_in_between() {
    let stage = Stage::set().await;
    let asks: Vec<_> = (0..100).map(|_| stage.good()).collect();
    let turns = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    evaluate(&stage.desk, &enforcer("invoices"), &asks).await.unwrap();
    other.abort();
    let turns = turns.load(std::sync::atomic::Ordering::SeqCst);
    assert!(turns >= 99, "{turns}");
}

#[tokio::test]
async fn an_operator_asks_about_agents_of_the_namespaces_that_he_may_read() {
    use wire::OperatorRole::{Admin, Approver, BreakGlass, Editor, Viewer};
    let mut stage = Stage::set().await;
    for role in [Viewer, Editor, Approver, Admin] {
        stage.change(vec![(operators("team", "payments", "alice", role), false)]).await;
        let word = stage.ask(&operator(), stage.asserted(agent_id(1))).await.answer.word();
        assert_eq!(word, "ALLOWED", "{role:?}");
    }
    // Elsewhere he is told what he would be told of an agent that never was, letter for letter.
    stage.change(vec![(operators("team", "payments", "alice", Viewer), true)]).await;
    stage.change(vec![(operators("team", "sales", "alice", Admin), false)]).await;
    let foreign = stage.ask(&operator(), stage.asserted(agent_id(1))).await;
    let none = stage.ask(&operator(), stage.asserted(agent_id(99))).await;
    assert_eq!((foreign.answer.word(), foreign.agent.is_none()), ("AGENT_UNKNOWN", true));
    let hidden = foreign.message.replace(agent_id(1).as_str(), agent_id(99).as_str());
    assert_eq!(hidden, none.message);
    stage.change(vec![(operators("team", "sales", "alice", Admin), true)]).await;
    assert_eq!(refusal(&stage, &operator(), stage.asserted(agent_id(1))).await, "OPERATOR_NOT_PERMITTED");

    // Who may break the glass asks in an emergency, and that is on disk first.
    let mut broken = operator();
    broken.emergency = Some("the pager rang".into());
    assert_eq!(refusal(&stage, &broken, stage.asserted(agent_id(1))).await, "BREAK_GLASS_REFUSED");
    let said = stage.paper.events();
    assert_eq!(said.last().unwrap().details["emergency"], "the pager rang");
    stage.change(vec![(operators("glass", "payments", "alice", BreakGlass), false)]).await;
    assert_eq!(refusal(&stage, &operator(), stage.asserted(agent_id(1))).await, "OPERATOR_NOT_PERMITTED");
    let before = stage.paper.events().len();
    stage.paper.synced.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(stage.ask(&broken, stage.asserted(agent_id(1))).await.answer.word(), "ALLOWED");
    assert!(stage.paper.synced.load(std::sync::atomic::Ordering::SeqCst), "on disk before the answer");
    let said = stage.paper.events();
    let kinds: Vec<_> = said[before..].iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["operator.broke_glass", "decision.made"]);
    assert_eq!(said[before].details["emergency"], "the pager rang");
}
