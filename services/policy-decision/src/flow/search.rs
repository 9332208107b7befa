//! What an agent may do to one resource, and to which resources it may do something: as far as they are named one by one, each decided about.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{Action, AgentId, ResourceId};
use legate_rpc::Fault;
use legate_view::{Agent, Snapshot};
use tokio::time::Instant;

use super::asker::{Asker, Right};
use super::asking::{AGAIN, fresh, seat, told};
use super::evaluate::{Desk, judge};
use super::record;
use super::what_can::{WhatCan, look};
use crate::convert::{Ask, OnBehalfOf, Subject};
use crate::domain::preview::cells::Cell;
use crate::domain::question::Question;
use crate::domain::standing;
use crate::error::{AGENT_UNKNOWN, CALLER_MAY_NOT_ASK, POLICY_NOT_READY, SEARCH_UNBOUNDED};

/// The longest that is looked.
const LONGEST: Duration = Duration::from_secs(3);
/// Candidates that are decided about; more are as good as a pattern.
const MOST: usize = 1_000;
/// Patterns that are told.
const TOLD: usize = 16;

/// What is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// The actions that the agent may do to the question's resource.
    Actions,
    /// The resources of the question's type to which the agent may do the question's action.
    Resources,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    pub(crate) sought: Sought,
    pub(crate) agent: AgentId,
    pub(crate) on_behalf_of: Option<OnBehalfOf>,
    /// In place of what is sought anything may stand.
    pub(crate) question: Question,
    /// Whether what is named one by one suffices, where patterns stand for more.
    pub(crate) is_partial: bool,
    pub(crate) at_least_revision: u64,
}

/// What was found: each is allowed now.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) names: BTreeSet<String>,
    /// What stands for more than was looked at.
    pub(crate) patterns: BTreeSet<String>,
    pub(crate) revision: u64,
}

/// Whether the caller may search at all, for answers that tell nothing else; the revision by which that was seen.
///
/// # Errors
/// When it may not, or the view is old.
pub(crate) fn may_search(desk: &Desk, asker: &Asker) -> Result<u64, Fault> {
    let (reading, now) = fresh(desk)?;
    asker.right(&reading.snapshot, now)?.may_search()?;
    Ok(reading.snapshot.revision())
}

/// Finds what the agent may do.
///
/// # Errors
/// When the caller may not search, the agent is not known to it, there is more than can be named, the view is old, others ask
/// already, or it cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn search(desk: &Arc<Desk>, asker: &Asker, ask: Search) -> Result<Named, Fault> {
    let may = |right: &Right| {
        right.may_search()?;
        let kind = ask.question.resource_type.as_str();
        if right.asks_about(kind) {
            return Ok(());
        }
        let text = format!("the caller may not ask about {kind}");
        Err(Fault::refused(&CALLER_MAY_NOT_ASK, text).with("resource_type", kind))
    };
    let seat = seat(desk, asker, ask.at_least_revision, LONGEST, may).await?;
    let shown = |agent: &&Arc<Agent>| seat.right.shows(&agent.label.namespace);
    let agent = seat.reading.snapshot.agent(&ask.agent).filter(shown).cloned();
    let agent = agent.ok_or_else(|| Fault::refused(&AGENT_UNKNOWN, format!("no agent {} is known here", ask.agent)))?;
    let revision = seat.reading.snapshot.revision();
    let word = ask.sought.word();
    let event = record::searched(
        asker,
        agent.label.namespace.as_str(),
        revision,
        desk.clock.now(),
        [("question", word.to_owned()), ("agent_id", agent.id.to_string()), ("asked", record::cut(ask.asked()))],
    );
    let is_partial = ask.is_partial;
    let working = Arc::clone(desk);
    let made = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also where the caller has left.
        let _turn = seat.turn;
        find(&working, &seat.reading.snapshot, &seat.right, &agent, &ask, seat.now, seat.until)
    });
    let (names, patterns) = made.await.map_err(Fault::broken)??;
    told(desk, asker, event).await?;
    desk.metrics.asked(word);
    if !patterns.is_empty() && !is_partial {
        let all: Vec<&str> = patterns.iter().take(TOLD).map(String::as_str).collect();
        let text = format!("the agent is given {}, and what they stand for is not listed", all.join(", "));
        return Err(Fault::refused(&SEARCH_UNBOUNDED, text));
    }
    Ok(Named { names, patterns, revision })
}

