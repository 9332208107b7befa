//! The schema as it is printed: in Cedar's words, and as Cedar's JSON.

use std::collections::BTreeSet;

use cedar_policy::SchemaFragment;
use serde_json::Value as Json;

use crate::declared::{BadSchema, Declared};
use crate::world::world;

const NOTHING: &str = "\
// Nothing is declared of what callers state: resources may be of any type and have any attributes, actions have any names,
// and the context holds anything. Declare it with policySchema of the namespace.
";

/// What is declared of what callers state, and what Legate gives; with these labels.
#[must_use]
pub fn as_text(declared: Option<&Declared>, labels: &BTreeSet<String>) -> String {
    let own = match declared {
        Some(declared) => format!("{}\n", declared.text().trim_end()),
        None => NOTHING.to_owned(),
    };
    format!("{own}\n{}", world(labels))
}

/// The same as Cedar's JSON.
///
/// # Errors
/// When Cedar cannot make it.
pub fn as_json(declared: Option<&Declared>, labels: &BTreeSet<String>) -> Result<Json, BadSchema> {
    let bad = |why: &dyn std::fmt::Display| BadSchema(why.to_string());
    let (fragment, _) = SchemaFragment::from_cedarschema_str(&as_text(declared, labels)).map_err(|e| bad(&e))?;
    fragment.to_json_value().map_err(|e| bad(&e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use cedar_policy::Schema;

    #[test]
    fn both_forms_say_the_same() {
        let labels = BTreeSet::from(["a.b/c".to_owned()]);
        let declared = Declared::parse(
            "entity Invoice { amount: Long };\naction \"invoice:read\" appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };",
        )
        .unwrap();
        for declared in [None, Some(&declared)] {
            let (text, json) = (as_text(declared, &labels), as_json(declared, &labels).unwrap());
            let (by_text, _) = Schema::from_cedarschema_str(&text).unwrap();
            let by_json = Schema::from_json_value(json).unwrap();
            let all = |schema: &Schema| {
                let mut all: Vec<_> = schema.request_envs().map(|env| format!("{env:?}")).collect();
                all.sort();
                all
            };
            assert_eq!(all(&by_text), all(&by_json));
            assert_eq!(all(&by_text).len(), usize::from(declared.is_some()));
            assert!(text.contains("\"a.b/c\"?: String"), "{text}");
        }
    }
}
