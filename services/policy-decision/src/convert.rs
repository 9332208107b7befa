//! Between the wire and what is decided: decoding may fail, encoding may not.

use std::fmt;
use std::time::Duration;

use legate_ids::{Action, AgentId, Name, ResourceId, ResourceType};
use legate_rpc::Fault;
use legate_wire::policy as wire;
use prost::Message;
use prost_types::value::Kind;

use crate::domain::answer::{Cause, CauseKind, Denial};
use crate::domain::behalf::ON_BEHALF_OF;
use crate::domain::question::{Question, Record, Stated, Value};
use crate::error::QUESTION_INVALID;
use crate::flow::Shown;

/// The most bytes that a context, and the attributes of a resource, may have on the wire.
const MAX_STRUCT: usize = 64 << 10;

/// The most of a field's name that is said back.
const MAX_SAID: usize = 64;

/// The most bytes of a correlation id.
const MAX_CORRELATION: usize = 128;

/// The most bytes of an access token.
const MAX_TOKEN: usize = 8 << 10;

/// The most bytes of certificates that were shown.
const MAX_CERTIFICATES: usize = 16 << 10;

/// How the agent is known.
#[derive(Clone)]
pub(crate) enum Subject {
    /// By a token, which is to be proved.
    Token(String),
    /// By its id, on the caller's word.
    Asserted(AgentId),
    /// By its certificates in DER, which are to be verified; that they were shown is the caller's word.
    Certificate(Vec<u8>),
}

impl Subject {
    /// Whether the caller's word stands for it.
    pub(crate) fn is_on_word(&self) -> bool {
        matches!(self, Self::Asserted(_) | Self::Certificate(_))
    }
}

/// Never shows the token.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(..)"),
            Self::Asserted(id) => write!(f, "Asserted({id})"),
            Self::Certificate(der) => write!(f, "Certificate({} bytes)", der.len()),
        }
    }
}

/// For whom an agent acts, on the caller's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnBehalfOf {
    /// `user:NAME` or `agent:NAME`.
    pub(crate) subject: String,
    /// The grant by which it acts; `None`: any.
    pub(crate) grant: Option<Name>,
}

/// One question as it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) subject: Subject,
    /// SHA-256 of the certificate that the agent showed to the caller.
    pub(crate) presenter: Option<[u8; 32]>,
    /// RFC 7638 thumbprint of the key whose DPoP proof the caller verified.
    pub(crate) presenter_key: Option<[u8; 32]>,
    /// For whom the agent acts, on the caller's word.
    pub(crate) on_behalf_of: Option<OnBehalfOf>,
    pub(crate) question: Question,
    pub(crate) at_least_revision: u64,
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) correlation_id: String,
}

