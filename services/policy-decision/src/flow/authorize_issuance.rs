//! A token's contents are agreed to: may this agent have a token for this audience, and for which actions.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use legate_clock::Timestamp;
use legate_ids::{Actions, AgentId, DecisionId};
use legate_token::Subject;
use legate_view::{Agent, Audience, Delegation, Reading, Snapshot};
use legate_wire::audit as wire;

use super::asker::Asker;
use super::evaluate::{COMPILE_PATIENCE, Desk};
use super::record;
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::domain::authority::cut_everywhere;
use crate::domain::behalf;
use crate::domain::issuable::{Issuable, Wanted};
use crate::domain::standing;

/// What credential-issuer asks.
#[derive(Clone, Debug)]
pub(crate) struct Issuance {
    pub(crate) agent: AgentId,
    pub(crate) audience: String,
    /// None: everything that it may say.
    pub(crate) actions: Actions,
    pub(crate) at_least_revision: u64,
    /// How the agent would come to act for another; `None`: for itself.
    pub(crate) delegation: Option<Chain>,
}

/// How an agent comes to act for another, as the issuer proved it.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) subject: Subject,
    /// Newest first.
    pub(crate) actors: Vec<AgentId>,
    /// By id, one for each actor.
    pub(crate) grants: Vec<String>,
    /// The groups of people that a person was proved to be a member of.
    pub(crate) groups: Vec<String>,
}

/// What the token may carry.
#[derive(Clone, Debug)]
pub(crate) struct Leave {
    pub(crate) id: DecisionId,
    pub(crate) answer: Answer,
    pub(crate) message: String,
    pub(crate) actions: Actions,
    pub(crate) revision: u64,
    /// When the chain, or the first of the approvals that the actions rest on, ends by itself.
    pub(crate) ends: Option<Timestamp>,
}

/// Says what the token may carry, recorded before it is said.
pub(crate) async fn authorize_issuance(desk: &Desk, asker: &Asker, ask: &Issuance) -> Leave {
    if ask.at_least_revision > 0 {
        let patience = asker.patience(Duration::MAX);
        let _ = desk.view.wait_for(ask.at_least_revision, patience).await;
    }
    let reading = desk.view.read();
    let snapshot = &reading.snapshot;
    let now = desk.clock.now();
    let agent = snapshot.agent(&ask.agent).cloned();
    let decided = match reading.fresh(desk.view.bound()) {
        Err(stale) => Err((Why::Stale, Cause::plain(CauseKind::View, stale.to_string()))),
        Ok(_) if snapshot.revision() < ask.at_least_revision => {
            let text = format!("the view holds revision {}", snapshot.revision());
            Err((Why::RevisionNotReached, Cause::plain(CauseKind::View, text)))
        }
        Ok(_) => agree(desk, asker, &reading, agent.as_ref(), ask, now).await,
    };
    let (mut answer, mut actions, ends) = match decided {
        Ok(Agreed { actions, causes, ends }) => (Answer::allow(causes), actions, ends),
        Err((why, cause)) => (Answer::deny(why, cause), Actions::default(), None),
    };
    let id = desk.decision_id(now);
    let event = event(asker, ask, agent.as_deref(), (&id, &answer, &actions), snapshot.revision(), now);
    if let Err(e) = desk.spool.write(vec![event], false).await {
        answer = Answer::deny(Why::AuditUnavailable, Cause::plain(CauseKind::Audit, e.to_string()));
    }
    if let (None, Err(stale)) = (answer.denied, reading.fresh(desk.view.bound())) {
        answer = Answer::deny(Why::Stale, Cause::plain(CauseKind::View, stale.to_string()));
    }
    if answer.denied.is_some() {
        actions = Actions::default();
    }
    desk.metrics.decided(answer.denied, answer.word());
    let message = record::message(&answer);
    Leave { id, answer, message, actions, revision: snapshot.revision(), ends }
}

/// Says so of several tokens, of each for itself and within the trace that it belongs to. In order.
pub(crate) async fn authorize_issuances(desk: &Desk, asks: &[(Asker, Issuance)]) -> Vec<Leave> {
    join_all(asks.iter().map(|(asker, ask)| authorize_issuance(desk, asker, ask))).await
}

/// What is agreed to.
struct Agreed {
    actions: Actions,
    causes: Vec<Cause>,
    ends: Option<Timestamp>,
}

