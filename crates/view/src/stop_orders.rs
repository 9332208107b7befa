//! Stop orders: whom they name, and how an agent stands whom some of them name.

use std::collections::BTreeMap;
use std::sync::Arc;

use legate_ids::{AgentId, Name};

use crate::agent::Agent;
use crate::groups::Group;
use crate::record::Standing;
use crate::snapshot::{Snapshot, key};

/// Whom a stop order names.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// Every agent.
    Everywhere,
    /// One agent.
    Agent(AgentId),
    /// Every agent of a class: its namespace and name.
    Class(Name, Name),
    /// Every agent of a namespace.
    Namespace(Name),
    /// Every agent of an owner, in one namespace or in every one.
    Owner(Option<Name>, String),
    /// Every agent of a group as it was when it was stopped; under the name of the order, since a group can be stopped as it was at
    /// several times.
    Group(Name, Box<Group>),
}

/// Every order that stands or left a cut-off. There are few, and on most days none.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopOrders(Arc<Orders>);

#[derive(Clone, Debug, Default)]
struct Orders {
    everywhere: Option<Standing>,
    /// By what they name, injective.
    by_name: BTreeMap<String, Standing>,
    /// By namespace and the name of the order.
    groups: BTreeMap<Name, BTreeMap<Name, (Group, Standing)>>,
}

/// One of the orders that stop an agent, to be told of and to be supposed away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopOrder {
    /// The one for every agent.
    Everywhere,
    /// One that names the agent itself.
    Agent(AgentId),
    /// One that names its class: the namespace and the name.
    Class(Name, Name),
    /// One that names its namespace.
    Namespace(Name),
    /// One that names an owner of it, in one namespace or in every one.
    Owner(Option<Name>, String),
    /// One that names a group to which it belonged: the namespace, the name of the order and that of the group.
    Group(Name, Name, Name),
}

impl StopOrder {
    /// What it is found by among those that name no group.
    fn name(&self) -> Option<String> {
        match self {
            Self::Everywhere | Self::Group(..) => None,
            Self::Agent(id) => Some(of_agent(id)),
            Self::Class(namespace, class) => Some(of_class(namespace.as_str(), class.as_str())),
            Self::Namespace(name) => Some(of_namespace(name.as_str())),
            Self::Owner(namespace, owner) => Some(of_owner(namespace.as_ref().map_or("", Name::as_str), owner)),
        }
    }
}

fn of_agent(id: &AgentId) -> String {
    format!("agent {id}")
}

fn of_class(namespace: &str, class: &str) -> String {
    format!("class {}", key(namespace, class))
}

fn of_namespace(name: &str) -> String {
    format!("namespace {name}")
}

fn of_owner(namespace: &str, owner: &str) -> String {
    format!("owner {}", key(namespace, owner))
}

impl StopOrders {
    /// Takes one in, or, without a standing, out.
    pub(crate) fn apply(&mut self, named: Named, standing: Option<Standing>) {
        let orders = Arc::make_mut(&mut self.0);
        let name = match named {
            Named::Everywhere => {
                orders.everywhere = standing;
                return;
            }
            Named::Group(order, group) => {
                let of_namespace = orders.groups.entry(group.label.namespace.clone()).or_default();
                match standing {
                    Some(standing) => drop(of_namespace.insert(order, (*group, standing))),
                    None => drop(of_namespace.remove(&order)),
                }
                return;
            }
            Named::Agent(id) => of_agent(&id),
            Named::Class(namespace, class) => of_class(namespace.as_str(), class.as_str()),
            Named::Namespace(name) => of_namespace(name.as_str()),
            Named::Owner(namespace, owner) => of_owner(namespace.as_ref().map_or("", Name::as_str), &owner),
        };
        match standing {
            Some(standing) => drop(orders.by_name.insert(name, standing)),
            None => drop(orders.by_name.remove(&name)),
        }
    }

