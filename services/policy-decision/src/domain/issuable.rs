//! What a token may say: the formula with every resource left open, which can say yes to what no resource would fit and never no
//! to what some resource would; each use of the token is decided all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::EntityTypeName;
use legate_authority::{Grant, Permission, TypePattern};
use legate_clock::Timestamp;
use legate_ids::{ActionPattern, Actions};
use legate_view::{Agent, Approval, Delegation, Delegator, Snapshot};

use super::answer::{Cause, CauseKind, Why};
use super::approval::{self, rank, suffices};
use super::authority::Bench;
use super::behalf;
use super::policies::Compiled;
use super::scope::Who;
use super::sweeping::Sweeping;

/// Actions on all resources of a type, or of any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    action: ActionPattern,
    kind: TypePattern,
}

impl Reach {
    fn meet(&self, (action, kind): (&ActionPattern, &TypePattern)) -> Option<Self> {
        Some(Self { action: self.action.meet(action)?.clone(), kind: self.kind.meet(kind)?.clone() })
    }
}

/// What is left of what was asked for; each step can only cut.
#[derive(Clone, Debug)]
struct Reaches(BTreeSet<Reach>);

impl Reaches {
    /// What lies within one of these.
    fn within<'a>(&self, given: impl IntoIterator<Item = (&'a ActionPattern, &'a TypePattern)>) -> Self {
        let given: BTreeSet<_> = given.into_iter().collect();
        Self(self.0.iter().flat_map(|reach| given.iter().filter_map(move |one| reach.meet(*one))).collect())
    }

    fn within_permissions(&self, permissions: &[Permission]) -> Self {
        self.within(permissions.iter().map(|p| (p.action(), p.resource().resource_type())))
    }

    /// What lies within grants whose window holds, each with its narrowing.
    fn within_grants<'a, S>(&self, grants: impl IntoIterator<Item = Grant<'a, S>>, now: Timestamp) -> Self {
        let in_force = grants.into_iter().filter(|grant| grant.window.holds_at(now.micros()));
        let given = in_force.flat_map(|grant| {
            grant.permissions.iter().flat_map(move |permission| {
                let kind = permission.resource().resource_type();
                let narrowed = grant.narrowing.map(|all| all.iter().filter_map(|one| kind.meet(one.resource_type())));
                let kinds: Vec<&TypePattern> = narrowed.map_or_else(|| vec![kind], Iterator::collect);
                kinds.into_iter().map(move |kind| (permission.action(), kind))
            })
        });
        self.within(given)
    }

    fn actions(&self) -> Actions {
        self.0.iter().map(|reach| reach.action.clone()).collect()
    }
}

/// What a token is asked to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) agent: &'a Arc<Agent>,
    /// For whom it acts; `None`: for itself.
    pub(crate) delegation: Option<&'a Delegation>,
    pub(crate) audience: &'a str,
    /// Whether that is an enforcement point's; else it is an agent's, which exchanges the token for whatever it is let.
    pub(crate) is_at_point: bool,
    /// None: everything that may be said.
    pub(crate) actions: &'a Actions,
}

/// What a token may say, and what that rests on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Issuable {
    /// In the order in which it was asked for.
    pub(crate) actions: Actions,
    /// The approvals among it.
    pub(crate) by: Vec<Cause>,
    /// When the first of these ends.
    pub(crate) until: Option<Timestamp>,
}

/// An agent that policies are asked about, and whoever is above it, as scopes of policies see them.
struct Spoken<'a> {
    agent: &'a Arc<Agent>,
    lineage: Vec<Who>,
    /// Whether those above have to be permitted it too.
    inherits: bool,
}

