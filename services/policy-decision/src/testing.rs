//! A stage for tests: a registry played by hand, a spool on paper that fails when told to, and everything declared.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use legate_clock::{Clock, TestClock, Timestamp};
use legate_ids::{AgentId, CredentialId, Name, Principal, SpiffeId};
use legate_mtls::pki::Ca;
use legate_mtls::{Peer, Trust};
use legate_token::{Chain, Claims, Confirmation, EcSigner, P256Signer, Scope};
use legate_view::{Feed, News, Options, View};
use legate_wire::audit::AuditEvent;
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::watch_request::Ask as Asked;
use legate_wire::registry::watch_response::News as Told;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use crate::convert::{Ask, Subject};
use crate::domain::authority::Bench;
use crate::domain::question::{Question, Record, Stated, Value};
use crate::flow::{Asker, Desk, Kind, Spoken, Tokens, evaluate};
use crate::metrics::Metrics;
use crate::store::library::Library;
use crate::store::spool::{Before, Paper, Refused, Spool, Terms};

pub(crate) mod past;

pub(crate) const NOW: i64 = 1_900_000_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const AUDIENCE: &str = "https://invoices.example.com";
pub(crate) const ISSUER: &str = "https://issuer.example.com";
/// SHA-256 of the certificate that the agent holds.
pub(crate) const CERTIFICATE: [u8; 32] = [7; 32];

/// What the paper does with the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    Full,
    Broken,
    Hanging,
    SyncFails,
}

/// Keeps records in memory.
#[derive(Debug)]
pub(crate) struct TestPaper {
    pub(crate) mood: Mutex<Mood>,
    records: Mutex<Vec<Vec<u8>>>,
    pub(crate) synced: AtomicBool,
    pub(crate) waiting: std::sync::atomic::AtomicU64,
    stop: Mutex<Option<(Arc<TestClock>, Duration)>>,
}

impl TestPaper {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(Mood::Good),
            records: Mutex::default(),
            synced: AtomicBool::new(false),
            waiting: std::sync::atomic::AtomicU64::new(0),
            stop: Mutex::default(),
        })
    }

    /// The next sync takes `time` on `clock`, as if the process had been stopped.
    pub(crate) fn stop_while_syncing(&self, clock: Arc<TestClock>, time: Duration) {
        *self.stop.lock() = Some((clock, time));
    }

    pub(crate) fn events(&self) -> Vec<AuditEvent> {
        let records = self.records.lock();
        records.iter().map(|r| AuditEvent::decode(r.as_slice()).unwrap()).collect()
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }
}

#[async_trait::async_trait]
impl Paper for TestPaper {
    async fn write(&self, records: Vec<Vec<u8>>) -> Result<(), Refused> {
        let mood = *self.mood.lock();
        match mood {
            Mood::Good | Mood::SyncFails => {
                self.records.lock().extend(records);
                Ok(())
            }
            Mood::Full => Err(Refused::Full),
            Mood::Broken => Err(Refused::Broken),
            Mood::Hanging => std::future::pending().await,
        }
    }

