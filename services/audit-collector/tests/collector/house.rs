//! The certificates of everybody, the service as it is started, and callers over real mutual TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use legate_audit_collector::{Config, LogConfig, OtlpConfig, PersonalConfig, WebhookConfig, WitnessConfig, start};
use legate_boot::config::{Telemetry, Tls};
use legate_boot::{Context, Running, StartError};
use legate_clock::{Clock, SystemClock};
use legate_ids::{AgentId, EventId, Name, SpiffeId, TrustDomain};
use legate_merkle::{Checkpoint, TileId, VerifierKey, Walk, WalkError, WalkReport, walk};
use legate_mtls::pki::{Ca, Leaf, write_private, write_public};
use legate_mtls::{Expect, Identity, Trust};
use legate_rpc::{Client, Dial};
use legate_wire::audit::alert_service_client::AlertServiceClient;
use legate_wire::audit::custody_service_client::CustodyServiceClient;
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{AppendEventsRequest, AppendEventsResponse, AuditEvent, Emitter};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Status;
use tower::ServiceExt as _;

pub(crate) const ORIGIN: &str = "example.org/audit-log";
pub(crate) const EPOCH: &str = "e1";

/// Longer than anything takes, on a machine that does much else.
pub(crate) const LONG: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Everything around the service.
pub(crate) struct House {
    dir: tempfile::TempDir,
    domain: TrustDomain,
    services: Ca,
    workloads: Ca,
    pub(crate) clock: Arc<dyn Clock>,
}

impl House {
    pub(crate) fn build() -> Self {
        Self::at(SystemClock::shared())
    }

