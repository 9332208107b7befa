//! A stranger becomes an agent or a node by the word of an issuer outside: its token and a proved key for a certificate.

use legate_ids::Name;
use legate_rpc::Fault;
use legate_view::CredentialMethod;

use super::enrol::{Spent, may_repeat, new_copy, repeat};
use super::foreign::{self, Evidence, Proven};
use super::{Call, Desk};
use crate::convert;
use crate::domain::foreign::StandsFor;
use crate::domain::holder::{Holder, Named};
use crate::domain::instance::Proof;
use crate::domain::token::hex;
use crate::error::{IDENTITY_TOKEN_REFUSED, IDENTITY_TOKEN_SPENT, IDENTITY_TOKEN_UNMATCHED, flow, of_tx};
use crate::store::credential::{self, sha256};
use crate::store::instance::{self, Room};
use crate::store::recorded::{Draft, committed, record};
use crate::store::{key, used_token};

const ENROL: &str = "/legate.credential.v1.EnrolmentService/EnrolWithIdentityToken";

/// Trades a token of a trusted issuer and a certificate request for a certificate of the agent or node for which the token stands.
#[tracing::instrument(skip_all, fields(legate.namespace = %namespace))]
pub(crate) async fn enrol(
    desk: &Desk,
    call: &Call,
    namespace: &str,
    token: &str,
    csr: &[u8],
) -> Result<credential::Model, Fault> {
    let (named, evidence, revision) = match who(desk, namespace, token).await {
        Ok(found) => found,
        Err(fault) => {
            desk.turn_away(call, ENROL, "identity_enrolment", &fault);
            return Err(fault);
        }
    };
    let result = use_once(desk, call, &named, &evidence, revision, csr).await;
    match &result {
        Ok(_) => desk.metrics.issued("identity_enrolment"),
        Err(fault) => {
            // Where the agent cannot be found any more there is nobody to name.
            let about = desk.holder(&named, None).await.ok().map(|(holder, _)| holder);
            let about = about.as_ref().map(about_agent);
            desk.note_refusal(call, "identity_enrolment", about, fault).await;
        }
    }
    result
}

fn about_agent(holder: &Holder) -> (&legate_ids::SpiffeId, &Name, &str) {
    (&holder.spiffe_id, &holder.namespace, holder.agent.as_ref().map_or("", |agent| agent.as_str()))
}

async fn who(desk: &Desk, namespace: &str, token: &str) -> Result<(Named, Evidence, u64), Fault> {
    let (Proven { stands_for, evidence, .. }, revision) = foreign::prove(desk, namespace, token).await?;
    match stands_for {
        StandsFor::Agent(id) => Ok((Named::Agent(id), evidence, revision)),
        StandsFor::Node(namespace, name) => Ok((Named::Node { namespace, name }, evidence, revision)),
        StandsFor::Person(_) => Err(Fault::refused(
            &IDENTITY_TOKEN_UNMATCHED,
            "the token stands for a person, and only agents and nodes enrol",
        )),
    }
}

async fn use_once(
    desk: &Desk,
    call: &Call,
    named: &Named,
    evidence: &Evidence,
    seen: u64,
    csr: &[u8],
) -> Result<credential::Model, Fault> {
    let csr_sha256 = sha256(csr);
    let once = evidence.once;
    let used = desk.db.read("find_used_token", move |tx| Box::pin(async move { used_token::find(tx, &once).await }));
    if let Some(used) = used.await.map_err(of_tx)? {
        if used.request_sha256 != csr_sha256 || used.credential_id.is_empty() || !may_repeat(desk, used.used_at) {
            return Err(spent());
        }
        let event = convert::identity_enrolment_repeated(call, Some(named), evidence, &used, desk.clock.now());
        let again = Spent { named, credential_id: &used.credential_id, token_made: evidence.issued, event };
        let row = repeat(desk, again).await?;
        foreign::still(desk, evidence)?;
        return Ok(row);
    }

    let copy = new_copy(desk, named)?;
    let (holder, revision) = desk.holder_past_cutoff(named, copy.as_ref()).await?;
    holder.means.demand(CredentialMethod::TrustedIssuer)?;
    if !holder.cutoffs.spare(evidence.issued) {
        let why = "the token was made before the agent, its class or its namespace was last stopped";
        return Err(Fault::refused(&IDENTITY_TOKEN_REFUSED, why));
    }
    let owner = holder.spiffe_id.without_instance();
    let now = desk.clock.now();
    let (plan, to_be_signed) = desk.planned(&holder, (csr, &owner), now)?;
    let origin = hex(&evidence.once);
    let event = convert::credential_issued(call, &plan, &to_be_signed, &origin, revision.max(seen));
    let event = convert::with_evidence(event, evidence);
    let used = evidence.used(now, &csr_sha256, plan.credential.as_str());
    let proof = Proof::IdentityToken(origin.clone());
    let room = Room { most: holder.max_instances, cutoff: holder.cutoffs.latest(), now };
    let most = evidence.most_used;
    let draft = Draft { plan, to_be_signed, origin };

    let outbox = desk.outbox.clone();
    let recorded = committed(&desk.db, "enrol_by_identity", move |tx| {
        let (used, outbox, draft, event) = (used.clone(), outbox.clone(), draft.clone(), event.clone());
        let (owner, proof) = (owner.clone(), proof.clone());
        Box::pin(async move {
            if !used_token::spend(tx, used, most).await? {
                return Err(flow(spent()));
            }
            instance::start(tx, &draft.plan, &proof, room).await?;
            key::bind(tx, &sha256(draft.plan.key.as_sec1()), owner.as_str()).await?;
            record(tx, &outbox, &draft, event).await
        })
    })
    .await
    .map_err(of_tx)?;
    let issued = desk.sign(recorded).await?;
    desk.still(&holder, named)?;
    foreign::still(desk, evidence)?;
    Ok(issued)
}

fn spent() -> Fault {
    Fault::refused(&IDENTITY_TOKEN_SPENT, "the identity token was used before")
}
