//! Attestation policies held against each other: one process must not be two agents.
//!
//! Two policies are apart where something that a process has once has to be one thing for the one and another for the other: its user, its
//! program, the one token of an issuer, the broker that asks for it. Whatever else they ask for, a process could have both.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use legate_wire::registry as wire;
use wire::AttestationSelectorType as Type;
use wire::declaration::Object;

/// Something of which a process has one at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Trait {
    /// What is seen of it, by type.
    Seen(i32),
    /// What its token of an issuer says, by type; of a claim, with its path.
    Said(String, i32, String),
    /// Who asks for it: itself, or a broker.
    AskedBy,
}

/// What has to be attested of a process, and the agent that it then is.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    agent: String,
    /// What it has to be, by what a process is once.
    asks: BTreeMap<Trait, BTreeSet<String>>,
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
            asks: asks(&spec.selectors),
        })
    }

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

    /// Whether no process can be what both ask for.
    fn is_apart_from(&self, other: &Self) -> bool {
        let differs = |(of, values): (&Trait, &BTreeSet<String>)| {
            other.asks.get(of).is_some_and(|theirs| values.union(theirs).nth(1).is_some())
        };
        self.asks.iter().any(differs)
    }
}

/// What is asked for, with what follows from it.
fn asks(selectors: &[wire::AttestationSelector]) -> BTreeMap<Trait, BTreeSet<String>> {
    // What a token says hangs on whose it is; a policy that asks for it names one issuer.
    let issuer = selectors.iter().find(|one| one.r#type() == Type::OidcIssuer).map(|one| one.value.as_str());
    let issuer = issuer.unwrap_or_default();
    let said = |of: Type, path: &str| Trait::Said(issuer.to_owned(), of.into(), path.to_owned());
    let mut all: BTreeMap<Trait, BTreeSet<String>> = BTreeMap::new();
    let mut ask = |of: Trait, value: &str| {
        all.entry(of).or_default().insert(value.to_owned());
    };
    let mut is_brokered = false;
    for one in selectors {
        let value = one.value.as_str();
        match one.r#type() {
            // Of another issuer the process may have a token as well.
            Type::OidcIssuer | Type::Unspecified => {}
            Type::OidcClaim => {
                let (path, text) = value.split_once('=').unwrap_or((value, ""));
                ask(said(Type::OidcClaim, path), text);
            }
            of @ (Type::OidcSubject | Type::KubernetesNamespace | Type::KubernetesPodUid) => ask(said(of, ""), value),
            of @ Type::KubernetesServiceAccount => {
                ask(said(of, ""), value);
                if let Some((namespace, name)) = value.split_once('/') {
                    ask(said(Type::KubernetesNamespace, ""), namespace);
                    ask(said(Type::OidcSubject, ""), &format!("system:serviceaccount:{namespace}:{name}"));
                }
            }
            Type::BrokerAgent => {
                is_brokered = true;
                ask(Trait::AskedBy, value);
            }
            of @ (Type::UnixUid
            | Type::UnixGid
            | Type::UnixPath
            | Type::UnixSha256
            | Type::SystemdUnit
            | Type::Cgroup
            | Type::ContainerId
            | Type::BrokerSandbox) => ask(Trait::Seen(of.into()), value),
        }
    }
    // What a broker asks for meets the policies that name it; what asks for itself meets the others. No agent has an empty name.
    if !is_brokered {
        ask(Trait::AskedBy, "");
    }
    all
}

