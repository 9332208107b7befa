//! Why it was decided so, who can, what somebody can, and what a change would turn: asked over real mutual TLS.

use std::collections::BTreeMap;

use legate_rpc::{Client, Told};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{
    Certainty, EvaluateRequest, ExplainRequest, NearMissKind, ReplayRequest, Resource, SimulateRequest, Subject,
    WhatCanRequest, WhoCanRequest, subject,
};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentRef, AsOf, Declaration, Metadata, Policy, PolicyMode, PolicySpec, SuspendAgentRequest,
};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::asking;
use crate::raised::{Raised, id_of};

fn about(id: &str, action: &str, resource: &str) -> EvaluateRequest {
    EvaluateRequest {
        subject: Some(Subject { agent: Some(subject::Agent::AgentId(id.into())), ..Subject::default() }),
        action: action.into(),
        resource: Some(Resource { r#type: "Invoice".into(), id: resource.into(), attributes: None }),
        ..EvaluateRequest::default()
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> String {
    Told::from_status(&result.unwrap_err()).reason
}

fn decisions(client: Client) -> DecisionServiceClient<Client> {
    DecisionServiceClient::new(client)
}

/// A question about authority, and its answer.
pub(crate) async fn ask_what_the_agent_can(raised: &Raised) {
    let declared = raised.apply().await;
    let agent_id = id_of(&raised.agent().await);
    let ask = WhatCanRequest { agent_id, at_least_revision: declared, ..WhatCanRequest::default() };
    decisions(raised.operator("policy-decision")).what_can(ask).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_explained_now_and_as_it_was() {
    let raised = Raised::new().await;
    let declared = raised.apply().await;
    let id = id_of(&raised.agent().await);
    let mut policy = decisions(raised.operator("policy-decision"));
    let explain = |question: EvaluateRequest, at: Option<At>| ExplainRequest {
        question: Some(question),
        as_of: at.map(|at| AsOf { at: Some(at) }),
        at_time: None,
    };
    let question = asking::at_least(about(&id, "invoice:read", "apollo/1001"), declared);
    let allowed = policy.explain(explain(question, None)).await.unwrap().into_inner();
    assert_eq!(allowed.answer.as_ref().unwrap().reason_code, "ALLOWED", "{allowed:?}");
    assert!(allowed.origins.len() >= 4 && allowed.origins_note.is_empty(), "{:?}", allowed.origins_note);
    let wrote = |origin: &legate_wire::policy::ObjectOrigin| origin.updated_by.contains("/legate/operator/");
    assert!(allowed.origins.iter().all(wrote), "{:?}", allowed.origins);
    assert!(allowed.origins.iter().all(|origin| origin.object.as_ref().unwrap().revision <= declared));

    let which = Some(AgentRef { id: id.clone(), ..AgentRef::default() });
    let request = SuspendAgentRequest { agent: which, reason: "odd reads".into(), ..Default::default() };
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let suspended = agents.suspend_agent(request).await.unwrap().into_inner().revision;
    let question = asking::at_least(about(&id, "invoice:read", "apollo/1001"), suspended);
    let denied = policy.explain(explain(question, None)).await.unwrap().into_inner();
    assert_eq!(denied.answer.as_ref().unwrap().reason_code, "AGENT_SUSPENDED");
    assert_eq!(denied.near_misses[0].kind(), NearMissKind::Start, "{:?}", denied.near_misses);
    // As it was before, by revision; what is to come is refused.
    let was = policy.explain(explain(about(&id, "invoice:read", "apollo/1001"), Some(At::Revision(declared)))).await;
    let was = was.unwrap().into_inner();
    let answer = was.answer.as_ref().unwrap();
    assert_eq!((answer.reason_code.as_str(), answer.revision, was.is_past), ("ALLOWED", declared, true));
    assert!(answer.valid_until.is_none() && answer.view_age.is_none() && was.judged_time.is_some());
    let future = explain(about(&id, "invoice:read", "apollo/1001"), Some(At::Revision(suspended + 9)));
    assert_eq!(reason(policy.explain(future).await), "REVISION_UNKNOWN");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_is_searched_and_a_change_is_tried_on_what_was_decided() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let declared = raised.apply().await;
    let id = id_of(&raised.agent().await);
    let mut policy = decisions(raised.operator("policy-decision"));
    let ask = WhatCanRequest { agent_id: id.clone(), at_least_revision: declared, ..WhatCanRequest::default() };
    let can = policy.what_can(ask.clone()).await.unwrap().into_inner();
    let reads = can.entitlements.iter().find(|one| one.action == "invoice:read").unwrap();
    assert_ne!(reads.certainty(), Certainty::Never);
    let who = WhoCanRequest {
        action: "invoice:read".into(),
        resource: about(&id, "invoice:read", "apollo/1001").resource,
        ..WhoCanRequest::default()
    };
    let found = policy.who_can(who.clone()).await.unwrap().into_inner();
    let names: Vec<_> = found.holders.iter().map(|holder| (holder.name.as_str(), holder.certainty())).collect();
    assert_eq!(names, [("invoice-bot", Certainty::Always)]);
    // The backend has no right to ask any of it.
    let mut backend = decisions(raised.dial("policy-decision", payments.backend.clone()));
    let question = Some(about(&id, "invoice:read", "apollo/1001"));
    let explain = ExplainRequest { question, ..ExplainRequest::default() };
    assert_eq!(reason(backend.who_can(who.clone()).await), "CALLER_MAY_NOT_SEARCH");
    assert_eq!(reason(backend.what_can(ask).await), "CALLER_MAY_NOT_SEARCH");
    assert_eq!(reason(backend.simulate(SimulateRequest::default()).await), "ACCESS_DENIED");
    assert!(
        ["CALLER_MAY_NOT_EXPLAIN", "SUBJECT_NOT_PROVEN"].contains(&reason(backend.explain(explain).await).as_str())
    );
    // Edited, and too much.
    let edited = WhoCanRequest { page_token: "00.00".into(), ..who.clone() };
    assert_eq!(reason(policy.who_can(edited).await), "PAGE_TOKEN_INVALID");
    let text = Value { kind: Some(Kind::StringValue("x".repeat(70_000))) };
    let huge = Some(Struct { fields: BTreeMap::from([("a".to_owned(), text)]) });
    assert_eq!(reason(policy.who_can(WhoCanRequest { context: huge, ..who }).await), "QUESTION_INVALID");

    // Nothing gives it this one, whatever was stated.
    policy.evaluate(about(&id, "invoice:destroy", "apollo/1001")).await.unwrap();
    for _ in 0..3 {
        policy.evaluate(about(&id, "invoice:read", "apollo/1001")).await.unwrap();
    }
    let metadata = Metadata { namespace: "payments".into(), name: "never".into(), ..Metadata::default() };
    let spec = PolicySpec {
        cedar: "forbid(principal, action, resource);".into(),
        mode: PolicyMode::Enforce.into(),
        ..PolicySpec::default()
    };
    let object = Object::Policy(Policy { metadata: Some(metadata), spec: Some(spec) });
    let simulate = SimulateRequest {
        declarations: vec![Declaration { object: Some(object) }],
        window: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..SimulateRequest::default()
    };
    // They come to the log and its index in their own time; one answer after the other is asked for until they have.
    let told = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let told = policy.simulate(simulate.clone()).await.unwrap().into_inner();
            if told.to_deny >= 3 {
                return told;
            }
            tokio::task::yield_now().await;
        }
    });
    let told = told.await.unwrap();
    assert!(told.to_allow == 0 && told.decisions >= 3, "{told:?}");
    assert_eq!((told.flips[0].name.as_str(), told.flips[0].was_allowed), ("invoice-bot", true));
    // Made once more by the registry's history, none comes out otherwise; a policy looks at an attribute that is not on record.
    let replay = ReplayRequest {
        namespace: "payments".into(),
        from_time: told.from_time,
        to_time: told.to_time,
        ..ReplayRequest::default()
    };
    assert_eq!(reason(backend.replay(replay.clone()).await), "ACCESS_DENIED");
    let replayed = policy.replay(replay.clone()).await.unwrap().into_inner();
    let counts = (replayed.decisions, replayed.same, replayed.unsure, replayed.differ);
    assert_eq!((counts, replayed.unsure_on.len()), ((4, 1, 3, 0), 1), "{replayed:?}");
    let backwards = ReplayRequest { from_time: replay.to_time, to_time: replay.from_time, ..replay };
    assert_eq!(reason(policy.replay(backwards).await), "QUESTION_INVALID");
    raised.suite.shutdown().await;
}