    /// The orders that name an agent and stand.
    fn standing_on(&self, agent: &Agent) -> Vec<StopOrder> {
        let orders = &*self.0;
        let namespace = &agent.label.namespace;
        let owners = agent.people.owners.iter();
        let owners = owners
            .flat_map(|owner| [None, Some(namespace.clone())].map(|place| StopOrder::Owner(place, owner.to_string())));
        let named = [
            StopOrder::Agent(agent.id.clone()),
            StopOrder::Class(namespace.clone(), agent.class.clone()),
            StopOrder::Namespace(namespace.clone()),
        ];
        let stands =
            |one: &StopOrder| one.name().and_then(|name| orders.by_name.get(&name)).is_some_and(|s| s.suspended);
        let mut found: Vec<StopOrder> = named.into_iter().chain(owners).filter(stands).collect();
        found.extend(orders.everywhere.filter(|one| one.suspended).map(|_| StopOrder::Everywhere));
        for (order, (group, standing)) in orders.groups.get(namespace).into_iter().flatten() {
            if standing.suspended && group.has(agent) {
                found.push(StopOrder::Group(namespace.clone(), order.clone(), group.label.name.clone()));
            }
        }
        found
    }

    /// Takes one for resumed; what it cut off stays so.
    pub(crate) fn suppose_resumed(&mut self, order: &StopOrder) {
        let orders = Arc::make_mut(&mut self.0);
        let standing = match order {
            StopOrder::Everywhere => orders.everywhere.as_mut(),
            StopOrder::Group(namespace, order, _) => {
                orders.groups.get_mut(namespace).and_then(|all| all.get_mut(order)).map(|(_, standing)| standing)
            }
            named => named.name().and_then(|name| orders.by_name.get_mut(&name)),
        };
        if let Some(standing) = standing {
            standing.suspended = false;
        }
    }

    /// How an agent stands by all orders that name it: stopped where one stands, cut off by the latest.
    fn standing(&self, agent: &Agent) -> Standing {
        let orders = &*self.0;
        let mut standing = orders.everywhere.unwrap_or_default();
        let mut add = |one: Standing| {
            standing.suspended |= one.suspended;
            standing.cutoff = standing.cutoff.max(one.cutoff);
        };
        let namespace = agent.label.namespace.as_str();
        if !orders.by_name.is_empty() {
            let owners = agent.people.owners.iter();
            let owners = owners.flat_map(|owner| ["", namespace].map(|place| of_owner(place, owner)));
            let places = [of_agent(&agent.id), of_class(namespace, agent.class.as_str()), of_namespace(namespace)];
            for name in places.into_iter().chain(owners) {
                orders.by_name.get(&name).copied().into_iter().for_each(&mut add);
            }
        }
        for (group, one) in orders.groups.get(&agent.label.namespace).into_iter().flat_map(BTreeMap::values) {
            if group.has(agent) {
                add(*one);
            }
        }
        standing
    }
}

impl Snapshot {
    /// How the agent stands by the stop orders that name it, without those that name whoever is above it.
    #[must_use]
    pub fn order_on(&self, agent: &Agent) -> Standing {
        self.stop_orders.standing(agent)
    }

