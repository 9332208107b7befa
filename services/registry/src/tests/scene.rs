//! A desk on a real database, what an operator declares, and what came of it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_clock::{TestClock, Timestamp};
use legate_db::Db;
use legate_db::testing::Fixture;
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_outbox::{DbSource, Outbox, Source as _};
use legate_rpc::{Fault, TraceContext};
use legate_wire::audit::AuditEvent;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, AgentClass, AgentClassSpec, AgentRef, AgentSpec, ApplyDeclarationsRequest, ApplyDeclarationsResponse,
    Declaration, EnforcementPoint, EnforcementPointSpec, Environment, GetAgentResponse, Metadata, Namespace,
    NamespaceSpec, ObjectName, OperatorBinding, OperatorBindingSpec, OperatorRole, Permission, Policy, PolicyMode,
    PolicySpec, ResourceSelector, Role, RoleBinding, RoleBindingSpec, RoleSpec,
};
use prost::Message as _;

use crate::domain::lifecycle::Transition;
use crate::domain::operators::Operators;
use crate::flow::followers::Followers;
use crate::flow::mandate::{Known, Operator};
use crate::flow::transition::{self, Ask, Step};
use crate::flow::{By, Call, Desk, Tail, apply, read};
use crate::metrics::Metrics;

pub(super) const NOW: i64 = 1_900_000_000;
pub(super) const OPERATOR: &str = "spiffe://example.org/legate/operator/ada";
pub(super) const OTHER: &str = "spiffe://example.org/legate/operator/grace";

/// The SHA-256 of the certificate that operators show.
pub(super) const SHOWN: [u8; 32] = [250; 32];

pub(super) struct Scene {
    pub(super) desk: Arc<Desk>,
    pub(super) clock: Arc<TestClock>,
}

pub(super) fn reason(fault: &Fault) -> &'static str {
    fault.reason()
}

/// Those who act in most tests are administrators from the start, before the first revision.
fn administrators() -> Operators {
    let operators = ["ada", "grace", "joan", "third", "fourth"].map(str::to_owned).to_vec();
    let role = OperatorRole::Admin.into();
    let spec = OperatorBindingSpec { operators, role, ..OperatorBindingSpec::default() };
    Operators::of(&[OperatorBinding { metadata: Some(Metadata::default()), spec: Some(spec) }])
}

/// Who an operator is, by his SPIFFE ID; nobody for a service.
pub(super) fn who(actor: &str, emergency: Option<&str>) -> Option<Operator> {
    let name = actor.strip_prefix("spiffe://example.org/legate/operator/")?;
    let (name, emergency) = (Name::parse(name).unwrap(), emergency.map(str::to_owned));
    Some(Operator { name, emergency, certificate: SHOWN })
}

pub(super) fn by(actor: &str, why: &str) -> By {
    By { actor: actor.to_owned(), reason: why.to_owned(), trace: TraceContext::default(), operator: who(actor, None) }
}

impl Scene {
    pub(super) fn new(fixture: &Fixture) -> Self {
        Self::on(fixture.db.clone())
    }

    pub(super) fn on(db: Db) -> Self {
        Self::keeping(db, None)
    }

    /// A desk that keeps the past for so long; none: for ever.
    pub(super) fn keeping(db: Db, keeps: Option<Duration>) -> Self {
        let clock = TestClock::at(Timestamp::from_secs(NOW));
        let domain = TrustDomain::parse("example.org").unwrap();
        let own = SpiffeId::service(&domain, &Name::parse("registry").unwrap());
        let desk = Desk {
            followers: Followers::new(&*clock),
            clock: clock.clone(),
            outbox: Outbox::new(own.clone(), clock.clone(), 1_000_000),
            db,
            domain,
            own,
            pages: legate_rpc::Pages::new(&[7; 32]),
            tail: Tail::at(0),
            metrics: Metrics::default(),
            heard: Default::default(),
            keeps,
            operators: Known::from_the_start(administrators()),
            pace: parking_lot::Mutex::default(),
            asking: parking_lot::Mutex::default(),
            bulks: Default::default(),
            overdue: parking_lot::Mutex::default(),
            stopping: OnceLock::new(),
        };
        Self { desk: Arc::new(desk), clock }
    }

    pub(super) fn call(&self, actor: &str, why: &str, request: &impl prost::Message, request_id: &str) -> Call {
        Call::new(by(actor, why), "/test", request, request_id).unwrap()
    }

    pub(super) async fn apply(&self, declarations: Vec<Declaration>) -> Result<ApplyDeclarationsResponse, Fault> {
        self.apply_as(OPERATOR, declarations, "", 0).await
    }

    pub(super) async fn apply_as(
        &self,
        actor: &str,
        declarations: Vec<Declaration>,
        request_id: &str,
        base_revision: u64,
    ) -> Result<ApplyDeclarationsResponse, Fault> {
        let request = ApplyDeclarationsRequest {
            declarations: declarations.clone(),
            request_id: request_id.to_owned(),
            reason: String::new(),
            base_revision,
            removals: Vec::new(),
        };
        let call = self.call(actor, "because", &request, request_id);
        apply::apply(&self.desk, call, declarations, Vec::new(), base_revision).await
    }

    /// Writes some objects and takes others away.
    pub(super) async fn exchange(
        &self,
        reason: &str,
        declarations: Vec<Declaration>,
        removals: Vec<ObjectName>,
    ) -> Result<ApplyDeclarationsResponse, Fault> {
        let call = self.call(OPERATOR, reason, &(), "");
        apply::apply(&self.desk, call, declarations, removals, 0).await
    }

    pub(super) async fn step(&self, actor: &str, name: &str, step: Step) -> Result<(Agent, u64), Fault> {
        self.step_with(actor, by_name(name), "", "", step).await
    }

