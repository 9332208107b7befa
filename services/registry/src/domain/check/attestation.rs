//! What may be declared of an attestation policy.

use std::collections::BTreeSet;

use legate_ids::Name;
use legate_wire::registry::{AttestationPolicySpec, AttestationSelector, AttestationSelectorType as Type};

use super::findings::{Findings, LIST};
use crate::domain::text::{Lines, quoted};

/// The most selectors of one policy.
const SELECTORS: usize = 16;
/// The longest value of a selector, in bytes.
const VALUE: usize = 512;

pub(super) fn check(namespace: &str, spec: &AttestationPolicySpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    findings.name("spec.agent", &spec.agent);
    if spec.selectors.is_empty() {
        findings.add("spec.selectors", format!("is empty, which every process would match; give 1 to {SELECTORS}"));
    }
    if findings.at_most("spec.selectors", spec.selectors.len(), SELECTORS) {
        let mut seen = BTreeSet::new();
        for (n, selector) in spec.selectors.iter().enumerate() {
            let path = format!("spec.selectors[{n}]");
            check_selector(&path, selector, findings);
            if !seen.insert((selector.r#type, &selector.value)) {
                findings.add(path, "is given twice");
            }
        }
    }
    check_nodes(namespace, &spec.nodes, findings);
}

fn check_nodes(namespace: &str, nodes: &[String], findings: &mut Findings) {
    if !findings.at_most("spec.nodes", nodes.len(), LIST) {
        return;
    }
    let mut seen = BTreeSet::new();
    for (n, named) in nodes.iter().enumerate() {
        let path = format!("spec.nodes[{n}]");
        let (of, name) = named.split_once('/').unwrap_or((namespace, named));
        if named.contains('/') && Name::parse(of).is_err() || Name::parse(name).is_err() {
            findings.add(
                path,
                format!("{} is refused; give NAME, or NAMESPACE/NAME of another namespace's node", quoted(named)),
            );
        } else if !seen.insert((of, name)) {
            findings.add(path, format!("{} is given twice", quoted(named)));
        }
    }
}

fn check_selector(path: &str, selector: &AttestationSelector, findings: &mut Findings) {
    let types = "a type such as ATTESTATION_SELECTOR_TYPE_UNIX_UID";
    findings.choice::<Type>(&format!("{path}.type"), selector.r#type, true, types);
    let (path, value) = (format!("{path}.value"), selector.value.as_str());
    if value.is_empty() {
        findings.add(path, "is missing");
    } else if value.len() > VALUE || !fits(selector.r#type(), value) {
        let wanted = match selector.r#type() {
            Type::UnixUid | Type::UnixGid => "a number in decimal digits without leading zeros",
            Type::UnixPath => "an absolute path such as /usr/bin/agent",
            Type::UnixSha256 => "64 hexadecimal digits in lower case",
            Type::KubernetesServiceAccount => "NAMESPACE/NAME",
            _ => "1 to 512 bytes",
        };
        findings.add(path, format!("{} is refused; give {wanted}", quoted(value)));
    } else {
        findings.text_within(&path, value, VALUE, Lines::One);
    }
}

/// Whether anything could ever be attested to have this value: one that nothing has is a policy that nobody notices is
/// dead.
fn fits(of: Type, value: &str) -> bool {
    match of {
        Type::UnixUid | Type::UnixGid => value.parse::<u32>().is_ok_and(|number| number.to_string() == value),
        Type::UnixPath => value.starts_with('/'),
        Type::UnixSha256 => super::is_sha256(value),
        Type::KubernetesServiceAccount => {
            value.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains('/'))
        }
        _ => true,
    }
}
