//! One agent before and after a change: what it gains and loses, from when on and until when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use legate_clock::Timestamp;
use legate_view::{Agent, NamespacePolicies, Snapshot};

use super::cells::{Cell, Cut, Given, Named, given};
use super::outlook::{Holds, On, Outlook, Verdict, look};
use super::weaken::Fixed;
use crate::domain::answer::{Cause, CauseKind};
use crate::domain::authority::Bench;
use crate::domain::conform::Kept;
use crate::domain::policies::{Compiled, Unusable};

/// Moments at which windows of time begin or end that are looked at.
const MOMENTS: usize = 16;
/// Ways in which the policies of a namespace are weakened: each takes all of them anew.
const OUTLOOKS: usize = 64;
/// Cedar policies that are weakened in one way; in all ways together, ten times as many.
const RULES: usize = 20_000;
/// Differences of one agent among which repetitions are looked for: each is held against each.
pub(super) const HELD: usize = 1_024;

/// What happens to a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Effect {
    Gains,
    Loses,
    Widens,
    Narrows,
    DependsOtherwise,
}

/// One permission that is another one after the change.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) effect: Effect,
    pub(crate) cell: Cell,
    pub(crate) causes: Vec<Cause>,
    pub(crate) depends: Vec<On>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// Everything that differs for an agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Differences {
    pub(crate) all: Vec<Difference>,
    /// Grants that were below the ceiling, or not there, before.
    pub(crate) cuts: BTreeSet<Cut>,
    /// What was not looked at as finely as it could be.
    pub(crate) coarse: u32,
}

/// The policies of one namespace on one side of a change.
#[derive(Debug)]
pub(crate) struct Book {
    policies: Option<(Arc<NamespacePolicies>, Result<Compiled, Unusable>)>,
    /// What the namespace declares of what callers state.
    schema: Option<Kept>,
    outlooks: HashMap<Fixed, Result<Outlook, Unusable>>,
}

impl Book {
    /// Compiles them; `known` spares parsing again what did not change.
    pub(crate) fn open(snapshot: &Snapshot, namespace: &str, known: Option<&Compiled>) -> Self {
        let policies = snapshot.policies(namespace).map(|all| (Arc::clone(all), Compiled::compile(all, known)));
        let schema = snapshot.policy_schema(namespace).map(Kept::of);
        Self { policies, schema, outlooks: HashMap::new() }
    }

    /// What the namespace declares of what callers state; empty: nothing.
    pub(crate) fn schema(&self) -> &str {
        self.schema.as_ref().map_or("", Kept::text)
    }

    /// What they compile to; `None`: there are none.
    pub(crate) fn compiled(&self) -> Option<&Result<Compiled, Unusable>> {
        self.policies.as_ref().map(|(_, compiled)| compiled)
    }

    /// Whether there is room for what is fixed: each way takes as much as the policies themselves.
    fn has_room(&self, fixed: &Fixed) -> bool {
        let (enforced, _) = self.policies.as_ref().and_then(|(_, all)| all.as_ref().ok()).map_or((0, 0), Compiled::len);
        let held = self.outlooks.len();
        self.outlooks.contains_key(fixed)
            || (held < OUTLOOKS && enforced <= RULES && held.saturating_mul(enforced) < 10 * RULES)
    }

    /// The policies by what is fixed; `None`: there are none.
    pub(crate) fn outlook(&mut self, fixed: &Fixed) -> Option<&Result<Outlook, Unusable>> {
        let (policies, compiled) = self.policies.as_ref()?;
        let outlook = || match compiled {
            Ok(whole) => Outlook::new(policies, whole, fixed),
            Err(e) => Err(e.clone()),
        };
        Some(self.outlooks.entry(fixed.clone()).or_insert_with(outlook))
    }
}

/// A namespace on one side of a change.
#[derive(Debug)]
pub(crate) struct Side<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) book: Book,
}

impl Side<'_> {
    pub(crate) fn look(
        &mut self,
        bench: &Bench,
        agent: Option<&Agent>,
        cell: &Cell,
        now: Timestamp,
    ) -> Option<Verdict> {
        let Some(agent) = agent else { return Some(Verdict::absent("there is no such agent")) };
        let (question, fixed) = (cell.question()?, cell.fixed());
        if !self.book.has_room(&fixed) {
            return None;
        }
        let shut_out =
            self.book.schema.as_ref().and_then(|schema| schema.shuts_out(&question, (fixed.action, fixed.kind)));
        let outlook = self.book.outlook(&fixed);
        let verdict = look(bench, self.snapshot, agent, &question, outlook, now);
        // A denial stays the denial that it was, as in a check.
        match (shut_out, &verdict.holds) {
            (None, _) | (_, Holds::Never) => Some(verdict),
            (Some(why), _) => {
                let causes = vec![Cause::plain(CauseKind::PolicyError, why)];
                Some(Verdict { holds: Holds::Never, causes })
            }
        }
    }
}

