//! The configuration file of the registry.

use std::net::SocketAddr;

use legate_boot::HasTelemetry;
use legate_boot::config::{Outbox, Telemetry, Tls};
use serde::Deserialize;

/// What the registry is told. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it serves gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Where it serves `/livez`, `/readyz` and `/metrics`, plaintext, on a loopback address; absent: nowhere.
    #[serde(default)]
    pub probes: Option<SocketAddr>,
    /// `sqlite:PATH` or `postgres://USER@HOST/DATABASE`.
    pub database: String,
    /// audit-collector, `https://HOST:PORT`.
    pub audit_collector: String,
    /// Operators who are made ADMIN everywhere when nobody is; ignored as soon as somebody is.
    #[serde(default)]
    pub administrators: Vec<String>,
    /// Who it is and whom it believes.
    pub tls: Tls,
    /// The audit outbox.
    #[serde(default)]
    pub outbox: Outbox,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

impl HasTelemetry for Config {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
