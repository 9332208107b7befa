//! The first mapping of a server's tools, to be looked through; or the next one, by which what was decided before is kept.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::document::{Argument, Document, Kind, Metadata, Resource, Spec, Tool, Unique};
use crate::{API_VERSION, BadMapping, Definition, KIND, Listed, Mapping};

/// The action and the type of what nobody has looked at yet.
const FIRST: &str = "mcp";
const TYPE: &str = "McpTool";

/// A mapping that was made, and what there is to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The mapping.
    pub document: Document,
    /// Tools that the mapping before did not have.
    pub new: Vec<String>,
    /// Tools whose definition is another than in the mapping before.
    pub changed: Vec<String>,
    /// Tools of the mapping before that are there no more.
    pub gone: Vec<String>,
    /// Tools whose definition holds characters that a reader cannot see.
    pub hidden: Vec<String>,
}

/// Makes a mapping of the tools that a server lists. What `before` says of a tool stands, as far as the tool still has its arguments.
///
/// # Errors
/// When a name comes twice, or what is made makes no sense.
pub fn skeleton(
    metadata: Metadata,
    server: &str,
    listed: &Listed,
    before: Option<&Document>,
) -> Result<Made, BadMapping> {
    if let Some(name) = listed.twice.first() {
        return Err(BadMapping(format!("the server lists {name} twice")));
    }
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    let mut tools: Vec<Tool> = Vec::new();
    let mut actions = BTreeSet::new();
    let mut definitions: Vec<&Definition> = listed.tools.iter().collect();
    definitions.sort_by_key(|definition| definition.name());
    for definition in &definitions {
        let known = before.and_then(|before| before.spec.tools.iter().find(|tool| tool.name == definition.name()));
        let tool = match known {
            Some(tool) if tool.definition == definition.hash() => tool.clone(),
            Some(tool) => {
                changed.push(definition.name().to_owned());
                again(tool, definition)
            }
            None => {
                new.push(definition.name().to_owned());
                first(server, definition, &actions)
            }
        };
        actions.insert(tool.action.clone());
        tools.push(tool);
    }
    let is_listed = |tool: &&Tool| !definitions.iter().any(|definition| definition.name() == tool.name);
    let gone =
        before.iter().flat_map(|before| &before.spec.tools).filter(is_listed).map(|tool| tool.name.clone()).collect();
    let hidden = definitions.iter().filter(|one| one.is_deceptive()).map(|one| one.name().to_owned()).collect();
    let document = Document {
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        metadata,
        spec: Spec { server: server.into(), tools },
    };
    Mapping::of(&document)?;
    Ok(Made { document, new, changed, gone, hidden })
}

/// What is done by a tool that nobody has looked at: an action and a resource of its own.
fn first(server: &str, definition: &Definition, taken: &BTreeSet<String>) -> Tool {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let word: String = definition.name().chars().map(plain).take(60).collect();
    let word = word.trim_start_matches(['-', '_']);
    let hash = definition.hash().trim_start_matches("sha256:");
    let mut action = format!("{FIRST}:{server}:{word}");
    if word.is_empty() || taken.contains(&action) {
        action = format!("{FIRST}:{server}:{word}x{}", hash.get(..8).unwrap_or_default());
    }
    let id: String = definition.name().split('/').collect::<Vec<_>>().join("-");
    Tool {
        name: definition.name().into(),
        definition: definition.hash().into(),
        action,
        resource: Resource { kind: TYPE.into(), id: format!("{server}/{id}") },
        arguments: arguments(definition),
        attributes: Unique::default(),
        context: Unique::default(),
    }
}

/// What was decided about a tool, with the arguments that it has now.
fn again(tool: &Tool, definition: &Definition) -> Tool {
    let mut arguments = arguments(definition);
    for (name, argument) in &mut arguments.0 {
        if let Some(before) = tool.arguments.0.get(name) {
            *argument = before.clone();
        }
    }
    // One that stands in the id, in an attribute or in the context is looked at, whether or not the tool still tells of it.
    let gone = tool.arguments.0.iter().filter(|(name, _)| {
        let word = format!("{{args.{name}}}");
        let said = |all: &Unique<Value>| all.0.values().any(|value| value.as_str() == Some(&word));
        tool.resource.id.contains(&word) || said(&tool.attributes) || said(&tool.context)
    });
    for (name, argument) in gone {
        arguments.0.entry(name.clone()).or_insert_with(|| argument.clone());
    }
    Tool { definition: definition.hash().into(), arguments, ..tool.clone() }
}

/// The arguments as far as the `inputSchema` tells of them.
fn arguments(definition: &Definition) -> Unique<Argument> {
    let all = definition.properties().map(|(name, schema)| {
        let argument = Argument { optional: !definition.requires(name), ..argument(schema) };
        (name.clone(), argument)
    });
    Unique(all.collect())
}

