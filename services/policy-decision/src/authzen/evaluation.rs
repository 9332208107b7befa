//! Decisions: one, or several at once (AuthZEN sections 6 and 7).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use legate_rpc::Fault;
use legate_web::Visitor;
use serde_json::{Map, Value, json};

use super::answer::{self, AuthzenError};
use super::entity::{Single, Tuple, bad, member};
use super::{Asked, EVALUATION, EVALUATIONS, Facade};
use crate::convert::{self, Ask};
use crate::flow::{self, Asker, Spoken};

/// The most questions in one call, as over gRPC.
const MOST: usize = 256;

/// When no more is asked (section 7.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Semantic {
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

impl Semantic {
    fn of(whole: &Map<String, Value>) -> Result<Self, Fault> {
        let place = "options.evaluations_semantic";
        let options = match member(whole, "options") {
            None => return Ok(Self::ExecuteAll),
            Some(Value::Object(options)) => options,
            Some(_) => return Err(bad("options", "has to be an object")),
        };
        match member(options, "evaluations_semantic").map(Value::as_str) {
            None | Some(Some("execute_all")) => Ok(Self::ExecuteAll),
            Some(Some("deny_on_first_deny")) => Ok(Self::DenyOnFirstDeny),
            Some(Some("permit_on_first_permit")) => Ok(Self::PermitOnFirstPermit),
            Some(_) => Err(bad(place, "is execute_all, deny_on_first_deny or permit_on_first_permit")),
        }
    }

    fn ends(self, is_allowed: bool) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => !is_allowed,
            Self::PermitOnFirstPermit => is_allowed,
        }
    }
}

pub(super) async fn evaluation(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AuthzenError> {
    let asker = facade.admit(&visitor, EVALUATION)?;
    let asked = Asked::of(&headers)?;
    let whole = super::json::read(&headers, &body)?;
    Ok(one(&facade, &asker, &whole, &asked).await?)
}

pub(super) async fn evaluations(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AuthzenError> {
    let asker = facade.admit(&visitor, EVALUATIONS)?;
    let asked = Asked::of(&headers)?;
    let whole = super::json::read(&headers, &body)?;
    let items = match member(&whole, "evaluations") {
        // Section 7.1: then it is a question like any other.
        None => return Ok(one(&facade, &asker, &whole, &asked).await?),
        Some(Value::Array(items)) if items.is_empty() => return Ok(one(&facade, &asker, &whole, &asked).await?),
        Some(Value::Array(items)) if items.len() <= MOST => items,
        Some(Value::Array(_)) => return Err(bad("evaluations", "256 at most in one call").into()),
        Some(_) => return Err(bad("evaluations", "has to be a list").into()),
    };
    let semantic = Semantic::of(&whole)?;
    let read = |item: &Value| match item {
        Value::Object(own) => Tuple::with_defaults(own, &whole).read(&facade.desk, &asked),
        _ => Err(bad("evaluations", "each has to be an object")),
    };
    let all: Vec<Result<Single, Fault>> = items.iter().map(read).collect();
    let told = match semantic {
        Semantic::ExecuteAll => together(&facade, &asker, all).await?,
        _ => in_turn(&facade, &asker, all, semantic).await?,
    };
    Ok(answer::json(&json!({ "evaluations": told })))
}

async fn one(facade: &Facade, asker: &Asker, whole: &Map<String, Value>, asked: &Asked) -> Result<Response, Fault> {
    let single = Tuple::whole(whole).read(&facade.desk, asked)?;
    let mut told = together(facade, asker, vec![Ok(single)]).await?;
    let told = told.pop().ok_or_else(|| Fault::broken("a question without an answer"))?;
    Ok(answer::json(&told))
}

/// All at one revision; what cannot be read is denied in its place (section 7.2.1).
async fn together(facade: &Facade, asker: &Asker, all: Vec<Result<Single, Fault>>) -> Result<Vec<Value>, Fault> {
    let asks: Vec<Ask> = all.iter().flatten().map(|single| single.ask.clone()).collect();
    let mut spoken = match asks.as_slice() {
        [] => Vec::new(),
        asks => flow::evaluate(&facade.desk, asker, asks).await?,
    }
    .into_iter();
    let mut tell = |one: Result<Single, Fault>| match one {
        Ok(single) => spoken.next().map(|spoken| decision(&single, &spoken)),
        Err(fault) => Some(unread(fault)),
    };
    let told: Option<Vec<Value>> = all.into_iter().map(&mut tell).collect();
    told.ok_or_else(|| Fault::broken("a question without an answer"))
}

/// One after the other, until what was said suffices: what is not answered was not asked.
async fn in_turn(
    facade: &Facade,
    asker: &Asker,
    all: Vec<Result<Single, Fault>>,
    semantic: Semantic,
) -> Result<Vec<Value>, Fault> {
    let mut told = Vec::new();
    for one in all {
        told.extend(together(facade, asker, vec![one]).await?);
        if told.last().is_some_and(|last| semantic.ends(last["decision"] == true)) {
            break;
        }
    }
    Ok(told)
}

/// A question that cannot be read, where others can.
fn unread(fault: Fault) -> Value {
    let error = AuthzenError::from(fault);
    json!({
        "decision": false,
        "context": {
            "reason": error.reason,
            "error": { "status": error.status.as_u16(), "message": error.text },
        },
    })
}

/// An answer, and what it rests on.
fn decision(single: &Single, spoken: &Spoken) -> Value {
    let answer = &spoken.answer;
    if spoken.agent.as_ref().is_some_and(|agent| agent.id != single.agent) {
        // Its key came between the look at the token and the decision.
        return unread(bad("subject.id", "is another agent than the one whose token it is"));
    }
    let mut context = Map::new();
    let mut put = |name: &str, value: Value| drop(context.insert(name.to_owned(), value));
    put("id", spoken.id.to_string().into());
    put("reason", answer.word().into());
    put("message", spoken.message.clone().into());
    put("revision", spoken.revision.into());
    if let Some(why) = answer.denied {
        put("denial", why.kind().word().into());
    }
    if let Some(agent) = &spoken.agent {
        put("agent_id", agent.id.to_string().into());
    }
    if let Some(acts_for) = &spoken.known.acts_for {
        put("on_behalf_of", acts_for.subject.clone().into());
    }
    if let Some(until) = spoken.valid_until {
        put("valid_until", until.to_string().into());
    }
    let causes = answer.causes.iter().map(convert::reason).map(|cause| {
        let kind = cause.kind().as_str_name().trim_start_matches("REASON_KIND_");
        json!({ "kind": kind, "name": cause.name, "version": cause.version, "id": cause.id, "text": cause.text })
    });
    put("reasons", causes.collect());
    json!({ "decision": answer.denied.is_none(), "context": context })
}
