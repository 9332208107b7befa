//! The formula for an agent that acts for itself: (class ∪ bindings) below the ceiling and within every boundary, and
//! Cedar permits and nothing forbids.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::Authorizer;
use legate_authority::{Answer as Granted, Denial, TypePattern, decide};
use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_view::{Agent, Approval, CeilingOf, Snapshot, Source};

use super::answer::{Answer, Cause, CauseKind, Why};
use super::approval;
use super::boundary;
use super::conform::Kept;
use super::entities::{self, Asked, Principal, Unsayable, Words};
use super::issuable::Kinds;
use super::memory::Memory;
use super::policies::{Compiled, Groups, PolicyAnswer, PolicyOutcome};
use super::question::Question;
use super::scope::Who;
use super::shadow;
use super::standing;

/// Agents that are kept in Cedar's words.
const KEPT: usize = 16_384;

/// Schemas of namespaces that are kept.
const SCHEMAS: usize = 1_024;

/// What does not change from question to question.
#[derive(Debug)]
pub(crate) struct Bench {
    words: Words,
    authorizer: Authorizer,
    /// Agents in Cedar's words; each is compared with what is known of the agent now before it serves again.
    principals: Memory<AgentId, Principal>,
    /// What namespaces declare of what callers state, read once.
    schemas: Memory<Name, Kept>,
    way: Way,
}

