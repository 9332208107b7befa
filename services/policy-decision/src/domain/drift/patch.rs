//! What is unused taken away where it is given, as far as that concerns the agent alone; and why it is not, where it does not.

use std::collections::BTreeSet;

use legate_authority::{Grant, Permission};
use legate_view::{Agent, AgentClass, AgentState, Label, Role, RoleBinding, Snapshot, Source};

use super::Finding;
use crate::domain::preview::cells::Cell;

/// Agents that a binding may except, as the registry has it.
const EXCEPTED: usize = 1_024;

/// How an object is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Permissions leave a role or a class that is this agent's alone.
    DropPermissions,
    /// The agent leaves the list of a binding that speaks of others too.
    DropAgent,
    /// The agent is excepted from a binding that speaks of a group of it.
    ExceptAgent,
    /// A binding that speaks of nobody else is taken back.
    TakeBack,
}

/// Which kind of object is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Class,
    Role,
    Binding,
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) act: Act,
    pub(crate) of: Changed,
    pub(crate) label: Label,
    pub(crate) permissions: Vec<Cell>,
    pub(crate) text: String,
}

/// The changes, or why they would not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) changes: Vec<Change>,
    /// None: `changes` does it.
    pub(crate) why_not: Vec<String>,
}

/// Takes away what is to be lost. Where any of it cannot be taken from this agent alone, nothing is: a ceiling does all of it in one place.
pub(crate) fn patch(snapshot: &Snapshot, agent: &Agent, lose: &[Finding]) -> Patch {
    let mut patch = Patch::default();
    if !agent.ancestors.is_empty() {
        patch.why_not.push(format!("{} was made by an agent, and has what that has", agent.label.name));
        return patch;
    }
    let lost: BTreeSet<&Cell> = lose.iter().filter_map(|finding| finding.cell.as_ref()).collect();
    for grant in snapshot.grants_of(agent) {
        let idle: Vec<Cell> =
            grant.permissions.iter().filter(|one| is_lost(&grant, one, &lost)).map(Cell::of).collect();
        if grant.permissions.iter().any(|one| is_lost_in_part(&grant, one, &lost)) {
            patch.why_not.push(format!("{} gives a part of it that is used", told(&grant.source)));
            continue;
        }
        if idle.is_empty() {
            continue;
        }
        let is_whole = idle.len() == grant.permissions.len();
        match &grant.source {
            Source::Class(class) => patch.take(of_class(snapshot, agent, class, idle)),
            Source::Binding(binding, _, group) if is_whole => {
                match of_binding(snapshot, agent, binding, group.is_some()) {
                    Ok(changes) => patch.changes.extend(changes),
                    Err(why) => patch.why_not.push(why),
                }
            }
            Source::Binding(binding, role, _) => patch.take(of_role(snapshot, agent, binding, role, idle)),
        }
    }
    if !patch.why_not.is_empty() {
        patch.changes.clear();
    }
    // Two bindings may give the same role.
    let mut once: Vec<Change> = Vec::new();
    patch.changes.retain(|change| {
        let is_new = !once.contains(change);
        once.push(change.clone());
        is_new
    });
    patch
}

impl Patch {
    fn take(&mut self, one: Result<Change, String>) {
        match one {
            Ok(change) => self.changes.push(change),
            Err(why) => self.why_not.push(why),
        }
    }
}

fn told(source: &Source) -> String {
    match source {
        Source::Class(class) => format!("the class {}", class.label.name),
        Source::Binding(binding, ..) => format!("the binding {}", binding.label.name),
    }
}

/// The parts of a permission that a grant gives.
fn parts(grant: &Grant<'_, Source>, permission: &Permission) -> Vec<Cell> {
    let whole = Cell::of(permission);
    match grant.narrowing {
        None => vec![whole],
        Some(narrowing) => narrowing.iter().filter_map(|selector| whole.meet(selector)).collect(),
    }
}

fn is_lost(grant: &Grant<'_, Source>, permission: &Permission, lost: &BTreeSet<&Cell>) -> bool {
    let parts = parts(grant, permission);
    !parts.is_empty() && parts.iter().all(|part| lost.contains(part))
}

/// For some resources that a binding narrows it to and not for others: that cannot be taken out of it.
fn is_lost_in_part(grant: &Grant<'_, Source>, permission: &Permission, lost: &BTreeSet<&Cell>) -> bool {
    let parts = parts(grant, permission);
    let some = parts.iter().filter(|part| lost.contains(part)).count();
    some > 0 && some < parts.len()
}

fn of_class(snapshot: &Snapshot, agent: &Agent, class: &AgentClass, idle: Vec<Cell>) -> Result<Change, String> {
    let is_of_it = |one: &&std::sync::Arc<Agent>| {
        one.class == class.label.name
            && one.label.namespace == class.label.namespace
            && one.state != AgentState::Retired
            && one.id != agent.id
    };
    let others = snapshot.agents().filter(is_of_it).count();
    if others > 0 {
        return Err(format!("the class {} is that of {others} other agents too", class.label.name));
    }
    let text = "no other agent is of this class".to_owned();
    Ok(Change { act: Act::DropPermissions, of: Changed::Class, label: class.label.clone(), permissions: idle, text })
}

fn is_alone(agent: &Agent, binding: &RoleBinding) -> bool {
    binding.agents.iter().all(|name| *name == agent.label.name) && binding.groups.is_empty() && binding.users.is_empty()
}

fn of_role(
    snapshot: &Snapshot,
    agent: &Agent,
    binding: &RoleBinding,
    role: &Role,
    idle: Vec<Cell>,
) -> Result<Change, String> {
    if !is_alone(agent, binding) {
        return Err(format!("the binding {} gives the role {} to others too", binding.label.name, role.label.name));
    }
    let other =
        snapshot.bindings_of_role(role).find(|other| !is_alone(agent, other) || other.label.id != binding.label.id);
    if let Some(other) = other {
        return Err(format!("the role {} is given by the binding {} too", role.label.name, other.label.name));
    }
    let text = format!("only the binding {} gives this role, to this agent alone", binding.label.name);
    Ok(Change { act: Act::DropPermissions, of: Changed::Role, label: role.label.clone(), permissions: idle, text })
}

/// What takes the whole of a binding from the agent.
fn of_binding(
    snapshot: &Snapshot,
    agent: &Agent,
    binding: &RoleBinding,
    is_by_group: bool,
) -> Result<Vec<Change>, String> {
    let change = |act, text: String| Change {
        act,
        of: Changed::Binding,
        label: binding.label.clone(),
        permissions: Vec::new(),
        text,
    };
    if is_alone(agent, binding) {
        let text = "it speaks of this agent alone, and gives it nothing that is used".to_owned();
        return Ok(vec![change(Act::TakeBack, text)]);
    }
    let groups = binding.groups.iter().filter_map(|name| snapshot.group(binding.label.namespace.as_str(), name));
    let is_member = is_by_group || groups.into_iter().any(|group| group.has(agent));
    let mut changes = Vec::new();
    if !is_by_group {
        changes.push(change(Act::DropAgent, "the others that it names keep the role".to_owned()));
    }
    if is_member && !binding.except.contains(&agent.label.name) {
        if binding.except.len() >= EXCEPTED {
            return Err(format!("the binding {} excepts {EXCEPTED} agents already", binding.label.name));
        }
        changes.push(change(Act::ExceptAgent, "the others of its groups keep the role".to_owned()));
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;
