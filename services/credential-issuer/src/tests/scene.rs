//! A desk with everything around it played: clock, registry, policy-decision, keys that count what they sign.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use legate_clock::{Clock as _, TestClock, Timestamp};
use legate_db::Db;
use legate_db::testing::Fixture;
use legate_ids::{Name, Principal, SpiffeId, TrustDomain};
use legate_mtls::Peer;
use legate_outbox::{DbSource, Outbox, Source as _};
use legate_rpc::{Fault, TraceContext};
use legate_token::{KeyId, PublicKey, SigningFailed};
use legate_view::{Options, View};
use legate_wire::audit::AuditEvent;
use legate_wire::policy::{AuthorizeIssuanceRequest, AuthorizeIssuanceResponse};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentState, Approval, ApprovalSpec, ApprovalStatus, EndPersonalGrantRequest, EndPersonalGrantResponse,
    GetRelayedApprovalRequest, ListPersonalGrantsRequest, ListPersonalGrantsResponse, MakePersonalGrantRequest,
    MakePersonalGrantResponse, Metadata, OperatorRole, ProvenPerson, PublishRevocationRequest,
    PublishSigningKeyRequest, RelayApprovalRequest,
};
use prost::Message as _;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::Status;

use super::registry::{self, AUDIENCE, NAMESPACE, Played};
use crate::domain::holder::Named;
use crate::domain::keyring::{KeyUse, Pace};
use crate::domain::token::Wish;
use crate::federation::{Federation, FederationConfig};
use crate::flow::keyring::{Keyring, Site};
use crate::flow::{Call, Desk, create_enrolment, enrol, issue_token, renew, revoke};
use crate::keys::{FileKeys, Kek, KeyError, KeyPlace, KeyStore, Pepper, Signer};
use crate::metrics::Metrics;
use crate::outside::{Authorizer, PersonalGrants, Publisher, Relay};
use crate::store::{Batches, credential};

pub(super) const START: i64 = 1_900_000_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// How keys follow one another.
pub(super) const PACE: Pace =
    Pace { rotate: Some(Duration::from_secs(30 * 24 * 3600)), publish: Duration::from_secs(24 * 3600) };

/// What was signed for one use, and whether that fails.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) signed: AtomicU64,
    pub(super) fails: AtomicBool,
}

/// A key that counts, and fails when told to.
#[derive(Debug)]
struct CountedKey {
    inner: Arc<dyn Signer>,
    counted: Arc<Counted>,
}

#[tonic::async_trait]
impl Signer for CountedKey {
    fn public_key(&self) -> &PublicKey {
        self.inner.public_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningFailed> {
        if self.counted.fails.load(Ordering::SeqCst) {
            return Err(SigningFailed);
        }
        self.counted.signed.fetch_add(1, Ordering::SeqCst);
        self.inner.sign(message).await
    }

    fn place(&self) -> KeyPlace {
        self.inner.place()
    }

    async fn is_there(&self) -> bool {
        self.inner.is_there().await
    }
}

/// Keys of a store that count.
#[derive(Debug)]
struct CountedKeys {
    store: Arc<dyn KeyStore>,
    ca: Arc<Counted>,
    tokens: Arc<Counted>,
}

impl CountedKeys {
    fn count(&self, purpose: KeyUse, inner: Arc<dyn Signer>) -> Arc<dyn Signer> {
        let counted = Arc::clone(if purpose.is_ca() { &self.ca } else { &self.tokens });
        Arc::new(CountedKey { inner, counted })
    }
}

#[tonic::async_trait]
impl KeyStore for CountedKeys {
    async fn create(&self, purpose: KeyUse) -> Result<Arc<dyn Signer>, KeyError> {
        Ok(self.count(purpose, self.store.create(purpose).await?))
    }

    async fn open(&self, purpose: KeyUse, kid: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        Ok(self.store.open(purpose, kid).await?.map(|inner| self.count(purpose, inner)))
    }

    async fn destroy(&self, purpose: KeyUse, kid: &KeyId) -> Result<(), KeyError> {
        self.store.destroy(purpose, kid).await
    }

