//! An agent asks a person for what a policy holds back, sees what became of it, and takes it back.

use std::sync::Arc;
use std::time::Duration;

use legate_db::{Tx, TxResult};
use legate_ids::{Action, AgentId, ApprovalId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Approval, ApprovalChannel, ApprovalSpec, ApprovalState, ApprovalStatus, CancelApprovalResponse, Declaration,
    GetOwnApprovalResponse, Kind, ListOwnApprovalsResponse, Metadata, Policy, RequestApprovalRequest,
    RequestApprovalResponse,
};

use super::decide_approval::{self, End};
use super::lineage::{self, Calling, Standing};
use super::write::Writing;
use super::{Call, Desk};
use crate::domain::approval::{self, MOST_A_MINUTE, MOST_OPEN, MOST_PENDING, USUAL_PATIENCE};
use crate::domain::check;
use crate::error::{APPROVAL_DECIDED, APPROVAL_NOT_FOUND, APPROVAL_NOT_NEEDED, TOO_MANY_APPROVALS, of_tx};
use crate::store::{broken, head, object, reference, refuse};

/// Policies and enforcement points of one namespace that are looked at; it can hold no more.
const MOST_DECLARED: u64 = 10_000;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// The agent itself, over its certificate.
    Calling(Calling),
    /// An agent that credential-issuer authenticated.
    Relayed(AgentId),
}

impl Asker {
    async fn standing(&self, tx: &Tx, now: legate_clock::Timestamp) -> TxResult<Standing, Fault> {
        match self {
            Self::Calling(calling) => lineage::standing(tx, calling, now).await,
            Self::Relayed(id) => lineage::standing_of(tx, id, now).await,
        }
    }

    fn channel(&self) -> ApprovalChannel {
        match self {
            Self::Calling(_) => ApprovalChannel::Grpc,
            Self::Relayed(_) => ApprovalChannel::Ciba,
        }
    }
}

/// The id in a request.
pub(crate) fn id(text: &str) -> Result<ApprovalId, Fault> {
    ApprovalId::parse(text).map_err(|e| Fault::invalid("approval_id", e.to_string()))
}

/// Asks.
#[tracing::instrument(skip_all)]
pub(crate) async fn ask(
    desk: &Arc<Desk>,
    call: Call,
    asker: Asker,
    ask: RequestApprovalRequest,
) -> Result<RequestApprovalResponse, Fault> {
    super::refusal(check::check_approval(&ask))?;
    let ask = Arc::new((ask, asker));
    desk.write("request_approval", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (ask, asker) = &*ask;
            let standing = asker.standing(writing.tx, writing.now).await?;
            let open = open_of(writing.tx, &standing).await?;
            for same in open.iter().filter(|one| is_same(one, ask) && !approval::is_over(one, writing.now)) {
                if is_current(writing, &standing, same).await? {
                    return Ok(RequestApprovalResponse { approval: Some(same.clone()), revision: writing.revision() });
                }
            }
            check_room(writing, &standing, &open).map_err(refuse)?;
            let wanted = wanted(writing, &standing, asker, ask).await?;
            let declaration = Declaration { object: Some(Object::Approval(wanted)) };
            let approval = match writing.put(declaration, None, "requested", &[]).await?.object {
                Some(Object::Approval(approval)) => Some(approval),
                _ => return Err(broken("an approval was written and is none")),
            };
            Ok(RequestApprovalResponse { approval, revision: writing.revision() })
        })
    })
    .await
}

/// Whether a pending request asks for this already.
fn is_same(one: &Approval, ask: &RequestApprovalRequest) -> bool {
    let spec = one.spec.as_ref();
    approval::state(one) == ApprovalState::Pending
        && spec.is_some_and(|spec| {
            (&spec.permissions, &spec.audience, &spec.purpose, &spec.binding_message)
                == (&ask.permissions, &ask.audience, &ask.purpose, &ask.binding_message)
                && ask.duration.is_none_or(|asked| spec.duration == Some(asked))
        })
}

/// Whether a pending request asks for what would be asked for now: after a stop nobody can approve it any more, nor after a
/// policy was changed, and one that was declared since it does not lift.
async fn is_current(writing: &Writing<'_>, standing: &Standing, one: &Approval) -> TxResult<bool, Fault> {
    let Some(spec) = one.spec.as_ref().filter(|_| standing.asked_in_this_life(one, writing.now)) else {
        return Ok(false);
    };
    let actions: Vec<Action> = spec.permissions.iter().filter_map(|one| Action::parse(&one.action).ok()).collect();
    let namespace = one.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
    let policies = policies_of(writing.tx, namespace).await?;
    Ok(approval::held(&standing.namespace, &policies, &actions).is_ok_and(|held| held == spec.policies))
}

