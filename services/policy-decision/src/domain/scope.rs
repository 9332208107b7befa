//! Policies by the scope they state, so that a question meets only those that could apply to it.
//!
//! Cedar evaluates every policy of a set on every call. A policy whose scope does not fit the request contributes
//! nothing, not even an error, since the scope is tested first. So the policies are kept in buckets by scope, and the
//! buckets that a request could fit are evaluated one by one; a property test holds the result against plain Cedar.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Authorizer, Decision, Effect, Entities, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet,
    PolicySetError, PrincipalConstraint, Request, ResourceConstraint,
};
use legate_planted::Bug;

/// Values under "anything", "this type" or "this entity". A copy shares them, so that a change costs its own path alone.
#[derive(Clone, Debug)]
struct Fork<T> {
    any: Arc<T>,
    of_type: HashMap<EntityTypeName, Arc<T>>,
    of_uid: HashMap<EntityUid, Arc<T>>,
}

/// What is left out where nothing is in it.
trait Bucket: Clone + Default {
    fn is_empty(&self) -> bool;
}

impl Bucket for PolicySet {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

impl<T: Bucket> Bucket for Fork<T> {
    fn is_empty(&self) -> bool {
        self.any.is_empty() && self.of_type.is_empty() && self.of_uid.is_empty()
    }
}

impl<T: Default> Default for Fork<T> {
    fn default() -> Self {
        Self { any: Arc::default(), of_type: HashMap::new(), of_uid: HashMap::new() }
    }
}

/// Where on a fork a policy goes.
#[derive(Clone, Debug)]
enum Way {
    Any,
    Type(EntityTypeName),
    Uid(EntityUid),
}

/// Changes what lies under `key`, and forgets it where nothing is left.
fn change_at<K: Eq + Hash, T: Bucket, R>(map: &mut HashMap<K, Arc<T>>, key: K, change: impl FnOnce(&mut T) -> R) -> R {
    match map.entry(key) {
        Entry::Occupied(mut there) => {
            let done = change(Arc::make_mut(there.get_mut()));
            if there.get().is_empty() {
                there.remove();
            }
            done
        }
        Entry::Vacant(free) => {
            let mut new = T::default();
            let done = change(&mut new);
            if !new.is_empty() {
                free.insert(Arc::new(new));
            }
            done
        }
    }
}

impl<T: Bucket> Fork<T> {
    fn change<R>(&mut self, way: &Way, change: impl FnOnce(&mut T) -> R) -> R {
        match way {
            Way::Any => change(Arc::make_mut(&mut self.any)),
            Way::Type(name) => change_at(&mut self.of_type, name.clone(), change),
            Way::Uid(uid) => change_at(&mut self.of_uid, uid.clone(), change),
        }
    }

    /// Everything under which `who` (with its type first and its ancestors after it) could fall.
    fn matching<'a>(&'a self, who: &'a Who) -> impl Iterator<Item = &'a T> {
        let any = Some(&self.any).filter(|any| !any.is_empty());
        let typed = self.of_type.get(&who.kind);
        let named = who.uids.iter().filter_map(|uid| self.of_uid.get(uid));
        any.into_iter().chain(typed).chain(named).map(|found| &**found)
    }

    /// Everything under which something of that type, itself in nothing, could fall; `None`: of any type.
    fn of_kind<'a>(&'a self, kind: Option<&'a EntityTypeName>) -> impl Iterator<Item = &'a T> {
        let any = Some(&self.any).filter(|any| !any.is_empty());
        let typed = self.of_type.iter().filter(move |(own, _)| kind.is_none_or(|kind| kind == *own));
        let named = self.of_uid.iter().filter(move |(uid, _)| kind.is_none_or(|kind| kind == uid.type_name()));
        any.into_iter().chain(typed.map(|(_, of)| of)).chain(named.map(|(_, of)| of)).map(|found| &**found)
    }
}

/// A principal or resource as scopes see it: its type, itself, and everything it is in.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) kind: EntityTypeName,
    pub(crate) uids: Vec<EntityUid>,
}

/// Policies by principal, then resource.
type Parties = Fork<Fork<PolicySet>>;

/// Policies by action, then principal, then resource. A copy is cheap beside making one anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScopeIndex {
    any_action: Arc<Parties>,
    of_action: HashMap<EntityUid, Arc<Parties>>,
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

/// Where a policy goes, by its scope.
struct Place {
    /// `None`: whatever is done.
    actions: Option<BTreeSet<EntityUid>>,
    principal: Way,
    resource: Way,
}

