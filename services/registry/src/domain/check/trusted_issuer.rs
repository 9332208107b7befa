//! What may be declared of a trusted issuer.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_authority::MAX_DEPTH;
use legate_wire::registry::claim_rule::StandsFor;
use legate_wire::registry::{ClaimRule, PersonalDelegation, TrustedIssuerSpec};

use super::findings::{Findings, LIST};
use super::{jwks, selector, uri};
use crate::domain::text::{Lines, hidden, quoted};

/// The most audiences of one issuer.
const AUDIENCES: usize = 16;
/// The most claims of one rule.
const CLAIMS: usize = 16;
/// The most ways of signing in.
const ACR: usize = 16;
/// How many used tokens may be asked to be kept.
const USED: std::ops::RangeInclusive<u32> = 1_000..=10_000_000;
/// The shortest and the longest that a person lets an agent act for.
const GRANTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 3_600);
/// How long ago a person may have signed in.
const SIGNED_IN: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 3_600);
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
    if spec.max_used_tokens != 0 && !USED.contains(&spec.max_used_tokens) {
        let why =
            format!("is {}; give {} to {}, or 0 for what is usual", spec.max_used_tokens, USED.start(), USED.end());
        findings.add("spec.max_used_tokens", why);
    }
    if let Some(delegation) = &spec.personal_delegation {
        check_delegation(delegation, &spec.audiences, findings);
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

fn check_delegation(of: &PersonalDelegation, audiences: &[String], findings: &mut Findings) {
    let at = |field: &str| format!("spec.personal_delegation.{field}");
    if of.audiences.is_empty() {
        findings.add(at("audiences"), format!("is empty; give 1 to {AUDIENCES}, kept for the tokens that make grants"));
    }
    findings.texts(&at("audiences"), &of.audiences, AUDIENCES, |findings, path, value| {
        findings.required(path, value, Lines::One);
        if audiences.iter().any(|other| other == value) {
            let why = format!(
                "{} is one of spec.audiences: an agent that is handed a token for it, to act for its person, could make grants",
                quoted(value)
            );
            findings.add(path, why);
        }
    });
    if of.permissions.is_empty() {
        findings.add(at("permissions"), "is empty; give 1 to 256, within which people may delegate");
    }
    selector::permissions(&at("permissions"), &of.permissions, findings, selector::is_pattern);
    if of.agent_classes.is_empty() {
        findings.add(at("agent_classes"), format!("is empty; give 1 to {LIST}, whose agents people may let act"));
    }
    findings.texts(&at("agent_classes"), &of.agent_classes, LIST, Findings::name);
    if of.max_ttl.is_none() {
        findings.add(at("max_ttl"), "is missing; give 1 minute to 1 year");
    }
    findings.span(&at("max_ttl"), of.max_ttl, GRANTS, "1 minute to 1 year");
    if of.max_depth > MAX_DEPTH {
        findings.add(at("max_depth"), format!("is {}; give 0 to {MAX_DEPTH}", of.max_depth));
    }
    findings.span(&at("max_auth_age"), of.max_auth_age, SIGNED_IN, "1 minute to 24 hours");
    findings.texts(&at("acr_values"), &of.acr_values, ACR, |findings, path, value| {
        findings.required(path, value, Lines::One);
    });
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
        Some(StandsFor::Node(name)) => findings.name(&format!("{path}.node"), name),
        Some(StandsFor::UserClaim(claim)) => {
            if let Some(why) = claim_fault_in(claim) {
                findings.add(format!("{path}.user_claim"), why);
            }
        }
        Some(StandsFor::NodeClaim(claim)) => {
            if let Some(why) = claim_fault_in(claim) {
                findings.add(format!("{path}.node_claim"), why);
            }
        }
        None => findings.add(
            format!("{path}.agent"),
            "is missing; say for which agent, user_claim, node or node_claim the token stands",
        ),
    }
    if !rule.groups_claim.is_empty() {
        let place = format!("{path}.groups_claim");
        if !matches!(rule.stands_for, Some(StandsFor::UserClaim(_))) {
            findings.add(&place, "is given without a user_claim; only people are members of groups of people");
        }
        if let Some(why) = claim_fault_in(&rule.groups_claim) {
            findings.add(place, why);
        }
    }
}

/// What is wrong with the path of a claim: names joined by `/`.
pub(super) fn claim_fault_in(claim: &str) -> Option<String> {
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
