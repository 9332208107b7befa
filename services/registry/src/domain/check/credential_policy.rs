//! What may be declared of a credential policy.

use std::time::Duration;

use legate_wire::registry::{CredentialMethod, CredentialPolicySpec, TokenBinding};

use super::class::{CERTIFICATE_TTL, TOKEN_TTL};
use super::findings::Findings;
use crate::domain::text::Lines;

/// Running copies of one agent, at the most.
const MOST_INSTANCES: u32 = 100_000;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// A year of 365.25 days.
const YEAR: Duration = Duration::from_secs(31_557_600);

pub(super) fn check(spec: &CredentialPolicySpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    let methods = "CREDENTIAL_METHOD_ENROLMENT_TOKEN, CREDENTIAL_METHOD_PRIVATE_KEY_JWT, \
        CREDENTIAL_METHOD_TLS_CLIENT_AUTH, CREDENTIAL_METHOD_CLIENT_SECRET, CREDENTIAL_METHOD_TRUSTED_ISSUER or \
        CREDENTIAL_METHOD_ATTESTATION";
    findings.choices::<CredentialMethod>("spec.methods", &spec.methods, methods);
    findings.span("spec.max_token_ttl", spec.max_token_ttl, TOKEN_TTL, "30 seconds to 10 minutes");
    findings.span("spec.max_certificate_ttl", spec.max_certificate_ttl, CERTIFICATE_TTL, "5 minutes to 24 hours");
    let bindings = "TOKEN_BINDING_REQUIRED, TOKEN_BINDING_OPTIONAL or none";
    findings.choice::<TokenBinding>("spec.token_binding", spec.token_binding, false, bindings);
    findings.span("spec.max_secret_ttl", spec.max_secret_ttl, HOUR..=YEAR, "1 hour to 1 year");
    findings.span("spec.rotation_overlap", spec.rotation_overlap, Duration::ZERO..=30 * DAY, "at most 30 days");
    if spec.max_instances > MOST_INSTANCES {
        findings.add("spec.max_instances", format!("is {}; give 0 to {MOST_INSTANCES}", spec.max_instances));
    }
    findings.span("spec.rotate_before", spec.rotate_before, Duration::ZERO..=90 * DAY, "at most 90 days");
}
