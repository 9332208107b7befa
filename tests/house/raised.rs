//! The suite as `legate dev` raises it, in this process, and those who come to it.

use std::time::Duration;

use legate::dev::pki::Layout;
use legate::dev::{Options, Suite};
use legate_client::{Enrolled, Remote, Runtime, enrol};
use legate_clock::{Clock, SystemClock};
use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use legate_mtls::Identity;
use legate_mtls::pki::{Ca, Leaf};
use legate_rpc::Client;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateEnrolmentTokenRequest, EnforcementPointRef, NodeRef};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    Agent, AgentRef, ApplyDeclarationsRequest, Declaration, GetAgentRequest, Metadata, Node, NodeSpec,
};

/// The audience of the example's backend.
pub(crate) const AUDIENCE: &str = "https://invoices.example.com";
/// Nothing on one machine takes longer; a test that waits for so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3_600);

/// A raised suite and its directory.
pub(crate) struct Raised {
    pub(crate) suite: Suite,
    pub(crate) dir: tempfile::TempDir,
}

/// The example's parties, enrolled.
pub(crate) struct Payments {
    pub(crate) agent: Agent,
    /// The agent's certificate and key.
    pub(crate) enrolled: Enrolled,
    pub(crate) runtime: Runtime,
    pub(crate) backend: Identity,
}

impl Raised {
    /// A new suite in a new directory.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let suite = Box::pin(Suite::start(&Options::in_dir(&dir.path().join("suite")))).await.unwrap();
        Self { suite, dir }
    }

    /// A new suite whose credential-issuer has this in its configuration too.
    pub(crate) async fn with_federation(federation: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { federation: federation.to_owned(), ..Options::in_dir(&dir.path().join("suite")) };
        let suite = Box::pin(Suite::start(&options)).await.unwrap();
        Self { suite, dir }
    }

    /// A new suite whose registry serves SCIM too.
    pub(crate) async fn with_scim() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { scim: true, ..Options::in_dir(&dir.path().join("suite")) };
        let suite = Box::pin(Suite::start(&options)).await.unwrap();
        Self { suite, dir }
    }

    /// A new suite that goes by this clock, with these administrators beside its operator.
    pub(crate) async fn by_clock(clock: std::sync::Arc<dyn Clock>, administrators: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let administrators = administrators.iter().map(|name| (*name).to_owned()).collect();
        let dir_of = dir.path().join("suite");
        let options = Options { clock, administrators, ..Options::in_dir(&dir_of) };
        let suite = Box::pin(Suite::start(&options)).await.unwrap();
        Self { suite, dir }
    }

    /// A new suite of which this machine is a node.
    pub(crate) async fn with_node() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { workload: true, ..Options::in_dir(&dir.path().join("suite")) };
        let suite = Box::pin(Suite::start(&options)).await.unwrap();
        Self { suite, dir }
    }

    /// The same directory, raised anew.
    pub(crate) async fn again(self) -> Self {
        self.suite.shutdown().await;
        let suite = Box::pin(Suite::start(&Options::in_dir(&self.dir.path().join("suite")))).await.unwrap();
        Self { suite, dir: self.dir }
    }

    /// A service's address, and whom to believe.
    pub(crate) fn remote(&self, service: &'static str) -> Remote {
        self.suite.remote(service).unwrap()
    }

    /// A channel to a service, as somebody.
    pub(crate) fn dial(&self, service: &'static str, who: Identity) -> Client {
        self.remote(service).dial(who).unwrap()
    }

    /// A channel to a service, as the operator.
    pub(crate) fn operator(&self, service: &'static str) -> Client {
        self.suite.dial(service).unwrap()
    }

    /// A channel to a service, as another service.
    pub(crate) fn service(&self, name: &str) -> Identity {
        let files = self.suite.layout().tls(name);
        Identity::from_files(&files.cert, &files.key).unwrap()
    }

    /// The services' CA.
    pub(crate) fn services_ca(&self) -> Ca {
        ca(self.suite.layout().services_ca())
    }

    /// The workloads' CA, which credential-issuer holds.
    pub(crate) fn workloads_ca(&self) -> Ca {
        let layout = self.suite.layout();
        let key = unwrapped(layout, "workloads-ca");
        Ca::from_pem(&std::fs::read_to_string(layout.workloads_ca()).unwrap(), &key).unwrap()
    }

    /// Applies the example's manifest, and enrols the agent and the backend.
    pub(crate) async fn payments(&self) -> Payments {
        self.apply().await;
        let agent = self.agent().await;
        let token = self.enrolment_token(Holder::AgentId(id_of(&agent))).await;
        let enrolled = enrol(&self.remote("credential-issuer"), &token).await.unwrap();
        let runtime = Runtime::new(&self.remote("credential-issuer"), enrolled.identity().unwrap()).unwrap();
        let point = EnforcementPointRef { namespace: "payments".into(), name: "invoices".into() };
        let token = self.enrolment_token(Holder::EnforcementPoint(point)).await;
        let backend = enrol(&self.remote("credential-issuer"), &token).await.unwrap().identity().unwrap();
        Payments { agent, enrolled, runtime, backend }
    }

    /// A node of a namespace, declared and enrolled.
    pub(crate) async fn node(&self, namespace: &str, name: &str) -> Identity {
        let metadata = Metadata { namespace: namespace.into(), name: name.into(), ..Metadata::default() };
        let node = Node { metadata: Some(metadata), spec: Some(NodeSpec::default()), spiffe_id: String::new() };
        let declarations = vec![Declaration { object: Some(Object::Node(node)) }];
        let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
        DeclarationServiceClient::new(self.operator("registry")).apply_declarations(request).await.unwrap();
        let holder = NodeRef { namespace: namespace.into(), name: name.into() };
        let token = self.enrolment_token(Holder::Node(holder)).await;
        enrol(&self.remote("credential-issuer"), &token).await.unwrap().identity().unwrap()
    }

    /// Applies the example's manifest; the revision.
    pub(crate) async fn apply(&self) -> u64 {
        apply_example(self.operator("registry")).await
    }

    /// The example's agent.
    pub(crate) async fn agent(&self) -> Agent {
        example_agent(self.operator("registry")).await
    }

    /// Waits until the audit log's index holds what the registry wrote at a revision.
    pub(crate) async fn wait_for_record(&self, revision: u64) {
        let mut records = QueryServiceClient::new(self.operator("audit-collector"));
        let emitter = SpiffeId::service(self.suite.domain(), &Name::parse("registry").unwrap()).to_string();
        let mut ask = QueryEventsRequest { emitter, page_size: 1, ..QueryEventsRequest::default() };
        loop {
            let page = records.query_events(ask.clone()).await.unwrap().into_inner();
            if page.events.first().and_then(|e| e.event.as_ref()).is_some_and(|e| e.revision >= revision) {
                return;
            }
            ask.indexed_at_least = page.indexed_through + 1;
        }
    }

    /// A one-time token.
    pub(crate) async fn enrolment_token(&self, holder: Holder) -> String {
        let mut admin = CredentialAdminServiceClient::new(self.operator("credential-issuer"));
        let request = CreateEnrolmentTokenRequest { holder: Some(holder), ttl: None, reason: "a test".into() };
        admin.create_enrolment_token(request).await.unwrap().into_inner().token
    }
}