    /// A house of this clock.
    pub(crate) fn at(clock: Arc<dyn Clock>) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            domain: TrustDomain::parse("example.org").unwrap(),
            services: Ca::generate("services", clock.now(), DAY).unwrap(),
            workloads: Ca::generate("workloads", clock.now(), DAY).unwrap(),
            clock,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.file("log")
    }

    fn kek(&self) -> PathBuf {
        let kek = self.file("kek");
        if !kek.exists() {
            legate_kek::Kek::add(&kek).unwrap();
        }
        kek
    }

    /// Where the names of persons are.
    pub(crate) fn names_dir(&self) -> PathBuf {
        self.file("personal")
    }

    pub(crate) fn config(&self) -> Config {
        self.config_as("audit-collector")
    }

    pub(crate) fn config_as(&self, name: &str) -> Config {
        let id = SpiffeId::service(&self.domain, &Name::parse(name).unwrap());
        let ips = [std::net::IpAddr::from([127, 0, 0, 1])];
        let leaf = Leaf { spiffe_id: &id, dns: &["localhost"], ips: &ips, ttl: DAY };
        let issued = self.services.issue(&leaf, self.clock.now()).unwrap();
        write_public(&self.file("tls.pem"), &issued.cert_pem).unwrap();
        write_private(&self.file("tls.key"), &issued.key_pem).unwrap();
        write_public(&self.file("ca.pem"), self.services.cert_pem()).unwrap();
        write_public(&self.file("workloads.pem"), self.workloads.cert_pem()).unwrap();
        let any = Some("127.0.0.1:0".parse().unwrap());
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            web: any,
            web_entries: true,
            probes: any,
            dir: self.log_dir(),
            origin: None,
            database: None,
            auditors: vec!["alice".into(), "bob".into()],
            personal: PersonalConfig {
                dir: self.file("personal"),
                kek: self.kek(),
                retention_days: None,
                retention: Vec::new(),
            },
            webhook: WebhookConfig::default(),
            otlp: OtlpConfig::default(),
            witness: WitnessConfig::default(),
            tiles: Default::default(),
            tls: Tls {
                trust_domain: self.domain.to_string(),
                cert: self.file("tls.pem"),
                key: self.file("tls.key"),
                services_ca: self.file("ca.pem"),
                workloads_ca: Some(self.file("workloads.pem")),
                operators_ca: None,
            },
            log: LogConfig { checkpoint_ms: 20, segment_bytes: 8 << 20, ..LogConfig::default() },
            telemetry: Telemetry::default(),
        }
    }

    /// Raises the service as most tests want it.
    pub(crate) async fn raise(&self) -> Running {
        self.raise_with(self.config()).await
    }

    /// Raises the service, and waits until its index is open: until then questions, and spans, are refused.
    pub(crate) async fn raise_with(&self, config: Config) -> Running {
        let running = self.try_raise(config).await.unwrap();
        while probe(&running, "/readyz").await.contains("the index is being opened") {}
        running
    }

    pub(crate) async fn try_raise(&self, config: Config) -> Result<Running, StartError> {
        Box::pin(start(config, Context { clock: Arc::clone(&self.clock), ..Context::new() })).await
    }

    pub(crate) fn service_id(&self, name: &str) -> String {
        SpiffeId::service(&self.domain, &Name::parse(name).unwrap()).to_string()
    }

    pub(crate) fn service(&self, name: &str) -> Identity {
        self.identity(&self.services, &SpiffeId::service(&self.domain, &Name::parse(name).unwrap()))
    }

    pub(crate) fn operator(&self, name: &str) -> Identity {
        self.identity(&self.services, &SpiffeId::operator(&self.domain, &Name::parse(name).unwrap()))
    }

    pub(crate) fn agent(&self) -> Identity {
        self.agent_for(DAY)
    }

    /// The agent, with a certificate that ends after so long.
    pub(crate) fn agent_for(&self, ttl: Duration) -> Identity {
        let (ns, id) = (Name::parse("payments").unwrap(), AgentId::from_parts(1, [1; 10]));
        let id = SpiffeId::agent(&self.domain, &ns, &id);
        let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl };
        let issued = self.workloads.issue(&leaf, self.clock.now()).unwrap();
        Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
    }

    pub(crate) fn enforcer(&self) -> Identity {
        let (ns, name) = (Name::parse("payments").unwrap(), Name::parse("invoices").unwrap());
        self.identity(&self.workloads, &SpiffeId::enforcer(&self.domain, &ns, &name))
    }

    /// A service of another house, under a CA that nobody here believes.
    pub(crate) fn stranger(&self, name: &str) -> Identity {
        let ca = Ca::generate("strangers", self.clock.now(), DAY).unwrap();
        self.identity(&ca, &SpiffeId::service(&self.domain, &Name::parse(name).unwrap()))
    }

    fn identity(&self, ca: &Ca, id: &SpiffeId) -> Identity {
        let leaf = Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: DAY };
        let issued = ca.issue(&leaf, self.clock.now()).unwrap();
        Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(self.domain.clone(), self.services.cert_pem(), None).unwrap()
    }

    pub(crate) fn dial(&self, running: &Running, who: &Identity, timeout: Duration) -> Client {
        self.dial_at(running.addr(), who, timeout)
    }

    pub(crate) fn dial_at(&self, at: SocketAddr, who: &Identity, timeout: Duration) -> Client {
        self.dial_to(format!("https://{at}"), who, timeout)
    }

    pub(crate) fn dial_to(&self, endpoint: String, who: &Identity, timeout: Duration) -> Client {
        legate_rpc::dial(Dial {
            endpoint,
            identity: who.clone(),
            trust: self.trust(),
            expect: Expect::Service("audit-collector"),
            timeout,
            clock: Arc::clone(&self.clock),
        })
        .unwrap()
    }

    pub(crate) fn ingest(&self, running: &Running, who: &Identity) -> IngestServiceClient<Client> {
        IngestServiceClient::new(self.dial(running, who, Duration::from_secs(20)))
    }

    pub(crate) fn query(&self, running: &Running, who: &Identity) -> QueryServiceClient<Client> {
        QueryServiceClient::new(self.dial(running, who, Duration::from_secs(20)))
    }

    pub(crate) fn hurried_query(&self, running: &Running, who: &Identity) -> QueryServiceClient<Client> {
        QueryServiceClient::new(self.dial(running, who, Duration::from_millis(300)))
    }

    pub(crate) fn custody(&self, running: &Running, who: &Identity) -> CustodyServiceClient<Client> {
        CustodyServiceClient::new(self.dial(running, who, Duration::from_secs(20)))
    }

    pub(crate) fn alerts(&self, running: &Running, who: &Identity) -> AlertServiceClient<Client> {
        AlertServiceClient::new(self.dial(running, who, Duration::from_secs(20)))
    }

    pub(crate) fn hurried_proof(&self, running: &Running, who: &Identity) -> ProofServiceClient<Client> {
        ProofServiceClient::new(self.dial(running, who, Duration::from_millis(300)))
    }

    pub(crate) fn proof(&self, running: &Running, who: &Identity) -> ProofServiceClient<Client> {
        ProofServiceClient::new(self.dial(running, who, Duration::from_secs(20)))
    }

    /// An event of the registry's.
    pub(crate) fn event(&self, seq: u64) -> AuditEvent {
        AuditEvent {
            event_id: EventId::from_parts(seq, [0; 10]).to_string(),
            emitter: Some(Emitter { spiffe_id: self.service_id("registry"), epoch: EPOCH.into(), seq }),
            time: Some(self.clock.now().into()),
            r#type: "agent.suspended".into(),
            agent_id: format!("agt_{}", seq % 3),
            ..AuditEvent::default()
        }
    }

    /// The registry offers its events `first..first + count`.
    pub(crate) async fn append(
        &self,
        to: &mut IngestServiceClient<Client>,
        first: u64,
        count: u64,
    ) -> Result<AppendEventsResponse, Status> {
        let events = (first..first + count).map(|seq| self.event(seq).encode_to_vec().into()).collect();
        send(to, EPOCH, first, events).await
    }

    /// Asks the HTTPS port: status, headers and body.
    pub(crate) async fn fetch(&self, at: SocketAddr, method: &str, path: &str) -> (u16, http::HeaderMap, Bytes) {
        let request = http::Request::builder().method(method).uri(path).body(tonic::body::Body::empty()).unwrap();
        self.ask(at, &Identity::anonymous(), request).await
    }

    /// Posts a request of OTLP: status, headers and body.
    pub(crate) async fn post(
        &self,
        at: SocketAddr,
        who: &Identity,
        path: &str,
        headers: &[(http::HeaderName, &str)],
        body: Vec<u8>,
    ) -> (u16, http::HeaderMap, Bytes) {
        let body = tonic::body::Body::new(http_body_util::Full::new(Bytes::from(body)));
        let mut request = http::Request::builder().method("POST").uri(path).body(body).unwrap();
        let kind = http::HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        let given = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        request.headers_mut().extend(given.collect::<http::HeaderMap>());
        self.ask(at, who, request).await
    }

    async fn ask(
        &self,
        at: SocketAddr,
        who: &Identity,
        request: http::Request<tonic::body::Body>,
    ) -> (u16, http::HeaderMap, Bytes) {
        let expect = Expect::Service("audit-collector");
        let connector = legate_mtls::connector(who.clone(), self.trust(), expect, Arc::clone(&self.clock));
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{at}")).unwrap();
        let channel = endpoint.connect_with_connector(connector.unwrap()).await.unwrap();
        let answer = channel.oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
    }

    pub(crate) fn verifier_key(&self) -> VerifierKey {
        let text = std::fs::read_to_string(self.log_dir().join("log.pub")).unwrap();
        VerifierKey::parse(text.trim_end()).unwrap()
    }

    pub(crate) fn open_note(&self, note: &str) -> Checkpoint {
        Checkpoint::open(note.as_bytes(), &self.verifier_key(), ORIGIN).unwrap()
    }

    /// What an auditor finds in the log's directory who has the public key only.
    pub(crate) fn audit(&self, saved: Option<&Checkpoint>) -> Result<WalkReport, WalkError<std::io::Error>> {
        let dir = self.log_dir();
        let checkpoint = self.open_note(&std::fs::read_to_string(dir.join("checkpoint")).unwrap());
        walk(Walk { checkpoint: &checkpoint, saved: saved.as_slice() }, |tile: TileId| {
            std::fs::read(dir.join(tile.to_string()))
        })
    }
}

pub(crate) async fn send(
    to: &mut IngestServiceClient<Client>,
    epoch: &str,
    first_seq: u64,
    events: Vec<Bytes>,
) -> Result<AppendEventsResponse, Status> {
    let request = AppendEventsRequest { epoch: epoch.into(), first_seq, events, ..Default::default() };
    to.append_events(request).await.map(tonic::Response::into_inner)
}

/// What a process that is killed leaves behind. Checkpoint and mark first and the segments last, so that a log that goes
/// on meanwhile is copied as a moment of it. The index is left out: it is made again.
pub(crate) fn copy_log(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let Ok(entries) = std::fs::read_dir(from) else { return };
    let mut entries: Vec<_> = entries.map(Result::unwrap).collect();
    entries.sort_by_key(|e| (e.file_type().unwrap().is_dir(), e.file_name() == "segments"));
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_log(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().starts_with("index.db") {
            // Partial tiles and half-written files go while the log goes on.
            drop(std::fs::copy(entry.path(), &target));
        }
    }
}

pub(crate) async fn probe(running: &legate_boot::Running, path: &str) -> String {
    let mut tcp = tokio::net::TcpStream::connect(running.probes_addr().unwrap()).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    tcp.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}
