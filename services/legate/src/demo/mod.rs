//! `legate demo`: raises the suite and walks the main journey on real mutual TLS, telling what it asks and what comes back.

mod collect;
mod decide;
mod enrol;
mod narrate;
mod prove;
mod register;
mod stop;
mod trace;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use legate_boot::config::Telemetry;
use legate_boot::{StartError, init_telemetry, wait_for_signal};
use legate_client::Remote;
use legate_rpc::Client;
use tracing::Instrument;

use crate::dev::{Options, Suite, log_level};
use collect::Collector;
use narrate::{Broken, Narrator};

/// The audience of tokens for the demo's backend.
const AUDIENCE: &str = "https://invoices.example.com";

/// What the chapters share.
struct Stage {
    suite: Suite,
    registry: Client,
    issuer: Client,
    audit: Client,
    tell: Narrator,
}

impl Stage {
    fn remote(&self, service: &'static str) -> Result<Remote, Broken> {
        self.suite.remote(service).map_err(broken)
    }
}

/// Turns any failure into the end of the story.
fn broken(error: impl std::fmt::Display) -> Broken {
    Broken(error.to_string())
}

/// What a refusal says, in one line.
fn refusal(status: &tonic::Status) -> String {
    let told = legate_rpc::Told::from_status(status);
    format!("{}: {}", told.reason, told.message)
}

/// Runs the demo; whether every step held.
///
/// # Errors
/// When the suite cannot be raised.
pub async fn run(keep: bool) -> Result<bool, StartError> {
    let collector = Collector::start().await?;
    let endpoint = format!("http://{}", collector.addr);
    let telemetry = Telemetry { log: log_level(), otlp_endpoint: Some(endpoint), ..Telemetry::default() };
    let guard = init_telemetry(&telemetry, "legate")?;

    let scratch = Scratch::make()?;
    let mut tell = Narrator::new();
    tell.chapter("The house");
    let start = Instant::now();
    let suite = Box::pin(Suite::start(&Options::in_dir(&scratch.path))).await?;
    tell.step(
        "raise registry, credential-issuer, policy-decision and audit-collector in one process",
        "all four serve gRPC over mutual TLS on the loopback, each with its own certificate",
        start.elapsed(),
    );
    let mut stage = Stage {
        registry: suite.dial("registry")?,
        issuer: suite.dial("credential-issuer")?,
        audit: suite.dial("audit-collector")?,
        suite,
        tell,
    };
    let span = tracing::info_span!("journey", otel.name = "legate demo");
    let told = Box::pin(journey(&mut stage, collector, guard).instrument(span)).await;
    if let Err(Broken(why)) = told {
        stage.tell.fail("the journey goes on", &why);
    }
    let held = stage.tell.end();
    if keep {
        let env = stage.suite.layout().root().join("env");
        stage.tell.say(&format!("The suite stays up. In another terminal: source {}", env.display()));
        wait_for_signal().await?;
    }
    stage.suite.shutdown().await;
    Ok(held)
}

async fn journey(stage: &mut Stage, collector: Collector, guard: legate_boot::Guard) -> Result<(), Broken> {
    let trace = legate_rpc::TraceContext::current().trace_id;
    let agent = Box::pin(register::tell(stage)).await?;
    let parties = Box::pin(enrol::tell(stage, &agent)).await?;
    Box::pin(decide::tell(stage, &parties)).await?;
    Box::pin(stop::tell(stage, &agent, parties)).await?;
    Box::pin(prove::tell(stage, &agent)).await?;
    Box::pin(trace::tell(stage, collector, guard, &trace)).await
}

/// A directory for the suite, removed at the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make() -> Result<Self, StartError> {
        let unique = format!("legate-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(unique);
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.path);
    }
}

/// How long the demo waits for what has to come by itself.
const PATIENCE: Duration = Duration::from_secs(10);
