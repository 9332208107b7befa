//! The policies of one namespace, compiled: those that decide and those that are only reported.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use cedar_policy::{Authorizer, EntityTypeName, PolicyId, PolicySet};
use legate_ids::{Action, ActionPattern, Name};
use legate_view::{AgentLabel, Approval, NamespacePolicies, Policy, PolicyMode};

use super::action_groups::ActionGroups;
use super::answer::{Cause, CauseKind};
use super::approval;
use super::authority::Way;
use super::entities::Asked;
use super::scope::{Failure, ScopeIndex, Verdict, Who, forbids};
use super::shadow::{self, Instead};
use super::sweeping::Sweeping;

/// One declared policy, parsed: it may hold several Cedar policies.
#[derive(Debug)]
pub(crate) struct Parsed {
    declared: Arc<Policy>,
    rules: Vec<cedar_policy::Policy>,
    /// The groups that they name.
    groups: BTreeSet<Name>,
}

impl Parsed {
    fn unusable(&self, why: String) -> Unusable {
        Unusable { policy: self.declared.label.to_string(), why }
    }
}

/// Why a declared policy cannot be used. Its namespace cannot be decided about until it is mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy {policy} cannot be used: {why}")]
pub(crate) struct Unusable {
    pub(crate) policy: String,
    pub(crate) why: String,
}

/// What an agent and an action can be in, as far as policies can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    /// The groups of agents that any policy names. What a question says holds no entity, so no policy can meet another.
    pub(crate) of_agents: BTreeSet<Name>,
    /// The groups of actions that the namespace declares.
    pub(crate) of_actions: Arc<ActionGroups>,
}

/// All policies of a namespace, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    /// What forbids is asked first, in an index of its own: where one does, nobody needs to know what permits.
    forbids: ScopeIndex,
    permits: ScopeIndex,
    /// Forbids that hold back until it is approved: in an index of their own, since one that is lifted must not hide what else is said.
    holding: ScopeIndex,
    log_only: ScopeIndex,
    /// Which declared policy a Cedar policy belongs to, and whether it can forbid.
    origin: HashMap<PolicyId, (Arc<Policy>, bool)>,
    /// What those say that hold back, each with its policy.
    holds: HashMap<PolicyId, cedar_policy::Policy>,
    /// Those that decide and speak of an action whatever it is done to, plain ones and such as hold back.
    sweeping: HashMap<PolicyId, Sweeping>,
    groups: Groups,
    /// The declared policies in LOG_ONLY.
    shadows: Vec<Arc<Policy>>,
    parsed: HashMap<Name, Arc<Parsed>>,
    /// Whether some rules of those that are parsed were left out.
    is_partial: bool,
    whole: AtFirst,
}

/// Every policy in a set of Cedar's own, with no index.
#[derive(Debug, Default)]
struct Whole {
    enforced: PolicySet,
    holding: PolicySet,
    log_only: PolicySet,
}

/// Made at the first use. A copy is made for a change, so it begins empty.
#[derive(Debug, Default)]
struct AtFirst(OnceLock<Whole>);

impl Clone for AtFirst {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What the policies of a namespace say.
#[derive(Clone, Debug)]
pub(crate) struct PolicyAnswer {
    pub(crate) outcome: PolicyOutcome,
    /// The policies that determined it.
    pub(crate) causes: Vec<Cause>,
    /// Those that hold it back, where nothing lifts them. Whatever the outcome is, it is not permitted then.
    pub(crate) held: Vec<Cause>,
    /// The approvals that lifted one.
    pub(crate) lifted: Vec<Arc<Approval>>,
    /// What those in LOG_ONLY would have said.
    pub(crate) log_only: Vec<Cause>,
    /// The outcome by each of those whose word would have made another.
    pub(crate) instead: Vec<Instead>,
}

impl PolicyAnswer {
    /// What comes of it where an agent above is asked about as well: nobody may what is forbidden to whoever made him. Where
    /// `inherits`, nothing that the one above is not permitted either.
    pub(crate) fn below(mut self, above: Self, label: &AgentLabel, inherits: bool) -> Self {
        let instead = shadow::below(&self, &above, inherits);
        let of_above = |cause: Cause| Cause {
            text: format!("{} to {}/{}, which is above the agent", cause.text, label.namespace, label.name),
            ..cause
        };
        let counts = inherits || matches!(above.outcome, PolicyOutcome::Forbidden | PolicyOutcome::Failed);
        if counts && above.outcome > self.outcome {
            self.outcome = above.outcome;
            self.causes = above.causes.into_iter().map(of_above).collect();
        }
        self.instead = instead.into_iter().filter(|one| one.outcome != self.outcome).collect();
        // Whoever is above is held back by is an obstacle whether or not its permits count.
        self.held.extend(above.held.into_iter().map(of_above));
        for approval in above.lifted {
            if !self.lifted.iter().any(|known| Arc::ptr_eq(known, &approval)) {
                self.lifted.push(approval);
            }
        }
        for cause in above.log_only {
            if !self.log_only.iter().any(|known| (known.kind, &known.name) == (cause.kind, &cause.name)) {
                self.log_only.push(of_above(cause));
            }
        }
        self
    }
}

/// How it ends when the policies are asked; what is worse is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PolicyOutcome {
    /// At least one permits and none forbids.
    Permitted,
    /// None permits.
    NothingPermits,
    /// One that could forbid failed.
    Failed,
    /// At least one forbids.
    Forbidden,
}

