//! What credential-issuer may put into a token.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{Action, ActionPattern, Actions, ResourceId, ResourceType};
use legate_rpc::TraceContext;
use legate_view::Snapshot;
use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::{Enforce, LogOnly};
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

use super::super::authorize_issuance::{Issuance, Leave, authorize_issuance, authorize_issuances};
use super::lineage::{made, namespace};
use crate::domain::approval;
use crate::domain::authority::Bench;
use crate::domain::issuable::Wanted;
use crate::domain::policies::Compiled;
use crate::domain::question::{Question, Record, Stated};
use crate::testing::*;

async fn ask(stage: &Stage, change: impl FnOnce(&mut Issuance)) -> Leave {
    let mut issuance = Issuance {
        agent: agent_id(1),
        audience: AUDIENCE.into(),
        actions: Actions::default(),
        at_least_revision: 0,
        delegation: None,
    };
    change(&mut issuance);
    authorize_issuance(&stage.desk, &operator(), &issuance).await
}

fn actions(all: &[&str]) -> Actions {
    all.iter().map(|a| ActionPattern::parse(a).unwrap()).collect()
}

/// The word, and what may be said, where `asked` is asked for.
async fn told(stage: &Stage, asked: &str) -> (&'static str, String) {
    let asked: Vec<&str> = asked.split_whitespace().collect();
    let leave = ask(stage, |i| i.actions = actions(&asked)).await;
    (leave.answer.word(), leave.actions.to_string())
}

fn class(change: impl FnOnce(&mut wire::AgentClassSpec)) -> wire::Declaration {
    let mut spec = wire::AgentClassSpec {
        permissions: vec![permission("invoice:list", "Invoice", "*")],
        ceiling: vec![permission("invoice:*", "Invoice", "*")],
        ..wire::AgentClassSpec::default()
    };
    change(&mut spec);
    declared(Object::AgentClass(wire::AgentClass { metadata: meta("invoice-worker"), spec: Some(spec), status: None }))
}

