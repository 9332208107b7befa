//! A registry and a collector played by the test, the certificates of everybody, and the service between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use legate_boot::config::{Telemetry, Tls};
use legate_boot::{Context, Running, StartError};
use legate_clock::{Clock, SystemClock};
use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Leaf, write_private, write_public};
use legate_mtls::{Expect, Identity, Listener, Trust};
use legate_policy_decision::{Config, DecisionConfig, SpoolConfig, start};
use legate_rpc::{AlwaysGood, Caller, Client, Dial, Limits, Metrics, Rule, Service, Serving};
use legate_token::{Chain, Claims, Confirmation, EcSigner, P256Signer, Scope, Subject};
use legate_wire::audit::ingest_service_server::{IngestService, IngestServiceServer};
use legate_wire::audit::{
    AppendEventsRequest, AppendEventsResponse, AuditEvent, GetReceiptsRequest, GetReceiptsResponse,
};
use legate_wire::policy as wire;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::issuance_service_client::IssuanceServiceClient;
use legate_wire::registry as reg;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::feed_service_server::{FeedService, FeedServiceServer};
use legate_wire::registry::watch_request::Ask;
use legate_wire::registry::watch_response::News;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const AUDIENCE: &str = "https://invoices.example.com";
const ISSUER: &str = "https://issuer.example.com";
const DAY: Duration = Duration::from_secs(24 * 3600);

type Outgoing = mpsc::UnboundedSender<Result<reg::WatchResponse, Status>>;

/// What the played registry holds, and who watches it.
#[derive(Debug, Default)]
struct Book {
    revision: u64,
    objects: BTreeMap<String, reg::Declaration>,
    watchers: Vec<Outgoing>,
}

#[derive(Clone, Debug, Default)]
struct PlayedRegistry(Arc<Mutex<Book>>);

fn told(news: News) -> Result<reg::WatchResponse, Status> {
    Ok(reg::WatchResponse { news: Some(news) })
}

#[tonic::async_trait]
impl FeedService for PlayedRegistry {
    type WatchStream = Pin<Box<dyn futures_util::Stream<Item = Result<reg::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<reg::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut asks = request.into_inner();
        let (news, stream) = mpsc::unbounded_channel();
        let book = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok(Some(asked)) = asks.message().await {
                let mut book = book.lock();
                let revision = book.revision;
                let answer = match asked.ask {
                    Some(Ask::Start(_)) => {
                        book.watchers.push(news.clone());
                        let part =
                            reg::SnapshotPart { revision, first: true, last: true, ..reg::SnapshotPart::default() };
                        News::Snapshot(part.with_objects(book.objects.values()))
                    }
                    Some(Ask::Ping(ping)) => News::Pong(reg::WatchPong { nonce: ping.nonce, revision }),
                    None => return,
                };
                if news.send(told(answer)).is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }
}

impl PlayedRegistry {
    fn put(&self, key: &str, object: Object, revoked: bool) -> u64 {
        let declaration = reg::Declaration { object: Some(object) };
        let mut book = self.0.lock();
        book.revision += 1;
        if revoked {
            book.objects.remove(key);
        } else {
            book.objects.insert(key.to_owned(), declaration.clone());
        }
        let change = reg::Change { object: Some(declaration), revoked };
        let changes = reg::RevisionChanges { revision: book.revision, changes: vec![change], ..Default::default() };
        book.watchers.retain(|w| w.send(told(News::Changes(changes.clone()))).is_ok());
        book.revision
    }
}

#[derive(Clone, Debug)]
struct PlayedCollector(Arc<watch::Sender<Vec<AuditEvent>>>);

