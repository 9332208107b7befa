//! Granted minus used, over real mutual TLS: agents act, the registry hears of it, what is unused is found, and a smaller grant is
//! proposed, tried on what was decided, and made.

use std::sync::Arc;
use std::time::Duration;

use legate::dev::{Options, Suite};
use legate_clock::{Clock, SystemClock, Timestamp};
use legate_rpc::Told;
use legate_wire::audit::ReadUsageRequest;
use legate_wire::audit::usage_feed_service_client::UsageFeedServiceClient;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::drift_service_client::DriftServiceClient;
use legate_wire::policy::{
    DriftType, EvaluateRequest, ListDriftRequest, ListDriftResponse, ProposeCeilingRequest, Resource, SimulateRequest,
    Subject, subject,
};
use legate_wire::registry as wire;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::usage_service_client::UsageServiceClient;

use crate::asking;
use crate::raised::{LONG, Raised, id_of};

const DAY: u64 = 86_400;

/// The machine's clock, so many days ago.
#[derive(Debug)]
struct Earlier(SystemClock, Duration);

impl Clock for Earlier {
    fn now(&self) -> Timestamp {
        self.0.now().minus(self.1)
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

fn meta(name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata { name: name.into(), namespace: "payments".into(), ..wire::Metadata::default() })
}

async fn apply(raised: &Raised, objects: Vec<Object>) -> u64 {
    let declarations = objects.into_iter().map(|object| wire::Declaration { object: Some(object) }).collect();
    let request = wire::ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    let applied = DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await;
    applied.unwrap_or_else(|status| panic!("{:?}", Told::from_status(&status))).into_inner().revision
}

/// A role that lets invoices be paid, for the example's agent.
fn payer() -> Vec<Object> {
    let permission = wire::Permission {
        action: "invoice:pay".into(),
        resource: Some(wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() }),
    };
    let role = wire::RoleSpec { permissions: vec![permission], ..wire::RoleSpec::default() };
    let binding = wire::RoleBindingSpec {
        role: "invoice-payer".into(),
        agents: vec!["invoice-bot".into()],
        ..wire::RoleBindingSpec::default()
    };
    vec![
        Object::Role(wire::Role { metadata: meta("invoice-payer"), spec: Some(role) }),
        Object::RoleBinding(wire::RoleBinding { metadata: meta("invoice-bot-pays"), spec: Some(binding) }),
    ]
}

