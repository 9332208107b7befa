//! `legate workload`: a node helper, through which the processes of its machine obtain their identities.

use std::io::Write as _;

use legate_boot::{StartError, init_telemetry, wait_for_signal};
use legate_workload::Proof;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::credential::secret_in;
use super::login::token_in;
use crate::cli::Workload;
use crate::error::USAGE;
use crate::node::{Config, Helper, read};
use crate::{Exit, Failure};

pub(super) async fn run(args: Workload) -> Result<Exit, Failure> {
    let config = read(args.config.as_deref())?;
    let proof = proof(&args, &config)?;
    let config = Config {
        socket: args.socket.or(config.socket),
        state: args.state.or(config.state),
        issuer: args.issuer.or(config.issuer),
        trust_domain: args.trust_domain.or(config.trust_domain),
        services_ca: args.ca.or(config.services_ca),
        probes: args.probes.or(config.probes),
        ..config
    };
    let guard = init_telemetry(&config.telemetry, "workload")?;
    keep_to_itself();
    let deaf = |e| StartError::new("signals cannot be heard", e);
    let mut hangups = signal(SignalKind::hangup()).map_err(deaf)?;
    let helper = Helper::raise(config.wanted(proof)?).await?;
    let mut out = std::io::stdout().lock();
    // Whoever started us may have closed the pipe; the helper serves all the same.
    let _closed = writeln!(out, "ready {}", helper.endpoint());
    let _closed = out.flush();
    drop(out);
    tracing::info!(endpoint = helper.endpoint(), "serving");
    let ended = wait_for_signal();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => break ended?,
            Some(()) = hangups.recv() => {
                tracing::info!("every SVID is replaced");
                helper.serving().rotate();
            }
        }
    }
    helper.shutdown().await;
    guard.flush().await;
    Ok(Exit::Done)
}

/// Keys of processes are in its memory and nowhere else: not in a dump of it either, nor for another process of its user. And as many files as it
/// may open, which is more than most systems give at first.
fn keep_to_itself() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the helper's memory can be dumped");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "the helper's memory can be dumped when it crashes");
    }
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }) {
        tracing::warn!(%error, "the helper may open no more files than at first");
    }
}

/// By what the node proves itself where it has no certificate yet. A token's file is read now: it may be gone at the next start, when
/// nobody needs it.
fn proof(args: &Workload, config: &Config) -> Result<Proof, Failure> {
    let of_file = &config.enrolment;
    let identity = args.identity_token_file.as_ref().or(of_file.identity_token_file.as_ref());
    let one_time = args.token_file.as_ref().or(of_file.token_file.as_ref());
    if args.token_env.is_some() {
        return Ok(Proof::Token(Zeroizing::new(token_in(None, args.token_env.as_deref())?)));
    }
    match (one_time, identity) {
        (Some(_), Some(_)) if args.token_file.is_none() && args.identity_token_file.is_none() => {
            Err(Failure::local(&USAGE, "enrolment: give a token_file or an identity_token_file, not both"))
        }
        (Some(file), _) if args.identity_token_file.is_none() => {
            let is_there = file.as_os_str() == "-" || file.exists();
            Ok(if is_there { Proof::Token(Zeroizing::new(secret_in(file)?)) } else { Proof::Nothing })
        }
        (_, Some(file)) => {
            let namespace = args.namespace.clone().or_else(|| of_file.namespace.clone());
            let missing = || Failure::local(&USAGE, "an identity token needs the node's namespace (--namespace)");
            Ok(Proof::IdentityToken { namespace: namespace.ok_or_else(missing)?, file: file.clone() })
        }
        _ => Ok(Proof::Nothing),
    }
}
