//! `legate dev` and `legate serve`: raising services from this program.

mod directory;
pub mod pki;
mod suite;
mod workload;

pub use directory::Directory;
pub use suite::{Options, Suite};

use std::io::Write;
use std::path::Path;

use legate_boot::config::Telemetry;
use legate_boot::{StartError, init_telemetry, run, wait_for_signal};

use crate::Failure;
use crate::cli::Dev;
use crate::error::DEV_OVERRIDDEN;

/// Raises a suite on the loopback, prints `ready`, and keeps it up until SIGTERM or SIGINT.
///
/// # Errors
/// When the directory is somebody else's, the environment would change the suite, or it does not start.
pub(crate) async fn dev(args: Dev) -> Result<(), Failure> {
    refuse_overrides()?;
    let directory = Directory::claim(&args.dir)?;
    let guard = init_telemetry(&Telemetry { log: log_level(), ..Telemetry::default() }, "legate")?;
    let Dev { port_base, operator, scim, witness_policy, .. } = args;
    let given = Options { port_base, operator, scim, witness_policy, ..Options::in_dir(directory.path()) };
    let options = Options { workload: true, ..given };
    let suite = Box::pin(Suite::start(&options)).await?;
    let mut out = std::io::stdout().lock();
    // Whoever started us may have closed the pipe; the suite runs all the same.
    let _closed = writeln!(out, "ready");
    let _closed = out.flush();
    drop(out);
    wait_for_signal().await?;
    suite.shutdown().await;
    guard.flush().await;
    Ok(())
}

/// `LEGATE_CONFIG_LISTEN=0.0.0.0:1` or another database would make something else of a development suite.
pub(crate) fn refuse_overrides() -> Result<(), Failure> {
    let found: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("LEGATE_CONFIG_"))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::local(&DEV_OVERRIDDEN, format!("the environment has {}", found.join(", "))))
}

/// What is logged when nothing else is said: warnings, so that the terminal stays readable.
#[must_use]
pub fn log_level() -> String {
    std::env::var("LEGATE_LOG_LEVEL").unwrap_or_else(|_| "warn".into())
}

/// Runs one service from its configuration file until SIGTERM or SIGINT.
///
/// # Errors
/// When there is no such service, its configuration is refused, or it does not start.
pub fn serve(service: &str, config: &Path) -> Result<(), StartError> {
    match service {
        "registry" => run("registry", config, legate_registry::start),
        "credential-issuer" => run("credential-issuer", config, legate_credential_issuer::start),
        "policy-decision" => run("policy-decision", config, legate_policy_decision::start),
        "audit-collector" => run("audit-collector", config, legate_audit_collector::start),
        other => {
            let names = pki::SERVICES.join(", ");
            Err(StartError::new(format!("no service is called {other}"), format!("there are: {names}")))
        }
    }
}
