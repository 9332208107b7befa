//! A node is told whom it may vouch for and what verifies others: at once, and again whenever that changes, with a heartbeat between.

mod fallen;
mod places;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use legate_clock::Timestamp;
use legate_ids::{Name, SpiffeId};
use legate_rpc::{Fault, OVERLOADED, UNAUTHENTICATED};
use legate_view::{AttestationPolicy, Node, Snapshot};
use legate_wire::credential as wire;
use legate_wire::registry::AttestationSelectorType;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::{Call, Desk, attest};
use crate::convert;
use crate::domain::holder::{self, Named};
use crate::error::NODE_STREAM_STOPPING;
use fallen::Fallen;

pub(crate) use places::Places;

/// How often something is said, whether or not there is news.
const BEAT: Duration = Duration::from_millis(500);
/// News that come faster than this are told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// A node that takes nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(10);
/// Messages that wait for one node.
const WAITING: usize = 4;
/// The most policies that one node is told of: a message has to stay within what clients take.
const MOST_POLICIES: usize = 1_000;
/// The most bytes of other trust domains' bundles: the same.
const MOST_BUNDLES: usize = 6 << 20;

/// What the node reads.
pub(crate) type News = Pin<Box<dyn Stream<Item = Result<wire::WatchNodeResponse, Status>> + Send>>;
type Out = mpsc::Sender<Result<wire::WatchNodeResponse, Status>>;

/// Why a stream ends.
enum End {
    /// The node is gone.
    Gone,
    /// The node is told why.
    Told(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Told(fault)
    }
}

/// Tells the calling node until it leaves, is stuck or stopped, or the service stops.
///
/// # Errors
/// When it, or all of them, have too many streams.
pub(crate) fn watch(desk: &Arc<Desk>, call: Call) -> Result<News, Fault> {
    let place = desk.places.open(call.peer.id_text())?;
    let (out, mut said) = mpsc::channel(WAITING);
    let desk = Arc::clone(desk);
    tokio::spawn(async move {
        desk.metrics.node_streams(1);
        if let Err(End::Told(fault)) = follow(&desk, &call, &out).await {
            tracing::info!(reason = fault.reason(), node = call.peer.id_text(), "the stream of a node ends");
            drop(tokio::time::timeout(STUCK, out.send(Err(fault.into()))).await);
        }
        desk.metrics.node_streams(-1);
        drop(place);
    });
    Ok(Box::pin(stream::poll_fn(move |cx| said.poll_recv(cx))))
}

