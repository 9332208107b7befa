//! Which attributes of a resource an answer has (RFC 7644 section 3.9).

use legate_rpc::Fault;
use serde_json::{Map, Value};

use super::answer::refused;
use super::attribute::{CORE, OURS};

/// What was asked for; at most one of the two.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    only: Option<Vec<String>>,
    without: Option<Vec<String>>,
}

impl Selection {
    /// Takes a parameter of the query.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let paths = || value.split(',').map(|path| path.trim().to_ascii_lowercase()).collect();
        match name.to_ascii_lowercase().as_str() {
            "attributes" => self.only = Some(paths()),
            "excludedattributes" => self.without = Some(paths()),
            _ => {
                let name: String = name.chars().filter(|c| !legate_ids::is_deceptive(*c)).take(64).collect();
                return Err(refused("invalidValue", "query", format!("there is no parameter {name:?} here")));
            }
        }
        Ok(())
    }

    /// RFC 7644 section 3.9: one of the two.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.only.is_some() && self.without.is_some() {
            return Err(refused("invalidValue", "attributes", "and excludedAttributes are two ways; use one"));
        }
        Ok(())
    }

    /// What is left of a resource.
    pub(super) fn of(&self, resource: Map<String, Value>) -> Value {
        let parts = |within: String, value: Value| match value {
            Value::Object(parts) => {
                parts.into_iter().filter(|(name, _)| self.wants(&format!("{within}{name}"))).collect::<Map<_, _>>()
            }
            _ => Map::new(),
        };
        let kept = resource.into_iter().filter_map(|(name, value)| match name.as_str() {
            "schemas" | "id" => Some((name, value)),
            OURS | "meta" => {
                let sign = if name == OURS { ':' } else { '.' };
                let parts = parts(format!("{name}{sign}"), value);
                (!parts.is_empty()).then(|| (name, parts.into()))
            }
            _ => self.wants(&name).then_some((name, value)),
        });
        Value::Object(kept.collect())
    }

    fn wants(&self, path: &str) -> bool {
        let is_among = |paths: &Vec<String>| paths.iter().any(|named| names(named, path));
        self.only.as_ref().is_none_or(is_among) && !self.without.as_ref().is_some_and(is_among)
    }
}

/// Whether what was named, in small letters, is the path, something it is a part of, or a part of it.
fn names(named: &str, path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let core = CORE.to_ascii_lowercase() + ":";
    let named = named.strip_prefix(&core).unwrap_or(named);
    let is_in = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', ':']));
    named == path || is_in(&path, named) || (is_in(named, &path) && named.as_bytes().get(path.len()) == Some(&b'.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn kept(name: &str, value: &str) -> Value {
        let mut selection = Selection::default();
        selection.take(name, value).unwrap();
        let whole = json!({
            "schemas": [CORE], "id": "a", "displayName": "b", "owners": [{"value": "c"}],
            "meta": {"created": "d", "version": "e"}, OURS: {"purpose": "f", "model": "g"},
        });
        selection.of(whole.as_object().unwrap().clone())
    }

    #[test]
    fn id_and_schemas_are_always_there_and_the_rest_as_it_is_asked_for() {
        let (schemas, id) = (json!([CORE]), json!("a"));
        assert_eq!(
            kept("attributes", "displayname, meta.version"),
            json!({"schemas": schemas, "id": id, "displayName": "b", "meta": {"version": "e"}})
        );
        assert_eq!(
            kept("Attributes", &format!("{CORE}:owners.value,{OURS}:model")),
            json!({"schemas": schemas, "id": id, "owners": [{"value": "c"}], OURS: {"model": "g"}})
        );
        assert_eq!(
            kept("excludedAttributes", &format!("id,meta,owners,{OURS}")),
            json!({"schemas": schemas, "id": id, "displayName": "b"})
        );
        assert_eq!(kept("attributes", "nothing"), json!({"schemas": schemas, "id": id}));
        assert!(Selection::default().take("colour", "red").is_err());
    }
}
