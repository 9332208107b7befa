//! The node helper: what `legate workload` and `legate dev` raise so that processes of this machine obtain their identities.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use legate_boot::config::Telemetry;
use legate_boot::{Checks, Probes, StartError};
use legate_client::Remote;
use legate_clock::{Clock, SystemClock};
use legate_ids::TrustDomain;
use legate_mtls::Trust;
use legate_rpc::Metrics;
use legate_wire::registry::{AttestationSelector, AttestationSelectorType};
use legate_workload::{
    BrokerSocket, Limits, NoIdentity, Node, Proof, Serving, Settings, TokenPlace, TokenSource, start,
};
use serde::Deserialize;

use crate::Failure;
use crate::error::{NODE_IDENTITY_MISSING, SOCKET_REFUSED};

/// What a configuration file may say. What it does not, a flag has to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The unix socket that processes ask on, absolute.
    pub socket: Option<PathBuf>,
    /// Its mode, as in `0666`: who may connect. Whoever does is attested.
    pub socket_mode: String,
    /// The directory for the node's own key and certificate.
    pub state: Option<PathBuf>,
    /// credential-issuer, https://HOST:PORT.
    pub issuer: Option<String>,
    /// The SPIFFE trust domain, without `spiffe://`.
    pub trust_domain: Option<String>,
    /// The CA certificates of services and operators, in PEM.
    pub services_ca: Option<PathBuf>,
    /// Where it serves /livez, /readyz and /metrics: a loopback address. Absent: nowhere.
    pub probes: Option<SocketAddr>,
    /// By what the node proves itself the first time.
    pub enrolment: Enrolment,
    /// Where the tokens are that the platform gave processes.
    pub tokens: Vec<Tokens>,
    /// SPIFFE's Broker API, as of the draft of that commit; absent: it is not served.
    pub broker_draft_06733d88: Option<Broker>,
    /// Bounds of the socket.
    pub limits: Bounds,
    /// How it tells what happens.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: None,
            socket_mode: "0666".into(),
            state: None,
            issuer: None,
            trust_domain: None,
            services_ca: None,
            probes: None,
            enrolment: Enrolment::default(),
            tokens: Vec::new(),
            broker_draft_06733d88: None,
            limits: Bounds::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// By what the node proves itself where it has no certificate yet; at most one of the files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enrolment {
    /// A file with a one-time token.
    pub token_file: Option<PathBuf>,
    /// A file with a token of an issuer that the node's namespace trusts.
    pub identity_token_file: Option<PathBuf>,
    /// The node's namespace, for an identity token.
    pub namespace: Option<String>,
}

/// Where the tokens of some processes are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// The file: of the helper's own, or relative to `in_process`.
    pub file: PathBuf,
    /// A directory of the process's own mount namespace, absolute and without symbolic links, in which its token is.
    pub in_process: Option<PathBuf>,
    /// Of which processes: those that have all of these, as `UNIX_UID:1700`; none: of each that asks.
    #[serde(default)]
    pub of: Vec<String>,
}

/// The socket of brokers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Its path, absolute.
    pub socket: PathBuf,
    /// Its mode, as in `0660`: who may connect. Whoever does shows an X.509-SVID.
    #[serde(default = "usual_mode")]
    pub socket_mode: String,
}

fn usual_mode() -> String {
    "0660".into()
}

