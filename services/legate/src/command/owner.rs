//! `legate agent owner`: who answers for an agent, and who does from now on.

use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{Agent, AgentSpec, Declaration, GetAgentRequest, Metadata, UpdateDeclarationRequest};

use super::{Desk, agent_ref};
use crate::cli::Owner;
use crate::error::USAGE;
use crate::output::{agent_row, orphaned};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, ask: Owner) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let request = GetAgentRequest { agent: Some(agent_ref(&ask.agent)?), as_of: None };
    let read = registry.ask(request, |c, r| async move { AgentServiceClient::new(c).get_agent(r).await }).await?;
    let agent = read.agent.clone().unwrap_or_default();
    if !ask.changes() {
        desk.out().one(&proto::dynamic(&read), &agent_row(&agent), &details(&agent, read.revision))?;
        return Ok(Exit::Done);
    }
    if ask.reason.is_empty() {
        return Err(Failure::local(&USAGE, "a change of who answers for an agent needs --reason".to_owned()));
    }
    let mut spec = agent.spec.clone().unwrap_or_default();
    let is_orphaned = agent.status.as_ref().is_some_and(|status| status.orphaned_time.is_some());
    if is_orphaned && !ask.add_sponsor.is_empty() {
        // All of them have left, and give way.
        spec.sponsors.retain(|who| ask.remove_sponsor.contains(who));
    }
    let (spec, paths) = changed(spec, &ask)?;
    let metadata = agent.metadata.clone().unwrap_or_default();
    let wanted = Agent {
        // Whoever changed it meanwhile is not overwritten.
        metadata: Some(Metadata {
            namespace: metadata.namespace,
            name: metadata.name,
            etag: metadata.etag,
            ..Metadata::default()
        }),
        spec: Some(spec),
        status: None,
    };
    let request = UpdateDeclarationRequest {
        declaration: Some(Declaration { object: Some(Object::Agent(wanted)) }),
        update_mask: Some(prost_types::FieldMask { paths }),
        request_id: request_id(),
        reason: ask.reason,
    };
    let ask = registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).update_declaration(r).await });
    let answer = ask.await?;
    let Some(Object::Agent(agent)) = answer.declaration.clone().unwrap_or_default().object else {
        return Err(Failure::local(&USAGE, "the registry answered with no agent".to_owned()));
    };
    desk.out().one(&proto::dynamic(&answer), &agent_row(&agent), &details(&agent, answer.revision))?;
    Ok(Exit::Done)
}

fn details(agent: &Agent, revision: u64) -> Vec<(&'static str, String)> {
    let (row, spec) = (agent_row(agent), agent.spec.clone().unwrap_or_default());
    vec![
        ("agent", row.name),
        ("owners", spec.owners.join(", ")),
        ("sponsors", spec.sponsors.join(", ")),
        ("manager", spec.manager),
        ("orphaned", orphaned(agent)),
        ("revision", revision.to_string()),
    ]
}

/// Who is to answer for the agent, and the fields in which that differs.
fn changed(mut spec: AgentSpec, ask: &Owner) -> Result<(AgentSpec, Vec<String>), Failure> {
    let mut paths = Vec::new();
    for (list, path, add, remove, flag) in [
        (&mut spec.owners, "spec.owners", &ask.add, &ask.remove, "--remove"),
        (&mut spec.sponsors, "spec.sponsors", &ask.add_sponsor, &ask.remove_sponsor, "--remove-sponsor"),
    ] {
        if let Some(nobody) = remove.iter().find(|who| !list.contains(who)) {
            return Err(Failure::local(&USAGE, format!("{flag} {nobody:?}: is not among {}", list.join(", "))));
        }
        list.retain(|who| !remove.contains(who));
        list.extend(add.iter().filter(|who| !list.contains(who)).cloned().collect::<Vec<_>>());
        if !add.is_empty() || !remove.is_empty() {
            paths.push(path.to_owned());
        }
    }
    if let Some(manager) = &ask.manager {
        spec.manager.clone_from(manager);
        paths.push("spec.manager".to_owned());
    }
    Ok((spec, paths))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn ask(add: &[&str], remove_sponsor: &[&str], manager: Option<&str>) -> Owner {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Owner {
            agent: "n/a".into(),
            add: all(add),
            remove: Vec::new(),
            add_sponsor: Vec::new(),
            remove_sponsor: all(remove_sponsor),
            manager: manager.map(str::to_owned),
            reason: String::new(),
        }
    }

    #[test]
    fn only_what_was_said_is_changed() {
        let spec = AgentSpec {
            owners: vec!["user:ada".into()],
            sponsors: vec!["user:grace".into(), "group:pay".into()],
            ..AgentSpec::default()
        };
        assert!(!ask(&[], &[], None).changes());
        let (same, paths) = changed(spec.clone(), &ask(&[], &[], None)).unwrap();
        assert_eq!((same, paths.len()), (spec.clone(), 0));
        let (now, paths) = changed(spec.clone(), &ask(&["user:ada", "user:bob"], &["user:grace"], Some(""))).unwrap();
        assert_eq!(now.owners, ["user:ada", "user:bob"]);
        assert_eq!(now.sponsors, ["group:pay"]);
        assert_eq!(paths, ["spec.owners", "spec.sponsors", "spec.manager"]);
        assert_eq!(changed(spec, &ask(&[], &["user:nobody"], None)).unwrap_err().reason, "USAGE");
    }
}
