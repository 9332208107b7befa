//! Policies that hold something back until it is approved, and approvals: what they lift, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{Action, ApprovalId, ResourceId, ResourceType};
use legate_view::Snapshot;
use legate_wire::registry as wire;
use legate_wire::registry::ApprovalState;
use legate_wire::registry::PolicyMode::{Enforce, LogOnly};
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

mod counted;

use super::super::authorize_issuance::{Issuance, Leave, authorize_issuance};
use super::lineage::{made, namespace};
use crate::domain::answer::{CauseKind, Denial};
use crate::domain::approval;
use crate::domain::authority::Bench;
use crate::domain::policies::Compiled;
use crate::domain::question::{Question, Record, Stated, Value};
use crate::flow::{Explain, explain};
use crate::testing::*;

pub(super) const HOLDS: &str =
    "@approval(\"reads of invoices\") forbid(principal, action == Action::\"invoice:read\", resource);";

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn held(name: &str) -> wire::HeldPolicy {
    wire::HeldPolicy { name: name.into(), id: format!("obj_{name}"), version: 1, ..wire::HeldPolicy::default() }
}

/// What was approved for `invoice-bot-1`, for ten minutes: to read everything of apollo, which `four-eyes` holds back.
pub(super) fn approved(
    n: u8,
    change: impl FnOnce(&mut wire::ApprovalSpec, &mut wire::ApprovalStatus),
) -> wire::Declaration {
    let mut spec = wire::ApprovalSpec {
        agent: "invoice-bot-1".into(),
        agent_id: agent_id(1).to_string(),
        permissions: vec![permission("invoice:read", "Invoice", "apollo/*")],
        policies: vec![held("four-eyes")],
        lifecycle_version: 1,
        ..wire::ApprovalSpec::default()
    };
    let mut status = wire::ApprovalStatus {
        state: ApprovalState::Approved.into(),
        not_before: at(NOW),
        not_after: at(NOW + 600),
        decide_time: at(NOW),
        decided_by: "spiffe://example.org/legate/operator/paula".into(),
        ..wire::ApprovalStatus::default()
    };
    change(&mut spec, &mut status);
    let id = ApprovalId::from_parts(1, [n; 10]).to_string();
    let mut metadata = meta(&id.replace('_', "-"));
    metadata.as_mut().unwrap().id = id;
    declared(Object::Approval(wire::Approval { metadata, spec: Some(spec), status: Some(status) }))
}

async fn stage() -> Stage {
    Stage::set_with(|mut all| {
        all.push(policy("four-eyes", Enforce, HOLDS));
        all
    })
    .await
}

