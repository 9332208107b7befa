//! What a policy in LOG_ONLY would have changed, had it decided, all others being as they are.

use std::sync::Arc;

use cedar_policy::PolicyId;
use legate_view::Policy;

use super::answer::Answer;
use super::policies::{PolicyAnswer, PolicyOutcome};
use super::scope::Verdict;

/// The outcome where one policy decided that does not.
#[derive(Clone, Debug)]
pub(crate) struct Instead {
    pub(crate) policy: Arc<Policy>,
    pub(crate) outcome: PolicyOutcome,
}

/// What would have been said in place of the opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Would {
    Allow,
    Deny,
}

/// An answer that a policy would have turned round.
#[derive(Clone, Debug)]
pub(crate) struct Flip {
    pub(crate) policy: Arc<Policy>,
    pub(crate) would: Would,
}

/// The outcome by each policy that is only reported, where it is another one. `said` is what they say, and `origin` tells whose
/// a Cedar policy is, and whether it can forbid.
///
/// Where one of them forbids, what the others permit is not known in full: of two in LOG_ONLY, of which one forbids and one
/// permits the same, the second can be missed.
pub(crate) fn instead<'a>(
    outcome: PolicyOutcome,
    said: &Verdict,
    origin: impl Fn(&PolicyId) -> Option<&'a (Arc<Policy>, bool)>,
) -> Vec<Instead> {
    let mut all: Vec<Instead> = Vec::new();
    let mut take = |id: &PolicyId, word: PolicyOutcome| {
        let Some((policy, can_forbid)) = origin(id) else { return };
        if word == PolicyOutcome::Failed && !can_forbid {
            return;
        }
        // A permit helps where nothing else permits; whatever is worse than the outcome makes it worse.
        let with = match (word, outcome) {
            (PolicyOutcome::Permitted, PolicyOutcome::NothingPermits) => PolicyOutcome::Permitted,
            (PolicyOutcome::Permitted, _) => return,
            (word, outcome) => word.max(outcome),
        };
        if with == outcome {
            return;
        }
        match all.iter_mut().find(|one| Arc::ptr_eq(&one.policy, policy)) {
            Some(known) => known.outcome = known.outcome.max(with),
            None => all.push(Instead { policy: Arc::clone(policy), outcome: with }),
        }
    };
    said.forbids.iter().for_each(|id| take(id, PolicyOutcome::Forbidden));
    said.failures.iter().for_each(|failure| take(&failure.policy, PolicyOutcome::Failed));
    said.permits.iter().for_each(|id| take(id, PolicyOutcome::Permitted));
    all
}

/// The same where an agent above is asked about as well; as `PolicyAnswer::below` joins the outcomes themselves.
pub(crate) fn below(own: &PolicyAnswer, above: &PolicyAnswer, inherits: bool) -> Vec<Instead> {
    let by = |of: &PolicyAnswer, policy: &Arc<Policy>| {
        of.instead.iter().find(|one| Arc::ptr_eq(&one.policy, policy)).map_or(of.outcome, |one| one.outcome)
    };
    let mut all: Vec<Instead> = Vec::new();
    for one in own.instead.iter().chain(&above.instead) {
        if all.iter().any(|known| Arc::ptr_eq(&known.policy, &one.policy)) {
            continue;
        }
        let (mine, theirs) = (by(own, &one.policy), by(above, &one.policy));
        let counts = inherits || matches!(theirs, PolicyOutcome::Forbidden | PolicyOutcome::Failed);
        let outcome = if counts { mine.max(theirs) } else { mine };
        all.push(Instead { policy: Arc::clone(&one.policy), outcome });
    }
    all
}

/// Which of them turn the answer round; `is_held`: something holds it back until it is approved, whatever permits it.
pub(crate) fn flips(outcome: PolicyOutcome, is_held: bool, instead: Vec<Instead>) -> Vec<Flip> {
    let is_allowed = |outcome| outcome == PolicyOutcome::Permitted && !is_held;
    let flip = |one: Instead| {
        let would = match (is_allowed(outcome), is_allowed(one.outcome)) {
            (true, false) => Would::Deny,
            (false, true) => Would::Allow,
            _ => return None,
        };
        Some(Flip { policy: one.policy, would })
    };
    instead.into_iter().filter_map(flip).collect()
}

/// Adds what is found of another agent of the same chain.
pub(crate) fn add(all: &mut Vec<Flip>, more: Vec<Flip>) {
    for flip in more {
        if !all.iter().any(|known| Arc::ptr_eq(&known.policy, &flip.policy) && known.would == flip.would) {
            all.push(flip);
        }
    }
}

/// Keeps what turns the whole answer round. On somebody's behalf a denial would not certainly have been anything else: what
/// comes after it was not looked at.
pub(crate) fn told(answer: &mut Answer, is_on_behalf: bool) {
    let is_allowed = answer.denied.is_none();
    answer.shadow.retain(|flip| match flip.would {
        Would::Deny => is_allowed,
        Would::Allow => !is_allowed && !is_on_behalf,
    });
}
