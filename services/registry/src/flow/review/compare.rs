//! Items are held against what they are about: what has changed since they were made, and how they would be made now.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_ids::{AgentId, Name};
use legate_rpc::Fault;
use legate_view::Snapshot;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, ReviewDecision, ReviewItem, ReviewedThing, RoleBinding};

use crate::domain::kind::Key;
use crate::domain::review::{Changes, Now, changes, permissions_of, resources_of, window_of};
use crate::store::{broken, change, object, review_item, unsigned};

/// Items that are looked at in one go.
const AT_ONCE: u64 = 500;

/// What some items of one round are about, as it is now.
pub(super) struct Around {
    /// Bindings, classes, grants and agents that are in force, by id, with the revision of their last write.
    there: BTreeMap<String, (u64, Declaration)>,
    /// What was written since, as it was when items were made, by id and revision.
    were: BTreeMap<(String, u64), Declaration>,
    /// The roles that the bindings give now, by name, with the revision of their last write.
    roles: BTreeMap<String, (u64, Declaration)>,
    /// The agents and the groups of the bindings.
    seen: Snapshot,
}

impl Around {
    pub(super) async fn of<'i>(tx: &Tx, items: impl IntoIterator<Item = &'i ReviewItem>) -> TxResult<Self, Fault> {
        let items: Vec<&ReviewItem> = items.into_iter().collect();
        let ids = items.iter().flat_map(|item| [item.granted_id.clone(), item.agent_id.clone()]).collect();
        let mut there = BTreeMap::new();
        for row in object::by_ids(tx, ids).await?.into_iter().filter(|row| row.holds_name) {
            there.insert(row.id.clone(), (unsigned(row.revision), row.declaration()?));
        }
        let mut were = BTreeMap::new();
        for item in &items {
            let is_written = there.get(&item.granted_id).is_some_and(|(at, _)| *at != item.granted_revision);
            let key = (item.granted_id.clone(), item.granted_revision);
            if is_written && !were.contains_key(&key) {
                let was = change::as_of(tx, &item.granted_id, item.granted_revision).await?;
                were.extend(was.map(|was| (key, was)));
            }
        }
        let namespace = items.first().map(|item| item.namespace.as_str()).unwrap_or_default();
        let mut keys = BTreeSet::from([Key::new(Kind::Namespace, "", namespace)]);
        for (_, declaration) in there.values() {
            let Some(Object::RoleBinding(binding)) = &declaration.object else { continue };
            let spec = binding.spec.clone().unwrap_or_default();
            keys.extend(spec.groups.iter().map(|name| Key::new(Kind::Group, namespace, name)));
            keys.insert(Key::new(Kind::Role, namespace, &spec.role));
        }
        let (mut roles, mut around) = (BTreeMap::new(), Vec::new());
        for (key, row) in object::by_keys(tx, keys).await? {
            let declaration = row.declaration()?;
            if key.kind == Kind::Role {
                roles.insert(key.name, (unsigned(row.revision), declaration));
            } else {
                around.push(declaration);
            }
        }
        let is_agent = |declaration: &&Declaration| declaration.kind() == Some(Kind::Agent);
        let agents = there.values().map(|(_, declaration)| declaration).filter(is_agent);
        let seen = Snapshot::of(around.iter().chain(agents)).map_err(broken)?;
        Ok(Self { there, were, roles, seen })
    }

    /// What is otherwise than an item says.
    pub(super) fn changes(&self, item: &ReviewItem) -> Changes {
        let now = Now {
            granted: self.granted(item),
            was: self.were.get(&(item.granted_id.clone(), item.granted_revision)),
            role: self.role(item).map(|(_, role)| role),
            has: self.has(item),
        };
        changes(item, &now)
    }

    fn granted(&self, item: &ReviewItem) -> Option<&Declaration> {
        self.there.get(&item.granted_id).map(|(_, declaration)| declaration)
    }

    /// The role that the binding of an item gives now.
    fn role(&self, item: &ReviewItem) -> Option<&(u64, Declaration)> {
        let Some(Object::RoleBinding(binding)) = &self.granted(item)?.object else { return None };
        self.roles.get(binding.spec.as_ref()?.role.as_str())
    }

    /// Whether the agent still has it.
    fn has(&self, item: &ReviewItem) -> bool {
        let agent = self.there.get(&item.agent_id).and_then(|(_, declaration)| declaration.object.as_ref());
        let Some(Object::Agent(agent)) = agent else { return false };
        match self.granted(item).and_then(|declaration| declaration.object.as_ref()) {
            Some(Object::RoleBinding(binding)) => {
                let spec = binding.spec.clone().unwrap_or_default();
                let is_excepted = spec.except_agents.contains(&item.agent);
                spec.agents.contains(&item.agent) || (!is_excepted && group_of(&self.seen, binding, item).is_some())
            }
            Some(Object::AgentClass(_)) => agent.spec.as_ref().is_some_and(|spec| spec.agent_class == item.granted),
            _ => true,
        }
    }

    /// When what an item is about was last written.
    pub(super) fn written(&self, item: &ReviewItem) -> u64 {
        let granted = self.there.get(&item.granted_id).map_or(0, |(at, _)| *at);
        granted.max(self.role(item).map_or(0, |(at, _)| *at))
    }

    /// Makes an item anew, as what it is about is now.
    pub(super) fn renew(&self, item: &mut ReviewItem) {
        let Some((at, granted)) = self.there.get(&item.granted_id) else { return };
        let of = granted.metadata().cloned().unwrap_or_default();
        (item.granted_revision, item.grant_reason) = (*at, of.reason);
        item.evidence = None;
        let Some(Object::RoleBinding(binding)) = &granted.object else {
            item.permissions = permissions_of(Some(granted));
            if item.reviewed() == ReviewedThing::DelegationGrant {
                item.granted_by = of.updated_by;
            }
            return;
        };
        let role = self.role(item).map(|(_, role)| role.clone());
        let spec = binding.spec.clone().unwrap_or_default();
        let by_group = group_of(&self.seen, binding, item).filter(|_| !spec.agents.contains(&item.agent));
        item.group = by_group.unwrap_or_default().to_owned();
        (item.granted_by, item.role) = (of.updated_by, spec.role);
        item.permissions = permissions_of(role.as_ref());
        item.resources = resources_of(Some(granted));
        (item.not_before, item.not_after) = window_of(Some(granted));
    }
}