impl Bench {
    /// What of it a token may say now; never nothing. `policies` are those of the agent's namespace; `None`: it has none.
    ///
    /// # Errors
    /// When that is nothing: the last step that left nothing, and what it was.
    pub(crate) fn issuable(
        &self,
        snapshot: &Snapshot,
        wanted: Wanted<'_>,
        policies: Option<&Compiled>,
        now: Timestamp,
    ) -> Result<Issuable, (Why, Cause)> {
        let kinds = kinds(snapshot, wanted);
        let all = Actions::all();
        let asked = if wanted.actions.is_empty() { &all } else { wanted.actions };
        let of_kinds = |action: &ActionPattern| {
            let of = |kind: &TypePattern| Reach { action: action.clone(), kind: kind.clone() };
            kinds.iter().map(of).collect::<Vec<_>>()
        };
        let reaches = given(snapshot, wanted, Reaches(asked.iter().flat_map(of_kinds).collect()), now);
        if reaches.0.is_empty() {
            let text = "the agent may do nothing of what is asked for to anything that is decided about there";
            return Err((Why::NotPermitted, Cause::of_agent(CauseKind::AgentState, wanted.agent, text)));
        }
        let Some(policies) = policies else {
            return Err((Why::NoPolicyPermits, Cause::plain(CauseKind::Permit, "the namespace has no policies")));
        };
        let delegators = wanted.delegation.into_iter().flat_map(|chain| chain.delegators());
        let spoken = std::iter::once(wanted.agent).chain(delegators).map(|agent| {
            let lineage = std::iter::once(agent).chain(snapshot.ancestors_of(agent).flatten());
            let lineage =
                lineage.map(|one| self.who(snapshot, one, &policies.groups().of_agents, now)).collect::<Result<_, _>>();
            // What cannot be said of it could be what a policy speaks of.
            let lineage = lineage.map_err(|why| (Why::PolicyError, Cause::plain(CauseKind::PolicyError, why)))?;
            Ok::<_, (Why, Cause)>(Spoken { agent, lineage, inherits: snapshot.inherits(agent) })
        });
        let spoken = spoken.collect::<Result<Vec<_>, _>>()?;
        let words = self.kinds(reaches.0.iter().map(|reach| &reach.kind));
        let words = words.map_err(|why| (Why::PolicyError, Cause::plain(CauseKind::PolicyError, why)))?;
        let reaches = permitted(reaches, &spoken, policies, &words);
        if reaches.0.is_empty() {
            let text = "no policy permits anything of what the agent was given";
            return Err((Why::NoPolicyPermits, Cause::plain(CauseKind::Permit, text)));
        }
        let reaches = not_forbidden(reaches, &spoken, policies, &words)?;
        let (reaches, by, until) = released(snapshot, wanted.audience, reaches, &spoken, policies, &words, now)?;
        Ok(Issuable { actions: asked.meet(&reaches.actions()), by, until })
    }
}

/// The types of resources that are decided about where the token goes.
fn kinds(snapshot: &Snapshot, wanted: Wanted<'_>) -> Vec<TypePattern> {
    if !wanted.is_at_point {
        return vec![TypePattern::Any];
    }
    let kinds = snapshot.kinds_at(&wanted.agent.label.namespace, wanted.audience);
    kinds.into_iter().cloned().map(TypePattern::Exactly).collect()
}

/// What class, bindings and ceilings give the agent, and each link of the chain lets through.
fn given(snapshot: &Snapshot, wanted: Wanted<'_>, asked: Reaches, now: Timestamp) -> Reaches {
    let mut left = of_agent(snapshot, wanted.agent, &asked, now);
    for hop in wanted.delegation.into_iter().flat_map(|chain| &chain.hops) {
        left = left.within_permissions(&hop.grant.permissions);
        left = match &hop.delegator {
            Delegator::Agent(agent) => of_agent(snapshot, agent, &left, now),
            Delegator::Person(_) if behalf::is_bounded_by(snapshot, &hop.grant) => left,
            Delegator::Person(person) => {
                left.within_grants(snapshot.grants_of_person(hop.grant.label.namespace.as_str(), person), now)
            }
        };
    }
    left
}

/// What the agent's own class and bindings give it, below every ceiling.
fn of_agent(snapshot: &Snapshot, agent: &Agent, asked: &Reaches, now: Timestamp) -> Reaches {
    let Some(ceilings) = snapshot.ceilings_of(agent) else { return Reaches(BTreeSet::new()) };
    let own = asked.within_grants(snapshot.grants_of(agent), now);
    ceilings.iter().fold(own, |left, (_, ceiling)| left.within_permissions(ceiling.entries()))
}

/// The types of resources in question, as policies name them.
pub(crate) type Kinds = BTreeMap<TypePattern, Option<EntityTypeName>>;

