//! An operator, or the agent that made another, lets one runtime of it enrol once.

use std::time::Duration;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_ids::{EnrolmentId, Principal};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_view::{Agent, AgentState, CredentialMethod, Snapshot, Stop};
use zeroize::Zeroizing;

use super::{Call, Desk};
use crate::convert;
use crate::domain::certificate::BadPlan;
use crate::domain::holder::{self, Named, NoHolder};
use crate::domain::secret::EnrolmentSecret;
use crate::error::{NOT_ITS_MAKER, of_tx};
use crate::store::enrolment;

const SHORTEST: Duration = Duration::from_secs(60);
const USUAL: Duration = Duration::from_secs(3600);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The token, shown this once.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) token: EnrolmentSecret,
    pub(crate) id: String,
    pub(crate) expires: Timestamp,
    pub(crate) spiffe_id: String,
}

/// Makes an enrolment token for an agent that is not retired, or for a declared enforcement point.
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
    let secret = EnrolmentSecret::new(Zeroizing::new(Desk::random()?));
    let (pepper, mac) = desk.pepper.newest(&secret);
    let (agent_id, enforcer) = match &named {
        Named::Agent(id) => (id.to_string(), String::new()),
        Named::EnforcementPoint { name, .. } => (String::new(), name.to_string()),
    };
    let row = enrolment::Model {
        id: EnrolmentId::from_parts(Desk::millis(now), Desk::random()?).to_string(),
        mac,
        pepper,
        spiffe_id: spiffe_id.clone(),
        namespace,
        agent_id,
        enforcer,
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

/// Whose runtime it is, where the caller may let it enrol: an agent that he may not see is not there.
///
/// Unlike for a certificate, the agent need not be ACTIVE yet: a token may be handed out before it is switched on.
async fn who(desk: &Desk, call: &Call, named: &Named) -> Result<(String, String), Fault> {
    use legate_ids::SpiffeId;
    let mandate = |snapshot: &Snapshot| snapshot.mandate(&call.peer, call.emergency.as_deref(), desk.clock.now());
    let (found, _) = desk
        .look(|snapshot| match named {
            Named::Agent(id) => {
                let agent = match &call.peer.principal {
                    // Whether there is such an agent at all is nobody's business but its maker's.
                    Some(Principal::Agent { namespace, id: maker, .. }) => snapshot
                        .agent(id)
                        .filter(|one| one.ancestors.first() == Some(maker) && one.label.namespace == *namespace)
                        .ok_or_else(|| not_own(named))?,
                    _ => {
                        let mandate = mandate(snapshot)?;
                        let is_seen = |one: &Agent| mandate.may(Right::Read, Place::In(one.label.namespace.as_str()));
                        let agent = snapshot.agent(id).filter(|one| is_seen(one));
                        let agent = agent.ok_or_else(|| NoHolder::NoAgent(id.clone()))?;
                        mandate.demand(Right::Issue, Place::In(agent.label.namespace.as_str()))?;
                        agent
                    }
                };
                if matches!(agent.state, AgentState::Retired | AgentState::Expired | AgentState::Unknown) {
                    return Err(NoHolder::NotActive(id.clone(), agent.state).into());
                }
                // Earlier than when it is used, where it may have been changed again.
                holder::means(snapshot, agent)?.demand(CredentialMethod::EnrolmentToken)?;
                let namespace = &agent.label.namespace;
                let now = desk.clock.now();
                let life = snapshot.life_of(agent, now);
                match life.stop {
                    // A resumption cuts off whatever was made during the suspension.
                    Some(Stop::Namespace) => return Err(NoHolder::NamespaceSuspended(namespace.clone()).into()),
                    Some(Stop::Class) => {
                        return Err(NoHolder::ClassSuspended(namespace.clone(), agent.class.clone()).into());
                    }
                    Some(Stop::Ancestor) => return Err(NoHolder::ParentStopped(id.clone()).into()),
                    Some(Stop::State(_) | Stop::Expired) | None => {}
                }
                if !legate_view::after_cutoff(now, life.class_cutoff.max(life.namespace_cutoff)) {
                    return Err(BadPlan::TooSoon.into());
                }
                let spiffe_id = SpiffeId::agent(&desk.domain, namespace, id);
                Ok((spiffe_id.to_string(), namespace.to_string()))
            }
            Named::EnforcementPoint { .. } if matches!(call.peer.principal, Some(Principal::Agent { .. })) => {
                Err(not_own(named))
            }
            Named::EnforcementPoint { namespace, name } => {
                mandate(snapshot)?.demand(Right::Issue, Place::In(namespace.as_str()))?;
                snapshot
                    .enforcement_point(namespace.as_str(), name.as_str())
                    .ok_or_else(|| NoHolder::NoEnforcementPoint(namespace.clone(), name.clone()))?;
                let spiffe_id = SpiffeId::enforcer(&desk.domain, namespace, name);
                Ok((spiffe_id.to_string(), namespace.to_string()))
            }
        })
        .await?;
    Ok(found)
}

fn not_own(named: &Named) -> Fault {
    let text = match named {
        Named::Agent(id) => format!("the caller made no agent {id}"),
        Named::EnforcementPoint { .. } => "an agent lets no enforcement point enrol".to_owned(),
    };
    Fault::refused(&NOT_ITS_MAKER, text)
}
