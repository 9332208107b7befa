//! An agent takes a step in its life: it is approved, activated, suspended, resumed, quarantined, released, retired, or its
//! credentials are revoked.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_db::TxResult;
use legate_ids::{AgentId, Name};
use legate_outbox::Standard;
use legate_rpc::{Fault, Mandate};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentRef, AgentState, Declaration, Kind, SanctionedStatus};
use prost::Message;

use super::hands::hands;
use super::write::{Put, Writing, check_etag};
use super::{Call, Desk, lineage};
use crate::domain::check;
use crate::domain::kind::{self, Key};
use crate::domain::lifecycle::{self, BadTransition, Obstacle, Transition};
use crate::domain::lineage::MOST_BELOW;
use crate::domain::operators;
use crate::error::{AGENT_NOT_FOUND, AGENT_ORPHANED, AGENT_STATE_WRONG, SELF_APPROVAL};
use crate::store::{approved, broken, object, refuse};

/// What is done to an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// It goes to another state.
    Transition(Transition),
    /// Everything issued to it dies; it stays ACTIVE.
    RevokeCredentials,
    /// It was found elsewhere, nobody answers for it, and it goes to RETIRED.
    Reject,
}

impl Step {
    /// The name of its transaction.
    fn name(self) -> &'static str {
        match self {
            Self::Transition(Transition::Approve) => "approve_agent",
            Self::Transition(Transition::Activate) => "activate_agent",
            Self::Transition(Transition::Suspend) => "suspend_agent",
            Self::Transition(Transition::Resume) => "resume_agent",
            Self::Transition(Transition::Quarantine) => "quarantine_agent",
            Self::Transition(Transition::Release) => "release_agent",
            Self::Transition(Transition::Retire) => "retire_agent",
            Self::Transition(Transition::Expire) => "expire_agents",
            Self::RevokeCredentials => "revoke_agent_credentials",
            Self::Reject => "reject_agent",
        }
    }

    /// The verb of its audit event.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Transition(Transition::Approve) => "approved",
            Self::Transition(Transition::Activate) => "activated",
            Self::Transition(Transition::Suspend) => "suspended",
            Self::Transition(Transition::Resume) => "resumed",
            Self::Transition(Transition::Quarantine) => "quarantined",
            Self::Transition(Transition::Release) => "released",
            Self::Transition(Transition::Retire) => "retired",
            Self::Transition(Transition::Expire) => "expired",
            Self::RevokeCredentials => "credentials_revoked",
            Self::Reject => "rejected",
        }
    }

    /// The right that it takes.
    pub(super) fn right(self) -> Right {
        match self {
            Self::Transition(Transition::Approve) => Right::Approve,
            Self::Transition(Transition::Activate | Transition::Resume | Transition::Release) => Right::Start,
            Self::Transition(Transition::Suspend | Transition::Quarantine) | Self::RevokeCredentials => Right::Stop,
            // What is final is for those who declare; time asks nobody.
            Self::Transition(Transition::Retire | Transition::Expire) | Self::Reject => Right::Write,
        }
    }

    /// What stops somebody may use the outbox's reserve.
    fn standard(self) -> Standard {
        match self {
            Self::RevokeCredentials
            | Self::Reject
            | Self::Transition(
                Transition::Suspend | Transition::Quarantine | Transition::Retire | Transition::Expire,
            ) => Standard::Stopping,
            Self::Transition(_) => Standard::Ordinary,
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) agent: Option<AgentRef>,
    pub(crate) etag: String,
}

/// Takes the step; `answer` makes the answer of the agent as it is then and the revision.
#[tracing::instrument(skip_all, fields(legate.step = step.name()))]
pub(crate) async fn transition<M: Message + Default + 'static>(
    desk: &Arc<Desk>,
    call: Call,
    ask: Ask,
    step: Step,
    answer: fn(Agent, u64) -> M,
) -> Result<M, Fault> {
    let which = Which::read(ask.agent)?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let ask = Arc::new((which, ask.etag));
    desk.write(step.name(), step.standard(), call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (which, etag) = &*ask;
            let current = find_to(writing, which, step.right(), etag).await?;
            let agent = Box::pin(take(writing, current, step)).await?;
            Ok(answer(agent, writing.revision()))
        })
    })
    .await
}

