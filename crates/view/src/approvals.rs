//! What people approved: by which an agent may, for a time, what some policies hold back.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::{Permission, Window};
use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_wire::registry as wire;

use crate::agent::Agent;
use crate::convert;
use crate::record::Label;
use crate::shards::Shards;
use crate::snapshot::{Snapshot, after_cutoff};

/// An approval. It gives nothing; it lifts the policies that it names for what was asked.
#[derive(Clone, Debug)]
pub struct Approval {
    /// Its name and namespace.
    pub label: Label,
    /// Whom it is for, and nobody of the same name.
    pub agent: AgentId,
    /// What it is for.
    pub permissions: Vec<Permission>,
    /// Towards whom; `None`: towards anybody.
    pub audience: Option<String>,
    /// When it holds.
    pub window: Window,
    /// The policies that it lifts.
    pub policies: Vec<Held>,
    /// In which life of the agent it was asked for.
    pub lifecycle_version: u64,
    /// When it was approved.
    pub decided: Timestamp,
    /// Who approved it, as SPIFFE IDs.
    pub approvers: BTreeSet<String>,
    /// Whether it counts once. Then it does not say by itself whether it was used: the registry does.
    pub single_use: bool,
}

/// A policy as it was when somebody asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: Arc<str>,
    /// Its version.
    pub version: u32,
}

impl Approval {
    /// Whether it is of the policy as it is now: who approved has seen no other.
    #[must_use]
    pub fn is_of(&self, policy: &Label) -> bool {
        self.policies.iter().any(|held| held.id == policy.id && held.version == policy.version)
    }

    /// Whether it counts towards one of these; `None`: that is not asked.
    #[must_use]
    pub fn is_towards(&self, audiences: Option<&[&str]>) -> bool {
        match (&self.audience, audiences) {
            (None, _) | (_, None) => true,
            (Some(own), Some(asked)) => asked.contains(&own.as_str()),
        }
    }
}

/// Every approval that was given and is not over, by agent.
#[derive(Clone, Debug)]
pub(crate) struct Approvals {
    /// The agent's id, by the approval's namespace and name.
    places: Shards<AgentId>,
    by_agent: Shards<Arc<[Arc<Approval>]>>,
}

impl Approvals {
    pub(crate) fn new() -> Self {
        Self { places: Shards::new(), by_agent: Shards::new() }
    }

    /// Takes one in as it is now. One that cannot be read, or that waits, lifts nothing.
    pub(crate) fn apply(&mut self, key: &str, from: &wire::Approval, revoked: bool) {
        let read = if revoked { Ok(None) } else { convert::approval(from) };
        let approval = read.unwrap_or_else(|why| {
            tracing::error!(kind = "Approval", key, why, "an object of the registry cannot be read; it grants nothing");
            None
        });
        if let Some(agent) = self.places.remove(key) {
            let of = |one: &Arc<Approval>| crate::snapshot::key(one.label.namespace.as_str(), one.label.name.as_str());
            let known = self.by_agent.get(agent.as_str()).cloned().unwrap_or_default();
            let rest: Arc<[_]> = known.iter().filter(|one| of(one) != key).cloned().collect();
            if rest.is_empty() {
                self.by_agent.remove(agent.as_str());
            } else {
                self.by_agent.insert(agent.as_str(), rest);
            }
        }
        if let Some(approval) = approval {
            self.places.insert(key, approval.agent.clone());
            self.suppose(approval);
        }
    }

    /// Puts one beside those that the agent has.
    pub(crate) fn suppose(&mut self, approval: Approval) {
        let agent = approval.agent.clone();
        let known = self.by_agent.get(agent.as_str()).cloned().unwrap_or_default();
        let all = known.iter().cloned().chain([Arc::new(approval)]).collect();
        self.by_agent.insert(agent.as_str(), all);
    }
}

