//! What a dossier and a report ask of the services, each question bounded, and what is refused told as not given.

use std::time::Duration;

use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{ListUsageRequest, ListUsageResponse, UsageField, UsagePeriod};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::history_service_client::HistoryServiceClient;
use legate_wire::registry::{
    Agent, AgentRef, AsOf, Declaration, GetAgentRequest, GetDeclarationRequest, GetHistoryHorizonRequest,
    GetHistoryHorizonResponse, HistoryEntry, Kind, ListAgentsRequest, ListDeclarationsRequest, ListHistoryRequest,
};

use crate::Failure;
use crate::cli::When;
use crate::command::search;
use crate::dossier::{Moment, Withheld};
use crate::place::Line;

/// Objects of one page.
pub(super) const PAGE: u32 = 1_000;
/// The longest that one question about the past is waited for.
pub(in crate::command) const PATIENCE: Duration = Duration::from_secs(15);
/// Refusals that are told in the document, beside those for want of a right: what is asked about is there no more, or too large.
const TOLD: [&str; 6] = [
    "REVISION_COMPACTED",
    "PAST_TOO_LARGE",
    "AUDIT_USAGE_TOO_BROAD",
    "DRIFT_TOO_MUCH",
    "DRIFT_NOTHING_LEFT",
    "USAGE_UNAVAILABLE",
];

/// What was asked for, or why it was not given.
pub(in crate::command) type Given<T> = Result<T, Withheld>;

/// Tells a refusal as what was not given. That a service does not answer is no such thing: there is no dossier then.
pub(in crate::command) fn given<T>(asked: Result<T, Failure>) -> Result<Given<T>, Failure> {
    match asked {
        Ok(answer) => Ok(Ok(answer)),
        Err(failure) if failure.exit == crate::Exit::Denied || TOLD.contains(&failure.reason.as_str()) => {
            Ok(Err(Withheld { reason: failure.reason, what: failure.what }))
        }
        Err(failure) => Err(failure),
    }
}

/// The moment that is asked about.
#[derive(Clone, Debug)]
pub(in crate::command) struct Then {
    pub(in crate::command) revision: u64,
    pub(in crate::command) time: Timestamp,
    pub(in crate::command) is_now: bool,
    pub(in crate::command) told: Moment,
}

impl Then {
    /// For the registry and policy-decision.
    pub(in crate::command) fn as_of(&self) -> Option<AsOf> {
        Some(AsOf { at: Some(At::Revision(self.revision)) })
    }

    /// Events and uses before this; `None`: all.
    pub(in crate::command) fn until(&self) -> Option<prost_types::Timestamp> {
        // What happened at the moment itself belongs to it.
        (!self.is_now).then(|| self.time.plus(Duration::from_micros(1)).into())
    }

    /// Whether it lies at the moment or before it.
    pub(in crate::command) fn covers(&self, at: Option<&prost_types::Timestamp>) -> bool {
        at.and_then(|at| Timestamp::try_from(*at).ok()).is_some_and(|at| self.is_now || at <= self.time)
    }
}

/// Which revision is meant, and when it was made.
pub(in crate::command) async fn moment(registry: &Line, when: &When) -> Result<Then, Failure> {
    let asked = search::as_of(when)?;
    let head = |as_of: Option<AsOf>| {
        let kind = Kind::Namespace.into();
        list_page(registry, ListDeclarationsRequest { kind, page_size: 1, as_of, ..Default::default() })
    };
    let as_of = match asked {
        Some(as_of) => as_of,
        None => AsOf { at: Some(At::Revision(head(None).await?.revision)) },
    };
    let page = head(Some(as_of)).await?;
    let made = page.revision_time.and_then(|at| Timestamp::try_from(at).ok());
    let time = match (asked.is_none(), as_of.at) {
        (true, _) => Some(SystemClock::new().now()),
        (false, Some(At::Time(time))) => Timestamp::try_from(time).ok(),
        (false, _) => made,
    };
    let (Some(time), Some(made)) = (time, made) else {
        return Err(Failure::local(&crate::error::USAGE, "--as-of names no moment that there was"));
    };
    let (revision, is_now) = (page.revision, asked.is_none());
    let told = Moment { time: time.to_string(), revision, revision_time: made.to_string(), is_now };
    Ok(Then { revision, time, is_now, told })
}

async fn list_page(
    registry: &Line,
    request: ListDeclarationsRequest,
) -> Result<legate_wire::registry::ListDeclarationsResponse, Failure> {
    registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).list_declarations(r).await }).await
}

