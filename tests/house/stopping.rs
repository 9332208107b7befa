//! The switch that stops agents, end to end: processes of their own, two policy-decision, one of which hears nothing any more.

use std::time::{Duration, Instant};

use legate_clock::Timestamp;
use legate_rpc::Told;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{PreviewRevocationRequest, preview_revocation_request};
use legate_wire::policy::{EvaluateRequest, Resource, Subject, subject};
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::stop_scope::Level;
use legate_wire::registry::stop_service_client::StopServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, Declaration, Follower, FollowerState, GetContainmentRequest, GetContainmentResponse,
    Metadata, OperatorBinding, OperatorBindingSpec, OperatorRole, ResumeAgentsRequest, StopAgentsRequest,
    StopAgentsResponse, StopScope, declaration,
};

use crate::asking::{ask, at_least, question, word};
use crate::processes::Processes;
use crate::raised::{AUDIENCE, LONG, Raised, certify, id_of};

type Switch = StopServiceClient<legate_rpc::Client>;

fn scope(namespace: &str, level: Level) -> Option<StopScope> {
    Some(StopScope { namespace: namespace.into(), level: Some(level) })
}

fn order(namespace: &str, level: Level) -> StopAgentsRequest {
    let reason = "exfiltrates".to_owned();
    StopAgentsRequest { scope: scope(namespace, level), reason, ..StopAgentsRequest::default() }
}

async fn stop(switch: &Switch, namespace: &str, level: Level) -> StopAgentsResponse {
    switch.clone().stop_agents(order(namespace, level)).await.unwrap().into_inner()
}

async fn reached(switch: &Switch, revision: u64) -> GetContainmentResponse {
    switch.clone().get_containment(GetContainmentRequest { revision }).await.unwrap().into_inner()
}

fn at(time: Option<prost_types::Timestamp>) -> Timestamp {
    Timestamp::try_from(time.unwrap()).unwrap()
}

