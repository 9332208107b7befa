//! An operator, or the agent that made another, lets one runtime of it enrol once.

use std::time::Duration;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_ids::{EnrolmentId, Principal, SpiffeId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_view::CredentialMethod;
use zeroize::Zeroizing;

use super::{Call, Desk, equip};
use crate::convert;
use crate::domain::holder::{self, Named, NoHolder};
use crate::domain::secret::{Secret, SecretKind};
use crate::error::of_tx;
use crate::store::enrolment;

const SHORTEST: Duration = Duration::from_secs(60);
const USUAL: Duration = Duration::from_secs(3600);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The token, shown this once.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) token: Secret,
    pub(crate) id: String,
    pub(crate) expires: Timestamp,
    pub(crate) spiffe_id: String,
}

/// Makes an enrolment token for an agent that is not retired, or for a declared enforcement point or node.
#[tracing::instrument(skip_all)]
pub(crate) async fn create_enrolment(
    desk: &Desk,
    call: &Call,
    named: Named,
    ttl: Option<Duration>,
    reason: String,
) -> Result<Created, Fault> {
    let ttl = ttl.unwrap_or(USUAL);
    if !(SHORTEST..=LONGEST).contains(&ttl) {
        return Err(Fault::invalid("ttl", "a token can be used for 1 min to 24 h"));
    }
    let (spiffe_id, namespace) = who(desk, call, &named).await?;
    let now = desk.clock.now();
    let secret = Secret::new(SecretKind::Enrolment, Zeroizing::new(Desk::random()?));
    let (pepper, mac) = desk.pepper.newest(&secret);
    let (agent_id, enforcer, node) = match &named {
        Named::Agent(id) => (id.to_string(), String::new(), String::new()),
        Named::EnforcementPoint { name, .. } => (String::new(), name.to_string(), String::new()),
        Named::Node { name, .. } => (String::new(), String::new(), name.to_string()),
    };
    let row = enrolment::Model {
        id: EnrolmentId::from_parts(Desk::millis(now), Desk::random()?).to_string(),
        mac,
        pepper,
        spiffe_id: spiffe_id.clone(),
        namespace,
        agent_id,
        enforcer,
        node,
        created_by: call.peer.id_text().to_owned(),
        created_at: now.micros(),
        expires_at: now.plus(ttl).micros(),
        spent_at: None,
        csr_sha256: None,
        credential_id: None,
    };
    let created =
        Created { token: secret, id: row.id.clone(), expires: Timestamp::from_micros(row.expires_at), spiffe_id };
    let created_event = convert::enrolment_created(call, &row, &reason, now);
    let events: Vec<_> = convert::broke_glass(call, now).into_iter().chain([created_event]).collect();
    let outbox = desk.outbox.clone();
    desk.db
        .tx("create_enrolment", move |tx| {
            let (row, outbox, events) = (row.clone(), outbox.clone(), events.clone());
            Box::pin(async move {
                enrolment::insert(tx, row).await?;
                for event in events {
                    outbox.record(tx, Standard::Ordinary, event).await?;
                }
                Ok(())
            })
        })
        .await
        .map_err(of_tx)?;
    Ok(created)
}

/// Whose runtime it is, where the caller may let it enrol.
async fn who(desk: &Desk, call: &Call, named: &Named) -> Result<(String, String), Fault> {
    let (found, _) = desk
        .look(|snapshot| match named {
            Named::Agent(id) => {
                let agent = equip::agent(desk, call, snapshot, id)?;
                // Earlier than when it is used, where it may have been changed again.
                holder::means(snapshot, agent)?.demand(CredentialMethod::EnrolmentToken)?;
                let namespace = &agent.label.namespace;
                Ok((SpiffeId::agent(&desk.domain, namespace, id).to_string(), namespace.to_string()))
            }
            Named::EnforcementPoint { .. } | Named::Node { .. }
                if matches!(call.peer.principal, Some(Principal::Agent { .. })) =>
            {
                Err(equip::not_its_own("an agent lets no enforcement point and no node enrol"))
            }
            Named::EnforcementPoint { namespace, name } => {
                let mandate = snapshot.mandate(&call.peer, call.emergency.as_deref(), desk.clock.now())?;
                mandate.demand(Right::Issue, Place::In(namespace.as_str()))?;
                snapshot
                    .enforcement_point(namespace.as_str(), name.as_str())
                    .ok_or_else(|| NoHolder::NoEnforcementPoint(namespace.clone(), name.clone()))?;
                let spiffe_id = SpiffeId::enforcer(&desk.domain, namespace, name);
                Ok((spiffe_id.to_string(), namespace.to_string()))
            }
            Named::Node { namespace, name } => {
                let mandate = snapshot.mandate(&call.peer, call.emergency.as_deref(), desk.clock.now())?;
                mandate.demand(Right::Issue, Place::In(namespace.as_str()))?;
                snapshot
                    .node(namespace.as_str(), name.as_str())
                    .ok_or_else(|| NoHolder::NoNode(namespace.clone(), name.clone()))?;
                Ok((SpiffeId::node(&desk.domain, namespace, name).to_string(), namespace.to_string()))
            }
        })
        .await?;
    Ok(found)
}