impl Place {
    fn of(policy: &Policy) -> Self {
        Self {
            actions: match policy.action_constraint() {
                ActionConstraint::Any => None,
                ActionConstraint::Eq(uid) => Some(BTreeSet::from([uid])),
                // A question meets what is kept under its action and under each group that this is in; twice the same is once.
                ActionConstraint::In(uids) => Some(uids.into_iter().collect()),
            },
            principal: match policy.principal_constraint() {
                PrincipalConstraint::Any => Way::Any,
                // `is T in U` goes where U is: a superset of those that fit.
                PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
                    Way::Uid(uid)
                }
                PrincipalConstraint::Is(name) => Way::Type(name),
            },
            resource: match policy.resource_constraint() {
                ResourceConstraint::Any => Way::Any,
                ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
                    Way::Uid(uid)
                }
                ResourceConstraint::Is(name) => Way::Type(name),
            },
        }
    }
}

impl ScopeIndex {
    /// Adds a policy whose id no other has.
    pub(crate) fn add(&mut self, policy: &Policy) -> Result<(), Box<PolicySetError>> {
        self.change(&Place::of(policy), |bucket| bucket.add(policy.clone()).map_err(Box::new))?;
        self.len += 1;
        Ok(())
    }

    /// Takes back a policy that was added.
    pub(crate) fn remove(&mut self, policy: &Policy) -> Result<(), Box<PolicySetError>> {
        self.change(&Place::of(policy), |bucket| {
            bucket.remove_static(policy.id().clone()).map(drop).map_err(Box::new)
        })?;
        self.len -= 1;
        Ok(())
    }

    /// Changes every bucket of a place.
    fn change<E>(&mut self, place: &Place, change: impl Fn(&mut PolicySet) -> Result<(), E>) -> Result<(), E> {
        let of_parties =
            |parties: &mut Parties| parties.change(&place.principal, |fork| fork.change(&place.resource, &change));
        match &place.actions {
            None => of_parties(Arc::make_mut(&mut self.any_action)),
            Some(actions) => actions.iter().try_for_each(|uid| change_at(&mut self.of_action, uid.clone(), of_parties)),
        }
    }

    /// The actions on which the scope of a permit fits `principal` and some resource of the type, `None` of any type; of an
    /// action `None`: whatever is done.
    pub(crate) fn permitting<'a>(
        &'a self,
        principal: &'a Who,
        kind: Option<&'a EntityTypeName>,
    ) -> impl Iterator<Item = Option<&'a EntityUid>> {
        let permits = move |parties: &'a Parties| {
            let mut buckets = parties.matching(principal).flat_map(|fork| fork.of_kind(kind));
            buckets.any(|bucket| bucket.policies().any(|policy| !forbids(policy)))
        };
        let any = permits(&self.any_action).then_some(None);
        any.into_iter().chain(self.of_action.iter().filter(move |(_, of)| permits(of)).map(|(uid, _)| Some(uid)))
    }

    /// How many policies it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What the policies say of `request`, whose principal and resource are `principal` and `resource`; its action comes first in
    /// `actions`, and behind it the groups that it is in.
    pub(crate) fn evaluate(
        &self,
        authorizer: &Authorizer,
        request: &Request,
        actions: &[EntityUid],
        (principal, resource): (&Who, &Who),
        entities: &Entities,
    ) -> Verdict {
        let named = actions.iter().filter_map(|uid| self.of_action.get(uid));
        let buckets = std::iter::once(&self.any_action)
            .chain(named)
            .flat_map(|parties| parties.matching(principal))
            .flat_map(|fork| fork.matching(resource));
        let loses = legate_planted::is(Bug::LostForbid);
        let buckets = buckets.filter(|bucket| !loses || bucket.policies().all(|policy| !forbids(policy)));
        let verdict = Verdict::of(authorizer, request, buckets, entities);
        // A policy that names an action and a group of it is kept under both.
        if actions.len() > 1 { verdict.each_once() } else { verdict }
    }
}

impl Verdict {
    /// What all of `sets`, no policy of which is in two, say of `request`.
    pub(crate) fn of<'a>(
        authorizer: &Authorizer,
        request: &Request,
        sets: impl Iterator<Item = &'a PolicySet>,
        entities: &Entities,
    ) -> Self {
        let mut verdict = Self::default();
        for set in sets {
            let response = authorizer.is_authorized(request, set, entities);
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
        verdict.in_order()
    }

    /// What these say and those of another index, no policy of which is in both.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.permits.extend(other.permits);
        self.forbids.extend(other.forbids);
        self.failures.extend(other.failures);
        self.in_order()
    }

    fn each_once(mut self) -> Self {
        for ids in [&mut self.permits, &mut self.forbids] {
            ids.sort();
            ids.dedup();
        }
        self.failures.dedup_by(|a, b| a.policy == b.policy);
        self
    }

    /// Told in the same order however they were found.
    fn in_order(mut self) -> Self {
        self.failures.sort_by(|a, b| a.policy.cmp(&b.policy));
        self
    }
}

/// Whether the policy can forbid.
pub(crate) fn forbids(policy: &Policy) -> bool {
    policy.effect() == Effect::Forbid
}

#[cfg(test)]
mod tests;