impl Sought {
    fn word(self) -> &'static str {
        match self {
            Self::Actions => "search_actions",
            Self::Resources => "search_resources",
        }
    }
}

impl Search {
    fn asked(&self) -> String {
        let question = &self.question;
        match self.sought {
            Sought::Actions => format!("{}:{}", question.resource_type, question.resource_id),
            Sought::Resources => format!("{} {}", question.action, question.resource_type),
        }
    }

    /// Whether what is given covers what is asked, whatever is sought; what it names of that.
    fn named<'a>(&self, cell: &'a Cell) -> Option<&'a str> {
        let question = &self.question;
        let (mut wanted, name) = (
            cell.clone(),
            match self.sought {
                Sought::Actions => &cell.action,
                Sought::Resources => &cell.id,
            },
        );
        wanted.kind = question.resource_type.to_string();
        match self.sought {
            Sought::Actions => wanted.id = question.resource_id.to_string(),
            Sought::Resources => wanted.action = question.action.to_string(),
        }
        // Attributes that are not stated may yet be what they have to be; those that are stated are not another.
        let text = |name: &str| legate_authority::Attributes::text(&question.attributes, name);
        let fits = cell.attributes.iter().all(|(name, value)| text(name).is_none_or(|stated| stated == value));
        (fits && cell.covers(&wanted)).then_some(name.as_str())
    }

    /// The question about one that was found; `None`: a name that no question can have.
    fn about(&self, name: &str) -> Option<Question> {
        let mut question = self.question.clone();
        match self.sought {
            Sought::Actions => question.action = Action::parse(name).ok()?,
            Sought::Resources => question.resource_id = ResourceId::parse(name).ok()?,
        }
        Some(question)
    }
}

type Found = (BTreeSet<String>, BTreeSet<String>);

fn find(
    desk: &Desk,
    snapshot: &Snapshot,
    right: &Right,
    agent: &Arc<Agent>,
    ask: &Search,
    now: Timestamp,
    until: Instant,
) -> Result<Found, Fault> {
    let (mut names, mut patterns) = (BTreeSet::new(), BTreeSet::new());
    if standing::judge(snapshot, agent, now).is_some() {
        return Ok((names, patterns));
    }
    let all = WhatCan::about(agent.id.clone());
    let (all, left_out) = look(desk, snapshot, right, agent, now, &all, until);
    let mut candidates = BTreeSet::new();
    for one in all.iter().filter(|one| one.from.is_none()) {
        match ask.named(&one.cell) {
            Some(name) if name.ends_with('*') => drop(patterns.insert(name.to_owned())),
            Some(name) => drop(candidates.insert(name)),
            None => {}
        }
    }
    if left_out > 0 {
        patterns.insert(format!("{left_out} more that were not told apart"));
    }
    for (n, name) in candidates.iter().enumerate() {
        if n >= MOST || Instant::now() >= until {
            patterns.insert(format!("{} more that were not looked at", candidates.len() - n));
            break;
        }
        let Some(question) = ask.about(name) else { continue };
        let single = Ask {
            subject: Subject::Asserted(agent.id.clone()),
            presenter: None,
            presenter_key: None,
            on_behalf_of: ask.on_behalf_of.clone(),
            question,
            at_least_revision: 0,
            max_staleness: None,
            correlation_id: String::new(),
        };
        let judged = judge(desk, right, &single, snapshot, now, |namespace| desk.policies(snapshot, namespace));
        let not_ready =
            |_| Fault::unavailable(&POLICY_NOT_READY, "the newest policies are still being compiled", AGAIN);
        if judged.map_err(not_ready)?.answer.denied.is_none() {
            names.insert((*name).to_owned());
        }
    }
    Ok((names, patterns))
}