/// A refusal inside a message: what the call would have ended with.
pub(crate) fn item_error(fault: Fault) -> legate_wire::rpc::Status {
    let status = tonic::Status::from(fault);
    // The details are the whole of it, encoded.
    legate_wire::rpc::Status::decode(status.details()).unwrap_or_else(|_| legate_wire::rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// A part of a question that cannot be read: where, and why.
struct Bad(&'static str, String);

impl Bad {
    fn fault(self, place: &str) -> Fault {
        let path = format!("{place}{}", self.0);
        Fault::refused(&QUESTION_INVALID, format!("{path}: {}", self.1)).field(path, self.1)
    }
}

/// Reads one question; `place` is put before the names of its fields, such as `evaluations[3].`.
pub(crate) fn ask(from: wire::EvaluateRequest, place: &str) -> Result<Ask, Fault> {
    read(from).map_err(|bad| bad.fault(place))
}

/// A SHA-256, or nothing.
fn hash(field: &'static str, bytes: &[u8]) -> Result<Option<[u8; 32]>, Bad> {
    match bytes.len() {
        0 => Ok(None),
        _ => bytes.try_into().map(Some).map_err(|_| Bad(field, "a SHA-256 has 32 bytes".into())),
    }
}

fn read(from: wire::EvaluateRequest) -> Result<Ask, Bad> {
    let subject = from.subject.ok_or_else(|| Bad("subject", "is required".into()))?;
    let presenter = hash("subject.presenter_x5t_s256", &subject.presenter_x5t_s256)?;
    let presenter_key = hash("subject.presenter_jkt", &subject.presenter_jkt)?;
    let on_behalf_of = subject.on_behalf_of.map(on_behalf_of).transpose()?;
    let subject = match subject.agent {
        Some(wire::subject::Agent::AccessToken(token)) if token.len() <= MAX_TOKEN => Subject::Token(token),
        Some(wire::subject::Agent::AccessToken(_)) => {
            return Err(Bad("subject.access_token", format!("is longer than {MAX_TOKEN} bytes")));
        }
        Some(wire::subject::Agent::AgentId(id)) => {
            Subject::Asserted(AgentId::parse(&id).map_err(|e| Bad("subject.agent_id", e.to_string()))?)
        }
        Some(wire::subject::Agent::CertificateChain(der)) if (1..=MAX_CERTIFICATES).contains(&der.len()) => {
            Subject::Certificate(der)
        }
        Some(wire::subject::Agent::CertificateChain(_)) => {
            return Err(Bad("subject.certificate_chain", format!("has 1 to {MAX_CERTIFICATES} bytes")));
        }
        None => {
            return Err(Bad("subject", "names no agent; give access_token, agent_id or certificate_chain".into()));
        }
    };
    let question = question(&from.action, from.resource, from.context)?;
    if from.correlation_id.len() > MAX_CORRELATION || from.correlation_id.chars().any(char::is_control) {
        return Err(Bad("correlation_id", "is 128 bytes at most, without control characters".into()));
    }
    Ok(Ask {
        subject,
        presenter,
        presenter_key,
        on_behalf_of,
        question,
        at_least_revision: from.at_least_revision,
        max_staleness: from
            .max_staleness
            .map(|d| Duration::try_from(d).map_err(|e| Bad("max_staleness", e.to_string())))
            .transpose()?,
        correlation_id: from.correlation_id,
    })
}

/// A token that was shown, and by what.
pub(crate) fn shown(from: wire::Subject) -> Result<(String, Shown), Fault> {
    let read = || -> Result<_, Bad> {
        let presenter = hash("presenter_x5t_s256", &from.presenter_x5t_s256)?;
        let presenter_key = hash("presenter_jkt", &from.presenter_jkt)?;
        if from.on_behalf_of.is_some() {
            return Err(Bad("on_behalf_of", "a token says itself for whom its agent acts; leave it out".into()));
        }
        match from.agent {
            Some(wire::subject::Agent::AccessToken(token)) if token.len() <= MAX_TOKEN => {
                Ok((token, Shown { presenter, presenter_key }))
            }
            _ => Err(Bad("access_token", format!("is required here, {MAX_TOKEN} bytes at most"))),
        }
    };
    read().map_err(|bad| bad.fault("subject."))
}

/// What is asked of whoever it is about.
fn question(
    action: &str,
    resource: Option<wire::Resource>,
    said: Option<prost_types::Struct>,
) -> Result<Question, Bad> {
    let resource = resource.ok_or_else(|| Bad("resource", "is required".into()))?;
    let resource_type = ResourceType::parse(&resource.r#type).map_err(|e| Bad("resource.type", e.to_string()))?;
    if legate_cedar::is_reserved(resource_type.as_str()) {
        let why = format!("{resource_type} is a type of Legate's own and cannot be a resource's");
        return Err(Bad("resource.type", why));
    }
    Ok(Question {
        action: Action::parse(action).map_err(|e| Bad("action", e.to_string()))?,
        resource_type,
        resource_id: ResourceId::parse(&resource.id).map_err(|e| Bad("resource.id", e.to_string()))?,
        attributes: Stated(record(resource.attributes, "resource.attributes")?),
        context: context(said)?,
    })
}

/// A question that is asked of every agent.
pub(crate) fn searched(
    action: &str,
    resource: Option<wire::Resource>,
    said: Option<prost_types::Struct>,
) -> Result<Question, Fault> {
    question(action, resource, said).map_err(|bad| bad.fault(""))
}

/// For whom agents are searched that act for him.
pub(crate) fn for_whom(subject: &str) -> Result<OnBehalfOf, Fault> {
    let said = wire::OnBehalfOf { subject: subject.to_owned(), grant: String::new() };
    on_behalf_of(said).map_err(|bad| {
        Fault::refused(&QUESTION_INVALID, format!("on_behalf_of: {}", bad.1)).field("on_behalf_of", bad.1)
    })
}

fn on_behalf_of(from: wire::OnBehalfOf) -> Result<OnBehalfOf, Bad> {
    let place = "subject.on_behalf_of.subject";
    match from.subject.split_once(':') {
        // Who is named so, grants and bindings say letter for letter; a name of any other form is in none.
        Some(("user", name)) if (1..=256).contains(&name.len()) => {}
        Some(("agent", name)) => drop(Name::parse(name).map_err(|e| Bad(place, e.to_string()))?),
        _ => return Err(Bad(place, "give user:NAME or agent:NAME".into())),
    }
    let grant = match from.grant.as_str() {
        "" => None,
        name => Some(Name::parse(name).map_err(|e| Bad("subject.on_behalf_of.grant", e.to_string()))?),
    };
    Ok(OnBehalfOf { subject: from.subject, grant })
}

/// What the caller gives, without the word that is ours to say.
fn context(from: Option<prost_types::Struct>) -> Result<Record, Bad> {
    let context = record(from, "context")?;
    if context.contains_key(ON_BEHALF_OF) {
        let why = format!("{ON_BEHALF_OF} is said by the service itself; give it as subject.on_behalf_of");
        return Err(Bad("context", why));
    }
    Ok(context)
}

/// The question of a policy test.
pub(crate) fn case(from: &legate_wire::registry::PolicyTestCase) -> Result<Question, String> {
    let told = |bad: Bad| format!("{}: {}", bad.0, bad.1);
    Ok(Question {
        action: Action::parse(&from.action).map_err(|e| format!("action: {e}"))?,
        resource_type: ResourceType::parse(&from.resource_type).map_err(|e| format!("resource_type: {e}"))?,
        resource_id: ResourceId::parse(&from.resource_id).map_err(|e| format!("resource_id: {e}"))?,
        attributes: Stated(record(from.attributes.clone(), "attributes").map_err(told)?),
        context: record(from.context.clone(), "context").map_err(told)?,
    })
}

fn record(from: Option<prost_types::Struct>, place: &'static str) -> Result<Record, Bad> {
    let Some(from) = from else {
        return Ok(Record::new());
    };
    if from.encoded_len() > MAX_STRUCT {
        return Err(Bad(place, format!("is larger than {MAX_STRUCT} bytes")));
    }
    fields(from).map_err(|why| Bad(place, why))
}

fn fields(from: prost_types::Struct) -> Result<Record, String> {
    from.fields
        .into_iter()
        .map(|(name, value)| match self::value(value) {
            Ok(value) => Ok((name, value)),
            Err(why) => Err(format!("{}: {why}", name.escape_debug().take(MAX_SAID).collect::<String>())),
        })
        .collect()
}

fn value(from: prost_types::Value) -> Result<Value, String> {
    /// Every whole number up to here is exact in a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match from.kind {
        Some(Kind::BoolValue(b)) => Ok(Value::Bool(b)),
        Some(Kind::StringValue(text)) => Ok(Value::Text(text)),
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && n.abs() <= EXACT =>
        {
            #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            Ok(Value::Long(n as i64))
        }
        Some(Kind::NumberValue(_)) => Err("policies know whole numbers up to 2^53 only; give others as text".into()),
        Some(Kind::ListValue(list)) => {
            let values: Result<_, _> = list.values.into_iter().map(value).collect();
            values.map(Value::Set)
        }
        Some(Kind::StructValue(inner)) => fields(inner).map(Value::Record),
        Some(Kind::NullValue(_)) | None => Err("policies know no null; leave the field out".into()),
    }
}

/// A cause as the caller reads it.
pub(crate) fn reason(from: &Cause) -> wire::Reason {
    let kind = match from.kind {
        CauseKind::Class => wire::ReasonKind::ClassPermission,
        CauseKind::Binding => wire::ReasonKind::RoleBinding,
        CauseKind::Ceiling => wire::ReasonKind::Ceiling,
        CauseKind::Boundary => wire::ReasonKind::Boundary,
        CauseKind::Permit => wire::ReasonKind::PermitPolicy,
        CauseKind::Forbid => wire::ReasonKind::ForbidPolicy,
        CauseKind::Holding => wire::ReasonKind::ApprovalPolicy,
        CauseKind::Approval => wire::ReasonKind::Approval,
        CauseKind::PolicyError => wire::ReasonKind::PolicyError,
        CauseKind::AgentState => wire::ReasonKind::AgentState,
        CauseKind::Grant => wire::ReasonKind::DelegationGrant,
        CauseKind::Delegator => wire::ReasonKind::Delegator,
        CauseKind::Token => wire::ReasonKind::Token,
        CauseKind::View => wire::ReasonKind::View,
        CauseKind::Audit => wire::ReasonKind::Audit,
        CauseKind::Object => wire::ReasonKind::Object,
    };
    wire::Reason {
        kind: kind.into(),
        name: from.name.clone(),
        version: from.version,
        id: from.id.clone(),
        text: from.text.clone(),
    }
}

/// A kind of denial as the caller reads it.
pub(crate) fn denial(from: Denial) -> wire::Denial {
    match from {
        Denial::Forbidden => wire::Denial::Forbidden,
        Denial::NotPermitted => wire::Denial::NotPermitted,
        Denial::Undecided => wire::Denial::Undecided,
    }
}

pub(crate) mod derivation;
#[cfg(test)]
mod tests;
