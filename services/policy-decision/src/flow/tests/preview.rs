//! A change is previewed: who gains and loses what, as the engine decides it, and nothing that decides notices.

use std::time::Duration;

use legate_wire::policy::{AccessChange, AccessEffect, FindingKind, PreviewChangeResponse};
use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::Enforce;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, ExpectedDecision, Kind, ObjectName};
use proptest::prelude::*;
use proptest::sample::select;

use super::lineage;
use crate::domain::authority::Bench;
use crate::domain::policies::Compiled;
use crate::domain::preview::cells::{Named, given};
use crate::domain::preview::outlook::{Holds, Outlook, look};
use crate::domain::question::{Stated, Value};
use crate::flow::{Preview, preview};
use crate::testing::*;

pub(super) async fn of(stage: &Stage, wanted: Vec<Declaration>, gone: Vec<ObjectName>) -> PreviewChangeResponse {
    let ask = Preview { wanted, gone, ..Preview::default() };
    // As long as a preview may take at most, so that a slow machine looks at as much as a fast one.
    let mut asker = operator();
    asker.deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    preview(&stage.desk, &asker, ask).await.unwrap()
}

pub(super) fn gone(kind: Kind, name: &str) -> ObjectName {
    ObjectName { kind: kind.into(), namespace: "payments".into(), name: name.into() }
}

fn role(permissions: Vec<wire::Permission>) -> Declaration {
    let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
    declared(Object::Role(wire::Role { metadata: meta("invoice-reader"), spec: Some(spec) }))
}

pub(super) fn class(change: impl FnOnce(&mut wire::AgentClassSpec)) -> Declaration {
    let mut spec = wire::AgentClassSpec {
        permissions: vec![permission("invoice:list", "Invoice", "*")],
        ceiling: vec![permission("invoice:*", "Invoice", "*")],
        ..wire::AgentClassSpec::default()
    };
    change(&mut spec);
    declared(Object::AgentClass(wire::AgentClass { metadata: meta("invoice-worker"), spec: Some(spec), status: None }))
}

