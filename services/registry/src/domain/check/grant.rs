//! What may be declared of a delegation grant, for itself; what it may pass on is for the journey to see.

use legate_authority::MAX_DEPTH;
use legate_wire::registry::{ConsentEvidence, DelegationGrantSpec};

use super::findings::Findings;
use super::{selector, uri};
use crate::domain::principal;
use crate::domain::text::{Lines, quoted};

/// The most audiences of one grant.
const AUDIENCES: usize = 16;
/// The longest way in which consent was given, in bytes.
const METHOD: usize = 64;
/// The longest place where consent can be seen, in bytes.
const REFERENCE: usize = 2_048;

/// `name` is the grant's own.
pub(super) fn check(name: &str, spec: &DelegationGrantSpec, findings: &mut Findings) {
    if let Some(why) = principal::delegator_fault_in(&spec.delegator) {
        findings.add("spec.delegator", format!("{} {why}", quoted(&spec.delegator)));
    }
    findings.name("spec.delegate", &spec.delegate);
    if spec.delegator.strip_prefix("agent:") == Some(spec.delegate.as_str()) {
        findings.add("spec.delegate", "is the delegator; nobody acts for himself");
    }
    if spec.permissions.is_empty() {
        findings.add("spec.permissions", "is empty; give 1 to 256");
    }
    selector::permissions("spec.permissions", &spec.permissions, findings, selector::is_pattern);
    findings.texts("spec.audiences", &spec.audiences, AUDIENCES, |findings, path, value| {
        if let Some(why) = uri::fault_in(value) {
            findings.add(path, why);
        }
    });
    findings.required("spec.purpose", &spec.purpose, Lines::Many);
    if spec.not_after.is_none() {
        findings.add("spec.not_after", "is missing; a grant ends");
    }
    findings.window("spec.", spec.not_before, spec.not_after);
    match (spec.may_redelegate, spec.max_depth) {
        (true, 1..=MAX_DEPTH) | (false, 0) => {}
        (true, depth) => {
            findings.add("spec.max_depth", format!("is {depth}; give 1 to {MAX_DEPTH}, or leave may_redelegate away"));
        }
        (false, depth) => {
            findings.add("spec.max_depth", format!("is {depth}, and may_redelegate is not set; give 0"));
        }
    }
    if !spec.parent.is_empty() {
        findings.name("spec.parent", &spec.parent);
        if spec.parent == name {
            findings.add("spec.parent", "is the grant itself");
        } else if !spec.delegator.starts_with("agent:") {
            findings.add("spec.delegator", "is no agent; who passes a grant on is that grant's delegate, agent:NAME");
        }
    }
    spec.consent.iter().for_each(|consent| check_consent(consent, findings));
}

fn check_consent(consent: &ConsentEvidence, findings: &mut Findings) {
    for (path, value, longest) in
        [("spec.consent.method", &consent.method, METHOD), ("spec.consent.reference", &consent.reference, REFERENCE)]
    {
        if value.trim().is_empty() {
            findings.add(path, "is missing");
        } else {
            findings.text_within(path, value, longest, Lines::One);
        }
    }
    if !consent.sha256.is_empty() && !super::is_sha256(&consent.sha256) {
        findings.add("spec.consent.sha256", "is not 64 hexadecimal digits in lower case");
    }
    if consent.time.is_none() {
        findings.add("spec.consent.time", "is missing");
    }
    findings.moment("spec.consent.time", consent.time);
    findings.text_within("spec.consent.issuer", &consent.issuer, METHOD * 8, Lines::One);
    findings.text_within("spec.consent.subject", &consent.subject, REFERENCE, Lines::One);
    if !consent.token_sha256.is_empty() && !super::is_sha256(&consent.token_sha256) {
        findings.add("spec.consent.token_sha256", "is not 64 hexadecimal digits in lower case");
    }
    findings.moment("spec.consent.auth_time", consent.auth_time);
    findings.text_within("spec.consent.acr", &consent.acr, METHOD * 4, Lines::One);
}
