//! A decision is explained: decided as `Evaluate` decides it, taken apart, and for a denial what single thing would have turned it.
//!
//! It is recorded as `decision.explained`, and nobody may act on it. As of the past it is decided by what the registry keeps of
//! its past; what the caller may see is what he may see now.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_outbox::AUDIT_UNAVAILABLE;
use legate_rpc::Fault;
use legate_view::{NamespacePolicies, Snapshot};
use legate_wire::policy as wire;
use legate_wire::registry::AsOf;
use tokio::time::Instant;

use super::asker::{Asker, Right};
use super::asking::fresh;
use super::evaluate::{Desk, Policies, Spoken, decide};
use super::past::{self, Whom};
use super::record;
use super::turns::Turn;
use crate::convert::{Ask, Subject};
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::domain::derivation::{Case, Look, Outcome, Step, derive};
use crate::domain::near::Proposal;
use crate::domain::{behalf, near};
use crate::error::{ASKING_BUSY, QUESTION_INVALID};

mod confirm;
mod origins;

/// The longest that near misses are looked for.
const LOOKING: Duration = Duration::from_millis(500);
/// Kept back for the record and the way to the caller.
const TELLING: Duration = Duration::from_millis(700);
/// The longest that origins are asked for.
const ASKING: Duration = Duration::from_secs(2);
/// How long a caller who has to wait is told to.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be explained.
#[derive(Debug)]
pub(crate) struct Explain {
    pub(crate) ask: Ask,
    pub(crate) as_of: Option<AsOf>,
    /// By which moment it is judged, as of the past.
    pub(crate) at: Option<Timestamp>,
}

/// A decision and everything that there is to say about it.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) spoken: Spoken,
    pub(crate) laid: Laid,
    pub(crate) is_past: bool,
    pub(crate) origins: Vec<wire::ObjectOrigin>,
    pub(crate) origins_note: String,
}

/// A decision taken apart.
#[derive(Debug, Default)]
pub(crate) struct Laid {
    pub(crate) steps: Vec<Step>,
    pub(crate) near: Vec<Proposal>,
    pub(crate) note: String,
    pub(crate) tried: u32,
}

impl Laid {
    /// How many steps deny it, each by itself.
    pub(crate) fn cuts(&self) -> u32 {
        u32::try_from(self.steps.iter().filter(|step| step.cuts().is_some()).count()).unwrap_or(u32::MAX)
    }
}

/// What a decision was made by.
#[derive(Clone)]
struct Ground {
    snapshot: Arc<Snapshot>,
    policies: Policies,
    declared: Option<Arc<NamespacePolicies>>,
    now: Timestamp,
}

/// Explains one question.
///
/// # Errors
/// When the caller may not ask or have it explained, others ask already, the past is not kept or cannot be read, or the
/// explanation cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn explain(desk: &Arc<Desk>, asker: &Asker, explain: Explain) -> Result<Explained, Fault> {
    let asks = std::slice::from_ref(&explain.ask);
    if explain.ask.at_least_revision > 0 {
        // What comes of it shows in the reading below.
        let _ = desk.view.wait_for(explain.ask.at_least_revision, asker.patience(Duration::MAX)).await;
    }
    let turn = desk.asking.take(&asker.spiffe_id, asker.patience(Duration::MAX)).await;
    let turn =
        turn.ok_or_else(|| Fault::unavailable(&ASKING_BUSY, "others ask already, or the caller itself", AGAIN))?;
    let found = match &explain.as_of {
        None => present(desk, asker, asks).await,
        Some(as_of) => bygone(desk, asker, &explain, *as_of).await,
    };
    let (spoken, right, ground) = match found {
        Ok(found) => found,
        Err(fault) => {
            record::refusal(desk, asker, asks, &fault).await;
            return Err(fault);
        }
    };
    let is_past = explain.as_of.is_some();
    let emergency = right.as_ref().filter(|right| right.is_operators()).and_then(|_| record::broke_glass(desk, asker));
    let recorded = record::explained(asker, &explain.ask, &spoken, is_past.then(|| desk.clock.now()));
    let (revision, mut explained) =
        (spoken.revision, take_apart(desk, asker, explain, spoken, right, ground, turn).await?);
    explained.is_past = is_past;
    let objects = origins::objects(&explained.laid.steps);
    let patience = asker.patience(ASKING + TELLING).saturating_sub(TELLING);
    (explained.origins, explained.origins_note) = origins::of(&desk.archive, objects, revision, patience).await;
    let events = emergency.into_iter().chain([recorded]).collect();
    if let Err(e) = desk.spool.write(events, false).await {
        return Err(Fault::unavailable(&AUDIT_UNAVAILABLE, e.to_string(), AGAIN));
    }
    desk.metrics.asked("explain");
    Ok(explained)
}

