//! What may be declared of another trust domain.

use std::time::Duration;

use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_wire::registry::{BundleEndpoint, FederatedTrustDomainSpec};
use serde_json::Value;

use super::findings::{Findings, LIST};
use super::uri;
use crate::domain::text::{Lines, quoted};

/// The longest bundle, in bytes.
const BUNDLE: usize = 64 * 1024;
/// How often a bundle may be asked to be fetched.
const REFRESH: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 3_600);

pub(super) fn check(namespace: &str, spec: &FederatedTrustDomainSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    if spec.trust_domain.is_empty() {
        findings.add("spec.trust_domain", "is missing");
    } else if let Err(e) = TrustDomain::parse(&spec.trust_domain) {
        findings.add("spec.trust_domain", format!("{} is no trust domain: {e}", quoted(&spec.trust_domain)));
    }
    if !spec.bundle.is_empty()
        && let Some(why) = bundle_fault_in(&spec.bundle)
    {
        findings.add("spec.bundle", why);
    }
    match &spec.endpoint {
        Some(endpoint) => check_endpoint(endpoint, spec, findings),
        None if spec.bundle.is_empty() => {
            findings.add("spec.endpoint", "is missing; say where the bundle is fetched, or give it as spec.bundle");
        }
        None if spec.refresh.is_some() => findings.add("spec.refresh", "is given without an endpoint to fetch from"),
        None => {}
    }
    findings.span("spec.refresh", spec.refresh, REFRESH, "1 minute to 24 h");
    if findings.at_most("spec.namespaces", spec.namespaces.len(), LIST) {
        for (n, of) in spec.namespaces.iter().enumerate() {
            let path = format!("spec.namespaces[{n}]");
            if Name::parse(of).is_err() {
                findings.name(&path, of);
            } else if of == namespace {
                findings.add(path, "is its own namespace, whose agents may use it anyway; leave it away");
            } else if spec.namespaces.iter().take(n).any(|earlier| earlier == of) {
                findings.add(path, format!("{} is given twice", quoted(of)));
            }
        }
    }
}

fn check_endpoint(endpoint: &BundleEndpoint, spec: &FederatedTrustDomainSpec, findings: &mut Findings) {
    if let Some(why) = uri::https_fault_in(&endpoint.url) {
        findings.add("spec.endpoint.url", why);
    }
    if endpoint.spiffe_id.is_empty() {
        return;
    }
    match SpiffeId::parse(&endpoint.spiffe_id) {
        Err(e) => {
            let why = format!("{} is no SPIFFE ID: {e}", quoted(&endpoint.spiffe_id));
            findings.add("spec.endpoint.spiffe_id", why);
        }
        // SPIFFE Federation section 5.2.2.2: an endpoint of another domain would have to be believed by another federation.
        Ok(id) if id.trust_domain() != spec.trust_domain => {
            findings.add("spec.endpoint.spiffe_id", "is of another trust domain than spec.trust_domain");
        }
        Ok(_) if spec.bundle.is_empty() => {
            let why = "is missing, and the first connection to an endpoint with a SPIFFE ID is verified by it";
            findings.add("spec.bundle", why);
        }
        Ok(_) => {}
    }
}

/// What is wrong with a text that has to be a bundle. Whether its keys can be used is seen where they are.
fn bundle_fault_in(text: &str) -> Option<String> {
    if text.len() > BUNDLE {
        return Some(format!("is {} bytes long; give at most {BUNDLE}", text.len()));
    }
    if let Some(why) = super::jwks::json_hides(text) {
        return Some(why);
    }
    let set: Value = match serde_json::from_str(text) {
        Ok(set) => set,
        Err(e) => return Some(format!("is no JSON: line {}, column {}", e.line(), e.column())),
    };
    if super::jwks::holds_private(&set) {
        return Some("holds a private or secret key; take it out of use, and give the public one alone".into());
    }
    let is_list = set.get("keys").is_some_and(Value::is_array);
    (!is_list)
        .then(|| "is no bundle: a JSON object with a list `keys` (SPIFFE Trust Domain and Bundle section 4)".into())
}
