//! A question is answered: who asks, about whom, by what authority, recorded before it is said.
//!
//! Nothing here waits for the network, but for what rests on an approval that counts once. What is waited for is bounded: a
//! revision and the compiling of policies by the caller's deadline, the record and such an approval by 500 ms each. Every wait that
//! ends without result ends in a denial.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_ids::{DecisionId, Name};
use legate_planted::Bug;
use legate_rpc::{Fault, Pages};
use legate_view::{Agent, Reading, Snapshot, ViewHandle};
use tokio_util::sync::CancellationToken;

use super::asker::{Asker, Right};
use super::record;
use super::roster::Rosters;
use super::self_check::{self, SelfCheck};
use super::shadow_change::{self, Followers};
use super::streams::Streams;
use super::subject::{Known, Tokens};
use super::turns::Turns;
use crate::convert::Ask;
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::domain::approval;
use crate::domain::authority::Bench;
use crate::domain::behalf;
use crate::domain::policies::{Compiled, Unusable};
use crate::domain::shadow;
use crate::metrics::Metrics;
use crate::store::archive::Archive;
use crate::store::library::Library;
use crate::store::records::Records;
use crate::store::reviews::Reviews;
use crate::store::spool::Spool;
use crate::store::tally::Tally;
use crate::store::uses::Uses;

/// The longest that a check waits for policies that are being compiled.
pub(super) const COMPILE_PATIENCE: Duration = Duration::from_secs(2);

/// Everything that answering needs.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) view: ViewHandle,
    pub(crate) library: Arc<Library>,
    pub(crate) bench: Bench,
    pub(crate) self_check: SelfCheck,
    pub(crate) tokens: Tokens,
    pub(crate) spool: Arc<Spool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    /// For how long an ALLOW may be used again; zero: not at all.
    pub(crate) answer_ttl: Duration,
    /// The orders that pages of agents follow.
    pub(crate) rosters: Rosters,
    /// Few previews at a time.
    pub(crate) previewing: Turns,
    /// Few explanations, searches and simulations at a time.
    pub(crate) asking: Turns,
    /// The registry's past.
    pub(crate) archive: Arc<dyn Archive>,
    /// Where approvals that count once are used up.
    pub(crate) uses: Arc<dyn Uses>,
    /// What was decided, as audit-collector keeps it.
    pub(crate) records: Arc<dyn Records>,
    /// Rounds of access reviews, and where what was found of them is recorded.
    pub(crate) reviews: Arc<dyn Reviews>,
    pub(crate) pages: Pages,
    /// What policies in LOG_ONLY would have changed.
    pub(crate) shadow: Tally,
    /// The streams of questions that are open.
    pub(crate) streams: Streams,
    /// Who tries changes on decisions as they are made.
    pub(crate) followers: Followers,
    /// Set once the server listens; cancelled when streams have to end.
    pub(crate) stopping: OnceLock<CancellationToken>,
}

/// An answer with everything that is said and recorded about it.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) id: DecisionId,
    pub(crate) answer: Answer,
    /// The answer in a sentence.
    pub(crate) message: String,
    pub(crate) at: Timestamp,
    pub(crate) agent: Option<Arc<Agent>>,
    pub(crate) known: Known,
    pub(crate) revision: u64,
    pub(crate) view_age: Option<Duration>,
    /// On the monotonic clock: when what it was decided by becomes too old to be said; of the moment of the view, so that nothing that
    /// happens after the decision makes it later.
    pub(crate) good_until: Option<Duration>,
    pub(crate) valid_until: Option<Timestamp>,
    /// The policies that it was held against, where some of them are in LOG_ONLY.
    pub(crate) shadowed: Option<Arc<Compiled>>,
}

/// Policies that are not compiled yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotReady;

/// What may be used for a namespace, as far as it is known.
#[derive(Clone, Debug)]
pub(super) enum Policies {
    None,
    Ready(Arc<Compiled>),
    Unusable(Answer),
}

/// What comes of a question at one state of the registry.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) answer: Answer,
    pub(super) known: Known,
    pub(super) agent: Option<Arc<Agent>>,
}

impl Desk {
    /// An id that names one answer.
    pub(crate) fn decision_id(&self, at: Timestamp) -> DecisionId {
        let millis = u64::try_from(at.micros() / 1_000).unwrap_or(0);
        DecisionId::from_parts(millis, rand::random())
    }

    pub(super) fn policies(&self, snapshot: &Snapshot, namespace: &Name) -> Result<Policies, NotReady> {
        let Some(declared) = snapshot.policies(namespace.as_str()) else {
            return Ok(Policies::None);
        };
        match self.library.find(namespace, declared) {
            Some(Ok(compiled)) => Ok(Policies::Ready(compiled)),
            Some(Err(e)) => Ok(Policies::unusable(&e)),
            None => Err(NotReady),
        }
    }

