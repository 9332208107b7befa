//! What may be declared of a trusted issuer.

use std::collections::BTreeMap;

use legate_wire::registry::claim_rule::StandsFor;
use legate_wire::registry::{ClaimRule, TrustedIssuerSpec};

use super::findings::{Findings, LIST};
use super::{jwks, uri};
use crate::domain::text::{Lines, hidden, quoted};

/// The most audiences of one issuer.
const AUDIENCES: usize = 16;
/// The most claims of one rule.
const CLAIMS: usize = 16;
/// The longest path of a claim, in bytes.
const CLAIM: usize = 256;

pub(super) fn check(spec: &TrustedIssuerSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    if let Some(why) = uri::https_fault_in(&spec.issuer) {
        findings.add("spec.issuer", why);
    } else if spec.issuer.contains('?') {
        findings.add("spec.issuer", format!("{} has a query; leave '?' and what follows away", quoted(&spec.issuer)));
    }
    if spec.audiences.is_empty() {
        findings.add("spec.audiences", format!("is empty; give 1 to {AUDIENCES}"));
    }
    findings.texts("spec.audiences", &spec.audiences, AUDIENCES, |findings, path, value| {
        findings.required(path, value, Lines::One);
    });
    keys(spec, findings);
    if spec.rules.is_empty() {
        findings.add("spec.rules", format!("is empty; give 1 to {LIST}"));
    }
    if findings.at_most("spec.rules", spec.rules.len(), LIST) {
        for (n, rule) in spec.rules.iter().enumerate() {
            let path = format!("spec.rules[{n}]");
            check_rule(&path, rule, findings);
            let earlier = spec.rules.iter().take(n).position(|earlier| holds_all(&rule.claims, &earlier.claims));
            if let Some(earlier) = earlier {
                let why = format!("never matches: whatever it matches, spec.rules[{earlier}] matches before it");
                findings.add(format!("{path}.claims"), why);
            }
        }
    }
}

/// Whether `claims` hold all of `some`.
fn holds_all(claims: &BTreeMap<String, String>, some: &BTreeMap<String, String>) -> bool {
    some.iter().all(|(claim, value)| claims.get(claim) == Some(value))
}

fn keys(spec: &TrustedIssuerSpec, findings: &mut Findings) {
    match (spec.jwks_uri.as_str(), spec.jwks.as_str()) {
        ("", "") => findings.add("spec.jwks_uri", "is missing; say where the keys are, or give them as spec.jwks"),
        (_, "") => {
            if let Some(why) = uri::https_fault_in(&spec.jwks_uri) {
                findings.add("spec.jwks_uri", why);
            }
        }
        ("", _) => {
            if let Some(why) = jwks::fault_in(&spec.jwks) {
                findings.add("spec.jwks", why);
            }
        }
        _ => findings.add("spec.jwks", "is given beside spec.jwks_uri; give one of them"),
    }
}

fn check_rule(path: &str, rule: &ClaimRule, findings: &mut Findings) {
    let claims = format!("{path}.claims");
    if rule.claims.is_empty() {
        findings.add(&claims, format!("is empty, which every token would match; give 1 to {CLAIMS}"));
    }
    if findings.at_most(&claims, rule.claims.len(), CLAIMS) {
        for (claim, value) in &rule.claims {
            if let Some(why) = claim_fault_in(claim) {
                findings.add(&claims, why);
            } else {
                findings.required(&format!("{claims}[{claim}]"), value, Lines::One);
            }
        }
    }
    match &rule.stands_for {
        Some(StandsFor::Agent(name)) => findings.name(&format!("{path}.agent"), name),
        Some(StandsFor::UserClaim(claim)) => {
            if let Some(why) = claim_fault_in(claim) {
                findings.add(format!("{path}.user_claim"), why);
            }
        }
        None => findings.add(format!("{path}.agent"), "is missing; say for which agent or user_claim the token stands"),
    }
}

/// What is wrong with the path of a claim: names joined by `/`.
fn claim_fault_in(claim: &str) -> Option<String> {
    if claim.is_empty() || claim.len() > CLAIM {
        return Some(format!("has a claim of {} bytes; give 1 to {CLAIM}", claim.len()));
    }
    if let Some(why) = hidden(claim, |_| false) {
        return Some(format!("has the claim {}, which {why}", quoted(claim)));
    }
    let is_bad = claim.split('/').any(|part| part.is_empty() || part.trim() != part);
    is_bad
        .then(|| format!("has the claim {}; give names joined by '/', such as kubernetes.io/namespace", quoted(claim)))
}
