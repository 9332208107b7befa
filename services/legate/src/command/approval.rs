//! `legate approval`: an agent asks, a person decides.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum as _;
use legate_clock::{Clock, SystemClock, Timestamp};
use legate_wire::registry::approval_request_service_client::ApprovalRequestServiceClient;
use legate_wire::registry::approval_service_client::ApprovalServiceClient;
use legate_wire::registry::{
    Approval, ApprovalSpec, ApprovalState, CancelApprovalRequest, DenyApprovalRequest, GetApprovalRequest,
    GetOwnApprovalRequest, GetOwnApprovalResponse, GrantApprovalRequest, ListApprovalsRequest, ListApprovalsResponse,
    ListOwnApprovalsRequest, RequestApprovalRequest, RevokeApprovalRequest,
};

use super::Desk;
use super::agent::{PAGE, cut, note};
use crate::cli::{ApprovalVerb, ApprovalWord, AskApproval};
use crate::error::USAGE;
use crate::output::{Row, moment, span};
use crate::place::{Line, Service, request_id};
use crate::{Exit, Failure, identity, manifest, proto};

/// How often an agent that waits asks: the registry says no faster.
const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(desk: Desk, verb: ApprovalVerb) -> Result<Exit, Failure> {
    match verb {
        ApprovalVerb::List { namespace, agent, states, all, limit } => {
            let words = if all { ApprovalWord::value_variants() } else { states.as_slice() };
            let agent_id = match agent {
                Some(agent) => desk.agent_id(&agent).await?,
                None => String::new(),
            };
            let request = ListApprovalsRequest {
                namespace,
                states: words.iter().copied().map(|word| ApprovalWord::state(word).into()).collect(),
                agent_id,
                page_size: PAGE,
                page_token: String::new(),
            };
            list(desk, request, limit.limit).await
        }
        ApprovalVerb::Show { id } => {
            let registry = desk.line(Service::Registry)?;
            let ask = GetApprovalRequest { approval_id: id };
            let answer =
                registry.ask(ask, |c, r| async move { ApprovalServiceClient::new(c).get_approval(r).await }).await?;
            tell(&desk, &proto::dynamic(&answer), answer.approval.as_ref(), answer.revision)
        }
        ApprovalVerb::Approve { decision, span } => {
            let registry = desk.line(Service::Registry)?;
            let ask = GrantApprovalRequest {
                approval_id: decision.id,
                etag: decision.etag,
                duration: span,
                request_id: request_id(),
                reason: decision.reason,
            };
            let answer =
                registry.ask(ask, |c, r| async move { ApprovalServiceClient::new(c).grant_approval(r).await }).await?;
            tell(&desk, &proto::dynamic(&answer), answer.approval.as_ref(), answer.revision)
        }
        ApprovalVerb::Deny(decision) => {
            let registry = desk.line(Service::Registry)?;
            let (approval_id, etag, reason) = (decision.id, decision.etag, decision.reason);
            let ask = DenyApprovalRequest { approval_id, etag, request_id: request_id(), reason };
            let answer =
                registry.ask(ask, |c, r| async move { ApprovalServiceClient::new(c).deny_approval(r).await }).await?;
            tell(&desk, &proto::dynamic(&answer), answer.approval.as_ref(), answer.revision)
        }
        ApprovalVerb::Revoke(decision) => {
            let registry = desk.line(Service::Registry)?;
            let (approval_id, etag, reason) = (decision.id, decision.etag, decision.reason);
            let ask = RevokeApprovalRequest { approval_id, etag, request_id: request_id(), reason };
            let answer =
                registry.ask(ask, |c, r| async move { ApprovalServiceClient::new(c).revoke_approval(r).await }).await?;
            tell(&desk, &proto::dynamic(&answer), answer.approval.as_ref(), answer.revision)
        }
        ApprovalVerb::Request(ask) => request(desk, *ask).await,
        ApprovalVerb::Own { identity } => {
            let registry = as_agent(&desk, &identity)?;
            let answer = registry
                .ask(ListOwnApprovalsRequest {}, |c, r| async move {
                    ApprovalRequestServiceClient::new(c).list_own_approvals(r).await
                })
                .await?;
            let rows: Vec<Row> = answer.approvals.iter().map(row).collect();
            let note = note(rows.len(), "approval", false, answer.revision);
            desk.out().rows(&proto::dynamic(&answer), &rows, &note)?;
            Ok(Exit::Done)
        }
        ApprovalVerb::Wait { identity, id, timeout } => {
            let registry = as_agent(&desk, &identity)?;
            let timeout = timeout.map(Duration::try_from).transpose();
            let timeout = timeout.map_err(|_| Failure::local(&USAGE, "--timeout is out of range"))?;
            wait(&desk, &registry, &id, timeout).await
        }
        ApprovalVerb::Cancel { identity, id, reason } => {
            let registry = as_agent(&desk, &identity)?;
            let ask = CancelApprovalRequest { approval_id: id, request_id: request_id(), reason };
            let answer = registry
                .ask(ask, |c, r| async move { ApprovalRequestServiceClient::new(c).cancel_approval(r).await })
                .await?;
            tell(&desk, &proto::dynamic(&answer), answer.approval.as_ref(), answer.revision)
        }
    }
}

