//! What a decision changes: one agent loses what it had, or a part of it, and nobody else loses or gains anything.

use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::{
    Declaration, DelegationGrant, Metadata, Permission, ReviewDecision, ReviewItem, Role, RoleBinding, RoleBindingSpec,
    RoleSpec,
};

use super::changes::{both, overlap};
use crate::domain::check::EXCEPTED;
use crate::domain::delegation::permission;

/// An item to be written, and whether the agent is there and belongs to one of the binding's groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut<'i> {
    pub(crate) item: &'i ReviewItem,
    pub(crate) is_there: bool,
    pub(crate) is_in_group: bool,
}

/// What comes of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// There is nothing to change; why.
    NotNeeded(String),
    /// It is changed so; the name of the binding by which the agent keeps a part.
    Changed(String, String),
    /// It cannot be changed; why.
    Failed(String),
}

/// What becomes of a binding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remedy {
    /// The binding without those who lose it; none where it is as it was, or over.
    pub(crate) narrowed: Option<Declaration>,
    /// A role and a binding for each that keeps a part.
    pub(crate) parts: Vec<Declaration>,
    /// Nobody is left whom the binding names.
    pub(crate) is_over: bool,
    /// What comes of each item, in their order.
    pub(crate) done: Vec<Done>,
}

/// Takes a role from agents. One that the binding names is named no longer; one that belongs to a group of it is excepted, so that
/// the others of the group keep it and whatever else hangs on the group, a boundary or a policy, goes on to bind the agent.
pub(crate) fn of_binding(binding: &RoleBinding, role: &Role, cuts: &[Cut<'_>]) -> Remedy {
    let mut remedy = Remedy::default();
    let mut spec = binding.spec.clone().unwrap_or_default();
    let before = spec.clone();
    for cut in cuts {
        let agent = &cut.item.agent;
        let is_named = spec.agents.contains(agent);
        let is_member = cut.is_in_group && !spec.except_agents.contains(agent);
        if !cut.is_there || !(is_named || is_member) {
            remedy.done.push(Done::NotNeeded("the agent no longer has it".to_owned()));
            continue;
        }
        if is_member && spec.except_agents.len() >= EXCEPTED {
            let why = format!("the binding excepts {EXCEPTED} agents already; narrow its groups");
            remedy.done.push(Done::Failed(why));
            continue;
        }
        spec.agents.retain(|named| named != agent);
        if is_member {
            spec.except_agents.push(agent.clone());
        }
        let told = if is_member { "the binding excepts the agent" } else { "the binding no longer names the agent" };
        let kept = kept(cut.item, role);
        let name = name_of(&cut.item.id);
        let many = count(kept.len());
        let Some(parts) = part(&name, &before, binding, cut.item, kept) else {
            remedy.done.push(Done::Changed(told.to_owned(), String::new()));
            continue;
        };
        let told = format!("{told}, which keeps {many} of it by the binding {name}");
        remedy.parts.extend(parts);
        remedy.done.push(Done::Changed(told, name));
    }
    if spec == before {
        return remedy;
    }
    remedy.is_over = spec.agents.is_empty() && spec.groups.is_empty() && spec.users.is_empty();
    if !remedy.is_over {
        let changed = RoleBinding { metadata: binding.metadata.clone(), spec: Some(spec) };
        remedy.narrowed = Some(Declaration { object: Some(Object::RoleBinding(changed)) });
    }
    remedy
}

fn count(permissions: usize) -> String {
    if permissions == 1 { "1 permission".to_owned() } else { format!("{permissions} permissions") }
}

/// What stays of a reduced item: what was decided, as far as the role still gives it.
fn kept(item: &ReviewItem, role: &Role) -> Vec<Permission> {
    if item.decision() != ReviewDecision::Reduce {
        return Vec::new();
    }
    let given: Vec<_> = role.spec.iter().flat_map(|spec| &spec.permissions).filter_map(permission).collect();
    let is_given =
        |one: &&Permission| permission(one).is_some_and(|one| given.iter().any(|given| given.includes(&one)));
    item.keep.iter().filter(is_given).cloned().collect()
}

/// The name of what a part is kept by: made of the item's id, so that it is nobody else's and the same however often it is written.
fn name_of(item_id: &str) -> String {
    let (_, rest) = item_id.split_once('_').unwrap_or(("", item_id));
    format!("reduced-{rest}")
}

/// A role of what stays, and a binding of it that names the agent alone, for the resources and the time that were reviewed as far as the
/// binding is for these still; `None`: nothing stays.
fn part(
    name: &str,
    before: &RoleBindingSpec,
    binding: &RoleBinding,
    item: &ReviewItem,
    kept: Vec<Permission>,
) -> Option<[Declaration; 2]> {
    if kept.is_empty() {
        return None;
    }
    let resources = both(&item.resources, &before.resources)?;
    let (not_before, not_after) = overlap((item.not_before, item.not_after), (before.not_before, before.not_after))?;
    let of = binding.metadata.clone().unwrap_or_default();
    let metadata = || {
        let annotations = [
            ("review".to_owned(), item.review_id.clone()),
            ("review-item".to_owned(), item.id.clone()),
            ("reduced-from".to_owned(), of.name.clone()),
        ];
        let (name, namespace) = (name.to_owned(), of.namespace.clone());
        Some(Metadata { name, namespace, annotations: annotations.into(), ..Metadata::default() })
    };
    let description = format!("What {} keeps of the binding {} since a review.", item.agent, of.name);
    let role = Role { metadata: metadata(), spec: Some(RoleSpec { description, permissions: kept }) };
    let spec = RoleBindingSpec {
        role: name.to_owned(),
        agents: vec![item.agent.clone()],
        resources,
        not_before,
        not_after,
        ..RoleBindingSpec::default()
    };
    let binding = RoleBinding { metadata: metadata(), spec: Some(spec) };
    Some([Object::Role(role), Object::RoleBinding(binding)].map(|object| Declaration { object: Some(object) }))
}

/// A grant with what stays of it; `None`: nothing does.
pub(crate) fn narrowed(grant: &DelegationGrant, item: &ReviewItem) -> Option<DelegationGrant> {
    if item.decision() != ReviewDecision::Reduce {
        return None;
    }
    let mut grant = grant.clone();
    let spec = grant.spec.as_mut()?;
    let given: Vec<_> = spec.permissions.iter().filter_map(permission).collect();
    let is_given =
        |one: &&Permission| permission(one).is_some_and(|one| given.iter().any(|given| given.includes(&one)));
    spec.permissions = item.keep.iter().filter(is_given).cloned().collect();
    (!spec.permissions.is_empty()).then_some(grant)
}