/// How policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Those whose scope fits, and of agents that are kept.
    Indexed,
    /// All of them by Cedar's own authorizer, of agents made anew; to be compared with.
    Plain,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::going(Way::Indexed)
    }

    /// One that asks policies this way.
    pub(crate) fn going(way: Way) -> Self {
        Self {
            words: Words::new(),
            authorizer: Authorizer::new(),
            principals: Memory::new(KEPT),
            schemas: Memory::new(SCHEMAS),
            way,
        }
    }

    /// The agent in Cedar's words; `groups` are those that policies name.
    fn principal(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        groups: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<Arc<Principal>, Unsayable> {
        let roles: Vec<&Name> = entities::roles_at(snapshot, agent, now).collect();
        let groups: Vec<&Name> = entities::groups_among(snapshot, agent, groups).collect();
        if self.way == Way::Plain {
            return entities::principal(&self.words, agent, &roles, &groups).map(Arc::new);
        }
        if let Some(kept) = self.principals.get(&agent.id)
            && kept.is_of(agent, &roles, &groups)
        {
            return Ok(kept);
        }
        let made = Arc::new(entities::principal(&self.words, agent, &roles, &groups)?);
        self.principals.insert(agent.id.clone(), Arc::clone(&made));
        Ok(made)
    }

    /// What holds before any policy is asked: the agent's state, its grants, the ceiling, the boundaries. Allowed means: so far.
    pub(crate) fn before_policies(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        question: &Question,
        now: Timestamp,
    ) -> Answer {
        if let Some(denied) = standing::judge(snapshot, agent, now) {
            return denied;
        }
        self.when_active(snapshot, agent, question, now)
    }

    /// The same for an agent that is taken for ACTIVE, with nothing above it suspended: for previews.
    pub(crate) fn when_active(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        question: &Question,
        now: Timestamp,
    ) -> Answer {
        let mut answer = self.granted(snapshot, agent, question, now);
        if answer.denied.is_none() {
            within_boundaries(snapshot, agent, question, now, &mut answer);
        }
        answer
    }

    /// What the agent's grants and the ceiling make of it; boundaries come behind it.
    pub(crate) fn granted(&self, snapshot: &Snapshot, agent: &Agent, question: &Question, now: Timestamp) -> Answer {
        let mut answer = grants(snapshot, agent, question, now);
        // Roles and their windows may move between now and the next change of any binding of the agent.
        let changes = snapshot.bindings_of(agent).filter_map(|(b, _)| b.window.next_change(now.micros()));
        let changes = changes.map(Timestamp::from_micros).chain(snapshot.life_of(agent, now).ends);
        answer.until = changes.min();
        answer
    }

    /// The question in Cedar's words; `groups` are those that policies name, and those that actions are in.
    pub(crate) fn asked(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        question: &Question,
        groups: &Groups,
        now: Timestamp,
    ) -> Result<Asked, Unsayable> {
        let principal = self.principal(snapshot, agent, &groups.of_agents, now)?;
        entities::asked(&self.words, principal, question, groups.of_actions.above(question.action.as_str()))
    }

    /// Types of resources as policies name them; `None`: any type.
    pub(crate) fn kinds<'a>(&self, kinds: impl Iterator<Item = &'a TypePattern>) -> Result<Kinds, Unsayable> {
        let named = |kind: &TypePattern| match kind {
            TypePattern::Any => Ok((kind.clone(), None)),
            TypePattern::Exactly(own) => Ok((kind.clone(), Some(self.words.resource(own)?))),
        };
        kinds.map(named).collect()
    }

    /// The agent as scopes of policies see it.
    pub(crate) fn who(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        groups: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<Who, Unsayable> {
        self.principal(snapshot, agent, groups, now).map(|principal| principal.who.clone())
    }

    /// What the policies say of the agent, and of whoever is above it: nobody may what his maker may not, whatever name or
    /// id a policy goes by.
    fn said(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        question: &Question,
        policies: &Compiled,
        approvals: &[Arc<Approval>],
        now: Timestamp,
    ) -> Result<PolicyAnswer, Unsayable> {
        let of = |one: &Agent| -> Result<PolicyAnswer, Unsayable> {
            let asked = self.asked(snapshot, one, question, policies.groups(), now)?;
            Ok(policies.ask(&self.authorizer, self.way, &asked, approvals))
        };
        let inherits = snapshot.inherits(agent);
        snapshot
            .ancestors_of(agent)
            .flatten()
            .try_fold(of(agent)?, |said, above| Ok(said.below(of(above)?, &above.label, inherits)))
    }

    /// Why `question` is not one that the namespace declares, where it declares any.
    pub(crate) fn misfit(&self, snapshot: &Snapshot, namespace: &Name, question: &Question) -> Option<Cause> {
        let text = snapshot.policy_schema(namespace.as_str())?;
        let kept = match self.schemas.get(namespace).filter(|kept| kept.is_of(text)) {
            Some(kept) => kept,
            None => {
                let kept = Arc::new(Kept::of(text));
                self.schemas.insert(namespace.clone(), Arc::clone(&kept));
                kept
            }
        };
        kept.misfit(question).map(|why| Cause::plain(CauseKind::PolicyError, why))
    }

    /// How policies are asked.
    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// What asks Cedar.
    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// What comes of `answer`, allowed so far, when the policies of the agent's namespace are asked; `None`: it has none.
    /// `approvals` are the agent's, of this very question; see `approval::of`.
    #[allow(clippy::too_many_arguments, reason = "what a decision rests on, in one place")]
    pub(crate) fn with_policies(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        question: &Question,
        policies: Option<&Compiled>,
        approvals: &[Arc<Approval>],
        now: Timestamp,
        mut answer: Answer,
    ) -> Answer {
        let Some(policies) = policies else {
            let cause = Cause::plain(CauseKind::Permit, "the namespace has no policies");
            answer.denied = Some(Why::NoPolicyPermits);
            answer.causes.push(cause);
            return answer;
        };
        let said = match self.said(snapshot, agent, question, policies, approvals, now) {
            Ok(said) => said,
            Err(why) => {
                return Answer::deny(Why::PolicyError, Cause::plain(CauseKind::PolicyError, why));
            }
        };
        answer.log_only = said.log_only;
        answer.shadow = shadow::flips(said.outcome, !said.held.is_empty(), said.instead);
        match said.outcome {
            PolicyOutcome::Permitted if !said.held.is_empty() => {
                answer.denied = Some(Why::ApprovalRequired);
                answer.causes = said.held;
                if let Some(last) = answer.causes.last_mut() {
                    last.text += &approval::cure(question);
                }
            }
            PolicyOutcome::Permitted => {
                answer.causes.extend(said.causes);
                answer.causes.extend(said.lifted.iter().map(|one| approval::cause(one)));
                let once = said.lifted.iter().filter(|one| one.single_use);
                answer.uses.extend(once.map(|one| one.label.id.to_string()));
                let ends = said.lifted.iter().filter_map(|one| one.window.not_after()).map(Timestamp::from_micros);
                answer.until = answer.until.into_iter().chain(ends).min();
            }
            // What was granted does not matter where something forbids: the forbid alone made the answer.
            PolicyOutcome::Forbidden => {
                answer.denied = Some(Why::ForbiddenByPolicy);
                answer.causes = said.causes;
            }
            PolicyOutcome::Failed => {
                answer.denied = Some(Why::PolicyError);
                answer.causes = said.causes;
            }
            PolicyOutcome::NothingPermits => {
                answer.denied = Some(Why::NoPolicyPermits);
                answer.causes.extend(said.causes);
            }
        }
        answer
    }
}

