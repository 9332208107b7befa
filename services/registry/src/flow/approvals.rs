//! An operator sees what agents ask for, and what became of it.

use std::sync::Arc;

use legate_authority::{Place, Reach, Right};
use legate_ids::{AgentId, ApprovalId, Name};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Approval, ApprovalState, GetApprovalResponse, ListApprovalsRequest, ListApprovalsResponse,
};

use super::decide_approval::told;
use super::list::page_size;
use super::request_approval::not_found;
use super::{By, Desk};
use crate::domain::approval;
use crate::store::approval::{self as rows, Which};
use crate::store::{object, refuse};

/// One page of approvals, the latest first.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Arc<Desk>, by: &By, ask: ListApprovalsRequest) -> Result<ListApprovalsResponse, Fault> {
    if !ask.namespace.is_empty() {
        Name::parse(&ask.namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    }
    if !ask.agent_id.is_empty() {
        AgentId::parse(&ask.agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?;
    }
    let states = states(&ask.states)?;
    let size = page_size(ask.page_size)?;
    let words = states.iter().map(|state| approval::word(*state)).collect::<Vec<_>>().join(" ");
    let question = ["approvals", by.actor.as_str(), &ask.namespace, &ask.agent_id, &words];
    let before = desk.pages.read(&question, &ask.page_token)?;
    let open_only = states.iter().all(|state| approval::is_open(*state));
    let mut which = Which { namespace: ask.namespace.clone(), open_only, sees: Reach::In(Default::default()) };
    let now = desk.clock.now();
    let read = desk.look("list_approvals", by, move |look| {
        Box::pin(async move {
            which.sees = look.mandate.sees();
            let rows = rows::page(look.tx, &which, before.as_deref(), size as u64 + 1).await?;
            let mut read = Vec::with_capacity(rows.len());
            for row in rows {
                let declaration = row.declaration()?;
                read.push((row.id, declaration));
            }
            Ok((read, look.revision))
        })
    });
    let (mut rows, revision) = read.await?;
    let is_more = rows.len() > size;
    rows.truncate(size);
    let next = rows.last().filter(|_| is_more).map(|(last, _)| desk.pages.after(&question, last));
    let fits = |one: &Approval| {
        states.contains(&approval::state(one))
            && (ask.agent_id.is_empty() || one.spec.as_ref().is_some_and(|spec| spec.agent_id == ask.agent_id))
    };
    let approvals = rows.into_iter().filter_map(|(_, declaration)| match declaration.object {
        Some(Object::Approval(approval)) => Some(told(approval, now)).filter(fits),
        _ => None,
    });
    Ok(ListApprovalsResponse { approvals: approvals.collect(), next_page_token: next.unwrap_or_default(), revision })
}

fn states(asked: &[i32]) -> Result<Vec<ApprovalState>, Fault> {
    if asked.is_empty() {
        return Ok(vec![ApprovalState::Pending]);
    }
    let mut known = Vec::new();
    for number in asked {
        match ApprovalState::try_from(*number) {
            Ok(state) if state != ApprovalState::Unspecified => known.push(state),
            _ => return Err(Fault::invalid("states", format!("{number} is no state of an approval"))),
        }
    }
    known.sort_unstable();
    known.dedup();
    Ok(known)
}

/// One approval, in force or not.
#[tracing::instrument(skip_all)]
pub(crate) async fn get(desk: &Arc<Desk>, by: &By, id: ApprovalId) -> Result<GetApprovalResponse, Fault> {
    let now = desk.clock.now();
    desk.look("get_approval", by, move |look| {
        Box::pin(async move {
            let row = object::by_id(look.tx, id.as_str()).await?;
            let row = row.filter(|row| look.mandate.may(Right::Read, Place::of(&row.namespace)));
            match row.map(|row| row.declaration()).transpose()?.and_then(|declaration| declaration.object) {
                Some(Object::Approval(approval)) => {
                    let approval = Some(told(approval, now));
                    Ok(GetApprovalResponse { approval, revision: look.revision })
                }
                _ => Err(refuse(not_found(&id))),
            }
        })
    })
    .await
}
