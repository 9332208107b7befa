//! policy-decision: may this agent do this to that, now, and why.
//!
//! It keeps a view of the registry and a compiled set of each namespace's policies in memory, so that the path of a
//! check makes no network call, unless it rests on an approval that counts once. The one thing that it writes is the spool of decision records.

mod access;
mod api;
mod authzen;
mod config;
mod convert;
mod domain;
pub mod engine;
mod error;
mod ext_authz;
mod flow;
mod metrics;
mod store;
#[cfg(test)]
mod testing;
mod watchman;

use std::sync::Arc;
use std::time::Duration;

use legate_boot::{Checks, Context, Party, Probes, Running, StartError};
use legate_ids::SpiffeId;
use legate_mtls::Listener;
use legate_outbox::{Collector, Pace, Shipper};
use legate_rpc::Pages;
use legate_view::{OnStale, View, ViewHandle, ViewStanding};
use legate_web::Web;
use legate_wire::envoy::authorization_server::AuthorizationServer;
use legate_wire::policy::decision_service_server::DecisionServiceServer;
use legate_wire::policy::drift_service_server::DriftServiceServer;
use legate_wire::policy::issuance_service_server::IssuanceServiceServer;
use legate_wire::policy::preview_service_server::PreviewServiceServer;
use legate_wire::policy::review_check_service_server::ReviewCheckServiceServer;

pub use access::{ACCESS, AUTHZEN_ACCESS};
pub use config::{AuthzenConfig, BadConfig, Config, DecisionConfig, ExtAuthzConfig, RouteConfig, SpoolConfig};
pub use error::REASONS;

use crate::flow::{Desk, Tokens};
use crate::store::library::Library;
use crate::store::spool::{Disk, Spool, SpoolSource, Terms};

/// The service's name, as everywhere.
pub const NAME: &str = "policy-decision";

/// Every word of a denial and its kind, for docs/errors.md.
pub fn denials() -> impl Iterator<Item = (&'static str, &'static str)> {
    domain::answer::Why::ALL.iter().map(|why| (why.word(), why.kind().word()))
}

/// The largest message in and out.
const MAX_MESSAGE: usize = 4 << 20;

/// The largest change that is previewed, and what is told of it: what the registry writes at once fits, with its places and names.
const MAX_CHANGE: usize = 20 << 20;

/// Two hundred findings of each of a thousand agents fit.
const MAX_DRIFT: usize = 256 << 20;

/// The largest request of Envoy.
const MAX_CHECK: usize = 1 << 20;

/// What is left in the spool at the end is shipped for so long; the rest waits for the next start.
const LAST_SHIPMENT: Duration = Duration::from_secs(3);

/// Raises the service. It serves at once, and denies with `STALE` until it has heard the registry.
///
/// # Errors
/// When the configuration is out of range, a file cannot be read, the spool cannot be opened or an address is taken.
pub async fn start(config: Config, ctx: Context) -> Result<Running, StartError> {
    config.check().map_err(|e| StartError::new("the configuration is refused", e))?;
    let party = Party::open(&config.tls, NAME, &ctx)?;
    let routes = config.ext_authz.read().map_err(|e| StartError::new("the configuration is refused", e))?;
    // The socket first: the copies of a service are told apart by where they listen.
    let listener = party.listen(config.listen).await?;
    let (disk, spool) = open_spool(&config, &ctx, &party.id, legate_boot::replica(listener.local_addr()?)).await?;

    let mut options = legate_view::Options::new(Arc::clone(&ctx.clock));
    options.bound = config.decision.staleness();
    let registry = party.dial(&config.registry, "registry")?;
    let view = View::follow(registry.clone(), options);
    let library = Arc::new(Library::new());
    let compiling = tokio::spawn(Arc::clone(&library).keep(view.clone()));
    let log = party.dial(&config.audit_collector, "audit-collector")?;
    let collector = Collector::new(log.clone(), party.identity.clone());
    let spool = Arc::new(spool);
    let shipper = ship(disk, Arc::clone(&spool), collector, &ctx);

    let (self_check, samples) = flow::SelfCheck::new(config.decision.self_check);
    let desk = Arc::new(Desk {
        view: view.clone(),
        library,
        bench: domain::authority::Bench::new(),
        self_check,
        tokens: Tokens::new(config.decision.remembered_tokens, party.trust.clone()),
        spool,
        clock: Arc::clone(&ctx.clock),
        metrics: metrics::Metrics::default(),
        answer_ttl: config.decision.reuse(),
        rosters: Default::default(),
        previewing: flow::Turns::new(),
        asking: flow::Turns::new(),
        archive: Arc::new(registry.clone()),
        uses: Arc::new(registry.clone()),
        reviews: Arc::new(registry),
        records: Arc::new(log),
        // A page token is good for as long as the process lives.
        pages: Pages::new(&rand::random()),
        shadow: store::tally::Tally::default(),
        streams: flow::Streams::default(),
        followers: Default::default(),
        stopping: std::sync::OnceLock::new(),
    });
    ctx.metrics.register(|registry| desk.metrics.register(registry));

    let web = authzen_port(&config, &party, &desk, &ctx).await?;
    let envoy = ext_authz::Envoy {
        desk: Arc::clone(&desk),
        trust: party.trust.clone(),
        routes: routes.into(),
        removed: config.ext_authz.remove_headers.clone().into(),
    };
    let standing = ViewStanding::new(view, OnStale::Judge);
    let serving = legate_rpc::serve(service(&desk, envoy, &standing, &ctx), listener).await?;
    // Nobody set it before: the desk was made above.
    let _ = desk.stopping.set(serving.stopping());
    let mut cutting = tokio::task::JoinSet::new();
    for connections in std::iter::once(serving.connections()).chain(web.as_ref().map(Web::connections)) {
        cutting.spawn(standing.clone().cut_connections(connections));
    }
    let watching = tokio::spawn(watchman::watch(Arc::clone(&desk), serving.health().clone()));
    let comparing = tokio::spawn(flow::self_check::forever(Arc::clone(&desk), samples));
    let counting = tokio::spawn(flow::drift::count_forever(Arc::clone(&desk)));
    let checking = tokio::spawn(flow::check_review::forever(Arc::clone(&desk)));
    let refusing = tokio::spawn(flow::record::refusals_forever(Arc::clone(&desk), Arc::clone(&ctx.refusals)));
    let probes = probes(&config, &ctx, &desk).await?;

    let refusals = Arc::clone(&ctx.refusals);
    Ok(Running::new(serving).with_probes(probes).with_web(web).on_stop(async move {
        // Nothing may be written after the spool is closed.
        for task in [refusing, comparing] {
            task.abort();
            let _ended = task.await;
        }
        flow::record::refusals(&desk, &refusals).await;
        desk.spool.close().await;
        shipper.stop(LAST_SHIPMENT).await;
        cutting.shutdown().await;
        for task in [compiling, watching, counting, checking] {
            task.abort();
        }
    }))
}

