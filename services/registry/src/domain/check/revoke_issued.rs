//! What may be said where everything is taken back that was issued to many.

use legate_wire::registry::revoke_issued_request::Level;
use legate_wire::registry::{RevocationReason, RevokeIssuedRequest};

use super::findings::Findings;
use crate::domain::problem::Problem;

/// What is wrong with the order, paths as in the request.
pub(crate) fn check_revoke_issued(ask: &RevokeIssuedRequest) -> Vec<Problem> {
    let mut findings = Findings::default();
    match &ask.level {
        None => findings.add("level", "says nobody; give agent_class, whole_namespace, owner or subject"),
        Some(Level::AgentClass(name)) => findings.name("agent_class", name),
        Some(Level::WholeNamespace(true)) => {}
        Some(Level::WholeNamespace(false)) => findings.add("whole_namespace", "is true, or another level is given"),
        Some(Level::Owner(name)) => findings.principal("owner", name),
        Some(Level::Subject(name)) if name.starts_with("user:") => findings.principal("subject", name),
        Some(Level::Subject(_)) => {
            let why = "is no person; give user:NAME. What agents delegate ends with their own credentials";
            findings.add("subject", why);
        }
    }
    let may_be_everywhere = matches!(ask.level, Some(Level::Owner(_) | Level::Subject(_)));
    if !(ask.namespace.is_empty() && may_be_everywhere) {
        findings.name("namespace", &ask.namespace);
    }
    findings.choice::<RevocationReason>("reason", ask.reason, false, "a reason of RFC 5280 section 5.3.1");
    findings.into()
}