/// The agent that is to be written, by who may: the right is demanded before it is looked for, where its namespace is
/// named, and of the namespace where it turns out to be.
pub(super) async fn find_to(
    writing: &mut Writing<'_>,
    which: &Which,
    right: Right,
    etag: &str,
) -> TxResult<Declaration, Fault> {
    if let Which::Named(key) = which {
        writing.demand(right, operators::place(key)).map_err(refuse)?;
    }
    let current = find(writing.tx, which, &writing.mandate).await?;
    if let Some(key) = kind::key_of(&current) {
        writing.demand(right, operators::place(&key)).map_err(refuse)?;
    }
    check_etag(&current, etag).map_err(refuse)?;
    Ok(current)
}

/// Takes the step within a write. Whoever was made by an agent that is retired is retired with it; by every other step down it is
/// stopped, for as long as its maker is, and nothing of it is written.
pub(super) async fn take(writing: &mut Writing<'_>, current: Declaration, step: Step) -> TxResult<Agent, Fault> {
    let agent = Box::pin(take_alone(writing, current, step)).await?;
    if matches!(step, Step::Transition(Transition::Retire)) {
        let metadata = agent.metadata.clone().unwrap_or_default();
        // No more than may ever be made.
        let below = lineage::below(writing.tx, &metadata.namespace, &metadata.id, MOST_BELOW).await?;
        let mut puts = Vec::with_capacity(below.len());
        for before in &below {
            let declaration = Box::pin(stepped(writing, before, step)).await?;
            puts.push(Put { declaration, before: Some(before), revoked: false, verb: step.verb(), fields: &[] });
        }
        // Together: the write that everybody waits behind takes few statements, however many they are.
        Box::pin(writing.put_all(puts)).await?;
    }
    Ok(agent)
}

/// Takes the step for this agent and nobody below it.
async fn take_alone(writing: &mut Writing<'_>, current: Declaration, step: Step) -> TxResult<Agent, Fault> {
    let wanted = Box::pin(stepped(writing, &current, step)).await?;
    let written = writing.put(wanted, Some(&current), step.verb(), &[]).await?;
    match written.object {
        Some(Object::Agent(agent)) => Ok(agent),
        _ => Err(broken("an agent was written and is none")),
    }
}

/// The agent as it is after the step, once all that goes with that is written but itself.
async fn stepped(writing: &mut Writing<'_>, current: &Declaration, step: Step) -> TxResult<Declaration, Fault> {
    let Some(Object::Agent(mut agent)) = current.object.clone() else {
        return Err(broken("an agent's row holds no agent"));
    };
    let (now, actor, reason) = (writing.now, writing.by.actor.clone(), writing.by.reason.clone());
    let taken = match step {
        Step::Transition(Transition::Approve) => {
            refuse_unsanctioned(&agent).map_err(refuse)?;
            refuse_self_approval(writing.tx, current, &actor).await?;
            lifecycle::apply(&mut agent, Transition::Approve, now, &actor, &reason)
        }
        Step::Transition(transition) => lifecycle::apply(&mut agent, transition, now, &actor, &reason),
        Step::RevokeCredentials => lifecycle::revoke_credentials(&mut agent, now, &actor, &reason),
        Step::Reject => {
            check_unsanctioned(&agent, "reject").map_err(refuse)?;
            lifecycle::apply(&mut agent, Transition::Retire, now, &actor, &reason)
        }
    };
    taken.map_err(|wrong| refuse(bad(&wrong)))?;
    if matches!(step, Step::Transition(Transition::Retire) | Step::Reject) {
        Box::pin(super::leave::everything(writing, current)).await?;
    }
    if matches!(step, Step::Transition(Transition::Approve)) {
        approve_what_it_has(writing, current).await?;
    }
    Ok(Declaration { object: Some(Object::Agent(agent)) })
}

/// What an agent has when it is approved is approved with it: more than that is drift.
async fn approve_what_it_has(writing: &Writing<'_>, current: &Declaration) -> TxResult<(), Fault> {
    let id = current.metadata().map(|m| m.id.clone()).unwrap_or_default();
    let mut things = Box::pin(super::review::things(writing.tx, current)).await?;
    for thing in &mut things {
        thing.time = Some(writing.now.into());
        thing.approved_by.clone_from(&writing.by.actor);
    }
    approved::replace(writing.tx, &id, &things, writing.now).await
}

/// A step that the agent's state does not allow.
pub(super) fn bad(wrong: &BadTransition) -> Fault {
    let reason = if wrong.why == Obstacle::Orphaned { &AGENT_ORPHANED } else { &AGENT_STATE_WRONG };
    Fault::refused(reason, wrong.to_string()).with("state", lifecycle::state_name(wrong.from))
}

