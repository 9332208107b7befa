//! The gRPC services: permit, decode, flow, encode; nothing else.

use std::sync::Arc;

use legate_ids::{ActionPattern, Actions, AgentId};
use legate_rpc::{Fault, Permit, TraceContext};
use legate_token::{MAX_GROUPS, Subject, group_of_people};
use legate_wire::policy as wire;
use legate_wire::policy::decision_service_server::DecisionService;
use legate_wire::policy::issuance_service_server::IssuanceService;
use legate_wire::policy::preview_service_server::PreviewService;
use tonic::{Request, Response, Status, Streaming};

use crate::convert;
use crate::domain::behalf::grants;
use crate::error::QUESTION_INVALID;
use crate::flow::{self, Asker, Base, Chain, Desk, Issuance, Leave, Preview, Spoken};

pub(crate) mod asking;
mod drift;
mod reviewing;

/// The most questions in one batch.
const MAX_BATCH: usize = 256;

/// The most actions that a token can be narrowed to.
const MAX_ACTIONS: usize = 64;

/// The most objects of a change that is previewed: as many as the registry writes at once.
const MAX_PREVIEWED: usize = 25_000;

/// The most objects of a change that recorded decisions are tried on.
const MAX_OBJECTS: usize = 1_000;

/// The most namespaces whose policy tests are run beside those that a change touches.
const MAX_NAMESPACES: usize = 64;

/// The gRPC face of a desk.
#[derive(Clone, Debug)]
pub(crate) struct Api(pub(crate) Arc<Desk>);

fn invalid(field: &str, why: impl Into<String>) -> Fault {
    let why = why.into();
    Fault::refused(&QUESTION_INVALID, format!("{field}: {why}")).field(field, why)
}

#[tonic::async_trait]
impl DecisionService for Api {
    async fn evaluate(
        &self,
        request: Request<wire::EvaluateRequest>,
    ) -> Result<Response<wire::EvaluateResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let ask = convert::ask(request.into_inner(), "")?;
        let mut all = flow::evaluate(&self.0, &asker, std::slice::from_ref(&ask)).await?;
        let spoken = all.pop().ok_or_else(|| Fault::broken("a question without an answer"))?;
        Ok(Response::new(answer(&spoken)))
    }

    async fn evaluate_batch(
        &self,
        request: Request<wire::EvaluateBatchRequest>,
    ) -> Result<Response<wire::EvaluateBatchResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let questions = request.into_inner().evaluations;
        if !(1..=MAX_BATCH).contains(&questions.len()) {
            return Err(invalid("evaluations", "a batch has 1 to 256 questions").into());
        }
        let numbered = questions.into_iter().enumerate();
        let asks: Result<Vec<_>, Fault> =
            numbered.map(|(n, question)| convert::ask(question, &format!("evaluations[{n}]."))).collect();
        let all = flow::evaluate(&self.0, &asker, &asks?).await?;
        let evaluations = all.iter().map(answer).collect();
        Ok(Response::new(wire::EvaluateBatchResponse { evaluations }))
    }

    type EvaluateStreamStream = flow::Answers;

    async fn evaluate_stream(
        &self,
        request: Request<Streaming<wire::EvaluateStreamRequest>>,
    ) -> Result<Response<Self::EvaluateStreamStream>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        Ok(Response::new(flow::evaluate_stream(&self.0, asker, request.into_inner(), answer)?))
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Result<Response<wire::ExplainResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let ask = asking::explain(request.into_inner())?;
        let explained = Box::pin(flow::explain(&self.0, &asker, ask)).await?;
        Ok(Response::new(asking::explained(&explained)))
    }

    async fn who_can(&self, request: Request<wire::WhoCanRequest>) -> Result<Response<wire::WhoCanResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let ask = asking::who_can(request.into_inner())?;
        let found = Box::pin(flow::who_can(&self.0, &asker, ask)).await?;
        Ok(Response::new(asking::found(&found)))
    }

    async fn what_can(
        &self,
        request: Request<wire::WhatCanRequest>,
    ) -> Result<Response<wire::WhatCanResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let mut request = request.into_inner();
        let can = match asking::holder_can(&mut request)? {
            Some(ask) => Box::pin(flow::holder_can(&self.0, &asker, ask)).await?,
            None => Box::pin(flow::what_can(&self.0, &asker, asking::what_can(&request)?)).await?,
        };
        Ok(Response::new(asking::can(&can)))
    }

    async fn simulate(
        &self,
        request: Request<wire::SimulateRequest>,
    ) -> Result<Response<wire::SimulateResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let ask = asking::simulate(request.into_inner())?;
        Ok(Response::new(Box::pin(flow::simulate(&self.0, &asker, ask)).await?))
    }

    async fn replay(&self, request: Request<wire::ReplayRequest>) -> Result<Response<wire::ReplayResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let ask = asking::replay(request.into_inner())?;
        Ok(Response::new(Box::pin(flow::replay(&self.0, &asker, ask)).await?))
    }
}

