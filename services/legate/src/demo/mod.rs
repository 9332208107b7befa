//! `legate demo`: raises the suite and walks the main journey on real mutual TLS, telling what it asks and what comes back.

mod collect;
mod decide;
mod enrol;
mod narrate;
mod prove;
mod register;
mod stop;
mod trace;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use legate_boot::config::Telemetry;
use legate_boot::{StartError, init_telemetry, wait_for_signal};
use legate_client::Remote;
use legate_rpc::Client;
use tracing::Instrument;

use crate::Failure;
use crate::dev::{Directory, Options, Suite, log_level};
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
pub async fn run(keep: bool, dir: Option<&Path>) -> Result<bool, Failure> {
    crate::dev::refuse_overrides()?;
    let collector = Collector::start().await?;
    let endpoint = format!("http://{}", collector.addr);
    let telemetry = Telemetry { log: log_level(), otlp_endpoint: Some(endpoint), ..Telemetry::default() };
    let guard = init_telemetry(&telemetry, "legate")?;

    let scratch = Scratch::make(dir);
    let directory = Directory::claim_empty(&scratch.path)?;
    let mut tell = Narrator::new();
    tell.chapter("The house");
    let start = Instant::now();
    let suite = Box::pin(Suite::start(&Options::in_dir(directory.path()))).await?;
    tell.step(
        "raise the four services in one process",
        "registry, credential-issuer, policy-decision, audit-collector: gRPC over mutual TLS on the loopback, each with its own certificate",
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
        stay(&stage).await?;
    }
    stage.suite.shutdown().await;
    drop(directory);
    Ok(held)
}

/// Keeps the suite up until SIGTERM or SIGINT, and says how to use it.
async fn stay(stage: &Stage) -> Result<(), StartError> {
    let root = stage.suite.layout().root();
    let (env, log, key) = (root.join("env"), stage.suite.layout().log(), stage.suite.layout().log_key());
    stage.tell.heading("The suite stays up, until you press Ctrl-C. In another terminal:");
    stage.tell.show(&[
        format!("source {}", env.display()),
        "legate agent list".into(),
        "legate check --agent payments/invoice-bot --action invoice:read --resource Invoice:apollo/1001".into(),
        "legate audit query --agent payments/invoice-bot".into(),
        format!("legate verify {} --key {}", log.display(), key.display()),
    ]);
    wait_for_signal().await
}

async fn journey(stage: &mut Stage, collector: Collector, guard: legate_boot::Guard) -> Result<(), Broken> {
    let trace = legate_rpc::TraceContext::current().trace_id;
    let agent = Box::pin(register::tell(stage)).await?;
    let parties = Box::pin(enrol::tell(stage, &agent)).await?;
    Box::pin(decide::tell(stage, &parties)).await?;
    prove::keep_earlier(stage)?;
    let last = Box::pin(stop::tell(stage, &agent, parties)).await?;
    Box::pin(prove::tell(stage, &agent, &last)).await?;
    Box::pin(trace::tell(stage, collector, guard, &trace)).await
}

/// A directory for the suite; a temporary one is removed at the end.
struct Scratch {
    path: PathBuf,
    temporary: bool,
}

impl Scratch {
    fn make(dir: Option<&Path>) -> Self {
        if let Some(dir) = dir {
            return Self { path: dir.to_owned(), temporary: false };
        }
        let unique = format!("legate-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
        Self { path: std::env::temp_dir().join(unique), temporary: true }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.temporary {
            let _gone = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// How long the demo waits for what has to come by itself.
const PATIENCE: Duration = Duration::from_secs(10);