#[tonic::async_trait]
impl IngestService for PlayedCollector {
    async fn append_events(
        &self,
        request: Request<AppendEventsRequest>,
    ) -> Result<Response<AppendEventsResponse>, Status> {
        let request = request.into_inner();
        let events = request.events.iter().map(|e| AuditEvent::decode(e.as_ref()).unwrap());
        let mut appended = 0;
        let mut acked_seq = 0;
        self.0.send_modify(|all| {
            for event in events {
                acked_seq = event.emitter.as_ref().unwrap().seq;
                if !all.iter().any(|known| known.emitter == event.emitter) {
                    all.push(event);
                    appended += 1;
                }
            }
        });
        Ok(Response::new(AppendEventsResponse { acked_seq, first_leaf_index: None, appended }))
    }

    async fn get_receipts(&self, _: Request<GetReceiptsRequest>) -> Result<Response<GetReceiptsResponse>, Status> {
        Err(Status::unimplemented("receipts are not played"))
    }
}

/// Everything around the service.
pub(crate) struct House {
    dir: tempfile::TempDir,
    domain: TrustDomain,
    services: Ca,
    workloads: Ca,
    clock: Arc<dyn Clock>,
    registry: PlayedRegistry,
    events: Arc<watch::Sender<Vec<AuditEvent>>>,
    registry_at: Serving,
    collector_at: Serving,
    signer: P256Signer,
    agent_pem: String,
}

/// The word of an answer.
pub(crate) async fn word(client: &mut DecisionServiceClient<Client>, question: wire::EvaluateRequest) -> String {
    client.evaluate(question).await.unwrap().into_inner().reason_code
}

fn metadata(name: &str) -> Option<reg::Metadata> {
    Some(reg::Metadata {
        name: name.into(),
        namespace: "payments".into(),
        id: format!("obj_{name}"),
        version: 1,
        ..reg::Metadata::default()
    })
}

fn permission(action: &str, id: &str) -> reg::Permission {
    let resource = reg::ResourceSelector { r#type: "Invoice".into(), id: id.into(), attributes: BTreeMap::new() };
    reg::Permission { action: action.into(), resource: Some(resource) }
}

fn the_agent() -> AgentId {
    AgentId::from_parts(1, [1; 10])
}

fn agent_object(state: reg::AgentState) -> Object {
    let mut metadata = metadata("invoice-bot").unwrap();
    metadata.id = the_agent().to_string();
    Object::Agent(reg::Agent {
        metadata: Some(metadata),
        spec: Some(reg::AgentSpec { agent_class: "worker".into(), ..reg::AgentSpec::default() }),
        status: Some(reg::AgentStatus { state: state.into(), lifecycle_version: 1, ..reg::AgentStatus::default() }),
    })
}

/// The operator may read what is declared here.
fn operators_object() -> Object {
    let spec = reg::OperatorBindingSpec {
        operators: vec!["alice".into()],
        role: reg::OperatorRole::Viewer.into(),
        ..reg::OperatorBindingSpec::default()
    };
    Object::OperatorBinding(reg::OperatorBinding { metadata: metadata("team"), spec: Some(spec) })
}

fn point_object(name: &str) -> Object {
    let spec = reg::EnforcementPointSpec {
        resource_types: vec!["Invoice".into()],
        audiences: vec![AUDIENCE.into()],
        ..reg::EnforcementPointSpec::default()
    };
    Object::EnforcementPoint(reg::EnforcementPoint {
        metadata: metadata(name),
        spec: Some(spec),
        spiffe_id: String::new(),
    })
}

async fn play(
    house: &(TrustDomain, &Ca, &Ca, Arc<dyn Clock>),
    name: &'static str,
    access: &'static [Rule],
    routes: tonic::service::Routes,
) -> Serving {
    let (domain, services, workloads, clock) = house;
    let id = SpiffeId::service(domain, &Name::parse(name).unwrap());
    let identity = identity(services, &id, clock);
    let trust = Trust::from_pem(domain.clone(), services.cert_pem(), Some(workloads.cert_pem())).unwrap();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let listener =
        Listener::bind(anywhere, identity, trust, Arc::clone(clock), legate_mtls::Limits::default()).await.unwrap();
    let service = Service {
        name,
        access,
        routes,
        standing: Arc::new(AlwaysGood),
        clock: Arc::clone(clock),
        limits: Limits::default(),
        metrics: Arc::new(Metrics::new()),
        refusals: Arc::default(),
        descriptors: None,
    };
    legate_rpc::serve(service, listener).await.unwrap()
}

fn identity(ca: &Ca, id: &SpiffeId, clock: &Arc<dyn Clock>) -> Identity {
    let leaf = Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: DAY };
    let issued = ca.issue(&leaf, clock.now()).unwrap();
    Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
}

