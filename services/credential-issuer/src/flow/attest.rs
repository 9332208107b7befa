//! A node vouches for a process: where an attestation policy believes it, the process gets a certificate of the agent that it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::{AgentId, InstanceId, Name, Principal, SpiffeId};
use legate_outbox::{Outbox, Standard};
use legate_rpc::Fault;
use legate_view::{AttestationPolicy, Attested, CredentialMethod, Node, Snapshot, after_cutoff};

use super::attested::{self, Proved, Shown};
use super::{Call, Desk};
use crate::convert;
use crate::domain::holder::{Holder, Named, NoHolder};
use crate::domain::instance::{Attestation, Proof};
use crate::error::{
    ATTESTATION_INSUFFICIENT, CREDENTIAL_NOT_GOOD, HOLDER_NOT_ACTIVE, IDENTITY_TOKEN_REFUSED, NODE_NOT_BELIEVED,
    SVID_REQUEST_REUSED, flow, of_tx,
};
use crate::store::credential::{self, sha256};
use crate::store::instance::{self, Room};
use crate::store::recorded::{Draft, committed, record};
use crate::store::{key, node_request};

/// A request may be sent again for so long, for the same certificate: its answer may have been lost.
pub(crate) const AGAIN_UNTIL: Duration = Duration::from_secs(300);

/// A process that a node attested, and what is asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) namespace: Name,
    pub(crate) policy: Name,
    pub(crate) shown: Shown,
    pub(crate) csr: Vec<u8>,
    /// `None`: it becomes a new instance.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) request_id: String,
    pub(crate) request_sha256: [u8; 32],
}

/// A policy that believes the node, and what it makes of such a process.
#[derive(Clone, Debug)]
pub(crate) struct Believed {
    pub(crate) policy: Arc<AttestationPolicy>,
    pub(crate) agent: AgentId,
    pub(crate) by: Attestation,
}

/// The node that calls, as it is declared now.
pub(super) fn node<'a>(call: &Call, snapshot: &'a Snapshot, now: Timestamp) -> Result<&'a Arc<Node>, Fault> {
    // The snapshot by which the call was let in may have been older.
    snapshot.judge(&call.peer, now)?;
    match &call.peer.principal {
        Some(Principal::Node { namespace, name }) => {
            let node = snapshot.node(namespace.as_str(), name.as_str());
            node.ok_or_else(|| NoHolder::NoNode(namespace.clone(), name.clone()).into())
        }
        _ => Err(Fault::refused(&NODE_NOT_BELIEVED, "the caller is no node, and only nodes vouch for processes")),
    }
}

/// How the node is called where it is not alone.
pub(super) fn named(node: &Node) -> String {
    format!("{}/{}", node.label.namespace, node.label.name)
}

/// The policy of that name, where it believes the calling node. One that does not is not there: what other namespaces declare is no
/// business of a node that they do not name.
pub(super) fn policy(
    desk: &Desk,
    call: &Call,
    snapshot: &Snapshot,
    (namespace, policy): (&Name, &Name),
) -> Result<Arc<AttestationPolicy>, Fault> {
    let node = node(call, snapshot, desk.clock.now())?;
    let found = snapshot.attestation_policy(namespace.as_str(), policy).filter(|found| found.believes(node));
    found.cloned().ok_or_else(|| {
        let text = format!("no attestation policy {namespace}/{policy} believes the node {}", named(node));
        Fault::refused(&NODE_NOT_BELIEVED, text)
    })
}

/// The same, where what was attested is enough for it.
pub(super) fn believed(
    desk: &Desk,
    call: &Call,
    snapshot: &Snapshot,
    (namespace, policy): (&Name, &Name),
    attested: &BTreeSet<Attested>,
) -> Result<Believed, Fault> {
    let found = self::policy(desk, call, snapshot, (namespace, policy))?;
    let node = node(call, snapshot, desk.clock.now())?;
    if !found.is_met_by(attested) {
        let missing: Vec<String> = found.selectors.difference(attested).map(convert::spoken).collect();
        let text = format!("{namespace}/{policy} asks for what was not attested: {}", missing.join(", "));
        return Err(Fault::refused(&ATTESTATION_INSUFFICIENT, text));
    }
    let agent = snapshot.attested_agent(&found).ok_or_else(|| {
        let text =
            format!("there is no agent {namespace}/{}, or it came after {namespace}/{policy} was written", found.agent);
        Fault::refused(&HOLDER_NOT_ACTIVE, text)
    })?;
    Ok(Believed {
        agent: agent.id.clone(),
        policy: found,
        by: Attestation { node: named(node), node_since: node.label.created, policy: format!("{namespace}/{policy}") },
    })
}

