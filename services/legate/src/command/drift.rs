//! `legate drift`: what agents were given and do not need, and a manifest that gives less.

mod proposal;
pub(in crate::command) mod stale;

use std::time::Duration;

use legate_wire::policy::drift_service_client::DriftServiceClient;
use legate_wire::policy::{DriftFinding, DriftType, ListDriftRequest, ListDriftResponse, ProposeCeilingRequest};

use super::agent::cut;
use super::agent_usage::evidence;
use super::{Desk, search};
use crate::cli::{Drift, DriftKind};
use crate::output::{Row, moment, say};
use crate::place::Service;
use crate::{Exit, Failure, manifest, proto};

/// The largest answer.
const MAX_MESSAGE: usize = 256 << 20;
/// Agents of one page.
const PAGE: u32 = 500;
/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(25);

pub(super) async fn run(desk: Desk, args: Drift) -> Result<Exit, Failure> {
    let span = search::span("--unused-after", &args.unused_after)?;
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let unused_after = Some(prost_types::Duration { seconds, nanos: 0 });
    let agent_id = match &args.agent {
        Some(agent) => desk.agent_id(agent).await?,
        None => String::new(),
    };
    match &args.file {
        Some(file) if args.propose => {
            let ask = ProposeCeilingRequest { agent_id, unused_after, at_least_revision: 0 };
            let to = proposal::To { file, out: args.out.as_deref(), window: &args.simulate, by_ceiling: args.ceiling };
            proposal::propose(desk, ask, &to).await
        }
        _ => {
            let request = ListDriftRequest {
                namespace: args.namespace.unwrap_or_default(),
                agent_id,
                types: args.finding.into_iter().map(|kind| asked(kind).into()).collect(),
                unused_after,
                page_size: PAGE,
                page_token: String::new(),
                at_least_revision: 0,
            };
            list(desk, request, args.limit.limit).await
        }
    }
}

fn asked(kind: DriftKind) -> DriftType {
    match kind {
        DriftKind::Unused => DriftType::Unused,
        DriftKind::DormantAgent => DriftType::DormantAgent,
        DriftKind::ExceedsClass => DriftType::ExceedsClass,
        DriftKind::BoundaryConflict => DriftType::BoundaryConflict,
        DriftKind::Orphaned => DriftType::Orphaned,
        DriftKind::SponsorGone => DriftType::SponsorGone,
        DriftKind::DormantGrant => DriftType::DormantGrant,
        DriftKind::ExceedsApproval => DriftType::ExceedsApproval,
        DriftKind::OutsideCode => DriftType::GrantedOutsideCode,
        DriftKind::StaleCredential => DriftType::StaleCredential,
    }
}

/// Findings of policy-decision, page by page; so many at least where there are as many, 0: all.
pub(super) async fn all(
    desk: &Desk,
    mut request: ListDriftRequest,
    limit: usize,
) -> Result<ListDriftResponse, Failure> {
    let policy = desk.line(Service::Policy)?;
    let mut whole = ListDriftResponse::default();
    loop {
        let page = policy
            .ask(request.clone(), |c, r| async move {
                let mut request = tonic::Request::new(r);
                request.set_timeout(PATIENCE);
                DriftServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).list_drift(request).await
            })
            .await?;
        whole.findings.extend(page.findings);
        whole.agents = whole.agents.saturating_add(page.agents);
        whole.not_judged = whole.not_judged.saturating_add(page.not_judged);
        whole.left_out = whole.left_out.saturating_add(page.left_out);
        (whole.window, whole.revision, whole.view_age) = (page.window, page.revision, page.view_age);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(whole);
        }
        if limit > 0 && whole.findings.len() >= limit {
            whole.next_page_token.clone_from(&request.page_token);
            return Ok(whole);
        }
    }
}

async fn list(desk: Desk, mut request: ListDriftRequest, limit: usize) -> Result<Exit, Failure> {
    let stale = i32::from(DriftType::StaleCredential);
    let (is_all, is_asked) = (request.types.is_empty(), request.types.contains(&stale));
    request.types.retain(|one| *one != stale);
    let asks = stale::Ask {
        namespace: request.namespace.clone(),
        agent_id: request.agent_id.clone(),
        unused_after: request.unused_after,
    };
    let mut whole = if is_asked && request.types.is_empty() {
        ListDriftResponse::default()
    } else {
        all(&desk, request, limit).await?
    };
    if is_all || is_asked {
        // credential-issuer stands above policy-decision, so the program asks it.
        match stale::findings(&desk, asks).await {
            Ok(found) => whole.findings.extend(found),
            Err(failure) if is_asked => return Err(failure),
            Err(failure) => say(&format!("which credentials are stale is not known: {failure}")),
        }
    }
    let more = cut(&mut whole.findings, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.findings.iter().map(row).collect();
    desk.out().rows(&proto::dynamic(&whole), &rows, &note(&whole, more))?;
    Ok(Exit::Done)
}

fn note(whole: &ListDriftResponse, more: bool) -> String {
    let (findings, agents) = (whole.findings.len(), whole.agents);
    let s = |n: usize| if n == 1 { "" } else { "s" };
    if whole.window.is_none() {
        return format!("{findings} finding{} about credentials", s(findings));
    }
    let mut said = vec![format!(
        "{findings} finding{} about {agents} agent{} at revision {}",
        s(findings),
        s(agents as usize),
        whole.revision
    )];
    said.push(evidence(whole.window.as_ref()));
    if whole.not_judged > 0 {
        said.push(format!("{} cannot be judged yet: too young, or older than the evidence", whole.not_judged));
    }
    if whole.left_out > 0 {
        said.push(format!("{} more findings of agents that have over 200", whole.left_out));
    }
    if more {
        said.push("there are more, see --limit".to_owned());
    }
    said.join("; ")
}

fn row(of: &DriftFinding) -> Row {
    let what = of.permission.as_ref().map(manifest::permission_text).unwrap_or_default();
    let objects: Vec<String> = of.objects.iter().map(|one| format!("{}@{}", one.name, one.version)).collect();
    let name = format!("{}/{}", of.namespace, of.name);
    Row {
        cells: vec![
            ("SEVERITY", false, proto::word(of.severity().as_str_name(), "DRIFT_SEVERITY_").into()),
            ("FINDING", false, proto::word(of.r#type().as_str_name(), "DRIFT_TYPE_").into()),
            ("AGENT", false, name.clone()),
            ("PERMISSION", false, if of.credential_id.is_empty() { what } else { of.credential_id.clone() }),
            ("BY", false, objects.join(", ")),
            ("LAST USED", false, moment(of.last_used_time.as_ref())),
            ("SINCE", false, moment(of.since_time.as_ref())),
            ("USES", true, of.uses.to_string()),
            ("WHY", true, of.text.clone()),
        ],
        name,
        message: proto::dynamic(of),
        node: None,
    }
}
