//! Grammar and ranges of what is declared, as the comments of the protos state them; all problems at once.
//!
//! Paths are relative to the object (`spec.permissions[3].action`); the caller puts in front where the object stands.

mod agent;
mod approval;
mod attestation;
mod binding;
mod boundary;
mod class;
mod credential_policy;
mod departure;
mod enforcement_point;
mod federated;
mod findings;
mod grant;
mod group;
mod jwks;
mod lifecycle_policy;
mod metadata;
mod namespace;
mod node;
mod operator_binding;
mod policy;
mod policy_test;
mod publication;
mod review;
mod revoke_issued;
mod role;
mod selector;
mod stop;
mod trusted_issuer;
mod uri;

use legate_wire::registry as wire;
use wire::declaration::Object;

use self::findings::Findings;
use super::kind::kind_name;
use super::problem::Problem;
use crate::error::KIND_NOT_APPLICABLE;

pub(crate) use approval::check_approval;
pub(crate) use binding::EXCEPTED;
pub(crate) use departure::{check_departed, check_departure};
pub(crate) use publication::{check_revocation, check_signing_key};
pub(crate) use review::{check_item_decisions, check_verified_items};
pub(crate) use revoke_issued::check_revoke_issued;
pub(crate) use stop::check_stop_scope;

/// What is wrong with an object that an operator declares.
pub(crate) fn check(declaration: &wire::Declaration) -> Vec<Problem> {
    let mut findings = Findings::default();
    let (Some(object), Some(kind)) = (&declaration.object, declaration.kind()) else {
        findings.add("object", "holds no object; give one of the kinds");
        return findings.into();
    };
    if matches!(object, Object::SigningKey(_) | Object::Revocation(_)) {
        let why = format!("is a {}, which only credential-issuer publishes", kind_name(kind));
        return vec![Problem::of(&KIND_NOT_APPLICABLE, "object", why)];
    }
    if matches!(object, Object::Approval(_)) {
        let why = "is an Approval, which an agent asks for and an approver decides";
        return vec![Problem::of(&KIND_NOT_APPLICABLE, "object", why)];
    }
    if matches!(object, Object::StopOrder(_)) {
        let why = "is a StopOrder, which `legate stop` writes and `legate resume` takes back";
        return vec![Problem::of(&KIND_NOT_APPLICABLE, "object", why)];
    }
    metadata::check(declaration.metadata(), kind, &mut findings);
    match object {
        // Everything in its spec may be left out, so the spec may be too.
        Object::Namespace(o) => o.spec.iter().for_each(|spec| namespace::check(spec, &mut findings)),
        Object::AgentClass(o) => findings.present("spec", o.spec.as_ref(), class::check),
        Object::Agent(o) => findings.present("spec", o.spec.as_ref(), agent::check),
        Object::Role(o) => findings.present("spec", o.spec.as_ref(), role::check),
        Object::RoleBinding(o) => findings.present("spec", o.spec.as_ref(), binding::check),
        Object::Policy(o) => findings.present("spec", o.spec.as_ref(), policy::check),
        Object::EnforcementPoint(o) => findings.present("spec", o.spec.as_ref(), enforcement_point::check),
        Object::SigningKey(_) | Object::Revocation(_) | Object::Approval(_) | Object::StopOrder(_) => {}
        Object::Group(o) => findings.present("spec", o.spec.as_ref(), group::check),
        Object::Boundary(o) => findings.present("spec", o.spec.as_ref(), boundary::check),
        Object::CredentialPolicy(o) => findings.present("spec", o.spec.as_ref(), credential_policy::check),
        Object::TrustedIssuer(o) => findings.present("spec", o.spec.as_ref(), trusted_issuer::check),
        Object::AttestationPolicy(o) => {
            let namespace = o.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
            findings.present("spec", o.spec.as_ref(), |spec, findings| attestation::check(namespace, spec, findings));
        }
        Object::DelegationGrant(o) => {
            let name = o.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
            findings.present("spec", o.spec.as_ref(), |spec, findings| grant::check(name, spec, findings));
        }
        Object::PolicyTest(o) => findings.present("spec", o.spec.as_ref(), policy_test::check),
        Object::OperatorBinding(o) => findings.present("spec", o.spec.as_ref(), operator_binding::check),
        Object::Node(o) => findings.present("spec", o.spec.as_ref(), node::check),
        Object::FederatedTrustDomain(o) => {
            let namespace = o.metadata.as_ref().map(|m| m.namespace.as_str()).unwrap_or_default();
            findings.present("spec", o.spec.as_ref(), |spec, findings| federated::check(namespace, spec, findings));
        }
        Object::LifecyclePolicy(o) => findings.present("spec", o.spec.as_ref(), lifecycle_policy::check),
        Object::ReviewCampaign(o) => findings.present("spec", o.spec.as_ref(), review::check),
    }
    findings.into()
}

/// Whether a text is a SHA-256: 64 hexadecimal digits in lower case.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Clears what only the registry sets. What was declared stays letter for letter: order and repetitions are the
/// declarer's own.
pub(crate) fn strip_output_only(declaration: &mut wire::Declaration) {
    if let Some(metadata) = declaration.metadata_mut() {
        let given = std::mem::take(metadata);
        *metadata = wire::Metadata {
            name: given.name,
            namespace: given.namespace,
            labels: given.labels,
            annotations: given.annotations,
            ..wire::Metadata::default()
        };
    }
    match &mut declaration.object {
        Some(Object::Agent(agent)) => agent.status = None,
        Some(Object::Namespace(namespace)) => namespace.status = None,
        Some(Object::AgentClass(class)) => class.status = None,
        Some(Object::EnforcementPoint(point)) => point.spiffe_id.clear(),
        Some(Object::Node(node)) => node.spiffe_id.clear(),
        Some(Object::Approval(approval)) => approval.status = None,
        Some(Object::StopOrder(order)) => order.status = None,
        Some(Object::LifecyclePolicy(policy)) => policy.status = None,
        _ => {}
    }
}

/// What is wrong with the reason that a caller gives for a write: 1,024 bytes at most, for people to read.
pub(crate) fn check_reason(reason: &str, required: bool) -> Vec<Problem> {
    let mut findings = Findings::default();
    if required {
        findings.required("reason", reason, super::text::Lines::Many);
    } else {
        findings.text("reason", reason, super::text::Lines::Many);
    }
    findings.into()
}

/// What is wrong with a declarer's own word for an item: 64 bytes at most, on one line.
pub(crate) fn check_key(key: &str) -> Vec<Problem> {
    let why = super::text::fault_in(key, 64, super::text::Lines::One);
    why.into_iter().map(|why| Problem::invalid("items.key", why)).collect()
}

#[cfg(test)]
mod tests;