/// What a node shows of a process, by a policy: proved, and enough for it; with the revision that it was looked up at.
pub(super) async fn accepted(
    desk: &Desk,
    call: &Call,
    (namespace, policy): (&Name, &Name),
    shown: &Shown,
) -> Result<(Proved, Believed, u64), Fault> {
    let proved = attested::prove(desk, call, (namespace, policy), shown).await?;
    let look = |snapshot: &Snapshot| believed(desk, call, snapshot, (namespace, policy), &proved.attested);
    let (found, seen) = desk.look(look).await?;
    attested::hold(desk, &found, &proved).await?;
    Ok((proved, found, seen))
}

/// A token that was made before its agent was last stopped makes nothing, as at an enrolment; the platform makes a new one soon.
pub(super) fn demand_of_this_life(holder: &Holder, proved: &Proved) -> Result<(), Fault> {
    if proved.evidence.as_ref().is_none_or(|evidence| holder.cutoffs.spare(evidence.issued)) {
        return Ok(());
    }
    let why = "the token was made before the agent, its class or its namespace was last stopped";
    Err(Fault::refused(&IDENTITY_TOKEN_REFUSED, why))
}

/// Just before an answer leaves: whether the policy believes the node as it did.
pub(super) fn still(desk: &Desk, call: &Call, was: &Believed, proved: &Proved) -> Result<(), Fault> {
    let label = &was.policy.label;
    let now = believed(desk, call, &desk.fresh()?.snapshot, (&label.namespace, &label.name), &proved.attested)?;
    if now.agent == was.agent && now.by == was.by {
        return attested::still(desk, &now.policy, proved);
    }
    Err(Fault::refused(&NODE_NOT_BELIEVED, "the attestation policy was declared anew while this was being issued"))
}

/// Whom an event about a node's request is about: the agent, where the node may know of it; else the node.
pub(super) fn about<'a>(
    call: &'a Call,
    believed: Option<(&'a SpiffeId, &'a Name, &'a str)>,
) -> Option<(&'a SpiffeId, &'a Name, &'a str)> {
    believed.or_else(|| match (&call.peer.spiffe_id, &call.peer.principal) {
        (Some(id), Some(Principal::Node { namespace, .. })) => Some((id, namespace, "")),
        _ => None,
    })
}

/// Issues a certificate to a process that the calling node attested.
#[tracing::instrument(skip_all, fields(legate.policy = %ask.policy))]
pub(crate) async fn issue(desk: &Desk, call: &Call, ask: Ask) -> Result<credential::Model, Fault> {
    let found = match accepted(desk, call, (&ask.namespace, &ask.policy), &ask.shown).await {
        Ok(found) => found,
        Err(fault) => {
            desk.note_refusal(call, "svid", about(call, None), &fault).await;
            return Err(fault);
        }
    };
    let result = attempt(desk, call, &ask, &found).await;
    match &result {
        Ok(_) => desk.metrics.issued("svid"),
        Err(fault) => {
            let (_, believed, _) = &found;
            let namespace = &believed.policy.label.namespace;
            let id = SpiffeId::agent(&desk.domain, namespace, &believed.agent);
            let its = about(call, Some((&id, namespace, believed.agent.as_str())));
            desk.note_refusal(call, "svid", its, fault).await;
        }
    }
    result
}

