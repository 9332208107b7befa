//! Agents made by agents, end to end, on a raised suite: made, enrolled, allowed inside and denied outside, stopped with
//! their maker, ended with it; and what a maker must not do.

use std::time::{Duration, Instant};

use legate_client::{Runtime, enrol};
use legate_mtls::Identity;
use legate_rpc::{Client, Told};
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateEnrolmentTokenRequest, EnforcementPointRef, RevokeCredentialRequest};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::spawn_service_client::SpawnServiceClient;
use legate_wire::registry::{
    Agent, AgentRef, AgentState, ApplyDeclarationsRequest, Declaration, GetAgentRequest, Metadata, Namespace,
    NamespaceSpec, Permission, Policy, PolicyMode, PolicySpec, ResourceSelector, ResumeAgentRequest,
    RetireAgentRequest, SpawnAgentRequest, SuspendAgentRequest, UpdateDeclarationRequest,
};

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, LONG, Payments, Raised, id_of};

/// The example, where agents may make agents; and the maker's way to the registry.
async fn scene(raised: &Raised, depth: u32) -> (Payments, Client) {
    let payments = raised.payments().await;
    let spec = NamespaceSpec { max_spawn_depth: depth, ..NamespaceSpec::default() };
    let metadata = Metadata { name: "payments".into(), ..Metadata::default() };
    let object = Object::Namespace(Namespace { metadata: Some(metadata), spec: Some(spec), status: None });
    let paths = vec!["spec.max_spawn_depth".to_owned()];
    let request = UpdateDeclarationRequest {
        declaration: Some(Declaration { object: Some(object) }),
        update_mask: Some(prost_types::FieldMask { paths }),
        reason: "agents may make agents".into(),
        ..UpdateDeclarationRequest::default()
    };
    DeclarationServiceClient::new(raised.operator("registry")).update_declaration(request).await.unwrap();
    let registry = raised.dial("registry", payments.runtime.identity().clone());
    (payments, registry)
}

fn permission(action: &str, id: &str) -> Permission {
    let resource = ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..ResourceSelector::default() };
    Permission { action: action.into(), resource: Some(resource) }
}

fn wish(name: &str) -> SpawnAgentRequest {
    SpawnAgentRequest {
        name: name.into(),
        purpose: "Counts the invoices of one month.".into(),
        ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ceiling: vec![permission("invoice:read", "apollo/10/*")],
        ..SpawnAgentRequest::default()
    }
}

async fn spawn(registry: &Client, request: SpawnAgentRequest) -> Result<Agent, Told> {
    let made = SpawnServiceClient::new(registry.clone()).spawn_agent(request).await;
    made.map(|made| made.into_inner().agent.unwrap()).map_err(|status| Told::from_status(&status))
}

/// An enrolment token that one agent asks for, for another.
async fn token_by(raised: &Raised, maker: &Identity, holder: Holder) -> Result<String, Told> {
    let mut issuer = CredentialAdminServiceClient::new(raised.dial("credential-issuer", maker.clone()));
    let request = CreateEnrolmentTokenRequest { holder: Some(holder), ttl: None, reason: "my own".into() };
    let made = issuer.create_enrolment_token(request).await;
    made.map(|made| made.into_inner().token).map_err(|status| Told::from_status(&status))
}

async fn enrolled(raised: &Raised, maker: &Identity, child: &Agent) -> (Runtime, Shown, u64) {
    let token = token_by(raised, maker, Holder::AgentId(id_of(child))).await.unwrap();
    let issuer = raised.remote("credential-issuer");
    let identity = enrol(&issuer, &token).await.unwrap().identity().unwrap();
    let runtime = Runtime::new(&issuer, identity).unwrap();
    let issued = runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: issued.access_token, presenter: runtime.identity().x5t_s256().unwrap() };
    (runtime, shown, issued.revision)
}