/// The policies of one namespace, by what they ask for.
pub(crate) struct Index<'a> {
    policies: &'a [Policy],
    /// Those that ask for a trait, by value.
    by_value: HashMap<(&'a Trait, &'a str), Vec<usize>>,
    /// How many ask for a trait at all.
    asking: HashMap<&'a Trait, usize>,
    by_node: HashMap<&'a str, Vec<usize>>,
    /// Those that believe every node of the namespace.
    of_all_nodes: Vec<usize>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(policies: &'a [Policy]) -> Self {
        let mut index = Self {
            policies,
            by_value: HashMap::new(),
            asking: HashMap::new(),
            by_node: HashMap::new(),
            of_all_nodes: Vec::new(),
        };
        for (n, policy) in policies.iter().enumerate() {
            for (of, values) in &policy.asks {
                *index.asking.entry(of).or_default() += 1;
                for value in values {
                    index.by_value.entry((of, value)).or_default().push(n);
                }
            }
            for node in &policy.nodes {
                index.by_node.entry(node).or_default().push(n);
            }
            if policy.nodes.is_empty() {
                index.of_all_nodes.push(n);
            }
        }
        index
    }

    /// A policy for another agent that believes one of the same nodes and that a process could meet together with this one: which of the two
    /// agents it then were, nobody could say.
    pub(crate) fn rival(&self, of: &Policy) -> Option<&'a Policy> {
        let is_rival = |other: &&'a Policy| {
            other.name != of.name && other.agent != of.agent && of.shares_a_node_with(other) && !of.is_apart_from(other)
        };
        match self.candidates(of) {
            Some(some) => some.into_iter().filter_map(|n| self.policies.get(n)).find(is_rival),
            None => self.policies.iter().find(is_rival),
        }
    }

    /// The fewest among which every rival is, in their order; `None`: all. Ten thousand policies that differ by user, or by node, are not held
    /// against each other pair by pair.
    fn candidates(&self, of: &Policy) -> Option<BTreeSet<usize>> {
        let by_node = (!of.nodes.is_empty()).then(|| {
            let named = of.nodes.iter().filter_map(|node| self.by_node.get(node.as_str())).flatten();
            named.chain(&self.of_all_nodes).copied().collect::<BTreeSet<usize>>()
        });
        // Rivals by a trait ask for the same value of it, or for none at all; those are looked for where they are few.
        let by_trait = of.asks.iter().filter_map(|(of_trait, values)| {
            let value = values.iter().next()?;
            let same = self.by_value.get(&(of_trait, value.as_str())).map_or(0, Vec::len);
            let without = self.policies.len() - self.asking.get(of_trait).copied().unwrap_or(0);
            Some((same + without, without, of_trait, value))
        });
        let least = by_trait.min_by_key(|(many, ..)| *many);
        let most = by_node.as_ref().map_or(self.policies.len(), BTreeSet::len);
        match least {
            Some((many, without, of_trait, value)) if many < most => {
                let same = self.by_value.get(&(of_trait, value.as_str())).into_iter().flatten().copied();
                let mut found: BTreeSet<usize> = same.collect();
                if without > 0 {
                    let lacks = |(_, policy): &(usize, &Policy)| !policy.asks.contains_key(of_trait);
                    found.extend(self.policies.iter().enumerate().filter(lacks).map(|(n, _)| n));
                }
                Some(found)
            }
            _ => by_node,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    const SEEN: [Type; 7] = [
        Type::UnixUid,
        Type::UnixGid,
        Type::UnixPath,
        Type::UnixSha256,
        Type::SystemdUnit,
        Type::Cgroup,
        Type::ContainerId,
    ];

    fn selector(of: Type, value: &str) -> wire::AttestationSelector {
        wire::AttestationSelector { r#type: of.into(), value: value.into() }
    }

    fn policy(name: &str, agent: &str, selectors: &[(Type, &str)]) -> Policy {
        let selectors: Vec<_> = selectors.iter().map(|(of, value)| selector(*of, value)).collect();
        let (nodes, namespace) = (BTreeSet::new(), "own".to_owned());
        Policy { name: name.into(), agent: agent.into(), asks: asks(&selectors), nodes, namespace }
    }

    /// Of a process: what is seen, what its tokens say by issuer, and who asks for it by which name.
    #[derive(Clone, Debug)]
    struct Process {
        seen: BTreeMap<Type, String>,
        tokens: BTreeMap<String, Token>,
        broker: Option<(String, Option<String>)>,
    }

    #[derive(Clone, Debug)]
    struct Token {
        account: Option<(String, String)>,
        subject: String,
        pod: Option<String>,
        claims: BTreeMap<String, String>,
    }

    impl Token {
        fn subject(&self) -> String {
            match &self.account {
                Some((namespace, name)) => format!("system:serviceaccount:{namespace}:{name}"),
                None => self.subject.clone(),
            }
        }

        fn says(&self, one: &wire::AttestationSelector) -> bool {
            let value = &one.value;
            match one.r#type() {
                Type::OidcSubject => self.subject() == *value,
                Type::OidcClaim => {
                    let (path, text) = value.split_once('=').unwrap();
                    self.claims.get(path).is_some_and(|found| found == text)
                }
                Type::KubernetesNamespace => self.account.as_ref().is_some_and(|(of, _)| of == value),
                Type::KubernetesServiceAccount => {
                    self.account.as_ref().is_some_and(|(of, name)| format!("{of}/{name}") == *value)
                }
                Type::KubernetesPodUid => self.account.is_some() && self.pod.as_ref() == Some(value),
                _ => true,
            }
        }
    }

    impl Process {
        /// As the node helper and credential-issuer have it.
        fn meets(&self, selectors: &[wire::AttestationSelector]) -> bool {
            let of_token = |of: Type| {
                use Type::{KubernetesNamespace, KubernetesPodUid, KubernetesServiceAccount};
                use Type::{OidcClaim, OidcIssuer, OidcSubject};
                matches!(
                    of,
                    KubernetesNamespace
                        | KubernetesPodUid
                        | KubernetesServiceAccount
                        | OidcClaim
                        | OidcIssuer
                        | OidcSubject
                )
            };
            let issuer = selectors.iter().find(|one| one.r#type() == Type::OidcIssuer);
            let token = issuer.and_then(|issuer| self.tokens.get(&issuer.value));
            let named = selectors.iter().find(|one| one.r#type() == Type::BrokerAgent);
            named.map(|one| &one.value) == self.broker.as_ref().map(|(broker, _)| broker)
                && selectors.iter().all(|one| match one.r#type() {
                    Type::BrokerAgent => true,
                    Type::BrokerSandbox => self.broker.as_ref().and_then(|(_, name)| name.as_ref()) == Some(&one.value),
                    of if of_token(of) => token.is_some_and(|token| token.says(one)),
                    of => self.seen.get(&of) == Some(&one.value),
                })
        }
    }

    fn processes() -> impl Strategy<Value = Process> {
        let seen = prop::collection::vec(prop::option::weighted(0.8, "[ab]"), SEEN.len());
        let seen = seen.prop_map(|all| {
            SEEN.into_iter().zip(all).filter_map(|(of, value)| Some((of, value?))).collect::<BTreeMap<_, _>>()
        });
        let claims = prop::collection::btree_map("[pq]", "[ab]", 0..3);
        let account = prop::option::weighted(0.7, ("[ab]", "[ab]"));
        let token = (account, "[ab]", prop::option::of("[ab]"), claims);
        let token = token.prop_map(|(account, subject, pod, claims)| Token { account, subject, pod, claims });
        let tokens = prop::collection::btree_map("[ij]", token, 0..3);
        let broker = prop::option::of(("[xy]", prop::option::of("[ab]")));
        (seen, tokens, broker).prop_map(|(seen, tokens, broker)| Process { seen, tokens, broker })
    }

    /// What may be declared, by the rules that the check of a policy has.
    fn selectors() -> impl Strategy<Value = Vec<wire::AttestationSelector>> {
        let seen = prop::collection::btree_map(prop::sample::select(SEEN.to_vec()), "[ab]", 0..3);
        let said = prop_oneof![
            "[ab]".prop_map(|value| selector(Type::OidcSubject, &value)),
            ("[ab]", "[ab]")
                .prop_map(|(of, name)| { selector(Type::OidcSubject, &format!("system:serviceaccount:{of}:{name}")) }),
            ("[pq]", "[ab]").prop_map(|(path, text)| selector(Type::OidcClaim, &format!("{path}={text}"))),
            "[ab]".prop_map(|value| selector(Type::KubernetesNamespace, &value)),
            ("[ab]", "[ab]")
                .prop_map(|(of, name)| { selector(Type::KubernetesServiceAccount, &format!("{of}/{name}")) }),
            "[ab]".prop_map(|value| selector(Type::KubernetesPodUid, &value)),
        ];
        let token = prop::option::of(("[ij]", prop::collection::vec(said, 1..3)));
        let broker = prop::option::weighted(0.3, ("[xy]", prop::option::of("[ab]")));
        let all = (seen, token, broker).prop_map(|(seen, token, broker)| {
            let mut all: Vec<_> = seen.iter().map(|(of, value)| selector(*of, value)).collect();
            if let Some((issuer, said)) = token {
                all.push(selector(Type::OidcIssuer, &issuer));
                all.extend(said);
            }
            if let Some((agent, name)) = broker {
                all.push(selector(Type::BrokerAgent, &agent));
                all.extend(name.map(|name| selector(Type::BrokerSandbox, &name)));
            }
            all
        });
        all.prop_filter("a policy asks for something", |all| !all.is_empty())
    }

    fn declared() -> impl Strategy<Value = Vec<(Policy, Vec<wire::AttestationSelector>)>> {
        let nodes = prop::collection::btree_set("(own|other)/[mn]", 0..3);
        prop::collection::vec(("[ab]", selectors(), nodes), 0..8).prop_map(|all| {
            let policy = |(n, (agent, selectors, nodes)): (usize, (String, Vec<wire::AttestationSelector>, _))| {
                let asks = asks(&selectors);
                let namespace = "own".to_owned();
                (Policy { name: format!("p{n}"), agent, asks, nodes, namespace }, selectors)
            };
            all.into_iter().enumerate().map(policy).collect()
        })
    }

    #[test]
    fn what_a_process_can_be_at_once_is_refused_and_what_it_cannot_is_not() {
        use Type::*;
        let account = |name| [(OidcIssuer, "https://c"), (KubernetesServiceAccount, name)];
        let rival = |a: &[(Type, &str)], b: &[(Type, &str)]| {
            let all = [policy("one", "a", a), policy("two", "b", b)];
            let index = Index::new(&all);
            let found = [index.rival(&all[0]).is_some(), index.rival(&all[1]).is_some()];
            assert_eq!(found[0], found[1], "whoever of the two is written: {a:?} {b:?}");
            assert!(Index::new(&[all[0].clone(), policy("two", "a", b)]).rival(&all[0]).is_none(), "the same agent");
            found[0]
        };
        for (a, b) in [
            // One could be the user and run the program.
            (&[(UnixUid, "1000")][..], &[(UnixPath, "/x")][..]),
            (&[(UnixUid, "1000")], &[(UnixUid, "1000"), (UnixPath, "/x")]),
            (&account("pay/bot"), &[(OidcIssuer, "https://c"), (KubernetesNamespace, "pay")]),
            (&account("pay/bot"), &[(UnixUid, "1000")]),
            // And have a token of either.
            (&account("pay/bot"), &[(OidcIssuer, "https://d"), (OidcSubject, "x")]),
            (&[(OidcIssuer, "i"), (OidcClaim, "a=1")], &[(OidcIssuer, "i"), (OidcClaim, "b=1")]),
            (&[(UnixUid, "1"), (BrokerAgent, "x")], &[(UnixPath, "/x"), (BrokerAgent, "x")]),
        ] {
            assert!(rival(a, b), "{a:?} {b:?}");
        }
        for (a, b) in [
            (&[(UnixUid, "1000")][..], &[(UnixUid, "1001"), (UnixPath, "/x")][..]),
            (&account("pay/bot"), &account("pay/other")),
            (&account("pay/bot"), &[(OidcIssuer, "https://c"), (KubernetesNamespace, "ops")]),
            (&account("pay/bot"), &[(OidcIssuer, "https://c"), (OidcSubject, "repo:x")]),
            (&[(OidcIssuer, "i"), (OidcClaim, "a=1")], &[(OidcIssuer, "i"), (OidcClaim, "a=2")]),
            // What a broker asks for is nothing else's.
            (&[(UnixUid, "1000")], &[(UnixUid, "1000"), (BrokerAgent, "x")]),
            (&[(UnixUid, "1"), (BrokerAgent, "x")], &[(UnixUid, "1"), (BrokerAgent, "y")]),
            (&[(BrokerAgent, "x"), (BrokerSandbox, "a")], &[(BrokerAgent, "x"), (BrokerSandbox, "b")]),
        ] {
            assert!(!rival(a, b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn ten_thousand_policies_are_held_against_few() {
        let by_user: Vec<Policy> =
            (0..10_000).map(|n| policy(&format!("p{n}"), &n.to_string(), &[(Type::UnixUid, &n.to_string())])).collect();
        let index = Index::new(&by_user);
        assert!(by_user.iter().all(|one| index.candidates(one).is_some_and(|some| some.len() == 1)));
        let by_node: Vec<Policy> = (0..10_000)
            .map(|n| {
                let nodes = BTreeSet::from([format!("own/vm-{n}")]);
                Policy { nodes, ..policy(&format!("p{n}"), &n.to_string(), &[(Type::UnixUid, "1000")]) }
            })
            .collect();
        let index = Index::new(&by_node);
        assert!(by_node.iter().all(|one| index.candidates(one).is_some_and(|some| some.len() == 1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Of policies none of which is a rival of another, no process meets two for different agents, on whichever node it runs.
        #[test]
        fn no_process_is_two_agents(all in declared(), process in processes()) {
            let mut accepted: Vec<(Policy, Vec<wire::AttestationSelector>)> = Vec::new();
            for one in all {
                let before: Vec<Policy> = accepted.iter().map(|(policy, _)| policy.clone()).collect();
                if Index::new(&before).rival(&one.0).is_none() {
                    accepted.push(one);
                }
            }
            for node in ["own/m", "own/n", "own/z", "other/m", "other/n"] {
                let believes =
                    |of: &Policy| if of.nodes.is_empty() { node.starts_with("own/") } else { of.nodes.contains(node) };
                let met = accepted.iter().filter(|(of, asked)| believes(of) && process.meets(asked));
                let agents: BTreeSet<&String> = met.map(|(of, _)| &of.agent).collect();
                prop_assert!(agents.len() <= 1, "{agents:?} on {node}");
            }
        }

        /// The index finds what looking at every pair finds.
        #[test]
        fn the_index_finds_what_looking_at_all_finds(all in declared()) {
            let policies: Vec<Policy> = all.into_iter().map(|(policy, _)| policy).collect();
            let index = Index::new(&policies);
            for one in &policies {
                let is_rival = |other: &&Policy| {
                    other.name != one.name
                        && other.agent != one.agent
                        && one.shares_a_node_with(other)
                        && !one.is_apart_from(other)
                };
                let found = index.rival(one).map(|found| found.name.clone());
                prop_assert_eq!(found, policies.iter().find(is_rival).map(|found| found.name.clone()));
            }
        }
    }
}