    pub(super) async fn step_with(
        &self,
        actor: &str,
        agent: AgentRef,
        etag: &str,
        request_id: &str,
        step: Step,
    ) -> Result<(Agent, u64), Fault> {
        let call = self.call(actor, "because", &agent, request_id);
        let ask = Ask { agent: Some(agent), etag: etag.to_owned() };
        let answer = |agent, revision| GetAgentResponse { agent: Some(agent), revision };
        let answer = transition::transition(&self.desk, call, ask, step, answer).await?;
        Ok((answer.agent.unwrap(), answer.revision))
    }

    pub(super) async fn suspend(&self, name: &str) -> (Agent, u64) {
        self.step(OPERATOR, name, Step::Transition(Transition::Suspend)).await.unwrap()
    }

    pub(super) async fn agent(&self, name: &str) -> Agent {
        read::agent(&self.desk, &by(OPERATOR, ""), Some(by_name(name)), None).await.unwrap().0
    }

    /// What the registry does at its start: these are administrators where there is none.
    pub(super) async fn appoint(&self, names: &[&str]) -> Result<bool, Fault> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        crate::flow::administrators::appoint(&self.desk, &names).await
    }

    /// Every event that waits, in order.
    pub(super) async fn events(&self) -> Vec<AuditEvent> {
        let source = DbSource::new(self.desk.db.clone());
        let batch = source.next_batch(100_000, usize::MAX).await.unwrap();
        let events = batch.map(|batch| batch.events).unwrap_or_default();
        events.iter().map(|event| AuditEvent::decode(event.as_ref()).unwrap()).collect()
    }

    pub(super) async fn kinds(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.r#type).collect()
    }
}

/// The token with another letter in its first place: whatever it holds, not the one that was given.
pub(super) fn forged(token: &str) -> String {
    format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..])
}

pub(super) fn by_name(name: &str) -> AgentRef {
    AgentRef { namespace: "payments".into(), name: name.into(), ..AgentRef::default() }
}

pub(super) fn metadata(name: &str) -> Option<Metadata> {
    Some(Metadata { name: name.into(), namespace: "payments".into(), ..Metadata::default() })
}

pub(super) fn of(object: Object) -> Declaration {
    Declaration { object: Some(object) }
}

pub(super) fn namespace(name: &str) -> Declaration {
    let metadata = Some(Metadata { name: name.into(), ..Metadata::default() });
    of(Object::Namespace(Namespace { metadata, spec: Some(NamespaceSpec::default()), status: None }))
}

pub(super) fn permission(action: &str) -> Permission {
    let resource = ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..ResourceSelector::default() };
    Permission { action: action.into(), resource: Some(resource) }
}

pub(super) fn class(name: &str, requires_approval: bool) -> Declaration {
    let spec = AgentClassSpec { ceiling: vec![permission("*")], requires_approval, ..AgentClassSpec::default() };
    of(Object::AgentClass(AgentClass { metadata: metadata(name), spec: Some(spec), status: None }))
}

pub(super) fn agent_spec(class: &str) -> AgentSpec {
    AgentSpec {
        agent_class: class.into(),
        purpose: "reads invoices".into(),
        environment: Environment::Prod.into(),
        owners: vec!["user:ada@example.com".into()],
        sponsors: vec!["user:grace@example.com".into()],
        ..AgentSpec::default()
    }
}

pub(super) fn agent_with(name: &str, spec: AgentSpec) -> Declaration {
    of(Object::Agent(Agent { metadata: metadata(name), spec: Some(spec), status: None }))
}

pub(super) fn agent(name: &str, class: &str) -> Declaration {
    agent_with(name, agent_spec(class))
}

pub(super) fn role(name: &str, action: &str) -> Declaration {
    let spec = RoleSpec { description: String::new(), permissions: vec![permission(action)] };
    of(Object::Role(Role { metadata: metadata(name), spec: Some(spec) }))
}

pub(super) fn binding(name: &str, role: &str, agents: &[&str]) -> Declaration {
    let agents = agents.iter().map(ToString::to_string).collect();
    let spec = RoleBindingSpec { role: role.into(), agents, ..RoleBindingSpec::default() };
    of(Object::RoleBinding(RoleBinding { metadata: metadata(name), spec: Some(spec) }))
}

pub(super) fn policy(name: &str, cedar: &str) -> Declaration {
    let spec = PolicySpec { cedar: cedar.into(), mode: PolicyMode::Enforce.into(), ..PolicySpec::default() };
    of(Object::Policy(Policy { metadata: metadata(name), spec: Some(spec) }))
}

pub(super) fn point(name: &str) -> Declaration {
    let spec = EnforcementPointSpec { resource_types: vec!["Invoice".into()], ..EnforcementPointSpec::default() };
    of(Object::EnforcementPoint(EnforcementPoint { metadata: metadata(name), spec: Some(spec), ..Default::default() }))
}

/// The same with as many annotations as may be, a quarter of a MiB.
pub(super) fn annotated(mut declaration: Declaration) -> Declaration {
    let metadata = declaration.metadata_mut().unwrap();
    metadata.annotations.extend((0..64).map(|n| (format!("note-{n}"), "x".repeat(4_096))));
    declaration
}

/// One of everything that an operator declares.
pub(super) fn payments() -> Vec<Declaration> {
    vec![
        // The order does not matter: what an object names may come after it.
        binding("bot-reads", "reader", &["invoice-bot"]),
        agent("invoice-bot", "worker"),
        class("worker", false),
        role("reader", "invoice:read"),
        policy("all", "permit (principal, action, resource);"),
        point("invoices"),
        namespace("payments"),
    ]
}