/// The caller's requests that are pending or approved, the oldest first.
async fn open_of(tx: &Tx, standing: &Standing) -> TxResult<Vec<Approval>, Fault> {
    let own = standing.caller().map_err(refuse)?.metadata.clone().unwrap_or_default();
    let key = approval::of_agent(&own.namespace, &own.id);
    // One more than there may be.
    let ids = reference::from(tx, &key, MOST_OPEN as u64 + 1).await?;
    let mut found = Vec::new();
    for row in object::by_ids(tx, ids.into_iter().collect()).await? {
        if let Some(Object::Approval(approval)) = row.declaration()?.object {
            found.push(approval);
        }
    }
    found.sort_by(|a, b| name(a).cmp(name(b)));
    Ok(found)
}

fn name(approval: &Approval) -> &str {
    approval.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default()
}

/// Whether the agent may have one more, and not too many were made lately, whatever became of them.
fn check_room(writing: &Writing<'_>, standing: &Standing, open: &[Approval]) -> Result<(), Fault> {
    let pending = open.iter().filter(|one| approval::state(one) == ApprovalState::Pending).count();
    let too_many = |text: String| Err(Fault::refused(&TOO_MANY_APPROVALS, text));
    if pending >= MOST_PENDING {
        return too_many(format!("the agent has {pending} requests that nobody has decided"));
    }
    if open.len() >= MOST_OPEN {
        return too_many(format!("the agent has {} requests and approvals", open.len()));
    }
    let top = standing.lineage.last().and_then(|top| top.metadata.as_ref());
    let top = top.map(|metadata| metadata.id.as_str()).ok_or_else(|| Fault::broken("a lineage of nobody"))?;
    if !writing.desk.asking.lock().allows_of(MOST_A_MINUTE, top, writing.now) {
        return too_many(format!("{MOST_A_MINUTE} requests were made below {top} within a minute"));
    }
    Ok(())
}

/// The request as it is to rest.
async fn wanted(
    writing: &Writing<'_>,
    standing: &Standing,
    asker: &Asker,
    ask: &RequestApprovalRequest,
) -> TxResult<Approval, Fault> {
    let caller = standing.caller().map_err(refuse)?;
    let own = caller.metadata.clone().unwrap_or_default();
    let actions: Vec<Action> = ask.permissions.iter().filter_map(|one| Action::parse(&one.action).ok()).collect();
    let policies = policies_of(writing.tx, &own.namespace).await?;
    let policies = approval::held(&standing.namespace, &policies, &actions).map_err(|action| {
        let text = format!("no policy in force in {} holds {action} back until it is approved", own.namespace);
        refuse(Fault::refused(&APPROVAL_NOT_NEEDED, text).field("permissions", "nothing asks for an approval of this"))
    })?;
    if !ask.audience.is_empty() {
        check_audience(writing.tx, &own.namespace, &ask.audience).await?;
    }
    let ceiling = approval::ceiling(&standing.namespace);
    let span = |of: Option<prost_types::Duration>| of.and_then(|of| Duration::try_from(of).ok());
    let duration = span(ask.duration).unwrap_or(ceiling);
    if duration > ceiling {
        let why = format!("is longer than the namespace lets an approval hold, {} s", ceiling.as_secs());
        return Err(refuse(Fault::invalid("duration", why)));
    }
    let seen = standing.seen_caller().map_err(refuse)?;
    let expires = writing.now.plus(span(ask.patience).unwrap_or(USUAL_PATIENCE));
    let spec = ApprovalSpec {
        agent: own.name,
        agent_id: own.id,
        permissions: ask.permissions.clone(),
        audience: ask.audience.clone(),
        purpose: ask.purpose.clone(),
        binding_message: ask.binding_message.clone(),
        duration: prost_types::Duration::try_from(duration).ok(),
        expire_time: Some(expires.into()),
        policies,
        lifecycle_version: standing.seen.life_of(seen, writing.now).lifecycle_version,
        requester: match asker {
            Asker::Calling(_) => writing.by.actor.clone(),
            Asker::Relayed(_) => caller.status.as_ref().map(|status| status.spiffe_id.clone()).unwrap_or_default(),
        },
        channel: asker.channel().into(),
        ..ApprovalSpec::default()
    };
    let spec = ApprovalSpec {
        approvers: spec.policies.iter().map(|held| held.approvers).max().unwrap_or(1),
        single_use: spec.policies.iter().any(|held| held.single_use),
        bars_owners: spec.policies.iter().any(|held| held.bars_owners),
        ..spec
    };
    let id = writing.desk.approval_id().map_err(refuse)?;
    let metadata = Metadata { name: approval::name_of(id.as_str()), namespace: own.namespace, ..Metadata::default() };
    let status = ApprovalStatus { state: ApprovalState::Pending.into(), ..ApprovalStatus::default() };
    Ok(Approval { metadata: Some(metadata), spec: Some(spec), status: Some(status) })
}

