//! What agents were given and do not need: a page of agents of the view, held against what the registry heard that they used.

mod count;
mod gather;

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_rpc::{Fault, OPERATOR_NOT_PERMITTED};
use legate_view::{Agent, Snapshot};
use legate_wire::registry::UsageWindow;
use tokio::time::Instant;

use self::gather::{Gathered, gather};
use super::asker::{Asker, Right};
use super::asking::{seat, told};
use super::evaluate::Desk;
use super::record;
use super::roster::{Place, Roster, place};
use crate::domain::drift::patch::{Patch, patch};
use crate::domain::drift::{Examined, Finding, Kind, Known, NotProposed, Proposal, TOLD, Terms, examine, propose};
use crate::error::{AGENT_UNKNOWN, DRIFT_NOTHING_LEFT, DRIFT_TOO_MUCH};

#[cfg(test)]
pub(crate) use count::count;
pub(crate) use count::count_forever;
pub(crate) use gather::known;

/// For how long something has to be silent to be unused, where nobody says otherwise: a quarter.
pub(crate) const USUAL: Duration = Duration::from_secs(90 * 86_400);
/// The longest that one page takes.
const LONGEST: Duration = Duration::from_secs(20);

/// Which drift is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Drift {
    pub(crate) which: Which,
    /// None: all.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) unused_after: Duration,
    pub(crate) page_size: usize,
    pub(crate) page_token: String,
    pub(crate) at_least_revision: u64,
    /// Everything that was asked, for which a page token is good.
    pub(crate) said: String,
}

/// Of whom.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// Of all that the caller may read.
    All,
    Namespace(Name),
    Agent(AgentId),
}

/// What was found about one agent.
#[derive(Debug)]
pub(crate) struct OfAgent {
    pub(crate) agent: Arc<Agent>,
    pub(crate) findings: Vec<Finding>,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Drifted {
    pub(crate) found: Vec<OfAgent>,
    pub(crate) next_page_token: String,
    pub(crate) window: UsageWindow,
    pub(crate) agents: usize,
    pub(crate) not_judged: u32,
    pub(crate) left_out: u32,
    pub(crate) revision: u64,
    pub(crate) view_age: Option<Duration>,
}

/// Which agent is to have less.
#[derive(Clone, Debug)]
pub(crate) struct Propose {
    pub(crate) agent: AgentId,
    pub(crate) unused_after: Duration,
    pub(crate) at_least_revision: u64,
}

/// What it would keep and lose.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub(crate) agent: Arc<Agent>,
    pub(crate) proposal: Proposal,
    pub(crate) patch: Patch,
    pub(crate) window: UsageWindow,
    pub(crate) revision: u64,
}

/// Where a page begins: after this agent, of a listing that began at this revision.
fn begin(text: &str) -> Result<(u64, Place), Fault> {
    let broken = || Fault::broken("an authentic page token names no place");
    let parts: Vec<&str> = text.split(' ').collect();
    let [begun, namespace, name, id] = parts[..] else { return Err(broken()) };
    let begun = begun.parse().map_err(|_| broken())?;
    Ok((begun, (namespace.to_owned(), name.to_owned(), id.to_owned())))
}

/// One page of findings.
///
/// # Errors
/// When the caller may not read there, the agent is not known to it, the token is not of this question, the view is old, the
/// registry does not tell what was used, others ask already, or it cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn drift(desk: &Arc<Desk>, asker: &Asker, ask: Drift) -> Result<Drifted, Fault> {
    let question = ["drift".to_owned(), asker.spiffe_id.clone(), ask.said.clone()];
    let question: Vec<&str> = question.iter().map(String::as_str).collect();
    let from = desk.pages.read(&question, &ask.page_token)?.map(|text| begin(&text)).transpose()?;
    let may = |right: &Right| match &ask.which {
        Which::Namespace(name) if !right.shows(name) => {
            Err(Fault::refused(&OPERATOR_NOT_PERMITTED, format!("the caller may not read the namespace {name}")))
        }
        _ => Ok(()),
    };
    let seat = seat(desk, asker, ask.at_least_revision, LONGEST, may).await?;
    let snapshot = seat.reading.snapshot.clone();
    let (revision, view_age) = (snapshot.revision(), seat.reading.age());
    let (roster, agents, is_more) = match &ask.which {
        Which::Agent(id) => {
            let agent = shown(&snapshot, &seat.right, id)?;
            (Arc::new(Roster::of_one(&snapshot, &agent)), vec![agent], false)
        }
        Which::Namespace(_) | Which::All => {
            let begun = from.as_ref().map_or(revision, |(begun, _)| *begun);
            let namespace = match &ask.which {
                Which::Namespace(name) => Some(name),
                _ => None,
            };
            let roster = desk.rosters.of(&snapshot, namespace, begun);
            let after = from.as_ref().map(|(_, place)| place);
            let (agents, is_more) = page(&roster, &snapshot, &seat.right, ask.page_size, after);
            (roster, agents, is_more)
        }
    };
    let namespace = match &ask.which {
        Which::Namespace(name) => name.as_str(),
        Which::Agent(_) => agents.first().map_or("", |agent| agent.label.namespace.as_str()),
        Which::All => "",
    };
    let begun = roster.revision();
    let details = [("question", "drift".to_owned()), ("agents", agents.len().to_string())];
    let event = record::searched(asker, namespace, revision, desk.clock.now(), details);
    let gathered = gather(desk, &snapshot, &roster, &agents, seat.until).await?;
    let (unused_after, until, now, turn) = (ask.unused_after, seat.until, seat.now, seat.turn);
    let looking = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also where the caller has left.
        let _turn = turn;
        let looked = look(&snapshot, agents, &gathered, unused_after, now, &|| Instant::now() >= until);
        (looked, gathered.window)
    });
    let (looked, window) = looking.await.map_err(Fault::broken)?;
    told(desk, asker, event).await?;
    desk.metrics.asked("drift");
    let next = looked.last.filter(|_| is_more || looked.is_cut);
    let next = next.map(|last| {
        let (namespace, name, id) = place(&last);
        desk.pages.after(&question, &format!("{begun} {namespace} {name} {id}"))
    });
    let is_asked = |finding: &Finding| ask.kinds.is_empty() || ask.kinds.contains(&finding.kind);
    let (mut found, mut left_out) = (looked.found, 0);
    for one in &mut found {
        one.findings.retain(is_asked);
        left_out += one.findings.len().saturating_sub(TOLD);
        one.findings.truncate(TOLD);
    }
    Ok(Drifted {
        found,
        next_page_token: next.unwrap_or_default(),
        window,
        agents: looked.agents,
        not_judged: looked.not_judged,
        left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
        revision,
        view_age,
    })
}

