//! Raises a service: configuration, telemetry, probes, signals, and the way down again.

pub mod config;
mod party;
mod probes;
mod replica;
mod running;
mod telemetry;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use legate_clock::{Clock, SystemClock};
use legate_rpc::{Metrics, Refusals};
use serde::de::DeserializeOwned;

pub use config::load;
pub use party::Party;
pub use probes::{Check, Checks, Probes};
pub use replica::replica;
pub use running::{Running, StartError};
pub use telemetry::{Guard, init as init_telemetry};

/// What a service is given beside its configuration.
#[derive(Clone, Debug)]
pub struct Context {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where the service counts.
    pub metrics: Arc<Metrics>,
    /// Where callers who are turned away are noted, for the service to record.
    pub refusals: Arc<Refusals>,
    /// What the service tells of its methods to whoever has a certificate and asks; for development only.
    pub descriptors: Option<&'static [u8]>,
}

impl Context {
    /// The machine's clock and empty metrics.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: SystemClock::shared(),
            metrics: Arc::new(Metrics::new()),
            refusals: Arc::default(),
            descriptors: None,
        }
    }
}

impl Context {
    /// The same, and the service tells its methods (gRPC server reflection): for development only.
    #[must_use]
    pub fn with_reflection(self, descriptors: &'static [u8]) -> Self {
        Self { descriptors: Some(descriptors), ..self }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

/// A configuration that says how to tell what happens.
pub trait HasTelemetry {
    /// Its section.
    fn telemetry(&self) -> &config::Telemetry;
}

/// Runs one service from its configuration file until SIGTERM or SIGINT, then drains it.
///
/// # Errors
/// When the configuration is refused or the service does not start; the text says why and what to do.
pub fn run<C, F>(name: &'static str, config: &Path, start: impl FnOnce(C, Context) -> F) -> Result<(), StartError>
where
    C: DeserializeOwned + HasTelemetry,
    F: Future<Output = Result<Running, StartError>>,
{
    let config: C = load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| StartError::new("the runtime cannot be started", e))?;
    runtime.block_on(async {
        let guard = init_telemetry(config.telemetry(), name)?;
        let running = Box::pin(start(config, Context::new())).await?;
        tracing::info!(service = name, addr = %running.addr(), "serving");
        wait_for_signal().await?;
        tracing::info!(service = name, "draining");
        running.shutdown().await;
        guard.flush().await;
        Ok(())
    })
}

/// Returns at the first SIGTERM or SIGINT.
///
/// # Errors
/// When the system lets us hear no signals.
pub async fn wait_for_signal() -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let deaf = |e| StartError::new("signals cannot be heard", e);
    let mut term = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut int = signal(SignalKind::interrupt()).map_err(deaf)?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
