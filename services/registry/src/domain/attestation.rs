//! Attestation policies held against each other: one process must not be two agents.

use std::collections::{BTreeSet, HashMap};

use legate_wire::registry as wire;
use wire::declaration::Object;

/// What has to be attested of a process, and the agent that it then is.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    agent: String,
    selectors: BTreeSet<(i32, String)>,
    /// As `NAMESPACE/NAME`; none: all of its own namespace.
    nodes: BTreeSet<String>,
    namespace: String,
}

impl Policy {
    /// Reads a declaration; `None` for what is no attestation policy.
    pub(crate) fn read(declaration: &wire::Declaration) -> Option<Self> {
        let Some(Object::AttestationPolicy(policy)) = &declaration.object else { return None };
        let spec = policy.spec.as_ref()?;
        let metadata = policy.metadata.as_ref()?;
        let of = &metadata.namespace;
        let whole = |named: &String| if named.contains('/') { named.clone() } else { format!("{of}/{named}") };
        Some(Self {
            name: metadata.name.clone(),
            namespace: of.clone(),
            nodes: spec.nodes.iter().map(whole).collect(),
            agent: spec.agent.clone(),
            selectors: spec.selectors.iter().map(|s| (s.r#type, s.value.clone())).collect(),
        })
    }
}

impl Policy {
    /// Whether a node is believed by both.
    fn shares_a_node_with(&self, other: &Self) -> bool {
        let is_own = |node: &String| node.split_once('/').is_some_and(|(of, _)| of == self.namespace);
        match (self.nodes.is_empty(), other.nodes.is_empty()) {
            (true, true) => true,
            // A node of the namespace may be declared at any time.
            (true, false) => other.nodes.iter().any(is_own),
            (false, true) => self.nodes.iter().any(is_own),
            (false, false) => !self.nodes.is_disjoint(&other.nodes),
        }
    }
}

/// The policies of one namespace, by what they ask for.
pub(crate) struct Index<'a> {
    policies: &'a [Policy],
    by_selector: HashMap<&'a (i32, String), Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(policies: &'a [Policy]) -> Self {
        let mut by_selector: HashMap<_, Vec<usize>> = HashMap::new();
        for (n, policy) in policies.iter().enumerate() {
            for selector in &policy.selectors {
                by_selector.entry(selector).or_default().push(n);
            }
        }
        Self { policies, by_selector }
    }

    /// A policy for another agent that believes one of the same nodes and asks for nothing else: for the same, for all of it and more, or
    /// for a part of it. Whatever such a node attests for the one that asks for more would be both agents.
    pub(crate) fn rival(&self, of: &Policy) -> Option<&'a Policy> {
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for selector in &of.selectors {
            for n in self.by_selector.get(selector).into_iter().flatten() {
                *shared.entry(*n).or_default() += 1;
            }
        }
        let rivals = shared.into_iter().filter_map(|(n, shared)| {
            let other = self.policies.get(n)?;
            let is_within = shared == of.selectors.len() || shared == other.selectors.len();
            let is_rival = is_within && other.name != of.name && other.agent != of.agent;
            (is_rival && of.shares_a_node_with(other)).then_some(n)
        });
        rivals.min().and_then(|n| self.policies.get(n))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn policies() -> impl Strategy<Value = Vec<Policy>> {
        let nodes = prop::collection::btree_set("(own|other)/[mn]", 0..3);
        let one = ("[ab]", prop::collection::btree_set((1..3, "[xyz]"), 1..4), nodes);
        prop::collection::vec(one, 0..8).prop_map(|all| {
            let policy = |(n, (agent, selectors, nodes))| Policy {
                name: format!("p{n}"),
                agent,
                selectors,
                nodes,
                namespace: "own".to_owned(),
            };
            all.into_iter().enumerate().map(policy).collect()
        })
    }

    proptest! {
        /// The index finds what looking at every pair finds.
        #[test]
        fn rivals_are_those_of_which_one_holds_the_other(all in policies()) {
            let index = Index::new(&all);
            for policy in &all {
                let is_rival = |other: &&Policy| {
                    let (a, b) = (&policy.selectors, &other.selectors);
                    let believes = |of: &Policy, node: &str| {
                        if of.nodes.is_empty() { node.starts_with("own/") } else { of.nodes.contains(node) }
                    };
                    // Every node that there could be.
                    let nodes = ["own/m", "own/n", "own/z", "other/m", "other/n", "other/z"];
                    let is_shared = nodes.iter().any(|node| believes(policy, node) && believes(other, node));
                    other.name != policy.name
                        && other.agent != policy.agent
                        && is_shared
                        && (a.is_subset(b) || b.is_subset(a))
                };
                let found = index.rival(policy).map(|p| p.name.clone());
                prop_assert_eq!(found, all.iter().find(is_rival).map(|p| p.name.clone()));
            }
        }
    }
}
