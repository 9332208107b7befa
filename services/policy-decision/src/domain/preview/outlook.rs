//! What the policies of a namespace say of a permission: yes, no, or that it depends, and on which of them.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::PolicyId;
use legate_clock::Timestamp;
use legate_view::{Agent, NamespacePolicies, Policy, PolicyMode, Snapshot};

use super::limits::{Limits, limits};
use super::weaken::{Fixed, Weakened, weaken};
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::domain::authority::Bench;
use crate::domain::entities::Asked;
use crate::domain::policies::{Compiled, Groups, PolicyOutcome, Unusable};
use crate::domain::question::Question;
use crate::domain::scope::{ScopeIndex, forbids};

/// The policies of a namespace, by what a permission fixes: those that it decides, and those that it does not.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// Those that look at nothing else; they are asked as a check asks them.
    exact: Compiled,
    /// Those that may permit and may forbid, weakened to what is fixed.
    permits: ScopeIndex,
    forbids: ScopeIndex,
    origin: HashMap<PolicyId, Arc<Policy>>,
    groups: Groups,
}

/// Something on which an answer hangs: a policy or a boundary, and what tells its versions apart.
#[derive(Clone, Debug)]
pub(crate) struct On {
    pub(crate) cause: Cause,
    pub(crate) content: String,
}

/// What holds of a permission.
#[derive(Clone, Debug)]
pub(crate) enum Holds {
    /// It is denied, whatever the arguments.
    Never,
    /// It hangs on these.
    Depends(Vec<On>),
    /// It is allowed, whatever the arguments.
    Always,
}

/// What holds, and what made or cut it.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) holds: Holds,
    pub(crate) causes: Vec<Cause>,
}

impl Verdict {
    /// Denied since the agent is not there.
    pub(crate) fn absent(text: &str) -> Self {
        Self { holds: Holds::Never, causes: vec![Cause::plain(CauseKind::AgentState, text)] }
    }
}

impl Outlook {
    /// Sorts the policies of a namespace; `whole` is what they compile to.
    pub(crate) fn new(policies: &NamespacePolicies, whole: &Compiled, fixed: &Fixed) -> Result<Self, Unusable> {
        let (mut permits, mut forbid, mut origin) = (ScopeIndex::default(), ScopeIndex::default(), HashMap::new());
        for (declared, rule) in whole.written().filter(|(declared, _)| declared.mode == PolicyMode::Enforce) {
            let unusable = |why: String| Unusable { policy: declared.label.to_string(), why };
            if let Weakened::Part(part) = weaken(rule, fixed).map_err(unusable)? {
                let index = if forbids(&part) { &mut forbid } else { &mut permits };
                index.add(&part).map_err(|e| unusable(e.to_string()))?;
                origin.insert(part.id().clone(), Arc::clone(declared));
            }
        }
        let exact = Compiled::compile_where(policies, Some(whole), |rule| !origin.contains_key(rule.id()))?;
        Ok(Self { exact, permits, forbids: forbid, origin, groups: whole.groups().clone() })
    }

    fn among(&self, kind: CauseKind, bench: &Bench, asked: &Asked) -> Vec<On> {
        let index = if kind == CauseKind::Forbid { &self.forbids } else { &self.permits };
        let who = (&asked.principal.who, &asked.resource);
        let said = index.evaluate(bench.authorizer(), &asked.request, &asked.actions, who, &asked.entities);
        // One that fails as far as it is fixed would fail, or not be reached, with the arguments.
        let failed = said.failures.iter().map(|failure| &failure.policy);
        let ids = said.permits.iter().chain(&said.forbids).chain(failed);
        let mut found: Vec<&Arc<Policy>> = ids.filter_map(|id| self.origin.get(id)).collect();
        found.sort_by(|a, b| a.label.name.cmp(&b.label.name));
        found.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let on = |policy: &Arc<Policy>| On {
            cause: Cause::of(kind, &policy.label, "looks at arguments of the call"),
            content: policy.cedar.clone(),
        };
        found.into_iter().map(on).collect()
    }
}

/// What holds of `question` for `agent`, which is taken for ACTIVE; `outlook` is `None` where the namespace has no policies.
pub(crate) fn look(
    bench: &Bench,
    snapshot: &Snapshot,
    agent: &Agent,
    question: &Question,
    outlook: Option<&Result<Outlook, Unusable>>,
    now: Timestamp,
) -> Verdict {
    let never = |answer: Answer| Verdict { holds: Holds::Never, causes: answer.causes };
    let so_far = bench.granted(snapshot, agent, question, now);
    if so_far.denied.is_some() {
        return never(so_far);
    }
    let mut on = match limits(snapshot, agent, question, now) {
        Limits::Cut(causes) => return Verdict { holds: Holds::Never, causes },
        Limits::Within(on) => on,
    };
    let outlook = match outlook {
        None => return never(bench.with_policies(snapshot, agent, question, None, &[], now, so_far)),
        Some(Err(e)) => {
            return never(Answer::deny(Why::PolicyError, Cause::plain(CauseKind::PolicyError, e.to_string())));
        }
        Some(Ok(outlook)) => outlook,
    };
    let answer = bench.with_policies(snapshot, agent, question, Some(&outlook.exact), &[], now, so_far);
    if !matches!(answer.denied, None | Some(Why::NoPolicyPermits)) {
        return never(answer);
    }
    // Whatever is above the agent has to be let pass as well.
    let above = snapshot.ancestors_of(agent).flatten().map(|one| (&**one, snapshot.inherits(agent)));
    for (one, needs_permit) in std::iter::once((agent, true)).chain(above) {
        let asked = match bench.asked(snapshot, one, question, &outlook.groups, now) {
            Ok(asked) => asked,
            Err(why) => return never(Answer::deny(Why::PolicyError, Cause::plain(CauseKind::PolicyError, why))),
        };
        // What is held back until it is approved is given to nobody.
        let said = outlook.exact.ask(bench.authorizer(), bench.way(), &asked, &[]);
        if !said.held.is_empty() {
            return never(answer);
        }
        if needs_permit && answer.denied.is_some() && said.outcome != PolicyOutcome::Permitted {
            let permits = outlook.among(CauseKind::Permit, bench, &asked);
            if permits.is_empty() {
                return never(answer);
            }
            on.extend(permits);
        }
        on.extend(outlook.among(CauseKind::Forbid, bench, &asked));
    }
    on.sort_by(|a, b| a.cause.name.cmp(&b.cause.name));
    on.dedup_by(|a, b| (a.cause.kind, &a.cause.name) == (b.cause.kind, &b.cause.name));
    let holds = if on.is_empty() { Holds::Always } else { Holds::Depends(on) };
    Verdict { holds, causes: answer.causes }
}
