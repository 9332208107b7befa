//! Where the services are, whom to believe and who we are: flag, then environment, then context file.

use std::path::{Path, PathBuf};

use clap::Args;
use figment::Figment;
use figment::providers::{Format as _, Toml};
use legate_client::Remote;
use legate_clock::{Clock as _, SystemClock};
use legate_ids::TrustDomain;
use legate_mtls::{Identity, Trust};
use legate_rpc::{Client, RetryBudget, with_retry};
use prost::{Message, Name};
use serde::Deserialize;
use tonic::{Response, Status};

use crate::Failure;
use crate::error::{CONTEXT_MISSING, FILE_REFUSED};
use crate::proto;

/// The file of a login, beside the context file.
const LOGIN: &str = "login.pem";

/// Where the services are, whom to believe and who we are.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[command(next_help_heading = "Where the services are, and who you are")]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Place {
    /// CA certificates that verify the services, in PEM.
    #[arg(long, global = true, env = "LEGATE_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate, in PEM.
    #[arg(long, global = true, env = "LEGATE_CERT", hide_env_values = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM, mode 0600.
    #[arg(long, global = true, env = "LEGATE_KEY", hide_env_values = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The SPIFFE trust domain; left out: that of your certificate.
    #[arg(long, global = true, env = "LEGATE_TRUST_DOMAIN", hide_env_values = true, value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// The registry, https://HOST:PORT.
    #[arg(long, global = true, env = "LEGATE_REGISTRY", hide_env_values = true, value_name = "URL")]
    registry: Option<String>,
    /// credential-issuer, https://HOST:PORT.
    #[arg(long, global = true, env = "LEGATE_ISSUER", hide_env_values = true, value_name = "URL")]
    issuer: Option<String>,
    /// policy-decision, https://HOST:PORT.
    #[arg(long, global = true, env = "LEGATE_POLICY", hide_env_values = true, value_name = "URL")]
    policy: Option<String>,
    /// audit-collector, https://HOST:PORT.
    #[arg(long, global = true, env = "LEGATE_AUDIT", hide_env_values = true, value_name = "URL")]
    audit: Option<String>,
    /// In an emergency: act as an administrator wherever you were given BREAK_GLASS, and say why (1 to 200 ASCII
    /// characters). Each call is recorded and raises an alert.
    #[arg(long, global = true, value_name = "WHY")]
    #[serde(skip)]
    break_glass: Option<String>,
    /// A context file in TOML with these settings by the names of the flags (trust_domain = "..."); left out:
    /// ~/.config/legate/context.toml where there is one.
    #[arg(
        long = "context-file",
        global = true,
        id = "context-file",
        env = "LEGATE_CONTEXT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    #[serde(skip)]
    context: Option<PathBuf>,
    /// Where `legate login` keeps key and certificate: beside the context file.
    #[arg(skip)]
    #[serde(skip)]
    login: Option<PathBuf>,
}

/// One of the four services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Registry,
    Issuer,
    Policy,
    Audit,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Registry, Self::Issuer, Self::Policy, Self::Audit];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Issuer => "credential-issuer",
            Self::Policy => "policy-decision",
            Self::Audit => "audit-collector",
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::Registry => "--registry (LEGATE_REGISTRY)",
            Self::Issuer => "--issuer (LEGATE_ISSUER)",
            Self::Policy => "--policy (LEGATE_POLICY)",
            Self::Audit => "--audit (LEGATE_AUDIT)",
        }
    }
}

impl Place {
    /// With what the context file says, where neither flag nor environment says it.
    pub(crate) fn with_context(self) -> Result<Self, Failure> {
        let path = match (&self.context, std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")) {
            (Some(path), ..) => path.clone(),
            (None, Some(config), _) if !config.is_empty() => PathBuf::from(config).join("legate/context.toml"),
            (None, _, Some(home)) => PathBuf::from(home).join(".config/legate/context.toml"),
            _ => return Ok(self),
        };
        let login = path.parent().map(|dir| dir.join(LOGIN));
        if !path.is_file() {
            return match self.context {
                Some(_) => Err(Failure::file(&path, "there is no such context file")),
                None => Ok(Self { login, ..self }),
            };
        }
        let file: Self =
            Figment::new().merge(Toml::file_exact(&path)).extract().map_err(|e| Failure::file(&path, e))?;
        Ok(Self {
            ca: self.ca.or(file.ca),
            cert: self.cert.or(file.cert),
            key: self.key.or(file.key),
            trust_domain: self.trust_domain.or(file.trust_domain),
            registry: self.registry.or(file.registry),
            issuer: self.issuer.or(file.issuer),
            policy: self.policy.or(file.policy),
            audit: self.audit.or(file.audit),
            break_glass: self.break_glass,
            context: self.context,
            login,
        })
    }