    async fn adopt(&self, purpose: KeyUse) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        Ok(self.store.adopt(purpose).await?.map(|inner| self.count(purpose, inner)))
    }

    fn check(&self) -> Result<(), String> {
        self.store.check()
    }

    async fn probe(&self) {
        self.store.probe().await;
    }
}

/// Keys in files below `dir`, and what wraps them.
pub(super) fn files(dir: &std::path::Path) -> FileKeys {
    let kek = dir.join("kek");
    if !kek.exists() {
        Kek::add(&kek).unwrap();
    }
    FileKeys::new(&dir.join("keys"), Kek::open(&kek).unwrap()).unwrap()
}

type Answering = Box<dyn Fn(&AuthorizeIssuanceRequest) -> Result<AuthorizeIssuanceResponse, Status> + Send + Sync>;

/// policy-decision, saying what it is told to say.
pub(super) struct Says(pub(super) Mutex<Answering>);

impl std::fmt::Debug for Says {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Says")
    }
}

/// Yes to everything that was asked, and where nothing was to everything there is.
pub(super) fn yes(ask: &AuthorizeIssuanceRequest) -> AuthorizeIssuanceResponse {
    AuthorizeIssuanceResponse {
        allowed: true,
        actions: if ask.actions.is_empty() { vec!["*".into()] } else { ask.actions.clone() },
        decision_id: "dec_1".into(),
        revision: ask.at_least_revision,
        ..AuthorizeIssuanceResponse::default()
    }
}

#[tonic::async_trait]
impl Authorizer for Says {
    async fn authorize(&self, ask: AuthorizeIssuanceRequest, _: Duration) -> Result<AuthorizeIssuanceResponse, Status> {
        (self.0.lock().unwrap())(&ask)
    }
}

/// What the registry was told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) is_deaf: AtomicBool,
    pub(super) keys: Mutex<Vec<PublishSigningKeyRequest>>,
    pub(super) revocations: Mutex<Vec<PublishRevocationRequest>>,
    /// The people for whom it was asked.
    pub(super) people: Mutex<Vec<ProvenPerson>>,
    /// What it says the next time that a grant is to be made.
    pub(super) refuses: Mutex<Option<Status>>,
}

#[tonic::async_trait]
impl Publisher for Heard {
    async fn key(&self, key: PublishSigningKeyRequest) -> Result<u64, Status> {
        if self.is_deaf.load(Ordering::SeqCst) {
            return Err(Status::unavailable("deaf"));
        }
        self.keys.lock().unwrap().push(key);
        Ok(700)
    }

    async fn revocation(&self, revocation: PublishRevocationRequest) -> Result<u64, Status> {
        if self.is_deaf.load(Ordering::SeqCst) {
            return Err(Status::unavailable("deaf"));
        }
        self.revocations.lock().unwrap().push(revocation);
        Ok(701)
    }
}

/// Whom the registry is asked for, and what it says.
#[tonic::async_trait]
impl PersonalGrants for Heard {
    async fn make(&self, ask: MakePersonalGrantRequest, _: Duration) -> Result<MakePersonalGrantResponse, Status> {
        self.people.lock().unwrap().push(ask.person.unwrap());
        self.refuses.lock().unwrap().take().map_or_else(|| Ok(MakePersonalGrantResponse::default()), Err)
    }

    async fn list(&self, ask: ListPersonalGrantsRequest, _: Duration) -> Result<ListPersonalGrantsResponse, Status> {
        self.people.lock().unwrap().push(ask.person.unwrap());
        Ok(ListPersonalGrantsResponse::default())
    }

    async fn end(&self, ask: EndPersonalGrantRequest, _: Duration) -> Result<EndPersonalGrantResponse, Status> {
        self.people.lock().unwrap().push(ask.person.unwrap());
        Ok(EndPersonalGrantResponse::default())
    }
}

