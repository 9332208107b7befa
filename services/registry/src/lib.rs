//! registry: which agents exist, who answers for them, what they were given.
//!
//! It is the only system of record for what is declared. Every write is one transaction: the objects, one change record
//! each at the next revision, and their audit events. Others follow by [`Watch`](self), which tells every change in order.

mod access;
mod api;
mod config;
mod convert;
mod domain;
mod error;
mod flow;
mod metrics;
mod schema;
mod scim;
mod store;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_boot::{Checks, Context, Party, Probes, Running, StartError};
use legate_db::{Db, TxResult};
use legate_mtls::Listener;
use legate_outbox::{Collector, DbSource, Outbox, Pace, Shipper};
use legate_rpc::{AlwaysGood, Fault, Pages};
use legate_web::Web;

pub use access::ACCESS;
pub use config::{Config, RetentionConfig, ScimConfig};
pub use error::REASONS;

use crate::error::LAST_ADMINISTRATOR;
use crate::flow::mandate::Known;
use crate::flow::{Desk, Tail};
use crate::store::head;

/// The service's name, as everywhere.
pub const NAME: &str = "registry";

/// What is left in the outbox at the end is shipped for so long; the rest waits for the next start.
const LAST_SHIPMENT: Duration = Duration::from_secs(3);

/// Raises the service.
///
/// # Errors
/// When the configuration is out of range, a file or the database cannot be used, or an address is taken.
pub async fn start(config: Config, ctx: Context) -> Result<Running, StartError> {
    config.outbox.check()?;
    let keeps = config.retention.history()?;
    flow::administrators::check(&config.administrators)?;
    let party = Party::open(&config.tls, NAME, &ctx)?;
    let db = open_database(&config.database, &ctx).await?;
    let log = party.dial(&config.audit_collector, "audit-collector")?;
    let collector = Collector::new(log.clone(), party.identity.clone());
    let outbox = Outbox::new(party.id.clone(), Arc::clone(&ctx.clock), config.outbox.max_events);
    // The socket first: the copies of a service are told apart by where they listen.
    let listener = party.listen(config.listen).await?;
    let shipper = ship(&db, outbox.clone(), legate_boot::replica(listener.local_addr()?), collector, &ctx);
    let (revision, pages) = head_of(&db).await?;

    let desk = Arc::new(Desk {
        clock: Arc::clone(&ctx.clock),
        outbox,
        db,
        domain: party.domain.clone(),
        own: party.id.clone(),
        pages,
        tail: Tail::at(revision),
        metrics: metrics::Metrics::default(),
        heard: Default::default(),
        followers: flow::followers::Followers::new(ctx.clock.as_ref()),
        keeps,
        operators: Known::default(),
        pace: parking_lot::Mutex::default(),
        asking: parking_lot::Mutex::default(),
        bulks: flow::bulk::Turns::default(),
        overdue: parking_lot::Mutex::default(),
        stopping: OnceLock::new(),
    });
    ctx.metrics.register(|registry| desk.metrics.register(registry));
    appoint(&desk, &config.administrators).await?;
    // Where the outbox has no room, whoever read the audit log before reads it on.
    if let Err(fault) = flow::administrators::state(&desk).await {
        tracing::warn!(%fault, "the operator bindings in force cannot be put on record");
    }

    let web = scim_port(&config, &party, &desk, &ctx).await?;
    let service = legate_rpc::Service {
        name: NAME,
        access: ACCESS,
        routes: api::routes(Arc::clone(&desk)),
        // Neither operators nor services have a state that could be taken from them here; an agent's is read within each of
        // its calls, from the tables themselves.
        standing: Arc::new(AlwaysGood),
        clock: Arc::clone(&ctx.clock),
        limits: legate_rpc::Limits::default(),
        metrics: Arc::clone(&ctx.metrics),
        refusals: Arc::clone(&ctx.refusals),
        descriptors: ctx.descriptors,
    };
    let serving = legate_rpc::serve(service, listener).await?;
    // Nobody set it before: the desk was made above.
    let _ = desk.stopping.set(serving.stopping());
    let following = tokio::spawn(flow::follow_forever(Arc::clone(&desk)));
    let sweeping = tokio::spawn(flow::sweep::sweep_forever(Arc::clone(&desk)));
    let heeding = tokio::spawn(flow::alert_feed::follow_forever(Arc::clone(&desk), log.clone()));
    let compacting = tokio::spawn(flow::compact::compact_forever(Arc::clone(&desk)));
    let hearing = tokio::spawn(flow::hear::hear_forever(Arc::clone(&desk), log));
    let (refusals, clock) = (Arc::clone(&ctx.refusals), Arc::clone(&ctx.clock));
    let refusing = legate_outbox::record_refusals_forever(refusals, desk.db.clone(), desk.outbox.clone(), clock);
    let refusing = tokio::spawn(refusing);
    let probes = probes(&config, &ctx, &desk).await?;

    Ok(Running::new(serving).with_probes(probes).with_web(web).on_stop(async move {
        for task in [following, sweeping, heeding, compacting, hearing, refusing] {
            task.abort();
        }
        shipper.stop(LAST_SHIPMENT).await;
        desk.db.close().await;
    }))
}

