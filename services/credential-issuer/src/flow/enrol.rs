//! A stranger becomes an agent: a one-time token and a proved key for a certificate.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, InstanceId, Name, SpiffeId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_view::CredentialMethod;
use legate_wire::audit::AuditEvent;

use super::{Call, Desk};
use crate::convert;
use crate::domain::holder::Named;
use crate::domain::instance::Proof;
use crate::domain::secret::{Secret, SecretKind};
use crate::error::{
    CREDENTIAL_NOT_GOOD, ENROLMENT_TOKEN_EXPIRED, ENROLMENT_TOKEN_INVALID, ENROLMENT_TOKEN_SPENT, flow, of_tx,
};
use crate::store::credential::{self, sha256};
use crate::store::instance::{self, Room};
use crate::store::recorded::{Draft, committed, record};
use crate::store::{Recorded, enrolment, key};

const ENROL: &str = "/legate.credential.v1.EnrolmentService/Enrol";
/// A lost answer can be asked for again after this, so that of many who come at once still only one wins.
const AGAIN_FROM: Duration = Duration::from_secs(2);
/// And until this.
const AGAIN_UNTIL: Duration = Duration::from_secs(300);

/// Trades a token and a certificate request for a certificate.
#[tracing::instrument(skip_all)]
pub(crate) async fn enrol(desk: &Desk, call: &Call, token: &str, csr: &[u8]) -> Result<credential::Model, Fault> {
    let row = match find(desk, token).await {
        Ok(row) => row,
        Err(fault) => {
            desk.turn_away(call, ENROL, "enrolment", &fault);
            return Err(fault);
        }
    };
    let result = spend(desk, call, &row, csr).await;
    match &result {
        Ok(_) => desk.metrics.issued("enrolment"),
        Err(fault) => {
            let spiffe_id = SpiffeId::parse(&row.spiffe_id).map_err(Fault::broken)?;
            let namespace = Name::parse(&row.namespace).map_err(Fault::broken)?;
            let about = Some((&spiffe_id, &namespace, row.agent_id.as_str()));
            desk.note_refusal(call, "enrolment", about, fault).await;
        }
    }
    result
}

async fn find(desk: &Desk, token: &str) -> Result<enrolment::Model, Fault> {
    let invalid = || Fault::refused(&ENROLMENT_TOKEN_INVALID, "this is no enrolment token of ours");
    let secret = Secret::parse(SecretKind::Enrolment, token).ok_or_else(invalid)?;
    let macs = desk.pepper.all(&secret);
    let row = desk.db.read("find_enrolment", |tx| Box::pin(enrolment::find(tx, macs))).await;
    row.map_err(of_tx)?.ok_or_else(invalid)
}

async fn spend(desk: &Desk, call: &Call, row: &enrolment::Model, csr: &[u8]) -> Result<credential::Model, Fault> {
    let named = named(row)?;
    let csr_sha256 = sha256(csr);
    if let Some(spent_at) = row.spent_at {
        let is_same = row.csr_sha256.as_deref() == Some(&csr_sha256[..]);
        if !is_same || !may_repeat(desk, spent_at) {
            return Err(spent());
        }
        let spent = Spent {
            named: &named,
            credential_id: row.credential_id.as_deref().unwrap_or_default(),
            token_made: Timestamp::from_micros(row.created_at),
            event: convert::enrolment_repeated(call, row, desk.clock.now()),
        };
        return repeat(desk, spent).await;
    }
    if row.expires_at <= desk.clock.now().micros() {
        return Err(Fault::refused(&ENROLMENT_TOKEN_EXPIRED, "the enrolment token has expired"));
    }

    let copy = new_copy(desk, &named)?;
    let (holder, revision) = desk.holder_past_cutoff(&named, copy.as_ref()).await?;
    holder.means.demand(CredentialMethod::EnrolmentToken)?;
    if !holder.cutoffs.spare(Timestamp::from_micros(row.created_at)) {
        let why = "the enrolment token was made before the agent was last stopped, or for an earlier enforcement point or node of the name";
        return Err(Fault::refused(&ENROLMENT_TOKEN_EXPIRED, why));
    }
    let owner = holder.spiffe_id.without_instance();
    let now = desk.clock.now();
    let (plan, to_be_signed) = desk.planned(&holder, (csr, &owner), now)?;
    let event = convert::credential_issued(call, &plan, &to_be_signed, &row.id, revision);
    let draft = Draft { plan, to_be_signed, origin: row.id.clone() };
    let proof = Proof::EnrolmentToken(row.id.clone());
    let room = Room { most: holder.max_instances, cutoff: holder.cutoffs.latest(), now };

    let (id, outbox) = (row.id.clone(), desk.outbox.clone());
    let recorded = committed(&desk.db, "enrol", move |tx| {
        let (id, outbox, draft, event) = (id.clone(), outbox.clone(), draft.clone(), event.clone());
        let (owner, proof) = (owner.clone(), proof.clone());
        Box::pin(async move {
            let credential = draft.plan.credential.as_str();
            if !enrolment::spend(tx, &id, now, &csr_sha256, credential).await? {
                return Err(flow(spent()));
            }
            instance::start(tx, &draft.plan, &proof, room).await?;
            let key_sha256 = sha256(draft.plan.key.as_sec1());
            key::bind(tx, &key_sha256, owner.as_str()).await?;
            record(tx, &outbox, &draft, event).await
        })
    })
    .await
    .map_err(of_tx)?;
    let issued = desk.sign(recorded).await?;
    desk.still(&holder, &named)?;
    Ok(issued)
}