/// What a permit speaks of, for each agent of whom one has to speak.
fn permitted(reaches: Reaches, spoken: &[Spoken<'_>], policies: &Compiled, kinds: &Kinds) -> Reaches {
    let whose = spoken.iter().flat_map(|one| {
        let counts = if one.inherits { one.lineage.len() } else { 1 };
        one.lineage.iter().take(counts)
    });
    whose.fold(reaches, |left, who| {
        let permits: Vec<(ActionPattern, &TypePattern)> = kinds
            .iter()
            .flat_map(|(kind, word)| policies.permitting(who, word.as_ref()).into_iter().map(move |one| (one, kind)))
            .collect();
        left.within(permits.iter().map(|(action, kind)| (action, *kind)))
    })
}

/// Whether a rule speaks of all that a reach stands for.
fn is_of(policies: &Compiled, kinds: &Kinds, rule: &Sweeping, reach: &Reach) -> bool {
    rule.is_of(&policies.groups().of_actions, &reach.action, kinds.get(&reach.kind).and_then(Option::as_ref))
}

/// What no policy forbids whatever it is done to.
fn not_forbidden(
    mut reaches: Reaches,
    spoken: &[Spoken<'_>],
    policies: &Compiled,
    kinds: &Kinds,
) -> Result<Reaches, (Why, Cause)> {
    let mut by = None;
    for who in spoken.iter().flat_map(|one| &one.lineage) {
        for (policy, rule) in policies.forbidding_all(who) {
            let before = reaches.0.len();
            reaches.0.retain(|reach| !is_of(policies, kinds, rule, reach));
            if reaches.0.len() < before {
                by.get_or_insert(policy);
            }
        }
    }
    match by {
        Some(policy) if reaches.0.is_empty() => {
            let text = "forbids all of it, whatever it is done to";
            Err((Why::ForbiddenByPolicy, Cause::of(CauseKind::Forbid, &policy.label, text)))
        }
        _ => Ok(reaches),
    }
}

/// What is left, the approvals that it rests on, and when the first of these ends.
type Released = (Reaches, Vec<Cause>, Option<Timestamp>);

/// Leaves out what policies hold back until it is approved whatever it is done to, where no approval towards that audience lets some
/// of it through. What they hold back of some resources is seen when that is asked.
fn released(
    snapshot: &Snapshot,
    audience: &str,
    reaches: Reaches,
    spoken: &[Spoken<'_>],
    policies: &Compiled,
    kinds: &Kinds,
    now: Timestamp,
) -> Result<Released, (Why, Cause)> {
    let (mut left, mut lifted, mut held) = (reaches.0, Vec::<Arc<Approval>>::new(), None);
    for one in spoken {
        let approvals = snapshot.approvals_of(one.agent, now).filter(|all| all.is_towards(Some(&[audience])));
        let approvals: Vec<&Arc<Approval>> = approvals.collect();
        for (policy, rule) in one.lineage.iter().flat_map(|who| policies.holding_all(who)) {
            let fits = |by: &&Arc<Approval>| by.is_of(&policy.label) && suffices(rule.rule(), by);
            let by: Vec<&Arc<Approval>> = approvals.iter().copied().filter(fits).collect();
            let mut kept = BTreeSet::new();
            for reach in std::mem::take(&mut left) {
                if !is_of(policies, kinds, rule, &reach) {
                    kept.insert(reach);
                    continue;
                }
                // Of each part that is let through, by the approval that is best for it.
                let mut parts: BTreeMap<Reach, &Arc<Approval>> = BTreeMap::new();
                for approval in by.iter().copied() {
                    for permission in &approval.permissions {
                        let met = reach.meet((permission.action(), permission.resource().resource_type()));
                        let Some(met) = met else { continue };
                        let best = parts.entry(met).or_insert(approval);
                        if rank(approval) > rank(best) {
                            *best = approval;
                        }
                    }
                }
                if parts.is_empty() {
                    let text = format!("holds {} back until it is approved; ask for an approval of it", reach.action);
                    held.get_or_insert_with(|| Cause::of(CauseKind::Holding, &policy.label, text));
                }
                for (part, approval) in parts {
                    if !lifted.iter().any(|known| Arc::ptr_eq(known, approval)) {
                        lifted.push(Arc::clone(approval));
                    }
                    kept.insert(part);
                }
            }
            left = kept;
        }
    }
    match held {
        Some(held) if left.is_empty() => Err((Why::ApprovalRequired, held)),
        _ => {
            let ends = lifted.iter().filter_map(|one| one.window.not_after()).map(Timestamp::from_micros).min();
            Ok((Reaches(left), lifted.iter().map(|one| approval::cause(one)).collect(), ends))
        }
    }
}
