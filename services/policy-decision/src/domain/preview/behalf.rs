//! One grant of delegation before and after a change: what its agent gains and loses for whom it is from.
//!
//! What counts is what the agent itself may, what every grant of the chain lets through, and what everybody who delegates may:
//! so a person's bindings move it as much as the grant does.

use std::collections::BTreeSet;

use legate_clock::Timestamp;
use legate_view::{Agent, Broken, Delegation, Delegator, Person, Snapshot};

use super::cells::{Cell, LEFT, Named, given};
use super::compare::{Difference, HELD, Side, first_of, over_time, without_repetition};
use super::outlook::{Holds, Verdict};
use crate::domain::answer::{Cause, CauseKind};
use crate::domain::authority::Bench;
use crate::domain::behalf::{broken, grants, is_bounded_by, person, through};

/// What differs for the agent that a grant lets act.
#[derive(Debug, Default)]
pub(crate) struct OnBehalf {
    /// For whom, as the grant at the beginning of its chain names it.
    pub(crate) subject: String,
    /// Who acts, by name.
    pub(crate) agent: String,
    pub(crate) all: Vec<Difference>,
    /// What was not looked at as finely as it could be.
    pub(crate) coarse: u32,
}

/// The chain for which the grant of that name stands; `None`: there is none of the name.
fn chain(snapshot: &Snapshot, namespace: &str, grant: &str, now: Timestamp) -> Option<Result<Delegation, Broken>> {
    snapshot.delegation_grant_named(namespace, grant).map(|grant| snapshot.delegation_by_any(grant, now))
}

/// The moments at which the grant, those before it, and what binds the person at their beginning, begin or end.
fn bounds(snapshot: &Snapshot, namespace: &str, grant: &str, into: &mut BTreeSet<Timestamp>) {
    let mut next = snapshot.delegation_grant_named(namespace, grant);
    for _ in 0..legate_authority::MAX_DEPTH {
        let Some(grant) = next else { return };
        let person = Person { name: grant.delegator.clone(), groups: Vec::new(), through: None };
        let of_person = snapshot.grants_of_person(namespace, &person).map(|given| given.window);
        let windows = of_person.chain([grant.window]);
        let bounds = windows.flat_map(|window| [window.not_before(), window.not_after()]).flatten();
        into.extend(bounds.map(Timestamp::from_micros));
        next = grant.parent.as_ref().and_then(|name| snapshot.delegation_grant_named(namespace, name.as_str()));
    }
}

/// What could be let through on one side: what the agent has, cut by every grant and by what everybody who delegates has.
fn cells(
    snapshot: &Snapshot,
    chain: &Delegation,
    named: &Named,
    is_over: &dyn Fn() -> bool,
    coarse: &mut u32,
) -> BTreeSet<Cell> {
    let mut unseen = 0;
    let mut of_agent = |agent: &Agent| {
        let given = given(snapshot, agent, named, is_over);
        unseen += given.coarse;
        given.cells
    };
    let Some(first) = chain.hops.first() else { return BTreeSet::new() };
    let mut left = of_agent(&first.delegate);
    let mut limits: Vec<BTreeSet<Cell>> = Vec::new();
    for hop in &chain.hops {
        limits.push(hop.grant.permissions.iter().map(Cell::of).collect());
        match &hop.delegator {
            Delegator::Agent(agent) => limits.push(of_agent(agent)),
            Delegator::Person(_) if is_bounded_by(snapshot, &hop.grant) => {}
            Delegator::Person(person) => {
                let mut has = BTreeSet::new();
                for given in snapshot.grants_of_person(hop.grant.label.namespace.as_str(), person) {
                    for cell in given.permissions.iter().map(Cell::of) {
                        match given.narrowing {
                            None => drop(has.insert(cell)),
                            Some(narrowing) => has.extend(narrowing.iter().filter_map(|one| cell.meet(one))),
                        }
                    }
                }
                limits.push(has);
            }
        }
    }
    *coarse += unseen;
    for limit in limits {
        let mut within = BTreeSet::new();
        for cell in left.iter().flat_map(|one| limit.iter().filter_map(|other| one.both(other))) {
            if within.len() >= LEFT || is_over() {
                *coarse += 1;
                break;
            }
            within.insert(cell);
        }
        left = within;
    }
    left
}

