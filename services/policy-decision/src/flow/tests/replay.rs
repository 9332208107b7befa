//! Recorded decisions are made once more: what was decided here comes out the same, and what was not is found.

use legate_wire::audit::AuditEvent;
use legate_wire::policy::ReplayResponse;
use legate_wire::registry as wire;
use legate_wire::registry::{AgentState, PolicyMode};
use proptest::prelude::*;

use super::search::{only, questions, world};
use crate::domain::question::{Record, Value};
use crate::flow::{Replay, replay};
use crate::testing::*;

fn ask(page_token: String) -> Replay {
    Replay {
        namespace: legate_ids::Name::parse("payments").unwrap(),
        agent: None,
        from: legate_clock::Timestamp::from_secs(NOW - 3_600),
        to: legate_clock::Timestamp::from_secs(NOW + 3_600),
        page_token,
        said: "this".into(),
    }
}

/// All pages of the log together.
async fn replayed(stage: &Stage) -> ReplayResponse {
    let (mut whole, mut page_token) = (ReplayResponse::default(), String::new());
    loop {
        let page = replay(&stage.desk, &operator(), ask(page_token)).await.unwrap();
        whole.decisions += page.decisions;
        whole.same += page.same;
        whole.differ += page.differ;
        whole.unsure += page.unsure;
        whole.not_judged += page.not_judged;
        whole.not_kept += page.not_kept;
        whole.differing.extend(page.differing);
        whole.unsure_on.extend(page.unsure_on);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return whole;
        }
    }
}

fn counts(of: &ReplayResponse) -> (u64, u64, u64, u64, u64) {
    (of.decisions, of.same, of.differ, of.unsure, of.not_judged)
}

/// What is in the log is what was recorded, changed by hand.
fn logged(stage: &Stage, change: impl Fn(usize, &mut AuditEvent)) {
    let mut all: Vec<_> = stage.paper.events().into_iter().filter(|e| e.r#type == "decision.made").collect();
    all.iter_mut().enumerate().for_each(|(n, event)| change(n, event));
    *stage.log.0.lock() = all;
}

fn stopped(state: AgentState) -> wire::Declaration {
    agent(1, |agent| agent.status.as_mut().unwrap().state = state.into())
}

#[tokio::test]
async fn each_is_made_as_of_its_own_revision_and_what_was_changed_in_the_log_is_found() {
    let mut stage = Stage::set_with(only(&["permit(principal, action, resource);"])).await;
    let read = async |stage: &Stage| stage.ask(&operator(), stage.asserted(agent_id(1)).resource("apollo/1")).await;
    let mut words = vec![read(&stage).await.answer.word()];
    stage.change(vec![(binding(|_| ()), true)]).await;
    words.push(read(&stage).await.answer.word());
    stage.change(vec![(binding(|_| ()), false)]).await;
    stage.change(vec![(stopped(AgentState::Suspended), false)]).await;
    words.push(read(&stage).await.answer.word());
    stage.change(vec![(stopped(AgentState::Active), false)]).await;
    stage.change(vec![(policy("no", PolicyMode::Enforce, "forbid(principal, action, resource);"), false)]).await;
    words.push(read(&stage).await.answer.word());
    assert_eq!(words, ["ALLOWED", "NOT_PERMITTED", "AGENT_SUSPENDED", "FORBIDDEN_BY_POLICY"]);
    logged(&stage, |_, _| ());
    let told = replayed(&stage).await;
    assert_eq!(counts(&told), (4, 4, 0, 0, 0), "{:?}", told.differing);
    assert_eq!(stage.paper.events().pop().unwrap().r#type, "decisions.replayed");

    // Each of them is turned round in the log, and an ALLOW is put to a revision that never was.
    logged(&stage, |n, event| {
        let decision = event.decision.as_mut().unwrap();
        decision.allowed = !decision.allowed;
        decision.denial = if decision.allowed { String::new() } else { "NOT_PERMITTED".into() };
        event.reason_code = if decision.allowed { "ALLOWED".into() } else { "NOT_PERMITTED".into() };
        if n == 1 {
            event.revision = 99;
        }
    });
    let told = replayed(&stage).await;
    assert_eq!(counts(&told), (4, 0, 4, 0, 0));
    let mut found: Vec<_> = told.differing.iter().map(|d| (d.revision, d.reasons[0].text.as_str())).collect();
    found.sort_unstable();
    assert_eq!(found[1].1, "the agent is suspended");
    assert_eq!(found[2].1, "forbids it", "{found:?}");
    assert_eq!(found[3], (99, "the registry's history has no such revision"));
    assert!(told.differing.iter().all(|d| d.recorded != d.replayed && d.decision_id.starts_with("dec_")));
    let event = stage.paper.events().into_iter().rfind(|e| e.r#type == "decisions.replayed").unwrap();
    assert_eq!(event.namespace, "payments");

    stage.registry.is_gone.store(true, std::sync::atomic::Ordering::SeqCst);
    let fault = replay(&stage.desk, &operator(), ask(String::new())).await.unwrap_err();
    assert_eq!(fault.reason(), "PAST_UNAVAILABLE");
}

#[tokio::test]
async fn what_hangs_on_arguments_is_unsure_and_a_stranger_is_told_nothing() {
    let late = "permit(principal, action, resource) when { context.ticket == 1 };";
    let mut stage = Stage::set_with(|all| {
        let mut all = only(&[])(all);
        all.push(policy("late", PolicyMode::Enforce, late));
        all
    })
    .await;
    let mut ticket = stage.asserted(agent_id(1)).resource("apollo/1");
    ticket.question.context = Record::from([("ticket".into(), Value::Long(1))]);
    assert_eq!(stage.ask(&operator(), ticket).await.answer.word(), "ALLOWED");
    logged(&stage, |_, _| ());
    let told = replayed(&stage).await;
    assert_eq!(counts(&told), (1, 0, 0, 1, 0));
    assert_eq!(told.unsure_on[0].name, "payments/late");
    // Of an agent that was not there nothing was allowed.
    logged(&stage, |_, event| event.agent_id = agent_id(77).to_string());
    assert_eq!(replayed(&stage).await.differing[0].reasons[0].text, "there was no such agent");

    stage.change(vec![(operators("team", "payments", "alice", wire::OperatorRole::Viewer), true)]).await;
    stage.change(vec![(operators("sales", "sales", "alice", wire::OperatorRole::Admin), false)]).await;
    let fault = replay(&stage.desk, &operator(), ask(String::new())).await.unwrap_err();
    assert_eq!(fault.reason(), "OPERATOR_NOT_PERMITTED");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever was declared and asked, what was decided here never comes out otherwise.
    #[test]
    fn what_was_decided_is_never_called_another(objects in world()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::set_with(|_| objects).await;
            for n in 1..=3u8 {
                for ask in questions(&stage, n).into_iter().step_by(5) {
                    stage.ask(&operator(), ask).await;
                }
            }
            logged(&stage, |_, _| ());
            let told = replayed(&stage).await;
            assert_eq!(told.differ, 0, "{:?}", told.differing);
            assert_eq!(told.same + told.unsure + told.not_judged, told.decisions);
            let is_undecided = |e: &&AuditEvent| e.decision.as_ref().is_some_and(|d| d.denial == "UNDECIDED");
            let undecided = stage.log.0.lock().iter().filter(is_undecided).count();
            assert_eq!(told.not_judged, undecided as u64);
            assert!(told.same > 0);
        });
    }
}
