//! A decision is explained: the same one as a check makes, every step of it, and what single thing would have turned it.

use legate_wire::policy::{ExplainResponse, NearMissKind, StepKind, StepOutcome};
use legate_wire::registry as wire;
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, AsOf, PolicyMode};
use proptest::prelude::*;

use crate::convert::{Ask, OnBehalfOf};
use crate::domain::answer::{Cause, CauseKind};
use crate::domain::question::Value;
use crate::flow::{Asker, Explain, Explained, explain};
use crate::testing::*;

async fn of(stage: &Stage, asker: &Asker, ask: Ask) -> Explained {
    explain(&stage.desk, asker, Explain { ask, as_of: None, at: None }).await.unwrap()
}

/// What an operator is told about the agent's question.
async fn told(stage: &Stage, ask: Ask) -> ExplainResponse {
    crate::api::asking::explained(&of(stage, &operator(), ask).await)
}

fn misses(answer: &ExplainResponse) -> Vec<&str> {
    answer.near_misses.iter().map(|miss| miss.text.as_str()).collect()
}

fn lines(causes: &[Cause]) -> Vec<(CauseKind, String, String)> {
    causes.iter().map(|cause| (cause.kind, cause.line(), cause.text.clone())).collect()
}

#[tokio::test]
async fn an_allow_is_told_with_every_step_and_who_wrote_what_it_rests_on() {
    let stage = Stage::set_with(|mut all| {
        for object in &mut all {
            if let Some(Object::RoleBinding(binding)) = &mut object.object {
                let metadata = binding.metadata.as_mut().unwrap();
                metadata.updated_by = "spiffe://example.org/legate/operator/ada".into();
                metadata.reason = "reads what it pays".into();
            }
        }
        all
    })
    .await;
    let answer = told(&stage, stage.asserted(agent_id(1))).await;
    assert_eq!(answer.answer.as_ref().unwrap().reason_code, "ALLOWED");
    let kinds: Vec<_> = answer.steps.iter().map(|step| (step.kind(), step.outcome())).collect();
    let passes = StepOutcome::Passes;
    let expected = [StepKind::Subject, StepKind::State, StepKind::Grants, StepKind::Ceiling, StepKind::Policies];
    assert_eq!(kinds, expected.map(|kind| (kind, passes)));
    let binding = &answer.steps[2].steps[0];
    assert_eq!((binding.kind(), binding.outcome()), (StepKind::RoleBinding, StepOutcome::Gives));
    assert_eq!(binding.permission.as_ref().unwrap().action, "invoice:read");
    assert!(answer.near_misses.is_empty() && answer.near_miss_note.is_empty() && answer.cuts == 0);
    let origin = |name: &str| {
        let is = |o: &&legate_wire::policy::ObjectOrigin| o.object.as_ref().unwrap().name == name;
        answer.origins.iter().find(is).unwrap()
    };
    assert_eq!(origin("reads-apollo").reason, "reads what it pays");
    assert!(origin("reads-apollo").updated_by.ends_with("/ada"));
    // The newest approval that the revision knows of.
    assert_eq!(origin("invoice-bot-1").approved_by, "grace");
    assert_eq!(answer.origins_note, "");
    let event = stage.paper.events().pop().unwrap();
    assert_eq!((event.r#type.as_str(), event.actor.rsplit('/').next().unwrap()), ("decision.explained", "alice"));
    assert!(event.decision.unwrap().allowed);
}

#[tokio::test]
async fn without_the_registry_the_decision_is_told_all_the_same() {
    let stage = Stage::set().await;
    stage.registry.is_gone.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = told(&stage, stage.asserted(agent_id(1))).await;
    assert_eq!(answer.answer.unwrap().reason_code, "ALLOWED");
    assert!(answer.origins.is_empty() && answer.origins_note.contains("gone"), "{}", answer.origins_note);
}

#[tokio::test]
async fn a_denial_is_told_with_the_single_things_that_would_have_turned_it() {
    let stage = Stage::set().await;
    let ask = |action: &str, id: &str| stage.asserted(agent_id(1)).action(action).resource(id);
    // The binding is for another project.
    let narrowed = told(&stage, ask("invoice:read", "zeus/1")).await;
    let best = &narrowed.near_misses[0];
    assert_eq!(best.kind(), NearMissKind::WidenBinding, "{:?}", misses(&narrowed));
    assert_eq!(best.text, "let the binding reads-apollo hold for Invoice:zeus/1 as well");
    // Nothing gives it: by class, or by a role that it holds for these.
    let none = told(&stage, ask("invoice:pay", "apollo/1")).await;
    let kinds: Vec<_> = none.near_misses.iter().map(|miss| miss.kind()).collect();
    assert_eq!(kinds, [NearMissKind::ExtendRole, NearMissKind::ExtendClass], "{:?}", misses(&none));
    // A forbid: without it, and nothing else. What is stated of the resource is not to be stated otherwise.
    let sealed = told(&stage, ask("invoice:read", "apollo/1").attribute("sealed", Value::Bool(true))).await;
    assert_eq!(misses(&sealed), ["take back or mend the policy sealed"]);
    // Two cuts: no single change, and it says which they are.
    let both = told(&stage, ask("invoice:pay", "apollo/1").attribute("sealed", Value::Bool(true))).await;
    assert!(both.near_misses.is_empty() && both.cuts == 2, "{both:?}");
    let note = both.near_miss_note;
    assert!(note.starts_with("no single change would allow it: 2 steps deny it"), "{note}");
    assert!(note.contains("role binding gives it") && note.contains("a policy forbids it"), "{note}");
}

#[tokio::test]
async fn every_limit_has_its_own_near_miss() {
    let limit = |change: fn(&mut wire::BoundarySpec)| {
        move |mut all: Vec<wire::Declaration>| {
            all.push(boundary("eu", change));
            all
        }
    };
    let read = async |stage: &Stage| told(stage, stage.asserted(agent_id(1))).await;
    let stage = Stage::set_with(limit(|b| b.regions = vec!["eu".into()])).await;
    let answer = read(&stage).await;
    assert_eq!(misses(&answer)[0], "state resource.attributes.region = \"eu\", where it is so");
    let away = told(&stage, stage.asserted(agent_id(1)).attribute("region", Value::Text("us".into()))).await;
    assert_eq!(misses(&away), ["let the boundary eu allow us in regions"]);
    let stage = Stage::set_with(limit(|b| b.purposes = vec!["audit".into()])).await;
    assert_eq!(misses(&read(&stage).await)[0], "state context.purpose = \"audit\", where it is so");
    let stage = Stage::set_with(limit(|b| b.regimes = vec!["GDPR".into()])).await;
    assert_eq!(misses(&read(&stage).await)[0], "state resource.attributes.regime = \"GDPR\", where it is so");
    let under = stage.asserted(agent_id(1)).attribute("regime", Value::Text("PCI-DSS".into()));
    assert_eq!(misses(&told(&stage, under).await), ["let the boundary eu allow PCI-DSS in regimes"]);
    let stage = Stage::set_with(limit(|b| b.environments = vec![wire::Environment::Dev.into()])).await;
    assert_eq!(misses(&read(&stage).await), ["let the boundary eu allow prod in environments"]);
    // A Sunday: on Monday it is allowed.
    let stage = Stage::set_with(limit(|b| {
        b.hours = vec![wire::Hours { days: vec![1], from_minute: 0, until_minute: 1_440 }];
    }))
    .await;
    let answer = read(&stage).await;
    assert_eq!(answer.near_misses[0].kind(), NearMissKind::Wait);
    assert!(answer.near_misses[0].time.is_some_and(|at| at.seconds > NOW));
    // A binding that is over, and one that is to begin.
    let over = |from: i64, to: i64| {
        move |mut all: Vec<wire::Declaration>| {
            let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
            all.push(binding(|b| (b.not_before, b.not_after) = (at(from), at(to))));
            all
        }
    };
    let stage = Stage::set_with(over(NOW - 9, NOW - 5)).await;
    assert_eq!(misses(&read(&stage).await)[0], "let the binding reads-apollo last longer");
    let stage = Stage::set_with(over(NOW + 5, NOW + 9)).await;
    let soon = read(&stage).await;
    assert_eq!(soon.near_misses[0].time.unwrap().seconds, NOW + 5, "{:?}", misses(&soon));
    // A state, and a policy that wants to know more.
    let stage = Stage::set_with(|mut all| {
        all.push(agent(1, |a| a.status.as_mut().unwrap().set_state(AgentState::Suspended)));
        all
    })
    .await;
    assert_eq!(misses(&read(&stage).await), ["resume the agent invoice-bot-1"]);
    let stage = Stage::set_with(|mut all| {
        let cedar = "forbid(principal, action, resource) unless { context has ticket && context.ticket == \"T-1\" };";
        all.push(policy("ticket", PolicyMode::Enforce, cedar));
        all
    })
    .await;
    let answer = read(&stage).await;
    assert_eq!(misses(&answer)[0], "state context.ticket = \"T-1\", where it is so");
    assert_eq!(answer.near_misses.last().unwrap().kind(), NearMissKind::WithoutPolicy);
}

/// What is held back is to be approved, and not to be let go.
#[tokio::test]
async fn an_approval_that_is_missing_is_the_near_miss() {
    for text in [
        "@approval(\"reads\") forbid(principal, action == Action::\"invoice:read\", resource);",
        "@approval(\"reads\") @approvers(\"3\") @single_use forbid(principal, action, resource);",
        // Two policies of one declaration, and a second declaration below: one approval is for all of them.
        "@approval(\"a\") forbid(principal, action, resource); @approval(\"b\") forbid(principal, action, resource);",
    ] {
        let mut stage = Stage::set().await;
        let second = "@approval(\"again\") forbid(principal, action, resource is Invoice);";
        let all = [policy("held", PolicyMode::Enforce, text), policy("held-again", PolicyMode::Enforce, second)];
        stage.change(all.into_iter().map(|one| (one, false)).collect()).await;
        let answer = told(&stage, stage.asserted(agent_id(1))).await;
        assert_eq!(answer.answer.as_ref().unwrap().reason_code, "APPROVAL_REQUIRED");
        let wanted = "have invoice:read on Invoice:apollo/1001 approved for invoice-bot-1, which asks for it";
        assert_eq!(misses(&answer), [wanted], "{text}");
        assert_eq!(answer.near_misses[0].kind(), NearMissKind::Approve);
    }
}

#[tokio::test]
async fn each_stop_order_is_a_near_miss_where_it_alone_stops() {
    let order = |name: &str, level: wire::stop_order_spec::Level| {
        let mut metadata = meta(name);
        if level == wire::stop_order_spec::Level::Everywhere(true) {
            metadata.as_mut().unwrap().namespace.clear();
        }
        let status = Some(wire::StandingStatus {
            suspended: true,
            authorization_cutoff: Some(prost_types::Timestamp { seconds: NOW - 5, nanos: 0 }),
            ..wire::StandingStatus::default()
        });
        let spec = Some(wire::StopOrderSpec { level: Some(level) });
        declared(Object::StopOrder(wire::StopOrder { metadata, spec, status }))
    };
    let class = || order("order-1", wire::stop_order_spec::Level::AgentClass("invoice-worker".into()));
    let everybody = || order("order-2", wire::stop_order_spec::Level::Everywhere(true));
    let told_of = async |orders: Vec<wire::Declaration>| {
        let stage = Stage::set_with(|all| all.into_iter().chain(orders).collect()).await;
        let answer = told(&stage, stage.asserted(agent_id(1))).await;
        assert_eq!(answer.answer.as_ref().unwrap().reason_code, "AGENT_STOPPED");
        let kinds: Vec<_> = answer.near_misses.iter().map(|miss| miss.kind()).collect();
        assert!(kinds.iter().all(|kind| *kind == NearMissKind::Start), "{kinds:?}");
        misses(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told_of(vec![class()]).await, ["resume what the stop order of the class invoice-worker stops"]);
    assert_eq!(told_of(vec![everybody()]).await, ["resume what the stop order of everybody stops"]);
    assert!(told_of(vec![class(), everybody()]).await.is_empty(), "neither is enough");
}

#[tokio::test]
async fn a_group_that_a_permit_names_is_a_near_miss() {
    let mut stage = Stage::set().await;
    let permit = "permit(principal in Group::\"clerks\", action, resource);";
    stage
        .change(vec![
            (policy("production", PolicyMode::Enforce, permit), false),
            (group("clerks", |g| g.selector = "environment = dev".into()), false),
            (group("others", |g| g.selector = "environment = dev".into()), false),
        ])
        .await;
    let answer = told(&stage, stage.asserted(agent_id(1))).await;
    assert_eq!(answer.answer.as_ref().unwrap().reason_code, "NO_POLICY_PERMITS");
    let joins: Vec<_> = answer.near_misses.iter().filter(|miss| miss.kind() == NearMissKind::JoinGroup).collect();
    assert_eq!(joins.len(), 1, "{:?}", misses(&answer));
    assert_eq!(joins[0].text, "let the agent invoice-bot-1 belong to the group clerks");
    assert_eq!(joins[0].object.as_ref().unwrap().name, "clerks");
}

/// All that policies say is read; where it is not, or more is there than is tried, that is said.
#[tokio::test]
async fn what_was_not_tried_is_said() {
    let role = |name: &str| {
        let spec =
            wire::RoleSpec { permissions: vec![permission("other:do", "Invoice", "*")], ..wire::RoleSpec::default() };
        declared(Object::Role(wire::Role { metadata: meta(name), spec: Some(spec) }))
    };
    let cut = "not all changes were tried";
    let mut stage = Stage::set().await;
    let filler = "permit(principal == Agent::\"x\", action == Action::\"a:b\", resource);".repeat(1_100);
    let last = format!("{filler} permit(principal in Role::\"at-the-end\", action, resource);");
    stage.change(vec![(policy("production", PolicyMode::Enforce, &last), false), (role("at-the-end"), false)]).await;
    let answer = told(&stage, stage.asserted(agent_id(1))).await;
    let wanted = "bind the role at-the-end to the agent invoice-bot-1";
    // On a slow machine time may run out; then it says so.
    assert!(misses(&answer).contains(&wanted) || answer.near_miss_note.contains(cut), "{answer:?}");

    // More roles that would do than are tried.
    let permits: String =
        (0..9).map(|n| format!("permit(principal in Role::\"role-{n}\", action, resource);")).collect();
    let mut all = vec![(policy("production", PolicyMode::Enforce, &permits), false)];
    all.extend((0..9).map(|n| (role(&format!("role-{n}")), false)));
    stage.change(all).await;
    let answer = told(&stage, stage.asserted(agent_id(1))).await;
    assert!(answer.near_miss_note.contains(cut), "{}", answer.near_miss_note);
}

#[tokio::test]
async fn a_chain_that_is_missing_is_a_near_miss_too() {
    let stage = Stage::set_with(|mut all| {
        let metadata = Some(wire::Metadata { name: "payments".into(), ..wire::Metadata::default() });
        let granted = wire::PersonalAuthority::Granted.into();
        let spec = wire::NamespaceSpec { personal_authority: granted, ..wire::NamespaceSpec::default() };
        all.push(declared(Object::Namespace(wire::Namespace { metadata, spec: Some(spec), status: None })));
        all
    })
    .await;
    let on_behalf_of = Some(OnBehalfOf { subject: "user:ada".into(), grant: None });
    let ask = Ask { on_behalf_of, ..stage.asserted(agent_id(1)) };
    let answer = told(&stage, ask).await;
    assert_eq!(answer.answer.as_ref().unwrap().reason_code, "CHAIN_INVALID");
    assert_eq!(answer.steps[0].reason_code, "CHAIN_INVALID");
    let text = "a delegation grant by which user:ada lets invoice-bot-1 do invoice:read on Invoice:apollo/1001";
    assert_eq!(misses(&answer), [text]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Of a chain too: the first step that cuts gives the word, and each near miss was allowed when it was supposed.
    #[test]
    fn a_chain_is_explained_link_by_link(bits in any::<[u8; 4]>(), grants in any::<[u8; 3]>()) {
        runtime().block_on(async {
            // So that many cases are near the line.
            let (bits, grants) = (bits.map(|b| b | b >> 3), grants.map(|g| g | g >> 3));
            let mut stage = super::delegation::staged(bits, grants).await;
            stage.change(vec![(point("invoices", |p| p.may_explain = true), false)]).await;
            let token = legate_token::mint(&super::delegation::claims(&stage), &stage.signer).unwrap();
            for action in ["invoice:read", "invoice:pay", "invoice:seal"] {
                let ask = super::delegation::with_action(stage.with_token(token.clone()), action);
                let checked = stage.ask(&enforcer("invoices"), ask.clone()).await;
                let explained = of(&stage, &enforcer("invoices"), ask).await;
                assert_eq!(checked.answer.word(), explained.spoken.answer.word());
                let first = explained.laid.steps.iter().find_map(crate::domain::derivation::Step::cuts);
                assert_eq!(first, checked.answer.denied, "{action} {bits:?} {grants:?}: {:#?}", explained.laid.steps);
                let chain = explained.laid.steps.last().unwrap();
                assert_eq!((chain.look, chain.steps.len()), (crate::domain::derivation::Look::Chain, 6));
            }
        });
    }
}

#[tokio::test]
async fn who_may_have_it_explained() {
    let mut stage = Stage::set().await;
    let trusted = enforcer("trusted");
    let word = async |stage: &Stage, asker: &Asker| {
        let ask = Explain { ask: stage.asserted(agent_id(1)), as_of: None, at: None };
        explain(&stage.desk, asker, ask).await.err().map_or("told", |fault| fault.reason())
    };
    assert_eq!(word(&stage, &trusted).await, "CALLER_MAY_NOT_EXPLAIN");
    assert_eq!(stage.paper.events().pop().unwrap().reason_code, "CALLER_MAY_NOT_EXPLAIN", "it is on record");
    let may = |p: &mut wire::EnforcementPointSpec| (p.may_assert_subject, p.may_explain) = (true, true);
    stage.change(vec![(point("trusted", may), false)]).await;
    assert_eq!(word(&stage, &trusted).await, "told");
    // An operator of another namespace learns nothing, not even that there is such an agent.
    stage.change(vec![(operators("team", "payments", "alice", wire::OperatorRole::Viewer), true)]).await;
    stage.change(vec![(operators("sales", "sales", "alice", wire::OperatorRole::Admin), false)]).await;
    let answer = told(&stage, stage.asserted(agent_id(1))).await;
    assert_eq!(answer.answer.as_ref().unwrap().reason_code, "AGENT_UNKNOWN");
    assert!(answer.steps.len() == 1 && answer.origins.is_empty() && answer.near_misses.is_empty(), "{answer:?}");
    let none = told(&stage, stage.asserted(agent_id(77))).await;
    let same = |a: &ExplainResponse, id| a.answer.as_ref().unwrap().message.replace(id, "");
    assert_eq!(same(&answer, agent_id(1).as_str()), same(&none, agent_id(77).as_str()));
}

#[tokio::test]
async fn the_past_is_explained_as_it_was() {
    let mut stage = Stage::set().await;
    stage.change(vec![(binding(|_| ()), true)]).await;
    stage.change(vec![(policy("never", PolicyMode::Enforce, "forbid(principal, action, resource);"), false)]).await;
    let at = async |stage: &Stage, at: At| {
        let ask = Explain { ask: stage.asserted(agent_id(1)), as_of: Some(AsOf { at: Some(at) }), at: None };
        explain(&stage.desk, &operator(), ask).await
    };
    for (revision, word) in [(1, "ALLOWED"), (2, "BINDING_NARROWED"), (3, "BINDING_NARROWED")] {
        let was = at(&stage, At::Revision(revision)).await.unwrap();
        let expected = if revision == 1 { word } else { "NOT_PERMITTED" };
        assert_eq!(was.spoken.answer.word(), expected, "{revision}");
        assert_eq!((was.spoken.revision, was.is_past, was.spoken.valid_until), (revision, true, None));
        assert_eq!(was.spoken.at.secs(), NOW - 1_000 + i64::try_from(revision).unwrap());
        // Each revision with its own cuts.
        assert_eq!(u64::from(was.laid.cuts()), revision - 1);
    }
    let time = prost_types::Timestamp { seconds: NOW - 999, nanos: 0 };
    assert_eq!(at(&stage, At::Time(time)).await.unwrap().spoken.answer.word(), "ALLOWED");
    assert_eq!(at(&stage, At::Revision(9)).await.unwrap_err().reason(), "REVISION_UNKNOWN");
    let token = Explain { ask: stage.good(), as_of: Some(AsOf { at: Some(At::Revision(1)) }), at: None };
    assert_eq!(explain(&stage.desk, &operator(), token).await.unwrap_err().reason(), "QUESTION_INVALID");
    stage.registry.is_gone.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(at(&stage, At::Revision(1)).await.unwrap_err().reason(), "PAST_UNAVAILABLE");
    let event = stage.paper.events().into_iter().find(|e| e.details.contains_key("as_of_revision")).unwrap();
    assert_eq!((event.details["as_of_revision"].as_str(), event.time.unwrap().seconds), ("1", NOW));
}

/// A world of a few classes, bindings, boundaries and policies, and questions about it.
fn world() -> impl Strategy<Value = Vec<wire::Declaration>> {
    let cedar = [
        "permit(principal, action, resource);",
        "permit(principal, action, resource) when { context has ticket && context.ticket == \"T-1\" };",
        "permit(principal in Role::\"payer\", action, resource);",
        "forbid(principal, action == Action::\"invoice:pay\", resource);",
        "forbid(principal, action, resource) when { resource.sealed };",
        "forbid(principal, action, resource) when { principal.environment == \"dev\" };",
        "forbid(principal, action, resource == Invoice::\"apollo/7\");",
    ];
    let actions = || prop::sample::subsequence(vec!["invoice:read", "invoice:pay", "invoice:list"], 0..=3);
    (
        actions(),
        actions(),
        prop::sample::select(vec!["invoice:*", "invoice:read", "*"]),
        prop::sample::subsequence(cedar.to_vec(), 0..=3),
        prop::sample::select(vec![AgentState::Active, AgentState::Active, AgentState::Active, AgentState::Suspended]),
        prop::option::of(prop::sample::select(vec!["region", "purpose", "regime", "environment", "hours"])),
        prop::sample::select(vec![(None, None), (None, None), (Some(NOW - 9), Some(NOW - 5)), (Some(NOW + 5), None)]),
        prop::sample::select(vec!["*", "apollo/*", "zeus/*"]),
    )
        .prop_map(|(class, role, ceiling, policies, state, limit, window, narrowing)| {
            let mut all = everything(&signer(1));
            all.retain(|object| {
                !matches!(object.object, Some(Object::Policy(_) | Object::AgentClass(_) | Object::Role(_)))
            });
            let given = |actions: &[&str]| actions.iter().map(|a| permission(a, "Invoice", "*")).collect::<Vec<_>>();
            let spec = wire::AgentClassSpec {
                permissions: given(&class),
                ceiling: vec![permission(ceiling, "Invoice", "*")],
                ..wire::AgentClassSpec::default()
            };
            let class = wire::AgentClass { metadata: meta("invoice-worker"), spec: Some(spec), status: None };
            all.push(declared(Object::AgentClass(class)));
            for (name, actions) in [("invoice-reader", role), ("payer", vec!["invoice:pay"])] {
                let spec = wire::RoleSpec { permissions: given(&actions), ..wire::RoleSpec::default() };
                all.push(declared(Object::Role(wire::Role { metadata: meta(name), spec: Some(spec) })));
            }
            let at = |seconds: Option<i64>| seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
            all.push(binding(|b| {
                (b.not_before, b.not_after) = (at(window.0), at(window.1));
                b.resources[0].id = narrowing.into();
            }));
            all.push(agent(1, |a| a.status.as_mut().unwrap().set_state(state)));
            for (n, cedar) in policies.into_iter().enumerate() {
                all.push(policy(&format!("p-{n}"), PolicyMode::Enforce, cedar));
            }
            all.extend(limit.map(|limit| {
                boundary("limit", |b| match limit {
                    "region" => b.regions = vec!["eu".into()],
                    "purpose" => b.purposes = vec!["audit".into()],
                    "regime" => b.regimes = vec!["GDPR".into()],
                    "environment" => b.environments = vec![wire::Environment::Dev.into()],
                    _ => b.hours = vec![wire::Hours { days: vec![1], from_minute: 0, until_minute: 60 }],
                })
            }));
            all
        })
}

/// A few questions about the agent.
fn questions(stage: &Stage) -> Vec<Ask> {
    let mut all = Vec::new();
    for action in ["invoice:read", "invoice:pay", "invoice:list", "ledger:write"] {
        for id in ["apollo/1", "apollo/7", "zeus/1"] {
            let plain = stage.asserted(agent_id(1)).action(action).resource(id);
            all.push(
                plain.clone().attribute("sealed", Value::Bool(false)).attribute("region", Value::Text("eu".into())),
            );
            let mut stated = plain.clone().attribute("sealed", Value::Bool(true));
            stated = stated.attribute("regime", Value::Text("GDPR".into()));
            stated.question.context.insert("ticket".into(), Value::Text("T-1".into()));
            stated.question.context.insert("purpose".into(), Value::Text("audit".into()));
            all.extend([stated, plain]);
        }
    }
    all
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The explanation is of the very decision that a check makes; it is allowed where no step cuts, and else the first that
    /// does gives the word. Whatever is told as a near miss would have allowed it.
    #[test]
    fn an_explanation_is_of_the_decision_that_a_check_makes(
        mut objects in world(),
        holds in any::<bool>(),
        is_approved in any::<bool>(),
    ) {
        if holds {
            objects.push(policy("four-eyes", PolicyMode::Enforce, super::approvals::HOLDS));
        }
        if is_approved {
            objects.push(super::approvals::approved(1, |_, _| ()));
        }
        runtime().block_on(async {
            let stage = Stage::set_with(|_| objects).await;
            for ask in questions(&stage) {
                let checked = stage.ask(&operator(), ask.clone()).await;
                let explained = of(&stage, &operator(), ask.clone()).await;
                let (a, b) = (&checked.answer, &explained.spoken.answer);
                assert_eq!((a.word(), lines(&a.causes), lines(&a.log_only)), (b.word(), lines(&b.causes), lines(&b.log_only)));
                let first = explained.laid.steps.iter().find_map(crate::domain::derivation::Step::cuts);
                assert_eq!(first, b.denied, "{:#?}", explained.laid.steps);
                if b.denied.is_none() {
                    assert!(explained.laid.near.is_empty());
                } else if explained.laid.near.is_empty() {
                    assert!(!explained.laid.note.is_empty());
                }
            }
        });
    }
}

/// A near miss, done for real, allows it.
#[tokio::test]
async fn what_is_told_as_a_near_miss_allows_it_when_it_is_done() {
    let mut stage = Stage::set().await;
    let ask = |stage: &Stage| stage.asserted(agent_id(1)).action("invoice:pay");
    let answer = told(&stage, ask(&stage)).await;
    let miss = answer.near_misses.iter().find(|miss| miss.kind() == NearMissKind::ExtendRole).unwrap();
    let wanted = miss.permission.clone().unwrap();
    let permissions = vec![permission("invoice:read", "Invoice", "*"), wanted];
    let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
    let role =
        declared(Object::Role(wire::Role { metadata: meta(&miss.object.as_ref().unwrap().name), spec: Some(spec) }));
    stage.change(vec![(role, false)]).await;
    assert_eq!(stage.ask(&operator(), ask(&stage)).await.answer.word(), "ALLOWED");
    // A policy as it is proposed.
    let stage = Stage::set_with(|mut all| {
        all.retain(|object| !matches!(object.object, Some(Object::Policy(_))));
        all
    })
    .await;
    let answer = told(&stage, stage.asserted(agent_id(1))).await;
    let miss = answer.near_misses.iter().find(|miss| miss.kind() == NearMissKind::AddPolicy).unwrap();
    let mut stage = stage;
    stage.change(vec![(policy("one", PolicyMode::Enforce, &miss.value), false)]).await;
    assert_eq!(stage.ask(&operator(), stage.asserted(agent_id(1))).await.answer.word(), "ALLOWED");
}
