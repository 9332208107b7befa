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
mod lead;
mod ledger;
mod log;
mod metrics;
mod otlp;
mod outward;
mod personal;
mod schema;
mod seat;
mod store;
mod succession;
mod tiles;
mod watchman;
mod web;
mod webhook;
mod witness;

use std::path::Path;

use legate_boot::{Context, Running, StartError};
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::Identity;
use tokio_util::sync::CancellationToken;

pub use access::ACCESS;
pub use config::{
    BadConfig, CommitLog, Config, LogConfig, OtlpConfig, PersonalConfig, RetentionRule, TilesConfig, WebhookConfig,
    WitnessConfig,
};
pub use error::REASONS;
pub use legate_web::reach::{BadNetwork, Network};

use crate::doors::{Doors, Sockets};
use crate::index::Index;
use crate::lead::Means;
use crate::seat::Seat;
use crate::store::batch::Voices;
use crate::succession::Member;
use crate::watchman::IndexWatch;

/// The service's name, as everywhere.
pub const NAME: &str = "audit-collector";

/// Makes the key that is to follow on that of the log in a directory, and to take its place when the collector is started next. It waits there
/// in a file, so the collector may run meanwhile. Gives its public half in C2SP verifier-key form.
///
/// # Errors
/// When there is no log, a key waits already, or a file cannot be written.
pub fn prepare_log_key(dir: &Path, reason: &str) -> Result<String, StartError> {
    let made = log::prepare_key(dir, reason).map_err(|e| StartError::new("no key is made", e))?;
    Ok(made.to_string())
}

/// Raises the service. It reads and verifies the whole log first, and does not start over one that does not fit. Where collectors share
/// a log and another one leads, it stands by.
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
    let auditors = config.auditors().map_err(|e| StartError::new("the configuration is refused", e))?;
    let index = Index::new(config.database(), config.origin(), voices(&me)?, ctx.clone());
    let (index_watch, seat) = (IndexWatch::default(), Seat::default());
    let means = Means { config, ctx, me, trust, auditors, metrics, index, index_watch, seat };
    match means.config.log.commit_log {
        CommitLog::Segments => Box::pin(alone(means, sockets)).await,
        CommitLog::Postgres => Box::pin(among_others(means, sockets)).await,
    }
}

/// The log is this collector's own.
async fn alone(means: Means, sockets: Sockets) -> Result<Running, StartError> {
    let mut led = means.open(None).await?;
    let Doors { serving, web, probes, intake } =
        match sockets.serve(&means.config, &means.ctx, &means.seat, &means.index_watch).await {
            Ok(doors) => doors,
            Err(error) => {
                // Or the lock on the log outlives this start, and the next one finds it taken.
                led.close().await.await;
                return Err(error);
            }
        };
    means.metrics.leads.set(1);
    led.work(&means, serving.stopping(), serving.health().clone());
    let free = led.free();
    let (ended, index) = tokio::sync::oneshot::channel();
    Ok(Running::new(serving)
        .with_probes(probes)
        .with_web(web)
        .with_intake(intake.0, intake.1)
        .on_stop(async move {
            // Nobody else takes it.
            let _gone = ended.send(led.close().await);
        })
        .on_stop(async move {
            if let Ok(index) = index.await {
                index.await;
            }
        })
        // Or the next start on this directory finds it taken.
        .on_stop(free))
}

/// The log is in a database, and one of those that share it leads it.
async fn among_others(means: Means, sockets: Sockets) -> Result<Running, StartError> {
    let mut member = Member::new(means.clone()).await?;
    let first = member.try_to_lead().await?;
    let Doors { serving, web, probes, intake } =
        match sockets.serve(&means.config, &means.ctx, &means.seat, &means.index_watch).await {
            Ok(doors) => doors,
            Err(error) => {
                Box::pin(member.give_up(first)).await;
                return Err(error);
            }
        };
    let (stop, stopping) = (CancellationToken::new(), serving.stopping());
    let health = serving.health().clone();
    let leading = member.serve(first, health, serving.connections(), stopping, stop.clone());
    let leading = tokio::spawn(leading);
    Ok(Running::new(serving).with_probes(probes).with_web(web).with_intake(intake.0, intake.1).on_stop(async move {
        stop.cancel();
        // It ends by itself then, or has broken off.
        let _ended = leading.await;
    }))
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