impl Tokens {
    fn source(self, n: usize) -> Result<TokenSource, StartError> {
        let bad = |field: &str, why: String| StartError::new(format!("tokens[{n}].{field}"), why);
        let is_plain = |path: &Path| path.components().all(|part| !matches!(part, Component::ParentDir));
        let place = match self.in_process {
            None if self.file.is_absolute() => TokenPlace::Here(self.file),
            None => return Err(bad("file", "is absolute, unless it is in_process".into())),
            Some(directory) if !directory.is_absolute() || !is_plain(&directory) => {
                return Err(bad("in_process", "is an absolute path without `..`".into()));
            }
            Some(_) if self.file.is_absolute() || !is_plain(&self.file) || self.file.as_os_str().is_empty() => {
                return Err(bad("file", "is a path below in_process, without `..`".into()));
            }
            Some(directory) => TokenPlace::InProcess { directory, file: self.file },
        };
        let selector = |(i, text): (usize, String)| {
            let read = text.split_once(':').and_then(|(word, value)| {
                let of = AttestationSelectorType::from_str_name(&format!("ATTESTATION_SELECTOR_TYPE_{word}"))?;
                // What is seen of a process, and nothing that a token or a broker says.
                let is_seen = i32::from(of) <= i32::from(AttestationSelectorType::ContainerId);
                (is_seen && !value.is_empty()).then(|| (of, value.to_owned()))
            });
            let (of, value) =
                read.ok_or_else(|| bad(&format!("of[{i}]"), "is TYPE:VALUE, such as UNIX_UID:1700".into()))?;
            Ok(AttestationSelector { r#type: of.into(), value })
        };
        let of: Result<Vec<_>, StartError> = self.of.into_iter().enumerate().map(selector).collect();
        Ok(TokenSource { place, of: of? })
    }
}

fn mode(name: &str, text: &str) -> Result<u32, StartError> {
    let bad = || StartError::new(name, "three or four octal digits, such as 0666");
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(bad)
}

/// Bounds of the socket.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Open connections, 1 to 100,000.
    pub connections: usize,
    /// Of these of one user, 1 to 100,000.
    pub connections_of_one_user: usize,
    /// Processes that have SVIDs at one time, 1 to 100,000.
    pub processes: usize,
    /// Of these of one user, 1 to 100,000.
    pub processes_of_one_user: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        let Limits { connections, connections_of_one_user, processes, processes_of_one_user, .. } = Limits::default();
        Self { connections, connections_of_one_user, processes, processes_of_one_user }
    }
}

impl Bounds {
    fn limits(self) -> Result<Limits, StartError> {
        let Self { connections, connections_of_one_user, processes, processes_of_one_user } = self;
        for (name, given) in [
            ("connections", connections),
            ("connections_of_one_user", connections_of_one_user),
            ("processes", processes),
            ("processes_of_one_user", processes_of_one_user),
        ] {
            if !(1..=100_000).contains(&given) {
                return Err(StartError::new(format!("limits.{name}"), "1 to 100,000"));
            }
        }
        Ok(Limits { connections, connections_of_one_user, processes, processes_of_one_user, ..Limits::default() })
    }
}

/// A node helper that runs.
#[derive(Debug)]
pub struct Helper {
    serving: Serving,
    probes: Option<Probes>,
}

/// What [`Helper::raise`] needs of a configuration once nothing is left open.
#[derive(Debug)]
pub struct Wanted {
    /// The socket, absolute.
    pub socket: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// The directory for the node's own key and certificate.
    pub state: PathBuf,
    /// credential-issuer, and whom to believe.
    pub issuer: Remote,
    /// The trust domain.
    pub domain: TrustDomain,
    /// Where the probes are.
    pub probes: Option<SocketAddr>,
    /// Bounds.
    pub limits: Limits,
    /// Where the tokens are that the platform gave processes.
    pub tokens: Vec<TokenSource>,
    /// Where brokers ask, if anywhere.
    pub broker: Option<BrokerSocket>,
    /// By what the node proves itself.
    pub proof: Proof,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// Sees that everything is there.
    ///
    /// # Errors
    /// When something is missing or wrong; the text says what.
    pub fn wanted(self, proof: Proof) -> Result<Wanted, StartError> {
        let missing = |name: &str| StartError::new(name, "is missing: give it in the file or as a flag");
        let domain = self.trust_domain.ok_or_else(|| missing("trust_domain (--trust-domain)"))?;
        let domain = TrustDomain::parse(&domain).map_err(|e| StartError::new("trust_domain", e))?;
        let ca = self.services_ca.ok_or_else(|| missing("services_ca (--ca)"))?;
        let trust = Trust::from_files(domain.clone(), &ca, None)?;
        let endpoint = self.issuer.ok_or_else(|| missing("issuer (--issuer)"))?;
        let broker = |at: Broker| {
            let mode = mode("broker_draft_06733d88.socket_mode", &at.socket_mode)?;
            Ok::<_, StartError>(BrokerSocket { path: at.socket, mode })
        };
        let tokens: Result<_, StartError> = self.tokens.into_iter().enumerate().map(|(n, one)| one.source(n)).collect();
        Ok(Wanted {
            socket: self.socket.ok_or_else(|| missing("socket (--socket)"))?,
            mode: mode("socket_mode", &self.socket_mode)?,
            state: self.state.ok_or_else(|| missing("state (--state)"))?,
            issuer: Remote { endpoint, trust, service: "credential-issuer" },
            domain,
            probes: self.probes,
            limits: self.limits.limits()?,
            tokens: tokens?,
            broker: self.broker_draft_06733d88.map(broker).transpose()?,
            proof,
            clock: SystemClock::shared(),
        })
    }
}

