//! Processes that are killed, stopped or deaf: nothing that was acknowledged is lost, and nobody is let in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use legate_client::{Remote, enrol};
use legate_rpc::Client;
use legate_wire::credential::CreateEnrolmentTokenRequest;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    AgentRef, ApplyDeclarationsRequest, Declaration, Metadata, Namespace, NamespaceSpec, SuspendAgentRequest,
    declaration,
};

use crate::asking::{ask, at_least, question, word};
use crate::log::Log;
use crate::processes::{Parties, Processes};
use crate::raised::{AUDIENCE, LONG};

/// What was acknowledged to somebody.
#[derive(Debug, Default)]
struct Acknowledged {
    revisions: BTreeSet<u64>,
    decisions: BTreeSet<String>,
    tokens: BTreeSet<String>,
    certificates: BTreeSet<String>,
}

/// Whom the work is done with.
struct Desk {
    registry: Client,
    admin: Client,
    issuer: Remote,
    parties: Arc<Parties>,
}

/// Enrols with a new one-time token. When the answer is lost, another key tries the same token: one of both gets a certificate
/// at most.
async fn enrol_once(desk: &Desk) -> Option<String> {
    let mut admin = CredentialAdminServiceClient::new(desk.admin.clone());
    let holder = Some(Holder::AgentId(desk.parties.agent.clone()));
    let request = CreateEnrolmentTokenRequest { holder, ttl: None, reason: "a test".into() };
    let token = admin.create_enrolment_token(request).await.ok()?.into_inner().token;
    let first = enrol(&desk.issuer, &token).await;
    let second = enrol(&desk.issuer, &token).await;
    assert!(first.is_err() || second.is_err(), "I5: a one-time token was used twice");
    first.or(second).ok().map(|enrolled| enrolled.credential.id)
}

/// Writes, asks and obtains until it is told to stop; only what was acknowledged is remembered.
async fn work(desk: Desk, over: Arc<AtomicBool>) -> Acknowledged {
    let parties = Arc::clone(&desk.parties);
    let mut told = Acknowledged::default();
    let mut declarations = DeclarationServiceClient::new(desk.registry.clone());
    let mut decisions = DecisionServiceClient::new(parties.backend.clone());
    let mut round = 0;
    while !over.load(Ordering::SeqCst) {
        round += 1;
        if let Ok(answer) = declarations.apply_declarations(namespace(round)).await {
            told.revisions.insert(answer.into_inner().revision);
        }
        let asked = question(&parties.shown, "invoice:read", &format!("apollo/{round}"));
        if let Ok(answer) = decisions.evaluate(asked).await {
            told.decisions.insert(answer.into_inner().decision_id);
        }
        if let Ok(token) = parties.runtime.token(AUDIENCE).await {
            told.tokens.insert(token.token_id);
        }
        told.certificates.extend(enrol_once(&desk).await);
    }
    told
}

