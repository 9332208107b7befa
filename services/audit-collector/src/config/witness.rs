//! Who cosigns the log's checkpoints.

use std::path::PathBuf;
use std::time::Duration;

use legate_web::reach::Network;
use serde::Deserialize;

use super::BadConfig;

/// Who cosigns the log's checkpoints (C2SP tlog-witness), and how many of them have to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WitnessConfig {
    /// The file of the policy (C2SP tlog-policy): witnesses with their keys and URLs, and the quorum. Absent: nobody cosigns.
    pub policy: Option<PathBuf>,
    /// How often a growing log is cosigned, in seconds: 1 to 3,600; default 10.
    pub every_s: u64,
    /// For how many seconds the quorum may be missing before that is told: 10 to 86,400; default 600.
    pub patience_s: u64,
    /// CA certificates in PEM under which witnesses are believed, beside the public ones.
    pub ca: Option<PathBuf>,
    /// Networks that are private and in which witnesses may be all the same, as `10.0.0.0/8`.
    pub allow_private: Vec<Network>,
}

impl Default for WitnessConfig {
    fn default() -> Self {
        Self { policy: None, every_s: 10, patience_s: 600, ca: None, allow_private: Vec::new() }
    }
}

impl WitnessConfig {
    pub(super) fn check(&self) -> Result<(), BadConfig> {
        if !(1..=3_600).contains(&self.every_s) {
            return Err(BadConfig::Witness("every_s is 1 to 3600".into()));
        }
        if !(10..=86_400).contains(&self.patience_s) {
            return Err(BadConfig::Witness("patience_s is 10 to 86400".into()));
        }
        Ok(())
    }

    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs(self.every_s)
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }
}