fn argument(schema: &Value) -> Argument {
    let whole = |name: &str| schema[name].as_i64().filter(|n| n.unsigned_abs() <= 1 << 53);
    match schema["type"].as_str() {
        Some("string") => {
            let listed = schema["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
            let values: Option<Vec<String>> = listed.iter().map(|one| one.as_str().map(str::to_owned)).collect();
            Argument { kind: Kind::String, values: values.unwrap_or_default(), ..Argument::default() }
        }
        Some("integer") => {
            let (minimum, maximum) = (whole("minimum"), whole("maximum"));
            Argument { kind: Kind::Integer, minimum, maximum, ..Argument::default() }
        }
        Some("number") => Argument { kind: Kind::Number, ..Argument::default() },
        Some("boolean") => Argument { kind: Kind::Boolean, ..Argument::default() },
        Some("array") if schema["items"]["type"] == "string" => Argument { kind: Kind::Strings, ..Argument::default() },
        _ => Argument::default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::tools_of;

    fn listed(description: &str) -> Listed {
        let tools = json!({"tools": [
            {"name": "search", "description": "Searches.", "inputSchema": {"type": "object"}},
            {"name": "read.Invoice", "description": description, "inputSchema": {"type": "object", "required": ["project", "number"],
                "properties": {
                    "project": {"type": "string"}, "number": {"type": "integer", "minimum": 1, "maximum": 1e3},
                    "region": {"type": "string", "enum": ["eu", "us"]}, "ratio": {"type": "number"}, "dry": {"type": "boolean"},
                    "tags": {"type": "array", "items": {"type": "string"}}, "more": {"type": ["string", "null"]},
                }}},
            {"name": "read/invoice", "description": "Other.", "inputSchema": {"type": "object"}},
        ]});
        tools_of(tools).unwrap()
    }

    fn make(listed: &Listed, before: Option<&Document>) -> Made {
        let metadata = Metadata { name: "ledger".into(), namespace: "payments".into() };
        skeleton(metadata, "ledger", listed, before).unwrap()
    }

    #[test]
    fn a_first_mapping_gives_each_tool_an_action_of_its_own() {
        let made = make(&listed("Reads."), None);
        assert_eq!(made, make(&listed("Reads."), None));
        assert_eq!(made.new, ["read.Invoice", "read/invoice", "search"]);
        let tool = &made.document.spec.tools[0];
        assert_eq!(
            (tool.action.as_str(), tool.resource.id.as_str()),
            ("mcp:ledger:read-invoice", "ledger/read.Invoice")
        );
        let kinds: Vec<(&str, Kind, bool)> =
            tool.arguments.0.iter().map(|(name, one)| (name.as_str(), one.kind, one.optional)).collect();
        assert_eq!(
            kinds,
            [
                ("dry", Kind::Boolean, true),
                ("more", Kind::Any, true),
                ("number", Kind::Integer, false),
                ("project", Kind::String, false),
                ("ratio", Kind::Number, true),
                ("region", Kind::String, true),
                ("tags", Kind::Strings, true),
            ]
        );
        assert_eq!(tool.arguments.0["region"].values, ["eu", "us"]);
        assert_eq!((tool.arguments.0["number"].minimum, tool.arguments.0["number"].maximum), (Some(1), None));
        // The other one's action would be the same, so it has a mark.
        assert!(made.document.spec.tools[1].action.starts_with("mcp:ledger:read-invoicex"), "{made:?}");
    }

    #[test]
    fn what_was_decided_stands_when_a_tool_has_changed() {
        let mut before = make(&listed("Reads."), None).document;
        let tool = &mut before.spec.tools[0];
        tool.action = "invoice:read".into();
        tool.resource = Resource { kind: "Invoice".into(), id: "{args.project}/{args.number}".into() };
        before.spec.tools.remove(2);
        before.spec.tools.push(Tool {
            name: "old".into(),
            action: "mcp:ledger:old".into(),
            ..before.spec.tools[1].clone()
        });
        let same = make(&listed("Reads."), Some(&before));
        assert_eq!(
            (same.changed.len(), same.new.as_slice(), same.gone.as_slice()),
            (0, &["search".to_owned()][..], &["old".to_owned()][..])
        );
        let made = make(&listed("Reads. \u{200b}"), Some(&before));
        assert_eq!(
            (made.changed.as_slice(), made.hidden.as_slice()),
            (&["read.Invoice".to_owned()][..], &["read.Invoice".to_owned()][..])
        );
        let tool = &made.document.spec.tools[0];
        assert_eq!((tool.action.as_str(), tool.resource.kind.as_str()), ("invoice:read", "Invoice"));
        assert_ne!(tool.definition, before.spec.tools[0].definition);
    }
}
