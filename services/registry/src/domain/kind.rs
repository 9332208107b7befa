//! Which kind an object is, how it is named, and which others it needs.

use std::fmt;

use legate_wire::registry as wire;
use wire::claim_rule::StandsFor;
use wire::declaration::Object;
use wire::{
    Agent, AgentClass, Approval, AttestationPolicy, AttestationSelectorType, Boundary, DelegationGrant,
    FederatedTrustDomain, Group, Kind, LifecyclePolicy, PolicyTest, ReviewCampaign, RoleBinding, TrustedIssuer,
};

/// How an object is found: kind, namespace (empty for what belongs to none) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// `payments/invoice-bot`, or `payments` for what belongs to no namespace.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The kind's name as manifests, people and audit events say it.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "Unspecified",
        Kind::Namespace => "Namespace",
        Kind::AgentClass => "AgentClass",
        Kind::Agent => "Agent",
        Kind::Role => "Role",
        Kind::RoleBinding => "RoleBinding",
        Kind::Policy => "Policy",
        Kind::EnforcementPoint => "EnforcementPoint",
        Kind::SigningKey => "SigningKey",
        Kind::Revocation => "Revocation",
        Kind::Group => "Group",
        Kind::Boundary => "Boundary",
        Kind::CredentialPolicy => "CredentialPolicy",
        Kind::TrustedIssuer => "TrustedIssuer",
        Kind::AttestationPolicy => "AttestationPolicy",
        Kind::DelegationGrant => "DelegationGrant",
        Kind::PolicyTest => "PolicyTest",
        Kind::OperatorBinding => "OperatorBinding",
        Kind::Node => "Node",
        Kind::FederatedTrustDomain => "FederatedTrustDomain",
        Kind::ReviewCampaign => "ReviewCampaign",
        Kind::Approval => "Approval",
        Kind::StopOrder => "StopOrder",
        Kind::LifecyclePolicy => "LifecyclePolicy",
    }
}

/// The key of an object; `None` without object or metadata.
pub(crate) fn key_of(declaration: &wire::Declaration) -> Option<Key> {
    let metadata = declaration.metadata()?;
    Some(Key::new(declaration.kind()?, &metadata.namespace, &metadata.name))
}

/// The objects that have to be in force for this one to mean anything, each with the path of the field that names it.
///
/// Signing keys belong to no namespace, and an operator binding may. A revocation and a stop order need nothing: they have to
/// take hold whatever else there is.
pub(crate) fn references(declaration: &wire::Declaration) -> Vec<(String, Key)> {
    let (Some(object), Some(own)) = (&declaration.object, key_of(declaration)) else {
        return Vec::new();
    };
    if matches!(own.kind, Kind::Namespace | Kind::SigningKey | Kind::Revocation | Kind::StopOrder) {
        return Vec::new();
    }
    let mut needed = Needed { namespace: &own.namespace, found: Vec::new() };
    if !(own.kind == Kind::OperatorBinding && own.namespace.is_empty()) {
        needed.found.push(("metadata.namespace".to_owned(), Key::new(Kind::Namespace, "", &own.namespace)));
    }
    match object {
        Object::AgentClass(AgentClass { spec: Some(spec), .. }) => {
            needed.one("spec.credential_policy", Kind::CredentialPolicy, &spec.credential_policy);
            needed.all("spec.boundaries", Kind::Boundary, &spec.boundaries);
        }
        Object::Agent(Agent { spec: Some(spec), .. }) => {
            needed.one("spec.agent_class", Kind::AgentClass, &spec.agent_class);
        }
        Object::RoleBinding(RoleBinding { spec: Some(spec), .. }) => {
            needed.one("spec.role", Kind::Role, &spec.role);
            needed.all("spec.agents", Kind::Agent, &spec.agents);
            needed.all("spec.groups", Kind::Group, &spec.groups);
            needed.all("spec.except_agents", Kind::Agent, &spec.except_agents);
        }
        Object::Group(Group { spec: Some(spec), .. }) => needed.all("spec.agents", Kind::Agent, &spec.agents),
        Object::Boundary(Boundary { spec: Some(spec), .. }) => {
            needed.all("spec.agents", Kind::Agent, &spec.agents);
            needed.all("spec.groups", Kind::Group, &spec.groups);
            needed.all("spec.agent_classes", Kind::AgentClass, &spec.agent_classes);
        }
        Object::TrustedIssuer(TrustedIssuer { spec: Some(spec), .. }) => {
            for (n, rule) in spec.rules.iter().enumerate() {
                match &rule.stands_for {
                    Some(StandsFor::Agent(name)) => needed.one(&format!("spec.rules[{n}].agent"), Kind::Agent, name),
                    Some(StandsFor::Node(name)) => needed.one(&format!("spec.rules[{n}].node"), Kind::Node, name),
                    Some(StandsFor::UserClaim(_) | StandsFor::NodeClaim(_)) | None => {}
                }
            }
            if let Some(of) = &spec.personal_delegation {
                needed.all("spec.personal_delegation.agent_classes", Kind::AgentClass, &of.agent_classes);
            }
        }
        Object::AttestationPolicy(AttestationPolicy { spec: Some(spec), .. }) => {
            needed.one("spec.agent", Kind::Agent, &spec.agent);
            for (n, name) in
                spec.nodes.iter().enumerate().filter_map(|(n, named)| Some((n, here(named, &own.namespace)?)))
            {
                needed.one(&format!("spec.nodes[{n}]"), Kind::Node, name);
            }
            for (n, selector) in spec.selectors.iter().enumerate() {
                if selector.r#type() == AttestationSelectorType::BrokerAgent {
                    needed.one(&format!("spec.selectors[{n}].value"), Kind::Agent, &selector.value);
                }
            }
        }
        Object::DelegationGrant(DelegationGrant { spec: Some(spec), .. }) => {
            needed.one("spec.delegator", Kind::Agent, spec.delegator.strip_prefix("agent:").unwrap_or_default());
            needed.one("spec.delegate", Kind::Agent, &spec.delegate);
            needed.one("spec.parent", Kind::DelegationGrant, &spec.parent);
        }
        Object::PolicyTest(PolicyTest { spec: Some(spec), .. }) => {
            for (n, case) in spec.cases.iter().enumerate() {
                needed.one(&format!("spec.cases[{n}].agent"), Kind::Agent, &case.agent);
            }
        }
        Object::LifecyclePolicy(LifecyclePolicy { spec: Some(spec), .. }) => {
            needed.all("spec.groups", Kind::Group, &spec.groups);
            needed.all("spec.agent_classes", Kind::AgentClass, &spec.agent_classes);
        }
        Object::ReviewCampaign(ReviewCampaign { spec: Some(spec), .. }) => {
            needed.all("spec.groups", Kind::Group, &spec.groups);
            needed.all("spec.agent_classes", Kind::AgentClass, &spec.agent_classes);
        }
        Object::Approval(Approval { spec: Some(spec), .. }) => needed.one("spec.agent", Kind::Agent, &spec.agent),
        _ => {}
    }
    needed.found
}