#[tokio::test]
async fn agrees_to_what_the_agent_may_do_somewhere() {
    let stage = Stage::set().await;
    let leave = ask(&stage, |_| ()).await;
    assert_eq!(leave.answer.word(), "ALLOWED");
    assert_eq!(leave.actions, actions(&["invoice:list", "invoice:read"]), "all of it, where nothing is asked for");
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
async fn an_agent_that_may_do_nothing_gets_no_token_whatever_it_asks_for() {
    let mut stage = Stage::set().await;
    stage.change(vec![(binding(|b| b.agents = vec!["invoice-bot-2".into()]), false)]).await;
    assert_eq!(told(&stage, "").await, ("ALLOWED", "invoice:list".into()));
    stage.change(vec![(class(|c| c.permissions.clear()), false)]).await;
    for asked in ["", "*", "invoice:list", "invoice:*"] {
        assert_eq!(told(&stage, asked).await, ("NOT_PERMITTED", String::new()), "{asked}");
    }
    // What is given is permitted by a policy, or it is not permitted.
    stage.change(vec![(class(|_| ()), false)]).await;
    let others = "permit(principal == Agent::\"agt_other\", action, resource);";
    for (mode, cedar, expected) in [
        (Enforce, others, "NO_POLICY_PERMITS"),
        (Enforce, "permit(principal, action, resource is Ledger);", "NO_POLICY_PERMITS"),
        (Enforce, "permit(principal, action == Action::\"invoice:read\", resource);", "NO_POLICY_PERMITS"),
        (LogOnly, "permit(principal, action, resource);", "NO_POLICY_PERMITS"),
        (Enforce, "permit(principal, action, resource is Invoice) when { resource.amount > 5 };", "ALLOWED"),
        (Enforce, "permit(principal in AgentClass::\"invoice-worker\", action, resource);", "ALLOWED"),
    ] {
        stage.change(vec![(policy("production", mode, cedar), false)]).await;
        assert_eq!(told(&stage, "").await.0, expected, "{cedar}");
    }
    stage.change(vec![(policy("production", Enforce, others), true), (policy("sealed", Enforce, others), true)]).await;
    assert_eq!(told(&stage, "").await.0, "NO_POLICY_PERMITS", "a namespace without policies permits nothing");
}

#[tokio::test]
async fn what_a_policy_forbids_whatever_it_is_done_to_is_left_out() {
    let mut stage = Stage::set().await;
    let both = "invoice:list invoice:read";
    for (cedar, left) in [
        ("forbid(principal, action == Action::\"invoice:read\", resource);", "invoice:list"),
        (
            "forbid(principal, action in [Action::\"invoice:read\", Action::\"x\"], resource is Invoice);",
            "invoice:list",
        ),
        (
            "forbid(principal in Role::\"invoice-reader\", action == Action::\"invoice:list\", resource);",
            "invoice:read",
        ),
        // It hangs on what it is done to, or on whom it is not.
        ("forbid(principal, action == Action::\"invoice:read\", resource == Invoice::\"apollo/7\");", both),
        ("forbid(principal, action == Action::\"invoice:read\", resource is Ledger);", both),
        ("forbid(principal, action, resource) when { resource.amount > 5 };", both),
        ("forbid(principal == Agent::\"agt_other\", action, resource);", both),
    ] {
        stage.change(vec![(policy("never", Enforce, cedar), false)]).await;
        assert_eq!(told(&stage, "").await, ("ALLOWED", left.into()), "{cedar}");
        assert_eq!(told(&stage, both).await.1.split(' ').count(), left.split(' ').count(), "{cedar}");
        stage.change(vec![(policy("never", LogOnly, cedar), false)]).await;
        assert_eq!(told(&stage, "").await, ("ALLOWED", both.into()), "{cedar}");
    }
    stage.change(vec![(policy("never", Enforce, "forbid(principal, action, resource);"), false)]).await;
    let leave = ask(&stage, |_| ()).await;
    assert_eq!((leave.answer.word(), leave.actions.len()), ("FORBIDDEN_BY_POLICY", 0));
    assert!(leave.message.contains("payments/never@1"), "{}", leave.message);
    // What is forbidden to whoever made it is forbidden to it.
    let maker =
        format!("forbid(principal == Agent::\"{}\", action == Action::\"invoice:read\", resource);", agent_id(1));
    let objects = [namespace(false), made(2, &[1]), policy("never", Enforce, &maker)];
    stage.change(objects.into_iter().map(|object| (object, false)).collect()).await;
    let leave = ask(&stage, |i| i.agent = agent_id(2)).await;
    assert_eq!((leave.answer.word(), leave.actions.to_string().as_str()), ("ALLOWED", "invoice:list"));
}

#[tokio::test]
async fn a_token_says_nothing_that_is_decided_elsewhere() {
    let mut stage = Stage::set().await;
    let both = class(|c| {
        c.permissions.push(permission("ledger:read", "Ledger", "*"));
        c.permissions.push(permission("any:touch", "*", "*"));
        c.ceiling = vec![permission("*", "*", "*")];
    });
    stage.change(vec![(both, false)]).await;
    let here = "any:touch invoice:list invoice:read ledger:write";
    assert_eq!(told(&stage, "").await, ("ALLOWED", here.into()));
    assert_eq!(told(&stage, "ledger:read").await.0, "NOT_PERMITTED");
    // Of several that have the audience, each asks about its own.
    stage.change(vec![(point("ledgers", |p| p.resource_types = vec!["Ledger".into()]), false)]).await;
    assert_eq!(told(&stage, "").await.1, "any:touch invoice:list invoice:read ledger:read ledger:write");
    assert_eq!(
        told(&stage, "ledger:read invoice:list").await.1,
        "ledger:read invoice:list",
        "in the order it was asked in"
    );
    // Whoever exchanges it is let do what that one may anywhere.
    stage.change(vec![(agent(2, |_| ()), false), (point("ledgers", |_| ()), true)]).await;
    let leave = ask(&stage, |i| i.audience = subject(2).to_string()).await;
    assert_eq!(leave.actions.to_string(), "any:touch invoice:list invoice:read ledger:read ledger:write");
}

#[tokio::test]
async fn a_pattern_is_said_where_a_pattern_was_given_and_never_more() {
    let mut stage = Stage::set().await;
    for (given, ceiling, asked, expected) in [
        ("invoice:*", "*", "", "invoice:* ledger:write"),
        ("*", "invoice:*", "", "invoice:*"),
        ("*", "*", "", "*"),
        ("*", "*", "invoice:read ledger:*", "invoice:read ledger:*"),
        ("invoice:line:*", "invoice:*", "invoice:*", "invoice:line:* invoice:read"),
    ] {
        let class = class(|c| {
            c.permissions = vec![permission(given, "Invoice", "*")];
            c.ceiling = vec![permission(ceiling, "Invoice", "*")];
        });
        stage.change(vec![(class, false)]).await;
        assert_eq!(told(&stage, asked).await, ("ALLOWED", expected.into()), "{given} below {ceiling}: {asked}");
    }
    let class = class(|c| {
        c.permissions = vec![permission("*", "Invoice", "*")];
        c.ceiling = vec![permission("*", "*", "*")];
    });
    stage.change(vec![(class, false)]).await;
    let reads = "permit(principal, action in [Action::\"invoice:read\", Action::\"invoice:pay\"], resource);";
    stage.change(vec![(policy("production", Enforce, reads), false)]).await;
    assert_eq!(told(&stage, "").await.1, "invoice:pay invoice:read", "what policies permit is named one by one");
    // A single action within a pattern cannot be left out of it; whoever names it does not get it.
    let all = "permit(principal, action, resource);";
    let never = "forbid(principal, action == Action::\"invoice:pay\", resource);";
    stage.change(vec![(policy("production", Enforce, all), false), (policy("never", Enforce, never), false)]).await;
    assert_eq!(told(&stage, "").await.1, "*");
    assert_eq!(told(&stage, "invoice:read invoice:pay").await.1, "invoice:read");
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(all)
}

const PATTERNS: &[&str] = &["*", "a:*", "a:b", "a:c", "b", "b:*"];
const KINDS: &[&str] = &["*", "Invoice", "Ledger"];

fn permissions() -> impl Strategy<Value = Vec<wire::Permission>> {
    let one = (one_of(PATTERNS), one_of(KINDS), one_of(&["*", "apollo/*"]));
    prop::collection::vec(one.prop_map(|(action, kind, id)| permission(action, kind, id)), 1..4)
}

fn rule() -> impl Strategy<Value = String> {
    let effect = one_of(&["permit", "permit", "forbid", "@approval(\"x\") forbid"]);
    let action = one_of(&["action", "action == Action::\"a:b\"", "action in [Action::\"a:c\", Action::\"b\"]"]);
    let kind = one_of(&["resource", "resource is Invoice", "resource == Ledger::\"apollo/1\""]);
    let when = one_of(&["", "", "when { resource has sealed }"]);
    (effect, action, kind, when)
        .prop_map(|(effect, action, kind, when)| format!("{effect}(principal, {action}, {kind}) {when};"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Whatever the enforcement point would be told it may be done, the token may say; what is asked for cuts it and does
    /// nothing else; and what no permission stands for is never said.
    #[test]
    fn a_token_may_say_whatever_would_be_allowed_and_asking_for_less_only_cuts_it(
        given in permissions(), role in permissions(), ceiling in permissions(), rules in prop::collection::vec(rule(), 0..5),
        asked in prop::collection::vec(one_of(PATTERNS), 0..4), ledgers in any::<bool>(),
    ) {
        let mut all = everything(&signer(1));
        all.push(class(|c| (c.permissions, c.ceiling) = (given.clone(), ceiling.clone())));
        let spec = wire::RoleSpec { permissions: role.clone(), ..wire::RoleSpec::default() };
        all.push(declared(Object::Role(wire::Role { metadata: meta("invoice-reader"), spec: Some(spec) })));
        all.push(binding(|b| b.resources = vec![wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() }]));
        if ledgers {
            all.push(point("ledgers", |p| p.resource_types = vec!["Ledger".into()]));
        }
        for (n, text) in rules.iter().enumerate() {
            all.push(policy(&format!("p-{n}"), Enforce, text));
        }
        let snapshot = Snapshot::of(&all).unwrap();
        let (bench, now, agent) = (Bench::new(), Timestamp::from_secs(NOW), snapshot.agent(&agent_id(1)).unwrap());
        let compiled = Compiled::compile(snapshot.policies("payments").unwrap(), None).unwrap();
        let issuable = |asked: &Actions| {
            let wanted = Wanted { agent, delegation: None, audience: AUDIENCE, is_at_point: true, actions: asked };
            bench.issuable(&snapshot, wanted, Some(&compiled), now).map(|said| said.actions).unwrap_or_default()
        };
        let said = issuable(&Actions::default());
        let asked: Actions = asked.iter().map(|one| ActionPattern::parse(one).unwrap()).collect();
        if !asked.is_empty() {
            let (cut, expected) = (issuable(&asked), asked.meet(&said));
            // What is forbidden within a pattern is not taken out of that, and is not said where it is named.
            let is_whole = cut.include(&expected) || rules.iter().any(|rule| rule.contains("forbid"));
            prop_assert!(is_whole && expected.include(&cut), "{} of {} was {}", asked, said, cut);
        }
        for action in ["a:b", "a:c", "a:d", "b", "b:x", "c"] {
            let action = Action::parse(action).unwrap();
            let may = |kind: &str, id: &str| {
                let question = Question {
                    action: action.clone(),
                    resource_type: ResourceType::parse(kind).unwrap(),
                    resource_id: ResourceId::parse(id).unwrap(),
                    attributes: Stated(Record::new()),
                    context: Record::new(),
                };
                let so_far = bench.before_policies(&snapshot, agent, &question, now);
                so_far.denied.is_none() && {
                    let approvals = approval::of(&snapshot, agent, &question, None, now);
                    let answer = bench.with_policies(&snapshot, agent, &question, Some(&compiled), &approvals, now, so_far);
                    answer.denied.is_none()
                }
            };
            let kinds: &[&str] = if ledgers { &["Invoice", "Ledger"] } else { &["Invoice"] };
            let somewhere = kinds.iter().any(|kind| may(kind, "apollo/1") || may(kind, "zeus/1"));
            prop_assert!(!somewhere || said.covers(&action), "{} is allowed, and {} does not say it", action, said);
            let is_given = given.iter().chain(&role).any(|p| ActionPattern::parse(&p.action).unwrap().covers(&action));
            prop_assert!(is_given || !said.covers(&action), "{} is said and not given", action);
        }
    }
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
