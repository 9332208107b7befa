//! What must hold whatever happens (I1, I2, I5, I6), tried against a raised suite while others work on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use legate_client::{Runtime, enrol};
use legate_rpc::Client;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{EnforcementPointRef, ListCredentialsRequest, RevokeCredentialRequest};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{EvaluateRequest, Subject, subject};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    AgentRef, ApplyDeclarationsRequest, Declaration, EnforcementPoint, EnforcementPointSpec, ListAgentsRequest,
    Metadata, Namespace, NamespaceSpec, ResumeAgentRequest, SuspendAgentRequest, declaration,
};

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, LONG, Raised, id_of};

/// Rounds of suspending and resuming.
const ROUNDS: usize = 20;
/// Those who ask at the same time.
const ASKERS: usize = 4;

/// What the askers share with the operator: the revision of the last suspension that was acknowledged, and when.
struct Stopped {
    revision: AtomicU64,
    since: parking_lot::Mutex<Option<Instant>>,
    over: AtomicBool,
}

/// Asks with a token until it is over; the longest time after a suspension at which it was still allowed.
async fn keep_asking(backend: Client, shown: Shown, stopped: Arc<Stopped>) -> Duration {
    let mut latest = Duration::ZERO;
    while !stopped.over.load(Ordering::SeqCst) {
        let before = stopped.revision.load(Ordering::SeqCst);
        let since = *stopped.since.lock();
        let begun = Instant::now();
        let answer = ask(&backend, question(&shown, "invoice:read", "apollo/1")).await;
        if word(&answer) == "ALLOWED" {
            // I1: acknowledged before the question was asked, so no answer may rest on it or on anything later.
            assert!(before == 0 || answer.revision < before, "I1: allowed at {}: {answer:?}", answer.revision);
            if let Some(since) = since {
                latest = latest.max(begun.saturating_duration_since(since));
            }
        }
    }
    latest
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_allowed_at_or_after_a_suspension_however_many_ask() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let id = id_of(&payments.agent);
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let which = || Some(AgentRef { id: id.clone(), ..AgentRef::default() });
    let mut latest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let enrolment = raised.enrolment_token(Holder::AgentId(id.clone())).await;
        let enrolled = enrol(&raised.remote("credential-issuer"), &enrolment).await;
        // What would be issued in the second of the cut-off is refused; a little later it is not.
        let enrolled = match enrolled {
            Err(refused) if refused.reason() == "CUT_OFF_TOO_RECENT" => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                enrol(&raised.remote("credential-issuer"), &enrolment).await.unwrap()
            }
            other => other.unwrap(),
        };
        let runtime = Runtime::new(&raised.remote("credential-issuer"), enrolled.identity().unwrap()).unwrap();
        let token = runtime.token(AUDIENCE).await.unwrap();
        let shown = Shown { token: token.access_token, presenter: runtime.identity().x5t_s256().unwrap() };
        let first = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), token.revision)).await;
        assert_eq!(word(&first), "ALLOWED");
        let stopped = Arc::new(Stopped {
            revision: AtomicU64::new(0),
            since: parking_lot::Mutex::new(None),
            over: AtomicBool::new(false),
        });
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| tokio::spawn(keep_asking(backend.clone(), shown.clone(), Arc::clone(&stopped))))
            .collect();
        let racing = {
            let runtime = runtime.clone();
            tokio::spawn(async move { runtime.token(AUDIENCE).await })
        };
        let request = SuspendAgentRequest { agent: which(), reason: "a race".into(), ..Default::default() };
        let revision = agents.suspend_agent(request).await.unwrap().into_inner().revision;
        *stopped.since.lock() = Some(Instant::now());
        stopped.revision.store(revision, Ordering::SeqCst);
        let denied = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), revision)).await;
        assert_eq!(word(&denied), "AGENT_SUSPENDED");
        let raced = racing.await.unwrap();
        stopped.over.store(true, Ordering::SeqCst);
        for asker in askers {
            latest = latest.max(asker.await.unwrap());
        }
        let request = ResumeAgentRequest { agent: which(), reason: "a race".into(), ..Default::default() };
        let resumed = agents.resume_agent(request).await.unwrap().into_inner().revision;
        if let Ok(raced) = raced {
            // Minted in the race: it was dead on arrival, and stays so.
            assert!(raced.revision < revision, "I1: a token at revision {} of {revision}", raced.revision);
            let shown = Shown { token: raced.access_token, ..shown };
            let answer = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), resumed)).await;
            assert_eq!(word(&answer), "TOKEN_OUTLIVED");
        }
    }
    // I2, by the asker's clock: a question that was begun so long after the acknowledgement was still allowed.
    assert!(latest < Duration::from_secs(1), "I2: allowed {latest:?} after a suspension");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_credential_is_cut_off_and_does_not_come_back() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let token = payments.runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: token.access_token, presenter: payments.runtime.identity().x5t_s256().unwrap() };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let mut admin = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
    let request = RevokeCredentialRequest {
        credential_id: payments.enrolled.credential.id.clone(),
        comment: "stolen".into(),
        ..RevokeCredentialRequest::default()
    };
    let revoked = admin.revoke_credential(request).await.unwrap().into_inner();
    let answer = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), revoked.revision)).await;
    assert_eq!(word(&answer), "CREDENTIAL_REVOKED");
    // Over the connection of before, and over a new one: TLS resumes nothing.
    assert!(payments.runtime.token(AUDIENCE).await.is_err());
    let again = Runtime::new(&raised.remote("credential-issuer"), payments.enrolled.identity().unwrap()).unwrap();
    let begin = Instant::now();
    loop {
        let refused = again.token(AUDIENCE).await.unwrap_err();
        if refused.reason() == "CALLER_REVOKED" {
            break;
        }
        // Cut off in the midst of the call: said by nobody, so it is tried again.
        assert!(refused.reason().is_empty() && begin.elapsed() < LONG, "{refused}");
    }
    assert!(again.renew().await.is_err());
    let request = ListCredentialsRequest { agent_id: id_of(&payments.agent), ..Default::default() };
    let listed = admin.list_credentials(request).await.unwrap().into_inner().credentials;
    assert!(listed.iter().any(|c| c.revoke_time.is_some()), "{listed:?}");
    raised.suite.shutdown().await;
}

