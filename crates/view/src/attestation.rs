//! Nodes and attestation policies: whose word about the processes of a machine is believed, and which agents they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_ids::Name;
use legate_wire::registry::AttestationSelectorType;

use crate::agent::Agent;
use crate::convert;
use crate::record::Label;
use crate::shards::Shards;
use crate::snapshot::{Snapshot, Unreadable, key};
use crate::take_in::{Effect, name_of};

/// A machine that vouches for the processes that run on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name and namespace.
    pub label: Label,
}

/// One thing that is attested of a process: what, and its value byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attested {
    /// What.
    pub of: AttestationSelectorType,
    /// Its value.
    pub value: Box<str>,
}

/// What a node has to attest of a process that is an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationPolicy {
    /// Its name and namespace.
    pub label: Label,
    /// The agent of the namespace that had the name when the policy was last written.
    pub agent: Name,
    /// All of these have to be attested.
    pub selectors: BTreeSet<Attested>,
    /// The nodes that are believed, by namespace and name; none: every node of its own namespace.
    pub nodes: BTreeSet<(Name, Name)>,
}

impl AttestationPolicy {
    /// Whether the node is believed. One that is named has to have been there when the policy was last written: another that was
    /// declared later, under a name that became free, inherits nothing.
    #[must_use]
    pub fn believes(&self, node: &Node) -> bool {
        if self.nodes.is_empty() {
            return node.label.namespace == self.label.namespace;
        }
        let named = (node.label.namespace.clone(), node.label.name.clone());
        node.label.created <= self.label.updated && self.nodes.contains(&named)
    }

    /// Whether what was attested is enough.
    #[must_use]
    pub fn is_met_by(&self, attested: &BTreeSet<Attested>) -> bool {
        // None at all would match every process, and match nothing.
        !self.selectors.is_empty() && self.selectors.is_subset(attested)
    }
}

/// All attestation policies, by namespace and name, and by the nodes of other namespaces that they name.
#[derive(Clone, Debug)]
pub(crate) struct AttestationPolicies {
    by_namespace: Shards<Arc<BTreeMap<Name, Arc<AttestationPolicy>>>>,
    /// By `NAMESPACE/NAME` of a node: the policies of other namespaces that name it.
    elsewhere: Shards<Arc<BTreeSet<(Name, Name)>>>,
}

impl AttestationPolicies {
    pub(crate) fn new() -> Self {
        Self { by_namespace: Shards::new(), elsewhere: Shards::new() }
    }

    fn get(&self, namespace: &str, name: &Name) -> Option<&Arc<AttestationPolicy>> {
        self.by_namespace.get(namespace)?.get(name)
    }

    /// Puts a policy in the place of what there was of it; `None`: it is taken out.
    fn set(&mut self, namespace: &Name, name: &Name, policy: Option<AttestationPolicy>) {
        let foreign = |policy: &AttestationPolicy| {
            let nodes = policy.nodes.iter().filter(|(of, _)| of != namespace);
            nodes.map(|(of, node)| key(of.as_str(), node.as_str())).collect::<Vec<_>>()
        };
        let own = (namespace.clone(), name.clone());
        for node in self.get(namespace.as_str(), name).map(|before| foreign(before)).unwrap_or_default() {
            let is_empty = self.elsewhere.change(&node, |all| {
                let all = Arc::make_mut(all);
                all.remove(&own);
                all.is_empty()
            });
            if is_empty {
                self.elsewhere.remove(&node);
            }
        }
        for node in policy.iter().flat_map(foreign) {
            self.elsewhere.change(&node, |all| Arc::make_mut(all).insert(own.clone()));
        }
        let is_empty = self.by_namespace.change(namespace.as_str(), |all| {
            let all = Arc::make_mut(all);
            match policy {
                Some(policy) => all.insert(name.clone(), Arc::new(policy)),
                None => all.remove(name),
            };
            all.is_empty()
        });
        if is_empty {
            self.by_namespace.remove(namespace.as_str());
        }
    }
}

impl Snapshot {
    /// A node.
    #[must_use]
    pub fn node(&self, namespace: &str, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(&key(namespace, name))
    }

    /// An attestation policy.
    #[must_use]
    pub fn attestation_policy(&self, namespace: &str, name: &Name) -> Option<&Arc<AttestationPolicy>> {
        self.attestation.get(namespace, name)
    }

