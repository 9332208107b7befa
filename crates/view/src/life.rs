//! Whether an agent works now, and since when: its own state and end, those of its class and namespace, stop orders, and their cut-offs.

use legate_clock::Timestamp;

use crate::agent::{Agent, AgentState};
use crate::record::Standing;
use crate::snapshot::{Snapshot, key};

/// What keeps an agent from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// It is in a state in which nothing works.
    State(AgentState),
    /// Its time has run out.
    Expired,
    /// Its namespace is suspended.
    Namespace,
    /// Its class is suspended.
    Class,
    /// A stop order that stands names it.
    Order,
    /// Whoever made it, or is further above it, does not work or is not known.
    Ancestor,
}

/// Where an agent stands, with everything above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// What keeps it from working; `None`: it works.
    pub stop: Option<Stop>,
    /// The agent's own cut-off.
    pub own_cutoff: Option<Timestamp>,
    /// Its class's cut-off.
    pub class_cutoff: Option<Timestamp>,
    /// Its namespace's cut-off.
    pub namespace_cutoff: Option<Timestamp>,
    /// The latest cut-off of its owners.
    pub owners_cutoff: Option<Timestamp>,
    /// The latest cut-off of stop orders that name it.
    pub orders_cutoff: Option<Timestamp>,
    /// The latest cut-off of whoever is above it.
    pub ancestors_cutoff: Option<Timestamp>,
    /// Its own lifecycle version and those of whoever is above it, added up. It rises with each step in one of these
    /// lives; what carries another number is dead.
    pub lifecycle_version: u64,
    /// When the first of them ends by itself.
    pub ends: Option<Timestamp>,
}

impl Life {
    /// The latest cut-off: nothing issued at or before it works.
    #[must_use]
    pub fn cutoff(&self) -> Option<Timestamp> {
        let declared = self.own_cutoff.max(self.class_cutoff).max(self.namespace_cutoff);
        declared.max(self.owners_cutoff).max(self.orders_cutoff).max(self.ancestors_cutoff)
    }
}

impl Snapshot {
    /// Where the agent stands at `now`. Whoever lets an agent do or have anything asks here, and nowhere else.
    #[must_use]
    pub fn life_of(&self, agent: &Agent, now: Timestamp) -> Life {
        let mut life = self.life_alone(agent, now);
        for ancestor in self.ancestors_of(agent) {
            let Some(ancestor) = ancestor else {
                life.stop = life.stop.or(Some(Stop::Ancestor));
                continue;
            };
            let above = self.life_alone(ancestor, now);
            life.stop = life.stop.or(above.stop.map(|_| Stop::Ancestor));
            life.ancestors_cutoff = life.ancestors_cutoff.max(above.cutoff());
            life.lifecycle_version = life.lifecycle_version.saturating_add(above.lifecycle_version);
            life.ends = life.ends.into_iter().chain(above.ends).min();
        }
        life
    }

    /// The same as if nobody had made it.
    fn life_alone(&self, agent: &Agent, now: Timestamp) -> Life {
        let namespace = agent.label.namespace.as_str();
        let place = key(namespace, agent.class.as_str());
        let (class, class_cutoff) = (self.standing(&place), self.revocations.cutoff(&place));
        let (namespace, namespace_cutoff) = (self.standing(namespace), self.revocations.cutoff(namespace));
        let order = self.order_on(agent);
        // The agent's own state first: what is retired does not come back with its class.
        let stop = match agent.state {
            AgentState::Active if agent.expires.is_some_and(|end| end <= now) => Some(Stop::Expired),
            AgentState::Active if namespace.suspended => Some(Stop::Namespace),
            AgentState::Active if class.suspended => Some(Stop::Class),
            AgentState::Active if order.suspended => Some(Stop::Order),
            AgentState::Active => None,
            state => Some(Stop::State(state)),
        };
        Life {
            stop,
            own_cutoff: agent.cutoff,
            class_cutoff: class.cutoff.max(class_cutoff),
            namespace_cutoff: namespace.cutoff.max(namespace_cutoff),
            owners_cutoff: self.revocations.cutoff_of_owners(agent),
            orders_cutoff: order.cutoff,
            ancestors_cutoff: None,
            lifecycle_version: agent.lifecycle_version,
            ends: agent.expires,
        }
    }