fn parse(declared: &Arc<Policy>) -> Result<Parsed, Unusable> {
    let unusable = |why: String| Unusable { policy: declared.label.to_string(), why };
    let set: PolicySet = declared.cedar.parse().map_err(|e: cedar_policy::ParseErrors| unusable(e.to_string()))?;
    if set.templates().next().is_some() {
        return Err(unusable("it holds a template".into()));
    }
    let mut rules: Vec<_> = set.policies().cloned().collect();
    if rules.is_empty() {
        return Err(unusable("it holds no policy".into()));
    }
    for rule in &rules {
        approval::annotation(rule).map_err(&unusable)?;
    }
    rules.sort_by_key(|rule| rule.id().to_string());
    let name = declared.label.name.as_str();
    let rules: Vec<_> =
        rules.iter().enumerate().map(|(n, rule)| rule.new_id(PolicyId::new(format!("{name}#{n}")))).collect();
    let groups = rules.iter().flat_map(groups).collect();
    Ok(Parsed { declared: Arc::clone(declared), rules, groups })
}

/// The groups of actions of a namespace; those that were read before serve again.
fn of_actions(policies: &NamespacePolicies, before: Option<&Compiled>) -> Arc<ActionGroups> {
    let schema = policies.schema.as_ref();
    let known = before.map(|before| &before.groups.of_actions).filter(|known| known.are_of(schema));
    known.map_or_else(|| Arc::new(ActionGroups::of(schema)), Arc::clone)
}

/// What those of an index say whose scope fits.
fn ask_index(index: &ScopeIndex, authorizer: &Authorizer, asked: &Asked) -> Verdict {
    let who = (&asked.principal.who, &asked.resource);
    index.evaluate(authorizer, &asked.request, &asked.actions, who, &asked.entities)
}

/// Whether it holds back until it is approved.
fn is_holding(rule: &cedar_policy::Policy) -> bool {
    matches!(approval::annotation(rule), Ok(Some(_)))
}

/// The groups that a policy names. One whose name breaks the grammar is nobody's.
fn groups(rule: &cedar_policy::Policy) -> impl Iterator<Item = Name> {
    let literals = rule.entity_literals().into_iter();
    literals
        .filter(|uid| uid.type_name().to_string() == "Group")
        .filter_map(|uid| Name::parse(uid.id().unescaped()).ok())
}

impl Compiled {
    /// Compiles the policies of a namespace. Of those that did not change since `before`, the one that was compiled of the
    /// same namespace, nothing is made again.
    ///
    /// One policy that cannot be used makes all of them unusable: it might have been the one that forbids.
    pub(crate) fn compile(policies: &NamespacePolicies, before: Option<&Self>) -> Result<Self, Unusable> {
        match before {
            // Where most of it is new, making it anew is less work.
            Some(before) if !before.is_partial && before.differs_in(policies) <= policies.by_name.len() / 4 => {
                before.changed_to(policies)
            }
            _ => Self::compile_where(policies, before, |_| true),
        }
    }

    /// How many declared policies are not as they were.
    fn differs_in(&self, policies: &NamespacePolicies) -> usize {
        let same = policies.by_name.iter().filter(|(name, declared)| self.has(name, declared)).count();
        policies.by_name.len().max(self.parsed.len()) - same
    }

    fn has(&self, name: &Name, declared: &Arc<Policy>) -> bool {
        self.parsed.get(name).is_some_and(|parsed| Arc::ptr_eq(&parsed.declared, declared))
    }