fn certificate(ca: &Ca, id: &SpiffeId, clock: &Arc<dyn Clock>) -> String {
    ca.issue(&Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: DAY }, clock.now()).unwrap().cert_pem
}

const FEED: &[Rule] =
    &[Rule { method: "/legate.registry.v1.FeedService/Watch", callers: &[Caller::Service("policy-decision")] }];
const INGEST: &[Rule] =
    &[Rule { method: "/legate.audit.v1.IngestService/AppendEvents", callers: &[Caller::Service("policy-decision")] }];

/// An agent of another namespace, and an enforcement point there.
pub(crate) struct Stranger {
    pub(crate) id: String,
    /// Bound to the certificate of which everything is 7.
    pub(crate) token: String,
    /// Bound to `pem`.
    pub(crate) token_of_certificate: String,
    pub(crate) pem: String,
    pub(crate) desk: Identity,
}

impl House {
    /// Raises registry and collector, and declares the main job.
    pub(crate) async fn build() -> Self {
        let clock = SystemClock::shared();
        let domain = TrustDomain::parse("example.org").unwrap();
        let services = Ca::generate("services", clock.now(), DAY).unwrap();
        let workloads = Ca::generate("workloads", clock.now(), DAY).unwrap();
        let registry = PlayedRegistry::default();
        let events = Arc::new(watch::Sender::new(Vec::new()));
        let base = (domain.clone(), &services, &workloads, Arc::clone(&clock));
        let feed = tonic::service::Routes::new(FeedServiceServer::new(registry.clone()));
        let registry_at = play(&base, "registry", FEED, feed).await;
        let ingest = tonic::service::Routes::new(IngestServiceServer::new(PlayedCollector(Arc::clone(&events))));
        let collector_at = play(&base, "audit-collector", INGEST, ingest).await;
        let ns = Name::parse("payments").unwrap();
        let agent_pem = certificate(&workloads, &SpiffeId::agent(&domain, &ns, &the_agent()), &clock);
        let house = Self {
            agent_pem,
            dir: tempfile::tempdir().unwrap(),
            signer: P256Signer::from_scalar(&[1; 32]).unwrap(),
            domain,
            services,
            workloads,
            clock,
            registry,
            events,
            registry_at,
            collector_at,
        };
        house.declare();
        house
    }

    fn declare(&self) {
        let put = |key: &str, object| self.registry.put(key, object, false);
        let class = reg::AgentClassSpec { ceiling: vec![permission("*", "*")], ..reg::AgentClassSpec::default() };
        put(
            "class",
            Object::AgentClass(reg::AgentClass { metadata: metadata("worker"), spec: Some(class), status: None }),
        );
        let role = reg::RoleSpec { permissions: vec![permission("invoice:read", "*")], ..reg::RoleSpec::default() };
        put("role", Object::Role(reg::Role { metadata: metadata("reader"), spec: Some(role) }));
        let binding = reg::RoleBindingSpec {
            role: "reader".into(),
            agents: vec!["invoice-bot".into()],
            resources: permission("x", "apollo/*").resource.into_iter().collect(),
            ..reg::RoleBindingSpec::default()
        };
        put("binding", Object::RoleBinding(reg::RoleBinding { metadata: metadata("reads"), spec: Some(binding) }));
        let policy = reg::PolicySpec {
            cedar: "permit(principal, action, resource);".into(),
            mode: reg::PolicyMode::Enforce.into(),
            ..reg::PolicySpec::default()
        };
        put("policy", Object::Policy(reg::Policy { metadata: metadata("all"), spec: Some(policy) }));
        put("agent", agent_object(reg::AgentState::Active));
        put("point", point_object("invoices"));
        put("operators", operators_object());
        let key = reg::SigningKeySpec {
            kid: self.signer.public_key().kid().to_string(),
            issuer: ISSUER.into(),
            jwk: self.signer.public_key().to_jwk(),
            r#use: reg::SigningKeyUse::AccessToken.into(),
            ..reg::SigningKeySpec::default()
        };
        put("key", Object::SigningKey(reg::SigningKey { metadata: metadata("key"), spec: Some(key) }));
    }