    /// The policies of a namespace at one reading, waited for while they are compiled; `None`: it has none.
    pub(super) async fn compiled(
        &self,
        reading: &Reading,
        namespace: &Name,
        patience: Duration,
    ) -> Result<Option<Arc<Compiled>>, (Why, Cause)> {
        let give_up = tokio::time::Instant::now() + patience;
        // Taken before the look, so that nothing that comes after it is missed.
        let mut filled = self.library.filled();
        loop {
            filled.mark_unchanged();
            match self.policies(&reading.snapshot, namespace) {
                Ok(Policies::None) => return Ok(None),
                Ok(Policies::Ready(compiled)) => return Ok(Some(compiled)),
                Ok(Policies::Unusable(denied)) => {
                    let cause = denied.causes.into_iter().next();
                    let cause =
                        cause.unwrap_or_else(|| Cause::plain(CauseKind::PolicyError, "a policy cannot be used"));
                    return Err((Why::PolicyError, cause));
                }
                Err(NotReady) if tokio::time::Instant::now() >= give_up => {
                    let text = "the newest policies are still being compiled";
                    return Err((Why::PolicyNotReady, Cause::plain(CauseKind::View, text)));
                }
                Err(NotReady) => drop(tokio::time::timeout_at(give_up, filled.changed()).await),
            }
        }
    }
}

impl Policies {
    pub(super) fn unusable(e: &Unusable) -> Self {
        let cause = Cause::plain(CauseKind::PolicyError, e.to_string());
        Self::Unusable(Answer::deny(Why::PolicyError, cause))
    }
}

/// Answers `asks` at one revision, in their order.
///
/// # Errors
/// A refusal of the whole call when the caller may not ask one of them.
pub(crate) async fn evaluate(desk: &Desk, asker: &Asker, asks: &[Ask]) -> Result<Vec<Spoken>, Fault> {
    let wanted = asks.iter().map(|ask| ask.at_least_revision).max().unwrap_or(0);
    if wanted > 0 {
        // What comes of it shows in the reading below.
        let _ = desk.view.wait_for(wanted, asker.patience(Duration::MAX)).await;
    }
    let (reading, right, mut all) = match decide(desk, asker, asks).await {
        Ok(decided) => decided,
        Err(fault) => {
            record::refusal(desk, asker, asks, &fault).await;
            return Err(fault);
        }
    };
    let once = super::use_up::use_up(desk, asker, &mut all).await;
    let emergency = right.as_ref().filter(|right| right.is_operators()).and_then(|_| record::broke_glass(desk, asker));
    let durable =
        once || emergency.is_some() || right.is_some_and(|right| asks.iter().any(|ask| right.is_durable(ask)));
    if emergency.is_some() {
        desk.metrics.broke_glass();
        tracing::warn!(
            operator = asker.spiffe_id,
            emergency = asker.emergency.as_deref(),
            "an operator broke the glass"
        );
    }
    let decisions = asks.iter().zip(&all).map(|(ask, spoken)| record::decision(asker, ask, spoken));
    if let Err(e) = desk.spool.write(emergency.into_iter().chain(decisions).collect(), durable).await {
        for spoken in &mut all {
            let cause = Cause::plain(CauseKind::Audit, e.to_string());
            spoken.replace(Answer::deny(Why::AuditUnavailable, cause));
        }
    }
    withdraw_stale(desk, asker, asks, &reading, &mut all).await;
    for (ask, spoken) in asks.iter().zip(&all) {
        desk.metrics.decided(spoken.answer.denied, spoken.answer.word());
        super::shadow::count(desk, ask, spoken);
    }
    Ok(all)
}

impl Spoken {
    /// Puts a denial in place of what was decided.
    pub(super) fn replace(&mut self, answer: Answer) {
        self.message = record::message(&answer);
        self.answer = answer;
        self.valid_until = None;
        self.shadowed = None;
    }
}

/// Decides all at one reading of the view; starts anew with a newer one while policies are being compiled.
pub(super) async fn decide(
    desk: &Desk,
    asker: &Asker,
    asks: &[Ask],
) -> Result<(Reading, Option<Right>, Vec<Spoken>), Fault> {
    let reading = desk.view.read();
    if let Some((right, all)) = decide_at(desk, asker, asks, &reading, false).await? {
        return Ok((reading, right, all));
    }
    let give_up = tokio::time::Instant::now() + asker.patience(COMPILE_PATIENCE);
    // Taken before the look, so that nothing that comes after it is missed.
    let mut filled = desk.library.filled();
    loop {
        filled.mark_unchanged();
        let reading = desk.view.read();
        let is_late = tokio::time::Instant::now() >= give_up;
        if let Some((right, all)) = decide_at(desk, asker, asks, &reading, is_late).await? {
            return Ok((reading, right, all));
        }
        let _ = tokio::time::timeout_at(give_up, filled.changed()).await;
    }
}