#[tonic::async_trait]
impl IssuanceService for Api {
    async fn authorize_issuance(
        &self,
        request: Request<wire::AuthorizeIssuanceRequest>,
    ) -> Result<Response<wire::AuthorizeIssuanceResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let ask = issuance(request.into_inner())?;
        let leave = flow::authorize_issuance(&self.0, &asker, &ask).await;
        Ok(Response::new(agreement(&leave)))
    }

    async fn authorize_issuance_batch(
        &self,
        request: Request<wire::AuthorizeIssuanceBatchRequest>,
    ) -> Result<Response<wire::AuthorizeIssuanceBatchResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let questions = request.into_inner().questions;
        if !(1..=MAX_BATCH).contains(&questions.len()) {
            return Err(invalid("questions", "1 to 256").into());
        }
        let one = |question: wire::IssuanceQuestion| {
            let asker = match TraceContext::named(&question.traceparent) {
                Some(trace) => asker.within(trace),
                None => asker.clone(),
            };
            Ok((asker, issuance(question.ask.unwrap_or_default())?))
        };
        let asks = questions.into_iter().map(one).collect::<Result<Vec<_>, Fault>>()?;
        let leaves = flow::authorize_issuances(&self.0, &asks).await;
        Ok(Response::new(wire::AuthorizeIssuanceBatchResponse { answers: leaves.iter().map(agreement).collect() }))
    }
}

#[tonic::async_trait]
impl PreviewService for Api {
    async fn preview_change(
        &self,
        request: Request<wire::PreviewChangeRequest>,
    ) -> Result<Response<wire::PreviewChangeResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let from = request.into_inner();
        let supposed = from.base_declarations.len().saturating_add(from.base_removals.len());
        if supposed.saturating_add(from.declarations.len()).saturating_add(from.removals.len()) > MAX_PREVIEWED {
            return Err(invalid("declarations", "25,000 at most, together with removals and the base's").into());
        }
        if from.namespaces.len() > MAX_NAMESPACES {
            return Err(invalid("namespaces", "64 at most").into());
        }
        let ask = Preview {
            wanted: from.declarations,
            gone: from.removals,
            at_least_revision: from.at_least_revision,
            namespaces: from.namespaces.into_iter().collect(),
            base: Base { wanted: from.base_declarations, gone: from.base_removals },
        };
        Ok(Response::new(Box::pin(flow::preview(&self.0, &asker, ask)).await?))
    }

    type ShadowChangeStream = flow::Shadows;

    async fn shadow_change(
        &self,
        request: Request<wire::ShadowChangeRequest>,
    ) -> Result<Response<Self::ShadowChangeStream>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let from = request.into_inner();
        let count = from.declarations.len().saturating_add(from.removals.len());
        if !(1..=MAX_OBJECTS).contains(&count) {
            return Err(invalid("declarations", "1 to 1,000, together with removals").into());
        }
        let ask = flow::ShadowChange {
            wanted: from.declarations,
            gone: from.removals,
            at_least_revision: from.at_least_revision,
        };
        Ok(Response::new(Box::pin(flow::shadow_change(&self.0, &asker, ask)).await?))
    }

    async fn get_shadow(
        &self,
        request: Request<wire::GetShadowRequest>,
    ) -> Result<Response<wire::GetShadowResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let from = request.into_inner();
        let namespace = legate_ids::Name::parse(&from.namespace).map_err(|e| invalid("namespace", e.to_string()))?;
        let name = match from.name.as_str() {
            "" => None,
            name => Some(legate_ids::Name::parse(name).map_err(|e| invalid("name", e.to_string()))?),
        };
        Ok(Response::new(flow::shadow(&self.0, &asker, flow::Shadow { namespace, name }).await?))
    }
}

