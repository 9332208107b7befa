//! `legate drift`: what agents were given and do not need, and a manifest that gives less.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use legate_wire::policy::drift_service_client::DriftServiceClient;
use legate_wire::policy::{
    DriftFinding, DriftType, ListDriftRequest, ListDriftResponse, ProposeCeilingRequest, ProposeCeilingResponse,
    SimulateResponse,
};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentRef, Declaration, GetAgentRequest};

use super::agent::cut;
use super::agent_usage::evidence;
use super::change::{self, Change};
use super::{Desk, search};
use crate::cli::{Drift, DriftKind};
use crate::error::USAGE;
use crate::output::{Format, Row, escape::visible, grouped, moment, simulation_lines};
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
            propose(desk, ask, file, &args.simulate).await
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
    }
}

async fn list(desk: Desk, mut request: ListDriftRequest, limit: usize) -> Result<Exit, Failure> {
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
            break;
        }
        if limit > 0 && whole.findings.len() >= limit {
            whole.next_page_token.clone_from(&request.page_token);
            break;
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
            ("PERMISSION", false, what),
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

async fn propose(desk: Desk, ask: ProposeCeilingRequest, file: &Path, simulate: &str) -> Result<Exit, Failure> {
    if matches!(desk.format, Format::Jsonl | Format::Name) {
        return Err(Failure::local(&USAGE, "a proposal is told with -o table, -o json or -o yaml"));
    }
    let window = search::span("--simulate", simulate)?;
    let (policy, id) = (desk.line(Service::Policy)?, ask.agent_id.clone());
    let proposal = policy
        .ask(ask, |c, r| async move {
            let mut request = tonic::Request::new(r);
            request.set_timeout(PATIENCE);
            DriftServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).propose_ceiling(request).await
        })
        .await?;
    if proposal.lose.is_empty() {
        return tell(&desk, &proposal, None, file, simulate);
    }
    let registry = desk.line(Service::Registry)?;
    let request = GetAgentRequest { agent: Some(AgentRef { id, ..AgentRef::default() }), as_of: None };
    let found = registry.ask(request, |c, r| async move { AgentServiceClient::new(c).get_agent(r).await }).await?;
    let mut agent = found.agent.unwrap_or_default();
    agent.spec.get_or_insert_default().ceiling.clone_from(&proposal.keep);
    let declaration = Declaration { object: Some(Object::Agent(agent)) };
    write(file, &text(&declaration, &proposal)?)?;
    // As legate plan reads it: what is written is what is tried.
    let documents = change::read(&[file.to_owned()])?;
    let declarations: Vec<Declaration> = documents.into_iter().map(|document| document.declaration).collect();
    let planned = change::plan(&registry, declarations.clone(), Vec::new()).await?;
    let change = Change { declarations, removals: Vec::new(), planned };
    let simulation = change.simulate(&desk, window).await?;
    tell(&desk, &proposal, Some(&simulation), file, simulate)
}

/// The manifest, with what it takes away above it.
fn text(declaration: &Declaration, proposal: &ProposeCeilingResponse) -> Result<String, Failure> {
    let node = manifest::node(declaration).ok_or_else(|| Failure::local(&USAGE, "the agent has no manifest"))?;
    let mut text = String::from("# A ceiling of the agent's own, by what it used. It takes away what was not used:\n");
    for lost in &proposal.lose {
        text.push_str(&format!("#   {}\n", visible(&lost.text)));
    }
    text.push_str(&format!("# {}\n", visible(&evidence(proposal.window.as_ref()))));
    text.push_str(&node.to_yaml());
    Ok(text)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let mut opened = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::file(file, "the file is there already; nothing is overwritten"),
        _ => Failure::file(file, e),
    })?;
    opened.write_all(text.as_bytes()).map_err(|e| Failure::file(file, e))
}

fn tell(
    desk: &Desk,
    proposal: &ProposeCeilingResponse,
    simulation: Option<&SimulateResponse>,
    file: &Path,
    window: &str,
) -> Result<Exit, Failure> {
    let mut out = desk.out();
    if !out.is_table() {
        let mut whole = change::value(proposal)?;
        if let (Some(map), Some(simulation)) = (whole.as_object_mut(), simulation) {
            map.insert("simulation".into(), change::value(simulation)?);
        }
        if out.format == Format::Json {
            out.value(&whole)?;
        } else {
            out.document(&crate::yaml::Node::of(&whole))?;
        }
        out.flush()?;
        return Ok(Exit::Done);
    }
    let Some(simulation) = simulation else {
        out.line("There is nothing to take away: nothing that it has is unused.")?;
        out.line(&visible(&evidence(proposal.window.as_ref())))?;
        out.flush()?;
        return Ok(Exit::Done);
    };
    for lost in &proposal.lose {
        out.line(&format!("- {}", visible(&lost.text)))?;
    }
    for kept in &proposal.keep {
        out.line(&format!("  keeps {}", visible(&manifest::permission_text(kept))))?;
    }
    out.line("")?;
    out.line(&format!(
        "{} of {} allowed decisions of the last {} would flip.",
        grouped(simulation.to_deny),
        grouped(simulation.allowed),
        visible(window)
    ))?;
    if simulation.to_deny + simulation.unsure + simulation.not_judged + simulation.to_allow > 0 {
        simulation_lines(simulation, window).iter().skip(1).try_for_each(|line| out.line(line))?;
    }
    out.line(&visible(&evidence(proposal.window.as_ref())))?;
    let path = file.display().to_string();
    out.line(&format!("Written to {0}; legate plan -f {0} says what it changes.", visible(&path)))?;
    out.flush()?;
    Ok(Exit::Done)
}
