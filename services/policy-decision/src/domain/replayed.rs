//! Whether a recorded decision would come out otherwise: what its record holds is decided before and after a change, or once more by
//! the state that it was made by.
//!
//! A record holds the action, the resource with its region and class of data, and the chain; it does not hold the context nor other
//! attributes. So what hangs on these is unsure, and nothing is called a flip that is not one whatever they were.

use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_token::Subject;
use legate_view::Delegator;

use super::answer::{Answer, Cause, CauseKind, Why};
use super::approval;
use super::authority::Bench;
use super::behalf;
use super::preview::cells::Cell;
use super::preview::compare::{Book, Side, effect};
use super::preview::outlook::{Holds, On, Verdict};
use super::standing;

/// What a record says of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Recorded {
    pub(crate) agent: String,
    pub(crate) action: String,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) data: String,
    /// `user:NAME`, or an agent's SPIFFE ID; empty: the agent acted for itself.
    pub(crate) subject: String,
    pub(crate) chain: Vec<String>,
    pub(crate) grants: Vec<String>,
    /// The groups of people that the subject was proved to be a member of, and that counted.
    pub(crate) groups: Vec<String>,
    pub(crate) allowed: bool,
    /// The word of the denial.
    pub(crate) word: String,
    /// Its kind.
    pub(crate) denial: String,
}

/// What would become of it.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It stays as it is.
    Stays,
    /// It would be denied.
    Denied(Vec<Cause>),
    /// It would be allowed.
    Allowed(Vec<Cause>),
    /// It might come out otherwise; on what it hangs.
    Unsure(Vec<On>),
    /// It cannot be judged.
    NotJudged,
}