    async fn sync(&self) -> Result<(), Refused> {
        if *self.mood.lock() == Mood::SyncFails {
            return Err(Refused::Broken);
        }
        if let Some((clock, time)) = self.stop.lock().take() {
            clock.advance(time);
        }
        self.synced.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn waiting_bytes(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// A registry of which one stream can be opened.
#[derive(Debug)]
struct OneStream(Mutex<Option<mpsc::UnboundedReceiver<Result<wire::WatchResponse, Status>>>>, Arc<Pongs>);

/// Answers pings while it is told to.
#[derive(Debug)]
pub(crate) struct Pongs {
    pub(crate) on: AtomicBool,
    revision: std::sync::atomic::AtomicU64,
    news: mpsc::UnboundedSender<Result<wire::WatchResponse, Status>>,
}

#[async_trait::async_trait]
impl Feed for OneStream {
    async fn watch(&self, mut asks: mpsc::Receiver<wire::WatchRequest>) -> Result<News, Status> {
        let told = self.0.lock().take().ok_or_else(|| Status::unavailable("played once"))?;
        let pongs = Arc::clone(&self.1);
        tokio::spawn(async move {
            while let Some(asked) = asks.recv().await {
                if let Some(Asked::Ping(ping)) = asked.ask
                    && pongs.on.load(Ordering::SeqCst)
                {
                    let revision = pongs.revision.load(Ordering::SeqCst);
                    pongs.tell(Told::Pong(wire::WatchPong { nonce: ping.nonce, revision }));
                }
            }
        });
        Ok(Box::pin(UnboundedReceiverStream::new(told)))
    }
}

impl Pongs {
    fn tell(&self, news: Told) {
        // The follower is gone when the test is over.
        let _ = self.news.send(Ok(wire::WatchResponse { news: Some(news) }));
    }
}

/// Everything that a question needs, ready to be changed.
pub(crate) struct Stage {
    pub(crate) desk: Arc<Desk>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) paper: Arc<TestPaper>,
    pub(crate) pongs: Arc<Pongs>,
    pub(crate) signer: P256Signer,
    pub(crate) registry: Arc<past::TestRegistry>,
    pub(crate) log: Arc<past::TestLog>,
    /// What is to be compared; nobody does unless a test does.
    pub(crate) samples: Option<crate::flow::self_check::Samples>,
    revision: u64,
}

pub(crate) fn agent_id(n: u8) -> AgentId {
    AgentId::from_parts(1, [n; 10])
}

/// The agent as a token's subject.
pub(crate) fn subject(n: u8) -> legate_token::Subject {
    legate_token::Subject::parse(&format!("spiffe://example.org/ns/payments/agent/{}", agent_id(n))).unwrap()
}

pub(crate) fn meta(name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata {
        name: name.into(),
        namespace: "payments".into(),
        id: format!("obj_{name}"),
        version: 1,
        create_time: Some(prost_types::Timestamp { seconds: NOW - 1_000, nanos: 0 }),
        update_time: Some(prost_types::Timestamp { seconds: NOW - 900, nanos: 0 }),
        ..wire::Metadata::default()
    })
}

pub(crate) fn declared(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

pub(crate) fn permission(action: &str, kind: &str, id: &str) -> wire::Permission {
    wire::Permission {
        action: action.into(),
        resource: Some(wire::ResourceSelector { r#type: kind.into(), id: id.into(), attributes: BTreeMap::new() }),
    }
}

/// The agent `invoice-bot`, or `invoice-bot-N`.
pub(crate) fn agent(n: u8, change: impl FnOnce(&mut wire::Agent)) -> wire::Declaration {
    let mut metadata = meta(&format!("invoice-bot-{n}")).unwrap();
    metadata.id = agent_id(n).to_string();
    let mut agent = wire::Agent {
        metadata: Some(metadata),
        spec: Some(wire::AgentSpec {
            agent_class: "invoice-worker".into(),
            environment: wire::Environment::Prod.into(),
            owners: vec!["user:ada".into()],
            sponsors: vec!["user:grace".into()],
            ..wire::AgentSpec::default()
        }),
        status: Some(wire::AgentStatus {
            state: wire::AgentState::Active.into(),
            lifecycle_version: 1,
            ..wire::AgentStatus::default()
        }),
    };
    change(&mut agent);
    declared(Object::Agent(agent))
}

pub(crate) fn policy(name: &str, mode: wire::PolicyMode, cedar: &str) -> wire::Declaration {
    let spec = wire::PolicySpec { cedar: cedar.into(), mode: mode.into(), ..wire::PolicySpec::default() };
    declared(Object::Policy(wire::Policy { metadata: meta(name), spec: Some(spec) }))
}

pub(crate) fn point(name: &str, change: impl FnOnce(&mut wire::EnforcementPointSpec)) -> wire::Declaration {
    let mut spec = wire::EnforcementPointSpec {
        resource_types: vec!["Invoice".into()],
        audiences: vec![AUDIENCE.into()],
        ..wire::EnforcementPointSpec::default()
    };
    change(&mut spec);
    let point = wire::EnforcementPoint { metadata: meta(name), spec: Some(spec), spiffe_id: String::new() };
    declared(Object::EnforcementPoint(point))
}

pub(crate) fn binding(change: impl FnOnce(&mut wire::RoleBindingSpec)) -> wire::Declaration {
    let mut spec = wire::RoleBindingSpec {
        role: "invoice-reader".into(),
        agents: vec!["invoice-bot-1".into()],
        resources: vec![wire::ResourceSelector {
            r#type: "Invoice".into(),
            id: "apollo/*".into(),
            attributes: BTreeMap::new(),
        }],
        ..wire::RoleBindingSpec::default()
    };
    change(&mut spec);
    declared(Object::RoleBinding(wire::RoleBinding { metadata: meta("reads-apollo"), spec: Some(spec) }))
}

pub(crate) fn group(name: &str, change: impl FnOnce(&mut wire::GroupSpec)) -> wire::Declaration {
    let mut spec = wire::GroupSpec::default();
    change(&mut spec);
    declared(Object::Group(wire::Group { metadata: meta(name), spec: Some(spec) }))
}

pub(crate) fn boundary(name: &str, change: impl FnOnce(&mut wire::BoundarySpec)) -> wire::Declaration {
    let mut spec = wire::BoundarySpec::default();
    change(&mut spec);
    declared(Object::Boundary(wire::Boundary { metadata: meta(name), spec: Some(spec) }))
}

pub(crate) fn signing_key(signer: &P256Signer, change: impl FnOnce(&mut wire::SigningKeySpec)) -> wire::Declaration {
    let mut spec = wire::SigningKeySpec {
        kid: signer.public_key().kid().as_str().into(),
        issuer: ISSUER.into(),
        jwk: signer.public_key().to_jwk(),
        r#use: wire::SigningKeyUse::AccessToken.into(),
        ..wire::SigningKeySpec::default()
    };
    change(&mut spec);
    declared(Object::SigningKey(wire::SigningKey { metadata: meta("key"), spec: Some(spec) }))
}

/// Gives one operator a role.
pub(crate) fn operators(name: &str, namespace: &str, operator: &str, role: wire::OperatorRole) -> wire::Declaration {
    let mut metadata = meta(name);
    metadata.as_mut().unwrap().namespace = namespace.into();
    let spec = wire::OperatorBindingSpec {
        operators: vec![operator.into()],
        role: role.into(),
        ..wire::OperatorBindingSpec::default()
    };
    declared(Object::OperatorBinding(wire::OperatorBinding { metadata, spec: Some(spec) }))
}

/// The certificate with this SHA-256 is taken back.
pub(crate) fn revocation(x5t_s256: [u8; 32]) -> wire::Declaration {
    let spec = wire::RevocationSpec {
        credential_id: CredentialId::from_parts(1, [1; 10]).to_string(),
        x5t_s256: x5t_s256.to_vec(),
        ..wire::RevocationSpec::default()
    };
    declared(Object::Revocation(wire::Revocation { metadata: meta("taken-back"), spec: Some(spec) }))
}

/// The manifest of the main job: one agent that may read the invoices of one project.
pub(crate) fn everything(signer: &P256Signer) -> Vec<wire::Declaration> {
    let class = wire::AgentClassSpec {
        permissions: vec![permission("invoice:list", "Invoice", "*")],
        ceiling: vec![permission("invoice:*", "Invoice", "*")],
        ..wire::AgentClassSpec::default()
    };
    let role = wire::RoleSpec {
        permissions: vec![permission("invoice:read", "Invoice", "*"), permission("ledger:write", "Invoice", "*")],
        ..wire::RoleSpec::default()
    };
    let enforce = wire::PolicyMode::Enforce;
    vec![
        declared(Object::AgentClass(wire::AgentClass {
            metadata: meta("invoice-worker"),
            spec: Some(class),
            status: None,
        })),
        declared(Object::Role(wire::Role { metadata: meta("invoice-reader"), spec: Some(role) })),
        binding(|_| ()),
        agent(1, |_| ()),
        policy(
            "production",
            enforce,
            "permit(principal, action, resource) when { principal.environment == \"prod\" };",
        ),
        policy(
            "sealed",
            enforce,
            "forbid(principal, action, resource) when { resource has sealed && resource.sealed };",
        ),
        point("invoices", |_| ()),
        point("trusted", |p| p.may_assert_subject = true),
        signing_key(signer, |_| ()),
        operators("team", "payments", "alice", wire::OperatorRole::Viewer),
    ]
}

/// The CAs of services and of workloads.
pub(crate) fn authorities() -> &'static (Ca, Ca) {
    static BOTH: LazyLock<(Ca, Ca)> = LazyLock::new(|| {
        let made = |name| Ca::generate(name, Timestamp::from_secs(NOW), Duration::from_secs(1_000_000)).unwrap();
        (made("services"), made("workloads"))
    });
    &BOTH
}

fn trust() -> Trust {
    let (services, workloads) = authorities();
    let domain = legate_ids::TrustDomain::parse("example.org").unwrap();
    Trust::from_pem(domain, services.cert_pem(), Some(workloads.cert_pem())).unwrap()
}

/// A key made of one byte.
pub(crate) fn signer(n: u8) -> P256Signer {
    P256Signer::from_scalar(&[n; 32]).unwrap()
}

impl Stage {
    /// Everything declared, the view fresh, the policies compiled.
    pub(crate) async fn set() -> Self {
        Self::set_with(|all| all).await
    }

    pub(crate) async fn set_with(change: impl FnOnce(Vec<wire::Declaration>) -> Vec<wire::Declaration>) -> Self {
        Self::set_by(Library::new(), change).await
    }

    /// The same with a library of the test's own.
    pub(crate) async fn set_by(
        library: Library,
        change: impl FnOnce(Vec<wire::Declaration>) -> Vec<wire::Declaration>,
    ) -> Self {
        let clock = TestClock::at(Timestamp::from_secs(NOW));
        let (news, told) = mpsc::unbounded_channel();
        let pongs = Arc::new(Pongs { on: AtomicBool::new(true), revision: std::sync::atomic::AtomicU64::new(0), news });
        let mut options = Options::new(Arc::clone(&clock) as Arc<dyn Clock>);
        options.ping_every = Duration::from_millis(2);
        // The clock is turned by more than that, and there is no second stream.
        options.silent_after = Duration::from_secs(3_600);
        let view = View::follow(OneStream(Mutex::new(Some(told)), Arc::clone(&pongs)), options);
        let library = Arc::new(library);
        tokio::spawn(Arc::clone(&library).keep(view.clone()));
        let paper = TestPaper::new();
        let terms = Terms {
            replica: "here:7102".into(),
            emitter: "spiffe://example.org/legate/policy-decision".into(),
            max_bytes: 1 << 20,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let spool = Spool::open(Arc::clone(&paper) as Arc<dyn Paper>, &Before::default(), terms).await.unwrap();
        let spool = Arc::new(spool);
        paper.synced.store(false, Ordering::SeqCst);
        let (registry, log) = (Arc::new(past::TestRegistry::default()), Arc::new(past::TestLog::default()));
        let (self_check, samples) = crate::flow::SelfCheck::new(1);
        let desk = Arc::new(Desk {
            view,
            library,
            bench: Bench::new(),
            self_check,
            tokens: Tokens::new(1_000, trust()),
            spool,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: Metrics::default(),
            answer_ttl: Duration::from_secs(1),
            rosters: Default::default(),
            previewing: crate::flow::Turns::new(),
            asking: crate::flow::Turns::new(),
            archive: Arc::clone(&registry) as Arc<dyn crate::store::archive::Archive>,
            uses: Arc::clone(&registry) as Arc<dyn crate::store::uses::Uses>,
            records: Arc::clone(&log) as Arc<dyn crate::store::records::Records>,
            reviews: Arc::clone(&registry) as Arc<dyn crate::store::reviews::Reviews>,
            pages: legate_rpc::Pages::new(&[5; 32]),
            shadow: crate::store::tally::Tally::default(),
            streams: crate::flow::Streams::default(),
            followers: Default::default(),
            stopping: std::sync::OnceLock::new(),
        });
        let samples = Some(samples);
        let mut stage = Self { desk, clock, paper, pongs, signer: signer(1), registry, log, samples, revision: 1 };
        let objects = change(everything(&stage.signer));
        let part = wire::SnapshotPart { revision: 1, first: true, last: true, ..wire::SnapshotPart::default() };
        stage.registry.write(1, objects.iter().map(|object| (object.clone(), false)).collect());
        stage.pongs.tell(Told::Snapshot(part.with_objects(&objects)));
        stage.pongs.revision.store(1, Ordering::SeqCst);
        stage.settle().await;
        stage
    }

    /// Declares more at the next revision, and waits until it is in force.
    pub(crate) async fn change(&mut self, objects: Vec<(wire::Declaration, bool)>) {
        self.tell(objects);
        self.settle().await;
    }

    /// Declares more at the next revision, and does not wait.
    pub(crate) fn tell(&mut self, objects: Vec<(wire::Declaration, bool)>) {
        self.revision += 1;
        self.registry.write(self.revision, objects.clone());
        let change = |(object, revoked)| wire::Change { object: Some(object), revoked };
        let changes = objects.into_iter().map(change).collect();
        self.pongs.tell(Told::Changes(wire::RevisionChanges {
            revision: self.revision,
            changes,
            ..Default::default()
        }));
        // A pong for it comes behind it.
        self.pongs.revision.store(self.revision, Ordering::SeqCst);
    }

    async fn settle(&mut self) {
        self.desk.view.wait_for(self.revision, PATIENCE).await.unwrap();
        while self.pongs.on.load(Ordering::SeqCst) && self.desk.view.age() != Some(Duration::ZERO) {
            tokio::task::yield_now().await;
        }
        let snapshot = self.desk.view.current();
        for (namespace, policies) in snapshot.all_policies() {
            let mut filled = self.desk.library.filled();
            filled.mark_unchanged();
            while self.desk.library.find(namespace, policies).is_none() {
                filled.changed().await.unwrap();
            }
        }
    }

    /// Lets time pass and hears the registry again.
    pub(crate) async fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.settle().await;
    }

    pub(crate) async fn ask(&self, asker: &Asker, ask: Ask) -> Spoken {
        let mut all = evaluate(&self.desk, asker, &[ask]).await.unwrap();
        all.pop().unwrap()
    }

    /// The word of the answer to the enforcement point `invoices` about `ask`.
    pub(crate) async fn word(&self, ask: Ask) -> &'static str {
        self.ask(&enforcer("invoices"), ask).await.answer.word()
    }

    /// The claims of a good token of the agent.
    pub(crate) fn claims(&self) -> Claims {
        let secs = u64::try_from(self.clock.now().secs()).unwrap();
        Claims {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            subject: subject(1),
            issued_at: secs,
            expires_at: secs + 300,
            token_id: "0123456789abcdef".into(),
            scope: Scope::All,
            details: legate_token::Details::default(),
            lifecycle_version: 1,
            namespace: Name::parse("payments").unwrap(),
            agent: agent_id(1),
            instance: None,
            chain: Chain::default(),
            confirmation: Confirmation::Certificate(CERTIFICATE),
            credential: None,
            status: None,
        }
    }

    /// A good question with a good token.
    pub(crate) fn good(&self) -> Ask {
        self.with_token(legate_token::mint(&self.claims(), &self.signer).unwrap())
    }

    pub(crate) fn with_token(&self, token: String) -> Ask {
        Ask {
            subject: Subject::Token(token),
            presenter: Some(CERTIFICATE),
            presenter_key: None,
            on_behalf_of: None,
            question: Question {
                action: legate_ids::Action::parse("invoice:read").unwrap(),
                resource_type: legate_ids::ResourceType::parse("Invoice").unwrap(),
                resource_id: legate_ids::ResourceId::parse("apollo/1001").unwrap(),
                attributes: Stated::default(),
                context: Record::new(),
            },
            at_least_revision: 0,
            max_staleness: None,
            correlation_id: "task-1".into(),
        }
    }

    /// A good question about `id`, which the caller names on its own word.
    pub(crate) fn asserted(&self, id: AgentId) -> Ask {
        Ask { subject: Subject::Asserted(id), presenter: None, ..self.good() }
    }
}

impl Ask {
    pub(crate) fn action(mut self, action: &str) -> Self {
        self.question.action = legate_ids::Action::parse(action).unwrap();
        self
    }

    pub(crate) fn resource(mut self, id: &str) -> Self {
        self.question.resource_id = legate_ids::ResourceId::parse(id).unwrap();
        self
    }

    pub(crate) fn kind(mut self, kind: &str) -> Self {
        self.question.resource_type = legate_ids::ResourceType::parse(kind).unwrap();
        self
    }

    pub(crate) fn attribute(mut self, name: &str, value: Value) -> Self {
        self.question.attributes.0.insert(name.into(), value);
        self
    }
}

/// SHA-256 of the certificate that every caller shows.
pub(crate) const CALLER: [u8; 32] = [9; 32];

fn asker(path: &str, kind: Kind) -> Asker {
    let spiffe_id = SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap();
    let mut peer = Peer::anonymous("127.0.0.1:1".parse().unwrap());
    peer.principal = Some(Principal::of(&spiffe_id).unwrap());
    peer.not_before = Timestamp::from_secs(NOW - 100);
    peer.x5t_s256 = CALLER;
    Asker {
        spiffe_id: spiffe_id.to_string(),
        kind,
        peer: Arc::new(peer),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        span_id: "00f067aa0ba902b7".into(),
        deadline: tokio::time::Instant::now() + Duration::from_secs(5),
        emergency: None,
    }
}

pub(crate) fn enforcer(name: &str) -> Asker {
    let kind = Kind::Enforcer { namespace: Name::parse("payments").unwrap(), name: Name::parse(name).unwrap() };
    asker(&format!("/ns/payments/enforcer/{name}"), kind)
}

pub(crate) fn operator() -> Asker {
    asker("/legate/operator/alice", Kind::Operator)
}
