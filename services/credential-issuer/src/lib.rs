//! credential-issuer: is this runtime that agent, and what may it carry.
//!
//! It holds the CA of agents and enforcement points and the key of access tokens, and signs only what is recorded, with
//! its audit event, on disk ([`flow`](self): `Plan -> Recorded -> Credential`). It follows the registry, and when it has
//! not heard it within the bound, it issues nothing.

mod access;
mod api;
mod config;
mod convert;
mod domain;
mod error;
mod federation;
mod flow;
mod keys;
mod metrics;
mod oauth;
mod outside;
mod schema;
mod store;
mod together;
mod watchman;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_boot::{Checks, Context, Party, Probes, Running, StartError};
use legate_db::Db;
use legate_ids::{Name, SpiffeId};
use legate_mtls::Listener;
use legate_outbox::{Collector, DbSource, Outbox, Pace, Shipper};
use legate_view::{OnStale, View, ViewStanding};
use legate_web::Web;
use tokio::sync::{Notify, watch};

pub use access::ACCESS;
pub use config::{
    BadConfig, Config, KeyStoreConfig, KeysConfig, LoginRuleConfig, OauthConfig, OperatorsConfig, Pkcs11Config,
    ProviderConfig, StatusListConfig,
};
pub use error::REASONS;
pub use federation::{BadNetwork, FederationConfig, Network};
#[cfg(feature = "pkcs11")]
pub use keys::Pkcs11Keys;
pub use keys::{FileKeys, Kek, KeyError, KeyPlace, KeyStore, KeyUse, Rewrapped, Signer, kek_path};

use crate::federation::Federation;
use crate::flow::Desk;
use crate::flow::keyring::{Keyring, Site};
use crate::flow::login::Logins;
use crate::flow::status_list::Lists;
use crate::keys::Pepper;
use crate::outside::{PolicyDecision, Registry};

/// The service's name, as everywhere.
pub const NAME: &str = "credential-issuer";

/// What is left in the outbox at the end is shipped for so long; the rest waits for the next start.
const LAST_SHIPMENT: Duration = Duration::from_secs(3);

/// Raises the service with its keys where the configuration says.
///
/// # Errors
/// When the configuration is out of range, a file or the database cannot be used, or an address is taken.
pub async fn start(config: Config, ctx: Context) -> Result<Running, StartError> {
    config.check().map_err(|e| StartError::new("the configuration is refused", e))?;
    let keys = stores(&config, files(&config)?).await.map_err(bad_keys)?;
    Box::pin(start_with(config, ctx, keys)).await
}

/// Where keys are made, and where else there are some.
#[cfg(feature = "pkcs11")]
async fn stores(config: &Config, files: FileKeys) -> Result<Arc<dyn KeyStore>, KeyError> {
    let Some(token) = &config.keys.pkcs11 else { return Ok(Arc::new(files)) };
    let token: Arc<dyn KeyStore> = Arc::new(Pkcs11Keys::open(token, &files).await?);
    let files: Arc<dyn KeyStore> = Arc::new(files);
    let (first, other) = match config.keys.store {
        KeyStoreConfig::Files => (files, token),
        KeyStoreConfig::Pkcs11 => (token, files),
    };
    Ok(Arc::new(keys::Stores::new(first, vec![other])))
}

/// The same, where there are files alone.
#[cfg(not(feature = "pkcs11"))]
async fn stores(config: &Config, files: FileKeys) -> Result<Arc<dyn KeyStore>, KeyError> {
    if config.keys.pkcs11.is_some() {
        let why = "this program was built without it; build one by cargo build --release -p legate --features pkcs11";
        return Err(KeyError::Module { what: "keys.pkcs11".into(), why: why.into() });
    }
    Ok(Arc::new(files))
}