fn issuance(from: wire::AuthorizeIssuanceRequest) -> Result<Issuance, Fault> {
    if from.actions.len() > MAX_ACTIONS {
        return Err(invalid("actions", "a token is narrowed to 64 actions at most"));
    }
    if !(1..=512).contains(&from.audience.len()) {
        return Err(invalid("audience", "is 1 to 512 bytes"));
    }
    let pattern = |text: &String| ActionPattern::parse(text).map_err(|e| invalid("actions", e.to_string()));
    let actions: Result<Vec<_>, Fault> = from.actions.iter().map(pattern).collect();
    Ok(Issuance {
        agent: AgentId::parse(&from.agent_id).map_err(|e| invalid("agent_id", e.to_string()))?,
        audience: from.audience,
        actions: Actions::of(actions?),
        at_least_revision: from.at_least_revision,
        delegation: from.delegation.map(chain).transpose()?,
    })
}

/// How the agent comes to act for another; whether that holds is for the journey to see.
fn chain(from: wire::DelegationChain) -> Result<Chain, Fault> {
    let bad = |field: &str, why: String| invalid(&format!("delegation.{field}"), why);
    let actor = |id: &String| AgentId::parse(id).map_err(|e| bad("actors", e.to_string()));
    Ok(Chain {
        subject: Subject::parse(&from.subject).map_err(|e| bad("subject", e.to_string()))?,
        actors: from.actors.iter().map(actor).collect::<Result<_, _>>()?,
        grants: from.grants,
        groups: groups(from.subject_groups).map_err(|why| bad("subject_groups", why))?,
    })
}

fn groups(from: Vec<String>) -> Result<Vec<String>, String> {
    let is_group = |text: &String| text.strip_prefix("group:").and_then(group_of_people).as_ref() == Some(text);
    let good = from.len() <= MAX_GROUPS && from.iter().all(is_group);
    good.then_some(from).ok_or_else(|| format!("are more than {MAX_GROUPS}, or not group:NAME"))
}

pub(crate) fn answer(spoken: &Spoken) -> wire::EvaluateResponse {
    let answer = &spoken.answer;
    let decision = match answer.denied {
        None => wire::Decision::Allow,
        Some(_) => wire::Decision::Deny,
    };
    let denial = answer.denied.map_or(wire::Denial::Unspecified, |why| convert::denial(why.kind()));
    let acts_for = spoken.known.acts_for.as_deref();
    let delegation = spoken.known.delegation.as_deref();
    wire::EvaluateResponse {
        decision: decision.into(),
        denial: denial.into(),
        reason_code: answer.word().to_owned(),
        message: spoken.message.clone(),
        reasons: answer.causes.iter().map(convert::reason).collect(),
        decision_id: spoken.id.to_string(),
        revision: spoken.revision,
        view_age: spoken.view_age.and_then(|age| age.try_into().ok()),
        valid_until: spoken.valid_until.map(Into::into),
        acting_mode: match acts_for {
            None => wire::ActingMode::Autonomous.into(),
            Some(_) => wire::ActingMode::OnBehalfOf.into(),
        },
        subject: acts_for.map(|a| a.subject.clone()).unwrap_or_default(),
        chain: acts_for.map(|a| a.chain.clone()).unwrap_or_default(),
        grants: delegation.map(|d| grants(d).map(|cause| convert::reason(&cause)).collect()).unwrap_or_default(),
        agent_id: spoken.agent.as_ref().map_or_else(String::new, |agent| agent.id.to_string()),
        log_only: answer.log_only.iter().map(convert::reason).collect(),
    }
}

fn agreement(leave: &Leave) -> wire::AuthorizeIssuanceResponse {
    let denied = leave.answer.denied.is_some();
    wire::AuthorizeIssuanceResponse {
        allowed: !denied,
        actions: leave.actions.iter().map(ToString::to_string).collect(),
        reason_code: if denied { leave.answer.word().to_owned() } else { String::new() },
        message: if denied { leave.message.clone() } else { String::new() },
        decision_id: leave.id.to_string(),
        revision: leave.revision,
        not_after: leave.ends.map(Into::into),
    }
}
