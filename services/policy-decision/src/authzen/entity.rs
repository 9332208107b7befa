//! Subject, action, resource and context (AuthZEN section 5), as a question of ours.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_wire::policy as wire;
use prost_types::{Struct, Value as ProtoValue, value::Kind};
use serde_json::{Map, Value};

use super::{Asked, json};
use crate::convert::{self, Ask};
use crate::error::QUESTION_INVALID;
use crate::flow::Desk;

/// The one type of subject about which is decided.
pub(super) const AGENT: &str = "agent";
/// Under this name policies read the properties of the action: `context.action`.
const ACTION: &str = "action";

/// The names of our fields, and where they are here.
const PLACES: [(&str, &str); 8] = [
    ("subject.agent_id", "subject.id"),
    ("subject.access_token", "subject.properties.token"),
    ("subject.presenter_x5t_s256", "subject.properties.presenter_x5t_s256"),
    ("subject.presenter_jkt", "subject.properties.presenter_jkt"),
    ("subject.on_behalf_of.subject", "subject.properties.on_behalf_of"),
    ("subject.on_behalf_of.grant", "subject.properties.grant"),
    ("resource.attributes", "resource.properties"),
    ("action", "action.name"),
];

/// A part of a request that cannot be read.
pub(super) fn bad(field: &str, why: impl Into<String>) -> Fault {
    let why = why.into();
    Fault::refused(&QUESTION_INVALID, format!("{field}: {why}")).field(field, why)
}

/// A fault of our reader, told by the names of AuthZEN.
pub(super) fn in_authzen(fault: Fault) -> Fault {
    match fault {
        Fault::Refused(mut refusal) => {
            if let [(path, why)] = refusal.fields.as_mut_slice() {
                if let Some((_, place)) = PLACES.iter().find(|(ours, _)| path == ours) {
                    (*place).clone_into(path);
                }
                refusal.message = format!("{path}: {why}");
            }
            Fault::Refused(refusal)
        }
        other => other,
    }
}

/// A member that is not there where it is null.
pub(super) fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// One question, and the one whom it is about as the caller names him.
#[derive(Clone, Debug)]
pub(super) struct Single {
    pub(super) ask: Ask,
    pub(super) agent: AgentId,
}

/// The members of one question, and what counts where one is left out (section 7.1.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuple<'a> {
    own: &'a Map<String, Value>,
    defaults: &'a Map<String, Value>,
}

impl<'a> Tuple<'a> {
    /// A question that is whole.
    pub(super) fn whole(own: &'a Map<String, Value>) -> Self {
        Self { own, defaults: own }
    }

    /// One of several.
    pub(super) fn with_defaults(own: &'a Map<String, Value>, defaults: &'a Map<String, Value>) -> Self {
        Self { own, defaults }
    }

