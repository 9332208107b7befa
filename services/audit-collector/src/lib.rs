//! audit-collector: what happened, and the proof of it.
//!
//! Events of the other services become leaves of a Merkle log in files ([`log`](self)): segments are the truth, tiles and
//! signed checkpoints are made from them, and an SQL index that questions are answered by follows the checkpoints.

mod access;
mod api;
mod config;
mod convert;
mod domain;
mod doors;
mod error;
mod flow;
mod freshness;
mod index;
mod log;
mod metrics;
mod otlp;
mod outward;
mod personal;
mod schema;
mod store;
mod watchman;
mod web;
mod webhook;
mod witness;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_boot::{Context, Running, StartError};
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::Identity;
use tokio::task::JoinHandle;

pub use access::ACCESS;
pub use config::{
    BadConfig, Config, LogConfig, OtlpConfig, PersonalConfig, RetentionRule, WebhookConfig, WitnessConfig,
};
pub use error::REASONS;
pub use legate_web::reach::{BadNetwork, Network};

use crate::doors::{Doors, Sockets};
use crate::flow::Desk;
use crate::flow::reads::Reads;
use crate::flow::tail::Tails;
use crate::freshness::Freshness;
use crate::index::Index;
use crate::log::{Log, LogTasks, Setup};
use crate::store::batch::Voices;
use crate::watchman::IndexWatch;
use crate::webhook::{Target, Webhook};
use crate::witness::{Chosen, Cosigned};

/// The service's name, as everywhere.
pub const NAME: &str = "audit-collector";

/// At the end the index may take so long to come to the end of the log; the rest is made at the next start.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// Raises the service. It reads and verifies the whole log first, and does not start over one that does not fit.
///
/// # Errors
/// When the configuration is out of range, the log is refused, a file cannot be used or an address is taken.
pub async fn start(config: Config, ctx: Context) -> Result<Running, StartError> {
    config.check().map_err(|e| StartError::new("the configuration is refused", e))?;
    let (identity, trust) = config.tls.open()?;
    let me = who_we_are(&identity, &config.tls.domain()?)?;
    // The sockets first: an address that is taken must not leave a log behind that is open.
    let sockets = Sockets::bind(&config, identity, trust.clone(), &ctx).await?;
    let metrics = metrics::Metrics::default();
    ctx.metrics.register(|registry| metrics.register(registry));
    let target = Target::of(&config.webhook).map_err(|e| StartError::new("the configuration is refused", e))?;
    let webhook = target.map(|target| Webhook::new(target, &config.dir, Arc::clone(&ctx.clock))).transpose()?;
    let chosen = Chosen::of(&config.witness, Arc::clone(&ctx.clock));
    let chosen = chosen.map_err(|e| StartError::new("the configuration is refused", e))?;
    let auditors = config.auditors().map_err(|e| StartError::new("the configuration is refused", e))?;
    let index = Index::new(config.database(), config.origin(), voices(&me)?, ctx.clone());
    let (log, tasks) = open_log(&config, &ctx, &me, &metrics).await?;
    let (cosigned, asking) = match ask_witnesses(chosen, &log, &ctx, &metrics).await {
        Ok(started) => started,
        Err(error) => {
            tasks.close().await;
            return Err(error);
        }
    };

    let desk = Arc::new(Desk {
        log: log.clone(),
        index: index.clone(),
        fresh: Freshness::default(),
        auditors,
        clock: Arc::clone(&ctx.clock),
        reads: Reads::new(config.log.record_reads),
        trust,
        unsigned: Default::default(),
        tails: Tails::default(),
        quotas: Default::default(),
        lines: Default::default(),
        changing: Default::default(),
        metrics: metrics.clone(),
        cosigned,
        custody: tokio::sync::Mutex::default(),
        stopping: OnceLock::new(),
    });
    let index_watch = IndexWatch::default();
    let Doors { serving, web, probes, intake } = match sockets.serve(&config, &ctx, &desk, &index_watch).await {
        Ok(doors) => doors,
        Err(error) => {
            // Or the lock on the log outlives this start, and the next one finds it taken.
            asking.inspect(JoinHandle::abort);
            tasks.close().await;
            return Err(error);
        }
    };
    // Nobody set it before: the desk was made above.
    let _ = desk.stopping.set(serving.stopping());
    let free = tasks.free();
    let following = tokio::spawn(index.clone().follow(log));
    let refusing = tokio::spawn(flow::refused::record_forever(Arc::clone(&desk), Arc::clone(&ctx.refusals)));
    let telling = tokio::spawn(flow::reads::tell_forever(Arc::clone(&desk)));
    let retaining = tokio::spawn(flow::retain::retain_forever(Arc::clone(&desk)));
    let sending = webhook.map(|webhook| tokio::spawn(webhook.send_forever(Arc::clone(&desk))));
    let raising = tokio::spawn(flow::raise::raise_forever(Arc::clone(&desk)));
    let last_reads = Arc::clone(&desk);
    let rounds = watchman::watch(desk, index_watch, metrics, serving.health().clone());
    let watching = tokio::spawn(rounds);

    Ok(Running::new(serving)
        .with_probes(probes)
        .with_web(web)
        .with_intake(intake.0, intake.1)
        .on_stop(async move {
            watching.abort();
            refusing.abort();
            telling.abort();
            retaining.abort();
            raising.abort();
            sending.inspect(JoinHandle::abort);
            asking.inspect(JoinHandle::abort);
            flow::reads::tell_sums(&last_reads, true);
            tasks.close().await;
        })
        .on_stop(end_index(index, following))
        // Or the next start on this directory finds it taken.
        .on_stop(free))
}