fn as_agent(desk: &Desk, identity: &Path) -> Result<Line, Failure> {
    desk.line_as(Service::Registry, identity::open(identity)?)
}

async fn request(desk: Desk, ask: AskApproval) -> Result<Exit, Failure> {
    let registry = as_agent(&desk, &ask.identity)?;
    let request = RequestApprovalRequest {
        permissions: ask.allow,
        audience: ask.audience,
        purpose: ask.purpose,
        binding_message: ask.message,
        duration: ask.span,
        patience: ask.patience,
        request_id: request_id(),
        reason: ask.reason,
    };
    let answer = registry
        .ask(request, |c, r| async move { ApprovalRequestServiceClient::new(c).request_approval(r).await })
        .await?;
    if !ask.wait {
        return tell(&desk, &proto::dynamic(&answer), answer.approval.as_ref(), answer.revision);
    }
    let id = answer.approval.and_then(|approval| approval.metadata).unwrap_or_default().id;
    wait(&desk, &registry, &id, None).await
}

/// Asks until somebody has decided, and shows on a terminal that it waits.
async fn wait(desk: &Desk, registry: &Line, id: &str, timeout: Option<Duration>) -> Result<Exit, Failure> {
    let started = tokio::time::Instant::now();
    let mut progress = Progress::new();
    loop {
        let ask = GetOwnApprovalRequest { approval_id: id.to_owned() };
        let found: GetOwnApprovalResponse = registry
            .ask(ask, |c, r| async move { ApprovalRequestServiceClient::new(c).get_own_approval(r).await })
            .await?;
        let approval = found.approval.clone().unwrap_or_default();
        let is_late = timeout.is_some_and(|timeout| started.elapsed() >= timeout);
        if state(&approval) != ApprovalState::Pending || is_late {
            progress.over();
            tell(desk, &proto::dynamic(&found), Some(&approval), found.revision)?;
            return Ok(match state(&approval) {
                ApprovalState::Approved => Exit::Done,
                ApprovalState::Pending => Exit::Unavailable,
                _ => Exit::Denied,
            });
        }
        progress.show(id, &approval);
        let left = timeout.map_or(EVERY, |timeout| timeout.saturating_sub(started.elapsed()));
        tokio::time::sleep(EVERY.min(left)).await;
    }
}

/// One line on a terminal that is written over and over; elsewhere nothing.
struct Progress {
    is_terminal: bool,
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), is_shown: false }
    }

    fn show(&mut self, id: &str, approval: &Approval) {
        if !self.is_terminal {
            return;
        }
        let ends = approval.spec.as_ref().and_then(|spec| spec.expire_time);
        let left = ends.and_then(|at| Timestamp::try_from(at).ok()).map(|at| at.since(SystemClock::new().now()));
        // Of our own making: the id is of our grammar, and nothing of the request is shown.
        let line = format!("{id} waits for an approver, {} left", span(left.unwrap_or_default()));
        self.is_shown = true;
        // Where the terminal is gone there is nobody to tell.
        let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K{line}");
    }

    fn over(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}

async fn list(desk: Desk, mut request: ListApprovalsRequest, limit: usize) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListApprovalsResponse::default();
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { ApprovalServiceClient::new(c).list_approvals(r).await })
            .await?;
        whole.approvals.extend(page.approvals);
        (whole.next_page_token, whole.revision) = (page.next_page_token.clone(), page.revision);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.approvals.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.approvals, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.approvals.iter().map(row).collect();
    let note = note(rows.len(), "approval", more, whole.revision);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

fn tell(
    desk: &Desk,
    whole: &prost_reflect::DynamicMessage,
    approval: Option<&Approval>,
    revision: u64,
) -> Result<Exit, Failure> {
    let approval = approval.cloned().unwrap_or_default();
    desk.out().one(whole, &row(&approval), &details(&approval, revision))?;
    Ok(Exit::Done)
}

fn state(approval: &Approval) -> ApprovalState {
    approval.status.as_ref().map_or(ApprovalState::Unspecified, legate_wire::registry::ApprovalStatus::state)
}

fn word(approval: &Approval) -> &'static str {
    proto::word(state(approval).as_str_name(), "APPROVAL_STATE_")
}

