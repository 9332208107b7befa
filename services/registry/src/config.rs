//! The configuration file of the registry.

use std::net::SocketAddr;
use std::time::Duration;

use legate_boot::config::{Outbox, Telemetry, Tls};
use legate_boot::{HasTelemetry, StartError};
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
    /// The SCIM facade over HTTPS, by revision 00 of draft-wzdk-scim-agent-resource; absent: none.
    #[serde(default)]
    pub scim_draft_wzdk_00: Option<ScimConfig>,
    /// How long the past is kept.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// The audit outbox.
    #[serde(default)]
    pub outbox: Outbox,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// The SCIM facade.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScimConfig {
    /// Where it serves HTTPS.
    pub listen: SocketAddr,
    /// Where clients reach it, `https://HOST[:PORT]`. Absent: by its address, for development.
    #[serde(default)]
    pub url: Option<String>,
}

impl ScimConfig {
    /// Where clients reach what listens at `addr`.
    ///
    /// # Errors
    /// When the URL is no `https://HOST[:PORT]`.
    pub(crate) fn url(&self, addr: SocketAddr) -> Result<String, StartError> {
        let Some(url) = &self.url else { return Ok(format!("https://{addr}")) };
        let read: Option<http::Uri> = url.parse().ok();
        let authority = read.as_ref().and_then(http::Uri::authority).map(|authority| format!("https://{authority}"));
        if authority.as_ref() != Some(url) || url.contains('@') {
            return Err(StartError::new(
                "scim_draft_wzdk_00.url",
                "https://HOST or https://HOST:PORT, and nothing after it",
            ));
        }
        Ok(url.clone())
    }
}

/// How long the past is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// For so many days every version of every object is kept: 183 (half a year, for which laws want such records kept) to
    /// 36,500. Absent: for ever.
    pub history_days: Option<u32>,
}

impl RetentionConfig {
    /// How long, where it is not for ever.
    ///
    /// # Errors
    /// When it is out of its range.
    pub(crate) fn history(self) -> Result<Option<Duration>, StartError> {
        match self.history_days {
            None => Ok(None),
            Some(days @ 183..=36_500) => Ok(Some(Duration::from_secs(u64::from(days) * 86_400))),
            Some(_) => Err(StartError::new("retention.history_days", "183 to 36,500; absent: for ever")),
        }
    }
}

impl HasTelemetry for Config {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