impl Recorded {
    fn cell(&self) -> Cell {
        let stated = [("region", &self.region), ("data_classification", &self.data)];
        let attributes = stated.into_iter().filter(|(_, value)| !value.is_empty());
        Cell {
            action: self.action.clone(),
            kind: self.kind.clone(),
            id: self.id.clone(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        }
    }
}

/// Whether a denial was one of authority: what is declared could turn it.
fn is_of_authority(word: &str) -> bool {
    const WORDS: [&str; 12] = [
        "NOT_PERMITTED",
        "ABOVE_CEILING",
        "NO_POLICY_PERMITS",
        "FORBIDDEN_BY_POLICY",
        "APPROVAL_REQUIRED",
        "CHAIN_INVALID",
        "CHAIN_TOO_LONG",
        "DELEGATOR_NOT_PERMITTED",
        "GRANT_NOT_IN_FORCE",
        "GRANT_NOT_PERMITTED",
        "GRANT_AUDIENCE",
        "GRANT_OUTSIDE_WINDOW",
    ];
    WORDS.contains(&word) || word.starts_with("BINDING_") || word.starts_with("BOUNDARY_")
}

/// What would become of a recorded decision.
pub(crate) fn fate(
    bench: &Bench,
    (before, after): (&mut Side<'_>, &mut Side<'_>),
    recorded: &Recorded,
    now: Timestamp,
) -> Fate {
    if recorded.denial == "UNDECIDED" {
        return Fate::NotJudged;
    }
    let Some(was) = look(bench, before, recorded, now) else { return Fate::NotJudged };
    let Some(is) = look(bench, after, recorded, now) else { return Fate::NotJudged };
    let is_other_schema = before.book.schema() != after.book.schema();
    let is_declared = !after.book.schema().is_empty();
    let by_schema = || Fate::Unsure(vec![schema(&after.book)]);
    if recorded.word == Why::OutsideSchema.word() {
        return match is.holds {
            Holds::Never => Fate::Stays,
            _ if !is_other_schema => Fate::Stays,
            _ if is_declared => by_schema(),
            Holds::Always => Fate::Allowed(is.causes),
            Holds::Depends(on) => Fate::Unsure(on),
        };
    }
    // Whether it fits another schema hangs on what is not on record.
    let is_open = is_other_schema && is_declared && recorded.allowed && !matches!(is.holds, Holds::Never);
    if effect(&was.holds, &is.holds).is_none() || (!recorded.allowed && !is_of_authority(&recorded.word)) {
        return if is_open && !matches!(was.holds, Holds::Never) { by_schema() } else { Fate::Stays };
    }
    match (recorded.allowed, was.holds, is.holds) {
        (false, _, Holds::Always) if is_declared => by_schema(),
        (true, Holds::Depends(_) | Holds::Always, Holds::Always | Holds::Depends(_)) if is_open => by_schema(),
        // What would hold it back may be lifted; that is told apart by checks alone.
        (true, Holds::Depends(_) | Holds::Always, Holds::Never) if is_lifted(after, recorded, now) => {
            let cause = Cause::plain(CauseKind::View, "a person approved something that policies hold back");
            Fate::Unsure(vec![On { cause, content: String::new() }])
        }
        (true, _, Holds::Never) => Fate::Denied(is.causes),
        (false, _, Holds::Always) => Fate::Allowed(is.causes),
        // What would not be allowed now is told apart no further.
        (true, Holds::Never, _) | (true, _, Holds::Always) | (false, _, Holds::Never) => Fate::Stays,
        (_, _, Holds::Depends(on)) => Fate::Unsure(on),
    }
}

/// What comes of a recorded decision by the state that it was made by.
#[derive(Clone, Debug)]
pub(crate) enum Again {
    /// What is recorded.
    Same,
    /// The other answer, by these.
    Differs(Vec<Cause>),
    /// That hangs on something that is not on record.
    Unsure(Vec<On>),
    /// It rests on what no history holds.
    NotJudged,
}

/// Whether a denial was one of the agent's standing: its state and that of what is above it.
fn is_of_standing(word: &str) -> bool {
    let all = [
        Why::AgentSuspended,
        Why::ClassSuspended,
        Why::NamespaceSuspended,
        Why::AgentStopped,
        Why::ParentStopped,
        Why::AgentQuarantined,
        Why::AgentExpired,
        Why::AgentRetired,
        Why::AgentNotActive,
    ];
    all.iter().any(|why| why.word() == word)
}

/// Makes a recorded decision once more, by the state that it was made by and at the moment of it.
pub(crate) fn again(bench: &Bench, side: &mut Side<'_>, recorded: &Recorded, then: Timestamp) -> Again {
    if recorded.denial == "UNDECIDED" {
        return Again::NotJudged;
    }
    let agent = AgentId::parse(&recorded.agent).ok().and_then(|id| side.snapshot.agent(&id).cloned());
    let Some(agent) = agent else {
        let cause = Cause::plain(CauseKind::AgentState, "there was no such agent");
        return if recorded.allowed { Again::Differs(vec![cause]) } else { Again::NotJudged };
    };
    if let Some(stopped) = standing::judge(side.snapshot, &agent, then) {
        return if recorded.allowed { Again::Differs(stopped.causes) } else { Again::Same };
    }
    if !recorded.allowed && is_of_standing(&recorded.word) {
        return Again::Differs(vec![Cause::of_agent(CauseKind::AgentState, &agent, "nothing stopped the agent then")]);
    }
    let is_misfit = recorded.word == Why::OutsideSchema.word();
    if !recorded.allowed && !is_misfit && !is_of_authority(&recorded.word) {
        return Again::NotJudged;
    }
    let Some(Verdict { holds, causes }) = look(bench, side, recorded, then) else { return Again::NotJudged };
    match (recorded.allowed, holds) {
        // That it did not fit hangs on all that it stated.
        (false, Holds::Always | Holds::Depends(_)) if is_misfit && !side.book.schema().is_empty() => {
            Again::Unsure(vec![schema(&side.book)])
        }
        // What holds it back was lifted; by which approval is told apart by checks alone.
        (true, Holds::Never) if is_lifted(side, recorded, then) => {
            let cause = Cause::plain(CauseKind::Approval, "a person had approved something that policies hold back");
            Again::Unsure(vec![On { cause, content: String::new() }])
        }
        (true, Holds::Never) | (false, Holds::Always) => Again::Differs(causes),
        (true, Holds::Always) | (false, Holds::Never) => Again::Same,
        (_, Holds::Depends(on)) => Again::Unsure(on),
    }
}

/// That an answer hangs on whether everything that was stated is as it is declared.
fn schema(book: &Book) -> On {
    let text = "the namespace declares what callers state, and the record does not hold all that was stated";
    On { cause: Cause::plain(CauseKind::PolicyError, text), content: book.schema().to_owned() }
}

/// Whether what was asked is approved now for the agent, or for one that acts in its chain.
fn is_lifted(side: &Side<'_>, recorded: &Recorded, now: Timestamp) -> bool {
    let Some(question) = recorded.cell().question() else { return false };
    let ids = std::iter::once(&recorded.agent).chain(&recorded.chain).filter_map(|id| AgentId::parse(id).ok());
    ids.filter_map(|id| side.snapshot.agent(&id))
        .any(|agent| !approval::of(side.snapshot, agent, &question, None, now).is_empty())
}

/// What holds of it on one side; `None`: its agent is not there, or the record is of a form that is not known.
fn look(bench: &Bench, side: &mut Side<'_>, recorded: &Recorded, now: Timestamp) -> Option<Verdict> {
    let id = AgentId::parse(&recorded.agent).ok()?;
    let cell = recorded.cell();
    let question = cell.question()?;
    let Some(agent) = side.snapshot.agent(&id).cloned() else {
        return Some(Verdict::absent("there is no such agent"));
    };
    let mut verdict = side.look(bench, Some(&agent), &cell, now)?;
    if recorded.chain.is_empty() {
        return Some(verdict);
    }
    let actors: Vec<AgentId> = recorded.chain.iter().filter_map(|id| AgentId::parse(id).ok()).collect();
    let subject = Subject::parse(&recorded.subject).ok()?;
    let never = |cause: Cause| Some(Verdict { holds: Holds::Never, causes: vec![cause] });
    let found =
        side.snapshot.delegation(&agent.label.namespace, &subject, &recorded.groups, &actors, &recorded.grants, now);
    let delegation = match found {
        Ok(delegation) => delegation,
        Err(why) => return never(Cause::plain(CauseKind::Grant, behalf::broken(&why).1)),
    };
    // Towards whom it was is not on record.
    if let Err(Answer { causes, .. }) = behalf::through(&delegation, &question, None, now) {
        return Some(Verdict { holds: Holds::Never, causes });
    }
    for hop in &delegation.hops {
        let said = match &hop.delegator {
            Delegator::Agent(one) => side.look(bench, Some(one), &cell, now)?,
            Delegator::Person(one) => {
                let answer = behalf::person(side.snapshot, &hop.grant, one, &question, now);
                let holds = if answer.denied.is_some() { Holds::Never } else { Holds::Always };
                Verdict { holds, causes: answer.causes }
            }
        };
        verdict = both(verdict, said);
    }
    Some(verdict)
}

/// What holds where both have to.
fn both(a: Verdict, b: Verdict) -> Verdict {
    match (a.holds, b.holds) {
        (Holds::Never, _) => Verdict { holds: Holds::Never, causes: a.causes },
        (_, Holds::Never) => Verdict { holds: Holds::Never, causes: b.causes },
        (Holds::Depends(mut on), Holds::Depends(more)) => {
            on.extend(more);
            Verdict { holds: Holds::Depends(on), causes: a.causes }
        }
        (Holds::Depends(on), Holds::Always) | (Holds::Always, Holds::Depends(on)) => {
            Verdict { holds: Holds::Depends(on), causes: a.causes }
        }
        (Holds::Always, Holds::Always) => {
            Verdict { holds: Holds::Always, causes: a.causes.into_iter().chain(b.causes).collect() }
        }
    }
}
