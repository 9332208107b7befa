//! Benchmarks that print ratios against a floor measured in the same run: `cargo run --release -p legate-bench -- all`.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod apart;
mod append;
mod changes;
mod code;
mod drift;
mod engine;
mod evaluate;
mod floor;
mod house;
mod issue;
mod kept;
mod load;
mod oauth;
mod peer;
mod query;
mod scale;
mod spool;
mod stored;
mod streaming;
mod suspend;
mod verify;
mod workload;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The same as the services have.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why a benchmark could not be made.
type Failed = Box<dyn Error + Send + Sync>;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Everything, one after the other.
    All,
    /// The decision in process: our index of policies against Cedar's own authorizer, chains, a changed policy, explanations.
    Engine,
    /// How long drift takes to compute, in process and as it is asked for, for the sizes of --agents, where one is given for that and ten times as many; not part of all.
    Drift,
    /// Decisions a second over mutual TLS, against a handler that answers a constant.
    Evaluate,
    /// Of these the checks over streams alone, beside single ones.
    Stream,
    /// Decisions while a thousand agents a second are written anew.
    Changes,
    /// Tokens and certificates a second and what each costs, against a signature and an HMAC alone.
    Issue,
    /// Audit events a second, acknowledged, against the disk's own loop.
    Append,
    /// What the record of a decision costs its check.
    Spool,
    /// From a suspension's answer to the first denial.
    Suspend,
    /// Decisions beside another policy decision point, where --cerbos says where that is; not part of all.
    Peer,
    /// Questions over the audit log, with each of the sizes of --events; not part of all.
    Query,
    /// Processes on a node's socket: the first SVID, a rotation and a suspension of all, at most 1,000.
    Workload,
    /// How fast a log in a directory is verified offline, with each of the sizes of --events.
    Verify,
    /// Very many agents: loaded, read, watched, restarted; each of the sizes of --agents.
    Scale,
    /// Agents as code by the program itself: manifests planned, applied, exported, for each of the sizes of --agents; not part of all.
    Code,
}

/// Measures one part of the suite, raised in this process on real mutual TLS.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// How long each measurement takes, in seconds: 1 to 600.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often floor and subject take turns: 1 to 100.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Agents in the registry: 1 to 1,000,000. Several sizes, with commas, for scale; the others take the first.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    agents: Vec<u32>,
    /// For query and verify: events in the log, growing, with commas: 1,000 to 10,000,000.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100000",
        value_parser = clap::value_parser!(u64).range(1_000..=10_000_000)
    )]
    events: Vec<u64>,
    /// For scale and code: the registry on this PostgreSQL, in databases of its own; left out: SQLite.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// For scale, one size: what is there stays in this directory for the next run. On SQLite all but the first 2,000 agents are
    /// written beneath the registry instead of being loaded; with --postgres that URL is their database, and they are loaded
    /// where it has none.
    #[arg(long, value_name = "DIR")]
    filled: Option<std::path::PathBuf>,
    /// For peer: the program `cerbos`.
    #[arg(long, value_name = "PROGRAM", requires = "cerbos_templates")]
    cerbos: Option<std::path::PathBuf>,
    /// For peer: the directory `hack/loadtest/templates/classic` of its repository.
    #[arg(long, value_name = "DIR", requires = "cerbos")]
    cerbos_templates: Option<std::path::PathBuf>,
    /// For issue: the directory that the npm package `oidc-provider` is installed in, to be asked beside ours.
    #[arg(long, value_name = "DIR")]
    oidc_provider: Option<std::path::PathBuf>,
    /// For issue: instead of how fast, what so many tokens leave on disk: 1,000 to 1,000,000, 20,000 where no number is given.
    #[arg(long, value_name = "TOKENS", num_args = 0..=1, default_missing_value = "20000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    storage: Option<u32>,
    /// Cedar policies: 1 to 10,000.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    policies: u32,
}

/// How a measurement is made.
#[derive(Clone, Copy, Debug)]
struct Plan {
    time: Duration,
    rounds: u32,
    agents: u32,
    policies: u32,
    /// How many tokens to issue and look for on disk.
    storage: Option<u32>,
}

fn main() -> Result<ExitCode, Failed> {
    if let Some(exit) = code::program() {
        return Ok(exit);
    }
    if let Some(served) = apart::serve().or_else(workload::be) {
        return served.map(|()| ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let plan = Plan {
        time: Duration::from_secs(args.seconds),
        rounds: args.rounds,
        agents: args.agents.first().copied().unwrap_or(10_000),
        policies: args.policies,
        storage: args.storage,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let is = |what| args.what == What::All || args.what == what;
    runtime.block_on(async {
        if is(What::Spool) {
            spool::measure(plan).await?;
        }
        if is(What::Append) {
            Box::pin(append::measure(plan)).await?;
        }
        if is(What::Issue) {
            Box::pin(issue::measure(plan, args.oidc_provider.as_deref())).await?;
        }
        if is(What::Engine) {
            Box::pin(engine::measure(plan)).await?;
        }
        if is(What::Evaluate) {
            Box::pin(evaluate::measure(plan)).await?;
        }
        if is(What::Evaluate) || is(What::Stream) {
            Box::pin(streaming::measure(plan)).await?;
        }
        if is(What::Changes) {
            Box::pin(changes::measure(plan)).await?;
        }
        if is(What::Suspend) {
            Box::pin(suspend::measure(plan)).await?;
        }
        if is(What::Workload) {
            Box::pin(workload::measure(plan)).await?;
        }
        if args.what == What::Peer {
            let (program, templates) = args.cerbos.zip(args.cerbos_templates).ok_or("peer needs --cerbos")?;
            Box::pin(peer::measure(plan, &peer::Peer { program, templates })).await?;
        }
        if is(What::Verify) {
            verify::measure(plan, &args.events)?;
        }
        if args.what == What::Drift {
            let sizes = drift::sizes(&args.agents);
            drift::measure(&sizes)?;
            Box::pin(scale::drift(&sizes)).await?;
        }
        if args.what == What::Query {
            Box::pin(query::measure(&args.events)).await?;
        }
        if is(What::Scale) {
            Box::pin(scale::measure(&args.agents, args.postgres.as_deref(), args.filled.as_deref())).await?;
        }
        if args.what == What::Code {
            Box::pin(code::measure(&args.agents, args.postgres.as_deref())).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
