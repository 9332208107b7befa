//! `legate agent`: agents and the steps of their life.

use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ActivateAgentRequest, AdoptAgentRequest, Agent, AgentState, ApproveAgentRequest, AsOf, AttestAgentRequest,
    GetAgentRequest, GetDeclarationRequest, HandOverAgentRequest, Kind, ListAgentsRequest, ListAgentsResponse,
    QuarantineAgentRequest, RejectAgentRequest, ReleaseAgentRequest, ResumeAgentRequest, RetireAgentRequest,
    RevokeAgentCredentialsRequest, SuspendAgentRequest,
};
use prost::{Message, Name};

use super::{Desk, agent_ref, agent_usage, history, instance, owner, search, spawning};
use crate::cli::{AgentVerb, InstanceList, State, When};
use crate::output::{Row, agent_details, agent_row, is_suspended, standing};
use crate::place::{Line, Service, request_id};
use crate::{Exit, Failure, proto};

/// So many at a time.
pub(super) const PAGE: u32 = 500;

/// Takes one step of an agent's life; the requests and answers of these steps are alike.
macro_rules! step {
    ($desk:expr, $step:expr, $request:ident, $method:ident) => {{
        let step = $step;
        let request = $request {
            agent: Some(agent_ref(&step.agent)?),
            etag: step.etag,
            request_id: request_id(),
            reason: step.reason,
        };
        let registry = $desk.line(Service::Registry)?;
        let answer = registry.ask(request, |c, r| async move { AgentServiceClient::new(c).$method(r).await }).await?;
        tell(&$desk, &answer, answer.agent.as_ref(), answer.revision)
    }};
}

pub(super) async fn run(desk: Desk, verb: AgentVerb) -> Result<Exit, Failure> {
    match verb {
        AgentVerb::Get { agent, when } => get(desk, &agent, &when).await,
        AgentVerb::Usage { agent, resources } => agent_usage::run(desk, &agent, resources).await,
        AgentVerb::History(ask) => history::history(desk, Kind::Agent, ask).await,
        AgentVerb::Instances { agent, state, limit } => {
            let ask = InstanceList { agent: Some(agent), namespace: None, node: None, state, limit };
            instance::list(desk, ask).await
        }
        AgentVerb::HandOver { agent, owner, sponsor, reason, etag } => {
            let request = HandOverAgentRequest {
                agent: Some(agent_ref(&agent)?),
                owners: owner,
                sponsors: sponsor,
                etag,
                request_id: request_id(),
                reason,
            };
            let registry = desk.line(Service::Registry)?;
            let answer = registry
                .ask(request, |c, r| async move { AgentServiceClient::new(c).hand_over_agent(r).await })
                .await?;
            tell(&desk, &answer, answer.agent.as_ref(), answer.revision)
        }
        AgentVerb::Owner(ask) => Box::pin(owner::run(desk, ask)).await,
        AgentVerb::Spawn { .. } | AgentVerb::Spawned { .. } | AgentVerb::EndSpawned { .. } => {
            spawning::run(desk, verb).await
        }
        AgentVerb::List { search, which, namespace, state, limit } => {
            let request = ListAgentsRequest {
                namespace: namespace.unwrap_or_default(),
                states: state.into_iter().map(|s| self::state(s).into()).collect(),
                page_size: PAGE,
                page_token: String::new(),
                filter: search::filter(&search, &which)?,
                as_of: search::as_of(&search.when)?,
                order_by: search.order_by,
            };
            if let Some(silent) = &which.dormant {
                agent_usage::warn_of_silence(&desk, search::span("--dormant", silent)?).await?;
            }
            list(desk, request, limit.limit).await
        }
        other => take(desk, other).await,
    }
}

async fn take(desk: Desk, verb: AgentVerb) -> Result<Exit, Failure> {
    match verb {
        AgentVerb::Approve(s) => step!(desk, s, ApproveAgentRequest, approve_agent),
        AgentVerb::Activate(s) => step!(desk, s, ActivateAgentRequest, activate_agent),
        AgentVerb::Attest(s) => step!(desk, s, AttestAgentRequest, attest_agent),
        AgentVerb::Suspend(s) => step!(desk, s, SuspendAgentRequest, suspend_agent),
        AgentVerb::Resume(s) => step!(desk, s, ResumeAgentRequest, resume_agent),
        AgentVerb::Quarantine(s) => step!(desk, s, QuarantineAgentRequest, quarantine_agent),
        AgentVerb::Release(s) => step!(desk, s, ReleaseAgentRequest, release_agent),
        AgentVerb::Retire(s) => step!(desk, s, RetireAgentRequest, retire_agent),
        AgentVerb::Adopt { owners, sponsors, class, step } => {
            let request = AdoptAgentRequest {
                agent: Some(agent_ref(&step.agent)?),
                owners,
                sponsors,
                agent_class: class,
                etag: step.etag,
                request_id: request_id(),
                reason: step.reason,
            };
            let registry = desk.line(Service::Registry)?;
            let answer =
                registry.ask(request, |c, r| async move { AgentServiceClient::new(c).adopt_agent(r).await }).await?;
            tell(&desk, &answer, answer.agent.as_ref(), answer.revision)
        }
        AgentVerb::Reject(s) => step!(desk, s, RejectAgentRequest, reject_agent),
        AgentVerb::RevokeCredentials(s) => step!(desk, s, RevokeAgentCredentialsRequest, revoke_agent_credentials),
        _ => Ok(Exit::Done),
    }
}