    /// Declares an enforcement point that may say who acts, and search.
    pub(crate) fn trust(&self, name: &str) -> u64 {
        let mut point = point_object(name);
        if let Object::EnforcementPoint(reg::EnforcementPoint { spec: Some(spec), .. }) = &mut point {
            (spec.may_assert_subject, spec.may_search) = (true, true);
        }
        self.registry.put(name, point, false)
    }

    /// Declares an agent of another namespace that may do everything there, and an enforcement point there that may ask everything.
    pub(crate) fn stranger(&self) -> Stranger {
        let id = AgentId::from_parts(2, [2; 10]);
        let of_sales = |name: &str| {
            let own = metadata(name).unwrap();
            Some(reg::Metadata { namespace: "sales".into(), id: format!("obj_sales_{name}"), ..own })
        };
        let put = |key: &str, object| self.registry.put(&format!("sales-{key}"), object, false);
        let all = vec![permission("*", "*")];
        let class = reg::AgentClassSpec { permissions: all.clone(), ceiling: all, ..reg::AgentClassSpec::default() };
        put(
            "class",
            Object::AgentClass(reg::AgentClass { metadata: of_sales("worker"), spec: Some(class), status: None }),
        );
        let policy = reg::PolicySpec {
            cedar: "permit(principal, action, resource);".into(),
            mode: reg::PolicyMode::Enforce.into(),
            ..reg::PolicySpec::default()
        };
        put("policy", Object::Policy(reg::Policy { metadata: of_sales("all"), spec: Some(policy) }));
        let mut agent = agent_object(reg::AgentState::Active);
        if let Object::Agent(agent) = &mut agent {
            agent.metadata = of_sales("spy").map(|own| reg::Metadata { id: id.to_string(), ..own });
        }
        put("agent", agent);
        let mut point = point_object("desk");
        if let Object::EnforcementPoint(point) = &mut point {
            point.metadata = of_sales("desk");
            let spec = point.spec.get_or_insert_default();
            (spec.may_assert_subject, spec.may_search) = (true, true);
        }
        put("point", point);
        let sales = Name::parse("sales").unwrap();
        let pem = certificate(&self.workloads, &SpiffeId::agent(&self.domain, &sales, &id), &self.clock);
        let trust = Trust::from_pem(self.domain.clone(), self.services.cert_pem(), Some(self.workloads.cert_pem()));
        let peer = trust.unwrap().shown_to_another(&pem, self.clock.now()).unwrap();
        let subject = Subject::parse(&format!("spiffe://example.org/ns/sales/agent/{id}")).unwrap();
        let token = |x5t_s256| {
            let confirmation = Confirmation::Certificate(x5t_s256);
            let (namespace, agent, subject) = (sales.clone(), id.clone(), subject.clone());
            let claims = Claims { namespace, agent, subject, confirmation, ..self.claims() };
            legate_token::mint(&claims, &self.signer).unwrap()
        };
        let desk = SpiffeId::enforcer(&self.domain, &sales, &Name::parse("desk").unwrap());
        Stranger {
            id: id.to_string(),
            token: token([7; 32]),
            token_of_certificate: token(peer.x5t_s256),
            pem,
            desk: identity(&self.workloads, &desk, &self.clock),
        }
    }

