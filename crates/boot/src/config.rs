//! Configuration files, and the sections that every service has.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use legate_ids::TrustDomain;
use legate_mtls::{CaFiles, Identity, Trust};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::StartError;

/// Reads a TOML file; `LEGATE_CONFIG_*` in the environment overrides, `__` between section and key (`LEGATE_CONFIG_TELEMETRY__LOG`).
///
/// # Errors
/// When the file is missing or a key is unknown, missing or of the wrong type.
pub fn load<C: DeserializeOwned>(path: &Path) -> Result<C, StartError> {
    if !path.is_file() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(StartError::new(format!("no configuration file at {}", path.display()), missing));
    }
    Figment::new()
        .merge(Toml::file_exact(path))
        .merge(Env::prefixed("LEGATE_CONFIG_").split("__"))
        .extract()
        .map_err(|e| StartError::new(format!("the configuration in {} is refused", path.display()), e))
}

/// Who we are and whom we believe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The SPIFFE trust domain, without `spiffe://`.
    pub trust_domain: String,
    /// Our certificate chain in PEM, leaf first.
    pub cert: PathBuf,
    /// Its private key in PEM, mode 0600.
    pub key: PathBuf,
    /// The CA certificates of services and operators.
    pub services_ca: PathBuf,
    /// The CA certificates of agents and enforcement points; the file may appear later.
    pub workloads_ca: Option<PathBuf>,
    /// The CA certificates of operators who log in by an identity provider; the file may appear later. Absent: nobody
    /// who logged in is believed.
    pub operators_ca: Option<PathBuf>,
}

/// How often certificate files are looked at for changes.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

impl Tls {
    /// Our trust domain.
    ///
    /// # Errors
    /// When it breaks the grammar.
    pub fn domain(&self) -> Result<TrustDomain, StartError> {
        TrustDomain::parse(&self.trust_domain).map_err(|e| StartError::new("tls.trust_domain", e))
    }

    /// Reads the files, and goes on reading them whenever they change.
    ///
    /// # Errors
    /// When a file is missing or broken, or others can read the key. Needs a tokio runtime.
    pub fn open(&self) -> Result<(Identity, Trust), StartError> {
        let refused = |e| StartError::new("the TLS files are refused", e);
        let identity = Identity::from_files(&self.cert, &self.key).map_err(refused)?;
        let files = CaFiles {
            services: self.services_ca.clone(),
            workloads: self.workloads_ca.clone(),
            operators: self.operators_ca.clone(),
        };
        let trust = Trust::open(self.domain()?, files).map_err(refused)?;
        // They look for as long as the process lives.
        drop((identity.watch(LOOK), trust.watch(LOOK)));
        Ok((identity, trust))
    }
}

/// How much waits for audit-collector.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// Audit events that may wait; with more, nothing is written or issued. 1 to 10,000,000.
    pub max_events: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { max_events: 100_000 }
    }
}

impl Outbox {
    /// Whether the values are in their ranges.
    ///
    /// # Errors
    /// When one is not.
    pub fn check(&self) -> Result<(), StartError> {
        if (1..=10_000_000).contains(&self.max_events) {
            return Ok(());
        }
        Err(StartError::new("outbox.max_events", "1 to 10,000,000"))
    }
}

/// How a service tells what happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// What is logged, in `tracing` directives: `info`, `info,legate_registry=debug`.
    pub log: String,
    /// `text` or `json`.
    pub format: LogFormat,
    /// Where spans go by OTLP over gRPC, such as `http://127.0.0.1:4317`; absent: nowhere.
    pub otlp_endpoint: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".into(), format: LogFormat::Text, otlp_endpoint: None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        telemetry: Telemetry,
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "[telemetry]\nlog = \"debug\"\n").unwrap();
        assert_eq!(load::<Sample>(&file).unwrap().telemetry.log, "debug");
        std::fs::write(&file, "[telemetry]\nlogg = \"debug\"\n").unwrap();
        let why = load::<Sample>(&file).unwrap_err().to_string();
        assert!(why.contains("logg"), "{why}");
        assert!(load::<Sample>(&dir.path().join("none")).is_err());
    }
}