/// The SCIM facade, where it is switched on.
async fn scim_port(config: &Config, party: &Party, desk: &Arc<Desk>, ctx: &Context) -> Result<Option<Web>, StartError> {
    let Some(scim) = &config.scim_draft_wzdk_00 else { return Ok(None) };
    let (identity, trust) = (party.identity.clone(), Some(party.trust.clone()));
    let listener = Listener::bind_web(scim.listen, identity, trust, Arc::clone(&ctx.clock), scim::limits()).await?;
    let url = scim.url(listener.local_addr()?)?;
    Ok(Some(scim::serve(listener, desk, &url, ctx)?))
}

async fn open_database(url: &str, ctx: &Context) -> Result<Db, StartError> {
    let refused = |e| StartError::new("the database cannot be opened", e);
    let db = Db::open(url, legate_db::Options::default()).await.map_err(refused)?;
    db.migrate::<schema::Migrator>()
        .await
        .map_err(|e| StartError::new("the database cannot be brought up to date", e))?;
    legate_outbox::begin_epoch(&db).await.map_err(|e| StartError::new("the outbox cannot be opened", e))?;
    ctx.metrics.register(|registry| db.register(registry));
    Ok(db)
}

fn ship(db: &Db, outbox: Outbox, replica: String, collector: Collector, ctx: &Context) -> Shipper {
    let shipped = legate_outbox::Metrics::default();
    ctx.metrics.register(|registry| shipped.register(registry));
    let source = DbSource::new(db.clone()).with_heartbeats(outbox, replica);
    legate_outbox::ship(source, collector, Pace::default(), Arc::clone(&ctx.clock), shipped)
}

/// Nobody could do anything in a registry without an administrator.
async fn appoint(desk: &Arc<Desk>, names: &[String]) -> Result<(), StartError> {
    let none = |fault: Fault| match fault {
        Fault::Refused(refusal) if refusal.reason.name == LAST_ADMINISTRATOR.name => StartError::new(
            "administrators",
            "no operator is an administrator of this registry; set administrators = [\"NAME\"] in its configuration, \
             NAME as in the certificate's spiffe://TRUST_DOMAIN/legate/operator/NAME",
        ),
        fault => StartError::new("the administrators cannot be read or appointed", fault),
    };
    if flow::administrators::appoint(desk, names).await.map_err(none)? {
        tracing::warn!(?names, "the administrators of the configuration are appointed: there were none");
    }
    Ok(())
}

async fn head_of(db: &Db) -> Result<(u64, Pages), StartError> {
    let read: TxResult<_, Fault> =
        db.read("open", |tx| Box::pin(async move { Ok((head::read(tx).await?, head::pages_key(tx).await?)) })).await;
    let (revision, key) = read.map_err(error::of_tx)?;
    Ok((revision, Pages::new(&key)))
}

async fn probes(config: &Config, ctx: &Context, desk: &Arc<Desk>) -> Result<Option<Probes>, StartError> {
    let Some(addr) = config.probes else {
        return Ok(None);
    };
    let db = desk.db.clone();
    let checks = Checks::new().with("database", move || {
        let db = db.clone();
        async move { db.check().await.map_err(|e| e.to_string()) }
    });
    Ok(Some(Probes::start(addr, Arc::clone(&ctx.metrics), checks).await?))
}

#[cfg(test)]
mod tests;