    pub(crate) fn suspend(&self) -> u64 {
        self.registry.put("agent", agent_object(reg::AgentState::Suspended), false)
    }

    pub(crate) fn take_back_point(&self, name: &str) {
        self.registry.put("point", point_object(name), true);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> Config {
        let id = SpiffeId::service(&self.domain, &Name::parse("policy-decision").unwrap());
        let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: DAY };
        let issued = self.services.issue(&leaf, self.clock.now()).unwrap();
        write_public(&self.file("tls.pem"), &issued.cert_pem).unwrap();
        write_private(&self.file("tls.key"), &issued.key_pem).unwrap();
        write_public(&self.file("ca.pem"), self.services.cert_pem()).unwrap();
        write_public(&self.file("workloads.pem"), self.workloads.cert_pem()).unwrap();
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            probes: Some("127.0.0.1:0".parse().unwrap()),
            registry: format!("https://{}", self.registry_at.addr()),
            audit_collector: format!("https://{}", self.collector_at.addr()),
            tls: Tls {
                trust_domain: self.domain.to_string(),
                cert: self.file("tls.pem"),
                key: self.file("tls.key"),
                services_ca: self.file("ca.pem"),
                workloads_ca: Some(self.file("workloads.pem")),
                operators_ca: None,
            },
            spool: SpoolConfig { dir: self.file("spool"), max_bytes: 64 << 20 },
            decision: DecisionConfig::default(),
            authzen: None,
            ext_authz: legate_policy_decision::ExtAuthzConfig::default(),
            telemetry: Telemetry::default(),
        }
    }

    pub(crate) async fn raise(&self) -> Running {
        self.raise_with(self.config()).await
    }

    pub(crate) async fn raise_with(&self, config: Config) -> Running {
        self.try_raise(config).await.unwrap()
    }

    pub(crate) async fn try_raise(&self, config: Config) -> Result<Running, StartError> {
        start(config, Context::new()).await
    }

    pub(crate) fn enforcer(&self, name: &str) -> Identity {
        let (ns, name) = (Name::parse("payments").unwrap(), Name::parse(name).unwrap());
        identity(&self.workloads, &SpiffeId::enforcer(&self.domain, &ns, &name), &self.clock)
    }

    pub(crate) fn agent(&self) -> Identity {
        let ns = Name::parse("payments").unwrap();
        identity(&self.workloads, &SpiffeId::agent(&self.domain, &ns, &the_agent()), &self.clock)
    }

    /// The agent's certificate, the same each time.
    pub(crate) fn agent_pem(&self) -> String {
        self.agent_pem.clone()
    }

    /// An enforcement point's certificate.
    pub(crate) fn enforcer_pem(&self, name: &str) -> String {
        let (ns, name) = (Name::parse("payments").unwrap(), Name::parse(name).unwrap());
        certificate(&self.workloads, &SpiffeId::enforcer(&self.domain, &ns, &name), &self.clock)
    }

    /// A good token that is bound to [`House::agent_pem`].
    pub(crate) fn token_of_certificate(&self) -> String {
        let trust = Trust::from_pem(self.domain.clone(), self.services.cert_pem(), Some(self.workloads.cert_pem()));
        let peer = trust.unwrap().shown_to_another(&self.agent_pem, self.clock.now()).unwrap();
        let claims = Claims { confirmation: Confirmation::Certificate(peer.x5t_s256), ..self.claims() };
        legate_token::mint(&claims, &self.signer).unwrap()
    }

    pub(crate) fn agent_id(&self) -> String {
        the_agent().to_string()
    }

    pub(crate) fn service(&self, name: &str) -> Identity {
        identity(&self.services, &SpiffeId::service(&self.domain, &Name::parse(name).unwrap()), &self.clock)
    }

    pub(crate) fn operator(&self) -> Identity {
        identity(&self.services, &SpiffeId::operator(&self.domain, &Name::parse("alice").unwrap()), &self.clock)
    }

    pub(crate) fn dial(&self, running: &Running, who: &Identity) -> Client {
        self.dial_at(running.addr(), who)
    }

    /// A channel to the HTTPS port.
    pub(crate) fn web(&self, running: &Running, who: &Identity) -> Client {
        self.dial_at(running.web_addr().unwrap(), who)
    }

    fn dial_at(&self, addr: std::net::SocketAddr, who: &Identity) -> Client {
        legate_rpc::dial(Dial {
            endpoint: format!("https://{addr}"),
            identity: who.clone(),
            trust: Trust::from_pem(self.domain.clone(), self.services.cert_pem(), None).unwrap(),
            expect: Expect::Service("policy-decision"),
            timeout: Duration::from_secs(5),
            clock: Arc::clone(&self.clock),
        })
        .unwrap()
    }

    pub(crate) fn decisions(&self, running: &Running, who: &Identity) -> DecisionServiceClient<Client> {
        DecisionServiceClient::new(self.dial(running, who))
    }

    pub(crate) fn issuance(&self, running: &Running, who: &Identity) -> IssuanceServiceClient<Client> {
        IssuanceServiceClient::new(self.dial(running, who))
    }

    fn claims(&self) -> Claims {
        let secs = u64::try_from(self.clock.now().secs()).unwrap();
        Claims {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            subject: Subject::parse(&format!("spiffe://example.org/ns/payments/agent/{}", the_agent())).unwrap(),
            issued_at: secs,
            expires_at: secs + 300,
            token_id: "0123456789abcdef".into(),
            scope: Scope::All,
            details: legate_token::Details::default(),
            lifecycle_version: 1,
            namespace: Name::parse("payments").unwrap(),
            agent: the_agent(),
            instance: None,
            chain: Chain::default(),
            confirmation: Confirmation::Certificate([7; 32]),
            credential: None,
            status: None,
        }
    }

    /// A question with a good token about the invoice `id`.
    pub(crate) fn question(&self, id: &str) -> wire::EvaluateRequest {
        let token = legate_token::mint(&self.claims(), &self.signer).unwrap();
        wire::EvaluateRequest {
            subject: Some(wire::Subject {
                agent: Some(wire::subject::Agent::AccessToken(token)),
                presenter_x5t_s256: vec![7; 32],
                ..Default::default()
            }),
            action: "invoice:read".into(),
            resource: Some(wire::Resource { r#type: "Invoice".into(), id: id.into(), attributes: None }),
            ..wire::EvaluateRequest::default()
        }
    }

    /// Asks for the last declared revision, which is waited for, until the view is fresh as well.
    pub(crate) async fn until_fresh(&self, backend: &mut DecisionServiceClient<Client>) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let mut question = self.question("apollo/1");
            question.at_least_revision = self.registry.0.lock().revision;
            let answer = word(backend, question).await;
            match answer.as_str() {
                "STALE" | "REVISION_NOT_REACHED" => assert!(tokio::time::Instant::now() < deadline, "{answer}"),
                _ => return,
            }
        }
    }

    /// The collected events, once `enough` of them came.
    pub(crate) async fn collected(&self, enough: impl Fn(&[AuditEvent]) -> bool) -> Vec<AuditEvent> {
        let mut events = self.events.subscribe();
        let came = events.wait_for(|all| enough(all));
        let all = tokio::time::timeout(Duration::from_secs(20), came).await.unwrap().unwrap();
        all.clone()
    }

    /// Waits for what happens without a word.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(tokio::time::Instant::now() < deadline, "{what}");
            tokio::task::yield_now().await;
        }
    }
}
