//! The configuration file of policy-decision.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use legate_boot::config::{Telemetry, Tls};
use serde::Deserialize;

use crate::domain::route::{Route, Wanted};

/// What policy-decision is told. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it serves gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Where it serves `/livez`, `/readyz` and `/metrics`, plaintext, on a loopback address; absent: nowhere.
    #[serde(default)]
    pub probes: Option<SocketAddr>,
    /// The registry, `https://HOST:PORT`.
    pub registry: String,
    /// audit-collector, `https://HOST:PORT`.
    pub audit_collector: String,
    /// Who it is and whom it believes.
    pub tls: Tls,
    /// The spool of decision records.
    pub spool: SpoolConfig,
    /// How fresh decisions are.
    #[serde(default)]
    pub decision: DecisionConfig,
    /// AuthZEN (OpenID Authorization API 1.0) over HTTPS; absent: none.
    #[serde(default)]
    pub authzen: Option<AuthzenConfig>,
    /// What the requests are about which Envoy asks.
    #[serde(default)]
    pub ext_authz: ExtAuthzConfig,
    /// How it tells what happens.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// Where decision records wait for audit-collector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolConfig {
    /// A directory of its own.
    pub dir: PathBuf,
    /// More waiting bytes than this, and every check is denied with `AUDIT_UNAVAILABLE`. Default 1 GiB.
    #[serde(default = "spool_bytes")]
    pub max_bytes: u64,
}

fn spool_bytes() -> u64 {
    1 << 30
}

/// What Envoy's requests are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExtAuthzConfig {
    /// Which action on which resource a request is, by the first row that it is in; one that is in none is denied. 1,000 at most.
    pub routes: Vec<RouteConfig>,
    /// Headers that no request takes to its upstream, in lower case: those by which services elsewhere believe who calls.
    pub remove_headers: Vec<String>,
}

/// One row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Methods in upper case; absent: every one.
    #[serde(default)]
    pub methods: Vec<String>,
    /// `/ledger/{id}`: a name in braces stands for one part of the path, `{name*}` at the end for all that are left.
    pub path: String,
    /// The action, such as `ledger:read`.
    pub action: String,
    /// The resource's type, such as `Ledger`.
    pub resource_type: String,
    /// The resource's id, with what is taken from the request in it: `{id}` of the path, `{query.id}` or `{header.x-id}`.
    pub resource_id: String,
    /// What is stated of the resource: texts, or `{id}`, `{query.region}`, `{header.x-region}`; `:long` or `:bool` behind it for other
    /// kinds, `?` at the end for what may be absent.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The context, in the same way.
    #[serde(default)]
    pub context: BTreeMap<String, String>,
}

/// The most rows.
const MAX_ROUTES: usize = 1_000;

impl ExtAuthzConfig {
    /// The table as it is used.
    ///
    /// # Errors
    /// The first row that cannot be read, by its number from 0, and its key.
    pub(crate) fn read(&self) -> Result<Vec<Route>, BadConfig> {
        if self.routes.len() > MAX_ROUTES {
            return Err(BadConfig::Routes);
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if let Some(bad) = self.remove_headers.iter().find(|name| !is_name(name) || name.as_str() == "host") {
            return Err(BadConfig::Header(bad.clone()));
        }
        let read = |(n, row): (usize, &RouteConfig)| {
            let wanted = Wanted {
                methods: &row.methods,
                path: &row.path,
                action: &row.action,
                resource_type: &row.resource_type,
                resource_id: &row.resource_id,
                attributes: &row.attributes,
                context: &row.context,
            };
            Route::read(&wanted).map_err(|e| BadConfig::Route(n, e.to_string()))
        };
        self.routes.iter().enumerate().map(read).collect()
    }
}

/// AuthZEN over HTTPS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthzenConfig {
    /// Where it serves HTTPS.
    pub listen: SocketAddr,
    /// Where callers reach it, `https://HOST[:PORT]`. Absent: by its address, for development.
    #[serde(default)]
    pub url: Option<String>,
}

impl AuthzenConfig {
    /// Where callers reach what listens at `addr`.
    ///
    /// # Errors
    /// When the URL is no `https://HOST[:PORT]`.
    pub(crate) fn url(&self, addr: SocketAddr) -> Result<String, BadConfig> {
        let Some(url) = &self.url else { return Ok(format!("https://{addr}")) };
        let read: Option<http::Uri> = url.parse().ok();
        let authority = read.as_ref().and_then(http::Uri::authority).map(|authority| format!("https://{authority}"));
        if authority.as_ref() != Some(url) || url.contains('@') {
            return Err(BadConfig::AuthzenUrl);
        }
        Ok(url.clone())
    }
}

/// How fresh decisions are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionConfig {
    /// A view of the registry that is older denies with `STALE`. 100 to 5,000 ms; default 5,000.
    pub staleness_ms: u64,
    /// For how long an ALLOW may be used again for the same question: 0 to 5,000 ms; default 1,000; 0: not at all.
    pub reuse_ms: u64,
    /// How many tokens' signature checks are remembered, 0 to 10,000,000; default 65,536.
    pub remembered_tokens: usize,
    /// One decision in so many is made again by Cedar's own authorizer, beside the checks, and compared; a hundredth of a core at
    /// most goes to it. Default 1,000; 0: none.
    pub self_check: u32,
}

impl Default for DecisionConfig {
    fn default() -> Self {
        Self { staleness_ms: 5_000, reuse_ms: 1_000, remembered_tokens: 65_536, self_check: 1_000 }
    }
}

/// A value outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// A row of the routes.
    #[error("ext_authz.routes[{0}].{1}")]
    Route(usize, String),
    /// Too many rows.
    #[error("ext_authz.routes are 1000 at most")]
    Routes,
    /// A header to remove.
    #[error("ext_authz.remove_headers: {0:?} is not the name of a header in lower case, or one that a request needs")]
    Header(String),
    /// The bound of staleness.
    #[error("decision.staleness_ms is 100 to 5000: a view older than five seconds never decides")]
    Staleness,
    /// The time of reuse.
    #[error("decision.reuse_ms is 0 to 5000")]
    Reuse,
    /// The memory of tokens.
    #[error("decision.remembered_tokens is 0 to 10000000")]
    Tokens,
    /// The spool's bound.
    #[error("spool.max_bytes is at least 33554432 (32 MiB), two segments of the spool")]
    Spool,
    /// Where callers reach AuthZEN.
    #[error("authzen.url is https://HOST or https://HOST:PORT, and nothing after it")]
    AuthzenUrl,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), BadConfig> {
        let d = &self.decision;
        if !(100..=5_000).contains(&d.staleness_ms) {
            return Err(BadConfig::Staleness);
        }
        if d.reuse_ms > 5_000 {
            return Err(BadConfig::Reuse);
        }
        if d.remembered_tokens > 10_000_000 {
            return Err(BadConfig::Tokens);
        }
        if self.spool.max_bytes < 32 << 20 {
            return Err(BadConfig::Spool);
        }
        Ok(())
    }
}

impl DecisionConfig {
    pub(crate) fn staleness(&self) -> Duration {
        Duration::from_millis(self.staleness_ms)
    }

    pub(crate) fn reuse(&self) -> Duration {
        Duration::from_millis(self.reuse_ms)
    }
}

impl legate_boot::HasTelemetry for Config {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
