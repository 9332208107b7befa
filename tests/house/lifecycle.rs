//! Lifecycle policies over real mutual TLS, by a clock that the test turns: what nobody confirms is stopped, a resumption begins anew, and
//! alerts stop agents up to a cap, each once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use legate_clock::{Clock, SystemClock, Timestamp};
use legate_ids::{Name, SpiffeId};
use legate_mtls::Identity;
use legate_mtls::pki::Leaf;
use legate_rpc::{Client, Told};
use legate_wire::audit::alert_feed_service_client::AlertFeedServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{QueryEventsRequest, WatchRaisedAlertsRequest};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::lifecycle_service_client::LifecycleServiceClient;
use legate_wire::registry::preview_lifecycle_policy_request::Whose;
use legate_wire::registry::{
    Agent, AgentRef, AgentState, AlertRule, ApplyDeclarationsRequest, AttestAgentRequest, Declaration, GetAgentRequest,
    LifecycleAction, LifecycleImpact, LifecycleMode, LifecyclePolicy, LifecyclePolicySpec, Metadata,
    PreviewLifecyclePolicyRequest, ResumeAgentRequest,
};

use crate::asking::{Shown, ask, at_least, question};
use crate::raised::{AUDIENCE, LONG, Raised};

const DAY: u64 = 86_400;

/// The machine's clock, so much ahead as the test has turned it.
#[derive(Debug, Default)]
struct Turned {
    machine: SystemClock,
    ahead: AtomicU64,
}