/// The registry, as far as requests for approvals are about it: what it was asked, and where they stand.
#[derive(Debug, Default)]
pub(super) struct Approvers {
    pub(super) asked: Mutex<Vec<RelayApprovalRequest>>,
    pub(super) status: Mutex<ApprovalStatus>,
    /// When requests end, in Unix seconds.
    pub(super) ends: std::sync::atomic::AtomicI64,
    /// How often it was asked where one stands.
    pub(super) looked: AtomicU64,
    pub(super) refuses: Mutex<Option<Status>>,
}

impl Approvers {
    fn approval(&self) -> Approval {
        let expire_time = Some(prost_types::Timestamp { seconds: self.ends.load(Ordering::SeqCst), nanos: 0 });
        Approval {
            metadata: Some(Metadata { id: "apr_01h455vb4pex5vsknk084sn02q".into(), ..Metadata::default() }),
            spec: Some(ApprovalSpec { expire_time, ..ApprovalSpec::default() }),
            status: Some(self.status.lock().unwrap().clone()),
        }
    }

    fn refusal(&self) -> Result<(), Status> {
        self.refuses.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl Relay for Approvers {
    async fn ask(&self, ask: RelayApprovalRequest, _: Duration) -> Result<Approval, Status> {
        self.refusal()?;
        self.asked.lock().unwrap().push(ask);
        Ok(self.approval())
    }

    async fn state(&self, _: GetRelayedApprovalRequest, _: Duration) -> Result<(Approval, u64), Status> {
        self.looked.fetch_add(1, Ordering::SeqCst);
        self.refusal()?;
        Ok((self.approval(), 900))
    }
}

pub(super) struct Scene {
    pub(super) desk: Arc<Desk>,
    pub(super) clock: Arc<TestClock>,
    pub(super) registry: Played,
    pub(super) says: Arc<Says>,
    pub(super) heard: Arc<Heard>,
    pub(super) approvers: Arc<Approvers>,
    pub(super) ca: Arc<Counted>,
    pub(super) tokens: Arc<Counted>,
    pub(super) dir: Arc<tempfile::TempDir>,
}

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

impl Scene {
    /// On a new database, with agents 1 and 2 ACTIVE, class `bots` and enforcement point `invoices` declared.
    pub(super) async fn on(fixture: &Fixture) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let keys = Arc::new(files(dir.path()));
        Self::with_keys(fixture, dir, keys).await
    }

    /// The same, with its keys elsewhere.
    pub(super) async fn with_keys(fixture: &Fixture, dir: Arc<tempfile::TempDir>, keys: Arc<dyn KeyStore>) -> Self {
        let scene = Self::over_keys(fixture.db.clone(), dir, 1_000, keys).await;
        scene.declare(registry::class(300, 3600)).await;
        scene.declare(registry::enforcement_point("invoices", NAMESPACE, AUDIENCE)).await;
        for n in [1, 2] {
            scene.declare(registry::agent(n, AgentState::Active, 1, None, None)).await;
        }
        scene
    }

    /// Another life of the process: nothing but the database and the keys is left.
    pub(super) async fn reborn(&self, db: Db) -> Self {
        let again = Self::over(db, Arc::clone(&self.dir), 1_000).await;
        again.clock.jump_to(self.clock.now());
        again
    }

    /// The credentials whose revocations the registry was told, sorted.
    pub(super) fn told_revocations(&self) -> Vec<String> {
        let told = self.heard.revocations.lock().unwrap();
        let mut ids: Vec<_> = told.iter().map(|r| r.revocation.clone().unwrap().credential_id).collect();
        ids.sort();
        ids
    }

    pub(super) async fn over(db: Db, dir: Arc<tempfile::TempDir>, backlog: u64) -> Self {
        let keys = Arc::new(files(dir.path()));
        Self::over_keys(db, dir, backlog, keys).await
    }

    pub(super) async fn over_keys(db: Db, dir: Arc<tempfile::TempDir>, backlog: u64, keys: Arc<dyn KeyStore>) -> Self {
        let clock = TestClock::at(Timestamp::from_secs(START));
        let registry = Played::new();
        let mut options = Options::new(clock.clone());
        options.ping_every = Duration::from_millis(2);
        let view = View::follow(registry.clone(), options);
        let pepper = Pepper::open(&files(dir.path())).unwrap();
        let (ca, tokens) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
        let emitter = SpiffeId::service(&domain(), &Name::parse("credential-issuer").unwrap());
        let outbox = Outbox::new(emitter.clone(), clock.clone(), backlog);
        let site = Site {
            db: db.clone(),
            outbox: outbox.clone(),
            clock: clock.clone(),
            store: Arc::new(CountedKeys { store: keys, ca: ca.clone(), tokens: tokens.clone() }),
            domain: domain(),
            me: emitter,
            pace: PACE,
            uses: [
                (KeyUse::AccessTokens, None),
                (KeyUse::JwtSvids, None),
                (KeyUse::WorkloadsCa, Some(dir.path().join("workloads-ca.pem"))),
                (KeyUse::OperatorsCa, Some(dir.path().join("operators-ca.pem"))),
            ]
            .into(),
        };
        let keys = Keyring::open(site).await.unwrap();
        ca.signed.store(0, Ordering::SeqCst);
        let says = Arc::new(Says(Mutex::new(Box::new(|ask| Ok(yes(ask))))));
        let heard = Arc::new(Heard::default());
        let approvers = Arc::new(Approvers::default());
        let desk = Desk {
            clock: clock.clone(),
            batches: Batches::new(&db, outbox.clone()),
            db,
            outbox,
            view,
            domain: domain(),
            issuer: "https://issuer.example".into(),
            keys,
            pepper,
            authorizer: says.clone(),
            publisher: heard.clone(),
            grants: heard.clone(),
            relay: approvers.clone(),
            federation: Federation::new(&FederationConfig::default(), clock.clone()).unwrap(),
            bundles: crate::federation::Bundles::default(),
            logins: None,
            lists: None,
            connections: OnceLock::new(),
            metrics: Metrics::default(),
            refusals: Arc::default(),
            news: Notify::new(),
            key_is_known: watch::Sender::new(false),
            places: crate::flow::watch_node::Places::default(),
            stopping: OnceLock::new(),
        };
        let scene = Self { desk: Arc::new(desk), clock, registry, says, heard, approvers, ca, tokens, dir };
        scene.settle().await;
        scene.declare(registry::operators("admins", "", "alice", OperatorRole::Admin)).await;
        scene
    }

    /// Declares, and waits until the view holds it.
    pub(super) async fn declare(&self, object: Object) {
        let revision = self.registry.declare(object, false);
        self.desk.view.wait_for(revision, PATIENCE).await.unwrap();
    }

    pub(super) async fn take_back(&self, object: Object) {
        let revision = self.registry.declare(object, true);
        self.desk.view.wait_for(revision, PATIENCE).await.unwrap();
    }

    /// Waits until the view is certain of this moment.
    pub(super) async fn settle(&self) {
        let certain = async {
            while self.desk.view.age() != Some(Duration::ZERO) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, certain).await.unwrap();
    }

    /// Lets time pass; the view keeps up.
    pub(super) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.settle().await;
    }

