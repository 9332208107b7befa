//! What Legate itself gives every question: the agent, all that it is in, and for whom it acts.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Types that are ours in Cedar; a resource of such a type could speak for the principal.
pub(crate) const RESERVED: [&str; 5] = ["Agent", "AgentClass", "Role", "Group", "Action"];

/// What the principal has, its type in Cedar, and whether every agent has it.
pub const ATTRIBUTES: [(&str, &str, bool); 13] = [
    ("id", "String", true),
    ("name", "String", true),
    ("namespace", "String", true),
    ("class", "String", true),
    ("environment", "String", true),
    ("owners", "Set<String>", true),
    ("sponsors", "Set<String>", true),
    ("regions", "Set<String>", true),
    ("data_classifications", "Set<String>", true),
    ("risk_tier", "String", false),
    ("framework", "String", false),
    ("model", "String", false),
    ("labels", LABELS, true),
];
const LABELS: &str = "{}";

/// The type of `context.on_behalf_of`, by its name.
pub(crate) const ON_BEHALF_OF: &str = "OnBehalfOf";
/// What it holds; all of it is always there.
pub(crate) const BEHALF: [(&str, &str); 6] = [
    ("subject", "String"),
    ("kind", "String"),
    ("actors", "Set<String>"),
    ("grants", "Set<String>"),
    ("groups", "Set<String>"),
    ("depth", "Long"),
];

/// Whether no resource may be of this type.
#[must_use]
pub fn is_reserved(resource_type: &str) -> bool {
    // Cedar takes any type whose last part is `Action` for an action.
    RESERVED.contains(&resource_type) || resource_type.ends_with("::Action")
}

/// The schema of what Legate gives, in Cedar's words. Agents have any labels; `labels` are those that are spoken of.
#[must_use]
pub fn world(labels: &BTreeSet<String>) -> String {
    let mut text = String::from(
        "// What Legate gives every question.\n\
         entity AgentClass;\n\
         entity Role;\n\
         entity Group;\n\
         entity Agent in [AgentClass, Role, Group] = {\n",
    );
    for (name, kind, is_always) in ATTRIBUTES {
        let mark = if is_always { "" } else { "?" };
        match kind {
            LABELS if labels.is_empty() => text += &format!("  {name}: {LABELS},\n"),
            LABELS => {
                _ = writeln!(text, "  {name}: {{");
                for label in labels {
                    _ = writeln!(text, "    {}?: String,", quoted(label));
                }
                text += "  },\n";
            }
            kind => _ = writeln!(text, "  {name}{mark}: {kind},"),
        }
    }
    text += "};\n// For whom the agent acts: context.on_behalf_of, absent where it acts for itself.\n";
    _ = writeln!(text, "type {ON_BEHALF_OF} = {{");
    for (name, kind) in BEHALF {
        _ = writeln!(text, "  {name}: {kind},");
    }
    text += "};\n";
    text
}

/// A text in Cedar's quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            c if c.is_control() => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use cedar_policy::Schema;

    #[test]
    fn the_world_is_a_schema_whatever_labels_are_spoken_of() {
        for labels in [vec![], vec!["team"], vec!["example.com/team", "a\"b\\c", "é"]] {
            let labels = labels.into_iter().map(str::to_owned).collect();
            let (schema, warnings) = Schema::from_cedarschema_str(&world(&labels)).unwrap();
            assert_eq!(warnings.count(), 0);
            assert_eq!(schema.entity_types().count(), 4);
            assert_eq!(schema.request_envs().count(), 0, "what is done to what is not ours to say");
        }
    }

    #[test]
    fn types_that_are_ours_are_no_resources() {
        for ours in ["Agent", "Role", "Action", "Acme::Action"] {
            assert!(is_reserved(ours), "{ours}");
        }
        for other in ["Invoice", "Acme::Role", "Actions"] {
            assert!(!is_reserved(other), "{other}");
        }
    }
}
