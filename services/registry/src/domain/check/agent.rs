//! What may be declared of an agent.

use legate_ids::AgentId;
use legate_wire::registry::{AgentSpec, Charter, Environment, RiskTier};

use super::findings::{Findings, LIST};
use super::{selector, uri};
use crate::domain::text::{Lines, quoted};
use crate::error::{AGENT_OWNER_MISSING, AGENT_SPONSOR_MISSING};

pub(super) fn check(spec: &AgentSpec, findings: &mut Findings) {
    findings.name("spec.agent_class", &spec.agent_class);
    findings.required("spec.purpose", &spec.purpose, Lines::Many);
    let environments = "ENVIRONMENT_DEV, ENVIRONMENT_TEST or ENVIRONMENT_PROD";
    findings.choice::<Environment>("spec.environment", spec.environment, true, environments);
    who_answers(spec, findings);
    for (path, value) in [
        ("spec.display_name", &spec.display_name),
        ("spec.external_id", &spec.external_id),
        ("spec.framework", &spec.framework),
        ("spec.model", &spec.model),
        ("spec.version", &spec.version),
    ] {
        findings.text(path, value, Lines::One);
    }
    if !spec.parent.is_empty()
        && let Err(e) = AgentId::parse(&spec.parent)
    {
        findings.add("spec.parent", format!("{} is no agent's id: {e}", quoted(&spec.parent)));
    }
    for (path, values) in [
        ("spec.protocols", &spec.protocols),
        ("spec.data_classifications", &spec.data_classifications),
        ("spec.regions", &spec.regions),
    ] {
        findings.texts(path, values, LIST, |findings, path, value| findings.required(path, value, Lines::One));
    }
    let tiers = "RISK_TIER_LOW, RISK_TIER_MEDIUM, RISK_TIER_HIGH, RISK_TIER_CRITICAL or none";
    findings.choice::<RiskTier>("spec.risk_tier", spec.risk_tier, false, tiers);
    spec.charter.iter().for_each(|charter| check_charter(charter, findings));
    findings.moment("spec.expire_time", spec.expire_time);
    selector::permissions("spec.ceiling", &spec.ceiling, findings, selector::is_pattern);
}

fn who_answers(spec: &AgentSpec, findings: &mut Findings) {
    if spec.owners.is_empty() {
        findings.add_for(
            &AGENT_OWNER_MISSING,
            "spec.owners",
            "is empty; at least one answers for the agent technically",
        );
    }
    if spec.sponsors.is_empty() {
        findings.add_for(
            &AGENT_SPONSOR_MISSING,
            "spec.sponsors",
            "is empty; at least one is accountable for the agent",
        );
    }
    findings.texts("spec.owners", &spec.owners, LIST, Findings::principal);
    findings.texts("spec.sponsors", &spec.sponsors, LIST, Findings::principal);
    if !spec.manager.is_empty() {
        findings.principal("spec.manager", &spec.manager);
    }
}

fn check_charter(charter: &Charter, findings: &mut Findings) {
    if let Some(why) = uri::fault_in(&charter.uri) {
        findings.add("spec.charter.uri", why);
    }
    if !super::is_sha256(&charter.sha256) {
        findings.add("spec.charter.sha256", "is not 64 hexadecimal digits in lower case");
    }
}