/// Compares an agent, which may be missing on one side, until `is_over`. It is about what it may do, not about where it
/// stands in its life.
pub(crate) fn compare(
    bench: &Bench,
    (before, after): (&mut Side<'_>, &mut Side<'_>),
    (old, new): (Option<&Agent>, Option<&Agent>),
    named: &Named,
    now: Timestamp,
    is_over: &dyn Fn() -> bool,
) -> Differences {
    let all = |snapshot: &Snapshot, agent: Option<&Agent>| {
        agent.map(|agent| given(snapshot, agent, named, is_over)).unwrap_or_default()
    };
    let had: Given = all(before.snapshot, old);
    let has: Given = all(after.snapshot, new);
    let (moments, mut coarse) = moments(&[(before.snapshot, old), (after.snapshot, new)], now);
    coarse += had.coarse + has.coarse;
    let mut found: Vec<Difference> = Vec::new();
    for cell in had.cells.union(&has.cells) {
        if is_over() {
            coarse += 1;
            continue;
        }
        let look = |moment| Some((before.look(bench, old, cell, moment)?, after.look(bench, new, cell, moment)?));
        coarse += u32::from(!over_time(cell, &moments, now, look, &mut found));
    }
    let cuts = has.cuts.difference(&had.cuts).cloned().collect();
    let all = if found.len() > HELD { found } else { without_repetition(found) };
    Differences { all, cuts, coarse }
}

/// What becomes of a permission from moment to moment; whether all of them were looked at.
pub(super) fn over_time(
    cell: &Cell,
    moments: &[Timestamp],
    now: Timestamp,
    mut look: impl FnMut(Timestamp) -> Option<(Verdict, Verdict)>,
    found: &mut Vec<Difference>,
) -> bool {
    let mut open: Option<Difference> = None;
    let mut is_whole = true;
    for moment in moments {
        let Some((was, is)) = look(*moment) else {
            is_whole = false;
            break;
        };
        let effect = effect(&was.holds, &is.holds);
        if open.as_ref().map(|d| d.effect) == effect {
            continue;
        }
        if let Some(ended) = open.take() {
            found.push(Difference { until: Some(*moment), ..ended });
        }
        open = effect.map(|effect| Difference {
            effect,
            cell: cell.clone(),
            depends: depends(effect, was.holds, is.holds),
            causes: is.causes,
            from: (*moment != now).then_some(*moment),
            until: None,
        });
    }
    found.extend(open);
    is_whole
}

/// Now, and every later moment at which a binding of the agent begins or ends; and how many of them are not looked at.
pub(crate) fn moments(sides: &[(&Snapshot, Option<&Agent>)], now: Timestamp) -> (Vec<Timestamp>, u32) {
    let mut all = BTreeSet::new();
    for (snapshot, agent) in sides {
        let bindings = agent.iter().flat_map(|agent| snapshot.bindings_of(agent));
        let bounds = bindings.flat_map(|(b, _)| [b.window.not_before(), b.window.not_after()]).flatten();
        all.extend(bounds.map(Timestamp::from_micros).filter(|at| *at > now));
    }
    first_of(all, now)
}

/// Now and the first of these moments; and how many are left out.
pub(super) fn first_of(all: BTreeSet<Timestamp>, now: Timestamp) -> (Vec<Timestamp>, u32) {
    let left_out = u32::try_from(all.len().saturating_sub(MOMENTS)).unwrap_or(u32::MAX);
    (std::iter::once(now).chain(all.into_iter().take(MOMENTS)).collect(), left_out)
}

/// What happens to a permission; `None`: nothing.
pub(crate) fn effect(was: &Holds, is: &Holds) -> Option<Effect> {
    match (was, is) {
        (Holds::Never, Holds::Never) | (Holds::Always, Holds::Always) => None,
        (Holds::Never, _) => Some(Effect::Gains),
        (_, Holds::Never) => Some(Effect::Loses),
        (Holds::Depends(_), Holds::Always) => Some(Effect::Widens),
        (Holds::Always, Holds::Depends(_)) => Some(Effect::Narrows),
        (Holds::Depends(old), Holds::Depends(new)) => {
            let same = |(a, b): (&On, &On)| a.cause.name == b.cause.name && a.content == b.content;
            let is_same = old.len() == new.len() && old.iter().zip(new).all(same);
            (!is_same).then_some(Effect::DependsOtherwise)
        }
    }
}

/// What is told with an effect: on what it depends.
fn depends(effect: Effect, was: Holds, is: Holds) -> Vec<On> {
    let told = if effect == Effect::Loses { was } else { is };
    match told {
        Holds::Depends(on) => on,
        Holds::Never | Holds::Always => Vec::new(),
    }
}

/// Without what a wider permission says already.
pub(super) fn without_repetition(found: Vec<Difference>) -> Vec<Difference> {
    let says = |wide: &Difference, one: &Difference| {
        let names = |d: &Difference| d.depends.iter().map(|on| on.cause.name.clone()).collect::<Vec<_>>();
        wide.cell != one.cell
            && wide.cell.covers(&one.cell)
            && (wide.effect, wide.from, wide.until) == (one.effect, one.from, one.until)
            && names(wide) == names(one)
    };
    let is_said: Vec<bool> = found.iter().map(|one| found.iter().any(|wide| says(wide, one))).collect();
    found.into_iter().zip(is_said).filter(|(_, said)| !said).map(|(one, _)| one).collect()
}