fn namespace(round: u64) -> ApplyDeclarationsRequest {
    let metadata = Some(Metadata { name: "worked-on".into(), ..Metadata::default() });
    let spec = NamespaceSpec {
        display_name: format!("round {round}"),
        owners: vec!["user:ada@example.com".into()],
        ..NamespaceSpec::default()
    };
    let object = declaration::Object::Namespace(Namespace { metadata, spec: Some(spec), status: None });
    ApplyDeclarationsRequest {
        declarations: vec![Declaration { object: Some(object) }],
        reason: format!("round {round}"),
        ..ApplyDeclarationsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_loses_nothing_that_was_acknowledged() {
    let mut suite = Processes::start("warn").await;
    let parties = Arc::new(suite.parties().await);
    let over = Arc::new(AtomicBool::new(false));
    let desk = Desk {
        registry: suite.operator("registry"),
        admin: suite.operator("credential-issuer"),
        issuer: suite.remote("credential-issuer"),
        parties: Arc::clone(&parties),
    };
    let working = tokio::spawn(work(desk, Arc::clone(&over)));
    for _ in 0..2 {
        for service in ["policy-decision", "registry", "credential-issuer", "audit-collector"] {
            suite.crash(service).await;
            // Work goes on with it before the next one is killed.
            let asked = question(&parties.shown, "invoice:read", "apollo/1");
            let begin = Instant::now();
            while word_of(&parties, &asked).await.as_deref() != Some("ALLOWED") {
                assert!(begin.elapsed() < LONG, "no ALLOW after {service} came back: {}", suite.told(service));
            }
            while parties.runtime.token(AUDIENCE).await.is_err() {
                assert!(begin.elapsed() < LONG, "no token after {service} came back: {}", suite.told(service));
            }
        }
    }
    over.store(true, Ordering::SeqCst);
    let told = working.await.unwrap();
    suite.stop();

    let log = Log::read(&suite.audit_log());
    assert!(told.revisions.len() > 8 && told.decisions.len() > 8 && told.tokens.len() > 8, "{told:?}");
    let written: BTreeSet<u64> =
        log.of_type("namespace.updated").chain(log.of_type("namespace.created")).map(|e| e.revision).collect();
    let lost: Vec<_> = told.revisions.difference(&written).collect();
    assert!(lost.is_empty(), "writes of these revisions are not in the log: {lost:?}");
    let lost: Vec<_> = told.decisions.iter().filter(|id| !log.has_decision(id)).collect();
    assert!(lost.is_empty(), "decisions that were answered are not in the log: {lost:?}");
    let lost: Vec<_> = told.tokens.iter().filter(|id| !log.has_issuance(id)).collect();
    assert!(lost.is_empty(), "I4: tokens that were handed out are not in the log: {lost:?}");
    assert!(!told.certificates.is_empty());
    for id in &told.certificates {
        let issued = log.of_type("credential.issued").filter(|e| e.credential_id == *id).count();
        assert_eq!(issued, 1, "I4: {id} was handed out");
    }
    // The audit log was killed in the midst of its work, said so, and cut nothing that was acknowledged.
    assert_eq!(log.of_type("log.opened").count() + log.of_type("log.recovered").count(), 3, "{:?}", kinds(&log));
}

fn kinds(log: &Log) -> Vec<&str> {
    log.events.iter().filter(|e| e.r#type.starts_with("log.")).map(|e| e.r#type.as_str()).collect()
}

/// The reason of an answer, if there is one.
async fn word_of(parties: &Parties, request: &legate_wire::policy::EvaluateRequest) -> Option<String> {
    let answer = DecisionServiceClient::new(parties.backend.clone()).evaluate(request.clone()).await;
    answer.ok().map(|a| a.into_inner().reason_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_nobody_and_gets_everything_later() {
    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    suite.signal("audit-collector", "STOP");
    let mut slowest = Duration::ZERO;
    let mut decisions = Vec::new();
    let mut declarations = DeclarationServiceClient::new(suite.operator("registry"));
    let mut revisions = BTreeSet::new();
    let mut tokens = Vec::new();
    for round in 0..40 {
        let begin = Instant::now();
        let asked = question(&parties.shown, "invoice:read", &format!("apollo/{round}"));
        let answer = ask(&parties.backend, asked).await;
        assert_eq!(word(&answer), "ALLOWED");
        slowest = slowest.max(begin.elapsed());
        decisions.push(answer.decision_id);
        revisions.insert(declarations.apply_declarations(namespace(round)).await.unwrap().into_inner().revision);
        tokens.push(parties.runtime.token(AUDIENCE).await.unwrap().token_id);
    }
    assert!(slowest < Duration::from_millis(500), "a check waited {slowest:?} for a collector that hangs");
    suite.signal("audit-collector", "CONT");
    // Each shipper may be in the midst of waiting for an answer that it gave up.
    suite.kill("audit-collector");
    suite.spawn("audit-collector");
    suite.wait_until_serving("audit-collector").await;
    until_shipped(&suite, decisions.last().unwrap()).await;
    suite.stop();
    let log = Log::read(&suite.audit_log());
    assert!(decisions.iter().all(|id| log.has_decision(id)));
    assert!(tokens.iter().all(|id| log.has_issuance(id)));
    assert!(
        revisions.iter().all(|r| log.events.iter().any(|e| e.revision == *r && e.r#type.starts_with("namespace.")))
    );
}

/// Waits until a decision can be found in the log.
async fn until_shipped(suite: &Processes, decision: &str) {
    use legate_wire::audit::QueryEventsRequest;
    use legate_wire::audit::query_service_client::QueryServiceClient;
    let mut queries = QueryServiceClient::new(suite.operator("audit-collector"));
    let begin = Instant::now();
    loop {
        let ask = QueryEventsRequest { decision_id: decision.to_owned(), ..QueryEventsRequest::default() };
        if queries.query_events(ask).await.is_ok_and(|a| !a.into_inner().events.is_empty()) {
            return;
        }
        assert!(begin.elapsed() < LONG, "{decision} has not come: {}", suite.told("policy-decision"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_replica_that_slept_through_a_suspension_allows_nothing_when_it_wakes() {
    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    let asked = at_least(question(&parties.shown, "invoice:read", "apollo/1"), parties.revision);
    assert_eq!(word(&ask(&parties.backend, asked).await), "ALLOWED");
    suite.signal("policy-decision", "STOP");
    let which = Some(AgentRef { id: parties.agent.clone(), ..AgentRef::default() });
    let request = SuspendAgentRequest { agent: which, reason: "asleep".into(), ..SuspendAgentRequest::default() };
    let suspended = AgentServiceClient::new(suite.operator("registry")).suspend_agent(request).await.unwrap();
    let revision = suspended.into_inner().revision;
    // Asked while it sleeps, so that the answer is the first thing that it says.
    let early: Vec<_> = (0..8)
        .map(|n| {
            let mut backend = DecisionServiceClient::new(parties.backend.clone());
            let mut request = tonic::Request::new(question(&parties.shown, "invoice:read", &format!("apollo/{n}")));
            request.set_timeout(Duration::from_secs(30));
            tokio::spawn(async move { backend.evaluate(request).await })
        })
        .collect();
    // The bound of staleness has to pass in the machine's own time: the process that sleeps has no clock that we turn.
    tokio::time::sleep(Duration::from_millis(5_200)).await;
    suite.signal("policy-decision", "CONT");
    for answer in early {
        // Cut off, or answered; but never allowed.
        if let Ok(answer) = answer.await.unwrap() {
            let answer = answer.into_inner();
            assert!(matches!(word(&answer), "STALE" | "AGENT_SUSPENDED"), "{answer:?}");
            assert!(answer.reason_code == "STALE" || answer.revision >= revision, "{answer:?}");
        }
    }
    let begin = Instant::now();
    loop {
        let asked = at_least(question(&parties.shown, "invoice:read", "apollo/9"), revision);
        match word(&ask(&parties.backend, asked).await) {
            "AGENT_SUSPENDED" => break,
            // Until it has heard the registry again.
            other => assert!(other == "STALE" && begin.elapsed() < LONG, "{other}"),
        }
    }
    suite.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_registry_checks_are_denied_within_the_bound_and_nothing_is_issued() {
    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    suite.kill("registry");
    let begin = Instant::now();
    loop {
        let answer = ask(&parties.backend, question(&parties.shown, "invoice:read", "apollo/1")).await;
        let at = begin.elapsed();
        if answer.reason_code == "STALE" {
            break;
        }
        assert_eq!(word(&answer), "ALLOWED");
        assert!(at < Duration::from_millis(5_500), "still allowed {at:?} after the registry was lost");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The issuer's own view ends a moment before or after that of policy-decision.
    let unknown = ["CALLER_STANDING_UNKNOWN", "ISSUANCE_UNDECIDED", "VIEW_STALE"];
    let refused = parties.runtime.token(AUDIENCE).await.unwrap_err();
    assert!(unknown.contains(&refused.reason()), "{refused}");
    let begin = Instant::now();
    while parties.runtime.renew().await.map_err(|e| unknown.contains(&e.reason())) != Err(true) {
        assert!(begin.elapsed() < Duration::from_secs(1), "renewed {:?} after the bound", begin.elapsed());
    }
    suite.spawn("registry");
    suite.wait_until_serving("registry").await;
    let begin = Instant::now();
    while word_of(&parties, &question(&parties.shown, "invoice:read", "apollo/1")).await.as_deref() != Some("ALLOWED") {
        assert!(begin.elapsed() < LONG, "not allowed again: {}", suite.told("policy-decision"));
    }
    suite.stop();
    Log::read(&suite.audit_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_told_as_such_and_what_is_read_stays_readable() {
    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    let url = format!("sqlite:{}", suite.root().join("registry/registry.db").display());
    let other = legate_db::Db::open(&url, legate_db::Options::default()).await.unwrap();
    // Another process holds the one lock for writing.
    let (holding, held) = tokio::sync::oneshot::channel::<()>();
    let (free, freed) = tokio::sync::oneshot::channel::<()>();
    let ends = Arc::new(tokio::sync::Mutex::new(Some((holding, freed))));
    let holder = tokio::spawn(async move {
        let held: legate_db::TxResult<(), std::convert::Infallible> = other
            .tx("hold", move |_| {
                let ends = Arc::clone(&ends);
                Box::pin(async move {
                    if let Some((holding, freed)) = ends.lock().await.take() {
                        holding.send(()).unwrap();
                        let _dropped = freed.await;
                    }
                    Ok(())
                })
            })
            .await;
        held
    });
    held.await.unwrap();
    let mut declarations = DeclarationServiceClient::new(suite.operator("registry"));
    let mut request = tonic::Request::new(namespace(1));
    request.set_timeout(Duration::from_secs(9));
    let told = legate_rpc::Told::from_status(&declarations.apply_declarations(request).await.unwrap_err());
    assert_eq!((told.reason.as_str(), told.code), ("DATABASE_UNAVAILABLE", legate_rpc::Code::Unavailable), "{told:?}");
    assert!(told.retry_after.is_some() && !told.cure.is_empty(), "{told:?}");
    // Reading and deciding need no lock.
    crate::raised::example_agent(suite.operator("registry")).await;
    let answer = ask(&parties.backend, question(&parties.shown, "invoice:read", "apollo/1")).await;
    assert_eq!(word(&answer), "ALLOWED");
    free.send(()).unwrap();
    holder.await.unwrap().unwrap();
    declarations.apply_declarations(namespace(2)).await.unwrap();
    suite.stop();
    Log::read(&suite.audit_log());
}

/// The certificate that a service shows in a new handshake, in DER.
async fn shown_certificate(suite: &Processes, service: &'static str) -> Vec<u8> {
    use legate_mtls::{Expect, Identity, connector};
    let remote = suite.remote(service);
    let expect = Expect::Service(service);
    let clock = legate_clock::SystemClock::shared();
    let client = connector(Identity::anonymous(), remote.trust.clone(), expect, clock).unwrap();
    let address = remote.endpoint.trim_start_matches("https://").to_owned();
    let stream = client.connect(&address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_taken_up_and_no_call_is_lost() {
    let mut suite = Processes::start("warn").await;
    let parties = Arc::new(suite.parties().await);
    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let asking = {
        let (parties, over, asked) = (Arc::clone(&parties), Arc::clone(&over), Arc::clone(&asked));
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                // Takes a refused call for a failure.
                let answer = ask(&parties.backend, question(&parties.shown, "invoice:read", "apollo/1")).await;
                assert_eq!(word(&answer), "ALLOWED");
                parties.runtime.token(AUDIENCE).await.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let services = legate::dev::pki::SERVICES;
    let mut before = Vec::new();
    for service in services {
        before.push(shown_certificate(&suite, service).await);
    }
    suite.renew_certificates();
    let begin = Instant::now();
    for (service, before) in services.into_iter().zip(before) {
        while shown_certificate(&suite, service).await == before {
            assert!(begin.elapsed() < LONG, "{service} still shows its old certificate");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let (so_far, begin) = (asked.load(Ordering::SeqCst), Instant::now());
    while asked.load(Ordering::SeqCst) < so_far + 10 && !asking.is_finished() {
        assert!(begin.elapsed() < LONG, "nobody asks any more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    over.store(true, Ordering::SeqCst);
    asking.await.unwrap();
    // With the new ones, services are still believed by each other.
    suite.crash("registry").await;
    let begin = Instant::now();
    while word_of(&parties, &at_least(question(&parties.shown, "invoice:read", "apollo/1"), parties.revision))
        .await
        .as_deref()
        != Some("ALLOWED")
    {
        assert!(begin.elapsed() < LONG, "not allowed: {}", suite.told("policy-decision"));
    }
    suite.stop();
    Log::read(&suite.audit_log());
}