    pub(crate) fn endpoint(&self, service: Service) -> Result<&str, Failure> {
        let known = match service {
            Service::Registry => &self.registry,
            Service::Issuer => &self.issuer,
            Service::Policy => &self.policy,
            Service::Audit => &self.audit,
        };
        known.as_deref().ok_or_else(|| {
            let what = format!("nobody said where {} is: {} is missing", service.name(), service.flag());
            Failure::local(&CONTEXT_MISSING, what)
        })
    }

    /// The operator's identity.
    pub(crate) fn operator(&self) -> Result<Identity, Failure> {
        let missing =
            |what: &str| Failure::local(&CONTEXT_MISSING, format!("nobody said who you are: {what} is missing"));
        if let (None, None, Some(login)) = (&self.cert, &self.key, self.login.as_ref().filter(|login| login.exists())) {
            return logged_in(login);
        }
        let cert = self.cert.as_deref().ok_or_else(|| missing("--cert (LEGATE_CERT)"))?;
        let key = self.key.as_deref().ok_or_else(|| missing("--key (LEGATE_KEY)"))?;
        identity(cert, key)
    }

    /// Where `legate login` writes.
    pub(crate) fn login_file(&self) -> Result<PathBuf, Failure> {
        let nowhere = || Failure::local(&CONTEXT_MISSING, "nobody said where to keep a login: HOME is missing");
        self.login.clone().ok_or_else(nowhere)
    }

    /// Whom we believe. The trust domain is that of `us` where nobody says it.
    pub(crate) fn trust(&self, us: &Identity) -> Result<Trust, Failure> {
        let missing =
            |what: &str| Failure::local(&CONTEXT_MISSING, format!("nobody said whom to believe: {what} is missing"));
        let domain = match (&self.trust_domain, us.spiffe_id()) {
            (Some(text), _) => text.clone(),
            (None, Some(id)) => id.trust_domain().to_owned(),
            (None, None) => return Err(missing("--trust-domain (LEGATE_TRUST_DOMAIN)")),
        };
        let domain = TrustDomain::parse(&domain)
            .map_err(|e| Failure::local(&CONTEXT_MISSING, format!("--trust-domain {domain:?}: {e}")))?;
        let ca = self.ca.as_deref().ok_or_else(|| missing("--ca (LEGATE_CA)"))?;
        Trust::from_files(domain, ca, None).map_err(|e| Failure::local(&FILE_REFUSED, e.to_string()))
    }

    pub(crate) fn remote(&self, service: Service, us: &Identity) -> Result<Remote, Failure> {
        let endpoint = self.endpoint(service)?.to_owned();
        Ok(Remote { endpoint, trust: self.trust(us)?, service: service.name() })
    }

    /// A line to a service, as `us`.
    pub(crate) fn line(&self, service: Service, us: Identity, show: bool) -> Result<Line, Failure> {
        self.line_to(self.remote(service, &us)?, service, us, show)
    }

    /// The same to one that is known already, as somebody who may not know the trust domain.
    pub(crate) fn line_to(&self, remote: Remote, service: Service, us: Identity, show: bool) -> Result<Line, Failure> {
        let client = match &self.break_glass {
            Some(why) => remote.dial_breaking_glass(us, why),
            None => remote.dial(us),
        };
        let client = client.map_err(|f| Failure::status(service.name(), &remote.endpoint, &Status::from(f)))?;
        Ok(Line { client, service, endpoint: remote.endpoint, show, budget: RetryBudget::default() })
    }
}

/// Who we are by the last login, while it lasts.
fn logged_in(file: &Path) -> Result<Identity, Failure> {
    let us = identity(file, file)?;
    match us.not_after() {
        Some(ends) if ends <= SystemClock::new().now() => {
            let what = format!("the login in {} ended at {ends}; log in again (legate login)", file.display());
            Err(Failure::local(&CONTEXT_MISSING, what))
        }
        _ => Ok(us),
    }
}