fn never(text: impl Into<String>) -> Verdict {
    Verdict { holds: Holds::Never, causes: vec![Cause::plain(CauseKind::Grant, text)] }
}

/// What holds of a permission for whoever the grant lets act; `None`: there is no room to look.
fn look(
    bench: &Bench,
    side: &mut Side<'_>,
    (namespace, grant): (&str, &str),
    cell: &Cell,
    now: Timestamp,
) -> Option<Verdict> {
    let chain = match chain(side.snapshot, namespace, grant, now) {
        None => return Some(never("there is no such delegation grant")),
        Some(Err(why)) => return Some(never(broken(&why).1)),
        Some(Ok(chain)) => chain,
    };
    let question = cell.question()?;
    if let Err(denied) = through(&chain, &question, None, now) {
        return Some(Verdict { holds: Holds::Never, causes: denied.causes });
    }
    let (mut on, mut causes) = (Vec::new(), grants(&chain).collect::<Vec<_>>());
    let first = chain.hops.first().map(|hop| hop.delegate.clone());
    for agent in first.into_iter().chain(chain.delegators().cloned()) {
        let verdict = side.look(bench, Some(&agent), cell, now)?;
        match verdict.holds {
            Holds::Never => return Some(verdict),
            Holds::Depends(more) => on.extend(more),
            Holds::Always => {}
        }
        causes.extend(verdict.causes);
    }
    for hop in &chain.hops {
        if let Delegator::Person(one) = &hop.delegator {
            let said = person(side.snapshot, &hop.grant, one, &question, now);
            if said.denied.is_some() {
                return Some(Verdict { holds: Holds::Never, causes: said.causes });
            }
            causes.extend(said.causes);
        }
    }
    on.sort_by(|a, b| a.cause.name.cmp(&b.cause.name));
    on.dedup_by(|a, b| (a.cause.kind, &a.cause.name) == (b.cause.kind, &b.cause.name));
    let holds = if on.is_empty() { Holds::Always } else { Holds::Depends(on) };
    Some(Verdict { holds, causes })
}

/// Compares what a grant lets its agent do for whom it is from, until `is_over`.
pub(crate) fn compare(
    bench: &Bench,
    (before, after): (&mut Side<'_>, &mut Side<'_>),
    (namespace, grant): (&str, &str),
    named: &Named,
    now: Timestamp,
    is_over: &dyn Fn() -> bool,
) -> OnBehalf {
    let mut of_both = BTreeSet::new();
    for snapshot in [before.snapshot, after.snapshot] {
        bounds(snapshot, namespace, grant, &mut of_both);
    }
    of_both.retain(|at| *at > now);
    let (moments, mut coarse) = first_of(of_both, now);
    let mut all = BTreeSet::new();
    let (mut subject, mut agent) = (String::new(), String::new());
    // What is there on neither side now may be later.
    for moment in &moments {
        for snapshot in [before.snapshot, after.snapshot] {
            let Some(Ok(chain)) = chain(snapshot, namespace, grant, *moment) else { continue };
            subject = chain.subject().map(Delegator::as_text).unwrap_or_default();
            agent = chain.hops.first().map(|hop| hop.delegate.label.name.to_string()).unwrap_or_default();
            all.extend(cells(snapshot, &chain, named, is_over, &mut coarse));
        }
    }
    let mut found = Vec::new();
    for cell in &all {
        if is_over() {
            coarse += 1;
            continue;
        }
        let place = (namespace, grant);
        let look_at = |at| Some((look(bench, before, place, cell, at)?, look(bench, after, place, cell, at)?));
        coarse += u32::from(!over_time(cell, &moments, now, look_at, &mut found));
    }
    let all = if found.len() > HELD { found } else { without_repetition(found) };
    OnBehalf { subject, agent, all, coarse }
}