impl Helper {
    /// Obtains the node's identity where there is none, and serves the socket. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the node is refused, the socket cannot be put there, or the probes' address cannot be bound.
    pub async fn raise(wanted: Wanted) -> Result<Self, Failure> {
        let Wanted { socket, mode, state, issuer, domain, probes, limits, tokens, broker, proof, clock } = wanted;
        // CA certificates may be replaced while it runs.
        drop(issuer.trust.watch(std::time::Duration::from_secs(2)));
        let endpoint = issuer.endpoint.clone();
        let unknown = |e: NoIdentity| match e {
            NoIdentity::Client(e) => Failure::client("credential-issuer", &endpoint, e),
            NoIdentity::File(path, e) => Failure::file(&path, e),
            e @ (NoIdentity::Nothing(_) | NoIdentity::NotANode(_)) => {
                Failure::local(&NODE_IDENTITY_MISSING, e.to_string())
            }
            NoIdentity::Tls(e) => Failure::local(&crate::error::FILE_REFUSED, e.to_string()),
        };
        let node = Node::open(&state, issuer, proof, Arc::clone(&clock)).await.map_err(unknown)?;
        if let Some(id) = node.identity().spiffe_id().filter(|id| id.trust_domain() != domain.as_str()) {
            return Err(Failure::local(
                &NODE_IDENTITY_MISSING,
                format!("{id} is of another trust domain than {domain}"),
            ));
        }
        let client = node.dial().map_err(|e| Failure::client("credential-issuer", &endpoint, e))?;
        let metrics = Arc::new(Metrics::new());
        let metrics_too = Arc::clone(&metrics);
        let settings = Settings { socket, mode, limits, tokens, broker, domain, clock, metrics: metrics_too };
        let serving = start(settings, node, client).map_err(|e| Failure::local(&SOCKET_REFUSED, e.to_string()))?;
        let probes = match probes {
            None => None,
            Some(at) => {
                let standing = || serving.standing().clone();
                let (identity, issuer, socket, accepting) = (standing(), standing(), standing(), standing());
                let checks = Checks::new()
                    .with_alive("accepting", move || std::future::ready(accepting.accepting()))
                    .with("socket", move || {
                        let socket = socket.clone();
                        async move { socket.socket().await }
                    })
                    .with("identity", move || std::future::ready(identity.identity()))
                    .with("issuer", move || std::future::ready(issuer.issuer()));
                Some(Probes::start(at, metrics, checks).await.map_err(StartError::from)?)
            }
        };
        Ok(Self { serving, probes })
    }

    /// Where the socket is, as SPIFFE_ENDPOINT_SOCKET has it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.serving.endpoint()
    }

    /// Where the probes are, if anywhere.
    #[must_use]
    pub fn probes_addr(&self) -> Option<SocketAddr> {
        self.probes.as_ref().map(Probes::addr)
    }

    /// The socket itself.
    #[must_use]
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Serves no more. What processes hold is good on.
    pub async fn shutdown(self) {
        self.serving.shutdown().await;
        if let Some(probes) = self.probes {
            probes.shutdown().await;
        }
    }
}