/// A namespace of somebody else's, with a backend that may assert whom it asks about.
async fn another_namespace(raised: &Raised) -> Client {
    let metadata = |name: &str, namespace: &str| {
        Some(Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() })
    };
    let spec = NamespaceSpec { owners: vec!["user:eve@example.com".into()], ..NamespaceSpec::default() };
    let namespace = Namespace { metadata: metadata("travel", ""), spec: Some(spec), status: None };
    let spec = EnforcementPointSpec {
        resource_types: vec!["Invoice".into()],
        audiences: vec!["https://travel.example.com".into()],
        may_assert_subject: true,
        ..EnforcementPointSpec::default()
    };
    let point = EnforcementPoint { metadata: metadata("desk", "travel"), spec: Some(spec), spiffe_id: String::new() };
    let objects = [declaration::Object::Namespace(namespace), declaration::Object::EnforcementPoint(point)];
    let declarations = objects.map(|object| Declaration { object: Some(object) }).to_vec();
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await.unwrap();
    let point = EnforcementPointRef { namespace: "travel".into(), name: "desk".into() };
    let enrolment = raised.enrolment_token(Holder::EnforcementPoint(point)).await;
    let enrolled = enrol(&raised.remote("credential-issuer"), &enrolment).await.unwrap();
    raised.dial("policy-decision", enrolled.identity().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_shown_what_belongs_to_another_namespace() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let desk = another_namespace(&raised).await;
    let token = payments.runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: token.access_token, presenter: payments.runtime.identity().x5t_s256().unwrap() };
    let with_token = question(&shown, "invoice:read", "apollo/1");
    let of_id = |id: String| EvaluateRequest {
        subject: Some(Subject { agent: Some(subject::Agent::AgentId(id)), ..Subject::default() }),
        ..with_token.clone()
    };
    // I6: an agent of another namespace is told from one that never was by nothing in the answer.
    let theirs = ask(&desk, of_id(id_of(&payments.agent))).await;
    let never = ask(&desk, of_id("agt_01jaaaaaaaaaaaaaaaaaaaaaaa".into())).await;
    for answer in [&theirs, &never] {
        assert_eq!(word(answer), "AGENT_UNKNOWN");
        assert!(answer.agent_id.is_empty() && answer.log_only.is_empty(), "{answer:?}");
    }
    let names = |answer: &legate_wire::policy::EvaluateResponse| {
        answer.reasons.iter().map(|r| (r.kind, r.name.clone(), r.version)).collect::<Vec<_>>()
    };
    assert_eq!(names(&theirs), names(&never));
    let answer = ask(&desk, with_token.clone()).await;
    assert_eq!(word(&answer), "TOKEN_AUDIENCE");
    assert!(answer.agent_id.is_empty() && !format!("{answer:?}").contains("invoice-bot"), "{answer:?}");

    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let request = ListAgentsRequest { namespace: "travel".into(), ..ListAgentsRequest::default() };
    assert!(agents.list_agents(request).await.unwrap().into_inner().agents.is_empty());
    let mut refused = DecisionServiceClient::new(raised.dial("policy-decision", payments.backend));
    let told = refused.evaluate(of_id(id_of(&payments.agent))).await.unwrap_err();
    assert_eq!(legate_rpc::Told::from_status(&told).reason, "SUBJECT_NOT_PROVEN");
    raised.suite.shutdown().await;
}
