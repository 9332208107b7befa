//! The whole house in one process: the four services by the same `start` as their binaries, on real mutual TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use legate_boot::config::load;
use legate_boot::{Context, Running, StartError};
use legate_client::Remote;
use legate_clock::{Clock, SystemClock};
use legate_ids::{Name, TrustDomain};
use legate_mtls::{Identity, Trust};
use legate_rpc::Client;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::pki::{self, Layout};
use super::workload;
use crate::node::Helper;

/// How to raise a suite.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept; made when it is not there.
    pub dir: PathBuf,
    /// The first of the ports; 0: free ones from the kernel.
    pub port_base: u16,
    /// The SPIFFE trust domain.
    pub trust_domain: String,
    /// The operator's name.
    pub operator: String,
    /// Operators who are administrators beside him, from the first start on.
    pub administrators: Vec<String>,
    /// Where the registry keeps what is declared; left out: in a file of the directory.
    pub registry_database: Option<String>,
    /// Whether the registry serves SCIM, a draft, too.
    pub scim: bool,
    /// The policy of the witnesses that cosign the log's checkpoints; left out: nobody does.
    pub witness_policy: Option<PathBuf>,
    /// Whether this machine is a node of the suite, with a socket for its processes.
    pub workload: bool,
    /// More of credential-issuer's configuration, in TOML: `[federation]`, `[operators]`.
    pub federation: String,
    /// Time, for the services and for what they are laid out with.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// A suite in `dir` on free ports.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            port_base: 0,
            trust_domain: "dev.legate".into(),
            operator: "dev".into(),
            administrators: Vec::new(),
            registry_database: None,
            scim: false,
            witness_policy: None,
            workload: false,
            federation: String::new(),
            clock: SystemClock::shared(),
        }
    }
}

/// A running suite.
#[derive(Debug)]
pub struct Suite {
    layout: Layout,
    domain: TrustDomain,
    running: BTreeMap<&'static str, Running>,
    clock: Arc<dyn Clock>,
    helper: Option<Helper>,
}

/// Which port each service has, counted from the base.
#[derive(Clone, Copy, Debug)]
struct Ports {
    base: u16,
}

