//! An approver decides what an agent asked for, or takes it back; exactly one decision of a request wins.

use std::sync::Arc;
use std::time::Duration;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::TxResult;
use legate_ids::{AgentId, ApprovalId, DecisionId, Name};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, Approval, ApprovalAgreement, ApprovalSpec, ApprovalState, Declaration};
use prost::Message;

use super::request_approval::{not_found, policies_of};
use super::write::{Put, Writing, check_etag};
use super::{Call, Desk, lineage, mandate, transition};
use crate::domain::approval::{self, LONGEST, SHORTEST};
use crate::domain::{check, review};
use crate::error::{APPROVAL_DECIDED, APPROVAL_OUTDATED, APPROVER_NOT_ANOTHER, SELF_APPROVAL};
use crate::store::{broken, object, refuse};

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is approved, for that long at most.
    Approve(Option<Duration>),
    /// It is denied.
    Deny,
    /// What was approved is taken back.
    Revoke,
}

impl Verdict {
    /// The name of its transaction.
    fn name(self) -> &'static str {
        match self {
            Self::Approve(_) => "grant_approval",
            Self::Deny => "deny_approval",
            Self::Revoke => "revoke_approval",
        }
    }

    fn right(self) -> Right {
        match self {
            Self::Approve(_) | Self::Deny => Right::Approve,
            Self::Revoke => Right::Stop,
        }
    }

    fn standard(self) -> Standard {
        match self {
            Self::Approve(_) => Standard::Ordinary,
            Self::Deny | Self::Revoke => Standard::Stopping,
        }
    }
}

/// Which approval is meant, as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    pub(crate) id: ApprovalId,
    pub(crate) etag: String,
}

/// The shorter time that an approver gives.
pub(crate) fn narrowed(duration: Option<prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    let Some(duration) = duration else { return Ok(None) };
    let good = Duration::try_from(duration).ok().filter(|one| (SHORTEST..=LONGEST).contains(one));
    good.map(Some).ok_or_else(|| Fault::invalid("duration", "is out of range; give 1 minute to 24 hours"))
}

/// Decides; `answer` makes the answer of the approval as it is then and the revision.
#[tracing::instrument(skip_all, fields(legate.verdict = verdict.name()))]
pub(crate) async fn decide<M: Message + Default + 'static>(
    desk: &Arc<Desk>,
    call: Call,
    which: Which,
    verdict: Verdict,
    answer: fn(Approval, u64) -> M,
) -> Result<M, Fault> {
    super::refusal(check::check_reason(&call.by.reason, true))?;
    let which = Arc::new(which);
    desk.write(verdict.name(), verdict.standard(), call, move |writing| {
        let which = Arc::clone(&which);
        Box::pin(async move {
            let (current, approval) = find_to(writing, &which, verdict.right()).await?;
            check_turn(&approval, verdict, writing.now).map_err(refuse)?;
            let approval = match verdict {
                Verdict::Approve(narrowed) => approve(writing, current, approval, narrowed).await?,
                Verdict::Deny => end(writing, current, End::Denied).await?,
                Verdict::Revoke => end(writing, current, End::Revoked).await?,
            };
            Ok(answer(approval, writing.revision()))
        })
    })
    .await
}

/// The approval, by who may; one that he may not see is not there.
async fn find_to(writing: &mut Writing<'_>, which: &Which, right: Right) -> TxResult<(Declaration, Approval), Fault> {
    let row = object::by_id(writing.tx, which.id.as_str()).await?;
    let row = row.filter(|row| writing.mandate.may(Right::Read, Place::of(&row.namespace)));
    let row = row.ok_or_else(|| refuse(not_found(&which.id)))?;
    let current = row.declaration()?;
    let Some(Object::Approval(approval)) = current.object.clone() else { return Err(refuse(not_found(&which.id))) };
    writing.demand(right, Place::of(&row.namespace)).map_err(refuse)?;
    check_etag(&current, &which.etag).map_err(refuse)?;
    Ok((current, approval))
}

/// Whether there is still something to decide.
fn check_turn(approval: &Approval, verdict: Verdict, now: Timestamp) -> Result<(), Fault> {
    let state = approval::state(approval);
    let fits = match verdict {
        Verdict::Approve(_) | Verdict::Deny => state == ApprovalState::Pending,
        Verdict::Revoke => state == ApprovalState::Approved,
    };
    if fits && !approval::is_over(approval, now) {
        return Ok(());
    }
    let state = if fits { over(state) } else { state };
    let word = approval::word(state);
    Err(Fault::refused(&APPROVAL_DECIDED, format!("it is {word}")).with("state", word))
}

