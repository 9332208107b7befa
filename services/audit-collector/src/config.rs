//! The configuration file of audit-collector.

mod personal;
mod tiles;
mod witness;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use legate_boot::config::{Telemetry, Tls};
use legate_ids::Name;
use legate_web::reach::Network;
use serde::Deserialize;

pub use personal::{PersonalConfig, RetentionRule};
pub use tiles::TilesConfig;
pub use witness::WitnessConfig;

/// What audit-collector is told. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it serves gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Where it serves the log's tiles over HTTPS to whoever can connect; absent: nowhere. See `web_entries`.
    #[serde(default)]
    pub web: Option<SocketAddr>,
    /// Whether it serves the entries there too, whole, of every namespace and to whoever can connect, without a record of it; else their
    /// hashes and checkpoints alone. Default false.
    #[serde(default)]
    pub web_entries: bool,
    /// Where it serves `/livez`, `/readyz` and `/metrics`, plaintext, on a loopback address; absent: nowhere.
    #[serde(default)]
    pub probes: Option<SocketAddr>,
    /// The log's directory: `segments/` (the truth), `checkpoint` and `tile/` (derived), `log.key`, `log.pub`, `log.rotations`.
    pub dir: PathBuf,
    /// The log's name in its checkpoints; never changes. Default: the trust domain and `/audit-log`.
    #[serde(default)]
    pub origin: Option<String>,
    /// The index, `sqlite:PATH` or `postgres://...`. Default: `index.db` in `dir`. With `log.commit_log = "postgres"` the log's rows are
    /// there as well, and cannot be made again.
    #[serde(default)]
    pub database: Option<String>,
    /// Operators who may read everything, whatever their roles, by the NAME of `spiffe://TRUST_DOMAIN/legate/operator/NAME`: 64
    /// at most. For when the registry's word about roles is not there.
    #[serde(default)]
    pub auditors: Vec<String>,
    /// Where the names of persons are kept.
    pub personal: PersonalConfig,
    /// Who it is and whom it believes.
    pub tls: Tls,
    /// Who receives alerts.
    #[serde(default)]
    pub webhook: WebhookConfig,
    /// Where OpenTelemetry's clients tell of acts.
    #[serde(default)]
    pub otlp: OtlpConfig,
    /// Who cosigns the log's checkpoints.
    #[serde(default)]
    pub witness: WitnessConfig,
    /// Where its tiles are kept beside the directory.
    #[serde(default)]
    pub tiles: TilesConfig,
    /// How the log is kept.
    #[serde(default)]
    pub log: LogConfig,
    /// How it tells what happens.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// Who receives alerts, as Standard Webhooks: signed, at least once each, in order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Where they are posted: https://..., or http:// on this machine. Absent: nowhere.
    pub url: Option<String>,
    /// The file of the secret that they are signed with: `whsec_` and 24 to 64 bytes in base64, readable to nobody else.
    pub secret_file: Option<PathBuf>,
    /// CA certificates in PEM under which the receiver is believed, beside the public ones.
    pub ca: Option<PathBuf>,
    /// Networks that are private and in which the receiver may be all the same, as `10.0.0.0/8`.
    pub allow_private: Vec<Network>,
}

/// Ports of their own for agents and enforcement points that tell by OTLP, over mutual TLS and nothing else. Over gRPC `listen` takes it
/// as well.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// OTLP over gRPC; absent: nowhere but on `listen`.
    pub grpc: Option<SocketAddr>,
    /// OTLP over HTTPS, in protobuf; absent: nowhere.
    pub http: Option<SocketAddr>,
}

/// How the log is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Where the log's truth is: in the segments of `dir`, which one collector has for itself (`segments`, the default), or in rows of the
    /// PostgreSQL of `database`, which several share (`postgres`): one of them leads, and the others stand by.
    pub commit_log: CommitLog,
    /// For how long the one that leads may be silent before another takes over: 3 to 60 s; default 10. With `postgres` alone.
    pub lease_s: u64,
    /// Where this collector is reached, as the others tell producers who come to them: HOST:PORT. Default: `listen`. With `postgres`
    /// alone.
    pub advertise: Option<String>,
    /// How often a growing log signs a checkpoint: 10 to 1,000 ms; default 250.
    pub checkpoint_ms: u64,
    /// The size of a segment: 8 MiB to 256 MiB; default 64 MiB.
    pub segment_bytes: u64,
    /// Events that wait for the disk, in bytes: 8 MiB to 1 GiB; default 64 MiB.
    pub waiting_bytes: u64,
    /// How many events a second a service may tell, each by itself: 100 to 1,000,000; default 100,000, and ten seconds' worth at once. One
    /// that tells more is told to wait, and what it tells waits in its outbox meanwhile.
    pub service_events_per_second: u64,
    /// Whether a question over the log is itself an event of the log. Default true.
    pub record_reads: bool,
}

