//! The main job, end to end, on a raised suite: register, enrol, decide, stop, prove.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use legate_client::enrol;
use legate_rpc::Told;
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{ActingMode, AuditEvent, GetCheckpointRequest, Outcome, QueryEventsRequest};
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::policy::Denial;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AgentRef, ResumeAgentRequest, SuspendAgentRequest};

use crate::asking::{Shown, ask, at_least, question, sealed, word};
use crate::log::{self, Log};
use crate::raised::{AUDIENCE, LONG, Raised, id_of};

/// So many runtimes use one token at once.
const RUNTIMES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_registered_certified_asked_about_stopped_and_proved() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let id = id_of(&payments.agent);
    let which = || Some(AgentRef { id: id.clone(), ..AgentRef::default() });

    // Of fifty uses of one token, one gives a certificate.
    let token = raised.enrolment_token(Holder::AgentId(id.clone())).await;
    let issuer = raised.remote("credential-issuer");
    let uses: Vec<_> = (0..RUNTIMES)
        .map(|_| {
            let (issuer, token) = (issuer.clone(), token.clone());
            tokio::spawn(async move { enrol(&issuer, &token).await })
        })
        .collect();
    let mut winners = 0;
    for one in uses {
        match one.await.unwrap() {
            Ok(_) => winners += 1,
            Err(refused) => assert_eq!(refused.reason(), "ENROLMENT_TOKEN_SPENT", "{refused}"),
        }
    }
    assert_eq!(winners, 1);

    // The token is for five minutes, one audience and one certificate.
    let issued = payments.runtime.token(AUDIENCE).await.unwrap();
    let shown =
        Shown { token: issued.access_token.clone(), presenter: payments.runtime.identity().x5t_s256().unwrap() };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let first = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1001"), issued.revision)).await;
    assert_eq!(word(&first), "ALLOWED");
    assert_eq!(first.agent_id, id);
    assert!(first.reasons.iter().any(|r| r.name == "payments/invoice-bot-reads-apollo"), "{:?}", first.reasons);
    let other = Shown { presenter: [7; 32], ..shown.clone() };
    for (request, denial, reason) in [
        (question(&shown, "invoice:read", "zeus/7"), Denial::NotPermitted, "BINDING_NARROWED"),
        (question(&shown, "invoice:pay", "apollo/1001"), Denial::NotPermitted, "NOT_PERMITTED"),
        (sealed(question(&shown, "invoice:read", "apollo/1002")), Denial::Forbidden, "FORBIDDEN_BY_POLICY"),
        (question(&other, "invoice:read", "apollo/1001"), Denial::NotPermitted, "TOKEN_BINDING"),
    ] {
        let answer = ask(&backend, request).await;
        assert_eq!((word(&answer), answer.denial()), (reason, denial));
        assert!(!answer.reasons.is_empty() && !answer.message.is_empty(), "{answer:?}");
    }

    // Stopped: denied within the promised second, cut off, and nothing new.
    let connections = raised.suite.running("credential-issuer").unwrap().serving().connections();
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let request = SuspendAgentRequest { agent: which(), reason: "odd reads".into(), ..Default::default() };
    let suspended = agents.suspend_agent(request).await.unwrap().into_inner();
    let acked = Instant::now();
    let mut answer = ask(&backend, question(&shown, "invoice:read", "apollo/1001")).await;
    while word(&answer) == "ALLOWED" {
        assert!(answer.revision < suspended.revision && acked.elapsed() < LONG, "{answer:?}");
        answer = ask(&backend, question(&shown, "invoice:read", "apollo/1001")).await;
    }
    assert_eq!(word(&answer), "AGENT_SUSPENDED");
    assert!(acked.elapsed() < Duration::from_secs(1), "denied after {:?}", acked.elapsed());
    let presenter = shown.presenter;
    let is_the_agents = |peer: &legate_mtls::Peer| peer.x5t_s256 == presenter;
    while connections.cut(is_the_agents) > 0 {
        assert!(acked.elapsed() < Duration::from_secs(5), "the agent's connection is still open");
        tokio::task::yield_now().await;
    }
    assert!(payments.runtime.renew().await.is_err());
    assert!(payments.runtime.token(AUDIENCE).await.is_err());

    // Resumed: the old token stays dead, a new credential works.
    let request = ResumeAgentRequest { agent: which(), reason: "explained".into(), ..Default::default() };
    let resumed = agents.resume_agent(request).await.unwrap().into_inner();
    let old = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1001"), resumed.revision)).await;
    assert_eq!(word(&old), "TOKEN_OUTLIVED");

    let told = what_was_recorded(&raised, &id).await;
    assert!(told.contains(&"decision.made".to_owned()), "{told:?}");
    for kind in ["agent.created", "credential.issued", "token.issued", "agent.suspended", "agent.resumed"] {
        assert!(told.iter().any(|t| t == kind), "{kind} is not among {told:?}");
    }

    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    proves(&dir, &first.decision_id);
}