fn which(agent: &Agent) -> Option<AgentRef> {
    Some(AgentRef { id: id_of(agent), ..AgentRef::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_makes_an_agent_that_works_within_it_and_ends_with_it() {
    let raised = Raised::new().await;
    let (payments, registry) = scene(&raised, 2).await;
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let child = spawn(&registry, wish("counter")).await.unwrap();
    assert_eq!(child.status.as_ref().unwrap().ancestors, [id_of(&payments.agent)]);
    let (runtime, shown, revision) = enrolled(&raised, payments.runtime.identity(), &child).await;

    // Inside its ceiling it may what its maker may; outside nothing, whatever its maker may.
    for (id, expected) in [("apollo/10/1", "ALLOWED"), ("apollo/11/1", "ABOVE_CEILING"), ("zeus/1", "BINDING_NARROWED")]
    {
        let answer = ask(&backend, at_least(question(&shown, "invoice:read", id), revision)).await;
        assert_eq!(word(&answer), expected, "{answer:?}");
    }
    assert_eq!(word(&ask(&backend, question(&shown, "invoice:pay", "apollo/10/1")).await), "NOT_PERMITTED");

    // It has an agent of its own.
    let own = raised.dial("registry", runtime.identity().clone());
    let grandchild = spawn(&own, SpawnAgentRequest { ttl: minutes(5), ..wish("small-counter") }).await.unwrap();
    let (_, shown_too, revision) = enrolled(&raised, runtime.identity(), &grandchild).await;
    let may = |shown: &Shown, at| at_least(question(shown, "invoice:read", "apollo/10/1"), at);
    assert_eq!(word(&ask(&backend, may(&shown_too, revision)).await), "ALLOWED");

    // What is forbidden to its maker, by an id that neither of them has, is forbidden to both.
    let cedar = format!("forbid(principal == Agent::\"{}\", action, resource);", id_of(&payments.agent));
    let metadata = Metadata { name: "not-the-maker".into(), namespace: "payments".into(), ..Metadata::default() };
    let spec = PolicySpec { cedar, mode: PolicyMode::Enforce.into(), ..PolicySpec::default() };
    let object = Object::Policy(Policy { metadata: Some(metadata), spec: Some(spec) });
    let request = ApplyDeclarationsRequest {
        declarations: vec![Declaration { object: Some(object) }],
        reason: "not this one".into(),
        ..ApplyDeclarationsRequest::default()
    };
    let mut declarations = DeclarationServiceClient::new(raised.operator("registry"));
    let forbidden = declarations.apply_declarations(request).await.unwrap().into_inner().revision;
    for shown in [&shown, &shown_too] {
        assert_eq!(word(&ask(&backend, may(shown, forbidden)).await), "FORBIDDEN_BY_POLICY");
    }

    // Its maker is suspended: nobody below works, and their connections are cut.
    let connections = raised.suite.running("credential-issuer").unwrap().serving().connections();
    let request = SuspendAgentRequest { agent: which(&payments.agent), reason: "odd".into(), ..Default::default() };
    let suspended = agents.suspend_agent(request).await.unwrap().into_inner();
    let acked = Instant::now();
    for shown in [&shown, &shown_too] {
        assert_eq!(word(&ask(&backend, may(shown, suspended.revision)).await), "PARENT_STOPPED");
    }
    assert!(acked.elapsed() < Duration::from_secs(1), "denied after {:?}", acked.elapsed());
    while connections.cut(|peer| peer.x5t_s256 == shown.presenter) > 0 {
        assert!(acked.elapsed() < Duration::from_secs(5), "the connection is still open");
        tokio::task::yield_now().await;
    }
    assert!(runtime.token(AUDIENCE).await.is_err());
    assert!(runtime.renew().await.is_err());
    assert_eq!(spawn(&own, wish("late")).await.unwrap_err().reason, "CALLER_NOT_ACTIVE");

    // Resumed, what was issued to those below stays dead as well.
    let request = ResumeAgentRequest { agent: which(&payments.agent), reason: "fine".into(), ..Default::default() };
    let resumed = agents.resume_agent(request).await.unwrap().into_inner();
    for shown in [&shown, &shown_too] {
        assert_eq!(word(&ask(&backend, may(shown, resumed.revision)).await), "TOKEN_OUTLIVED");
    }

    // Retired, it takes everybody below with it.
    let request = RetireAgentRequest { agent: which(&payments.agent), reason: "over".into(), ..Default::default() };
    let retired = agents.retire_agent(request).await.unwrap().into_inner();
    for one in [&child, &grandchild] {
        let read = agents.get_agent(GetAgentRequest { agent: which(one), as_of: None }).await.unwrap().into_inner();
        let agent = read.agent.unwrap();
        assert_eq!(agent.status.as_ref().unwrap().state(), AgentState::Retired);
        assert_eq!(agent.metadata.unwrap().revision, retired.revision, "in the same write");
    }
    assert_eq!(word(&ask(&backend, may(&shown, retired.revision)).await), "AGENT_RETIRED");
    raised.suite.shutdown().await;
}

fn minutes(n: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 60 * n, nanos: 0 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_gets_nothing_for_anybody_but_its_own() {
    let raised = Raised::new().await;
    let (payments, registry) = scene(&raised, 1).await;
    let maker = payments.runtime.identity();
    let child = spawn(&registry, wish("counter")).await.unwrap();
    let never: legate_ids::AgentId = legate_ids::AgentId::from_parts(1, [9; 10]);
    let point = EnforcementPointRef { namespace: "payments".into(), name: "invoices".into() };
    for holder in
        [Holder::AgentId(id_of(&payments.agent)), Holder::AgentId(never.to_string()), Holder::EnforcementPoint(point)]
    {
        let refused = token_by(&raised, maker, holder.clone()).await.unwrap_err();
        assert_eq!(refused.reason, "NOT_ITS_MAKER", "{holder:?}");
    }
    let (runtime, ..) = enrolled(&raised, maker, &child).await;
    // Nor does one that was made get anything for its maker.
    let refused = token_by(&raised, runtime.identity(), Holder::AgentId(id_of(&payments.agent))).await;
    assert_eq!(refused.unwrap_err().reason, "NOT_ITS_MAKER");
    let own = raised.dial("registry", runtime.identity().clone());
    assert_eq!(spawn(&own, wish("deeper")).await.unwrap_err().reason, "SPAWN_TOO_DEEP");
    let wider = SpawnAgentRequest { ceiling: vec![permission("invoice:*", "*")], ..wish("wider") };
    assert_eq!(spawn(&registry, wider).await.unwrap_err().reason, "SPAWN_TOO_WIDE");
    // What only operators do is closed to it.
    let mut closed = AgentServiceClient::new(registry.clone());
    let read = closed.get_agent(GetAgentRequest { agent: which(&child), as_of: None }).await.unwrap_err();
    assert_eq!(Told::from_status(&read).reason, "ACCESS_DENIED");

    // With its certificate revoked it has no more agents, as soon as the registry knows.
    let mut admin = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
    let request = RevokeCredentialRequest {
        credential_id: payments.enrolled.credential.id.clone(),
        comment: "stolen".into(),
        ..RevokeCredentialRequest::default()
    };
    admin.revoke_credential(request).await.unwrap();
    assert_eq!(spawn(&registry, wish("late")).await.unwrap_err().reason, "CALLER_REVOKED");
    let begin = Instant::now();
    while !matches!(token_by(&raised, maker, Holder::AgentId(id_of(&child))).await, Err(told) if told.reason == "CALLER_REVOKED")
    {
        assert!(begin.elapsed() < LONG, "its certificate still gets tokens");
        tokio::task::yield_now().await;
    }
    raised.suite.shutdown().await;
}
