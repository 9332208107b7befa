//! policy-decision is about to allow what rests on approvals that count once: it gets them here, one decision each.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_ids::{AgentId, ApprovalId, DecisionId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{ApprovalState, UseApprovalsRequest, UseApprovalsResponse};

use super::decide_approval::{End, end};
use super::request_approval::not_found;
use super::{Call, Desk, lineage};
use crate::domain::approval;
use crate::error::{APPROVAL_DECIDED, APPROVAL_OUTDATED};
use crate::store::{broken, object, refuse};

/// The most approvals that one decision rests on.
const MOST: usize = 16;

/// What is used up, and by which decision.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    decision: DecisionId,
    approvals: BTreeSet<ApprovalId>,
}

impl Use {
    /// What a message asks for.
    pub(crate) fn read(ask: &UseApprovalsRequest) -> Result<Self, Fault> {
        let decision = DecisionId::parse(&ask.decision_id);
        let decision = decision.map_err(|e| Fault::invalid("decision_id", e.to_string()))?;
        if !(1..=MOST).contains(&ask.approval_ids.len()) {
            let text = format!("holds {} ids; give 1 to {MOST}", ask.approval_ids.len());
            return Err(Fault::invalid("approval_ids", text));
        }
        let ids = ask.approval_ids.iter().map(|id| ApprovalId::parse(id));
        let approvals = ids.collect::<Result<BTreeSet<_>, _>>();
        let approvals = approvals.map_err(|e| Fault::invalid("approval_ids", e.to_string()))?;
        if approvals.len() < ask.approval_ids.len() {
            return Err(Fault::invalid("approval_ids", "names one twice"));
        }
        Ok(Self { decision, approvals })
    }
}

/// Uses up all of them, or none. The head is locked, so of all decisions that want one, one gets it.
#[tracing::instrument(skip_all, fields(legate.decision = %wanted.decision))]
pub(crate) async fn use_up(desk: &Arc<Desk>, call: Call, wanted: Use) -> Result<UseApprovalsResponse, Fault> {
    let wanted = Arc::new(wanted);
    desk.write("use_approvals", Standard::Ordinary, call, move |writing| {
        let wanted = Arc::clone(&wanted);
        Box::pin(async move {
            for id in &wanted.approvals {
                let row = object::by_id(writing.tx, id.as_str()).await?.ok_or_else(|| refuse(not_found(id)))?;
                let current = row.declaration()?;
                let Some(Object::Approval(approval)) = &current.object else { return Err(refuse(not_found(id))) };
                let state = approval::state(approval);
                if state != ApprovalState::Approved || approval::is_over(approval, writing.now) {
                    let word = approval::word(state);
                    let fault = Fault::refused(&APPROVAL_DECIDED, format!("{id} is {word}, or its time is over"));
                    return Err(refuse(fault.with("state", word)));
                }
                let spec = approval.spec.clone().ok_or_else(|| broken("an approval of nothing"))?;
                // Who decides may not have heard yet that its agent was stopped.
                let agent = AgentId::parse(&spec.agent_id).map_err(broken)?;
                let standing = lineage::standing_of(writing.tx, &agent, writing.now).await?;
                if !standing.asked_in_this_life(approval, writing.now) {
                    let text = format!("the agent of {id} was stopped or cut off since it asked");
                    return Err(refuse(Fault::refused(&APPROVAL_OUTDATED, text)));
                }
                if spec.single_use {
                    end(writing, current, End::Used(wanted.decision.clone())).await?;
                }
            }
            Ok(UseApprovalsResponse { revision: writing.revision() })
        })
    })
    .await
}
