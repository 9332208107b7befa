//! Where the log's tiles are kept beside the directory.

use std::path::PathBuf;
use std::time::Duration;

use legate_web::reach::Network;
use serde::Deserialize;

use super::BadConfig;

/// An object store that has the log's tiles and checkpoint too (C2SP tlog-tiles), for those who read and verify it there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TilesConfig {
    /// `s3://BUCKET/PREFIX`. Absent: they are in `dir` alone. Entries are stored whole.
    pub store: Option<String>,
    /// The store's address, `https://HOST[:PORT]`, or http:// on this machine. Default: that of Amazon S3 in the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for; default `us-east-1`.
    pub region: String,
    /// The file of the credentials, as AWS's tools have it, section `default`, readable to nobody else. Absent: they are taken from the
    /// environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`).
    pub credentials: Option<PathBuf>,
    /// How often a growing log is stored, in milliseconds: 250 to 60,000; default 1,000.
    pub every_ms: u64,
    /// CA certificates in PEM under which the store is believed, beside the public ones.
    pub ca: Option<PathBuf>,
    /// Networks that are private and in which the store may be all the same, as `10.0.0.0/8`.
    pub allow_private: Vec<Network>,
}

impl Default for TilesConfig {
    fn default() -> Self {
        Self {
            store: None,
            endpoint: None,
            region: "us-east-1".into(),
            credentials: None,
            every_ms: 1_000,
            ca: None,
            allow_private: Vec::new(),
        }
    }
}

impl TilesConfig {
    pub(super) fn check(&self) -> Result<(), BadConfig> {
        if !(250..=60_000).contains(&self.every_ms) {
            return Err(BadConfig::Tiles("every_ms is 250 to 60000".into()));
        }
        let is_region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.region.is_empty() || self.region.len() > 64 || !self.region.bytes().all(is_region) {
            return Err(BadConfig::Tiles("region is 1 to 64 of a-z 0-9 -".into()));
        }
        Ok(())
    }

    pub(crate) fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms)
    }
}
