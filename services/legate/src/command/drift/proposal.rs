//! A smaller grant: what is unused taken away where it is given, or below a ceiling of the agent's own; tried on what was decided.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use legate_wire::policy::drift_service_client::DriftServiceClient;
use legate_wire::policy::{
    ProposeCeilingRequest, ProposeCeilingResponse, ProposedAction, ProposedChange, SimulateResponse,
};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    AgentRef, Declaration, GetAgentRequest, GetDeclarationRequest, ObjectName, Permission, ResourceSelector,
};

use super::{MAX_MESSAGE, PATIENCE};
use crate::command::agent_usage::evidence;
use crate::command::change::{self, Change};
use crate::command::{Desk, plan_file, search};
use crate::error::{REGISTRY_BUSY, USAGE};
use crate::output::{Format, escape::visible, grouped, simulation_lines};
use crate::place::{Line, Service};
use crate::{Exit, Failure, manifest};

/// Where a proposal goes, and how it is made.
pub(super) struct To<'a> {
    pub(super) file: &'a Path,
    pub(super) out: Option<&'a Path>,
    pub(super) window: &'a str,
    pub(super) by_ceiling: bool,
}

/// A smaller grant as it is written.
struct Smaller {
    declarations: Vec<Declaration>,
    removals: Vec<ObjectName>,
}

pub(super) async fn propose(desk: Desk, ask: ProposeCeilingRequest, to: &To<'_>) -> Result<Exit, Failure> {
    if matches!(desk.format, Format::Jsonl | Format::Name) {
        return Err(Failure::local(&USAGE, "a proposal is told with -o table, -o json or -o yaml"));
    }
    let window = search::span("--simulate", to.window)?;
    let (policy, id) = (desk.line(Service::Policy)?, ask.agent_id.clone());
    let proposal = policy
        .ask(ask, |c, r| async move {
            let mut request = tonic::Request::new(r);
            request.set_timeout(PATIENCE);
            DriftServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).propose_ceiling(request).await
        })
        .await?;
    if proposal.lose.is_empty() {
        return tell(&desk, &proposal, None, to);
    }
    if to.by_ceiling && proposal.keep.is_empty() {
        let why =
            "nothing that the agent has was used, and a ceiling without entries cuts nothing: leave out --ceiling";
        return Err(Failure::local(&USAGE, why));
    }
    let registry = desk.line(Service::Registry)?;
    let found = agent(&registry, id).await?;
    let smaller = if to.by_ceiling || proposal.changes.is_empty() {
        ceiling(found, &proposal)
    } else {
        patched(&registry, &agent_name(&found), &proposal.changes).await?
    };
    let mut declarations = Vec::new();
    if !smaller.declarations.is_empty() {
        write(to.file, &text(&smaller, &proposal, to.by_ceiling)?)?;
        // As legate plan reads it: what is written is what is tried.
        let documents = change::read(&[to.file.to_owned()])?;
        declarations = documents.into_iter().map(|document| document.declaration).collect();
    }
    let planned = change::plan(&registry, declarations.clone(), smaller.removals.clone()).await?;
    let change = Change { declarations, removals: smaller.removals, planned };
    let simulation = change.simulate(&desk, window).await?;
    if let Some(out) = to.out {
        plan_file::keep(out, &change)?;
    }
    tell(&desk, &proposal, Some((&change, &simulation)), to)
}

async fn agent(registry: &Line, id: String) -> Result<Declaration, Failure> {
    let request = GetAgentRequest { agent: Some(AgentRef { id, ..AgentRef::default() }), as_of: None };
    let found = registry.ask(request, |c, r| async move { AgentServiceClient::new(c).get_agent(r).await }).await?;
    Ok(Declaration { object: Some(Object::Agent(found.agent.unwrap_or_default())) })
}

fn agent_name(agent: &Declaration) -> String {
    agent.metadata().map(|metadata| metadata.name.clone()).unwrap_or_default()
}