fn cause(source: &Source, text: &str) -> Cause {
    match source {
        Source::Class(class) => Cause::of(CauseKind::Class, &class.label, text),
        Source::Binding(binding, role, group) => {
            let role = &role.label;
            let text = match group {
                None => format!("{text} (role {role})"),
                Some(group) => format!("{text} (role {role}, through group {})", group.label),
            };
            Cause::of(CauseKind::Binding, &binding.label, text)
        }
    }
}

/// What class and bindings grant, below the ceiling.
fn grants(snapshot: &Snapshot, agent: &Agent, question: &Question, now: Timestamp) -> Answer {
    let Some(ceilings) = snapshot.ceilings_of(agent) else {
        let text = "the agent's class, or that of an agent above it, is not declared or cannot be read";
        return Answer::deny(Why::NotPermitted, Cause::of_agent(CauseKind::AgentState, agent, text));
    };
    let answer = decide(&question.request(), now.micros(), snapshot.grants_of(agent), ceilings);
    let lines = |sources: &[Source], text: &str| sources.iter().map(|s| cause(s, text)).collect();
    let (denied, causes) = match answer {
        Granted::Granted { by } => (None, lines(&by, "gives it")),
        Granted::Denied(Denial::NothingGrants) => {
            let text = "neither the agent's class nor a role binding gives it";
            let class = snapshot.class(agent.label.namespace.as_str(), agent.class.as_str());
            (Some(Why::NotPermitted), class.map(|c| Cause::of(CauseKind::Class, &c.label, text)).into_iter().collect())
        }
        Granted::Denied(Denial::Narrowed { grants }) => {
            (Some(Why::BindingNarrowed), lines(&grants, "gives it for other resources only"))
        }
        Granted::Denied(Denial::OutsideWindow { grants }) => {
            (Some(Why::BindingOutsideWindow), lines(&grants, "gives it, but not now"))
        }
        Granted::Denied(Denial::AboveCeiling { grants, ceilings }) => {
            let mut causes: Vec<Cause> = lines(&grants, "gives it");
            causes.extend(ceilings.iter().map(|of| match of {
                CeilingOf::Class(label) => {
                    Cause::of(CauseKind::Ceiling, label, "cuts it: it is above the ceiling of the class")
                }
                CeilingOf::Agent(agent) => {
                    Cause::of_agent(CauseKind::Ceiling, agent, "cuts it: it is above the ceiling of the agent")
                }
            }));
            (Some(Why::AboveCeiling), causes)
        }
    };
    Answer { denied, ..Answer::allow(causes) }
}

/// Cuts an answer, allowed so far, by every boundary that applies. All that cut are named; the first is its word.
fn within_boundaries(snapshot: &Snapshot, agent: &Agent, question: &Question, now: Timestamp, answer: &mut Answer) {
    for boundary in snapshot.boundaries_of(agent) {
        let boundary = match boundary {
            Ok(boundary) => boundary,
            Err(name) => {
                answer.denied.get_or_insert(Why::BoundaryUnknown);
                answer.causes.push(unknown(name));
                continue;
            }
        };
        for part in boundary::cuts(boundary, agent.nature.environment, question, now) {
            answer.denied.get_or_insert(part.why());
            answer.causes.push(Cause::of(CauseKind::Boundary, &boundary.label, part.text()));
        }
        answer.until = answer.until.into_iter().chain(boundary::next_change(boundary, now)).min();
    }
}

/// Nobody can say what a boundary cuts that is not here.
fn unknown(name: &Name) -> Cause {
    Cause::plain(CauseKind::Boundary, format!("the agent's class names the boundary {name}, which is not known here"))
}

/// What the boundaries cut whatever the agent asks now, where they do.
pub(crate) fn cut_everywhere(snapshot: &Snapshot, agent: &Agent, now: Timestamp) -> Option<(Why, Cause)> {
    snapshot.boundaries_of(agent).find_map(|boundary| match boundary {
        Ok(boundary) => boundary::cuts_agent(boundary, agent.nature.environment, now)
            .next()
            .map(|part| (part.why(), Cause::of(CauseKind::Boundary, &boundary.label, part.text()))),
        Err(name) => Some((Why::BoundaryUnknown, unknown(name))),
    })
}
