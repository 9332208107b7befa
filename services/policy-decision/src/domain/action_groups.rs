//! Groups of actions, as a namespace's schema declares them: what speaks of a group speaks of every action in it.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use legate_cedar::Declared;
use legate_ids::Action;

/// Which actions are in which groups, also through others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ActionGroups {
    /// The text that declares them.
    of: Option<Arc<str>>,
    above: HashMap<String, Vec<EntityUid>>,
    within: HashMap<String, Vec<Action>>,
}

impl ActionGroups {
    /// Reads them. Of a schema that cannot be read there are none: nothing is allowed by it in any case.
    pub(crate) fn of(schema: Option<&Arc<str>>) -> Self {
        let mut groups = Self { of: schema.cloned(), ..Self::default() };
        let Some(declared) = schema.and_then(|text| Declared::parse(text).ok()) else { return groups };
        let kind: EntityTypeName = "Action".parse().expect("a plain identifier is a Cedar type name");
        for (name, above) in declared.groups() {
            let uids = above.iter().map(|group| EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(group)));
            groups.above.insert(name.to_owned(), uids.collect());
            let Ok(action) = Action::parse(name) else { continue };
            for group in above {
                groups.within.entry(group.clone()).or_default().push(action.clone());
            }
        }
        groups
    }

    /// Whether they are of this text, not only of one that reads the same.
    pub(crate) fn are_of(&self, schema: Option<&Arc<str>>) -> bool {
        match (&self.of, schema) {
            (None, None) => true,
            (Some(of), Some(schema)) => Arc::ptr_eq(of, schema),
            _ => false,
        }
    }

    /// The groups that an action is in.
    pub(crate) fn above(&self, action: &str) -> &[EntityUid] {
        self.above.get(action).map_or(&[], Vec::as_slice)
    }

    /// The actions that are in a group; of what is no group, none.
    pub(crate) fn within(&self, group: &str) -> &[Action] {
        self.within.get(group).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_in_its_groups_and_what_these_are_in() {
        let text = "entity R; action \"all\"; action \"reads\" in [\"all\"];\
                    action \"read\" in [\"reads\"] appliesTo { principal: [Agent], resource: [R] };";
        let schema = Arc::from(text);
        let groups = ActionGroups::of(Some(&schema));
        let above: Vec<String> = groups.above("read").iter().map(ToString::to_string).collect();
        assert_eq!(above, ["Action::\"all\"", "Action::\"reads\""]);
        let within: Vec<&str> = groups.within("all").iter().map(Action::as_str).collect();
        assert_eq!(within, ["read", "reads"]);
        assert!(groups.above("all").is_empty() && groups.within("read").is_empty());
        assert!(groups.are_of(Some(&schema)) && !groups.are_of(None));
        assert!(!groups.are_of(Some(&Arc::from(text))));
        assert_eq!(ActionGroups::of(None), ActionGroups::default());
        assert!(ActionGroups::of(Some(&Arc::from("action"))).above("read").is_empty());
    }
}