type Decided = (Spoken, Option<Right>, Option<Ground>);

/// As it is now, by the very steps of a check.
async fn present(desk: &Desk, asker: &Asker, asks: &[Ask]) -> Result<Decided, Fault> {
    let (reading, right, mut all) = decide(desk, asker, asks).await?;
    let spoken = all.pop().ok_or_else(|| Fault::broken("a question without an answer"))?;
    let Some(right) = right else { return Ok((spoken, None, None)) };
    right.may_explain()?;
    let snapshot = reading.snapshot;
    let namespace = spoken.agent.as_ref().map(|agent| agent.label.namespace.clone());
    let policies = match &namespace {
        Some(namespace) => desk.policies(&snapshot, namespace).ok(),
        None => Some(Policies::None),
    };
    let declared = namespace.and_then(|namespace| snapshot.policies(namespace.as_str()).cloned());
    let ground = policies.map(|policies| Ground { snapshot, policies, declared, now: spoken.at });
    Ok((spoken, Some(right), ground))
}

/// As it was, by what the registry keeps of its past.
async fn bygone(desk: &Desk, asker: &Asker, explain: &Explain, as_of: AsOf) -> Result<Decided, Fault> {
    let (reading, now) = fresh(desk)?;
    let right = asker.right(&reading.snapshot, now)?;
    right.covers(&explain.ask)?;
    right.may_explain()?;
    let patience = asker.patience(Duration::MAX).saturating_sub(TELLING);
    let Subject::Asserted(id) = &explain.ask.subject else {
        let why = "the past is asked about an agent's id; what a token is good for, only the present knows";
        return Err(Fault::refused(&QUESTION_INVALID, why).field("question.subject", why));
    };
    let whom =
        Whom { agents: [id.clone()].into(), is_on_behalf: explain.ask.on_behalf_of.is_some(), with_points: false };
    let past = past::read(&desk.archive, &right, &whom, as_of, patience).await?;
    let now = explain.at.unwrap_or(past.made);
    let ground = Ground { snapshot: Arc::new(past.snapshot), policies: past.policies, declared: past.declared, now };
    let judged =
        super::evaluate::judge(desk, &right, &explain.ask, &ground.snapshot, now, |_| Ok(ground.policies.clone()));
    let judged = judged.map_err(|_| Fault::broken("the policies of the past are at hand"))?;
    let spoken = Spoken {
        id: desk.decision_id(desk.clock.now()),
        message: record::message(&judged.answer),
        answer: judged.answer,
        at: now,
        agent: judged.agent,
        known: judged.known,
        revision: past.revision,
        view_age: None,
        good_until: None,
        valid_until: None,
        shadowed: None,
    };
    Ok((spoken, Some(right), Some(ground)))
}

/// Takes the decision apart on a thread of its own: no check waits for it.
async fn take_apart(
    desk: &Arc<Desk>,
    asker: &Asker,
    explain: Explain,
    spoken: Spoken,
    right: Option<Right>,
    ground: Option<Ground>,
    turn: Turn,
) -> Result<Explained, Fault> {
    let until = Instant::now() + asker.patience(LOOKING + TELLING).saturating_sub(TELLING);
    let working = Arc::clone(desk);
    let made = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also where the caller has left.
        let _turn = turn;
        let laid = match (&right, &ground) {
            (Some(right), Some(ground)) => lay_out(&working, right, &explain.ask, ground, &spoken, until),
            _ => undecided(&spoken),
        };
        Explained { spoken, laid, is_past: false, origins: Vec::new(), origins_note: String::new() }
    });
    made.await.map_err(Fault::broken)
}

/// What there is to say where the state of the registry could not be used.
fn undecided(spoken: &Spoken) -> Laid {
    let cause = spoken.answer.causes.first().map(|cause| cause.text.clone()).unwrap_or_default();
    let step = spoken.answer.denied.map(|why| Step::new(Look::View, Outcome::Cuts(why), cause));
    Laid { steps: step.into_iter().collect(), note: "it could not be decided; ask again".to_owned(), ..Laid::default() }
}

