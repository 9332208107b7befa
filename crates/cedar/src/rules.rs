//! What a schema may say: what questions can be, and nothing else.
//!
//! Read from Cedar's JSON with every name resolved, so that what is refused is refused by what it is and not by how it is written.

use std::collections::{BTreeMap, BTreeSet};

use legate_ids::{Action, ResourceType};
use serde_json::{Map, Value as Json};

use crate::declared::{Applies, BadSchema, Field, Fields, Type};
use crate::world::{BEHALF, ON_BEHALF_OF, RESERVED, is_reserved};

/// Values that are declared, counted where they come to stand: types can stand in types.
const MOST_VALUES: usize = 10_000;
/// How deep types may stand in types.
const DEEPEST: usize = 32;
/// Groups of actions.
const MOST_GROUPS: usize = 256;
/// The context's value that Legate gives.
const BEHALF_VALUE: &str = "on_behalf_of";

type Found<T> = Result<T, BadSchema>;

fn bad<T>(why: String) -> Found<T> {
    Err(BadSchema(why))
}

/// Refuses what declares anew what Legate gives.
pub(crate) fn ours_stay_ours(whole: &Json) -> Found<()> {
    let spaces = whole.as_object().into_iter().flatten();
    for (space, definition) in spaces {
        let here = |part: &str| definition.get(part).and_then(Json::as_object).into_iter().flat_map(|all| all.keys());
        if let (false, Some(action)) = (space.is_empty(), here("actions").next()) {
            let why = format!(
                "declares the action {space}::Action::{action:?}, which nobody can ask about; declare actions outside of namespaces"
            );
            return bad(why);
        }
        let ours = |name: &&String| space.is_empty() && (RESERVED.contains(&name.as_str()) || *name == ON_BEHALF_OF);
        if let Some(name) = here("entityTypes").chain(here("commonTypes")).find(ours) {
            return bad(format!("declares the type {name}, which is Legate's own; choose another name"));
        }
    }
    Ok(())
}

/// What a schema declares.
pub(crate) struct Said {
    /// Types of resources.
    pub(crate) types: BTreeMap<String, Fields>,
    /// What can be done.
    pub(crate) actions: BTreeMap<String, Applies>,
    /// The groups that each action is in, also through others.
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
}

/// Types of resources, actions and their groups, of a schema whose names are resolved.
pub(crate) fn read(whole: &Json) -> Found<Said> {
    let empty = Map::new();
    let spaces = whole.as_object().unwrap_or(&empty);
    let mut common = BTreeMap::new();
    for (space, definition) in spaces {
        for (name, kind) in definition.get("commonTypes").and_then(Json::as_object).into_iter().flatten() {
            common.insert(joined(space, name), kind);
        }
    }
    let mut reader = Reader { common, values: 0 };
    let mut types = BTreeMap::new();
    for (space, definition) in spaces {
        for (name, kind) in definition.get("entityTypes").and_then(Json::as_object).into_iter().flatten() {
            let name = joined(space, name);
            if !is_reserved(&name) {
                types.insert(name.clone(), reader.entity(&name, kind)?);
            }
        }
    }
    let declared = spaces.get("").and_then(|of| of.get("actions")).and_then(Json::as_object).unwrap_or(&empty);
    let groups = groups(declared)?;
    let mut actions = BTreeMap::new();
    for (name, action) in declared {
        if let Err(e) = Action::parse(name) {
            return bad(format!("the action {name:?} is none: {e}"));
        }
        // What is only a group is done by nobody, and to nothing.
        let is_group = || groups.values().any(|above| above.contains(name));
        let applies = action.get("appliesTo").unwrap_or(&Json::Null);
        let is_done = ["principalTypes", "resourceTypes"].iter().any(|part| !names(applies, part).is_empty());
        if is_done || !is_group() {
            actions.insert(name.clone(), reader.action(name, action)?);
        }
    }
    Ok(Said { types, actions, groups })
}

/// The groups that an action names.
fn above(action: &Json) -> impl Iterator<Item = &str> {
    let all = action.get("memberOf").and_then(Json::as_array).into_iter().flatten();
    all.filter_map(|group| group.get("id").and_then(Json::as_str))
}

/// The groups that each action is in, also through others.
fn groups(actions: &Map<String, Json>) -> Found<BTreeMap<String, BTreeSet<String>>> {
    let named: BTreeSet<&str> = actions.values().flat_map(above).collect();
    if named.len() > MOST_GROUPS {
        return bad(format!("has {} groups of actions; give at most {MOST_GROUPS}", named.len()));
    }
    let mut all = BTreeMap::new();
    for name in actions.keys() {
        let (mut found, mut next) = (BTreeSet::new(), vec![name.as_str()]);
        while let Some(one) = next.pop() {
            let groups = actions.get(one).into_iter().flat_map(above);
            next.extend(groups.filter(|group| found.insert((*group).to_owned())));
        }
        if !found.is_empty() {
            all.insert(name.clone(), found);
        }
    }
    Ok(all)
}

