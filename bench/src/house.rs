//! A suite with as much declared as a benchmark asks for, and those who take part in it.

use std::collections::BTreeMap;

use legate::dev::{Options, Suite, pki};
use legate_client::{Enrolled, Remote, Runtime, enrol};
use legate_mtls::Identity;
use legate_rpc::Client;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateEnrolmentTokenRequest, EnforcementPointRef, create_enrolment_token_request};
use legate_wire::registry as wire;
use wire::agent_service_client::AgentServiceClient;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;

use crate::apart::{self, Apart};
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
    /// Where the services are, also while they are processes of their own.
    remotes: BTreeMap<&'static str, Remote>,
    /// credential-issuer's HTTPS.
    web: Remote,
    _dir: tempfile::TempDir,
}

/// What an object of this name says of itself.
pub(crate) fn metadata(name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata { name: name.into(), namespace: NAMESPACE.into(), ..wire::Metadata::default() })
}

/// An action on all invoices.
pub(crate) fn permission(action: &str) -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: action.into(), resource: Some(resource) }
}

/// The name of the agent of this number.
pub(crate) fn agent_name(n: u32) -> String {
    format!("bot-{n}")
}

fn agent(n: u32) -> Object {
    agent_of("worker", &agent_name(n))
}

/// An agent of a class.
pub(crate) fn agent_of(class: &str, name: &str) -> Object {
    let spec = wire::AgentSpec {
        agent_class: class.into(),
        purpose: "is measured".into(),
        environment: wire::Environment::Prod.into(),
        owners: vec!["user:ada@example.com".into()],
        sponsors: vec!["user:grace@example.com".into()],
        ..wire::AgentSpec::default()
    };
    Object::Agent(wire::Agent { metadata: metadata(name), spec: Some(spec), status: None })
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
        Self::raise_at(plan, 0).await
    }

    /// The same on ports from `base` on; 0: free ones from the kernel.
    pub(crate) async fn raise_at(plan: Plan, base_port: u16) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let options = Options { port_base: base_port, ..Options::in_dir(&dir.path().join("suite")) };
        let suite = Box::pin(Suite::start(&options)).await?;
        let mut remotes = BTreeMap::new();
        for service in pki::SERVICES {
            remotes.insert(service, suite.remote(service)?);
        }
        let web = suite.running("credential-issuer").and_then(legate_boot::Running::web_addr);
        let web = web.ok_or("credential-issuer has no HTTPS")?;
        let web = Remote { endpoint: format!("https://{web}"), ..suite.remote("credential-issuer")? };
        let house = Self { suite, remotes, web, _dir: dir };
        let mut all = base();
        all.push(binding());
        all.extend((1..plan.agents).map(agent));
        all.extend((0..plan.policies).map(policy));
        house.declare(&all).await?;
        Ok(house)
    }

    /// Declares more.
    pub(crate) async fn declare(&self, all: &[Object]) -> Result<(), Failed> {
        let mut service = DeclarationServiceClient::new(self.operator("registry")?);
        for some in all.chunks(AT_ONCE) {
            let declarations = some.iter().map(|o| wire::Declaration { object: Some(o.clone()) }).collect();
            let request = wire::ApplyDeclarationsRequest { declarations, ..Default::default() };
            service.apply_declarations(request).await?;
        }
        Ok(())
    }

    /// Lowers the services, and raises each in a process of its own, with what they have. Only where the ports are not the
    /// kernel's choice.
    pub(crate) async fn part(&mut self) -> Result<Apart, Failed> {
        for service in pki::SERVICES.into_iter().rev() {
            self.suite.lower(service).await;
        }
        apart::raise(self).await
    }

    /// A service.
    pub(crate) fn remote(&self, service: &str) -> Result<Remote, Failed> {
        Ok(self.remotes.get(service).cloned().ok_or("no such service")?)
    }

    /// credential-issuer's HTTPS.
    pub(crate) fn web(&self) -> &Remote {
        &self.web
    }

    /// A service, dialled as the operator.
    pub(crate) fn operator(&self, service: &'static str) -> Result<Client, Failed> {
        Ok(self.remote(service)?.dial(self.suite.operator()?)?)
    }

    /// The id of an agent.
    pub(crate) async fn agent_id(&self, n: u32) -> Result<String, Failed> {
        self.agent_id_of(&agent_name(n)).await
    }

    /// The id of an agent by its name.
    pub(crate) async fn agent_id_of(&self, name: &str) -> Result<String, Failed> {
        let mut agents = AgentServiceClient::new(self.operator("registry")?);
        let which = wire::AgentRef { namespace: NAMESPACE.into(), name: name.into(), ..wire::AgentRef::default() };
        let agent =
            agents.get_agent(wire::GetAgentRequest { agent: Some(which), as_of: None }).await?.into_inner().agent;
        Ok(agent.and_then(|a| a.metadata).map(|m| m.id).unwrap_or_default())
    }

    /// The runtime of an agent, enrolled, with SHA-256 of its certificate.
    pub(crate) async fn runtime(&self, n: u32) -> Result<(Runtime, [u8; 32]), Failed> {
        let identity = self.enrolled(&agent_name(n)).await?.identity()?;
        let presenter = identity.x5t_s256().unwrap_or_default();
        Ok((Runtime::new(&self.remote("credential-issuer")?, identity)?, presenter))
    }

    /// An agent by its name, enrolled.
    pub(crate) async fn enrolled(&self, name: &str) -> Result<Enrolled, Failed> {
        let holder = create_enrolment_token_request::Holder::AgentId(self.agent_id_of(name).await?);
        Ok(enrol(&self.remote("credential-issuer")?, &self.enrolment(holder).await?).await?)
    }

    /// `n` channels to policy-decision as the backend, each a connection of its own.
    pub(crate) async fn backend(&self, n: usize) -> Result<Vec<Client>, Failed> {
        Ok(self.backend_as("invoices", n).await?.0)
    }

    /// The same as the enforcement point of this name, and who that is.
    pub(crate) async fn backend_as(&self, name: &str, n: usize) -> Result<(Vec<Client>, Identity), Failed> {
        let point = EnforcementPointRef { namespace: NAMESPACE.into(), name: name.into() };
        let holder = create_enrolment_token_request::Holder::EnforcementPoint(point);
        let token = self.enrolment(holder).await?;
        let identity = enrol(&self.remote("credential-issuer")?, &token).await?.identity()?;
        let remote = self.remote("policy-decision")?;
        let clients: Result<_, Failed> = (0..n).map(|_| Ok(remote.dial(identity.clone())?)).collect();
        Ok((clients?, identity))
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
