//! An agent of a fleet, its attestation policy, and processes that ask who they are.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use legate::node::{Helper, Wanted};
use legate_client::Remote;
use legate_clock::Clock;
use legate_mtls::Identity;
use legate_rpc::Code;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::instance_service_client::InstanceServiceClient;
use legate_wire::credential::{GetInstanceRequest, Instance, NodeRef};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    AgentRef, ApplyDeclarationsRequest, GetAgentRequest, Kind, ResumeAgentRequest, RevokeDeclarationRequest,
    SuspendAgentRequest,
};
use legate_wire::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use legate_wire::spiffe::{X509svidRequest, X509svidResponse};
use legate_workload::{Limits, Proof};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use crate::raised::{LONG, Raised};

/// The audience of the fleet's backend.
pub(super) const AUDIENCE: &str = "https://plans.example.com";

pub(super) type Api = SpiffeWorkloadApiClient<Channel>;

/// What is declared. NODES, RISK, UID and PROGRAM stand for what differs.
const FLEET: &str = r#"apiVersion: legate/v1
kind: Namespace
metadata: {name: fleet}
spec: {owners: ["group:platform"]}
---
apiVersion: legate/v1
kind: CredentialPolicy
metadata: {name: attested, namespace: fleet}
spec: {methods: [ATTESTATION]}
---
apiVersion: legate/v1
kind: AgentClass
metadata: {name: attested, namespace: fleet}
spec: {permissions: ["plan:read on Plan:*"], ceiling: ["plan:* on Plan:*"], credentialPolicy: attested, maxCertificateTtl: 3600s}
---
apiVersion: legate/v1
kind: Agent
metadata: {name: planner, namespace: fleet}
spec:
  agentClass: attested
  purpose: Plans.
  environment: DEV
  riskTier: RISK
  owners: ["user:ada@example.com"]
  sponsors: ["user:grace@example.com"]
---
apiVersion: legate/v1
kind: EnforcementPoint
metadata: {name: plans, namespace: fleet}
spec: {resourceTypes: [Plan], audiences: ["https://plans.example.com"], mayAssertSubject: true}
---
apiVersion: legate/v1
kind: Policy
metadata: {name: agents, namespace: fleet}
spec: {mode: ENFORCE, cedar: "permit (principal, action, resource);"}
---
apiVersion: legate/v1
kind: Node
metadata: {name: vm, namespace: fleet}
spec: {description: A machine.}
---
apiVersion: legate/v1
kind: AttestationPolicy
metadata: {name: planner, namespace: fleet}
spec:
  agent: planner
  nodes: NODES
  selectors:
    - {type: UNIX_UID, value: "UID"}
    - {type: UNIX_PATH, value: "PROGRAM"}
"#;

/// Where a child process asks.
const ASKS: &str = "LEGATE_TESTS_ASKS";
/// After how many microseconds it is gone.
const LEAVES: &str = "LEGATE_TESTS_LEAVES";

/// An agent, and the socket on which its processes ask.
pub(super) struct Fleet {
    pub(super) endpoint: String,
    /// The agent's, without instance.
    pub(super) spiffe_id: String,
    pub(super) dir: tempfile::TempDir,
}

/// A stream of X.509-SVIDs.
pub(super) struct Watched {
    stream: Result<Streaming<X509svidResponse>, tonic::Status>,
    /// Of the last that came.
    pub(super) spiffe_id: String,
    _api: Api,
}

/// Certificate, key and bundle as they came.
#[derive(PartialEq, Eq)]
pub(super) struct Bytes(Vec<u8>, Vec<u8>, Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bytes(hidden)")
    }
}

impl Bytes {
    pub(super) fn identity(&self) -> Identity {
        let identity = Identity::anonymous();
        identity.replace_svid(&self.0, &self.1).unwrap();
        identity
    }
}

/// Another process that is the agent, and what it is called.
pub(super) struct Other {
    pub(super) process: Child,
    pub(super) svid: String,
}

pub(super) fn channel(endpoint: &str) -> Channel {
    let path = endpoint.strip_prefix("unix://").unwrap().to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

pub(super) fn api(endpoint: &str) -> Api {
    SpiffeWorkloadApiClient::new(channel(endpoint))
}

pub(super) fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

/// Looks again and again, for a bounded time.
pub(super) async fn until(is_so: impl AsyncFn() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, looking).await.expect("it did not come to that");
}

pub(super) async fn instance(raised: &Raised, id: &str) -> Instance {
    let mut instances = InstanceServiceClient::new(raised.operator("credential-issuer"));
    let request = GetInstanceRequest { instance_id: id.to_owned() };
    instances.get_instance(request).await.unwrap().into_inner().instance.unwrap()
}

