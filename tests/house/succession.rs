//! A sponsor leaves, end to end, on a raised suite: one agent passes to its manager and goes on, the other is flagged, stopped,
//! and let go on once somebody who is here is accountable for it.

use std::time::Instant;

use legate_client::{Runtime, enrol};
use legate_rpc::Told;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::registry as wire;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::departure_service_client::DepartureServiceClient;

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, LONG, Raised, id_of};

const SPONSOR: &str = "user:leaver@example.com";
const MANAGER: &str = "user:joan@example.com";

/// An agent like the example's, that somebody sponsors who will leave, with the example's role.
fn declared(example: &wire::Agent, name: &str, manager: &str) -> Vec<wire::Declaration> {
    let metadata = |name: &str| {
        Some(wire::Metadata { name: name.into(), namespace: "payments".into(), ..wire::Metadata::default() })
    };
    let spec = wire::AgentSpec {
        sponsors: vec![SPONSOR.into()],
        manager: manager.into(),
        external_id: String::new(),
        ..example.spec.clone().unwrap()
    };
    let given = wire::RoleBindingSpec {
        role: "invoice-reader".into(),
        agents: vec![name.into()],
        ..wire::RoleBindingSpec::default()
    };
    let agent = Object::Agent(wire::Agent { metadata: metadata(name), spec: Some(spec), status: None });
    let binding = wire::RoleBinding { metadata: metadata(&format!("{name}-reads")), spec: Some(given) };
    [agent, Object::RoleBinding(binding)].map(|object| wire::Declaration { object: Some(object) }).to_vec()
}

fn which(name: &str) -> Option<wire::AgentRef> {
    Some(wire::AgentRef { namespace: "payments".into(), name: name.into(), ..wire::AgentRef::default() })
}

async fn agent(raised: &Raised, name: &str) -> wire::Agent {
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let request = wire::GetAgentRequest { agent: which(name), as_of: None };
    agents.get_agent(request).await.unwrap().into_inner().agent.unwrap()
}

/// The agent, as soon as it is so.
async fn agent_once(raised: &Raised, name: &str, is_so: impl Fn(&wire::Agent) -> bool) -> wire::Agent {
    let begin = Instant::now();
    loop {
        let agent = agent(raised, name).await;
        if is_so(&agent) {
            return agent;
        }
        assert!(begin.elapsed() < LONG, "{agent:?}");
        tokio::task::yield_now().await;
    }
}

async fn shown(raised: &Raised, agent: &wire::Agent) -> (Runtime, Shown) {
    let token = raised.enrolment_token(Holder::AgentId(id_of(agent))).await;
    let issuer = raised.remote("credential-issuer");
    let runtime = Runtime::new(&issuer, enrol(&issuer, &token).await.unwrap().identity().unwrap()).unwrap();
    let issued = runtime.token(AUDIENCE).await.unwrap();
    let presenter = runtime.identity().x5t_s256().unwrap();
    (runtime, Shown { token: issued.access_token, presenter })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sponsor_leaves_and_what_nobody_answers_for_stops() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let mut declarations = declared(&payments.agent, "heired", MANAGER);
    declarations.extend(declared(&payments.agent, "lonely", ""));
    let mut declare = DeclarationServiceClient::new(raised.operator("registry"));
    let request = wire::ApplyDeclarationsRequest {
        declarations: declarations.clone(),
        reason: "a test".into(),
        ..wire::ApplyDeclarationsRequest::default()
    };
    declare.apply_declarations(request.clone()).await.unwrap();
    let (_heired, shown_heired) = shown(&raised, &agent(&raised, "heired").await).await;
    let (lonely, shown_lonely) = shown(&raised, &agent(&raised, "lonely").await).await;
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let may = |shown: &Shown, at| at_least(question(shown, "invoice:read", "apollo/1001"), at);

    let mut departures = DepartureServiceClient::new(raised.operator("registry"));
    let leave = wire::OffboardPersonRequest {
        person: SPONSOR.into(),
        grace: Some(prost_types::Duration::default()),
        reason: "left the company".into(),
        ..wire::OffboardPersonRequest::default()
    };
    let preview = wire::OffboardPersonRequest { validate_only: true, reason: String::new(), ..leave.clone() };
    let preview = departures.offboard_person(preview).await.unwrap().into_inner().preview.unwrap();
    assert_eq!((preview.agents_named, preview.agents_passing, preview.agents_orphaned), (2, 1, 1));
    assert_eq!(preview.orphans, ["payments/lonely"]);
    departures.offboard_person(leave).await.unwrap();

    // The one has a sponsor, and goes on with what it holds.
    let heired = agent_once(&raised, "heired", |agent| agent.spec.as_ref().unwrap().sponsors == [MANAGER]).await;
    let at = heired.metadata.unwrap().revision;
    assert_eq!(word(&ask(&backend, may(&shown_heired, at)).await), "ALLOWED");
    // The other has none, and no grace.
    let is_stopped = |agent: &wire::Agent| agent.status.as_ref().unwrap().state() == wire::AgentState::Suspended;
    let stopped = agent_once(&raised, "lonely", is_stopped).await;
    assert!(stopped.status.as_ref().unwrap().orphaned_time.is_some());
    let at = stopped.metadata.as_ref().unwrap().revision;
    assert_eq!(word(&ask(&backend, may(&shown_lonely, at)).await), "AGENT_SUSPENDED");
    assert!(lonely.renew().await.is_err() && lonely.token(AUDIENCE).await.is_err());

    // The old manifest names somebody who left.
    let refused = declare.apply_declarations(request).await.unwrap_err();
    let told = Told::from_status(&refused);
    assert_eq!(told.reason, "PERSON_DEPARTED", "{told:?}");
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let resume = wire::ResumeAgentRequest { agent: which("lonely"), reason: "back".into(), ..Default::default() };
    let refused = agents.resume_agent(resume.clone()).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "AGENT_ORPHANED");

    // Somebody who is here answers for it.
    let mut named = stopped.clone();
    named.spec.as_mut().unwrap().sponsors = vec![MANAGER.into()];
    let request = wire::UpdateDeclarationRequest {
        declaration: Some(wire::Declaration { object: Some(Object::Agent(named)) }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["spec.sponsors".into()] }),
        reason: "joan takes it".into(),
        ..wire::UpdateDeclarationRequest::default()
    };
    declare.update_declaration(request).await.unwrap();
    let resumed = agents.resume_agent(resume).await.unwrap().into_inner();
    assert_eq!(resumed.agent.unwrap().status.unwrap().orphaned_time, None);
    // What was issued before stays dead.
    assert_eq!(word(&ask(&backend, may(&shown_lonely, resumed.revision)).await), "TOKEN_OUTLIVED");
    let (_again, shown_again) = shown(&raised, &agent(&raised, "lonely").await).await;
    assert_eq!(word(&ask(&backend, may(&shown_again, resumed.revision)).await), "ALLOWED");

    // All of it is in the log.
    let mut log = QueryServiceClient::new(raised.operator("audit-collector"));
    for kind in ["person.offboarded", "agent.passed_on", "agent.orphaned", "agent.suspended"] {
        let begin = Instant::now();
        loop {
            let request = QueryEventsRequest { r#type: kind.into(), ..QueryEventsRequest::default() };
            if log.query_events(request).await.unwrap().into_inner().events.len() == 1 {
                break;
            }
            assert!(begin.elapsed() < LONG, "{kind} is not in the log once");
            tokio::task::yield_now().await;
        }
    }
    raised.suite.shutdown().await;
}