    /// The attestation policies that believe the node: those of its own namespace first, each by name.
    pub fn policies_that_believe<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Arc<AttestationPolicy>> {
        let (namespace, name) = (node.label.namespace.as_str(), node.label.name.as_str());
        let own = self.attestation.by_namespace.get(namespace).into_iter().flat_map(|all| all.values());
        let named = self.attestation.elsewhere.get(&key(namespace, name)).into_iter().flat_map(|all| all.iter());
        let others = named.filter_map(|(of, name)| self.attestation.get(of.as_str(), name));
        own.chain(others).filter(|policy| policy.believes(node))
    }

    /// The agent that such a process is; `None`: it is not there, or came later, under a name that became free.
    #[must_use]
    pub fn attested_agent(&self, policy: &AttestationPolicy) -> Option<&Arc<Agent>> {
        let agent = self.agent_named(policy.label.namespace.as_str(), policy.agent.as_str());
        agent.filter(|agent| agent.label.created <= policy.label.updated)
    }

    /// Takes one in, or out. One that cannot be read believes nobody.
    pub(crate) fn apply_attestation_policy(
        &mut self,
        o: &legate_wire::registry::AttestationPolicy,
        revoked: bool,
    ) -> Result<Effect, Unreadable> {
        let place = name_of(o.metadata.as_ref());
        let unreadable = |why| Unreadable { kind: "AttestationPolicy", name: place.clone(), why };
        let label = convert::label(o.metadata.as_ref()).map_err(unreadable)?;
        let policy = (!revoked).then(|| convert::attestation_policy(o)).transpose().unwrap_or_else(|why| {
            let kind = "AttestationPolicy";
            tracing::error!(kind, key = place, why, "an object of the registry cannot be read; it grants nothing");
            None
        });
        self.attestation.set(&label.namespace, &label.name, policy);
        Ok(Effect::default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;
    use proptest::prelude::*;

    use super::*;

    fn meta(namespace: &str, name: &str, created: i64, updated: i64) -> Option<wire::Metadata> {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let (namespace, name) = (namespace.into(), name.into());
        Some(wire::Metadata {
            namespace,
            name,
            create_time: at(created),
            update_time: at(updated),
            ..Default::default()
        })
    }

    fn node(namespace: &str, name: &str, created: i64) -> Object {
        let spec = Some(wire::NodeSpec::default());
        Object::Node(wire::Node { metadata: meta(namespace, name, created, created), spec, spiffe_id: String::new() })
    }

    fn policy(namespace: &str, name: &str, nodes: &[&str], updated: i64) -> Object {
        let selector =
            wire::AttestationSelector { r#type: AttestationSelectorType::UnixUid.into(), value: "1000".into() };
        let spec = wire::AttestationPolicySpec {
            agent: "bot".into(),
            selectors: vec![selector],
            nodes: nodes.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let metadata = meta(namespace, name, 1, updated);
        Object::AttestationPolicy(wire::AttestationPolicy { metadata, spec: Some(spec) })
    }

    fn take(snapshot: &mut Snapshot, object: Object, revoked: bool) {
        snapshot.apply(&wire::Declaration { object: Some(object) }, revoked).unwrap();
    }

    fn believing(snapshot: &Snapshot, namespace: &str, name: &str) -> Vec<String> {
        let Some(node) = snapshot.node(namespace, name) else { return Vec::new() };
        let key = |p: &Arc<AttestationPolicy>| format!("{}/{}", p.label.namespace, p.label.name);
        snapshot.policies_that_believe(node).map(key).collect()
    }

    #[test]
    fn a_foreign_node_is_believed_where_it_is_named_and_nowhere_else() {
        let mut snapshot = Snapshot::default();
        for object in [
            node("pay", "vm-1", 5),
            node("ops", "vm-1", 5),
            policy("pay", "any", &[], 1),
            policy("pay", "one", &["vm-2"], 9),
            policy("pay", "both", &["vm-1", "ops/vm-1"], 9),
            policy("pay", "early", &["ops/vm-1"], 4),
        ] {
            take(&mut snapshot, object, false);
        }
        assert_eq!(believing(&snapshot, "pay", "vm-1"), ["pay/any", "pay/both"]);
        assert_eq!(
            believing(&snapshot, "ops", "vm-1"),
            ["pay/both"],
            "who administers a node elsewhere vouches for nobody here"
        );
        // Declared anew it is another node, and no policy that names it was written since.
        take(&mut snapshot, node("ops", "vm-1", 5), true);
        assert!(snapshot.node("ops", "vm-1").is_none());
        take(&mut snapshot, node("ops", "vm-1", 10), false);
        assert_eq!(believing(&snapshot, "ops", "vm-1"), Vec::<String>::new());
        take(&mut snapshot, policy("pay", "both", &["ops/vm-1"], 10), false);
        assert_eq!(believing(&snapshot, "ops", "vm-1"), ["pay/both"]);
        take(&mut snapshot, policy("pay", "both", &["ops/vm-1"], 10), true);
        assert_eq!(believing(&snapshot, "ops", "vm-1"), Vec::<String>::new());
        assert!(snapshot.attestation.elsewhere.get("ops/vm-2").is_none());
    }

    #[test]
    fn one_that_cannot_be_read_believes_nobody() {
        let mut snapshot = Snapshot::default();
        take(&mut snapshot, node("pay", "vm-1", 1), false);
        take(&mut snapshot, policy("pay", "any", &[], 1), false);
        for bad in ["a/b/c", "", "/vm-1", "UPPER", "ops/"] {
            take(&mut snapshot, policy("pay", "any", &[bad], 1), false);
            assert_eq!(believing(&snapshot, "pay", "vm-1"), Vec::<String>::new(), "{bad:?}");
        }
        let Object::AttestationPolicy(mut unknown) = policy("pay", "any", &[], 1) else { unreachable!() };
        unknown.spec.as_mut().unwrap().selectors[0].r#type = 99;
        take(&mut snapshot, Object::AttestationPolicy(unknown), false);
        assert_eq!(believing(&snapshot, "pay", "vm-1"), Vec::<String>::new(), "what is asked for is not known here");
    }

    fn attested() -> impl Strategy<Value = BTreeSet<Attested>> {
        let one = (1i32..4, "[ab]").prop_map(|(of, value)| Attested {
            of: AttestationSelectorType::try_from(of).unwrap(),
            value: value.into(),
        });
        prop::collection::btree_set(one, 0..5)
    }

    proptest! {
        /// Whatever comes in whatever order: the index says what looking at every policy says.
        #[test]
        fn the_index_finds_what_every_policy_says(
            steps in prop::collection::vec(
                (prop::bool::ANY, "(a|b)", "[pq]", prop::collection::vec("([xy]|(a|b)/[xy])", 0..3), 0i64..6), 0..24,
            ),
        ) {
            let mut snapshot = Snapshot::default();
            for (at, (namespace, name)) in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")].into_iter().enumerate() {
                take(&mut snapshot, node(namespace, name, i64::try_from(at).unwrap()), false);
            }
            for (revoked, namespace, name, nodes, updated) in steps {
                let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
                take(&mut snapshot, policy(&namespace, &name, &nodes, updated), revoked);
            }
            for (namespace, name) in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")] {
                let node = snapshot.node(namespace, name).unwrap();
                let mut expected: Vec<String> = ["a", "b"].iter().flat_map(|of| {
                    snapshot.attestation.by_namespace.get(of).into_iter().flat_map(|all| all.values())
                }).filter(|policy| policy.believes(node)).map(|p| key(p.label.namespace.as_str(), p.label.name.as_str())).collect();
                expected.sort();
                let mut found = believing(&snapshot, namespace, name);
                found.sort();
                prop_assert_eq!(found, expected);
            }
        }

        /// More that is attested never makes a process less of an agent, and nothing that is missing makes it one.
        #[test]
        fn all_that_is_asked_for_has_to_be_attested(wanted in attested(), is in attested()) {
            let Object::AttestationPolicy(wire) = policy("pay", "any", &[], 1) else { unreachable!() };
            let policy = AttestationPolicy { selectors: wanted.clone(), ..convert::attestation_policy(&wire).unwrap() };
            let all = !wanted.is_empty() && wanted.iter().all(|one| is.contains(one));
            prop_assert_eq!(policy.is_met_by(&is), all);
            let more: BTreeSet<Attested> = is.union(&wanted).cloned().collect();
            prop_assert_eq!(policy.is_met_by(&more), !wanted.is_empty());
        }
    }
}
