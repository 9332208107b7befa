//! The gRPC methods of permission drift, to and from the wire.

use std::time::Duration;

use legate_ids::{AgentId, Name};
use legate_rpc::{Fault, Permit};
use legate_wire::policy as wire;
use legate_wire::policy::drift_service_server::DriftService;
use legate_wire::registry as declared;
use tonic::{Request, Response, Status};

use super::asking::said;
use super::{Api, invalid};
use crate::convert;
use crate::domain::drift::patch::{Act, Change, Changed};
use crate::domain::drift::{Finding, Kind, Proof, Severity};
use crate::domain::preview::cells::Cell;
use crate::flow::Asker;
use crate::flow::drift::{self, Drift, Drifted, Propose, Proposed, USUAL, Which};

const DAY: u64 = 86_400;

/// Agents of one page.
const USUAL_PAGE: usize = 500;
const LARGEST_PAGE: u32 = 1_000;

#[tonic::async_trait]
impl DriftService for Api {
    async fn list_drift(
        &self,
        request: Request<wire::ListDriftRequest>,
    ) -> Result<Response<wire::ListDriftResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let ask = asked(request.into_inner())?;
        let drifted = Box::pin(drift::drift(&self.0, &asker, ask)).await?;
        Ok(Response::new(answer(&drifted)))
    }

    async fn propose_ceiling(
        &self,
        request: Request<wire::ProposeCeilingRequest>,
    ) -> Result<Response<wire::ProposeCeilingResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let from = request.into_inner();
        let ask = Propose {
            agent: AgentId::parse(&from.agent_id).map_err(|e| invalid("agent_id", e.to_string()))?,
            unused_after: unused_after(from.unused_after)?,
            at_least_revision: from.at_least_revision,
        };
        let proposed = Box::pin(drift::propose_ceiling(&self.0, &asker, ask)).await?;
        Ok(Response::new(proposal(&proposed)))
    }
}

fn unused_after(from: Option<prost_types::Duration>) -> Result<Duration, Fault> {
    let Some(from) = from else { return Ok(USUAL) };
    let read = Duration::try_from(from).ok();
    let within = read.filter(|d| (7 * DAY..=400 * DAY).contains(&d.as_secs()));
    within.ok_or_else(|| invalid("unused_after", "7 to 400 days"))
}

fn asked(mut from: wire::ListDriftRequest) -> Result<Drift, Fault> {
    let page_token = std::mem::take(&mut from.page_token);
    let at_least_revision = std::mem::take(&mut from.at_least_revision);
    let page_size = match std::mem::take(&mut from.page_size) {
        0 => USUAL_PAGE,
        size @ 1..=LARGEST_PAGE => size as usize,
        _ => return Err(invalid("page_size", "1 to 1,000 agents; 0 means 500")),
    };
    let said = said(&from);
    let which = match (from.agent_id.as_str(), from.namespace.as_str()) {
        ("", "") => Which::All,
        ("", name) => Which::Namespace(Name::parse(name).map_err(|e| invalid("namespace", e.to_string()))?),
        (id, "") => Which::Agent(AgentId::parse(id).map_err(|e| invalid("agent_id", e.to_string()))?),
        _ => return Err(invalid("namespace", "is left out where one agent is meant")),
    };
    let kinds: Result<Vec<Kind>, Fault> = from.types.iter().map(|number| kind(*number)).collect();
    Ok(Drift {
        which,
        kinds: kinds?,
        unused_after: unused_after(from.unused_after)?,
        page_size,
        page_token,
        at_least_revision,
        said,
    })
}

fn kind(number: i32) -> Result<Kind, Fault> {
    if number == i32::from(wire::DriftType::StaleCredential) {
        let text = "STALE_CREDENTIAL is told by credential-issuer: CredentialAdminService.ListCredentialHealth, or legate drift";
        return Err(invalid("types", text));
    }
    let known = Kind::ALL.into_iter().find(|kind| i32::from(told(*kind)) == number);
    known.ok_or_else(|| invalid("types", "names what is not one of the types there are"))
}