/// The agent with a ceiling of its own.
fn ceiling(mut agent: Declaration, proposal: &ProposeCeilingResponse) -> Smaller {
    if let Some(Object::Agent(agent)) = &mut agent.object {
        agent.spec.get_or_insert_default().ceiling.clone_from(&proposal.keep);
    }
    Smaller { declarations: vec![agent], removals: Vec::new() }
}

/// What gives what is unused, without it.
async fn patched(registry: &Line, agent: &str, changes: &[ProposedChange]) -> Result<Smaller, Failure> {
    let mut smaller = Smaller { declarations: Vec::new(), removals: Vec::new() };
    for change in changes {
        let name = || ObjectName { kind: change.kind, namespace: change.namespace.clone(), name: change.name.clone() };
        if change.action() == ProposedAction::TakeBack {
            smaller.removals.push(name());
            continue;
        }
        let is_it = |one: &&mut Declaration| {
            one.kind().is_some_and(|kind| i32::from(kind) == change.kind)
                && one.metadata().is_some_and(|metadata| metadata.name == change.name)
        };
        // A binding may be changed twice.
        if let Some(known) = smaller.declarations.iter_mut().find(is_it) {
            apply(known, change, agent);
            continue;
        }
        let ObjectName { kind, namespace, name } = name();
        let request = GetDeclarationRequest { kind, namespace, name, as_of: None };
        let found = registry
            .ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await })
            .await?;
        let mut declaration = found.declaration.unwrap_or_default();
        if declaration.metadata().map(|metadata| metadata.version) != Some(change.version) {
            let what = format!("{}/{} was written since it was looked at; ask again", change.namespace, change.name);
            return Err(Failure::local(&REGISTRY_BUSY, what));
        }
        apply(&mut declaration, change, agent);
        smaller.declarations.push(declaration);
    }
    Ok(smaller)
}

fn apply(declaration: &mut Declaration, change: &ProposedChange, agent: &str) {
    let drop =
        |from: &mut Vec<Permission>| from.retain(|one| !change.permissions.iter().any(|gone| is_same(one, gone)));
    match &mut declaration.object {
        Some(Object::Role(role)) => drop(&mut role.spec.get_or_insert_default().permissions),
        Some(Object::AgentClass(class)) => drop(&mut class.spec.get_or_insert_default().permissions),
        Some(Object::RoleBinding(binding)) => {
            let spec = binding.spec.get_or_insert_default();
            match change.action() {
                ProposedAction::ExceptAgent => spec.except_agents.push(agent.to_owned()),
                _ => spec.agents.retain(|name| name != agent),
            }
        }
        _ => {}
    }
}

/// Whether two permissions are the same; an id that is left out is any.
fn is_same(one: &Permission, other: &Permission) -> bool {
    let whole = |of: &Permission| {
        let mut resource = of.resource.clone().unwrap_or_default();
        if resource.id.is_empty() {
            resource.id = "*".to_owned();
        }
        (of.action.clone(), resource)
    };
    let (one, other): ((String, ResourceSelector), _) = (whole(one), whole(other));
    one == other
}

/// The manifests, with what they take away above them.
fn text(smaller: &Smaller, proposal: &ProposeCeilingResponse, by_ceiling: bool) -> Result<String, Failure> {
    let mut text = String::new();
    if by_ceiling || proposal.changes.is_empty() {
        text.push_str("# A ceiling of the agent's own, by what it used. It takes away what was not used:\n");
    } else {
        text.push_str("# What concerns the agent alone, without what was not used:\n");
    }
    for lost in &proposal.lose {
        text.push_str(&format!("#   {}\n", visible(&lost.text)));
    }
    text.push_str(&format!("# {}\n", visible(&evidence(proposal.window.as_ref()))));
    for (n, declaration) in smaller.declarations.iter().enumerate() {
        let node = manifest::node(declaration).ok_or_else(|| Failure::local(&USAGE, "the object has no manifest"))?;
        if n > 0 {
            text.push_str("---\n");
        }
        text.push_str(&node.to_yaml());
    }
    Ok(text)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let mut opened = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::file(file, "the file is there already; nothing is overwritten"),
        _ => Failure::file(file, e),
    })?;
    opened.write_all(text.as_bytes()).map_err(|e| Failure::file(file, e))
}