    /// A copy in which only what changed is made again.
    fn changed_to(&self, policies: &NamespacePolicies) -> Result<Self, Unusable> {
        let mut compiled = self.clone();
        let gone = |name: &Name, parsed: &Parsed| {
            policies.by_name.get(name).is_none_or(|declared| !Arc::ptr_eq(declared, &parsed.declared))
        };
        for (name, parsed) in self.parsed.iter().filter(|(name, parsed)| gone(name, parsed)) {
            compiled.parsed.remove(name);
            compiled.shadows.retain(|shadow| !Arc::ptr_eq(shadow, &parsed.declared));
            for rule in &parsed.rules {
                let index = compiled.index(parsed.declared.mode, rule);
                index.remove(rule).map_err(|e| parsed.unusable(e.to_string()))?;
                compiled.holds.remove(rule.id());
                compiled.sweeping.remove(rule.id());
                compiled.origin.remove(rule.id());
            }
        }
        for (name, declared) in policies.by_name.iter().filter(|(name, declared)| !self.has(name, declared)) {
            compiled.put(name, Arc::new(parse(declared)?), |_| true)?;
        }
        // One that went may have been the last to name a group.
        compiled.groups.of_agents = compiled.parsed.values().flat_map(|one| one.groups.iter().cloned()).collect();
        compiled.groups.of_actions = of_actions(policies, Some(self));
        Ok(compiled)
    }

    /// The same with only those Cedar policies that `keep` keeps; for previews, which tell apart what a permission decides.
    pub(crate) fn compile_where(
        policies: &NamespacePolicies,
        before: Option<&Self>,
        keep: impl Fn(&cedar_policy::Policy) -> bool,
    ) -> Result<Self, Unusable> {
        let mut compiled = Self::default();
        compiled.groups.of_actions = of_actions(policies, before);
        for (name, declared) in &policies.by_name {
            let known = before.and_then(|b| b.parsed.get(name)).filter(|p| Arc::ptr_eq(&p.declared, declared));
            let parsed = match known {
                Some(parsed) => Arc::clone(parsed),
                None => Arc::new(parse(declared)?),
            };
            compiled.put(name, parsed, &keep)?;
        }
        Ok(compiled)
    }

    /// Where a Cedar policy of this mode goes.
    fn index(&mut self, mode: PolicyMode, rule: &cedar_policy::Policy) -> &mut ScopeIndex {
        match mode {
            PolicyMode::Enforce if is_holding(rule) => &mut self.holding,
            PolicyMode::Enforce if forbids(rule) => &mut self.forbids,
            PolicyMode::Enforce => &mut self.permits,
            PolicyMode::LogOnly | PolicyMode::Unknown => &mut self.log_only,
        }
    }

    fn put(
        &mut self,
        name: &Name,
        parsed: Arc<Parsed>,
        keep: impl Fn(&cedar_policy::Policy) -> bool,
    ) -> Result<(), Unusable> {
        let declared = &parsed.declared;
        if declared.mode == PolicyMode::Unknown {
            return Err(parsed.unusable("its mode is not known".into()));
        }
        for rule in &parsed.rules {
            if !keep(rule) {
                self.is_partial = true;
                continue;
            }
            if declared.mode == PolicyMode::Enforce && is_holding(rule) {
                self.holds.insert(rule.id().clone(), rule.clone());
            }
            if declared.mode == PolicyMode::Enforce
                && let Some(sweeping) = Sweeping::of(rule)
            {
                self.sweeping.insert(rule.id().clone(), sweeping);
            }
            self.index(declared.mode, rule).add(rule).map_err(|e| parsed.unusable(e.to_string()))?;
            self.groups.of_agents.extend(groups(rule));
            self.origin.insert(rule.id().clone(), (Arc::clone(declared), forbids(rule)));
        }
        if declared.mode == PolicyMode::LogOnly {
            self.shadows.push(Arc::clone(declared));
        }
        self.parsed.insert(name.clone(), parsed);
        Ok(())
    }

    /// All of them in Cedar's own sets, made at the first time.
    fn whole(&self) -> &Whole {
        self.whole.0.get_or_init(|| {
            let mut whole = Whole::default();
            let known = |rule: &&cedar_policy::Policy| self.origin.contains_key(rule.id());
            for (declared, rule) in self.written().filter(|(_, rule)| known(rule)) {
                let set = match declared.mode {
                    PolicyMode::Enforce if is_holding(rule) => &mut whole.holding,
                    PolicyMode::Enforce => &mut whole.enforced,
                    PolicyMode::LogOnly | PolicyMode::Unknown => &mut whole.log_only,
                };
                // No two have one id; the index would have refused the second.
                drop(set.add(rule.clone()));
            }
            whole
        })
    }