/// Waits for a look that is as wanted.
async fn until(
    switch: &Switch,
    revision: u64,
    wanted: impl Fn(&GetContainmentResponse) -> bool,
) -> GetContainmentResponse {
    let begin = Instant::now();
    loop {
        let seen = reached(switch, revision).await;
        if wanted(&seen) {
            return seen;
        }
        assert!(begin.elapsed() < LONG, "it does not come to that: {seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn are(seen: &GetContainmentResponse, state: FollowerState) -> Vec<&Follower> {
    seen.followers.iter().filter(|one| one.state() == state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_confirmed_by_whoever_hears_and_whoever_does_not_is_told_until_when_it_can_act() {
    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    let beside = suite.spawn_beside("policy-decision").await;
    let second = beside.dial(parties.identity.clone()).unwrap();
    let switch = StopServiceClient::new(suite.operator("registry"));
    let read = || question(&parties.shown, "invoice:read", "apollo/1001");
    assert_eq!(word(&ask(&parties.backend, read()).await), "ALLOWED");
    assert_eq!(word(&ask(&second, at_least(read(), parties.revision)).await), "ALLOWED");
    // Both policy-decision and credential-issuer say by what they answer.
    let all = until(&switch, 0, |seen| are(seen, FollowerState::Confirmed).len() == 3).await;
    let mut services: Vec<&str> = all.followers.iter().map(|one| one.service.as_str()).collect();
    services.sort_unstable();
    assert_eq!(services, ["credential-issuer", "policy-decision", "policy-decision"]);

    suite.signal_beside("STOP");
    let done = stop(&switch, "payments", Level::AgentClass("invoice-worker".into())).await;
    let begin = Instant::now();
    let heard = until(&switch, done.revision, |seen| are(seen, FollowerState::Confirmed).len() == 2).await;
    for one in are(&heard, FollowerState::Confirmed) {
        let took = at(one.confirm_time).since(at(done.stop_time));
        assert!(took < Duration::from_secs(1), "{} confirmed after {took:?}", one.service);
    }
    assert_eq!(word(&ask(&parties.backend, read()).await), "AGENT_STOPPED");
    assert!(parties.runtime.token(AUDIENCE).await.is_err());
    assert!(parties.runtime.renew().await.is_err());
    // The one that hears nothing is not counted as stopped before it cannot act any more.
    if begin.elapsed() < Duration::from_secs(3) {
        let deaf = are(&heard, FollowerState::Pending);
        assert!(deaf.len() == 1 && !heard.contained, "{heard:?}");
        // The two moments are of two clocks that are read one after the other.
        assert!(at(deaf[0].until).since(at(deaf[0].heard_time)) < Duration::from_millis(5_100));
    }
    let contained = until(&switch, done.revision, |seen| seen.contained).await;
    let stale = are(&contained, FollowerState::Stale);
    assert_eq!((stale.len(), stale[0].service.as_str()), (1, "policy-decision"));
    assert!(at(contained.time) > at(stale[0].until));
    assert!(stale[0].confirmed_revision < done.revision);
    // It wakes, and its first word is no ALLOW.
    suite.signal_beside("CONT");
    let first = ask(&second, read()).await;
    assert!(["STALE", "AGENT_STOPPED"].contains(&word(&first)), "{first:?}");
    until(&switch, done.revision, |seen| are(seen, FollowerState::Confirmed).len() == 3).await;
    assert_eq!(word(&ask(&second, read()).await), "AGENT_STOPPED");

    let resume = ResumeAgentsRequest {
        scope: scope("payments", Level::AgentClass("invoice-worker".into())),
        reason: "explained".into(),
        ..ResumeAgentsRequest::default()
    };
    let back = switch.clone().resume_agents(resume).await.unwrap().into_inner();
    for backend in [&parties.backend, &second] {
        assert_eq!(word(&ask(backend, at_least(read(), back.revision)).await), "TOKEN_OUTLIVED");
    }
    suite.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_level_stops_at_every_door_and_the_record_says_who_and_why() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let switch = StopServiceClient::new(raised.operator("registry"));
    let operator = raised.operator("policy-decision");
    let asserted = |revision| {
        let subject = Subject { agent: Some(subject::Agent::AgentId(id_of(&payments.agent))), ..Subject::default() };
        let resource = Resource { r#type: "Invoice".into(), id: "apollo/1001".into(), attributes: None };
        at_least(
            EvaluateRequest {
                subject: Some(subject),
                action: "invoice:read".into(),
                resource: Some(resource),
                ..EvaluateRequest::default()
            },
            revision,
        )
    };
    let owner = payments.agent.spec.clone().unwrap().owners[0].clone();
    let mut before = 0;
    for (namespace, level) in [
        ("payments", Level::Agent("invoice-bot".into())),
        ("payments", Level::Agent(id_of(&payments.agent))),
        ("payments", Level::AgentClass("invoice-worker".into())),
        ("payments", Level::Owner(owner.clone())),
        ("", Level::Owner(owner.clone())),
        ("payments", Level::WholeNamespace(true)),
        ("", Level::Everywhere(true)),
    ] {
        assert_eq!(word(&ask(&operator, asserted(before)).await), "ALLOWED", "{level:?}");
        let preview = StopAgentsRequest { validate_only: true, ..order(namespace, level.clone()) };
        let radius = switch.clone().stop_agents(preview).await.unwrap().into_inner().radius.unwrap();
        assert_eq!((radius.agents, radius.working, radius.is_exact), (1, 1, true), "{level:?}");
        let done = stop(&switch, namespace, level.clone()).await;
        assert_eq!(word(&ask(&operator, asserted(done.revision)).await), "AGENT_STOPPED", "{level:?}");
        assert!(payments.runtime.renew().await.is_err(), "{level:?}");
        until(&switch, done.revision, |seen| are(seen, FollowerState::Confirmed).len() == 2).await;
        let resume = ResumeAgentsRequest {
            scope: scope(namespace, level),
            reason: "explained".into(),
            ..ResumeAgentsRequest::default()
        };
        before = switch.clone().resume_agents(resume).await.unwrap().into_inner().revision;
    }
    // What somebody holds who only looks at signatures is known where it was issued.
    let mut issuer = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
    let level = Some(preview_revocation_request::Level::Everywhere(true));
    let held = issuer.preview_revocation(PreviewRevocationRequest { namespace: String::new(), level }).await;
    let held = held.unwrap().into_inner();
    let identity = payments.runtime.identity();
    assert_eq!(held.credentials.iter().map(|one| one.count).sum::<u64>(), 1);
    let latest = at(held.credentials[0].latest_expire_time);
    assert_eq!(latest.secs(), identity.not_after().unwrap().secs());
    assert!(held.longest_token_ttl.is_some_and(|ttl| (30..=600).contains(&ttl.seconds)));
    raised.wait_for_record(before).await;
    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    let log = crate::log::Log::read(&dir);
    let stopped: Vec<_> = log.of_type("stop_order.stopped").collect();
    assert_eq!((stopped.len(), log.of_type("stop_order.resumed").count()), (7, 7));
    assert!(stopped.iter().all(|event| event.reason == "exfiltrates" && event.actor.ends_with("/operator/dev")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_stop_stops_nobody() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let domain = raised.suite.domain().clone();
    let name = |text: &str| legate_ids::Name::parse(text).unwrap();
    let operator = |text: &str| {
        let id = legate_ids::SpiffeId::operator(&domain, &name(text));
        raised.dial("registry", certify(&raised.services_ca(), &id))
    };
    let binding = |who: &str, namespace: &str, role: OperatorRole| {
        let metadata = Metadata { name: format!("{who}-binding"), namespace: namespace.into(), ..Metadata::default() };
        let spec = OperatorBindingSpec { operators: vec![who.into()], role: role.into(), ..Default::default() };
        let binding = OperatorBinding { metadata: Some(metadata), spec: Some(spec) };
        Declaration { object: Some(declaration::Object::OperatorBinding(binding)) }
    };
    let declarations = vec![
        binding("viewer", "", OperatorRole::Viewer),
        binding("editor", "payments", OperatorRole::Editor),
        binding("glass", "", OperatorRole::BreakGlass),
    ];
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await.unwrap();

    let levels = || {
        [
            ("payments", Level::Agent("invoice-bot".into())),
            ("payments", Level::AgentClass("invoice-worker".into())),
            ("payments", Level::WholeNamespace(true)),
            ("", Level::Owner("user:ada@example.com".into())),
            ("", Level::Everywhere(true)),
        ]
    };
    let refused = async |who: &legate_rpc::Client, namespace: &str, level: Level| {
        let mut switch = StopServiceClient::new(who.clone());
        let told = switch.stop_agents(order(namespace, level)).await.err();
        told.map(|status| Told::from_status(&status).reason)
    };
    let agent = raised.dial("registry", payments.runtime.identity().clone());
    let point = raised.dial("registry", payments.backend.clone());
    let issuer = raised.dial("registry", raised.service("credential-issuer"));
    for (namespace, level) in levels() {
        for workload in [&agent, &point, &issuer] {
            assert_eq!(refused(workload, namespace, level.clone()).await.as_deref(), Some("ACCESS_DENIED"));
        }
        for who in ["viewer", "nobody", "glass"] {
            let told = refused(&operator(who), namespace, level.clone()).await;
            assert_eq!(told.as_deref(), Some("OPERATOR_NOT_PERMITTED"), "{who} {level:?}");
        }
        // Whoever may stop in one namespace stops nobody beyond it.
        if namespace.is_empty() {
            let told = refused(&operator("editor"), namespace, level).await;
            assert_eq!(told.as_deref(), Some("OPERATOR_NOT_PERMITTED"));
        }
    }
    let mut viewer = StopServiceClient::new(operator("viewer"));
    let told = viewer.get_containment(GetContainmentRequest::default()).await.unwrap_err();
    assert_eq!(Told::from_status(&told).reason, "OPERATOR_NOT_PERMITTED");
    assert_eq!(refused(&operator("editor"), "payments", Level::WholeNamespace(true)).await, None);
    raised.suite.shutdown().await;
}
