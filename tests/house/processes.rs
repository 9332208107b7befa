//! The four services as processes of their own, that can be signalled and killed.
//!
//! Each is this test binary started again: [`a_process_serves`] is what `legate serve` does, in a process that ends by SIGTERM or
//! SIGKILL and by nothing else. The binary `legate` itself is tried by its own package, which is where cargo tells its path.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use legate::dev::pki::{self, Layout};
use legate_client::{Remote, Runtime, enrol};
use legate_clock::{Clock, SystemClock};
use legate_ids::{Name, TrustDomain};
use legate_mtls::{Identity, Trust};
use legate_rpc::Client;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateEnrolmentTokenRequest, EnforcementPointRef};

use crate::asking::Shown;
use crate::raised::{AUDIENCE, LONG, apply_example, example_agent, id_of};

/// Names the service that this process is to be, and its configuration.
const SERVE: &str = "LEGATE_TESTS_SERVE";

const DOMAIN: &str = "dev.legate";

/// Not a test of its own: what a child process runs.
#[test]
fn a_process_serves() {
    let Ok(task) = std::env::var(SERVE) else { return };
    let (service, config) = task.split_once(' ').unwrap();
    if let Err(refused) = legate::dev::serve(service, Path::new(config)) {
        panic!("{refused}");
    }
}

/// Four services as processes, and where everything of theirs is.
pub(crate) struct Processes {
    dir: tempfile::TempDir,
    layout: Layout,
    ports: [u16; 4],
    /// Of credential-issuer's HTTPS.
    web: u16,
    children: [Option<Child>; 4],
    /// What each is told to log.
    log: &'static str,
    /// Where they send spans; `None`: nowhere.
    spans: Option<String>,
    /// Where the registry keeps what is declared, when not in a file.
    database: Option<String>,
    /// One more of a service, beside the one that is there.
    beside: Option<Child>,
}

fn place(service: &str) -> usize {
    pki::SERVICES.iter().position(|name| *name == service).unwrap()
}

