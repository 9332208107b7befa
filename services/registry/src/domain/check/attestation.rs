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
    check_sources(&spec.selectors, findings);
    if spec.selectors.iter().any(|one| one.r#type() == Type::BrokerAgent && one.value == spec.agent) {
        findings.add("spec.selectors", "name the agent itself as its broker; name the one that starts it");
    }
    check_nodes(namespace, &spec.nodes, findings);
}

/// What a token says counts for nothing where it is not said whose token; and what a broker calls something, where it is not said which broker.
fn check_sources(selectors: &[AttestationSelector], findings: &mut Findings) {
    let count = |of: &dyn Fn(Type) -> bool| selectors.iter().filter(|one| of(one.r#type())).count();
    let (issuers, brokers) = (count(&|of| of == Type::OidcIssuer), count(&|of| of == Type::BrokerAgent));
    let claims = count(&|of| is_of_token(of) && of != Type::OidcIssuer);
    if claims > 0 && issuers != 1 {
        let why = "ask for what a token says; name whose token by exactly one OIDC_ISSUER, the issuer of a TrustedIssuer of the namespace";
        findings.add("spec.selectors", why);
    } else if issuers > 0 && claims == 0 {
        let why = "name an OIDC_ISSUER and nothing that its token says, which every token of that issuer would meet; add OIDC_SUBJECT, \
                   OIDC_CLAIM or what Kubernetes says";
        findings.add("spec.selectors", why);
    }
    if brokers > 1 {
        findings
            .add("spec.selectors", "name several BROKER_AGENTs, and a process is asked for by one; name one of them");
    }
    if brokers == 0 && count(&|of| of == Type::BrokerSandbox) > 0 {
        findings.add("spec.selectors", "ask for what a broker calls the process; name the broker by BROKER_AGENT");
    }
}

/// Whether a token says it.
fn is_of_token(of: Type) -> bool {
    matches!(
        of,
        Type::KubernetesServiceAccount
            | Type::KubernetesNamespace
            | Type::KubernetesPodUid
            | Type::OidcIssuer
            | Type::OidcSubject
            | Type::OidcClaim
    )
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
            Type::KubernetesNamespace => "the name of a Kubernetes namespace",
            Type::KubernetesPodUid => "the UID of a pod, such as 123e4567-e89b-42d3-a456-426614174000",
            Type::OidcIssuer => "an https URL, the issuer of a TrustedIssuer",
            Type::OidcClaim => "PATH=TEXT, such as kubernetes.io/node/name=worker-1",
            Type::BrokerAgent => "the name of another agent in the namespace",
            Type::BrokerSandbox => "1 to 128 of A-Za-z0-9._-",
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
            value.split_once('/').is_some_and(|(a, b)| is_kubernetes_name(a) && is_kubernetes_name(b))
        }
        Type::KubernetesNamespace => is_kubernetes_name(value),
        Type::KubernetesPodUid => {
            value.len() == 36 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
        }
        Type::OidcIssuer => super::uri::https_fault_in(value).is_none() && !value.contains('?'),
        Type::OidcClaim => value
            .split_once('=')
            .is_some_and(|(path, text)| !text.is_empty() && super::trusted_issuer::claim_fault_in(path).is_none()),
        Type::BrokerAgent => Name::parse(value).is_ok(),
        Type::BrokerSandbox => {
            value.len() <= 128 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
        _ => true,
    }
}

/// RFC 1123, as Kubernetes has it: a service account may have dots in its name.
fn is_kubernetes_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}
