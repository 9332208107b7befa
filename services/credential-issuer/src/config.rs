//! The configuration file of credential-issuer.

use std::net::SocketAddr;
use std::path::PathBuf;

use legate_boot::HasTelemetry;
use legate_boot::config::{Outbox, Telemetry, Tls};
use serde::Deserialize;

/// What credential-issuer is told. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it serves gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Where it serves `/livez`, `/readyz` and `/metrics`, plaintext, on a loopback address; absent: nowhere.
    #[serde(default)]
    pub probes: Option<SocketAddr>,
    /// The `iss` of the tokens that it signs: an https URI that never changes, 512 characters at most. Absent: that of `oauth`
    /// by its address, `https://IP:PORT`, for development.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The OAuth facade over HTTPS; absent: none.
    #[serde(default)]
    pub oauth: Option<OauthConfig>,
    /// `sqlite:PATH` or `postgres://USER@HOST/DATABASE`.
    pub database: String,
    /// The registry, `https://HOST:PORT`.
    pub registry: String,
    /// policy-decision, `https://HOST:PORT`.
    pub policy_decision: String,
    /// audit-collector, `https://HOST:PORT`.
    pub audit_collector: String,
    /// Who it is and whom it believes. `tls.workloads_ca` is required here: where there is no such file, a CA is made
    /// and its certificate is written there, for the other services to read.
    pub tls: Tls,
    /// Its keys.
    pub keys: KeysConfig,
    /// The audit outbox.
    #[serde(default)]
    pub outbox: Outbox,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// The OAuth facade.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthConfig {
    /// Where it serves HTTPS. Clients reach it at `issuer`, whose name or address its certificate has to carry.
    pub listen: SocketAddr,
}

/// Where the keys are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// A directory for `workloads-ca.key`, `token-signing.key` and `enrolment.pepper`, each of mode 0600 and made where
    /// it is missing. Keep a copy of it where the database's copy is not.
    pub dir: PathBuf,
}

/// A value that the service will not start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct BadConfig {
    key: &'static str,
    why: &'static str,
}

impl Config {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), BadConfig> {
        let bad = |key, why| Err(BadConfig { key, why });
        match &self.issuer {
            None if self.oauth.is_none() => {
                return bad("issuer", "is needed where there is no oauth.listen to name it by");
            }
            None => {}
            Some(issuer) => {
                let is_uri = issuer.starts_with("https://") && issuer.bytes().all(|b| b.is_ascii_graphic());
                if !is_uri || issuer.len() > 512 || issuer.contains(['#', '?']) {
                    return bad("issuer", "an https URI without query and fragment, 512 characters at most");
                }
                // RFC 8414 section 3: a path would stand within the well-known one, which a proxy could not know.
                if self.oauth.is_some() && issuer["https://".len()..].contains('/') {
                    return bad("issuer", "has no path and no '/' at its end where the OAuth facade is served");
                }
            }
        }
        if self.tls.workloads_ca.is_none() {
            return bad("tls.workloads_ca", "is needed: the file in which others find the CA certificate");
        }
        Ok(())
    }
}

impl HasTelemetry for Config {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
