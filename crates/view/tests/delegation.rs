//! Grants of delegation as the view holds them: found by id, by name and by whom they let act, however often they are written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use legate_ids::{AgentId, Name};
use legate_view::{Audience, Snapshot};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

fn meta(name: &str, id: &str) -> Option<wire::Metadata> {
    let (name, id) = (name.into(), id.into());
    Some(wire::Metadata { name, id, namespace: "pay".into(), ..wire::Metadata::default() })
}

fn declared(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

fn agent(n: u8, namespace: &str) -> wire::Declaration {
    let mut metadata = meta(&format!("bot-{n}"), AgentId::from_parts(1, [n; 10]).as_str());
    metadata.as_mut().unwrap().namespace = namespace.into();
    let spec = wire::AgentSpec { agent_class: "bots".into(), ..wire::AgentSpec::default() };
    let status = wire::AgentStatus { state: wire::AgentState::Active.into(), ..wire::AgentStatus::default() };
    declared(Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) }))
}

fn grant(name: u8, id: usize, delegate: u8, is_good: bool) -> wire::Declaration {
    let spec = wire::DelegationGrantSpec {
        delegator: "user:ada".into(),
        delegate: format!("bot-{delegate}"),
        // One that cannot be read lets nobody act, also where one of its name did before.
        permissions: if is_good { vec![] } else { vec![wire::Permission::default()] },
        ..wire::DelegationGrantSpec::default()
    };
    let metadata = meta(&format!("g-{name}"), &format!("obj_{id}"));
    declared(Object::DelegationGrant(wire::DelegationGrant { metadata, spec: Some(spec) }))
}

proptest! {
    #[test]
    fn the_last_write_of_a_name_counts_everywhere(writes in prop::collection::vec((0u8..4, 0u8..3, prop::bool::weighted(0.8)), 0..12)) {
        let mut objects: Vec<_> = (0..3).map(|n| agent(n, "pay")).collect();
        let mut last = BTreeMap::new();
        for (id, (name, delegate, is_good)) in writes.iter().enumerate() {
            objects.push(grant(*name, id, *delegate, *is_good));
            last.insert(*name, (id, *delegate, *is_good));
        }
        let snapshot = Snapshot::of(&objects).unwrap();
        for n in 0..3u8 {
            let bot = snapshot.agent_named("pay", &format!("bot-{n}")).unwrap();
            let found: Vec<String> = snapshot.delegation_grants_to(bot).iter().map(|g| g.label.name.to_string()).collect();
            let expected: Vec<String> =
                last.iter().filter(|(_, (_, to, good))| *to == n && *good).map(|(name, _)| format!("g-{name}")).collect();
            prop_assert_eq!(found, expected);
        }
        for id in 0..writes.len() {
            let is_last = last.values().any(|(last, _, good)| *last == id && *good);
            prop_assert_eq!(snapshot.delegation_grant(&format!("obj_{id}")).is_some(), is_last);
        }
        for (name, (_, _, good)) in &last {
            prop_assert_eq!(snapshot.delegation_grant_named("pay", &format!("g-{name}")).is_some(), *good);
        }
    }
}

#[test]
fn an_audience_is_that_of_a_point_or_of_an_agent_of_the_namespace() {
    let point = |name: &str, audience: &str| {
        let spec = wire::EnforcementPointSpec {
            audiences: vec![audience.into()],
            resource_types: vec!["Invoice".into(), format!("Of{}", name.to_uppercase())],
            ..wire::EnforcementPointSpec::default()
        };
        let metadata = meta(name, &format!("obj_{name}"));
        declared(Object::EnforcementPoint(wire::EnforcementPoint {
            metadata,
            spec: Some(spec),
            spiffe_id: String::new(),
        }))
    };
    let id = |n: u8| AgentId::from_parts(1, [n; 10]);
    let of = |namespace: &str, n: u8| format!("spiffe://example.org/ns/{namespace}/agent/{}", id(n));
    let copy = format!("{}/instance/{}", of("pay", 1), legate_ids::InstanceId::from_parts(1, [1; 10]));
    // What a point declares makes no agent a point.
    let points = [point("p", "https://p.example"), point("q", &of("pay", 1)), point("r", "https://p.example")];
    let objects: Vec<_> = [agent(1, "pay"), agent(2, "sales")].into_iter().chain(points).collect();
    let snapshot = Snapshot::of(&objects).unwrap();
    let pay = Name::parse("pay").unwrap();
    assert!(matches!(snapshot.audience(&pay, "https://p.example"), Some(Audience::Point)));
    assert!(matches!(snapshot.audience(&pay, &of("pay", 1)), Some(Audience::Agent(agent)) if agent.id == id(1)));
    let others = ["https://p.example/".to_owned(), String::new(), of("sales", 2), of("pay", 2), of("sales", 1), copy];
    for nobodys in others {
        assert!(snapshot.audience(&pay, &nobodys).is_none(), "{nobodys}");
    }
    let sales = Name::parse("sales").unwrap();
    assert!(snapshot.audience(&sales, "https://p.example").is_none());
    // What is asked about there: what any of those asks about that have the audience, and nobody else.
    let kinds = |namespace: &Name, audience: &str| -> Vec<String> {
        snapshot.kinds_at(namespace, audience).into_iter().map(ToString::to_string).collect()
    };
    assert_eq!(kinds(&pay, "https://p.example"), ["Invoice", "OfP", "OfR"]);
    assert!(kinds(&sales, "https://p.example").is_empty() && kinds(&pay, "https://p.example/").is_empty());
}