/// Applies the example's manifest; the revision.
pub(crate) async fn apply_example(registry: Client) -> u64 {
    let path = crate::blessed::root().join("deploy/examples/invoice.yaml");
    let documents = legate::manifest::load(&[path]).unwrap_or_else(|e| panic!("{e}"));
    let declarations = documents.into_iter().map(|document| document.declaration).collect();
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(registry).apply_declarations(request).await.unwrap().into_inner().revision
}

/// The example's agent.
pub(crate) async fn example_agent(registry: Client) -> Agent {
    let wanted = AgentRef { namespace: "payments".into(), name: "invoice-bot".into(), ..AgentRef::default() };
    let mut agents = AgentServiceClient::new(registry);
    agents.get_agent(GetAgentRequest { agent: Some(wanted), as_of: None }).await.unwrap().into_inner().agent.unwrap()
}

/// An agent's id.
pub(crate) fn id_of(agent: &Agent) -> String {
    agent.metadata.clone().unwrap_or_default().id
}

/// The private key of credential-issuer for a purpose, taken out of its wrapping; the first in the directory.
pub(crate) fn unwrapped(layout: &Layout, purpose: &str) -> String {
    let files = std::fs::read_dir(layout.service("credential-issuer")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let kid = |name: String| Some(name.strip_suffix(".key")?.strip_prefix(purpose)?.strip_prefix('.')?.to_owned());
    let kid = names.filter_map(kid).next().unwrap();
    unwrapped_as(layout, purpose, &kid)
}

/// The one of that id.
pub(crate) fn unwrapped_as(layout: &Layout, purpose: &str, kid: &str) -> String {
    let kek = legate_credential_issuer::Kek::open(&layout.kek()).unwrap();
    let path = layout.service("credential-issuer").join(format!("{purpose}.{kid}.key"));
    let secret = kek.unwrap(&format!("{purpose} {kid}"), &std::fs::read_to_string(path).unwrap()).unwrap();
    String::from_utf8(secret.to_vec()).unwrap()
}

fn ca(files: legate::dev::pki::Files) -> Ca {
    let read = |path| std::fs::read_to_string(path).unwrap();
    Ca::from_pem(&read(files.cert), &read(files.key)).unwrap()
}

/// A certificate for any id by any CA.
pub(crate) fn certify(ca: &Ca, id: &SpiffeId) -> Identity {
    let leaf = Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: HOUR };
    let issued = ca.issue(&leaf, SystemClock::new().now()).unwrap();
    Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
}

/// Who is refused by TLS itself: what is wrong with the certificate, and the certificate.
pub(crate) fn crossed(raised: &Raised) -> Vec<(&'static str, Identity)> {
    let domain = raised.suite.domain();
    let name = |text: &str| Name::parse(text).unwrap();
    let strange = TrustDomain::parse("elsewhere.example").unwrap();
    let strangers = Ca::generate("Legate services of dev.legate", SystemClock::new().now(), HOUR).unwrap();
    let agent = SpiffeId::agent(domain, &name("payments"), &AgentId::from_parts(1, [7; 10]));
    let operator = SpiffeId::operator(domain, &name("dev"));
    vec![
        ("other-ca", certify(&strangers, &operator)),
        ("other-domain", certify(&raised.services_ca(), &SpiffeId::operator(&strange, &name("dev")))),
        ("operator-by-workloads-ca", certify(&raised.workloads_ca(), &operator)),
        ("service-by-workloads-ca", certify(&raised.workloads_ca(), &SpiffeId::service(domain, &name("registry")))),
        ("agent-by-services-ca", certify(&raised.services_ca(), &agent)),
    ]
}