async fn agree(
    desk: &Desk,
    asker: &Asker,
    reading: &Reading,
    agent: Option<&Arc<Agent>>,
    ask: &Issuance,
    now: Timestamp,
) -> Result<Agreed, (Why, Cause)> {
    let snapshot = &reading.snapshot;
    let Some(agent) = agent else {
        let cause = Cause::plain(CauseKind::AgentState, "no agent of this id is registered");
        return Err((Why::AgentUnknown, cause));
    };
    if let Some(mut denied) = standing::judge(snapshot, agent, now) {
        let why = denied.denied.unwrap_or(Why::AgentNotActive);
        return Err((why, denied.causes.remove(0)));
    }
    let Some(to) = snapshot.audience(&agent.label.namespace, &ask.audience) else {
        let text = "neither an enforcement point nor an agent of the namespace has this audience";
        return Err((Why::AudienceUnknown, Cause::plain(CauseKind::Token, text)));
    };
    let delegation = ask.delegation.as_ref().map(|chain| on_behalf(snapshot, agent, chain, &to, &ask.audience, now));
    let delegation = delegation.transpose()?;
    let cut = cut_everywhere(snapshot, agent, now)
        .or_else(|| delegation.as_ref().and_then(|chain| behalf::cut_anywhere(snapshot, chain, now)));
    if let Some(cut) = cut {
        return Err(cut);
    }
    let policies = desk.compiled(reading, &agent.label.namespace, asker.patience(COMPILE_PATIENCE)).await?;
    let wanted = Wanted {
        agent,
        delegation: delegation.as_ref(),
        audience: &ask.audience,
        is_at_point: matches!(to, Audience::Point),
        actions: &ask.actions,
    };
    let Issuable { actions, by, until } = desk.bench.issuable(snapshot, wanted, policies.as_deref(), now)?;
    let mut causes = vec![Cause::of_agent(CauseKind::AgentState, agent, "the agent is ACTIVE")];
    causes.extend(delegation.iter().flat_map(behalf::grants));
    causes.extend(by);
    let ends = delegation.and_then(|chain| chain.ends).into_iter().chain(until).min();
    Ok(Agreed { actions, causes, ends })
}

/// The chain, where it holds and lets the token be for that audience.
fn on_behalf(
    snapshot: &Snapshot,
    agent: &Arc<Agent>,
    chain: &Chain,
    to: &Audience,
    audience: &str,
    now: Timestamp,
) -> Result<Delegation, (Why, Cause)> {
    let no = |why, text: String| (why, Cause::plain(CauseKind::Grant, text));
    if chain.actors.first() != Some(&agent.id) {
        return Err(no(Why::ChainInvalid, "the chain does not end with the agent".into()));
    }
    let namespace = &agent.label.namespace;
    let held = snapshot.delegation(namespace, &chain.subject, &chain.groups, &chain.actors, &chain.grants, now);
    let held = held.map_err(|why| {
        let (why, text) = behalf::broken(&why);
        no(why, text)
    })?;
    match to {
        // Towards whom the grants are is asked of the token with which something is done.
        Audience::Agent(next) => held.may_be_followed(snapshot, next).map_err(|why| {
            let (why, text) = behalf::broken(&why);
            no(why, text)
        })?,
        Audience::Point => {
            if !held.is_towards(audience) {
                return Err(no(Why::GrantAudience, format!("a grant of the chain is for others than {audience}")));
            }
        }
    }
    Ok(held)
}

fn event(
    asker: &Asker,
    ask: &Issuance,
    agent: Option<&Agent>,
    (id, answer, actions): (&DecisionId, &Answer, &Actions),
    revision: u64,
    now: Timestamp,
) -> wire::AuditEvent {
    let allowed = answer.denied.is_none();
    wire::AuditEvent {
        time: Some(now.into()),
        r#type: "issuance.decided".to_owned(),
        namespace: agent.map_or_else(String::new, |a| a.label.namespace.to_string()),
        actor: asker.spiffe_id.clone(),
        agent_id: ask.agent.to_string(),
        acting_mode: match ask.delegation {
            None => wire::ActingMode::Autonomous.into(),
            Some(_) => wire::ActingMode::OnBehalfOf.into(),
        },
        subject: ask.delegation.as_ref().map_or_else(String::new, |chain| chain.subject.to_string()),
        chain: ask.delegation.iter().flat_map(|chain| &chain.actors).map(ToString::to_string).collect(),
        grant_id: ask.delegation.as_ref().and_then(|chain| chain.grants.first().cloned()).unwrap_or_default(),
        outcome: if allowed { wire::Outcome::Success } else { wire::Outcome::Denied }.into(),
        reason_code: answer.word().to_owned(),
        reason: record::message(answer),
        decision: Some(wire::EventDecision {
            decision_id: id.to_string(),
            allowed,
            denial: answer.denied.map_or_else(String::new, |why| why.kind().word().to_owned()),
            determining: answer.causes.iter().map(Cause::line).collect(),
            log_only: Vec::new(),
        }),
        revision,
        trace_id: asker.trace_id.clone(),
        span_id: asker.span_id.clone(),
        details: {
            let groups: Vec<&str> = ask.delegation.iter().flat_map(|chain| &chain.groups).map(String::as_str).collect();
            let groups = (!groups.is_empty()).then(|| ("subject_groups".to_owned(), record::cut(groups.join(" "))));
            let told = [
                ("audience".to_owned(), record::cut(ask.audience.clone())),
                ("asked_actions".to_owned(), record::cut(ask.actions.to_string())),
                ("granted_actions".to_owned(), record::cut(actions.to_string())),
            ];
            told.into_iter().chain(groups).collect()
        },
        ..wire::AuditEvent::default()
    }
}
