//! A suite with as much declared as a benchmark asks for, and those who take part in it.

use legate::dev::{Options, Suite};
use legate_client::{Runtime, enrol};
use legate_rpc::Client;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateEnrolmentTokenRequest, EnforcementPointRef, create_enrolment_token_request};
use legate_wire::registry as wire;
use wire::agent_service_client::AgentServiceClient;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;

use crate::{Failed, Plan};

/// The audience of the backend's tokens.
pub(crate) const AUDIENCE: &str = "https://invoices.example.com";
/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "payments";
/// Objects in one apply.
const AT_ONCE: usize = 500;

/// A running suite.
pub(crate) struct House {
    pub(crate) suite: Suite,
    _dir: tempfile::TempDir,
}

fn metadata(name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata { name: name.into(), namespace: NAMESPACE.into(), ..wire::Metadata::default() })
}

fn permission(action: &str) -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: action.into(), resource: Some(resource) }
}

/// The name of the agent of this number.
pub(crate) fn agent_name(n: u32) -> String {
    format!("bot-{n}")
}

fn agent(n: u32) -> Object {
    let spec = wire::AgentSpec {
        agent_class: "worker".into(),
        purpose: "is measured".into(),
        environment: wire::Environment::Prod.into(),
        owners: vec!["user:ada@example.com".into()],
        sponsors: vec!["user:grace@example.com".into()],
        ..wire::AgentSpec::default()
    };
    Object::Agent(wire::Agent { metadata: metadata(&agent_name(n)), spec: Some(spec), status: None })
}

/// Policies as a company has them: a few that always apply, and many about one action, resource or agent.
fn policy(n: u32) -> Object {
    let cedar = match n {
        0 => "permit (principal, action, resource) when { principal.environment == \"prod\" };".to_owned(),
        1 => "forbid (principal, action, resource) when { resource has sealed && resource.sealed };".to_owned(),
        n if n % 3 == 0 => format!("forbid (principal, action == Action::\"invoice:step-{n}\", resource);"),
        n if n % 3 == 1 => format!("forbid (principal, action, resource == Invoice::\"vault/{n}\");"),
        n => format!(
            "forbid (principal in AgentClass::\"class-{n}\", action, resource) when {{ context has late && context.late }};"
        ),
    };
    let spec = wire::PolicySpec { cedar, mode: wire::PolicyMode::Enforce.into(), ..wire::PolicySpec::default() };
    Object::Policy(wire::Policy { metadata: metadata(&format!("policy-{n}")), spec: Some(spec) })
}

fn base() -> Vec<Object> {
    let namespace = wire::Metadata { name: NAMESPACE.into(), ..wire::Metadata::default() };
    let class = wire::AgentClassSpec { ceiling: vec![permission("*")], ..wire::AgentClassSpec::default() };
    let role = wire::RoleSpec { permissions: vec![permission("invoice:read")], ..wire::RoleSpec::default() };
    let point = wire::EnforcementPointSpec {
        resource_types: vec!["Invoice".into()],
        audiences: vec![AUDIENCE.into()],
        may_assert_subject: true,
        durable_actions: vec!["invoice:pay".into()],
        ..wire::EnforcementPointSpec::default()
    };
    vec![
        Object::Namespace(wire::Namespace {
            metadata: Some(namespace),
            spec: Some(wire::NamespaceSpec::default()),
            status: None,
        }),
        Object::AgentClass(wire::AgentClass { metadata: metadata("worker"), spec: Some(class), status: None }),
        Object::Role(wire::Role { metadata: metadata("reader"), spec: Some(role) }),
        Object::EnforcementPoint(wire::EnforcementPoint {
            metadata: metadata("invoices"),
            spec: Some(point),
            ..wire::EnforcementPoint::default()
        }),
        agent(0),
    ]
}

fn binding() -> Object {
    let spec = wire::RoleBindingSpec { role: "reader".into(), agents: vec![agent_name(0)], ..Default::default() };
    Object::RoleBinding(wire::RoleBinding { metadata: metadata("reads"), spec: Some(spec) })
}

impl House {
    /// Raises a suite and declares the main job, and so many agents and policies.
    pub(crate) async fn raise(plan: Plan) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let suite = Box::pin(Suite::start(&Options::in_dir(&dir.path().join("suite")))).await?;
        let house = Self { suite, _dir: dir };
        let mut all = base();
        all.push(binding());
        all.extend((1..plan.agents).map(agent));
        all.extend((0..plan.policies).map(policy));
        let mut service = DeclarationServiceClient::new(house.operator("registry")?);
        for some in all.chunks(AT_ONCE) {
            let declarations = some.iter().map(|o| wire::Declaration { object: Some(o.clone()) }).collect();
            let request = wire::ApplyDeclarationsRequest { declarations, ..Default::default() };
            service.apply_declarations(request).await?;
        }
        Ok(house)
    }

    /// A service, dialled as the operator.
    pub(crate) fn operator(&self, service: &'static str) -> Result<Client, Failed> {
        Ok(self.suite.dial(service)?)
    }

    /// The id of an agent.
    pub(crate) async fn agent_id(&self, n: u32) -> Result<String, Failed> {
        let mut agents = AgentServiceClient::new(self.operator("registry")?);
        let which = wire::AgentRef { namespace: NAMESPACE.into(), name: agent_name(n), ..wire::AgentRef::default() };
        let agent =
            agents.get_agent(wire::GetAgentRequest { agent: Some(which), as_of: None }).await?.into_inner().agent;
        Ok(agent.and_then(|a| a.metadata).map(|m| m.id).unwrap_or_default())
    }

    /// The runtime of an agent, enrolled, with SHA-256 of its certificate.
    pub(crate) async fn runtime(&self, n: u32) -> Result<(Runtime, [u8; 32]), Failed> {
        let holder = create_enrolment_token_request::Holder::AgentId(self.agent_id(n).await?);
        let issuer = self.suite.remote("credential-issuer")?;
        let enrolled = enrol(&issuer, &self.enrolment(holder).await?).await?;
        let identity = enrolled.identity()?;
        let presenter = identity.x5t_s256().unwrap_or_default();
        Ok((Runtime::new(&issuer, identity)?, presenter))
    }

    /// `n` channels to policy-decision as the backend, each a connection of its own.
    pub(crate) async fn backend(&self, n: usize) -> Result<Vec<Client>, Failed> {
        let point = EnforcementPointRef { namespace: NAMESPACE.into(), name: "invoices".into() };
        let holder = create_enrolment_token_request::Holder::EnforcementPoint(point);
        let token = self.enrolment(holder).await?;
        let identity = enrol(&self.suite.remote("credential-issuer")?, &token).await?.identity()?;
        let remote = self.suite.remote("policy-decision")?;
        (0..n).map(|_| Ok(remote.dial(identity.clone())?)).collect()
    }

    async fn enrolment(&self, holder: create_enrolment_token_request::Holder) -> Result<String, Failed> {
        let mut admin = CredentialAdminServiceClient::new(self.operator("credential-issuer")?);
        let request = CreateEnrolmentTokenRequest { holder: Some(holder), ttl: None, reason: "measured".into() };
        Ok(admin.create_enrolment_token(request).await?.into_inner().token)
    }

    /// Lowers audit-collector alone: records stay where they were made.
    pub(crate) async fn lower_collector(&mut self) {
        self.suite.lower("audit-collector").await;
    }

    /// Lowers the suite.
    pub(crate) async fn lower(self) {
        self.suite.shutdown().await;
    }
}