fn tell(
    desk: &Desk,
    proposal: &ProposeCeilingResponse,
    tried: Option<(&Change, &SimulateResponse)>,
    to: &To<'_>,
) -> Result<Exit, Failure> {
    let mut out = desk.out();
    if !out.is_table() {
        let mut whole = change::value(proposal)?;
        if let (Some(map), Some((_, simulation))) = (whole.as_object_mut(), tried) {
            map.insert("simulation".into(), change::value(simulation)?);
        }
        if out.format == Format::Json {
            out.value(&whole)?;
        } else {
            out.document(&crate::yaml::Node::of(&whole))?;
        }
        out.flush()?;
        return Ok(Exit::Done);
    }
    let Some((change, simulation)) = tried else {
        out.line("There is nothing to take away: nothing that it has is unused.")?;
        out.line(&visible(&evidence(proposal.window.as_ref())))?;
        out.flush()?;
        return Ok(Exit::Done);
    };
    for lost in &proposal.lose {
        out.line(&format!("- {}", visible(&lost.text)))?;
    }
    if to.by_ceiling || proposal.changes.is_empty() {
        for kept in &proposal.keep {
            out.line(&format!("  keeps {}", visible(&manifest::permission_text(kept))))?;
        }
        let why: Vec<&str> = proposal.why_ceiling.iter().map(String::as_str).collect();
        if !why.is_empty() {
            out.line(&format!("By a ceiling of its own, since {}.", visible(&why.join("; "))))?;
        }
    } else {
        for one in &proposal.changes {
            out.line(&format!("  {}", visible(&change_text(one))))?;
        }
    }
    out.line("")?;
    out.line(&format!(
        "{} of {} allowed decisions of the last {} would flip.",
        grouped(simulation.to_deny),
        grouped(simulation.allowed),
        visible(to.window)
    ))?;
    if simulation.to_deny + simulation.unsure + simulation.not_judged + simulation.to_allow > 0 {
        simulation_lines(simulation, to.window).iter().skip(1).try_for_each(|line| out.line(line))?;
    }
    out.line(&visible(&evidence(proposal.window.as_ref())))?;
    if !change.declarations.is_empty() {
        let path = to.file.display().to_string();
        out.line(&format!("Written to {0}; legate plan -f {0} says what it changes.", visible(&path)))?;
    }
    if let Some(path) = to.out {
        out.line(&format!("The whole is planned in {0}; legate apply --plan {0} makes it.", path.display()))?;
    } else {
        for gone in &change.removals {
            out.line(&format!(
                "Take back: legate binding revoke {}/{} --reason TEXT; or give --out, and legate apply --plan makes all of it.",
                visible(&gone.namespace),
                visible(&gone.name)
            ))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn change_text(of: &ProposedChange) -> String {
    let kind = match of.kind() {
        legate_wire::registry::Kind::AgentClass => "class",
        legate_wire::registry::Kind::Role => "role",
        _ => "binding",
    };
    let permissions: Vec<String> = of.permissions.iter().map(manifest::permission_text).collect();
    let what = match of.action() {
        ProposedAction::DropPermissions => format!("loses {}", permissions.join(", ")),
        ProposedAction::DropAgent => "no longer names the agent".to_owned(),
        ProposedAction::ExceptAgent => "excepts the agent".to_owned(),
        ProposedAction::TakeBack | ProposedAction::Unspecified => "is taken back".to_owned(),
    };
    format!("{kind} {}/{} {what}: {}", of.namespace, of.name, of.text)
}