    /// The standing of a class (`NAMESPACE/NAME`) or of a namespace (its name).
    fn standing(&self, key: &str) -> Standing {
        self.standings().get(key).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_ids::AgentId;
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::after_cutoff;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn meta(namespace: &str, name: &str, id: &str) -> Option<wire::Metadata> {
        let (name, namespace, id) = (name.into(), namespace.into(), id.into());
        Some(wire::Metadata { name, namespace, id, ..wire::Metadata::default() })
    }

    fn id() -> AgentId {
        AgentId::from_parts(1, [1; 10])
    }

    fn status(suspended: bool, cutoff: Option<i64>) -> Option<wire::StandingStatus> {
        let authorization_cutoff = cutoff.map(|c| at(c).into());
        Some(wire::StandingStatus { suspended, authorization_cutoff, ..wire::StandingStatus::default() })
    }

    fn class(name: &str, suspended: bool, cutoff: Option<i64>) -> Object {
        let status = status(suspended, cutoff);
        let metadata = meta("pay", name, "obj_1");
        Object::AgentClass(wire::AgentClass { metadata, spec: Some(wire::AgentClassSpec::default()), status })
    }

    fn namespace(name: &str, suspended: bool, cutoff: Option<i64>) -> Object {
        let status = status(suspended, cutoff);
        Object::Namespace(wire::Namespace { metadata: meta("", name, "obj_2"), spec: None, status })
    }

    fn agent(state: wire::AgentState, cutoff: Option<i64>, expires: Option<i64>) -> Object {
        Object::Agent(wire::Agent {
            metadata: meta("pay", "bot", id().as_str()),
            spec: Some(wire::AgentSpec {
                agent_class: "bots".into(),
                expire_time: expires.map(|e| at(e).into()),
                ..wire::AgentSpec::default()
            }),
            status: Some(wire::AgentStatus {
                state: state.into(),
                authorization_cutoff: cutoff.map(|c| at(c).into()),
                ..wire::AgentStatus::default()
            }),
        })
    }

    fn snapshot(objects: &[Object]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for object in objects {
            snapshot.apply(&wire::Declaration { object: Some(object.clone()) }, false).unwrap();
        }
        snapshot
    }

    fn life(snapshot: &Snapshot, now: i64) -> Life {
        snapshot.life_of(snapshot.agent(&id()).unwrap(), at(now))
    }

    #[test]
    fn what_is_above_stops_everything_below_and_nothing_beside() {
        let active = agent(wire::AgentState::Active, None, Some(100));
        let stop = |more: &[Object], now| life(&snapshot(&[std::slice::from_ref(&active), more].concat()), now).stop;
        assert_eq!(stop(&[], 50), None);
        assert_eq!(stop(&[], 100), Some(Stop::Expired));
        assert_eq!(stop(&[class("bots", true, None)], 50), Some(Stop::Class));
        assert_eq!(stop(&[namespace("pay", true, None)], 50), Some(Stop::Namespace));
        assert_eq!(stop(&[class("bots", true, None), namespace("pay", true, None)], 50), Some(Stop::Namespace));
        assert_eq!(stop(&[class("others", true, Some(9)), namespace("sales", true, Some(9))], 50), None);
        let retired = agent(wire::AgentState::Retired, None, None);
        let retired = snapshot(&[retired, class("bots", true, None)]);
        assert_eq!(life(&retired, 50).stop, Some(Stop::State(AgentState::Retired)));
    }

    #[test]
    fn a_class_that_is_taken_back_leaves_nothing_behind() {
        let mut snapshot = snapshot(&[agent(wire::AgentState::Active, None, None), class("bots", true, Some(9))]);
        let object = Some(class("bots", true, Some(9)));
        let effect = snapshot.apply(&wire::Declaration { object }, true).unwrap();
        assert!(!effect.takes_away);
        assert_eq!(life(&snapshot, 50).cutoff(), None);
    }

    #[test]
    fn a_standing_that_cannot_be_read_stops_the_view() {
        let odd = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        let status = Some(wire::StandingStatus { authorization_cutoff: Some(odd), ..wire::StandingStatus::default() });
        let class = wire::AgentClass { metadata: meta("pay", "bots", "obj_1"), spec: None, status: status.clone() };
        let class = wire::Declaration { object: Some(Object::AgentClass(class)) };
        assert!(Snapshot::default().apply(&class, false).is_err());
        let namespace = wire::Namespace { metadata: meta("", "pay", "obj_1"), spec: None, status };
        let namespace = wire::Declaration { object: Some(Object::Namespace(namespace)) };
        assert!(Snapshot::default().apply(&namespace, false).is_err());
        assert!(Snapshot::default().apply(&namespace, true).is_ok(), "what is taken back stops nobody");
    }

    #[test]
    fn a_standing_takes_away_and_its_change_is_told() {
        let mut snapshot = snapshot(&[agent(wire::AgentState::Active, None, None)]);
        let mut takes_away =
            |object| snapshot.apply(&wire::Declaration { object: Some(object) }, false).unwrap().takes_away;
        assert!(!takes_away(class("bots", false, None)));
        assert!(takes_away(class("bots", true, Some(5))));
        // Suspended and resumed between two looks, it has a cut-off all the same.
        assert!(takes_away(class("bots", false, Some(5))));
        assert!(takes_away(namespace("pay", true, Some(5))));
        // An agent that comes to be below what is suspended.
        assert!(takes_away(agent(wire::AgentState::Active, None, None)));
    }

    fn maybe() -> impl Strategy<Value = Option<i64>> {
        prop::option::of(-50i64..50)
    }

    proptest! {
        /// In whatever order they come: it works where nothing above it is stopped, and what works was issued after
        /// every cut-off above it.
        #[test]
        fn the_effective_cutoff_is_the_latest_of_all(
            (own, of_class, of_namespace) in (maybe(), maybe(), maybe()),
            (class_stopped, namespace_stopped, is_active) in any::<(bool, bool, bool)>(),
            order in Just(vec![0usize, 1, 2, 3, 4]).prop_shuffle(),
            (expires, now, issued) in (maybe(), -60i64..60, -60i64..60),
        ) {
            let state = if is_active { wire::AgentState::Active } else { wire::AgentState::Suspended };
            let all = [
                agent(state, own, expires),
                class("bots", class_stopped, of_class),
                namespace("pay", namespace_stopped, of_namespace),
                class("others", !class_stopped, Some(49)),
                namespace("sales", !namespace_stopped, Some(49)),
            ];
            let ordered: Vec<Object> = order.iter().map(|n| all[*n].clone()).collect();
            let snapshot = snapshot(&ordered);
            let life = life(&snapshot, now);
            let over = expires.is_some_and(|end| end <= now);
            prop_assert_eq!(life.stop.is_none(), is_active && !class_stopped && !namespace_stopped && !over);
            let after_each = [own, of_class, of_namespace].into_iter().flatten().all(|cut| issued > cut);
            prop_assert_eq!(after_cutoff(at(issued), life.cutoff()), after_each);
        }
    }
}