impl Turned {
    fn turn(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Turned {
    fn now(&self) -> Timestamp {
        self.machine.now().plus(Duration::from_secs(self.ahead.load(Ordering::SeqCst)))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

fn which(name: &str) -> Option<AgentRef> {
    Some(AgentRef { namespace: "payments".into(), name: name.into(), ..AgentRef::default() })
}

fn span(seconds: u64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: seconds.try_into().unwrap(), nanos: 0 })
}

async fn declare(registry: &Client, name: &str, spec: LifecyclePolicySpec) -> Result<u64, Told> {
    let metadata = Metadata { name: name.into(), namespace: "payments".into(), ..Metadata::default() };
    let policy = LifecyclePolicy { metadata: Some(metadata), spec: Some(spec), status: None };
    let declarations = vec![Declaration { object: Some(Object::LifecyclePolicy(policy)) }];
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    let applied = DeclarationServiceClient::new(registry.clone()).apply_declarations(request).await;
    applied.map(|answer| answer.into_inner().revision).map_err(|status| Told::from_status(&status))
}

async fn agent(registry: &Client, name: &str) -> Agent {
    let ask = GetAgentRequest { agent: which(name), as_of: None };
    AgentServiceClient::new(registry.clone()).get_agent(ask).await.unwrap().into_inner().agent.unwrap()
}

/// Waits until the agent is in the state.
async fn in_state(registry: &Client, name: &str, state: AgentState) -> Agent {
    let begin = Instant::now();
    loop {
        let agent = agent(registry, name).await;
        if agent.status.as_ref().unwrap().state() == state {
            return agent;
        }
        assert!(begin.elapsed() < LONG, "{agent:?} is not {state:?}");
        tokio::task::yield_now().await;
    }
}

async fn attest(registry: &Client, name: &str) -> Result<Agent, Told> {
    let ask = AttestAgentRequest { agent: which(name), reason: "still needed".into(), ..Default::default() };
    let answer = AgentServiceClient::new(registry.clone()).attest_agent(ask).await;
    answer.map(|answer| answer.into_inner().agent.unwrap()).map_err(|status| Told::from_status(&status))
}

async fn resume(registry: &Client, name: &str) -> Agent {
    let ask = ResumeAgentRequest { agent: which(name), reason: "looked into".into(), ..Default::default() };
    AgentServiceClient::new(registry.clone()).resume_agent(ask).await.unwrap().into_inner().agent.unwrap()
}

async fn preview(registry: &Client) -> Vec<LifecycleImpact> {
    let ask = PreviewLifecyclePolicyRequest {
        namespace: "payments".into(),
        whose: Some(Whose::All(true)),
        ..PreviewLifecyclePolicyRequest::default()
    };
    let mut lifecycle = LifecycleServiceClient::new(registry.clone());
    lifecycle.preview_lifecycle_policy(ask).await.unwrap().into_inner().impacts
}

/// Waits until so many events of a type are on record; their reasons.
async fn recorded(raised: &Raised, kind: &str, count: usize) -> Vec<String> {
    let mut records = QueryServiceClient::new(raised.operator("audit-collector"));
    let begin = Instant::now();
    loop {
        let ask = QueryEventsRequest { r#type: kind.into(), ..QueryEventsRequest::default() };
        let found = records.query_events(ask).await.unwrap().into_inner().events;
        if found.len() >= count {
            return found.into_iter().filter_map(|one| one.event).map(|event| event.reason).collect();
        }
        assert!(begin.elapsed() < LONG, "{kind}: {found:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_confirms_is_stopped_and_a_resumption_begins_anew() {
    let clock = Arc::new(Turned::default());
    let raised = Raised::by_clock(clock.clone(), &["grace"]).await;
    raised.apply().await;
    let registry = raised.operator("registry");
    let grace = SpiffeId::operator(raised.suite.domain(), &Name::parse("grace").unwrap());
    let leaf = Leaf { spiffe_id: &grace, dns: &[], ips: &[], ttl: Duration::from_secs(29 * DAY) };
    let issued = raised.services_ca().issue(&leaf, clock.now()).unwrap();
    let grace = raised.dial("registry", Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap());
    let spec = LifecyclePolicySpec {
        mode: LifecycleMode::Enforce.into(),
        attest_every: span(10 * DAY),
        grace: span(DAY),
        notify_before: span(2 * DAY),
        ..LifecyclePolicySpec::default()
    };
    let absurd = LifecyclePolicySpec { attest_every: span(1), ..spec.clone() };
    assert_eq!(declare(&registry, "tidy", absurd).await.unwrap_err().reason, "INVALID_ARGUMENT");
    declare(&registry, "tidy", spec).await.unwrap();
    let shown = preview(&registry).await;
    let told: Vec<_> = shown.iter().map(|one| (one.agent.as_str(), one.action(), one.policy.as_str())).collect();
    assert_eq!(told, [("invoice-bot", LifecycleAction::Suspend, "tidy")]);

    // Who declared it is not who confirms it; another one is.
    assert_eq!(attest(&registry, "invoice-bot").await.unwrap_err().reason, "SELF_APPROVAL");
    clock.turn(5 * DAY);
    let confirmed = attest(&grace, "invoice-bot").await.unwrap();
    assert!(confirmed.status.unwrap().last_attestation_actor.ends_with("/operator/grace"));

    clock.turn(10 * DAY);
    let notices = recorded(&raised, "agent.lifecycle_due", 1).await;
    assert_eq!(notices, ["lifecycle policy payments/tidy: nobody confirmed it for 10 days"]);
    assert_eq!(agent(&registry, "invoice-bot").await.status.unwrap().state(), AgentState::Active);
    clock.turn(DAY);
    let stopped = in_state(&registry, "invoice-bot", AgentState::Suspended).await.status.unwrap();
    assert_eq!(stopped.state_reason, "lifecycle policy payments/tidy: nobody confirmed it for 10 days");
    assert!(stopped.authorization_cutoff.is_some());
    assert_eq!(recorded(&raised, "agent.suspended", 1).await, [stopped.state_reason]);

    resume(&registry, "invoice-bot").await;
    let status = agent(&registry, "invoice-bot").await.status.unwrap();
    let due = Timestamp::try_from(status.lifecycle_due_time.unwrap()).unwrap();
    assert!(status.state() == AgentState::Active && due.since(clock.now()) > Duration::from_secs(10 * DAY));
    clock.turn(9 * DAY);
    recorded(&raised, "agent.lifecycle_due", 2).await;
    assert_eq!(agent(&registry, "invoice-bot").await.status.unwrap().state(), AgentState::Active);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_stops_the_agent_once_also_over_a_restart() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let registry = raised.operator("registry");
    let spec = LifecyclePolicySpec {
        mode: LifecycleMode::Enforce.into(),
        on_alert: Some(AlertRule {
            alert_types: vec!["DENIAL_BURST".into()],
            action: LifecycleAction::Suspend.into(),
            max_agents: 1,
            per: span(3_600),
            ..AlertRule::default()
        }),
        ..LifecyclePolicySpec::default()
    };
    declare(&registry, "alarm", spec).await.unwrap();
    let issued = payments.runtime.token(AUDIENCE).await.unwrap();
    let presenter = payments.runtime.identity().x5t_s256().unwrap();
    let shown = Shown { token: issued.access_token, presenter };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1001"), issued.revision)).await;
    for _ in 0..25 {
        let denied = ask(&backend, question(&shown, "invoice:pay", "apollo/1001")).await;
        assert_ne!(denied.reason_code, "ALLOWED");
    }
    let stopped = in_state(&registry, "invoice-bot", AgentState::Suspended).await.status.unwrap();
    assert!(
        stopped.state_reason.starts_with("lifecycle policy payments/alarm: alert DENIAL_BURST alert_"),
        "{stopped:?}"
    );

    // Raised anew and resumed: what was heard before is not heard again.
    drop((payments, backend));
    let raised = raised.again().await;
    let registry = raised.operator("registry");
    resume(&registry, "invoice-bot").await;
    // The registry follows the alerts again, as the collector's own record says.
    recorded(&raised, "log.alerts_watched", 2).await;
    let revision = declare(
        &registry,
        "another",
        LifecyclePolicySpec {
            mode: LifecycleMode::Report.into(),
            expire_after: span(DAY),
            ..LifecyclePolicySpec::default()
        },
    );
    raised.wait_for_record(revision.await.unwrap()).await;
    assert_eq!(recorded(&raised, "agent.suspended", 1).await.len(), 1);
    assert_eq!(agent(&registry, "invoice-bot").await.status.unwrap().state(), AgentState::Active);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_an_operator_confirms_and_nobody_but_the_registry_follows_the_alerts() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    for who in [payments.enrolled.identity().unwrap(), payments.backend.clone(), raised.service("credential-issuer")] {
        let registry = raised.dial("registry", who.clone());
        assert_eq!(attest(&registry, "invoice-bot").await.unwrap_err().reason, "ACCESS_DENIED");
        let collector = raised.dial("audit-collector", who);
        let mut feed = AlertFeedServiceClient::new(collector);
        let refused = feed.watch_raised_alerts(WatchRaisedAlertsRequest { from_leaf: 0 }).await.unwrap_err();
        let refused = Told::from_status(&refused);
        assert_eq!(refused.reason, "ACCESS_DENIED");
    }
    raised.suite.shutdown().await;
}
