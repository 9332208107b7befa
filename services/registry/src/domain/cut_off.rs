//! Cut-offs of many at once: how one is spelled, which concern an agent, and which it takes along when it leaves whom they name.

use std::collections::BTreeSet;

use legate_clock::Timestamp;
use legate_wire::registry as wire;
use wire::cut_off::Level;
use wire::declaration::Object;

use super::standing::HEARD_BY_ALL;

/// Whom a cut-off names, and in which namespace; empty: in every one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) namespace: String,
    /// The level and its name, injective.
    pub(crate) spelled: String,
}

impl Named {
    /// Whom `level` names in `namespace`.
    pub(crate) fn of(namespace: &str, level: &Level) -> Self {
        let spelled = match level {
            Level::AgentClass(name) => format!("class:{name}"),
            Level::WholeNamespace(_) => "namespace:".to_owned(),
            Level::Owner(name) => format!("owner:{name}"),
            Level::Subject(name) => format!("subject:{name}"),
        };
        Self { namespace: namespace.to_owned(), spelled }
    }
}

/// Every cut-off that concerns an agent, but those of the persons for whom it acts.
pub(crate) fn concerning(agent: &wire::Agent) -> BTreeSet<Named> {
    let namespace = agent.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
    let spec = agent.spec.as_ref();
    let class = spec.map(|spec| Level::AgentClass(spec.agent_class.clone()));
    let owners = spec.into_iter().flat_map(|spec| &spec.owners).map(|owner| Level::Owner(owner.clone()));
    let mut found: BTreeSet<Named> = owners.flat_map(|level| ["", namespace].map(|n| Named::of(n, &level))).collect();
    found.extend(class.map(|level| Named::of(namespace, &level)));
    found.insert(Named::of(namespace, &Level::WholeNamespace(true)));
    found
}

/// Those that concerned an agent as it was and do not as it is to be: what they killed stays dead.
pub(crate) fn left(before: Option<&wire::Declaration>, after: &wire::Declaration) -> BTreeSet<Named> {
    let (Some(Object::Agent(before)), Some(Object::Agent(after))) =
        (before.and_then(|d| d.object.as_ref()), after.object.as_ref())
    else {
        return BTreeSet::new();
    };
    let who = |agent: &wire::Agent| agent.spec.as_ref().map(|s| (s.agent_class.clone(), s.owners.clone()));
    if who(before) == who(after) {
        return BTreeSet::new();
    }
    &concerning(before) - &concerning(after)
}

/// The moment up to which what was issued is dead, where it is ordered at `now`: no service that has not heard of it yet
/// issues anything that outlives it. It only rises.
pub(crate) fn at(before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let covered = now.plus(HEARD_BY_ALL);
    before.map_or(covered, |before| before.max(covered))
}

/// The moment that a cut-off lays.
pub(crate) fn of(declaration: &wire::Declaration) -> Option<Timestamp> {
    let Some(Object::Revocation(revocation)) = &declaration.object else { return None };
    let at = revocation.spec.as_ref()?.cut_off.as_ref()?.authorization_cutoff?;
    Timestamp::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use proptest::prelude::*;

    fn agent(class: &str, owners: &[&str]) -> wire::Declaration {
        let mut agent = samples::agent();
        let spec = agent.spec.get_or_insert_default();
        (spec.agent_class, spec.owners) = (class.into(), owners.iter().map(|one| (*one).to_owned()).collect());
        samples::declared(Object::Agent(agent))
    }

    #[test]
    fn no_two_are_spelled_alike() {
        let all = [
            Level::AgentClass("a".into()),
            Level::WholeNamespace(true),
            Level::Owner("user:a".into()),
            Level::Subject("user:a".into()),
            Level::Owner("group:a".into()),
        ];
        let spelled: BTreeSet<Named> =
            all.iter().flat_map(|level| ["", "a", "b"].map(|n| Named::of(n, level))).collect();
        assert_eq!(spelled.len(), 15);
    }

    #[test]
    fn an_agent_takes_along_what_it_leaves_and_nothing_else() {
        let before = agent("clerk", &["user:ada", "user:grace"]);
        let said = |after: &wire::Declaration| {
            let left = left(Some(&before), after).into_iter();
            left.map(|one| format!("{}/{}", one.namespace, one.spelled)).collect::<Vec<_>>()
        };
        assert!(said(&before).is_empty());
        assert!(said(&agent("clerk", &["user:ada", "user:grace", "group:all"])).is_empty());
        assert_eq!(said(&agent("clerk", &["user:ada"])), ["/owner:user:grace", "payments/owner:user:grace"]);
        assert_eq!(said(&agent("other", &["user:grace", "user:ada"])), ["payments/class:clerk"]);
        assert!(left(None, &before).is_empty());
    }

    proptest! {
        /// By whatever clock: it only rises, and covers every order by what it takes to be heard.
        #[test]
        fn a_cutoff_only_rises(orders in prop::collection::vec(-100i64..100, 1..20)) {
            let mut last = None;
            for now in &orders {
                last = Some(at(last, Timestamp::from_secs(*now)));
            }
            let latest = orders.iter().max().copied().unwrap_or_default();
            prop_assert_eq!(last, Some(Timestamp::from_secs(latest + 5)));
        }
    }
}
