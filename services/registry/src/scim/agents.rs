//! One agent: created, read, replaced, patched, retired.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use legate_ids::AgentId;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_web::Visitor;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentRef, Declaration, RetireAgentResponse};

use super::answer::{ScimError, answer, refused};
use super::draft::{Draft, Way};
use super::patch::Patch;
use super::query::Query;
use super::select::Selection;
use super::{AGENT, Facade, json, namespace, resource};
use crate::domain::lifecycle::Transition;
use crate::flow::amend::{self, Change, Whose};
use crate::flow::create_agent::{self, Beginning};
use crate::flow::transition::{self, Ask, Step};
use crate::flow::{By, Call, read};

const CREATE: &str = "SCIM POST /Agents";
const REPLACE: &str = "SCIM PUT /Agents/ID";
const PATCH: &str = "SCIM PATCH /Agents/ID";
const RETIRE: &str = "SCIM DELETE /Agents/ID";

pub(super) async fn create(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path(within): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ScimError> {
    let call = facade.call(&visitor, CREATE, &headers, &[within.as_bytes(), &body])?;
    let (selection, within) = (Query::of_one(&uri)?, namespace(&within)?);
    let body = json::read(&headers, &body)?;
    has_schemas(&body)?;
    let mut draft = Draft::default();
    draft.take_all(&body, Way::Whole)?;
    let (agent, is_active) = draft.into_agent(&within);
    let beginning = if is_active { Beginning::AsItsClassSays } else { Beginning::Stopped };
    let journey = create_agent::begin(&facade.desk, call.clone(), agent, beginning);
    let made = Box::pin(facade.noted(&call, CREATE, journey)).await?;
    let agent = made.agent.unwrap_or_default();
    let mut created = facade.show(StatusCode::CREATED, &agent, &selection);
    if let Ok(location) = HeaderValue::try_from(resource::location(&facade.url, &agent)) {
        created.headers_mut().insert(header::LOCATION, location);
    }
    Ok(created)
}

pub(super) async fn get(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path((within, id)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ScimError> {
    let by = facade.reader(&visitor, AGENT)?;
    let selection = Query::of_one(&uri)?;
    let agent = Box::pin(facade.read(&by, &namespace(&within)?, &id)).await?;
    let known = super::header(&headers, header::IF_NONE_MATCH.as_str())?;
    if known.is_some_and(|known| known.split(',').any(|one| opaque(one) == opaque(&resource::version(&agent)))) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    Ok(facade.show(StatusCode::OK, &agent, &selection))
}

pub(super) async fn replace(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path((within, id)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ScimError> {
    let call = facade.call(&visitor, REPLACE, &headers, &[within.as_bytes(), id.as_bytes(), &body])?;
    let whose = Whose { namespace: namespace(&within)?, id: agent_id(&id)?, etag: if_match(&headers)? };
    let (selection, body) = (Query::of_one(&uri)?, json::read(&headers, &body)?);
    has_schemas(&body)?;
    let change = move |agent: &Agent| -> Result<Change, Fault> {
        let mut draft = Draft::of(agent).emptied()?;
        draft.take_all(&body, Way::Whole)?;
        Ok(draft.into_change(agent))
    };
    Box::pin(facade.amend(call, whose, REPLACE, Standard::Ordinary, change, &selection)).await
}

pub(super) async fn patch(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path((within, id)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ScimError> {
    let call = facade.call(&visitor, PATCH, &headers, &[within.as_bytes(), id.as_bytes(), &body])?;
    let whose = Whose { namespace: namespace(&within)?, id: agent_id(&id)?, etag: if_match(&headers)? };
    let (selection, patch) = (Query::of_one(&uri)?, Patch::read(&json::read(&headers, &body)?)?);
    // What stops somebody may use the outbox's reserve, as over gRPC.
    let standard = if patch.only_stops() { Standard::Stopping } else { Standard::Ordinary };
    let change = move |agent: &Agent| -> Result<Change, Fault> {
        let mut draft = Draft::of(agent);
        patch.apply(&mut draft)?;
        Ok(draft.into_change(agent))
    };
    Box::pin(facade.amend(call, whose, PATCH, standard, change, &selection)).await
}

pub(super) async fn retire(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path((within, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ScimError> {
    let call = facade.call(&visitor, RETIRE, &headers, &[within.as_bytes(), id.as_bytes()])?;
    let (within, etag) = (namespace(&within)?, if_match(&headers)?);
    let journey = async {
        // An agent stays in its namespace for ever, so what is read of that before holds.
        facade.read(&call.by, &within, &id).await?;
        let ask = Ask { agent: Some(reference(&id)), etag };
        let step = Step::Transition(Transition::Retire);
        let answer = |agent, revision| RetireAgentResponse { agent: Some(agent), revision };
        transition::transition(&facade.desk, call.clone(), ask, step, answer).await
    };
    Box::pin(facade.noted(&call, RETIRE, journey)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Facade {
    /// The agent, where it is there for this caller and this path.
    async fn read(&self, by: &By, within: &str, id: &str) -> Result<Agent, Fault> {
        let named = agent_id(id)?;
        let (agent, _) = read::agent(&self.desk, by, Some(reference(named.as_str())), None).await?;
        amend::is_there(&agent, within, id)?;
        Ok(agent)
    }

    async fn amend<F>(
        &self,
        call: Call,
        whose: Whose,
        method: &'static str,
        standard: Standard,
        change: F,
        selection: &Selection,
    ) -> Result<Response, ScimError>
    where
        F: Fn(&Agent) -> Result<Change, Fault> + Send + Sync + 'static,
    {
        let journey = amend::amend(&self.desk, call.clone(), whose, standard, change);
        let written = self.noted(&call, method, journey).await?;
        match written.declaration {
            Some(Declaration { object: Some(Object::Agent(agent)) }) => {
                Ok(self.show(StatusCode::OK, &agent, selection))
            }
            _ => Err(Fault::broken("an agent was written and is none").into()),
        }
    }

    /// An agent, with its version.
    fn show(&self, status: StatusCode, agent: &Agent, selection: &Selection) -> Response {
        let mut shown = answer(status, &selection.of(resource::resource(&self.url, agent)));
        if let Ok(version) = HeaderValue::try_from(resource::version(agent)) {
            shown.headers_mut().insert(header::ETAG, version);
        }
        shown
    }
}

fn reference(id: &str) -> AgentRef {
    AgentRef { id: id.to_owned(), ..AgentRef::default() }
}

/// What is no id at all is nobody's.
fn agent_id(id: &str) -> Result<AgentId, Fault> {
    AgentId::parse(id).map_err(|_| amend::nobody(id))
}

/// The one version that a write is about; empty: any.
fn if_match(headers: &HeaderMap) -> Result<String, Fault> {
    let given = super::header(headers, header::IF_MATCH.as_str())?.map(opaque);
    match given {
        None | Some("*") => Ok(String::new()),
        Some(etag) if !etag.is_empty() && !etag.contains(['"', ',']) => Ok(etag.to_owned()),
        Some(_) => Err(refused("invalidValue", "if-match", "has to be one version, as meta.version is given, or *")),
    }
}

/// What is in an entity tag, weak or not.
fn opaque(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

fn has_schemas(body: &serde_json::Map<String, serde_json::Value>) -> Result<(), Fault> {
    if body.keys().any(|name| name.eq_ignore_ascii_case("schemas")) {
        return Ok(());
    }
    Err(refused("invalidSyntax", "schemas", format!("is missing; name {}", super::attribute::CORE)))
}
