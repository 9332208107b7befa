//! A process that a node attested gets a JWT-SVID: who it is, said to others that take such tokens.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::{InstanceId, Name, SpiffeId};
use legate_rpc::Fault;
use legate_view::CredentialMethod;

use super::attest::{self, Believed};
use super::attested::{Proved, Shown};
use super::{Call, Desk, instances};
use crate::convert;
use crate::domain::holder::Named;
use crate::domain::instance::State;
use crate::domain::keyring::KeyUse;
use crate::domain::svid::{self, SvidBase, SvidWish};
use crate::domain::token::BadToken;
use crate::error::{CREDENTIAL_NOT_GOOD, INSTANCE_NOT_FOUND, of_tx};
use crate::store::instance;
use crate::store::recorded::record_svid;

/// An instance that a node attested, and what is asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) instance: InstanceId,
    pub(crate) shown: Shown,
    pub(crate) wish: SvidWish,
}

/// A JWT-SVID that is signed.
pub(crate) struct IssuedSvid {
    pub(crate) svid: String,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) expires: Timestamp,
}

impl std::fmt::Debug for IssuedSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuedSvid({}, hidden)", self.spiffe_id)
    }
}

/// Issues a JWT-SVID to an instance that the calling node attested.
#[tracing::instrument(skip_all, fields(legate.instance = %ask.instance))]
pub(crate) async fn issue(desk: &Desk, call: &Call, ask: Ask) -> Result<IssuedSvid, Fault> {
    let (row, found) = match find(desk, call, &ask).await {
        Ok(found) => found,
        Err(fault) => {
            desk.note_refusal(call, "svid", attest::about(call, None), &fault).await;
            return Err(fault);
        }
    };
    let result = attempt(desk, call, &ask, row, &found).await;
    match &result {
        Ok(_) => desk.metrics.issued("jwt_svid"),
        Err(fault) => {
            let (_, believed, _) = &found;
            let namespace = &believed.policy.label.namespace;
            let id = SpiffeId::agent(&desk.domain, namespace, &believed.agent);
            let its = attest::about(call, Some((&id, namespace, believed.agent.as_str())));
            desk.note_refusal(call, "svid", its, fault).await;
        }
    }
    result
}

/// The instance, where the calling node attested it, and the policy by which it did, where that still believes the node.
async fn find(desk: &Desk, call: &Call, ask: &Ask) -> Result<(instance::Model, (Proved, Believed, u64)), Fault> {
    let row = attested_by(desk, call, &ask.instance).await?;
    let (namespace, policy) = row.attestation_policy.split_once('/').unwrap_or_default();
    let name = |text: &str| Name::parse(text).map_err(Fault::broken);
    let place = (name(namespace)?, name(policy)?);
    let found = attest::accepted(desk, call, (&place.0, &place.1), &ask.shown).await?;
    if found.1.agent.as_str() != row.agent_id {
        let text = format!("the attestation policy {} is for another agent now", row.attestation_policy);
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, text));
    }
    Ok((row, found))
}

/// An instance that the calling node attested; another's is not there.
pub(super) async fn attested_by(desk: &Desk, call: &Call, id: &InstanceId) -> Result<instance::Model, Fault> {
    let ((node, since), _) = desk
        .look(|snapshot| {
            attest::node(call, snapshot, desk.clock.now()).map(|node| (attest::named(node), node.label.created))
        })
        .await?;
    let text = id.to_string();
    let row = desk.db.read("find_instance", move |tx| {
        let id = text.clone();
        Box::pin(async move { instance::by_id(tx, &id).await })
    });
    let row = row.await.map_err(of_tx)?.filter(|row| row.is_attested_by(&node, since));
    row.ok_or_else(|| Fault::refused(&INSTANCE_NOT_FOUND, format!("no instance {id} of this node")))
}

async fn attempt(
    desk: &Desk,
    call: &Call,
    ask: &Ask,
    row: instance::Model,
    (proved, found, seen): &(Proved, Believed, u64),
) -> Result<IssuedSvid, Fault> {
    let named = Named::Agent(found.agent.clone());
    let (holder, revision) = desk.holder_past_cutoff(&named, Some(&ask.instance)).await?;
    holder.means.demand(CredentialMethod::Attestation)?;
    attest::demand_of_this_life(&holder, proved)?;
    let judged = instances::judged(desk, vec![row]).await?.pop();
    let (row, state) = judged.ok_or_else(|| Fault::broken("an instance was read and is not there"))?;
    if state != State::Live {
        let text = format!("the instance {} is {state:?}; only a LIVE one gets JWT-SVIDs", ask.instance);
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, text));
    }
    let now = desk.clock.now();
    let base = SvidBase {
        issuer: desk.svid_issuer(),
        kid: desk.keys.active(KeyUse::JwtSvids)?.public.kid(),
        token_id: Desk::random()?,
        certificate_ends: Timestamp::from_micros(row.ends_at),
    };
    let plan = svid::plan(&holder, &ask.wish, now, base).map_err(|e| match e {
        BadToken::Claims(e) => Fault::invalid("audiences", e.to_string()),
        e => e.into(),
    })?;
    let event = convert::jwt_svid_issued(call, (&holder, &plan), (found, proved), revision.max(*seen), now);
    let (instance, by) = (ask.instance.to_string(), Arc::clone(&call.peer));
    let recorded = record_svid(&desk.db, &desk.outbox, plan, instance, by, event).await.map_err(of_tx)?;
    // A suspension that came in between is seen here.
    desk.still(&holder, &named)?;
    attest::still(desk, call, found, proved)?;
    let plan = recorded.into_plan();
    let signature = desk.keys.sign(KeyUse::JwtSvids, plan.unsigned.kid(), plan.unsigned.input()).await?;
    Ok(IssuedSvid {
        svid: plan.unsigned.with_signature(&signature),
        spiffe_id: plan.claims.subject,
        expires: Timestamp::from_secs(i64::try_from(plan.claims.expires_at).unwrap_or(i64::MAX)),
    })
}