fn lay_out(desk: &Desk, right: &Right, ask: &Ask, ground: &Ground, spoken: &Spoken, until: Instant) -> Laid {
    if matches!(spoken.answer.denied, Some(Why::Stale | Why::RevisionNotReached | Why::PolicyNotReady)) {
        return undecided(spoken);
    }
    let (agent, known, denied) = match desk.tokens.subject(&ground.snapshot, right, ask, ground.now) {
        Ok((agent, known)) => {
            // Where it would not be allowed otherwise, the token is not what denies it.
            let outside = known.outside.filter(|_| spoken.answer.denied == Some(Why::TokenScope));
            let denied = outside.map(|why| Answer::deny(Why::TokenScope, Cause::plain(CauseKind::Token, why)));
            (Some(agent), known, denied.map(Box::new))
        }
        Err(nobody) => {
            let (denied, mut known) = *nobody;
            (known.named.take(), known, Some(Box::new(denied)))
        }
    };
    let mut steps = vec![subject(ask, agent.as_deref(), denied.as_deref())];
    let Some(agent) = agent else {
        return Laid {
            steps,
            note: "of an agent that is not known here nothing more is told".to_owned(),
            ..Laid::default()
        };
    };
    let delegation = known.delegation.as_deref().filter(|_| denied.is_none());
    let with_behalf = delegation.map(|delegation| behalf::question(&ask.question, delegation));
    // Where it was let through towards one audience of several, it is taken apart towards that one.
    let towards = right.towards(spoken.known.audience.as_deref());
    let case = Case {
        bench: &desk.bench,
        snapshot: &ground.snapshot,
        agent: &agent,
        question: with_behalf.as_ref().unwrap_or(&ask.question),
        delegation,
        towards: towards.as_deref(),
        policies: match &ground.policies {
            Policies::None => None,
            Policies::Ready(compiled) => Some(Ok(&**compiled)),
            Policies::Unusable(answer) => Some(Err(answer)),
        },
        now: ground.now,
    };
    steps.extend(derive(&case));
    let Some(why) = spoken.answer.denied else { return Laid { steps, ..Laid::default() } };
    let proposals = match (denied.is_some(), &ask.on_behalf_of) {
        (false, _) => near::proposals(&case, ground.declared.as_ref(), &|| Instant::now() >= until),
        (true, Some(said)) if is_of_a_chain(why) => near::for_a_chain(&case, &said.subject, said.grant.as_ref()),
        (true, _) => near::Proposals::default(),
    };
    let found = confirm::all(desk, right, ask, ground, proposals, until);
    let note = note(&steps, &found, denied.is_some() && !is_of_a_chain(why));
    Laid { steps, near: found.near, note, tried: found.tried }
}

/// Whether it was the chain that does not hold, and not a token.
fn is_of_a_chain(why: Why) -> bool {
    matches!(
        why,
        Why::GrantNotInForce | Why::GrantOutsideWindow | Why::ChainInvalid | Why::ChainTooLong | Why::DelegatorStopped
    )
}

fn subject(ask: &Ask, agent: Option<&legate_view::Agent>, denied: Option<&crate::domain::answer::Answer>) -> Step {
    let how = match &ask.subject {
        Subject::Token(_) => "by a token that was shown",
        Subject::Asserted(_) => "on the caller's word",
        Subject::Certificate(_) => "by a certificate that was shown to the caller",
    };
    match denied.and_then(|answer| Some((answer.denied?, answer.causes.first()?))) {
        Some((why, cause)) => Step::new(Look::Subject, Outcome::Cuts(why), cause.text.clone()),
        None => {
            let name = agent.map(|agent| agent.label.name.to_string()).unwrap_or_default();
            Step::new(Look::Subject, Outcome::Passes, format!("the agent {name}, {how}"))
        }
    }
}

/// What there is to say about near misses.
fn note(steps: &[Step], found: &confirm::Confirmed, is_token: bool) -> String {
    let cuts: Vec<&str> = steps.iter().filter(|step| step.cuts().is_some()).map(|step| step.text.as_str()).collect();
    let mut said = Vec::new();
    if is_token {
        said.push("what is shown for the agent denies it; no change of what is declared would help".to_owned());
    } else if found.near.is_empty() {
        said.push(match cuts.len() {
            0 | 1 => "none of the changes that were tried would allow it by itself".to_owned(),
            n => format!("no single change would allow it: {n} steps deny it, each by itself: {}", cuts.join("; ")),
        });
    }
    if found.is_cut {
        said.push("not all changes were tried: there were too many, or time ran out".to_owned());
    }
    said.join("; ")
}