fn is_unsanctioned(agent: &Agent) -> bool {
    agent.status.as_ref().is_some_and(|status| status.sanctioned_status() == SanctionedStatus::Unsanctioned)
}

/// Only what was found elsewhere, and waits, is adopted or rejected.
pub(super) fn check_unsanctioned(agent: &Agent, step: &str) -> Result<(), Fault> {
    let state = lifecycle::state_of(agent);
    if is_unsanctioned(agent) && state == AgentState::PendingApproval {
        return Ok(());
    }
    let state = lifecycle::state_name(state);
    let text = format!("the agent is {state}; to {step} it, it has to be UNSANCTIONED and PENDING_APPROVAL");
    Err(Fault::refused(&AGENT_STATE_WRONG, text).with("state", state))
}

/// Nobody answers for it yet, so there is nothing to approve.
fn refuse_unsanctioned(agent: &Agent) -> Result<(), Fault> {
    if !is_unsanctioned(agent) {
        return Ok(());
    }
    let text = "the agent was found elsewhere and nobody answers for it; adopt it first";
    Err(Fault::refused(&AGENT_STATE_WRONG, text).with("state", lifecycle::state_name(lifecycle::state_of(agent))))
}

/// Separation of duties: whoever declared an agent, or ever changed what is declared of it, does not approve it. What an
/// agent made is the work of whoever declared that one, also once somebody has taken it out of its hands.
pub(super) async fn refuse_self_approval(
    tx: &legate_db::Tx,
    current: &Declaration,
    actor: &str,
) -> TxResult<(), Fault> {
    let id = current.metadata().map(|m| m.id.clone()).unwrap_or_default();
    let whose = hands(tx, &id).await?.by;
    refuse_one_of(&whose, actor, "this agent")?;
    for above in whose.iter().filter(|who| AgentId::parse(who).is_ok()) {
        let whom = "an agent that made this one, or is further above it,";
        refuse_one_of(&hands(tx, above).await?.by, actor, whom)?;
    }
    Ok(())
}

fn refuse_one_of(whose: &BTreeSet<String>, actor: &str, whom: &str) -> TxResult<(), Fault> {
    if !whose.contains(actor) {
        return Ok(());
    }
    Err(refuse(Fault::refused(&SELF_APPROVAL, format!("{actor} declared {whom} or changed it"))))
}

/// Which agent is meant.
#[derive(Clone, Debug)]
pub(super) enum Which {
    Id(AgentId),
    Named(Key),
}

impl Which {
    /// Reads a reference: the id where there is one, else namespace and name.
    pub(super) fn read(agent: Option<AgentRef>) -> Result<Self, Fault> {
        let agent = agent.ok_or_else(|| Fault::invalid("agent", "say which: id, or namespace and name"))?;
        if !agent.id.is_empty() {
            let id = AgentId::parse(&agent.id).map_err(|e| Fault::invalid("agent.id", e.to_string()))?;
            return Ok(Self::Id(id));
        }
        let name = |field: &str, text: &str| Name::parse(text).map_err(|e| Fault::invalid(field, e.to_string()));
        name("agent.namespace", &agent.namespace)?;
        name("agent.name", &agent.name)?;
        Ok(Self::Named(Key::new(Kind::Agent, &agent.namespace, &agent.name)))
    }
}

/// The agent that is meant; one that the caller may not see is not there.
pub(super) async fn find(tx: &legate_db::Tx, which: &Which, mandate: &Mandate) -> TxResult<Declaration, Fault> {
    row(tx, which, mandate).await?.declaration()
}

/// The agent's row, where the caller may see it.
pub(super) async fn row(tx: &legate_db::Tx, which: &Which, mandate: &Mandate) -> TxResult<object::Model, Fault> {
    let row = match which {
        Which::Id(id) => object::by_id(tx, id.as_str()).await?,
        Which::Named(key) => object::by_key(tx, key).await?,
    };
    let named = match which {
        Which::Id(id) => id.to_string(),
        Which::Named(key) => key.to_string(),
    };
    let row = row.filter(|row| mandate.may(Right::Read, Place::of(&row.namespace)));
    row.ok_or_else(|| refuse(not_found(&named)))
}

/// The id is nobody's, or not of anybody the caller may see.
pub(super) fn not_found(named: &str) -> Fault {
    Fault::refused(&AGENT_NOT_FOUND, format!("there is no agent {named}"))
}
