//! Declared objects for people.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_wire::registry::{
    Agent, AgentState, AgentStatus, AgentStop, AttestationPolicySpec, Declaration, FederatedTrustDomainSpec, GroupSpec,
    LifecyclePolicySpec, Metadata, OperatorBindingSpec, StandingStatus, StopOrderSpec, declaration::Object,
    stop_order_spec::Level,
};

use super::Row;
use crate::manifest;
use crate::proto;

/// A moment for people: UTC, to the second.
pub(crate) fn moment(of: Option<&prost_types::Timestamp>) -> String {
    let Some(time) = of.and_then(|t| Timestamp::try_from(*t).ok()) else {
        return String::new();
    };
    Timestamp::from_secs(time.secs()).to_string()
}

fn label(metadata: &Metadata) -> String {
    if metadata.namespace.is_empty() {
        metadata.name.clone()
    } else {
        format!("{}/{}", metadata.namespace, metadata.name)
    }
}

/// An agent in a list.
pub(crate) fn agent_row(agent: &Agent) -> Row {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let spec = agent.spec.clone().unwrap_or_default();
    let status = agent.status.clone().unwrap_or_default();
    let declaration = Declaration { object: Some(Object::Agent(agent.clone())) };
    Row {
        cells: vec![
            ("AGENT", false, label(&metadata)),
            ("STATE", false, stands(&status)),
            ("CLASS", false, class(&spec.agent_class, status.class_version_in_force)),
            ("ENVIRONMENT", false, proto::word(spec.environment().as_str_name(), "ENVIRONMENT_").into()),
            ("OWNERS", false, spec.owners.join(", ")),
            ("SPONSORS", false, spec.sponsors.join(", ")),
            ("ID", true, metadata.id.clone()),
            ("ORPHANED", true, moment(status.orphaned_time.as_ref())),
            ("DUE", true, moment(status.lifecycle_due_time.as_ref())),
            ("SINCE", true, moment(status.state_time.as_ref())),
            ("REASON", true, status.state_reason),
            ("PURPOSE", true, spec.purpose),
        ],
        name: label(&metadata),
        message: proto::dynamic(agent),
        node: manifest::node(&declaration),
    }
}

/// A class with the version by which its agents are judged, where that is told.
fn class(name: &str, version: u32) -> String {
    if version == 0 { name.to_owned() } else { format!("{name}@{version}") }
}

/// The class of an agent in force, and what it was when the agent was written, where that is another version.
fn class_in_force(name: &str, status: &AgentStatus) -> String {
    let in_force = class(name, status.class_version_in_force);
    let written = status.agent_class_version;
    if written == 0 || written == status.class_version_in_force {
        return in_force;
    }
    format!("{in_force}; {} when the agent was last written", class(name, written))
}

