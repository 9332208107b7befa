//! `legate mcp schema`: the mapping of what a server lists, in the order in which it is read.

use std::io::Write as _;

use legate_client::tools::ToolMapping;
use legate_mcp::{Document, LONGEST_FILE, Metadata, Tool, skeleton};
use serde_json::{Value, json};

use super::{listed, read};
use crate::cli::McpSchema;
use crate::error::MAPPING_INVALID;
use crate::output::say;
use crate::yaml::Node;
use crate::{Exit, Failure};

pub(super) fn run(args: &McpSchema) -> Result<Exit, Failure> {
    let invalid = |e: &dyn std::fmt::Display| Failure::local(&MAPPING_INVALID, e.to_string());
    let before = match &args.keep {
        None => None,
        Some(path) => {
            let text = read(path, LONGEST_FILE)?;
            let told = |e: legate_mcp::BadMapping| invalid(&format!("{}: {e}", path.display()));
            let before = ToolMapping::document(&text).map_err(told)?;
            ToolMapping::of(&before).map_err(told)?;
            Some(before)
        }
    };
    let kept = |field: fn(&Document) -> &String| before.as_ref().map(field).cloned();
    let server = args.server.clone().or_else(|| kept(|b| &b.spec.server)).unwrap_or_default();
    let metadata = Metadata {
        name: args.name.clone().or_else(|| kept(|b| &b.metadata.name)).unwrap_or_else(|| server.clone()),
        namespace: args.namespace.clone().or_else(|| kept(|b| &b.metadata.namespace)).unwrap_or_default(),
    };
    let made = skeleton(metadata, &server, &listed(&args.from)?, before.as_ref()).map_err(|e| invalid(&e))?;
    for (what, names) in [
        ("new", before.as_ref().map_or(&Vec::new(), |_| &made.new)),
        ("changed, look at what it says now", &made.changed),
        ("gone", &made.gone),
        ("holds characters that a reader cannot see", &made.hidden),
    ] {
        names.iter().for_each(|name| say(&format!("{name}: {what}")));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(node(&made.document).to_yaml().as_bytes())?;
    out.flush()?;
    Ok(Exit::Done)
}

/// The document in the order in which it is read.
fn node(document: &Document) -> Node {
    let text = |text: &str| Node::Text(text.to_owned());
    let map = |all: Vec<(&str, Node)>| Node::Map(all.into_iter().map(|(name, node)| (name.to_owned(), node)).collect());
    let metadata =
        map(vec![("name", text(&document.metadata.name)), ("namespace", text(&document.metadata.namespace))]);
    let tools = document.spec.tools.iter().map(tool).collect();
    map(vec![
        ("apiVersion", text(&document.api_version)),
        ("kind", text(&document.kind)),
        ("metadata", metadata),
        ("spec", map(vec![("server", text(&document.spec.server)), ("tools", Node::List(tools))])),
    ])
}

fn tool(tool: &Tool) -> Node {
    let whole = json!(tool);
    let resource = vec![
        ("type".to_owned(), Node::Text(tool.resource.kind.clone())),
        ("id".to_owned(), Node::Text(tool.resource.id.clone())),
    ];
    let mut all = vec![
        ("name".to_owned(), Node::Text(tool.name.clone())),
        ("action".to_owned(), Node::Text(tool.action.clone())),
        ("resource".to_owned(), Node::Map(resource)),
    ];
    if let Some(Value::Object(arguments)) = whole.get("arguments") {
        let arguments = arguments.iter().map(|(name, argument)| (name.clone(), first(argument, "type"))).collect();
        all.push(("arguments".to_owned(), Node::Map(arguments)));
    }
    for name in ["attributes", "context"] {
        all.extend(whole.get(name).map(|value| (name.to_owned(), Node::of(value))));
    }
    all.push(("definition".to_owned(), Node::Text(tool.definition.clone())));
    Node::Map(all)
}

/// A map with one of its members before the others.
fn first(value: &Value, name: &str) -> Node {
    let mut node = Node::of(value);
    if let Node::Map(all) = &mut node {
        all.sort_by_key(|(own, _)| own != name);
    }
    node
}