/// A certificate and key from files.
pub(crate) fn identity(cert: &Path, key: &Path) -> Result<Identity, Failure> {
    Identity::from_files(cert, key).map_err(|e| Failure::local(&FILE_REFUSED, e.to_string()))
}

/// A line to one service.
#[derive(Debug)]
pub(crate) struct Line {
    client: Client,
    service: Service,
    endpoint: String,
    show: bool,
    budget: RetryBudget,
}

impl Line {
    /// Makes a call; again where it may pass, since every write carries a `request_id` or may be repeated.
    pub(crate) async fn ask<Q, A, F>(&self, request: Q, call: impl Fn(Client, Q) -> F) -> Result<A, Failure>
    where
        Q: Message + Name + Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.show(&request);
        let answer = with_retry(&self.budget, || call(self.client.clone(), request.clone())).await;
        answer.map(Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Prints a request, where that was asked for.
    pub(crate) fn show<Q: Message + Name>(&self, request: &Q) {
        if self.show {
            crate::output::say(&proto::shown(request));
        }
    }

    /// Opens a stream; again where it may pass, which is before anything was said on it.
    pub(crate) async fn open<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        with_retry(&self.budget, || call(self.client.clone())).await.map_err(|status| self.failure(&status))
    }

    pub(crate) fn failure(&self, status: &Status) -> Failure {
        Failure::status(self.service.name(), &self.endpoint, status)
    }
}

/// Makes a repetition of a write harmless.
pub(crate) fn request_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_context_file_fills_what_nobody_else_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.toml");
        std::fs::write(&path, "registry = \"https://a:1\"\npolicy = \"https://b:2\"\n").unwrap();
        let place = Place { registry: Some("https://flag:9".into()), context: Some(path.clone()), ..Place::default() };
        let place = place.with_context().unwrap();
        assert_eq!(place.endpoint(Service::Registry).unwrap(), "https://flag:9");
        assert_eq!(place.endpoint(Service::Policy).unwrap(), "https://b:2");
        let why = place.endpoint(Service::Audit).unwrap_err();
        assert!(why.reason == "CONTEXT_MISSING" && why.what.contains("LEGATE_AUDIT"), "{why}");
        std::fs::write(&path, "registri = \"https://a:1\"\n").unwrap();
        let wrong = Place { context: Some(path), ..Place::default() }.with_context().unwrap_err();
        assert!(wrong.what.contains("registri"), "{wrong}");
        let none = Place { context: Some(dir.path().join("none")), ..Place::default() };
        assert!(none.with_context().is_err());
    }

    #[test]
    fn a_login_is_who_we_are_while_it_lasts_and_nobody_says_otherwise() {
        use legate_ids::SpiffeId;
        use legate_mtls::pki::{Ca, Leaf, write_private};
        use std::time::Duration;

        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock::new().now();
        let ca = Ca::generate("operators", now.minus(Duration::from_secs(7_200)), Duration::from_secs(36_000)).unwrap();
        let id = SpiffeId::parse("spiffe://dev.legate/legate/operator/ci").unwrap();
        let leaf = |ttl| Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl };
        let write = |path: &Path, issued: &legate_mtls::pki::Issued| {
            write_private(path, &format!("{}{}", &*issued.key_pem, issued.cert_pem)).unwrap();
        };
        let place = Place { context: Some(dir.path().join("context.toml")), ..Place::default() };
        std::fs::write(dir.path().join("context.toml"), "").unwrap();
        let place = place.with_context().unwrap();
        assert_eq!(place.operator().unwrap_err().reason, "CONTEXT_MISSING");
        let login = place.login_file().unwrap();
        assert_eq!(login, dir.path().join(LOGIN));
        write(&login, &ca.issue(&leaf(Duration::from_secs(600)), now).unwrap());
        assert_eq!(place.operator().unwrap().spiffe_id(), Some(id.clone()));
        // Whoever says who he is says it whole.
        let half = Place { cert: Some(login.clone()), ..place.clone() };
        assert_eq!(half.operator().unwrap_err().reason, "CONTEXT_MISSING");
        let earlier = now.minus(Duration::from_secs(3_600));
        write(&login, &ca.issue(&leaf(Duration::from_secs(600)), earlier).unwrap());
        let ended = place.operator().unwrap_err();
        assert!(ended.what.contains("legate login"), "{ended}");
    }
}