fn needed(spec: &ApprovalSpec) -> u32 {
    spec.approvers.max(1)
}

/// Its state; while it waits for several people, how many of them agreed.
fn stands(approval: &Approval) -> String {
    let agreed = approval.status.as_ref().map_or(0, |status| status.agreements.len());
    match approval.spec.as_ref().map(needed) {
        Some(needed) if needed > 1 && state(approval) == ApprovalState::Pending => {
            format!("{} {agreed}/{needed}", word(approval))
        }
        _ => word(approval).to_owned(),
    }
}

fn asked(approval: &Approval) -> String {
    let permissions = approval.spec.iter().flat_map(|spec| &spec.permissions);
    permissions.map(manifest::permission_text).collect::<Vec<_>>().join(", ")
}

/// When it ends, as it stands.
fn until(approval: &Approval) -> String {
    let (spec, status) = (approval.spec.as_ref(), approval.status.as_ref());
    match state(approval) {
        ApprovalState::Pending => moment(spec.and_then(|spec| spec.expire_time.as_ref())),
        ApprovalState::Approved | ApprovalState::Ended => moment(status.and_then(|status| status.not_after.as_ref())),
        _ => moment(status.and_then(|status| status.end_time.as_ref())),
    }
}

fn row(approval: &Approval) -> Row {
    let (metadata, spec) = (approval.metadata.clone().unwrap_or_default(), approval.spec.clone().unwrap_or_default());
    let decided = approval.status.as_ref().map(|status| status.decided_by.clone()).unwrap_or_default();
    Row {
        cells: vec![
            ("ID", false, metadata.id.clone()),
            ("AGENT", false, format!("{}/{}", metadata.namespace, spec.agent)),
            ("STATE", false, stands(approval)),
            ("ASKS FOR", false, asked(approval)),
            ("PURPOSE", false, spec.purpose.clone()),
            ("UNTIL", false, until(approval)),
            ("AUDIENCE", true, spec.audience.clone()),
            ("MESSAGE", true, spec.binding_message.clone()),
            ("DECIDED BY", true, decided),
        ],
        name: metadata.id,
        message: proto::dynamic(approval),
        node: None,
    }
}

fn details(approval: &Approval, revision: u64) -> Vec<(&'static str, String)> {
    let (metadata, spec) = (approval.metadata.clone().unwrap_or_default(), approval.spec.clone().unwrap_or_default());
    let status = approval.status.clone().unwrap_or_default();
    let length =
        |of: Option<prost_types::Duration>| of.and_then(|of| Duration::try_from(of).ok()).map(span).unwrap_or_default();
    let held = spec.policies.iter().map(|held| format!("{}@{} ({})", held.name, held.version, held.texts.join("; ")));
    let by = |at: Option<&prost_types::Timestamp>, who: &str, why: &str| {
        at.map(|at| format!("{} by {who}: {why}", moment(Some(at)))).unwrap_or_default()
    };
    let window = status.not_after.map(|to| format!("{} to {}", moment(status.not_before.as_ref()), moment(Some(&to))));
    let audience = if spec.audience.is_empty() { "any".to_owned() } else { spec.audience.clone() };
    let takes = format!(
        "{} {}{}{}",
        needed(&spec),
        if needed(&spec) == 1 { "approver" } else { "approvers, each another" },
        if spec.bars_owners { ", none of them an owner" } else { "" },
        if spec.single_use { "; counts once" } else { "" },
    );
    let agreed = status.agreements.iter().map(|one| by(one.time.as_ref(), &one.approver, &one.reason));
    let agreed: Vec<String> = agreed.collect();
    let channel = proto::word(spec.channel().as_str_name(), "APPROVAL_CHANNEL_");
    vec![
        ("id", metadata.id),
        ("state", stands(approval)),
        ("agent", format!("{}/{} {}", metadata.namespace, spec.agent, spec.agent_id)),
        ("asks for", asked(approval)),
        ("towards", audience),
        ("purpose", spec.purpose),
        ("message", spec.binding_message),
        ("for", length(spec.duration)),
        ("held back by", held.collect::<Vec<_>>().join(", ")),
        ("takes", takes),
        ("agreed", agreed.join("; ")),
        ("asked", format!("{} by {} ({channel})", moment(metadata.create_time.as_ref()), spec.requester)),
        ("waits until", moment(spec.expire_time.as_ref())),
        ("decided", by(status.decide_time.as_ref(), &status.decided_by, &status.decide_reason)),
        ("holds", window.unwrap_or_default()),
        ("used by", status.used_by),
        ("ended", by(status.end_time.as_ref(), &status.ended_by, &status.end_reason)),
        ("etag", metadata.etag),
        ("revision", revision.to_string()),
    ]
}