/// The name of a node, where it is one of this namespace: written alone, or after its namespace.
fn here<'a>(named: &'a str, namespace: &str) -> Option<&'a str> {
    match named.split_once('/') {
        Some((of, name)) => (of == namespace).then_some(name),
        None => Some(named),
    }
}

/// The objects of other namespaces that this one names, each with the path of the field that does. They have to be there when it is
/// written, and whoever writes it has to see them; they can be taken back all the same, since nobody stops what others do in their
/// own namespace by naming it.
pub(crate) fn elsewhere(declaration: &wire::Declaration) -> Vec<(String, Key)> {
    match &declaration.object {
        Some(Object::AttestationPolicy(AttestationPolicy { metadata: Some(own), spec: Some(spec) })) => {
            let foreign = |(n, named): (usize, &String)| {
                let (of, name) = named.split_once('/')?;
                (of != own.namespace).then(|| (format!("spec.nodes[{n}]"), Key::new(Kind::Node, of, name)))
            };
            spec.nodes.iter().enumerate().filter_map(foreign).collect()
        }
        Some(Object::FederatedTrustDomain(FederatedTrustDomain { spec: Some(spec), .. })) => {
            let used_in =
                |(n, of): (usize, &String)| (format!("spec.namespaces[{n}]"), Key::new(Kind::Namespace, "", of));
            spec.namespaces.iter().enumerate().map(used_in).collect()
        }
        _ => Vec::new(),
    }
}

/// What an object of a namespace needs.
struct Needed<'a> {
    namespace: &'a str,
    found: Vec<(String, Key)>,
}