/// Decides all at `reading`; `None` when policies are missing and it is not too late to wait for them.
#[allow(clippy::type_complexity, reason = "read in one place")]
async fn decide_at(
    desk: &Desk,
    asker: &Asker,
    asks: &[Ask],
    reading: &Reading,
    is_late: bool,
) -> Result<Option<(Option<Right>, Vec<Spoken>)>, Fault> {
    // By an old view nobody's right is known; every answer is STALE then.
    let right = match reading.fresh(desk.view.bound()) {
        Ok(_) => Some(asker.right(&reading.snapshot, desk.clock.now())?),
        Err(_) => None,
    };
    if let Some(right) = &right {
        asks.iter().try_for_each(|ask| right.covers(ask))?;
    }
    let mut all = Vec::with_capacity(asks.len());
    for (n, ask) in asks.iter().enumerate() {
        if n > 0 {
            // One question may meet ten thousand policies; others work on this thread, and the deadline has to be seen.
            tokio::task::yield_now().await;
        }
        match one(desk, asker, right.as_ref(), ask, reading) {
            Ok(spoken) => all.push(spoken),
            Err(NotReady) if !is_late => return Ok(None),
            Err(NotReady) => {
                let cause = Cause::plain(CauseKind::View, "the newest policies are still being compiled");
                let answer = Answer::deny(Why::PolicyNotReady, cause);
                all.push(speak(desk, reading, ask, answer, (Known::default(), None), desk.clock.now()));
            }
        }
    }
    Ok(Some((right, all)))
}

/// Answers one question at one reading.
fn one(desk: &Desk, asker: &Asker, right: Option<&Right>, ask: &Ask, reading: &Reading) -> Result<Spoken, NotReady> {
    let now = desk.clock.now();
    let say = |answer, known, agent| Ok(speak(desk, reading, ask, answer, (known, agent), now));
    let bound = oldest(ask);
    let (right, _) = match (right, reading.fresh(bound)) {
        (Some(right), Ok(age)) => (right, age),
        (_, Err(stale)) => {
            return say(stale_answer(&stale), Known::default(), None);
        }
        (None, Ok(_)) => {
            // It was stale when the caller's right was looked for.
            let stale = legate_view::Stale { age: reading.age(), bound: desk.view.bound() };
            return say(stale_answer(&stale), Known::default(), None);
        }
    };
    let snapshot = &reading.snapshot;
    if snapshot.revision() < ask.at_least_revision && !legate_planted::is(Bug::AnyRevision) {
        let text = format!("revision {} was asked for, the view holds {}", ask.at_least_revision, snapshot.revision());
        let cause = Cause::plain(CauseKind::View, text);
        return say(Answer::deny(Why::RevisionNotReached, cause), Known::default(), None);
    }
    let mut asked = None;
    let judged = judge(desk, right, ask, snapshot, now, |namespace| {
        let policies = desk.policies(snapshot, namespace)?;
        asked = Some(policies.clone());
        Ok(policies)
    })?;
    let mut spoken = speak(desk, reading, ask, judged.answer, (judged.known, judged.agent), now);
    spoken.shadowed = match &asked {
        Some(Policies::Ready(compiled)) if !compiled.shadows().is_empty() => Some(Arc::clone(compiled)),
        _ => None,
    };
    desk.followers.pass_on(|| shadow_change::Asked::new(ask, right, &spoken.id, spoken.at));
    if let Some(policies @ Policies::Ready(_)) = asked {
        self_check::choose(desk, asker, right, ask, snapshot, policies, &spoken);
    }
    Ok(spoken)
}

/// Decides one question by `snapshot` at `now`: here, and nowhere else. `policies` are those of a namespace at that state.
pub(super) fn judge(
    desk: &Desk,
    right: &Right,
    ask: &Ask,
    snapshot: &Snapshot,
    now: Timestamp,
    policies: impl FnOnce(&Name) -> Result<Policies, NotReady>,
) -> Result<Judged, NotReady> {
    judge_by(&desk.bench, desk, right, ask, snapshot, now, policies)
}