/// AuthZEN, where it is switched on.
async fn authzen_port(
    config: &Config,
    party: &Party,
    desk: &Arc<Desk>,
    ctx: &Context,
) -> Result<Option<Web>, StartError> {
    let Some(authzen) = &config.authzen else { return Ok(None) };
    let (identity, trust) = (party.identity.clone(), Some(party.trust.clone()));
    let clock = Arc::clone(&ctx.clock);
    let listener = Listener::bind_web(authzen.listen, identity, trust, clock, authzen::limits()).await?;
    let url = authzen.url(listener.local_addr()?).map_err(|e| StartError::new("the configuration is refused", e))?;
    Ok(Some(authzen::serve(listener, desk, &url, ctx)?))
}

async fn open_spool(
    config: &Config,
    ctx: &Context,
    emitter: &SpiffeId,
    replica: String,
) -> Result<(Arc<Disk>, Spool), StartError> {
    let dir = config.spool.dir.clone();
    let refused = |e: legate_journal::JournalError| StartError::new("the spool cannot be opened", e);
    let opened = tokio::task::spawn_blocking(move || Disk::open(&dir)).await;
    let (disk, before) = opened.map_err(|e| StartError::new("the spool cannot be opened", e))?.map_err(refused)?;
    let disk = Arc::new(disk);
    if !before.is_clean && !before.epoch.is_empty() {
        tracing::warn!(
            epoch = before.epoch,
            last_seq = before.last_seq,
            torn_bytes = before.torn_bytes,
            "the last run did not end in peace"
        );
    }
    let (emitter, clock) = (emitter.to_string(), Arc::clone(&ctx.clock));
    let terms = Terms { emitter, replica, max_bytes: config.spool.max_bytes, clock };
    let spool = Spool::open(Arc::clone(&disk) as _, &before, terms).await;
    Ok((disk, spool.map_err(|e| StartError::new("the spool takes no record", e))?))
}

fn ship(disk: Arc<Disk>, spool: Arc<Spool>, collector: Collector, ctx: &Context) -> Shipper {
    let shipped = legate_outbox::Metrics::default();
    ctx.metrics.register(|registry| shipped.register(registry));
    let source = SpoolSource::new(disk).with_heartbeats(spool);
    legate_outbox::ship(source, collector, Pace::default(), Arc::clone(&ctx.clock), shipped)
}

fn service(desk: &Arc<Desk>, envoy: ext_authz::Envoy, standing: &ViewStanding, ctx: &Context) -> legate_rpc::Service {
    let api = api::Api(Arc::clone(desk));
    let decisions = DecisionServiceServer::new(api.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let previews = PreviewServiceServer::new(api.clone())
        .max_decoding_message_size(MAX_CHANGE)
        .max_encoding_message_size(MAX_CHANGE);
    let drift = DriftServiceServer::new(api.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_DRIFT);
    // Whole headers of a request, and what of its body is passed on.
    let envoy = AuthorizationServer::new(envoy).max_decoding_message_size(MAX_CHECK);
    let envoy = ext_authz::Closed::new(envoy, desk);
    let reviews = ReviewCheckServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE);
    let issuance = IssuanceServiceServer::new(api).max_decoding_message_size(MAX_MESSAGE);
    legate_rpc::Service {
        name: NAME,
        access: ACCESS,
        routes: tonic::service::Routes::new(decisions)
            .add_service(issuance)
            .add_service(previews)
            .add_service(drift)
            .add_service(reviews)
            .add_service(envoy),
        standing: Arc::new(standing.clone()),
        clock: Arc::clone(&ctx.clock),
        limits: legate_rpc::Limits::default(),
        metrics: Arc::clone(&ctx.metrics),
        refusals: Arc::clone(&ctx.refusals),
        descriptors: ctx.descriptors,
    }
}

async fn probes(config: &Config, ctx: &Context, desk: &Arc<Desk>) -> Result<Option<Probes>, StartError> {
    let Some(addr) = config.probes else {
        return Ok(None);
    };
    let view: ViewHandle = desk.view.clone();
    let for_spool = Arc::clone(desk);
    let checks = Checks::new()
        .with("view", move || {
            let fresh = view.fresh(view.bound()).map(|_| ()).map_err(|e| e.to_string());
            async move { fresh }
        })
        .with("spool", move || {
            let found = watchman::spool_check(&for_spool);
            async move { found }
        });
    Ok(Some(Probes::start(addr, Arc::clone(&ctx.metrics), checks).await?))
}
