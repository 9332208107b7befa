//! Searches (AuthZEN section 8): agents, resources and actions of which an evaluation would say yes now.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_web::Visitor;
use legate_wire::policy as wire;
use serde_json::{Map, Value, json};

use super::answer::{self, AuthzenError};
use super::entity::{AGENT, Tuple, bad, in_authzen, member};
use super::{ACTIONS, Asked, Facade, RESOURCES, SUBJECTS};
use crate::api::asking;
use crate::convert;
use crate::error::AGENT_UNKNOWN;
use crate::flow::{self, Asker, Search, Sought};

/// Agents of one page.
const LARGEST: u64 = 1_000;
/// Stands where what is sought will be put.
const ANY_ACTION: &str = "any";
const ANY_ID: &str = "any";

/// What a caller says of pages (section 8.2).
#[derive(Clone, Debug, Default)]
struct Page {
    token: String,
    limit: u32,
    /// What is named one by one suffices.
    is_partial: bool,
}

impl Page {
    fn of(whole: &Map<String, Value>) -> Result<Self, Fault> {
        let page = match member(whole, "page") {
            None => return Ok(Self::default()),
            Some(Value::Object(page)) => page,
            Some(_) => return Err(bad("page", "has to be an object")),
        };
        let token = match member(page, "token") {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => return Err(bad("page.token", "has to be a text")),
        };
        let limit = match member(page, "limit").map(Value::as_u64) {
            None => 0,
            Some(Some(limit @ 1..)) => u32::try_from(limit.min(LARGEST)).unwrap_or(0),
            Some(_) => return Err(bad("page.limit", "has to be a whole number from 1 on")),
        };
        let partial = match member(page, "properties") {
            None => None,
            Some(Value::Object(properties)) => member(properties, "partial"),
            Some(_) => return Err(bad("page.properties", "has to be an object")),
        };
        let is_partial = match partial.map(Value::as_bool) {
            None => false,
            Some(Some(yes)) => yes,
            Some(None) => return Err(bad("page.properties.partial", "is true or false")),
        };
        Ok(Self { token, limit, is_partial })
    }
}

pub(super) async fn subjects(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AuthzenError> {
    let asker = facade.admit(&visitor, SUBJECTS)?;
    let asked = Asked::of(&headers)?;
    let whole = super::json::read(&headers, &body)?;
    let (tuple, page) = (Tuple::whole(&whole), Page::of(&whole)?);
    let kind = tuple.text("subject", "type")?;
    let question = wire::WhoCanRequest {
        action: tuple.text("action", "name")?.to_owned(),
        resource: Some(tuple.resource(None)?),
        context: tuple.context(true)?,
        namespace: tuple.property("namespace")?.unwrap_or_default().to_owned(),
        on_behalf_of: tuple.property("on_behalf_of")?.unwrap_or_default().to_owned(),
        page_size: page.limit,
        page_token: page.token,
        at_least_revision: asked.at_least_revision,
    };
    let question = asking::who_can(question).map_err(in_authzen)?;
    if kind != AGENT {
        return Ok(none(&facade, &asker)?);
    }
    let found = Box::pin(flow::who_can(&facade.desk, &asker, question)).await?;
    // Of whom it hangs on something that was not said, an evaluation could say no.
    let sure = found.holders.iter().filter(|holder| holder.on.is_none());
    let results: Vec<Value> = sure
        .map(|holder| {
            let label = &holder.agent.label;
            let properties = json!({ "namespace": label.namespace.as_str(), "name": label.name.as_str() });
            json!({ "type": AGENT, "id": holder.agent.id.to_string(), "properties": properties })
        })
        .collect();
    Ok(answer::json(&json!({
        "page": { "next_token": found.next_page_token, "count": results.len() },
        "context": { "revision": found.revision, "undecided": found.holders.len() - results.len() },
        "results": results,
    })))
}

pub(super) async fn resources(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AuthzenError> {
    let asker = facade.admit(&visitor, RESOURCES)?;
    Ok(named(&facade, &asker, &headers, &body, Sought::Resources).await?)
}

pub(super) async fn actions(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AuthzenError> {
    let asker = facade.admit(&visitor, ACTIONS)?;
    Ok(named(&facade, &asker, &headers, &body, Sought::Actions).await?)
}

/// What one agent may do; there is one page of it.
async fn named(
    facade: &Facade,
    asker: &Asker,
    headers: &HeaderMap,
    body: &[u8],
    sought: Sought,
) -> Result<Response, Fault> {
    let asked = Asked::of(headers)?;
    let whole = super::json::read(headers, body)?;
    let (tuple, page) = (Tuple::whole(&whole), Page::of(&whole)?);
    if !page.token.is_empty() {
        return Err(bad("page.token", "there is one page of this search, and no token is given out"));
    }
    let (kind, id) = (tuple.text("subject", "type")?, tuple.text("subject", "id")?);
    if tuple.property("token")?.is_some() {
        return Err(bad("subject.properties.token", "a search is about an agent by its id; leave it out"));
    }
    let (action, resource_id) = match sought {
        Sought::Actions => (ANY_ACTION, None),
        Sought::Resources => (tuple.text("action", "name")?, Some(ANY_ID)),
    };
    let context = tuple.context(sought == Sought::Resources)?;
    let question = convert::searched(action, Some(tuple.resource(resource_id)?), context).map_err(in_authzen)?;
    let on_behalf_of = tuple.property("on_behalf_of")?.map(convert::for_whom).transpose().map_err(in_authzen)?;
    let resource_type = question.resource_type.clone();
    // Whoever is not known can do nothing (certification scenario, section 4.6).
    let Some(agent) = AgentId::parse(id).ok().filter(|_| kind == AGENT) else {
        return none(facade, asker);
    };
    let search = Search {
        sought,
        agent,
        on_behalf_of,
        question,
        is_partial: page.is_partial,
        at_least_revision: asked.at_least_revision,
    };
    let found = match Box::pin(flow::search(&facade.desk, asker, search)).await {
        Err(Fault::Refused(refusal)) if refusal.reason.name == AGENT_UNKNOWN.name => return none(facade, asker),
        found => found?,
    };
    let result = |name: &String| match sought {
        Sought::Actions => json!({ "name": name }),
        Sought::Resources => json!({ "type": resource_type.as_str(), "id": name }),
    };
    let results: Vec<Value> = found.names.iter().map(result).collect();
    let mut told = json!({ "next_token": "", "count": results.len(), "total": results.len() });
    if page.is_partial {
        let properties = json!({ "patterns": found.patterns, "complete": found.patterns.is_empty() });
        told = json!({ "next_token": "", "count": results.len(), "properties": properties });
    }
    Ok(answer::json(&json!({ "page": told, "context": { "revision": found.revision }, "results": results })))
}

/// Nothing was found, for whoever may search.
fn none(facade: &Facade, asker: &Asker) -> Result<Response, Fault> {
    let revision = flow::may_search(&facade.desk, asker)?;
    let page = json!({ "next_token": "", "count": 0 });
    Ok(answer::json(&json!({ "page": page, "context": { "revision": revision }, "results": [] })))
}
