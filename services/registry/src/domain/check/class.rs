//! What may be declared of an agent class.

use std::ops::RangeInclusive;
use std::time::Duration;

use legate_ids::Action;
use legate_wire::registry::AgentClassSpec;

use super::findings::Findings;
use super::selector;
use crate::domain::text::Lines;

const MINUTE: Duration = Duration::from_secs(60);
/// How long an access token may live at most.
pub(super) const TOKEN_TTL: RangeInclusive<Duration> =
    Duration::from_secs(30)..=Duration::from_secs(legate_token::MAX_LIFETIME);
/// How long a certificate may live at most.
pub(super) const CERTIFICATE_TTL: RangeInclusive<Duration> = Duration::from_secs(300)..=Duration::from_secs(86_400);
/// The most boundaries that a class names.
const BOUNDARIES: usize = 16;
/// Ten years of 365.25 days.
const TEN_YEARS: Duration = Duration::from_secs(315_576_000);

pub(super) fn check(spec: &AgentClassSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    // A class enumerates its actions one by one, so that a new action is nobody's by accident.
    selector::permissions("spec.permissions", &spec.permissions, findings, |action| {
        Action::parse(action).map(|_| ()).map_err(|e| format!("{e}; a class has no pattern"))
    });
    selector::permissions("spec.ceiling", &spec.ceiling, findings, selector::is_pattern);
    findings.span("spec.default_expiry", spec.default_expiry, MINUTE..=TEN_YEARS, "1 minute to 10 years");
    findings.span("spec.max_token_ttl", spec.max_token_ttl, TOKEN_TTL, "30 seconds to 10 minutes");
    findings.span("spec.max_certificate_ttl", spec.max_certificate_ttl, CERTIFICATE_TTL, "5 minutes to 24 hours");
    if !spec.credential_policy.is_empty() {
        findings.name("spec.credential_policy", &spec.credential_policy);
    }
    findings.texts("spec.boundaries", &spec.boundaries, BOUNDARIES, Findings::name);
}