/// What becomes of what is over.
fn over(state: ApprovalState) -> ApprovalState {
    if state == ApprovalState::Pending { ApprovalState::Expired } else { ApprovalState::Ended }
}

async fn approve(
    writing: &mut Writing<'_>,
    current: Declaration,
    mut approval: Approval,
    narrowed: Option<Duration>,
) -> TxResult<Approval, Fault> {
    let spec = approval.spec.clone().ok_or_else(|| broken("an approval of nothing"))?;
    let id = AgentId::parse(&spec.agent_id).map_err(broken)?;
    // Whoever is no longer what it was when it asked is not let do what it asked for.
    let outdated = |text: String| refuse(Fault::refused(&APPROVAL_OUTDATED, text));
    let standing = lineage::standing_of(writing.tx, &id, writing.now).await;
    let standing = standing.map_err(|e| match e {
        legate_db::TxError::Flow(fault @ Fault::Refused(_)) => outdated(fault.to_string()),
        other => other,
    })?;
    if !standing.asked_in_this_life(&approval, writing.now) {
        return Err(outdated("the agent, or one above it, was stopped or cut off since it asked".into()));
    }
    let agent = standing.caller().map_err(refuse)?.clone();
    refuse_same_hand(writing, &agent, &spec, &writing.by.actor).await?;
    let namespace = current.metadata().map(|m| m.namespace.clone()).unwrap_or_default();
    if let Some(held) = approval::outdated(&spec, &policies_of(writing.tx, &namespace).await?) {
        return Err(outdated(format!("the policy {} is no longer in force at version {}", held.name, held.version)));
    }
    let status = approval.status.get_or_insert_default();
    let mut agreements = Vec::new();
    for agreed in std::mem::take(&mut status.agreements) {
        if agreed.approver == writing.by.actor {
            let text = format!("{} agreed already; it takes {} people", agreed.approver, approval::approvers(&spec));
            return Err(refuse(Fault::refused(&APPROVER_NOT_ANOTHER, text)));
        }
        // What somebody agreed to counts as long as he could agree to it now.
        if may_still(writing, &namespace, &agent, &spec, &agreed.approver).await? {
            agreements.push(agreed);
        }
    }
    agreements.push(ApprovalAgreement {
        approver: writing.by.actor.clone(),
        time: Some(writing.now.into()),
        reason: writing.by.reason.clone(),
        duration: narrowed.and_then(|narrowed| narrowed.try_into().ok()),
    });
    let is_enough = agreements.len() >= approval::approvers(&spec);
    let spans = agreements.iter().filter_map(|one| one.duration.and_then(|span| Duration::try_from(span).ok()));
    let narrowed = spans.min();
    status.agreements = agreements;
    if is_enough {
        let (from, to) = approval::window(&spec, narrowed, &standing.namespace, writing.now);
        status.state = ApprovalState::Approved.into();
        (status.not_before, status.not_after) = (Some(from.into()), Some(to.into()));
        decided(writing, status);
    }
    let asked = current.metadata().and_then(|m| m.create_time);
    let wanted = Declaration { object: Some(Object::Approval(approval)) };
    let verb = if is_enough { "approved" } else { "agreed" };
    let written = writing.put(wanted, Some(&current), verb, &[]).await?;
    if is_enough {
        writing.desk.metrics.approval("APPROVED", since(asked, writing.now));
    }
    match written.object {
        Some(Object::Approval(approval)) => Ok(approval),
        _ => Err(broken("an approval was written and is none")),
    }
}

/// Refuses whoever made the agent what it is, and an owner of it where the policies say so.
async fn refuse_same_hand(writing: &Writing<'_>, agent: &Agent, spec: &ApprovalSpec, who: &str) -> TxResult<(), Fault> {
    let declared = Declaration { object: Some(Object::Agent(agent.clone())) };
    transition::refuse_self_approval(writing.tx, &declared, who).await?;
    let owners = agent.spec.iter().flat_map(|spec| &spec.owners);
    let is_own =
        |owner: &String| review::operators_of(owner, &[]).iter().any(|name| Some(name.as_str()) == name_of(who));
    if spec.bars_owners && owners.into_iter().any(is_own) {
        let text = format!("{who} owns the agent, and a policy says that no owner approves this");
        return Err(refuse(Fault::refused(&SELF_APPROVAL, text)));
    }
    Ok(())
}