    fn entity(self, name: &str) -> Result<&'a Map<String, Value>, Fault> {
        match member(self.own, name).or_else(|| member(self.defaults, name)) {
            None => Err(bad(name, "is required")),
            Some(Value::Object(object)) => Ok(object),
            Some(_) => Err(bad(name, "has to be an object")),
        }
    }

    /// A text that has to be there. An entity replaces the default as a whole, but for what every entity has to say.
    pub(super) fn text(self, entity: &str, name: &str) -> Result<&'a str, Fault> {
        let own = member(self.entity(entity)?, name);
        let default = || member(member(self.defaults, entity)?.as_object()?, name);
        let place = format!("{entity}.{name}");
        match own.or_else(default) {
            None => Err(bad(&place, "is required")),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(bad(&place, "has to be a text")),
        }
    }

    fn properties(self, entity: &str) -> Result<Option<&'a Map<String, Value>>, Fault> {
        match member(self.entity(entity)?, "properties") {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(bad(&format!("{entity}.properties"), "has to be an object")),
        }
    }

    /// A text of the subject's properties.
    pub(super) fn property(self, name: &str) -> Result<Option<&'a str>, Fault> {
        match self.properties("subject")?.and_then(|all| member(all, name)) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(bad(&format!("subject.properties.{name}"), "has to be a text")),
        }
    }

    fn hash(self, name: &str) -> Result<Vec<u8>, Fault> {
        let Some(text) = self.property(name)? else { return Ok(Vec::new()) };
        let read = Base64UrlUnpadded::decode_vec(text).ok().filter(|bytes| bytes.len() == 32);
        read.ok_or_else(|| {
            bad(&format!("subject.properties.{name}"), "has to be a SHA-256 in base64url without padding")
        })
    }

    fn subject(self) -> Result<(wire::Subject, AgentId), Fault> {
        let kind = self.text("subject", "type")?;
        let id = self.text("subject", "id")?;
        if kind != AGENT {
            let why = "has to be agent; for whom an agent acts is subject.properties.on_behalf_of, or in its token";
            return Err(bad("subject.type", why));
        }
        let agent = AgentId::parse(id).map_err(|e| bad("subject.id", e.to_string()))?;
        let by = match self.property("token")? {
            Some(token) => wire::subject::Agent::AccessToken(token.to_owned()),
            None => wire::subject::Agent::AgentId(id.to_owned()),
        };
        let subject = wire::Subject {
            agent: Some(by),
            presenter_x5t_s256: self.hash("presenter_x5t_s256")?,
            presenter_jkt: self.hash("presenter_jkt")?,
            on_behalf_of: self.on_behalf_of()?,
        };
        Ok((subject, agent))
    }

    fn on_behalf_of(self) -> Result<Option<wire::OnBehalfOf>, Fault> {
        let grant = self.property("grant")?.unwrap_or_default();
        match self.property("on_behalf_of")? {
            Some(subject) => Ok(Some(wire::OnBehalfOf { subject: subject.to_owned(), grant: grant.to_owned() })),
            None if grant.is_empty() => Ok(None),
            None => Err(bad("subject.properties.grant", "is for subject.properties.on_behalf_of, which is not there")),
        }
    }

    /// The resource; `id` stands in place of its id where that is what is sought.
    pub(super) fn resource(self, id: Option<&str>) -> Result<wire::Resource, Fault> {
        let attributes = self.properties("resource")?.map(json::structure).transpose();
        Ok(wire::Resource {
            r#type: self.text("resource", "type")?.to_owned(),
            id: id.map_or_else(|| self.text("resource", "id"), Ok)?.to_owned(),
            attributes: attributes.map_err(|why| bad("resource.properties", why))?,
        })
    }

    /// The context, with the properties of the action in it; `has_action`: one is asked about.
    pub(super) fn context(self, has_action: bool) -> Result<Option<Struct>, Fault> {
        let context = match member(self.own, "context").or_else(|| member(self.defaults, "context")) {
            None => None,
            Some(Value::Object(object)) => Some(json::structure(object).map_err(|why| bad("context", why))?),
            Some(_) => return Err(bad("context", "has to be an object")),
        };
        let properties = if has_action { self.properties("action")? } else { None };
        let Some(properties) = properties else { return Ok(context) };
        let properties = json::structure(properties).map_err(|why| bad("action.properties", why))?;
        let mut context = context.unwrap_or_default();
        let properties = ProtoValue { kind: Some(Kind::StructValue(properties)) };
        if context.fields.insert(ACTION.to_owned(), properties).is_some() {
            return Err(bad("context.action", "is said by action.properties; give one of them"));
        }
        Ok(Some(context))
    }

    /// The question.
    pub(super) fn read(self, desk: &Desk, asked: &Asked) -> Result<Single, Fault> {
        let (subject, agent) = self.subject()?;
        let question = wire::EvaluateRequest {
            subject: Some(subject),
            action: self.text("action", "name")?.to_owned(),
            resource: Some(self.resource(None)?),
            context: self.context(true)?,
            at_least_revision: asked.at_least_revision,
            correlation_id: asked.correlation.clone(),
            ..wire::EvaluateRequest::default()
        };
        let ask = convert::ask(question, "").map_err(in_authzen)?;
        if let convert::Subject::Token(token) = &ask.subject
            && desk.tokens.agent_of(&desk.view.current(), token).is_some_and(|proved| proved != agent)
        {
            return Err(bad("subject.id", "is another agent than the one whose token it is"));
        }
        Ok(Single { ask, agent })
    }
}