    pub(super) async fn suspend(&self, n: u8, version: u64) {
        let object = registry::agent(n, AgentState::Suspended, version, Some(self.clock.now()), None);
        self.declare(object).await;
    }

    pub(super) async fn resume(&self, n: u8, version: u64, cutoff: Timestamp) {
        self.declare(registry::agent(n, AgentState::Active, version, Some(cutoff), None)).await;
    }

    /// Every event in the outbox but those of keys.
    pub(super) async fn events(&self) -> Vec<AuditEvent> {
        let mut events = self.all_events().await;
        events.retain(|event| !event.r#type.starts_with("key."));
        events
    }

    pub(super) async fn all_events(&self) -> Vec<AuditEvent> {
        let source = DbSource::new(self.desk.db.clone());
        let batch = source.next_batch(10_000, 64 << 20).await.unwrap();
        let events = batch.map(|b| b.events).unwrap_or_default();
        events.iter().map(|e| AuditEvent::decode(e.as_ref()).unwrap()).collect()
    }

    pub(super) async fn count(&self, kind: &str) -> usize {
        self.events().await.iter().filter(|e| e.r#type == kind).count()
    }

    pub(super) fn stranger(&self) -> Call {
        self.call(Peer::anonymous("127.0.0.1:4000".parse().unwrap()))
    }

    pub(super) fn operator(&self) -> Call {
        self.operator_called("alice", None)
    }

    pub(super) fn operator_called(&self, name: &str, emergency: Option<&str>) -> Call {
        let id = SpiffeId::operator(&domain(), &Name::parse(name).unwrap());
        let mut peer = Peer::anonymous("127.0.0.1:4001".parse().unwrap());
        peer.principal = Some(Principal::of(&id).unwrap());
        peer.spiffe_id = Some(id);
        Call { emergency: emergency.map(Into::into), ..self.call(peer) }
    }

    /// The holder of a certificate that was issued.
    pub(super) fn holder(&self, row: &credential::Model) -> Call {
        let id = SpiffeId::parse(&row.spiffe_id).unwrap();
        self.call(Peer {
            principal: Some(Principal::of(&id).unwrap()),
            spiffe_id: Some(id),
            not_before: Timestamp::from_micros(row.not_before),
            not_after: Timestamp::from_micros(row.not_after),
            x5t_s256: row.x5t_s256.clone().unwrap().try_into().unwrap(),
            ..Peer::anonymous("127.0.0.1:4002".parse().unwrap())
        })
    }

    fn call(&self, peer: Peer) -> Call {
        let deadline = Instant::now() + Duration::from_secs(5);
        Call { peer: Arc::new(peer), trace: TraceContext::default(), deadline, emergency: None, client: None }
    }

    /// The public half of the key that signs tokens.
    pub(super) fn token_key(&self) -> PublicKey {
        self.desk.keys.active(KeyUse::AccessTokens).unwrap().public
    }

    pub(super) async fn create(&self, named: Named) -> Result<create_enrolment::Created, Fault> {
        let call = self.operator();
        create_enrolment::create_enrolment(&self.desk, &call, named, None, "a test".into()).await
    }

    /// A token for agent `n`, as text.
    pub(super) async fn token_for(&self, n: u8) -> String {
        let created = self.create(Named::Agent(registry::agent_id(n))).await.unwrap();
        created.token.to_text().to_string()
    }

    pub(super) async fn enrol(&self, token: &str, csr: &[u8]) -> Result<credential::Model, Fault> {
        enrol::enrol(&self.desk, &self.stranger(), token, csr).await
    }

    /// Agent `n`, enrolled with a new key.
    pub(super) async fn enrolled(&self, n: u8) -> (credential::Model, KeyPair) {
        let key = new_key();
        let token = self.token_for(n).await;
        (self.enrol(&token, &request(&key)).await.unwrap(), key)
    }

    pub(super) async fn renew(&self, old: &credential::Model, csr: &[u8]) -> Result<credential::Model, Fault> {
        renew::renew(&self.desk, &self.holder(old), csr).await
    }

    pub(super) async fn issue(
        &self,
        holder: &credential::Model,
        wish: Wish,
    ) -> Result<issue_token::IssuedToken, Fault> {
        issue_token::issue_token(&self.desk, &self.holder(holder), wish).await
    }

    pub(super) async fn revoke(
        &self,
        id: &str,
        reason: legate_wire::registry::RevocationReason,
    ) -> Result<(credential::Model, u64), Fault> {
        let id = id.parse().unwrap();
        revoke::revoke(&self.desk, &self.operator(), id, reason, "a test".into()).await
    }
}

pub(super) fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// Parameters of a request that names nobody.
pub(super) fn plain() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

/// A good request.
pub(super) fn request(key: &KeyPair) -> Vec<u8> {
    plain().serialize_request(key).unwrap().der().to_vec()
}

pub(super) fn wish() -> Wish {
    Wish {
        audience: AUDIENCE.into(),
        actions: legate_ids::Actions::default(),
        details: legate_token::Details::default(),
        ttl: Duration::from_secs(300),
    }
}

/// The reason of a refusal.
pub(super) fn reason<T: std::fmt::Debug>(result: Result<T, Fault>) -> &'static str {
    result.unwrap_err().reason()
}