/// The name of an operator, by the SPIFFE ID.
fn name_of(operator: &str) -> Option<&str> {
    operator.rsplit_once("/legate/operator/").map(|(_, name)| name)
}

/// Whether whoever agreed before could do so now: he has the right still, and had no hand in the agent since.
async fn may_still(
    writing: &Writing<'_>,
    namespace: &str,
    agent: &Agent,
    spec: &ApprovalSpec,
    who: &str,
) -> TxResult<bool, Fault> {
    let Some(name) = name_of(who).and_then(|name| Name::parse(name).ok()) else { return Ok(false) };
    let (operators, _) = mandate::read(writing.tx).await?;
    if !operators.rights(&name, writing.now).may(Right::Approve, Place::of(namespace)) {
        return Ok(false);
    }
    match refuse_same_hand(writing, agent, spec, who).await {
        Ok(()) => Ok(true),
        Err(legate_db::TxError::Flow(Fault::Refused(_))) => Ok(false),
        Err(e) => Err(e),
    }
}

fn decided(writing: &Writing<'_>, status: &mut legate_wire::registry::ApprovalStatus) {
    status.decided_by.clone_from(&writing.by.actor);
    status.decide_reason.clone_from(&writing.by.reason);
    status.decide_time = Some(writing.now.into());
}

fn since(asked: Option<prost_types::Timestamp>, now: Timestamp) -> Duration {
    asked.and_then(|at| Timestamp::try_from(at).ok()).map(|at| now.since(at)).unwrap_or_default()
}

/// How a request or an approval ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// An approver denied it.
    Denied,
    /// It was taken back, or nobody is there any more who asked.
    Revoked,
    /// The agent took it back.
    Cancelled,
    /// Its time is over.
    Over,
    /// It counted once, and this decision used it up.
    Used(DecisionId),
}

/// Ends one: it is no longer in force, and says why.
pub(crate) async fn end(writing: &mut Writing<'_>, current: Declaration, how: End) -> TxResult<Approval, Fault> {
    let Some(Object::Approval(mut approval)) = current.object.clone() else {
        return Err(broken("an approval's row holds no approval"));
    };
    let before = approval::state(&approval);
    let asked = approval.metadata.as_ref().and_then(|m| m.create_time);
    let status = approval.status.get_or_insert_default();
    let (state, verb) = match &how {
        End::Denied => (ApprovalState::Denied, "denied"),
        End::Revoked => (ApprovalState::Revoked, "revoked"),
        End::Cancelled => (ApprovalState::Cancelled, "cancelled"),
        End::Over if before == ApprovalState::Pending => (ApprovalState::Expired, "expired"),
        End::Over => (ApprovalState::Ended, "ended"),
        End::Used(_) => (ApprovalState::Used, "used"),
    };
    status.state = state.into();
    if how == End::Denied {
        decided(writing, status);
    }
    if let End::Used(by) = &how {
        status.used_by = by.to_string();
    }
    status.ended_by.clone_from(&writing.by.actor);
    status.end_reason.clone_from(&writing.by.reason);
    status.end_time = Some(writing.now.into());
    let declaration = Declaration { object: Some(Object::Approval(approval)) };
    let put = Put { declaration, before: Some(&current), revoked: true, verb, fields: &[] };
    let written = writing.put_all(vec![put]).await?.pop();
    if before == ApprovalState::Pending {
        writing.desk.metrics.approval(approval::word(state), since(asked, writing.now));
    }
    match written.and_then(|written| written.object) {
        Some(Object::Approval(approval)) => Ok(approval),
        _ => Err(broken("an approval was written and is none")),
    }
}

/// An approval as it is told: what is over by the clock is over, whether or not the sweep was there.
pub(crate) fn told(mut approval: Approval, now: Timestamp) -> Approval {
    let state = approval::state(&approval);
    if approval::is_open(state) && approval::is_over(&approval, now) {
        approval.status.get_or_insert_default().state = over(state).into();
    }
    approval
}