async fn follow(desk: &Desk, call: &Call, out: &Out) -> Result<(), End> {
    let stopping = desk.stopping.get().cloned().unwrap_or_default();
    let (mut news, mut taken) = (desk.view.changed(), desk.view.taken_away());
    let mut fallen: Option<Fallen> = None;
    let mut said: Option<(wire::NodeState, Instant)> = None;
    loop {
        let reading = desk.fresh()?;
        let now = desk.clock.now();
        // The connection ends by a timer, which does not see the machine's clock being put right.
        if call.peer.not_after <= now {
            let text = format!("the node's certificate expired at {}", call.peer.not_after);
            return Err(Fault::refused(&UNAUTHENTICATED, text).into());
        }
        let node = Arc::clone(attest::node(call, &reading.snapshot, now)?);
        let mut federated = Federated::default();
        let entitlements = entitlements(desk, &reading.snapshot, &node, &mut federated, now);
        let about = fallen::About { snapshot: &reading.snapshot, node: &node, entitlements: &entitlements, now };
        let is_taken = taken.has_changed().unwrap_or(false);
        let now_fallen = match fallen.take() {
            Some(before) if !before.is_due(&about, is_taken) => before,
            before => {
                taken.mark_unchanged();
                fallen::look(desk, &about, before).await?
            }
        };
        let (ended_instances, cut_off_instances) = now_fallen.told();
        fallen = Some(now_fallen);
        let state = wire::NodeState {
            entitlements,
            bundle: Some(bundle(desk)?),
            ended_instances,
            federated_bundles: federated.told(),
            cut_off_instances,
        };
        let is_news = said.as_ref().is_none_or(|(before, _)| *before != state);
        if is_news || said.as_ref().is_none_or(|(_, at)| at.elapsed() >= BEAT) {
            let age = reading.age().unwrap_or_default();
            let told = wire::WatchNodeResponse {
                revision: reading.snapshot.revision(),
                as_of_time: Some(now.minus(age).into()),
                state: is_news.then(|| state.clone()),
            };
            say(out, told).await?;
            said = Some((state, Instant::now()));
        }
        tokio::select! {
            () = stopping.cancelled() => {
                let text = "credential-issuer is stopping";
                return Err(Fault::unavailable(&NODE_STREAM_STOPPING, text, BEAT).into());
            }
            () = out.closed() => return Err(End::Gone),
            changed = news.changed() => {
                if changed.is_err() {
                    return Err(End::Gone);
                }
                tokio::time::sleep(TOGETHER).await;
            }
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

async fn say(out: &Out, told: wire::WatchNodeResponse) -> Result<(), End> {
    match tokio::time::timeout(STUCK, out.send(Ok(told))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => {
            let text = "the node took nothing for 10 s";
            Err(Fault::unavailable(&OVERLOADED, text, Duration::from_secs(1)).into())
        }
    }
}

/// The policies that believe the node, and how the agents stand.
fn entitlements(
    desk: &Desk,
    snapshot: &Snapshot,
    node: &Node,
    federated: &mut Federated,
    now: Timestamp,
) -> Vec<wire::Entitlement> {
    let mut all: Vec<wire::Entitlement> = Vec::new();
    for policy in snapshot.policies_that_believe(node) {
        let Some(agent) = snapshot.attested_agent(policy) else { continue };
        if all.len() == MOST_POLICIES {
            let node = attest::named(node);
            tracing::warn!(node, MOST_POLICIES, "more attestation policies believe a node than it is told of");
            break;
        }
        let named = Named::Agent(agent.id.clone());
        let holder = holder::find(snapshot, &desk.domain, &named, None, now);
        all.push(wire::Entitlement::from(convert::Told {
            policy,
            agent,
            spiffe_id: SpiffeId::agent(&desk.domain, &agent.label.namespace, &agent.id).to_string(),
            is_usable: holder.is_ok_and(|holder| attest::is_usable(&holder)),
            lifecycle_version: snapshot.life_of(agent, now).lifecycle_version,
            federates_with: federated.of(desk, snapshot, &agent.label.namespace, now),
            broker: broker(desk, snapshot, policy),
        }));
    }
    all
}

/// The broker that a policy names, without instance; empty: none, or one that is not there any more.
fn broker(desk: &Desk, snapshot: &Snapshot, policy: &AttestationPolicy) -> String {
    let namespace = &policy.label.namespace;
    let named = policy.selectors.iter().find(|one| one.of == AttestationSelectorType::BrokerAgent);
    let agent = named.and_then(|one| snapshot.agent_named(namespace.as_str(), &one.value));
    let agent = agent.filter(|agent| agent.label.created <= policy.label.updated);
    agent.map(|agent| SpiffeId::agent(&desk.domain, namespace, &agent.id).to_string()).unwrap_or_default()
}

/// What verifies other trust domains, for those namespaces whose agents the node may vouch for.
#[derive(Default)]
struct Federated {
    by_namespace: BTreeMap<Name, Vec<String>>,
    told: BTreeMap<String, wire::FederatedBundle>,
    bytes: usize,
}

impl Federated {
    /// Those that the agents of the namespace may use.
    fn of(&mut self, desk: &Desk, snapshot: &Snapshot, namespace: &Name, now: Timestamp) -> Vec<String> {
        if let Some(known) = self.by_namespace.get(namespace) {
            return known.clone();
        }
        let mut found = Vec::new();
        for of in snapshot.federates_with(namespace) {
            let source = of.source();
            if !self.told.contains_key(&source) {
                let Some(bundle) = desk.bundles.get(&source, now) else { continue };
                if self.bytes + bundle.len() > MOST_BUNDLES {
                    tracing::warn!(source, MOST_BUNDLES, "more bundles than a node is told of; this one is left out");
                    continue;
                }
                self.bytes += bundle.len();
                self.told.insert(source.clone(), convert::told_bundle(of, &bundle));
            }
            found.push(source);
        }
        self.by_namespace.insert(namespace.clone(), found.clone());
        found
    }

    fn told(self) -> Vec<wire::FederatedBundle> {
        self.told.into_values().collect()
    }
}

/// What verifies workloads.
fn bundle(desk: &Desk) -> Result<wire::TrustBundle, Fault> {
    let (authority, keys, _) = desk.keys.bundle()?;
    Ok(wire::TrustBundle {
        trust_domain: desk.domain.to_string(),
        x509_authorities: authority.roots(),
        tainted_authorities: authority.tainted_roots(),
        jwt_authorities: legate_token::jwk_set(&keys),
    })
}
