//! Stop orders: how one is told and spelled, and what an agent has of one when it leaves whom that names.

use legate_clock::Timestamp;
use legate_wire::registry as wire;
use prost::Message as _;
use wire::declaration::Object;
use wire::stop_order_spec::Level;

use super::standing::{self, HEARD_BY_ALL};

/// Whom an order names.
pub(crate) fn level_of(declaration: &wire::Declaration) -> Option<&Level> {
    let Some(Object::StopOrder(order)) = &declaration.object else { return None };
    order.spec.as_ref()?.level.as_ref()
}

/// Whom it names, for people.
pub(crate) fn words(level: &Level) -> String {
    match level {
        Level::AgentId(id) => format!("agent {id}"),
        Level::AgentClass(name) => format!("class {name}"),
        Level::Group(group) => format!("group {}", group.name),
        Level::Owner(owner) => format!("owner {owner}"),
        Level::WholeNamespace(_) => "namespace".to_owned(),
        Level::Everywhere(_) => "everybody".to_owned(),
    }
}

/// Whom an order names, and the id of the agent where that is one.
pub(crate) fn told(order: &wire::StopOrder) -> (String, String) {
    let level = order.spec.as_ref().and_then(|spec| spec.level.as_ref());
    let agent = match level {
        Some(Level::AgentId(id)) => id.clone(),
        _ => String::new(),
    };
    (level.map(words).unwrap_or_default(), agent)
}

/// What the name of an order begins with, and what of whom it names tells it from others that begin so; injective.
pub(crate) fn spelled(level: &Level) -> (&'static str, Vec<u8>) {
    match level {
        Level::AgentId(id) => ("agent", id.clone().into_bytes()),
        Level::AgentClass(name) => ("class", name.clone().into_bytes()),
        // Stopped as it was at another time it is another order: neither narrows the other.
        Level::Group(group) => (GROUP, group.encode_to_vec()),
        Level::Owner(owner) => ("owner", owner.clone().into_bytes()),
        Level::WholeNamespace(_) => ("namespace", Vec::new()),
        Level::Everywhere(_) => ("everywhere", Vec::new()),
    }
}

/// What the names of orders on groups begin with.
pub(crate) const GROUP: &str = "group";

/// The orders that can name an agent, each with its namespace, but those on groups.
pub(crate) fn concerning(agent: &wire::Agent) -> Vec<(String, Level)> {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let spec = agent.spec.clone().unwrap_or_default();
    let namespace = metadata.namespace;
    let mut all = vec![
        (namespace.clone(), Level::AgentId(metadata.id)),
        (namespace.clone(), Level::AgentClass(spec.agent_class)),
        (namespace.clone(), Level::WholeNamespace(true)),
        (String::new(), Level::Everywhere(true)),
    ];
    for owner in spec.owners {
        all.extend([String::new(), namespace.clone()].map(|place| (place, Level::Owner(owner.clone()))));
    }
    all
}

/// Up to when what was issued is dead to an agent that leaves whom this order names: a stop covers what a service issued that had
/// not heard of it yet.
pub(crate) fn cutoff_on_leaving(declaration: &wire::Declaration) -> Option<Timestamp> {
    let status = standing::status_of(declaration)?.as_ref()?;
    let stopped = status.state_time.and_then(|at| Timestamp::try_from(at).ok()).filter(|_| status.suspended);
    standing::cutoff_of(declaration).max(stopped.map(|at| at.plus(HEARD_BY_ALL)))
}

/// Whether what an order can name an agent by is the same: what is declared of it, and its labels.
pub(crate) fn is_named_alike(one: &wire::Agent, other: &wire::Agent) -> bool {
    let labels = |agent: &wire::Agent| agent.metadata.as_ref().map(|m| m.labels.clone());
    one.spec == other.spec && labels(one) == labels(other)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_are_spelled_alike() {
        let group = |name: &str, selector: &str, seconds: i64| {
            let spec = wire::GroupSpec { selector: selector.into(), ..wire::GroupSpec::default() };
            let (name, update_time) = (name.into(), samples::at(seconds));
            Level::Group(wire::StoppedGroup { name, spec: Some(spec), update_time })
        };
        let all = [
            Level::AgentId("a".into()),
            Level::AgentClass("a".into()),
            Level::AgentClass("b".into()),
            Level::Owner("user:a".into()),
            Level::Owner("group:a".into()),
            Level::WholeNamespace(true),
            Level::Everywhere(true),
            group("a", "model = x", 1),
            group("a", "model = y", 1),
            group("a", "model = x", 2),
            group("b", "model = x", 1),
        ];
        assert_eq!(all.iter().map(spelled).collect::<BTreeSet<_>>().len(), all.len());
        let orders = [samples::stop_order()];
        assert_eq!(orders.iter().map(told).collect::<Vec<_>>(), [("group clerks".to_owned(), String::new())]);
    }

    #[test]
    fn an_agent_that_leaves_a_standing_order_is_cut_off_by_what_it_takes_to_be_heard() {
        let mut order = samples::declared(Object::StopOrder(samples::stop_order()));
        assert_eq!(cutoff_on_leaving(&order), None, "it never stood");
        let mut turned = |turn, secs| {
            let status = standing::status_mut(&mut order);
            let done = status.map(|status| standing::turn(status, turn, Timestamp::from_secs(secs), "ada", "odd"));
            assert_eq!(done, Some(Ok(())));
            cutoff_on_leaving(&order)
        };
        assert_eq!(turned(standing::Turn::Suspend, 10), Some(Timestamp::from_secs(15)));
        assert_eq!(turned(standing::Turn::Resume, 100), Some(Timestamp::from_secs(100)));
    }
}
