//! Bundles of other trust domains are fetched, kept and told of, for as long as they are declared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use legate_clock::Timestamp;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_view::FederatedTrustDomain;

use super::Desk;
use crate::convert;
use crate::error::of_tx;
use crate::federation::{ForeignBundle, Kept};
use crate::store::credential::sha256;
use crate::store::federated_bundle;

/// How often it is looked which are due.
const LOOK: Duration = Duration::from_secs(1);
/// The most that are looked after; of more, those that come last by name are not served.
const MOST: usize = 1_000;
/// Fetched at once.
const AT_ONCE: usize = 8;

/// Looks after them for as long as the process lives.
pub(crate) async fn federate_forever(desk: Arc<Desk>) {
    loop {
        if let Err(fault) = look(&desk).await {
            tracing::warn!(%fault, "bundles of other trust domains could not be looked after; it is tried again");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What one is declared as, as far as what was fetched depends on it.
fn declared(of: &FederatedTrustDomain) -> [u8; 32] {
    let endpoint = of.endpoint.as_ref();
    let id = endpoint.and_then(|at| at.spiffe_id.as_ref()).map_or("", |id| id.as_str());
    let url = endpoint.map_or("", |at| &at.url);
    let parts = [&*of.label.id, of.trust_domain.as_str(), url, id, of.bundle.as_deref().unwrap_or_default()];
    let whole: Vec<u8> =
        parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes(), part.as_bytes()].concat()).collect();
    sha256(&whole)
}

pub(crate) async fn look(desk: &Arc<Desk>) -> Result<(), Fault> {
    let reading = desk.fresh()?;
    let mut all: Vec<Arc<FederatedTrustDomain>> =
        reading.snapshot.federated_trust_domains().into_iter().cloned().collect();
    // What verifies our own domain is ours to say, whatever the registry took.
    all.retain(|of| of.trust_domain != desk.domain);
    if all.len() > MOST {
        tracing::warn!(declared = all.len(), MOST, "more federated trust domains are declared than are served");
        all.truncate(MOST);
    }
    drop(reading);
    let there: BTreeSet<String> = all.iter().map(|of| of.source()).collect();
    let gone = desk.bundles.retain(|source| there.contains(source));
    if !gone.is_empty() {
        let forgotten = desk.db.tx("forget_bundles", move |tx| {
            let gone = gone.clone();
            Box::pin(async move { federated_bundle::forget(tx, gone).await })
        });
        forgotten.await.map_err(of_tx)?;
    }
    let now = desk.clock.monotonic();
    let mut due = Vec::new();
    for of in all {
        let (source, hash) = (of.source(), declared(&of));
        let kept = match desk.bundles.kept(&source, &hash) {
            Some(kept) => kept,
            None => {
                let kept = begin(desk, &of, hash, now).await?;
                desk.bundles.put(source.clone(), kept.clone());
                kept
            }
        };
        if kept.is_due(now) {
            due.push((of, kept));
        }
    }
    let fetching = due.into_iter().map(|(of, kept)| fetch(desk, of, kept));
    futures_util::stream::iter(fetching).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    desk.metrics.federated(desk.bundles.standing(desk.clock.now()));
    Ok(())
}

/// With what an earlier process fetched, where it is declared as it was then.
async fn begin(desk: &Desk, of: &FederatedTrustDomain, hash: [u8; 32], now: Duration) -> Result<Kept, Fault> {
    let source = of.source();
    let read = desk.db.read("find_bundle", move |tx| {
        let source = source.clone();
        Box::pin(async move { federated_bundle::find(tx, &source).await })
    });
    let row = read.await.map_err(of_tx)?.filter(|row| row.declared == hash);
    let fetched = row.and_then(|row| {
        let bundle = ForeignBundle::parse(&row.body).ok()?;
        Some((bundle, Timestamp::from_micros(row.fetched_at)))
    });
    let kept = Kept::begin(of, hash, fetched, now);
    if let Some(why) = &kept.failing {
        tracing::error!(source = of.source(), why, "what is declared of a federated trust domain cannot be used");
    }
    Ok(kept)
}

async fn fetch(desk: &Arc<Desk>, of: Arc<FederatedTrustDomain>, mut kept: Kept) {
    let Some(endpoint) = &of.endpoint else { return };
    let source = of.source();
    let found = desk.federation.bundle(endpoint, kept.bundle.as_deref()).await;
    let (now, at) = (desk.clock.monotonic(), desk.clock.now());
    let was_failing = kept.failing.is_some();
    match found {
        Ok((bundle, body)) => {
            desk.metrics.federated_fetch("ok");
            let is_new = kept.bundle.as_deref().is_none_or(|before| !before.is_same(&bundle));
            if let Err(fault) = keep(desk, &of, kept.declared, (&bundle, &body), at).await {
                // What is not on record is not served.
                tracing::warn!(source, %fault, "a bundle could not be kept; it is fetched again");
                kept.failed(&of, fault.to_string(), now);
            } else {
                if is_new || was_failing {
                    tracing::info!(source, trust_domain = %of.trust_domain, sequence = bundle.sequence, "a bundle was fetched");
                }
                kept.fetched(&of, bundle, at, now);
            }
        }
        Err(why) => {
            desk.metrics.federated_fetch("failed");
            tracing::warn!(source, trust_domain = %of.trust_domain, url = %endpoint.url, %why, "a bundle was not fetched; the last good one stands");
            if !was_failing {
                let me = &desk.keys.me;
                desk.record_refusal(convert::bundle_unreached(me, &of, &why.to_string(), at)).await;
            }
            kept.failed(&of, why.to_string(), now);
        }
    }
    desk.bundles.put(source, kept);
}

/// Keeps what was fetched, and records where whom agents believe changed.
async fn keep(
    desk: &Desk,
    of: &FederatedTrustDomain,
    declared: [u8; 32],
    (bundle, body): (&ForeignBundle, &[u8]),
    at: Timestamp,
) -> Result<(), Fault> {
    let row = federated_bundle::Model {
        source: of.source(),
        trust_domain: of.trust_domain.to_string(),
        declared: declared.to_vec(),
        body: body.to_vec(),
        fetched_at: at.micros(),
    };
    let event = convert::bundle_changed(&desk.keys.me, of, bundle, body, at);
    let outbox = desk.outbox.clone();
    let kept = desk.db.tx("keep_bundle", move |tx| {
        let (row, outbox, event) = (row.clone(), outbox.clone(), event.clone());
        Box::pin(async move {
            if federated_bundle::keep(tx, row).await? {
                outbox.record(tx, Standard::Ordinary, event).await?;
            }
            Ok(())
        })
    });
    kept.await.map_err(of_tx)
}