/// Raises the service with its signing keys in a store of the caller's.
///
/// # Errors
/// As [`start`].
pub async fn start_with(config: Config, ctx: Context, keys: Arc<dyn KeyStore>) -> Result<Running, StartError> {
    config.check().map_err(|e| StartError::new("the configuration is refused", e))?;
    config.outbox.check()?;
    let domain = config.tls.domain()?;
    let db = open_database(&config.database, &ctx).await?;
    let name = Name::parse(NAME).map_err(|e| StartError::new("the service's name", e))?;
    let me = SpiffeId::service(&domain, &name);
    let outbox = Outbox::new(me.clone(), Arc::clone(&ctx.clock), config.outbox.max_events);
    // The pepper is never a key of a KMS: it is read often and must be near.
    let pepper = Pepper::open(&files(&config)?).map_err(bad_keys)?;
    let logins = logins(&config)?;
    let site = Site {
        db: db.clone(),
        outbox: outbox.clone(),
        clock: Arc::clone(&ctx.clock),
        store: keys,
        domain: domain.clone(),
        me,
        pace: config.keys.pace(),
        uses: uses(&config, logins.is_some()),
    };
    // Before TLS is opened: the CA file that is made here is one that it reads.
    let keys = Keyring::open(site).await.map_err(|e| StartError::new("the keys are refused", e))?;
    let party = Party::open(&config.tls, NAME, &ctx)?;

    let registry = party.dial(&config.registry, "registry")?;
    let view = View::follow(registry.clone(), legate_view::Options::new(Arc::clone(&ctx.clock)));
    let collector = party.dial(&config.audit_collector, "audit-collector")?;
    let collector = Collector::new(collector, party.identity.clone());
    // The socket first: the copies of a service are told apart by where they listen.
    let listener = party.listen(config.listen).await?;
    let shipper = ship(&db, outbox, legate_boot::replica(listener.local_addr()?), collector, &ctx);

    // The socket first: without a name of its own the issuer is called by its address.
    let oauth = match config.oauth {
        None => None,
        Some(oauth) => {
            let (identity, trust) = (party.identity.clone(), Some(party.trust.clone()));
            Some(Listener::bind_web(oauth.listen, identity, trust, Arc::clone(&ctx.clock), oauth::limits()).await?)
        }
    };
    let by_address = oauth.as_ref().map(Listener::local_addr).transpose()?.map(|addr| format!("https://{addr}"));
    let issuer = config.issuer.clone().or(by_address).unwrap_or_default();

    let outbox = Outbox::new(party.id.clone(), Arc::clone(&ctx.clock), config.outbox.max_events);
    let desk = Arc::new(Desk {
        clock: Arc::clone(&ctx.clock),
        batches: store::Batches::new(&db, outbox.clone()),
        db,
        outbox,
        view: view.clone(),
        domain,
        issuer,
        keys,
        pepper,
        authorizer: Arc::new(PolicyDecision::new(party.dial(&config.policy_decision, "policy-decision")?)),
        relay: Arc::new(Registry(registry.clone())),
        publisher: Arc::new(Registry(registry.clone())),
        grants: Arc::new(Registry(registry)),
        federation: Federation::new(&config.federation, Arc::clone(&ctx.clock))
            .map_err(|e| StartError::new("federation.ca", e))?,
        bundles: federation::Bundles::default(),
        logins,
        lists: config.status_list_draft_ietf_21.map(|lists| Lists::new(lists.ttl())),
        connections: OnceLock::new(),
        metrics: metrics::Metrics::default(),
        refusals: Arc::clone(&ctx.refusals),
        news: Notify::new(),
        key_is_known: watch::Sender::new(false),
        places: flow::watch_node::Places::default(),
        stopping: OnceLock::new(),
    });
    ctx.metrics.register(|registry| desk.metrics.register(registry));

    let standing = ViewStanding::new(view, OnStale::Refuse);
    let serving = legate_rpc::serve(service(&desk, &standing, &ctx), listener).await?;
    let web = oauth.map(|listener| oauth::serve(listener, &desk, standing.clone(), &ctx)).transpose()?;
    let connections: Vec<_> =
        std::iter::once(serving.connections()).chain(web.as_ref().map(Web::connections)).collect();
    let mut cutting = tokio::task::JoinSet::new();
    for connections in connections.clone() {
        cutting.spawn(standing.clone().cut_connections(connections));
    }
    // Nobody set them before: the desk was made above.
    let _ = desk.connections.set(connections);
    let _ = desk.stopping.set(serving.stopping());
    let publishing = tokio::spawn(flow::publish::publish_forever(Arc::clone(&desk)));
    let watching = tokio::spawn(watchman::watch(Arc::clone(&desk), serving.health().clone()));
    let forgetting = tokio::spawn(flow::forget::forget_forever(Arc::clone(&desk), config.retention.ended()));
    let probing = tokio::spawn(flow::keyring::probe_forever(Arc::clone(&desk)));
    let counting = tokio::spawn(flow::health::count_forever(Arc::clone(&desk)));
    let federating = tokio::spawn(flow::federate::federate_forever(Arc::clone(&desk)));
    let turning = tokio::spawn(flow::keyring::turn_forever(Arc::clone(&desk)));
    let (refusals, clock) = (Arc::clone(&ctx.refusals), Arc::clone(&ctx.clock));
    let refusing = legate_outbox::record_refusals_forever(refusals, desk.db.clone(), desk.outbox.clone(), clock);
    let refusing = tokio::spawn(refusing);
    let probes = probes(&config, &ctx, &desk).await?;

    Ok(Running::new(serving).with_probes(probes).with_web(web).on_stop(async move {
        cutting.shutdown().await;
        for task in [publishing, watching, refusing, forgetting, counting, turning, probing, federating] {
            task.abort();
        }
        shipper.stop(LAST_SHIPMENT).await;
        desk.db.close().await;
    }))
}