/// Tokens that are asked for at once are asked about together, and each stays a matter of its own.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_tokens_at_once_is_decided_and_recorded_within_its_own_call() {
    const TOKENS: usize = 64;
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let runtime = &payments.runtime;
    // From here on it is known how far policy-decision is.
    runtime.token(AUDIENCE).await.unwrap();
    let nowhere = "https://nowhere.example.com";
    let asked = (0..TOKENS).map(|n| runtime.token(if n % 8 == 3 { nowhere } else { AUDIENCE }));
    let answers = futures_util::future::join_all(asked).await;
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(_) => assert_ne!(n % 8, 3),
            Err(refused) => assert_eq!((n % 8, refused.reason()), (3, "INVALID_TARGET"), "{refused}"),
        }
    }

    let issued = 1 + TOKENS - TOKENS / 8;
    let mut queries = QueryServiceClient::new(raised.operator("audit-collector"));
    let begin = Instant::now();
    let mut of_type = async |kind: &str| loop {
        let ask = QueryEventsRequest { r#type: kind.to_owned(), page_size: 1_000, ..Default::default() };
        let events = queries.query_events(ask).await.unwrap().into_inner().events;
        let events: Vec<_> = events.into_iter().map(|e| e.event.unwrap_or_default()).collect();
        if events.len() >= issued {
            break events;
        }
        assert!(begin.elapsed() < LONG, "{} of {issued} {kind} are on record", events.len());
    };
    let by_decision = |events: Vec<AuditEvent>| -> BTreeMap<String, String> {
        events.into_iter().map(|e| (e.decision.unwrap_or_default().decision_id, e.trace_id)).collect()
    };
    let decided = by_decision(of_type("issuance.decided").await);
    let tokens = by_decision(of_type("token.issued").await);
    assert_eq!(decided, tokens, "a decision is recorded within the trace of the token that it is about");
    assert_eq!(tokens.len(), issued, "each rests on a decision of its own");
    assert_eq!(tokens.values().collect::<BTreeSet<_>>().len(), issued, "each call is a trace of its own");
    raised.suite.shutdown().await;
}