impl Ports {
    fn at(self, offset: u16) -> SocketAddr {
        let port = if self.base == 0 { 0 } else { self.base + offset };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

impl Suite {
    /// Raises the four services, each once those it calls are up.
    ///
    /// # Errors
    /// When a file, a port or a service refuses.
    pub async fn start(options: &Options) -> Result<Self, StartError> {
        let domain = TrustDomain::parse(&options.trust_domain).map_err(|e| StartError::new("the trust domain", e))?;
        let operator = Name::parse(&options.operator).map_err(|e| StartError::new("the operator's name", e))?;
        let layout = Layout::new(&absolute("--dir", &options.dir)?);
        pki::lay_out(&layout, &domain, &operator, options.clock.now())?;
        let ports = Ports { base: options.port_base };
        let site = Site { layout: &layout, domain: &domain, database: options.registry_database.as_deref() };

        let witnesses = options.witness_policy.as_deref().map(|path| absolute("--witness-policy", path)).transpose()?;
        let audit = site.audit_collector(ports) + &witnesses.map(|path| site.witnesses(&path)).unwrap_or_default();
        let audit = site.write("audit-collector", &audit)?;
        let audit = Box::pin(legate_audit_collector::start(load(&audit)?, context(&options.clock))).await?;
        let audit_at = url(audit.addr());

        let administrators = std::iter::once(operator.to_string()).chain(options.administrators.iter().cloned());
        let registry = site.registry(ports, &audit_at, &administrators.collect::<Vec<_>>());
        let registry = if options.scim { registry + &site.scim(ports) } else { registry };
        let registry = site.write("registry", &registry)?;
        let registry = Box::pin(legate_registry::start(load(&registry)?, context(&options.clock))).await?;
        let registry_at = url(registry.addr());

        let policy = site.write("policy-decision", &site.policy_decision(ports, &registry_at, &audit_at))?;
        let policy = Box::pin(legate_policy_decision::start(load(&policy)?, context(&options.clock))).await?;
        let policy_at = url(policy.addr());

        let issuer = site.credential_issuer(ports, &registry_at, &policy_at, &audit_at) + "\n" + &options.federation;
        let issuer = site.write("credential-issuer", &issuer)?;
        let issuer = Box::pin(legate_credential_issuer::start(load(&issuer)?, context(&options.clock))).await?;

        // In the order of `pki::SERVICES`.
        let running = pki::SERVICES.into_iter().zip([audit, registry, policy, issuer]).collect();
        let mut suite = Self { layout, domain, running, clock: Arc::clone(&options.clock), helper: None };
        for service in pki::SERVICES {
            suite.wait_until_serving(service).await?;
        }
        suite.publish_log_key()?;
        if options.workload {
            let (remote, services) =
                (suite.remote("credential-issuer")?, (suite.dial("registry")?, suite.dial("credential-issuer")?));
            suite.helper = Box::pin(workload::raise(&suite.layout, &suite.domain, remote, services)).await?;
        }
        suite.write_env()?;
        Ok(suite)
    }

    /// Asks a service for its health until it serves, a minute at most: of a million agents a snapshot takes a while.
    async fn wait_until_serving(&self, service: &'static str) -> Result<(), StartError> {
        let mut health = HealthClient::new(self.dial(service)?);
        let work = async {
            loop {
                let answer = health.check(HealthCheckRequest::default()).await;
                let status = answer.map(|a| a.into_inner().status());
                if matches!(status, Ok(ServingStatus::Serving)) {
                    return;
                }
                tracing::debug!(service, ?status, "not serving yet");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), work).await;
        waited.map_err(|late| StartError::new(format!("{service} does not serve after a minute"), late))
    }

    /// Lowers the services, each before those it calls.
    pub async fn shutdown(mut self) {
        if let Some(helper) = self.helper.take() {
            helper.shutdown().await;
        }
        for service in pki::SERVICES.into_iter().rev() {
            self.lower(service).await;
        }
    }

    /// Lowers one service; the others go on without it.
    pub async fn lower(&mut self, service: &str) {
        if let Some(running) = self.running.remove(service) {
            running.shutdown().await;
        }
    }

    /// Raises a service again that was lowered, from the configuration it had. Only where the suite has ports of its own do
    /// the others find it again.
    ///
    /// # Errors
    /// When it refuses, or there is no such service.
    pub async fn raise(&mut self, service: &'static str) -> Result<(), StartError> {
        let config = self.layout.service(service).join("config.toml");
        let running = match service {
            "audit-collector" => Box::pin(legate_audit_collector::start(load(&config)?, context(&self.clock))).await?,
            "registry" => Box::pin(legate_registry::start(load(&config)?, context(&self.clock))).await?,
            "policy-decision" => Box::pin(legate_policy_decision::start(load(&config)?, context(&self.clock))).await?,
            "credential-issuer" => {
                Box::pin(legate_credential_issuer::start(load(&config)?, context(&self.clock))).await?
            }
            _ => return Err(StartError::new("no such service", service)),
        };
        self.running.insert(service, running);
        self.wait_until_serving(service).await
    }

    /// Where things are on disk.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The SPIFFE trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// A service by name, while it runs.
    #[must_use]
    pub fn running(&self, service: &str) -> Option<&Running> {
        self.running.get(service)
    }

    /// The node helper, where there is one.
    #[must_use]
    pub fn helper(&self) -> Option<&Helper> {
        self.helper.as_ref()
    }

    /// Whom a client of the suite believes: the services' CA.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn trust(&self) -> Result<Trust, StartError> {
        Ok(Trust::from_files(self.domain.clone(), &self.layout.services_ca().cert, None)?)
    }

    /// The operator's identity.
    ///
    /// # Errors
    /// When the files are gone.
    pub fn operator(&self) -> Result<Identity, StartError> {
        let files = self.layout.operator();
        Ok(Identity::from_files(&files.cert, &files.key)?)
    }

    /// A service to dial.
    ///
    /// # Errors
    /// When there is no such service or the CA's file is gone.
    pub fn remote(&self, service: &'static str) -> Result<Remote, StartError> {
        let running = self.running(service).ok_or_else(|| StartError::new("no such service", service))?;
        Ok(Remote { endpoint: url(running.addr()), trust: self.trust()?, service })
    }

    /// A channel to a service as the operator.
    ///
    /// # Errors
    /// As [`Suite::remote`].
    pub fn dial(&self, service: &'static str) -> Result<Client, StartError> {
        Ok(self.remote(service)?.dial(self.operator()?)?)
    }

    /// Copies the log's public key to `DIR/log.pub`, where auditors look for it.
    fn publish_log_key(&self) -> Result<(), StartError> {
        let made = self.layout.log().join("log.pub");
        let key = std::fs::read_to_string(&made).map_err(|e| StartError::new(made.display().to_string(), e))?;
        Ok(legate_mtls::pki::write_public(&self.layout.log_key(), &key)?)
    }

    /// Writes `DIR/env`, a file to source.
    fn write_env(&self) -> Result<(), StartError> {
        let root = self.layout.root().display();
        let mut lines = vec![
            format!("export LEGATE_DIR='{root}'"),
            format!("export LEGATE_TRUST_DOMAIN='{}'", self.domain),
            format!("export LEGATE_CA='{root}/ca.pem'"),
            format!("export LEGATE_CERT='{root}/operator.pem'"),
            format!("export LEGATE_KEY='{root}/operator.key'"),
        ];
        let names = [
            ("LEGATE_REGISTRY", "registry"),
            ("LEGATE_ISSUER", "credential-issuer"),
            ("LEGATE_POLICY", "policy-decision"),
            ("LEGATE_AUDIT", "audit-collector"),
        ];
        for (name, service) in names {
            lines.extend(self.running(service).map(|running| format!("export {name}='{}'", url(running.addr()))));
        }
        let webs = [
            ("LEGATE_OAUTH", "credential-issuer"),
            ("LEGATE_AUTHZEN", "policy-decision"),
            ("LEGATE_LOG", "audit-collector"),
            ("LEGATE_SCIM", "registry"),
        ];
        for (name, service) in webs {
            let web = self.running(service).and_then(Running::web_addr);
            lines.extend(web.map(|web| format!("export {name}='{}'", url(web))));
        }
        let audit = self.running("audit-collector");
        let intakes = [
            ("LEGATE_OTLP", audit.and_then(Running::intake_addr)),
            ("LEGATE_OTLP_HTTP", audit.and_then(Running::intake_web_addr)),
        ];
        lines.extend(intakes.iter().filter_map(|(name, at)| Some(format!("export {name}='{}'", url((*at)?)))));
        lines.extend(
            self.helper.as_ref().map(|helper| format!("export SPIFFE_ENDPOINT_SOCKET='{}'", helper.endpoint())),
        );
        let text = lines.join("\n") + "\n";
        Ok(legate_mtls::pki::write_public(&self.layout.root().join("env"), &text)?)
    }
}

/// What every service of a suite is given: a suite is for development, so its services tell their methods.
fn context(clock: &Arc<dyn Clock>) -> Context {
    Context { clock: Arc::clone(clock), ..Context::new() }.with_reflection(legate_wire::DESCRIPTORS)
}

fn url(addr: SocketAddr) -> String {
    format!("https://{addr}")
}

fn absolute(flag: &str, dir: &Path) -> Result<PathBuf, StartError> {
    let text = dir.to_str().filter(|t| !t.contains(['\'', '"', '\\', '\n']));
    if text.is_none() {
        return Err(StartError::new(flag, "the path has to be UTF-8 without quotes, backslashes or line breaks"));
    }
    std::path::absolute(dir).map_err(|e| StartError::new(flag, e))
}

/// Writes the services' configuration files.
struct Site<'a> {
    layout: &'a Layout,
    domain: &'a TrustDomain,
    database: Option<&'a str>,
}