/// The keys in files, everything in them wrapped under the newest version of the key that wraps.
fn files(config: &Config) -> Result<FileKeys, StartError> {
    let kek = kek_path(&config.keys.kek).and_then(|path| Kek::open(&path)).map_err(bad_keys)?;
    let keys = FileKeys::new(&config.keys.dir, kek).map_err(bad_keys)?;
    let found = keys.rewrap().map_err(bad_keys)?;
    if found.changed > 0 {
        tracing::info!(changed = found.changed, "keys are wrapped under the newest version of the key-encryption key");
    }
    Ok(keys)
}

/// What keys are for here, and the files of CA certificates.
fn uses(config: &Config, has_logins: bool) -> BTreeMap<KeyUse, Option<PathBuf>> {
    let workloads = config.tls.workloads_ca.clone();
    let mut uses =
        BTreeMap::from([(KeyUse::AccessTokens, None), (KeyUse::JwtSvids, None), (KeyUse::WorkloadsCa, workloads)]);
    if has_logins {
        uses.insert(KeyUse::OperatorsCa, config.tls.operators_ca.clone());
    }
    uses
}

/// How operators log in, where there are providers by which they do.
fn logins(config: &Config) -> Result<Option<Logins>, StartError> {
    let providers = config.operators.read().map_err(|e| StartError::new("the configuration is refused", e))?;
    if config.tls.operators_ca.is_none() || providers.is_empty() {
        return Ok(None);
    }
    Ok(Some(Logins { providers, ttl: Duration::from_secs(config.operators.certificate_seconds) }))
}

fn bad_keys(e: impl Into<KeyError>) -> StartError {
    let why: KeyError = e.into();
    StartError::new("the keys are refused", why)
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

fn service(desk: &Arc<Desk>, standing: &ViewStanding, ctx: &Context) -> legate_rpc::Service {
    legate_rpc::Service {
        name: NAME,
        access: ACCESS,
        routes: api::routes(Arc::clone(desk)),
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
    let (for_view, for_key, for_store) = (Arc::clone(desk), Arc::clone(desk), Arc::clone(desk));
    let db = desk.db.clone();
    let checks = Checks::new()
        .with("database", move || {
            let db = db.clone();
            async move { db.check().await.map_err(|e| e.to_string()) }
        })
        .with("view", move || {
            let found = watchman::view_check(&for_view);
            async move { found }
        })
        .with("signing key", move || {
            let found = watchman::key_check(&for_key);
            async move { found }
        })
        .with("key store", move || {
            let found = for_store.keys.store.check();
            async move { found }
        });
    Ok(Some(Probes::start(addr, Arc::clone(&ctx.metrics), checks).await?))
}

#[cfg(test)]
mod tests;