    /// The stop orders that stand and name the agent, without those that name whoever is above it.
    #[must_use]
    pub fn orders_that_stop(&self, agent: &Agent) -> Vec<StopOrder> {
        self.stop_orders.standing_on(agent)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_clock::Timestamp;
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;
    use proptest::prelude::*;
    use wire::stop_order_spec::Level;

    use super::*;
    use crate::life::Stop;

    fn at(secs: i64) -> prost_types::Timestamp {
        Timestamp::from_secs(secs).into()
    }

    fn meta(namespace: &str, name: &str, id: &str) -> Option<wire::Metadata> {
        let (name, namespace, id) = (name.into(), namespace.into(), id.into());
        Some(wire::Metadata { name, namespace, id, create_time: Some(at(10)), ..wire::Metadata::default() })
    }

    fn id(n: u8) -> AgentId {
        AgentId::from_parts(1, [n; 10])
    }

    /// `bot-N` of class `class-C`, of owner `user:O`, with the label team=T, made by the agent before it where it is said.
    fn agent(n: u8, class: &str, owner: &str, team: &str, made_by: Option<u8>) -> Object {
        let mut metadata = meta("pay", &format!("bot-{n}"), id(n).as_str()).unwrap();
        metadata.labels.insert("team".into(), team.into());
        let spec =
            wire::AgentSpec { agent_class: class.into(), owners: vec![owner.into()], ..wire::AgentSpec::default() };
        let status = wire::AgentStatus {
            state: wire::AgentState::Active.into(),
            ancestors: made_by.map(|n| id(n).to_string()).into_iter().collect(),
            ..wire::AgentStatus::default()
        };
        Object::Agent(wire::Agent { metadata: Some(metadata), spec: Some(spec), status: Some(status) })
    }

    fn order(namespace: &str, name: &str, level: Level, suspended: bool, cutoff: i64) -> Object {
        let authorization_cutoff = Some(at(cutoff));
        let status = wire::StandingStatus { suspended, authorization_cutoff, ..wire::StandingStatus::default() };
        let spec = Some(wire::StopOrderSpec { level: Some(level) });
        Object::StopOrder(wire::StopOrder { metadata: meta(namespace, name, "obj_1"), spec, status: Some(status) })
    }

    fn group(selector: &str, agents: &[&str], updated: i64) -> Level {
        let agents = agents.iter().map(ToString::to_string).collect();
        let spec = wire::GroupSpec { selector: selector.into(), agents, ..wire::GroupSpec::default() };
        Level::Group(wire::StoppedGroup { name: "few".into(), spec: Some(spec), update_time: Some(at(updated)) })
    }

    fn snapshot(objects: Vec<Object>) -> Snapshot {
        let all: Vec<_> = objects.into_iter().map(|o| wire::Declaration { object: Some(o) }).collect();
        Snapshot::of(&all).unwrap()
    }

    fn agents() -> Vec<Object> {
        vec![
            agent(0, "bots", "user:a", "red", None),
            agent(1, "bots", "user:b", "blue", None),
            agent(2, "others", "user:a", "blue", None),
            agent(3, "others", "user:c", "green", Some(0)),
        ]
    }

    /// Which of the four work.
    fn working(snapshot: &Snapshot) -> Vec<u8> {
        let life = |n: &u8| snapshot.life_of(snapshot.agent(&id(*n)).unwrap(), Timestamp::from_secs(100));
        (0..4).filter(|n| life(n).stop.is_none()).collect()
    }

    fn every_level() -> Vec<(&'static str, Level, Vec<u8>)> {
        vec![
            ("pay", Level::AgentId(id(0).to_string()), vec![1, 2]),
            ("pay", Level::AgentId(id(3).to_string()), vec![0, 1, 2]),
            ("pay", Level::AgentClass("bots".into()), vec![2]),
            ("sales", Level::AgentClass("bots".into()), vec![0, 1, 2, 3]),
            ("pay", Level::Owner("user:a".into()), vec![1]),
            ("", Level::Owner("user:b".into()), vec![0, 2, 3]),
            ("sales", Level::Owner("user:a".into()), vec![0, 1, 2, 3]),
            ("pay", Level::WholeNamespace(true), vec![]),
            ("sales", Level::WholeNamespace(true), vec![0, 1, 2, 3]),
            ("", Level::Everywhere(true), vec![]),
            ("pay", group("labels.team = blue", &[], 10), vec![0, 3]),
            ("pay", group("", &["bot-1"], 10), vec![0, 2, 3]),
            // It lists a name that was another agent's then.
            ("pay", group("", &["bot-1"], 9), vec![0, 1, 2, 3]),
            ("sales", group("labels.team = blue", &["bot-1"], 10), vec![0, 1, 2, 3]),
        ]
    }

    #[test]
    fn an_order_stops_whom_it_names_and_whoever_they_made() {
        for (namespace, level, left) in every_level() {
            let standing = order(namespace, "one", level.clone(), true, 50);
            let stopped = snapshot([agents(), vec![standing.clone()]].concat());
            assert_eq!(working(&stopped), left, "{level:?} in {namespace:?}");
            // Whatever comes first.
            assert_eq!(working(&snapshot([vec![standing], agents()].concat())), left, "{level:?}");
            // Taken back, it leaves its cut-off and stops nobody.
            let resumed = snapshot([agents(), vec![order(namespace, "one", level.clone(), false, 60)]].concat());
            assert_eq!(working(&resumed), [0, 1, 2, 3]);
            for n in 0..4 {
                let life = resumed.life_of(resumed.agent(&id(n)).unwrap(), Timestamp::from_secs(100));
                let cut = (!left.contains(&n)).then(|| Timestamp::from_secs(60));
                assert_eq!(life.cutoff(), cut, "{level:?} and bot-{n}");
            }
        }
        let stopped = snapshot([agents(), vec![order("", "one", Level::Everywhere(true), true, 50)]].concat());
        let life = |n| stopped.life_of(stopped.agent(&id(n)).unwrap(), Timestamp::from_secs(100)).stop;
        assert_eq!((life(0), life(3)), (Some(Stop::Order), Some(Stop::Order)));
    }

    #[test]
    fn an_order_that_cannot_be_read_stops_the_view() {
        let sound = order("pay", "one", Level::AgentClass("bots".into()), true, 50);
        let broken = [
            order("pay", "one", Level::AgentClass("No Name".into()), true, 50),
            order("", "one", Level::AgentClass("bots".into()), true, 50),
            order("", "one", Level::WholeNamespace(true), true, 50),
            order("pay", "one", Level::AgentId("bot".into()), true, 50),
            order("pay", "one", group("nonsense = 1", &[], 10), true, 50),
            order("pay", "one", Level::Group(wire::StoppedGroup::default()), true, 50),
            Object::StopOrder(wire::StopOrder { metadata: meta("pay", "one", "obj_1"), spec: None, status: None }),
        ];
        let apply =
            |object: &Object| Snapshot::default().apply(&wire::Declaration { object: Some(object.clone()) }, false);
        assert!(apply(&sound).unwrap().takes_away);
        for object in broken {
            assert!(apply(&object).is_err(), "{object:?}");
        }
    }

    proptest! {
        /// Whatever other orders stand: one that is made and taken back leaves everybody working or not as before, and nothing that
        /// was issued before comes back.
        #[test]
        fn what_is_stopped_and_resumed_is_as_before(
            standing in prop::collection::vec((0usize..14, any::<bool>(), 0i64..80), 0..6),
            (n, cutoff) in (0usize..14, 0i64..90),
        ) {
            let made = |(place, (n, suspended, cutoff)): (usize, (usize, bool, i64))| {
                let (namespace, level, _) = every_level()[n].clone();
                // Orders on the same are one object.
                let name = if matches!(level, Level::Group(_)) { format!("group-{n}") } else { format!("o-{place}") };
                order(namespace, &name, level, suspended, cutoff)
            };
            let before = snapshot(agents().into_iter().chain(standing.into_iter().enumerate().map(made)).collect());
            let (namespace, level, _) = every_level()[n].clone();
            let own = if matches!(level, Level::Group(_)) { format!("group-{n}") } else { "own".into() };
            let known = |snapshot: &Snapshot| {
                let mut snapshot = snapshot.clone();
                // As if nobody had ever given the order that is made now.
                let none = order(namespace, &own, level.clone(), false, 0);
                snapshot.apply(&wire::Declaration { object: Some(none) }, true).unwrap();
                snapshot
            };
            let before = known(&before);
            let mut after = before.clone();
            for suspended in [true, false] {
                let object = Some(order(namespace, &own, level.clone(), suspended, cutoff));
                after.apply(&wire::Declaration { object }, false).unwrap();
                if suspended {
                    let still = working(&after);
                    prop_assert!(still.iter().all(|n| working(&before).contains(n)));
                }
            }
            prop_assert_eq!(working(&after), working(&before));
            for n in 0..4 {
                let cut = |s: &Snapshot| s.life_of(s.agent(&id(n)).unwrap(), Timestamp::from_secs(100)).cutoff();
                prop_assert!(cut(&after) >= cut(&before));
            }
        }
    }
}