/// Reads a configuration file, where there is one.
///
/// # Errors
/// When it is missing, or a key is unknown or of the wrong type.
pub fn read(file: Option<&Path>) -> Result<Config, StartError> {
    file.map_or_else(|| Ok(Config::default()), legate_boot::load)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_missing_or_out_of_its_range_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let now = SystemClock::new().now();
        let made = legate_mtls::pki::Ca::generate("services", now, std::time::Duration::from_secs(60)).unwrap();
        std::fs::write(&ca, made.cert_pem()).unwrap();
        let good = Config {
            socket: Some("/run/legate/workload.sock".into()),
            state: Some(dir.path().into()),
            issuer: Some("https://issuer:7102".into()),
            trust_domain: Some("example.org".into()),
            services_ca: Some(ca),
            ..Config::default()
        };
        let wanted = good.clone().wanted(Proof::Nothing).unwrap();
        assert_eq!((wanted.mode, wanted.limits.connections), (0o666, 8_192));
        let tokens = |file: &str, in_process: Option<&str>, of: &[&str]| Config {
            tokens: vec![Tokens {
                file: file.into(),
                in_process: in_process.map(Into::into),
                of: of.iter().map(ToString::to_string).collect(),
            }],
            ..good.clone()
        };
        let read = |config: Config| config.wanted(Proof::Nothing).map(|wanted| wanted.tokens);
        let found = read(tokens("/run/token", None, &["UNIX_UID:1700"])).unwrap();
        assert_eq!(
            (found[0].of[0].r#type(), found[0].of[0].value.as_str()),
            (AttestationSelectorType::UnixUid, "1700")
        );
        let found = read(tokens("token", Some("/legate"), &[])).unwrap();
        let place = TokenPlace::InProcess { directory: "/legate".into(), file: "token".into() };
        assert_eq!(found[0].place, place);
        let broker = |mode: &str| Config {
            broker_draft_06733d88: Some(Broker { socket: "/run/b.sock".into(), socket_mode: mode.into() }),
            ..good.clone()
        };
        assert_eq!(broker("0660").wanted(Proof::Nothing).unwrap().broker.map(|at| at.mode), Some(0o660));
        let spoilt: [(&str, Config); 15] = [
            ("broker_draft_06733d88.socket_mode", broker("x")),
            ("tokens[0].file", tokens("token", None, &[])),
            ("tokens[0].file", tokens("/token", Some("/legate"), &[])),
            ("tokens[0].file", tokens("../token", Some("/legate"), &[])),
            ("tokens[0].in_process", tokens("token", Some("legate"), &[])),
            ("tokens[0].in_process", tokens("token", Some("/a/../b"), &[])),
            ("tokens[0].of[0]", tokens("/token", None, &["UNIX_UID"])),
            ("tokens[0].of[0]", tokens("/token", None, &["UID:1"])),
            ("tokens[0].of[1]", tokens("/token", None, &["UNIX_UID:1", "OIDC_SUBJECT:a"])),
            ("socket", Config { socket: None, ..good.clone() }),
            ("state", Config { state: None, ..good.clone() }),
            ("issuer", Config { issuer: None, ..good.clone() }),
            ("trust_domain", Config { trust_domain: Some("EXAMPLE".into()), ..good.clone() }),
            ("socket_mode", Config { socket_mode: "0999".into(), ..good.clone() }),
            ("limits.processes", Config { limits: Bounds { processes: 0, ..Bounds::default() }, ..good.clone() }),
        ];
        for (name, spoilt) in spoilt {
            let why = spoilt.wanted(Proof::Nothing).unwrap_err().to_string();
            assert!(why.starts_with(name), "{name}: {why}");
        }
    }
}