impl Site<'_> {
    fn write(&self, service: &str, text: &str) -> Result<PathBuf, StartError> {
        let path = self.layout.service(service).join("config.toml");
        legate_mtls::pki::write_public(&path, text)?;
        Ok(path)
    }

    fn tls(&self, service: &str) -> String {
        let own = self.layout.tls(service);
        format!(
            "[tls]\ntrust_domain = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\nservices_ca = \"{}\"\nworkloads_ca = \"{}\"\noperators_ca = \"{}\"\n",
            self.domain,
            own.cert.display(),
            own.key.display(),
            self.layout.services_ca().cert.display(),
            self.layout.workloads_ca().display(),
            self.layout.operators_ca().display(),
        )
    }

    /// Its entries are served whole: whoever reaches the loopback of this machine may read what is tried out on it.
    fn audit_collector(&self, ports: Ports) -> String {
        let dir = self.layout.log();
        format!(
            "listen = \"{}\"\nweb = \"{}\"\nweb_entries = true\nprobes = \"{}\"\ndir = \"{}\"\n\n[personal]\ndir = \"{}\"\nkek = \"{}\"\n\n[otlp]\ngrpc = \"{}\"\nhttp = \"{}\"\n\n{}",
            ports.at(4),
            ports.at(14),
            ports.at(94),
            dir.display(),
            self.layout.names().display(),
            self.layout.names_kek().display(),
            ports.at(24),
            ports.at(25),
            self.tls("audit-collector"),
        )
    }

    fn witnesses(&self, policy: &Path) -> String {
        format!("\n[witness]\npolicy = \"{}\"\nevery_s = 1\n", policy.display())
    }

    fn registry(&self, ports: Ports, audit: &str, administrators: &[String]) -> String {
        let file = || format!("sqlite:{}", self.layout.service("registry").join("registry.db").display());
        let database = self.database.map_or_else(file, str::to_owned);
        format!(
            "listen = \"{}\"\nprobes = \"{}\"\ndatabase = \"{database}\"\naudit_collector = \"{audit}\"\nadministrators = {administrators:?}\n\n{}",
            ports.at(1),
            ports.at(91),
            self.tls("registry"),
        )
    }

    fn scim(&self, ports: Ports) -> String {
        format!("\n[scim_draft_wzdk_00]\nlisten = \"{}\"\n", ports.at(11))
    }

    fn policy_decision(&self, ports: Ports, registry: &str, audit: &str) -> String {
        let spool = self.layout.service("policy-decision").join("spool");
        format!(
            "listen = \"{}\"\nprobes = \"{}\"\nregistry = \"{registry}\"\naudit_collector = \"{audit}\"\n\n[authzen]\nlisten = \"{}\"\n\n[spool]\ndir = \"{}\"\n\n{}",
            ports.at(3),
            ports.at(93),
            ports.at(13),
            spool.display(),
            self.tls("policy-decision"),
        )
    }

    fn credential_issuer(&self, ports: Ports, registry: &str, policy: &str, audit: &str) -> String {
        let dir = self.layout.service("credential-issuer");
        format!(
            "listen = \"{}\"\nprobes = \"{}\"\nregistry = \"{registry}\"\npolicy_decision = \"{policy}\"\naudit_collector = \"{audit}\"\ndatabase = \"sqlite:{}\"\n\n[oauth]\nlisten = \"{}\"\n\n[keys]\ndir = \"{}\"\nkek = \"{}\"\n\n{}",
            ports.at(2),
            ports.at(92),
            dir.join("credential-issuer.db").display(),
            ports.at(12),
            dir.display(),
            self.layout.kek().display(),
            self.tls("credential-issuer"),
        )
    }
}
