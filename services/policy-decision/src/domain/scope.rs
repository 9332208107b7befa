//! Policies by the scope they state, so that a question meets only those that could apply to it.
//!
//! Cedar evaluates every policy of a set on every call. A policy whose scope does not fit the request contributes
//! nothing, not even an error, since the scope is tested first. So the policies are kept in buckets by scope, and the
//! buckets that a request could fit are evaluated one by one; a property test holds the result against plain Cedar.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{
    ActionConstraint, Authorizer, Decision, Effect, Entities, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet,
    PolicySetError, PrincipalConstraint, Request, ResourceConstraint,
};

/// Values under "anything", "this type" or "this entity".
#[derive(Debug)]
struct Fork<T> {
    any: Option<T>,
    of_type: HashMap<EntityTypeName, T>,
    of_uid: HashMap<EntityUid, T>,
}

impl<T> Default for Fork<T> {
    fn default() -> Self {
        Self { any: None, of_type: HashMap::new(), of_uid: HashMap::new() }
    }
}

/// Where on a fork a policy goes.
enum Way {
    Any,
    Type(EntityTypeName),
    Uid(EntityUid),
}

impl<T: Default> Fork<T> {
    fn at(&mut self, way: Way) -> &mut T {
        match way {
            Way::Any => self.any.get_or_insert_default(),
            Way::Type(name) => self.of_type.entry(name).or_default(),
            Way::Uid(uid) => self.of_uid.entry(uid).or_default(),
        }
    }
}

impl<T> Fork<T> {
    /// Everything under which `who` (with its type first and its ancestors after it) could fall.
    fn matching<'a>(&'a self, who: &'a Who) -> impl Iterator<Item = &'a T> {
        let typed = self.of_type.get(&who.kind);
        let named = who.uids.iter().filter_map(|uid| self.of_uid.get(uid));
        self.any.iter().chain(typed).chain(named)
    }
}

/// A principal or resource as scopes see it: its type, itself, and everything it is in.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) kind: EntityTypeName,
    pub(crate) uids: Vec<EntityUid>,
}

/// Policies by action, then principal, then resource.
#[derive(Debug, Default)]
pub(crate) struct ScopeIndex {
    any_action: Fork<Fork<PolicySet>>,
    of_action: HashMap<EntityUid, Fork<Fork<PolicySet>>>,
    len: usize,
}

/// A policy that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) policy: PolicyId,
    pub(crate) message: String,
}

/// What the policies say together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Satisfied permits; incomplete where `forbids` is not empty.
    pub(crate) permits: Vec<PolicyId>,
    /// Satisfied forbids.
    pub(crate) forbids: Vec<PolicyId>,
    /// Those that failed.
    pub(crate) failures: Vec<Failure>,
}

impl ScopeIndex {
    /// Adds a policy whose id no other has.
    pub(crate) fn add(&mut self, policy: &Policy) -> Result<(), Box<PolicySetError>> {
        let principal = || match policy.principal_constraint() {
            PrincipalConstraint::Any => Way::Any,
            // `is T in U` goes where U is: a superset of those that fit.
            PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
                Way::Uid(uid)
            }
            PrincipalConstraint::Is(name) => Way::Type(name),
        };
        let resource = || match policy.resource_constraint() {
            ResourceConstraint::Any => Way::Any,
            ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
                Way::Uid(uid)
            }
            ResourceConstraint::Is(name) => Way::Type(name),
        };
        let put = |fork: &mut Fork<Fork<PolicySet>>| {
            let bucket = fork.at(principal()).at(resource());
            bucket.add(policy.clone()).map_err(Box::new)
        };
        match policy.action_constraint() {
            ActionConstraint::Any => put(&mut self.any_action)?,
            ActionConstraint::Eq(uid) => put(self.of_action.entry(uid).or_default())?,
            // Actions are in nothing here, so `in [A, B]` is A or B; twice the same is once.
            ActionConstraint::In(uids) => {
                for uid in uids.into_iter().collect::<BTreeSet<_>>() {
                    put(self.of_action.entry(uid).or_default())?;
                }
            }
        }
        self.len += 1;
        Ok(())
    }

    /// How many policies it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What the policies say of `request`, whose principal and resource are `principal` and `resource`.
    pub(crate) fn evaluate(
        &self,
        authorizer: &Authorizer,
        request: &Request,
        action: &EntityUid,
        (principal, resource): (&Who, &Who),
        entities: &Entities,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let named = self.of_action.get(action);
        let buckets = std::iter::once(&self.any_action)
            .chain(named)
            .flat_map(|fork| fork.matching(principal))
            .flat_map(|fork| fork.matching(resource));
        for bucket in buckets {
            let response = authorizer.is_authorized(request, bucket, entities);
            let determining = response.diagnostics().reason().cloned();
            match response.decision() {
                Decision::Allow => verdict.permits.extend(determining),
                // Without a satisfied forbid a denial has no determining policy.
                Decision::Deny => verdict.forbids.extend(determining),
            }
            for error in response.diagnostics().errors() {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(e) = error;
                verdict.failures.push(Failure { policy: e.policy_id().clone(), message: e.inner().to_string() });
            }
        }
        verdict
    }
}

/// Whether the policy can forbid.
pub(crate) fn forbids(policy: &Policy) -> bool {
    policy.effect() == Effect::Forbid
}

#[cfg(test)]
mod tests;
