//! What credential-issuer may put into a token.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_ids::Action;
use legate_rpc::TraceContext;
use legate_wire::registry as wire;

use super::super::authorize_issuance::{Issuance, Leave, authorize_issuance, authorize_issuances};
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
async fn of_several_each_is_agreed_to_for_itself_and_recorded_within_its_own_trace() {
    let stage = Stage::set().await;
    let trace = |n: u8| TraceContext::named(&format!("00-{n:032x}-{n:016x}-01")).unwrap();
    let issuance = |agent, wanted: &[&str]| Issuance {
        agent: agent_id(agent),
        audience: AUDIENCE.into(),
        actions: actions(wanted),
        at_least_revision: 0,
        delegation: None,
    };
    let asks = [(1, &["invoice:read", "invoice:delete"][..]), (99, &[]), (1, &["invoice:delete"]), (1, &[])];
    let asks: Vec<_> =
        (1..).zip(asks).map(|(n, (agent, wanted))| (operator().within(trace(n)), issuance(agent, wanted))).collect();
    let leaves = authorize_issuances(&stage.desk, &asks).await;
    let words: Vec<_> = leaves.iter().map(|leave| leave.answer.word()).collect();
    assert_eq!(words, ["ALLOWED", "AGENT_UNKNOWN", "NOT_PERMITTED", "ALLOWED"]);
    assert_eq!(leaves[0].actions, actions(&["invoice:read"]));
    let said = stage.paper.events();
    let of = |leave: &Leave| {
        let id = leave.id.to_string();
        let event = said.iter().find(|e| e.decision.as_ref().is_some_and(|d| d.decision_id == id)).unwrap();
        (event.trace_id.clone(), event.span_id.clone())
    };
    for (n, leave) in (1..).zip(&leaves) {
        assert_eq!(of(leave), (trace(n).trace_id, trace(n).span_id));
    }
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