/// Reads an invoice so often, which is allowed.
async fn act(raised: &Raised, id: &str, times: usize, at_least: u64) {
    let mut policy = DecisionServiceClient::new(raised.operator("policy-decision"));
    for _ in 0..times {
        let question = EvaluateRequest {
            subject: Some(Subject { agent: Some(subject::Agent::AgentId(id.into())), ..Subject::default() }),
            action: "invoice:read".into(),
            resource: Some(Resource { r#type: "Invoice".into(), id: "apollo/1001".into(), attributes: None }),
            ..EvaluateRequest::default()
        };
        let answer = policy.evaluate(asking::at_least(question, at_least)).await.unwrap().into_inner();
        assert_eq!(answer.reason_code, "ALLOWED", "{}", answer.message);
    }
}

/// What the registry heard of the agent, once it heard of so many uses, and never of more.
async fn heard(raised: &Raised, id: &str, count: u64) -> wire::ListAgentUsageResponse {
    let mut registry = UsageServiceClient::new(raised.operator("registry"));
    let ask = wire::ListAgentUsageRequest { agent_ids: vec![id.to_owned()], ..Default::default() };
    let hearing = async {
        loop {
            let told = registry.list_agent_usage(ask.clone()).await.unwrap().into_inner();
            let sum: u64 = told.agents.iter().flat_map(|agent| &agent.permissions).map(|one| one.count).sum();
            assert!(sum <= count, "heard of {sum} uses, and there were {count}");
            if sum == count && told.window.as_ref().is_some_and(|window| window.to_time.is_some()) {
                return told;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, hearing).await.expect("the registry hears of every use")
}

async fn drift(raised: &Raised, at_least_revision: u64) -> ListDriftResponse {
    let week = prost_types::Duration { seconds: 7 * 86_400, nanos: 0 };
    let request = ListDriftRequest {
        namespace: "payments".into(),
        unused_after: Some(week),
        at_least_revision,
        ..ListDriftRequest::default()
    };
    let mut policy = DriftServiceClient::new(raised.operator("policy-decision"));
    policy.list_drift(request).await.unwrap_or_else(|e| panic!("{:?}", Told::from_status(&e))).into_inner()
}

fn unused(told: &ListDriftResponse) -> Vec<String> {
    let unused = told.findings.iter().filter(|finding| finding.r#type() == DriftType::Unused);
    unused.map(|finding| finding.permission.clone().unwrap_or_default().action).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unused_is_found_proposed_tried_and_taken_away() {
    // Three weeks ago the agent got two roles, and used one of them.
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Earlier(SystemClock::new(), Duration::from_secs(20 * DAY)));
    let options = Options { clock, ..Options::in_dir(&dir.path().join("suite")) };
    let raised = Raised { suite: Box::pin(Suite::start(&options)).await.unwrap(), dir };
    raised.apply().await;
    let declared = apply(&raised, payer()).await;
    let id = id_of(&raised.agent().await);
    act(&raised, &id, 3, declared).await;
    let told = heard(&raised, &id, 3).await;
    assert_eq!(told.agents[0].permissions[0].action, "invoice:read");
    let ask = wire::ListAgentUsageRequest { agent_ids: vec![id.clone()], by_resource: true, ..Default::default() };
    let apart = UsageServiceClient::new(raised.operator("registry")).list_agent_usage(ask).await.unwrap().into_inner();
    let apart: Vec<_> = apart.agents[0].permissions.iter().map(|one| (one.resource_id.as_str(), one.count)).collect();
    assert_eq!(apart, [("apollo/1001", 3)]);
    // Nobody can say yet what is unused.
    let told = drift(&raised, declared).await;
    assert!(unused(&told).is_empty() && told.not_judged > 0, "{told:?}");

    // Today everything is raised anew: the registry goes on where it was, and counts nothing twice.
    let raised = raised.again().await;
    act(&raised, &id, 2, declared).await;
    let told = heard(&raised, &id, 5).await;
    let read = &told.agents[0].permissions[0];
    assert!(read.longest_interval_days >= 19 && read.days == 2, "{read:?}");
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let agent = raised.agent().await;
    assert_eq!(agent.status.as_ref().unwrap().last_used_time, told.agents[0].last_used_time);
    let list = wire::ListAgentsRequest { filter: "last_used_time:*".into(), ..wire::ListAgentsRequest::default() };
    assert_eq!(agents.list_agents(list).await.unwrap().into_inner().agents.len(), 1);

    let found = drift(&raised, declared).await;
    assert_eq!(unused(&found), ["invoice:pay"], "{found:?}");
    let seconds = |at: Option<prost_types::Timestamp>| at.unwrap().seconds;
    let window = found.window.clone().unwrap();
    assert!(seconds(window.from_time) < seconds(window.to_time) - 19 * DAY.cast_signed());
    let week = Some(prost_types::Duration { seconds: 7 * 86_400, nanos: 0 });
    let ask = ProposeCeilingRequest { agent_id: id.clone(), unused_after: week, at_least_revision: declared };
    let mut policy = DriftServiceClient::new(raised.operator("policy-decision"));
    let proposed = policy.propose_ceiling(ask).await.unwrap().into_inner();
    assert_eq!(proposed.keep.iter().map(|one| one.action.as_str()).collect::<Vec<_>>(), ["invoice:read"]);
    let mut spec = agent.spec.clone().unwrap();
    spec.ceiling = proposed.keep;
    let smaller = Object::Agent(wire::Agent { metadata: meta("invoice-bot"), spec: Some(spec), status: None });

    let simulate = SimulateRequest {
        declarations: vec![wire::Declaration { object: Some(smaller.clone()) }],
        window: Some(prost_types::Duration { seconds: 31 * 86_400, nanos: 0 }),
        ..SimulateRequest::default()
    };
    let mut decisions = DecisionServiceClient::new(raised.operator("policy-decision"));
    let tried = decisions.simulate(simulate).await.unwrap().into_inner();
    assert_eq!((tried.to_deny, tried.unsure, tried.allowed), (0, 0, 5), "{tried:?}");

    let revision = apply(&raised, vec![smaller]).await;
    let left = drift(&raised, revision).await;
    assert!(unused(&left).is_empty(), "{left:?}");
    // The role is above the agent's own ceiling now: what is left of it is told as that.
    assert!(left.findings.iter().any(|finding| finding.r#type() == DriftType::ExceedsClass), "{left:?}");
    act(&raised, &id, 1, revision).await;
    heard(&raised, &id, 6).await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_collector_what_was_heard_stands_and_nobody_else_hears_it() {
    let mut raised = Raised::new().await;
    let declared = raised.apply().await;
    let id = id_of(&raised.agent().await);
    act(&raised, &id, 2, declared).await;
    let before = heard(&raised, &id, 2).await;
    let feed = ReadUsageRequest::default();
    for who in
        [raised.suite.operator().unwrap(), raised.service("policy-decision"), raised.service("credential-issuer")]
    {
        let mut client = UsageFeedServiceClient::new(raised.dial("audit-collector", who));
        let refused = client.read_usage(feed.clone()).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "ACCESS_DENIED");
    }
    let mut client = UsageFeedServiceClient::new(raised.dial("audit-collector", raised.service("registry")));
    let told = client.read_usage(feed).await.unwrap().into_inner();
    assert!(told.through > 0 && told.root.len() == 32);
    let other = ReadUsageRequest { after: told.through, root: vec![9; 32] };
    assert_eq!(Told::from_status(&client.read_usage(other).await.unwrap_err()).reason, "AUDIT_NOT_THIS_LOG");
    let broken = ReadUsageRequest { after: told.through, root: vec![9; 31] };
    assert_eq!(Told::from_status(&client.read_usage(broken).await.unwrap_err()).reason, "INVALID_ARGUMENT");

    raised.suite.lower("audit-collector").await;
    let after = heard(&raised, &id, 2).await;
    assert_eq!(after.agents, before.agents);
    assert!(drift(&raised, declared).await.window.is_some());
    raised.suite.shutdown().await;
}
