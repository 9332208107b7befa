//! Laws of the decision: what is added to cut never lets more through, and a change of policies is as if all were compiled anew.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::{Action, Name, ResourceId, ResourceType};
use legate_view::{Label, NamespacePolicies, Policy, PolicyMode, Snapshot};
use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::Enforce;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;
use proptest::sample::select;

use super::lineage::made;
use crate::domain::approval;
use crate::domain::authority::{Bench, Way};
use crate::domain::policies::Compiled;
use crate::domain::question::{Question, Record, Stated, Value};
use crate::testing::*;

const ACTIONS: [&str; 3] = ["invoice:read", "invoice:list", "invoice:pay"];

/// What may be added; each can only cut.
#[derive(Clone, Copy, Debug)]
enum More {
    Boundary,
    Ceiling,
    CeilingOfTheAgent,
    Forbid,
    Ancestor,
}

fn rule() -> impl Strategy<Value = String> {
    let effect = select(vec!["permit", "permit", "permit", "forbid", "@approval(\"x\") forbid"]);
    let principal = select(vec![
        "principal",
        "principal is Agent",
        "principal in Role::\"invoice-reader\"",
        "principal in AgentClass::\"invoice-worker\"",
        "principal in Group::\"readers\"",
        "principal in AgentClass::\"another\"",
    ]);
    let action = select(vec![
        "action",
        "action == Action::\"invoice:read\"",
        "action in [Action::\"invoice:list\", Action::\"invoice:pay\"]",
    ]);
    let resource = select(vec!["resource", "resource is Invoice", "resource == Invoice::\"apollo/1\""]);
    let when = select(vec![
        "",
        "",
        "when { resource.amount > 2 }",
        "when { resource.amount + 9223372036854775807 > 0 }",
        "unless { context.calm }",
    ]);
    (effect, principal, action, resource, when)
        .prop_map(|(effect, p, a, r, when)| format!("{effect}({p}, {a}, {r}) {when};"))
}

fn class(ceiling: &[&str], boundaries: &[&str]) -> wire::Declaration {
    let spec = wire::AgentClassSpec {
        permissions: vec![permission("invoice:*", "Invoice", "*")],
        ceiling: ceiling.iter().map(|action| permission(action, "Invoice", "*")).collect(),
        boundaries: boundaries.iter().map(ToString::to_string).collect(),
        ..wire::AgentClassSpec::default()
    };
    declared(Object::AgentClass(wire::AgentClass { metadata: meta("invoice-worker"), spec: Some(spec), status: None }))
}

