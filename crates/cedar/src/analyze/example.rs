//! A request that shows a difference, as somebody could make it.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Context, Decision, Entities, Entity, EntityId, EntityUid, PolicySet, Request};
use cedar_policy_symcc::Env;
use serde_json::{Map, Value as Json};

/// The id of a resource that no policy names.
const ANY_ID: &str = "any-other";

/// A request that shows a difference. Whoever is meant by it need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The agent's id, where the policies name it.
    pub agent: Option<String>,
    /// What the agent is in: `AgentClass::"clerk"`, `Role::"reader"`, as far as the policies name it.
    pub within: Vec<String>,
    /// The agent's attributes, as far as the policies look at them.
    pub attributes: Map<String, Json>,
    /// The resource's id.
    pub resource_id: String,
    /// What is stated of the resource.
    pub resource: Map<String, Json>,
    /// The context.
    pub context: Map<String, Json>,
}

/// What the policies of either side look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked {
    /// Entities that they name, as Cedar writes them.
    pub(super) named: BTreeSet<String>,
    /// Attributes of the principal.
    pub(super) attributes: BTreeSet<String>,
    /// Labels of the principal.
    pub(super) labels: BTreeSet<String>,
}

impl Example {
    /// What the solver found, told by what the policies name. It is held against the policies themselves: `permits` permits it and
    /// `not` does not.
    pub(super) fn of(env: &Env, looked: &Looked, permits: &PolicySet, not: &PolicySet) -> Result<Self, String> {
        let missing = |what: &str| format!("the solver's request has no {what}");
        let principal = env.request.principal().ok_or_else(|| missing("principal"))?;
        let action = env.request.action().ok_or_else(|| missing("action"))?;
        let resource = env.request.resource().ok_or_else(|| missing("resource"))?;
        let context = env.request.context().cloned().unwrap_or_else(Context::empty);
        // An id that no policy names is as good as any other.
        let known = |uid: &EntityUid| looked.named.contains(&uid.to_string());
        let id = if known(resource) { resource.id().unescaped().to_owned() } else { ANY_ID.to_owned() };
        let told = EntityUid::from_type_name_and_id(resource.type_name().clone(), EntityId::new(&id));
        let entity = |uid: &EntityUid| env.entities.get(uid).ok_or_else(|| missing("entity"));
        let (mut attributes, within) = whole(entity(principal)?)?;
        // The rest may be anything.
        attributes.retain(|name, _| name == "labels" && !looked.labels.is_empty() || looked.attributes.contains(name));
        let (stated, _) = whole(entity(resource)?)?;
        let example = Self {
            agent: known(principal).then(|| principal.id().unescaped().to_owned()),
            within: within.into_iter().filter(|uid| looked.named.contains(uid)).collect(),
            attributes,
            resource_id: id,
            resource: stated,
            context: object(context.to_json_value().map_err(|e| e.to_string())?),
        };
        let asks =
            Request::new(principal.clone(), action.clone(), told.clone(), context, None).map_err(|e| e.to_string())?;
        let renamed = entity(resource)?.clone().into_inner();
        let resource = Entity::new(told, renamed.1, renamed.2).map_err(|e| e.to_string())?;
        // The action, for the groups that it is in.
        let all = [entity(principal)?.clone(), resource].into_iter().chain(env.entities.get(action).cloned());
        let entities = Entities::from_entities(all, None).map_err(|e| e.to_string())?;
        let is_permitted =
            |set: &PolicySet| Authorizer::new().is_authorized(&asks, set, &entities).decision() == Decision::Allow;
        if is_permitted(permits) && !is_permitted(not) {
            return Ok(example);
        }
        Err("the solver's request does not show what it was to show".to_owned())
    }
}

/// The attributes of an entity, and what it is in, as Cedar writes it.
fn whole(entity: &Entity) -> Result<(Map<String, Json>, Vec<String>), String> {
    let json = entity.to_json_value().map_err(|e| e.to_string())?;
    let attributes = object(json.get("attrs").cloned().unwrap_or_default());
    let (_, _, parents) = entity.clone().into_inner();
    let mut parents: Vec<String> = parents.iter().map(ToString::to_string).collect();
    parents.sort();
    Ok((attributes, parents))
}

fn object(json: Json) -> Map<String, Json> {
    match json {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}
