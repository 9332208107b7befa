//! What may be said where agents are stopped, or let go on.

use legate_ids::AgentId;
use legate_wire::registry::StopScope;
use legate_wire::registry::stop_scope::Level;

use super::findings::Findings;
use crate::domain::problem::Problem;

/// What is wrong with whom a request names, paths as in the request.
pub(crate) fn check_stop_scope(scope: Option<&StopScope>) -> Vec<Problem> {
    let mut findings = Findings::default();
    let Some(StopScope { namespace, level: Some(level) }) = scope else {
        let all = "agent, agent_class, group, owner, whole_namespace or everywhere";
        findings.add("scope.level", format!("says nobody; give {all}"));
        return findings.into();
    };
    let is_true = |findings: &mut Findings, path: &str, said: bool| {
        if !said {
            findings.add(path, "is true, or another level is given");
        }
    };
    match level {
        Level::Agent(id) if AgentId::parse(id).is_ok() => {}
        Level::Agent(name) => findings.name("scope.agent", name),
        Level::AgentClass(name) => findings.name("scope.agent_class", name),
        Level::Group(name) => findings.name("scope.group", name),
        Level::Owner(name) => findings.principal("scope.owner", name),
        Level::WholeNamespace(said) => is_true(&mut findings, "scope.whole_namespace", *said),
        Level::Everywhere(said) => is_true(&mut findings, "scope.everywhere", *said),
    }
    match level {
        Level::Everywhere(_) if !namespace.is_empty() => {
            findings.add("scope.namespace", "is empty where everywhere is given");
        }
        Level::Everywhere(_) => {}
        Level::Owner(_) if namespace.is_empty() => {}
        _ => findings.name("scope.namespace", namespace),
    }
    findings.into()
}