fn told(kind: Kind) -> wire::DriftType {
    match kind {
        Kind::Unused => wire::DriftType::Unused,
        Kind::DormantAgent => wire::DriftType::DormantAgent,
        Kind::ExceedsClass => wire::DriftType::ExceedsClass,
        Kind::BoundaryConflict => wire::DriftType::BoundaryConflict,
        Kind::Orphaned => wire::DriftType::Orphaned,
        Kind::SponsorGone => wire::DriftType::SponsorGone,
        Kind::DormantGrant => wire::DriftType::DormantGrant,
        Kind::ExceedsApproval => wire::DriftType::ExceedsApproval,
        Kind::OutsideCode => wire::DriftType::GrantedOutsideCode,
    }
}

fn permission(cell: &Cell) -> declared::Permission {
    declared::Permission { action: cell.action.clone(), resource: Some(cell.selector()) }
}

fn finding(agent: &legate_view::Agent, from: &Finding) -> wire::DriftFinding {
    let severity = match from.severity {
        Severity::Low => wire::DriftSeverity::Low,
        Severity::Medium => wire::DriftSeverity::Medium,
        Severity::High => wire::DriftSeverity::High,
    };
    wire::DriftFinding {
        r#type: told(from.kind).into(),
        severity: severity.into(),
        agent_id: agent.id.to_string(),
        namespace: agent.label.namespace.to_string(),
        name: agent.label.name.to_string(),
        permission: from.cell.as_ref().map(permission),
        objects: from.objects.iter().map(convert::reason).collect(),
        last_used_time: from.uses.last.map(Into::into),
        uses: from.uses.count,
        since_time: from.since.map(Into::into),
        threshold: from.threshold.and_then(|d| d.try_into().ok()),
        text: from.text.clone(),
        credential_id: String::new(),
        approval: match &from.proof {
            Proof::Approval(of) => Some(wire::ApprovalEvidence {
                time: of.time.map(Into::into),
                approved_by: of.by.clone(),
                review_id: of.review.clone(),
            }),
            Proof::Hand(_) | Proof::None => None,
        },
        written: match &from.proof {
            Proof::Hand(of) => Some(wire::HandEvidence {
                revision: of.revision,
                time: of.time.map(Into::into),
                actor: of.actor.clone(),
                reason: of.reason.clone(),
            }),
            Proof::Approval(_) | Proof::None => None,
        },
    }
}

fn answer(from: &Drifted) -> wire::ListDriftResponse {
    let all = from.found.iter().flat_map(|one| one.findings.iter().map(|found| finding(&one.agent, found)));
    wire::ListDriftResponse {
        findings: all.collect(),
        next_page_token: from.next_page_token.clone(),
        window: Some(from.window.clone()),
        agents: u32::try_from(from.agents).unwrap_or(u32::MAX),
        not_judged: from.not_judged,
        left_out: from.left_out,
        revision: from.revision,
        view_age: from.view_age.and_then(|age| age.try_into().ok()),
    }
}

fn proposal(from: &Proposed) -> wire::ProposeCeilingResponse {
    wire::ProposeCeilingResponse {
        keep: from.proposal.keep.iter().map(permission).collect(),
        lose: from.proposal.lose.iter().map(|lost| finding(&from.agent, lost)).collect(),
        window: Some(from.window.clone()),
        revision: from.revision,
        changes: from.patch.changes.iter().map(change).collect(),
        why_ceiling: from.patch.why_not.clone(),
    }
}

fn change(from: &Change) -> wire::ProposedChange {
    let action = match from.act {
        Act::DropPermissions => wire::ProposedAction::DropPermissions,
        Act::DropAgent => wire::ProposedAction::DropAgent,
        Act::ExceptAgent => wire::ProposedAction::ExceptAgent,
        Act::TakeBack => wire::ProposedAction::TakeBack,
    };
    let kind = match from.of {
        Changed::Class => declared::Kind::AgentClass,
        Changed::Role => declared::Kind::Role,
        Changed::Binding => declared::Kind::RoleBinding,
    };
    wire::ProposedChange {
        action: action.into(),
        kind: kind.into(),
        namespace: from.label.namespace.to_string(),
        name: from.label.name.to_string(),
        version: from.label.version,
        permissions: from.permissions.iter().map(permission).collect(),
        text: from.text.clone(),
    }
}