/// The first group of a binding to which the agent of an item belongs, by name.
pub(super) fn group_of<'b>(seen: &Snapshot, binding: &'b RoleBinding, item: &ReviewItem) -> Option<&'b str> {
    let agent = AgentId::parse(&item.agent_id).ok().and_then(|id| seen.agent(&id))?;
    let has = |name: &&String| {
        let group = Name::parse(name).ok().and_then(|name| seen.group(&item.namespace, &name));
        group.is_some_and(|group| group.has(agent))
    };
    binding.spec.iter().flat_map(|spec| &spec.groups).find(has).map(String::as_str)
}

/// Says of each item what has changed since it was made.
pub(super) async fn compare(tx: &Tx, items: &mut [ReviewItem]) -> TxResult<(), Fault> {
    let around = Around::of(tx, &*items).await?;
    for item in items {
        item.changes = around.changes(item).told;
        item.has_changed = !item.changes.is_empty();
    }
    Ok(())
}

/// The certified items of a round of which the agent has become more since, by id, so many at most.
pub(super) async fn outgrown(tx: &Tx, review_id: &str, most: usize) -> TxResult<Vec<String>, Fault> {
    let which = review_item::Which {
        review_id: review_id.to_owned(),
        decisions: BTreeSet::from([ReviewDecision::Certify.into()]),
        ..review_item::Which::default()
    };
    let (mut found, mut after) = (Vec::new(), 0);
    while found.len() < most {
        let rows = review_item::page(tx, &which, after, AT_ONCE).await?;
        let Some(last) = rows.last() else { break };
        after = last.place;
        let items = rows.iter().map(review_item::Model::item).collect::<TxResult<Vec<_>, Fault>>()?;
        let around = Around::of(tx, &items).await?;
        found.extend(items.into_iter().filter(|item| around.changes(item).is_more).map(|item| item.id));
    }
    found.truncate(most);
    Ok(found)
}