/// A port that was free a moment ago. Restarts need it to stay the same, so it is none of those that the kernel gives to
/// whoever asks for any (32,768 and up, where nothing else is set).
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let place = u64::from(std::process::id()) * 61 + u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(place % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Processes {
    /// Starts all four, and waits until they serve.
    pub(crate) async fn start(log: &'static str) -> Self {
        Self::start_on(None, log).await
    }

    /// The same, with the registry on a database of the caller's.
    pub(crate) async fn start_on(database: Option<String>, log: &'static str) -> Self {
        Self::start_with(database, None, log).await
    }

    /// The same, with spans sent by OTLP over gRPC.
    pub(crate) async fn start_traced(spans: &str, log: &'static str) -> Self {
        Self::start_with(None, Some(spans.to_owned()), log).await
    }

    async fn start_with(database: Option<String>, spans: Option<String>, log: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("suite"));
        let domain = TrustDomain::parse(DOMAIN).unwrap();
        pki::lay_out(&layout, &domain, &Name::parse("dev").unwrap(), SystemClock::new().now()).unwrap();
        let ports = [port(), port(), port(), port()];
        let mut all =
            Self { dir, layout, ports, web: port(), children: [const { None }; 4], log, spans, database, beside: None };
        for service in pki::SERVICES {
            all.configure(service);
            all.spawn(service);
        }
        for service in pki::SERVICES {
            all.wait_until_serving(service).await;
        }
        all
    }

    /// New certificates for every service, by the same CA, into the files that they read.
    pub(crate) fn renew_certificates(&self) {
        let domain = TrustDomain::parse(DOMAIN).unwrap();
        pki::lay_out(&self.layout, &domain, &Name::parse("dev").unwrap(), SystemClock::new().now()).unwrap();
    }

    fn configure(&self, service: &str) {
        let at = |name: &str| format!("https://127.0.0.1:{}", self.ports[place(name)]);
        let dir = self.layout.service(service);
        let own = self.layout.tls(service);
        let tls = format!(
            "[tls]\ntrust_domain = \"{DOMAIN}\"\ncert = {:?}\nkey = {:?}\nservices_ca = {:?}\nworkloads_ca = {:?}\n",
            own.cert,
            own.key,
            self.layout.services_ca().cert,
            self.layout.workloads_ca(),
        );
        let spans = self.spans.as_ref().map(|to| format!("otlp_endpoint = {to:?}\n")).unwrap_or_default();
        let telemetry = format!("[telemetry]\nlog = {:?}\n{spans}", self.log);
        let (audit, registry, policy) = (at("audit-collector"), at("registry"), at("policy-decision"));
        let own = match service {
            "audit-collector" => format!(
                "dir = {:?}\n[personal]\ndir = {:?}\nkek = {:?}\n",
                self.layout.log(),
                self.layout.names(),
                self.layout.names_kek()
            ),
            "registry" => {
                let file = || format!("sqlite:{}", dir.join("registry.db").display());
                let database = self.database.clone().unwrap_or_else(file);
                format!("database = {database:?}\naudit_collector = {audit:?}\nadministrators = [\"dev\"]\n")
            }
            "policy-decision" => format!(
                "registry = {registry:?}\naudit_collector = {audit:?}\n[spool]\ndir = {:?}\n",
                dir.join("spool")
            ),
            _ => format!(
                "issuer = \"https://issuer.{DOMAIN}\"\ndatabase = \"sqlite:{}\"\nregistry = {registry:?}\npolicy_decision = {policy:?}\naudit_collector = {audit:?}\n[oauth]\nlisten = \"127.0.0.1:{}\"\n[keys]\ndir = {dir:?}\nkek = {:?}\n",
                dir.join("credential-issuer.db").display(),
                self.web,
                self.layout.kek(),
            ),
        };
        let listen = format!("listen = \"127.0.0.1:{}\"\n", self.ports[place(service)]);
        std::fs::write(self.config(service), listen + &own + &tls + &telemetry).unwrap();
    }

    /// credential-issuer's HTTPS.
    pub(crate) fn web(&self) -> Remote {
        Remote { endpoint: format!("https://127.0.0.1:{}", self.web), ..self.remote("credential-issuer") }
    }

    fn config(&self, service: &str) -> PathBuf {
        self.layout.service(service).join("config.toml")
    }

    /// Where a service's standard error goes, over all its lives.
    pub(crate) fn log_file(&self, service: &str) -> PathBuf {
        self.dir.path().join(format!("{service}.log"))
    }

    /// The directory of the audit log.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.layout.log()
    }

    /// Everything that the suite has on disk.
    pub(crate) fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Starts a service that does not run.
    pub(crate) fn spawn(&mut self, service: &str) {
        self.children[place(service)] = Some(self.child(service, &self.config(service)));
    }

    fn child(&self, service: &str, config: &Path) -> Child {
        let log = File::options().create(true).append(true).open(self.log_file(service)).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::a_process_serves", "--nocapture", "--test-threads=1"])
            .env(SERVE, format!("{service} {}", config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Starts one more policy-decision, with a port and a spool of its own, and waits until it serves.
    pub(crate) async fn spawn_beside(&mut self, service: &'static str) -> Remote {
        let registry = self.remote("registry").endpoint;
        self.spawn_beside_by(service, &registry).await
    }

    /// The same, reaching the registry there.
    pub(crate) async fn spawn_beside_by(&mut self, service: &'static str, registry: &str) -> Remote {
        let (dir, port) = (self.layout.service(service), port());
        let spool = dir.join("spool");
        let own = format!("127.0.0.1:{}", self.ports[place(service)]);
        let text = std::fs::read_to_string(self.config(service)).unwrap();
        let text = text.replacen(&own, &format!("127.0.0.1:{port}"), 1);
        let text = text.replace(&format!("{spool:?}"), &format!("{:?}", dir.join("spool-beside")));
        let text = text.replace(&format!("{:?}", self.remote("registry").endpoint), &format!("{registry:?}"));
        let config = dir.join("beside.toml");
        std::fs::write(&config, text).unwrap();
        self.beside = Some(self.child(service, &config));
        let remote = Remote { endpoint: format!("https://127.0.0.1:{port}"), ..self.remote(service) };
        let files = self.layout.operator();
        let operator = remote.dial(Identity::from_files(&files.cert, &files.key).unwrap()).unwrap();
        self.wait_for_health(service, operator).await;
        remote
    }

    /// Sends it a signal.
    pub(crate) fn signal_beside(&self, name: &str) {
        signal(self.beside.as_ref().unwrap(), name);
    }

    /// Asks a service for its health until it serves.
    pub(crate) async fn wait_until_serving(&self, service: &'static str) {
        self.wait_for_health(service, self.operator(service)).await;
    }

    async fn wait_for_health(&self, service: &str, client: Client) {
        use tonic_health::pb::HealthCheckRequest;
        use tonic_health::pb::health_check_response::ServingStatus;
        let mut health = tonic_health::pb::health_client::HealthClient::new(client);
        let begin = Instant::now();
        loop {
            let answer = health.check(HealthCheckRequest::default()).await;
            if answer.is_ok_and(|a| a.into_inner().status() == ServingStatus::Serving) {
                return;
            }
            assert!(begin.elapsed() < LONG, "{service} does not serve: {}", self.told(service));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a service has logged.
    pub(crate) fn told(&self, service: &str) -> String {
        std::fs::read_to_string(self.log_file(service)).unwrap_or_default()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, service: &str, name: &str) {
        signal(self.children[place(service)].as_ref().unwrap(), name);
    }

    /// Waits for the end of a service; how it ended.
    pub(crate) fn wait(&mut self, service: &str) -> ExitStatus {
        let mut child = self.children[place(service)].take().unwrap();
        child.wait().unwrap()
    }

    /// SIGKILL: it ends at once, and does nothing more.
    pub(crate) fn kill(&mut self, service: &str) {
        let mut child = self.children[place(service)].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGKILL and a new start.
    pub(crate) async fn crash(&mut self, service: &'static str) {
        self.kill(service);
        self.spawn(service);
        self.wait_until_serving(service).await;
    }

    /// SIGTERM to all, from the top of the call order; everybody ends well.
    pub(crate) fn stop(&mut self) {
        for service in pki::SERVICES.iter().rev() {
            if self.children[place(service)].is_some() {
                self.signal(service, "TERM");
                let ended = self.wait(service);
                assert!(ended.success(), "{service} ended with {ended}: {}", self.told(service));
            }
        }
    }

    /// A service's address, and whom to believe.
    pub(crate) fn remote(&self, service: &'static str) -> Remote {
        let domain = TrustDomain::parse(DOMAIN).unwrap();
        let trust = Trust::from_files(domain, &self.layout.services_ca().cert, None).unwrap();
        Remote { endpoint: format!("https://127.0.0.1:{}", self.ports[place(service)]), trust, service }
    }

    /// Somebody who shows a certificate of the services' CA.
    pub(crate) fn certified(&self, name: &str) -> Identity {
        let files = self.layout.services_ca();
        let read = |path| std::fs::read_to_string(path).unwrap();
        let ca = legate_mtls::pki::Ca::from_pem(&read(files.cert), &read(files.key)).unwrap();
        let domain = TrustDomain::parse(DOMAIN).unwrap();
        crate::raised::certify(&ca, &legate_ids::SpiffeId::service(&domain, &Name::parse(name).unwrap()))
    }

    /// The services and the workloads.
    pub(crate) fn whole_trust(&self) -> Trust {
        let domain = TrustDomain::parse(DOMAIN).unwrap();
        Trust::from_files(domain, &self.layout.services_ca().cert, Some(&self.layout.workloads_ca())).unwrap()
    }

    /// A channel to a service, as the operator.
    pub(crate) fn operator(&self, service: &'static str) -> Client {
        let files = self.layout.operator();
        self.remote(service).dial(Identity::from_files(&files.cert, &files.key).unwrap()).unwrap()
    }

    /// A one-time token.
    pub(crate) async fn enrolment_token(&self, holder: Holder) -> String {
        let mut admin = CredentialAdminServiceClient::new(self.operator("credential-issuer"));
        let request = CreateEnrolmentTokenRequest { holder: Some(holder), ttl: None, reason: "a test".into() };
        admin.create_enrolment_token(request).await.unwrap().into_inner().token
    }

    /// Applies the example, enrols its parties, and obtains a token.
    pub(crate) async fn parties(&self) -> Parties {
        apply_example(self.operator("registry")).await;
        let agent = example_agent(self.operator("registry")).await;
        let enrolment = self.enrolment_token(Holder::AgentId(id_of(&agent))).await;
        let enrolled = enrol(&self.remote("credential-issuer"), &enrolment).await.unwrap();
        let runtime = Runtime::new(&self.remote("credential-issuer"), enrolled.identity().unwrap()).unwrap();
        let point = EnforcementPointRef { namespace: "payments".into(), name: "invoices".into() };
        let point = self.enrolment_token(Holder::EnforcementPoint(point)).await;
        let backend = enrol(&self.remote("credential-issuer"), &point).await.unwrap();
        let token = runtime.token(AUDIENCE).await.unwrap();
        let presenter = runtime.identity().x5t_s256().unwrap();
        Parties {
            agent: id_of(&agent),
            shown: Shown { token: token.access_token, presenter },
            revision: token.revision,
            backend: self.remote("policy-decision").dial(backend.identity().unwrap()).unwrap(),
            identity: backend.identity().unwrap(),
            runtime,
            secrets: vec![enrolment, point, body(&enrolled.key.to_pem()), body(&backend.key.to_pem())],
        }
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The text between the first and the last line of a PEM text, without line breaks' neighbours: its longest line.
fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("--")).max_by_key(|line| line.len()).unwrap().to_owned()
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().chain([&mut self.beside]).flatten() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// The example's parties.
pub(crate) struct Parties {
    pub(crate) agent: String,
    pub(crate) shown: Shown,
    /// The registry's revision that the token rests on.
    pub(crate) revision: u64,
    /// policy-decision, as the backend.
    pub(crate) backend: Client,
    /// Who the backend is.
    pub(crate) identity: Identity,
    pub(crate) runtime: Runtime,
    /// What must never be seen anywhere.
    pub(crate) secrets: Vec<String>,
}