#[tokio::test]
async fn what_is_held_back_is_let_through_while_it_is_approved_and_says_by_whom() {
    let mut stage = stage().await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "APPROVAL_REQUIRED");
    assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::NotPermitted);
    let causes: Vec<_> = spoken.answer.causes.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(causes, [(CauseKind::Holding, "payments/four-eyes")]);
    for said in ["reads of invoices", "ask for an approval of invoice:read on Invoice:apollo/1001"] {
        assert!(spoken.message.contains(said), "{}", spoken.message);
    }
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "ALLOWED", "nothing else is held back");

    stage.change(vec![(approved(1, |_, _| ()), false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED", "{}", spoken.message);
    let last = spoken.answer.causes.last().unwrap();
    let id = ApprovalId::from_parts(1, [1; 10]).to_string();
    assert_eq!((last.kind, last.id.as_str()), (CauseKind::Approval, id.as_str()));
    assert!(last.text.contains("approved by spiffe://example.org/legate/operator/paula"), "{}", last.text);
    assert_eq!(spoken.answer.until, Some(Timestamp::from_secs(NOW + 600)));
    let events = stage.paper.events();
    let event = events.last().unwrap();
    assert_eq!(event.details["approvals"], id);
    let lines = &event.decision.as_ref().unwrap().determining;
    assert!(lines.last().unwrap().starts_with("approval:payments/apr-"), "{lines:?}");

    stage.pass(Duration::from_secs(599)).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    stage.pass(Duration::from_secs(1)).await;
    assert_eq!(stage.word(stage.good()).await, "APPROVAL_REQUIRED", "its time is over, whether or not that was told");
}

#[tokio::test]
async fn an_approval_that_is_not_of_this_question_lifts_nothing() {
    type Change = fn(&mut wire::ApprovalSpec, &mut wire::ApprovalStatus);
    let changes: [(&str, Change); 13] = [
        ("it waits", |_, status| status.state = ApprovalState::Pending.into()),
        ("it was denied", |_, status| status.state = ApprovalState::Denied.into()),
        ("its time has not come", |_, status| status.not_before = at(NOW + 1)),
        ("its time is over", |_, status| (status.not_before, status.not_after) = (at(NOW - 9), at(NOW))),
        ("it is another agent's", |spec, _| spec.agent_id = agent_id(2).to_string()),
        ("it was another life's", |spec, _| spec.lifecycle_version = 2),
        ("it is of another action", |spec, _| spec.permissions = vec![permission("invoice:list", "Invoice", "*")]),
        ("it is of another type", |spec, _| spec.permissions = vec![permission("invoice:read", "Ledger", "*")]),
        ("it is of another resource", |spec, _| {
            spec.permissions = vec![permission("invoice:read", "Invoice", "apollo/7")];
        }),
        ("it is towards somebody else", |spec, _| spec.audience = "https://elsewhere.example.com".into()),
        ("it names no policy", |spec, _| spec.policies.clear()),
        ("it names another policy", |spec, _| spec.policies = vec![held("sealed")]),
        ("the policy is another one by now", |spec, _| spec.policies[0].version = 2),
    ];
    let mut stage = stage().await;
    for (what, change) in changes {
        stage.change(vec![(approved(1, change), false)]).await;
        assert_eq!(stage.word(stage.good()).await, "APPROVAL_REQUIRED", "{what}");
    }
    let fitting: [Change; 2] = [|_, _| (), |spec, _| spec.audience = AUDIENCE.into()];
    for change in fitting {
        stage.change(vec![(approved(1, change), false)]).await;
        assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    }
    stage.change(vec![(approved(1, |_, _| ()), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "APPROVAL_REQUIRED", "it was taken back");
}

#[tokio::test]
async fn nobody_is_let_through_by_saying_that_it_was_approved() {
    let stage = stage().await;
    let mut ask = stage.good();
    for name in ["approved", "approval", "approvals"] {
        ask.question.context.insert(name.into(), Value::Bool(true));
        ask.question.attributes.0.insert(name.into(), Value::Bool(true));
    }
    assert_eq!(stage.word(ask).await, "APPROVAL_REQUIRED");
}

#[tokio::test]
async fn an_approval_gives_nothing_and_lifts_no_other_obstacle() {
    let mut stage = stage().await;
    let all = |spec: &mut wire::ApprovalSpec, _: &mut wire::ApprovalStatus| {
        spec.permissions = ["invoice:read", "invoice:delete", "ledger:write"].map(|a| permission(a, "*", "*")).to_vec();
        spec.policies = ["four-eyes", "sealed", "production", "broken"].map(held).to_vec();
    };
    stage.change(vec![(approved(1, all), false)]).await;
    let good = || stage.good();
    for (word, ask) in [
        ("ALLOWED", good()),
        ("FORBIDDEN_BY_POLICY", good().attribute("sealed", Value::Bool(true))),
        ("NOT_PERMITTED", good().action("invoice:delete")),
        ("BINDING_NARROWED", good().resource("zeus/7")),
        ("ABOVE_CEILING", good().action("ledger:write")),
    ] {
        assert_eq!(stage.word(ask).await, word);
    }
    let fenced = boundary("eu", |b| b.regions = vec!["eu".into()]);
    stage.change(vec![(fenced.clone(), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "BOUNDARY_REGION");
    stage.change(vec![(fenced, true)]).await;
    // One that fails might have held it back for another reason.
    let failing = "@approval(\"x\") forbid(principal, action, resource) when { resource.amount > 5 };";
    stage.change(vec![(policy("broken", Enforce, failing), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "POLICY_ERROR");
    stage.change(vec![(policy("broken", Enforce, failing), true), (policy("production", Enforce, ""), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "NO_POLICY_PERMITS");
    let suspended = agent(1, |a| a.status.as_mut().unwrap().state = wire::AgentState::Suspended.into());
    stage.change(vec![(suspended, false)]).await;
    assert_eq!(stage.word(stage.good()).await, "AGENT_SUSPENDED");
}

#[tokio::test]
async fn with_its_agent_stopped_an_approval_is_dead_for_ever() {
    let mut stage = stage().await;
    stage.change(vec![(approved(1, |_, _| ()), false)]).await;
    let asserted = |stage: &Stage| stage.asserted(agent_id(1));
    assert_eq!(stage.ask(&enforcer("trusted"), asserted(&stage)).await.answer.word(), "ALLOWED");
    let again = agent(1, |a| a.status.as_mut().unwrap().lifecycle_version = 3);
    stage.change(vec![(again, false)]).await;
    assert_eq!(stage.ask(&enforcer("trusted"), asserted(&stage)).await.answer.word(), "APPROVAL_REQUIRED");
    let cut = agent(1, |a| a.status.as_mut().unwrap().authorization_cutoff = at(NOW + 1));
    stage.change(vec![(cut, false)]).await;
    assert_eq!(stage.ask(&enforcer("trusted"), asserted(&stage)).await.answer.word(), "APPROVAL_REQUIRED");
}

#[tokio::test]
async fn every_policy_that_holds_it_back_is_lifted_or_it_is_held() {
    let mut stage = stage().await;
    let second = "@approval(\"large\") forbid(principal, action, resource) when { resource has amount && resource.amount > 100 };";
    stage.change(vec![(policy("large", Enforce, second), false), (approved(1, |_, _| ()), false)]).await;
    let large = || stage.good().attribute("amount", Value::Long(101));
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    let spoken = stage.ask(&enforcer("invoices"), large()).await;
    let names: Vec<_> = spoken.answer.causes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((spoken.answer.word(), names), ("APPROVAL_REQUIRED", vec!["payments/large"]));
    // Two approvals, each of one; the first to end ends it.
    let other = approved(2, |spec, status| (spec.policies, status.not_after) = (vec![held("large")], at(NOW + 60)));
    stage.change(vec![(other, false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good().attribute("amount", Value::Long(101))).await;
    assert_eq!((spoken.answer.word(), spoken.answer.until), ("ALLOWED", Some(Timestamp::from_secs(NOW + 60))));
}

#[tokio::test]
async fn a_policy_in_log_only_holds_nothing_back_and_one_on_a_permit_cannot_be_used() {
    let mut stage = stage().await;
    stage.change(vec![(policy("four-eyes", LogOnly, HOLDS), false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!((spoken.answer.word(), spoken.answer.log_only.len()), ("ALLOWED", 1));
    for bad in
        ["@approval(\"x\") permit(principal, action, resource);", "@approval forbid(principal, action, resource);"]
    {
        stage.change(vec![(policy("four-eyes", Enforce, bad), false)]).await;
        assert_eq!(stage.word(stage.good()).await, "POLICY_ERROR", "{bad}");
    }
}

/// An approval is its agent's: it lifts what holds that agent's action back, also where a policy speaks of one above it,
/// and is nothing to those below.
#[tokio::test]
async fn an_approval_is_its_agents_alone() {
    for own_grant_only in [false, true] {
        let mut stage = Stage::set_with(|mut all| {
            all.extend([namespace(own_grant_only), made(2, &[1]), binding(|b| b.agents.push("invoice-bot-2".into()))]);
            let of_maker =
                format!("@approval(\"x\") forbid(principal == Agent::\"{}\", action, resource);", agent_id(1));
            all.push(policy("four-eyes", Enforce, &of_maker));
            all
        })
        .await;
        let word = async |stage: &Stage, n| stage.ask(&operator(), stage.asserted(agent_id(n))).await.answer.word();
        assert_eq!([word(&stage, 1).await, word(&stage, 2).await], ["APPROVAL_REQUIRED"; 2], "{own_grant_only}");
        stage.change(vec![(approved(1, |_, _| ()), false)]).await;
        assert_eq!([word(&stage, 1).await, word(&stage, 2).await], ["ALLOWED", "APPROVAL_REQUIRED"]);
        // The life of one that was made is its own and its maker's.
        let of_two = approved(2, |spec, _| (spec.agent_id, spec.lifecycle_version) = (agent_id(2).to_string(), 2));
        stage.change(vec![(approved(1, |_, _| ()), true), (of_two, false)]).await;
        assert_eq!([word(&stage, 1).await, word(&stage, 2).await], ["APPROVAL_REQUIRED", "ALLOWED"]);
    }
}

#[tokio::test]
async fn what_was_approved_towards_one_audience_and_what_was_towards_another_are_not_put_together() {
    const OTHER: &str = "https://other.example.com";
    for (second, word) in [(OTHER, "APPROVAL_REQUIRED"), (AUDIENCE, "ALLOWED"), ("", "ALLOWED")] {
        let mut stage = Stage::set_with(|mut all| {
            all.push(policy("four-eyes", Enforce, HOLDS));
            all.push(policy("six-eyes", Enforce, HOLDS));
            all.push(point("both", |spec| {
                spec.audiences.push(OTHER.into());
                (spec.may_assert_subject, spec.may_explain) = (true, true);
            }));
            all
        })
        .await;
        let first = approved(1, |spec, _| spec.audience = AUDIENCE.into());
        let second = approved(2, |spec, _| (spec.audience, spec.policies) = (second.into(), vec![held("six-eyes")]));
        stage.change(vec![(first, false), (second, false)]).await;
        let both = enforcer("both");
        assert_eq!(stage.ask(&both, stage.asserted(agent_id(1))).await.answer.word(), word);
        let ask = Explain { ask: stage.asserted(agent_id(1)), as_of: None, at: None };
        let explained = explain(&stage.desk, &both, ask).await.unwrap();
        assert_eq!((explained.spoken.answer.word(), explained.laid.cuts() == 0), (word, word == "ALLOWED"));
    }
}

#[tokio::test]
async fn the_past_is_explained_with_what_was_approved_then() {
    let mut stage = stage().await;
    stage.change(vec![(approved(1, |_, _| ()), false)]).await;
    let cut_off =
        wire::CutOff { authorization_cutoff: at(NOW + 1), level: Some(wire::cut_off::Level::Owner("user:ada".into())) };
    let spec = wire::RevocationSpec { cut_off: Some(cut_off), ..wire::RevocationSpec::default() };
    let mut metadata = meta("cut-off-1");
    metadata.as_mut().unwrap().namespace.clear();
    let cut_off = declared(Object::Revocation(wire::Revocation { metadata, spec: Some(spec) }));
    stage.change(vec![(cut_off.clone(), false)]).await;
    assert_eq!(stage.ask(&operator(), stage.asserted(agent_id(1))).await.answer.word(), "APPROVAL_REQUIRED");
    stage.change(vec![(cut_off, true)]).await;
    assert_eq!(stage.ask(&operator(), stage.asserted(agent_id(1))).await.answer.word(), "ALLOWED");
    stage.change(vec![(approved(1, |_, _| ()), true)]).await;
    for (revision, word) in
        [(1, "APPROVAL_REQUIRED"), (2, "ALLOWED"), (3, "APPROVAL_REQUIRED"), (4, "ALLOWED"), (5, "APPROVAL_REQUIRED")]
    {
        let as_of = Some(wire::AsOf { at: Some(wire::as_of::At::Revision(revision)) });
        let ask = Explain { ask: stage.asserted(agent_id(1)), as_of, at: Some(Timestamp::from_secs(NOW)) };
        let was = explain(&stage.desk, &operator(), ask).await.unwrap();
        assert_eq!(was.spoken.answer.word(), word, "at revision {revision}");
    }
}

async fn issuance(stage: &Stage, actions: &[&str]) -> Leave {
    let issuance = Issuance {
        agent: agent_id(1),
        audience: AUDIENCE.into(),
        actions: actions.iter().map(|a| Action::parse(a).unwrap()).collect(),
        at_least_revision: 0,
        delegation: None,
    };
    authorize_issuance(&stage.desk, &operator(), &issuance).await
}

#[tokio::test]
async fn a_token_does_not_say_what_is_held_back_whatever_it_is_done_to() {
    let mut stage = stage().await;
    let told = |leave: &Leave| (leave.answer.word(), leave.actions.to_string(), leave.ends.map(Timestamp::secs));
    assert_eq!(told(&issuance(&stage, &[]).await), ("ALLOWED", "invoice:list".into(), None));
    assert_eq!(told(&issuance(&stage, &["invoice:read"]).await), ("APPROVAL_REQUIRED", String::new(), None));
    let both = ["invoice:read", "invoice:list"];
    assert_eq!(told(&issuance(&stage, &both).await), ("ALLOWED", "invoice:list".into(), None));
    stage.change(vec![(approved(1, |spec, _| spec.audience = "https://elsewhere.example.com".into()), false)]).await;
    assert_eq!(told(&issuance(&stage, &["invoice:read"]).await).0, "APPROVAL_REQUIRED");
    stage.change(vec![(approved(1, |_, _| ()), false)]).await;
    let expected = ("ALLOWED", "invoice:read invoice:list".into(), Some(NOW + 600));
    assert_eq!(told(&issuance(&stage, &both).await), expected);
    assert_eq!(told(&issuance(&stage, &[]).await).1, "invoice:list invoice:read");
    // What depends on the resource is decided when it is known.
    let some = "@approval(\"x\") forbid(principal, action, resource) when { resource.amount > 5 };";
    stage.change(vec![(approved(1, |_, _| ()), true), (policy("four-eyes", Enforce, some), false)]).await;
    assert_eq!(told(&issuance(&stage, &both).await).1, "invoice:read invoice:list");
    stage.change(vec![(policy("four-eyes", Enforce, "forbid("), false)]).await;
    assert_eq!(told(&issuance(&stage, &both).await).0, "POLICY_ERROR");
}

/// A Cedar policy that holds something back, or is plain.
fn rule() -> impl Strategy<Value = (bool, String)> {
    let effect = prop::sample::select(vec!["permit", "forbid", "held", "held"]);
    let action = prop::sample::select(vec![
        "action",
        "action == Action::\"invoice:read\"",
        "action == Action::\"invoice:list\"",
    ]);
    let when = prop::sample::select(vec![
        "",
        "when { resource.amount > 2 }",
        "when { resource has sealed }",
        "unless { context.calm }",
    ]);
    (effect, action, when).prop_map(|(effect, action, when)| {
        let (held, words) = if effect == "held" { (true, "@approval(\"x\") forbid") } else { (false, effect) };
        (held, format!("{words}(principal, {action}, resource) {when};"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever was approved: nobody may what he could not do without the policies that hold things back; and where
    /// nothing was, such a policy is a forbid like any other.
    #[test]
    fn approvals_restore_no_more_than_was_held_back(
        rules in prop::collection::vec(rule(), 1..5),
        approvals in prop::collection::vec((prop::collection::vec(0usize..5, 0..5), 0usize..3, 0usize..3), 0..4),
        asks in prop::collection::vec((0usize..3, 0usize..3, 0i64..5, any::<bool>(), any::<bool>()), 1..6),
    ) {
        let actions = ["invoice:read", "invoice:list", "invoice:delete"];
        let ids = ["apollo/1", "apollo/2", "zeus/1"];
        let snapshot = |keep: &dyn Fn(bool) -> bool, plain: bool, approvals: &[wire::Declaration]| {
            let mut all = everything(&signer(1));
            for (n, (held, text)) in rules.iter().enumerate().filter(|(_, (held, _))| keep(*held)) {
                let text = if plain && *held { text.replace("@approval(\"x\") ", "") } else { text.clone() };
                all.push(policy(&format!("p-{n}"), Enforce, &text));
            }
            all.extend(approvals.iter().cloned());
            Snapshot::of(&all).unwrap()
        };
        let given: Vec<_> = approvals.iter().enumerate().map(|(n, (policies, action, id))| {
            approved(u8::try_from(n).unwrap(), |spec, _| {
                spec.policies = policies.iter().map(|n| held(&format!("p-{n}"))).collect();
                spec.permissions = vec![permission(actions[*action], "Invoice", if *id == 2 { "*" } else { ids[*id] })];
            })
        }).collect();
        let (with, none) = (snapshot(&|_| true, false, &given), snapshot(&|_| true, false, &[]));
        let (without, plain) = (snapshot(&|held| !held, false, &[]), snapshot(&|_| true, true, &[]));
        let (bench, now) = (Bench::new(), Timestamp::from_secs(NOW));
        let allowed = |snapshot: &Snapshot, question: &Question| {
            let agent: &Arc<_> = snapshot.agent(&agent_id(1)).unwrap();
            let so_far = bench.before_policies(snapshot, agent, question, now);
            if so_far.denied.is_some() {
                return false;
            }
            let compiled = Compiled::compile(snapshot.policies("payments").unwrap(), None).unwrap();
            let approvals = approval::of(snapshot, agent, question, None, now);
            bench.with_policies(snapshot, agent, question, Some(&compiled), &approvals, now, so_far).denied.is_none()
        };
        for (action, id, amount, sealed, calm) in asks {
            let mut attributes = Record::from([("amount".to_owned(), Value::Long(amount))]);
            if sealed {
                attributes.insert("sealed".to_owned(), Value::Bool(false));
            }
            let question = Question {
                action: Action::parse(actions[action]).unwrap(),
                resource_type: ResourceType::parse("Invoice").unwrap(),
                resource_id: ResourceId::parse(ids[id]).unwrap(),
                attributes: Stated(attributes),
                context: Record::from([("calm".to_owned(), Value::Bool(calm))]),
            };
            prop_assert!(!allowed(&with, &question) || allowed(&without, &question), "{:?}", question);
            prop_assert_eq!(allowed(&none, &question), allowed(&plain, &question), "{:?}", question);
            prop_assert!(!allowed(&none, &question) || allowed(&with, &question), "{:?}", question);
        }
    }
}
