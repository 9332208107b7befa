//! What credential-issuer may put into a token.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_ids::Action;
use legate_wire::registry as wire;

use super::super::authorize_issuance::{Issuance, Leave, authorize_issuance};
use crate::testing::*;

async fn ask(stage: &Stage, change: impl FnOnce(&mut Issuance)) -> Leave {
    let mut issuance = Issuance {
        agent: agent_id(1),
        audience: AUDIENCE.into(),
        actions: vec![],
        at_least_revision: 0,
        delegation: None,
    };
    change(&mut issuance);
    authorize_issuance(&stage.desk, &operator(), &issuance).await
}

fn actions(all: &[&str]) -> Vec<Action> {
    all.iter().map(|a| Action::parse(a).unwrap()).collect()
}

#[tokio::test]
async fn agrees_to_what_the_agent_may_do_somewhere() {
    let stage = Stage::set().await;
    let leave = ask(&stage, |_| ()).await;
    assert_eq!((leave.answer.word(), leave.actions.len()), ("ALLOWED", 0));
    let leave =
        ask(&stage, |i| i.actions = actions(&["invoice:read", "invoice:list", "invoice:delete", "ledger:write"])).await;
    assert_eq!(leave.answer.word(), "ALLOWED");
    assert_eq!(
        leave.actions,
        actions(&["invoice:read", "invoice:list"]),
        "nothing that is not given, nothing above the ceiling"
    );
    let leave = ask(&stage, |i| i.actions = actions(&["invoice:delete"])).await;
    assert_eq!((leave.answer.word(), leave.actions.len()), ("NOT_PERMITTED", 0));
    let said = stage.paper.events();
    let event = said.last().unwrap();
    assert_eq!((event.r#type.as_str(), event.reason_code.as_str()), ("issuance.decided", "NOT_PERMITTED"));
    assert_eq!(event.details["asked_actions"], "invoice:delete");
}

#[tokio::test]
async fn agrees_to_nothing_else() {
    let mut stage = Stage::set().await;
    assert_eq!(
        ask(&stage, |i| i.audience = "https://elsewhere.example.com".into()).await.answer.word(),
        "AUDIENCE_UNKNOWN"
    );
    assert_eq!(ask(&stage, |i| i.agent = agent_id(99)).await.answer.word(), "AGENT_UNKNOWN");
    stage.paper.be(Mood::Full);
    assert_eq!(ask(&stage, |_| ()).await.answer.word(), "AUDIT_UNAVAILABLE");
    stage.paper.be(Mood::Good);
    let suspended = agent(1, |a| a.status.as_mut().unwrap().state = wire::AgentState::Suspended.into());
    stage.change(vec![(suspended, false)]).await;
    assert_eq!(ask(&stage, |_| ()).await.answer.word(), "AGENT_SUSPENDED");
    stage.pongs.on.store(false, Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(6));
    assert_eq!(ask(&stage, |_| ()).await.answer.word(), "STALE");
}