/// Tells where the agent stands after a step.
pub(super) fn tell<A: Message + Name>(
    desk: &Desk,
    answer: &A,
    agent: Option<&Agent>,
    revision: u64,
) -> Result<Exit, Failure> {
    let agent = agent.cloned().unwrap_or_default();
    let mut out = desk.out();
    if !out.is_table() {
        out.rows(&proto::dynamic(answer), &[agent_row(&agent)], "")?;
        return Ok(Exit::Done);
    }
    let row = agent_row(&agent);
    let status = agent.status.unwrap_or_default();
    let state = proto::word(status.state().as_str_name(), "AGENT_STATE_");
    let text = format!("{} is {state}, lifecycle version {}", row.name, status.lifecycle_version);
    out.details(&[("agent", text), ("revision", revision.to_string())])?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn get(desk: Desk, agent: &str, when: &When) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let as_of = search::as_of(when)?;
    let request = GetAgentRequest { agent: Some(agent_ref(agent)?), as_of };
    let answer = registry.ask(request, |c, r| async move { AgentServiceClient::new(c).get_agent(r).await }).await?;
    let agent = answer.agent.clone().unwrap_or_default();
    let mut out = desk.out();
    let mut details = agent_details(&agent);
    if out.is_table() {
        details.extend(stopped_above(&registry, &agent, as_of).await);
    }
    out.one(&proto::dynamic(&answer), &agent_row(&agent), &details)?;
    Ok(Exit::Done)
}

/// What is suspended above an agent: its state alone would say that it works.
async fn stopped_above(registry: &Line, agent: &Agent, as_of: Option<AsOf>) -> Vec<(&'static str, String)> {
    let namespace = agent.metadata.as_ref().map(|m| m.namespace.clone()).unwrap_or_default();
    let class = agent.spec.as_ref().map(|s| s.agent_class.clone()).unwrap_or_default();
    let mut stopped = Vec::new();
    for (label, kind, namespace, name) in [
        ("namespace", Kind::Namespace, String::new(), namespace.clone()),
        ("class's state", Kind::AgentClass, namespace, class),
    ] {
        let request = GetDeclarationRequest { kind: kind.into(), namespace, name, as_of };
        let asked =
            registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await });
        // Of what cannot be read nothing is told; the agent itself was asked for.
        if let Ok(Some(object)) = asked.await.map(|answer| answer.declaration)
            && is_suspended(&object)
        {
            stopped.push((label, standing(&object)));
        }
    }
    stopped
}

async fn list(desk: Desk, mut request: ListAgentsRequest, limit: usize) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListAgentsResponse::default();
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { AgentServiceClient::new(c).list_agents(r).await })
            .await?;
        whole.agents.extend(page.agents);
        (whole.next_page_token, whole.revision) = (page.next_page_token.clone(), page.revision);
        (whole.total_estimate, whole.total_is_exact) = (page.total_estimate, page.total_is_exact);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.agents.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.agents, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.agents.iter().map(agent_row).collect();
    let note = note(rows.len(), "agent", more, whole.revision)
        + &search::in_all(more, whole.total_estimate, whole.total_is_exact);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

/// Keeps so many; whether there were more.
pub(super) fn cut<T>(items: &mut Vec<T>, limit: usize) -> bool {
    let more = limit > 0 && items.len() > limit;
    if more {
        items.truncate(limit);
    }
    more
}

/// The last line of a list.
pub(super) fn note(count: usize, what: &str, more: bool, revision: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    let more = if more { "; there are more, see --limit" } else { "" };
    let at = if revision == 0 { String::new() } else { format!(" at revision {revision}") };
    format!("{count} {what}{plural}{at}{more}")
}

fn state(of: State) -> AgentState {
    match of {
        State::PendingApproval => AgentState::PendingApproval,
        State::Staged => AgentState::Staged,
        State::Active => AgentState::Active,
        State::Suspended => AgentState::Suspended,
        State::Quarantined => AgentState::Quarantined,
        State::Expired => AgentState::Expired,
        State::Retired => AgentState::Retired,
    }
}