/// `GAINS invoice:read on Invoice:* x1 (sealed)`.
fn line(change: &AccessChange) -> String {
    let effect = change.effect().as_str_name().trim_start_matches("ACCESS_EFFECT_");
    let resource = change.resource.clone().unwrap_or_default();
    let on: Vec<&str> = change.depends_on.iter().map(|r| r.name.trim_start_matches("payments/")).collect();
    let on = if on.is_empty() { String::new() } else { format!(" ({})", on.join(", ")) };
    format!("{effect} {} on {}:{} x{}{on}", change.action, resource.r#type, resource.id, change.agent_count)
}

pub(super) fn lines(answer: &PreviewChangeResponse) -> Vec<String> {
    answer.changes.iter().map(line).collect()
}

#[tokio::test]
async fn what_is_gained_and_lost_is_told_with_what_makes_it_and_what_it_depends_on() {
    let stage = Stage::set().await;
    // The example's forbid looks at the resource: what is gained depends on it.
    let wide = of(&stage, vec![binding(|b| b.resources.clear())], Vec::new()).await;
    assert_eq!(lines(&wide), ["GAINS invoice:read on Invoice:* x1 (sealed)"]);
    let gain = &wide.changes[0];
    assert_eq!(gain.agents, ["invoice-bot-1"]);
    let names: Vec<_> = gain.reasons.iter().map(|r| (r.name.as_str(), r.version)).collect();
    assert_eq!(names, [("payments/reads-apollo", 2), ("payments/production", 1)]);
    let cut = wide.findings.iter().find(|f| f.kind() == FindingKind::AboveCeiling).unwrap();
    assert_eq!(
        cut.text,
        "ledger:write on Invoice:* is granted and above the ceiling of class invoice-worker: it has no effect"
    );
    assert_eq!((wide.agents_compared, wide.agents_not_compared, wide.left_out), (1, 0, 0));

    let less = of(&stage, Vec::new(), vec![gone(Kind::RoleBinding, "reads-apollo")]).await;
    assert_eq!(lines(&less), ["LOSES invoice:read on Invoice:apollo/* x1 (sealed)"]);
    assert!(less.changes[0].reasons.iter().any(|r| r.text.contains("nor a role binding")), "{less:?}");

    // By the class, above its own ceiling: nothing is gained.
    let above = of(&stage, vec![class(|c| c.permissions.push(permission("ledger:read", "Ledger", "*")))], vec![]).await;
    assert!(above.changes.is_empty(), "{:?}", lines(&above));
    assert!(above.findings.iter().any(|f| f.text.starts_with("ledger:read on Ledger:* is granted and above")));

    // What is already so, and what nobody's authority rests on.
    let same = of(&stage, vec![binding(|_| ()), class(|_| ()), agent(1, |_| ())], vec![]).await;
    assert!(same.changes.is_empty() && same.findings.is_empty(), "{same:?}");
    let point = of(&stage, vec![point("invoices", |p| p.may_assert_subject = true)], vec![]).await;
    assert_eq!((point.changes.len(), point.agents_compared), (0, 0));
}

fn grant(name: &str, delegator: &str, change: impl FnOnce(&mut wire::DelegationGrantSpec)) -> Declaration {
    let mut spec = wire::DelegationGrantSpec {
        delegator: delegator.into(),
        delegate: "invoice-bot-1".into(),
        permissions: vec![permission("invoice:*", "Invoice", "*")],
        purpose: "a test".into(),
        not_after: Some(prost_types::Timestamp { seconds: NOW + 1_000, nanos: 0 }),
        ..wire::DelegationGrantSpec::default()
    };
    change(&mut spec);
    declared(Object::DelegationGrant(wire::DelegationGrant { metadata: meta(name), spec: Some(spec) }))
}

/// What is told on somebody's behalf: `user:ada GAINS invoice:read on Invoice:* x1 (sealed)`.
fn behalves(answer: &PreviewChangeResponse) -> Vec<String> {
    let all = answer.changes.iter().filter(|change| !change.on_behalf_of.is_empty());
    all.map(|change| format!("{} {}", change.on_behalf_of, line(change))).collect()
}

#[tokio::test]
async fn who_gains_and_loses_what_on_whose_behalf_is_told() {
    let people = |name: &str, users: &[&str]| {
        let users = users.iter().map(ToString::to_string).collect();
        let spec = wire::RoleBindingSpec { role: "all".into(), users, ..wire::RoleBindingSpec::default() };
        declared(Object::RoleBinding(wire::RoleBinding { metadata: meta(name), spec: Some(spec) }))
    };
    let everything = wire::RoleSpec { permissions: vec![permission("*", "Invoice", "*")], ..Default::default() };
    let mut stage = Stage::set_with(|mut all| {
        let metadata = Some(wire::Metadata { name: "payments".into(), ..wire::Metadata::default() });
        all.push(declared(Object::Namespace(wire::Namespace { metadata, spec: None, status: None })));
        all.push(declared(Object::Role(wire::Role { metadata: meta("all"), spec: Some(everything) })));
        all
    })
    .await;
    let of_ada = || grant("of-ada", "user:ada", |_| ());
    let bound = || people("people", &["user:ada", "group:finance"]);
    // A grant alone lets nobody act for a person who has nothing, nor does a binding without a grant.
    assert_eq!(behalves(&of(&stage, vec![of_ada()], vec![]).await), [""; 0]);
    assert_eq!(behalves(&of(&stage, vec![bound()], vec![]).await), [""; 0]);
    let told = |who: &str, word: &str| {
        [
            format!("{who} {word} invoice:list on Invoice:* x1 (sealed)"),
            format!("{who} {word} invoice:read on Invoice:apollo/* x1 (sealed)"),
        ]
    };
    let both = of(&stage, vec![of_ada(), bound()], vec![]).await;
    assert_eq!(behalves(&both), told("user:ada", "GAINS"));
    let gain = both.changes.iter().find(|change| !change.on_behalf_of.is_empty()).unwrap();
    assert_eq!(gain.until.map(|at| at.seconds), Some(NOW + 1_000));
    assert!(gain.reasons.iter().any(|reason| reason.name == "payments/of-ada"), "{gain:?}");
    let of_group = grant("of-finance", "group:finance", |_| ());
    assert_eq!(behalves(&of(&stage, vec![of_group, bound()], vec![]).await), told("group:finance", "GAINS"));

    stage.change(vec![(of_ada(), false), (bound(), false)]).await;
    // Where nothing is different, nothing is told; and what is somebody else's is no agent's own.
    assert_eq!(behalves(&of(&stage, vec![of_ada(), bound()], vec![]).await), [""; 0]);
    let lost = of(&stage, vec![people("people", &["user:eve"])], vec![]).await;
    assert_eq!(behalves(&lost), told("user:ada", "LOSES"));
    assert_eq!(lost.changes.len(), 2, "what the agent may for itself does not change");
    for (kind, name) in [(Kind::DelegationGrant, "of-ada"), (Kind::RoleBinding, "people")] {
        assert_eq!(behalves(&of(&stage, vec![], vec![gone(kind, name)]).await), told("user:ada", "LOSES"));
    }
    // A narrower grant, and an agent that has less itself.
    let less = grant("of-ada", "user:ada", |g| g.permissions = vec![permission("invoice:list", "Invoice", "*")]);
    assert_eq!(behalves(&of(&stage, vec![less], vec![]).await), told("user:ada", "LOSES")[1..]);
    let list = class(|c| c.permissions.clear());
    assert_eq!(behalves(&of(&stage, vec![list], vec![]).await), told("user:ada", "LOSES")[..1]);
    // A grant that begins later gives what it gives from then on.
    let later = grant("later", "user:ada", |g| {
        g.not_before = Some(prost_types::Timestamp { seconds: NOW + 100, nanos: 0 });
    });
    let told = of(&stage, vec![later], vec![gone(Kind::DelegationGrant, "of-ada")]).await;
    let with = |effect: AccessEffect| told.changes.iter().filter(move |change| change.effect() == effect);
    assert_eq!(with(AccessEffect::Loses).filter(|change| change.from.is_none()).count(), 2);
    assert!(with(AccessEffect::Gains).all(|change| change.from.map(|at| at.seconds) == Some(NOW + 100)));
    assert_eq!(with(AccessEffect::Gains).count(), 2);
}

#[tokio::test]
async fn policies_are_judged_by_what_they_look_at() {
    let stage = Stage::set().await;
    let with = async |cedar: &str| {
        let answer = of(&stage, vec![policy("new", Enforce, cedar)], vec![]).await;
        lines(&answer)
    };
    // One action of a namespace's many.
    let read = "forbid(principal, action == Action::\"invoice:read\", resource);";
    assert_eq!(with(read).await, ["LOSES invoice:read on Invoice:apollo/* x1 (sealed)"]);
    assert_eq!(with("forbid(principal, action == Action::\"invoice:pay\", resource);").await, [""; 0]);
    // One that speaks of the agent alone is decided; one that cannot apply to it changes nothing.
    let other = "forbid(principal, action, resource) when { principal.name == \"other\" && context.late };";
    assert_eq!(with(other).await, [""; 0]);
    let late = "forbid(principal, action, resource) when { principal.environment == \"prod\" && context.late };";
    assert_eq!(
        with(late).await,
        [
            "DEPENDS_OTHERWISE invoice:list on Invoice:* x1 (new, sealed)",
            "DEPENDS_OTHERWISE invoice:read on Invoice:apollo/* x1 (new, sealed)"
        ]
    );
    // One resource of those that a pattern stands for.
    let one = "forbid(principal, action, resource == Invoice::\"apollo/7\");";
    let lost = with(one).await;
    assert!(lost.contains(&"LOSES invoice:read on Invoice:apollo/7 x1 (sealed)".to_owned()), "{lost:?}");
    assert!(lost.iter().all(|line| line.contains("apollo/7")), "{lost:?}");

    // Without the forbid that depends on the resource, it holds always; without the permit, never.
    let open = of(&stage, vec![], vec![gone(Kind::Policy, "sealed")]).await;
    assert_eq!(lines(&open), ["WIDENS invoice:list on Invoice:* x1", "WIDENS invoice:read on Invoice:apollo/* x1"]);
    let shut = of(&stage, vec![], vec![gone(Kind::Policy, "production")]).await;
    assert!(lines(&shut).iter().all(|line| line.starts_with("LOSES")) && shut.changes.len() == 2, "{shut:?}");

    let broken = of(&stage, vec![policy("new", Enforce, "permit(")], vec![]).await;
    assert!(broken.findings.iter().any(|f| f.kind() == FindingKind::PolicyUnusable), "{broken:?}");
    assert_eq!(broken.changes.len(), 2, "everything is lost: {:?}", lines(&broken));
}

#[tokio::test]
async fn what_a_window_will_give_is_told_with_its_times() {
    let stage = Stage::set().await;
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let later = |b: &mut wire::RoleBindingSpec| {
        b.resources.clear();
        (b.not_before, b.not_after) = (at(NOW + 100), at(NOW + 200));
    };
    let answer = of(&stage, vec![binding(later)], vec![]).await;
    let told: Vec<_> = answer.changes.iter().map(|c| (line(c), c.from, c.until)).collect();
    assert_eq!(
        told,
        [
            // What was held on apollo alone is gone at once, and comes back with everything else for a hundred seconds.
            ("GAINS invoice:read on Invoice:* x1 (sealed)".to_owned(), at(NOW + 100), at(NOW + 200)),
            ("LOSES invoice:read on Invoice:apollo/* x1 (sealed)".to_owned(), None, at(NOW + 100)),
            ("LOSES invoice:read on Invoice:apollo/* x1 (sealed)".to_owned(), at(NOW + 200), None),
        ]
    );
}

#[tokio::test]
async fn equal_changes_of_many_are_one_entry() {
    let stage = Stage::set_with(|mut all| {
        all.extend((2..=40).map(|n| agent(n, |_| ())));
        all
    })
    .await;
    let answer = of(&stage, vec![class(|c| c.permissions.clear())], vec![]).await;
    assert_eq!(lines(&answer), ["LOSES invoice:list on Invoice:* x40 (sealed)"]);
    assert_eq!((answer.changes[0].agents.len(), answer.agents_compared), (20, 40));
    // Without time, nothing is compared, and that is said.
    let mut hurried = operator();
    hurried.deadline = tokio::time::Instant::now() + Duration::from_millis(600);
    let ask = Preview { wanted: vec![class(|c| c.permissions.clear())], gone: vec![], ..Preview::default() };
    let cut = preview(&stage.desk, &hurried, ask).await.unwrap();
    assert_eq!((cut.changes.len(), cut.agents_compared, cut.agents_not_compared), (0, 0, 40));
}

fn test(name: &str, cases: &[(&str, &str, ExpectedDecision, &str)]) -> Declaration {
    let case = |(action, id, expect, word): &(&str, &str, ExpectedDecision, &str)| wire::PolicyTestCase {
        agent: "invoice-bot-1".into(),
        action: (*action).into(),
        resource_type: "Invoice".into(),
        resource_id: (*id).into(),
        expect: (*expect).into(),
        reason_code: (*word).into(),
        ..wire::PolicyTestCase::default()
    };
    let spec = wire::PolicyTestSpec { cases: cases.iter().map(case).collect(), ..wire::PolicyTestSpec::default() };
    declared(Object::PolicyTest(wire::PolicyTest { metadata: meta(name), spec: Some(spec) }))
}

#[tokio::test]
async fn policy_tests_are_run_on_what_would_be() {
    use ExpectedDecision::{Allow, Deny};
    let stored = test("stored", &[("invoice:read", "apollo/1", Allow, ""), ("invoice:read", "zeus/1", Deny, "")]);
    let mut stage = Stage::set_with(|mut all| {
        all.push(stored);
        all
    })
    .await;
    let passed = |answer: &PreviewChangeResponse| {
        answer.tests.iter().map(|t| (t.test.clone(), t.case, t.passed)).collect::<Vec<_>>()
    };
    let given = test("given", &[("invoice:read", "zeus/1", Deny, "BINDING_NARROWED"), ("invoice:pay", "a", Allow, "")]);
    let answer = of(&stage, vec![given], vec![]).await;
    let name = |n: &str| format!("payments/{n}");
    assert_eq!(
        passed(&answer),
        [(name("given"), 0, true), (name("given"), 1, false), (name("stored"), 0, true), (name("stored"), 1, true)]
    );
    let failed = &answer.tests[1];
    assert_eq!((failed.expected.as_str(), failed.got.as_str()), ("ALLOW", "DENY NOT_PERMITTED"));
    assert_eq!(failed.question, "invoice-bot-1 invoice:pay Invoice:a");

    // The change itself makes a stored test fail; so does the loss of its agent.
    let wide = of(&stage, vec![binding(|b| b.resources.clear())], vec![]).await;
    assert_eq!(passed(&wide), [(name("stored"), 0, true), (name("stored"), 1, false)]);
    let alone = of(&stage, vec![], vec![gone(Kind::Agent, "invoice-bot-1")]).await;
    assert_eq!(alone.tests[0].got, "DENY AGENT_UNKNOWN");
    // A test that goes with the change is not run; nor does it matter where an agent stands in its life.
    let without = of(&stage, vec![], vec![gone(Kind::PolicyTest, "stored")]).await;
    assert!(without.tests.is_empty());
    let suspended = agent(1, |a| a.status.as_mut().unwrap().state = wire::AgentState::Suspended.into());
    stage.change(vec![(suspended, false)]).await;
    let ask = Preview {
        wanted: vec![],
        gone: vec![],
        at_least_revision: 2,
        namespaces: ["payments".to_owned()].into(),
        ..Preview::default()
    };
    let now = preview(&stage.desk, &operator(), ask).await.unwrap();
    assert!(now.tests.iter().all(|test| test.passed) && now.tests.len() == 2, "{now:?}");
    assert_eq!((now.revision, now.changes.len()), (2, 0));
}

#[tokio::test]
async fn nothing_that_decides_notices_and_the_preview_itself_is_recorded() {
    let stage = Stage::set().await;
    let before = stage.desk.view.current();
    of(&stage, vec![policy("no", Enforce, "forbid(principal, action, resource);")], vec![]).await;
    of(&stage, vec![], vec![gone(Kind::Agent, "invoice-bot-1")]).await;
    assert!(std::sync::Arc::ptr_eq(&before, &stage.desk.view.current()));
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    let events = stage.paper.events();
    let kinds: Vec<&str> = events.iter().map(|e| e.r#type.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "change.previewed").count(), 2, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| kind.starts_with("decision.")).count(), 1, "{kinds:?}");
    let told = events.iter().find(|e| e.r#type == "change.previewed").unwrap();
    assert_eq!(told.actor, "spiffe://example.org/legate/operator/alice");
    assert_eq!((told.namespace.as_str(), told.details["declarations"].as_str()), ("payments", "1"));
    assert!(told.decision.is_none());
}

#[tokio::test]
async fn a_preview_that_cannot_be_made_or_recorded_is_refused() {
    let stage = Stage::set().await;
    let ask = |wanted: Vec<Declaration>, revision| Preview {
        wanted,
        gone: vec![],
        at_least_revision: revision,
        ..Preview::default()
    };
    let word = async |ask: Preview| {
        let mut hurried = operator();
        hurried.deadline = tokio::time::Instant::now() + Duration::from_millis(200);
        preview(&stage.desk, &hurried, ask).await.unwrap_err().reason()
    };
    assert_eq!(word(ask(vec![], 99)).await, "REVISION_NOT_REACHED");
    assert_eq!(word(ask(vec![role(vec![permission("Not", "Invoice", "*")])], 0)).await, "QUESTION_INVALID");
    assert_eq!(word(ask(vec![revocation([1; 32])], 0)).await, "QUESTION_INVALID");
    assert_eq!(word(ask(vec![Declaration::default()], 0)).await, "QUESTION_INVALID");
    let turn = async |who: &str| stage.desk.previewing.take(who, Duration::ZERO).await.unwrap();
    let own = turn(&operator().spiffe_id).await;
    assert_eq!(word(ask(vec![], 0)).await, "PREVIEW_BUSY");
    drop(own);
    let others = (turn("eve").await, turn("mallory").await);
    assert_eq!(word(ask(vec![], 0)).await, "PREVIEW_BUSY");
    drop(others);
    stage.paper.be(Mood::Full);
    assert_eq!(word(ask(vec![], 0)).await, "AUDIT_UNAVAILABLE");
    stage.paper.be(Mood::Good);
    stage.clock.advance(Duration::from_secs(6));
    stage.pongs.on.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(word(ask(vec![], 0)).await, "STALE");
}

fn boundary(name: &str, change: impl FnOnce(&mut wire::BoundarySpec)) -> Declaration {
    let mut spec = wire::BoundarySpec::default();
    change(&mut spec);
    declared(Object::Boundary(wire::Boundary { metadata: meta(name), spec: Some(spec) }))
}

#[tokio::test]
async fn boundaries_cut_or_are_what_it_depends_on() {
    let stage = Stage::set().await;
    let with = async |change: &dyn Fn(&mut wire::BoundarySpec)| {
        let answer = of(&stage, vec![boundary("eu", |b| change(b))], vec![]).await;
        lines(&answer)
    };
    let apollo = "invoice:read on Invoice:apollo/* x1";
    let told = with(&|b| b.regions = vec!["eu".into()]).await;
    assert!(told.contains(&format!("DEPENDS_OTHERWISE {apollo} (eu, sealed)")), "{told:?}");
    let told = with(&|b| b.hours = vec![wire::Hours { days: vec![1], from_minute: 0, until_minute: 1 }]).await;
    assert!(told.contains(&format!("DEPENDS_OTHERWISE {apollo} (eu, sealed)")), "{told:?}");
    let told = with(&|b| b.environments = vec![wire::Environment::Dev.into()]).await;
    assert!(told.contains(&format!("LOSES {apollo} (sealed)")), "{told:?}");
    assert_eq!(with(&|b| b.environments = vec![wire::Environment::Prod.into()]).await, [""; 0]);
    // A permission for one region is decided.
    let mut fixed = binding(|b| b.resources[0].attributes.extend([("region".to_owned(), "us".to_owned())]));
    let answer = of(&stage, vec![boundary("eu", |b| b.regions = vec!["eu".into()]), fixed.clone()], vec![]).await;
    assert!(lines(&answer).contains(&format!("LOSES {apollo} (sealed)")), "{:?}", lines(&answer));
    assert!(!lines(&answer).iter().any(|line| line.starts_with("GAINS")), "{:?}", lines(&answer));
    if let Some(Object::RoleBinding(binding)) = &mut fixed.object {
        binding.spec.as_mut().unwrap().resources[0].attributes.insert("region".into(), "eu".into());
    }
    let answer = of(&stage, vec![boundary("eu", |b| b.regions = vec!["eu".into()]), fixed], vec![]).await;
    assert!(!lines(&answer).iter().any(|line| line.contains("(eu") && line.contains("read")), "{:?}", lines(&answer));
}

#[tokio::test]
async fn a_group_brings_its_agents_what_is_bound_to_it() {
    let stage = Stage::set_with(|mut all| {
        all.push(agent(2, |_| ()));
        all
    })
    .await;
    let spec = wire::GroupSpec { agents: vec!["invoice-bot-2".into()], ..wire::GroupSpec::default() };
    let group = declared(Object::Group(wire::Group { metadata: meta("readers"), spec: Some(spec) }));
    let bound = binding(|b| b.groups = vec!["readers".into()]);
    let answer = of(&stage, vec![group, bound], vec![]).await;
    assert_eq!(lines(&answer), ["GAINS invoice:read on Invoice:apollo/* x1 (sealed)"]);
    assert_eq!(answer.changes[0].agents, ["invoice-bot-2"]);
}

/// Permissions and ceilings that all cross one another, in a class and in its agent.
fn crossing() -> Vec<Declaration> {
    let each = |make: &dyn Fn(usize) -> wire::Permission| (0..256).map(make).collect::<Vec<_>>();
    let wide = class(|c| {
        c.permissions = each(&|n| permission(&format!("action-{n}:do"), "*", "*"));
        c.ceiling = each(&|n| permission("*", "*", &format!("part-{n}/*")));
    });
    let narrow = agent(1, |a| {
        let entry = |n: usize| {
            let mut entry = permission("*", "*", "*");
            entry.resource.as_mut().unwrap().attributes.insert(format!("attribute-{n}"), "x".into());
            entry
        };
        a.spec.as_mut().unwrap().ceiling = each(&entry);
    });
    vec![wide, narrow]
}

#[tokio::test]
async fn nobody_makes_a_preview_run_past_its_time() {
    let stage = Stage::set().await;
    let mut asker = operator();
    asker.deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    let begun = std::time::Instant::now();
    let ask = Preview { wanted: crossing(), gone: vec![], ..Preview::default() };
    let answer = preview(&stage.desk, &asker, ask).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(answer.left_out > 0, "it says that it is not all");
    // The turn is free again.
    assert!(stage.desk.previewing.take(&asker.spiffe_id, Duration::ZERO).await.is_some());
}

#[tokio::test]
async fn more_policies_than_can_be_weakened_are_told_as_not_looked_at() {
    let stage = Stage::set().await;
    let rule = "forbid(principal, action, resource) when { context.x };\n";
    let many = |n: usize| vec![policy("many", Enforce, &rule.repeat(n)), binding(|b| b.resources.clear())];
    let few = of(&stage, many(2), vec![]).await;
    assert!(few.left_out == 0 && !few.changes.is_empty(), "{few:?}");
    let answer = of(&stage, many(20_001), vec![]).await;
    assert!(answer.left_out > 0 && answer.changes.is_empty(), "{:?}", lines(&answer));
}

#[tokio::test]
async fn a_policy_test_that_could_not_be_run_has_not_passed() {
    let stage = Stage::set().await;
    let case = wire::PolicyTestCase {
        agent: "invoice-bot-1".into(),
        action: "invoice:read".into(),
        resource_type: "Invoice".into(),
        resource_id: "apollo/7".into(),
        expect: ExpectedDecision::Allow.into(),
        ..wire::PolicyTestCase::default()
    };
    let test = |name: &str, cases: usize| {
        let spec = wire::PolicyTestSpec { cases: vec![case.clone(); cases], ..wire::PolicyTestSpec::default() };
        declared(Object::PolicyTest(wire::PolicyTest { metadata: meta(name), spec: Some(spec) }))
    };
    let answer = of(&stage, vec![test("a", 2)], vec![]).await;
    assert!(answer.tests.len() == 2 && answer.tests.iter().all(|test| test.passed), "{:?}", answer.tests);
    // Those behind so many others are not passed over in silence.
    let wanted = vec![test("a", 10_000), test("z", 2)];
    let answer = of(&stage, wanted, vec![]).await;
    let failed: Vec<_> = answer.tests.iter().filter(|test| !test.passed).collect();
    assert!(failed.iter().any(|test| test.got == "NOT RUN"), "{failed:?}");
}

/// Conditions that are decided, that depend, and that fail.
const CONDITIONS: [&str; 13] = [
    "",
    "when { principal.environment == \"prod\" }",
    "when { principal.environment == \"dev\" }",
    "when { principal.environment == \"prod\" && context has x && context.x }",
    "when { principal.environment == \"dev\" && context.x }",
    "when { resource has sealed && resource.sealed }",
    "when { resource.region == \"eu\" }",
    "when { resource.region == \"us\" || principal.name == \"invoice-bot-1\" }",
    "unless { context has x && context.x }",
    "unless { principal.environment == \"prod\" || resource.sealed }",
    "when { principal.nothing == 1 }",
    "when { principal.name == \"invoice-bot-2\" && context has x && context.x }",
    "when { principal in Role::\"invoice-reader\" } unless { resource == Invoice::\"apollo/2\" }",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is said to hold always holds for every argument, and what is said to hold never holds for none.
    #[test]
    fn always_and_never_hold_whatever_the_arguments(
        rules in proptest::collection::vec((any::<bool>(), select(&CONDITIONS[..])), 1..5),
        id in select(vec!["apollo/1", "apollo/2", "apollo/3/4"]),
        sealed in proptest::option::of(any::<bool>()),
        x in proptest::option::of(any::<bool>()),
        narrowed in any::<bool>(),
        limits in proptest::collection::vec(select(&[0_u8, 1, 2, 3, 4, 5, 6][..]), 0..3),
        region in select(vec!["eu", "us"]),
        purpose in proptest::option::of(select(vec!["audit", "billing"])),
        is_made in any::<bool>(),
    ) {
        let mut objects: Vec<Declaration> = everything(&signer(1));
        objects.retain(|o| !matches!(o.object, Some(Object::Policy(_) | Object::SigningKey(_))));
        for (n, (permits, condition)) in rules.iter().enumerate() {
            let word = if *permits { "permit" } else { "forbid" };
            objects.push(policy(&format!("p{n}"), Enforce, &format!("{word}(principal, action, resource) {condition};")));
        }
        for (n, limit) in limits.iter().enumerate() {
            objects.push(boundary(&format!("b{n}"), |b| match limit {
                0 => b.regions = vec!["eu".into()],
                1 => b.regions = vec!["us".into(), "eu".into()],
                2 => b.purposes = vec!["audit".into()],
                3 => b.data_classifications = vec!["pii".into()],
                4 => b.regimes = vec!["GDPR".into()],
                5 => b.environments = vec![wire::Environment::Dev.into()],
                // Monday, from midnight on for a minute.
                _ => b.hours = vec![wire::Hours { days: vec![1], from_minute: 0, until_minute: 1 }],
            }));
        }
        objects.push(binding(|b| {
            if narrowed {
                b.resources[0].attributes.insert("region".into(), "eu".into());
            }
        }));
        objects.extend([lineage::namespace(false), lineage::made(2, &[1])]);
        let now = legate_clock::Timestamp::from_secs(NOW);
        let snapshot = legate_view::Snapshot::of(&objects).unwrap();
        let name = if is_made { "invoice-bot-2" } else { "invoice-bot-1" };
        let agent = snapshot.agent_named("payments", name).unwrap();
        let policies = snapshot.policies("payments").unwrap();
        let whole = Compiled::compile(policies, None).unwrap();
        let bench = Bench::new();
        let cells = given(&snapshot, agent, &Named::default(), &|| false).cells;
        let cell = cells.iter().find(|cell| cell.action == "invoice:read").unwrap();
        let outlook = Outlook::new(policies, &whole, &cell.fixed());
        let verdict = look(&bench, &snapshot, agent, &cell.question().unwrap(), Some(&outlook), now);

        let mut question = cell.question().unwrap();
        question.resource_id = legate_ids::ResourceId::parse(id).unwrap();
        let text = |text: &str| Value::Text(text.into());
        let mut attributes = question.attributes.0.clone();
        attributes.extend(sealed.map(|sealed| ("sealed".to_owned(), Value::Bool(sealed))));
        attributes.entry("region".into()).or_insert_with(|| text(region));
        attributes.extend(purpose.map(|_| ("regime".to_owned(), text("GDPR"))));
        question.context.extend(purpose.map(|purpose| ("purpose".to_owned(), text(purpose))));
        question.attributes = Stated(attributes);
        question.context.extend(x.map(|x| ("x".to_owned(), Value::Bool(x))));
        let so_far = bench.before_policies(&snapshot, agent, &question, now);
        let answer = match so_far.denied {
            Some(_) => so_far,
            None => bench.with_policies(&snapshot, agent, &question, Some(&whole), &[], now, so_far),
        };
        match verdict.holds {
            Holds::Always => prop_assert!(answer.denied.is_none(), "{:?}", answer),
            Holds::Never => prop_assert!(answer.denied.is_some(), "{:?}", answer),
            Holds::Depends(on) => prop_assert!(!on.is_empty()),
        }
    }
}
