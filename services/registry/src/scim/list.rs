//! `GET /Agents`: the agents of the namespace that fit a filter, by their names.

use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use legate_filter::Filter;
use legate_rpc::Fault;
use legate_web::Visitor;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentState, Declaration, Kind};
use serde_json::{Value, json};

use super::answer::{ScimError, answer, refused};
use super::query::Query;
use super::{AGENTS, Facade, filter, namespace, resource};
use crate::flow::list::{self as lists, List, Total, Wanted};

const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
/// Agents of one page, where nobody says.
pub(super) const USUAL: u64 = 100;
/// Agents of one page.
pub(super) const LARGEST: u64 = 1_000;
/// How far an index reaches: further on a list is read by its cursor.
pub(super) const FURTHEST: u64 = 10_000;
/// Pages of ours that are read for one of an index.
const PAGES: usize = 32;

/// What is not retired: a retired agent is not there (RFC 7644 section 3.6).
const STATES: [AgentState; 6] = [
    AgentState::PendingApproval,
    AgentState::Staged,
    AgentState::Active,
    AgentState::Suspended,
    AgentState::Quarantined,
    AgentState::Expired,
];

/// What an answer holds.
struct Found {
    agents: Vec<Agent>,
    total: Total,
    next: String,
}

pub(super) async fn list(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path(within): Path<String>,
    uri: Uri,
) -> Result<Response, ScimError> {
    let by = facade.reader(&visitor, AGENTS)?;
    let query = Query::of_list(&uri)?;
    let filter = query.filter.as_deref().map(filter::read).transpose()?;
    let ask = List {
        by,
        kind: Kind::Agent,
        namespace: namespace(&within)?,
        states: STATES.to_vec(),
        filter: filter.map_or_else(Wanted::default, |filter: Filter| Wanted::Understood(filter)),
        ..List::default()
    };
    let count = query.count.unwrap_or(USUAL).min(LARGEST);
    let start = query.start_index.unwrap_or(1);
    let found = match query.cursor.clone() {
        Some(cursor) => Box::pin(from_cursor(&facade, ask, cursor, count)).await?,
        None => Box::pin(from_index(&facade, ask, start, count)).await?,
    };
    let resources = found.agents.iter().map(|agent| query.selection.of(resource::resource(&facade.url, agent)));
    let resources: Vec<Value> = resources.collect();
    let mut body = json!({
        "schemas": [LIST],
        "totalResults": found.total.count,
        "itemsPerPage": resources.len(),
        "Resources": resources,
    });
    if query.cursor.is_none() {
        body["startIndex"] = start.into();
    } else if !found.next.is_empty() {
        body["nextCursor"] = found.next.into();
    }
    Ok(answer(StatusCode::OK, &body))
}

/// RFC 9865: a page of ours is one of theirs. It can be short, and still have a next one.
async fn from_cursor(facade: &Facade, ask: List, cursor: String, count: u64) -> Result<Found, Fault> {
    let page_size = u32::try_from(count).unwrap_or(u32::MAX);
    if page_size == 0 {
        return Err(refused("invalidCount", "count", "has to be 1 to 1,000 where a cursor is used"));
    }
    let ask = List { page_size, page_token: cursor, ..ask };
    let page = lists::list(&facade.desk, ask).await?;
    Ok(Found {
        agents: page.objects.into_iter().filter_map(agent).collect(),
        total: page.total,
        next: page.next_page_token,
    })
}

/// From the beginning to the index and through the page: each page of ours is read at a revision of its own, so that a list
/// that is written meanwhile can show an agent twice, or pass one over. The cursor does not.
async fn from_index(facade: &Facade, ask: List, start: u64, count: u64) -> Result<Found, Fault> {
    let end = start.saturating_sub(1).saturating_add(count);
    if end > FURTHEST {
        let why = format!("reaches beyond the first {FURTHEST} agents; use a cursor, or a narrower filter");
        return Err(refused("tooMany", "startIndex", why));
    }
    let (mut agents, mut passed, mut token, mut total) = (Vec::new(), 0, String::new(), None);
    for _ in 0..PAGES {
        let page_size = u32::try_from((end - passed).clamp(1, LARGEST)).unwrap_or(1);
        let ask = List { page_size, page_token: token, ..ask.clone() };
        let page = lists::list(&facade.desk, ask).await?;
        total.get_or_insert(page.total);
        for agent in page.objects.into_iter().filter_map(agent) {
            passed += 1;
            if passed >= start && passed <= end {
                agents.push(agent);
            }
        }
        token = page.next_page_token;
        if passed >= end || token.is_empty() {
            let total = total.unwrap_or(page.total);
            return Ok(Found { agents, total, next: String::new() });
        }
    }
    Err(refused("tooMany", "filter", "fits so few of so many agents that an index takes too long; use a cursor"))
}

fn agent(declaration: Declaration) -> Option<Agent> {
    match declaration.object {
        Some(Object::Agent(agent)) => Some(agent),
        _ => None,
    }
}