impl Fleet {
    /// Declares it, for the node of the suite, and has this process be one of it.
    pub(super) async fn declared(raised: &Raised, risk: &str) -> Self {
        let endpoint = raised.suite.helper().unwrap().endpoint();
        let fleet = Self::with(raised, risk, r#"["dev/machine"]"#, endpoint).await;
        // The helper runs already, and has to hear of it first.
        fleet.held_at_last().await;
        fleet
    }

    /// The same for the node `fleet/vm`, which has no helper yet.
    pub(super) async fn declared_with_nodes(raised: &Raised, risk: &str) -> Self {
        Self::with(raised, risk, "[]", String::new()).await
    }

    async fn with(raised: &Raised, risk: &str, nodes: &str, endpoint: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let exe = std::env::current_exe().unwrap().canonicalize().unwrap();
        let uid = std::fs::metadata("/proc/self").unwrap().uid().to_string();
        let text = FLEET.replace("NODES", nodes).replace("RISK", risk).replace("UID\"", &format!("{uid}\""));
        let text = text.replace("PROGRAM", exe.to_str().unwrap());
        let file = dir.path().join("fleet.yaml");
        std::fs::write(&file, text).unwrap();
        let documents = legate::manifest::load(&[file]).unwrap_or_else(|e| panic!("{e}"));
        let declarations = documents.into_iter().map(|document| document.declaration).collect();
        let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
        let mut service = DeclarationServiceClient::new(raised.operator("registry"));
        service.apply_declarations(request).await.unwrap();
        let mut agents = AgentServiceClient::new(raised.operator("registry"));
        let request = GetAgentRequest { agent: Some(planner()), as_of: None };
        let agent = agents.get_agent(request).await.unwrap().into_inner().agent.unwrap();
        Self { endpoint, spiffe_id: agent.status.unwrap().spiffe_id, dir }
    }

    /// A helper of the node `fleet/vm`, by a clock of its own.
    pub(super) async fn helper(&self, raised: &Raised, clock: Arc<dyn Clock>) -> Helper {
        self.helper_with(raised, clock, |_| {}).await
    }

    /// The same, which finds credential-issuer there.
    pub(super) async fn helper_of(&self, raised: &Raised, issuer: Remote, clock: Arc<dyn Clock>) -> Helper {
        self.helper_with(raised, clock, |wanted| wanted.issuer = issuer).await
    }

    /// The same, configured otherwise.
    pub(super) async fn helper_with(
        &self,
        raised: &Raised,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut Wanted),
    ) -> Helper {
        let node = NodeRef { namespace: "fleet".into(), name: "vm".into() };
        let token = raised.enrolment_token(Holder::Node(node)).await;
        let mut wanted = Wanted {
            socket: self.dir.path().join("workload.sock"),
            mode: 0o666,
            state: self.dir.path().join("node"),
            issuer: raised.remote("credential-issuer"),
            domain: raised.suite.domain().clone(),
            probes: None,
            limits: Limits::default(),
            tokens: Vec::new(),
            broker: None,
            proof: Proof::Token(token.into()),
            clock,
        };
        change(&mut wanted);
        Helper::raise(wanted).await.unwrap()
    }

    /// A stream of this process.
    pub(super) async fn watched(&self) -> Watched {
        let mut api = api(&self.endpoint);
        let stream = api.fetch_x509svid(marked(X509svidRequest {})).await.map(tonic::Response::into_inner);
        Watched { stream, spiffe_id: String::new(), _api: api }
    }

    /// What this process has, once it has something.
    pub(super) async fn held_at_last(&self) -> Bytes {
        let looking = async {
            loop {
                let mut watched = self.watched().await;
                if let Some(bytes) = watched.next().await.ok().flatten() {
                    return bytes;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, looking).await.expect("it is given nothing")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "attested::a_process_asks", "--nocapture"]).env(ASKS, &self.endpoint);
        command
    }

