//! audit-collector: what happened, and the proof of it.
#![allow(dead_code, reason = "the log is being written")]

mod access;
mod config;
mod domain;
mod error;
mod log {
    //! What the engine and the prover refuse.
    #[derive(Debug, thiserror::Error)]
    pub(crate) enum NotAppended {
        #[error("events before the first one offered are missing: {expected} is next")]
        Gap { expected: u64 },
        #[error("too much waits for the disk")]
        Busy,
        #[error("the disk is full")]
        Full,
        #[error("the log has stopped")]
        Stopped,
    }
    #[derive(Debug, thiserror::Error)]
    pub(crate) enum NotProved {
        #[error("the newest checkpoint covers {size} leaves")]
        Range { size: u64 },
        #[error("{0}")]
        Read(std::io::Error),
    }
}

use legate_boot::{Context, Running, StartError};

pub use access::ACCESS;
pub use config::{BadConfig, Config, LogConfig};
pub use error::REASONS;

/// The service's name, as everywhere.
pub const NAME: &str = "audit-collector";

/// Raises the service.
///
/// # Errors
/// When the configuration is out of range.
pub async fn start(config: Config, _ctx: Context) -> Result<Running, StartError> {
    config.check().map_err(|e| StartError::new("the configuration is refused", e))?;
    Err(StartError::new("audit-collector", "is not complete"))
}