/// An agent by itself.
pub(crate) fn agent_details(agent: &Agent) -> Vec<(&'static str, String)> {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let spec = agent.spec.clone().unwrap_or_default();
    let status = agent.status.clone().unwrap_or_default();
    let state = stands(&status);
    let since = moment(status.state_time.as_ref());
    let why = if status.state_reason.is_empty() { String::new() } else { format!(": {}", status.state_reason) };
    vec![
        ("agent", label(&metadata)),
        ("state", format!("{state} since {since} by {}{why}", status.state_actor)),
        ("stopped", status.stops.iter().map(stop).collect::<Vec<_>>().join("; ")),
        ("orphaned", orphaned(agent)),
        ("id", metadata.id.clone()),
        ("spiffe id", status.spiffe_id.clone()),
        ("class", class_in_force(&spec.agent_class, &status)),
        ("purpose", spec.purpose.clone()),
        ("environment", proto::word(spec.environment().as_str_name(), "ENVIRONMENT_").into()),
        ("owners", spec.owners.join(", ")),
        ("sponsors", spec.sponsors.join(", ")),
        ("manager", spec.manager.clone()),
        ("risk", known(proto::word(spec.risk_tier().as_str_name(), "RISK_TIER_"))),
        ("data", spec.data_classifications.join(", ")),
        ("regions", spec.regions.join(", ")),
        ("protocols", spec.protocols.join(", ")),
        ("framework", spec.framework.clone()),
        ("model", spec.model.clone()),
        ("version", spec.version.clone()),
        ("labels", metadata.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")),
        ("expires", moment(spec.expire_time.as_ref())),
        ("made by", status.ancestors.join(", below ")),
        ("ceiling", spec.ceiling.iter().map(manifest::permission_text).collect::<Vec<_>>().join(", ")),
        ("lifecycle", format!("version {}", status.lifecycle_version)),
        ("cut off", moment(status.authorization_cutoff.as_ref())),
        ("last used", moment(status.last_used_time.as_ref())),
        ("confirmed", confirmed(&status)),
        ("to be confirmed", moment(status.next_attestation_time.as_ref())),
        ("lifecycle due", moment(status.lifecycle_due_time.as_ref())),
        ("written", written(&metadata)),
    ]
}

/// Where an agent stands: one that a stop order names can do nothing, whatever its state is.
fn stands(status: &AgentStatus) -> String {
    let state = proto::word(status.state().as_str_name(), "AGENT_STATE_");
    if status.stops.is_empty() { state.to_owned() } else { format!("{state}, STOPPED") }
}

/// A stop order that stands, in a sentence.
fn stop(stop: &AgentStop) -> String {
    let whom = stop.order.as_ref().map(stopped).unwrap_or_default();
    let place = if stop.namespace.is_empty() { "everywhere" } else { stop.namespace.as_str() };
    let of = if stop.ancestor_id.is_empty() { String::new() } else { format!(", through {}", stop.ancestor_id) };
    let by = if stop.actor.is_empty() { String::new() } else { format!(" by {}: {}", stop.actor, stop.reason) };
    format!("with {whom} ({place}, order {}){of} since {}{by}", stop.name, moment(stop.since.as_ref()))
}

/// Who confirmed last that an agent is still to be here, and when.
fn confirmed(status: &AgentStatus) -> String {
    match status.last_attestation_time.as_ref() {
        Some(at) => format!("{} by {}", moment(Some(at)), status.last_attestation_actor),
        None => String::new(),
    }
}

/// That nobody who is here is accountable for an agent, in a sentence; empty where somebody is.
pub(crate) fn orphaned(agent: &Agent) -> String {
    let status = agent.status.clone().unwrap_or_default();
    if status.orphaned_time.is_none() {
        return String::new();
    }
    let (since, until) = (moment(status.orphaned_time.as_ref()), moment(status.suspend_after.as_ref()));
    let then = match status.state() {
        AgentState::Active => format!("it is suspended after {until}"),
        _ => "it cannot be switched on".to_owned(),
    };
    format!("since {since} every sponsor has left; {then} unless one who is here is named")
}

fn known(word: &str) -> String {
    if word == "UNSPECIFIED" { String::new() } else { word.to_owned() }
}

fn written(metadata: &Metadata) -> String {
    let when = moment(metadata.update_time.as_ref());
    let why = if metadata.reason.is_empty() { String::new() } else { format!(": {}", metadata.reason) };
    format!("at revision {} ({when}) by {}{why}", metadata.revision, metadata.updated_by)
}

/// The metadata of any object, and a line that says what it is.
fn parts(declaration: &Declaration) -> (Metadata, String) {
    let (metadata, about) = match &declaration.object {
        Some(Object::Namespace(o)) => {
            (&o.metadata, o.spec.as_ref().map_or_else(String::new, |s| either(&s.description, &s.display_name)))
        }
        Some(Object::AgentClass(o)) => {
            (&o.metadata, o.spec.as_ref().map(|s| s.description.clone()).unwrap_or_default())
        }
        Some(Object::Agent(o)) => (&o.metadata, o.spec.as_ref().map(|s| s.purpose.clone()).unwrap_or_default()),
        Some(Object::Role(o)) => (&o.metadata, o.spec.as_ref().map_or_else(String::new, role_about)),
        Some(Object::RoleBinding(o)) => (&o.metadata, o.spec.as_ref().map_or_else(String::new, binding_about)),
        Some(Object::Policy(o)) => (
            &o.metadata,
            o.spec
                .as_ref()
                .map(|s| format!("{} {}", proto::word(s.mode().as_str_name(), "POLICY_MODE_"), s.description))
                .unwrap_or_default(),
        ),
        Some(Object::EnforcementPoint(o)) => (
            &o.metadata,
            o.spec.as_ref().map(|s| format!("asks about {}", s.resource_types.join(", "))).unwrap_or_default(),
        ),
        Some(Object::Node(o)) => (&o.metadata, o.spec.as_ref().map(|s| s.description.clone()).unwrap_or_default()),
        Some(Object::FederatedTrustDomain(o)) => {
            (&o.metadata, o.spec.as_ref().map(federated_about).unwrap_or_default())
        }
        Some(Object::SigningKey(o)) => (&o.metadata, o.spec.as_ref().map(|s| s.issuer.clone()).unwrap_or_default()),
        Some(Object::Revocation(o)) => {
            (&o.metadata, o.spec.as_ref().map(|s| s.credential_id.clone()).unwrap_or_default())
        }
        Some(Object::Group(o)) => (&o.metadata, o.spec.as_ref().map(group_about).unwrap_or_default()),
        Some(Object::Boundary(o)) => (&o.metadata, o.spec.as_ref().map(|s| s.description.clone()).unwrap_or_default()),
        Some(Object::CredentialPolicy(o)) => {
            (&o.metadata, o.spec.as_ref().map(|s| s.description.clone()).unwrap_or_default())
        }
        Some(Object::TrustedIssuer(o)) => (&o.metadata, o.spec.as_ref().map(|s| s.issuer.clone()).unwrap_or_default()),
        Some(Object::AttestationPolicy(o)) => (&o.metadata, o.spec.as_ref().map(attestation_about).unwrap_or_default()),
        Some(Object::DelegationGrant(o)) => {
            let about = o.spec.as_ref().map(|s| format!("{} acts for {}: {}", s.delegate, s.delegator, s.purpose));
            (&o.metadata, about.unwrap_or_default())
        }
        Some(Object::PolicyTest(o)) => {
            let about = o.spec.as_ref().map(|s| format!("{} questions: {}", s.cases.len(), s.description));
            (&o.metadata, about.unwrap_or_default())
        }
        Some(Object::OperatorBinding(o)) => {
            let role = |s: &OperatorBindingSpec| proto::word(s.role().as_str_name(), "OPERATOR_ROLE_").to_owned();
            let about = o.spec.as_ref().map(|s| format!("{} to {}", role(s), s.operators.join(", ")));
            (&o.metadata, about.unwrap_or_default())
        }
        Some(Object::LifecyclePolicy(o)) => (&o.metadata, o.spec.as_ref().map(lifecycle_about).unwrap_or_default()),
        Some(Object::ReviewCampaign(o)) => {
            (&o.metadata, o.spec.as_ref().map(|s| s.description.clone()).unwrap_or_default())
        }
        Some(Object::Approval(o)) => {
            (&o.metadata, o.spec.as_ref().map(|s| format!("{} asks: {}", s.agent, s.purpose)).unwrap_or_default())
        }
        Some(Object::StopOrder(o)) => (&o.metadata, o.spec.as_ref().map(stopped).unwrap_or_default()),
        None => (&None, String::new()),
    };
    (metadata.clone().unwrap_or_default(), about)
}

/// Whom a stop order names.
pub(crate) fn stopped(spec: &StopOrderSpec) -> String {
    match &spec.level {
        Some(Level::AgentId(id)) => format!("the agent {id} and whoever it made"),
        Some(Level::AgentClass(name)) => format!("every agent of the class {name}"),
        Some(Level::Group(group)) => {
            let when = moment(group.update_time.as_ref());
            format!("every agent of the group {} as it was written {when}", group.name)
        }
        Some(Level::Owner(owner)) => format!("every agent of the owner {owner}"),
        Some(Level::WholeNamespace(_)) => "every agent of the namespace".to_owned(),
        Some(Level::Everywhere(_)) => "every agent".to_owned(),
        None => String::new(),
    }
}

/// What a lifecycle policy does, rule by rule.
fn lifecycle_about(spec: &LifecyclePolicySpec) -> String {
    let length = |of: Option<prost_types::Duration>| of.and_then(|of| Duration::try_from(of).ok()).map(span);
    let rules = [
        ("attest every", length(spec.attest_every)),
        ("expire after", length(spec.expire_after)),
        ("suspend when dormant for", length(spec.suspend_when_dormant_for)),
        ("suspend when orphaned for", length(spec.suspend_when_orphaned_for)),
        ("retire after suspended for", length(spec.retire_after_suspended_for)),
        ("on alert, at most", spec.on_alert.as_ref().map(|rule| rule.max_agents.to_string())),
    ];
    let rules: Vec<String> = rules.into_iter().filter_map(|(what, of)| of.map(|of| format!("{what} {of}"))).collect();
    format!("{} {}", proto::word(spec.mode().as_str_name(), "LIFECYCLE_MODE_"), rules.join(", "))
}

fn either(one: &str, other: &str) -> String {
    if one.is_empty() { other.to_owned() } else { one.to_owned() }
}

fn role_about(spec: &legate_wire::registry::RoleSpec) -> String {
    let actions: Vec<&str> = spec.permissions.iter().map(|p| p.action.as_str()).collect();
    actions.join(", ")
}

fn binding_about(spec: &legate_wire::registry::RoleBindingSpec) -> String {
    let groups = spec.groups.iter().map(|name| format!("group {name}"));
    let groups = groups.chain(spec.users.iter().cloned());
    let holders: Vec<String> = spec.agents.iter().cloned().chain(groups).collect();
    let except = if spec.except_agents.is_empty() {
        String::new()
    } else {
        format!(" except {}", spec.except_agents.join(", "))
    };
    format!("{} to {}{except}", spec.role, holders.join(", "))
}

fn attestation_about(spec: &AttestationPolicySpec) -> String {
    let by = if spec.nodes.is_empty() { "any node of the namespace".to_owned() } else { spec.nodes.join(", ") };
    format!("attests {} by {by}", spec.agent)
}

fn federated_about(spec: &FederatedTrustDomainSpec) -> String {
    let from = spec.endpoint.as_ref().map_or_else(|| "as it is declared".to_owned(), |at| format!("from {}", at.url));
    format!("verifies {} {from}", spec.trust_domain)
}

fn group_about(spec: &GroupSpec) -> String {
    let listed = (!spec.agents.is_empty()).then(|| spec.agents.join(", "));
    let selected = (!spec.selector.is_empty()).then(|| format!("where {}", spec.selector));
    listed.into_iter().chain(selected).collect::<Vec<_>>().join("; ")
}

/// Any declared object in a list.
pub(crate) fn declared_row(declaration: &Declaration) -> Row {
    let (metadata, about) = parts(declaration);
    Row {
        cells: vec![
            ("NAME", false, label(&metadata)),
            ("VERSION", false, metadata.version.to_string()),
            ("STATE", true, standing(declaration)),
            ("ABOUT", false, about),
            ("WRITTEN", false, moment(metadata.update_time.as_ref())),
            ("BY", true, metadata.updated_by.clone()),
            ("REASON", true, metadata.reason.clone()),
            ("ID", true, metadata.id.clone()),
        ],
        name: label(&metadata),
        message: proto::dynamic(declaration),
        node: manifest::node(declaration),
    }
}

fn status(declaration: &Declaration) -> Option<&StandingStatus> {
    match &declaration.object {
        Some(Object::Namespace(o)) => o.status.as_ref(),
        Some(Object::AgentClass(o)) => o.status.as_ref(),
        Some(Object::StopOrder(o)) => o.status.as_ref(),
        _ => None,
    }
}

/// Whether a class or a namespace is suspended.
pub(crate) fn is_suspended(declaration: &Declaration) -> bool {
    status(declaration).is_some_and(|status| status.suspended)
}

/// How a class or a namespace stands, in a sentence; empty for what was never suspended.
pub(crate) fn standing(declaration: &Declaration) -> String {
    let Some(status) = status(declaration) else { return String::new() };
    let word = if status.suspended { "SUSPENDED" } else { "RESUMED" };
    let (at, by, why) = (moment(status.state_time.as_ref()), &status.state_actor, &status.state_reason);
    let cut = moment(status.authorization_cutoff.as_ref());
    format!("{word} {at} by {by}: {why}; nothing issued to its agents until {cut} works")
}

/// Any declared object by itself: its manifest, and who wrote it.
pub(crate) fn object_details(declaration: &Declaration) -> Vec<(&'static str, String)> {
    let (metadata, _) = parts(declaration);
    vec![
        ("id", metadata.id.clone()),
        ("version", metadata.version.to_string()),
        ("state", standing(declaration)),
        ("written", written(&metadata)),
        ("manifest", manifest::write(declaration)),
    ]
}

/// A duration in the unit that suits it.
pub(crate) fn span(of: Duration) -> String {
    match of.as_secs() {
        0..=119 => format!("{} s", of.as_secs()),
        120..=7_199 => format!("{} min", of.as_secs() / 60),
        7_200..=172_799 => format!("{} h", of.as_secs() / 3_600),
        _ => format!("{} days", of.as_secs() / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_shown_with_the_class_that_governs_it() {
        let of = |in_force, written| AgentStatus {
            class_version_in_force: in_force,
            agent_class_version: written,
            ..AgentStatus::default()
        };
        assert_eq!(class_in_force("clerk", &of(2, 2)), "clerk@2");
        assert_eq!(class_in_force("clerk", &of(2, 1)), "clerk@2; clerk@1 when the agent was last written");
        // After a step only the second is told, which does not govern.
        assert_eq!(class_in_force("clerk", &of(0, 1)), "clerk; clerk@1 when the agent was last written");
        let spec = legate_wire::registry::AgentSpec { agent_class: "clerk".into(), ..Default::default() };
        let row = |status| agent_row(&Agent { metadata: None, spec: Some(spec.clone()), status: Some(status) });
        let shown = |status| row(status).cells.into_iter().find(|cell| cell.0 == "CLASS").map(|cell| cell.2);
        assert_eq!(shown(of(2, 1)).as_deref(), Some("clerk@2"));
        assert_eq!(shown(of(0, 1)).as_deref(), Some("clerk"));
    }
}