/// Whoever enrols as an agent is a new running copy of it.
pub(super) fn new_copy(desk: &Desk, named: &Named) -> Result<Option<InstanceId>, Fault> {
    match named {
        Named::Agent(_) => Ok(Some(InstanceId::from_parts(Desk::millis(desk.clock.now()), Desk::random()?))),
        Named::EnforcementPoint { .. } | Named::Node { .. } => Ok(None),
    }
}

/// Whether a token that was spent then may be sent again now, with the same request, for the same certificate.
pub(super) fn may_repeat(desk: &Desk, spent_at: i64) -> bool {
    let since = desk.clock.now().since(Timestamp::from_micros(spent_at));
    (AGAIN_FROM..=AGAIN_UNTIL).contains(&since)
}

/// What became of a token that is sent again.
pub(super) struct Spent<'a> {
    pub(super) named: &'a Named,
    pub(super) credential_id: &'a str,
    /// When the token was made: what was made before a stop works no more.
    pub(super) token_made: Timestamp,
    pub(super) event: AuditEvent,
}

/// Gives the certificate of a token that was spent with the same request: only the answer was lost. Nobody else can
/// use it, since the request's key is needed.
pub(super) async fn repeat(desk: &Desk, spent: Spent<'_>) -> Result<credential::Model, Fault> {
    let id = spent.credential_id.to_owned();
    let known = desk.db.read("enrolled_credential", |tx| {
        let id = id.clone();
        Box::pin(async move { credential::by_id(tx, &id).await })
    });
    let copy = known.await.map_err(of_tx)?.map(|row| row.instance_id).filter(|copy| !copy.is_empty());
    let copy = copy.map(|copy| InstanceId::parse(&copy)).transpose().map_err(Fault::broken)?;
    let (holder, _) = desk.holder(spent.named, copy.as_ref()).await?;
    if !holder.cutoffs.spare(spent.token_made) {
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, "the certificate of this token was cut off meanwhile"));
    }
    let event = spent.event;
    let (outbox, spiffe_id, version) = (desk.outbox.clone(), holder.spiffe_id.to_string(), holder.lifecycle_version);
    let credential = desk
        .db
        .tx("repeat_enrolment", move |tx| {
            let (id, outbox, event, spiffe_id) = (id.clone(), outbox.clone(), event.clone(), spiffe_id.clone());
            Box::pin(async move {
                let row = credential::by_id(tx, &id).await?;
                let row = credential::good(row, &spiffe_id, version).map_err(flow)?;
                outbox.record(tx, Standard::Ordinary, event).await?;
                Ok(row)
            })
        })
        .await
        .map_err(of_tx)?;
    let credential = match Recorded::read_back(credential.clone()) {
        Some(recorded) => desk.sign(recorded).await?,
        None => credential,
    };
    desk.still(&holder, spent.named)?;
    Ok(credential)
}

fn spent() -> Fault {
    Fault::refused(&ENROLMENT_TOKEN_SPENT, "the enrolment token was used before")
}

fn named(row: &enrolment::Model) -> Result<Named, Fault> {
    let name = |text: &str| Name::parse(text).map_err(Fault::broken);
    match (row.agent_id.as_str(), row.node.as_str()) {
        ("", "") => Ok(Named::EnforcementPoint { namespace: name(&row.namespace)?, name: name(&row.enforcer)? }),
        ("", node) => Ok(Named::Node { namespace: name(&row.namespace)?, name: name(node)? }),
        (agent, _) => AgentId::parse(agent).map(Named::Agent).map_err(Fault::broken),
    }
}