/// Where the log's truth is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitLog {
    /// In the segments of a directory.
    #[default]
    Segments,
    /// In rows of PostgreSQL.
    Postgres,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            commit_log: CommitLog::Segments,
            lease_s: 10,
            advertise: None,
            checkpoint_ms: 250,
            segment_bytes: 64 << 20,
            waiting_bytes: 64 << 20,
            service_events_per_second: 100_000,
            record_reads: true,
        }
    }
}

/// A value outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// The names of auditors.
    #[error("auditors: {0}")]
    Auditors(String),
    /// The names of persons.
    #[error("{key} {why}")]
    Personal {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The interval of checkpoints.
    #[error("log.checkpoint_ms is 10 to 1000: a checkpoint of a growing log is at most a second old")]
    Checkpoint,
    /// The size of segments.
    #[error("log.segment_bytes is 8388608 (8 MiB) to 268435456 (256 MiB)")]
    Segment,
    /// Who receives alerts.
    #[error("webhook: {0}")]
    Webhook(String),
    /// Ports for whom nobody could show a certificate.
    #[error("otlp: needs tls.workloads_ca, by which agents and enforcement points are known")]
    Otlp,
    /// Who cosigns the log's checkpoints.
    #[error("witness: {0}")]
    Witness(String),
    /// Collectors that share a log.
    #[error("log.{0}")]
    Shared(&'static str),
    /// Where tiles are kept.
    #[error("tiles.{0}")]
    Tiles(String),
    /// What a service may tell.
    #[error("log.service_events_per_second is 100 to 1000000")]
    Quota,
    /// The bound on what waits.
    #[error("log.waiting_bytes is 8388608 (8 MiB) to 1073741824 (1 GiB)")]
    Waiting,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), BadConfig> {
        let log = &self.log;
        if !(10..=1_000).contains(&log.checkpoint_ms) {
            return Err(BadConfig::Checkpoint);
        }
        if !(8 << 20..=256 << 20).contains(&log.segment_bytes) {
            return Err(BadConfig::Segment);
        }
        if !(8 << 20..=1 << 30).contains(&log.waiting_bytes) {
            return Err(BadConfig::Waiting);
        }
        if !(100..=1_000_000).contains(&log.service_events_per_second) {
            return Err(BadConfig::Quota);
        }
        self.check_shared().map_err(BadConfig::Shared)?;
        if (self.otlp.grpc.is_some() || self.otlp.http.is_some()) && self.tls.workloads_ca.is_none() {
            return Err(BadConfig::Otlp);
        }
        self.personal.check(&self.dir)?;
        self.witness.check()?;
        self.tiles.check()?;
        self.auditors().map(drop)
    }

    fn check_shared(&self) -> Result<(), &'static str> {
        let log = &self.log;
        if !(3..=60).contains(&log.lease_s) {
            return Err("lease_s is 3 to 60");
        }
        if log.advertise.as_ref().is_some_and(|at| at.is_empty() || at.len() > 255 || !at.is_ascii()) {
            return Err("advertise is HOST:PORT, 255 bytes at most");
        }
        let is_postgres = |url: &String| url.starts_with("postgres:") || url.starts_with("postgresql:");
        match log.commit_log {
            CommitLog::Segments => Ok(()),
            CommitLog::Postgres if self.database.as_ref().is_some_and(is_postgres) => Ok(()),
            CommitLog::Postgres => {
                Err("commit_log = \"postgres\" needs database = \"postgres://...\", where the rows are")
            }
        }
    }

    /// Where producers reach it, as others tell them.
    pub(crate) fn address(&self) -> String {
        self.log.advertise.clone().unwrap_or_else(|| self.listen.to_string())
    }

    /// Who may read everything.
    pub(crate) fn auditors(&self) -> Result<BTreeSet<Name>, BadConfig> {
        if self.auditors.len() > 64 {
            return Err(BadConfig::Auditors("give 64 at most".into()));
        }
        let name = |name: &String| Name::parse(name).map_err(|e| BadConfig::Auditors(format!("{name:?}: {e}")));
        self.auditors.iter().map(name).collect()
    }

    pub(crate) fn origin(&self) -> String {
        self.origin.clone().unwrap_or_else(|| format!("{}/audit-log", self.tls.trust_domain))
    }

    pub(crate) fn database(&self) -> String {
        self.database.clone().unwrap_or_else(|| format!("sqlite:{}", self.dir.join("index.db").display()))
    }
}

impl LogConfig {
    pub(crate) fn checkpoint_every(&self) -> Duration {
        Duration::from_millis(self.checkpoint_ms)
    }
}

impl legate_boot::HasTelemetry for Config {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