/// The policies of a namespace that could hold something back: Cedar's words for that cannot be written otherwise.
pub(super) async fn policies_of(tx: &Tx, namespace: &str) -> TxResult<Vec<Policy>, Fault> {
    let mut found = Vec::new();
    for row in object::in_namespace(tx, Kind::Policy, namespace, MOST_DECLARED).await? {
        if let Some(Object::Policy(policy)) = row.declaration()?.object
            && policy.spec.as_ref().is_some_and(|spec| spec.cedar.contains(approval::ANNOTATION))
        {
            found.push(policy);
        }
    }
    Ok(found)
}

async fn check_audience(tx: &Tx, namespace: &str, audience: &str) -> TxResult<(), Fault> {
    for row in object::in_namespace(tx, Kind::EnforcementPoint, namespace, MOST_DECLARED).await? {
        if let Some(Object::EnforcementPoint(point)) = row.declaration()?.object
            && point.spec.is_some_and(|spec| spec.audiences.iter().any(|one| one == audience))
        {
            return Ok(());
        }
    }
    Err(refuse(Fault::invalid("audience", "is no audience of an enforcement point of the agent's namespace")))
}

/// One of the asker's own requests, in force or not. That there is another's is nobody's business.
async fn own(tx: &Tx, asker: &Asker, standing: &Standing, id: &ApprovalId) -> TxResult<(Declaration, Approval), Fault> {
    let caller = match asker {
        Asker::Calling(calling) => calling.id.clone(),
        Asker::Relayed(id) => id.clone(),
    };
    let own = standing.caller().map_err(refuse)?.metadata.clone().unwrap_or_default();
    let row = object::by_id(tx, id.as_str()).await?.filter(|row| row.namespace == own.namespace);
    let declaration = row.map(|row| row.declaration()).transpose()?;
    if let Some(declaration) = declaration
        && let Some(Object::Approval(approval)) = &declaration.object
        && approval.spec.as_ref().is_some_and(|spec| spec.agent_id == caller.as_str())
    {
        let approval = approval.clone();
        return Ok((declaration, approval));
    }
    Err(refuse(not_found(id)))
}

pub(super) fn not_found(id: &ApprovalId) -> Fault {
    Fault::refused(&APPROVAL_NOT_FOUND, format!("there is no approval {id}"))
}

/// Reads one of the asker's own.
#[tracing::instrument(skip_all)]
pub(crate) async fn get(desk: &Desk, asker: Asker, id: ApprovalId) -> Result<GetOwnApprovalResponse, Fault> {
    let now = desk.clock.now();
    let read: TxResult<_, Fault> = desk
        .db
        .read("get_own_approval", move |tx| {
            Box::pin(async move {
                let standing = asker.standing(tx, now).await?;
                let (_, approval) = own(tx, &asker, &standing, &id).await?;
                let (approval, revision) = (Some(decide_approval::told(approval, now)), head::read(tx).await?);
                Ok(GetOwnApprovalResponse { approval, revision })
            })
        })
        .await;
    read.map_err(of_tx)
}

/// Those of the caller that are pending or approved.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, asker: Asker) -> Result<ListOwnApprovalsResponse, Fault> {
    let now = desk.clock.now();
    let read: TxResult<_, Fault> = desk
        .db
        .read("list_own_approvals", move |tx| {
            Box::pin(async move {
                let standing = asker.standing(tx, now).await?;
                let mut approvals = open_of(tx, &standing).await?;
                approvals.retain(|one| !approval::is_over(one, now));
                Ok(ListOwnApprovalsResponse { approvals, revision: head::read(tx).await? })
            })
        })
        .await;
    read.map_err(of_tx)
}

/// Takes one back that is pending, or gives one up that is approved.
#[tracing::instrument(skip_all)]
pub(crate) async fn cancel(
    desk: &Arc<Desk>,
    call: Call,
    asker: Asker,
    id: ApprovalId,
) -> Result<CancelApprovalResponse, Fault> {
    super::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((asker, id));
    desk.write("cancel_approval", Standard::Stopping, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (asker, id) = &*ask;
            let standing = asker.standing(writing.tx, writing.now).await?;
            let (declaration, approval) = own(writing.tx, asker, &standing, id).await?;
            if !approval::is_open(approval::state(&approval)) {
                let text = format!("{id} is {}", approval::word(approval::state(&approval)));
                return Err(refuse(Fault::refused(&APPROVAL_DECIDED, text)));
            }
            let approval = Some(decide_approval::end(writing, declaration, End::Cancelled).await?);
            Ok(CancelApprovalResponse { approval, revision: writing.revision() })
        })
    })
    .await
}