impl Needed<'_> {
    /// One beside it; none where the name is empty.
    fn one(&mut self, path: &str, kind: Kind, name: &str) {
        if !name.is_empty() {
            self.found.push((path.to_owned(), Key::new(kind, self.namespace, name)));
        }
    }

    fn all(&mut self, path: &str, kind: Kind, names: &[String]) {
        for (n, name) in names.iter().enumerate() {
            self.one(&format!("{path}[{n}]"), kind, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_kind_has_a_key_and_a_name() {
        let mut seen = Vec::new();
        for mut declaration in samples::one_of_each() {
            let kind = declaration.kind().unwrap_or_default();
            let wire_name = kind.as_str_name().trim_start_matches("KIND_").replace('_', "");
            assert_eq!(kind_name(kind).to_uppercase(), wire_name);
            let key = key_of(&declaration).map(|key| key.to_string()).unwrap_or_default();
            let found = declaration.metadata().cloned().unwrap_or_default();
            assert!(key.ends_with(&found.name) && key.starts_with(&found.namespace), "{key}");
            assert_eq!(declaration.metadata_mut().cloned(), Some(found));
            seen.push(kind as i32);
        }
        assert_eq!(seen, (1..=21).chain([30, 31]).collect::<Vec<_>>());
        assert_eq!(wire::Declaration::default().kind(), None);
        assert_eq!(key_of(&wire::Declaration::default()), None);
    }

    #[test]
    fn a_key_reads_as_people_write_it() {
        assert_eq!(Key::new(Kind::Agent, "payments", "invoice-bot").to_string(), "payments/invoice-bot");
        assert_eq!(Key::new(Kind::Namespace, "", "payments").to_string(), "payments");
    }

    #[test]
    fn references_are_named_with_their_fields() {
        let said = |declaration: &wire::Declaration| {
            let found = references(declaration);
            found.iter().map(|(path, key)| format!("{path} {} {key}", kind_name(key.kind))).collect::<Vec<_>>()
        };
        let namespace = "metadata.namespace Namespace payments";
        for declaration in samples::one_of_each() {
            let expected: &[&str] = match declaration.kind().unwrap_or_default() {
                Kind::Namespace | Kind::SigningKey | Kind::Revocation | Kind::StopOrder => &[],
                Kind::Agent => &[namespace, "spec.agent_class AgentClass payments/clerk"],
                Kind::RoleBinding => &[
                    namespace,
                    "spec.role Role payments/invoice-reader",
                    "spec.agents[0] Agent payments/invoice-bot",
                    "spec.agents[1] Agent payments/ledger-bot",
                    "spec.groups[0] Group payments/clerks",
                    "spec.except_agents[0] Agent payments/report-bot",
                ],
                Kind::AgentClass => &[
                    namespace,
                    "spec.credential_policy CredentialPolicy payments/short-lived",
                    "spec.boundaries[0] Boundary payments/eu-only",
                    "spec.boundaries[1] Boundary payments/office-hours",
                ],
                Kind::Group => &[
                    namespace,
                    "spec.agents[0] Agent payments/invoice-bot",
                    "spec.agents[1] Agent payments/ledger-bot",
                ],
                Kind::Boundary => &[
                    namespace,
                    "spec.agents[0] Agent payments/invoice-bot",
                    "spec.groups[0] Group payments/clerks",
                    "spec.agent_classes[0] AgentClass payments/clerk",
                ],
                Kind::TrustedIssuer => &[
                    namespace,
                    "spec.rules[0].agent Agent payments/invoice-bot",
                    "spec.rules[2].node Node payments/vm-7",
                    "spec.personal_delegation.agent_classes[0] AgentClass payments/clerk",
                ],
                Kind::AttestationPolicy => {
                    &[namespace, "spec.agent Agent payments/invoice-bot", "spec.nodes[0] Node payments/vm-7"]
                }
                Kind::DelegationGrant => &[
                    namespace,
                    "spec.delegator Agent payments/invoice-bot",
                    "spec.delegate Agent payments/ledger-bot",
                    "spec.parent DelegationGrant payments/ada-lets-bot",
                ],
                Kind::PolicyTest => &[namespace, "spec.cases[0].agent Agent payments/invoice-bot"],
                Kind::LifecyclePolicy => &[
                    namespace,
                    "spec.groups[0] Group payments/clerks",
                    "spec.agent_classes[0] AgentClass payments/clerk",
                ],
                Kind::ReviewCampaign => &[
                    namespace,
                    "spec.groups[0] Group payments/clerks",
                    "spec.agent_classes[0] AgentClass payments/clerk",
                ],
                Kind::Approval => &[namespace, "spec.agent Agent payments/invoice-bot"],
                _ => &[namespace],
            };
            assert_eq!(said(&declaration), expected);
        }
        let foreign = elsewhere(&samples::declared(Object::AttestationPolicy(samples::attestation_policy())));
        assert_eq!(foreign, [("spec.nodes[1]".to_owned(), Key::new(Kind::Node, "platform", "vm-1"))]);
        let used = elsewhere(&samples::declared(Object::FederatedTrustDomain(samples::federated_trust_domain())));
        assert_eq!(used, [("spec.namespaces[0]".to_owned(), Key::new(Kind::Namespace, "", "platform"))]);
        // For all namespaces, so it stands in none.
        let mut everywhere = samples::operator_binding();
        everywhere.metadata.get_or_insert_default().namespace.clear();
        assert_eq!(said(&samples::declared(Object::OperatorBinding(everywhere))), Vec::<String>::new());
    }
}
