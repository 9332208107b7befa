//! Whom a change could affect: the agents that it names, those of its classes and roles, or everybody in a namespace.

use std::collections::{BTreeMap, BTreeSet};

use legate_view::{Agent, Snapshot};
use legate_wire::registry::{Declaration, Kind, ObjectName};

/// What a change touches in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Something that any agent's authority may rest on, such as a policy.
    everybody: bool,
    agents: BTreeSet<String>,
    classes: BTreeSet<String>,
    roles: BTreeSet<String>,
    bindings: BTreeSet<String>,
    /// A grant of delegation, on which no agent's own authority rests.
    grants: bool,
}

/// What a change touches, by namespace.
pub(crate) fn touched(wanted: &[Declaration], gone: &[ObjectName]) -> BTreeMap<String, Touched> {
    let mut all: BTreeMap<String, Touched> = BTreeMap::new();
    let wanted = wanted.iter().filter_map(|declaration| {
        let (kind, metadata) = (declaration.kind()?, declaration.metadata()?);
        Some((kind, metadata.namespace.clone(), metadata.name.clone()))
    });
    let gone = gone.iter().map(|name| (name.kind(), name.namespace.clone(), name.name.clone()));
    for (kind, namespace, name) in wanted.chain(gone) {
        let namespace = if kind == Kind::Namespace { name.clone() } else { namespace };
        let touched = all.entry(namespace).or_default();
        match kind {
            Kind::Agent => drop(touched.agents.insert(name)),
            Kind::AgentClass => drop(touched.classes.insert(name)),
            Kind::Role => drop(touched.roles.insert(name)),
            Kind::RoleBinding => drop(touched.bindings.insert(name)),
            // Who asks, who believes whom, what is tested and what time does are nobody's authority.
            Kind::EnforcementPoint
            | Kind::Node
            | Kind::FederatedTrustDomain
            | Kind::PolicyTest
            | Kind::CredentialPolicy
            | Kind::TrustedIssuer
            | Kind::AttestationPolicy
            | Kind::OperatorBinding
            | Kind::LifecyclePolicy
            | Kind::ReviewCampaign
            | Kind::SigningKey
            | Kind::Revocation
            | Kind::Approval
            | Kind::StopOrder
            | Kind::Unspecified => {}
            Kind::DelegationGrant => touched.grants = true,
            Kind::Namespace | Kind::Policy | Kind::Group | Kind::Boundary => touched.everybody = true,
        }
    }
    all
}

impl Touched {
    /// Whether the agent, as it is in `snapshot`, could be affected.
    pub(crate) fn affects(&self, snapshot: &Snapshot, agent: &Agent) -> bool {
        // What is declared of an agent, or of its class, limits everybody below it.
        let mut lineage = std::iter::once(agent).chain(snapshot.ancestors_of(agent).flatten().map(|one| &**one));
        self.everybody
            || lineage
                .any(|one| self.agents.contains(one.label.name.as_str()) || self.classes.contains(one.class.as_str()))
            || ((!self.roles.is_empty() || !self.bindings.is_empty())
                && snapshot.bindings_of(agent).any(|(binding, _)| {
                    self.roles.contains(binding.role.as_str()) || self.bindings.contains(binding.label.name.as_str())
                }))
    }

    /// Whether what an agent may do for somebody could be affected: by a grant, or by what one of the two has.
    pub(crate) fn affects_grants(&self) -> bool {
        self.grants || !self.is_nobody()
    }

    /// Whether nobody's own authority can be affected.
    pub(crate) fn is_nobody(&self) -> bool {
        !self.everybody
            && [&self.agents, &self.classes, &self.roles, &self.bindings].into_iter().all(BTreeSet::is_empty)
    }
}
