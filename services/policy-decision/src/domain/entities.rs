//! A question in Cedar's words: the agent, the action, the resource and the context, and no other entity but what these are in.
//!
//! | Cedar | is |
//! |---|---|
//! | `principal` | `Agent::"agt_..."`, in `AgentClass::"NAME"`, in `Role::"NAME"` of each binding whose window holds and in each `Group::"NAME"` that the policies name and that it belongs to |
//! | `principal.ATTR` | `id name namespace class environment risk_tier owners sponsors regions data_classifications framework model labels`; absent where not declared |
//! | `action` | `Action::"invoice:read"`, in each group of actions that the namespace declares it to be in |
//! | `resource` | `TYPE::"ID"`, with the attributes that the caller states |
//! | `context` | what the caller gives |
//!
//! The same as a Cedar schema is `legate_cedar::world`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use legate_ids::{Name, ResourceType};
use legate_view::{Agent, Text};

use super::memory::Memory;
use super::question::{Question, Record, Value};
use super::scope::Who;

/// Types of resources whose Cedar names are remembered.
const TYPES: usize = 1_024;

/// The type names that questions need, parsed once: parsing one costs more than deciding a question.
#[derive(Debug)]
pub(crate) struct Words {
    agent: EntityTypeName,
    class: EntityTypeName,
    role: EntityTypeName,
    group: EntityTypeName,
    action: EntityTypeName,
    resources: Memory<ResourceType, EntityTypeName>,
}

impl Words {
    pub(crate) fn new() -> Self {
        let parse = |text: &str| text.parse().expect("a plain identifier is a Cedar type name");
        Self {
            agent: parse("Agent"),
            class: parse("AgentClass"),
            role: parse("Role"),
            group: parse("Group"),
            action: parse("Action"),
            resources: Memory::new(TYPES),
        }
    }

    /// The type as policies name it.
    pub(super) fn resource(&self, kind: &ResourceType) -> Result<EntityTypeName, Unsayable> {
        if let Some(known) = self.resources.get(kind) {
            return Ok(EntityTypeName::clone(&known));
        }
        let parsed: EntityTypeName = kind.as_str().parse().map_err(|e: cedar_policy::ParseErrors| e.to_string())?;
        self.resources.insert(kind.clone(), Arc::new(parsed.clone()));
        Ok(parsed)
    }
}

/// A question in Cedar's words.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
    /// The action, and behind it the groups that it is in.
    pub(crate) actions: Vec<EntityUid>,
    pub(crate) principal: Arc<Principal>,
    pub(crate) resource: Who,
}

/// An agent in Cedar's words, and what it was made of: nothing else goes into it, so where that is equal it can serve again.
#[derive(Debug)]
pub(crate) struct Principal {
    /// The agent alone, in all that it is in.
    entities: Entities,
    pub(crate) who: Who,
    agent: Agent,
    roles: Vec<Name>,
    groups: Vec<Name>,
}

impl Principal {
    /// Whether it was made of exactly this.
    pub(crate) fn is_of(&self, agent: &Agent, roles: &[&Name], groups: &[&Name]) -> bool {
        self.roles.iter().eq(roles.iter().copied())
            && self.groups.iter().eq(groups.iter().copied())
            && self.agent == *agent
    }
}

/// Why a question cannot be put in Cedar's words.
pub(crate) type Unsayable = String;

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn expression(value: &Value) -> Result<RestrictedExpression, Unsayable> {
    Ok(match value {
        Value::Bool(b) => RestrictedExpression::new_bool(*b),
        Value::Long(n) => RestrictedExpression::new_long(*n),
        Value::Text(text) => RestrictedExpression::new_string(text.clone()),
        Value::Set(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(expression).collect();
            RestrictedExpression::new_set(values?)
        }
        Value::Record(fields) => RestrictedExpression::new_record(pairs(fields)?).map_err(|e| e.to_string())?,
    })
}

pub(super) fn pairs(fields: &Record) -> Result<Vec<(String, RestrictedExpression)>, Unsayable> {
    fields.iter().map(|(name, value)| Ok((name.clone(), expression(value)?))).collect()
}