/// The objects of a kind in a namespace, as of the moment, so many at most; whether there are more.
pub(in crate::command) async fn objects(
    registry: &Line,
    kind: Kind,
    namespace: &str,
    at: &Then,
    most: usize,
) -> Result<(Vec<Declaration>, bool), Failure> {
    let mut request = ListDeclarationsRequest {
        kind: kind.into(),
        namespace: namespace.to_owned(),
        page_size: PAGE,
        as_of: at.as_of(),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = list_page(registry, request.clone()).await?;
        all.extend(page.declarations);
        request.page_token = page.next_page_token;
        if all.len() > most || request.page_token.is_empty() {
            let is_cut = all.len() > most;
            all.truncate(most);
            return Ok((all, is_cut));
        }
    }
}

/// One object as of the moment; `None`: there was none of this name.
pub(in crate::command) async fn object(
    registry: &Line,
    kind: Kind,
    (namespace, name): (&str, &str),
    at: &Then,
) -> Result<Option<Declaration>, Failure> {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let request = GetDeclarationRequest { kind: kind.into(), namespace, name, as_of: at.as_of() };
    let asked =
        registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await }).await;
    match asked {
        Ok(answer) => Ok(answer.declaration),
        Err(failure) if failure.reason == "OBJECT_NOT_FOUND" => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The agent as of the moment.
pub(super) async fn agent(registry: &Line, agent: AgentRef, at: &Then) -> Result<Agent, Failure> {
    let request = GetAgentRequest { agent: Some(agent), as_of: at.as_of() };
    let answer = registry.ask(request, |c, r| async move { AgentServiceClient::new(c).get_agent(r).await }).await?;
    Ok(answer.agent.unwrap_or_default())
}

/// Agents of a namespace that fit a filter, as of the moment; whether there are more than `most`.
pub(in crate::command) async fn agents(
    registry: &Line,
    namespace: &str,
    filter: &str,
    at: &Then,
    most: usize,
) -> Result<(Vec<Agent>, bool), Failure> {
    let mut request = ListAgentsRequest {
        namespace: namespace.to_owned(),
        filter: filter.to_owned(),
        page_size: PAGE,
        as_of: at.as_of(),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { AgentServiceClient::new(c).list_agents(r).await })
            .await?;
        all.extend(page.agents);
        request.page_token = page.next_page_token;
        if all.len() > most || request.page_token.is_empty() {
            let is_cut = all.len() > most;
            all.truncate(most);
            return Ok((all, is_cut));
        }
    }
}

/// How far back the registry keeps its past.
pub(super) async fn horizon(registry: &Line) -> Result<GetHistoryHorizonResponse, Failure> {
    let request = GetHistoryHorizonRequest {};
    registry.ask(request, |c, r| async move { HistoryServiceClient::new(c).get_history_horizon(r).await }).await
}

/// What was written of an object after one moment and up to another, the newest first; whether there is more.
pub(super) async fn history(
    registry: &Line,
    id: &str,
    since: Option<Timestamp>,
    at: &Then,
    most: usize,
) -> Result<(Vec<HistoryEntry>, bool), Failure> {
    let mut request = ListHistoryRequest { id: id.to_owned(), page_size: 100, ..Default::default() };
    let mut all = Vec::new();
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { HistoryServiceClient::new(c).list_history(r).await })
            .await?;
        let time = |entry: &HistoryEntry| entry.time.and_then(|at| Timestamp::try_from(at).ok());
        let mut is_over = page.next_page_token.is_empty();
        for entry in page.entries.into_iter().filter(|entry| entry.revision <= at.revision) {
            if since.is_some_and(|since| time(&entry).is_some_and(|at| at <= since)) {
                is_over = true;
                break;
            }
            if all.len() == most {
                return Ok((all, true));
            }
            all.push(entry);
        }
        if is_over {
            return Ok((all, false));
        }
        request.page_token = page.next_page_token;
    }
}

/// How often what was decided, up to the moment.
pub(in crate::command) async fn usage(
    audit: &Line,
    namespace: &str,
    agent_id: &str,
    at: &Then,
    by: &[UsageField],
    tree_size: u64,
) -> Result<ListUsageResponse, Failure> {
    let request = ListUsageRequest {
        agent_id: agent_id.to_owned(),
        namespace: namespace.to_owned(),
        to_time: at.until(),
        period: UsagePeriod::Total.into(),
        group_by: by.iter().map(|field| (*field).into()).collect(),
        page_size: PAGE,
        indexed_at_least: tree_size,
        ..Default::default()
    };
    audit.ask(request, |c, r| async move { QueryServiceClient::new(c).list_usage(r).await }).await
}
