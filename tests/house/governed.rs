//! A namespace that is governed, by its example: everything is declared at once, keeps its rules, and is left by an agent
//! that ends.

use std::collections::BTreeSet;
use std::time::Instant;

use legate_rpc::Told;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    AgentRef, ApplyDeclarationsRequest, ChangeAction, Declaration, GetDeclarationRequest, Kind,
    PlanDeclarationsRequest, RetireAgentRequest,
};

use crate::raised::{LONG, Raised};

fn example() -> Vec<Declaration> {
    let path = crate::blessed::root().join("deploy/examples/governed.yaml");
    let documents = legate::manifest::load(&[path]).unwrap_or_else(|e| panic!("{e}"));
    documents.into_iter().map(|document| document.declaration).collect()
}

fn request(declarations: Vec<Declaration>) -> ApplyDeclarationsRequest {
    ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_governed_namespace_is_declared_kept_and_left() {
    let raised = Raised::new().await;
    let mut registry = DeclarationServiceClient::new(raised.operator("registry"));
    let applied = registry.apply_declarations(request(example())).await.unwrap().into_inner();
    let kinds: BTreeSet<i32> = applied.changes.iter().map(|change| change.kind).collect();
    let published = [Kind::SigningKey as i32, Kind::Revocation as i32];
    let every: BTreeSet<i32> = (1..=21).filter(|kind| !published.contains(kind)).collect();
    assert_eq!(kinds, every, "the example has one of every kind that an operator declares");

    // Each comes back as it was given, and nothing is left to do.
    for change in &applied.changes {
        let ask = GetDeclarationRequest {
            kind: change.kind,
            namespace: change.namespace.clone(),
            name: change.name.clone(),
            as_of: None,
        };
        let got = registry.get_declaration(ask).await.unwrap().into_inner();
        let plan =
            PlanDeclarationsRequest { declarations: got.declaration.into_iter().collect(), ..Default::default() };
        let planned = registry.plan_declarations(plan).await.unwrap().into_inner();
        assert_eq!(planned.changes[0].action(), ChangeAction::Unchanged, "{change:?}");
    }

    // What is passed on cannot grow beyond what was given.
    let wider = example().into_iter().filter_map(|mut declaration| match &mut declaration.object {
        Some(Object::DelegationGrant(grant)) if !grant.spec.as_ref()?.parent.is_empty() => {
            grant.spec.as_mut()?.audiences.clear();
            Some(declaration)
        }
        _ => None,
    });
    let told = Told::from_status(&registry.apply_declarations(request(wider.collect())).await.unwrap_err());
    assert_eq!(told.reason, "GRANT_EXCEEDS_PARENT", "{told:?}");
    assert!(!told.cure.is_empty() && told.violations[0].0.contains("audiences"), "{told:?}");

    // The reader ends: whatever named it lets go, and the log tells what.
    let reader = AgentRef { namespace: "treasury".into(), name: "ledger-reader".into(), ..AgentRef::default() };
    let retire = RetireAgentRequest { agent: Some(reader), reason: "replaced".into(), ..Default::default() };
    let retired = AgentServiceClient::new(raised.operator("registry")).retire_agent(retire).await.unwrap().into_inner();
    for (kind, name, is_there) in [
        (Kind::DelegationGrant, "ada-to-reader", false),
        (Kind::DelegationGrant, "reader-to-writer", false),
        (Kind::AttestationPolicy, "ledger-reader-on-its-node", false),
        (Kind::Group, "clerks", true),
        (Kind::TrustedIssuer, "cluster", true),
        (Kind::PolicyTest, "closed-stays-closed", true),
    ] {
        let ask =
            GetDeclarationRequest { kind: kind.into(), namespace: "treasury".into(), name: name.into(), as_of: None };
        assert_eq!(registry.get_declaration(ask).await.is_ok(), is_there, "{name}");
    }
    let events = events_of(&raised, retired.revision).await;
    for wanted in [
        "delegation_grant.revoked",
        "attestation_policy.revoked",
        "group.updated",
        "trusted_issuer.updated",
        "agent.retired",
    ] {
        assert!(events.iter().any(|event| event == wanted), "{wanted} is not among {events:?}");
    }
    assert_eq!(events.iter().filter(|event| *event == "delegation_grant.revoked").count(), 2);
    raised.suite.shutdown().await;
}

/// The types of the events of one revision, once the last of them is in the log.
async fn events_of(raised: &Raised, revision: u64) -> Vec<String> {
    let mut queries = QueryServiceClient::new(raised.operator("audit-collector"));
    let begin = Instant::now();
    loop {
        let ask = QueryEventsRequest { namespace: "treasury".into(), page_size: 1_000, ..Default::default() };
        let events = queries.query_events(ask).await.unwrap().into_inner().events;
        let events: Vec<_> = events.into_iter().filter_map(|e| e.event).filter(|e| e.revision == revision).collect();
        if events.iter().any(|e| e.r#type == "agent.retired") {
            return events.into_iter().map(|e| e.r#type).collect();
        }
        assert!(begin.elapsed() < LONG, "the retirement has not come into the log: {events:?}");
        tokio::task::yield_now().await;
    }
}