/// The agent as an entity, in its class, roles and groups.
pub(crate) fn principal(
    words: &Words,
    agent: &Agent,
    roles: &[&Name],
    groups: &[&Name],
) -> Result<Principal, Unsayable> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let texts = |all: &[Text]| RestrictedExpression::new_set(all.iter().map(|t| text(t)));
    let mut attributes = HashMap::from([
        ("id".to_owned(), text(agent.id.as_str())),
        ("name".to_owned(), text(agent.label.name.as_str())),
        ("namespace".to_owned(), text(agent.label.namespace.as_str())),
        ("class".to_owned(), text(agent.class.as_str())),
        ("owners".to_owned(), texts(&agent.people.owners)),
        ("sponsors".to_owned(), texts(&agent.people.sponsors)),
        ("regions".to_owned(), texts(&agent.nature.regions)),
        ("data_classifications".to_owned(), texts(&agent.nature.data_classifications)),
    ]);
    for (name, value) in [
        ("environment", agent.nature.environment),
        ("risk_tier", agent.nature.risk_tier),
        ("framework", &agent.nature.framework),
        ("model", &agent.nature.model),
    ] {
        if !value.is_empty() {
            attributes.insert(name.to_owned(), text(value));
        }
    }
    let labels = agent.labels.iter().map(|(k, v)| (k.to_owned(), text(v)));
    let labels = RestrictedExpression::new_record(labels).map_err(|e| e.to_string())?;
    attributes.insert("labels".to_owned(), labels);

    let me = uid(&words.agent, agent.id.as_str());
    let mut uids = vec![me.clone(), uid(&words.class, agent.class.as_str())];
    let in_roles = roles.iter().map(|role| uid(&words.role, role.as_str()));
    for parent in in_roles.chain(groups.iter().map(|group| uid(&words.group, group.as_str()))) {
        if !uids.contains(&parent) {
            uids.push(parent);
        }
    }
    let parents: HashSet<_> = uids[1..].iter().cloned().collect();
    let entity = Entity::new(me, attributes, parents).map_err(|e| e.to_string())?;
    let entities = Entities::from_entities([entity], None).map_err(|e| e.to_string())?;
    let kind = words.agent.clone();
    let owned = |names: &[&Name]| names.iter().copied().cloned().collect();
    let (roles, groups) = (owned(roles), owned(groups));
    Ok(Principal { entities, who: Who { kind, uids }, agent: agent.clone(), roles, groups })
}

/// The question about `principal` in Cedar's words; its action is in `groups`.
pub(crate) fn asked(
    words: &Words,
    principal: Arc<Principal>,
    question: &Question,
    groups: &[EntityUid],
) -> Result<Asked, Unsayable> {
    let kind = words.resource(&question.resource_type)?;
    let resource_uid = uid(&kind, question.resource_id.as_str());
    let attributes = pairs(&question.attributes.0)?.into_iter().collect();
    let resource = Entity::new(resource_uid.clone(), attributes, HashSet::new()).map_err(|e| e.to_string())?;
    let action = uid(&words.action, question.action.as_str());
    let grouped = match groups {
        [] => None,
        groups => {
            let parents = groups.iter().cloned().collect();
            Some(Entity::new(action.clone(), HashMap::new(), parents).map_err(|e| e.to_string())?)
        }
    };
    // A copy holds the same agent; only these are new.
    let new = std::iter::once(resource).chain(grouped);
    let entities = principal.entities.clone().add_entities(new, None).map_err(|e| e.to_string())?;
    let context = Context::from_pairs(pairs(&question.context)?).map_err(|e| e.to_string())?;
    let me = principal.who.uids[0].clone();
    let request = Request::new(me, action.clone(), resource_uid.clone(), context, None).map_err(|e| e.to_string())?;
    let actions = std::iter::once(action).chain(groups.iter().cloned()).collect();
    Ok(Asked { request, entities, actions, principal, resource: Who { kind, uids: vec![resource_uid] } })
}

/// The roles that an agent holds now, by name; also one that cannot be read, since a policy may forbid something to it.
pub(crate) fn roles_at<'a>(
    snapshot: &'a legate_view::Snapshot,
    agent: &'a Agent,
    now: legate_clock::Timestamp,
) -> impl Iterator<Item = &'a Name> {
    snapshot.bindings_of(agent).filter(move |(b, _)| b.window.holds_at(now.micros())).map(|(b, _)| &b.role)
}

/// Those of the groups `named` to which the agent, or one above it, belongs.
pub(crate) fn groups_among<'a>(
    snapshot: &'a legate_view::Snapshot,
    agent: &'a Agent,
    named: &'a BTreeSet<Name>,
) -> impl Iterator<Item = &'a Name> {
    named.iter().filter(move |name| snapshot.is_in_group(agent, name))
}