/// The types of the events about an agent, once the last is there.
async fn what_was_recorded(raised: &Raised, id: &str) -> Vec<String> {
    let mut queries = QueryServiceClient::new(raised.operator("audit-collector"));
    let begin = Instant::now();
    loop {
        let ask = QueryEventsRequest { agent_id: id.to_owned(), page_size: 1_000, ..Default::default() };
        let events = queries.query_events(ask).await.unwrap().into_inner().events;
        let events: Vec<_> = events.into_iter().map(|e| e.event.unwrap_or_default()).collect();
        if events.iter().any(|e| e.reason_code == "TOKEN_OUTLIVED") {
            let suspended = events.iter().find(|e| e.r#type == "agent.suspended").unwrap();
            assert_eq!(suspended.actor, "spiffe://dev.legate/legate/operator/dev");
            assert_eq!(suspended.reason, "odd reads");
            let denied = events.iter().find(|e| e.reason_code == "BINDING_NARROWED").unwrap();
            assert_eq!((denied.outcome(), denied.acting_mode()), (Outcome::Denied, ActingMode::Autonomous));
            assert!(denied.actor.ends_with("/ns/payments/enforcer/invoices"), "{denied:?}");
            assert_eq!(denied.resource.as_ref().map(|r| r.id.as_str()), Some("zeus/7"));
            assert!(denied.time.is_some() && denied.revision > 0);
            return events.into_iter().map(|e| e.r#type).collect();
        }
        assert!(
            begin.elapsed() < LONG,
            "the last decision has not come into the log: {:#?}",
            events.iter().map(|e| (&e.r#type, &e.reason_code, e.revision)).collect::<Vec<_>>()
        );
        tokio::task::yield_now().await;
    }
}

/// The log holds what happened, and shows an edited byte and a cut tail.
fn proves(dir: &std::path::Path, decision: &str) {
    let whole = Log::read(dir);
    assert!(whole.has_decision(decision));
    assert!(whole.of_type("credential.issued").count() >= 3);

    let at = whole.events.iter().position(|e| e.r#type == "agent.suspended").unwrap();
    let bundle = legate_merkle::new_tiles(0, whole.checkpoint.size)
        .into_iter()
        .find(|t| t.kind == legate_merkle::TileKind::Entries && t.index == at as u64 / 256)
        .unwrap();
    let file = dir.join(bundle.to_string());
    let good = std::fs::read(&file).unwrap();
    let mut edited = good.clone();
    let words = good.windows(9).position(|w| w == b"odd reads").unwrap();
    edited[words] ^= 1;
    std::fs::write(&file, &edited).unwrap();
    let found = log::verify(dir, None).unwrap_err().to_string();
    assert!(found.contains(&format!("entry {at} ")), "{found}");
    std::fs::write(&file, &good).unwrap();

    let kept = log::checkpoint(dir);
    let mut longer = kept.clone();
    longer.size += 1;
    let found = log::verify(dir, Some(&longer)).unwrap_err().to_string();
    assert!(found.contains("its tail was cut"), "{found}");
    log::verify(dir, Some(&kept)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_comes_back_on_its_directory_with_everything_in_it() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    // When it was last used is heard of the log in its own time, and is not declared.
    let declared = |mut agent: legate_wire::registry::Agent| {
        agent.status.as_mut().unwrap().last_used_time = None;
        agent
    };
    let before = declared(raised.agent().await);
    let mut proofs = ProofServiceClient::new(raised.operator("audit-collector"));
    let told = proofs.get_checkpoint(GetCheckpointRequest::default()).await.unwrap().into_inner();
    let again = raised.again().await;
    assert_eq!(declared(again.agent().await), before);
    let mut proofs = ProofServiceClient::new(again.operator("audit-collector"));
    let later = proofs.get_checkpoint(GetCheckpointRequest::default()).await.unwrap().into_inner();
    assert_eq!(later.verifier_key, told.verifier_key);
    assert!(later.tree_size > told.tree_size);
    // The certificate of before still opens the door, and the token still holds.
    let runtime =
        legate_client::Runtime::new(&again.remote("credential-issuer"), payments.enrolled.identity().unwrap()).unwrap();
    let issued = runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: issued.access_token, presenter: runtime.identity().x5t_s256().unwrap() };
    let backend = again.dial("policy-decision", payments.backend.clone());
    let answer = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), issued.revision)).await;
    assert_eq!(word(&answer), "ALLOWED");
    again.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_why_and_what_to_do() {
    let raised = Raised::new().await;
    raised.apply().await;
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let nobody = AgentRef { namespace: "payments".into(), name: "nobody".into(), ..AgentRef::default() };
    let request = SuspendAgentRequest { agent: Some(nobody), reason: "x".into(), ..Default::default() };
    let told = Told::from_status(&agents.suspend_agent(request).await.unwrap_err());
    assert_eq!((told.code, told.reason.as_str()), (legate_rpc::Code::NotFound, "AGENT_NOT_FOUND"));
    assert!(told.message.contains("nobody") && !told.cure.is_empty(), "{told:?}");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_carries_the_trace_of_the_call_that_caused_it() {
    use tonic::metadata::MetadataValue;
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let traced = MetadataValue::try_from(format!("00-{TRACE}-00f067aa0ba902b7-01")).unwrap();
    let which = AgentRef { id: id_of(&payments.agent), ..AgentRef::default() };
    let request = SuspendAgentRequest { agent: Some(which), reason: "traced".into(), ..Default::default() };
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("traceparent", traced);
    AgentServiceClient::new(raised.operator("registry")).suspend_agent(request).await.unwrap();
    let mut queries = QueryServiceClient::new(raised.operator("audit-collector"));
    let begin = Instant::now();
    let found = loop {
        let ask = QueryEventsRequest { trace_id: TRACE.into(), ..Default::default() };
        let events = queries.query_events(ask).await.unwrap().into_inner().events;
        if !events.is_empty() {
            break events;
        }
        assert!(begin.elapsed() < LONG, "no event of the trace has come");
    };
    assert!(found.iter().all(|e| e.event.as_ref().is_some_and(|e| e.r#type == "agent.suspended")), "{found:?}");
    raised.suite.shutdown().await;
}