impl Snapshot {
    /// The approvals that hold now for the agent, in the life in which it asked for them.
    pub fn approvals_of<'a>(&'a self, agent: &'a Agent, now: Timestamp) -> impl Iterator<Item = &'a Arc<Approval>> {
        let all = self.approvals.by_agent.get(agent.id.as_str()).map(|all| &**all).unwrap_or_default();
        // Nearly nobody has one; then its life is not worth looking at.
        let life = (!all.is_empty()).then(|| self.life_of(agent, now));
        all.iter().filter(move |one| {
            one.label.namespace == agent.label.namespace
                && one.window.holds_at(now.micros())
                && life.as_ref().is_some_and(|life| {
                    life.stop.is_none()
                        && life.lifecycle_version == one.lifecycle_version
                        && after_cutoff(one.decided, life.cutoff())
                })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::registry::declaration::Object;
    use legate_wire::registry::{ApprovalState, Declaration};

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn id(n: u8) -> String {
        AgentId::from_parts(1, [n; 10]).to_string()
    }

    fn meta(name: &str, id: &str) -> Option<wire::Metadata> {
        let (name, id, namespace) = (name.into(), id.into(), "pay".into());
        Some(wire::Metadata { name, id, namespace, ..wire::Metadata::default() })
    }

    fn agent(n: u8, change: impl FnOnce(&mut wire::AgentStatus)) -> Object {
        let mut status =
            wire::AgentStatus { state: wire::AgentState::Active.into(), lifecycle_version: 1, ..Default::default() };
        change(&mut status);
        let spec = wire::AgentSpec { agent_class: "bots".into(), ..wire::AgentSpec::default() };
        Object::Agent(wire::Agent {
            metadata: meta(&format!("bot-{n}"), &id(n)),
            spec: Some(spec),
            status: Some(status),
        })
    }

    fn approval(name: &str, change: impl FnOnce(&mut wire::ApprovalSpec, &mut wire::ApprovalStatus)) -> Object {
        let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
        let mut spec = wire::ApprovalSpec {
            agent: "bot-1".into(),
            agent_id: id(1),
            permissions: vec![wire::Permission { action: "pay".into(), resource: Some(resource) }],
            policies: vec![wire::HeldPolicy {
                name: "four-eyes".into(),
                id: "obj_1".into(),
                version: 2,
                ..Default::default()
            }],
            lifecycle_version: 1,
            ..wire::ApprovalSpec::default()
        };
        let mut status = wire::ApprovalStatus {
            state: ApprovalState::Approved.into(),
            not_before: at(100),
            not_after: at(200),
            decide_time: at(100),
            ..wire::ApprovalStatus::default()
        };
        change(&mut spec, &mut status);
        Object::Approval(wire::Approval { metadata: meta(name, name), spec: Some(spec), status: Some(status) })
    }

    fn names(snapshot: &Snapshot, n: u8, now: i64) -> Vec<String> {
        let agent = snapshot.agent(&AgentId::parse(&id(n)).unwrap()).unwrap();
        snapshot.approvals_of(agent, Timestamp::from_secs(now)).map(|one| one.label.name.to_string()).collect()
    }

    fn apply(snapshot: &mut Snapshot, object: Object, revoked: bool) {
        snapshot.apply(&Declaration { object: Some(object) }, revoked).unwrap();
    }

    #[test]
    fn one_holds_in_its_window_for_its_agent_and_until_it_is_taken_back() {
        let mut snapshot = Snapshot::default();
        for object in [agent(1, |_| ()), agent(2, |_| ()), approval("a", |_, _| ()), approval("b", |_, _| ())] {
            apply(&mut snapshot, object, false);
        }
        for (now, expected) in [(99, 0), (100, 2), (199, 2), (200, 0)] {
            assert_eq!(names(&snapshot, 1, now).len(), expected, "at {now}");
        }
        assert!(names(&snapshot, 2, 150).is_empty());
        apply(&mut snapshot, approval("a", |_, _| ()), true);
        assert_eq!(names(&snapshot, 1, 150), ["b"]);
        // The same again is the same.
        apply(&mut snapshot, approval("b", |_, _| ()), false);
        assert_eq!(names(&snapshot, 1, 150), ["b"]);
        apply(&mut snapshot, approval("b", |_, status| status.state = ApprovalState::Denied.into()), false);
        assert!(names(&snapshot, 1, 150).is_empty());
    }

    #[test]
    fn what_waits_was_decided_otherwise_or_cannot_be_read_lifts_nothing() {
        type Change = fn(&mut wire::ApprovalSpec, &mut wire::ApprovalStatus);
        let changes: [(&str, Change); 9] = [
            ("pending", |_, status| status.state = ApprovalState::Pending.into()),
            ("denied", |_, status| status.state = ApprovalState::Denied.into()),
            ("of a state unknown here", |_, status| status.state = 99),
            ("without an end", |_, status| status.not_after = None),
            ("without a beginning", |_, status| status.not_before = None),
            ("backwards", |_, status| status.not_after = at(50)),
            ("of no time", |_, status| status.decide_time = None),
            ("for nobody", |spec, _| spec.agent_id.clear()),
            ("of another life", |spec, _| spec.lifecycle_version = 2),
        ];
        for (what, change) in changes {
            let mut snapshot = Snapshot::default();
            apply(&mut snapshot, agent(1, |_| ()), false);
            // It was good before.
            apply(&mut snapshot, approval("a", |_, _| ()), false);
            apply(&mut snapshot, approval("a", change), false);
            assert!(names(&snapshot, 1, 150).is_empty(), "{what}");
        }
    }

    #[test]
    fn it_dies_with_the_life_in_which_it_was_asked_for() {
        type Change = fn(&mut wire::AgentStatus);
        let changes: [Change; 4] = [
            |status| status.state = wire::AgentState::Suspended.into(),
            |status| status.lifecycle_version = 2,
            |status| status.authorization_cutoff = at(100),
            |status| status.ancestors = vec![id(9)],
        ];
        for change in changes {
            let mut snapshot = Snapshot::default();
            apply(&mut snapshot, agent(1, change), false);
            apply(&mut snapshot, approval("a", |_, _| ()), false);
            assert!(names(&snapshot, 1, 150).is_empty());
        }
    }

    #[test]
    fn it_is_of_the_policy_at_that_version_and_towards_that_audience() {
        let read = |change: fn(&mut wire::ApprovalSpec, &mut wire::ApprovalStatus)| {
            let Object::Approval(approval) = approval("a", change) else { unreachable!() };
            convert::approval(&approval).unwrap().unwrap()
        };
        let label = |id: &str, version| {
            convert::label(Some(&wire::Metadata { version, ..meta("four-eyes", id).unwrap() })).unwrap()
        };
        let one = read(|_, _| ());
        assert!(one.is_of(&label("obj_1", 2)));
        assert!(!one.is_of(&label("obj_1", 3)) && !one.is_of(&label("obj_2", 2)));
        assert!(one.is_towards(None) && one.is_towards(Some(&[])) && one.is_towards(Some(&["x"])));
        let one = read(|spec, _| spec.audience = "x".into());
        assert!(one.is_towards(None) && one.is_towards(Some(&["y", "x"])));
        assert!(!one.is_towards(Some(&["y"])) && !one.is_towards(Some(&[])));
    }
}