/// The index ends by itself once it holds what the last checkpoint covers; one that hangs is left.
async fn end_index(index: Index, mut following: JoinHandle<()>) {
    if tokio::time::timeout(LAST_STEPS, &mut following).await.is_err() {
        following.abort();
    }
    index.close().await;
}

/// Our own SPIFFE ID, under which our own events are told.
fn who_we_are(identity: &Identity, domain: &TrustDomain) -> Result<SpiffeId, StartError> {
    let name = Name::parse(NAME).map_err(|e| StartError::new("our name", e))?;
    let wanted = SpiffeId::service(domain, &name);
    match identity.spiffe_id() {
        Some(found) if found == wanted => Ok(wanted),
        found => {
            let found = found.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
            Err(StartError::new("tls.cert", format!("the certificate names {found}, and has to name {wanted}")))
        }
    }
}

/// Whose word the index believes: ours, and that of the registry beside us.
fn voices(me: &SpiffeId) -> Result<Voices, StartError> {
    let domain = TrustDomain::parse(me.trust_domain()).map_err(|e| StartError::new("our trust domain", e))?;
    let name = Name::parse("registry").map_err(|e| StartError::new("the registry's name", e))?;
    Ok(Voices { registry: SpiffeId::service(&domain, &name).to_string(), me: me.to_string() })
}

async fn open_log(
    config: &Config,
    ctx: &Context,
    me: &SpiffeId,
    metrics: &metrics::Metrics,
) -> Result<(Log, LogTasks), StartError> {
    let setup = Setup {
        dir: config.dir.clone(),
        origin: config.origin(),
        me: me.to_string(),
        segment_bytes: config.log.segment_bytes,
        waiting_bytes: usize::try_from(config.log.waiting_bytes).unwrap_or(usize::MAX),
        checkpoint_every: config.log.checkpoint_every(),
        personal: personal::Setup {
            dir: config.personal.dir.clone(),
            kek: config.personal.kek.clone(),
            segment_bytes: config.log.segment_bytes,
            retention: config.personal.rules(),
        },
        clock: Arc::clone(&ctx.clock),
        metrics: metrics.clone(),
    };
    let started = ctx.clock.monotonic();
    let (log, tasks, found) = Log::open(setup).await.map_err(|e| StartError::new("the log is refused", e))?;
    let took_ms = ctx.clock.monotonic().saturating_sub(started).as_millis();
    tracing::info!(
        leaves = found.leaves,
        torn_bytes = found.torn_bytes,
        clean = found.is_clean,
        took_ms,
        "the log is good"
    );
    Ok((log, tasks))
}

/// Has witnesses asked, where the configuration chooses some.
async fn ask_witnesses(
    chosen: Option<Chosen>,
    log: &Log,
    ctx: &Context,
    metrics: &metrics::Metrics,
) -> Result<(Cosigned, Option<JoinHandle<()>>), StartError> {
    let Some(chosen) = chosen else { return Ok((Cosigned::by_nobody(), None)) };
    let (log, clock, metrics) = (log.clone(), Arc::clone(&ctx.clock), metrics.clone());
    let started = witness::start(witness::Setup { chosen, log, clock, metrics }).await;
    let (cosigned, asking) = started.map_err(|e| StartError::new("the log is refused", e))?;
    Ok((cosigned, Some(asking)))
}