fn joined(space: &str, name: &str) -> String {
    if space.is_empty() { name.to_owned() } else { format!("{space}::{name}") }
}

fn names<'a>(of: &'a Json, part: &str) -> Vec<&'a str> {
    of.get(part).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect()
}

struct Reader<'a> {
    common: BTreeMap<String, &'a Json>,
    values: usize,
}

impl Reader<'_> {
    fn entity(&mut self, name: &str, of: &Json) -> Found<Fields> {
        if let Err(e) = ResourceType::parse(name) {
            return bad(format!("the type {name} is none that a resource can have: {e}"));
        }
        if let Some(first) = names(of, "memberOfTypes").first() {
            return bad(format!("the type {name} is in {first}; resources are in nothing here"));
        }
        if of.get("tags").is_some() {
            return bad(format!("the type {name} has tags; resources have attributes, and no tags"));
        }
        if of.get("enum").is_some() {
            return bad(format!("the type {name} is an enumeration; the ids of resources are not declared"));
        }
        match of.get("shape") {
            None => Ok(Fields::new()),
            Some(shape) => self.record(name, shape),
        }
    }

    fn action(&mut self, name: &str, of: &Json) -> Found<Applies> {
        let applies = of.get("appliesTo").unwrap_or(&Json::Null);
        let (by, to) = (names(applies, "principalTypes"), names(applies, "resourceTypes"));
        if by.is_empty() || to.is_empty() {
            let why = "write appliesTo { principal: [Agent], resource: [...] }";
            return bad(format!("the action {name:?} is done by nobody, or to nothing; {why}"));
        }
        if by != ["Agent"] {
            return bad(format!(
                "the action {name:?} is done by {}; only agents do anything: principal: [Agent]",
                by.join(", ")
            ));
        }
        if let Some(ours) = to.iter().find(|kind| is_reserved(kind)) {
            return bad(format!("the action {name:?} is done to {ours}, which no resource can be"));
        }
        let place = format!("the context of {name:?}");
        let context = match applies.get("context") {
            None => Fields::new(),
            Some(context) => self.record(&place, context)?,
        };
        if context.get(BEHALF_VALUE).is_some_and(|field| field.required || field.kind != behalf()) {
            return bad(format!(
                "{place} has {BEHALF_VALUE}; write {BEHALF_VALUE}?: {ON_BEHALF_OF}, which Legate gives"
            ));
        }
        Ok(Applies { resources: to.into_iter().map(str::to_owned).collect(), context })
    }

    fn record(&mut self, place: &str, of: &Json) -> Found<Fields> {
        match self.kind(place, of, 0)? {
            Type::Record(fields) => Ok(fields),
            _ => bad(format!("{place} is no record")),
        }
    }

    fn kind(&mut self, place: &str, of: &Json, depth: usize) -> Found<Type> {
        self.values += 1;
        if depth > DEEPEST {
            return bad(format!("declares types that stand in each other more than {DEEPEST} deep"));
        }
        if self.values > MOST_VALUES {
            return bad(format!("declares more than {MOST_VALUES} values, counted where their types come to stand"));
        }
        let word = of.get("type").and_then(Json::as_str).unwrap_or_default();
        match word {
            "Bool" | "Boolean" => Ok(Type::Bool),
            "Long" => Ok(Type::Long),
            "String" => Ok(Type::String),
            "Set" => Ok(Type::Set(Box::new(self.kind(place, of.get("element").unwrap_or(&Json::Null), depth + 1)?))),
            "Record" => {
                let mut fields = Fields::new();
                for (name, field) in of.get("attributes").and_then(Json::as_object).into_iter().flatten() {
                    let kind = self.kind(&format!("{place}.{name}"), field, depth + 1)?;
                    let required = field.get("required").and_then(Json::as_bool).unwrap_or(true);
                    fields.insert(name.clone(), Field { kind, required });
                }
                Ok(Type::Record(fields))
            }
            name => match self.common.get(name) {
                // Cedar refuses types that stand for each other without an end.
                Some(kind) => self.kind(place, kind, depth + 1),
                None => {
                    let name = of.get("name").and_then(Json::as_str).unwrap_or(name);
                    bad(format!(
                        "{place} is a {name}; what callers state is Bool, Long, String, a Set of these, or a record"
                    ))
                }
            },
        }
    }
}

/// The type of that for whom the agent acts.
fn behalf() -> Type {
    let kind = |text: &str| match text {
        "Long" => Type::Long,
        "String" => Type::String,
        _ => Type::Set(Box::new(Type::String)),
    };
    Type::Record(
        BEHALF.iter().map(|(name, of)| ((*name).to_owned(), Field { kind: kind(of), required: true })).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_for_whom_an_agent_acts_is_always_whole() {
        assert!(matches!(behalf(), Type::Record(all) if all.len() == 6 && all.values().all(|field| field.required)));
    }
}