async fn attempt(
    desk: &Desk,
    call: &Call,
    ask: &Ask,
    (proved, found, seen): &(Proved, Believed, u64),
) -> Result<credential::Model, Fault> {
    let named = Named::Agent(found.agent.clone());
    let copy = match &ask.instance {
        Some(copy) => copy.clone(),
        None => InstanceId::from_parts(Desk::millis(desk.clock.now()), Desk::random()?),
    };
    let (holder, revision) = desk.holder_past_cutoff(&named, Some(&copy)).await?;
    holder.means.demand(CredentialMethod::Attestation)?;
    demand_of_this_life(&holder, proved)?;
    let owner = holder.spiffe_id.without_instance();
    // A process does not know what it will be called until it is an instance.
    let name = if ask.instance.is_some() { &holder.spiffe_id } else { &owner };
    let now = desk.clock.now();
    let (plan, to_be_signed) = desk.planned(&holder, (&ask.csr, name), now)?;
    let room = Room { most: holder.max_instances, cutoff: holder.cutoffs.latest(), now };
    let journey = Arc::new(Journey {
        call: call.clone(),
        ask: ask.clone(),
        found: found.clone(),
        proved: proved.clone(),
        revision: revision.max(*seen),
        draft: Draft { plan, to_be_signed, origin: String::new() },
        room,
        owner,
        outbox: desk.outbox.clone(),
    });
    let recorded = committed(&desk.db, "issue_svid", move |tx| {
        let journey = Arc::clone(&journey);
        Box::pin(async move { journey.record(tx).await })
    });
    let recorded = recorded.await.map_err(of_tx)?;
    let issued = match recorded.row().state {
        // It was asked for before, and signed then.
        credential::ISSUED => recorded.row().clone(),
        _ => desk.sign(recorded).await?,
    };
    desk.still(&holder, &named)?;
    still(desk, call, found, proved)?;
    Ok(issued)
}

/// What is recorded, and by what.
struct Journey {
    call: Call,
    ask: Ask,
    found: Believed,
    proved: Proved,
    revision: u64,
    draft: Draft,
    room: Room,
    /// The agent, without instance: keys are its.
    owner: SpiffeId,
    outbox: Outbox,
}

impl Journey {
    async fn record(&self, tx: &Tx) -> TxResult<credential::Model, Fault> {
        let Self { ask, found, draft, room, .. } = self;
        let plan = &draft.plan;
        credential::demand_good(tx, &self.call.peer.x5t_s256, self.call.peer.id_text()).await?;
        let asked = node_request::Model {
            node: found.by.node.clone(),
            request_id: ask.request_id.clone(),
            request_sha256: ask.request_sha256.to_vec(),
            credential_id: plan.credential.to_string(),
            made_at: room.now.micros(),
        };
        if let Some(before) = node_request::begin(tx, asked).await? {
            return self.again(tx, before).await;
        }
        // The instance before the key, and that before the credential, as revocations lock them.
        let origin = if ask.instance.is_some() {
            instance::renew_attested(tx, plan, &found.by, *room).await?
        } else {
            let proof = Proof::Attestation(found.by.clone());
            instance::start(tx, plan, &proof, *room).await?;
            proof.text()
        };
        key::bind(tx, &sha256(plan.key.as_sec1()), self.owner.as_str()).await?;
        let planned = (plan, draft.to_be_signed.as_slice());
        let event = convert::svid_issued(&self.call, planned, &origin, (found, &self.proved, ask), self.revision);
        record(tx, &self.outbox, &Draft { origin, ..draft.clone() }, event).await
    }

    /// What was issued for the same request, where it still works: only the answer was lost. Nobody else can use it, since the key of
    /// the request is needed.
    async fn again(&self, tx: &Tx, before: node_request::Model) -> TxResult<credential::Model, Fault> {
        let Self { ask, draft, room, .. } = self;
        let is_same = before.request_sha256 == ask.request_sha256;
        if !is_same || room.now.since(Timestamp::from_micros(before.made_at)) > AGAIN_UNTIL {
            let text = format!("the node used the request_id {} for another request, or too long ago", ask.request_id);
            return Err(flow(Fault::refused(&SVID_REQUEST_REUSED, text)));
        }
        let row = credential::by_id(tx, &before.credential_id).await?;
        let row = row.filter(|row| draft.plan.agent.as_ref().is_some_and(|agent| row.agent_id == agent.as_str()));
        let holder = row.as_ref().map(|row| row.spiffe_id.clone()).unwrap_or_default();
        let row = credential::good(row, &holder, draft.plan.lifecycle_version).map_err(flow)?;
        if !after_cutoff(Timestamp::from_micros(row.issued_at), room.cutoff) {
            let why = "the certificate of this request was cut off meanwhile";
            return Err(flow(Fault::refused(&CREDENTIAL_NOT_GOOD, why)));
        }
        let event = convert::svid_repeated(&self.call, &row, ask, room.now);
        self.outbox.record(tx, Standard::Ordinary, event).await?;
        Ok(row)
    }
}

/// Whether the holder may have something by attestation now.
pub(super) fn is_usable(holder: &Holder) -> bool {
    holder.means.list(CredentialMethod::Attestation)
}