    /// Another process of this program, that asks and is gone so much later, whatever it was told.
    pub(super) async fn gone_after(&self, patience: Duration) {
        let mut command = self.command();
        command.env(LEAVES, patience.as_micros().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        tokio::time::timeout(LONG, process.wait()).await.expect("it stays").unwrap();
    }

    async fn spawned(&self) -> (Child, String) {
        let mut process =
            self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let reading = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, said)) = line.split_once("asked: ") {
                    return said.to_owned();
                }
            }
            panic!("the process said nothing")
        };
        let said = tokio::time::timeout(LONG, reading).await.expect("the process says nothing");
        (process, said)
    }

    /// Another process of this program, that was given something.
    pub(super) async fn child(&self) -> Other {
        let (process, svid) = self.spawned().await;
        assert!(svid.starts_with(&self.spiffe_id), "{svid}");
        Other { process, svid }
    }

    /// Another process of this program, that was given nothing: what it was told.
    pub(super) async fn refused_child(&self) -> String {
        self.spawned().await.1
    }

    pub(super) async fn suspend(&self, raised: &Raised) {
        let mut agents = AgentServiceClient::new(raised.operator("registry"));
        let request = SuspendAgentRequest { agent: Some(planner()), reason: "a test".into(), ..Default::default() };
        agents.suspend_agent(request).await.unwrap();
    }

    pub(super) async fn resume(&self, raised: &Raised) {
        let mut agents = AgentServiceClient::new(raised.operator("registry"));
        let request = ResumeAgentRequest { agent: Some(planner()), reason: "a test".into(), ..Default::default() };
        agents.resume_agent(request).await.unwrap();
    }

    pub(super) async fn withdraw_policy(&self, raised: &Raised) {
        take_back(raised, Kind::AttestationPolicy, "planner").await;
    }

    pub(super) async fn take_node_back(&self, raised: &Raised) {
        take_back(raised, Kind::Node, "vm").await;
    }
}

/// Declares the documents of a manifest.
pub(super) async fn apply(raised: &Raised, text: &str) -> Result<(), tonic::Status> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("more.yaml");
    std::fs::write(&file, text).unwrap();
    let documents = legate::manifest::load(&[file]).unwrap_or_else(|e| panic!("{e}"));
    let declarations = documents.into_iter().map(|document| document.declaration).collect();
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await.map(drop)
}

pub(super) async fn take_back(raised: &Raised, kind: Kind, name: &str) {
    let request = RevokeDeclarationRequest {
        kind: kind.into(),
        namespace: "fleet".into(),
        name: name.into(),
        reason: "a test".into(),
        ..RevokeDeclarationRequest::default()
    };
    DeclarationServiceClient::new(raised.operator("registry")).revoke_declaration(request).await.unwrap();
}

fn planner() -> AgentRef {
    AgentRef { namespace: "fleet".into(), name: "planner".into(), ..AgentRef::default() }
}

impl Watched {
    async fn next(&mut self) -> Result<Option<Bytes>, tonic::Status> {
        let stream = self.stream.as_mut().map_err(|status| status.clone())?;
        let message = tokio::time::timeout(LONG, stream.message()).await.expect("nothing comes");
        let Some(message) = message? else { return Ok(None) };
        let svid = &message.svids[0];
        assert_eq!(svid.hint, "fleet/planner");
        self.spiffe_id = svid.spiffe_id.clone();
        Ok(Some(Bytes(svid.x509_svid.clone(), svid.x509_svid_key.clone(), svid.bundle.clone())))
    }

    /// What comes next.
    pub(super) async fn holds(&mut self) -> Bytes {
        self.next().await.unwrap().expect("the stream ended")
    }

    /// With what it ends; nothing else comes before.
    pub(super) async fn ends(&mut self) -> (Code, String) {
        match self.next().await {
            Ok(None) => (Code::Ok, String::new()),
            Ok(Some(_)) => panic!("{} is given something", self.spiffe_id),
            Err(status) => super::word(&status),
        }
    }
}

/// The child's part: asks once, says what it was given, and stays until it is killed.
pub(super) async fn asks() {
    let Ok(endpoint) = std::env::var(ASKS) else { return };
    let mut api = api(&endpoint);
    if let Ok(patience) = std::env::var(LEAVES) {
        let patience = Duration::from_micros(patience.parse().unwrap());
        // Without a word, as a process goes that is killed.
        tokio::select! {
            _ = api.fetch_x509svid(marked(X509svidRequest {})) => {}
            () = tokio::time::sleep(patience) => {}
        }
        std::process::exit(0);
    }
    let answer = match api.fetch_x509svid(marked(X509svidRequest {})).await {
        Ok(stream) => stream.into_inner().message().await,
        Err(status) => Err(status),
    };
    let said = match answer {
        Ok(message) => message.unwrap().svids[0].spiffe_id.clone(),
        Err(status) => format!("{:?}", status.code()),
    };
    writeln!(std::io::stdout().lock(), "asked: {said}").unwrap();
    std::future::pending::<()>().await;
}