    /// What agents and actions can be in, also as far as only those name it that are only reported.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Every Cedar policy with the declared one that it belongs to, in the order of names.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&Arc<Policy>, &cedar_policy::Policy)> {
        let mut all: Vec<&Arc<Parsed>> = self.parsed.values().collect();
        all.sort_by(|a, b| a.declared.label.name.cmp(&b.declared.label.name));
        all.into_iter().flat_map(|parsed| parsed.rules.iter().map(move |rule| (&parsed.declared, rule)))
    }

    /// The declared policies that decide nothing and are told of.
    pub(crate) fn shadows(&self) -> &[Arc<Policy>] {
        &self.shadows
    }

    /// How many Cedar policies decide, and how many are only reported.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.forbids.len() + self.permits.len() + self.holding.len(), self.log_only.len())
    }

    /// What those say that decide and hold nothing back; of the permits nothing, where one forbids.
    pub(crate) fn enforced(&self, authorizer: &Authorizer, way: Way, asked: &Asked) -> Verdict {
        match way {
            Way::Indexed => {
                let verdict = ask_index(&self.forbids, authorizer, asked);
                if !verdict.forbids.is_empty() || self.permits.len() == 0 {
                    return verdict;
                }
                verdict.and(ask_index(&self.permits, authorizer, asked))
            }
            Way::Plain => self.ask_plain(|whole| &whole.enforced, authorizer, asked),
        }
    }

    fn evaluate(
        &self,
        index: &ScopeIndex,
        whole: fn(&Whole) -> &PolicySet,
        authorizer: &Authorizer,
        way: Way,
        asked: &Asked,
    ) -> Verdict {
        match way {
            Way::Indexed => ask_index(index, authorizer, asked),
            Way::Plain => self.ask_plain(whole, authorizer, asked),
        }
    }

    fn ask_plain(&self, whole: fn(&Whole) -> &PolicySet, authorizer: &Authorizer, asked: &Asked) -> Verdict {
        let set = std::iter::once(whole(self.whole()));
        Verdict::of(authorizer, &asked.request, set, &asked.entities)
    }

    /// What the policies say of `asked`, where `approvals` are of what is asked, towards whom it is asked, and hold now.
    pub(crate) fn ask(
        &self,
        authorizer: &Authorizer,
        way: Way,
        asked: &Asked,
        approvals: &[Arc<Approval>],
    ) -> PolicyAnswer {
        let mut verdict = self.enforced(authorizer, way, asked);
        let (mut held, mut lifted) = (Vec::new(), Vec::new());
        if self.holding.len() > 0 {
            let said = self.evaluate(&self.holding, |whole| &whole.holding, authorizer, way, asked);
            // One that fails might have held it back, and nobody approved what nobody saw.
            verdict.failures.extend(said.failures);
            (held, lifted) = self.lift(&said.forbids, approvals);
        }
        let (outcome, causes) = self.judge(&verdict);
        let (mut log_only, mut instead) = (Vec::new(), Vec::new());
        if self.log_only.len() > 0 {
            let said = self.evaluate(&self.log_only, |whole| &whole.log_only, authorizer, way, asked);
            log_only.extend(self.rules(&said.forbids, CauseKind::Forbid, "would forbid it"));
            log_only.extend(self.rules(&said.permits, CauseKind::Permit, "would permit it"));
            log_only.extend(said.failures.iter().map(|f| self.failure(f)));
            instead = shadow::instead(outcome, &said, |id| self.origin.get(id));
        }
        PolicyAnswer { outcome, causes, held, lifted, log_only, instead }
    }

    /// Which of those that hold it back no approval lifts, and the approvals that lift the others.
    fn lift(&self, holding: &[PolicyId], approvals: &[Arc<Approval>]) -> (Vec<Cause>, Vec<Arc<Approval>>) {
        let (mut held, mut lifted): (Vec<Cause>, Vec<Arc<Approval>>) = (Vec::new(), Vec::new());
        let mut holding: Vec<&PolicyId> = holding.iter().collect();
        holding.sort_unstable();
        for id in holding {
            let Some((policy, _)) = self.origin.get(id) else {
                held.push(Cause::plain(CauseKind::Holding, "a policy that is not known holds it back"));
                continue;
            };
            let rule = self.holds.get(id);
            let fits = |one: &&Arc<Approval>| {
                one.is_of(&policy.label) && rule.is_some_and(|rule| approval::suffices(rule, one))
            };
            let is_lifting = |one: &Arc<Approval>| lifted.iter().any(|known| Arc::ptr_eq(known, one));
            // Of those that count once no second one is used where the first is enough.
            let by = approvals.iter().filter(fits).max_by_key(|one| (is_lifting(one), approval::rank(one)));
            match by {
                Some(by) if lifted.iter().any(|known| Arc::ptr_eq(known, by)) => {}
                Some(by) => lifted.push(Arc::clone(by)),
                None => {
                    let text = rule.and_then(|rule| approval::annotation(rule).ok().flatten());
                    let text = format!("holds it back until it is approved ({})", text.unwrap_or_default());
                    held.push(Cause::of(CauseKind::Holding, &policy.label, text));
                }
            }
        }
        (held, lifted)
    }

    /// The policies that forbid `who` something whatever it is done to, each with what says it.
    pub(crate) fn forbidding_all(&self, who: &Who) -> Vec<(&Arc<Policy>, &Sweeping)> {
        self.sweeping_to(who, false)
    }

    /// Those that hold something back until it is approved, whatever it is done to.
    pub(crate) fn holding_all(&self, who: &Who) -> Vec<(&Arc<Policy>, &Sweeping)> {
        self.sweeping_to(who, true)
    }

    fn sweeping_to(&self, who: &Who, holding: bool) -> Vec<(&Arc<Policy>, &Sweeping)> {
        let found = self.sweeping.iter().filter(|(id, one)| self.holds.contains_key(id) == holding && one.is_to(who));
        let mut found: Vec<_> = found.filter_map(|(id, one)| Some((&self.origin.get(id)?.0, one))).collect();
        found.sort_by(|(a, one), (b, other)| (&a.label.name, one.rule().id()).cmp(&(&b.label.name, other.rule().id())));
        found
    }

    /// The actions on which a policy may permit `who` something with resources of the type; `None`: of any type. Conditions are
    /// not looked at, so it says more than are permitted, never less.
    pub(crate) fn permitting(&self, who: &Who, kind: Option<&EntityTypeName>) -> Vec<ActionPattern> {
        let mut found = BTreeSet::new();
        for uid in self.permits.permitting(who, kind) {
            let Some(name) = uid.map(|uid| uid.id().unescaped()) else {
                found.insert(ActionPattern::every());
                continue;
            };
            found.extend(Action::parse(name).ok().map(ActionPattern::from));
            found.extend(self.groups.of_actions.within(name).iter().cloned().map(ActionPattern::from));
        }
        found.into_iter().collect()
    }

    fn judge(&self, verdict: &Verdict) -> (PolicyOutcome, Vec<Cause>) {
        // A failed permit only permits nothing; a failed forbid might have been the one that counts.
        let mut failed_forbids = verdict
            .failures
            .iter()
            .filter(|f| self.origin.get(&f.policy).is_none_or(|(_, forbids)| *forbids))
            .peekable();
        if !verdict.forbids.is_empty() {
            let causes = self.rules(&verdict.forbids, CauseKind::Forbid, "forbids it");
            return (PolicyOutcome::Forbidden, causes.collect());
        }
        if failed_forbids.peek().is_some() {
            let causes = failed_forbids.map(|f| self.failure(f)).collect();
            return (PolicyOutcome::Failed, causes);
        }
        if verdict.permits.is_empty() {
            let causes = verdict.failures.iter().map(|f| self.failure(f)).collect();
            return (PolicyOutcome::NothingPermits, causes);
        }
        let causes = self.rules(&verdict.permits, CauseKind::Permit, "permits it");
        (PolicyOutcome::Permitted, causes.collect())
    }

    /// The declared policies of `ids`, each once.
    fn rules<'a>(
        &'a self,
        ids: &'a [PolicyId],
        kind: CauseKind,
        text: &'static str,
    ) -> impl Iterator<Item = Cause> + 'a {
        let mut declared: Vec<&Arc<Policy>> = ids.iter().filter_map(|id| Some(&self.origin.get(id)?.0)).collect();
        declared.sort_by(|a, b| a.label.name.cmp(&b.label.name));
        declared.dedup_by(|a, b| Arc::ptr_eq(a, b));
        declared.into_iter().map(move |policy| Cause::of(kind, &policy.label, text))
    }

    fn failure(&self, failure: &Failure) -> Cause {
        match self.origin.get(&failure.policy) {
            Some((policy, _)) => Cause::of(CauseKind::PolicyError, &policy.label, failure.message.clone()),
            None => Cause::plain(CauseKind::PolicyError, failure.message.clone()),
        }
    }
}