/// What an agent would keep and lose.
///
/// # Errors
/// As for [`drift`]; and when nothing would be left and what gives it gives it to others too, or when more than may be declared would be left.
#[tracing::instrument(skip_all)]
pub(crate) async fn propose_ceiling(desk: &Arc<Desk>, asker: &Asker, ask: Propose) -> Result<Proposed, Fault> {
    let seat = seat(desk, asker, ask.at_least_revision, LONGEST, |_| Ok(())).await?;
    let (snapshot, now) = (seat.reading.snapshot.clone(), seat.now);
    let agent = shown(&snapshot, &seat.right, &ask.agent)?;
    let revision = snapshot.revision();
    let details = [("question", "propose_ceiling".to_owned()), ("agent_id", agent.id.to_string())];
    let event = record::searched(asker, agent.label.namespace.as_str(), revision, desk.clock.now(), details);
    let roster = Roster::of_one(&snapshot, &agent);
    let gathered = gather(desk, &snapshot, &roster, std::slice::from_ref(&agent), seat.until).await?;
    let (of, turn) = (Arc::clone(&agent), seat.turn);
    let proposing = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let known = gathered.known.get(&of.id).cloned().unwrap_or_default();
        let terms = Terms { evidence: &gathered.evidence, minimum: ask.unused_after, now };
        let proposal = propose(&snapshot, &of, &known, &terms);
        let lost = proposal.as_ref().map(|proposal| patch(&snapshot, &of, &proposal.lose)).unwrap_or_default();
        (proposal, lost, gathered.window)
    });
    let (proposal, patch, window) = proposing.await.map_err(Fault::broken)?;
    told(desk, asker, event).await?;
    desk.metrics.asked("propose_ceiling");
    let proposal = proposal.map_err(|NotProposed::TooMuch| {
        let text = format!("{} has more permissions than one ceiling can list", agent.label.name);
        Fault::refused(&DRIFT_TOO_MUCH, text)
    })?;
    if !proposal.lose.is_empty() && proposal.keep.is_empty() && patch.changes.is_empty() {
        let why = patch.why_not.join("; ");
        let text = format!(
            "nothing that {} was given was used, and it cannot be taken from it alone: {why}",
            agent.label.name
        );
        return Err(Fault::refused(&DRIFT_NOTHING_LEFT, text));
    }
    Ok(Proposed { agent, proposal, patch, window, revision })
}

fn shown(snapshot: &Snapshot, right: &Right, id: &AgentId) -> Result<Arc<Agent>, Fault> {
    let agent = snapshot.agent(id).filter(|agent| right.shows(&agent.label.namespace)).cloned();
    agent.ok_or_else(|| Fault::refused(&AGENT_UNKNOWN, format!("no agent {id} is known here")))
}

/// The agents of one page that are shown, in their order, and whether there are more.
fn page(
    roster: &Roster,
    snapshot: &Snapshot,
    right: &Right,
    size: usize,
    after: Option<&Place>,
) -> (Vec<Arc<Agent>>, bool) {
    let mut left = roster.after(snapshot, after).filter(|agent| right.shows(&agent.label.namespace));
    let page = left.by_ref().take(size).map(Arc::clone).collect();
    (page, left.next().is_some())
}

/// What came of the agents that were looked at.
struct Looked {
    found: Vec<OfAgent>,
    agents: usize,
    not_judged: u32,
    last: Option<Arc<Agent>>,
    /// Whether there was no time for all of them.
    is_cut: bool,
}

fn look(
    snapshot: &Snapshot,
    agents: Vec<Arc<Agent>>,
    gathered: &Gathered,
    minimum: Duration,
    now: Timestamp,
    is_over: &dyn Fn() -> bool,
) -> Looked {
    let terms = Terms { evidence: &gathered.evidence, minimum, now };
    let none = Known::default();
    let mut looked = Looked { found: Vec::new(), agents: 0, not_judged: 0, last: None, is_cut: false };
    for agent in agents {
        // One at least, so that whoever asks on comes to an end.
        if looked.agents > 0 && is_over() {
            looked.is_cut = true;
            break;
        }
        let known = gathered.known.get(&agent.id).unwrap_or(&none);
        let Examined { findings, not_judged } = examine(snapshot, &agent, known, &gathered.shared, &terms);
        looked.agents += 1;
        looked.not_judged = looked.not_judged.saturating_add(not_judged);
        looked.last = Some(Arc::clone(&agent));
        if !findings.is_empty() {
            looked.found.push(OfAgent { agent, findings });
        }
    }
    looked
}