/// The agent 1, of which `more` is true.
fn world(rules: &[String], more: Option<(More, &'static str)>) -> Snapshot {
    let mut all = everything(&signer(1));
    all.push(class(&["invoice:*"], &[]));
    all.push(group("readers", |spec| spec.agents = vec!["invoice-bot-1".into()]));
    all.extend(rules.iter().enumerate().map(|(n, text)| policy(&format!("p-{n}"), Enforce, text)));
    match more {
        None => {}
        Some((More::Boundary, region)) => {
            all.push(boundary("some", |b| b.regions = vec![region.into()]));
            all.push(class(&["invoice:*"], &["some"]));
        }
        Some((More::Ceiling, _)) => all.push(class(&["invoice:read", "invoice:list"], &[])),
        Some((More::CeilingOfTheAgent, _)) => all.push(agent(1, |agent| {
            if let Some(spec) = &mut agent.spec {
                spec.ceiling = vec![permission("invoice:read", "Invoice", "apollo/*")];
            }
        })),
        Some((More::Forbid, _)) => {
            all.push(policy("more", Enforce, "forbid(principal, action, resource) when { resource.amount > 3 };"));
        }
        Some((More::Ancestor, _)) => {
            all.push(agent(2, |agent| {
                if let Some(spec) = &mut agent.spec {
                    spec.agent_class = "another".into();
                }
            }));
            all.push(made(1, &[2]));
        }
    }
    Snapshot::of(&all).unwrap()
}

fn question((action, id, amount, calm, region): (usize, bool, i64, bool, &'static str)) -> Question {
    let attributes = Record::from([
        ("amount".to_owned(), Value::Long(amount)),
        ("region".to_owned(), Value::Text(region.to_owned())),
    ]);
    Question {
        action: Action::parse(ACTIONS[action]).unwrap(),
        resource_type: ResourceType::parse("Invoice").unwrap(),
        resource_id: ResourceId::parse(if id { "apollo/1" } else { "zeus/1" }).unwrap(),
        attributes: Stated(attributes),
        context: Record::from([("calm".to_owned(), Value::Bool(calm))]),
    }
}

fn questions() -> impl Strategy<Value = Vec<(usize, bool, i64, bool, &'static str)>> {
    let one = (0usize..3, any::<bool>(), 0i64..6, any::<bool>(), select(vec!["eu", "us"]));
    prop::collection::vec(one, 1..6)
}

/// The word, and what it rests on.
fn decided(
    bench: &Bench,
    snapshot: &Snapshot,
    compiled: &Compiled,
    question: &Question,
) -> (&'static str, Vec<String>) {
    let now = Timestamp::from_secs(NOW);
    let agent: &Arc<_> = snapshot.agent(&agent_id(1)).unwrap();
    let so_far = bench.before_policies(snapshot, agent, question, now);
    if so_far.denied.is_some() {
        return (so_far.word(), Vec::new());
    }
    let approvals = approval::of(snapshot, agent, question, None, now);
    let answer = bench.with_policies(snapshot, agent, question, Some(compiled), &approvals, now, so_far);
    let causes = answer.causes.iter().chain(&answer.log_only).map(|cause| format!("{}: {}", cause.line(), cause.text));
    (answer.word(), causes.collect())
}

fn compiled(snapshot: &Snapshot, before: Option<&Compiled>) -> Compiled {
    Compiled::compile(snapshot.policies("payments").unwrap(), before).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_can_only_cut_never_lets_more_through(
        rules in prop::collection::vec(rule(), 0..6),
        more in select(vec![More::Boundary, More::Ceiling, More::CeilingOfTheAgent, More::Forbid, More::Ancestor]),
        region in select(vec!["eu", "us"]),
        asks in questions(),
    ) {
        let (before, after) = (world(&rules, None), world(&rules, Some((more, region))));
        let (of_before, of_after) = (compiled(&before, None), compiled(&after, None));
        // One bench for both: the agent that it remembers is not the agent that is asked about next.
        let bench = Bench::new();
        for ask in asks {
            let question = question(ask);
            let was = decided(&bench, &before, &of_before, &question).0;
            let is = decided(&bench, &after, &of_after, &question).0;
            prop_assert!(is != "ALLOWED" || was == "ALLOWED", "{more:?}: {question:?}: {was}, then {is}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_change_is_as_if_all_were_compiled_anew(
        first in prop::collection::vec(rule(), 4..12),
        steps in prop::collection::vec((0usize..12, rule(), 0u8..3), 1..6),
        asks in questions(),
    ) {
        let (bench, plain) = (Bench::new(), Bench::going(Way::Plain));
        let mut objects = everything(&signer(1));
        objects.push(class(&["invoice:*"], &[]));
        objects.push(group("readers", |spec| spec.agents = vec!["invoice-bot-1".into()]));
        objects.extend(first.iter().enumerate().map(|(n, text)| policy(&format!("p-{n}"), Enforce, text)));
        let snapshot = Snapshot::of(&objects).unwrap();
        let mut policies = NamespacePolicies::clone(snapshot.policies("payments").unwrap());
        let label = policies.by_name.values().next().unwrap().label.clone();
        let mut kept = Compiled::compile(&policies, None).unwrap();
        for (n, cedar, kind) in steps {
            let name = Name::parse(&format!("p-{n}")).unwrap();
            // Written anew, only reported, or taken back.
            policies.by_name.remove(&name);
            if kind < 2 {
                let mode = if kind == 1 { PolicyMode::LogOnly } else { PolicyMode::Enforce };
                let label = Label { name: name.clone(), ..label.clone() };
                policies.by_name.insert(name, Arc::new(Policy { label, cedar, mode }));
            }
            kept = Compiled::compile(&policies, Some(&kept)).unwrap();
            let anew = Compiled::compile(&policies, None).unwrap();
            prop_assert_eq!(kept.len(), anew.len());
            prop_assert_eq!(kept.groups(), anew.groups());
            for ask in &asks {
                let question = question(*ask);
                let said = decided(&bench, &snapshot, &kept, &question);
                prop_assert_eq!(&said, &decided(&bench, &snapshot, &anew, &question), "{:?}", question);
                prop_assert_eq!(said.0, decided(&plain, &snapshot, &anew, &question).0, "{:?}", question);
            }
        }
    }
}
