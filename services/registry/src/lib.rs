//! registry: which agents exist, who answers for them, what they were given.

mod access;
mod config;
mod domain;
mod error;

use legate_boot::{Context, Running, StartError};

pub use access::ACCESS;
pub use config::Config;
pub use error::REASONS;

/// The service's name, as everywhere.
pub const NAME: &str = "registry";

/// Raises the service.
///
/// # Errors
/// When the configuration is out of range, a file or the database cannot be used, or an address is taken.
pub async fn start(_config: Config, _ctx: Context) -> Result<Running, StartError> {
    Err(StartError::new("registry", "is being built"))
}