/// The same on another bench than the desk's, to be compared.
pub(super) fn judge_by(
    bench: &Bench,
    desk: &Desk,
    right: &Right,
    ask: &Ask,
    snapshot: &Snapshot,
    now: Timestamp,
    policies: impl FnOnce(&Name) -> Result<Policies, NotReady>,
) -> Result<Judged, NotReady> {
    let (agent, mut known) = match desk.tokens.subject(snapshot, right, ask, now) {
        Ok(found) => found,
        Err(nobody) => {
            let (answer, mut known) = *nobody;
            let agent = known.named.take();
            return Ok(Judged { answer, known, agent });
        }
    };
    let delegated = known.delegation.clone();
    let with_behalf = delegated.as_ref().map(|delegation| behalf::question(&ask.question, delegation));
    let question = with_behalf.as_ref().unwrap_or(&ask.question);
    let say = |answer, known| Ok(Judged { answer, known, agent: Some(Arc::clone(&agent)) });
    let so_far = bench.before_policies(snapshot, &agent, question, now);
    if so_far.denied.is_some() {
        return say(so_far, known);
    }
    let policies = policies(&agent.label.namespace)?;
    let compiled = match &policies {
        Policies::Ready(compiled) => Some(&**compiled),
        Policies::None => None,
        Policies::Unusable(denied) => return say(denied.clone(), known),
    };
    let decide = |towards: Option<&[&str]>, so_far: Answer| {
        let approvals = approval::of(snapshot, &agent, question, towards, now);
        let answer = bench.with_policies(snapshot, &agent, question, compiled, &approvals, now, so_far);
        match (&delegated, answer.denied) {
            (Some(delegation), None) => bench.on_behalf(snapshot, delegation, question, towards, compiled, now, answer),
            _ => answer,
        }
    };
    let towards = right.towards(known.audience.as_deref());
    let delegators = delegated.iter().flat_map(|delegation| delegation.delegators());
    let agents = std::iter::once(&agent).chain(delegators);
    let alone = approval::audiences(snapshot, agents, towards.as_deref().unwrap_or_default(), now);
    // Nearly never is there anything to decide again.
    let again = (!alone.is_empty()).then(|| so_far.clone());
    let mut answer = decide(towards.as_deref(), so_far);
    if let (Some(_), Some(so_far)) = (answer.denied, again) {
        // By what was approved towards one audience it is let through as a whole towards that one, or not at all.
        let mut tried = alone.into_iter().map(|audience| (audience, decide(Some(&[audience]), so_far.clone())));
        if let Some((audience, allowed)) = tried.find(|(_, answer)| answer.denied.is_none()) {
            (answer, known.audience) = (allowed, Some(audience.to_owned()));
        }
    }
    if answer.denied.is_none()
        && let Some(cause) = bench.misfit(snapshot, &agent.label.namespace, question)
    {
        answer = Answer::deny(Why::OutsideSchema, cause);
    }
    if answer.denied.is_none()
        && let Some(why) = known.outside
    {
        answer = Answer::deny(Why::TokenScope, Cause::plain(CauseKind::Token, why));
    }
    shadow::told(&mut answer, delegated.is_some());
    say(answer, known)
}

fn stale_answer(stale: &legate_view::Stale) -> Answer {
    Answer::deny(Why::Stale, Cause::plain(CauseKind::View, stale.to_string()))
}

/// How old a view the question takes, beside the view's own bound.
fn oldest(ask: &Ask) -> Duration {
    ask.max_staleness.unwrap_or(Duration::MAX)
}

/// An answer that was made at `at`.
fn speak(
    desk: &Desk,
    reading: &Reading,
    ask: &Ask,
    answer: Answer,
    (known, agent): (Known, Option<Arc<Agent>>),
    at: Timestamp,
) -> Spoken {
    let view_age = reading.age();
    // Used again it must not outlive what this view could vouch for, nor the token, nor any window that made it.
    let vouched = view_age.map_or(Duration::ZERO, |age| desk.view.bound().saturating_sub(age));
    let ttl = desk.answer_ttl.min(vouched);
    let reusable = answer.denied.is_none() && answer.uses.is_empty() && !ttl.is_zero();
    let ends = [Some(at.plus(ttl)), answer.until, known.expires];
    let valid_until = ends.into_iter().flatten().min().filter(|_| reusable);
    Spoken {
        id: desk.decision_id(at),
        message: record::message(&answer),
        answer,
        at,
        agent,
        known,
        revision: reading.snapshot.revision(),
        view_age,
        good_until: reading.good_until(oldest(ask)),
        valid_until,
        shadowed: None,
    }
}

/// The process may have been stopped, or the disk slow, since the decision: an ALLOW that is old by now is not said.
async fn withdraw_stale(desk: &Desk, asker: &Asker, asks: &[Ask], reading: &Reading, all: &mut [Spoken]) {
    let mut withdrawn = Vec::new();
    for (ask, spoken) in asks.iter().zip(all.iter_mut()) {
        if spoken.answer.denied.is_some() {
            continue;
        }
        if let Err(stale) = reading.fresh(oldest(ask)) {
            spoken.replace(stale_answer(&stale));
            withdrawn.push(record::withdrawal(asker, ask, spoken));
        }
    }
    if !withdrawn.is_empty() {
        // The denial is said in any case; that the record of an ALLOW stands uncorrected would be the lesser harm.
        let _ = desk.spool.write(withdrawn, false).await;
    }
}
